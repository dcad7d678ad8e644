//! Pressing the button: acknowledge, or rotated; each counts once a cycle, and what was done is said again.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use uuid::Uuid;

use crate::link_page::{get, post};
use crate::outbox::Desk;
use crate::seed::Acme;

/// State of the secret's alert and who acknowledged it.
pub async fn alert(acme: &Acme, secret: Uuid) -> Result<(String, Option<String>)> {
    let sql = "select state, acknowledged_by from rotator.alerts where secret_id = $1 order by cycle limit 1";
    let row = acme.operator.query_one(sql, &[&secret]).await?;
    Ok((row.get(0), row.get(1)))
}

#[tokio::test]
async fn acknowledging_counts_once_and_leaves_rotated_usable() -> Result<()> {
    let desk = Desk::new().await?;
    let secret = desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;

    let (status, page) = post(&link, "action=acknowledge&note=on+it").await?;
    ensure!(
        status == 200
            && page.contains("Acknowledged")
            && page.contains("Nobody is told about it until "),
        "{status} {page}"
    );
    ensure!(
        alert(&desk.acme, secret).await? == ("acknowledged".to_owned(), Some("dana".to_owned()))
    );

    let before = desk.acme.fingerprint().await?;
    let (status, page) = post(&link, "action=acknowledge").await?;
    ensure!(
        status == 200 && page.contains("Already acknowledged") && page.contains("dana"),
        "{status} {page}"
    );
    ensure!(
        desk.acme.fingerprint().await? == before,
        "a repeat changes nothing"
    );

    let (status, page) = get(&link).await?;
    ensure!(
        status == 200 && page.contains("Acknowledged") && page.contains("by dana"),
        "{page}"
    );
    ensure!(
        !page.contains("value=\"acknowledge\"") && page.contains("value=\"rotated\""),
        "{page}"
    );
    let (status, page) = post(&link, "action=rotated").await?;
    ensure!(
        status == 200 && page.contains("Marked as rotated"),
        "{status} {page}"
    );
    ensure!(alert(&desk.acme, secret).await?.0 == "resolved");
    Ok(())
}

#[tokio::test]
async fn rotated_moves_the_calendar_by_the_interval_and_ends_the_link() -> Result<()> {
    let desk = Desk::new().await?;
    let secret = desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    let (status, page) = post(&link, "action=rotated").await?;
    ensure!(
        status == 200 && page.contains("Marked as rotated") && page.contains("It expires next"),
        "{page}"
    );
    let moved: bool = scalar(
        &desk.acme.operator,
        "select cycle = 2 and expiry_date between now() + interval '89 days 23 hours' and now() + interval '90 days 1 hour'
             and last_rotated_at > now() - interval '1 minute'
         from rotator.secrets where id = $1",
        &[&secret],
    )
    .await?;
    ensure!(moved);
    let before = desk.acme.fingerprint().await?;
    let (status, page) = post(&link, "action=rotated").await?;
    ensure!(
        status == 200 && page.contains("Already marked as rotated") && page.contains("dana"),
        "{status} {page}"
    );
    let (status, _) = get(&link).await?;
    ensure!(status == 410, "what it was about is over");
    ensure!(desk.acme.fingerprint().await? == before);
    Ok(())
}

#[tokio::test]
async fn without_an_interval_the_next_date_counts_in_the_tenants_zone() -> Result<()> {
    let desk = Desk::of(Acme::in_zone("Europe/Berlin").await?).await?;
    let secret = desk
        .acme
        .register(
            "api.acme.com",
            "expiry_date => now() + interval '5 days', owner_id => 'dana'",
        )
        .await?;
    let link = desk.link().await?;
    let before = desk.acme.fingerprint().await?;
    for form in [
        "action=rotated",
        "action=rotated&next_expiry_date=",
        "action=rotated&next_expiry_date=soon",
        "action=rotated&next_expiry_date=2031-02-30",
        "action=rotated&next_expiry_date=2001-01-01",
    ] {
        let (status, page) = post(&link, form).await?;
        ensure!(
            status == 422 && page.contains("Nothing was changed"),
            "{form}: {status} {page}"
        );
        ensure!(
            page.contains("value=\"rotated\"") && !page.contains("checked"),
            "the form again: {page}"
        );
        // In words, not in names of parameters.
        let past = "the new expiry date must lie after the rotation.";
        ensure!(
            !page.contains("rotated_at") && form.contains("2001") == page.contains(past),
            "{page}"
        );
    }
    ensure!(desk.acme.fingerprint().await? == before);

    let (status, page) = post(&link, "action=rotated&next_expiry_date=2031-07-01").await?;
    ensure!(
        status == 200 && page.contains("1 Jul 2031"),
        "{status} {page}"
    );
    let right: bool = scalar(
        &desk.acme.operator,
        "select expiry_date = '2031-06-30 22:00:00+00' from rotator.secrets where id = $1",
        &[&secret],
    )
    .await?;
    ensure!(right, "the day begins where the tenant is");
    Ok(())
}

#[tokio::test]
async fn without_a_choice_nothing_happens() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    let before = desk.acme.fingerprint().await?;
    for form in [
        "",
        "action=",
        "note=hello",
        "action=show",
        "snooze_until=2031-01-01",
        "action=acknowledge&action=rotated",
        "ACTION=acknowledge",
    ] {
        let (status, page) = post(&link, form).await?;
        ensure!(
            status == 422 && page.contains("choose one"),
            "{form:?}: {status} {page}"
        );
    }
    ensure!(desk.acme.fingerprint().await? == before);
    Ok(())
}

/// Until when the secret is snoozed, as the tenant reads it, and why.
pub async fn snoozed(acme: &Acme, secret: Uuid) -> Result<(Option<String>, Option<String>)> {
    let sql = "select to_char(s.snoozed_until at time zone 'Europe/Berlin', 'YYYY-MM-DD HH24:MI'),
                   (select e.changes ->> 'reason' from rotator.audit_log as e
                    where e.action = 'secret.snoozed' and e.entity_id = s.id::text order by e.id desc limit 1)
               from rotator.secrets as s where s.id = $1";
    let row = acme.operator.query_one(sql, &[&secret]).await?;
    Ok((row.get(0), row.get(1)))
}

#[tokio::test]
async fn snoozing_needs_only_the_choice_and_ends_before_it_expires() -> Result<()> {
    let desk = Desk::of(Acme::in_zone("Europe/Berlin").await?).await?;
    let register = async |name: &str, days: f64| -> Result<(Uuid, String)> {
        let with = format!(
            "owner_id => 'dana', rotation_interval => '90 days',
             expiry_date => (date_trunc('day', now() at time zone 'Europe/Berlin') + interval '12 hours')
                 at time zone 'Europe/Berlin' + {days} * interval '1 day'"
        );
        let secret = desk.acme.register(name, &with).await?;
        Ok((secret, desk.link().await?))
    };
    let day = async |days: i32| -> Result<String> {
        let sql = "select to_char((now() at time zone 'Europe/Berlin')::date + $1::integer, 'YYYY-MM-DD')";
        scalar(&desk.acme.operator, sql, &[&days]).await
    };

    let (week, link) = register("in a week", 6.0).await?;
    let (_, page) = get(&link).await?;
    ensure!(
        page.contains(&format!("value=\"{}\"", day(3).await?)),
        "three days: {page}"
    );
    let (status, page) = post(&link, "action=snooze").await?;
    ensure!(
        status == 200
            && page.contains("<h1>Snoozed")
            && page.contains("in a week is snoozed.")
            && page.contains("Nobody is told about it until "),
        "{status} {page}"
    );
    let until = format!("{} 08:00", day(3).await?);
    ensure!(
        snoozed(&desk.acme, week).await?
            == (Some(until.clone()), Some("snoozed by link".to_owned()))
    );
    let before = desk.acme.fingerprint().await?;
    let (status, page) = post(&link, "action=snooze").await?;
    ensure!(
        status == 200 && page.contains("Already snoozed") && page.contains("by dana"),
        "{status} {page}"
    );
    ensure!(
        desk.acme.fingerprint().await? == before,
        "a repeat changes nothing"
    );
    let (_, page) = get(&link).await?;
    ensure!(
        page.contains("<dt>Snoozed") && page.contains(", by dana"),
        "{page}"
    );

    // Another day, and why; what can't be is said, and nothing is changed.
    for (form, said) in [
        ("action=snooze&snooze_until=soon", "is not a date"),
        ("action=snooze&snooze_until=2001-01-01", "in the past"),
        (
            "action=snooze&snooze_until=2031-01-01",
            "past the expiry date",
        ),
    ] {
        let (status, page) = post(&link, form).await?;
        ensure!(
            status == 422 && page.contains(said) && page.contains("<form"),
            "{form}: {status} {page}"
        );
    }
    ensure!(desk.acme.fingerprint().await? == before);
    let form = format!(
        "action=snooze&snooze_until={}&note=the+vendor+is+away",
        day(5).await?
    );
    ensure!(post(&link, &form).await?.0 == 200);
    let until = format!("{} 08:00", day(5).await?);
    ensure!(
        snoozed(&desk.acme, week).await? == (Some(until), Some("the vendor is away".to_owned()))
    );

    // Near its date there is less to choose, and once it is late nothing: only an admin may then.
    let (soon, link) = register("the day after tomorrow", 2.0).await?;
    ensure!(post(&link, "action=snooze").await?.0 == 200);
    ensure!(snoozed(&desk.acme, soon).await?.0 == Some(format!("{} 08:00", day(1).await?)));
    let (late, link) = register("late", -3.0).await?;
    let (_, page) = get(&link).await?;
    ensure!(
        !page.contains("value=\"snooze\"") && page.contains("value=\"acknowledge\""),
        "{page}"
    );
    let (status, page) = post(&link, "action=snooze").await?;
    ensure!(
        status == 422 && page.contains("only an admin can snooze it"),
        "{status} {page}"
    );
    ensure!(snoozed(&desk.acme, late).await?.0.is_none());
    Ok(())
}

#[tokio::test]
async fn a_note_that_looks_like_a_secret_value_is_refused_and_not_shown_again() -> Result<()> {
    let desk = Desk::new().await?;
    desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    let before = desk.acme.fingerprint().await?;
    let value = format!("ghp_{}", "a1B2c3D4e5".repeat(4).split_at(36).0);
    let (status, page) = post(
        &link,
        &format!("action=acknowledge&note=new+one+is+{value}"),
    )
    .await?;
    ensure!(
        status == 422 && page.contains("looks like a secret value"),
        "{status} {page}"
    );
    ensure!(!page.contains(&value));
    ensure!(desk.acme.fingerprint().await? == before);
    ensure!(!desk.sidecar.log()?.contains(&value));
    Ok(())
}

#[tokio::test]
async fn pressed_by_many_at_once_it_counts_once() -> Result<()> {
    let desk = Desk::new().await?;
    let secret = desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    for (form, fresh) in [
        ("action=acknowledge", "<h1>Acknowledged"),
        ("action=rotated", "<h1>Marked as rotated"),
    ] {
        let mut presses = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let link = link.clone();
            presses.spawn(async move { post(&link, form).await });
        }
        let mut counted = 0;
        for answer in presses.join_all().await {
            let (status, page) = answer?;
            ensure!(
                status == 200 && (page.contains(fresh) || page.contains("<h1>Already")),
                "{status} {page}"
            );
            counted += usize::from(page.contains(fresh));
        }
        ensure!(counted == 1, "{form} counted {counted} times");
    }
    let cycle: i32 = scalar(
        &desk.acme.operator,
        "select cycle from rotator.secrets where id = $1",
        &[&secret],
    )
    .await?;
    ensure!(cycle == 2, "rotated once");
    Ok(())
}

#[tokio::test]
async fn with_nothing_left_to_acknowledge_the_page_says_so() -> Result<()> {
    let desk = Desk::new().await?;
    let secret = desk.acme.due("stripe-live").await?;
    let link = desk.link().await?;
    // The date was wrong: it is corrected to one that isn't due for long.
    desk.acme
        .operator
        .execute(
            "update rotator.secrets set expiry_date = now() + interval '300 days' where id = $1",
            &[&secret],
        )
        .await?;
    ensure!(get(&link).await?.0 == 200);
    let before = desk.acme.fingerprint().await?;
    let (status, page) = post(&link, "action=acknowledge").await?;
    ensure!(
        status == 409 && page.contains("Nothing was changed"),
        "{status} {page}"
    );
    ensure!(desk.acme.fingerprint().await? == before);
    Ok(())
}
