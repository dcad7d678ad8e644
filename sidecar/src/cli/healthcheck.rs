//! `rotator healthcheck`: asks the `rotator serve` of this machine's `/readyz`, for images that have no curl.
//!
//! It reads the same settings as `serve`, so it finds the address by itself. Exit code 0: ready; 1: not, and why.
//! Tests: beside this, and `tests/tests/delivery/healthcheck.rs`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Place;
use crate::failure::{Exit, Failure};

/// `/readyz` itself waits at most two seconds for the database.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// The answer is a few hundred bytes; whatever else listens there may send more.
const ANSWER_BYTES: u64 = 64 * 1024;
const REQUEST: &[u8] = b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

pub async fn run(place: &Place) -> Result<Exit, Failure> {
    let settings = &place.settings;
    let address = reachable(settings.metrics_listen.unwrap_or(settings.listen));
    let answer = timeout(ANSWER_WITHIN, ask(address))
        .await
        .map_err(|_| {
            let seconds = ANSWER_WITHIN.as_secs();
            Failure::new(
                Exit::Failed,
                format!("http://{address}/readyz: no answer within {seconds} s"),
            )
        })?
        .map_err(|error| {
            Failure::new(Exit::Failed, format!("http://{address}/readyz: {error}"))
                .hint("Is rotator serve running here, with the same settings?")
        })?;
    match verdict(&answer) {
        Ok(()) => Ok(Exit::Ok),
        Err(reasons) => Err(Failure::new(Exit::Failed, format!("not ready: {reasons}"))),
    }
}

/// Where a server that listens on all addresses answers to its own machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Ready, or why not.
fn verdict(answer: &str) -> Result<(), String> {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .unwrap_or("no HTTP answer");
    if status == "200" {
        return Ok(());
    }
    // The body may be chunked; its JSON is one chunk.
    let json = body.find('{').zip(body.rfind('}'));
    let report = json.and_then(|(from, to)| serde_json::from_str::<Value>(&body[from..=to]).ok());
    let reasons: Vec<&str> = report
        .as_ref()
        .and_then(|report| report["reasons"].as_array())
        .map(|reasons| reasons.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    Err(if reasons.is_empty() {
        status.to_owned()
    } else {
        reasons.join("; ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_all_addresses_is_asked_on_loopback() {
        let asked = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(asked("[::]:8080"), "[::1]:8080");
        assert_eq!(asked("10.1.2.3:9000"), "10.1.2.3:9000");
    }

    #[test]
    fn only_status_200_is_ready_and_reasons_are_told() {
        assert_eq!(verdict("HTTP/1.1 200 OK\r\n\r\n{\"ready\":true}"), Ok(()));
        assert_eq!(
            verdict(
                "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\n{\"ready\":false,\"reasons\":[\"draining\",\"listen\"]}"
            ),
            Err("draining; listen".to_owned())
        );
        assert_eq!(
            verdict("HTTP/1.1 404 Not Found\r\n\r\n"),
            Err("404".to_owned())
        );
        assert_eq!(verdict("220 smtp 200"), Err("no HTTP answer".to_owned()));
        assert_eq!(verdict(""), Err("no HTTP answer".to_owned()));
    }
}
