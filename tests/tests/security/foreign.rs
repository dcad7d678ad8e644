//! Another tenant's id is answered exactly as an id that nobody has: same SQLSTATE, same words. And what a stranger
//! guesses at the outbox and the links leads nowhere.

use anyhow::{Result, ensure};

use crate::fixture::{TwoTenants, refusal, text, texts};

const UNKNOWN: &str = "01890000-0000-7000-8000-000000000000";

#[tokio::test]
async fn foreign_and_unknown_ids_are_answered_alike() -> Result<()> {
    let t = TwoTenants::new().await?;
    let foreign = |table: &str, condition: &str| {
        format!(
            "select min(x.id::text) from rotator_internal.{table} x join rotator_internal.tenant t using (tenant_id) where t.slug = 'beta' {condition}"
        )
    };
    let secret = text(&t.db.admin, &foreign("secret", "and external_id = 'due'")).await?;
    let policy = text(&t.db.admin, &foreign("notification_policy", "")).await?;
    t.db.admin
        .batch_execute("select rotator.rotate_all_keys()")
        .await?;
    let rotation = text(&t.db.admin, &foreign("key_rotation", "")).await?;
    let session = t.db.connect_as(&t.acme).await?;
    for (id, call) in [
        (&secret, "mark_rotated('{}')"),
        (
            &secret,
            "mark_rotated('{}', next_expiry_date => now() + interval '1 year', note => 'x')",
        ),
        (&secret, "acknowledge('{}')"),
        (&secret, "retire_secret('{}', 'x')"),
        (&secret, "add_notification_policy(5, secret_id => '{}')"),
        (&policy, "remove_notification_policy('{}')"),
    ] {
        let call = format!("select rotator.{call}");
        let unknown = refusal(&session, &call.replace("{}", UNKNOWN)).await?;
        let answer = refusal(&session, &call.replace("{}", id)).await?;
        ensure!(
            unknown.starts_with("PT404") && unknown.contains("Some("),
            "{call}: {unknown}"
        );
        ensure!(
            answer == unknown,
            "{call} tells them apart:\n{unknown}\n{answer}"
        );
    }
    for call in [
        "rollback_key_rotation({})",
        "retry_key_rotation({})",
        "rotate_key('{}')",
        "retire_key(1, '{}')",
        "destroy_key(1, '{}/1', '{}')",
        "set_key_schedule('30 days', '{}')",
        "add_member('somebody', 'viewer', '{}')",
        "remove_member('somebody', '{}')",
    ] {
        let (theirs, nobodys) = match call.contains("rotation(") {
            true => (rotation.as_str(), "99999999"),
            false => ("beta", "nobody"),
        };
        let call = format!("select rotator.{call}");
        let unknown = refusal(&session, &call.replace("{}", nobodys)).await?;
        let answer = refusal(&session, &call.replace("{}", theirs)).await?;
        ensure!(
            answer == unknown && ["PT404", "42501"].contains(&&answer[..5]),
            "{call} tells them apart:\n{unknown}\n{answer}"
        );
    }
    for statement in [
        "update rotator.secrets set name = 'mine' where id = '{}' returning id",
        "delete from rotator.secrets where id = '{}' returning id",
        "select id from rotator.search_secrets(after => '{}')",
        "select id from rotator.alerts where secret_id = '{}'",
    ] {
        ensure!(
            texts(&session, &statement.replace("{}", &secret))
                .await?
                .is_empty(),
            "{statement}"
        );
    }
    let after = text(
        &t.db.admin,
        &foreign("secret", "and x.cycle = 1 and x.retired_at is null"),
    )
    .await?;
    ensure!(after == secret, "the secret is as it was");
    Ok(())
}

#[tokio::test]
async fn names_and_external_ids_of_others_are_free() -> Result<()> {
    let t = TwoTenants::new().await?;
    let session = t.db.connect_as(&t.acme).await?;
    // A unique violation would tell that beta has it; an upsert would change beta's.
    let made = text(
        &session,
        "select rotator.register_secret('beta-due', rotation_interval => '1 day')",
    )
    .await?;
    let imported = text(&session, "select action || coalesce(error, '') from rotator.import_secrets('[{\"name\": \"other\", \"external_id\": \"due\", \"rotation_interval\": \"2 days\"}]')").await?;
    ensure!(
        made.len() == 36 && imported == "updated",
        "acme's own is updated: {imported}"
    );
    let beta = t.db.connect_as(&t.beta).await?;
    ensure!(
        texts(
            &beta,
            "select name from rotator.secrets where external_id = 'due'"
        )
        .await?
            == ["beta-due"]
    );

    let indexes = texts(&t.db.admin, "select count(distinct name_index)::text || '/' || count(*) from rotator_internal.secret where name_index in (
        select name_index from rotator_internal.secret group by 1 having count(*) > 1)").await?;
    ensure!(
        indexes == ["0/0"],
        "equal names of two tenants have the same blind index"
    );
    Ok(())
}

#[tokio::test]
async fn rows_can_not_point_into_another_tenant() -> Result<()> {
    let t = TwoTenants::new().await?;
    let keys = texts(&t.db.admin, "select conrelid::regclass || ' ' || conname from pg_constraint
        where contype = 'f' and connamespace = 'rotator_internal'::regnamespace
          and not exists (select from pg_attribute a where a.attrelid = conrelid and a.attnum = any (conkey) and a.attname in ('tenant_id', 'only_tenant'))").await?;
    ensure!(keys.is_empty(), "foreign keys without tenant_id: {keys:?}");
    let columns = texts(&t.db.admin, "select c.relname || '.' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid
        where c.relnamespace = 'rotator_internal'::regnamespace and c.relkind = 'r' and a.atttypid = 'uuid'::regtype
          and a.attname like '%\\_id' and a.attname not in ('tenant_id', 'claim_id')
          and not exists (select from pg_constraint k where k.contype = 'f' and k.conrelid = c.oid and a.attnum = any (k.conkey)) order by 1").await?;
    // Alerts and the outbox are written by the engine alone, from the secret's own row; keys would cost each reminder.
    let unchecked: Vec<&String> = columns
        .iter()
        .filter(|column| {
            // A column may be unregistered while a run has it on its list.
            ![
                "alert.",
                "notification.",
                "delivery_attempt.",
                "deferral.",
                "reencryption.column_id",
            ]
            .iter()
            .any(|table| column.starts_with(table))
        })
        .collect();
    ensure!(
        unchecked.is_empty(),
        "references that nothing checks: {unchecked:?}"
    );
    for (table, column, target) in [
        ("alert", "secret_id", "secret"),
        ("notification", "secret_id", "secret"),
        ("notification", "alert_id", "alert"),
        ("notification", "recipient_id", "recipient"),
        ("notification", "merged_into", "notification"),
        ("delivery_attempt", "notification_id", "notification"),
    ] {
        let strays = texts(&t.db.admin, &format!("select x.{column} from rotator_internal.{table} x where x.{column} is not null
            and not exists (select from rotator_internal.{target} y where y.tenant_id = x.tenant_id and y.id = x.{column})")).await?;
        ensure!(
            strays.is_empty(),
            "{table}.{column} leads out of its tenant: {strays:?}"
        );
    }
    Ok(())
}
