//! A stand-in for any vendor with an HTTP API, on loopback: it records every request and answers from a script, well
//! ([`Answer::status`], [`Answer::json`]) or badly (too much, too slowly, cut off, not HTTP at all). It speaks HTTP by
//! hand (`vendor/wire.rs`), so that it can break off at any byte, in the clear or by TLS (`vendor/certificate.rs`).
//! Slack's own way to answer: `slack.rs`; mail by SMTP: `smtp.rs`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use axum::body::Bytes;
use axum::http::{HeaderMap, Method};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use self::certificate::Certificate;
use crate::patience::eventually;

mod certificate;
mod wire;

/// What decides on an answer when the request is there.
type Decide = Arc<dyn Fn(&Request, usize) -> Answer + Send + Sync>;

/// How one request is answered.
#[derive(Clone)]
pub enum Answer {
    /// A proper answer.
    Reply(Reply),
    /// Takes the request, waits this long, and then answers so.
    After(Duration, Box<Answer>),
    /// Takes the request and never answers.
    Never,
    /// Decided when the request is there; the number counts requests from 1.
    By(Decide),
    /// This status, and a body of this many bytes.
    Huge(u16, usize),
    /// The reply a byte at a time, with this pause after each: status line and headers too.
    Trickle(Duration, Reply),
    /// The head of the reply at once, and then its body a byte at a time, with this pause after each.
    TrickleBody(Duration, Reply),
    /// The connection ends here, without a byte.
    CutBeforeHeaders,
    /// The connection ends after the status line and half a header.
    CutInHeaders(u16),
    /// The connection ends after the headers and half of the promised body.
    CutInBody(Reply),
    /// Bytes that are not HTTP.
    NotHttp,
    /// These bytes as they are, and then the connection ends.
    Raw(Vec<u8>),
    /// The first of these, and then the second again and again until the client goes.
    Flood(Vec<u8>, Vec<u8>),
}

/// A proper answer: status, headers, body.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", &body.to_string())
    }

    pub fn text(status: u16, kind: &str, body: &str) -> Self {
        let mut reply = Self::status(status).header("content-type", kind);
        reply.body = body.as_bytes().to_vec();
        reply
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        head
    }
}

impl Answer {
    /// This status and an empty body.
    pub fn status(status: u16) -> Self {
        Self::Reply(Reply::status(status))
    }

    pub fn json(status: u16, body: &Value) -> Self {
        Self::Reply(Reply::json(status, body))
    }

    /// This status, this one header, an empty body: 429 with `retry-after`, 302 with `location`.
    pub fn with_header(status: u16, name: &str, value: &str) -> Self {
        Self::Reply(Reply::status(status).header(name, value))
    }

    pub fn after(self, pause: Duration) -> Self {
        Self::After(pause, Box::new(self))
    }

    pub fn by(decide: impl Fn(&Request, usize) -> Self + Send + Sync + 'static) -> Self {
        Self::By(Arc::new(decide))
    }
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    /// Without the query.
    pub path: String,
    pub query: String,
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

struct Script {
    requests: Vec<Request>,
    next: VecDeque<Answer>,
    rules: Vec<(String, Answer)>,
    always: Answer,
}

type Shared = Arc<Mutex<Script>>;

pub struct Vendor {
    address: SocketAddr,
    script: Shared,
    server: JoinHandle<()>,
    certificate: Option<Certificate>,
}

impl Vendor {
    /// Listens on a free port; whatever isn't scripted is answered like this.
    pub async fn start(always: Answer) -> Result<Self> {
        Self::listen(always, None).await
    }

    /// The same by TLS, for who trusts [`Vendor::certificate`].
    pub async fn start_with_tls(always: Answer) -> Result<Self> {
        Self::listen(always, Some(Certificate::new()?)).await
    }

    async fn listen(always: Answer, certificate: Option<Certificate>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let script = Arc::new(Mutex::new(Script {
            requests: Vec::new(),
            next: VecDeque::new(),
            rules: Vec::new(),
            always,
        }));
        let acceptor = certificate
            .as_ref()
            .map(Certificate::acceptor)
            .transpose()?;
        let server = tokio::spawn(accept(listener, acceptor, script.clone()));
        Ok(Self {
            address,
            script,
            server,
            certificate,
        })
    }

    /// For `ROTATOR_SLACK_URL` and its like.
    pub fn url(&self) -> String {
        let scheme = match self.certificate {
            Some(_) => "https",
            None => "http",
        };
        format!("{scheme}://{}", self.address)
    }

    /// For `SSL_CERT_FILE`.
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_ref().map(Certificate::path)
    }

    /// Answers the next request so that no earlier `answer` is waiting for; then the next, and so on.
    pub fn answer(&self, answer: Answer) {
        lock(&self.script).next.push_back(answer);
    }

    /// Answers so whatever is not scripted by [`Vendor::answer`] or [`Vendor::answer_when`].
    pub fn answer_always(&self, answer: Answer) {
        lock(&self.script).always = answer;
    }

    /// Answers every request whose path or body contains this text so, before anything else.
    pub fn answer_when(&self, text: &str, answer: Answer) {
        lock(&self.script).rules.push((text.to_owned(), answer));
    }

    pub fn requests(&self) -> Vec<Request> {
        lock(&self.script).requests.clone()
    }

    /// Waits until at least `count` requests came in, and gives all of them.
    pub async fn received(&self, count: usize, limit: Duration) -> Result<Vec<Request>> {
        let what = format!("{count} requests at the stand-in");
        eventually(limit, &what, async || {
            let enough = lock(&self.script).requests.len() >= count;
            Ok(enough.then(|| self.requests()))
        })
        .await
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(script: &Shared) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends with the test, by being aborted; the connections end with it.
async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, script: Shared) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (script, acceptor) = (script.clone(), acceptor.clone());
        // What goes wrong on a connection is what a test scripted, or a client that went away.
        connections.spawn(async move {
            stream.set_nodelay(true)?;
            match acceptor {
                Some(acceptor) => wire::serve(acceptor.accept(stream).await?, script).await,
                None => wire::serve(stream, script).await,
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

fn record(script: &Shared, request: Request) -> (Answer, usize) {
    let mut script = lock(script);
    let text = request.text();
    let ruled = script
        .rules
        .iter()
        .find(|(part, _)| request.path.contains(part) || text.contains(part));
    let answer = match ruled {
        Some((_, answer)) => answer.clone(),
        None => script
            .next
            .pop_front()
            .unwrap_or_else(|| script.always.clone()),
    };
    script.requests.push(request);
    (answer, script.requests.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::http;
    use anyhow::ensure;

    #[tokio::test]
    async fn it_answers_as_scripted_on_one_connection_and_breaks_off_where_told() -> Result<()> {
        let vendor = Vendor::start(Answer::status(204)).await?;
        let reply = Reply::text(200, "text/plain", "0123456789");
        vendor.answer(Answer::with_header(429, "retry-after", "-5"));
        vendor.answer(Answer::CutBeforeHeaders);
        vendor.answer(Answer::CutInHeaders(200));
        vendor.answer(Answer::NotHttp);
        vendor.answer(Answer::CutInBody(reply.clone()));
        vendor.answer(Answer::Trickle(Duration::from_millis(1), reply));
        vendor.answer(Answer::Huge(200, 3 << 20));
        let url = vendor.url() + "/x?y";
        let post = async || http().post(&url).body("hello").send().await;

        let limited = post().await?;
        ensure!(limited.status() == 429 && limited.headers()["retry-after"] == "-5");
        for stage in ["before the headers", "in the headers", "not HTTP"] {
            ensure!(post().await.is_err(), "{stage}");
        }
        ensure!(post().await?.text().await.is_err(), "half a body");
        ensure!(post().await?.text().await? == "0123456789");
        ensure!(post().await?.bytes().await?.len() == 3 << 20);
        ensure!(post().await?.status() == 204);
        let last = vendor.requests().pop().context("they are kept")?;
        ensure!(last.path == "/x" && last.query == "y" && last.text() == "hello");
        Ok(())
    }
}
