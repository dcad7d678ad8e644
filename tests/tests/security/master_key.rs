//! Without its master key the server runs and rotator writes nothing: RT010 with a hint, and all is well again once the
//! file is mended, without a restart.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{Cluster, Options, Role, TestDb, until};
use tokio_postgres::Client;

use crate::fixture::{refusal, text, verdict};

/// What needs a key, as a tenant's admin or, with `!`, as an operator.
const NEEDING: &[&str] = &[
    "select rotator.register_secret('new', rotation_interval => '1 day')",
    "insert into rotator.secrets (name, interval_days) values ('new', 1)",
    "update rotator.secrets set name = 'renamed'",
    "select name from rotator.secrets",
    "select * from rotator.import_secrets('[{\"name\": \"x\", \"rotation_interval\": \"1 day\"}]')",
    "select rotator.set_contact('x', 'email', 'x@example.com')",
    "select rotator.add_notification_policy(2, 'email', 'x@example.com')",
    "select rotator.rotate_key()",
    "!select rotator.create_tenant('beta', 'Beta')",
];

/// Everything that is stored, as one number.
async fn stored(admin: &Client) -> Result<String> {
    text(admin, "select md5(string_agg(t.x, '')) from (select query_to_xml(format('select * from rotator_internal.%I order by 1, 2', relname), true, false, '')::text as x
        from pg_class where relnamespace = 'rotator_internal'::regnamespace and relkind = 'r' and relname <> 'heartbeat' order by relname) as t").await
}

/// Needing the key is refused with this problem, and nothing is written; the rest goes on.
pub async fn expect_unavailable(kept: &Kept, why: &str, problem: &str) -> Result<()> {
    let (db, role) = (&kept.db, &kept.member_of_acme);
    let before = stored(&db.admin).await?;
    let member = db.connect_as(role).await?;
    let operator = db.superuser().await?;
    for statement in NEEDING {
        let answer = match statement.strip_prefix('!') {
            Some(statement) => refusal(&operator, statement).await?,
            None => refusal(&member, statement).await?,
        };
        ensure!(
            answer.starts_with("RT010") && answer.contains("Some(") && answer.contains(problem),
            "{why}: {statement}: {answer}"
        );
    }
    // What needs no key goes on.
    let counted = text(&member, "select total::text from rotator.overview").await?;
    ensure!(counted == "1", "{why}: {counted}");
    ensure!(
        stored(&db.admin).await? == before,
        "{why}: something was written"
    );
    let doctor = text(
        &operator,
        "select ok::text || ' ' || detail from rotator.doctor() where check_name = 'master key'",
    )
    .await?;
    ensure!(
        doctor.starts_with("false ") && doctor.contains(problem),
        "{why}: {doctor}"
    );
    Ok(())
}

/// What was written can be read, and more can be written.
pub async fn expect_well(kept: &Kept, after: &str) -> Result<()> {
    let db = &kept.db;
    let member = db.connect_as(&kept.member_of_acme).await?;
    ensure!(
        text(&member, "select name from rotator.secrets").await? == "kept",
        "after {after}"
    );
    ensure!(
        text(
            &member,
            "begin; select rotator.register_secret('x', rotation_interval => '1 day'); rollback"
        )
        .await?
        .len()
            == 36,
        "after {after}"
    );
    ensure!(
        text(
            &db.admin,
            "select ok::text from rotator.doctor() where check_name = 'master key'"
        )
        .await?
            == "true"
    );
    Ok(())
}

/// The database, and the one member that asks.
pub struct Kept {
    pub db: TestDb,
    pub member_of_acme: Role,
}

impl Kept {
    /// Restarts the server, which must come up whatever is wrong with the file.
    pub async fn restart(&mut self) -> Result<()> {
        self.db.cluster.restart().await?;
        self.db.admin = self.db.superuser().await?;
        Ok(())
    }
}

/// A cluster of the test's own, with a tenant that has a secret.
pub async fn kept() -> Result<Kept> {
    let db = TestDb::in_cluster(Arc::new(Cluster::start(Options::default()).await?)).await?;
    db.tenant("acme").await?;
    let member_of_acme = db.member("acme", "admin").await?;
    let member = db.connect_as(&member_of_acme).await?;
    member.batch_execute("select rotator.register_secret('kept', rotation_interval => '90 days', purpose => 'why')").await?;
    Ok(Kept { db, member_of_acme })
}

#[tokio::test]
async fn nothing_is_written_without_the_master_key_and_all_works_once_it_is_mended() -> Result<()> {
    let mut kept = kept().await?;
    let file = kept.db.cluster.master_key.clone();
    let good = std::fs::read_to_string(&file)?;
    let id = good.split(':').next().unwrap_or_default().to_owned();
    expect_well(&kept, "the start").await?;
    for (why, problem) in [
        ("missing", "cannot be opened"),
        ("readable by others", "mode 0644"),
        ("somebody else's", "belongs to user 1"),
        ("no key", "line 1"),
        ("of another name", "holds no key called"),
        ("of other bytes", "does not open data key"),
    ] {
        match why {
            "missing" => std::fs::remove_file(&file)?,
            "readable by others" => std::fs::set_permissions(&file, Permissions::from_mode(0o644))?,
            "somebody else's" => {
                std::fs::set_permissions(&file, Permissions::from_mode(0o644))?;
                chown(&file, Some(1), Some(1))?;
            }
            "no key" => kept.db.cluster.write_master_key("no key at all\n")?,
            "of another name" => kept
                .db
                .cluster
                .write_master_key(&good.replace(&id, "another"))?,
            _ => kept
                .db
                .cluster
                .write_master_key(&format!("{id}:{}\n", "QUJD".repeat(10) + "QUI="))?,
        }
        kept.restart().await?;
        expect_unavailable(&kept, why, problem).await?;
        let open = kept.db.connect_as(&kept.member_of_acme).await?;
        ensure!(
            refusal(&open, "select name from rotator.secrets")
                .await?
                .starts_with("RT010")
        );
        kept.db.cluster.write_master_key(&good)?;
        // A key that isn't there or doesn't open makes a session look again, at most every ten seconds.
        until(
            Duration::from_secs(15),
            &format!("{why}: an open session to find the mended file"),
            async || Ok(verdict(&open, "select name from rotator.secrets").await? == "ok"),
        )
        .await?;
        expect_well(&kept, why).await?;
    }
    let log = kept.db.cluster.log()?;
    for line in good.lines() {
        let bytes = line.split_once(':').map_or(line, |(_, bytes)| bytes);
        ensure!(
            !log.contains(bytes) && !log.contains("QUJDQUJD"),
            "the log has bytes of a key file"
        );
    }
    Ok(())
}

#[tokio::test]
async fn only_a_file_outside_the_data_directory_will_do_whatever_links_lead_to_it() -> Result<()> {
    let mut kept = kept().await?;
    let (data, good) = (
        kept.db.cluster.data.clone(),
        kept.db.cluster.master_key.clone(),
    );
    let folder = good.with_file_name("mounted");
    std::fs::create_dir_all(folder.join("..2026_11_22"))?;
    let server = std::fs::metadata(&data)?.uid();
    let copy = |to: &Path, contents: &[u8]| -> Result<PathBuf> {
        std::fs::write(to, contents)?;
        std::fs::set_permissions(to, Permissions::from_mode(0o400))?;
        chown(to, Some(server), None)?;
        Ok(to.to_owned())
    };
    let link = |to: &Path, at: PathBuf| -> Result<PathBuf> {
        symlink(to, &at)?;
        Ok(at)
    };
    let key = std::fs::read(&good)?;
    let inside = copy(&data.join("master.key"), &key)?;
    let fifo = folder.join("fifo");
    ensure!(Command::new("mkfifo").arg(&fifo).status()?.success());
    copy(&folder.join("..2026_11_22/master.key"), &key)?;
    link(Path::new("..2026_11_22"), folder.join("..data"))?;
    let mounted = link(Path::new("..data/master.key"), folder.join("master.key"))?;

    for (file, problem) in [
        (
            link(&inside, folder.join("to-inside"))?,
            "inside the data directory",
        ),
        (
            link(&good, data.join("to-outside"))?,
            "inside the data directory",
        ),
        (
            link(&data, folder.join("folder"))?.join("master.key"),
            "inside the data directory",
        ),
        (folder.clone(), "no regular file"),
        (fifo, "no regular file"),
        (copy(&folder.join("empty"), b"")?, "holds no key"),
        (
            copy(&folder.join("long"), &b"# long\n".repeat(10_000))?,
            "larger than 64 KiB",
        ),
        ("master.key".into(), "must be an absolute path"),
        (inside, "inside the data directory"),
    ] {
        take(&kept, &file, &format!("false {problem}")).await?;
        let said = refusal(
            &kept.db.admin,
            "select rotator.create_tenant('beta', 'Beta')",
        )
        .await?;
        ensure!(
            said.starts_with("RT010") && said.contains(problem),
            "{file:?}: {said}"
        );
    }
    kept.restart().await?;
    expect_unavailable(&kept, "inside", "inside the data directory").await?;
    // As Kubernetes mounts secrets, and changes them.
    take(&kept, &mounted, "true from the file").await?;
    kept.restart().await?;
    expect_well(&kept, "a mounted secret").await
}

/// Points the setting at this file and waits until doctor() says so: the words of `verdict`, in their order.
async fn take(kept: &Kept, file: &Path, verdict: &str) -> Result<()> {
    let admin = &kept.db.admin;
    let file = file.display();
    admin
        .batch_execute(&format!(
            "alter system set rotator.master_key_file = '{file}'"
        ))
        .await?;
    admin.batch_execute("select pg_reload_conf()").await?;
    let (ok, words) = verdict.split_once(' ').unwrap_or((verdict, ""));
    until(Duration::from_secs(10), &format!("{file}: {verdict}"), async || {
        let said = text(admin, "select ok::text || ' ' || detail from rotator.doctor() where check_name = 'master key'").await?;
        Ok(said.starts_with(ok) && said.contains(words))
    })
    .await
}
