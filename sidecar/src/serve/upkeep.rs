//! Watches the engine: every fifteen seconds its status, and a tick when nobody else has ticked for a while. Where
//! pg_cron runs, it ticks each minute and the sidecar never has to; several sidecars ticking at once do no harm.
//! Whoever ticks re-encrypts, too: each look says whether that is on us (`reencryption.rs`).
//!
//! An extension that was updated under us to a version that doesn't fit ends the process as it would have prevented the
//! start: what calls would do then is unknown. What is in flight is finished first. Tests: `tests/` updates it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::startup;
use crate::db::{DbError, EngineStatus, Session};
use crate::failure::Failure;

const LOOK_EVERY: Duration = Duration::from_secs(15);
/// pg_cron's minute, and what it may be late.
const TICK_OVERDUE_SECONDS: f64 = 75.0;
/// How far the database's whole seconds and our own clock may be apart about one and the same tick.
const SAME_TICK_SECONDS: f64 = 2.0;

/// Looks and ticks until shutdown.
///
/// # Errors
/// The extension is of another version now.
pub async fn run(
    session: Session,
    wake: Arc<Notify>,
    on_us: watch::Sender<bool>,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let mut our_tick = None;
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_error: Option<String> = None;
    let mut told = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = look.tick() => {}
        }
        let result = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            result = look_after(&session, &wake, &health, &mut our_tick, &mut told, &on_us) => result,
        };
        match result {
            Ok(Some(misfit)) => return Err(misfit),
            Ok(None) => {
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

/// Gives what is wrong with the extension's version, if anything.
async fn look_after(
    session: &Session,
    wake: &Notify,
    health: &Health,
    our_tick: &mut Option<Instant>,
    told: &mut Option<String>,
    on_us: &watch::Sender<bool>,
) -> Result<Option<Failure>, DbError> {
    let status = match session.engine_status().await {
        Ok(status) => status,
        Err(error) if error.is_transient() => return Err(error),
        // Another version may have another such function, or none.
        Err(error) => {
            let version = session.extension_version().await?;
            return match version.and_then(|version| startup::misfit(&version)) {
                Some(misfit) => Ok(Some(misfit)),
                None => Err(error),
            };
        }
    };
    if let Some(version) = &status.extension_version {
        if let Some(misfit) = startup::misfit(version) {
            return Ok(Some(misfit));
        }
        startup::watch_library(health, version, status.library_version.as_deref());
    }
    tracing::debug!(
        queued = status.queued,
        dead = status.dead,
        oldest_due_s = status.oldest_due_seconds,
        "engine status"
    );
    report_undeliverable(&status, told);
    let since = status.seconds_since_tick;
    if is_overdue(since) {
        tick(session, wake).await?;
        *our_tick = Some(Instant::now());
        on_us.send_replace(true);
    } else {
        let ours = our_tick.map(|at| at.elapsed().as_secs_f64());
        on_us.send_replace(is_ours(since, ours));
    }
    Ok(None)
}

/// Says so once, and again when there are others.
fn report_undeliverable(status: &EngineStatus, told: &mut Option<String>) {
    if status.undeliverable > 0 && *told != status.undeliverable_at {
        tracing::error!(
            undeliverable = status.undeliverable,
            latest = status.undeliverable_at.as_deref().unwrap_or_default(),
            "notifications reached nobody by any contact: select * from rotator.undeliverable in each tenant, and see rotator doctor"
        );
    }
    told.clone_from(&status.undeliverable_at);
}

fn is_overdue(seconds_since_tick: Option<f64>) -> bool {
    seconds_since_tick.is_none_or(|seconds| seconds > TICK_OVERDUE_SECONDS)
}

/// Whether nobody has ticked since we did, so many seconds ago.
fn is_ours(seconds_since_tick: Option<f64>, seconds_since_ours: Option<f64>) -> bool {
    match (seconds_since_tick, seconds_since_ours) {
        (Some(last), Some(ours)) => last + SAME_TICK_SECONDS >= ours,
        _ => false,
    }
}

async fn tick(session: &Session, wake: &Notify) -> Result<(), DbError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn re_encryption_is_on_whoever_ticked_last() {
        assert!(is_overdue(None) && is_overdue(Some(76.0)) && !is_overdue(Some(75.0)));
        assert!(is_ours(Some(15.0), Some(15.4)), "whole seconds");
        assert!(is_ours(Some(16.0), Some(15.4)));
        assert!(!is_ours(Some(3.0), Some(15.4)), "somebody ticked since");
        assert!(!is_ours(Some(3.0), None), "we never did");
    }
}
