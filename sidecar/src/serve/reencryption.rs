//! Re-encrypts what is under older data keys where nobody else does: small batches by `rotator.reencrypt_step`, each a
//! transaction, with long rests in between, on a connection of its own, so that deliveries never wait for it. Where
//! pg_cron ticks it re-encrypts as well, and nothing is done here (`upkeep.rs` says who ticks).
//!
//! Nothing is kept between batches: after a kill the next sidecar goes on where the last commit was, and several at once
//! take different rows. A stop waits for the batch under way. Tests: `tests/` drives rotations, kills and starts it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::startup::pause_after;
use crate::db::{DbError, ReencryptReport, Session};
use crate::failure::Failure;

/// Rows in one transaction: some milliseconds of work.
const BATCH: i32 = 250;
/// Works a tenth of the time, as `rotator.run_tick` does; where others keep the processors busy a batch takes longer, and
/// then half of it at most, so that ten batches a second still get done.
const REST: u32 = 9;
const ENOUGH: Duration = Duration::from_millis(100);
const SHORTEST_REST: Duration = Duration::from_millis(1);
/// After a batch in which others had all rows locked.
const REST_WITHOUT_ROWS: Duration = Duration::from_millis(100);
/// How long a stop waits for the batch under way; without an answer the server ends it by itself.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Whether it is on us to re-encrypt; whoever looks after the engine says so at each look.
pub type OnUs = watch::Receiver<bool>;

/// Works at each look that says that it is on us, until nothing is left.
///
/// # Errors
/// None: what goes wrong is logged, and tried again.
pub async fn run(
    session: Session,
    mut on_us: OnUs,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let mut driver = Driver {
        session,
        health,
        shutdown: shutdown.clone(),
        failures: 0,
        last_error: None,
    };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            looked = on_us.changed() => if looked.is_err() {
                // The looks ended, and so does everything.
                shutdown.cancelled().await;
                return Ok(());
            },
        }
        driver.work_off(&mut on_us).await;
    }
}

struct Driver {
    session: Session,
    health: Arc<Health>,
    shutdown: CancellationToken,
    failures: u32,
    last_error: Option<String>,
}

impl Driver {
    /// Batch after batch, until nothing is left, somebody else does it, or we are stopped.
    async fn work_off(&mut self, on_us: &mut OnUs) {
        let (begun, mut done) = (Instant::now(), 0);
        while *on_us.borrow_and_update() && !self.shutdown.is_cancelled() {
            let at = Instant::now();
            let pause = match self.step().await {
                None => break,
                Some(Ok(step)) => {
                    done += step.done;
                    if step.remaining == 0 {
                        break;
                    }
                    let spent = at.elapsed();
                    let rest = (spent * REST)
                        .min(ENOUGH.saturating_sub(spent))
                        .max(spent)
                        .max(SHORTEST_REST);
                    if step.done > 0 {
                        rest
                    } else {
                        rest.max(REST_WITHOUT_ROWS)
                    }
                }
                Some(Err(error)) => {
                    self.failures += 1;
                    pause_after(&error, self.failures)
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        if !*on_us.borrow() {
            self.health.figures.set_reencrypt_remaining(0);
        }
        if done > 0 {
            tracing::info!(
                rows = done,
                seconds = begun.elapsed().as_secs(),
                "re-encrypted"
            );
        }
    }

    /// One batch; nothing if a stop came and the batch did not end soon.
    async fn step(&mut self) -> Option<Result<ReencryptReport, DbError>> {
        let mut call = std::pin::pin!(self.session.reencrypt_step(BATCH));
        let answer = tokio::select! {
            answer = &mut call => answer,
            () = self.shutdown.cancelled() => timeout(STOP_LIMIT, call).await.ok()?,
        };
        match &answer {
            Ok(step) => {
                self.failures = 0;
                if self.last_error.take().is_some() {
                    tracing::info!("re-encryption works again");
                }
                self.health.figures.reencrypted(step.done, step.remaining);
                tracing::debug!(
                    done = step.done,
                    remaining = step.remaining,
                    waiting = step.waiting,
                    rotation = step.rotation,
                    "re-encryption"
                );
            }
            Err(error) => {
                let text = error.to_string();
                if self.last_error.as_ref() != Some(&text) {
                    tracing::error!(
                        sqlstate = error.sqlstate().unwrap_or_default(),
                        hint = error.hint().unwrap_or_default(),
                        "re-encryption: {text}"
                    );
                }
                self.last_error = Some(text);
            }
        }
        Some(answer)
    }
}
