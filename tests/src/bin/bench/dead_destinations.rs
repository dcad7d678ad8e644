//! What a hundred dead destinations cost the healthy ones: two sidecars with a database each, in turns, one of which has as
//! many destinations again that never answer. From the commit of the tick to sent, as it is recorded.
//!
//! A wave a second goes to each side for two minutes: long enough for the dead ones to be found out, to time out (after
//! twenty seconds), to be left alone for half a minute, and to be tried again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rotator_tests::bench::{Bar, Record, median, percentile};
use rotator_tests::slack::{Answer, StandIn};
use rotator_tests::{Sidecar, TestDb, scalar, until};
use tokio::time::{MissedTickBehavior, interval};

const NAMES: [&str; 1] = ["healthy_p99_with_dead_destinations"];
const DESTINATIONS: usize = 100;
const ROUNDS: usize = 5;
const WAVES: usize = 24;
/// Something new is due for each dead one with every so many of its waves: no reminder is so frequent.
const DEAD_EVERY: usize = 4;
/// Between two waves, which go to one side and the other in turns.
const EVERY: Duration = Duration::from_millis(500);
const LIMIT: Duration = Duration::from_secs(60);

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&NAMES) {
        return Ok(());
    }
    let (mut without, mut with) = (Side::new(false).await?, Side::new(true).await?);
    // The first message to somebody is another matter: who is new gets one at a time. The dead ones work until then.
    without.wave().await?;
    with.wave().await?;
    with.slack.answer_when("\"C9", Answer::Never);
    let mut pace = interval(EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut baseline, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        let (mut waits, mut waits_beside) = (Vec::new(), Vec::new());
        for _ in 0..WAVES {
            pace.tick().await;
            waits.extend(without.wave().await?);
            pace.tick().await;
            waits_beside.extend(with.wave().await?);
        }
        baseline.push(percentile(&mut waits, 99.0));
        beside.push(percentile(&mut waits_beside, 99.0));
    }
    let (baseline, beside) = (median(&mut baseline), median(&mut beside));
    let detail = format!(
        "p99 from commit to sent of {DESTINATIONS} a second: {beside:.1} ms beside {DESTINATIONS} destinations that never answer, \
         {baseline:.1} ms without; medians of {ROUNDS} rounds, interleaved"
    );
    record.add(
        NAMES[0],
        beside / baseline,
        "ratio",
        Bar::AtMost(2.0),
        &detail,
    )
}

struct Side {
    db: TestDb,
    has_dead: bool,
    waves: usize,
    _sidecar: Sidecar,
    slack: StandIn,
}

impl Side {
    async fn new(has_dead: bool) -> Result<Self> {
        let (db, slack) = (TestDb::new().await?, StandIn::start().await?);
        db.tenant("acme").await?;
        db.admin
            .batch_execute(&format!(
                "select rotator.use_tenant('acme');
                 select rotator.set_contact(kind || n, 'slack', channel || n)
                 from (values ('healthy-', 'C' || 1000000), ('dead-', 'C' || 9000000)) as k (kind, channel),
                     generate_series(1, {DESTINATIONS}) as n"
            ))
            .await?;
        let settings = [
            ("ROTATOR_SLACK_URL", slack.url()),
            ("ROTATOR_SLACK_BOT_TOKEN", "stand-in".to_owned()),
        ];
        let settings = settings
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let mut sidecar = Sidecar::start(&db, &settings).await?;
        sidecar.shows_log = false;
        Ok(Self {
            db,
            has_dead,
            waves: 0,
            _sidecar: sidecar,
            slack,
        })
    }

    /// Something new for each dead one, if it is time, and then for each healthy one; how many milliseconds the latter took
    /// each.
    async fn wave(&mut self) -> Result<Vec<f64>> {
        self.waves += 1;
        if self.has_dead && self.waves % DEAD_EVERY == 1 {
            self.queue("dead-").await?;
            self.db.admin.batch_execute("commit").await?;
        }
        self.queue("healthy-").await?;
        let begun = SystemTime::now();
        self.db.admin.batch_execute("commit").await?;
        let expected = (self.waves * DESTINATIONS) as i64;
        let sent = "select count(*) from rotator_internal.notification where state = 'sent' and addressee ^@ 'healthy-'";
        until(LIMIT, "the healthy ones to be told", async || {
            Ok(scalar::<i64>(&self.db.admin, sent, &[]).await? == expected)
        })
        .await?;
        let latest = format!(
            "select extract(epoch from sent_at)::float8 from rotator_internal.notification
             where state = 'sent' and addressee ^@ 'healthy-' order by queued_at desc limit {DESTINATIONS}"
        );
        let begun = begun.duration_since(UNIX_EPOCH)?.as_secs_f64();
        let rows = self.db.admin.query(&latest, &[]).await?;
        Ok(rows
            .iter()
            .map(|row| (row.get::<_, f64>(0) - begun) * 1000.0)
            .collect())
    }

    /// A reminder for each of these, in one tick that is not committed yet.
    async fn queue(&self, kind: &str) -> Result<()> {
        let sql = format!(
            "insert into rotator.secrets (name, provider_type, owner_id, expiry_date, rotation_interval)
             select '{kind}{} ' || n, 'vault', '{kind}' || n, now() + interval '5 days', '90 days'
             from generate_series(1, {DESTINATIONS}) as n;
             begin;
             select rotator.tick();",
            self.waves
        );
        Ok(self.db.admin.batch_execute(&sql).await?)
    }
}
