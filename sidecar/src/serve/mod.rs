//! `rotator serve`: starts every part, waits for a signal, and takes them down in an order that loses nothing.
//!
//! The parts, one file each: waiting for the database and checking versions (`startup.rs`), LISTEN (`listen.rs`),
//! claiming and delivering (`dispatch.rs`), reporting results (`completions.rs`), engine status and tick
//! (`upkeep.rs`), what the probes tell (`health.rs`), signals (`signals.rs`). Pages and probes: `http/`.
//!
//! Connections to the database: LISTEN, claim, complete, upkeep, pages. Tests: `tests/` runs the binary.

mod completions;
mod dispatch;
mod health;
mod listen;
mod signals;
mod startup;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use health::Health;
pub use signals::shutdown_on_signals;

use crate::config::{PREFIX, Settings};
use crate::db::{Session, Target};
use crate::delivery::Channels;
use crate::failure::{Exit, Failure};
use crate::http;

/// Results that may wait to be reported; then deliveries wait as well.
const RESULTS_WAITING: usize = 4096;
/// How long results may take to be reported once everything else has ended.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);

/// Serves until `shutdown` is cancelled and everything in flight has ended.
///
/// # Errors
/// A setting that can't be used, a port in use, a database that refuses us, an extension that is missing or of
/// another version. A database that is merely down is waited for.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> Result<Exit, Failure> {
    let settings = Arc::new(settings);
    report_settings(&settings);
    let target = Arc::new(Target::from_settings(&settings)?);
    let channels = Arc::new(Channels::new(&settings)?);
    let listener = http::bind(settings.listen).await?;
    let health = Arc::new(Health::default());
    let pages = Arc::new(Session::new(target.clone()));

    // Before the database is there, so that the probes can say that it isn't.
    let stop_http = CancellationToken::new();
    let router = http::router(&settings, pages, health.clone());
    let http = tokio::spawn(http::serve(listener, router, stop_http.clone()));

    let result = work(&settings, &target, channels, &health, &shutdown).await;
    health.drain();
    stop_http.cancel();
    if http.await.is_err() {
        tracing::error!("the HTTP server ended abnormally");
    }
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

async fn work(
    settings: &Arc<Settings>,
    target: &Arc<Target>,
    channels: Arc<Channels>,
    health: &Arc<Health>,
    shutdown: &CancellationToken,
) -> Result<Exit, Failure> {
    let upkeep_session = Session::new(target.clone());
    if startup::wait_for_database(&upkeep_session, target, shutdown).await?
        == startup::Wait::GivenUp
    {
        return Ok(Exit::Ok);
    }
    startup::check_versions(&upkeep_session, target).await?;

    let wake = Arc::new(Notify::new());
    let (results, results_in) = mpsc::channel(RESULTS_WAITING);
    let reporter = tokio::spawn(completions::run(Session::new(target.clone()), results_in));

    let mut parts = JoinSet::new();
    parts.spawn(listen::run(
        target.clone(),
        wake.clone(),
        health.clone(),
        shutdown.clone(),
    ));
    parts.spawn(upkeep::run(upkeep_session, wake.clone(), shutdown.clone()));
    parts.spawn(
        dispatch::Dispatcher::new(
            Session::new(target.clone()),
            channels,
            settings.clone(),
            results,
            wake,
        )
        .run(health.clone(), shutdown.clone()),
    );

    let mut broken = false;
    while let Some(ended) = parts.join_next().await {
        if ended.is_err() || !shutdown.is_cancelled() {
            broken = true;
            tracing::error!(
                "a part of the sidecar ended although nobody asked it to; stopping the others"
            );
            health.drain();
            shutdown.cancel();
        }
    }
    // The last sender is gone with the dispatcher, so the reporter ends when it has reported all.
    if tokio::time::timeout(FLUSH_LIMIT, reporter).await.is_err() {
        tracing::error!(
            "results could not be reported in time; those notifications will be delivered again"
        );
    }
    if broken {
        return Err(
            Failure::new(Exit::Failed, "a part of the sidecar ended abnormally")
                .hint("start it again, and report the log lines above this one"),
        );
    }
    Ok(Exit::Ok)
}

fn report_settings(settings: &Settings) {
    for key in &settings.unused {
        tracing::warn!("{PREFIX}{key} is set, but this version does not use it yet");
    }
    for variable in &settings.ignored {
        tracing::debug!("ignoring the variable {variable}: it is not one of our settings");
    }
    if settings.public_url_is_guessed {
        tracing::warn!(
            "ROTATOR_PUBLIC_URL is not set: links begin with {}, which only works where that address is reachable",
            settings.public_url
        );
    }
}
