//! `rotator secrets list`: the filters of `rotator.search_secrets`, page by page: a screenful for people, everything for
//! programs (`export`).

use serde_json::Value;

use super::export::Export;
use crate::cli::Place;
use crate::cli::args::{Format, List, spelling};
use crate::cli::output::{Column, Show, print_rows};
use crate::cli::session::{Session, Snapshot, field};
use crate::failure::{Exit, Failure};
use crate::import::Item;

/// Rows asked for at once.
const PAGE: usize = 10_000;
/// Rows of a table, unless --limit says otherwise.
const SCREEN: usize = 100;

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

const SEARCH: &str =
    "select s.id::text, to_jsonb(s) - 'labels', s.labels::text from rotator.search_secrets(
    query => $1, owner => $2, provider => $3, expires_within_days => $4::int4, status => $5,
    max_rows => $6::int4, after => $7::uuid) as s";

pub async fn run(place: &Place, args: List) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let format = args.output.format;
    let limit = match args.limit {
        Some(limit) => limit as usize,
        None if format == Format::Table => SCREEN,
        None => usize::MAX,
    };
    let mut search = Search::new(&mut session, &args).await?;
    // For people: collected, since columns are as wide as what is in them. For programs: written as it comes.
    let mut shown: Vec<Item> = Vec::new();
    let keys = COLUMNS.map(|column| column.key);
    let mut export = match format {
        Format::Table => None,
        _ => Some(Export::begin(format, &keys)?),
    };
    let mut left = limit;
    while left > 0 {
        let page = search.page(left.min(PAGE)).await?;
        if page.is_empty() {
            break;
        }
        left -= page.len();
        for (mut row, labels) in page {
            match &mut export {
                Some(export) => export.row(&row, &labels)?,
                None => {
                    row.insert("labels".into(), labels.into());
                    shown.push(row);
                }
            }
        }
    }
    let more = left == 0 && !search.page(1).await?.is_empty();
    match export {
        Some(export) => export.end()?,
        None => print_rows(format, &COLUMNS, &shown, search.nothing())?,
    }
    if more {
        eprintln!("note: there are more than {limit}; raise --limit, or narrow the search");
    }
    Ok(Exit::Ok)
}

/// The filters, and how far the pages have come. All pages are of one moment, so that no row is missing or twice because
/// somebody moved its date meanwhile.
struct Search<'a> {
    snapshot: Snapshot<'a>,
    filters: [Option<String>; 5],
    after: Option<String>,
    ended: bool,
}

impl<'a> Search<'a> {
    async fn new(session: &'a mut Session, args: &List) -> Result<Self, Failure> {
        let filters = [
            args.query.clone(),
            args.owner.clone(),
            args.provider.clone(),
            args.expires_within_days.map(|days| days.to_string()),
            args.status.as_ref().and_then(spelling),
        ];
        Ok(Self {
            snapshot: session.snapshot().await?,
            filters,
            after: None,
            ended: false,
        })
    }

    /// The next rows, and the labels of each as they are stored.
    async fn page(&mut self, wanted: usize) -> Result<Vec<(Item, String)>, Failure> {
        if self.ended {
            return Ok(Vec::new());
        }
        let limit = wanted.to_string();
        let mut parameters: Vec<Option<&str>> = self.filters.iter().map(Option::as_deref).collect();
        parameters.extend([Some(limit.as_str()), self.after.as_deref()]);
        let answers = self.snapshot.call(SEARCH, &parameters).await?;
        self.ended = answers.len() < wanted;
        let mut page = Vec::with_capacity(answers.len());
        for answer in &answers {
            self.after = Some(field(answer, 0)?);
            if let Value::Object(row) = field(answer, 1)? {
                page.push((row, field(answer, 2)?));
            }
        }
        Ok(page)
    }

    fn nothing(&self) -> &'static str {
        if self.filters.iter().any(Option::is_some) {
            "no secret matches"
        } else {
            "no secret is registered yet"
        }
    }
}
