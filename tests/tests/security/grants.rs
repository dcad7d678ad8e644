//! The allow-list: every privilege that anybody but the owner has on anything of rotator, compared with the catalog as
//! installed, also where default privileges give everything to everybody. Ownership too: whose rights code runs with.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use rotator_tests::{TestDb, scalar};
use tokio_postgres::Client;

use crate::fixture::texts;

/// `grantee privileges: objects`. What the engine and the owner may is a rule, checked apart.
const ALLOWED: &[&str] = &[
    "public USAGE: rotator",
    "public EXECUTE: rotator.current_actor() rotator.current_member_role() rotator.current_tenant() rotator.current_time_zone() rotator.use_tenant()",
    "rotator_user DELETE,INSERT,SELECT,UPDATE: rotator.secrets",
    "rotator_user SELECT: rotator.alerts rotator.audit_log rotator.contacts rotator.encryption_keys rotator.notification_policies rotator.notifications rotator.overview",
    "rotator_user SELECT: rotator_internal.alert rotator_internal.audit_event rotator_internal.contact rotator_internal.notification rotator_internal.notification_policy rotator_internal.recipient rotator_internal.rotation rotator_internal.secret",
    "rotator_user SELECT: rotator_internal.tenant.tenant_id rotator_internal.tenant.time_zone",
    "rotator_user SELECT: rotator_internal.encryption_key.tenant_id rotator_internal.encryption_key.id rotator_internal.encryption_key.purpose rotator_internal.encryption_key.version rotator_internal.encryption_key.status rotator_internal.encryption_key.created_at rotator_internal.encryption_key.activated_at rotator_internal.encryption_key.retired_at rotator_internal.encryption_key.destroyed_at",
    "rotator_user EXECUTE: rotator_internal.open_field() rotator_internal.recipient_hint()",
    "rotator_user EXECUTE: rotator.acknowledge() rotator.allow_value() rotator.add_member() rotator.add_notification_policy() rotator.import_secrets() rotator.mark_rotated() rotator.register_secret() rotator.remove_member() rotator.remove_notification_policy() rotator.retire_secret() rotator.rotate_key() rotator.search_secrets() rotator.set_contact() rotator.test_notification()",
    "rotator_admin EXECUTE: rotator.create_tenant() rotator.disable_schedule() rotator.doctor() rotator.enable_schedule() rotator.engine_status() rotator.reload_master_key() rotator.rewrap_keys() rotator.run_tick() rotator.scan_texts() rotator.tick()",
    "rotator_user EXECUTE: rotator.encrypt() rotator.decrypt()",
    "rotator_host USAGE: rotator_internal",
    "rotator_host EXECUTE: rotator_internal.ciphertext_key() rotator_internal.is_under_other_key() rotator_internal.reseal_value() rotator_internal.renew_value() rotator_internal.renew_uuid_value() rotator_internal.lock_for_writing() rotator_internal.value_opens() rotator_internal.walk_statement() rotator_internal.host_table() rotator_internal.host_tenant_condition() rotator_internal.type_of_column() rotator_internal.refuse() rotator_internal.runs_no_code() rotator_internal.sweep() rotator_internal.write_host_column() rotator_internal.write_restricted()",
    "rotator_user SELECT: rotator.key_rotations rotator.key_schedules rotator_internal.key_rotation rotator_internal.reencryption rotator_internal.key_schedule rotator_internal.key_use",
    "rotator_user EXECUTE: rotator_internal.rows_using_key() rotator.rollback_key_rotation() rotator.retry_key_rotation() rotator.retire_key() rotator.destroy_key() rotator.set_key_schedule()",
    "rotator_admin EXECUTE: rotator.offboard_tenant() rotator.rotate_all_keys() rotator.reencrypt_step() rotator.register_encrypted_column() rotator.unregister_encrypted_column()",
    "rotator_admin DELETE,INSERT,SELECT: rotator.encrypted_columns",
    "rotator_admin SELECT: rotator_internal.encrypted_column",
    "rotator_sidecar EXECUTE: rotator.reencrypt_step()",
    "rotator_auditor SELECT: rotator.audit_log rotator_internal.audit_event",
    "rotator_user SELECT: rotator.audit_blocks rotator.audit_leaves rotator_internal.audit_block rotator_internal.audit_leaf rotator_internal.audit_signature",
    "rotator_auditor SELECT: rotator.audit_blocks rotator.audit_leaves rotator_internal.audit_block rotator_internal.audit_leaf rotator_internal.audit_signature",
    "rotator_user EXECUTE: rotator.verify_audit()",
    "rotator_user SELECT: rotator.audit_values rotator_internal.audit_value",
    "rotator_user EXECUTE: rotator_internal.event_row()",
    "rotator_auditor EXECUTE: rotator.verify_audit()",
    "rotator_admin EXECUTE: rotator.record_schedule()",
    "rotator_sidecar EXECUTE: rotator.unsigned_audit_blocks() rotator.record_audit_signature() rotator.record_link_refusal()",
    "rotator_user EXECUTE: rotator.record_audit_export() rotator.audit_seal_position()",
    "rotator_auditor EXECUTE: rotator.record_audit_export() rotator.audit_seal_position()",
    "rotator_sidecar EXECUTE: rotator.claim_notifications() rotator.complete_notification() rotator.complete_notifications() rotator.engine_status() rotator.fail_notification() rotator.redeem_link() rotator.release_notifications() rotator.tick()",
];

const GRANTS: &str = "
    with ours as (select oid from pg_namespace where nspname in ('rotator', 'rotator_internal')),
    granted as (
        select nspname::text as object, nspacl as acl, nspowner as owner, 'n'::\"char\" as kind from pg_namespace where oid in (select oid from ours)
        union all
        select n.nspname || '.' || c.relname, c.relacl, c.relowner, 'r' from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.oid in (select oid from ours)
        union all
        select n.nspname || '.' || c.relname || '.' || a.attname, a.attacl, c.relowner, 'a'
        from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace where n.oid in (select oid from ours)
        union all
        select n.nspname || '.' || p.proname || '()', coalesce(p.proacl, acldefault('f', p.proowner)), p.proowner, 'f'
        from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.oid in (select oid from ours)
    )
    select concat_ws(' ', coalesce(r.rolname, 'public'), a.privilege_type || case when a.is_grantable then '!' else '' end, g.object)
    from granted g cross join lateral aclexplode(g.acl) a left join pg_roles r on r.oid = a.grantee
    where a.grantee <> g.owner and coalesce(r.rolname, '') not in ('rotator_owner', 'rotator_engine')
      -- the installing superuser needs no grant, and has what the creation gave him
      and coalesce(r.rolname, '') <> 'postgres'";

fn allowed() -> BTreeSet<String> {
    ALLOWED
        .iter()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(to, objects)| {
            let (grantee, privileges) = to.split_once(' ').unwrap_or((to, ""));
            objects.split(' ').flat_map(move |object| {
                privileges
                    .split(',')
                    .map(move |privilege| format!("{grantee} {privilege} {object}"))
            })
        })
        .collect()
}

async fn expect_allow_list(admin: &Client) -> Result<()> {
    let (found, allowed) = (
        texts(admin, GRANTS)
            .await?
            .into_iter()
            .collect::<BTreeSet<_>>(),
        allowed(),
    );
    ensure!(
        found == allowed,
        "granted and not listed: {:#?}\nlisted and not granted: {:#?}",
        found.difference(&allowed).collect::<Vec<_>>(),
        allowed.difference(&found).collect::<Vec<_>>()
    );
    Ok(())
}

#[tokio::test]
async fn the_catalog_grants_what_the_list_says() -> Result<()> {
    expect_allow_list(&TestDb::new().await?.admin).await
}

#[tokio::test]
async fn generous_default_privileges_give_nothing_away() -> Result<()> {
    let db = TestDb::bare().await?;
    let anon = db.login_role("anon", &[]).await?.name;
    for kind in ["tables", "functions", "sequences", "schemas", "types"] {
        db.admin
            .batch_execute(&format!(
                "alter default privileges grant all on {kind} to public;
                 alter default privileges grant all on {kind} to rotator_user, rotator_sidecar, {anon} with grant option"
            ))
            .await?;
    }
    db.admin.batch_execute("create extension rotator").await?;
    let outcome = expect_allow_list(&db.admin).await;
    db.admin
        .batch_execute(&format!("drop extension rotator; drop owned by {anon}"))
        .await?;
    outcome
}

#[tokio::test]
async fn nothing_runs_with_a_superusers_rights() -> Result<()> {
    let db = TestDb::new().await?;
    let wrong = texts(&db.admin, "
        select p.oid::regprocedure || case
            when l.lanname = 'c' and not o.rolsuper then ': a C function of no superuser'
            when l.lanname = 'c' and p.prosecdef then ': a C function with security definer'
            when l.lanname <> 'c' and o.rolname not in ('rotator_owner', 'rotator_engine', 'rotator_host', 'rotator_host_writer') then ': owned by ' || o.rolname
            when p.prosecdef and (o.rolsuper or o.rolbypassrls) then ': definer above row security'
            when p.proleakproof then ': leakproof'
            when l.lanname not in ('c', 'plpgsql', 'sql') then ': language ' || l.lanname
        end
        from pg_proc p join pg_roles o on o.oid = p.proowner join pg_language l on l.oid = p.prolang
        where p.pronamespace in ('rotator'::regnamespace, 'rotator_internal'::regnamespace)
          and (p.prosecdef and (o.rolsuper or o.rolbypassrls or l.lanname = 'c')
            or (l.lanname = 'c') <> o.rolsuper or p.proleakproof or l.lanname not in ('c', 'plpgsql', 'sql')
            or (l.lanname <> 'c' and o.rolname not in ('rotator_owner', 'rotator_engine')))
        order by 1").await?;
    // What touches the host's tables must not be stopped by their policies, or counts come out short. Nobody may call
    // these but the engine: the allow-list has none of them.
    let above: Vec<&str> = wrong
        .iter()
        .map(|line| line.split(['(', ':']).next().unwrap_or(line))
        .collect();
    ensure!(
        above
            == [
                "rotator_internal.check_host_column",
                "rotator_internal.count_unreadable",
                "rotator_internal.host_rows_using_key",
                "rotator_internal.walk_host_column",
                "rotator_internal.write_host_column"
            ]
            && wrong
                .iter()
                .all(|line| line.ends_with(": definer above row security")),
        "{wrong:#?}"
    );
    let definers: i64 = scalar(
        &db.admin,
        "select count(*) from pg_proc where prosecdef and pronamespace = 'rotator'::regnamespace",
        &[],
    )
    .await?;
    ensure!(definers > 20, "the catalog was looked at");

    let relations = texts(&db.admin, "select c.oid::regclass from pg_class c join pg_roles o on o.oid = c.relowner
        where c.relnamespace in ('rotator'::regnamespace, 'rotator_internal'::regnamespace) and c.relkind in ('r', 'v', 'S', 'm', 'p') and o.rolname <> 'rotator_owner'").await?;
    ensure!(relations.is_empty(), "not rotator_owner's: {relations:?}");

    // A procedure that commits can't have a SET clause; bodies bound at creation need none.
    let unpinned = texts(&db.admin, "select p.oid::regprocedure from pg_proc p join pg_language l on l.oid = p.prolang
        where p.pronamespace in ('rotator'::regnamespace, 'rotator_internal'::regnamespace) and l.lanname <> 'c'
          and p.prosqlbody is null and p.prokind <> 'p'
          and not coalesce(p.proconfig, '{}') && array['search_path=pg_catalog, pg_temp', 'search_path=\"\"']").await?;
    ensure!(
        unpinned.is_empty(),
        "without a pinned search_path: {unpinned:?}"
    );

    let strays = texts(&db.admin, "select p.oid::regprocedure from pg_proc p where p.pronamespace in ('rotator'::regnamespace, 'rotator_internal'::regnamespace)
        and not exists (select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')").await?;
    ensure!(strays.is_empty(), "no members of the extension: {strays:?}");
    Ok(())
}

#[tokio::test]
async fn even_the_owners_only_append_to_the_audit_log() -> Result<()> {
    let db = TestDb::new().await?;
    // MAINTAIN, from PostgreSQL 17: vacuum, analyze, reindex; none changes a row.
    let wide = texts(&db.admin, "select concat_ws(' ', r.rolname, a.privilege_type) from pg_class c
        cross join lateral aclexplode(c.relacl) a join pg_roles r on r.oid = a.grantee
        where c.oid in ('rotator_internal.audit_event'::regclass, 'rotator_internal.audit_block'::regclass, 'rotator_internal.audit_leaf'::regclass, 'rotator_internal.audit_signature'::regclass,
            'rotator_internal.audit_value'::regclass)
          and a.privilege_type not in ('SELECT', 'INSERT', 'REFERENCES', 'TRIGGER', 'MAINTAIN')").await?;
    ensure!(wide.is_empty(), "{wide:?}");
    // Re-encryption puts the same text under another key; a trigger sees to it that it does nothing else.
    let rewriting = texts(&db.admin, "select concat_ws(' ', r.rolname, a.privilege_type, t.attname) from pg_attribute t
        cross join lateral aclexplode(t.attacl) a join pg_roles r on r.oid = a.grantee
        where t.attrelid in (select c.oid from pg_class c where c.relnamespace = 'rotator_internal'::regnamespace and c.relname like 'audit%')").await?;
    ensure!(
        rewriting == ["rotator_engine UPDATE changed"],
        "{rewriting:?}"
    );
    let truncating = texts(&db.admin, "select c.relname from pg_class c cross join lateral aclexplode(c.relacl) a
        where c.relnamespace = 'rotator_internal'::regnamespace and a.privilege_type in ('TRUNCATE', 'REFERENCES', 'TRIGGER') and a.grantee <> c.relowner").await?;
    ensure!(truncating.is_empty(), "{truncating:?}");
    let owners = texts(&db.admin, "select rolname from pg_roles r where rolname in ('rotator_owner', 'rotator_engine', 'rotator_host', 'rotator_host_writer')
        and (rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolreplication or (rolbypassrls and rolname not like 'rotator_host%')
          or exists (select from pg_auth_members m where r.oid in (m.roleid, m.member)))").await?;
    ensure!(owners.is_empty(), "somebody could act as {owners:?}");
    Ok(())
}
