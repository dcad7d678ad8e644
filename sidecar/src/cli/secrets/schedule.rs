//! `rotator secrets preview` and `explain`: what will be sent about a secret (`rotator.preview_schedule`), and what was, or
//! wasn't, and why (`rotator.explain_notifications`). `coverage`: the secrets about which nobody would be told.
//!
//! All of it is worked out in the database, by what the tick itself asks; here it is only laid out.

use super::lookup::find;
use crate::cli::Place;
use crate::cli::args::{Explain, Output, Preview};
use crate::cli::output::{Column, Show, print_rows};
use crate::cli::session::Session;
use crate::failure::{Exit, Failure};

const PREVIEW: [Column; 5] = [
    Column::new("at", "at", Show::Time),
    Column::new("kind", "kind", Show::Text),
    Column::new("channel", "channel", Show::Text),
    Column::new("recipient_hint", "to", Show::Text),
    Column::new("rule", "rule", Show::Text),
];

const EXPLANATION: [Column; 7] = [
    Column::new("at", "at", Show::Time),
    Column::new("kind", "kind", Show::Text),
    Column::new("channel", "channel", Show::Text),
    Column::new("recipient_hint", "to", Show::Text),
    Column::new("outcome", "outcome", Show::State),
    Column::new("rule", "rule", Show::Text),
    Column::new("detail", "", Show::Below),
];

const COVERAGE: [Column; 3] = [
    Column::hidden("secret_id"),
    Column::new("name", "name", Show::Text),
    Column::new("missing", "missing", Show::Text),
];

// In the order in which the functions give them.
const AHEAD: &str = "select to_jsonb(p) from rotator.preview_schedule(
    secret_id => $1::uuid, until => $2::timestamptz) as p";

const BEHIND: &str =
    "select to_jsonb(e) from rotator.explain_notifications(secret_id => $1::uuid) as e";

const UNCOVERED: &str =
    "select to_jsonb(c) from rotator.coverage as c order by c.name, c.secret_id, c.missing";

pub async fn preview(place: &Place, args: Preview) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let secret = find(&mut session, &args.secret).await?;
    let parameters = [Some(secret.id.as_str()), args.until.as_deref()];
    let rows = session.items(AHEAD, &parameters).await?;
    let empty = match args.until {
        Some(_) => "nothing will be sent about it until then",
        None => "nothing will be sent about it",
    };
    print_rows(args.output.format, &PREVIEW, &rows, empty)?;
    Ok(Exit::Ok)
}

pub async fn explain(place: &Place, args: Explain) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let secret = find(&mut session, &args.secret).await?;
    let rows = session.items(BEHIND, &[Some(secret.id.as_str())]).await?;
    let empty = "nothing was due about it yet; see `rotator secrets preview`";
    print_rows(args.output.format, &EXPLANATION, &rows, empty)?;
    Ok(Exit::Ok)
}

pub async fn coverage(place: &Place, output: Output) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let rows = session.items(UNCOVERED, &[]).await?;
    let empty = "every secret has somebody who is told, and a ladder that reaches somebody";
    print_rows(output.format, &COVERAGE, &rows, empty)?;
    Ok(Exit::Ok)
}
