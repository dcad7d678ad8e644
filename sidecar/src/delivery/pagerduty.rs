//! PagerDuty: Events API v2, with the routing key as recipient. An alert of ours is an alert there, by one dedup key a
//! secret and cycle: reminders trigger it, acknowledging and rotating follow. A repeat changes nothing there.
//!
//! Elsewhere: what an event holds and what answers mean (`pagerduty_event.rs`), the pace (`pace.rs`), when an
//! `acknowledge` or a `resolve` is queued (`sql/api/incident.sql`).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::json;

use super::egress::Egress;
use super::outcome::{Outcome, RetryReason};
use super::pace::Pace;
use super::{Channel, Delivering, Delivery, pagerduty_event, web};
use crate::config::{ConfigError, Settings};

const API: &str = "https://events.pagerduty.com";
/// An integration key: <https://developer.pagerduty.com/docs/events-api-v2-overview#getting-started>
const ROUTING_KEY_LENGTH: usize = 32;
/// About 120 events a minute and routing key are taken, and 429 answers the rest: 20 at once and then 100 a minute are
/// below it in any minute. <https://developer.pagerduty.com/docs/events-api-v2-overview#response-codes--retry-logic>
const AT_ONCE: u32 = 20;
const EVERY: Duration = Duration::from_millis(600);
/// A delivery waits this long for its turn; what is left of 20 seconds is for the call.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Asked for a pause, nobody calls with that key for so long at most: the limit is one of a minute.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Sends events to PagerDuty.
pub struct PagerDuty {
    client: Client,
    url: String,
    /// Where "view in" leads.
    client_url: String,
    pace: Pace,
}

impl PagerDuty {
    /// Takes the stand-in URL from the settings.
    ///
    /// # Errors
    /// No usable TLS roots on this machine.
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        let stand_in = settings.pagerduty_url.as_ref();
        let egress = Egress::new(settings.egress_allow.clone());
        let client = web::vendor_client(stand_in, &egress)?;
        let base = stand_in.map_or(API, |url| url.as_str().trim_end_matches('/'));
        Ok(Self {
            client,
            url: format!("{base}/v2/enqueue"),
            client_url: settings.public_url.as_str().to_owned(),
            pace: Pace::new(EVERY, AT_ONCE),
        })
    }

    async fn send(&self, delivery: Delivery<'_>) -> Outcome {
        let routing_key = delivery.recipient;
        if !is_routing_key(routing_key) {
            return Outcome::permanent("the recipient is not a PagerDuty integration key");
        }
        let key = hash(routing_key);
        let wait = match self.pace.take(key, Instant::now(), LONGEST_WAIT) {
            Ok(wait) => wait,
            Err(wait) => {
                return Outcome::Retry {
                    after: Some(wait),
                    reason: RetryReason::RateLimited,
                    error: "held back: PagerDuty takes about 120 events a minute and key"
                        .to_owned(),
                };
            }
        };
        tokio::time::sleep(wait).await;
        let mut event = pagerduty_event::event(&delivery, &self.client_url);
        event["routing_key"] = json!(routing_key);
        let request = self
            .client
            .post(&self.url)
            .timeout(web::TOTAL_TIMEOUT - wait)
            .json(&event);
        let outcome = match web::send_for_status(request).await {
            Ok(answer) => {
                pagerduty_event::judge(&answer, pagerduty_event::dedup_key(delivery.message))
            }
            Err(outcome) => outcome,
        };
        if let Outcome::Retry {
            after: Some(after),
            reason: RetryReason::RateLimited,
            ..
        } = outcome
        {
            self.pace
                .pause(key, Instant::now(), after.min(LONGEST_PAUSE));
        }
        outcome
    }
}

impl Channel for PagerDuty {
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> Delivering<'a> {
        Box::pin(self.send(delivery))
    }
}

fn is_routing_key(text: &str) -> bool {
    text.len() == ROUTING_KEY_LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// The pace is kept by hash: keys are secret, and they would stay in memory.
fn hash(routing_key: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    routing_key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_routing_key_is_thirty_two_letters_and_digits() {
        assert!(is_routing_key("0123456789abcdef0123456789ABCDEF"));
        for text in [
            "",
            "0123456789abcdef0123456789ABCDE",
            "0123456789abcdef0123456789ABCDEF0",
            "0123456789abcdef0123456789ABCDE\n",
            "0123456789abcdef0123456789ABCDE\0",
            "éééééééééééééééé",
        ] {
            assert!(!is_routing_key(text), "{text:?}");
        }
    }

    #[test]
    fn the_pace_is_below_the_limit_in_any_minute() {
        let (pace, start) = (Pace::new(EVERY, AT_ONCE), Instant::now());
        let mut now = start;
        let mut calls = 0;
        while now - start < Duration::from_secs(60) {
            match pace.take(1, now, Duration::ZERO) {
                Ok(_) => calls += 1,
                Err(wait) => now += wait,
            }
        }
        assert!((110..=120).contains(&calls), "{calls}");
    }

    #[test]
    fn waiting_leaves_time_for_the_call() {
        assert!(web::TOTAL_TIMEOUT - LONGEST_WAIT >= Duration::from_secs(10));
    }
}
