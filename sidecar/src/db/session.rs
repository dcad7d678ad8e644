//! A connection that `serve` keeps: opened when first needed, opened again after it broke, one statement at a time in
//! its own transaction, each with a time limit. Nothing is kept in the session, so that a pooler in transaction mode
//! may stand between.
//!
//! Waiting and trying again is the caller's business, since only it knows whether a repeat is safe.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::{DbError, Target};

const NOTIFY_LIMIT: Duration = Duration::from_secs(10);

/// A self-healing connection. Statements of several tasks may be under way at once; they run one after the other.
pub struct Session {
    target: Arc<Target>,
    live: Mutex<Option<Arc<Live>>>,
}

/// One open connection; dropping it closes the socket even when the server is gone without a word.
struct Live {
    client: Client,
    driver: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Session {
    /// A session that is not connected yet.
    pub fn new(target: Arc<Target>) -> Self {
        Self {
            target,
            live: Mutex::new(None),
        }
    }

    /// Connects, if that isn't done yet.
    ///
    /// # Errors
    /// As [`super::connect`].
    pub async fn ready(&self) -> Result<(), DbError> {
        self.live().await.map(|_| ())
    }

    /// Sends a NOTIFY without payload; see [`super::Listener::hears`].
    pub(super) async fn notify(&self, channel: &str) -> Result<(), DbError> {
        let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&channel, Type::TEXT)];
        let statement = "select pg_catalog.pg_notify($1, '')";
        self.query(NOTIFY_LIMIT, statement, &parameters)
            .await
            .map(|_| ())
    }

    async fn live(&self) -> Result<Arc<Live>, DbError> {
        let mut slot = self.live.lock().await;
        if let Some(live) = slot.as_ref().filter(|live| !live.client.is_closed()) {
            return Ok(live.clone());
        }
        let (client, connection) = self.target.open().await?;
        let driver = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database connection ended");
            }
        });
        let live = Arc::new(Live { client, driver });
        *slot = Some(live.clone());
        Ok(live)
    }

    /// Runs one statement in one round trip. A broken or silent connection is given up, and the next call opens a new
    /// one.
    pub(super) async fn query(
        &self,
        limit: Duration,
        statement: &str,
        parameters: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<Vec<Row>, DbError> {
        let live = self.live().await?;
        let result = match timeout(limit, live.client.query_typed(statement, parameters)).await {
            Ok(result) => result.map_err(DbError::from),
            Err(_) => Err(DbError::Timeout {
                seconds: limit.as_secs(),
            }),
        };
        if result.as_ref().is_err_and(DbError::breaks_connection) {
            let mut slot = self.live.lock().await;
            if slot
                .as_ref()
                .is_some_and(|current| Arc::ptr_eq(current, &live))
            {
                *slot = None;
            }
        }
        result
    }
}
