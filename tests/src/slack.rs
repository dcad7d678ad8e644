//! A stand-in for Slack on loopback: it records every request and answers from a script. It takes `chat.postMessage`
//! (`/api/…`) and incoming webhooks (`/services/…`); the sidecar reaches it through `ROTATOR_SLACK_URL`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::patience::eventually;

/// How one request is answered.
#[derive(Clone, Debug)]
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
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: Instant,
    pub time: SystemTime,
}

impl Request {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).context("the body is not JSON")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

#[derive(Default)]
struct Script {
    requests: Vec<Request>,
    next: VecDeque<Answer>,
    rules: Vec<(String, Answer)>,
    always: Option<Answer>,
}

type Shared = Arc<Mutex<Script>>;

pub struct StandIn {
    address: SocketAddr,
    script: Shared,
    server: JoinHandle<()>,
}

impl StandIn {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let script = Shared::default();
        let app = Router::new().fallback(take).with_state(script.clone());
        let server = tokio::spawn(async move {
            // It ends with the test, by being aborted.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self {
            address,
            script,
            server,
        })
    }

    /// For `ROTATOR_SLACK_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers the next request so that no earlier `answer` is waiting for; then the next, and so on.
    pub fn answer(&self, answer: Answer) {
        lock(&self.script).next.push_back(answer);
    }

    /// Answers so whatever is not scripted by [`StandIn::answer`] or [`StandIn::answer_when`]; at first that is `Ok`.
    pub fn answer_always(&self, answer: Answer) {
        lock(&self.script).always = Some(answer);
    }

    /// Answers every request whose path or body contains this text so, before anything else: a channel that is slow.
    pub fn answer_when(&self, text: &str, answer: Answer) {
        lock(&self.script).rules.push((text.to_owned(), answer));
    }

    pub fn requests(&self) -> Vec<Request> {
        lock(&self.script).requests.clone()
    }

    /// Waits until at least `count` requests came in, and gives all of them.
    pub async fn received(&self, count: usize, limit: Duration) -> Result<Vec<Request>> {
        eventually(
            limit,
            &format!("{count} requests at the stand-in"),
            async || {
                let requests = self.requests();
                Ok((requests.len() >= count).then_some(requests))
            },
        )
        .await
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(script: &Shared) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take(
    State(script): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let (answer, count) = {
        let mut script = lock(&script);
        let text = String::from_utf8_lossy(&body).into_owned();
        let ruled = script
            .rules
            .iter()
            .find(|(part, _)| path.contains(part) || text.contains(part));
        let answer = match ruled {
            Some((_, answer)) => answer.clone(),
            None => script
                .next
                .pop_front()
                .or_else(|| script.always.clone())
                .unwrap_or(Answer::Ok),
        };
        let (at, time) = (Instant::now(), SystemTime::now());
        script.requests.push(Request {
            method,
            path: path.clone(),
            headers,
            body,
            at,
            time,
        });
        (answer, script.requests.len())
    };
    give(answer, path.starts_with("/services/"), count).await
}

async fn give(mut answer: Answer, webhook: bool, count: usize) -> Response {
    while let Answer::After(pause, then) = answer {
        tokio::time::sleep(pause).await;
        answer = *then;
    }
    match answer {
        Answer::Ok if webhook => reply(StatusCode::OK, "text/html", "ok".to_owned()),
        Answer::Ok => {
            let accepted =
                json!({"ok": true, "channel": "C0STANDIN", "ts": format!("1700000000.{count:06}")});
            reply(StatusCode::OK, "application/json", accepted.to_string())
        }
        Answer::NotOk(error) if webhook => {
            reply(StatusCode::NOT_FOUND, "text/html", error.to_owned())
        }
        Answer::NotOk(error) => reply(
            StatusCode::OK,
            "application/json",
            json!({"ok": false, "error": error}).to_string(),
        ),
        Answer::Status(code) => {
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            reply(status, "text/plain", String::new())
        }
        Answer::RateLimited(seconds) => {
            let mut response = reply(StatusCode::TOO_MANY_REQUESTS, "text/plain", String::new());
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, seconds.into());
            response
        }
        Answer::Garbage => reply(
            StatusCode::OK,
            "text/html",
            "<!doctype html><title>Captive portal</title>".to_owned(),
        ),
        Answer::Never | Answer::After(..) => std::future::pending().await,
    }
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::http;

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
