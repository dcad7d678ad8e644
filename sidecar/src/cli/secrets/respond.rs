//! `rotator secrets ack`, `snooze` and `rotated`: the answers to a reminder. The first takes it on (`rotator.acknowledge`),
//! the second puts it off (`rotator.snooze`), the third closes the loop (`rotator.mark_rotated`) and says when it is due again.
//!
//! What an answer may be given to, and by whom, is decided in the database. Which secret is meant: `lookup.rs`.

use serde_json::Value;

use super::lookup::find;
use crate::cli::Place;
use crate::cli::args::{Ack, Rotated, Snooze};
use crate::cli::output::{Column, minute, print_one};
use crate::cli::session::{Session, field, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;
use crate::import::text::printable;

const ACKNOWLEDGED: [Column; 4] = [
    Column::hidden("id"),
    Column::hidden("acknowledged"),
    Column::hidden("acknowledged_by"),
    Column::hidden("acknowledged_until"),
];
const SNOOZED: [Column; 2] = [Column::hidden("id"), Column::hidden("snoozed_until")];
const ROTATED: [Column; 2] = [Column::hidden("id"), Column::hidden("next_expiry_date")];

const ACKNOWLEDGE: &str =
    "select rotator.acknowledge(secret_id => $1::uuid, note => $2, until => $3::timestamptz)::text";

/// Whoever took it on first has it.
const WHO_HAS_IT: &str = "select to_jsonb(a.acknowledged_by), to_jsonb(a.acknowledged_until), a.acknowledged_by = rotator.current_actor()
    from rotator.alerts as a where a.secret_id = $1::uuid and a.state = 'acknowledged'";

const SNOOZE: &str = "select rotator.snooze(
    secret_id => $1::uuid, until => $2::timestamptz, reason => $3)::text, to_jsonb($2::timestamptz)";

/// Without --at the database's own clock is taken.
const MARK: &str = "select to_jsonb(rotator.mark_rotated(
    secret_id => $1::uuid, rotated_at => coalesce($2::timestamptz, now()), next_expiry_date => $3::timestamptz,
    evidence_url => $4, note => $5))";

pub async fn ack(place: &Place, args: Ack) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let secret = find(&mut session, &args.secret).await?;
    let parameters = [
        Some(secret.id.as_str()),
        args.note.as_deref(),
        args.until.as_deref(),
    ];
    session.call(ACKNOWLEDGE, &parameters).await?;
    let rows = session.call(WHO_HAS_IT, &[Some(&secret.id)]).await?;
    // It is done, also if somebody rotated it in between.
    let (by, until, is_ours): (Value, Value, bool) = match rows.first() {
        Some(row) => (field(row, 0)?, field(row, 1)?, field(row, 2)?),
        None => (Value::Null, Value::Null, true),
    };
    let mut text = "acknowledged".to_owned();
    if let (Some(by), false) = (by.as_str(), is_ours) {
        text.push_str(&format!(" by {}", printable(by)));
    }
    if let Some(until) = until.as_str() {
        text.push_str(&format!(" until {}", minute(until)));
    }
    text.push_str(&format!(": {}", printable(&secret.name)));
    let row = Item::from_iter([
        ("id".to_owned(), Value::String(secret.id)),
        ("acknowledged".to_owned(), Value::Bool(true)),
        ("acknowledged_by".to_owned(), by),
        ("acknowledged_until".to_owned(), until),
    ]);
    print_one(args.output.format, &text, &ACKNOWLEDGED, &row)?;
    Ok(Exit::Ok)
}

pub async fn snooze(place: &Place, args: Snooze) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let secret = find(&mut session, &args.secret).await?;
    let parameters = [
        Some(secret.id.as_str()),
        Some(args.until.as_str()),
        Some(args.reason.as_str()),
    ];
    let rows = session.call(SNOOZE, &parameters).await?;
    let until: Value = only(&rows, 1)?;
    let text = format!(
        "snoozed until {}: {}",
        minute(until.as_str().unwrap_or_default()),
        printable(&secret.name)
    );
    let row = Item::from_iter([
        ("id".to_owned(), Value::String(secret.id)),
        ("snoozed_until".to_owned(), until),
    ]);
    print_one(args.output.format, &text, &SNOOZED, &row)?;
    Ok(Exit::Ok)
}

pub async fn rotated(place: &Place, args: Rotated) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let secret = find(&mut session, &args.secret).await?;
    let parameters = [
        Some(secret.id.as_str()),
        args.at.as_deref(),
        args.next_expiry.as_deref(),
        args.evidence_url.as_deref(),
        args.note.as_deref(),
    ];
    let rows = session.call(MARK, &parameters).await?;
    let next: Value = only(&rows, 0)?;
    let text = next.as_str().unwrap_or_default().to_owned();
    let row = Item::from_iter([
        ("id".to_owned(), Value::String(secret.id)),
        ("next_expiry_date".to_owned(), next),
    ]);
    print_one(args.output.format, &text, &ROTATED, &row)?;
    Ok(Exit::Ok)
}
