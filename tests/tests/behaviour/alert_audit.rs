//! No change without its event: triggers note whatever changes about alerts, notifications, ladders, windows, contacts and
//! identities, and each change has an event of its own transaction and tenant. Then the log is sealed and verifies. Which
//! event says what: `audit_events` in `security/`.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use serde_json::{Value, json};

use crate::escalation::{acme_with, tick_in};
use crate::seed::{Acme, Claim, rows};

/// Where work begins or goes on as it was (leased, another try, given back) there is no event, nor when only the tick's own
/// times move: the attempt itself is the record.
const WATCH: &str = r"
    create schema watch;
    create table watch.change (xact xid8, tenant uuid, what text);
    create function watch.note() returns trigger language plpgsql security definer as $watch$
    declare
        before jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) else '{}' end;
        after jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) else '{}' end;
        looked_at text[] := case tg_table_name
            when 'notification' then '{state,undeliverable_at}'::text[]
            when 'alert' then '{state,opened_at,acknowledged_at,acknowledged_by,acknowledged_until,resolved_at}'
            when 'secret' then '{name,priority,owner_id,secondary_owner_id,team_lead_id,expiry_date,cycle,snoozed_until,retired_at,last_rotated_at}'
        end;
    begin
        if tg_op = 'UPDATE' and looked_at is not null and not exists (
            select from unnest(looked_at) as f (field) where before -> field is distinct from after -> field) then
            return null;
        elsif tg_table_name = 'notification' and (
            after ->> 'state' in ('leased', 'retry') or (before ->> 'state' = 'leased' and after ->> 'state' = 'queued')) then
            return null;
        end if;
        insert into watch.change values (
            pg_current_xact_id(), coalesce(after ->> 'tenant_id', before ->> 'tenant_id')::uuid,
            concat_ws(' ', tg_table_name, lower(tg_op), before ->> 'state', after ->> 'state'));
        return null;
    end $watch$;
    do $watch$
    declare watched text;
    begin
        foreach watched in array array['secret', 'alert', 'notification', 'contact', 'identity_link', 'escalation_policy',
            'escalation_step', 'escalation_choice', 'delivery_window', 'notification_policy', 'member', 'link_action', 'rotation'] loop
            execute format('create trigger watch after insert or update or delete on rotator_internal.%I for each row execute function watch.note()', watched);
        end loop;
    end $watch$";

async fn claims_of(acme: &Acme) -> Result<Vec<Claim>> {
    acme.end_waiting().await?;
    acme.claim().await
}

/// Everything that people, vendors and the clock do about alerts, each in a transaction of its own.
async fn live(acme: &Acme) -> Result<()> {
    for step in [
        "select rotator.add_member('ann', 'admin')",
        "select rotator.link_identity('olga', 'slack', 'T1/U1')",
        "select rotator.link_identity('sam', 'pagerduty', 'PSAM')",
        "select rotator.link_identity('sam', 'email', 'sam@acme.example')",
        "select rotator.unlink_identity('email', 'sam@acme.example')",
        "select rotator.set_escalation_policy('pay', '[{\"after\": \"1 hour\", \"target\": \"secondary_owner\"}, {\"after\": \"2 hours\", \"target\": \"manager\"}, {\"after\": \"3 hours\", \"recipient\": \"desk\", \"channel\": \"console\", \"repeat_every\": \"1 hour\", \"repeats\": 2}]', '{P2}')",
        "select rotator.set_escalation_policy('all', '[{\"after\": \"1 hour\", \"target\": \"admins\"}]', '{P2,P3}')",
        "select rotator.register_secret(n, owner_id => 'olga', secondary_owner_id => 'sam', rotation_interval => '90 days', priority => 'P1', expiry_date => now() + interval '20 hours') from unnest('{a,b,c,d,e,f}'::text[]) as n",
        "select rotator.use_escalation_policy(id, 'pay') from rotator.secrets where name in ('a', 'b')",
        "select rotator.use_escalation_policy(id, null) from rotator.secrets where name = 'b'",
        "select rotator.register_secret('g', owner_id => 'mute', rotation_interval => '90 days', expiry_date => now() + interval '20 hours')",
    ] {
        acme.operator.batch_execute(step).await?;
    }
    acme.tick().await?;
    let press = "select rotator.press_button($1, $2, 'slack', 'T1/U1', until => now() + interval '2 hours')";
    for claim in claims_of(acme).await? {
        if claim.channel == "pagerduty" {
            acme.complete(&claim).await?;
            let key = format!(
                "rotator.{}.1",
                claim.message["secret"]["id"].as_str().unwrap_or_default()
            );
            if claim.message["secret"]["name"] == "c" {
                let acknowledged = "select rotator.acknowledge_incident($1, 'PSAM')";
                scalar::<Value>(&acme.worker, acknowledged, &[&key]).await?;
            }
        } else {
            let items = claim.message["items"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for item in &items {
                let action = match item["secret"]["name"].as_str() {
                    Some("d") => "acknowledge",
                    Some("e") => "snooze",
                    Some("f") => "rotated",
                    _ => continue,
                };
                let token = item["link_token"].as_str();
                scalar::<Value>(&acme.worker, press, &[&token, &action]).await?;
            }
            acme.fail(
                &claim,
                if items.is_empty() {
                    "recipient_gone"
                } else {
                    "timeout"
                },
            )
            .await?;
        }
    }
    let token =
        "select rotator.record_press_refusal($1, 'acknowledge', 'stranger', 'slack', 'T9/U9')";
    for hours in [1.1, 2.1, 3.1, 4.1, 5.2] {
        tick_in(acme, hours).await?;
        for claim in claims_of(acme).await? {
            acme.worker.execute(token, &[&claim.link_token]).await?;
            let reason = match claim.channel.as_str() {
                "email" => "permanent",
                "pagerduty" => "recipient_gone",
                _ => "timeout",
            };
            acme.fail(&claim, reason).await?;
        }
    }
    for step in [
        "select rotator.set_delivery_window(jsonb_build_object('days', (select jsonb_agg(lower(to_char(now() at time zone 'UTC' + interval '1 day' * n, 'Dy'))) from generate_series(3, 4) as n), 'from', '00:00', 'to', '24:00'))",
        "select rotator.register_secret('late ' || n, owner_id => 'olga', rotation_interval => '90 days', expiry_date => now() + interval '6 days') from generate_series(1, 3) as n",
    ] {
        acme.operator.batch_execute(step).await?;
    }
    tick_in(acme, 5.3).await?;
    for step in [
        "update rotator.secrets set priority = 'P1' where name = 'late 1'",
        "select rotator.reassign_secrets('olga', 'sam')",
        "select rotator.set_contact('olga', 'console', 'olga anew')",
        "select rotator.remove_escalation_policy('pay')",
    ] {
        acme.operator.batch_execute(step).await?;
        tick_in(acme, 5.4).await?;
    }
    tick_in(acme, 24.0 * 3.2).await?;
    for claim in claims_of(acme).await? {
        acme.complete(&claim).await?;
    }
    for step in [
        "select rotator.snooze(id, now() + interval '1 hour', 'a moment') from rotator.secrets where name = 'b'",
        "update rotator.secrets set expiry_date = now() + interval '200 days' where name = 'a'",
        "update rotator.secrets set expiry_date = now() + interval '3 days' where name = 'a'",
        "select rotator.acknowledge(id, until => now() + interval '1 hour') from rotator.secrets where name = 'late 2'",
        "select rotator.mark_rotated(id) from rotator.secrets where name = 'late 3'",
        "select rotator.retire_secret(id) from rotator.secrets where name = 'd'",
        "select rotator.set_delivery_window(null)",
        "select rotator.register_secret('x', owner_id => 'sam', priority => 'P1', rotation_interval => '9 days', expiry_date => now() + interval '20 hours')",
        "select rotator.acknowledge(id) from rotator.secrets where name = 'x'",
        "select rotator.register_secret('y', owner_id => 'sam', priority => 'P1', rotation_interval => '9 days', expiry_date => now() + interval '20 hours')",
        "select rotator.retire_secret(id) from rotator.secrets where name = 'y'",
        "select rotator.remove_member('ann')",
    ] {
        acme.operator.batch_execute(step).await?;
        acme.tick().await?;
    }
    tick_in(acme, 24.0 * 20.0).await?;
    claims_of(acme).await?;
    acme.tick().await?;
    Ok(())
}

#[tokio::test]
async fn no_change_is_without_its_event_and_the_log_verifies() -> Result<()> {
    let acme = acme_with(&[
        ("olga", "console"),
        ("sam", "console"),
        ("sam", "pagerduty"),
        ("olga", "pagerduty"),
        ("manager", "email"),
        ("ann", "email"),
    ])
    .await?;
    acme.db.admin.batch_execute(WATCH).await?;
    live(&acme).await?;
    let without = rows(
        &acme.db.admin,
        "select c.what, count(*) from watch.change as c
         where not exists (
            select from rotator_internal.audit_event as e where e.transaction_id = c.xact and e.tenant_id = c.tenant)
         group by c.what order by 1",
    )
    .await?;
    assert_eq!(without, json!([]));
    let kinds: Value = scalar(
        &acme.db.admin,
        "select jsonb_agg(distinct what) from watch.change",
        &[],
    )
    .await?;
    // Each kind of change that there is has happened, or this shows nothing.
    for expected in [
        "alert update open acknowledged",
        "alert update acknowledged open",
        "alert update open resolved",
        "alert update resolved open",
        "notification insert queued",
        "notification insert suppressed",
        "notification update queued deferred",
        "notification update deferred queued",
        "notification update queued merged",
        "notification update merged cancelled",
        "notification update leased sent",
        "notification update leased dead",
        "notification update queued suppressed",
        "notification update queued cancelled",
        "identity_link delete",
        "escalation_choice delete",
        "delivery_window delete",
        "link_action insert",
        "contact update",
        "secret update",
        "rotation insert",
    ] {
        ensure!(
            kinds
                .as_array()
                .is_some_and(|kinds| kinds.contains(&json!(expected))),
            "no {expected} among {kinds}"
        );
    }
    acme.tick().await?;
    acme.tick().await?;
    let verdict = rows(
        &acme.operator,
        "select ok, checked > 100 as many, first_bad_id from rotator.verify_audit('acme')",
    )
    .await?;
    assert_eq!(
        verdict,
        json!([{"ok": true, "many": true, "first_bad_id": null}])
    );
    Ok(())
}
