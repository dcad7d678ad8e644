//! `rotator identities …`: which member somebody in Slack, PagerDuty or behind a mail address is (`rotator.identities`,
//! `rotator.link_identity`, `rotator.unlink_identity`). Who may link whom is decided in the database.

use serde_json::Value;

use super::Place;
use super::args::{IdentitiesCommand, LinkIdentity, Output, UnlinkIdentity, spelling};
use super::output::{Column, Show, print_one, print_rows};
use super::session::{Session, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;
use crate::import::text::printable;

const IDENTITIES: [Column; 5] = [
    Column::new("subject", "member", Show::Text),
    Column::new("kind", "kind", Show::Text),
    Column::new("external_hint", "who there", Show::Text),
    Column::new("linked_by", "linked by", Show::Text),
    Column::new("linked_at", "linked", Show::Day),
];

const LINKED: [Column; 2] = [Column::hidden("subject"), Column::hidden("kind")];
const UNLINKED: [Column; 2] = [Column::hidden("kind"), Column::hidden("unlinked")];

const LIST: &str = "select to_jsonb(i) from rotator.identities as i
    order by i.subject, i.kind, i.external_hint";

const LINK: &str = "select w.subject
    from (select coalesce($1, rotator.current_actor()) as subject) as w,
        lateral rotator.link_identity(subject => w.subject, kind => $2, external_id => $3) as linked";

const UNLINK: &str = "select rotator.unlink_identity(kind => $1, external_id => $2)";

/// Runs one of the commands.
///
/// # Errors
/// What the database refuses, with a hint.
pub async fn run(place: &Place, command: IdentitiesCommand) -> Result<Exit, Failure> {
    match command {
        IdentitiesCommand::List(output) => list(place, output).await,
        IdentitiesCommand::Link(args) => link(place, args).await,
        IdentitiesCommand::Unlink(args) => unlink(place, args).await,
    }
}

async fn list(place: &Place, output: Output) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let rows = session.items(LIST, &[]).await?;
    print_rows(output.format, &IDENTITIES, &rows, "nobody is linked yet")?;
    Ok(Exit::Ok)
}

async fn link(place: &Place, args: LinkIdentity) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let kind = spelling(&args.kind).unwrap_or_default();
    let parameters = [
        args.subject.as_deref(),
        Some(kind.as_str()),
        Some(args.external_id.as_str()),
    ];
    let rows = session.call(LINK, &parameters).await?;
    let subject: String = only(&rows, 0)?;
    let text = format!(
        "linked: {} is {kind} {}",
        printable(&subject),
        printable(&args.external_id)
    );
    let row = Item::from_iter([
        ("subject".to_owned(), Value::String(subject)),
        ("kind".to_owned(), Value::String(kind)),
    ]);
    print_one(args.output.format, &text, &LINKED, &row)?;
    Ok(Exit::Ok)
}

async fn unlink(place: &Place, args: UnlinkIdentity) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let kind = spelling(&args.kind).unwrap_or_default();
    let parameters = [Some(kind.as_str()), Some(args.external_id.as_str())];
    let rows = session.call(UNLINK, &parameters).await?;
    let there: bool = only(&rows, 0)?;
    if !there {
        let message = format!("nobody is linked to that {kind} identity");
        return Err(Failure::new(Exit::Failed, message).hint("See `rotator identities list`."));
    }
    let text = format!("unlinked: {kind} {}", printable(&args.external_id));
    let row = Item::from_iter([
        ("kind".to_owned(), Value::String(kind)),
        ("unlinked".to_owned(), Value::Bool(true)),
    ]);
    print_one(args.output.format, &text, &UNLINKED, &row)?;
    Ok(Exit::Ok)
}
