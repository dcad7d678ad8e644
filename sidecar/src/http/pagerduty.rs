//! `POST /pagerduty/webhooks`: PagerDuty tells what happened to an incident, as its V3 webhooks do. One acknowledged there
//! is acknowledged here, so that nobody is told any further; that it was closed there is no rotation. A repeat changes
//! nothing, and neither does an event from before the last acknowledgement.
//! <https://developer.pagerduty.com/docs/webhooks-overview>, `…/verifying-webhook-signatures`
//!
//! Tests: `tests/tests/delivery/pagerduty_webhook.rs`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;

use super::signature::{Keys, single};
use crate::config::Settings;
use crate::db::Session;

/// An event has the whole incident in it.
pub const BODY_LIMIT: usize = 512 * 1024;
const SIGNATURE: HeaderName = HeaderName::from_static("x-pagerduty-signature");
/// Several, while its secret is changed.
const MOST_SIGNATURES: usize = 10;
const ACKNOWLEDGED: &str = "incident.acknowledged";

/// What webhooks of PagerDuty need.
pub struct PagerDuty {
    session: Arc<Session>,
    keys: Keys,
}

#[derive(Deserialize)]
struct Envelope {
    event: Event,
}

#[derive(Deserialize)]
struct Event {
    event_type: String,
    #[serde(default)]
    occurred_at: Option<String>,
    #[serde(default)]
    agent: Option<Agent>,
    #[serde(default)]
    data: Data,
}

#[derive(Deserialize)]
struct Agent {
    id: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Deserialize)]
struct Data {
    /// Our dedup key.
    #[serde(default)]
    incident_key: Option<String>,
}

impl PagerDuty {
    /// None where `ROTATOR_PAGERDUTY_WEBHOOK_SECRET` isn't set.
    pub fn new(settings: &Settings, session: Arc<Session>) -> Option<Self> {
        let keys = Keys::new(settings.pagerduty_webhook_secret.as_ref()?);
        Some(Self { session, keys })
    }
}

/// POST.
pub async fn receive(
    State(pagerduty): State<Arc<PagerDuty>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> StatusCode {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return rejection.status(),
    };
    if !is_signed(&pagerduty.keys, &headers, &body) {
        tracing::warn!(
            "a call to /pagerduty/webhooks was refused: its signature is missing or wrong"
        );
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(Envelope { event }) = serde_json::from_slice(&body) else {
        tracing::warn!("a webhook of PagerDuty was not understood");
        return StatusCode::BAD_REQUEST;
    };
    if event.event_type != ACKNOWLEDGED {
        return StatusCode::OK;
    }
    let Some(key) = event.data.incident_key else {
        return StatusCode::OK;
    };
    let user = event
        .agent
        .filter(|agent| agent.kind == "user_reference" && is_id(&agent.id));
    let user = user.as_ref().map(|agent| agent.id.as_str());
    // A time that is none counts as missing. In the one form that the database reads as it is meant.
    let at = event
        .occurred_at
        .and_then(|at| at.parse::<jiff::Timestamp>().ok())
        .map(|at| at.to_string());
    match pagerduty
        .session
        .acknowledge_incident(&key, user, at.as_deref())
        .await
    {
        Ok(result) => {
            tracing::info!(
                outcome = result["outcome"].as_str(),
                "an incident was acknowledged in PagerDuty"
            );
            StatusCode::OK
        }
        // No key that could be ours. Told again it would be none either.
        Err(error)
            if error
                .sqlstate()
                .is_some_and(|state| state.starts_with("22")) =>
        {
            tracing::warn!("a webhook of PagerDuty was not understood: {error}");
            StatusCode::BAD_REQUEST
        }
        // It calls again with the same event.
        Err(error) => {
            tracing::error!(
                sqlstate = error.sqlstate().unwrap_or_default(),
                "an acknowledgement from PagerDuty could not be recorded: {error}"
            );
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

/// `v1=…`, several with commas between; one of them is enough.
fn is_signed(keys: &Keys, headers: &HeaderMap, body: &[u8]) -> bool {
    let given = single(headers, &SIGNATURE).unwrap_or_default();
    given
        .split(',')
        .take(MOST_SIGNATURES)
        .filter_map(|signature| signature.trim().strip_prefix("v1="))
        .any(|tag| keys.check(body, tag).is_some())
}

fn is_id(text: &str) -> bool {
    (1..=40).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn one_good_signature_among_several_is_enough() {
        let keys = Keys::new(&Secret::new("a secret of some length".to_owned()));
        let headers = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(SIGNATURE, value.parse().unwrap());
            headers
        };
        // printf '{}' | openssl dgst -sha256 -hmac 'a secret of some length'
        let good = "v1=1a5af9722519df5f1d71c653980c502c87e52bf18aecce877a02ae6cd576199d";
        let bad = format!("v1={}", "0".repeat(64));
        for (given, expected) in [
            (good.to_owned(), true),
            (format!("{bad},{good}"), true),
            (format!("{good}, {bad}"), true),
            (bad, false),
            (good.replace("v1", "v0"), false),
            (good[3..].to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(
                is_signed(&keys, &headers(&given), b"{}"),
                expected,
                "{given}"
            );
        }
        assert!(
            !is_signed(&keys, &headers(good), b"{ }"),
            "the bytes as they came"
        );
        assert!(!is_signed(&keys, &HeaderMap::new(), b"{}"));
        let mut twice = headers(good);
        twice.append(SIGNATURE, good.parse().unwrap());
        assert!(!is_signed(&keys, &twice, b"{}"));
    }
}
