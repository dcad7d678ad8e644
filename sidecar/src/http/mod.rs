//! The sidecar's HTTP: links in notifications, callbacks of vendors, health probes and metrics. Everything else is 404.
//!
//! One file a family: the socket (`server.rs`), `/a/{token}` (`link.rs`), its form (`form.rs`), what it is about
//! (`view.rs`) and pages (`page.rs`), forms of other sites (`origin.rs`), the page behind a test notification
//! (`test_link.rs`), refused actions (`refusals.rs`), `/slack/interactions` (`slack.rs`, what it says: `slack_call.rs`),
//! `/pagerduty/webhooks` (`pagerduty.rs`), both signed (`signature.rs`), `/healthz` and `/readyz` (`probes.rs`),
//! `/metrics` (`metrics.rs`, `process.rs`). Here: routes, headers, limits, the access log.

mod form;
mod link;
mod metrics;
mod origin;
mod page;
mod pagerduty;
mod probes;
mod process;
mod refusals;
mod server;
mod signature;
mod slack;
mod slack_call;
mod test_link;
mod view;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::time::timeout;

pub use server::{bind, serve};

use crate::config::{ConfigError, Settings};
use crate::db::Session;
use crate::serve::Health;

const BODY_LIMIT: usize = 16 * 1024;
/// For a whole request, its body included.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// All routes: of the pages, and of `ROTATOR_METRICS_LISTEN` where that is set. `session` is for people who wait:
/// nothing slow runs on it.
///
/// # Errors
/// A setting of the callbacks can't be used.
pub fn routers(
    settings: &Settings,
    session: Arc<Session>,
    health: Arc<Health>,
) -> Result<(Router, Option<Router>), ConfigError> {
    let slack = slack::Slack::new(settings, session.clone())?;
    let pagerduty = pagerduty::PagerDuty::new(settings, session.clone());
    let links = Arc::new(link::Links {
        session: session.clone(),
        refusals: refusals::Refusals::default(),
        public_url: settings.public_url.clone(),
    });
    let probes = Arc::new(probes::Probes::new(session, health));
    let https = settings.public_url.scheme() == "https";
    let for_machines = Router::new()
        .route("/readyz", get(probes::readyz))
        .route("/healthz", get(probes::healthz));
    let with_figures = for_machines
        .clone()
        .route("/metrics", get(metrics::metrics));
    let mut pages = Router::new()
        .route(
            "/a/{token}",
            get(link::show).post(link::act).with_state(links),
        )
        .route("/a/test", get(test_link::show).fallback(test_link::refuse));
    if let Some(slack) = slack {
        let calls = post(slack::interact).layer(DefaultBodyLimit::max(slack::BODY_LIMIT));
        pages = pages.route("/slack/interactions", calls.with_state(Arc::new(slack)));
    }
    if let Some(pagerduty) = pagerduty {
        let calls = post(pagerduty::receive).layer(DefaultBodyLimit::max(pagerduty::BODY_LIMIT));
        pages = pages.route("/pagerduty/webhooks", calls.with_state(Arc::new(pagerduty)));
    }
    let (pages, apart) = if settings.metrics_listen.is_none() {
        (pages.merge(with_figures.with_state(probes)), None)
    } else {
        let apart = finish(with_figures.with_state(probes.clone()), https);
        (pages.merge(for_machines.with_state(probes)), Some(apart))
    };
    Ok((finish(pages, https), apart))
}

fn finish(router: Router, https: bool) -> Router {
    router
        .fallback(async || link::unknown())
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(limit_time))
        .layer(middleware::from_fn_with_state(https, add_headers))
        .layer(middleware::from_fn(log_access))
}

async fn limit_time(request: Request, next: Next) -> Response {
    timeout(REQUEST_LIMIT, next.run(request))
        .await
        .unwrap_or_else(|_| link::unavailable())
}

/// The same for every answer, errors included.
async fn add_headers(State(https): State<bool>, request: Request, next: Next) -> Response {
    const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");
    const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
    const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        page::CONTENT_SECURITY_POLICY.clone(),
    );
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (X_ROBOTS_TAG, "noindex, nofollow"),
        (OPENER_POLICY, "same-origin"),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if https {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    response
}

/// One line a request. Paths are named from a fixed list, since an unknown one may hold a mangled token.
async fn log_access(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let path = match request.uri().path() {
        "/healthz" => "/healthz",
        "/readyz" => "/readyz",
        "/metrics" => "/metrics",
        "/slack/interactions" => "/slack/interactions",
        "/pagerduty/webhooks" => "/pagerduty/webhooks",
        path if path.starts_with("/a/") => "/a/…",
        _ => "(unknown)",
    };
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let milliseconds = begun.elapsed().as_millis() as u64;
    // Asked for every few seconds by machines.
    if matches!(path, "/healthz" | "/readyz" | "/metrics") {
        tracing::debug!(%method, path, status, milliseconds, "request");
    } else {
        tracing::info!(%method, path, status, milliseconds, "request");
    }
    response
}
