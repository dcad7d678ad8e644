//! Logs: text or one JSON object a line, always to standard error (standard output belongs to what a command prints).
//! `ROTATOR_LOG_FORMAT` chooses; unset it is text on a terminal and JSON elsewhere. `RUST_LOG` filters as usual.
//!
//! What may be logged: notification ids, channel names, SQLSTATEs, vendor error codes. Never a recipient, a link
//! token, a webhook URL, or the name of a secret. Libraries that we use log nothing at all, at any level: they know
//! headers, statements and their parameters, and whether they print them changes with each of their releases.
//! Tests: `tests/` greps the log of a sidecar at level trace.

use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::OnceLock;

use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry;

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("\"{other}\" is neither text nor json")),
        }
    }
}

/// What was asked for by name; see [`asked_for_json`].
static ASKED: OnceLock<Option<Format>> = OnceLock::new();

/// Whether somebody set the format to JSON, so that all of standard error has to be JSON, the last words of a process
/// included. Before the settings are read, and when they can't be, the variable alone counts.
pub fn asked_for_json() -> bool {
    let variable = || {
        let value = std::env::var("ROTATOR_LOG_FORMAT").ok()?;
        value.trim().parse().ok()
    };
    ASKED.get().copied().unwrap_or_else(variable) == Some(Format::Json)
}

/// Installs the subscriber. A second call (a test, say) changes nothing.
///
/// Records of the `log` crate are left out on purpose: at level debug the database driver writes the parameters of
/// every statement there, link tokens included. What comes by `tracing` must be ours by its target.
pub fn init(asked: Option<Format>) {
    let _ = ASKED.set(asked);
    let levels = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let ours = filter_fn(|metadata| metadata.target().starts_with(env!("CARGO_CRATE_NAME")));
    let format = asked.unwrap_or_else(|| {
        if std::io::stderr().is_terminal() {
            Format::Text
        } else {
            Format::Json
        }
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let _ = match format {
        Format::Text => {
            let lines = lines
                .with_target(false)
                .with_ansi(std::io::stderr().is_terminal());
            tracing::subscriber::set_global_default(
                registry().with(levels).with(lines.with_filter(ours)),
            )
        }
        Format::Json => {
            let lines = lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false);
            tracing::subscriber::set_global_default(
                registry().with(levels).with(lines.with_filter(ours)),
            )
        }
    };
}

/// From now on a panic is a line of the log that says where, and not what: its text may quote what was being worked on
/// (cutting a string, say, quotes the string).
pub fn hide_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map_or_else(String::new, ToString::to_string);
        tracing::error!(
            place,
            hint = "report this line; what was under way is tried again",
            "internal error"
        );
    }));
}
