//! `rotator secrets list`: the filters of `rotator.search_secrets`, page by page up to the limit.

use serde_json::Value;

use crate::cli::Place;
use crate::cli::args::{List, spelling};
use crate::cli::output::{Column, Show, print_rows};
use crate::cli::session::{Session, field};
use crate::failure::{Exit, Failure};
use crate::import::Item;

/// Rows asked for at once.
const PAGE: usize = 1000;

/// All columns of the view, as documented. A table has seven of them, which fit 100 columns of a terminal.
const COLUMNS: [Column; 26] = [
    Column::hidden("id"),
    Column::new("name", "name", Show::Text),
    Column::new("provider_type", "provider", Show::Text),
    Column::hidden("provider_ref"),
    Column::hidden("purpose"),
    Column::hidden("environment"),
    Column::new("priority", "prio", Show::Text),
    Column::hidden("labels"),
    Column::new("owner_id", "owner", Show::Text),
    Column::hidden("secondary_owner_id"),
    Column::hidden("team_lead_id"),
    Column::new("expiry_date", "expires", Show::Day),
    Column::hidden("rotation_interval"),
    Column::hidden("interval_days"),
    Column::hidden("last_rotated_at"),
    Column::hidden("cycle"),
    Column::new("status", "status", Show::State),
    Column::new("days_until_expiry", "days", Show::Number),
    Column::hidden("acknowledged_at"),
    Column::hidden("acknowledged_by"),
    Column::hidden("snoozed_until"),
    Column::hidden("verified_at"),
    Column::hidden("verified_expiry_date"),
    Column::hidden("external_id"),
    Column::hidden("created_at"),
    Column::hidden("updated_at"),
];

const SEARCH: &str = "select to_jsonb(s) from rotator.search_secrets(
    query => $1, owner => $2, provider => $3, expires_within_days => $4::int4, status => $5,
    max_rows => $6::int4, after => $7::uuid) as s";

pub async fn run(place: &Place, args: List) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let limit = args.limit as usize;
    let status = args.status.as_ref().and_then(spelling);
    let days = args.expires_within_days.map(|days| days.to_string());
    let mut rows: Vec<Item> = Vec::new();
    let mut after: Option<String> = None;
    // One row more than the limit, to know whether there is more.
    loop {
        let wanted = (limit + 1 - rows.len()).min(PAGE);
        let filters = [
            args.query.as_deref(),
            args.owner.as_deref(),
            args.provider.as_deref(),
            days.as_deref(),
            status.as_deref(),
            Some(&wanted.to_string()),
            after.as_deref(),
        ];
        let page = session.call(SEARCH, &filters).await?;
        for row in &page {
            if let Value::Object(item) = field(row, 0)? {
                rows.push(item);
            }
        }
        after = rows
            .last()
            .and_then(|row| row.get("id")?.as_str().map(str::to_owned));
        if page.len() < wanted || rows.len() > limit {
            break;
        }
    }
    let more = rows.len() > limit;
    rows.truncate(limit);
    let filtered = [&args.query, &args.owner, &args.provider, &days, &status]
        .iter()
        .any(|filter| filter.is_some());
    let empty = if filtered {
        "no secret matches"
    } else {
        "no secret is registered yet"
    };
    print_rows(args.output.format, &COLUMNS, &rows, empty)?;
    if more {
        eprintln!("note: there are more than {limit}; raise --limit, or narrow the search");
    }
    Ok(Exit::Ok)
}
