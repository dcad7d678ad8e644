//! A stand-in for Slack on loopback: it records every request and answers from a script. It takes `chat.postMessage`
//! (`/api/…`) and incoming webhooks (`/services/…`); the sidecar reaches it through `ROTATOR_SLACK_URL`. What isn't
//! Slack's own about it is `vendor.rs`.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::vendor::{self, Reply, Vendor};

pub use crate::vendor::Request;

/// How one request is answered.
#[derive(Clone)]
pub enum Answer {
    /// 200 and accepted; `chat.postMessage` gets `ok: true` with the message's `ts`, a webhook the text `ok`.
    Ok,
    /// 200 with `ok: false` and this error, such as `channel_not_found`. A webhook gets 404 with it as the text.
    NotOk(&'static str),
    /// This status and an empty body.
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    RateLimited(u64),
    /// 200 with something that is not Slack's.
    Garbage,
    /// Takes the request, waits this long, and then answers so.
    After(Duration, Box<Answer>),
    /// Takes the request and never answers.
    Never,
    /// As any vendor may misbehave.
    As(vendor::Answer),
}

pub struct StandIn(Vendor);

impl StandIn {
    pub async fn start() -> Result<Self> {
        Ok(Self(Vendor::start(Answer::Ok.scripted()).await?))
    }

    /// For `ROTATOR_SLACK_URL`.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Answers the next request so that no earlier `answer` is waiting for; then the next, and so on.
    pub fn answer(&self, answer: Answer) {
        self.0.answer(answer.scripted());
    }

    /// Answers so whatever is not scripted by [`StandIn::answer`] or [`StandIn::answer_when`]; at first that is `Ok`.
    pub fn answer_always(&self, answer: Answer) {
        self.0.answer_always(answer.scripted());
    }

    /// Answers every request whose path or body contains this text so, before anything else: a channel that is slow.
    pub fn answer_when(&self, text: &str, answer: Answer) {
        self.0.answer_when(text, answer.scripted());
    }

    pub fn requests(&self) -> Vec<Request> {
        self.0.requests()
    }

    /// Waits until at least `count` requests came in, and gives all of them.
    pub async fn received(&self, count: usize, limit: Duration) -> Result<Vec<Request>> {
        self.0.received(count, limit).await
    }
}

impl Answer {
    fn scripted(self) -> vendor::Answer {
        match self {
            Self::Ok => vendor::Answer::by(|request, count| {
                if is_webhook(request) {
                    return vendor::Answer::Reply(Reply::text(200, "text/html", "ok"));
                }
                let ts = format!("1700000000.{count:06}");
                vendor::Answer::json(200, &json!({"ok": true, "channel": "C0STANDIN", "ts": ts}))
            }),
            Self::NotOk(error) => vendor::Answer::by(move |request, _| {
                if is_webhook(request) {
                    return vendor::Answer::Reply(Reply::text(404, "text/html", error));
                }
                vendor::Answer::json(200, &json!({"ok": false, "error": error}))
            }),
            Self::Status(code) => vendor::Answer::status(code),
            Self::RateLimited(seconds) => {
                vendor::Answer::with_header(429, "retry-after", &seconds.to_string())
            }
            Self::Garbage => {
                let page = "<!doctype html><title>Captive portal</title>";
                vendor::Answer::Reply(Reply::text(200, "text/html", page))
            }
            Self::After(pause, then) => then.scripted().after(pause),
            Self::Never => vendor::Answer::Never,
            Self::As(answer) => answer,
        }
    }
}

fn is_webhook(request: &Request) -> bool {
    request.path.starts_with("/services/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::http;
    use serde_json::Value;

    #[tokio::test]
    async fn answers_come_as_scripted_and_requests_are_kept() -> Result<()> {
        let slack = StandIn::start().await?;
        slack.answer_when("C0SLOW", Answer::Status(500));
        slack.answer(Answer::RateLimited(7));
        slack.answer(Answer::NotOk("is_archived"));
        let post = async |body: &'static str| {
            http()
                .post(slack.url() + "/api/chat.postMessage")
                .body(body)
                .send()
                .await
        };

        assert_eq!(post("C0SLOW").await?.status(), 500);
        let limited = post("one").await?;
        assert_eq!(
            (limited.status().as_u16(), &limited.headers()["retry-after"]),
            (429, &"7".parse()?)
        );
        assert_eq!(
            post("two").await?.json::<Value>().await?,
            json!({"ok": false, "error": "is_archived"})
        );
        assert_eq!(post("three").await?.json::<Value>().await?["ok"], true);
        assert_eq!(
            http()
                .post(slack.url() + "/services/T/B/x")
                .send()
                .await?
                .text()
                .await?,
            "ok"
        );

        let bodies: Vec<String> = slack.requests().iter().map(Request::text).collect();
        assert_eq!(bodies, ["C0SLOW", "one", "two", "three", ""]);
        Ok(())
    }
}
