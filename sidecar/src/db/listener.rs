//! The connection that waits for NOTIFY. A notification is only a hint (it may be lost or forged), so its payload is
//! not even looked at: it wakes the claim loop, which asks the queue.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client};

use super::{DbError, Target};

/// An open connection that has said LISTEN. Dropping it closes the socket.
pub struct Listener {
    client: Client,
    driver: JoinHandle<()>,
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
        let driver = tokio::spawn(async move {
            loop {
                match poll_fn(|cx| connection.poll_message(cx)).await {
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
        let listener = Self { client, driver };
        within(
            limit,
            listener.client.batch_execute(&format!("listen {channel}")),
        )
        .await?;
        Ok(listener)
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// [`DbError::Timeout`] when none comes, [`DbError::Lost`] when the connection is gone.
    pub async fn ping(&self, limit: Duration) -> Result<(), DbError> {
        within(limit, self.client.check_connection()).await
    }

    /// Returns when the connection has ended.
    pub async fn ended(&mut self) {
        let _ = (&mut self.driver).await;
    }
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
