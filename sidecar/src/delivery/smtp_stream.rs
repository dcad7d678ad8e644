//! What the mail server says, heard with care. In SMTP without pipelining each side waits for the other: who says more than
//! one reply to a command would have the surplus taken for the reply to the next one, in the worst case a mail for sent that
//! was refused. Who slips something in before TLS begins could do the same (CVE-2011-0411). And a reply has an end.
//!
//! So this stream gives its reader no more than a line at a time, and refuses to write while something is left unread.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Of one reply; most have a few hundred bytes. The library reads all of it again with each line.
const REPLY_LIMIT: usize = 8 * 1024;
/// The same by TLS; with it come certificates, of a few thousand bytes.
const SEALED_LIMIT: usize = 32 * 1024;
const PIECE: usize = 2048;
const STARTTLS: &[u8] = b"STARTTLS\r\n";

/// A connection to a mail server.
pub struct Turns<S> {
    stream: S,
    peer: SocketAddr,
    layer: Layer,
    /// Came in, and isn't read yet.
    heard: Vec<u8>,
    /// Bytes of it since our last word.
    length: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// Lines of SMTP.
    Lines,
    /// Lines, and what we say next begins TLS.
    Agreed,
    /// TLS, which is not for us to read.
    Sealed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Turns<S> {
    pub const fn new(stream: S, peer: SocketAddr) -> Self {
        Self {
            stream,
            peer,
            layer: Layer::Lines,
            heard: Vec::new(),
            length: 0,
        }
    }

    /// What has come in, as it comes; at least something.
    fn hear(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut piece = [0; PIECE];
        let mut buffer = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
        }
        self.heard.extend_from_slice(buffer.filled());
        self.length += buffer.filled().len();
        let limit = match self.layer {
            Layer::Lines => REPLY_LIMIT,
            Layer::Agreed | Layer::Sealed => SEALED_LIMIT,
        };
        if self.length > limit {
            return Poll::Ready(Err(nonsense("a reply without end")));
        }
        Poll::Ready(Ok(()))
    }

    /// Before each of our words: whether it is our turn.
    fn await_turn(&mut self, context: &mut Context<'_>) -> Result<()> {
        if self.layer == Layer::Sealed {
            return Ok(());
        }
        // That there is nothing is what we hope for.
        if let Poll::Ready(outcome) = self.hear(context) {
            outcome?;
        }
        if self.heard.is_empty() {
            Ok(())
        } else {
            Err(nonsense("more than one reply to a command"))
        }
    }

    fn said(&mut self, word: &[u8]) {
        self.length = 0;
        self.layer = match self.layer {
            Layer::Lines if word == STARTTLS => Layer::Agreed,
            Layer::Lines => Layer::Lines,
            Layer::Agreed | Layer::Sealed => Layer::Sealed,
        };
    }
}

fn nonsense(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Turns<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        if self.heard.is_empty() {
            ready!(self.hear(context))?;
        }
        let line = match self.layer {
            Layer::Sealed => self.heard.len(),
            Layer::Lines | Layer::Agreed => {
                let end = self.heard.iter().position(|byte| *byte == b'\n');
                end.map_or(self.heard.len(), |end| end + 1)
            }
        };
        let taken = line.min(buffer.remaining());
        buffer.put_slice(&self.heard[..taken]);
        self.heard.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Turns<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        word: &[u8],
    ) -> Poll<Result<usize>> {
        self.await_turn(context)?;
        let length = ready!(Pin::new(&mut self.stream).poll_write(context, word))?;
        self.said(word);
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Mails go through it: nothing of them is for a log.
impl<S> std::fmt::Debug for Turns<S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Turns").finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> AsyncTokioStream for Turns<S> {
    fn peer_addr(&self) -> Result<SocketAddr> {
        Ok(self.peer)
    }
}
