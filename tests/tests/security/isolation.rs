//! Two tenants never see each other: row security on every table, views that show nothing without a tenant to anyone,
//! prepared statements and cursors that follow `use_tenant`, and parallel workers.

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, scalar};

use crate::fixture::{TwoTenants, text, texts};

/// Views of schema rotator that filter on the tenant themselves; the others lean on row security alone, and one, which
/// only operators may read, lists columns of the host's.
const FILTERED: &str = "select c.relname::text from pg_class c where c.relnamespace = 'rotator'::regnamespace and c.relkind = 'v'
    and c.relname not in ('audit_log', 'audit_blocks', 'audit_leaves', 'encryption_keys', 'key_rotations', 'encrypted_columns') order by 1";

#[tokio::test]
async fn every_table_with_a_tenant_enforces_row_security() -> Result<()> {
    let db = TestDb::new().await?;
    let open = texts(&db.admin, "select c.relname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id'
        where c.relnamespace = 'rotator_internal'::regnamespace and c.relkind in ('r', 'p') and not (c.relrowsecurity and c.relforcerowsecurity)").await?;
    ensure!(open.is_empty(), "without forced row security: {open:?}");
    let tables: i64 = scalar(&db.admin, "select count(*) from pg_policies where schemaname = 'rotator_internal' and policyname = 'read_own'", &[]).await?;
    ensure!(tables >= 14, "only {tables} tables were looked at");

    // A table without tenant_id holds nothing of a tenant.
    let untenanted = texts(&db.admin, "select c.relname from pg_class c where c.relnamespace in ('rotator_internal'::regnamespace, 'rotator'::regnamespace)
        and c.relkind in ('r', 'p', 'm', 'f') and not exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id') order by 1").await?;
    ensure!(
        untenanted == ["audit_seal_state", "encrypted_column", "heartbeat"],
        "{untenanted:?}"
    );

    // No policy lets a member role see or write more than the current tenant.
    let wide = texts(
        &db.admin,
        "select concat_ws(' ', tablename, policyname, roles, cmd) from pg_policies
        where schemaname = 'rotator_internal'
          and (coalesce(qual, '') = 'true' or coalesce(with_check, '') = 'true'
            or concat(qual, with_check) not like '%rotator.current_tenant()%'
            or (cmd in ('ALL', 'INSERT', 'UPDATE') and with_check is null))
          and roles <> '{rotator_engine}' order by 1",
    )
    .await?;
    ensure!(
        wide == [
            "audit_block read_all {rotator_auditor} SELECT",
            "audit_event read_all {rotator_auditor} SELECT",
            "audit_leaf read_all {rotator_auditor} SELECT",
            "audit_signature read_all {rotator_auditor} SELECT",
            "encryption_key read_all {rotator_admin} SELECT",
            "key_rotation read_all {rotator_admin} SELECT",
            "key_use read_all {rotator_admin} SELECT",
            "reencryption read_all {rotator_admin} SELECT",
        ],
        "{wide:#?}"
    );
    let public = texts(&db.admin, "select tablename from pg_policies where schemaname = 'rotator_internal' and roles && '{public}'").await?;
    ensure!(public.is_empty(), "{public:?}");
    Ok(())
}

#[tokio::test]
async fn views_are_invokers_and_show_nothing_without_a_tenant() -> Result<()> {
    let t = TwoTenants::new().await?;
    crate::sealed::seal_all(&t.db).await?;
    t.db.admin
        .batch_execute("select rotator.rotate_all_keys()")
        .await?;
    // Each tenant has what reached nobody.
    t.db.admin
        .batch_execute(
            "do $$
             declare
                 c record;
             begin
                 loop
                     for c in select * from rotator.claim_notifications('w') loop
                         perform rotator.fail_notification(c.id, c.claim_id, 'refused', 'permanent');
                     end loop;
                     exit when not found;
                 end loop;
             end $$",
        )
        .await?;
    let definers = texts(&t.db.admin, "select c.relname from pg_class c where c.relkind = 'v' and c.relnamespace in ('rotator'::regnamespace, 'rotator_internal'::regnamespace)
        and not coalesce(c.reloptions, '{}') @> '{security_invoker=true}'").await?;
    ensure!(definers.is_empty(), "not security_invoker: {definers:?}");

    let bypass = t.db.login_role("service", &["rotator_user"]).await?;
    t.db.admin
        .batch_execute(&format!("alter role {} bypassrls", bypass.name))
        .await?;
    let member_of_none =
        t.db.connect_as(&t.db.login_role("nobody", &["rotator_user"]).await?)
            .await?;
    let (superuser, bypass) = (t.db.superuser().await?, t.db.connect_as(&bypass).await?);
    let filtered = texts(&t.db.admin, FILTERED).await?;
    ensure!(filtered.len() >= 6, "{filtered:?}");
    for view in &filtered {
        for (who, session) in [
            ("superuser", &superuser),
            ("bypassrls", &bypass),
            ("member of none", &member_of_none),
        ] {
            let rows: i64 = scalar(
                session,
                &format!("select count(*) from rotator.{view}"),
                &[],
            )
            .await?;
            ensure!(
                rows == 0,
                "{who} sees {rows} rows of {view} without a tenant"
            );
        }
    }
    for view in [
        "audit_log",
        "audit_blocks",
        "audit_leaves",
        "encryption_keys",
        "key_rotations",
    ] {
        let rows: i64 = scalar(
            &member_of_none,
            &format!("select count(*) from rotator.{view}"),
            &[],
        )
        .await?;
        ensure!(
            rows == 0,
            "a member of no tenant sees {rows} rows of {view}"
        );
    }

    // With a tenant exactly its rows, to superusers and members alike; so each view has rows to hide.
    superuser
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    let member = t.db.connect_as(&t.acme).await?;
    for view in filtered.iter().map(String::as_str).chain([
        "audit_log",
        "audit_blocks",
        "audit_leaves",
        "encryption_keys",
        "key_rotations",
    ]) {
        let rows = texts(
            &member,
            &format!("select v::text from rotator.{view} as v order by 1"),
        )
        .await?;
        ensure!(!rows.is_empty(), "{view} is empty for the tenant's admin");
        ensure!(
            !rows.iter().any(|row| row.contains("beta")),
            "{view} shows beta: {rows:?}"
        );
        if filtered.iter().any(|filtered| filtered == view) {
            ensure!(
                rows == texts(
                    &superuser,
                    &format!("select v::text from rotator.{view} as v order by 1")
                )
                .await?,
                "{view}"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn plans_and_cursors_follow_use_tenant() -> Result<()> {
    let t = TwoTenants::new().await?;
    let operator = t.db.superuser().await?;
    let both = t.db.login_role("both", &["rotator_user"]).await?;
    for tenant in ["acme", "beta"] {
        operator
            .execute(
                "select rotator.add_member($1, 'admin', $2)",
                &[&both.subject(), &tenant],
            )
            .await?;
    }
    for mode in ["force_generic_plan", "force_custom_plan", "auto"] {
        let session = t.db.connect_as(&both).await?;
        session
            .batch_execute(&format!(
                "set plan_cache_mode = {mode};
                 prepare named (text) as select name from rotator.secrets where external_id = $1;
                 prepare logged as select string_agg(distinct split_part(a.tenant_id::text, '-', 5), '') from rotator.audit_log a;
                 prepare changed as update rotator.secrets set environment = 'prod' where external_id = 'due' returning name"
            ))
            .await?;
        for turn in 0..8 {
            let tenant = ["acme", "beta"][turn % 2];
            session
                .batch_execute(&format!("select rotator.use_tenant('{tenant}')"))
                .await?;
            ensure!(
                text(&session, "execute named('due')").await? == format!("{tenant}-due"),
                "{mode}"
            );
            ensure!(
                text(&session, "execute changed").await? == format!("{tenant}-due"),
                "{mode}"
            );
            ensure!(
                text(&session, "execute logged").await?.len() == 12,
                "{mode}: one tenant's audit only"
            );
            session
                .batch_execute("discard temp; select rotator.use_tenant('acme', true)")
                .await?;
        }
        // A cursor shows rows of one tenant, whenever it is read.
        session.batch_execute("begin; select rotator.use_tenant('acme'); declare c cursor for select name from rotator.secrets").await?;
        let mut seen = texts(&session, "fetch 1 from c").await?;
        session
            .batch_execute("select rotator.use_tenant('beta')")
            .await?;
        seen.extend(texts(&session, "fetch all from c").await?);
        session.batch_execute("commit").await?;
        let (acme, beta): (Vec<_>, Vec<_>) = seen.iter().partition(|name| name.starts_with("acme"));
        ensure!(acme.len() <= 2 && beta.is_empty(), "{seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn parallel_workers_see_one_tenant() -> Result<()> {
    let t = TwoTenants::new().await?;
    for tenant in ["acme", "beta"] {
        t.db.admin
            .batch_execute(&format!(
                "select rotator.use_tenant('{tenant}', true);
                 select count(*) from rotator.import_secrets((select jsonb_agg(jsonb_build_object('name', '{tenant}-' || g, 'rotation_interval', '90 days'))
                     from generate_series(1, 1500) as g))"
            ))
            .await?;
    }
    t.db.admin.batch_execute("analyze").await?;
    let session = t.db.connect_as(&t.beta).await?;
    session
        .batch_execute("set jit = off; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
            set min_parallel_index_scan_size = 0; set max_parallel_workers_per_gather = 4; set enable_indexscan = off; set enable_bitmapscan = off")
        .await?;
    let query = "select concat_ws('/', count(*), count(distinct name), min(split_part(name, '-', 1)), max(split_part(name, '-', 1))) from rotator.secrets";
    let plan = texts(
        &session,
        &format!("explain (analyze, costs off, timing off, summary off) {query}"),
    )
    .await?
    .join("\n");
    ensure!(
        text(&session, query).await? == "1502/1502/beta/beta",
        "{plan}"
    );
    let in_workers = "select concat_ws('/', count(*), count(provider_ref)) from rotator.secrets where name like 'beta%'";
    // Its name from PostgreSQL 16 on, and before.
    let setting = text(
        &session,
        "select name from pg_settings where name in ('debug_parallel_query', 'force_parallel_mode')",
    )
    .await?;
    for forced in ["off", "on", "regress"] {
        session
            .batch_execute(&format!("set {setting} = {forced}"))
            .await?;
        ensure!(
            text(&session, in_workers).await? == "1502/1",
            "{setting} = {forced}"
        );
    }
    let plan = texts(
        &session,
        &format!("explain (analyze, costs off, timing off) {in_workers}"),
    )
    .await?
    .join("\n");
    ensure!(
        plan.contains("Workers Launched: ") && !plan.contains("Workers Launched: 0"),
        "no worker took part:\n{plan}"
    );
    Ok(())
}
