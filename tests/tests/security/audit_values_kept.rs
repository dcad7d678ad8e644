//! How values of audit events last: what somebody does to them behind the triggers is found and named, a new key changes
//! nothing but the ciphertext, and the log verifies without them where their keys are gone or out of reach.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use rotator_tests::{Cluster, Options, TestDb};
use tokio_postgres::Client;

use crate::fixture::{populate, text, texts, verdict};
use crate::sealed::{expect_clean, seal_all, verify};

const VALUES: &str = "select concat_ws('|', event_id, field, old_value, new_value) from rotator.audit_values order by 1";
const EVENTS: &str =
    "select md5(string_agg(e::text, '' order by id)) from rotator_internal.audit_event as e";

/// Two tenants with values, all events sealed.
async fn kept() -> Result<TestDb> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        populate(&db, tenant).await?;
    }
    seal_all(&db).await?;
    Ok(db)
}

/// What is done, and which event is named: `$id` (with values), `$next` (the one with values after it) or `$none` (one
/// without). `$other` is an event of the other tenant, with values.
const TAMPERING: &[(&str, &str, &str)] = &[
    ("a value removed", "$id", "delete from $t where event_id = $id"),
    ("all removed", "$first", "delete from $t where tenant_id = '$tenant'"),
    (
        "moved to another event",
        "$id",
        "delete from $t where event_id = $next; update $t set event_id = $next where event_id = $id",
    ),
    (
        "put under an event that has none",
        "$none",
        "insert into $t select tenant_id, $none, changed from $t where event_id = $id",
    ),
    (
        "moved to another tenant",
        "$id",
        "update $t set tenant_id = (select tenant_id from $t where event_id = $other) where event_id = $id",
    ),
    (
        "taken from another event",
        "$id",
        "update $t set changed = (select changed from $t where event_id = $next) where event_id = $id",
    ),
    (
        "taken from another tenant",
        "$id",
        "update $t set changed = (select changed from $t where event_id = $other) where event_id = $id",
    ),
    (
        "a bit of the ciphertext",
        "$id",
        "update $t set changed = set_byte(changed, length(changed) - 1, get_byte(changed, length(changed) - 1) # 1) where event_id = $id",
    ),
    ("no ciphertext", "$id", "update $t set changed = '' where event_id = $id"),
    (
        "another text, sealed as it must be",
        "$id",
        "update $t set changed = $seal(replace($text, 'acme', 'ACME')) where event_id = $id",
    ),
    (
        "a field less",
        "$id",
        "update $t set changed = $seal(($text::jsonb - 'name')::text) where event_id = $id",
    ),
    (
        "a field more",
        "$id",
        "update $t set changed = $seal(($text::jsonb || '{\"recipient\": {\"old\": \"x\"}}')::text) where event_id = $id",
    ),
    (
        "old for new",
        "$id",
        "update $t set changed = $seal(replace($text, '\"new\"', '\"old\"')) where event_id = $id",
    ),
    ("no object", "$id", "update $t set changed = $seal('[1]') where event_id = $id"),
    ("no JSON", "$id", "update $t set changed = $seal('{') where event_id = $id"),
    (
        "the event without its hashes",
        "$id",
        "update rotator_internal.audit_event set changes = changes - 'encrypted' where id = $id",
    ),
    (
        "another text, and its hash in the event",
        "$id",
        "update $t set changed = $seal(replace($text, 'acme', 'ACME')) where event_id = $id;
         update rotator_internal.audit_event set changes = changes || jsonb_build_object('encrypted',
             rotator_internal.hash_values(tenant_id, (select $text from $t where event_id = $id)::jsonb)) where id = $id",
    ),
];

#[tokio::test]
async fn what_is_done_to_a_value_is_found_and_named() -> Result<()> {
    let db = kept().await?;
    expect_clean(&db.admin, 0).await?;
    let of = |slug: &str| {
        format!("select v.event_id from rotator_internal.audit_value as v join rotator_internal.tenant as t using (tenant_id)
                 join rotator_internal.audit_event as e on e.id = v.event_id
                 where t.slug = '{slug}' and e.action = 'secret.registered' order by 1")
    };
    let [acme, beta] = [
        texts(&db.admin, &of("acme")).await?,
        texts(&db.admin, &of("beta")).await?,
    ];
    let first = text(
        &db.admin,
        "select min(event_id) from rotator_internal.audit_value",
    )
    .await?;
    let none = text(&db.admin, "select e.id from rotator_internal.audit_event as e join rotator_internal.tenant as t using (tenant_id)
        where t.slug = 'acme' and e.action = 'secret.rotated'").await?;
    let tenant = text(
        &db.admin,
        "select tenant_id from rotator_internal.tenant where slug = 'acme'",
    )
    .await?;
    ensure!(acme.len() == 2 && !beta.is_empty(), "{acme:?} {beta:?}");
    let opened = "rotator_internal.open_field(tenant_id, 'audit_value.changed', rotator_internal.event_row(event_id), changed)";
    let fill = |sql: &str| {
        sql.replace("$seal(", "rotator_internal.seal_field(tenant_id, 'audit_value.changed', rotator_internal.event_row(event_id), ")
            .replace("$text", opened)
            .replace("$tenant", &tenant)
            .replace("$t ", "rotator_internal.audit_value ")
            .replace("$id", &acme[0])
            .replace("$next", &acme[1])
            .replace("$other", &beta[0])
            .replace("$none", &none)
            .replace("$first", &first)
    };
    for (what, named, sql) in TAMPERING {
        db.admin
            .batch_execute(
                "begin; alter table rotator_internal.audit_value disable trigger all; alter table rotator_internal.audit_event disable trigger all",
            )
            .await?;
        db.admin
            .batch_execute(&fill(sql))
            .await
            .with_context(|| (*what).to_owned())?;
        let found = verify(&db.admin, None).await?;
        ensure!(
            !found.ok && found.first_bad_id.map(|id| id.to_string()) == Some(fill(named)),
            "{what}: {} expected, {found:?}",
            fill(named)
        );
        ensure!(found.detail.starts_with("tenant "), "{what}: {found:?}");
        db.admin.batch_execute("rollback").await?;
    }
    expect_clean(&db.admin, 0).await?;
    Ok(())
}

async fn reencrypt(session: &Client) -> Result<()> {
    for _ in 0..1000 {
        if text(session, "select rotator.reencrypt_step(3) ->> 'remaining'").await? == "0" {
            return Ok(());
        }
    }
    anyhow::bail!("re-encryption doesn't end")
}

#[tokio::test]
async fn a_new_key_changes_nothing_but_the_ciphertext() -> Result<()> {
    let db = kept().await?;
    let operator = db
        .connect_as(&db.login_role("operator", &["rotator_admin"]).await?)
        .await?;
    operator
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    let values = texts(&operator, VALUES).await?;
    ensure!(values.len() > 5, "{values:?}");
    let last = "select max(last_id) from rotator_internal.audit_block";
    let last = text(&db.admin, last).await?;
    let sealed_events = format!("{EVENTS} where id <= {last}");
    let sealed = text(&db.admin, &sealed_events).await?;
    db.admin
        .batch_execute("create temp table before as select changed from rotator_internal.audit_value as v join rotator_internal.tenant as t using (tenant_id) where slug = 'acme'")
        .await?;

    operator
        .batch_execute("select rotator.rotate_key()")
        .await?;
    ensure!(
        verdict(&operator, "select rotator.retire_key(1)").await? == "PT409",
        "values are under it"
    );
    reencrypt(&operator).await?;
    let kept = "select count(*) from before join rotator_internal.audit_value using (changed)";
    ensure!(
        text(&db.admin, kept).await? == "0",
        "every ciphertext is a new one"
    );
    operator
        .batch_execute("select rotator.retire_key(1); select rotator.destroy_key(1, 'acme/1')")
        .await?;
    ensure!(
        texts(&operator, VALUES).await? == values,
        "the auditor reads what he read"
    );
    ensure!(
        text(&db.admin, &sealed_events).await? == sealed,
        "no sealed event changed"
    );
    seal_all(&db).await?;
    expect_clean(&db.admin, 0).await?;

    // And back, while a value can't be opened: the run names its event and leaves the key in use.
    let broken = text(&db.admin, "select min(event_id) from rotator_internal.audit_value as v join rotator_internal.tenant as t using (tenant_id) where slug = 'acme'").await?;
    db.admin
        .batch_execute(&format!(
            "alter table rotator_internal.audit_value disable trigger only_resealed;
             update rotator_internal.audit_value set changed = overlay(changed placing '\\x00000000'::bytea from length(changed) - 4) where event_id = {broken};
             alter table rotator_internal.audit_value enable always trigger only_resealed"
        ))
        .await?;
    operator
        .batch_execute("select rotator.rotate_key()")
        .await?;
    reencrypt(&operator).await?;
    let ended = text(
        &operator,
        "select status || ': ' || error from rotator.key_rotations order by id desc limit 1",
    )
    .await?;
    ensure!(
        ended
            == format!(
                "failed: 1 row(s) could not be re-encrypted, the first in audit_value: {broken}"
            ),
        "{ended}"
    );
    ensure!(verdict(&operator, "select rotator.retire_key(2)").await? == "PT409");
    Ok(())
}

#[tokio::test]
async fn the_log_of_a_tenant_that_left_verifies_and_its_values_are_gone() -> Result<()> {
    let db = kept().await?;
    let values = texts(&db.session("acme", "auditor").await?, VALUES).await?;
    ensure!(!values.is_empty());
    db.admin
        .batch_execute("select rotator.offboard_tenant('acme', 'acme')")
        .await?;
    seal_all(&db).await?;
    expect_clean(&db.admin, 0).await?;
    let opens = "select rotator_internal.open_field(tenant_id, 'audit_value.changed', rotator_internal.event_row(event_id), changed)
        from rotator_internal.audit_value as v join rotator_internal.tenant as t using (tenant_id) where t.status = 'offboarded'";
    ensure!(
        verdict(&db.superuser().await?, opens).await? == "RT012",
        "no key is left"
    );
    // That they are there is seen all the same.
    db.admin
        .batch_execute(
            "begin; alter table rotator_internal.audit_value disable trigger all;
             delete from rotator_internal.audit_value as v using rotator_internal.tenant as t
             where t.tenant_id = v.tenant_id and t.status = 'offboarded'",
        )
        .await?;
    ensure!(!verify(&db.admin, None).await?.ok);
    db.admin.batch_execute("rollback").await?;
    Ok(())
}

#[tokio::test]
async fn without_the_master_key_the_log_verifies_and_says_what_was_not_compared() -> Result<()> {
    let cluster = Arc::new(Cluster::start(Options::default()).await?);
    let mut db = TestDb::in_cluster(cluster).await?;
    db.tenant("acme").await?;
    populate(&db, "acme").await?;
    seal_all(&db).await?;
    let with = expect_clean(&db.admin, 0).await?;
    ensure!(!with.detail.contains("not compared"), "{with:?}");
    let key = std::fs::read_to_string(&db.cluster.master_key)?;
    db.cluster.write_master_key("")?;
    db.cluster.restart().await?;
    db.admin = db.superuser().await?;
    let without = expect_clean(&db.admin, 0).await?;
    ensure!(
        without.detail
            == format!(
                "{}; values of encrypted fields not compared: no master key",
                with.detail
            ),
        "{without:?}"
    );
    ensure!(without.checked == with.checked, "{without:?}");
    db.cluster.write_master_key(&key)?;
    db.cluster.restart().await?;
    db.admin = db.superuser().await?;
    ensure!(expect_clean(&db.admin, 0).await?.detail == with.detail);
    Ok(())
}
