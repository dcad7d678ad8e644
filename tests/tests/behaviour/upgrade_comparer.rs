//! The comparison that the upgrade tests rest on sees what it should: each of these is what a forgotten or a wrong
//! statement in an upgrade leaves behind, and each is named. Tried in transactions that are rolled back.

use anyhow::{Context, Result, ensure};
use rotator_tests::TestDb;

use crate::upgrade_catalog::Definitions;

/// What an upgrade did wrong, and how the difference begins.
const MISTAKES: [(&str, &str); 29] = [
    (
        "create function rotator_internal.forgotten() returns integer language sql return 1",
        "left over: function rotator_internal.forgotten()",
    ),
    (
        "alter extension rotator drop function rotator.disable_schedule();
         drop function rotator.disable_schedule()",
        "missing: function rotator.disable_schedule()",
    ),
    (
        "revoke execute on function rotator.doctor() from rotator_admin",
        "function rotator.doctor(): privileges is",
    ),
    (
        "grant select on rotator_internal.member to rotator_user",
        "table rotator_internal.member: privileges is",
    ),
    (
        "grant select (removed_at) on rotator_internal.member to rotator_user",
        "column rotator_internal.member.removed_at: privileges is rotator_user=r/rotator_owner, not (none)",
    ),
    (
        "grant usage on schema rotator_internal to rotator_user",
        "schema rotator_internal: privileges is",
    ),
    (
        "alter function rotator.doctor() owner to rotator_owner",
        "function rotator.doctor(): owner is rotator_owner, not rotator_engine",
    ),
    (
        "alter function rotator.doctor() volatile",
        "function rotator.doctor(): definition is",
    ),
    (
        "alter function rotator.doctor() reset search_path",
        "function rotator.doctor(): definition is",
    ),
    (
        "comment on function rotator.doctor() is 'Something else.'",
        "function rotator.doctor(): comment is Something else.",
    ),
    (
        "alter table rotator_internal.secret alter column cycle set default 2",
        "column rotator_internal.secret.cycle: default is 2, not 1",
    ),
    (
        "alter table rotator_internal.secret alter column owner_id drop not null",
        "column rotator_internal.secret.owner_id: not null is false, not true",
    ),
    (
        "alter table rotator_internal.secret alter column owner_id set statistics 100",
        "column rotator_internal.secret.owner_id: statistics target is 100, not 0",
    ),
    (
        "alter table rotator_internal.secret alter column purpose set storage external",
        "column rotator_internal.secret.purpose: storage is e, not x",
    ),
    (
        "alter table rotator_internal.secret add column colour text",
        "left over: column rotator_internal.secret.colour",
    ),
    (
        "alter table rotator_internal.secret reset (fillfactor)",
        "table rotator_internal.secret: options is (none), not fillfactor=50",
    ),
    (
        "alter table rotator_internal.secret no force row level security",
        "table rotator_internal.secret: row security is enabled t, forced f, not enabled t, forced t",
    ),
    (
        "alter table rotator_internal.secret drop constraint secret_cycle_check",
        "missing: constraint secret_cycle_check of rotator_internal.secret",
    ),
    (
        "drop policy read_own on rotator_internal.secret",
        "missing: policy read_own of rotator_internal.secret",
    ),
    (
        "alter policy read_own on rotator_internal.secret using (true)",
        "policy read_own of rotator_internal.secret: using is true, not",
    ),
    (
        "alter table rotator_internal.audit_event disable trigger append_only",
        "trigger append_only of rotator_internal.audit_event: fires is D, not A",
    ),
    (
        "do $$ declare made text := pg_get_indexdef('rotator_internal.secret_by_owner'::regclass);
         begin drop index rotator_internal.secret_by_owner; execute made; end $$",
        "table rotator_internal.secret: indexes, in order of creation is",
    ),
    (
        "alter view rotator.secrets reset (security_invoker)",
        "view rotator.secrets: options is (none), not security_invoker=true",
    ),
    (
        "alter type rotator_internal.secret_fields add attribute colour text",
        "left over: column type rotator_internal.secret_fields.colour",
    ),
    (
        "alter domain rotator_internal.channel drop constraint channel_check",
        "missing: constraint channel_check of rotator_internal.channel",
    ),
    (
        "alter sequence rotator_internal.audit_event_id cache 10",
        "sequence rotator_internal.audit_event_id: counts is",
    ),
    (
        "alter extension rotator drop function rotator.doctor()",
        "missing: membership of function rotator.doctor()",
    ),
    (
        "update pg_extension set extconfig = extconfig[2:], extcondition = extcondition[2:] where extname = 'rotator'",
        "missing: dump of the rows of rotator_internal.",
    ),
    (
        "alter role rotator_host nobypassrls",
        "role rotator_host: attributes is",
    ),
];

#[tokio::test]
async fn every_kind_of_mistake_of_an_upgrade_is_named() -> Result<()> {
    let db = TestDb::new().await?;
    let fresh = Definitions::of(&db.admin).await?;
    let mut unseen = Vec::new();
    for (mistake, difference) in MISTAKES {
        db.admin.batch_execute("begin").await?;
        db.admin.batch_execute(mistake).await.context(mistake)?;
        let found = Definitions::of(&db.admin).await?.differences_from(&fresh);
        if !found.iter().any(|line| line.starts_with(difference)) {
            unseen.push(format!("{mistake}: {found:#?}"));
        }
        db.admin.batch_execute("rollback").await?;
    }
    ensure!(unseen.is_empty(), "{}", unseen.join("\n"));
    let found = Definitions::of(&db.admin).await?.differences_from(&fresh);
    ensure!(
        found.is_empty(),
        "two fresh installations differ: {found:#?}"
    );
    Ok(())
}
