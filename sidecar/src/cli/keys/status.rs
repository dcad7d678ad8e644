//! `rotator keys status`: the view `rotator.encryption_keys`, which never shows key bytes.

use serde_json::Value;

use crate::cli::Place;
use crate::cli::args::Output;
use crate::cli::import::Item;
use crate::cli::output::{Column, Show, print_rows};
use crate::cli::session::{Session, field};
use crate::failure::{Exit, Failure};

const COLUMNS: [Column; 10] = [
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

/// With a tenant chosen only its keys, also for those who see all.
const KEYS: &str = "select to_jsonb(k)
    from rotator.encryption_keys as k
    where $1::bool or k.tenant_id = (select rotator.current_tenant())
    order by k.tenant_id, k.purpose, k.version";

pub async fn run(place: &Place, output: Output) -> Result<Exit, Failure> {
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
    print_rows(
        output.format,
        &COLUMNS,
        &rows,
        "no keys to be seen; members choose a tenant with --tenant SLUG",
    )?;
    Ok(Exit::Ok)
}
