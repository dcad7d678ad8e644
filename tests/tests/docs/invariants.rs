//! The invariants of ARCHITECTURE that belong to no single behaviour: what each layer must not know, that NOTIFY is a
//! hint, that no transaction is open while a vendor is talked to, and whose clock counts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::scratch::root;
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{Cluster, Options, Sidecar, TestDb, scalar, until};

const SOON: Duration = Duration::from_secs(60);

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            rust_files(&path, found)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn the_sidecar_names_no_table_and_the_library_reads_keys_alone() -> Result<()> {
    let mut files = Vec::new();
    rust_files(&root().join("sidecar/src"), &mut files)?;
    for file in &files {
        let text = std::fs::read_to_string(file)?;
        ensure!(
            !text.contains("rotator_internal"),
            "{} names what is internal",
            file.display()
        );
    }

    files.clear();
    rust_files(&root().join("extension/src"), &mut files)?;
    let (mut queries, mut calls) = (0, 0);
    for file in &files {
        let text = std::fs::read_to_string(file)?;
        // The second runs one function of ours as a security-restricted operation.
        let at_home = file.ends_with("keyring/load.rs") || file.ends_with("src/restricted.rs");
        ensure!(
            at_home || !text.contains("SPI_"),
            "{} runs SQL",
            file.display()
        );
        for verb in ["c\"insert ", "c\"update ", "c\"delete ", "c\"with "] {
            ensure!(!text.contains(verb), "{} changes data", file.display());
        }
        for query in text.split("c\"").skip(1) {
            let query = query.split('"').next().unwrap_or(query);
            if let Some(asked) = query.strip_prefix("select rotator") {
                calls += 1;
                ensure!(
                    asked.ends_with(')') && !asked.contains(" from "),
                    "more than a function of ours: {query}"
                );
            } else if query.starts_with("select ") {
                queries += 1;
                let tables: Vec<&str> = query
                    .split(" from ")
                    .skip(1)
                    .filter_map(|rest| rest.split_whitespace().next())
                    .collect();
                ensure!(tables == ["rotator_internal.encryption_key"], "{query}");
            }
        }
    }
    ensure!(
        queries > 0 && calls > 0,
        "the search finds the library's queries"
    );
    Ok(())
}

/// One secret that is due, its owner reached over this channel, and nothing queued yet.
async fn one_due(db: &TestDb, channel: &str, recipient: &str) -> Result<()> {
    db.tenant("acme").await?;
    db.admin
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    db.admin
        .execute(
            "select rotator.set_contact('dana', $1, $2)",
            &[&channel, &recipient],
        )
        .await?;
    db.admin
        .batch_execute("select rotator.register_secret('one', owner_id => 'dana', expiry_date => now() + interval '40 days')")
        .await?;
    Ok(())
}

async fn sent(db: &TestDb) -> Result<i64> {
    scalar(
        &db.admin,
        "select count(*) from rotator.notifications where state = 'sent'",
        &[],
    )
    .await
}

#[tokio::test]
async fn a_lost_notify_is_made_up_for_and_a_forged_one_does_nothing() -> Result<()> {
    let db = TestDb::new().await?;
    one_due(&db, "console", "desk").await?;
    let sidecar = Sidecar::start(&db, &[]).await?;
    // Anyone may send one, with anything in it.
    db.admin
        .batch_execute(
            "select pg_notify('rotator_outbox', 'drop everything'); notify rotator_outbox",
        )
        .await?;

    let heard = db.cluster.psql(
        &db.name,
        "listen rotator_outbox; select rotator.tick(now() + interval '39 days'); select 1",
    )?;
    ensure!(
        heard.contains("\"rotator_outbox\" received"),
        "psql would show a payload, and there is none: {heard}"
    );
    until(SOON, "what was announced to be sent", async || {
        Ok(sent(&db).await? == 1)
    })
    .await?;
    // Queued again behind the engine's back, so nobody says so.
    db.admin
        .batch_execute("update rotator_internal.notification set state = 'queued', sent_at = null, available_at = clock_timestamp()")
        .await?;
    until(SOON, "what was not announced to be sent", async || {
        Ok(sent(&db).await? == 1)
    })
    .await?;
    ensure!(
        sidecar.log()?.matches("one expires in").count() == 2,
        "{}",
        sidecar.log()?
    );
    Ok(())
}

#[tokio::test]
async fn no_transaction_is_open_while_a_delivery_is_under_way() -> Result<()> {
    let slack = StandIn::start().await?;
    slack.answer_always(Answer::Never);
    let db = TestDb::new().await?;
    one_due(&db, "slack", "C0123456789").await?;
    db.admin
        .batch_execute("select rotator.tick(now() + interval '39 days')")
        .await?;
    let settings = [
        ("ROTATOR_SLACK_URL", slack.url()),
        ("ROTATOR_SLACK_BOT_TOKEN", "xoxb-test".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let sidecar = Sidecar::start(&db, &settings).await?;
    slack.received(1, SOON).await?;

    // It hangs in Slack, for seconds yet. Status calls come and go; nothing may stay.
    let role = sidecar.role.as_ref().map_or("", |role| &role.name);
    let held = "select count(*) from pg_stat_activity
                where usename = $1 and xact_start < clock_timestamp() - interval '1 second'";
    let connections: i64 = scalar(
        &db.admin,
        "select count(*) from pg_stat_activity where usename = $1",
        &[&role],
    )
    .await?;
    ensure!(connections >= 2, "the sidecar is connected: {connections}");
    let begun = std::time::Instant::now();
    until(
        Duration::from_secs(10),
        "three seconds to pass",
        async || {
            let open: i64 = scalar(&db.admin, held, &[&role]).await?;
            ensure!(open == 0, "{open} transactions are held open");
            Ok(begun.elapsed() > Duration::from_secs(3))
        },
    )
    .await?;
    let leased: i64 = scalar(
        &db.admin,
        "select count(*) from rotator.notifications where state = 'leased'",
        &[],
    )
    .await?;
    ensure!(leased == 1, "the delivery is under way");
    Ok(())
}

#[tokio::test]
async fn the_sidecar_goes_by_the_clock_of_the_database() -> Result<()> {
    let cluster = Cluster::start(Options {
        clock: true,
        ..Options::default()
    })
    .await?;
    let db = TestDb::in_cluster(Arc::new(cluster)).await?;
    one_due(&db, "console", "desk").await?;
    let sidecar = Sidecar::start(&db, &[]).await?;
    // Its first tick is over: one that the clock jumps in has looked before the jump, and counts as made after it.
    until(SOON, "the first tick", async || {
        let heartbeat = "select exists (select from rotator_internal.heartbeat)";
        scalar(&db.admin, heartbeat, &[]).await
    })
    .await?;
    ensure!(sent(&db).await? == 0, "nothing is due for 26 days");

    // Only the server's time moves; the sidecar's own stays. It ticks, since nobody has for a while by that clock.
    db.cluster.move_clock("+35d")?;
    until(SOON, "the reminder to be sent", async || {
        Ok(sent(&db).await? == 1)
    })
    .await?;
    sidecar.logged(SOON, "one expires in 5 days").await?;
    Ok(())
}
