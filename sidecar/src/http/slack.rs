//! `POST /slack/interactions`: somebody pressed a button in Slack. First the signature over the raw body, then what it
//! says (`slack_call.rs`), then the database, which decides who that is and what he may. Slack waits 3 seconds: what takes
//! longer goes on after the answer. A press changes the message for everybody; what went wrong is told to who pressed.
//!
//! Tests: `tests/tests/delivery/slack_buttons.rs`, `slack_callbacks.rs`, with Slack's own SDK as the other side.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::refusals::{self, Refusals};
use super::signature::{Keys, Seen, single};
use super::slack_call::{Call, Wanted};
use super::view::for_people;
use crate::config::{ConfigError, Settings};
use crate::db::{DbError, Pressed, Redemption, Session, Terms};
use crate::delivery::{Deed, SlackDesk};

/// A message of 50 blocks comes back whole, and form-encoded.
pub const BODY_LIMIT: usize = 512 * 1024;
/// <https://docs.slack.dev/authentication/verifying-requests-from-slack>: older requests may be repeats of others.
const WINDOW_SECONDS: u64 = 300;
/// Slack gives up after 3 seconds, the way there and back included; what isn't done by then goes on.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
const SIGNATURE: HeaderName = HeaderName::from_static("x-slack-signature");
const TIMESTAMP: HeaderName = HeaderName::from_static("x-slack-request-timestamp");
const VERSION: &str = "v0";

/// What callbacks need.
pub struct Slack {
    session: Arc<Session>,
    desk: SlackDesk,
    keys: Keys,
    seen: Seen,
    refusals: Refusals,
}

impl Slack {
    /// None where `ROTATOR_SLACK_SIGNING_SECRET` isn't set: then nobody can be believed.
    ///
    /// # Errors
    /// As [`SlackDesk::new`].
    pub fn new(settings: &Settings, session: Arc<Session>) -> Result<Option<Self>, ConfigError> {
        let Some(secret) = &settings.slack_signing_secret else {
            return Ok(None);
        };
        Ok(Some(Self {
            session,
            desk: SlackDesk::new(settings)?,
            keys: Keys::new(secret),
            seen: Seen::default(),
            refusals: Refusals::default(),
        }))
    }
}

/// POST.
pub async fn interact(
    State(slack): State<Arc<Slack>>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> StatusCode {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return rejection.status(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    if let Err(problem) = slack.believe(&headers, &body, now) {
        tracing::warn!("a call to /slack/interactions was refused: {problem}");
        return StatusCode::UNAUTHORIZED;
    }
    let call = match Call::read(&body) {
        Ok(Wanted::Nothing) => return StatusCode::OK,
        Ok(Wanted::Press(call)) => call,
        Err(problem) => {
            tracing::warn!("a callback of Slack was not understood: {problem}");
            return StatusCode::BAD_REQUEST;
        }
    };
    let work = tokio::spawn(async move { slack.work(&call).await });
    // Slack shows the press as done when this ends; what came of it, the message says.
    if timeout(ANSWER_WITHIN, work).await.is_err() {
        tracing::warn!("a press in Slack takes longer than it waits; it goes on");
    }
    StatusCode::OK
}

impl Slack {
    /// Whether this is Slack's, of these minutes, and for the first time.
    fn believe(&self, headers: &HeaderMap, body: &[u8], now: u64) -> Result<(), &'static str> {
        let signature = single(headers, &SIGNATURE).ok_or("it has no signature")?;
        let timestamp = single(headers, &TIMESTAMP).ok_or("it has no timestamp")?;
        let is_plain = !timestamp.is_empty() && timestamp.bytes().all(|byte| byte.is_ascii_digit());
        let at: u64 = timestamp
            .parse()
            .ok()
            .filter(|_| is_plain)
            .ok_or("its timestamp is no number")?;
        if at.abs_diff(now) > WINDOW_SECONDS {
            return Err("it is more than 5 minutes old, or this machine's clock is wrong");
        }
        let tag = signature
            .strip_prefix(VERSION)
            .and_then(|rest| rest.strip_prefix('='));
        let mut signed = format!("{VERSION}:{timestamp}:").into_bytes();
        signed.extend_from_slice(body);
        let tag = tag
            .and_then(|tag| self.keys.check(&signed, tag))
            .ok_or("its signature is wrong")?;
        if self.seen.is_new(tag, at + WINDOW_SECONDS, now) {
            Ok(())
        } else {
            Err("it came before")
        }
    }

    async fn work(&self, call: &Call) {
        let (token, action) = (call.press.token.as_str(), call.press.deed.action());
        let mut pressed = Pressed {
            token,
            action,
            kind: "slack",
            external_id: &call.identity,
        };
        let mut outcome = self.press(pressed, &call.press.deed).await;
        let address;
        if outcome.as_ref().is_err_and(is_stranger)
            && let Some(found) = self.desk.address(&call.team, &call.user).await
        {
            address = found;
            let by_mail = Pressed {
                kind: "email",
                external_id: &address,
                ..pressed
            };
            let second = self.press(by_mail, &call.press.deed).await;
            // An address that can't be one, or is linked to nobody either, says no more than the first answer.
            if !second
                .as_ref()
                .is_err_and(|error| is_stranger(error) || error.sqlstate() == Some("22023"))
            {
                (pressed, outcome) = (by_mail, second);
            }
        }
        match outcome {
            Ok(result) => {
                tracing::info!(
                    action,
                    already = result["already"] == true,
                    "a button was pressed in Slack"
                );
                self.desk
                    .change(&call.spot, &result["message"], token)
                    .await;
            }
            Err(error) => {
                self.refused(pressed, &error).await;
                self.desk
                    .whisper(&call.spot, &answer(&error, &call.identity))
                    .await;
            }
        }
    }

    async fn press(&self, pressed: Pressed<'_>, deed: &Deed) -> Result<Value, DbError> {
        let mut terms = Terms::default();
        let zone;
        match deed {
            Deed::Acknowledge | Deed::Rotated(None) => {}
            Deed::SnoozeFor(interval) => terms.snooze_for = Some(interval),
            Deed::SnoozeUntil(instant) => terms.snooze_until = Some(instant),
            Deed::Rotated(Some(date)) => {
                // A day begins where the tenant is.
                let shown = Redemption::plain(pressed.token, "show");
                let shown = self.session.redeem_link(shown).await?;
                zone = shown["tenant"]["time_zone"]
                    .as_str()
                    .unwrap_or("UTC")
                    .to_owned();
                terms.next_expiry = Some((date, &zone));
            }
        }
        self.session.press_button(pressed, terms).await
    }

    async fn refused(&self, pressed: Pressed<'_>, error: &DbError) {
        let reason = match error.sqlstate() {
            Some("42501") if is_stranger(error) => Some("stranger"),
            Some("42501") if error.hint().is_some() => Some("role"),
            _ => refusals::reason(error),
        };
        let Some(reason) = reason else {
            if error.sqlstate() != Some("PT404") {
                tracing::error!(
                    sqlstate = error.sqlstate().unwrap_or_default(),
                    "a press in Slack failed: {error}"
                );
            }
            return;
        };
        tracing::info!(
            action = pressed.action,
            reason,
            "a press in Slack was refused"
        );
        if !self.refusals.has_room(pressed.token) {
            tracing::warn!(
                reason,
                "a button is refused again and again; no more events of it for now"
            );
            return;
        }
        if let Err(error) = self.session.record_press_refusal(pressed, reason).await {
            tracing::error!(
                sqlstate = error.sqlstate().unwrap_or_default(),
                "a refusal of a press is not in the audit log: {error}"
            );
        }
    }
}

/// Nobody is linked to who pressed.
fn is_stranger(error: &DbError) -> bool {
    error.sqlstate() == Some("42501") && error.to_string().contains("linked to nobody")
}

/// What who pressed is told.
fn answer(error: &DbError, identity: &str) -> String {
    const UNCHANGED: &str = "Nothing was changed";
    let said = || for_people(error);
    let hint = || error.hint().unwrap_or_default();
    match error.sqlstate() {
        _ if is_stranger(error) => format!(
            "{UNCHANGED}: rotator doesn't know who you are. Link this Slack user to your own subject, or ask an admin to: \
             select rotator.link_identity('<your subject>', 'slack', '{identity}');"
        ),
        Some("42501") if error.hint().is_some() => format!("{UNCHANGED}: {}. {}", said(), hint()),
        Some("PT404") => format!("{UNCHANGED}: this button is not known any more. {}", hint()),
        Some("PT409" | "PT410") => format!("{UNCHANGED}: {}. {}", said(), hint()),
        Some(state) if state.starts_with("22") || state == "RT001" => {
            format!("{UNCHANGED}: {}. {}", said(), hint())
        }
        _ => "rotator is not available right now: please press it again in a minute.".to_owned(),
    }
}
