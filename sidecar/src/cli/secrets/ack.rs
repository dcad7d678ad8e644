//! `rotator secrets ack`: takes on the open alert of a secret with `rotator.acknowledge`.

use serde_json::Value;

use super::lookup::find;
use crate::cli::Place;
use crate::cli::args::Ack;
use crate::cli::import::Item;
use crate::cli::import::text::printable;
use crate::cli::output::{Column, print_one};
use crate::cli::session::Session;
use crate::failure::{Exit, Failure};

const COLUMNS: [Column; 2] = [Column::hidden("id"), Column::hidden("acknowledged")];

const ACKNOWLEDGE: &str =
    "select rotator.acknowledge(secret_id => $1::uuid, note => $2, until => $3::timestamptz)::text";

pub async fn run(place: &Place, args: Ack) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let secret = find(&mut session, &args.secret).await?;
    session
        .call(
            ACKNOWLEDGE,
            &[
                Some(&secret.id),
                args.note.as_deref(),
                args.until.as_deref(),
            ],
        )
        .await?;
    let row = Item::from_iter([
        ("id".to_owned(), Value::String(secret.id)),
        ("acknowledged".to_owned(), Value::Bool(true)),
    ]);
    print_one(
        args.output.format,
        &format!("acknowledged: {}", printable(&secret.name)),
        &COLUMNS,
        &row,
    )?;
    Ok(Exit::Ok)
}
