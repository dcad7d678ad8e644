//! Who may call what: every function, procedure and view of schema rotator, as they are in the catalog, tried by every
//! kind of role. What a member may then do in the tenant is in `member_roles`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

use crate::fixture::{TwoTenants, texts};

const ANYBODY: &[&str] = &[
    "current_actor",
    "current_member_role",
    "current_tenant",
    "current_time_zone",
    "use_tenant",
];
const MEMBERS: &[&str] = &[
    "acknowledge",
    "snooze",
    "reassign_secrets",
    "allow_value",
    "add_member",
    "add_notification_policy",
    "decrypt",
    "encrypt",
    "import_secrets",
    "link_identity",
    "unlink_identity",
    "identities",
    "mark_rotated",
    "register_secret",
    "remove_member",
    "remove_notification_policy",
    "set_delivery_window",
    "preview_schedule",
    "explain_notifications",
    "set_escalation_policy",
    "use_escalation_policy",
    "remove_escalation_policy",
    "retire_secret",
    "rotate_key",
    "search_secrets",
    "set_contact",
    "test_notification",
    "alerts",
    "contacts",
    "encryption_keys",
    "notification_policies",
    "notifications",
    "undeliverable",
    "overview",
    "coverage",
    "delivery_windows",
    "escalation_policies",
    "secrets",
    "audit_log",
    "audit_blocks",
    "audit_leaves",
    "audit_values",
    "audit_seal_position",
    "record_audit_export",
    "verify_audit",
    "destroy_key",
    "key_rotations",
    "key_schedules",
    "retire_key",
    "retry_key_rotation",
    "rollback_key_rotation",
    "set_key_schedule",
];
const OPERATORS: &[&str] = &[
    "create_tenant",
    "disable_schedule",
    "doctor",
    "enable_schedule",
    "engine_status",
    "run_tick",
    "scan_texts",
    "tick",
    "encrypted_columns",
    "offboard_tenant",
    "reencrypt_step",
    "register_encrypted_column",
    "record_schedule",
    "reload_master_key",
    "rewrap_keys",
    "rotate_all_keys",
    "unregister_encrypted_column",
];
const SIDECAR: &[&str] = &[
    "claim_notifications",
    "complete_notification",
    "complete_notifications",
    "engine_status",
    "fail_notification",
    "record_audit_signature",
    "record_link_refusal",
    "record_press_refusal",
    "press_button",
    "acknowledge_incident",
    "redeem_link",
    "postpone_notifications",
    "release_notifications",
    "tick",
    "reencrypt_step",
    "unsigned_audit_blocks",
];
const AUDITOR: &[&str] = &[
    "audit_log",
    "audit_blocks",
    "audit_leaves",
    "audit_seal_position",
    "record_audit_export",
    "verify_audit",
];

/// Each callable thing with a statement that calls it with nulls, which at most refuses them.
async fn everything(admin: &Client) -> Result<BTreeMap<String, String>> {
    let functions = texts(
        admin,
        "select p.proname || '|' || case p.prokind when 'p' then 'call' else 'select * from' end || ' rotator.' || p.proname || '('
            || coalesce((select string_agg(case when l.lanname = 'c' then '''''::' else 'null::' end || format_type(t, null), ', ' order by n) from unnest(p.proargtypes) with ordinality as a (t, n)), '') || ')'
         from pg_proc p join pg_language l on l.oid = p.prolang where p.pronamespace = 'rotator'::regnamespace
         union all
         select c.relname || '|select * from rotator.' || c.relname from pg_class c where c.relnamespace = 'rotator'::regnamespace and c.relkind = 'v'",
    )
    .await?;
    functions
        .iter()
        .map(|line| {
            line.split_once('|')
                .map(|(name, call)| (name.to_owned(), call.to_owned()))
                .context("no name")
        })
        .collect()
}

async fn reachable(
    session: &Client,
    things: &BTreeMap<String, String>,
) -> Result<BTreeSet<String>> {
    let mut reached = BTreeSet::new();
    for (name, call) in things {
        // A procedure commits, which it can't inside a block.
        if !call.starts_with("call") {
            session.batch_execute("begin").await?;
        }
        let denied = match session.simple_query(call).await {
            Ok(_) => false,
            Err(error) => {
                let error = error.as_db_error().context(call.clone())?;
                ensure!(error.code().code() != "XX000", "{call}: {error}");
                error.message().starts_with("permission denied")
            }
        };
        session.batch_execute("rollback").await?;
        if !denied {
            reached.insert(name.clone());
        }
    }
    Ok(reached)
}

#[tokio::test]
async fn each_role_reaches_exactly_its_part() -> Result<()> {
    let t = TwoTenants::new().await?;
    let db = &t.db;
    let things = everything(&db.admin).await?;
    let expected = |parts: &[&[&str]]| -> BTreeSet<String> {
        parts
            .concat()
            .iter()
            .map(|name| (*name).to_owned())
            .collect()
    };

    let mut unlisted = things.keys().cloned().collect::<BTreeSet<_>>();
    unlisted.retain(|name| !expected(&[ANYBODY, MEMBERS, OPERATORS, SIDECAR]).contains(name));
    ensure!(unlisted.is_empty(), "say here who may call {unlisted:?}");

    let mut cases = Vec::new();
    for kind in ["viewer", "editor", "auditor", "admin"] {
        cases.push((
            db.member("acme", kind).await?,
            expected(&[ANYBODY, MEMBERS]),
        ));
    }
    cases.push((
        db.member("beta", "admin").await?,
        expected(&[ANYBODY, MEMBERS]),
    ));
    cases.push((
        db.login_role("no_tenant", &["rotator_user"]).await?,
        expected(&[ANYBODY, MEMBERS]),
    ));
    cases.push((db.login_role("plain", &[]).await?, expected(&[ANYBODY])));
    cases.push((
        db.login_role("anon", &["pg_read_all_settings", "pg_monitor"])
            .await?,
        expected(&[ANYBODY]),
    ));
    cases.push((
        db.login_role("sidecar", &["rotator_sidecar"]).await?,
        expected(&[ANYBODY, SIDECAR]),
    ));
    cases.push((
        db.login_role("auditing", &["rotator_auditor"]).await?,
        expected(&[ANYBODY, AUDITOR]),
    ));
    cases.push((
        db.login_role("operator", &["rotator_admin"]).await?,
        expected(&[ANYBODY, MEMBERS, OPERATORS]),
    ));
    for (role, expected) in cases {
        let reached = reachable(&db.connect_as(&role).await?, &things).await?;
        ensure!(
            reached == expected,
            "{}: may too much {:?}, may too little {:?}",
            role.name,
            reached.difference(&expected).collect::<Vec<_>>(),
            expected.difference(&reached).collect::<Vec<_>>()
        );
    }
    Ok(())
}

#[tokio::test]
async fn internal_tables_and_functions_are_closed() -> Result<()> {
    let t = TwoTenants::new().await?;
    let things = texts(
        &t.db.admin,
        "select 'select * from rotator_internal.' || relname from pg_class where relnamespace = 'rotator_internal'::regnamespace and relkind in ('r', 'v', 'S')
         union all
         select 'select rotator_internal.' || proname || '(' || coalesce((select string_agg('null::' || format_type(t, null), ', ' order by n)
            from unnest(proargtypes) with ordinality as a (t, n)), '') || ')'
         from pg_proc where pronamespace = 'rotator_internal'::regnamespace and prorettype <> 'trigger'::regtype",
    )
    .await?;
    ensure!(things.len() > 50);
    for granted in [
        "rotator_user",
        "rotator_admin",
        "rotator_sidecar",
        "rotator_auditor",
    ] {
        let session =
            t.db.connect_as(&t.db.login_role("curious", &[granted]).await?)
                .await?;
        session
            .batch_execute("set search_path = rotator_internal, rotator")
            .await?;
        for thing in &things {
            let Err(error) = session.simple_query(thing).await else {
                anyhow::bail!("{granted} may {thing}")
            };
            let error = error.as_db_error().context("no answer")?;
            ensure!(
                error.message() == "permission denied for schema rotator_internal",
                "{granted}: {thing}: {error}"
            );
        }
    }
    Ok(())
}
