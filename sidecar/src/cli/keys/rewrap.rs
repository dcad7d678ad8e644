//! `rotator keys rewrap`: every data key wrapped by the newest master key (`rotator.rewrap_keys`), so that older master
//! keys can be taken out of their file.

use serde_json::Value;

use crate::cli::Place;
use crate::cli::args::Output;
use crate::cli::output::{Column, print_one};
use crate::cli::session::{Session, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;

const REWRAPPED: [Column; 1] = [Column::hidden("rewrapped")];

const REWRAP: &str = "select rotator.rewrap_keys()::bigint";

pub async fn run(place: &Place, output: Output) -> Result<Exit, Failure> {
    let mut session = Session::open(place).await?;
    let rows = session.call(REWRAP, &[]).await?;
    let keys: i64 = only(&rows, 0)?;
    let row = Item::from_iter([("rewrapped".to_owned(), Value::from(keys))]);
    print_one(output.format, &keys.to_string(), &REWRAPPED, &row)?;
    Ok(Exit::Ok)
}
