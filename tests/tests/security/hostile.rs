//! Lookalikes: an attacker who may create in `public` makes functions and operators of the names that rotator's code
//! uses, before it is installed, and the sessions' search_path puts them first. None may ever run.

use anyhow::{Result, ensure};
use rotator_tests::TestDb;

use crate::fixture::texts;

/// Every operator and function of pg_catalog on the types rotator works with gets a twin in `public` that raises.
const TRAPS: &str = r#"
do $traps$
declare
    o record;
    ours constant regtype[] := array['text', 'uuid', 'jsonb', 'json', 'timestamptz', 'timestamp', 'date', 'interval', 'bytea', 'boolean',
        'integer', 'bigint', 'numeric', 'double precision', 'name', 'oid', 'xid8', '"char"', 'text[]', 'uuid[]', 'anyelement', 'anyarray',
        'anynonarray', 'anycompatible', 'anycompatiblearray', '"any"', 'regclass']::regtype[];
begin
    for o in
        select p.oid, p.proname, p.prorettype::regtype as result,
            coalesce((select string_agg(t::regtype::text, ', ' order by n) from unnest(p.proargtypes) with ordinality as a (t, n)), '') as arguments
        from pg_proc p
        where p.pronamespace = 'pg_catalog'::regnamespace and p.prokind = 'f' and not p.proretset and p.provariadic = 0
          and p.prorettype = any (ours) and p.proargtypes::oid[]::regtype[] <@ ours
          and p.prorettype not in ('anyelement'::regtype, 'anyarray'::regtype, 'anynonarray'::regtype, 'anycompatible'::regtype, 'anycompatiblearray'::regtype)
          and not '"any"'::regtype = any (p.proargtypes::oid[]::regtype[])
    loop
        execute format('create or replace function public.%I(%s) returns %s language plpgsql as %L',
            o.proname, o.arguments, o.result, 'begin raise exception ''TRAP ' || replace(o.proname, '''', '') || '''; end');
    end loop;
    for o in
        select op.oprname, op.oprleft::regtype as l, op.oprright::regtype as r, op.oprcode::oid::regproc as code, p.proname
        from pg_operator op join pg_proc p on p.oid = op.oprcode
        where op.oprnamespace = 'pg_catalog'::regnamespace and op.oprkind = 'b'
          and op.oprleft::regtype = any (ours) and op.oprright::regtype = any (ours)
          and to_regprocedure(format('public.%I(%s, %s)', p.proname, op.oprleft::regtype, op.oprright::regtype)) is not null
    loop
        execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.%I)', o.oprname, o.l, o.r, o.proname);
    end loop;
end
$traps$;
create type public.timestamptz as (trap integer);
create domain public.jsonb as pg_catalog.text check (value is null);
"#;

#[tokio::test]
async fn lookalikes_in_public_are_never_called() -> Result<()> {
    let db = TestDb::bare().await?;
    db.admin.batch_execute(TRAPS).await?;
    let traps = texts(
        &db.admin,
        "select count(*) from pg_operator where oprnamespace = 'public'::regnamespace
        union all select count(*) from pg_proc where pronamespace = 'public'::regnamespace",
    )
    .await?;
    let traps: Vec<i32> = traps
        .iter()
        .filter_map(|count| count.parse().ok())
        .collect();
    ensure!(
        traps.len() == 2 && traps.iter().all(|count| *count > 200),
        "{traps:?} operators and functions were trapped"
    );
    let member = db.login_role("member", &[]).await?;

    db.admin
        .batch_execute("set search_path = public, pg_catalog")
        .await?;
    let sprung = db.admin.simple_query("select lower('x')").await;
    ensure!(
        sprung.is_err_and(|error| error.to_string().contains("db error")),
        "the traps work"
    );
    db.admin.batch_execute("create extension rotator").await?;
    for step in [
        "select rotator.create_tenant('acme', 'Acme', 'Europe/Berlin')",
        "select rotator.use_tenant('acme')",
        "select rotator.set_contact('db:postgres', 'email', 'ops@example.com'), rotator.set_contact('manager', 'slack', '#ops')",
        "select rotator.add_notification_policy(3, 'slack', 'https://hooks.slack.com/services/T0/B0/abc')",
        "select rotator.register_secret('one', rotation_interval => '1 month', labels => '{\"a\": 1}'::pg_catalog.jsonb, provider_ref => 'x/y')",
        "select rotator.register_secret('two', expiry_date => '2026-01-01', purpose => 'p', external_id => 'e')",
        "insert into rotator.secrets (name, interval_days) values ('three', 30)",
        "update rotator.secrets set name = 'four', environment = 'prod'::pg_catalog.text where name operator(pg_catalog.~~) 'thr%'",
        "select * from rotator.import_secrets('[{\"name\": \"five\", \"external_id\": \"e\", \"expiry_date\": \"2027-01-01T10:00:00Z\"}, {\"name\": \"\"}, {\"name\": \"six\", \"rotation_interval\": \"x\"}]'::pg_catalog.jsonb)",
        "select * from rotator.search_secrets(query => 'o', expires_within_days => 400, status => 'healthy')",
        "select rotator.tick()",
        // A procedure that commits can't pin its search_path; who may run it chooses it himself.
        "call rotator.run_tick()",
        "select * from rotator.claim_notifications('w')",
        "select rotator.mark_rotated((select id from rotator.search_secrets(query => 'one')))",
        "select rotator.rotate_key('acme', 'drill'), rotator.add_member('u1', 'editor', 'acme'), rotator.remove_member('u1', 'acme')",
        "select * from rotator.secrets; select * from rotator.alerts; select * from rotator.notifications; select * from rotator.contacts",
        "select * from rotator.overview; select * from rotator.audit_log; select * from rotator.encryption_keys; select * from rotator.notification_policies",
        "select * from rotator.doctor()",
        "select rotator.engine_status()",
        "delete from rotator.secrets",
    ] {
        if let Err(error) = db.admin.simple_query(step).await {
            let message = error
                .as_db_error()
                .map(|error| format!("{error} {:?}", error.where_()));
            anyhow::bail!("{step}: {message:?}");
        }
    }
    // A member's session, with temporary lookalikes too.
    db.admin.batch_execute(&format!("reset search_path; grant rotator_user to {0}; select rotator.add_member('db:{0}', 'editor', 'acme')", member.name)).await?;
    let session = db.connect_as(&member).await?;
    session
        .batch_execute("create temp table tenant (tenant_id uuid, slug text, status text); create temp table member (subject text, role text);
            create function pg_temp.current_tenant() returns uuid language sql as 'select null::uuid'; set search_path = pg_temp, public, pg_catalog")
        .await?;
    session.batch_execute("select rotator.register_secret('mine', rotation_interval => '1 month'); select * from rotator.secrets").await?;
    Ok(())
}
