//! The connection that waits for NOTIFY. A notification is only a hint (it may be lost or forged), so its payload is
//! not even looked at: it wakes the claim loop, which asks the queue.
//!
//! Behind a pooler in transaction mode LISTEN succeeds and nothing ever arrives, and no question about the session tells:
//! so the listener has a channel of its own as well, where somebody else's session calls and it says whether it hears.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, SimpleQueryMessage};

use super::{DbError, Session, Target};

/// An open connection that has said LISTEN. Dropping it closes the socket.
pub struct Listener {
    client: Client,
    driver: JoinHandle<()>,
    /// The channel of its own.
    echo: String,
    heard: Arc<Notify>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Listener {
    /// Connects and listens; from then on every notification wakes `wake`. What was sent before is lost, so the
    /// caller has to look at the queue once after this returns.
    ///
    /// # Errors
    /// As [`super::connect`], or the error of LISTEN.
    pub async fn open(
        target: &Target,
        channel: &'static str,
        wake: Arc<Notify>,
        limit: Duration,
    ) -> Result<Self, DbError> {
        let (client, mut connection) = target.open().await?;
        let echo = echo_channel();
        let heard = Arc::new(Notify::new());
        let (ours, hearing) = (echo.clone(), heard.clone());
        let driver = tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
                    Some(Ok(AsyncMessage::Notification(note))) if note.channel() == ours => {
                        hearing.notify_one();
                    }
                    Some(Ok(AsyncMessage::Notification(_))) => wake.notify_one(),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(%error, "the listening connection ended");
                        break;
                    }
                    None => break,
                }
            }
        });
        let listener = Self {
            client,
            driver,
            echo,
            heard,
        };
        let listen = format!("listen {channel}; listen {}", listener.echo);
        within(limit, listener.client.batch_execute(&listen)).await?;
        Ok(listener)
    }

    /// Asks the server for a sign of life, and whether it is still the one to work on.
    ///
    /// # Errors
    /// [`DbError::Timeout`] when none comes, [`DbError::Lost`] when the connection is gone, or has to go because the
    /// server takes no writes any more.
    pub async fn ping(&self, limit: Duration) -> Result<(), DbError> {
        let answer = within(
            limit,
            self.client.simple_query("show transaction_read_only"),
        )
        .await?;
        let read_only = answer.iter().any(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0) == Some("on"),
            _ => false,
        });
        if read_only {
            return Err(DbError::Lost {
                message: "the server has become read-only".to_owned(),
            });
        }
        Ok(())
    }

    /// Whether what `other` sends arrives here within `limit`.
    ///
    /// # Errors
    /// As those of a statement of `other`.
    pub async fn hears(&self, other: &Session, limit: Duration) -> Result<bool, DbError> {
        other.notify(&self.echo).await?;
        Ok(timeout(limit, self.heard.notified()).await.is_ok())
    }

    /// Returns when the connection has ended.
    pub async fn ended(&mut self) {
        let _ = (&mut self.driver).await;
    }
}

/// Known to nobody else, so that nobody else wakes us there.
fn echo_channel() -> String {
    let mut salt = [0u8; 8];
    // Without randomness two sidecars share it, and hear each other's trials too.
    let _ = getrandom::fill(&mut salt);
    format!("rotator_echo_{:016x}", u64::from_ne_bytes(salt))
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, DbError> {
    match timeout(limit, call).await {
        Ok(result) => result.map_err(DbError::from),
        Err(_) => Err(DbError::Timeout {
            seconds: limit.as_secs(),
        }),
    }
}
