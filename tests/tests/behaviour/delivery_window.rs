//! Delivery windows: what one may be, when it opens next, and how much of a wait passes inside it, by the clocks of the
//! tenant's zone. Expected instants were computed by another implementation, minute by minute over the time zone rules of
//! Python's zoneinfo. What waits for an opening is in `deferral`.

use anyhow::{Context, Result, ensure};
use rotator_tests::{refused, scalar};
use serde_json::{Value, json};

use crate::seed::Acme;

/// Zone, window, holidays, instant in UTC, next opening, minutes of work, when they have passed, and what is special.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    i32,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const CASES: &[Case] = &[
    ("UTC", "mon-fri 09:00-17:00", "", "2026-11-23 10:00", "2026-11-23 10:00", 240, "2026-11-23 14:00", "Monday morning: open"),
    ("UTC", "mon-fri 09:00-17:00", "", "2026-11-23 09:00", "2026-11-23 09:00", 480, "2026-11-23 17:00", "the first minute is inside; a whole day ends at its close"),
    ("UTC", "mon-fri 09:00-17:00", "", "2026-11-23 17:00", "2026-11-24 09:00", 1, "2026-11-24 09:01", "the last isn't"),
    ("UTC", "mon-fri 09:00-17:00", "", "2026-11-23 08:59", "2026-11-23 09:00", 240, "2026-11-23 13:00", ""),
    ("UTC", "mon-fri 09:00-17:00", "", "2026-11-27 16:59", "2026-11-27 16:59", 240, "2026-11-30 12:59", "Friday, a minute before the weekend"),
    ("UTC", "mon-fri 09:00-17:00", "", "2026-11-27 17:00", "2026-11-30 09:00", 240, "2026-11-30 13:00", "the weekend"),
    ("UTC", "mon-fri 09:00-17:00", "", "2026-11-28 12:00", "2026-11-30 09:00", 240, "2026-11-30 13:00", "Saturday"),
    ("UTC", "mon-fri 09:00-17:00", "", "2026-11-29 23:59", "2026-11-30 09:00", 960, "2026-12-01 17:00", "Sunday; two working days"),
    ("UTC", "mon-fri 09:00-17:00", "2026-12-25 2026-12-28 2026-12-29 2026-12-30 2026-12-31 2027-01-01", "2026-12-24 18:00", "2027-01-04 09:00", 60, "2027-01-04 10:00", "a week of holidays, over New Year"),
    ("UTC", "mon-fri 09:00-17:00", "2026-12-25", "2026-12-24 16:00", "2026-12-24 16:00", 120, "2026-12-28 10:00", "one holiday, then a weekend"),
    ("UTC", "all 18:00-24:00", "", "2026-11-23 23:59", "2026-11-23 23:59", 2, "2026-11-24 18:01", "until midnight, and on the next evening"),
    ("UTC", "all 18:00-24:00", "", "2026-11-24 00:00", "2026-11-24 18:00", 60, "2026-11-24 19:00", "24:00 is outside"),
    ("UTC", "all 00:00-24:00", "", "2026-11-23 23:59", "2026-11-23 23:59", 1440, "2026-11-24 23:59", "always"),
    ("UTC", "wed 12:00-12:30", "", "2026-11-25 12:30", "2026-12-02 12:00", 45, "2026-12-09 12:15", "half an hour a week"),
    ("UTC", "sun 00:00-24:00", "2026-11-29", "2026-11-24 00:00", "2026-12-06 00:00", 60, "2026-12-06 01:00", "its only day is a holiday"),
    ("Europe/Berlin", "mon-fri 09:00-17:00", "", "2026-03-27 14:00", "2026-03-27 14:00", 240, "2026-03-30 09:00", "spring: the clocks change on the Sunday between"),
    ("Europe/Berlin", "mon-fri 09:00-17:00", "", "2026-10-23 13:00", "2026-10-23 13:00", 240, "2026-10-26 10:00", "autumn: the same"),
    ("Europe/Berlin", "all 01:00-04:00", "", "2026-03-28 22:30", "2026-03-29 00:00", 180, "2026-03-30 00:00", "the night in which two o'clock is skipped has two hours"),
    ("Europe/Berlin", "all 02:00-03:00", "", "2026-03-28 11:00", "2026-03-30 00:00", 60, "2026-03-30 01:00", "an hour that is skipped doesn't open"),
    ("Europe/Berlin", "all 02:30-04:00", "", "2026-03-28 11:00", "2026-03-29 01:00", 45, "2026-03-29 01:45", "its first half is skipped: open from three"),
    ("Europe/Berlin", "all 01:00-02:30", "", "2026-03-28 11:00", "2026-03-29 00:00", 90, "2026-03-29 23:30", "its second half is skipped"),
    ("Europe/Berlin", "all 01:00-04:00", "", "2026-10-24 21:30", "2026-10-24 23:00", 240, "2026-10-25 03:00", "the night in which two o'clock comes twice has four hours"),
    ("Europe/Berlin", "all 02:00-03:00", "", "2026-10-24 21:30", "2026-10-25 00:00", 120, "2026-10-25 02:00", "open twice"),
    ("Europe/Berlin", "all 02:00-02:30", "", "2026-10-25 00:10", "2026-10-25 00:10", 40, "2026-10-25 01:20", "the first time; closed between, and open again"),
    ("Europe/Berlin", "all 02:00-02:30", "", "2026-10-25 00:40", "2026-10-25 01:00", 15, "2026-10-25 01:15", "between the two"),
    ("Europe/Berlin", "all 02:45-03:15", "", "2026-10-24 22:00", "2026-10-25 00:45", 30, "2026-10-25 02:00", ""),
    ("America/New_York", "mon-fri 09:00-17:00", "", "2026-03-06 21:00", "2026-03-06 21:00", 120, "2026-03-09 14:00", "spring in New York"),
    ("America/New_York", "all 01:30-02:00", "", "2026-11-01 04:00", "2026-11-01 05:30", 60, "2026-11-01 07:00", "half past one comes twice"),
    ("America/New_York", "mon-fri 09:00-17:00", "", "2026-10-30 20:30", "2026-10-30 20:30", 60, "2026-11-02 14:30", ""),
    ("America/Sao_Paulo", "all 00:00-02:00", "", "2018-11-03 15:00", "2018-11-04 03:00", 60, "2018-11-04 04:00", "midnight itself is skipped"),
    ("America/Sao_Paulo", "all 22:00-24:00", "", "2018-02-17 14:00", "2018-02-18 00:00", 180, "2018-02-18 03:00", "the hour before midnight comes twice"),
    ("Australia/Lord_Howe", "all 01:45-02:15", "", "2026-04-04 01:00", "2026-04-04 14:45", 60, "2026-04-05 15:30", "half an hour comes twice"),
    ("Australia/Lord_Howe", "all 01:00-03:00", "", "2026-10-03 01:30", "2026-10-03 14:30", 90, "2026-10-03 16:00", "half an hour is skipped"),
    ("Asia/Kathmandu", "mon-fri 09:00-17:00", "", "2026-11-27 11:15", "2026-11-30 03:15", 45, "2026-11-30 04:00", "an offset of 5:45"),
    ("Asia/Kolkata", "mon-fri 09:00-17:00", "", "2026-11-27 11:15", "2026-11-27 11:15", 30, "2026-11-30 03:45", ""),
    ("Pacific/Kiritimati", "mon-fri 09:00-17:00", "", "2026-11-27 03:00", "2026-11-29 19:00", 60, "2026-11-29 20:00", "fourteen hours ahead: it is still Thursday in Hawaii"),
    ("Pacific/Pago_Pago", "mon-fri 09:00-17:00", "", "2026-11-28 04:00", "2026-11-30 20:00", 60, "2026-11-30 21:00", "eleven hours behind"),
    ("Pacific/Apia", "all 09:00-17:00", "", "2011-12-30 02:30", "2011-12-30 02:30", 60, "2011-12-30 19:30", "30 December 2011 did not happen there"),
    ("Antarctica/Troll", "all 00:30-03:30", "", "2026-03-28 12:00", "2026-03-29 00:30", 60, "2026-03-29 01:30", "a gap of two hours"),
    ("Africa/Cairo", "all 00:25-00:35", "", "2026-04-23 10:00", "2026-04-24 21:25", 10, "2026-04-24 21:35", "the first hour of that day is skipped"),
    ("America/Sao_Paulo", "all 00:40-01:10", "", "2018-11-03 15:00", "2018-11-04 03:00", 10, "2018-11-04 03:10", "its beginning is skipped with midnight"),
    ("Europe/London", "mon-fri 09:00-17:30", "2026-12-25 2026-12-28", "2026-12-24 17:00", "2026-12-24 17:00", 90, "2026-12-29 10:00", "Christmas, a weekend, and the day in lieu"),
];

/// `mon-fri 09:00-17:00` and holidays as `set_delivery_window` takes them.
fn hours(window: &str, holidays: &str) -> Result<Value> {
    let (days, times) = window.rsplit_once(' ').context("days and times")?;
    let (from, to) = times.split_once('-').context("from and to")?;
    let days: Vec<&str> = match days {
        "all" => vec!["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        "mon-fri" => vec!["mon", "tue", "wed", "thu", "fri"],
        days => days.split(' ').collect(),
    };
    let holidays: Vec<&str> = holidays.split_whitespace().collect();
    Ok(json!({"days": days, "from": from, "to": to, "holidays": holidays}))
}

async fn set(acme: &Acme, hours: &Value) -> Result<(), tokio_postgres::Error> {
    let sql = "select rotator.set_delivery_window($1)";
    acme.operator.execute(sql, &[hours]).await.map(|_| ())
}

#[tokio::test]
async fn it_opens_and_work_passes_by_the_clocks_of_the_tenants_zone() -> Result<()> {
    let acme = Acme::new().await?;
    for (zone, window, holidays, instant, opening, minutes, passed, why) in CASES {
        acme.db
            .admin
            .execute("update rotator_internal.tenant set time_zone = $1", &[zone])
            .await?;
        set(&acme, &hours(window, holidays)?).await?;
        // Whatever zone the session is in.
        for session in ["UTC", "America/Los_Angeles"] {
            let found = acme
                .db
                .admin
                .query_one(
                    &format!(
                        "select set_config('timezone', '{session}', true),
                            to_char(rotator_internal.next_opening('{instant}+00', t.tenant_id) at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
                            to_char(rotator_internal.add_working_time('{instant}+00', '{minutes} minutes', t.tenant_id) at time zone 'UTC', 'YYYY-MM-DD HH24:MI')
                         from rotator_internal.tenant as t"
                    ),
                    &[],
                )
                .await?;
            let (opens, ends): (String, String) = (found.get(1), found.get(2));
            ensure!(
                (opens.as_str(), ends.as_str()) == (opening, passed),
                "{zone}, {window}, {instant} ({why}): opens {opens}, not {opening}; {minutes} minutes end {ends}, not {passed}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_a_window_it_is_always_open_and_waits_are_those_of_the_calendar() -> Result<()> {
    let acme = Acme::in_zone("Europe/Berlin").await?;
    let found: Value = scalar(
        &acme.db.admin,
        "select jsonb_build_array(
            rotator_internal.next_opening('2026-03-28 03:00+00', t.tenant_id) = '2026-03-28 03:00+00',
            rotator_internal.add_working_time('2026-03-28 23:00+00', '4 hours', t.tenant_id) = '2026-03-29 03:00+00',
            rotator_internal.add_working_time('2026-03-28 08:00+00', '1 day', t.tenant_id) = '2026-03-29 07:00+00',
            rotator_internal.add_working_time('2026-03-28 08:00+00', '0', t.tenant_id) = '2026-03-28 08:00+00')
         from rotator_internal.tenant as t",
        &[],
    )
    .await?;
    assert_eq!(found, json!([true, true, true, true]));
    Ok(())
}

#[tokio::test]
async fn members_see_it_and_a_second_call_replaces_it() -> Result<()> {
    let acme = Acme::new().await?;
    set(
        &acme,
        &hours("all 9:00-24:00", "2030-12-25 2030-01-01 2030-12-25")?,
    )
    .await?;
    let shown = "select days, opens, closes, holidays from rotator.delivery_windows";
    assert_eq!(
        acme.rows(shown).await?,
        json!([{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "opens": "09:00", "closes": "24:00",
                "holidays": ["2030-01-01", "2030-12-25"]}])
    );
    set(
        &acme,
        &json!({"days": ["Sun", "mon"], "from": "00:00", "to": "00:01"}),
    )
    .await?;
    assert_eq!(
        acme.rows(shown).await?,
        json!([{"days": ["mon", "sun"], "opens": "00:00", "closes": "00:01", "holidays": []}])
    );
    for _ in 0..2 {
        set(&acme, &Value::Null).await?;
    }
    assert_eq!(acme.rows(shown).await?, json!([]));
    let events: Value = scalar(
        &acme.operator,
        "select jsonb_agg(action order by id) from rotator.audit_log where entity = 'delivery_window'",
        &[],
    )
    .await?;
    assert_eq!(
        events,
        json!([
            "delivery_window.set",
            "delivery_window.set",
            "delivery_window.removed"
        ])
    );
    Ok(())
}

#[tokio::test]
async fn what_is_no_window_is_refused_and_the_old_one_stays() -> Result<()> {
    let acme = Acme::new().await?;
    set(&acme, &hours("mon-fri 09:00-17:00", "")?).await?;
    let auditor = acme.db.session("acme", "auditor").await?;
    let before = acme.fingerprint().await?;
    let year: Vec<String> = (0..366)
        .map(|day| format!("(now() + interval '{day} days')::date"))
        .collect();
    let year: Value = scalar(
        &acme.db.admin,
        &format!("select to_jsonb(array[{}])", year.join(", ")),
        &[],
    )
    .await?;
    let week = json!(["mon", "tue", "wed", "thu", "fri", "sat", "sun"]);
    for wrong in [
        json!([]),
        json!("mon 09:00-17:00"),
        json!(7),
        json!({}),
        json!({"days": ["mon"], "from": "09:00"}),
        json!({"days": ["mon"], "from": "09:00", "to": "17:00", "zone": "UTC"}),
        json!({"days": [], "from": "09:00", "to": "17:00"}),
        json!({"days": ["monday"], "from": "09:00", "to": "17:00"}),
        json!({"days": [null], "from": "09:00", "to": "17:00"}),
        json!({"days": [1], "from": "09:00", "to": "17:00"}),
        json!({"days": "mon", "from": "09:00", "to": "17:00"}),
        json!({"days": ["mon"], "from": "17:00", "to": "09:00"}),
        json!({"days": ["mon"], "from": "09:00", "to": "09:00"}),
        json!({"days": ["mon"], "from": "24:00", "to": "24:00"}),
        json!({"days": ["mon"], "from": "09:00", "to": "25:00"}),
        json!({"days": ["mon"], "from": "09:00", "to": "24:01"}),
        json!({"days": ["mon"], "from": "nine", "to": "17:00"}),
        json!({"days": ["mon"], "from": 9, "to": 17}),
        json!({"days": ["mon"], "from": null, "to": "17:00"}),
        json!({"days": ["mon"], "from": "now", "to": "allballs"}),
        json!({"days": ["mon"], "from": "09:00", "to": "17:00", "holidays": "2030-12-25"}),
        json!({"days": ["mon"], "from": "09:00", "to": "17:00", "holidays": ["25.12.2030"]}),
        json!({"days": ["mon"], "from": "09:00", "to": "17:00", "holidays": ["2030-02-30"]}),
        json!({"days": ["mon"], "from": "09:00", "to": "17:00", "holidays": ["today"]}),
        json!({"days": ["mon"], "from": "09:00", "to": "17:00", "holidays": [null]}),
        json!({"days": ["mon"], "from": "09:00", "to": "17:00", "holidays": vec!["2030-12-25"; 1001]}),
        json!({"days": week, "from": "00:00", "to": "24:00", "holidays": year}),
    ] {
        let outcome = acme
            .operator
            .query("select rotator.set_delivery_window($1)", &[&wrong])
            .await;
        refused(outcome, "22023").map_err(|error| error.context(wrong.to_string()))?;
    }
    for session in [&acme.editor, &auditor] {
        let outcome = session
            .query("select rotator.set_delivery_window(null)", &[])
            .await;
        refused(outcome, "42501")?;
    }
    assert_eq!(acme.fingerprint().await?, before);
    Ok(())
}
