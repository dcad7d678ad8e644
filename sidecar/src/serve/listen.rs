//! Keeps one connection that has said LISTEN. NOTIFY is only a hint: after each (re)connect the queue is looked at
//! once, since what was sent in between is lost, and the dispatcher polls anyway.
//!
//! A connection that died without a word is noticed within half a minute: a ping every ten seconds, ten seconds to
//! answer it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::startup::pause_after;
use crate::db::{DbError, Listener, Target};

/// Sent by the tick.
const CHANNEL: &str = "rotator_outbox";
const PING_EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Listens until shutdown.
pub async fn run(
    target: Arc<Target>,
    wake: Arc<Notify>,
    health: Arc<Health>,
    shutdown: CancellationToken,
) {
    let mut failures = 0;
    let mut said = None;
    loop {
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = listen(&target, &wake, &health, &mut failures) => ended,
        };
        health.set_listening(false);
        let pause = pause_after(&ended, failures);
        failures += 1;
        let text = ended.to_string();
        // Once for each reason, not once for each attempt.
        if said.as_ref() != Some(&text) {
            tracing::warn!("LISTEN ended, polling meanwhile: {text}");
            said = Some(text);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// Returns with the reason why listening ended.
async fn listen(
    target: &Target,
    wake: &Arc<Notify>,
    health: &Health,
    failures: &mut u32,
) -> DbError {
    let mut listener = match Listener::open(target, CHANNEL, wake.clone(), ANSWER_WITHIN).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    if *failures > 0 {
        tracing::info!("LISTEN is back");
    }
    *failures = 0;
    health.set_listening(true);
    wake.notify_one();
    loop {
        tokio::select! {
            () = listener.ended() => return DbError::Lost { message: "the server closed the connection".to_owned() },
            () = sleep(PING_EVERY) => {}
        }
        if let Err(error) = listener.ping(ANSWER_WITHIN).await {
            return error;
        }
    }
}
