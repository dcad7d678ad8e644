//! Watches the engine: every fifteen seconds its status, and a tick when nobody else has ticked for a while. Where
//! pg_cron runs, it ticks each minute and the sidecar never has to; several sidecars ticking at once do no harm.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::db::{DbError, Session};

const LOOK_EVERY: Duration = Duration::from_secs(15);
/// pg_cron's minute, and what it may be late.
const TICK_OVERDUE_SECONDS: f64 = 75.0;

/// Looks and ticks until shutdown.
pub async fn run(session: Session, wake: Arc<Notify>, shutdown: CancellationToken) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_error: Option<String> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = look.tick() => {}
        }
        let result = tokio::select! {
            () = shutdown.cancelled() => return,
            result = tick_if_overdue(&session, &wake) => result,
        };
        match result {
            Ok(()) => {
                if last_error.take().is_some() {
                    tracing::info!("the engine answers again");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if last_error.as_ref() != Some(&text) {
                    let sqlstate = error.sqlstate().unwrap_or_default();
                    tracing::error!(
                        sqlstate,
                        hint = error.hint().unwrap_or_default(),
                        "engine status or tick: {text}"
                    );
                }
                last_error = Some(text);
            }
        }
    }
}

async fn tick_if_overdue(session: &Session, wake: &Notify) -> Result<(), DbError> {
    let status = session.engine_status().await?;
    tracing::debug!(
        queued = status.queued,
        dead = status.dead,
        oldest_due_s = status.oldest_due_seconds,
        "engine status"
    );
    if status
        .seconds_since_tick
        .is_some_and(|seconds| seconds <= TICK_OVERDUE_SECONDS)
    {
        return Ok(());
    }
    loop {
        let report = session.tick().await?;
        if report.due > 0 || report.queued > 0 || report.cancelled > 0 {
            tracing::info!(
                due = report.due,
                queued = report.queued,
                cancelled = report.cancelled,
                alerts_opened = report.alerts_opened,
                "ticked"
            );
        }
        if report.queued > 0 {
            wake.notify_one();
        }
        if !report.more {
            return Ok(());
        }
    }
}
