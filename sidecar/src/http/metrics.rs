//! `/metrics`: the sidecar's figures in Prometheus' text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Every metric there is stands in [`render`], in the order it is printed; docs/sidecar.md explains each, and a test
//! compares the two. Labels come from fixed lists: no recipient, tenant, name or token can become one. What the database
//! knows is left out while it does not answer: a stale figure would keep an alert quiet.
//! Elsewhere: counting (`serve/figures.rs`), asking the database (`probes.rs`).

use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::probes::Probes;
use super::process;
use crate::db::EngineStatus;
use crate::serve::{AuditHealth, BOUNDS_MS, CHANNELS, Figures, Health, Listening, OUTCOMES};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// However often it is scraped, the database is asked for its part at most this often.
const KEEP: Duration = Duration::from_secs(5);

pub async fn metrics(State(probes): State<Arc<Probes>>) -> Response {
    let status = probes.status(KEEP).await.ok();
    let text = render(&probes.health, status.as_ref());
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response()
}

fn render(health: &Health, status: Option<&EngineStatus>) -> String {
    let figures = &health.figures;
    let mut page = Page::default();
    page.gauge(
        "rotator_build_info",
        "Always 1; the version of this sidecar.",
    );
    page.sample(
        "rotator_build_info",
        &[("version", env!("CARGO_PKG_VERSION"))],
        1.0,
    );
    deliveries(&mut page, figures);
    page.one_counter(
        "rotator_claimed_total",
        "Notifications that the database leased to this sidecar.",
        figures.claims(),
    );
    page.one_counter(
        "rotator_late_results_total",
        "Results that came after the lease had run out and somebody else had taken the notification.",
        figures.late_results(),
    );
    page.one_gauge(
        "rotator_deliveries_in_flight",
        "Deliveries under way.",
        figures.in_flight() as f64,
    );
    page.one_gauge(
        "rotator_deliveries_waiting",
        "Notifications leased to this sidecar and not begun yet.",
        figures.waiting() as f64,
    );
    page.one_counter(
        "rotator_postponed_total",
        "Claims given back because their destination fails or has its pace.",
        figures.postponed_claims(),
    );
    page.one_gauge(
        "rotator_open_circuits",
        "Destinations that failed again and again, to which this sidecar sends nothing for the moment.",
        figures.open_circuits() as f64,
    );
    page.one_counter(
        "rotator_reencrypted_rows_total",
        "Rows that this sidecar re-encrypted.",
        figures.reencrypted_rows(),
    );
    page.one_gauge(
        "rotator_reencrypt_remaining",
        "Rows left to re-encrypt after this sidecar's last batch; 0 while somebody else does that.",
        figures.reencrypt_remaining() as f64,
    );
    audit(&mut page, &health.audit);
    let listening = health.listening() == Listening::Up;
    page.one_gauge(
        "rotator_listen_up",
        "1 if NOTIFY reaches this sidecar; else it polls every 5 seconds.",
        flag(listening),
    );
    page.one_gauge(
        "rotator_draining",
        "1 if it is stopping and begins nothing new.",
        flag(health.is_draining()),
    );
    page.one_gauge(
        "rotator_database_up",
        "1 if the database answered when it was last asked.",
        flag(status.is_some()),
    );
    if let Some(status) = status {
        queue(&mut page, status);
    }
    process(&mut page, figures.started);
    page.0
}

/// Signatures of the audit log.
fn audit(page: &mut Page, audit: &AuditHealth) {
    page.one_counter(
        "rotator_audit_signed_total",
        "Blocks of the audit log that this sidecar signed, copied and recorded.",
        audit.signed(),
    );
    page.one_gauge(
        "rotator_audit_waiting",
        "Sealed blocks that could not be signed or copied in the last round; more may wait behind them.",
        audit.waiting() as f64,
    );
    page.one_gauge(
        "rotator_audit_behind_seconds",
        "For how long sealed blocks have waited for signature and copies; 0 if none does.",
        audit.behind().unwrap_or_default().as_secs_f64(),
    );
    page.one_gauge(
        "rotator_audit_contradicted",
        "Blocks that are not signed because copies have others of their number.",
        audit.contradicted() as f64,
    );
    const SINK: &str = "rotator_audit_sink_up";
    page.gauge(SINK, "1 if copies of signed blocks can be written there.");
    for (sink, up) in audit.sinks() {
        page.sample(SINK, &[("sink", sink)], flag(up));
    }
}

fn deliveries(page: &mut Page, figures: &Figures) {
    const COUNT: &str = "rotator_deliveries_total";
    page.head(
        COUNT,
        "counter",
        "Deliveries that ended, by channel and outcome.",
    );
    for (channel, channel_name) in CHANNELS.iter().enumerate() {
        for (outcome, outcome_name) in OUTCOMES.iter().enumerate() {
            let labels = [("channel", *channel_name), ("outcome", *outcome_name)];
            page.sample(COUNT, &labels, figures.deliveries(channel, outcome) as f64);
        }
    }
    const DURATION: &str = "rotator_delivery_duration_seconds";
    page.head(
        DURATION,
        "histogram",
        "From the begin of a delivery to the vendor's answer.",
    );
    for (channel, name) in CHANNELS.iter().enumerate() {
        let (counts, sum) = figures.durations(channel).read();
        for (position, count) in counts.iter().enumerate() {
            let bound = BOUNDS_MS.get(position).map_or_else(
                || "+Inf".to_owned(),
                |bound| (*bound as f64 / 1000.0).to_string(),
            );
            page.sample(
                "rotator_delivery_duration_seconds_bucket",
                &[("channel", name), ("le", &bound)],
                *count as f64,
            );
        }
        page.sample(
            "rotator_delivery_duration_seconds_sum",
            &[("channel", name)],
            sum,
        );
        page.sample(
            "rotator_delivery_duration_seconds_count",
            &[("channel", name)],
            counts[BOUNDS_MS.len()] as f64,
        );
    }
}

/// What `rotator.engine_status` says. All sidecars of a database give the same here.
fn queue(page: &mut Page, status: &EngineStatus) {
    let version = |version: &Option<String>| match version {
        Some(text)
            if text.len() <= 32
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || ".-+".contains(c)) =>
        {
            text.clone()
        }
        _ => "unknown".to_owned(),
    };
    let (extension, library) = (
        version(&status.extension_version),
        version(&status.library_version),
    );
    page.gauge(
        "rotator_extension_info",
        "Always 1; versions of the extension's SQL and of the library the server has loaded.",
    );
    page.sample(
        "rotator_extension_info",
        &[("version", &extension), ("library", &library)],
        1.0,
    );
    page.one_gauge(
        "rotator_queue_notifications",
        "Notifications queued or waiting for a retry.",
        status.queued as f64,
    );
    page.one_gauge(
        "rotator_queue_oldest_due_seconds",
        "For how long the longest waiting due notification has waited; 0 if none is due.",
        status.oldest_due_seconds.unwrap_or(0.0).max(0.0),
    );
    page.one_gauge(
        "rotator_dead_notifications",
        "Notifications that were given up.",
        status.dead as f64,
    );
    page.one_gauge(
        "rotator_notifications_undeliverable",
        "Notifications that reached nobody by any contact, until somebody knows; 10000 stands for more.",
        status.undeliverable as f64,
    );
    if let Some(seconds) = status.seconds_since_tick {
        page.one_gauge(
            "rotator_seconds_since_tick",
            "Since the last tick, whoever ran it; missing before the first.",
            seconds,
        );
    }
}

fn process(page: &mut Page, started: SystemTime) {
    let since_epoch = started
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    page.one_gauge(
        "process_start_time_seconds",
        "Start of the process, as seconds since 1970.",
        since_epoch.as_secs_f64(),
    );
    let usage = process::usage();
    if let Some(seconds) = usage.cpu_seconds {
        page.head(
            "process_cpu_seconds_total",
            "counter",
            "Processor time used, in seconds.",
        );
        page.sample("process_cpu_seconds_total", &[], seconds);
    }
    for (name, help, value) in [
        (
            "process_resident_memory_bytes",
            "Resident memory in bytes.",
            usage.resident_bytes,
        ),
        (
            "process_open_fds",
            "Open file descriptors.",
            usage.open_files,
        ),
        (
            "process_max_fds",
            "How many file descriptors may be open.",
            usage.open_files_limit,
        ),
    ] {
        if let Some(value) = value {
            page.one_gauge(name, help, value as f64);
        }
    }
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

/// The text while it grows. Writing to a string can't fail.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, "gauge", help);
    }

    fn one_gauge(&mut self, name: &str, help: &str, value: f64) {
        self.gauge(name, help);
        self.sample(name, &[], value);
    }

    fn one_counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.sample(name, &[], value as f64);
    }

    /// Label values are ours and need no escaping; see [`queue`] for the two that come from outside.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (position, (label, text)) in labels.iter().enumerate() {
            let before = if position == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{text}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_the_database_its_figures_are_missing_rather_than_stale() {
        let health = Health::default();
        let page = render(&health, None);
        assert!(page.contains("\nrotator_database_up 0\n"));
        assert!(page.contains("\nrotator_listen_up 0\n"));
        assert!(!page.contains("rotator_queue") && !page.contains("rotator_dead"));
        let status = EngineStatus {
            dead: 3,
            ..EngineStatus::default()
        };
        let page = render(&health, Some(&status));
        assert!(page.contains("\nrotator_dead_notifications 3\n"));
        assert!(page.contains("\nrotator_queue_oldest_due_seconds 0\n"));
        assert!(
            !page.contains("rotator_seconds_since_tick"),
            "it never ticked"
        );
    }

    #[test]
    fn a_version_from_outside_can_not_break_out_of_its_label() {
        let status = EngineStatus {
            extension_version: Some("1.0\"} 1\nevil 2".to_owned()),
            library_version: Some("0.1.0-rc.1+b".to_owned()),
            ..EngineStatus::default()
        };
        let page = render(&Health::default(), Some(&status));
        assert!(
            page.contains(
                "rotator_extension_info{version=\"unknown\",library=\"0.1.0-rc.1+b\"} 1\n"
            )
        );
        assert!(!page.contains("evil"));
    }

    #[test]
    fn a_histogram_is_cumulative_and_ends_with_infinity() {
        let health = Health::default();
        health
            .figures
            .begin("email")
            .end(&crate::delivery::Outcome::permanent("x"));
        let page = render(&health, None);
        assert!(
            page.contains("rotator_deliveries_total{channel=\"email\",outcome=\"permanent\"} 1\n")
        );
        assert!(page.contains(
            "rotator_delivery_duration_seconds_bucket{channel=\"email\",le=\"0.005\"} 1\n"
        ));
        assert!(page.contains(
            "rotator_delivery_duration_seconds_bucket{channel=\"email\",le=\"+Inf\"} 1\n"
        ));
        assert!(page.contains("rotator_delivery_duration_seconds_count{channel=\"email\"} 1\n"));
        assert!(page.contains(
            "rotator_delivery_duration_seconds_bucket{channel=\"slack\",le=\"+Inf\"} 0\n"
        ));
    }
}
