//! The extension's functions behind callbacks of vendors: a pressed button, and an incident that somebody acknowledged.
//! The other side of the agreement: `sql/api/{press,incident}.sql`. Links: `calls.rs`.

use std::time::Duration;

use serde_json::Value;
use tokio_postgres::types::{ToSql, Type};

use super::calls::{column, first};
use super::{DbError, Session};

/// Slack shows nothing until it is done, and a person waits.
const PRESS_LIMIT: Duration = Duration::from_secs(8);

/// A button that was pressed, by whom a vendor names.
#[derive(Clone, Copy)]
pub struct Pressed<'a> {
    pub token: &'a str,
    /// `acknowledge`, `rotated` or `snooze`.
    pub action: &'a str,
    /// `slack` or `email`: what names the person.
    pub kind: &'a str,
    pub external_id: &'a str,
}

/// What belongs to an action, where it has something.
#[derive(Clone, Copy, Default)]
pub struct Terms<'a> {
    /// An interval from now, by the clock of the database.
    pub snooze_for: Option<&'a str>,
    pub snooze_until: Option<&'a str>,
    /// A date (YYYY-MM-DD) and the time zone whose midnight is meant.
    pub next_expiry: Option<(&'a str, &'a str)>,
}

impl Session {
    /// Acts for who pressed. Errors: 42501 linked to nobody, or may not; else as [`Session::redeem_link`].
    pub async fn press_button(
        &self,
        pressed: Pressed<'_>,
        terms: Terms<'_>,
    ) -> Result<Value, DbError> {
        const NAME: &str = "press_button";
        let statement = "select rotator.press_button(token => $1, action => $2, kind => $3, external_id => $4, via => 'slack', \
                         until => coalesce($5::timestamptz, pg_catalog.clock_timestamp() operator(pg_catalog.+) $6::interval), \
                         next_expiry_date => $7::date::timestamp at time zone $8)";
        let (date, zone) = terms.next_expiry.unzip();
        let parameters: [(&(dyn ToSql + Sync), Type); 8] = [
            (&pressed.token, Type::TEXT),
            (&pressed.action, Type::TEXT),
            (&pressed.kind, Type::TEXT),
            (&pressed.external_id, Type::TEXT),
            (&terms.snooze_until, Type::TEXT),
            (&terms.snooze_for, Type::TEXT),
            (&date, Type::TEXT),
            (&zone, Type::TEXT),
        ];
        let rows = self.query(PRESS_LIMIT, statement, &parameters).await?;
        column(first(&rows, NAME)?, 0, NAME)
    }

    /// Says in the audit log that a press was refused; false for a token that nobody knows.
    pub async fn record_press_refusal(
        &self,
        pressed: Pressed<'_>,
        reason: &str,
    ) -> Result<bool, DbError> {
        const NAME: &str = "record_press_refusal";
        let statement = "select rotator.record_press_refusal($1, $2, $3, $4, $5, 'slack')";
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&pressed.token, Type::TEXT),
            (&pressed.action, Type::TEXT),
            (&reason, Type::TEXT),
            (&pressed.kind, Type::TEXT),
            (&pressed.external_id, Type::TEXT),
        ];
        let rows = self.query(PRESS_LIMIT, statement, &parameters).await?;
        column(first(&rows, NAME)?, 0, NAME)
    }

    /// An incident was acknowledged in PagerDuty, at that time (RFC 3339): its dedup key, and the id of the user, if it
    /// was one. Gives what came of it.
    pub async fn acknowledge_incident(
        &self,
        dedup_key: &str,
        user: Option<&str>,
        occurred_at: Option<&str>,
    ) -> Result<Value, DbError> {
        const NAME: &str = "acknowledge_incident";
        let statement = "select rotator.acknowledge_incident($1, $2, $3::timestamptz)";
        let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
            (&dedup_key, Type::TEXT),
            (&user, Type::TEXT),
            (&occurred_at, Type::TEXT),
        ];
        let rows = self.query(PRESS_LIMIT, statement, &parameters).await?;
        column(first(&rows, NAME)?, 0, NAME)
    }
}
