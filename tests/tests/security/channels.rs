//! Ways round the front door for a login role with SQL of its own: functions, operators and casts of its making that
//! look at rows while they are filtered, locks, sequences, notifications, counts, and what SET ROLE or a switch of the
//! tenant leaves behind. Estimates are in `estimates`, error texts about ids in `foreign`.

use anyhow::{Result, ensure};
use rotator_tests::scalar;

use crate::fixture::{TwoTenants, refusal, text, texts, verdict};

/// A filter that costs nothing by its own account, so that the planner would like to ask it first, and that tells what
/// it was shown.
const SPY: &str = "
create temporary table seen (what text);
create function pg_temp.spy(value text) returns boolean language plpgsql cost 0.000001 as
    $$ begin insert into seen values (value); return true; end $$;
create function pg_temp.spy_on(value text, other text) returns boolean language plpgsql cost 0.000001 as
    $$ begin insert into seen values (value); return true; end $$;
create operator pg_temp.?? (leftarg = text, rightarg = text, function = pg_temp.spy_on);";

#[tokio::test]
async fn a_filter_of_ones_own_is_shown_own_rows_alone() -> Result<()> {
    let t = TwoTenants::new().await?;
    t.db.admin
        .batch_execute("select rotator.rotate_all_keys(); select rotator.reencrypt_step(); analyze")
        .await?;
    let beta: Vec<String> = texts(
        &t.db.admin,
        "select tenant_id::text from rotator_internal.tenant where slug = 'beta' union all
         select s.id::text from rotator_internal.secret s join rotator_internal.tenant t using (tenant_id) where t.slug = 'beta'",
    )
    .await?;
    let session = t.db.connect_as(&t.acme).await?;
    session.batch_execute(SPY).await?;
    session.batch_execute("set jit = off").await?;
    let columns = texts(
        &session,
        "select c.relname || '|' || a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
         where c.relnamespace = 'rotator'::regnamespace and c.relkind = 'v' and c.relname <> 'encrypted_columns'",
    )
    .await?;
    ensure!(columns.len() > 60, "{columns:?}");
    for planning in [
        "reset enable_seqscan; reset enable_indexscan",
        "set enable_indexscan = off; set enable_bitmapscan = off; set enable_indexonlyscan = off",
        "set enable_seqscan = off",
    ] {
        session.batch_execute(planning).await?;
        for column in &columns {
            let (view, column) = column.split_once('|').unwrap_or_default();
            for condition in [
                format!("pg_temp.spy({column}::text)"),
                format!("{column}::text operator(pg_temp.??) 'x'"),
                format!("case when pg_temp.spy({column}::text) then true end"),
            ] {
                session
                    .batch_execute(&format!(
                        "select count(*) from rotator.{view} where {condition}"
                    ))
                    .await?;
            }
        }
        session
            .batch_execute(
                "select count(*) from rotator.secrets as s join rotator.alerts as a on pg_temp.spy(a.secret_name) and a.secret_id = s.id;
                 select count(*) from rotator.search_secrets() as s where pg_temp.spy(s.name);
                 update rotator.secrets set environment = 'prod' where pg_temp.spy(name);
                 select pg_temp.spy(name) from rotator.secrets order by pg_temp.spy(purpose)",
            )
            .await?;
    }
    let seen = texts(
        &session,
        "select distinct what from seen where what is not null",
    )
    .await?;
    ensure!(seen.len() > 50, "the spy was asked: {seen:?}");
    let foreign: Vec<&String> = seen
        .iter()
        .filter(|what| what.contains("beta") || beta.iter().any(|id| what.contains(id.as_str())))
        .collect();
    ensure!(foreign.is_empty(), "shown to a filter: {foreign:?}");

    // A cast that fails says of which value.
    for column in ["name", "owner_id", "provider_ref", "purpose", "environment"] {
        let said = refusal(
            &session,
            &format!("select count(*) from rotator.secrets where {column}::integer > 0 or true"),
        )
        .await;
        ensure!(!said.unwrap_or_default().contains("beta"), "{column}");
    }
    Ok(())
}

/// A host's table holds values of two tenants, and its query filters by tenant and by what decrypts. Asked the other way
/// round, decrypting would fail on the first row of the other tenant.
#[tokio::test]
async fn a_host_is_not_shown_values_of_another_tenant_before_its_filter() -> Result<()> {
    let t = TwoTenants::new().await?;
    t.db.admin
        .batch_execute("create table public.host (id int, tenant_id uuid, value bytea); grant all on public.host to public")
        .await?;
    let mut sessions = Vec::new();
    for (number, role) in [&t.acme, &t.beta].into_iter().enumerate() {
        let session = t.db.connect_as(role).await?;
        session
            .batch_execute(&format!(
                "insert into public.host select n, rotator.current_tenant(), rotator.encrypt('value ' || n, 'host.value', n::text) from generate_series({0}, {0} + 9) as n",
                number * 10
            ))
            .await?;
        sessions.push(session);
    }
    t.db.admin.batch_execute("analyze public.host").await?;
    for session in &sessions {
        for tenant in [
            "rotator.current_tenant()",
            "(select rotator.current_tenant())",
        ] {
            for condition in [
                format!(
                    "rotator.decrypt(value, 'host.value', id::text) like 'value %' and tenant_id = {tenant}"
                ),
                format!(
                    "tenant_id = {tenant} and rotator.decrypt(value, 'host.value', id::text) <> ''"
                ),
            ] {
                let found: i64 = scalar(
                    session,
                    &format!("select count(*) from public.host where {condition}"),
                    &[],
                )
                .await?;
                ensure!(found == 10, "{condition}: {found}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn locks_sequences_and_counts_are_out_of_reach() -> Result<()> {
    let t = TwoTenants::new().await?;
    let session = t.db.connect_as(&t.acme).await?;
    session
        .batch_execute("select rotator.register_secret('counted', rotation_interval => '1 day')")
        .await?;
    for statement in [
        // what others wait for
        "lock table rotator.secrets in access exclusive mode",
        "lock table rotator.secrets in share mode",
        "lock table rotator.audit_log in exclusive mode",
        "select id from rotator.secrets for update",
        "select id from rotator.alerts for key share",
        "alter table rotator.secrets rename to stolen",
        "create trigger t instead of insert on rotator.secrets for each row execute function suppress_redundant_updates_trigger()",
        "create rule r as on select to rotator.overview do instead select 1",
        "comment on view rotator.secrets is 'mine'",
        "refresh materialized view rotator.secrets",
        "create table public.child () inherits (rotator.secrets)",
        "create function rotator.mine() returns int language sql as 'select 1'",
        // what counts for everybody
        "select lastval()",
        "select currval('rotator_internal.audit_event_id')",
        "select last_value from rotator_internal.audit_event_id",
        "select pg_sequence_last_value('rotator_internal.audit_event_id'::regclass)",
        // what a key could be tried on
        "create table pg_temp.probe (tenant_id uuid, id uuid, foreign key (tenant_id, id) references rotator_internal.secret (tenant_id, id))",
        "insert into rotator_internal.member values (gen_random_uuid(), 'x', 'admin')",
        "select pg_get_expr(conbin, conrelid), rotator_internal.uuid_v7() from pg_constraint",
        "set role rotator_owner",
        "set role rotator_engine",
        "set session authorization postgres",
    ] {
        session.batch_execute("begin").await?;
        let code = verdict(&session, statement).await?;
        session.batch_execute("rollback").await?;
        ensure!(
            ["42501", "42809", "3F000", "0A000", "22023"].contains(&code.as_str()),
            "{statement}: {code}"
        );
    }

    // Another tenant's rows are no obstacle and count for nothing.
    let beta = t.db.connect_as(&t.beta).await?;
    for (session, tenant) in [(&session, "acme"), (&beta, "beta")] {
        let imported = text(
            session,
            "select string_agg(action || coalesce(error, ''), ' ' order by item) from rotator.import_secrets(
                 '[{\"name\": \"same\", \"external_id\": \"same\", \"rotation_interval\": \"2 days\"}, {\"name\": \"same\", \"external_id\": \"other\", \"rotation_interval\": \"2 days\"}]')",
        )
        .await?;
        ensure!(
            imported.starts_with("created") || imported.starts_with("inserted"),
            "{tenant}: {imported}"
        );
    }
    Ok(())
}

/// Anyone may listen, so what is sent says nothing.
#[tokio::test]
async fn notifications_carry_nothing() -> Result<()> {
    let t = TwoTenants::new().await?;
    let bodies: Vec<String> = texts(
        &t.db.admin,
        "select p.oid::regprocedure || ': ' || m.call[1] from pg_proc p cross join lateral regexp_matches(p.prosrc, 'notify[^;]*', 'gi') as m (call)
         where p.pronamespace in ('rotator'::regnamespace, 'rotator_internal'::regnamespace) and m.call[1] like '%(%'",
    )
    .await?;
    ensure!(
        bodies
            .iter()
            .any(|body| body.contains("notify('rotator_outbox', '')"))
            && bodies
                .iter()
                .filter(|body| body.contains("rotator_outbox"))
                .count()
                == 1,
        "{bodies:#?}"
    );
    Ok(())
}

#[tokio::test]
async fn set_role_and_reset_change_nobody() -> Result<()> {
    let t = TwoTenants::new().await?;
    let beta = &t.beta.name;
    t.db.admin
        .batch_execute(&format!(
            "grant {beta} to {}; grant rotator_auditor to {beta}",
            t.acme.name
        ))
        .await?;
    let session = t.db.connect_as(&t.acme).await?;
    const NAMES: &str =
        "select string_agg(distinct split_part(name, '-', 1), ' ') from rotator.secrets";
    session
        .batch_execute(&format!("prepare names as {NAMES}"))
        .await?;
    for step in [
        "select 1".to_owned(),
        format!("set role {beta}"),
        "execute names".to_owned(),
        "set local role rotator_user".to_owned(),
        "reset role".to_owned(),
        format!("begin; set local role {beta}"),
        "commit".to_owned(),
        "set row_security = off".to_owned(),
        "reset row_security".to_owned(),
        "discard plans".to_owned(),
    ] {
        session.batch_execute(&step).await?;
        if step.contains("row_security = off") {
            // PostgreSQL refuses rather than show rows that a policy would hide.
            ensure!(verdict(&session, NAMES).await? == "42501", "{step}");
            continue;
        }
        for asked in [NAMES, "execute names"] {
            ensure!(text(&session, asked).await? == "acme", "after {step}");
        }
        ensure!(
            text(&session, "select rotator.current_actor()").await? == t.acme.subject(),
            "after {step}"
        );
    }
    Ok(())
}

/// A member's other session, and one more of the same role, go on with what they had.
#[tokio::test]
async fn a_choice_in_one_session_is_no_other_sessions() -> Result<()> {
    let t = TwoTenants::new().await?;
    let both = t.db.login_role("both", &["rotator_user"]).await?;
    for tenant in ["acme", "beta"] {
        t.db.admin
            .execute(
                "select rotator.add_member($1, 'viewer', $2)",
                &[&both.subject(), &tenant],
            )
            .await?;
    }
    let (first, second) = (t.db.connect_as(&both).await?, t.db.connect_as(&both).await?);
    first
        .batch_execute("select rotator.use_tenant('acme')")
        .await?;
    second
        .batch_execute("select rotator.use_tenant('beta')")
        .await?;
    // A cursor that was opened and never read belongs to whoever reads it first, and to nobody else afterwards.
    first
        .batch_execute("begin; declare unread cursor for select name from rotator.secrets order by name; declare read cursor for select name from rotator.secrets order by name")
        .await?;
    let mut of_acme = texts(&first, "fetch 1 from read").await?;
    first
        .batch_execute("select rotator.use_tenant('beta')")
        .await?;
    of_acme.extend(texts(&first, "fetch all from read").await?);
    let unread = texts(&first, "fetch all from unread").await?;
    first.batch_execute("rollback").await?;
    for names in [&of_acme, &unread] {
        let tenants: std::collections::BTreeSet<&str> =
            names.iter().map(|name| &name[..4]).collect();
        ensure!(names.len() == 2 && tenants.len() == 1, "{names:?}");
    }
    ensure!(
        text(&first, "select min(name) from rotator.secrets").await? == "acme-due",
        "the choice that was rolled back"
    );
    ensure!(text(&second, "select min(name) from rotator.secrets").await? == "beta-due");
    Ok(())
}
