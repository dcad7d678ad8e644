//! `rotator secrets reassign`: somebody leaves, and somebody else takes over (`rotator.reassign_secrets`).

use serde_json::Value;

use crate::cli::Place;
use crate::cli::args::Reassign;
use crate::cli::output::{Column, print_one};
use crate::cli::session::{Session, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;

const REASSIGNED: [Column; 1] = [Column::hidden("secrets")];

const HAND_OVER: &str = "select rotator.reassign_secrets(from_owner => $1, to_owner => $2)";

pub async fn run(place: &Place, args: Reassign) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let parameters = [Some(args.from.as_str()), Some(args.to.as_str())];
    let rows = session.call(HAND_OVER, &parameters).await?;
    let secrets: i32 = only(&rows, 0)?;
    let row = Item::from_iter([("secrets".to_owned(), Value::from(secrets))]);
    print_one(args.output.format, &secrets.to_string(), &REASSIGNED, &row)?;
    Ok(Exit::Ok)
}
