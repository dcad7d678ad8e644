//! Logs: text on a terminal, one JSON object a line elsewhere, always to standard error (standard output belongs to
//! what a command prints). `RUST_LOG` filters as usual.
//!
//! What may be logged: notification ids, channel names, SQLSTATEs, vendor error codes. Never a recipient, a link
//! token, a webhook URL, or the name of a secret. The end-to-end tests grep the log for all of them.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Installs the subscriber. A second call (a test, say) changes nothing.
///
/// Records of the `log` crate are left out on purpose: at level debug the database driver writes the parameters of
/// every statement there, link tokens included.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let _ = if std::io::stderr().is_terminal() {
        tracing::subscriber::set_global_default(builder.with_target(false).finish())
    } else {
        let json = builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false);
        tracing::subscriber::set_global_default(json.finish())
    };
}
