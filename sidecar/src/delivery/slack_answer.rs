//! What Slack's answers mean: one outcome for each, as a table of codes. HTTP 200 with `ok: false` is a failure.
//! Sending: `slack.rs`. What happens after a failure: `sql/api`.

use serde::Deserialize;

use super::outcome::{Outcome, RetryReason};
use super::web::Answer;

/// `ok: false`, but worth another try: <https://docs.slack.dev/reference/methods/chat.postMessage#errors>
const RETRY: &[&str] = &[
    "fatal_error",
    "internal_error",
    "request_timeout",
    "service_unavailable",
    "team_added_to_org",
];
const RATE_LIMITED: &[&str] = &["message_limit_exceeded", "rate_limited", "ratelimited"];
/// There is no such channel or person any more.
const GONE: &[&str] = &[
    "channel_is_archived",
    "channel_not_found",
    "is_archived",
    "no_service",
    "user_not_found",
];

/// The message isn't there any more, or can't be changed: <https://docs.slack.dev/reference/methods/chat.update#errors>
const UNCHANGEABLE: &[&str] = &[
    "cant_update_message",
    "edit_window_closed",
    "message_not_found",
    "thread_not_found",
];

const TOO_LONG: &[&str] = &["msg_blocks_too_long", "msg_too_long"];

#[derive(Deserialize)]
struct ApiAnswer {
    ok: bool,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    ts: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// Where a message is, as Slack says: its conversation, and its timestamp there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub channel: String,
    pub ts: String,
}

impl Place {
    /// As it is kept: the timestamp, after the conversation where the recipient isn't its id, since a name or a person
    /// can't be given to change a message.
    pub fn kept(&self, recipient: &str) -> String {
        if is_conversation(recipient) {
            self.ts.clone()
        } else {
            format!("{}/{}", self.channel, self.ts)
        }
    }

    /// From what was kept of a message to that recipient.
    pub fn read(kept: &str, recipient: &str) -> Option<Self> {
        let (channel, ts) = kept.split_once('/').unwrap_or((recipient, kept));
        let is_ts =
            ts.contains('.') && ts.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        (is_ts && is_conversation(channel)).then(|| Self {
            channel: channel.to_owned(),
            ts: ts.to_owned(),
        })
    }
}

/// An id of a channel, a group or a direct conversation; a person's (U…) is none.
pub fn is_conversation(text: &str) -> bool {
    text.starts_with(['C', 'D', 'G'])
        && text.len() > 1
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

/// What an answer to `chat.postMessage` means; the id says where the message is.
pub fn judge_message(answer: &Answer, recipient: &str) -> Outcome {
    let conversation = || -> Option<String> {
        let answer: ApiAnswer = serde_json::from_slice(&answer.body).ok()?;
        answer.channel.filter(|channel| is_conversation(channel))
    };
    match (judge_api(answer), conversation()) {
        (Outcome::Delivered { id: ts }, Some(channel)) => Outcome::Delivered {
            id: Place { channel, ts }.kept(recipient),
        },
        (outcome, _) => outcome,
    }
}

/// Whether what was to be changed, or replied to, isn't there any more.
pub fn is_gone(answer: &Answer) -> bool {
    serde_json::from_slice::<ApiAnswer>(&answer.body).is_ok_and(|answer| {
        !answer.ok
            && answer
                .error
                .is_some_and(|error| UNCHANGEABLE.contains(&error.as_str()))
    })
}

/// Whether a message was refused for its length: its blocks together, which Slack doesn't document a limit for.
pub fn is_too_long(answer: &Answer) -> bool {
    serde_json::from_slice::<ApiAnswer>(&answer.body).is_ok_and(|answer| {
        !answer.ok
            && answer
                .error
                .is_some_and(|error| TOO_LONG.contains(&error.as_str()))
    })
}

/// What an answer of the API means. HTTP 200 with `ok: false` is a failure.
pub fn judge_api(answer: &Answer) -> Outcome {
    if answer.status != 200 {
        return judge_status(answer, None);
    }
    match serde_json::from_slice(&answer.body) {
        Ok(ApiAnswer {
            ok: true,
            ts: Some(ts),
            ..
        }) => Outcome::Delivered { id: shown(&ts) },
        Ok(ApiAnswer {
            ok: true, ts: None, ..
        }) => Outcome::Delivered {
            id: "slack".to_owned(),
        },
        Ok(ApiAnswer {
            ok: false, error, ..
        }) => judge_code(
            error
                .as_deref()
                .map_or_else(|| "no reason given".to_owned(), shown),
            answer,
        ),
        Err(_) => Outcome::transient("Slack answered something that is not its JSON"),
    }
}

/// What an answer of an incoming webhook means: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>
pub fn judge_webhook(answer: &Answer, id: String) -> Outcome {
    match answer.status {
        200 => Outcome::Delivered { id },
        404 | 410 => Outcome::recipient_gone(format!("Slack webhook: HTTP {}", answer.status)),
        _ => judge_status(answer, std::str::from_utf8(&answer.body).ok()),
    }
}

fn judge_code(code: String, answer: &Answer) -> Outcome {
    let error = format!("Slack: {code}");
    if RETRY.contains(&code.as_str()) {
        Outcome::transient(error)
    } else if RATE_LIMITED.contains(&code.as_str()) {
        Outcome::Retry {
            after: answer.retry_after,
            reason: RetryReason::RateLimited,
            error,
        }
    } else if GONE.contains(&code.as_str()) {
        Outcome::recipient_gone(error)
    } else {
        // invalid_auth, token_revoked, account_inactive, not_in_channel, missing_scope, invalid_blocks, …: somebody
        // has to change something first.
        Outcome::permanent(error)
    }
}

fn judge_status(answer: &Answer, code: Option<&str>) -> Outcome {
    let code = code
        .map(shown)
        .filter(|code| code != UNPRINTABLE)
        .map(|code| format!(" {code}"))
        .unwrap_or_default();
    let error = format!("Slack: HTTP {}{code}", answer.status);
    match answer.status {
        429 => Outcome::Retry {
            after: answer.retry_after,
            reason: RetryReason::RateLimited,
            error,
        },
        400..=499 if !matches!(answer.status, 408 | 425) => Outcome::permanent(error),
        // 5xx, or nothing of Slack's: a proxy's page, say. The message was not taken.
        _ => Outcome::Retry {
            after: answer.retry_after,
            reason: RetryReason::Transient,
            error,
        },
    }
}

const UNPRINTABLE: &str = "unknown reason";

/// Slack's codes and timestamps are short words; whatever else is there might quote what must not be recorded.
fn shown(code: &str) -> String {
    let code = code.trim();
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
    if !code.is_empty() && code.len() <= 64 && code.chars().all(word) {
        code.to_owned()
    } else {
        UNPRINTABLE.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answer(status: u16, body: &str) -> Answer {
        Answer {
            status,
            retry_after: Some(Duration::from_secs(7)),
            headers: Default::default(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_api_outcome_table() {
        let cases = [
            (200, r#"{"ok":true,"ts":"1405895017.000506"}"#, "delivered"),
            (200, r#"{"ok":false,"error":"internal_error"}"#, "transient"),
            (200, r#"{"ok":false,"error":"fatal_error"}"#, "transient"),
            (
                200,
                r#"{"ok":false,"error":"service_unavailable"}"#,
                "transient",
            ),
            (200, r#"{"ok":false,"error":"ratelimited"}"#, "rate_limited"),
            (
                200,
                r#"{"ok":false,"error":"channel_not_found"}"#,
                "recipient_gone",
            ),
            (
                200,
                r#"{"ok":false,"error":"is_archived"}"#,
                "recipient_gone",
            ),
            (
                200,
                r#"{"ok":false,"error":"account_inactive"}"#,
                "permanent",
            ),
            (200, r#"{"ok":false,"error":"token_revoked"}"#, "permanent"),
            (200, r#"{"ok":false,"error":"invalid_auth"}"#, "permanent"),
            (200, r#"{"ok":false,"error":"not_in_channel"}"#, "permanent"),
            (200, r#"{"ok":false,"error":"invalid_blocks"}"#, "permanent"),
            (200, r#"{"ok":false}"#, "permanent"),
            (200, "<html>maintenance</html>", "transient"),
            (200, "", "transient"),
            (202, "", "transient"),
            (301, "", "transient"),
            (400, "", "permanent"),
            (403, "", "permanent"),
            (404, "", "permanent"),
            (408, "", "transient"),
            (429, "", "rate_limited"),
            (500, "", "transient"),
            (503, "", "transient"),
        ];
        for (status, body, label) in cases {
            assert_eq!(
                judge_api(&answer(status, body)).label(),
                label,
                "{status} {body}"
            );
        }
        assert_eq!(
            judge_api(&answer(200, cases[0].1)),
            Outcome::Delivered {
                id: "1405895017.000506".to_owned()
            }
        );
    }

    #[test]
    fn a_message_that_is_gone_is_told_from_other_failures() {
        assert!(is_gone(&answer(
            200,
            r#"{"ok":false,"error":"message_not_found"}"#
        )));
        assert!(is_gone(&answer(
            200,
            r#"{"ok":false,"error":"thread_not_found"}"#
        )));
        for body in [
            r#"{"ok":true,"ts":"1.2"}"#,
            r#"{"ok":false,"error":"ratelimited"}"#,
            "",
            "{}",
        ] {
            assert!(!is_gone(&answer(200, body)), "{body}");
        }
    }

    #[test]
    fn a_message_is_found_again_where_slack_put_it() {
        let place = Place {
            channel: "D024BE91L".to_owned(),
            ts: "1700000000.000001".to_owned(),
        };
        for (recipient, kept) in [
            ("D024BE91L", "1700000000.000001"),
            ("U0123ABCDEF", "D024BE91L/1700000000.000001"),
            ("#deploys", "D024BE91L/1700000000.000001"),
        ] {
            assert_eq!(place.kept(recipient), kept);
            assert_eq!(Place::read(kept, recipient).as_ref(), Some(&place));
        }
        for (kept, recipient) in [
            ("1700000000.000001", "#deploys"),
            ("slack", "C1"),
            ("x/1.2", "C1"),
            ("webhook:1", "C1"),
        ] {
            assert_eq!(Place::read(kept, recipient), None, "{kept}");
        }
    }

    #[test]
    fn the_webhook_outcome_table() {
        let cases = [
            (200, "ok", "delivered"),
            (400, "invalid_payload", "permanent"),
            (403, "action_prohibited", "permanent"),
            (404, "no_service", "recipient_gone"),
            (410, "channel_is_archived", "recipient_gone"),
            (429, "", "rate_limited"),
            (500, "rollup_error", "transient"),
            (302, "", "transient"),
        ];
        for (status, body, label) in cases {
            assert_eq!(
                judge_webhook(&answer(status, body), "w".to_owned()).label(),
                label,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn the_wait_is_kept_and_answers_are_not_quoted() {
        let Outcome::Retry {
            after,
            reason,
            error,
        } = judge_api(&answer(429, "secret stuff"))
        else {
            panic!("retry")
        };
        assert_eq!(
            (after, reason),
            (Some(Duration::from_secs(7)), RetryReason::RateLimited)
        );
        assert_eq!(error, "Slack: HTTP 429");
        let outcome = judge_api(&answer(
            200,
            r#"{"ok":false,"error":"token xoxb-1 is bad"}"#,
        ));
        assert_eq!(outcome, Outcome::permanent("Slack: unknown reason"));
        let outcome = judge_webhook(
            &answer(400, "https://hooks.slack.com/services/T/B/x"),
            String::new(),
        );
        assert_eq!(outcome, Outcome::permanent("Slack: HTTP 400"));
    }
}
