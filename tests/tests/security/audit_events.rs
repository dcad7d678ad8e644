//! The list of actions: every one that the code can write is here, what people do is provoked here, and its event says who,
//! through what, about what, and what changed. What the engine does by itself is provoked in `audit_events_engine`.

use anyhow::{Context, Result, ensure};
use rotator_tests::{Role, TestDb};
use serde_json::Value;
use tokio_postgres::Client;

use crate::fixture::{populate, text, texts};

/// An action, the statement that does it, what its entity is called, and the keys of what changed.
const DONE_BY_PEOPLE: &[(&str, &str, &str, &[&str])] = &[
    (
        "secret.registered",
        "select rotator.register_secret('one', rotation_interval => '1 day', purpose => 'p', labels => '{\"a\": \"b\"}')",
        "secret",
        &[
            "name",
            "owner_id",
            "purpose",
            "labels",
            "rotation_interval",
            "encrypted",
        ],
    ),
    (
        "secret.updated",
        "update rotator.secrets set name = 'due', environment = 'prod', priority = 'P1' where external_id = 'due'",
        "secret",
        &["name", "environment", "priority", "encrypted"],
    ),
    (
        "secret.rotated",
        "select rotator.mark_rotated(id, next_expiry_date => now() + interval '40 days', note => 'done') from rotator.secrets where external_id = 'due'",
        "secret",
        &["rotated_at", "expiry_date", "cycle", "note"],
    ),
    (
        "secret.retired",
        "select rotator.retire_secret(id, 'unused') from rotator.secrets where external_id = 'due'",
        "secret",
        &["reason"],
    ),
    (
        "alert.acknowledged",
        "select rotator.acknowledge(id, 'on it') from rotator.secrets where external_id = 'due'",
        "secret",
        &["alert", "cycle", "note"],
    ),
    (
        "contact.set",
        "select rotator.set_contact('ann', 'email', 'ann@acme.example')",
        "contact",
        &["owner_id", "channel", "recipient", "encrypted"],
    ),
    (
        "policy.added",
        "select rotator.add_notification_policy(30, 'email', 'all@acme.example')",
        "notification_policy",
        &["lead_time_days", "channel", "recipient", "encrypted"],
    ),
    (
        "policy.removed",
        "select rotator.remove_notification_policy(min(id::text)::uuid) from rotator.notification_policies",
        "notification_policy",
        &["lead_time_days"],
    ),
    (
        "member.added",
        "select rotator.add_member('ann', 'editor')",
        "member",
        &["role"],
    ),
    (
        "member.removed",
        "select rotator.add_member('ann'); select rotator.remove_member('ann')",
        "member",
        &["role"],
    ),
    (
        "notification.test",
        "select rotator.test_notification('email', 'ann@acme.example')",
        "notification",
        &["channel", "encrypted"],
    ),
    (
        "key.rotated",
        "select rotator.rotate_key(reason => 'drill')",
        "key",
        &[],
    ),
    (
        "key.rolled_back",
        "select rotator.rollback_key_rotation(rotator.rotate_key())",
        "key_rotation",
        &[],
    ),
    (
        "key.schedule_set",
        "select rotator.set_key_schedule('30 days')",
        "key_schedule",
        &["old", "new"],
    ),
    (
        "value.allowed",
        "select rotator.allow_value('note', 'vX9q2LmT7bRw4KpZ8sYd', 'a build number')",
        "field",
        &["rule", "reason"],
    ),
    (
        "audit.exported",
        "select rotator.record_audit_export()",
        "audit",
        &["scope"],
    ),
];

/// The same for operators.
const DONE_BY_OPERATORS: &[(&str, &str, &str, &[&str])] = &[
    (
        "tenant.created",
        "select rotator.create_tenant('gamma', 'Gamma')",
        "tenant",
        &["slug", "name", "time_zone"],
    ),
    (
        "tenant.offboarded",
        "select rotator.offboard_tenant('acme', 'acme')",
        "tenant",
        &["slug", "keys_destroyed"],
    ),
    (
        "key.retired",
        "select rotator.rotate_key('acme'); do $$ begin while (rotator.reencrypt_step(1000) ->> 'remaining')::int > 0 loop end loop; end $$; select rotator.retire_key(1, 'acme')",
        "key",
        &["version"],
    ),
    (
        "key.destroyed",
        "select rotator.rotate_key('acme'); do $$ begin while (rotator.reencrypt_step(1000) ->> 'remaining')::int > 0 loop end loop; end $$; select rotator.retire_key(1, 'acme'); select rotator.destroy_key(1, 'acme/1', 'acme')",
        "key",
        &["version"],
    ),
    (
        "encrypted_column.registered",
        "select rotator.register_encrypted_column('document', 'body', 'document.body', 'id', 'tenant')",
        "encrypted_column",
        &[],
    ),
    (
        "encrypted_column.unregistered",
        "select rotator.register_encrypted_column('document', 'body', 'document.body', 'id', 'tenant'); select rotator.unregister_encrypted_column('public.document', 'body')",
        "encrypted_column",
        &[],
    ),
];

/// Actions that other modules provoke, and the file that does.
const ELSEWHERE: &[(&str, &str)] = &[
    ("acknowledge.queued", "security/audit_events_engine.rs"),
    ("key.rotation_completed", "security/audit_events_engine.rs"),
    ("key.rotation_failed", "security/audit_events_engine.rs"),
    ("key.rotation_progress", "security/audit_events_engine.rs"),
    ("key.rotation_retried", "security/audit_events_engine.rs"),
    ("key.rotation_stalled", "security/audit_events_engine.rs"),
    ("key_rotation.queued", "security/audit_events_engine.rs"),
    ("link.refused", "security/audit_events_engine.rs"),
    ("master_key.rewrapped", "security/master_key_change.rs"),
    ("notification.cancelled", "security/audit_events_engine.rs"),
    ("notification.dead", "security/audit_events_engine.rs"),
    ("notification.sent", "security/audit_events_engine.rs"),
    ("reminder.merged", "security/audit_events_engine.rs"),
    ("reminder.queued", "security/audit_events_engine.rs"),
    ("resolve.queued", "security/audit_events_engine.rs"),
    ("schedule.disabled", "security/audit_events_engine.rs"),
    ("schedule.enabled", "security/audit_events_engine.rs"),
    ("summary.queued", "security/audit_events_engine.rs"),
];

/// Names in functions that look like actions and are none: labels of fields, settings, and beginnings of actions.
const NO_ACTIONS: &[&str] = &[
    "audit_value.changed",
    "audit_value.name",
    "audit_value.provider_ref",
    "audit_value.purpose",
    "notification.retry",
    "recipient.address",
    "request.headers",
    "request.jwt",
    "secret.name",
    "secret.provider_ref",
    "secret.purpose",
];

async fn expect_event(
    db: &TestDb,
    session: &Client,
    actor: &str,
    done: &(&str, &str, &str, &[&str]),
) -> Result<()> {
    let (action, statement, entity, keys) = *done;
    let before = text(
        &db.admin,
        "select coalesce(max(id), 0) from rotator_internal.audit_event",
    )
    .await?;
    session.batch_execute("begin").await?;
    session
        .batch_execute(statement)
        .await
        .with_context(|| format!("{action}: {statement}"))?;
    session.batch_execute("commit").await?;
    let row = db
        .admin
        .query_one(
            &format!(
                "select actor, source, entity, entity_id is not null or entity = 'audit', changes, request_id is null,
                     occurred_at between now() - interval '1 minute' and clock_timestamp(), transaction_id::text
                 from rotator.audit_log where id > {before} and action = '{action}' order by id desc limit 1"
            ),
            &[],
        )
        .await
        .with_context(|| format!("no event {action} after {statement}"))?;
    let changes: Value = row.get(4);
    ensure!(
        row.get::<_, &str>(0) == actor
            && row.get::<_, &str>(1) == "sql"
            && row.get::<_, &str>(2) == entity,
        "{action}: {row:?}"
    );
    ensure!(row.get(3) && row.get(5) && row.get(6), "{action}: {row:?}");
    for key in keys {
        ensure!(
            changes.get(key).is_some(),
            "{action} doesn't say {key}: {changes}"
        );
    }
    Ok(())
}

/// A copy of one prepared database for each: what one action does must not be in the way of the next.
async fn prepared() -> Result<(TestDb, Role)> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    populate(&db, "acme").await?;
    db.admin
        .batch_execute(
            "create table document (id text primary key, tenant uuid, body bytea);
             grant all on document to public",
        )
        .await?;
    let admin = db.member("acme", "admin").await?;
    Ok((db, admin))
}

#[tokio::test]
async fn what_people_do_says_who_and_what_changed() -> Result<()> {
    for done in DONE_BY_PEOPLE {
        let (db, admin) = prepared().await?;
        let session = db.connect_as(&admin).await?;
        expect_event(&db, &session, &admin.subject(), done).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_operators_do_says_who_and_what_changed() -> Result<()> {
    for done in DONE_BY_OPERATORS {
        let (db, _) = prepared().await?;
        let operator = db.login_role("operator", &["rotator_admin"]).await?;
        db.admin
            .batch_execute(&format!("alter table document owner to {}", operator.name))
            .await?;
        let session = db.connect_as(&operator).await?;
        expect_event(&db, &session, &operator.subject(), done).await?;
        db.admin
            .batch_execute("drop table if exists document")
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn every_action_that_the_code_can_write_is_on_the_list() -> Result<()> {
    let db = TestDb::new().await?;
    let written = texts(
        &db.admin,
        "select distinct m[1] from pg_proc p cross join lateral regexp_matches(p.prosrc, '''([a-z_]+[.][a-z_]+)''', 'g') as m
         where p.pronamespace in ('rotator'::regnamespace, 'rotator_internal'::regnamespace)
           and (p.prosrc like '%record_event%' or p.prosrc like '%audit_event%') order by 1",
    )
    .await?;
    let known: Vec<&str> = DONE_BY_PEOPLE
        .iter()
        .chain(DONE_BY_OPERATORS)
        .map(|done| done.0)
        .chain(ELSEWHERE.iter().map(|action| action.0))
        .collect();
    for action in &written {
        let is_ours = known.contains(&action.as_str())
            || NO_ACTIONS.contains(&action.as_str())
            || action.starts_with("rotator");
        ensure!(
            is_ours,
            "{action} is on no list: add it, with what provokes it"
        );
    }
    // The other way round; those put together from parts ('notification.' || state) can't be read off.
    for action in known.iter().filter(|action| {
        !action.ends_with(".queued")
            && !action.starts_with("notification.")
            && !action.starts_with("reminder.")
    }) {
        ensure!(
            written.iter().any(|found| found == action),
            "nothing writes {action} any more"
        );
    }
    for (action, file) in ELSEWHERE {
        let source = std::fs::read_to_string(
            rotator_tests::scratch::root()
                .join("tests/tests")
                .join(file),
        )?;
        ensure!(source.contains(action), "{file} doesn't provoke {action}");
    }
    Ok(())
}
