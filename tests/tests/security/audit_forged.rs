//! Events that a superuser writes himself, to say that something happened earlier than it did: under an id that was left
//! out, in an old block, or with an old date; seen before they are sealed, and after. And the honest ones beside them.

use anyhow::{Result, ensure};
use rotator_tests::TestDb;

use crate::fixture::text;
use crate::sealed::{events, expect_clean, seal_all, unsealed, verify};

/// Two blocks of acme's with an id left out in the first; gives that id.
async fn with_a_gap(db: &TestDb) -> Result<i64> {
    db.tenant("acme").await?;
    seal_all(db).await?;
    db.admin.batch_execute(&events("before", 5)).await?;
    let free = text(
        &db.admin,
        "select nextval('rotator_internal.audit_event_id')",
    )
    .await?;
    db.admin.batch_execute(&events("before", 5)).await?;
    seal_all(db).await?;
    db.admin.batch_execute(&events("after", 5)).await?;
    seal_all(db).await?;
    expect_clean(&db.admin, 0).await?;
    Ok(free.parse()?)
}

/// An event with these values in place of the ones it would have.
fn forged(id: &str, occurred_at: &str, transaction_id: &str) -> String {
    format!(
        "insert into rotator_internal.audit_event (tenant_id, id, occurred_at, transaction_id, actor, source, action, entity, changes)
         select tenant_id, {id}, {occurred_at}, {transaction_id}, 'db:somebody', 'sql', 'secret.rotated', 'secret', '{{}}'
         from rotator_internal.tenant where slug = 'acme'"
    )
}

#[tokio::test]
async fn among_sealed_events_it_is_in_no_block() -> Result<()> {
    let db = TestDb::new().await?;
    let free = with_a_gap(&db).await?;
    let of_a_neighbour =
        format!("(select transaction_id from rotator_internal.audit_event where id = {free} - 1)");
    db.admin
        .batch_execute(&format!(
            "begin; {}",
            forged(&free.to_string(), "now()", &of_a_neighbour)
        ))
        .await?;
    let verdict = verify(&db.admin, Some("acme")).await?;
    ensure!(
        verdict.first_bad_id == Some(free) && verdict.detail.contains("inserted"),
        "{verdict:?}"
    );
    // With a leaf it is a block that holds more than was sealed.
    db.admin
        .batch_execute(&format!(
            "insert into rotator_internal.audit_leaf
             select e.tenant_id, e.id, l.block_number, rotator_internal.audit_event_hash(e.tenant_id, e.id, e.occurred_at,
                 e.transaction_id, e.actor, e.source, e.action, e.entity, e.entity_id, e.changes::text, e.request_id)
             from rotator_internal.audit_event e, rotator_internal.audit_leaf l where e.id = {free} and l.event_id = {free} - 1"
        ))
        .await?;
    let verdict = verify(&db.admin, Some("acme")).await?;
    let first = text(
        &db.admin,
        &format!(
            "select first_id from rotator.audit_blocks where {free} between first_id and last_id"
        ),
    )
    .await?;
    ensure!(
        verdict.first_bad_id == Some(first.parse()?),
        "{first}: {verdict:?}"
    );
    db.admin.batch_execute("rollback").await?;
    expect_clean(&db.admin, 0).await?;
    Ok(())
}

#[tokio::test]
async fn under_an_old_id_its_transaction_gives_it_away() -> Result<()> {
    let db = TestDb::new().await?;
    let free = with_a_gap(&db).await?;
    db.admin
        .batch_execute(&forged(&free.to_string(), "now()", "pg_current_xact_id()"))
        .await?;
    let verdict = verify(&db.admin, Some("acme")).await?;
    ensure!(
        verdict.first_bad_id == Some(free) && verdict.unsealed == 1,
        "{verdict:?}"
    );
    seal_all(&db).await?;
    let verdict = verify(&db.admin, Some("acme")).await?;
    ensure!(
        verdict.first_bad_id == Some(free) && verdict.unsealed == 0,
        "{verdict:?}"
    );
    Ok(())
}

#[tokio::test]
async fn with_an_old_date_the_blocks_before_it_give_it_away() -> Result<()> {
    let db = TestDb::new().await?;
    with_a_gap(&db).await?;
    let next = "nextval('rotator_internal.audit_event_id')";
    db.admin
        .batch_execute(&forged(
            next,
            "now() - interval '4 minutes'",
            "pg_current_xact_id()",
        ))
        .await?;
    expect_clean(&db.admin, 1).await?;
    let dated = forged(next, "now() - interval '1 hour'", "pg_current_xact_id()");
    let id: i64 = text(&db.admin, &format!("{dated} returning id"))
        .await?
        .parse()?;
    for _ in 0..2 {
        let verdict = verify(&db.admin, None).await?;
        ensure!(
            verdict.first_bad_id == Some(id) && verdict.detail.starts_with("tenant acme: "),
            "{verdict:?}"
        );
        seal_all(&db).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_tenant_that_left_keeps_a_log_that_verifies() -> Result<()> {
    let db = TestDb::new().await?;
    for tenant in ["acme", "beta"] {
        db.tenant(tenant).await?;
        crate::fixture::populate(&db, tenant).await?;
    }
    seal_all(&db).await?;
    let member = db.member("beta", "auditor").await?;
    db.admin
        .batch_execute("select rotator.offboard_tenant('acme', 'acme')")
        .await?;
    seal_all(&db).await?;
    let verdict = expect_clean(&db.admin, 0).await?;
    let of_acme = verify(&db.admin, Some("acme")).await?;
    ensure!(
        of_acme.ok && of_acme.checked > 5 && of_acme.checked < verdict.checked,
        "{of_acme:?}"
    );
    let of_beta = verify(&db.connect_as(&member).await?, None).await?;
    ensure!(
        of_beta.ok && of_beta.checked + of_acme.checked == verdict.checked,
        "{of_beta:?}"
    );
    ensure!(unsealed(&db).await? == 0);
    Ok(())
}
