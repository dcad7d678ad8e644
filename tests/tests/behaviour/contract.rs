//! The public names, letter by letter: argument names, their order, types and defaults, and the columns of the views.
//! Whoever changes one of these breaks a caller; what is added needs no line here.

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, scalar};

/// Name, arguments, result.
#[rustfmt::skip]
const CALLS: &[(&str, &str, &str)] = &[
    ("create_tenant", "slug text, name text, time_zone text DEFAULT 'UTC'::text", "uuid"),
    ("add_member", "subject text, role text DEFAULT 'viewer'::text, tenant text DEFAULT NULL::text", "void"),
    ("remove_member", "subject text, tenant text DEFAULT NULL::text", "void"),
    ("link_identity", "subject text, kind text, external_id text", "void"),
    ("use_tenant", "tenant text, is_local boolean DEFAULT false", "uuid"),
    ("current_tenant", "", "uuid"),
    ("current_actor", "", "text"),
    ("current_member_role", "", "text"),
    ("register_secret", "name text, provider_type text DEFAULT 'manual'::text, expiry_date timestamp with time zone DEFAULT NULL::timestamp with time zone, rotation_interval interval DEFAULT NULL::interval, owner_id text DEFAULT NULL::text, purpose text DEFAULT NULL::text, provider_ref text DEFAULT NULL::text, environment text DEFAULT NULL::text, priority text DEFAULT 'P3'::text, secondary_owner_id text DEFAULT NULL::text, team_lead_id text DEFAULT NULL::text, labels jsonb DEFAULT '{}'::jsonb, external_id text DEFAULT NULL::text", "uuid"),
    ("mark_rotated", "secret_id uuid, rotated_at timestamp with time zone DEFAULT now(), next_expiry_date timestamp with time zone DEFAULT NULL::timestamp with time zone, evidence_url text DEFAULT NULL::text, note text DEFAULT NULL::text", "timestamp with time zone"),
    ("acknowledge", "secret_id uuid, note text DEFAULT NULL::text, until timestamp with time zone DEFAULT NULL::timestamp with time zone", "void"),
    ("retire_secret", "secret_id uuid, reason text DEFAULT NULL::text", "void"),
    ("search_secrets", "query text DEFAULT NULL::text, owner text DEFAULT NULL::text, provider text DEFAULT NULL::text, expires_within_days integer DEFAULT NULL::integer, status text DEFAULT NULL::text, max_rows integer DEFAULT 100, after uuid DEFAULT NULL::uuid", "SETOF rotator.secrets"),
    ("import_secrets", "items jsonb, dry_run boolean DEFAULT false", "TABLE(item integer, id uuid, action text, error text)"),
    ("set_contact", "owner_id text, channel text, recipient text", "uuid"),
    ("add_notification_policy", "lead_time_days integer, channel text DEFAULT NULL::text, recipient text DEFAULT NULL::text, secret_id uuid DEFAULT NULL::uuid", "uuid"),
    ("remove_notification_policy", "policy_id uuid", "void"),
    ("test_notification", "channel text, recipient text", "uuid"),
    ("enable_schedule", "cron text DEFAULT '* * * * *'::text", "void"),
    ("disable_schedule", "", "void"),
    ("tick", "as_of timestamp with time zone DEFAULT clock_timestamp(), max_rows integer DEFAULT 5000", "jsonb"),
    ("claim_notifications", "worker text, max_rows integer DEFAULT 100, lease interval DEFAULT '00:01:00'::interval", "TABLE(id uuid, claim_id uuid, channel text, recipient text, message jsonb, attempt integer, link_token text, traceparent text)"),
    ("complete_notification", "notification_id uuid, claim_id uuid, provider_message_id text DEFAULT NULL::text", "boolean"),
    ("fail_notification", "notification_id uuid, claim_id uuid, error text, reason text, retry_after interval DEFAULT NULL::interval", "boolean"),
    ("complete_notifications", "results jsonb", "TABLE(id uuid, accepted boolean)"),
    ("redeem_link", "token text, action text, note text DEFAULT NULL::text, via text DEFAULT 'link'::text, until timestamp with time zone DEFAULT NULL::timestamp with time zone, next_expiry_date timestamp with time zone DEFAULT NULL::timestamp with time zone", "jsonb"),
    ("doctor", "", "TABLE(check_name text, ok boolean, detail text, fix text)"),
    ("encrypt", "plaintext text, label text, row_key text", "bytea"),
    ("decrypt", "ciphertext bytea, label text, row_key text", "text"),
    ("rotate_key", "tenant text DEFAULT NULL::text, reason text DEFAULT 'manual'::text", "bigint"),
];

/// View and its first columns, in order; more may follow.
#[rustfmt::skip]
const VIEWS: &[(&str, &str)] = &[
    ("secrets", "id, name, provider_type, provider_ref, purpose, environment, priority, labels, owner_id, secondary_owner_id, team_lead_id, expiry_date, rotation_interval, interval_days, last_rotated_at, cycle, status, days_until_expiry, acknowledged_at, acknowledged_by, snoozed_until, verified_at, verified_expiry_date, external_id, created_at, updated_at"),
    ("overview", "total, healthy, expiring_soon, overdue, acknowledged, unacknowledged_alerts, mean_time_to_acknowledge, on_time_rate"),
    ("alerts", "id, secret_id, secret_name, cycle, state, opened_at, acknowledged_at, acknowledged_by, acknowledged_until, resolved_at, escalation_step, next_escalation_at"),
    ("notifications", "id, secret_id, alert_id, kind, channel, recipient_hint, state, due_at, queued_at, sent_at, attempts, last_error, provider_message_id, fallback_of"),
    ("contacts", "id, owner_id, channel, recipient_hint"),
    ("notification_policies", "id, secret_id, lead_time_days, channel, recipient_hint"),
    ("encryption_keys", "id, version, tenant_id, purpose, status, active, created_at, activated_at, retired_at, destroyed_at"),
    ("audit_log", "id, tenant_id, occurred_at, actor, source, action, entity, entity_id, changes, request_id"),
    ("audit_values", "tenant_id, event_id, field, old_value, new_value"),
];

#[tokio::test]
async fn functions_are_called_as_the_contract_says() -> Result<()> {
    let db = TestDb::new().await?;
    let mut wrong = Vec::new();
    for (name, arguments, result) in CALLS {
        let row = db
            .admin
            .query_opt(
                "select pg_get_function_arguments(p.oid), pg_get_function_result(p.oid) from pg_proc as p
                 where p.pronamespace = 'rotator'::regnamespace and p.proname = $1",
                &[name],
            )
            .await?;
        match row {
            None => wrong.push(format!("{name} is missing")),
            Some(row) => {
                let is: (String, String) = (row.get(0), row.get(1));
                if (is.0.as_str(), is.1.as_str()) != (*arguments, *result) {
                    wrong.push(format!("{name}({}) returns {}", is.0, is.1));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    let procedure: i64 = scalar(
        &db.admin,
        "select count(*) from pg_proc where pronamespace = 'rotator'::regnamespace and proname = 'run_tick' and prokind = 'p' and pronargs = 0",
        &[],
    )
    .await?;
    ensure!(procedure == 1, "call rotator.run_tick()");
    Ok(())
}

#[tokio::test]
async fn views_begin_with_the_columns_of_the_contract() -> Result<()> {
    let db = TestDb::new().await?;
    for (view, columns) in VIEWS {
        let is: String = scalar(
            &db.admin,
            "select coalesce(string_agg(attname, ', ' order by attnum), 'missing') from pg_attribute
             where attrelid = to_regclass('rotator.' || $1::text) and attnum > 0 and not attisdropped",
            &[view],
        )
        .await?;
        ensure!(
            is == *columns || is.starts_with(&format!("{columns}, ")),
            "{view}: {is}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn roles_are_those_of_the_contract_and_nobody_can_log_in_as_one() -> Result<()> {
    let db = TestDb::new().await?;
    let roles: String = scalar(
        &db.admin,
        "select string_agg(rolname || case when rolbypassrls then ' bypassrls' else '' end, ', ' order by rolname) from pg_roles
         where rolname like 'rotator\\_%' and not rolcanlogin and not rolsuper and not rolcreaterole and not rolcreatedb",
        &[],
    )
    .await?;
    assert_eq!(
        roles,
        "rotator_admin, rotator_auditor, rotator_engine, rotator_host bypassrls, rotator_host_writer bypassrls, rotator_owner, rotator_sidecar, rotator_user"
    );
    Ok(())
}

#[tokio::test]
async fn nothing_but_functions_and_views_is_in_the_public_schema_of_the_product() -> Result<()> {
    let db = TestDb::new().await?;
    let tables: i64 = scalar(
        &db.admin,
        "select count(*) from pg_class where relnamespace = 'rotator'::regnamespace and relkind not in ('v', 'c')",
        &[],
    )
    .await?;
    assert_eq!(tables, 0);
    for role in [
        "rotator_user",
        "rotator_admin",
        "rotator_auditor",
        "rotator_sidecar",
    ] {
        let open: bool = scalar(
            &db.admin,
            "select has_schema_privilege($1, 'rotator_internal', 'usage')",
            &[&role],
        )
        .await?;
        ensure!(!open, "{role} has usage on rotator_internal");
    }
    Ok(())
}
