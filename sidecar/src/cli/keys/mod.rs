//! `rotator keys …`: the view `rotator.encryption_keys`, which never shows key bytes, and `rotator.rotate_key`.
//!
//! Data keys are made, wrapped and used inside the database. Only a master key is made here (`new_master.rs`), since it
//! must not pass through SQL.

mod new_master;

use serde_json::Value;

use super::Place;
use super::args::{Output, RotateKey};
use super::output::{Column, Show, print_one, print_rows};
use super::session::{Session, field, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;

pub use new_master::run as new_master;

const KEY: [Column; 10] = [
    Column::hidden("id"),
    Column::new("tenant_id", "tenant", Show::Text),
    Column::new("purpose", "purpose", Show::Text),
    Column::new("version", "version", Show::Number),
    Column::new("status", "status", Show::State),
    Column::hidden("active"),
    Column::new("created_at", "created", Show::Day),
    Column::new("activated_at", "activated", Show::Day),
    Column::hidden("retired_at"),
    Column::hidden("destroyed_at"),
];

const ROTATION: [Column; 1] = [Column::hidden("rotation_id")];

/// With a tenant chosen only its keys, also for those who see all.
const KEYS: &str = "select to_jsonb(k)
    from rotator.encryption_keys as k
    where $1::bool or k.tenant_id = (select rotator.current_tenant())
    order by k.tenant_id, k.purpose, k.version";

const ROTATE: &str = "select rotator.rotate_key(reason => coalesce($1, 'manual'))";

pub async fn status(place: &Place, output: Output) -> Result<Exit, Failure> {
    let mut session = Session::open(place).await?;
    let all = if place.tenant().is_none() {
        "true"
    } else {
        "false"
    };
    let answers = session.call(KEYS, &[Some(all)]).await?;
    let mut rows: Vec<Item> = Vec::with_capacity(answers.len());
    for answer in &answers {
        if let Value::Object(row) = field(answer, 0)? {
            rows.push(row);
        }
    }
    let empty = "no keys to be seen; members choose a tenant with --tenant SLUG";
    print_rows(output.format, &KEY, &rows, empty)?;
    Ok(Exit::Ok)
}

pub async fn rotate(place: &Place, args: RotateKey) -> Result<Exit, Failure> {
    // The tenant is chosen by the session: a rotator_admin may choose any, an admin the own one.
    let mut session = Session::open_in_tenant(place).await?;
    let rows = session.call(ROTATE, &[args.reason.as_deref()]).await?;
    let rotation: i64 = only(&rows, 0)?;
    let row = Item::from_iter([("rotation_id".to_owned(), Value::from(rotation))]);
    print_one(args.output.format, &rotation.to_string(), &ROTATION, &row)?;
    Ok(Exit::Ok)
}
