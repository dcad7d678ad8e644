//! Master keys from AWS KMS: `rotator kms unwrap` as the master key command of a real server, against a KMS server that
//! goes away and comes back. What it does by itself: `tests/tests/delivery/kms*.rs`.

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::kms::Kms;
use rotator_tests::scratch::release_folder;
use rotator_tests::{Cli, until};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::fixture::{refusal, text, verdict};
use crate::master_key::{Kept, expect_unavailable, expect_well, kept};

/// The way to KMS, which can be cut and mended.
struct Way {
    address: String,
    to: String,
    open: Option<JoinHandle<()>>,
}

impl Way {
    async fn new(to: &str) -> Result<Self> {
        let mut way = Self {
            address: "127.0.0.1:0".to_owned(),
            to: to.to_owned(),
            open: None,
        };
        way.mend().await?;
        Ok(way)
    }

    async fn cut(&mut self) {
        if let Some(open) = self.open.take() {
            open.abort();
            let _ = open.await; // now its port is free
        }
    }

    async fn mend(&mut self) -> Result<()> {
        let listener = TcpListener::bind(&self.address).await?;
        self.address = listener.local_addr()?.to_string();
        let to = self.to.clone();
        self.open = Some(tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let to = to.clone();
                connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(to).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        }));
        Ok(())
    }
}

struct WithKms {
    kept: Kept,
    way: Way,
    wrapped: PathBuf,
    /// What the master key file held.
    line: String,
    _kms: Kms,
}

impl WithKms {
    /// Begins with a master key file, wraps what is in it, and takes the file away.
    async fn new() -> Result<Self> {
        let kms = Kms::start().await?;
        let way = Way::new(kms.address()).await?;
        let kept = kept().await?;
        let file = kept.db.cluster.master_key.clone();
        let line = std::fs::read_to_string(&file)?;
        let key = kms.key().await?;
        let wrap = ["kms", "wrap", "--key-id", &key];
        let text = Cli::offline(&wrap)?
            .env("ROTATOR_AWS_ENDPOINT_URL", kms.url())
            .env("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "x")
            .input(&line)
            .ok()
            .await?;
        let wrapped = file.with_file_name("master.wrapped");
        std::fs::write(&wrapped, text)?;
        // Where the server's user can run it, wherever the checkout is.
        let program = file.with_file_name("rotator");
        std::fs::copy(release_folder()?.join("rotator"), &program)?;
        std::fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        for owned in [&program, &wrapped] {
            chown(owned, Some(0), Some(0)).or_else(|error| match error.kind() {
                std::io::ErrorKind::PermissionDenied => Ok(()), // the tests and the server run as one user
                _ => Err(error),
            })?;
        }
        let command = format!(
            "/usr/bin/env AWS_EC2_METADATA_DISABLED=true AWS_ACCESS_KEY_ID=AKIAEXAMPLE AWS_SECRET_ACCESS_KEY=x \
             ROTATOR_AWS_ENDPOINT_URL=http://{} \"{}\" kms unwrap --timeout 1 --in \"{}\"",
            way.address,
            program.display(),
            wrapped.display()
        );
        for (name, value) in [("file", ""), ("command", command.as_str())] {
            let set = format!("alter system set rotator.master_key_{name} = '{value}'");
            kept.db.admin.batch_execute(&set).await?;
        }
        std::fs::remove_file(&file)?;
        Ok(Self {
            kept,
            way,
            wrapped,
            line,
            _kms: kms,
        })
    }

    async fn expect_recovery(&self, why: &str) -> Result<()> {
        let open = self.kept.db.connect_as(&self.kept.member_of_acme).await?;
        until(
            Duration::from_secs(20),
            &format!("{why}: an open session to get its key"),
            async || Ok(verdict(&open, "select name from rotator.secrets").await? == "ok"),
        )
        .await?;
        expect_well(&self.kept, why).await
    }
}

#[tokio::test]
async fn a_server_gets_its_master_key_from_kms_and_outlives_an_outage() -> Result<()> {
    let mut with = WithKms::new().await?;
    with.kept.restart().await?;
    expect_well(&with.kept, "a start with KMS").await?;

    // Whoever holds the keys goes on without KMS; so does a new session, which inherits them.
    let held = with.kept.db.connect_as(&with.kept.member_of_acme).await?;
    ensure!(text(&held, "select name from rotator.secrets").await? == "kept");
    with.way.cut().await;
    ensure!(text(&held, "select name from rotator.secrets").await? == "kept");
    let new = with.kept.db.connect_as(&with.kept.member_of_acme).await?;
    let write =
        "begin; select rotator.register_secret('x', rotation_interval => '1 day'); rollback";
    ensure!(text(&new, write).await?.len() == 36);
    ensure!(text(&new, "select name from rotator.secrets").await? == "kept");
    let doctor = text(
        &with.kept.db.admin,
        "select ok::text || ' ' || detail from rotator.doctor() where check_name = 'master key'",
    )
    .await?;
    ensure!(
        doctor.starts_with("false ") && doctor.contains("can't be reached"),
        "{doctor}"
    );

    // A restart within the outage: the server is there, and says what is wrong.
    with.kept.restart().await?;
    expect_unavailable(&with.kept, "outage", "can't be reached: connection refused").await?;
    let open = with.kept.db.connect_as(&with.kept.member_of_acme).await?;
    let said = refusal(&open, "select name from rotator.secrets").await?;
    ensure!(
        said.starts_with("RT010") && said.contains("AWS KMS in eu-central-1"),
        "{said}"
    );
    with.way.mend().await?;
    with.expect_recovery("the outage").await?;

    let log = with.kept.db.cluster.log()?;
    let (_, bytes) = with.line.trim().split_once(':').context("id:base64")?;
    ensure!(!log.contains(bytes) && !log.contains(&bytes[..20]));
    Ok(())
}

#[tokio::test]
async fn a_line_under_another_id_gives_no_key_until_it_is_put_back() -> Result<()> {
    let mut with = WithKms::new().await?;
    let good = std::fs::read_to_string(&with.wrapped)?;
    let (id, _) = with.line.split_once(':').context("id:base64")?;
    let renamed = good.replace(&format!("\n{id}:"), "\nanother:");
    ensure!(renamed != good);
    std::fs::write(&with.wrapped, renamed)?;
    with.kept.restart().await?;
    expect_unavailable(&with.kept, "renamed", "it was wrapped for another id").await?;
    std::fs::write(&with.wrapped, good)?;
    with.expect_recovery("the file was put back").await
}
