//! A URL that names several hosts: the one that takes writes is found, wherever it stands in the list, and found again
//! after a failover. The standby is a real one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rotator_tests::sidecar::{free_address, http};
use rotator_tests::slack::StandIn;
use rotator_tests::standby::{promote, standby_of};
use rotator_tests::{Cluster, Options, Role, Sidecar, TestDb, eventually};

use crate::seed::{Acme, SOON};
use crate::slack::BOT_TOKEN;

/// A failover takes the sidecar a few pauses of up to five seconds.
const FAILED_OVER: Duration = Duration::from_secs(60);

/// How soon after the promotion of a standby it must be at work again.
const RESUMED: Duration = Duration::from_secs(10);
/// How long the database is away before that.
const AWAY: Duration = Duration::from_secs(12);

struct Pair {
    acme: Acme,
    standby: Cluster,
    role: Role,
    slack: StandIn,
}

impl Pair {
    async fn new() -> Result<Self> {
        let primary = Arc::new(Cluster::start(Options::default()).await?);
        let acme = Acme::on(TestDb::in_cluster(primary).await?, "UTC").await?;
        acme.contact("slack", "C0DEPLOYS1").await?;
        let role = acme.db.login_role("sidecar", &["rotator_sidecar"]).await?;
        let standby = standby_of(&acme.db.cluster).await?;
        Ok(Self {
            acme,
            standby,
            role,
            slack: StandIn::start().await?,
        })
    }

    fn url(&self, hosts: &str, options: &str) -> String {
        format!(
            "postgres://{}:{}@{hosts}/{}{options}",
            self.role.name, self.role.password, self.acme.db.name
        )
    }

    fn primary(&self) -> String {
        format!("127.0.0.1:{}", self.acme.db.cluster.port)
    }

    fn other(&self) -> String {
        format!("127.0.0.1:{}", self.standby.port)
    }

    async fn sidecar(&self, url: &str) -> Result<Sidecar> {
        let slack = self.slack.url();
        let settings = [
            ("ROTATOR_SLACK_URL", slack.as_str()),
            ("ROTATOR_SLACK_BOT_TOKEN", BOT_TOKEN),
        ];
        Sidecar::spawn(url, &settings).await
    }
}

/// From a tick's commit to the request: by NOTIFY, so at best of five far below the poll's five seconds.
async fn is_woken(acme: &Acme, slack: &StandIn) -> Result<()> {
    let mut quickest = Duration::MAX;
    for _ in 0..5 {
        let before = slack.requests().len();
        let secret = acme.due(&format!("round {before}")).await?;
        acme.tick().await?;
        let committed = Instant::now();
        acme.becomes(secret, "sent").await?;
        let requests = slack.received(before + 1, SOON).await?;
        quickest = quickest.min(requests[before].at.saturating_duration_since(committed));
    }
    ensure!(
        quickest < Duration::from_secs(1),
        "that was the poll, not NOTIFY: {quickest:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_primary_is_found_behind_a_dead_host_and_a_standby() -> Result<()> {
    let pair = Pair::new().await?;
    let hosts = format!("{},{},{}", free_address()?, pair.other(), pair.primary());
    let mut sidecar = pair
        .sidecar(&pair.url(&hosts, "?target_session_attrs=read-write"))
        .await?;
    sidecar.ready().await?;
    is_woken(&pair.acme, &pair.slack).await?;
    let line = sidecar.logged(SOON, "connected to").await?;
    ensure!(
        line.contains(&hosts) && !line.contains(&pair.role.password),
        "{line}"
    );

    // Without the word as well: several hosts are a primary and its standbys.
    let mut plain = pair
        .sidecar(&pair.url(&format!("{},{}", pair.other(), pair.primary()), ""))
        .await?;
    plain.ready().await
}

#[tokio::test]
async fn after_a_failover_it_works_on_the_new_primary_and_hears_it() -> Result<()> {
    let mut pair = Pair::new().await?;
    let hosts = format!("{},{}", pair.primary(), pair.other());
    let mut sidecar = pair.sidecar(&pair.url(&hosts, "")).await?;
    sidecar.ready().await?;
    let queued = pair.acme.due("queued before").await?;
    // Held by the vendor while its database goes away, so that the result has to wait for the new primary.
    pair.slack.answer(rotator_tests::slack::Answer::After(
        Duration::from_secs(3),
        Box::new(rotator_tests::slack::Answer::Ok),
    ));
    pair.acme.tick().await?;
    pair.slack.received(1, SOON).await?;
    let position: String = rotator_tests::scalar(
        &pair.acme.db.admin,
        "select pg_current_wal_lsn()::text",
        &[],
    )
    .await?;
    eventually(SOON, "the standby to have it", async || {
        let question = format!("select pg_last_wal_replay_lsn() >= '{position}'");
        Ok((pair.standby.psql("postgres", &question)?.trim() == "t").then_some(()))
    })
    .await?;
    pair.acme.db.cluster.crash().await?;
    let told = sidecar.logged(SOON, "LISTEN ended").await?;
    ensure!(!told.contains(&pair.role.password));

    promote(&pair.standby)?;
    let port = pair.standby.port;
    let old = std::mem::replace(&mut pair.acme.db.cluster, Arc::new(pair.standby));
    pair.acme.reconnect().await?;
    ensure!(pair.acme.db.cluster.port == port && old.port != port);
    let sent = pair
        .acme
        .becomes_within(queued, "sent", FAILED_OVER)
        .await?;
    ensure!(
        sent.attempts == 1 && pair.slack.requests().len() == 1,
        "the result that waited was reported: {sent:?}"
    );
    sidecar.logged(FAILED_OVER, "LISTEN is back").await?;
    sidecar.ready().await?;
    is_woken(&pair.acme, &pair.slack).await
}

/// Whoever promotes does so a while after the primary is gone, and from then on people are told again.
#[tokio::test]
async fn within_ten_seconds_of_a_promotion_it_delivers_again() -> Result<()> {
    let mut pair = Pair::new().await?;
    let hosts = format!("{},{}", pair.primary(), pair.other());
    let mut sidecar = pair.sidecar(&pair.url(&hosts, "")).await?;
    sidecar.ready().await?;
    is_woken(&pair.acme, &pair.slack).await?;
    let due = pair.acme.due("due when it went away").await?;
    let position: String = rotator_tests::scalar(
        &pair.acme.db.admin,
        "select pg_current_wal_lsn()::text",
        &[],
    )
    .await?;
    eventually(SOON, "the standby to have it", async || {
        let question = format!("select pg_last_wal_replay_lsn() >= '{position}'");
        Ok((pair.standby.psql("postgres", &question)?.trim() == "t").then_some(()))
    })
    .await?;
    pair.acme.db.cluster.crash().await?;
    // Long enough for every pause between two tries to have grown to its longest.
    sidecar.logged(SOON, "LISTEN ended").await?;
    tokio::time::sleep(AWAY).await;

    promote(&pair.standby)?;
    let promoted = Instant::now();
    let before = pair.slack.requests().len();
    let _old = std::mem::replace(&mut pair.acme.db.cluster, Arc::new(pair.standby));
    pair.acme.reconnect().await?;
    pair.acme.tick().await?;
    let requests = pair.slack.received(before + 1, FAILED_OVER).await?;
    let waited = requests[before].at.saturating_duration_since(promoted);
    ensure!(waited < RESUMED, "it took {waited:?}");
    pair.acme.becomes(due, "sent").await?;
    let left = RESUMED.saturating_sub(promoted.elapsed());
    let url = sidecar.url("/readyz");
    eventually(left, "/readyz to say so in that time", async || {
        let answer = http().get(&url).send().await?;
        Ok((answer.status() == 200).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_standby_alone_is_waited_for_and_each_host_is_named_with_its_answer() -> Result<()> {
    let pair = Pair::new().await?;
    let dead = free_address()?;
    let mut sidecar = pair
        .sidecar(&pair.url(&format!("{dead},{}", pair.other()), ""))
        .await?;
    let line = sidecar.logged(SOON, "waiting for the database").await?;
    ensure!(
        line.contains(&format!("{}: it is read-only", pair.other())),
        "{line}"
    );
    ensure!(
        line.contains(&format!("{dead}: ")) && line.contains("refused"),
        "{line}"
    );
    // One host alone is no different: every call of ours writes.
    let alone = pair.sidecar(&pair.url(&pair.other(), "")).await?;
    let line = alone.logged(SOON, "waiting for the database").await?;
    ensure!(
        line.contains("it is read-only") && line.contains("waiting for a server that takes writes"),
        "{line}"
    );

    pair.acme.db.cluster.stop().await?;
    promote(&pair.standby)?;
    sidecar.ready().await
}

#[tokio::test]
async fn a_server_that_becomes_read_only_is_left_and_taken_again_when_it_writes() -> Result<()> {
    let cluster = Arc::new(Cluster::start(Options::default()).await?);
    let acme = Acme::on(TestDb::in_cluster(cluster).await?, "UTC").await?;
    acme.contact("console", "desk").await?;
    let mut sidecar = Sidecar::start(&acme.db, &[]).await?;
    let secret = acme.due("stripe-live").await?;
    acme.tick().await?;
    acme.becomes(secret, "sent").await?;

    let alter = |how: &str| {
        acme.db
            .cluster
            .psql("postgres", &format!("alter system {how}"))?;
        acme.db.cluster.psql("postgres", "select pg_reload_conf()")
    };
    alter("set default_transaction_read_only = on")?;
    sidecar.logged(SOON, "it is read-only").await?;
    let url = sidecar.url("/readyz");
    eventually(SOON, "/readyz to say so", async || {
        let answer = http().get(&url).send().await?;
        Ok((answer.status() == 503).then_some(()))
    })
    .await?;
    alter("reset default_transaction_read_only")?;
    sidecar.ready().await?;
    let next = acme.due("another").await?;
    acme.tick().await?;
    acme.becomes(next, "sent").await?;
    Ok(())
}

/// It takes the connection and says nothing, as a server that hangs does.
#[tokio::test]
async fn a_host_that_hangs_does_not_keep_it_from_the_next() -> Result<()> {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let db = TestDb::new().await?;
    let role = db.login_role("sidecar", &["rotator_sidecar"]).await?;
    let hosts = format!("{},127.0.0.1:{}", hanging.local_addr()?, db.cluster.port);
    let url = format!(
        "postgres://{}:{}@{hosts}/{}?connect_timeout=1",
        role.name, role.password, db.name
    );
    let mut sidecar = Sidecar::spawn(&url, &[]).await?;
    sidecar.ready().await
}
