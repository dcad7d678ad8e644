//! A year of a few tenants, lived through on a server whose clock is moved: thousands of secrets with owners, contacts, priorities,
//! intervals and hours drawn by chance, people who acknowledge, snooze and rotate or don't, vendors and databases that fail. After
//! each step what the product did is held against a small model of its own (`model`, `ladder`, `acts`, `people`, `zone`), which
//! was written from the documents: every reminder that is due exactly once or explained, every escalation at its time, silence while
//! somebody has it in hand, nothing lost. A run prints its seed; `ROTATOR_SEED` gives it again.

mod acts;
mod changes;
mod courier;
mod doings;
mod draw;
mod hands;
mod ladder;
mod ledger;
mod life;
mod model;
mod people;
mod weather;
mod zone;

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use jiff::SignedDuration;
use rotator_tests::{Chance, Cluster, Options, TestDb, scaled};

use self::draw::Draw;
use self::life::Year;
use self::weather::Weather;
use self::zone::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_year_everything_is_said_once_or_explained() -> Result<()> {
    let count = scaled(2000);
    let mut chance = if count < 2000 {
        Chance::steady("year", 11)
    } else {
        Chance::for_test("year")
    };
    let options = Options {
        clock: true,
        settings: vec!["autovacuum_naptime = 1min".to_owned()],
        ..Options::default()
    };
    let cluster = Arc::new(Cluster::start(options).await?);
    let start: Instant = "2027-01-04T00:00:00Z".parse()?;
    // In short a third of it, with longer steps.
    let (days, pace) = if count < 2000 { (120, 6) } else { (365, 1) };
    let end = start + SignedDuration::from_hours(24 * days);
    let offset = start.duration_since(Instant::now());
    cluster.move_clock(&format!("{:+.6}", offset.as_secs_f64()))?;
    let db = TestDb::in_cluster(cluster).await?;
    let people = (count / 32).max(6);
    let (hands, model) = Draw {
        chance: &mut chance,
        start,
        people,
    }
    .world(db, count)
    .await?;
    let weather = Weather::draw(&mut chance, start);
    let now = hands.now().await?;
    let mut year = Year::new(hands, model, chance, weather, now);
    year.people = people;
    year.pace = SignedDuration::from_hours(pace);
    year.plan_the_rest(end);
    year.live_until(end)
        .await
        .with_context(|| format!("{:?}", year.done))?;

    // Everything that is open is rotated, and that ends it.
    year.agenda.clear();
    for index in 0..year.model.secrets.len() {
        year.rotate(index, 0, None).await?;
    }
    year.ledger.made(&year.hands, &year.model, end).await?;
    year.settle().await?;
    year.alerts().await?;
    eprintln!("{} steps, {:?}", year.steps, year.done);
    let done = &year.done;
    for times in [
        done.sent,
        done.failed,
        done.lost,
        done.acknowledged,
        done.rotated,
        done.reopened,
        done.escalations,
        done.digests,
        done.handed_over,
        done.explained,
        // In short it may be that whoever a channel fails is told by another anyway.
        done.fallbacks + usize::from(count < 2000),
    ] {
        ensure!(
            times > 0,
            "a year in which something never happened: {done:?}"
        );
    }
    Ok(())
}
