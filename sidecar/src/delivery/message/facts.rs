//! What the database says about a notification, as types: `message` of a claim. One secret, many, or a tenant's keys; what
//! is not needed for words is left out. The same shapes from the other side: `sql/api/{message,summary,key_alert}.sql`.

use std::borrow::Cow;

use serde::Deserialize;

/// What tells which of the others it is.
#[derive(Deserialize)]
pub struct Head<'a> {
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
}

/// One secret: reminder, test, acknowledge, resolve.
#[derive(Deserialize)]
pub struct Facts {
    pub notification_id: String,
    pub tenant: Tenant,
    pub secret: Secret,
    pub expiry_local: String,
    pub days_until_expiry: i64,
    /// Tells "expires today" from "expired today", where the database says so.
    #[serde(default)]
    pub overdue: Option<bool>,
    #[serde(default)]
    pub cycle: Option<i64>,
    #[serde(default)]
    pub has_interval: bool,
    #[serde(default)]
    pub interval_text: Option<String>,
    #[serde(default)]
    pub acknowledged: Option<Acknowledged>,
    /// Who had it last, of what is open again.
    #[serde(default)]
    pub acknowledged_last: Option<String>,
    /// Nobody is told for a while.
    #[serde(default)]
    pub snoozed: Option<Snoozed>,
    /// Of a resolve, where the database says it: what ended the cycle.
    #[serde(default)]
    pub ended: Option<Ended>,
    /// What asked for it, like `lead:14` or `escalation:payments:2`.
    #[serde(default)]
    pub rule: Option<String>,
    #[serde(default)]
    pub lead_time_days: Option<i64>,
    /// Whom it is for.
    #[serde(default)]
    pub addressee: Option<String>,
    /// Another message could not be delivered.
    #[serde(default)]
    pub is_fallback: bool,
    /// Of a test: who asked for it.
    #[serde(default)]
    pub requested_by: Option<String>,
}

/// Many secrets in one message.
#[derive(Deserialize)]
pub struct Summary {
    pub notification_id: String,
    /// Why they come together.
    #[serde(default)]
    pub rule: Gathering,
    pub tenant: Tenant,
    pub counts: Counts,
    pub items: Vec<Entry>,
}

/// What a summary that somebody acted by says of each of them now.
#[derive(Deserialize)]
pub struct Turns {
    pub items: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Gathering {
    /// They were late already when they were imported.
    #[default]
    Backlog,
    /// They came due for the same recipient at the same time.
    Digest,
}

#[derive(Deserialize)]
pub struct Counts {
    pub total: u64,
    pub overdue: u64,
    pub expiring_soon: u64,
}

#[derive(Deserialize)]
pub struct Entry {
    /// `reminder` or `escalation`.
    #[serde(default)]
    pub kind: Option<String>,
    #[serde(default)]
    pub notification_id: Option<String>,
    pub secret: Secret,
    pub expiry_local: String,
    pub days_until_expiry: i64,
    #[serde(default)]
    pub overdue: Option<bool>,
    /// What became of it since, as with one secret.
    #[serde(default)]
    pub acknowledged: Option<Acknowledged>,
    #[serde(default)]
    pub snoozed: Option<Snoozed>,
    #[serde(default)]
    pub ended: Option<Ended>,
    #[serde(default)]
    pub link_token: Option<String>,
}

/// An address where nobody is any more.
#[derive(Deserialize)]
pub struct ContactGone {
    pub tenant: Tenant,
    pub tenant_id: String,
    pub contact: Contact,
    /// In use, of these owners.
    pub secrets: u64,
    #[serde(default)]
    pub since_local: Option<String>,
}

#[derive(Deserialize)]
pub struct Contact {
    pub id: String,
    pub channel: String,
    /// None if it can't be decrypted.
    #[serde(default)]
    pub hint: Option<String>,
    pub owners: Vec<String>,
}

/// A key rotation that needs somebody.
#[derive(Deserialize)]
pub struct KeyRotation {
    pub tenant: Tenant,
    pub tenant_id: String,
    pub state: RotationState,
    /// None if it has not started.
    #[serde(default)]
    pub rotation: Option<Rotation>,
    /// When it came to that.
    #[serde(default)]
    pub since_local: Option<String>,
    /// Names columns and keys of rows, never what is in them.
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub fix: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum RotationState {
    Failed,
    Stalled,
    Overdue,
}

impl RotationState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Stalled => "stalled",
            Self::Overdue => "overdue",
        }
    }
}

/// Of the rows that are to be under the new key.
#[derive(Deserialize)]
pub struct Rotation {
    pub id: i64,
    pub from_version: i64,
    pub to_version: i64,
    pub total: u64,
    pub done: u64,
    pub failed: u64,
    pub started_local: String,
}

#[derive(Deserialize)]
pub struct Tenant {
    pub name: String,
}

#[derive(Deserialize)]
pub struct Secret {
    #[serde(default)]
    pub id: Option<String>,
    /// None if it can't be decrypted.
    pub name: Option<String>,
    #[serde(default)]
    pub provider_type: Option<String>,
    #[serde(default)]
    pub environment: Option<String>,
    #[serde(default)]
    pub priority: Option<String>,
    #[serde(default)]
    pub owner_id: Option<String>,
    #[serde(default)]
    pub purpose: Option<String>,
    #[serde(default)]
    pub provider_ref: Option<String>,
}

#[derive(Deserialize)]
pub struct Acknowledged {
    pub by: Option<String>,
}

#[derive(Deserialize)]
pub struct Snoozed {
    pub until: String,
    #[serde(default)]
    pub by: Option<String>,
}

#[derive(Deserialize)]
pub struct Ended {
    pub how: How,
    #[serde(default)]
    pub by: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum How {
    Rotated,
    Retired,
    /// Its date was moved out of reach.
    Moved,
}
