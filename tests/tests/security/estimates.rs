//! What the planner tells: EXPLAIN shows its estimates to anyone, and they come from statistics about all tenants. What
//! members may read has none, so that a guessed value, date or tenant shows nothing of others.

use anyhow::{Result, ensure};
use rotator_tests::scalar;
use tokio_postgres::Client;

use crate::fixture::{TwoTenants, texts};

/// What EXPLAIN expects of the rows of each node.
async fn estimates(client: &Client, query: &str) -> Result<Vec<String>> {
    let plan = texts(client, &format!("explain {query}")).await?;
    let rows = plan.iter().filter_map(|line| line.split("rows=").nth(1));
    Ok(rows
        .filter_map(|rest| rest.split(' ').next().map(str::to_owned))
        .collect())
}

#[tokio::test]
async fn what_members_may_read_has_no_statistics() -> Result<()> {
    let t = TwoTenants::new().await?;
    t.db.admin
        .batch_execute("select rotator.rotate_all_keys(), rotator.reencrypt_step(); analyze")
        .await?;
    let told = texts(
        &t.db.admin,
        "select s.starelid::regclass || '.' || a.attname from pg_statistic s
         join pg_attribute a on a.attrelid = s.starelid and a.attnum = s.staattnum
         where has_column_privilege('rotator_user', s.starelid, s.staattnum, 'select')
           and s.starelid in (select oid from pg_class where relnamespace = 'rotator_internal'::regnamespace) order by 1",
    )
    .await?;
    // How many tenants share a table; nobody can ask about one of them, because no view shows the column.
    let shared = [
        "alert",
        "contact",
        "notification",
        "notification_policy",
        "recipient",
        "rotation",
        "secret",
    ];
    let expected: Vec<String> = shared
        .iter()
        .map(|table| format!("rotator_internal.{table}.tenant_id"))
        .collect();
    ensure!(
        told.iter().all(|column| expected.contains(column)),
        "analysed for anyone to see: {told:?}"
    );
    let shown = texts(
        &t.db.admin,
        "select distinct d.refobjid::regclass from pg_attribute a join pg_class v on v.oid = a.attrelid and v.relkind = 'v' and v.relnamespace = 'rotator'::regnamespace
         join pg_rewrite r on r.ev_class = v.oid join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid and d.refclassid = 'pg_class'::regclass and d.refobjid <> v.oid
         where a.attname = 'tenant_id' order by 1",
    )
    .await?;
    ensure!(shown.len() > 3, "{shown:?}");
    for table in shared {
        ensure!(
            !shown.contains(&format!("rotator_internal.{table}")),
            "a view that shows a tenant_id reads {table}"
        );
    }
    let gathered: i64 = scalar(
        &t.db.admin,
        "select count(*) from pg_statistic where starelid = 'rotator_internal.calendar'::regclass",
        &[],
    )
    .await?;
    ensure!(gathered > 0, "the engine's own tables are analysed");
    // An index over an expression has statistics of its own.
    let expressions = texts(
        &t.db.admin,
        "select i.indexrelid::regclass from pg_index i join pg_class c on c.oid = i.indrelid
         where c.relnamespace = 'rotator_internal'::regnamespace and i.indexprs is not null",
    )
    .await?;
    ensure!(expressions.is_empty(), "{expressions:?}");
    Ok(())
}

/// Acme has much of one value; beta asks what is expected of that value, and of one that nobody has.
#[tokio::test]
async fn estimates_tell_nothing_of_another_tenant() -> Result<()> {
    let t = TwoTenants::new().await?;
    let items = (0..600)
        .map(|n| {
            format!(
                r#"{{"name":"n{n}","rotation_interval":"9 days","owner_id":"ceo","secondary_owner_id":"ceo","team_lead_id":"ceo","expiry_date":"2031-05-17T10:00:00Z",
        "provider_type":"stripe","environment":"prod","priority":"P1","external_id":"x{n}","labels":{{"team":"pay"}}}}"#
            )
        })
        .collect::<Vec<_>>()
        .join(",");
    t.db.admin
        .batch_execute(&format!(
            "select rotator.use_tenant('acme', true); select count(*) from rotator.import_secrets('[{items}]')"
        ))
        .await?;
    t.db.admin.batch_execute("analyze").await?;
    let acme: String = scalar(
        &t.db.admin,
        "select tenant_id::text from rotator_internal.tenant where slug = 'acme'",
        &[],
    )
    .await?;
    let a_secret: String = scalar(
        &t.db.admin,
        "select max(id::text) from rotator_internal.secret where tenant_id = $1::text::uuid",
        &[&acme],
    )
    .await?;
    let nobody = "01890000-0000-7000-8000-000000000000";
    let session = t.db.connect_as(&t.beta).await?;
    for (view, condition, used, unused) in [
        ("secrets", "owner_id = '$'", "ceo", "nobody"),
        ("secrets", "secondary_owner_id = '$'", "ceo", "nobody"),
        ("secrets", "team_lead_id = '$'", "ceo", "nobody"),
        ("secrets", "provider_type = '$'", "stripe", "vault"),
        ("secrets", "environment = '$'", "prod", "void"),
        ("secrets", "priority = '$'", "P1", "P4"),
        ("secrets", "external_id = '$'", "x7", "x9999"),
        (
            "secrets",
            "labels = '$'",
            r#"{"team": "pay"}"#,
            r#"{"team": "void"}"#,
        ),
        (
            "secrets",
            "expiry_date = '$'",
            "2031-05-17 10:00Z",
            "2033-01-01 10:00Z",
        ),
        (
            "secrets",
            "expiry_date < '$'",
            "2031-05-18 10:00Z",
            "2024-01-01 10:00Z",
        ),
        ("secrets", "created_at > '$'", "2020-01-01", "2090-01-01"),
        (
            "secrets",
            "id > '$'",
            nobody,
            "ff890000-0000-7000-8000-000000000000",
        ),
        ("secrets", "id = '$'", &a_secret, nobody),
        ("audit_log", "tenant_id = '$'", &acme, nobody),
        (
            "audit_log",
            "action = '$'",
            "secret.registered",
            "secret.retired",
        ),
        ("audit_log", "id < $", "400", "1"),
        ("audit_log", "entity_id = '$'", &a_secret, nobody),
        ("audit_values", "event_id = $", "3", "400000"),
        ("audit_values", "new_value = '$'", "acme-due", "nobody"),
        ("encryption_keys", "tenant_id = '$'", &acme, nobody),
        ("key_rotations", "tenant_id = '$'", &acme, nobody),
        ("notifications", "secret_id = '$'", &a_secret, nobody),
        ("alerts", "secret_id = '$'", &a_secret, nobody),
        ("contacts", "owner_id = '$'", "db:postgres", "nobody"),
    ] {
        let of = |value: &str| {
            format!(
                "select * from rotator.{view} where {}",
                condition.replace('$', value)
            )
        };
        let (used, unused) = (
            estimates(&session, &of(used)).await?,
            estimates(&session, &of(unused)).await?,
        );
        ensure!(
            !used.is_empty() && used == unused,
            "{view}, {condition}: {used:?} rows are expected of what acme has, {unused:?} of what nobody has"
        );
    }
    ensure!(
        texts(
            &session,
            "select tablename from pg_stats where schemaname like 'rotator%'"
        )
        .await?
        .is_empty()
    );
    Ok(())
}
