//! SIGTERM and SIGINT: the first asks for an orderly end, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::{Exit, Failure};

/// A token that the first SIGTERM or SIGINT cancels, for `rotator serve`.
///
/// # Errors
/// As [`stop_on_signals`].
pub fn shutdown_on_signals() -> Result<CancellationToken, Failure> {
    stop_on_signals(
        || tracing::info!("stopping: finishing what is in flight (a second signal stops at once)"),
        || tracing::warn!("stopped at once; what was in flight may be delivered again"),
    )
}

/// A token that the first SIGTERM or SIGINT cancels; the second one ends the process. What each says is told. Must be
/// called inside the runtime.
///
/// # Errors
/// The handlers can't be installed.
pub fn stop_on_signals(
    first: impl FnOnce() + Send + 'static,
    second: impl FnOnce() + Send + 'static,
) -> Result<CancellationToken, Failure> {
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
    let stop = token.clone();
    tokio::spawn(async move {
        either(&mut terminate, &mut interrupt).await;
        first();
        stop.cancel();
        either(&mut terminate, &mut interrupt).await;
        second();
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
