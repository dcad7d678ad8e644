//! Who may verify what: auditors and admins their own tenant, `rotator_auditor` and operators any; and the hash of an
//! event depends on nothing but the event, whatever a session is set to.

use anyhow::{Result, ensure};
use rotator_tests::TestDb;

use crate::fixture::{TwoTenants, text, texts, verdict};
use crate::sealed::{events, expect_clean, seal_all, verify};

#[tokio::test]
async fn each_verifies_what_he_may_read() -> Result<()> {
    let t = TwoTenants::new().await?;
    seal_all(&t.db).await?;
    let all = expect_clean(&t.db.admin, 0).await?;
    let acme = verify(&t.db.admin, Some("acme")).await?;
    let beta = verify(&t.db.admin, Some("beta")).await?;
    ensure!(
        all.checked == acme.checked + beta.checked && acme.checked > 0 && beta.checked > 0,
        "{all:?} {acme:?} {beta:?}"
    );
    for role in ["admin", "auditor"] {
        let session = t.db.session("acme", role).await?;
        let own = verify(&session, None).await?;
        let visible = text(&session, "select count(*) from rotator.audit_log").await?;
        ensure!(
            own.ok
                && own.checked >= acme.checked
                && (own.checked + own.unsealed).to_string() == visible,
            "{role}: {visible} {own:?}"
        );
        ensure!(verify(&session, Some("acme")).await?.ok);
        for other in ["beta", "nobody"] {
            ensure!(
                verdict(&session, &format!("select rotator.verify_audit('{other}')")).await?
                    == "42501",
                "{role} {other}"
            );
        }
        seal_all(&t.db).await?;
    }
    for role in ["viewer", "editor"] {
        let session = t.db.session("acme", role).await?;
        ensure!(
            verdict(&session, "select rotator.verify_audit()").await? == "42501",
            "{role}"
        );
        ensure!(
            texts(&session, "select hash from rotator.audit_blocks")
                .await?
                .is_empty(),
            "{role}"
        );
        ensure!(
            texts(&session, "select hash from rotator.audit_leaves")
                .await?
                .is_empty(),
            "{role}"
        );
    }
    let auditor =
        t.db.connect_as(&t.db.login_role("auditing", &["rotator_auditor"]).await?)
            .await?;
    let operator =
        t.db.connect_as(&t.db.login_role("operator", &["rotator_admin"]).await?)
            .await?;
    seal_all(&t.db).await?;
    for session in [&auditor, &operator] {
        let everything = expect_clean(session, 0).await?;
        ensure!(everything.checked >= all.checked, "{everything:?}");
        ensure!(verify(session, Some("beta")).await?.checked == beta.checked);
        ensure!(verdict(session, "select rotator.verify_audit('nobody')").await? == "PT404");
    }
    ensure!(
        text(
            &auditor,
            "select count(distinct tenant_id) from rotator.audit_blocks"
        )
        .await?
            == "2"
    );
    let nobody =
        t.db.connect_as(&t.db.login_role("nobody", &["rotator_user"]).await?)
            .await?;
    ensure!(verdict(&nobody, "select rotator.verify_audit()").await? == "RT002");
    let sidecar =
        t.db.connect_as(&t.db.login_role("sidecar", &["rotator_sidecar"]).await?)
            .await?;
    ensure!(verdict(&sidecar, "select rotator.verify_audit()").await? == "42501");
    Ok(())
}

/// Whatever changes how values are printed or read.
const SETTINGS: &[&str] = &[
    "timezone = 'Pacific/Kiritimati'",
    "timezone = 'America/St_Johns'",
    "timezone = '-13:37'",
    "datestyle = 'SQL, DMY'",
    "datestyle = 'German'",
    "datestyle = 'Postgres, MDY'",
    "intervalstyle = 'iso_8601'",
    "intervalstyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "extra_float_digits = -15",
    "extra_float_digits = 3",
    "lc_numeric = 'C'",
    "lc_monetary = 'C'",
    "lc_time = 'C'",
    "lc_messages = 'C'",
    "client_encoding = 'LATIN1'",
    "standard_conforming_strings = off",
    "escape_string_warning = off",
    "quote_all_identifiers = on",
    "xmloption = 'document'",
    "array_nulls = off",
    "transform_null_equals = on",
    "search_path = 'pg_temp'",
    "work_mem = '64kB'",
    "enable_hashjoin = off",
    "enable_mergejoin = off",
    "plan_cache_mode = 'force_generic_plan'",
    "default_transaction_isolation = 'serializable'",
    "session_replication_role = 'replica'",
];

#[tokio::test]
async fn no_setting_changes_a_hash() -> Result<()> {
    let db = TestDb::new().await?;
    let tenant = db.tenant("acme").await?;
    db.admin
        .batch_execute(&format!(
            "select rotator_internal.record_event('{tenant}', 'secret.updated', 'secret', null, c::jsonb, 'ann — é', 'api')
             from (values ('{{\"a\": 1.10, \"b\": 1e3, \"z\": -0.0, \"t\": \"é\\u00e9\\n\\\\\"}}'), ('[1, null, true, {{\"x\": []}}]'), ('\"text\"'),
                 ('{{\"when\": \"2026-03-29T01:30:00+00:00\", \"interval\": \"P1DT2H\"}}'), ('12345678901234567890.123456789')) as v (c);
             select rotator_internal.record_event('{tenant}', 'x', 'y', repeat('long ', 100000), jsonb_build_object('far', clock_timestamp(), 'interval', interval '1 day 2 hours 3.5 seconds'), 'a', 'sql')"
        ))
        .await?;
    db.admin.batch_execute(&events("plain", 3)).await?;
    // The text of a bytea depends on a setting itself, so it is asked for in hexadecimal.
    let hashes = "select encode(sha256(string_agg(rotator_internal.audit_event_hash(tenant_id, id, occurred_at, transaction_id,
            actor, source, action, entity, entity_id, changes::text, request_id), ''::bytea order by id)), 'hex')
        from rotator_internal.audit_event";
    db.admin.batch_execute("set jit = off").await?;
    let expected = text(&db.admin, hashes).await?;
    seal_all(&db).await?;
    for setting in SETTINGS {
        let session = db.superuser().await?;
        session.batch_execute(&format!("set {setting}")).await?;
        session.batch_execute("set jit = off").await?;
        ensure!(text(&session, hashes).await? == expected, "{setting}");
        ensure!(expect_clean(&session, 0).await?.checked >= 9, "{setting}");
    }
    Ok(())
}

#[tokio::test]
async fn columns_that_join_to_one_text_have_different_hashes() -> Result<()> {
    let db = TestDb::new().await?;
    db.admin.batch_execute("set jit = off").await?;
    // Every way to cut one text into four columns, and nulls apart from empty texts: none shares its hash.
    let collisions = text(
        &db.admin,
        "with cut as (
             select left(t, a) as actor, substr(t, a + 1, b) as source, substr(t, a + b + 1, c) as action, substr(t, a + b + c + 1) as entity
             from (values ('abcdefghijklmnopqrstuvwxyz0123')) as v (t), generate_series(0, 30) a, generate_series(0, 30 - a) b, generate_series(0, 30 - a - b) c
         ), hashed as (
             select rotator_internal.audit_event_hash('00000000-0000-0000-0000-000000000001', 1, '2026-01-01Z', '7', actor, source,
                 action, entity, e.id, '{}', e.request) as hash
             from cut, (values (null, null), ('', null), (null, ''), ('', '')) as e (id, request)
         )
         select count(*) || ' ' || count(distinct hash) from hashed",
    )
    .await?;
    ensure!(collisions == "21824 21824", "{collisions}");
    let json = text(
        &db.admin,
        "select count(distinct rotator_internal.audit_event_hash('00000000-0000-0000-0000-000000000001', 1, '2026-01-01Z', '7', '', '', '', '', '', c, ''))
         from (values ('1'), ('1.0'), ('\"1\"'), ('[1]'), ('{\"1\": 1}'), ('{\"a\": \"b\", \"c\": \"d\"}'), ('{\"a\": {\"b\": \"c\"}}'), ('{\"ab\": \"c\"}'),
             ('null'), ('\"null\"'), ('[]'), ('{}'), ('[[], []]'), ('[[[]]]'), ('{\"a\": null}'), ('{\"a\": \"\"}')) as v (c)",
    )
    .await?;
    ensure!(json == "16", "{json}");
    Ok(())
}
