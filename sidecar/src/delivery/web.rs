//! How channels speak HTTP: no redirects, no proxy, TLS verified, a limit on time and on what is read of the answer.
//! Elsewhere: what an answer means (each channel's file), which addresses are allowed (`egress.rs`).

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, ClientBuilder, RequestBuilder, Response};
use tokio::time::timeout;
use url::Url;

use super::egress::{Denied, Egress};
use super::outcome::Outcome;
use super::retry_after;
use crate::config::ConfigError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first byte sent to the last byte read. Together with what precedes it far below the lease of a minute.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the rest of an answer is waited for where its status alone counts.
const BODY_GRACE: Duration = Duration::from_secs(2);
/// More of an answer is not read: what we need of it is a few hundred bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// What a vendor said.
pub struct Answer {
    pub status: u16,
    /// Already clamped.
    pub retry_after: Option<Duration>,
    pub headers: HeaderMap,
    /// The first 64 KiB.
    pub body: Vec<u8>,
}

/// Installs the TLS provider of the process, once; what is there already stays.
pub fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client for vendors on the internet: https only, filtered addresses.
///
/// # Errors
/// The TLS backend can't be set up (no root certificates, say).
pub fn public_client(egress: Egress) -> Result<Client, reqwest::Error> {
    builder()
        .https_only(true)
        .dns_resolver(Arc::new(egress))
        .build()
}

/// A client for the one host that a setting names in place of a vendor's.
///
/// # Errors
/// As [`public_client`].
pub fn stand_in_client() -> Result<Client, reqwest::Error> {
    builder().build()
}

/// The one of the two that a vendor's setting asks for.
///
/// # Errors
/// As [`public_client`], in words for the operator.
pub fn vendor_client(stand_in: Option<&Url>, egress: &Egress) -> Result<Client, ConfigError> {
    let client = match stand_in {
        Some(_) => stand_in_client(),
        None => public_client(egress.clone()),
    };
    client.map_err(|error| {
        let hint =
            "install the system's CA certificates (Debian: ca-certificates), or set SSL_CERT_FILE";
        ConfigError::invalid("TLS", &error.without_url().to_string(), hint)
    })
}

fn builder() -> ClientBuilder {
    install_tls_provider();
    Client::builder()
        .user_agent(concat!("rotator/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_nodelay(true)
}

/// Sends a request and reads the answer.
///
/// # Errors
/// An outcome when there is no complete answer: nobody there, too slow, cut off, or not allowed. It names no URL.
pub async fn send(request: RequestBuilder) -> Result<Answer, Outcome> {
    let (mut answer, response) = send_for_head(request).await?;
    read_body(response, &mut answer.body)
        .await
        .map_err(|error| no_answer(&error))?;
    Ok(answer)
}

/// Sends a request to somebody whose status says it all. Once it is there it counts, whatever becomes of the rest: a
/// message that was taken is not sent again because its receipt broke off.
///
/// # Errors
/// As [`send`], up to the end of the headers.
pub async fn send_for_status(request: RequestBuilder) -> Result<Answer, Outcome> {
    let (mut answer, response) = send_for_head(request).await?;
    // It may say why something was refused; and a connection that is read to its end can be used again.
    let _ = timeout(BODY_GRACE, read_body(response, &mut answer.body)).await;
    Ok(answer)
}

/// An answer without its body, and where to read that.
async fn send_for_head(request: RequestBuilder) -> Result<(Answer, Response), Outcome> {
    let mut response = request.send().await.map_err(|error| no_answer(&error))?;
    let headers = std::mem::take(response.headers_mut());
    let answer = Answer {
        status: response.status().as_u16(),
        retry_after: wait(&headers),
        headers,
        body: Vec::new(),
    };
    Ok((answer, response))
}

async fn read_body(mut response: Response, body: &mut Vec<u8>) -> Result<(), reqwest::Error> {
    while let Some(chunk) = response.chunk().await? {
        let room = BODY_LIMIT - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == BODY_LIMIT {
            break;
        }
    }
    Ok(())
}

fn wait(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    retry_after::parse(text(RETRY_AFTER)?, text(DATE))
}

/// Our own words: the library's text holds the URL, and the URL may be a secret.
fn no_answer(error: &reqwest::Error) -> Outcome {
    let mut source = error.source();
    while let Some(inner) = source {
        if inner.downcast_ref::<Denied>().is_some() {
            return Outcome::transient(Denied.to_string());
        }
        source = inner.source();
    }
    if error.is_timeout() && error.is_connect() {
        Outcome::timeout("no connection within 10 s")
    } else if error.is_timeout() {
        Outcome::timeout("no answer within 20 s")
    } else if error.is_connect() {
        Outcome::transient("can't connect")
    } else {
        Outcome::transient("the connection broke before the answer was complete")
    }
}
