//! `rotator serve`: starts every part, waits for a signal, and takes them down in an order that loses nothing.
//!
//! The parts, one file each: waiting for the database and checking versions (`startup.rs`), LISTEN (`listen.rs`),
//! claiming and delivering (`dispatch.rs`, `attempt.rs`), what each destination gets (`circuit.rs`, `flights.rs`),
//! reporting results (`completions.rs`), engine status and tick (`upkeep.rs`), re-encryption where nobody else does it
//! (`reencryption.rs`), what the probes tell (`health.rs`) and what is counted (`figures.rs`), signatures of the audit
//! log (`audit.rs`, `audit_health.rs`), signals (`signals.rs`). Pages, probes and metrics: `http/`.
//!
//! Connections to the database: LISTEN, claim, complete, upkeep, pages; re-encryption once it is on us, and signing of
//! the audit log where that is set up. Tests:
//! `tests/` runs the binary.

mod attempt;
mod audit;
mod audit_health;
mod circuit;
mod completions;
mod dispatch;
mod figures;
mod flights;
mod health;
mod listen;
mod reencryption;
mod signals;
mod startup;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use audit_health::AuditHealth;
pub use figures::{BOUNDS_MS, CHANNELS, Figures, OUTCOMES};
pub use health::{Health, Listening};
pub use signals::{shutdown_on_signals, stop_on_signals};

use crate::audit::Signer;
use crate::config::{PREFIX, Settings};
use crate::db::{Session, Target};
use crate::delivery::Channels;
use crate::failure::{Exit, Failure};
use crate::http;
use crate::logging;

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
    logging::hide_panics();
    report_settings(&settings);
    let target = Arc::new(Target::from_settings(&settings)?.writable()?);
    let channels = Arc::new(Channels::new(&settings)?);
    let signer = audit::signer(&settings).await?;
    let (what, apart) = match settings.metrics_listen {
        None => ("links, probes and metrics", None),
        Some(address) => {
            let what = "metrics and probes";
            let apart = http::bind(address, "ROTATOR_METRICS_LISTEN", what).await?;
            ("links and probes", Some(apart))
        }
    };
    let listener = http::bind(settings.listen, "ROTATOR_LISTEN", what).await?;
    let health = Arc::new(Health::default());
    let pages = Arc::new(Session::new(target.clone()));

    // Before the database is there, so that the probes can say that it isn't.
    let stop_http = CancellationToken::new();
    let (router, figures) = http::routers(&settings, pages.clone(), health.clone())?;
    let mut http = JoinSet::new();
    http.spawn(http::serve(listener, router, stop_http.clone()));
    if let (Some(listener), Some(router)) = (apart, figures) {
        http.spawn(http::serve(listener, router, stop_http.clone()));
    }

    let result = work(
        &settings, &target, pages, channels, signer, &health, &shutdown,
    )
    .await;
    health.drain();
    stop_http.cancel();
    while let Some(ended) = http.join_next().await {
        if ended.is_err() {
            tracing::error!("the HTTP server ended abnormally");
        }
    }
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

async fn work(
    settings: &Arc<Settings>,
    target: &Arc<Target>,
    pages: Arc<Session>,
    channels: Arc<Channels>,
    signer: Option<Signer>,
    health: &Arc<Health>,
    shutdown: &CancellationToken,
) -> Result<Exit, Failure> {
    let upkeep_session = Session::new(target.clone());
    let wait = startup::wait_for_database(&upkeep_session, target, health, shutdown);
    if wait.await? == startup::Wait::GivenUp {
        return Ok(Exit::Ok);
    }

    let wake = Arc::new(Notify::new());
    let (results, results_in) = mpsc::channel(RESULTS_WAITING);
    let reporter = tokio::spawn(completions::run(
        Session::new(target.clone()),
        results_in,
        wake.clone(),
        health.clone(),
    ));

    let mut parts = JoinSet::new();
    let listening = listen::run(
        target.clone(),
        pages,
        wake.clone(),
        health.clone(),
        shutdown.clone(),
    );
    parts.spawn(async {
        listening.await;
        Ok(())
    });
    let (says_on_us, on_us) = watch::channel(false);
    parts.spawn(upkeep::run(
        upkeep_session,
        wake.clone(),
        says_on_us,
        health.clone(),
        shutdown.clone(),
    ));
    parts.spawn(reencryption::run(
        Session::new(target.clone()),
        on_us,
        health.clone(),
        shutdown.clone(),
    ));
    // On a thread of its own: trees of hashes are work, and its file may block.
    let runtime = tokio::runtime::Handle::current();
    let (session, told, stop) = (
        Session::new(target.clone()),
        health.clone(),
        shutdown.clone(),
    );
    parts.spawn_blocking(move || runtime.block_on(audit::run(session, signer, told, stop)));
    let dispatcher = dispatch::Dispatcher::new(
        Session::new(target.clone()),
        channels,
        settings.clone(),
        results,
        wake,
    );
    let dispatching = dispatcher.run(health.clone(), shutdown.clone());
    parts.spawn(async {
        dispatching.await;
        Ok(())
    });

    let mut failure = None;
    while let Some(ended) = parts.join_next().await {
        let reason = match ended {
            Ok(Err(reason)) => {
                tracing::error!("stopping: {reason}");
                reason
            }
            Ok(Ok(())) if shutdown.is_cancelled() => continue,
            Ok(Ok(())) | Err(_) => {
                tracing::error!(
                    "a part of the sidecar ended although nobody asked it to; stopping the others"
                );
                Failure::new(Exit::Failed, "a part of the sidecar ended abnormally")
                    .hint("start it again, and report the log lines above this one")
            }
        };
        failure.get_or_insert(reason);
        health.drain();
        shutdown.cancel();
    }
    // The last sender is gone with the dispatcher, so the reporter ends when it has reported all.
    if tokio::time::timeout(FLUSH_LIMIT, reporter).await.is_err() {
        tracing::error!(
            "results could not be reported in time; those notifications will be delivered again"
        );
    }
    failure.map_or(Ok(Exit::Ok), Err)
}

fn report_settings(settings: &Settings) {
    let set: Vec<String> = settings
        .set
        .iter()
        .map(|key| format!("{PREFIX}{key}"))
        .collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        settings = set.join(" "),
        "starting"
    );
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
