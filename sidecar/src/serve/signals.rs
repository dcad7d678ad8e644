//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};

/// A token that the first SIGTERM or SIGINT cancels. Must be called inside the runtime.
///
/// # Errors
/// The handlers can't be installed.
pub fn shutdown_on_signals() -> Result<CancellationToken, Failure> {
    let install = |kind| {
        signal(kind).map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("can't install a signal handler: {error}"),
            )
        })
    };
    let mut terminate = install(SignalKind::terminate())?;
    let mut interrupt = install(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let shutdown = token.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        tracing::info!("stopping: finishing what is in flight (a second signal stops at once)");
        shutdown.cancel();
        either(&mut terminate, &mut interrupt).await;
        tracing::warn!("stopped at once; what was in flight may be delivered again");
        std::process::exit(Exit::Aborted as i32);
    });
    Ok(token)
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
