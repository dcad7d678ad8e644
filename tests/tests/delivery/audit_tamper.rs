//! A superuser changes the log, at a random place and in every way there is: an export of it, verified offline with the
//! public key and the signed copy, names the first bad row. What can't be told without the copy is told with it.

use anyhow::{Context, Result, ensure};
use rotator_tests::{Chance, scalar};
use uuid::Uuid;

use crate::audit_log::{Log, Verdict};

/// A log of two tenants, some twenty events each, sealed, signed and copied; and a draw of its rows.
struct Case {
    log: Log,
    chance: Chance,
    acme: Uuid,
    other: Uuid,
}

impl Case {
    async fn new(name: &str) -> Result<Self> {
        let log = Log::new().await?;
        let acme = scalar(&log.acme.operator, "select rotator.current_tenant()", &[]).await?;
        let other = log.db().tenant("other").await?;
        let others = "select rotator.use_tenant('other');
                      select rotator.set_contact('eve', 'console', 'x' || n) from generate_series(1, 5) as n;
                      select rotator.use_tenant('acme')";
        log.acme.operator.batch_execute(others).await?;
        log.finished(6, 3).await?;
        log.verify(&log.export().await?, true).await?.is_clean()?;
        Ok(Self {
            log,
            chance: Chance::for_test(name),
            acme,
            other,
        })
    }

    /// A sealed event of acme that is neither its first nor its last.
    async fn event(&mut self) -> Result<i64> {
        let sql = "select id from rotator.audit_log where tenant_id = $1 and block_id is not null order by id";
        let rows = self.log.db().admin.query(sql, &[&self.acme]).await?;
        let drawn = 1 + self.chance.below(rows.len() - 2);
        Ok(rows.get(drawn).context("a row")?.get(0))
    }

    async fn block_of(&self, event: i64) -> Result<i64> {
        let sql = "select block_id from rotator.audit_log where id = $1";
        scalar(&self.log.db().admin, sql, &[&event]).await
    }

    /// Tampers, exports and verifies.
    async fn after(&self, sql: &str, with_copy: bool) -> Result<Verdict> {
        self.log.tamper(sql).await?;
        self.log.verify(&self.log.export().await?, with_copy).await
    }
}

/// Has the superuser redo all hashes of a tenant's blocks from one on, as only sealing can: they are taken away and made
/// again. Gives up the signatures, which he can't make.
fn reseal(tenant: Uuid, from: i64) -> String {
    ["audit_signature", "audit_block"].map(|table| {
        format!("delete from rotator_internal.{table} where tenant_id = '{tenant}' and number >= {from};")
    })
    .concat()
        + &format!(
            "delete from rotator_internal.audit_leaf where tenant_id = '{tenant}' and block_number >= {from};
             delete from rotator_internal.audit_seal_state;"
        )
}

#[tokio::test]
async fn every_column_of_a_row_counts() -> Result<()> {
    let mut case = Case::new("every_column").await?;
    for change in [
        "occurred_at = occurred_at + interval '1 microsecond'",
        "transaction_id = (transaction_id::text::bigint + 1)::text::xid8",
        "actor = actor || 'x'",
        "source = 'slack'",
        "action = 'contact.removed'",
        "entity = 'secret'",
        "entity_id = null",
        "changes = changes || '{\"more\": null}'",
        "request_id = ''",
    ] {
        let id = case.event().await?;
        let keep = format!(
            "create temp table kept on commit preserve rows as select * from rotator_internal.audit_event where id = {id};"
        );
        let sql =
            format!("{keep} update rotator_internal.audit_event set {change} where id = {id};");
        let with_copy = case.chance.once_in(2);
        let verdict = case.after(&sql, with_copy).await?;
        verdict
            .names(Some(id), "was changed")
            .with_context(|| change.to_owned())?;
        let back = format!(
            "delete from rotator_internal.audit_event where id = {id};
             insert into rotator_internal.audit_event select * from kept; drop table kept;"
        );
        case.after(&back, true).await?.is_clean()?;
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_was_removed_or_inserted_or_moved_is_named() -> Result<()> {
    let mut case = Case::new("rows").await?;
    let (acme, other) = (case.acme, case.other);
    let id = case.event().await?;
    // With its leaf: the block tells; which row, the copy.
    let leaf = format!("delete from rotator_internal.audit_leaf where event_id = {id};");
    let event = format!("delete from rotator_internal.audit_event where id = {id};");
    let keep = format!(
        "create temp table kept_event as select * from rotator_internal.audit_event where id = {id};
         create temp table kept_leaf as select * from rotator_internal.audit_leaf where event_id = {id};"
    );
    case.after(&format!("{keep} {event}"), false)
        .await?
        .names(Some(id), "is missing")?;
    case.after(&leaf, false)
        .await?
        .names(None, "was changed: it says how many events")?;
    case.log
        .verify(&case.log.export().await?, true)
        .await?
        .names(Some(id), "was changed")?;
    let back = "insert into rotator_internal.audit_event select * from kept_event;
                insert into rotator_internal.audit_leaf select * from kept_leaf;";
    case.after(back, true).await?.is_clean()?;

    // To another tenant: alone, and with its leaf.
    let moved =
        format!("update rotator_internal.audit_event set tenant_id = '{other}' where id = {id};");
    case.after(&moved, false)
        .await?
        .names(Some(id), "was moved")?;
    let home =
        format!("update rotator_internal.audit_event set tenant_id = '{acme}' where id = {id};");
    case.after(&home, true).await?.is_clean()?;

    // Inserted, under an id of its own between two others, as if it had always been there.
    let insert = format!(
        "insert into rotator_internal.audit_event (tenant_id, id, occurred_at, transaction_id, actor, source, action, entity)
         select tenant_id, -id, occurred_at, transaction_id, actor, source, action, entity
         from rotator_internal.audit_event where id = {id};"
    );
    case.after(&insert, false)
        .await?
        .names(Some(-id), "was inserted")?;
    let block = case.block_of(id).await?;
    let sealed = format!(
        "insert into rotator_internal.audit_leaf select tenant_id, -event_id, block_number, hash from rotator_internal.audit_leaf where event_id = {id};"
    );
    case.after(&sealed, true)
        .await?
        .names(Some(-id), &format!("block {block} was changed"))?;
    Ok(())
}

#[tokio::test]
async fn reordered_rows_are_named() -> Result<()> {
    let mut case = Case::new("reordered").await?;
    let id = case.event().await?;
    let swap = format!(
        "update rotator_internal.audit_event set id = 0 where id = {id};
         update rotator_internal.audit_event as e set id = {id}
         where e.id = (select min(x.id) from rotator_internal.audit_event as x where x.tenant_id = e.tenant_id and x.id > {id});
         update rotator_internal.audit_event as e set id = (
             select l.event_id from rotator_internal.audit_leaf as l
             where l.tenant_id = e.tenant_id and l.event_id > {id} order by l.event_id limit 1)
         where e.id = 0;"
    );
    case.after(&swap, true)
        .await?
        .names(Some(id), "was changed")
}

#[tokio::test]
async fn what_is_cut_off_at_the_end_is_told_by_the_copy() -> Result<()> {
    let case = Case::new("cut").await?;
    let acme = case.acme;
    let last: i64 = scalar(
        &case.log.db().admin,
        "select max(block_id) from rotator.audit_blocks where tenant_id = $1",
        &[&acme],
    )
    .await?;
    let first: i64 = scalar(
        &case.log.db().admin,
        "select first_id from rotator.audit_blocks where tenant_id = $1 and block_id = $2",
        &[&acme, &(last - 1)],
    )
    .await?;
    let from = last - 1;
    let cut = format!(
        "delete from rotator_internal.audit_event where tenant_id = '{acme}' and id >= {first};
         delete from rotator_internal.audit_leaf where tenant_id = '{acme}' and block_number >= {from};
         delete from rotator_internal.audit_block where tenant_id = '{acme}' and number >= {from};
         delete from rotator_internal.audit_signature where tenant_id = '{acme}' and number >= {from};"
    );
    let verdict = case.after(&cut, true).await?;
    verdict.names(Some(first), "rows were removed from its end")?;
    ensure!(verdict.first().1.contains("an older dump was restored"));
    Ok(())
}

#[tokio::test]
async fn a_rewritten_suffix_is_not_signed_again_and_the_copy_names_the_row() -> Result<()> {
    let mut case = Case::new("suffix").await?;
    let acme = case.acme;
    let id = case.event().await?;
    let from = case.block_of(id).await?;
    let change =
        format!("update rotator_internal.audit_event set actor = 'db:nobody' where id = {id};");
    case.log
        .tamper(&format!("{change} {}", reseal(acme, from)))
        .await?;
    case.log.seal().await?;
    let sidecar = case.log.sidecar().await?;
    let said = sidecar
        .logged(
            crate::seed::SOON,
            &format!("block {from} of tenant {acme} is not signed"),
        )
        .await?;
    ensure!(said.contains("the file has another block"), "{said}");
    let ready = rotator_tests::sidecar::http()
        .get(sidecar.url("/readyz"))
        .send()
        .await?
        .text()
        .await?;
    ensure!(ready.contains("audit: block"), "{ready}");
    let verdict = case.log.verify(&case.log.export().await?, true).await?;
    verdict.names(
        None,
        &format!("block {from} is not the one that was signed"),
    )?;
    // All events from that block on may be in one block now: the first that differs from the copy is the changed one.
    ensure!(
        verdict.first().0.is_some_and(|row| row <= id),
        "{:#}",
        verdict.found
    );
    Ok(())
}

#[tokio::test]
async fn a_replaced_block_a_removed_signature_and_another_key_are_told() -> Result<()> {
    let mut case = Case::new("block").await?;
    let acme = case.acme;
    let id = case.event().await?;
    let block = case.block_of(id).await?;
    for (change, back, text) in [
        (
            "sealed_at = sealed_at + interval '1 second'",
            "sealed_at = sealed_at - interval '1 second'",
            "its hash is not that",
        ),
        ("root = sha256(root)", "", "root"),
    ] {
        let keep = format!(
            "create temp table kept as select * from rotator_internal.audit_block where tenant_id = '{acme}' and number = {block};"
        );
        let table =
            format!("rotator_internal.audit_block where tenant_id = '{acme}' and number = {block}");
        let verdict = case.after(&format!("{keep} update rotator_internal.audit_block set {change} where tenant_id = '{acme}' and number = {block};"), true).await?;
        verdict.names(None, text)?;
        ensure!(back.is_empty() || verdict.found["bad"][0]["block"] == block);
        case.after(&format!("delete from {table}; insert into rotator_internal.audit_block select * from kept; drop table kept;"), true).await?.is_clean()?;
    }
    let signature = format!(
        "delete from rotator_internal.audit_signature where tenant_id = '{acme}' and number = {block};"
    );
    let last: i64 = scalar(
        &case.log.db().admin,
        "select max(block_id) from rotator.audit_blocks where tenant_id = $1",
        &[&acme],
    )
    .await?;
    let verdict = case.after(&signature, false).await?;
    ensure!(verdict.ok == (block == last), "{:#}", verdict.found);
    if block < last {
        verdict.names(None, "was removed")?;
    }
    let export = case.log.export().await?;
    let (_, other) = crate::audit_log::new_key().await?;
    let printed = rotator_tests::Cli::offline(&["audit", "verify", "-", "--key", &other])?
        .input(&export)
        .run()
        .await?;
    // The worst comes first, and that is here or there: one signature was removed above.
    let said = format!("{}{}", printed.stdout, printed.stderr);
    ensure!(
        printed.code == 1 && said.contains("is not signed by the given key"),
        "{printed:?}"
    );
    Ok(())
}
