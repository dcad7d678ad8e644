//! Reports results to the database: whatever is done by now in one call, every few milliseconds, so that a slow
//! delivery holds nothing up. A report that failed on the way is repeated until it is through: repeats change nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::sleep;

use super::health::Health;
use super::startup::pause_after;
use crate::db::{Completion, DbError, Session};

const BATCH: usize = 500;
/// Collects results that end at about the same time.
const GATHER: Duration = Duration::from_millis(3);
/// Where so many came together, more do: a report has a price of its own.
const MANY: usize = 16;
const GATHER_MANY: Duration = Duration::from_millis(10);

/// Reports until all senders are gone and nothing is left.
pub async fn run(
    session: Session,
    mut results: mpsc::Receiver<Completion>,
    wake: Arc<Notify>,
    health: Arc<Health>,
) {
    let mut batch = Vec::with_capacity(BATCH);
    while results.recv_many(&mut batch, BATCH).await > 0 {
        gather(&mut results, &mut batch, GATHER).await;
        if batch.len() >= MANY {
            gather(&mut results, &mut batch, GATHER_MANY).await;
        }
        report(&session, &batch, &health).await;
        // What was given up may have been queued for somebody else.
        if batch.iter().any(|result| !result.ok) {
            wake.notify_one();
        }
        batch.clear();
    }
}

/// Waits so long, unless the batch is full, and takes what has come meanwhile.
async fn gather(
    results: &mut mpsc::Receiver<Completion>,
    batch: &mut Vec<Completion>,
    wait: Duration,
) {
    if batch.len() >= BATCH {
        return;
    }
    sleep(wait).await;
    while batch.len() < BATCH
        && let Ok(result) = results.try_recv()
    {
        batch.push(result);
    }
}

async fn report(session: &Session, batch: &[Completion], health: &Health) {
    let Err(error) = insist(session, batch, health).await else {
        return;
    };
    if batch.len() == 1 {
        give_up(&batch[0], &error);
        return;
    }
    // One of them is unacceptable: the others must not suffer for it.
    for result in batch {
        if let Err(error) = insist(session, std::slice::from_ref(result), health).await {
            give_up(result, &error);
        }
    }
}

/// Repeats while the database is away.
///
/// # Errors
/// The database refuses this report as such.
async fn insist(session: &Session, batch: &[Completion], health: &Health) -> Result<(), DbError> {
    let mut failures = 0;
    loop {
        match session.complete_notifications(batch).await {
            Ok(accepted) => {
                for (id, _) in accepted.iter().filter(|(_, accepted)| !accepted) {
                    health.figures.late();
                    tracing::warn!(notification = %id, "the result came too late: somebody else has claimed it since");
                }
                return Ok(());
            }
            Err(error) if error.is_transient() || matches!(error, DbError::Refused { .. }) => {
                let pause = pause_after(&error, failures);
                if failures == 0 {
                    tracing::warn!(
                        results = batch.len(),
                        "results wait for the database: {error}"
                    );
                }
                failures += 1;
                sleep(pause).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn give_up(result: &Completion, error: &DbError) {
    tracing::error!(
        notification = %result.id,
        sqlstate = error.sqlstate().unwrap_or_default(),
        "the database refuses this result, so the notification will be delivered again: {error}"
    );
}
