//! A vendor that costs next to nothing: it reads requests, counts them, and answers each with the same success that
//! `chat.postMessage` gives. Both sides of a comparison call it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 70\r\n\r\n\
    {\"ok\": true, \"channel\": \"C0STANDIN\", \"ts\": \"1700000000.000001\"      }\n";

/// Whoever is not done by then is not going to be.
pub const LIMIT: Duration = Duration::from_secs(180);

pub struct Peer {
    pub url: String,
    requests: Arc<AtomicUsize>,
    first: watch::Receiver<Option<Instant>>,
}

impl Peer {
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let requests = Arc::new(AtomicUsize::new(0));
        let (sender, first) = watch::channel(None);
        let (sender, counter) = (Arc::new(sender), requests.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, counter) = (sender.clone(), counter.clone());
                tokio::spawn(async move {
                    // A connection that breaks is the other side's affair.
                    let _ = serve(stream, &counter, &sender).await;
                });
            }
        });
        Ok(Self {
            url,
            requests,
            first,
        })
    }

    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// When the first request came in; once so many have come.
    pub async fn all(&mut self, count: usize) -> Result<Instant> {
        let first = *self.first.wait_for(Option::is_some).await?;
        let first = first.context("it was waited for")?;
        while self.requests() < count {
            ensure!(
                first.elapsed() < LIMIT,
                "not {count} requests after {LIMIT:?}"
            );
            sleep(Duration::from_millis(2)).await;
        }
        Ok(first)
    }
}

async fn serve(
    mut stream: TcpStream,
    counter: &AtomicUsize,
    first: &watch::Sender<Option<Instant>>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::with_capacity(8192);
    loop {
        let length = loop {
            if let Some(length) = request_length(&bytes)?
                && bytes.len() >= length
            {
                break length;
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        bytes.drain(..length);
        if counter.fetch_add(1, Ordering::Relaxed) == 0 {
            first.send_replace(Some(Instant::now()));
        }
        stream.write_all(ANSWER).await?;
    }
}

/// Of head and body, once the head is there.
fn request_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    for line in std::str::from_utf8(&bytes[..head])?.split("\r\n") {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            return Ok(Some(head + 4 + value.trim().parse::<usize>()?));
        }
    }
    Ok(Some(head + 4))
}
