//! Random orders of beginning, writing, undoing, preparing, committing and ticking: every committed event is sealed once,
//! none that was rolled back, none before its transaction ended, and no order is mistaken for tampering.

use anyhow::{Result, ensure};
use rotator_tests::{Chance, TestDb, scaled};
use tokio_postgres::Client;

use crate::fixture::text;
use crate::sealed::{events, expect_clean, own_cluster, seal_all, verify};

const WRITERS: usize = 5;
const STEPS: usize = 40;

/// A session and what it has done in its open transaction.
struct Writer {
    session: Client,
    number: usize,
    is_open: bool,
    in_savepoint: bool,
    written: usize,
    since_savepoint: usize,
}

impl Writer {
    /// One step; how many events it has committed by it.
    async fn step(&mut self, chance: &mut Chance, name: &str) -> Result<usize> {
        if !self.is_open {
            // With an id of its own long before it writes, or not.
            let begin = if chance.once_in(2) {
                "begin; select pg_current_xact_id()"
            } else {
                "begin"
            };
            self.session.batch_execute(begin).await?;
            (
                self.is_open,
                self.in_savepoint,
                self.written,
                self.since_savepoint,
            ) = (true, false, 0, 0);
            return Ok(0);
        }
        match chance.below(10) {
            0..=4 => {
                let count = 1 + chance.below(3);
                self.session.batch_execute(&events(name, count)).await?;
                self.written += count;
                self.since_savepoint += count;
                Ok(0)
            }
            5 => {
                self.session.batch_execute("savepoint s").await?;
                (self.in_savepoint, self.since_savepoint) = (true, 0);
                Ok(0)
            }
            6 if self.in_savepoint => {
                self.session.batch_execute("rollback to s").await?;
                self.written -= std::mem::take(&mut self.since_savepoint);
                Ok(0)
            }
            7 => {
                self.session.batch_execute("rollback").await?;
                self.is_open = false;
                Ok(0)
            }
            8 => {
                let id = format!("w{}", self.number);
                self.session
                    .batch_execute(&format!("prepare transaction '{id}'"))
                    .await?;
                self.is_open = false;
                if chance.once_in(3) {
                    self.session
                        .batch_execute(&format!("rollback prepared '{id}'"))
                        .await?;
                    return Ok(0);
                }
                self.session
                    .batch_execute(&format!("commit prepared '{id}'"))
                    .await?;
                Ok(self.written)
            }
            _ => self.commit().await,
        }
    }

    async fn commit(&mut self) -> Result<usize> {
        self.session.batch_execute("commit").await?;
        self.is_open = false;
        Ok(self.written)
    }
}

#[tokio::test]
async fn in_any_order_every_event_is_sealed_once() -> Result<()> {
    let db = own_cluster().await?;
    let mut chance = Chance::for_test("audit_seal_order");
    let mut writers = Vec::new();
    for number in 0..WRITERS {
        writers.push(Writer {
            session: db.superuser().await?,
            number,
            is_open: false,
            in_savepoint: false,
            written: 0,
            since_savepoint: 0,
        });
    }
    for schedule in 0..scaled(1000) {
        let name = format!("s{schedule}");
        let mut committed = 0;
        for _ in 0..STEPS {
            match chance.below(WRITERS + 1) {
                WRITERS => expect_settled(&db, &name).await?,
                writer => committed += writers[writer].step(&mut chance, &name).await?,
            }
        }
        for writer in &mut writers {
            if writer.is_open {
                committed += writer.commit().await?;
            }
        }
        seal_all(&db).await?;
        let sealed = text(
            &db.admin,
            &format!("select count(*) from rotator.audit_log where entity_id = '{name}' and block_id is not null"),
        )
        .await?;
        ensure!(
            sealed == committed.to_string(),
            "{name}: {committed} were committed, {sealed} are sealed"
        );
        if schedule % 20 == 0 {
            expect_clean(&db.admin, 0).await?;
        }
    }
    let verdict = expect_clean(&db.admin, 0).await?;
    let leaves = text(&db.admin, "select count(*) from rotator.audit_leaves").await?;
    ensure!(
        leaves == verdict.checked.to_string(),
        "{leaves} leaves for {} events",
        verdict.checked
    );
    Ok(())
}

/// A tick: what is left unsealed is younger than some open transaction, and nothing looks wrong.
async fn expect_settled(db: &TestDb, name: &str) -> Result<()> {
    let oldest = text(&db.admin, "select pg_snapshot_xmin(pg_current_snapshot())").await?;
    db.admin.batch_execute("select rotator.tick()").await?;
    let left = text(
        &db.admin,
        &format!("select count(*) from rotator_internal.audit_event e where e.transaction_id < '{oldest}'
            and not exists (select from rotator_internal.audit_leaf l where l.tenant_id = e.tenant_id and l.event_id = e.id)"),
    )
    .await?;
    ensure!(
        left == "0",
        "{name}: {left} are older than every open transaction and were left out"
    );
    let verdict = verify(&db.admin, None).await?;
    ensure!(verdict.ok, "{name}: {verdict:?}");
    Ok(())
}
