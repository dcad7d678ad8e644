//! A certificate for loopback that nobody trusts by default, made by openssl.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::scratch::Scratch;

pub(super) struct Certificate {
    path: String,
    folder: Scratch,
}

impl Certificate {
    pub(super) fn new() -> Result<Self> {
        let folder = Scratch::new("certificate")?;
        let path = folder.join("certificate.pem");
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
            ])
            .args([
                "-days",
                "2",
                "-subj",
                "/CN=stand-in",
                "-addext",
                "basicConstraints=critical,CA:FALSE",
            ])
            .args([
                "-addext",
                "subjectAltName=IP:127.0.0.1,DNS:localhost",
                "-keyout",
            ])
            .arg(folder.join("key.pem"))
            .arg("-out")
            .arg(&path)
            .output()
            .context("running openssl")?;
        ensure!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let path = path.to_str().context("a path in UTF-8")?.to_owned();
        Ok(Self { path, folder })
    }

    /// Where it is, as PEM.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn acceptor(&self) -> Result<TlsAcceptor> {
        let chain = vec![CertificateDer::from_pem_file(&self.path)?];
        let key = PrivateKeyDer::from_pem_file(self.folder.join("key.pem"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
