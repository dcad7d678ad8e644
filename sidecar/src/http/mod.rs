//! The sidecar's HTTP: links in notifications and health probes. Everything else is 404.
//!
//! One file a family: the socket (`server.rs`), `/a/{token}` (`link.rs`), its form (`form.rs`) and pages (`page.rs`), forms of other
//! sites (`origin.rs`), `/healthz` and `/readyz` (`probes.rs`). Here: routes, headers, limits, the access log.

mod form;
mod link;
mod origin;
mod page;
mod probes;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use tokio::time::timeout;

pub use server::{bind, serve};

use crate::config::Settings;
use crate::db::Session;
use crate::serve::Health;

const BODY_LIMIT: usize = 16 * 1024;
/// For a whole request, its body included.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// All routes. `session` is for people who wait: nothing slow runs on it.
pub fn router(settings: &Settings, session: Arc<Session>, health: Arc<Health>) -> Router {
    let links = Arc::new(link::Links {
        session: session.clone(),
        public_url: settings.public_url.clone(),
    });
    let probes = Arc::new(probes::Probes::new(session, health));
    let https = settings.public_url.scheme() == "https";
    Router::new()
        .route(
            "/a/{token}",
            get(link::show).post(link::act).with_state(links),
        )
        .route("/readyz", get(probes::readyz).with_state(probes))
        .route("/healthz", get(probes::healthz))
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
        path if path.starts_with("/a/") => "/a/…",
        _ => "(unknown)",
    };
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let milliseconds = begun.elapsed().as_millis() as u64;
    if path.ends_with('z') {
        tracing::debug!(%method, path, status, milliseconds, "request");
    } else {
        tracing::info!(%method, path, status, milliseconds, "request");
    }
    response
}
