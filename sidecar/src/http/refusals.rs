//! Refusals that become events of the audit log: somebody who holds a link asked for an action and didn't get it. Unknown
//! tokens belong to no tenant: those are in the access log alone. Looking at a page is no action.
//!
//! The log is for ever, and a link can be pressed by a program: each one gets some events a minute, the rest is only
//! logged. Tests: `tests/tests/delivery/audit_refusals.rs`.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::link::Links;
use crate::db::DbError;

/// Events of one link within [`WITHIN`].
const MOST: u32 = 10;
const WITHIN: Duration = Duration::from_secs(60);
/// Links that are remembered at once.
const LINKS: usize = 4096;

/// Which links were refused lately, by a hash of their token.
#[derive(Default)]
pub struct Refusals {
    chance: RandomState,
    lately: Mutex<HashMap<u64, (Instant, u32)>>,
}

impl Links {
    /// The database answered an action with an error; a refusal is recorded.
    pub async fn failed(&self, token: &str, action: &str, error: &DbError) {
        if let Some(reason) = reason(error) {
            self.refused(token, action, reason).await;
        }
    }

    /// Records that an action was refused.
    pub async fn refused(&self, token: &str, action: &str, reason: &'static str) {
        if !self.refusals.has_room(token) {
            tracing::warn!(
                reason,
                "a link is refused again and again; no more events of it for now"
            );
            return;
        }
        let recorded = self.session.record_link_refusal(token, action, reason);
        if let Err(error) = recorded.await {
            tracing::error!(
                sqlstate = error.sqlstate().unwrap_or_default(),
                "a refusal of a link is not in the audit log: {error}"
            );
        }
    }
}

impl Refusals {
    /// Whether one more event of this link may be written.
    pub(super) fn has_room(&self, token: &str) -> bool {
        let link = self.chance.hash_one(token);
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= LINKS {
            lately.retain(|_, (since, _)| since.elapsed() < WITHIN);
        }
        // As many links as that within a minute: none of them is written about any more.
        if lately.len() >= LINKS && !lately.contains_key(&link) {
            return false;
        }
        let (since, count) = lately.entry(link).or_insert((Instant::now(), 0));
        if since.elapsed() >= WITHIN {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        *count <= MOST
    }
}

/// What the audit log calls it; nothing for what isn't a refusal, or has no tenant.
pub(super) fn reason(error: &DbError) -> Option<&'static str> {
    match error.sqlstate()? {
        "PT410" if error.to_string().contains("rotated since") => Some("cycle"),
        "PT410" => Some("expired"),
        "PT409" => Some("state"),
        "RT001" => Some("secret_value"),
        state if state.starts_with("22") || state.starts_with("23") => Some("input"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_pressed_by_a_program_fills_no_log() {
        let refusals = Refusals::default();
        let recorded = (0..100).filter(|_| refusals.has_room("a")).count();
        assert_eq!(recorded, MOST as usize);
        assert!(refusals.has_room("b"));
    }

    #[test]
    fn refusals_have_their_reason_and_failures_have_none() {
        let error = |sqlstate: &str, message: &str| DbError::Statement {
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
            hint: None,
        };
        for (sqlstate, message, expected) in [
            ("PT410", "it has been rotated since", Some("cycle")),
            ("PT410", "the link has expired", Some("expired")),
            ("PT409", "", Some("state")),
            ("RT001", "", Some("secret_value")),
            ("22023", "", Some("input")),
            ("PT404", "", None),
            ("57014", "", None),
        ] {
            assert_eq!(reason(&error(sqlstate, message)), expected, "{sqlstate}");
        }
        assert_eq!(reason(&DbError::Timeout { seconds: 1 }), None);
    }
}
