//! Certificates for a server of a test, made by openssl: an authority of its own, and what it signs. For a server to be
//! trusted by nobody see `vendor.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::scratch::Scratch;

/// Whom a client may trust: an authority and the certificates it signed.
pub struct Authority {
    folder: Scratch,
}

/// A certificate and its key, both PEM.
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Result<Self> {
        let folder = Scratch::new("authority")?;
        let subject = "/CN=an authority of the tests";
        openssl(
            &[],
            &[
                "req", "-x509", "-new", "-newkey", "ec", "-nodes", "-days", "2", "-subj", subject,
            ]
            .map(PathBuf::from)
            .into_iter()
            .chain(CURVE.map(PathBuf::from))
            .chain([
                PathBuf::from("-keyout"),
                folder.join("ca.key"),
                PathBuf::from("-out"),
                folder.join("ca.crt"),
            ])
            .collect::<Vec<_>>(),
        )?;
        Ok(Self { folder })
    }

    /// For `sslrootcert`.
    pub fn root(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Signs one: `name` is its common name, `alternative` like `DNS:localhost`.
    pub fn issue(&self, name: &str, alternative: &str) -> Result<Issued> {
        self.sign(name, alternative, &[])
    }

    /// Signs one that was good for a day, ten days ago.
    pub fn issue_expired(&self, name: &str, alternative: &str) -> Result<Issued> {
        self.sign(name, alternative, &["faketime", "-f", "-10d"])
    }

    fn sign(&self, name: &str, alternative: &str, before: &[&str]) -> Result<Issued> {
        let file = |end: &str| self.folder.join(&format!("{name}.{end}"));
        let issued = Issued {
            certificate: file("crt"),
            key: file("key"),
        };
        let (request, extensions) = (file("csr"), file("ext"));
        std::fs::write(
            &extensions,
            format!("subjectAltName={alternative}\nbasicConstraints=critical,CA:FALSE\n"),
        )?;
        let mut asked: Vec<PathBuf> = ["req", "-new", "-newkey", "ec", "-nodes", "-subj"]
            .map(PathBuf::from)
            .into();
        asked.push(format!("/CN={name}").into());
        asked.extend(CURVE.map(PathBuf::from));
        asked.extend([
            "-keyout".into(),
            issued.key.clone(),
            "-out".into(),
            request.clone(),
        ]);
        openssl(&[], &asked)?;
        openssl(
            before,
            &[
                "x509".into(),
                "-req".into(),
                "-days".into(),
                "1".into(),
                "-CAcreateserial".into(),
                "-in".into(),
                request,
                "-CA".into(),
                self.root(),
                "-CAkey".into(),
                self.folder.join("ca.key"),
                "-extfile".into(),
                extensions,
                "-out".into(),
                issued.certificate.clone(),
            ],
        )?;
        Ok(issued)
    }
}

const CURVE: [&str; 2] = ["-pkeyopt", "ec_paramgen_curve:P-256"];

fn openssl(before: &[&str], arguments: &[impl AsRef<Path>]) -> Result<()> {
    let mut words = before.iter().copied().chain(["openssl"]);
    let program = words.next().context("a program")?;
    let output = Command::new(program)
        .args(words)
        .args(
            arguments
                .iter()
                .map(|argument| argument.as_ref().as_os_str()),
        )
        .output()
        .with_context(|| format!("running {program}"))?;
    ensure!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
