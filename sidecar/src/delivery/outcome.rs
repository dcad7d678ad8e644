//! How a delivery ended, and the one way to say so to the database.
//! Elsewhere: which answer of which vendor means what (the channel's own file); backoff and limits (`sql/api`).

use std::time::Duration;

use crate::db::{Claim, Completion};

/// Why a delivery should be tried again. The names are those of `fail_notification`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    Transient,
    /// Somebody is there and doesn't take this one now; for the database that is transient. It says nothing about others
    /// to the same destination.
    Refused,
    RateLimited,
    Timeout,
}

/// Why a delivery will never work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalReason {
    Permanent,
    /// The channel or mailbox is no more: somebody has to name another.
    RecipientGone,
}

/// How one delivery ended. Errors name the vendor's code and nothing that is secret or personal: they end up in a
/// table that members can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Taken by the vendor, under this id.
    Delivered { id: String },
    /// Not now. `after` is what the vendor asked for; the database waits at least its own backoff.
    Retry {
        after: Option<Duration>,
        reason: RetryReason,
        error: String,
    },
    /// Not ever.
    Permanent { reason: FinalReason, error: String },
}

impl Outcome {
    /// Not now, for a reason that may pass by itself.
    pub fn transient(error: impl Into<String>) -> Self {
        Self::Retry {
            after: None,
            reason: RetryReason::Transient,
            error: error.into(),
        }
    }

    /// Not now, by somebody who may take the next one: a mailbox that is full, or a setting of ours that is missing.
    pub fn refused(error: impl Into<String>) -> Self {
        Self::Retry {
            after: None,
            reason: RetryReason::Refused,
            error: error.into(),
        }
    }

    /// No answer in time. Whether it was delivered is unknown, so it may arrive twice.
    pub fn timeout(error: impl Into<String>) -> Self {
        Self::Retry {
            after: None,
            reason: RetryReason::Timeout,
            error: error.into(),
        }
    }

    /// Not ever.
    pub fn permanent(error: impl Into<String>) -> Self {
        Self::Permanent {
            reason: FinalReason::Permanent,
            error: error.into(),
        }
    }

    /// Not ever, because there is nobody there.
    pub fn recipient_gone(error: impl Into<String>) -> Self {
        Self::Permanent {
            reason: FinalReason::RecipientGone,
            error: error.into(),
        }
    }

    /// For logs: delivered, or the reason as the database knows it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Retry {
                reason: RetryReason::Transient | RetryReason::Refused,
                ..
            } => "transient",
            Self::Retry {
                reason: RetryReason::RateLimited,
                ..
            } => "rate_limited",
            Self::Retry {
                reason: RetryReason::Timeout,
                ..
            } => "timeout",
            Self::Permanent {
                reason: FinalReason::Permanent,
                ..
            } => "permanent",
            Self::Permanent {
                reason: FinalReason::RecipientGone,
                ..
            } => "recipient_gone",
        }
    }

    /// What to report for that claim.
    pub fn completion(self, claim: &Claim) -> Completion {
        let reason = self.label();
        let mut completion = Completion {
            id: claim.id,
            claim_id: claim.claim_id,
            ok: false,
            provider_message_id: None,
            error: None,
            reason: None,
            retry_after: None,
        };
        match self {
            Self::Delivered { id } => {
                completion.ok = true;
                completion.provider_message_id = Some(id);
            }
            Self::Retry { after, error, .. } => {
                completion.error = Some(error);
                completion.reason = Some(reason);
                completion.retry_after = after.map(|after| after.as_secs().max(1));
            }
            Self::Permanent { error, .. } => {
                completion.error = Some(error);
                completion.reason = Some(reason);
            }
        }
        completion
    }
}
