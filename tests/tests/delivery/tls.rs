//! The way to the database by TLS, with libpq's meaning of `sslmode`: what is encrypted, who is trusted, and what is said
//! about a certificate that isn't. The server is a real one with certificates made here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::certificates::{Authority, Issued};
use rotator_tests::{Cluster, Options, Role, Sidecar, TestDb, scalar, until};

use crate::seed::SOON;
use crate::startup_waits::survives_a_break_at;

struct Secured {
    db: TestDb,
    role: Role,
    authority: Authority,
}

impl Secured {
    /// A server whose certificate is good for `localhost` and not for 127.0.0.1.
    async fn new() -> Result<Self> {
        let (db, authority) = (Self::database().await?, Authority::new()?);
        let role = db.login_role("sidecar", &["rotator_sidecar"]).await?;
        let secured = Self {
            db,
            role,
            authority,
        };
        secured
            .present(&secured.authority.issue("server", "DNS:localhost")?)
            .await?;
        Ok(secured)
    }

    async fn database() -> Result<TestDb> {
        TestDb::in_cluster(Arc::new(Cluster::start(Options::default()).await?)).await
    }

    /// The server shows this certificate from now on.
    async fn present(&self, issued: &Issued) -> Result<()> {
        let data = &self.db.cluster.data;
        hand_over(&issued.certificate, &data.join("server.crt"), data)?;
        hand_over(&issued.key, &data.join("server.key"), data)?;
        hand_over(&self.authority.root(), &data.join("root.crt"), data)?;
        for setting in ["ssl_ca_file = 'root.crt'", "ssl = on"] {
            self.db
                .admin
                .batch_execute(&format!("alter system set {setting}"))
                .await?;
        }
        self.reload().await
    }

    /// The configuration is read again: by the postmaster, which says so, and so by every session begun after that.
    async fn reload(&self) -> Result<()> {
        let said =
            || -> Result<usize> { Ok(self.db.cluster.log()?.matches("received SIGHUP").count()) };
        let before = said()?;
        self.db
            .admin
            .batch_execute("select pg_reload_conf()")
            .await?;
        until(SOON, "the server to read its configuration", async || {
            Ok(said()? > before)
        })
        .await
    }

    fn url(&self, host: &str, options: &str) -> String {
        let url = self.db.url(&self.role).replace("127.0.0.1", host);
        format!("{url}?{options}")
    }

    /// Of the sidecar's connections, how many there are and how many are encrypted.
    async fn connections(&self, role: &str) -> Result<(i64, i64)> {
        let sql = "select count(*), count(*) filter (where s.ssl) from pg_stat_ssl s join pg_stat_activity a using (pid) \
            where a.usename = $1";
        let row = self.db.admin.query_one(sql, &[&role]).await?;
        Ok((row.get(0), row.get(1)))
    }
}

/// Copies it into the data folder, readable by the server's user alone.
fn hand_over(from: &Path, to: &Path, data: &Path) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let owner = std::fs::metadata(data)?;
    std::fs::copy(from, to)?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o600))?;
    chown(to, Some(owner.uid()), Some(owner.gid()))?;
    Ok(())
}

/// It ends with the code for wrong settings, and says this.
async fn refuses(url: &str, told: &str) -> Result<()> {
    let mut sidecar = Sidecar::spawn(url, &[]).await?;
    let status = sidecar.ended(Duration::from_secs(20)).await?;
    let log = sidecar.log()?;
    let error = log
        .lines()
        .find(|line| line.starts_with("error: "))
        .unwrap_or_default();
    ensure!(
        status.code() == Some(4) && error.contains(told),
        "{told}: {status}: {log}"
    );
    ensure!(
        log.contains("\nhint: ") || log.starts_with("hint: "),
        "and what to do: {log}"
    );
    Ok(())
}

#[tokio::test]
async fn each_sslmode_encrypts_and_trusts_as_libpq_would() -> Result<()> {
    let secured = Secured::new().await?;
    let root = format!("sslrootcert={}", secured.authority.root().display());
    for (host, options, encrypted) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), false),
        ("127.0.0.1", "sslmode=prefer".to_owned(), true),
        (
            "127.0.0.1",
            "sslmode=require&channel_binding=require".to_owned(),
            true,
        ),
        ("127.0.0.1", format!("sslmode=verify-ca&{root}"), true),
        ("localhost", format!("sslmode=verify-full&{root}"), true),
    ] {
        let mut sidecar = Sidecar::spawn(&secured.url(host, &options), &[]).await?;
        sidecar.ready().await.with_context(|| options.clone())?;
        let (all, by_tls) = secured.connections(&secured.role.name).await?;
        ensure!(
            all >= 2 && by_tls == if encrypted { all } else { 0 },
            "{options}: {by_tls} of {all}"
        );
        sidecar.kill().await?;
        until(SOON, "its sessions to end", async || {
            Ok(secured.connections(&secured.role.name).await?.0 == 0)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_goes_away_in_the_handshake_is_waited_for() -> Result<()> {
    let secured = Secured::new().await?;
    let port = secured.db.cluster.port;
    let server = format!("127.0.0.1:{port}");
    survives_a_break_at((1..2000).step_by(160), port, |relay| {
        secured
            .url("127.0.0.1", "sslmode=require")
            .replace(&server, relay)
    })
    .await
}

#[tokio::test]
async fn who_can_not_be_trusted_is_refused_and_named() -> Result<()> {
    let (secured, other) = (Secured::new().await?, Authority::new()?);
    let root = format!("sslrootcert={}", secured.authority.root().display());
    let wrong = format!("sslrootcert={}", other.root().display());
    let full = format!("sslmode=verify-full&{root}");

    refuses(
        &secured.url("localhost", &format!("sslmode=verify-full&{wrong}")),
        "TLS: invalid peer certificate",
    )
    .await?;
    refuses(
        &secured.url("localhost", &format!("sslmode=verify-ca&{wrong}")),
        "TLS: invalid peer certificate",
    )
    .await?;
    // As in libpq, a root makes `require` verify the chain; the system's roots know nothing of ours.
    refuses(
        &secured.url("localhost", &format!("sslmode=require&{wrong}")),
        "TLS: invalid peer certificate",
    )
    .await?;
    refuses(&secured.url("127.0.0.1", &full), "not valid for name").await?;
    refuses(
        &secured.url("127.0.0.1", "sslmode=disable&channel_binding=require"),
        "channel binding",
    )
    .await?;

    secured
        .present(
            &secured
                .authority
                .issue_expired("expired", "DNS:localhost")?,
        )
        .await?;
    for mode in ["verify-full", "verify-ca"] {
        refuses(
            &secured.url("localhost", &format!("sslmode={mode}&{root}")),
            "expired",
        )
        .await?;
    }

    secured
        .db
        .admin
        .batch_execute("alter system set ssl = off")
        .await?;
    secured.reload().await?;
    refuses(
        &secured.url("localhost", "sslmode=require"),
        "does not support TLS",
    )
    .await?;
    refuses(&secured.url("localhost", &full), "does not support TLS").await?;
    Sidecar::spawn(&secured.url("localhost", "sslmode=prefer"), &[])
        .await?
        .ready()
        .await
}

#[tokio::test]
async fn a_client_certificate_stands_for_the_password() -> Result<()> {
    let secured = Secured::new().await?;
    let hba = secured.db.cluster.data.join("pg_hba.conf");
    let lines = std::fs::read_to_string(&hba)?;
    std::fs::write(
        &hba,
        format!(
            "hostssl all {} 127.0.0.1/32 cert\n{lines}",
            secured.role.name
        ),
    )?;
    secured.reload().await?;
    let ours = secured.authority.issue(&secured.role.name, "DNS:sidecar")?;
    let forged = Authority::new()?.issue(&secured.role.name, "DNS:sidecar")?;
    let url = |issued: &Issued| {
        let options = format!(
            "sslmode=require&sslcert={}&sslkey={}",
            issued.certificate.display(),
            issued.key.display()
        );
        secured
            .url("127.0.0.1", &options)
            .replace(&format!(":{}@", secured.role.password), "@")
    };

    refuses(&secured.url("127.0.0.1", "sslmode=require"), "certificate").await?;
    refuses(&url(&forged), "").await?;
    let mut sidecar = Sidecar::spawn(&url(&ours), &[]).await?;
    sidecar.ready().await?;
    let known: i64 = scalar(
        &secured.db.admin,
        "select count(*) from pg_stat_ssl where client_dn like '%' || $1",
        &[&secured.role.name],
    )
    .await?;
    ensure!(known >= 2, "the server knows it by its certificate");
    Ok(())
}

#[tokio::test]
async fn files_that_can_not_be_used_are_named() -> Result<()> {
    let authority = Authority::new()?;
    let issued = authority.issue("sidecar", "DNS:sidecar")?;
    let (certificate, key) = (issued.certificate.display(), issued.key.display());
    for (options, told) in [
        (
            "sslmode=verify-full&sslrootcert=/nowhere/ca.pem".to_owned(),
            "sslrootcert /nowhere/ca.pem",
        ),
        (
            format!("sslmode=verify-full&sslrootcert={key}"),
            "no root certificate",
        ),
        (
            format!("sslmode=require&sslcert={certificate}"),
            "sslcert needs sslkey",
        ),
        (
            format!("sslmode=require&sslkey={key}"),
            "sslkey needs sslcert",
        ),
        (
            format!("sslmode=require&sslcert=/nowhere/x&sslkey={key}"),
            "sslcert /nowhere/x",
        ),
        (
            format!("sslmode=require&sslcert={certificate}&sslkey={certificate}"),
            "sslkey ",
        ),
        (
            format!(
                "sslmode=require&sslcert={}&sslkey={key}",
                authority.root().display()
            ),
            "sslcert and sslkey",
        ),
        ("sslmode=verify-nothing".to_owned(), "sslmode is not one of"),
        (
            "sslmode=require&sslcrl=/etc/crl.pem".to_owned(),
            "sslcrl is not supported",
        ),
    ] {
        refuses(&format!("postgres://u:pw@localhost:1/x?{options}"), told).await?;
    }
    Ok(())
}
