//! Due-date maths by the tenant's calendar: next expiry dates as `mark_rotated` gives them, and the instants at which
//! lead times begin, as `due_at` of what a tick queues. Expected instants were computed by another implementation of
//! the time zone rules (Python's zoneinfo), not by PostgreSQL.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rotator_tests::{TestDb, scalar};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::seed::{Acme, register};

/// Zone, wall time of the rotation, interval, next expiry in UTC, and what is special about it. Where a wall time is
/// skipped it moves forward by the gap; where it comes twice it is the second (PostgreSQL's choice).
#[rustfmt::skip]
const NEXT_EXPIRY: &[(&str, &str, &str, &str, &str)] = &[
    ("UTC", "2025-01-31 00:00", "1 month", "2025-02-28 00:00", "a month has no 31st: it clamps"),
    ("UTC", "2024-01-31 00:00", "1 month", "2024-02-29 00:00", "in a leap year February has one day more"),
    ("UTC", "2025-03-31 12:30", "1 month", "2025-04-30 12:30", ""),
    ("UTC", "2025-05-31 12:30", "1 month", "2025-06-30 12:30", ""),
    ("UTC", "2025-08-31 12:30", "1 month", "2025-09-30 12:30", ""),
    ("UTC", "2025-10-31 12:30", "1 month", "2025-11-30 12:30", ""),
    ("UTC", "2025-12-31 23:59", "1 month", "2026-01-31 23:59", "December to January keeps the day"),
    ("UTC", "2025-11-30 12:00", "3 months", "2026-02-28 12:00", ""),
    ("UTC", "2024-11-30 12:00", "3 months", "2025-02-28 12:00", ""),
    ("UTC", "2023-11-30 12:00", "3 months", "2024-02-29 12:00", ""),
    ("UTC", "2025-08-31 00:00", "6 months", "2026-02-28 00:00", ""),
    ("UTC", "2024-02-29 08:00", "1 year", "2025-02-28 08:00", "a leap day becomes the 28th"),
    ("UTC", "2020-02-29 08:00", "4 years", "2024-02-29 08:00", "a leap day again after four years"),
    ("UTC", "2023-02-28 08:00", "1 year", "2024-02-28 08:00", "the last of February does not become the 29th"),
    ("UTC", "2024-02-29 08:00", "12 months", "2025-02-28 08:00", ""),
    ("UTC", "2024-02-28 08:00", "1 day", "2024-02-29 08:00", ""),
    ("UTC", "2024-02-28 08:00", "2 days", "2024-03-01 08:00", ""),
    ("UTC", "2025-02-28 08:00", "1 day", "2025-03-01 08:00", ""),
    ("UTC", "2025-01-31 08:00", "30 days", "2025-03-02 08:00", ""),
    ("UTC", "2024-12-31 08:00", "90 days", "2025-03-31 08:00", ""),
    ("UTC", "2024-01-01 00:00", "365 days", "2024-12-31 00:00", "365 days of a leap year end a day early"),
    ("UTC", "2024-01-01 00:00", "1 year", "2025-01-01 00:00", ""),
    ("UTC", "2024-01-30 00:00", "1 month 1 day", "2024-03-01 00:00", "months first, then days"),
    ("UTC", "2024-01-31 00:00", "1 year 1 month", "2025-02-28 00:00", ""),
    ("UTC", "2025-06-01 10:00", "36 hours", "2025-06-02 22:00", ""),
    ("Europe/Berlin", "2025-03-01 09:00", "30 days", "2025-03-31 07:00", "spring: nine o'clock stays nine o'clock"),
    ("Europe/Berlin", "2025-10-01 09:00", "30 days", "2025-10-31 08:00", "autumn"),
    ("Europe/Berlin", "2025-01-31 09:00", "2 months", "2025-03-31 07:00", ""),
    ("Europe/Berlin", "2025-02-28 02:30", "1 month", "2025-03-28 01:30", ""),
    ("Europe/Berlin", "2025-03-29 02:30", "1 day", "2025-03-30 01:30", "half past two is skipped: half past three"),
    ("Europe/Berlin", "2025-02-28 02:00", "30 days", "2025-03-30 01:00", "skipped"),
    ("Europe/Berlin", "2025-10-25 02:30", "1 day", "2025-10-26 01:30", "half past two comes twice: the second"),
    ("Europe/Berlin", "2025-10-26 00:00", "1 day", "2025-10-26 23:00", ""),
    ("Europe/Berlin", "2025-03-30 00:30", "24 hours", "2025-03-30 22:30", ""),
    ("America/New_York", "2025-02-09 02:30", "1 month", "2025-03-09 07:30", "skipped"),
    ("America/New_York", "2025-10-02 01:30", "1 month", "2025-11-02 06:30", "twice"),
    ("America/New_York", "2025-01-01 17:00", "90 days", "2025-04-01 21:00", ""),
    ("America/New_York", "2024-11-30 23:30", "3 months", "2025-03-01 04:30", ""),
    ("America/New_York", "2024-12-31 19:30", "2 months", "2025-03-01 00:30", ""),
    ("Australia/Lord_Howe", "2025-09-05 02:15", "1 month", "2025-10-04 15:45", "a gap of half an hour"),
    ("Australia/Lord_Howe", "2025-03-06 01:45", "1 month", "2025-04-05 15:15", "an overlap of half an hour"),
    ("Australia/Lord_Howe", "2025-01-31 08:00", "3 months", "2025-04-29 21:30", ""),
    ("Asia/Kathmandu", "2025-01-31 10:00", "1 month", "2025-02-28 04:15", "an offset of 5:45"),
    ("Asia/Kathmandu", "1985-12-30 00:00", "2 days", "1985-12-31 18:30", "skipped"),
    ("Asia/Kathmandu", "1985-12-31 00:10", "1 day", "1985-12-31 18:40", "the quarter hour skipped in 1986"),
    ("Pacific/Apia", "2011-11-30 10:00", "1 month", "2011-12-30 20:00", "30 December 2011 did not happen there"),
    ("Pacific/Apia", "2011-12-29 10:00", "1 day", "2011-12-30 20:00", "skipped"),
    ("Pacific/Apia", "2011-12-29 10:00", "2 days", "2011-12-30 20:00", ""),
    ("Pacific/Apia", "2011-12-28 10:00", "90 days", "2012-03-26 20:00", ""),
    ("Pacific/Apia", "2025-01-31 10:00", "1 month", "2025-02-27 21:00", ""),
    ("America/Sao_Paulo", "2018-11-03 00:00", "1 day", "2018-11-04 03:00", "midnight itself is skipped"),
    ("Asia/Kolkata", "2024-02-29 00:00", "1 year", "2025-02-27 18:30", ""),
    ("Pacific/Kiritimati", "2025-01-31 00:00", "1 month", "2025-02-27 10:00", ""),
    ("Antarctica/Troll", "2025-02-28 02:00", "30 days", "2025-03-30 02:00", "a gap of two hours"),
];

/// Zone, wall time of the expiry, interval, lead time, when it begins in UTC, and what is special about it.
type Lead = (
    &'static str,
    &'static str,
    Option<&'static str>,
    i32,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const LEAD: &[Lead] = &[
    ("UTC", "2026-03-01 00:00", None, 1, "2026-02-28 00:00", "no leap day"),
    ("UTC", "2024-03-01 00:00", None, 1, "2024-02-29 00:00", "a leap day"),
    ("UTC", "2026-01-05 12:00", None, 14, "2025-12-22 12:00", "over the turn of the year"),
    ("UTC", "2026-01-05 12:00", None, 0, "2026-01-05 12:00", "on the expiry itself"),
    ("UTC", "2026-01-05 12:00", None, -3, "2026-01-08 12:00", "after it"),
    ("UTC", "2026-01-05 12:00", Some("15 days"), 14, "2025-12-22 12:00", "shorter than the interval: as it is"),
    ("UTC", "2026-01-15 12:00", Some("14 days"), 14, "2026-01-10 20:00", "as long as the interval: a third of it"),
    ("UTC", "2026-01-15 12:00", Some("6 days"), 14, "2026-01-13 12:00", "longer than the interval"),
    ("UTC", "2026-01-15 12:00", Some("3 hours"), 1, "2026-01-15 11:00", "hours"),
    ("UTC", "2026-01-15 12:00", Some("6 days"), -14, "2026-01-29 12:00", "after the expiry nothing is capped"),
    ("UTC", "2026-03-31 12:00", Some("1 month"), 14, "2026-03-17 12:00", "a month is longer"),
    ("Europe/Berlin", "2025-04-06 09:00", None, 14, "2025-03-23 08:00", "nine o'clock before the change too"),
    ("Europe/Berlin", "2025-11-02 09:00", None, 14, "2025-10-19 07:00", "and in autumn"),
    ("Europe/Berlin", "2025-04-06 02:30", None, 7, "2025-03-30 01:30", "skipped: half past three"),
    ("Europe/Berlin", "2025-11-02 02:30", None, 7, "2025-10-26 01:30", "twice: the second"),
    ("America/New_York", "2025-03-16 02:30", None, 7, "2025-03-09 07:30", "skipped"),
    ("America/New_York", "2025-11-03 01:30", None, 1, "2025-11-02 06:30", "twice"),
    ("Australia/Lord_Howe", "2025-10-06 02:15", None, 1, "2025-10-04 15:45", "a gap of half an hour"),
    ("Asia/Kathmandu", "2025-03-01 00:00", None, 1, "2025-02-27 18:15", "an offset of 5:45"),
    ("Pacific/Apia", "2011-12-31 10:00", None, 1, "2011-12-30 20:00", "the day before did not happen"),
    ("America/Sao_Paulo", "2018-11-05 00:00", None, 1, "2018-11-04 03:00", "midnight itself is skipped"),
];

/// A superuser's session, and a tenant for each zone.
async fn tenants<'a>(zones: impl Iterator<Item = &'a str>) -> Result<(TestDb, Client)> {
    let db = TestDb::new().await?;
    for zone in zones.collect::<BTreeSet<_>>() {
        db.tenant_in(&slug(zone), zone).await?;
    }
    let session = db.superuser().await?;
    Ok((db, session))
}

fn slug(zone: &str) -> String {
    zone.to_lowercase().replace(['/', '_'], "-")
}

async fn use_tenant(session: &Client, zone: &str) -> Result<()> {
    session
        .execute("select rotator.use_tenant($1)", &[&slug(zone)])
        .await?;
    Ok(())
}

#[tokio::test]
async fn next_expiry_is_reckoned_in_the_tenant_s_wall_time() -> Result<()> {
    ensure!(NEXT_EXPIRY.len() >= 40);
    let (_db, session) = tenants(NEXT_EXPIRY.iter().map(|case| case.0)).await?;
    let mut wrong = Vec::new();
    for (number, (zone, wall, interval, expected, special)) in NEXT_EXPIRY.iter().enumerate() {
        use_tenant(&session, zone).await?;
        let id = register(
            &session,
            &format!("case {number}"),
            &format!("rotation_interval => '{interval}'"),
        )
        .await?;
        // The session's own zone must not matter.
        session.batch_execute("set timezone = 'Asia/Tokyo'").await?;
        let next: String = scalar(
            &session,
            "select to_char(rotator.mark_rotated($1, $2::text::timestamp at time zone $3) at time zone 'UTC', 'YYYY-MM-DD HH24:MI')",
            &[&id, wall, zone],
        )
        .await?;
        let stored: String = scalar(
            &session,
            "select to_char(expiry_date at time zone 'UTC', 'YYYY-MM-DD HH24:MI') from rotator.secrets where id = $1",
            &[&id],
        )
        .await?;
        if next != *expected || stored != next {
            wrong.push(format!(
                "{zone} {wall} + {interval} ({special}): {next}, stored {stored}, not {expected}"
            ));
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[tokio::test]
async fn lead_times_begin_by_the_tenant_s_wall_time() -> Result<()> {
    let (_db, session) = tenants(LEAD.iter().map(|case| case.0)).await?;
    let mut wrong = Vec::new();
    for (number, (zone, wall, interval, lead, expected, special)) in LEAD.iter().enumerate() {
        use_tenant(&session, zone).await?;
        let id: Uuid = scalar(
            &session,
            "select rotator.register_secret($1, expiry_date => $2::text::timestamp at time zone $3, rotation_interval => $4::text::interval)",
            &[&format!("case {number}"), wall, zone, interval],
        )
        .await?;
        session
            .execute(
                "select rotator.add_notification_policy($1, secret_id => $2)",
                &[lead, &id],
            )
            .await?;
        session.execute("select rotator.tick()", &[]).await?;
        let due: String = scalar(
            &session,
            "select string_agg(to_char(due_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), ', ') from rotator.notifications where secret_id = $1",
            &[&id],
        )
        .await
        .with_context(|| format!("nothing was queued: {zone} {wall} {lead}"))?;
        if due != *expected {
            wrong.push(format!("{zone} {wall}, {lead} days before, interval {interval:?} ({special}): {due}, not {expected}"));
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[tokio::test]
async fn without_an_expiry_date_it_is_one_interval_from_now_in_wall_time() -> Result<()> {
    let acme = Acme::in_zone("Australia/Lord_Howe").await?;
    acme.editor
        .batch_execute(
            "begin; select rotator.register_secret('a', rotation_interval => '6 months');
             insert into rotator.secrets (name, interval_days) values ('b', 180)",
        )
        .await?;
    let right: i64 = scalar(
        &acme.editor,
        "select count(*) from rotator.secrets
         where expiry_date at time zone 'Australia/Lord_Howe' = (now() at time zone 'Australia/Lord_Howe') + rotation_interval",
        &[],
    )
    .await?;
    assert_eq!(right, 2);
    Ok(())
}

#[tokio::test]
async fn month_ends_follow_the_last_rotation_and_remember_no_day() -> Result<()> {
    let (_db, session) = tenants(["Europe/Berlin"].into_iter()).await?;
    use_tenant(&session, "Europe/Berlin").await?;
    let id = register(&session, "monthly", "rotation_interval => '1 month'").await?;
    // Rotated each time on the very day it was due: the 31st becomes the 28th and stays there.
    let mut rotated = "2025-01-31 09:00 Europe/Berlin".to_owned();
    for expected in ["2025-02-28 09:00", "2025-03-28 09:00", "2025-04-28 09:00"] {
        let next: String = scalar(
            &session,
            "select to_char(rotator.mark_rotated($1, $2::text::timestamptz) at time zone 'Europe/Berlin', 'YYYY-MM-DD HH24:MI')",
            &[&id, &rotated],
        )
        .await?;
        assert_eq!(next, expected);
        rotated = format!("{next} Europe/Berlin");
    }
    Ok(())
}
