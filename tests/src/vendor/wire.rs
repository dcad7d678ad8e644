//! HTTP/1.1 by hand, as far as our clients speak it: reading requests, and answering them well or badly.
//! What is answered: `vendor.rs`.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader,
};
use tokio::time::sleep;

use super::{Answer, Request, Shared};

const PIECE: usize = 64 * 1024;

/// Answers one request after the other, until the client goes or an answer breaks off.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    script: Shared,
) -> Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        let (mut answer, count) = super::record(&script, request.clone());
        loop {
            answer = match answer {
                Answer::After(pause, then) => {
                    sleep(pause).await;
                    *then
                }
                Answer::By(decide) => decide(&request, count),
                ready => break give(stream.get_mut(), ready).await?,
            };
        }
    }
    Ok(())
}

/// The next request of a connection, or none when the client closed it.
async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let method = words.next().context("a request line")?.parse()?;
    let target = words.next().context("a request target")?.to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut headers = HeaderMap::new();
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        let name: HeaderName = name.parse()?;
        headers.append(name, HeaderValue::from_str(value.trim())?);
    }
    ensure!(
        !headers.contains_key("transfer-encoding"),
        "our clients announce how long a body is"
    );
    let length = match headers.get("content-length") {
        Some(length) => length.to_str()?.parse()?,
        None => 0,
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(Some(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: body.into(),
        at: Instant::now(),
        time: SystemTime::now(),
    }))
}

/// Answers; an error ends the connection.
async fn give(stream: &mut (impl AsyncWrite + Unpin), answer: Answer) -> Result<()> {
    match answer {
        Answer::Reply(reply) => {
            let mut bytes = reply.head().into_bytes();
            bytes.extend_from_slice(&reply.body);
            stream.write_all(&bytes).await?;
            stream.flush().await?;
        }
        Answer::Huge(status, size) => {
            let head = format!("HTTP/1.1 {status} Huge\r\ncontent-length: {size}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut left = size;
            while left > 0 {
                let piece = left.min(PIECE);
                stream.write_all(&vec![b'x'; piece]).await?;
                left -= piece;
            }
            stream.flush().await?;
        }
        Answer::Trickle(pause, reply) => {
            trickle(stream, reply.head().as_bytes(), pause).await?;
            trickle(stream, &reply.body, pause).await?;
        }
        Answer::TrickleBody(pause, reply) => {
            stream.write_all(reply.head().as_bytes()).await?;
            trickle(stream, &reply.body, pause).await?;
        }
        Answer::CutBeforeHeaders => bail!("cut before the headers"),
        Answer::CutInHeaders(status) => {
            let half = format!("HTTP/1.1 {status} Cut\r\ncontent-ty");
            stream.write_all(half.as_bytes()).await?;
            stream.flush().await?;
            bail!("cut in the headers");
        }
        Answer::CutInBody(reply) => {
            let half = &reply.body[..reply.body.len() / 2];
            stream.write_all(reply.head().as_bytes()).await?;
            stream.write_all(half).await?;
            stream.flush().await?;
            bail!("cut in the body");
        }
        Answer::NotHttp => {
            stream.write_all(b"220 mail.example ESMTP\r\n").await?;
            stream.flush().await?;
            bail!("not HTTP");
        }
        Answer::Raw(bytes) => {
            stream.write_all(&bytes).await?;
            stream.flush().await?;
            bail!("raw");
        }
        Answer::Flood(head, piece) => {
            stream.write_all(&head).await?;
            loop {
                stream.write_all(&piece).await?;
            }
        }
        Answer::Never | Answer::After(..) | Answer::By(_) => std::future::pending::<()>().await,
    }
    Ok(())
}

async fn trickle(
    stream: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    pause: Duration,
) -> Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        stream.flush().await?;
        sleep(pause).await;
    }
    Ok(())
}
