//! `/healthz`: the process answers. `/readyz`: it can do its work right now, and if not, why.
//!
//! Ready means: not draining, the database answers, a connection listens, and nothing that is due has waited for minutes
//! (then deliveries are stuck). What waits for a retry is not due. What works, but not as well as it could, is a warning.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::db::{DbError, EngineStatus, Session};
use crate::serve::{Health, Listening};

const DATABASE_WITHIN: Duration = Duration::from_secs(2);
/// However often we are asked, the database is asked once a second.
const KEEP: Duration = Duration::from_secs(1);
/// The dispatcher polls every five seconds and a delivery takes at most twenty.
const STUCK_AFTER_SECONDS: f64 = 300.0;

/// What the probes look at.
pub struct Probes {
    session: Arc<Session>,
    pub(super) health: Arc<Health>,
    last: Mutex<Option<(Instant, Result<EngineStatus, String>)>>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Report {
    ready: bool,
    reasons: Vec<String>,
    warnings: Vec<String>,
    draining: bool,
    database: &'static str,
    listen: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Queue>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Queue {
    queued: i64,
    oldest_due_seconds: Option<f64>,
    dead: i64,
    seconds_since_tick: Option<f64>,
}

impl Probes {
    pub fn new(session: Arc<Session>, health: Arc<Health>) -> Self {
        Self {
            session,
            health,
            last: Mutex::new(None),
        }
    }

    /// What the database says, or said less than `keep` ago.
    pub(super) async fn status(&self, keep: Duration) -> Result<EngineStatus, String> {
        let mut last = self.last.lock().await;
        if let Some((_, kept)) = last.as_ref().filter(|(at, _)| at.elapsed() < keep) {
            return kept.clone();
        }
        let status = match timeout(DATABASE_WITHIN, self.session.engine_status()).await {
            Ok(Ok(status)) => Ok(status),
            // Host, port and user are nobody's business who can reach this page.
            Ok(Err(DbError::Unreachable { message, .. } | DbError::Refused { message, .. })) => {
                Err(message)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no answer within {} s", DATABASE_WITHIN.as_secs())),
        };
        *last = Some((Instant::now(), status.clone()));
        status
    }
}

/// The process answers.
pub async fn healthz() -> Response {
    json_answer(StatusCode::OK, &json!({"status": "ok"}))
}

/// 200 or 503, with the same fields.
pub async fn readyz(State(probes): State<Arc<Probes>>) -> Response {
    let report = judge(probes.status(KEEP).await, &probes.health);
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json_answer(status, &report)
}

fn json_answer(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn judge(status: Result<EngineStatus, String>, health: &Health) -> Report {
    let (draining, listening) = (health.is_draining(), health.listening());
    let mut reasons = Vec::new();
    let mut warnings = Vec::new();
    if draining {
        reasons.push("draining: stopping after what is in flight".to_owned());
    }
    match listening {
        Listening::Up => {}
        Listening::Deaf => warnings.push(
            "listen: NOTIFY does not arrive (a pooler in transaction mode?); polling every 5 s"
                .to_owned(),
        ),
        Listening::Down => reasons.push("listen: no connection waits for NOTIFY".to_owned()),
    }
    warnings.extend(
        health
            .library_problem()
            .map(|problem| format!("library: {problem}")),
    );
    warnings.extend(
        health
            .audit
            .problem()
            .map(|problem| format!("audit: {problem}")),
    );
    let (database, queue) = match status {
        Err(error) => {
            reasons.push(format!("database: {error}"));
            ("down", None)
        }
        Ok(status) => {
            if let Some(age) = status
                .oldest_due_seconds
                .filter(|age| *age > STUCK_AFTER_SECONDS)
            {
                reasons.push(format!(
                    "queue: a due notification has waited for {age:.0} s"
                ));
            }
            let queue = Queue {
                queued: status.queued,
                oldest_due_seconds: status.oldest_due_seconds,
                dead: status.dead,
                seconds_since_tick: status.seconds_since_tick,
            };
            ("ok", Some(queue))
        }
    };
    let listen = match listening {
        Listening::Up => "ok",
        Listening::Deaf => "polling",
        Listening::Down => "down",
    };
    Report {
        ready: reasons.is_empty(),
        reasons,
        warnings,
        draining,
        database,
        listen,
        queue,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(listening: Listening) -> Health {
        let health = Health::default();
        health.set_listening(listening);
        health
    }

    #[test]
    fn each_reason_alone_makes_it_unready() {
        let fine = || {
            Ok(EngineStatus {
                oldest_due_seconds: Some(2.0),
                ..EngineStatus::default()
            })
        };
        let up = health(Listening::Up);
        assert!(judge(fine(), &up).ready && judge(fine(), &up).warnings.is_empty());
        assert!(judge(Ok(EngineStatus::default()), &up).ready);
        assert!(judge(fine(), &health(Listening::Down)).reasons[0].starts_with("listen"));
        assert!(judge(Err("gone".to_owned()), &up).reasons[0].starts_with("database: gone"));
        let late = EngineStatus {
            oldest_due_seconds: Some(301.0),
            ..EngineStatus::default()
        };
        assert!(judge(Ok(late), &up).reasons[0].starts_with("queue"));
        up.drain();
        assert!(judge(fine(), &up).reasons[0].starts_with("draining"));
    }

    #[test]
    fn what_still_works_is_a_warning() {
        let deaf = health(Listening::Deaf);
        assert!(deaf.set_library_problem(Some("older".to_owned())));
        assert!(!deaf.set_library_problem(Some("older".to_owned())));
        let report = judge(Ok(EngineStatus::default()), &deaf);
        assert!(report.ready && report.listen == "polling");
        assert!(report.warnings[0].starts_with("listen") && report.warnings[1] == "library: older");
    }
}
