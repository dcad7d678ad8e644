//! `rotator keys rotate`: `rotator.rotate_key`, which makes a new version of the tenant's data key the active one.

use serde_json::Value;

use crate::cli::Place;
use crate::cli::args::RotateKey;
use crate::cli::import::Item;
use crate::cli::output::{Column, print_one};
use crate::cli::session::{Session, only};
use crate::failure::{Exit, Failure};

const COLUMNS: [Column; 1] = [Column::hidden("rotation_id")];

const ROTATE: &str = "select rotator.rotate_key(reason => coalesce($1, 'manual'))";

pub async fn run(place: &Place, args: RotateKey) -> Result<Exit, Failure> {
    // The tenant is chosen by the session: a rotator_admin may choose any, an admin the own one.
    let mut session = Session::open_in_tenant(place).await?;
    let rows = session.call(ROTATE, &[args.reason.as_deref()]).await?;
    let rotation: i64 = only(&rows, 0)?;
    let row = Item::from_iter([("rotation_id".to_owned(), Value::from(rotation))]);
    print_one(args.output.format, &rotation.to_string(), &COLUMNS, &row)?;
    Ok(Exit::Ok)
}
