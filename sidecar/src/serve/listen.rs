//! Keeps one connection that has said LISTEN. NOTIFY is only a hint: after each (re)connect the queue is looked at
//! once, since what was sent in between is lost, and the dispatcher polls anyway.
//!
//! A connection that died without a word is noticed within half a minute: a ping every ten seconds, ten seconds to
//! answer it.
//!
//! Whether what is sent arrives is tried out: after each connect, and each minute. A pooler in transaction mode swallows
//! it without an error; then the log says so, once, and the sidecar works by polling.
//! Tests: `tests/` kills the connection, and puts a pooler between.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::health::{Health, Listening};
use super::startup::pause_after;
use crate::db::{DbError, Listener, Session, Target};

/// Sent by the tick.
const CHANNEL: &str = "rotator_outbox";
const PING_EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// For a NOTIFY of ours to arrive; on a healthy server that takes a millisecond.
const HEARD_WITHIN: Duration = Duration::from_secs(3);
/// So many pings between two trials while all is well.
const PINGS_PER_TRIAL: u32 = 6;

/// Listens until shutdown. `other` sends what is listened for when hearing is tried out.
pub async fn run(
    target: Arc<Target>,
    other: Arc<Session>,
    wake: Arc<Notify>,
    health: Arc<Health>,
    shutdown: CancellationToken,
) {
    let mut failures = 0;
    let mut said = None;
    loop {
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = listen(&target, &other, &wake, &health, &mut failures, &mut said) => ended,
        };
        health.set_listening(Listening::Down);
        let pause = pause_after(&ended, failures);
        failures += 1;
        let text = ended.to_string();
        // Once for each reason, not once for each attempt.
        if said.as_ref() != Some(&text) {
            tracing::warn!(
                hint = ended.hint().unwrap_or_default(),
                "LISTEN ended, polling meanwhile: {text}"
            );
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
    other: &Session,
    wake: &Arc<Notify>,
    health: &Health,
    failures: &mut u32,
    said: &mut Option<String>,
) -> DbError {
    let mut listener = match Listener::open(target, CHANNEL, wake.clone(), ANSWER_WITHIN).await {
        Ok(listener) => listener,
        Err(error) => return error,
    };
    wake.notify_one();
    let mut until_trial = 0;
    loop {
        if until_trial == 0 {
            let hears = match listener.hears(other, HEARD_WITHIN).await {
                Ok(hears) => hears,
                Err(error) => return error,
            };
            tell(health, hears, *failures > 0);
            *failures = 0;
            *said = None;
            until_trial = if hears { PINGS_PER_TRIAL } else { 1 };
        }
        tokio::select! {
            () = listener.ended() => return DbError::Lost { message: "the server closed the connection".to_owned() },
            () = sleep(PING_EVERY) => {}
        }
        if let Err(error) = listener.ping(ANSWER_WITHIN).await {
            return error;
        }
        until_trial -= 1;
    }
}

/// Says what is new about hearing.
fn tell(health: &Health, hears: bool, was_lost: bool) {
    let before = health.listening();
    let now = if hears {
        Listening::Up
    } else {
        Listening::Deaf
    };
    health.set_listening(now);
    match (before, now) {
        (Listening::Down, Listening::Up) if was_lost => tracing::info!("LISTEN is back"),
        (Listening::Deaf, Listening::Up) => tracing::info!("NOTIFY arrives now"),
        (Listening::Down | Listening::Up, Listening::Deaf) => tracing::warn!(
            hint = "point ROTATOR_DATABASE_URL past the pooler, or at one in session mode; deliveries go out meanwhile, \
                    up to 5 seconds later",
            "LISTEN was accepted but NOTIFY does not arrive, as behind a pooler in transaction mode: polling every 5 s"
        ),
        _ => {}
    }
}
