//! How long it takes from the commit of a tick to the request at the vendor, when nothing else is going on.

use std::time::{Duration, Instant};

use anyhow::Result;
use rotator_tests::bench::{Bar, Record, percentile};
use rotator_tests::{Sidecar, TestDb, slack};

const SAMPLES: usize = 200;
const NAMES: [&str; 2] = ["notify_to_request_p50_ms", "notify_to_request_p99_ms"];

pub async fn run(record: &mut Record) -> Result<()> {
    if !record.wants(&NAMES) {
        return Ok(());
    }
    let db = TestDb::new().await?;
    let slack = slack::StandIn::start().await?;
    let settings = [
        ("ROTATOR_SLACK_URL", slack.url()),
        ("ROTATOR_SLACK_BOT_TOKEN", "stand-in".to_owned()),
    ];
    let settings: Vec<(&str, &str)> = settings
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let mut sidecar = Sidecar::start(&db, &settings).await?;
    sidecar.shows_log = false;
    db.tenant("acme").await?;
    db.admin
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;

    let mut waits = Vec::new();
    for sample in 1..=SAMPLES {
        // A channel each: Slack takes about one message a second in the same one.
        db.admin
            .batch_execute(&format!(
                "select rotator.set_contact('owner-{sample}', 'slack', 'C{sample:09}');
                 select rotator.register_secret('credential-{sample}', 'vault', now() + interval '1 hour',
                     owner_id => 'owner-{sample}');
                 begin;
                 select rotator.tick();"
            ))
            .await?;
        let committing = Instant::now();
        db.admin.batch_execute("commit").await?;
        let requests = slack.received(sample, Duration::from_secs(20)).await?;
        let arrived = requests[sample - 1].at;
        waits.push(arrived.saturating_duration_since(committing).as_secs_f64() * 1000.0);
    }
    let detail = format!(
        "from sending the tick's commit to the request at the stand-in, idle; {SAMPLES} samples"
    );
    record.add(
        NAMES[0],
        percentile(&mut waits, 50.0),
        "ms",
        Bar::AtMost(3.0),
        &detail,
    )?;
    record.add(
        NAMES[1],
        percentile(&mut waits, 99.0),
        "ms",
        Bar::AtMost(10.0),
        &detail,
    )
}
