//! What encrypted fields were before and after a change: kept encrypted, shown to the tenant's auditors and admins alone,
//! committed to by the event, and never written but with one. How they last: `audit_values_kept`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, scaled, until};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::fixture::{AS_ROLES, TwoTenants, text, texts, verdict};

const SHOWN: &str = "select concat_ws('|', e.action, v.field, coalesce(v.old_value, '-'), coalesce(v.new_value, '-'))
    from rotator.audit_values as v join rotator.audit_log as e on e.id = v.event_id order by e.id, v.field";

/// Changes of every encrypted field, and what an auditor is to read of them.
const CHANGES: &[(&str, &[&str])] = &[
    (
        "select rotator.register_secret('Stripe', rotation_interval => '1 day', purpose => 'payments', external_id => 's')",
        &[
            "secret.registered|name|-|Stripe",
            "secret.registered|purpose|-|payments",
        ],
    ),
    (
        "update rotator.secrets set name = 'STRIPE', provider_ref = 'acct/1', purpose = null, environment = 'prod'",
        &[
            "secret.updated|name|Stripe|STRIPE",
            "secret.updated|provider_ref|-|acct/1",
            "secret.updated|purpose|payments|-",
        ],
    ),
    ("update rotator.secrets set environment = 'test'", &[]),
    (
        "select rotator.import_secrets('[{\"external_id\": \"s\", \"name\": \"Stripe 2\"},
             {\"name\": \"Vault\", \"expiry_date\": \"2030-01-01\", \"provider_ref\": \"kv/x\"}]')",
        &[
            "secret.updated|name|STRIPE|Stripe 2",
            "secret.registered|name|-|Vault",
            "secret.registered|provider_ref|-|kv/x",
        ],
    ),
    (
        "select rotator.import_secrets('[{\"name\": \"tried\", \"expiry_date\": \"2030-01-01\"}]', dry_run => true)",
        &[],
    ),
    (
        "select rotator.set_contact('ann', 'email', 'ann@one.example')",
        &["contact.set|recipient|-|…@one.example"],
    ),
    (
        "select rotator.set_contact('ann', 'email', 'ann@two.example')",
        &["contact.set|recipient|…@one.example|…@two.example"],
    ),
    (
        "select rotator.add_notification_policy(5, 'slack', 'C0123456789')",
        &["policy.added|recipient|-|C…789"],
    ),
    (
        "select rotator.remove_notification_policy(id) from rotator.notification_policies where recipient_hint is not null",
        &["policy.removed|recipient|C…789|-"],
    ),
    ("select rotator.add_notification_policy(6)", &[]),
    (
        "select rotator.test_notification('email', 'ann@two.example')",
        &["notification.test|recipient|-|…@two.example"],
    ),
];

#[tokio::test]
async fn auditors_and_admins_read_old_and_new_of_every_encrypted_field() -> Result<()> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
    }
    let admin = db.session("acme", "admin").await?;
    let mut wanted = Vec::new();
    for (change, shown) in CHANGES {
        texts(&admin, change).await?;
        wanted.extend(shown.iter().map(ToString::to_string));
        let found = texts(&admin, SHOWN).await?;
        ensure!(found == wanted, "after {change}: {found:#?}");
    }
    let auditor = db.session("acme", "auditor").await?;
    ensure!(texts(&auditor, SHOWN).await? == wanted, "the auditor");
    let by_event = "select count(*) from rotator.audit_values where event_id = (select max(id) from rotator.audit_log where action = 'notification.test')";
    ensure!(text(&auditor, by_event).await? == "1");

    // Nobody else, whatever he may read beside: no row without the role, and no grant above the tenants.
    let counted = "select count(*) from rotator.audit_values";
    for (tenant, role) in [
        ("acme", "viewer"),
        ("acme", "editor"),
        ("beta", "admin"),
        ("beta", "auditor"),
    ] {
        let session = db.session(tenant, role).await?;
        ensure!(text(&session, counted).await? == "0", "{tenant} {role}");
    }
    ensure!(
        text(&db.admin, counted).await? == "0",
        "a superuser without a tenant"
    );
    for group in ["rotator_auditor", "rotator_sidecar"] {
        let session = db
            .connect_as(&db.login_role("above", &[group]).await?)
            .await?;
        for read in [
            counted,
            "select * from rotator_internal.audit_value",
            "select rotator_internal.open_field(null, '', null, '')",
        ] {
            let verdict = verdict(&session, read).await?;
            ensure!(verdict == "42501", "{group}: {read}: {verdict}");
        }
    }
    Ok(())
}

async fn hashes(db: &TestDb, tenant: &str) -> Result<Vec<Value>> {
    let rows = texts(
        &db.admin,
        &format!(
            "select coalesce(changes -> 'encrypted', 'null') from rotator_internal.audit_event as e
             join rotator_internal.tenant as t using (tenant_id) where t.slug = '{tenant}' and e.action like 'secret.%' order by e.id"
        ),
    )
    .await?;
    rows.iter()
        .map(|row| Ok(serde_json::from_str(row)?))
        .collect()
}

#[tokio::test]
async fn an_event_has_keyed_hashes_that_tell_equal_from_different_and_nothing_else() -> Result<()> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        let editor = db.session(tenant, "editor").await?;
        editor
            .batch_execute(
                "select rotator.register_secret('same', rotation_interval => '1 day', purpose => 'same',
                     labels => '{\"encrypted\": {\"name\": {\"new\": \"00\"}}}');
                 update rotator.secrets set name = 'Same';
                 update rotator.secrets set name = 'same', priority = 'P1';
                 update rotator.secrets set priority = 'P2'",
            )
            .await?;
    }
    let acme = hashes(&db, "acme").await?;
    let name = &acme[0]["name"]["new"];
    ensure!(
        name.as_str().is_some_and(|hash| hash.len() == 64),
        "{acme:#?}"
    );
    ensure!(acme[0]["name"].get("old").is_none(), "{acme:#?}");
    ensure!(acme[1]["name"]["old"] == *name && acme[1]["name"]["new"] != *name);
    ensure!(acme[2] == json!({"name": {"old": acme[1]["name"]["new"], "new": name}}));
    ensure!(acme[3] == Value::Null, "no field of these: {}", acme[3]);
    ensure!(
        acme[0]["purpose"]["new"] != *name,
        "another field is hashed by another key"
    );
    ensure!(
        hashes(&db, "beta").await?[0]["name"]["new"] != *name,
        "another tenant's too"
    );
    for plain in [
        "sha256('same')",
        "sha256(convert_to('audit_value.name' || 'same', 'UTF8'))",
        "(select rotator_internal.blind_index(tenant_id, 'secret.name', 'same') from rotator_internal.tenant where slug = 'acme')",
    ] {
        let hash = text(&db.admin, &format!("select encode({plain}, 'hex')")).await?;
        ensure!(*name != hash, "{plain}");
    }
    Ok(())
}

#[tokio::test]
async fn two_who_set_a_contact_at_once_leave_a_history_without_a_gap() -> Result<()> {
    let db = TestDb::new().await?;
    db.tenant("acme").await?;
    let (first, second) = (
        db.session("acme", "admin").await?,
        Arc::new(db.session("acme", "admin").await?),
    );
    for owner in 0..scaled(40) {
        let set = |domain: &str| {
            format!("select rotator.set_contact('owner-{owner}', 'email', 'o@{domain}.example')")
        };
        if owner % 2 == 0 {
            first.batch_execute(&set("zero")).await?;
        }
        first.batch_execute("begin").await?;
        first.batch_execute(&set("one")).await?;
        let (session, later) = (second.clone(), set("two"));
        let waiting = tokio::spawn(async move { session.batch_execute(&later).await });
        until(
            Duration::from_secs(10),
            "the second to wait for the first",
            async || {
                let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
                Ok(text(&db.admin, waits).await? == "1")
            },
        )
        .await?;
        first.batch_execute("commit").await?;
        waiting.await??;
        let shown = texts(&first, SHOWN).await?;
        ensure!(
            shown
                .last()
                .is_some_and(|last| last == "contact.set|recipient|…@one.example|…@two.example"),
            "{shown:?}"
        );
    }
    Ok(())
}

/// What nobody may do, whoever owns the table or works as the engine.
const ATTACKS: &[&str] = &[
    "delete from $t",
    "delete from $t where false",
    "truncate $t",
    "truncate rotator_internal.heartbeat, $t cascade",
    "update $t set event_id = event_id + 1000",
    "update $t set tenant_id = gen_random_uuid()",
    "update $t set changed = $new",
    "update $t set changed = changed || '\\x00'",
    "update $t as a set changed = b.changed from $t as b where b.event_id <> a.event_id",
    "insert into $t table $t on conflict (tenant_id, event_id) do update set changed = $new",
    "merge into $t as t using (select 1) as s on true when matched then delete",
    "merge into $t as t using (select 1) as s on true when matched then update set changed = $new",
];

async fn expect_untouched(db: &TestDb, session: &Client, who: &str) -> Result<()> {
    let digest = "select md5(string_agg(v::text, '' order by event_id)) from rotator_internal.audit_value as v";
    let before = text(&db.admin, digest).await?;
    for attack in ATTACKS {
        let attack = attack.replace("$t", "rotator_internal.audit_value").replace(
            "$new",
            "(select rotator_internal.seal_field(min(tenant_id::text)::uuid, 'audit_value.changed',
                 rotator_internal.event_row(max(event_id)), '{}') from rotator_internal.audit_value)",
        );
        let verdict = verdict(session, &attack).await?;
        ensure!(verdict == "42501", "{who}: {attack}: {verdict}");
    }
    ensure!(text(&db.admin, digest).await? == before, "{who} changed it");
    Ok(())
}

#[tokio::test]
async fn nobody_changes_removes_or_adds_a_value() -> Result<()> {
    let t = TwoTenants::new().await?;
    for who in AS_ROLES {
        let session = t.db.superuser().await?;
        session
            .batch_execute("select rotator.use_tenant('acme')")
            .await?;
        session.batch_execute(who).await?;
        expect_untouched(&t.db, &session, who).await?;
    }
    // As the engine does it: the same text once more.
    let engine = t.db.superuser().await?;
    engine.batch_execute("set role rotator_engine").await?;
    engine
        .batch_execute("update rotator_internal.audit_value set changed = changed")
        .await?;
    for member in [
        &t.acme,
        &t.db
            .login_role("writing", &["rotator_auditor", "pg_write_all_data"])
            .await?,
    ] {
        let session = t.db.connect_as(member).await?;
        for attack in [
            "insert into rotator.audit_values (event_id, field) values (1, 'name')",
            "update rotator.audit_values set new_value = 'x'",
            "delete from rotator.audit_values",
            "insert into rotator_internal.audit_value values (gen_random_uuid(), 1, '')",
            "delete from rotator_internal.audit_value",
            "truncate rotator_internal.audit_value",
        ] {
            let verdict = verdict(&session, attack).await?;
            ensure!(verdict != "ok", "{}: {attack}", member.name);
        }
    }
    Ok(())
}
