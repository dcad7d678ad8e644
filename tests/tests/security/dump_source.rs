//! What is dumped: five tenants in five time zones with rows in every table, a queue in all its states, keys of several
//! versions, one of them destroyed, a rotation in progress, sealed and unsealed audit events, and an application's own
//! schema around it.

use anyhow::{Context, Result, ensure};
use rotator_tests::restore::spend_transactions;
use rotator_tests::{Cluster, Options, TestDb, scalar, scaled};
use serde_json::Value;
use std::sync::Arc;
use tokio_postgres::Client;

use crate::fixture::{text, texts};

pub const TENANTS: [(&str, &str); 5] = [
    ("acme", "Europe/Berlin"),
    ("beta", "UTC"),
    ("gamma", "America/New_York"),
    ("delta", "Asia/Kolkata"),
    ("echo", "Pacific/Auckland"),
];

/// Who is told nothing while the test runs.
const CLOSED: &str = "gamma";

/// Whose data key is being rotated while the dump is taken.
pub const ROTATING: &str = "delta";

/// The states that this version puts a notification in.
const STATES: [&str; 8] = [
    "cancelled",
    "dead",
    "deferred",
    "leased",
    "merged",
    "queued",
    "retry",
    "sent",
];

/// The host's schema: its own encrypted column, a trigger on it, a view over ours, an identity, data from elsewhere.
const HOST: &str = "
    create extension file_fdw;
    create server files foreign data wrapper file_fdw;
    create schema app;
    create foreign table app.country (code text) server files options (program 'echo de');
    create table app.vault (
        id bigint generated always as identity primary key, tenant text not null, sealed bytea, changes integer not null default 0);
    create function app.count_changes() returns trigger language plpgsql as
        'begin new.changes := old.changes + 1; return new; end';
    create trigger count_changes before update on app.vault for each row execute function app.count_changes();
    create view app.expiring with (security_invoker = true) as select name, expiry_date from rotator.secrets;
    grant usage on schema app to rotator_user;
    grant select, insert, update on app.vault to rotator_user;
    grant select on app.expiring to rotator_user";

/// Two of five are sent, by one of them something is acknowledged; the others fail, for now or for good, or stay leased.
const DELIVER: &str = "do $$
    declare
        c record;
        n integer := 0;
    begin
        for c in select * from rotator.claim_notifications('lost', 12, '1 second') loop
            n := n + 1;
            case n % 5
                when 0 then perform rotator.complete_notification(c.id, c.claim_id, 'ts-' || n);
                when 1 then perform rotator.fail_notification(c.id, c.claim_id, 'answered 500', 'transient');
                when 2 then perform rotator.fail_notification(c.id, c.claim_id, 'no such channel', 'permanent');
                when 3 then
                    perform rotator.complete_notification(c.id, c.claim_id, 'ts-' || n);
                    if c.link_token is not null then
                        perform rotator.redeem_link(c.link_token, 'acknowledge');
                    end if;
                else null;
            end case;
        end loop;
    end $$";

/// What a sidecar does, with a key that nobody has: in SQL only what a note is about can be checked.
const SIGN: &str = "select rotator.record_audit_signature(b.tenant_id, b.block_id,
        format(E'rotator/audit/%s\\n%s\\n%s\\n\\n— nobody AAAA\\n', b.tenant_id, b.block_id, encode(decode(b.header ->> 'hash', 'hex'), 'base64')),
        'nobody', '{file}')
    from rotator.unsigned_audit_blocks() as b";

/// In a cluster of its own, whose transaction ids are beyond those of a fresh one.
pub async fn source(options: Options) -> Result<TestDb> {
    let cluster = Arc::new(Cluster::start(options).await?);
    let db = TestDb::in_cluster(cluster).await?;
    spend_transactions(&db.admin, 5000).await?;
    db.admin.batch_execute(HOST).await?;
    for (slug, zone) in TENANTS {
        db.tenant_in(slug, zone).await?;
        fill(&db.admin, slug)
            .await
            .with_context(|| format!("filling {slug}"))?;
    }
    db.admin
        .batch_execute(
            "select rotator.register_encrypted_column('app.vault', 'sealed', 'vault.sealed', 'id', 'tenant')",
        )
        .await?;
    // One has hours, which begin the day after tomorrow.
    db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('{CLOSED}');
             select rotator.set_delivery_window(jsonb_build_object(
                 'days', jsonb_build_array(lower(to_char(now() at time zone 'America/New_York' + interval '2 days', 'Dy'))),
                 'from', '09:00', 'to', '17:00'))"
        ))
        .await?;
    work_off(
        &db.admin,
        "select rotator.tick()",
        "more",
        &Value::Bool(false),
    )
    .await?;
    db.admin.batch_execute(DELIVER).await?;
    keys(&db.admin).await?;
    // What was queued for a secret that is rotated now is cancelled.
    for (slug, _) in TENANTS {
        db.admin
            .batch_execute(&format!(
                "select rotator.use_tenant('{slug}');
                 select rotator.mark_rotated(n.secret_id) from rotator.notifications as n
                 where n.state in ('queued', 'retry') and n.kind = 'reminder' limit 1"
            ))
            .await?;
    }
    db.admin.batch_execute("discard all").await?;
    work_off(
        &db.admin,
        "select rotator.tick()",
        "more",
        &Value::Bool(false),
    )
    .await?;
    db.admin.batch_execute(SIGN).await?;
    expect_all_there(&db.admin).await?;
    Ok(db)
}

/// Half a day off all that lead times could ask for at this moment: nothing falls due while the test runs.
async fn fill(admin: &Client, slug: &str) -> Result<()> {
    let (count, desk) = (scaled(4000), slug.to_uppercase());
    admin
        .batch_execute(&format!(
            "create role {slug}_app login in role rotator_user;
             select rotator.add_member('db:{slug}_app', 'admin', '{slug}'),
                 rotator.add_member('viewer@{slug}.example', 'viewer', '{slug}'),
                 rotator.add_member('left@{slug}.example', 'editor', '{slug}');
             select rotator.remove_member('left@{slug}.example', '{slug}');
             select rotator.use_tenant('{slug}');
             select rotator.set_contact('owner-' || n, 'slack', 'C0{desk}' || n) from generate_series(0, 4) as n;
             select rotator.set_contact('owner-1', 'email', 'owner-1@{slug}.example');
             select rotator.add_notification_policy(21, 'email', 'security@{slug}.example');
             select rotator.set_key_schedule('30 days');
             select rotator.link_identity('db:{slug}_app', 'email', 'app@{slug}.example');
             select rotator.set_escalation_policy('nights',
                 '[{{\"after\": \"1 hour\", \"recipient\": \"night@{slug}.example\", \"channel\": \"email\"}}]');
             select rotator.register_secret('{slug} key ' || n, provider_ref => '{slug}/path/' || n, purpose => '{slug} purpose ' || n,
                 expiry_date => now() + make_interval(days => 40 + n % 300, hours => 12), rotation_interval => '90 days',
                 owner_id => 'owner-' || n % 5, external_id => '{slug}-' || n, labels => jsonb_build_object('row', n))
             from generate_series(1, {count}) as n;
             select rotator.register_secret('{slug} due ' || n, expiry_date => now() + interval '84 hours',
                 rotation_interval => '90 days', owner_id => 'owner-' || n % 5)
             from generate_series(1, 20) as n;
             select rotator.set_contact('alone-' || n, 'slack', 'C0{desk}ALONE' || n),
                 rotator.register_secret('{slug} alone ' || n, expiry_date => now() + interval '84 hours',
                     rotation_interval => '90 days', owner_id => 'alone-' || n)
             from generate_series(1, 2) as n;
             select rotator.import_secrets(jsonb_agg(jsonb_build_object(
                 'name', '{slug} old ' || n, 'expiry_date', now() - interval '60 hours', 'owner_id', 'owner-1')))
             from generate_series(1, 5) as n;
             select rotator.mark_rotated(id) from rotator.secrets where external_id in ('{slug}-1', '{slug}-2');
             select rotator.retire_secret(id, 'nobody uses it') from rotator.secrets where external_id = '{slug}-3';
             select rotator.use_escalation_policy(id, 'nights') from rotator.secrets where external_id = '{slug}-4';
             insert into app.vault (tenant) select '{slug}' from generate_series(1, 40);
             update app.vault set sealed = rotator.encrypt('{slug} note ' || id, 'vault.sealed', id::text) where tenant = '{slug}';
             insert into rotator_internal.allowed_value
             values (rotator.current_tenant(), 'purpose', sha256('{slug}'), 'a serial number', 'db:{slug}_app')"
        ))
        .await?;
    Ok(admin.batch_execute("discard all").await?)
}

/// Of acme three versions, the first destroyed; of gamma two; and a rotation that has begun.
async fn keys(admin: &Client) -> Result<()> {
    const STEP: &str = "select rotator.reencrypt_step(5000)";
    for round in ["acme", "gamma", "acme"] {
        admin
            .batch_execute(&format!("select rotator.rotate_key('{round}')"))
            .await?;
        work_off(admin, STEP, "remaining", &Value::from(0)).await?;
    }
    admin
        .batch_execute(&format!(
            "select rotator.retire_key(1, 'acme'), rotator.retire_key(2, 'acme');
             select rotator.destroy_key(1, 'acme/1', 'acme');
             select rotator.rotate_key('{ROTATING}')"
        ))
        .await?;
    let mut step = Value::Null;
    // Counting comes first, and each small place has a step of its own.
    for _ in 0..30 {
        step = scalar(admin, "select rotator.reencrypt_step(20)", &[]).await?;
        if step["done"].as_i64() > Some(10) {
            break;
        }
    }
    ensure!(
        step["done"].as_i64() > Some(0) && step["remaining"] != 0,
        "in the middle of a rotation: {step}"
    );
    Ok(())
}

async fn expect_all_there(admin: &Client) -> Result<()> {
    let states = texts(
        admin,
        "select distinct state from rotator_internal.notification order by 1",
    )
    .await?;
    ensure!(states == STATES, "{states:?}");
    let statuses = text(admin, "select string_agg(distinct status, ' ' order by status) from rotator_internal.encryption_key").await?;
    ensure!(
        statuses == "active decrypt_only destroyed retired",
        "{statuses}"
    );
    Ok(())
}

/// Calls until the answer says that it is done.
pub async fn work_off(admin: &Client, call: &str, field: &str, done: &Value) -> Result<()> {
    for _ in 0..1000 {
        let answer: Value = scalar(admin, call, &[]).await?;
        if &answer[field] == done {
            return Ok(());
        }
    }
    anyhow::bail!("{call} doesn't end")
}
