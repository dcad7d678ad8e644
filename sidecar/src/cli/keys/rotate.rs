//! `rotator keys rotate` and `rollback`: `rotator.rotate_key`, `rotate_all_keys` and `rollback_key_rotation`. Each is one
//! short transaction; the work that follows is `reencrypt.rs`.

use serde_json::Value;

use super::reencrypt;
use crate::cli::Place;
use crate::cli::args::{Pace, Rollback, RotateKey};
use crate::cli::output::{Column, print_one};
use crate::cli::session::{Session, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;

const ROTATION: [Column; 1] = [Column::hidden("rotation_id")];
const ROTATIONS: [Column; 1] = [Column::hidden("rotations")];
const ROLLED_BACK: [Column; 2] = [Column::hidden("rotation_id"), Column::hidden("status")];

const ROTATE: &str = "select rotator.rotate_key(reason => coalesce($1, 'manual'))";

const ROTATE_ALL: &str = "select rotator.rotate_all_keys(reason => coalesce($1, 'manual'))::bigint";

const ROLL_BACK: &str = "select rotator.rollback_key_rotation(rotation_id => $1::int8)::text";

pub async fn rotate(place: &Place, args: RotateKey) -> Result<Exit, Failure> {
    if args.all && place.target.tenant.is_some() {
        return Err(
            Failure::new(Exit::Usage, "--all and --tenant exclude each other")
                .hint("Leave one of them out."),
        );
    }
    let (mut session, statement, key, columns) = if args.all {
        let session = Session::open(place).await?.of_all_tenants();
        (session, ROTATE_ALL, "rotations", &ROTATIONS)
    } else {
        // The tenant is chosen by the session: a rotator_admin may choose any, an admin the own one.
        let session = Session::open_in_tenant(place).await?;
        (session, ROTATE, "rotation_id", &ROTATION)
    };
    let rows = session.call(statement, &[args.reason.as_deref()]).await?;
    let answer: i64 = only(&rows, 0)?;
    let row = Item::from_iter([(key.to_owned(), Value::from(answer))]);
    print_one(args.output.format, &answer.to_string(), columns, &row)?;
    if args.wait {
        reencrypt::after_rotating(&mut session, !args.all, Pace::default()).await?;
    }
    Ok(Exit::Ok)
}

pub async fn roll_back(place: &Place, args: Rollback) -> Result<Exit, Failure> {
    let mut session = Session::open(place).await?;
    let id = args.rotation.to_string();
    session.call(ROLL_BACK, &[Some(&id)]).await?;
    let row = Item::from_iter([
        ("rotation_id".to_owned(), Value::from(args.rotation)),
        ("status".to_owned(), Value::from("rolled_back")),
    ]);
    let text = format!("rolled back: rotation {id}");
    print_one(args.output.format, &text, &ROLLED_BACK, &row)?;
    Ok(Exit::Ok)
}
