//! What the tests of the audit log's outside start from: a sealed log, a signing key, a sidecar that signs, an export, and
//! its verification. Not a test itself.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rotator_tests::scratch::Scratch;
use rotator_tests::sidecar::Printed;
use rotator_tests::{Cli, Role, Sidecar, TestDb, scalar, until};
use serde_json::Value;

use crate::seed::Acme;

/// Others in this cluster hold transactions open, and sealing waits for those.
pub const SEALED: Duration = Duration::from_secs(60);

pub struct Log {
    pub acme: Acme,
    /// For ROTATOR_AUDIT_KEY.
    pub private: String,
    pub public: String,
    pub folder: Scratch,
    /// May read the log of all tenants.
    pub auditor: Role,
}

/// A fresh key: the private line and the public one.
pub async fn new_key() -> Result<(String, String)> {
    let printed = Cli::offline(&["audit", "new-key"])?.ok().await?;
    let (private, public) = printed.trim_end().split_once('\n').context("two lines")?;
    Ok((private.to_owned(), public.to_owned()))
}

impl Log {
    pub async fn new() -> Result<Self> {
        Self::of(Acme::new().await?).await
    }

    pub async fn of(acme: Acme) -> Result<Self> {
        let (private, public) = new_key().await?;
        let auditor = acme.db.login_role("auditor", &["rotator_auditor"]).await?;
        Ok(Self {
            acme,
            private,
            public,
            folder: Scratch::new("audit")?,
            auditor,
        })
    }

    pub fn db(&self) -> &TestDb {
        &self.acme.db
    }

    pub fn file(&self) -> PathBuf {
        self.folder.join("blocks.jsonl")
    }

    pub fn file_name(&self) -> String {
        self.file().display().to_string()
    }

    /// The lines of the copy that are whole.
    pub fn copied(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// So many events, each in its own transaction.
    pub async fn events(&self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.acme
                .operator
                .execute(
                    "select rotator.set_contact('dana', 'console', 'x' || clock_timestamp())",
                    &[],
                )
                .await?;
        }
        Ok(())
    }

    /// Ticks until every event is sealed; gives how many blocks there are.
    pub async fn seal(&self) -> Result<i64> {
        until(SEALED, "all events to be sealed", async || {
            self.acme.tick().await?;
            let sql = "select not exists (select from rotator.audit_log where block_id is null)";
            scalar(&self.db().admin, sql, &[]).await
        })
        .await?;
        self.blocks().await
    }

    pub async fn blocks(&self) -> Result<i64> {
        scalar(
            &self.db().admin,
            "select count(*) from rotator.audit_blocks",
            &[],
        )
        .await
    }

    pub async fn signed(&self) -> Result<i64> {
        let sql = "select count(note) from rotator.audit_blocks";
        scalar(&self.db().admin, sql, &[]).await
    }

    /// Several blocks of some events each.
    pub async fn sealed(&self, blocks: usize, events: usize) -> Result<i64> {
        for _ in 0..blocks {
            self.events(events).await?;
            self.seal().await?;
        }
        self.blocks().await
    }

    /// A sidecar that signs and copies to the file.
    pub async fn sidecar(&self) -> Result<Sidecar> {
        self.sidecar_with(&[("ROTATOR_AUDIT_FILE", &self.file_name())])
            .await
    }

    /// A sidecar that signs and copies to wherever the settings say.
    pub async fn sidecar_with(&self, settings: &[(&str, &str)]) -> Result<Sidecar> {
        let mut all = vec![("ROTATOR_AUDIT_KEY", self.private.as_str())];
        all.extend(settings);
        Sidecar::start(self.db(), &all).await
    }

    /// Waits until every block has a signature.
    pub async fn all_signed(&self) -> Result<()> {
        until(SEALED, "all blocks to be signed", async || {
            Ok(self.signed().await? == self.blocks().await?)
        })
        .await
    }

    /// Sealed, signed and copied: a sidecar did it, and is gone.
    pub async fn finished(&self, blocks: usize, events: usize) -> Result<i64> {
        let sealed = self.sealed(blocks, events).await?;
        let mut sidecar = self.sidecar().await?;
        self.all_signed().await?;
        sidecar.terminate().await?;
        Ok(sealed)
    }

    /// What a rotator_auditor exports.
    pub async fn export(&self) -> Result<String> {
        Cli::new(self.db(), &self.auditor, &["audit", "export"])?
            .ok()
            .await
    }

    /// Verifies an export offline; with the copy of the file, if asked for.
    pub async fn verify(&self, export: &str, with_copy: bool) -> Result<Verdict> {
        let mut arguments = vec![
            "audit",
            "verify",
            "export.jsonl",
            "--key",
            &self.public,
            "--format",
            "json",
        ];
        let file = self.file_name();
        if with_copy {
            arguments.extend(["--copy", &file]);
        }
        let cli = Cli::offline(&arguments)?.file("export.jsonl", export.as_bytes())?;
        Verdict::read(&cli.run().await?)
    }

    /// Verifies what is in the database.
    pub async fn verify_database(&self, with_copy: bool) -> Result<Verdict> {
        let mut arguments = vec!["audit", "verify", "--key", &self.public, "--format", "json"];
        let file = self.file_name();
        if with_copy {
            arguments.extend(["--copy", &file]);
        }
        Verdict::read(
            &Cli::new(self.db(), &self.auditor, &arguments)?
                .run()
                .await?,
        )
    }

    /// As a superuser who takes the triggers off.
    pub async fn tamper(&self, sql: &str) -> Result<()> {
        let tables = [
            "audit_event",
            "audit_block",
            "audit_leaf",
            "audit_signature",
        ];
        let switch = |how: &str| -> String {
            let all = tables
                .map(|table| format!("alter table rotator_internal.{table} {how} trigger all;"));
            all.concat()
        };
        let (off, on) = (switch("disable"), switch("enable"));
        let sql = format!("begin; {off} {sql}; {on} commit");
        self.db()
            .admin
            .batch_execute(&sql)
            .await
            .with_context(|| sql)
    }
}

/// What a verification found.
#[derive(Debug)]
pub struct Verdict {
    pub ok: bool,
    pub found: Value,
}

impl Verdict {
    fn read(printed: &Printed) -> Result<Self> {
        let found: Value =
            serde_json::from_str(&printed.stdout).with_context(|| format!("{printed:?}"))?;
        let ok = found["ok"] == true;
        ensure!(printed.code == i32::from(!ok), "{printed:?}");
        Ok(Self { ok, found })
    }

    pub fn count(&self, what: &str) -> i64 {
        self.found[what].as_i64().unwrap_or(-1)
    }

    /// The first bad row and what is said about it.
    pub fn first(&self) -> (Option<i64>, String) {
        let bad = &self.found["bad"][0];
        (
            bad["event"].as_i64(),
            bad["what"].as_str().unwrap_or_default().to_owned(),
        )
    }

    pub fn is_clean(&self) -> Result<&Self> {
        ensure!(self.ok, "{:#}", self.found);
        Ok(self)
    }

    /// Expects this row, if any, to be the first bad one, and a sentence with this in it.
    pub fn names(&self, row: Option<i64>, text: &str) -> Result<()> {
        let (found, what) = self.first();
        ensure!(
            !self.ok && (row.is_none() || found == row) && what.contains(text),
            "{row:?} {text:?}: {:#}",
            self.found
        );
        Ok(())
    }
}
