//! The socket: bind with a clear message, accept with limits, end in an orderly way.
//!
//! axum's own accept loop knows no time limit for headers, so a client that sends a byte a minute would hold its
//! connection forever; this one has that limit, and a limit on connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};

const HEADERS_WITHIN: Duration = Duration::from_secs(10);
/// Headers of a browser behind proxies fit; nothing of ours needs more.
const HEADER_BYTES: usize = 16 * 1024;
const CONNECTIONS: usize = 512;
/// How long open requests may take once everything else has ended.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// Takes the port that this setting names, for what is said.
///
/// # Errors
/// Somebody else has it, it needs privileges, or the address is not this machine's.
pub async fn bind(address: SocketAddr, setting: &str, what: &str) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        let (problem, hint) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                "the port is in use".to_owned(),
                format!("stop the other process, or set {setting} to another port"),
            ),
            io::ErrorKind::PermissionDenied => (
                "permission denied".to_owned(),
                format!("ports below 1024 need privileges; set {setting} to another port"),
            ),
            io::ErrorKind::AddrNotAvailable => (
                "this machine does not have that address".to_owned(),
                format!("set {setting} to an address of this machine, like 127.0.0.1:8080 or 0.0.0.0:8080"),
            ),
            _ => (error.to_string(), format!("correct {setting}")),
        };
        Failure::new(Exit::Listen, format!("can't listen on {address}: {problem}")).hint(hint)
    })?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving {what}");
    }
    Ok(listener)
}

/// Serves until `stop`, then closes what is idle and waits a little for the rest.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADER_BYTES);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, say: accepting again at once would only spin.
                tracing::warn!("can't accept a connection: {}", error.kind());
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = graceful.watch(server.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // How a client ends its connection is its own business.
            let _ = connection.await;
            drop(slot);
        });
    }
    drop(listener);
    if timeout(CLOSE_LIMIT, graceful.shutdown()).await.is_err() {
        tracing::debug!("some connections were still open");
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(
    tokio::net::TcpStream,
    Option<tokio::sync::OwnedSemaphorePermit>,
)> {
    // The semaphore is never closed, so there always is a permit.
    let slot = slots.clone().acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    let _ = stream.set_nodelay(true);
    Ok((stream, slot))
}
