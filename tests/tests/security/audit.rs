//! Every kind of change writes exactly its event, in its own transaction; nothing else writes one; and nobody, owners
//! and superusers included, changes or removes one, or what seals it. Who and through what: `audit_source`.

use anyhow::{Result, ensure};
use rotator_tests::TestDb;
use tokio_postgres::Client;

use crate::fixture::{AS_ROLES, TwoTenants, text, texts, verdict};

const EVENTS: &str =
    "select concat_ws(' ', action, entity) from rotator_internal.audit_event where id > ";
const LAST: &str = "select coalesce(max(id), 0) from rotator_internal.audit_event";

/// A change by acme's admin and the events it writes. `$due` and `$policy` are ids.
const CHANGES: &[(&str, &[&str])] = &[
    (
        "select rotator.register_secret('new', rotation_interval => '1 day')",
        &["secret.registered secret"],
    ),
    (
        "insert into rotator.secrets (name, interval_days) values ('a', 3), ('b', 4)",
        &["secret.registered secret", "secret.registered secret"],
    ),
    (
        "update rotator.secrets set environment = 'prod' where id = '$due'",
        &["secret.updated secret"],
    ),
    (
        "update rotator.secrets set name = 'renamed', purpose = null, expiry_date = now() + interval '1 year' where id = '$due'",
        &["secret.updated secret"],
    ),
    (
        "update rotator.secrets set environment = environment where id = '$due'",
        &[],
    ),
    (
        "delete from rotator.secrets where id = '$due'",
        &["secret.retired secret"],
    ),
    (
        "select rotator.retire_secret('$due', 'gone')",
        &["secret.retired secret"],
    ),
    (
        "select rotator.retire_secret('$due'), rotator.retire_secret('$due')",
        &["secret.retired secret"],
    ),
    (
        "select rotator.mark_rotated('$due', next_expiry_date => now() + interval '1 year')",
        &["secret.rotated secret"],
    ),
    (
        "select rotator.acknowledge('$due', 'on it')",
        &["alert.acknowledged secret"],
    ),
    (
        "select rotator.acknowledge('$due'), rotator.acknowledge('$due')",
        &["alert.acknowledged secret"],
    ),
    (
        "select rotator.import_secrets('[{\"name\":\"i\",\"rotation_interval\":\"1 day\",\"external_id\":\"e\"},{\"name\":\"\"},{\"name\":\"renamed\",\"external_id\":\"due\"}]')",
        &["secret.registered secret", "secret.updated secret"],
    ),
    (
        "select rotator.import_secrets('[{\"name\":\"i\",\"rotation_interval\":\"1 day\"}]', dry_run => true)",
        &[],
    ),
    (
        "select rotator.set_contact('x', 'email', 'x@example.com')",
        &["contact.set contact"],
    ),
    (
        "select rotator.add_notification_policy(2, 'email', 'x@example.com')",
        &["policy.added notification_policy"],
    ),
    (
        "select rotator.remove_notification_policy('$policy')",
        &["policy.removed notification_policy"],
    ),
    (
        "select rotator.add_member('u1', 'editor')",
        &["member.added member"],
    ),
    (
        "select rotator.remove_member('u1')",
        &["member.removed member"],
    ),
    (
        "select rotator.rotate_key(reason => 'drill')",
        &["key.rotated key"],
    ),
    (
        "select * from rotator.secrets, rotator.search_secrets('x'), rotator.overview, rotator.alerts, rotator.audit_log, rotator.use_tenant('acme')",
        &[],
    ),
];

#[tokio::test]
async fn each_change_writes_its_event_in_its_transaction() -> Result<()> {
    let t = TwoTenants::new().await?;
    let acme = "tenant_id = (select tenant_id from rotator_internal.tenant where slug = 'acme')";
    let due = text(
        &t.db.admin,
        &format!("select id from rotator_internal.secret where {acme} and external_id = 'due'"),
    )
    .await?;
    let policy = text(
        &t.db.admin,
        &format!("select min(id::text) from rotator_internal.notification_policy where {acme}"),
    )
    .await?;
    let session = t.db.connect_as(&t.acme).await?;
    for (change, expected) in CHANGES {
        let change = change.replace("$due", &due).replace("$policy", &policy);
        let before = text(&t.db.admin, LAST).await?;
        session.batch_execute("begin").await?;
        session.simple_query(&change).await?;
        // A superuser's view from inside the transaction isn't to be had, so the admin's own.
        let inside = texts(&session, &format!("select concat_ws(' ', action, entity) from rotator.audit_log where id > {before} order by id")).await?;
        ensure!(inside == *expected, "{change}: {inside:?}");
        ensure!(
            texts(&t.db.admin, &format!("{EVENTS}{before}"))
                .await?
                .is_empty(),
            "{change}: seen before the commit"
        );
        session.batch_execute("rollback").await?;
        ensure!(
            texts(&t.db.admin, &format!("{EVENTS}{before}"))
                .await?
                .is_empty(),
            "{change}: the event outlived its change"
        );
    }
    let before = text(&t.db.admin, LAST).await?;
    for refused in [
        "select rotator.mark_rotated('$due')",
        "select rotator.register_secret('', rotation_interval => '1 day')",
        "select rotator.add_member('db:x')",
    ] {
        ensure!(
            verdict(&session, &refused.replace("$due", &due)).await? != "ok",
            "{refused}"
        );
    }
    ensure!(
        text(&t.db.admin, LAST).await? == before,
        "a refusal leaves nothing"
    );
    Ok(())
}

#[tokio::test]
async fn operators_and_the_engine_are_audited_too() -> Result<()> {
    let db = TestDb::new().await?;
    let before = text(&db.admin, LAST).await?;
    db.tenant("acme").await?;
    crate::fixture::populate(&db, "acme").await?;
    let claimed = texts(&db.admin, "select format('select rotator.complete_notification(%L, %L, %L)', id, claim_id, 'ok') from rotator.claim_notifications('w')").await?;
    ensure!(claimed.len() == 1);
    db.admin.batch_execute(&claimed[0]).await?;
    let events = texts(&db.admin, &format!("select concat_ws(' ', actor, source, action) from rotator_internal.audit_event where id > {before} order by id")).await?;
    let tail = [
        "rotator engine reminder.queued",
        "rotator engine notification.sent",
    ];
    ensure!(
        events
            .first()
            .is_some_and(|event| event == "db:postgres sql tenant.created")
            && events.ends_with(&tail.map(str::to_owned)),
        "{events:#?}"
    );
    ensure!(events.len() == 11, "{events:#?}");
    Ok(())
}

/// A table of the log, one of its columns, and its key.
const TABLES: &[(&str, &str, &str)] = &[
    ("audit_event", "actor = 'nobody'", "tenant_id, id"),
    ("audit_block", "events = 1", "tenant_id, number"),
    ("audit_leaf", "block_number = 1", "tenant_id, event_id"),
    ("audit_signature", "note = ''", "tenant_id, number"),
];

const CHANGING: &[&str] = &[
    "update $table set $change",
    "update $table set $change where false",
    "delete from $table",
    "delete from only $table where tenant_id is null",
    "truncate $table",
    "truncate $table, rotator_internal.heartbeat cascade",
    "merge into $table e using (select 1) as s on true when matched then delete",
    "merge into $table e using (select 1) as s on true when matched then update set $change",
    "insert into $table table $table on conflict ($key) do update set $change",
    "with gone as (delete from $table returning *) select * from gone",
];

/// What the owner of a table may do, and so nobody but a superuser.
const OWNING: &[&str] = &[
    "alter table $table disable trigger append_only",
    "alter table $table enable replica trigger append_only",
    "alter table $table disable trigger all",
    "drop trigger append_only on $table",
    "create trigger quiet before update on $table for each statement execute function suppress_redundant_updates_trigger()",
    "create rule quiet as on delete to $table do instead nothing",
    "alter table $table add column more int",
    "alter table $table no force row level security",
    "alter table $table owner to current_user",
    "drop table $table cascade",
    "create policy mine on $table using (true)",
    "create table heir () inherits ($table)",
    "set session_replication_role = replica",
];

const VIEWS: &[&str] = &[
    "update rotator.audit_log set actor = 'nobody'",
    "delete from rotator.audit_log",
    "update rotator.audit_blocks set hash = ''",
    "delete from rotator.audit_leaves",
];

fn attacks(templates: &[&str]) -> Vec<String> {
    TABLES
        .iter()
        .flat_map(|(table, change, key)| {
            templates.iter().map(move |template| {
                template
                    .replace("$table", &format!("rotator_internal.{table}"))
                    .replace("$change", change)
                    .replace("$key", key)
            })
        })
        .collect()
}

#[tokio::test]
async fn no_event_is_ever_changed_or_removed() -> Result<()> {
    let t = TwoTenants::new().await?;
    crate::sealed::seal_all(&t.db).await?;
    let digest = "select md5(concat((select string_agg(e::text, '' order by id) from rotator_internal.audit_event e),
            (select string_agg(b::text, '' order by tenant_id, number) from rotator_internal.audit_block b),
            (select string_agg(l::text, '' order by event_id) from rotator_internal.audit_leaf l)))";
    let before = text(&t.db.admin, digest).await?;
    for become_role in AS_ROLES {
        let session = t.db.superuser().await?;
        session
            .batch_execute("select rotator.use_tenant('acme')")
            .await?;
        session.batch_execute(become_role).await?;
        for attack in attacks(CHANGING) {
            // Without a grant or with a refusing trigger.
            let verdict = verdict(&session, &attack).await?;
            ensure!(verdict == "42501", "{become_role}: {attack}: {verdict}");
        }
        for attack in VIEWS {
            // Views over more than a table lead nowhere.
            let verdict = verdict(&session, attack).await?;
            ensure!(
                verdict == "42501" || verdict == "55000",
                "{become_role}: {attack}: {verdict}"
            );
        }
        let owns = [
            "",
            "set role rotator_owner",
            "set session_replication_role = replica",
        ]
        .contains(&become_role);
        for attack in attacks(OWNING).iter().filter(|_| !owns) {
            ensure!(
                verdict(&session, attack).await? != "ok",
                "{become_role}: {attack}"
            );
        }
    }
    for member in [
        &t.acme,
        &t.db
            .login_role("auditing", &["rotator_auditor", "pg_write_all_data"])
            .await?,
        &t.db
            .login_role(
                "all",
                &["rotator_admin", "rotator_sidecar", "rotator_auditor"],
            )
            .await?,
    ] {
        let session: Client = t.db.connect_as(member).await?;
        let all = [attacks(CHANGING), attacks(OWNING)].concat();
        for attack in all
            .iter()
            .map(String::as_str)
            .chain(VIEWS.iter().copied())
            .chain(["insert into rotator.audit_log (action) values ('forged')"])
        {
            ensure!(
                verdict(&session, attack).await? != "ok",
                "{}: {attack}",
                member.name
            );
        }
        for table in [
            "rotator.audit_log",
            "rotator_internal.audit_event",
            "rotator_internal.audit_leaf",
            "rotator_internal.audit_signature",
        ] {
            let copy = format!(
                "set session authorization {}; copy {table} from stdin",
                member.name
            );
            ensure!(
                t.db.cluster.psql(&t.db.name, &copy).is_err(),
                "{}: {copy}",
                member.name
            );
        }
    }
    ensure!(
        text(&t.db.admin, digest).await? == before,
        "the log was changed"
    );
    crate::sealed::expect_clean(&t.db.admin, 0).await?;
    Ok(())
}
