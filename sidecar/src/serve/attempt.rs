//! One attempt: delivers what was claimed, counts it and writes a line to the log, which names neither the recipient nor
//! the secret. Elsewhere: who is delivered to when (`dispatch.rs`), how a channel does it (`delivery/`), what is reported
//! (`completions.rs`).

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures_util::FutureExt;

use super::figures::Figures;
use crate::db::Claim;
use crate::delivery::{Channels, Outcome};

/// Delivers; whatever happens there is an outcome.
pub async fn deliver(
    channels: &Channels,
    claim: &Claim,
    link: Option<String>,
    figures: &Figures,
) -> Outcome {
    let begun = Instant::now();
    let under_way = figures.begin(&claim.channel);
    let outcome = AssertUnwindSafe(channels.deliver(claim, link))
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Outcome::transient("internal error of the sidecar; its log says more"));
    under_way.end(&outcome);
    let label = outcome.label();
    let milliseconds = begun.elapsed().as_millis() as u64;
    let (id, channel, attempt) = (claim.id, claim.channel.as_str(), claim.attempt);
    match &outcome {
        Outcome::Delivered { .. } => {
            tracing::info!(notification = %id, channel, attempt, milliseconds, "delivered");
        }
        Outcome::Retry { error, after, .. } => {
            let retry_after_s = after.map(|after| after.as_secs());
            tracing::warn!(notification = %id, channel, attempt, milliseconds, retry_after_s, "not delivered ({label}): {error}");
        }
        Outcome::Permanent { error, .. } => {
            tracing::error!(notification = %id, channel, attempt, milliseconds, "not delivered ({label}): {error}");
        }
    }
    outcome
}

/// Tells sidecars apart in the attempts they leave: host, process, and a few random bits for containers where both repeat.
pub fn worker_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut salt = [0u8; 3];
    // Without randomness the name is merely less unique.
    let _ = getrandom::fill(&mut salt);
    let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{}:{salt}", host.trim(), std::process::id())
}
