//! `rotator keys status`: the views `rotator.encryption_keys`, which never shows key bytes, and `rotator.key_rotations`.
//!
//! People get both, and below them what went wrong; programs get one of the two, with all its columns.

use serde_json::Value;

use super::standing::{self, Scope};
use crate::cli::Place;
use crate::cli::args::{Format, KeysStatus};
use crate::cli::output::{Column, Show, print, print_rows};
use crate::cli::session::Session;
use crate::failure::{Exit, Failure};
use crate::import::Item;
use crate::import::text::printable;

const KEYS: [Column; 12] = [
    Column::hidden("id"),
    Column::new("tenant_id", "tenant", Show::Text),
    Column::new("purpose", "purpose", Show::Text),
    Column::new("version", "version", Show::Number),
    Column::new("status", "status", Show::State),
    Column::hidden("active"),
    Column::hidden("created_at"),
    Column::new("activated_at", "activated", Show::Day),
    Column::hidden("retired_at"),
    Column::hidden("destroyed_at"),
    Column::new("row_count", "rows", Show::Number),
    Column::new("uses", "uses", Show::Number),
];

/// For programs.
const ROTATIONS: [Column; 14] = [
    Column::hidden("id"),
    Column::hidden("tenant_id"),
    Column::hidden("from_version"),
    Column::hidden("to_version"),
    Column::hidden("trigger"),
    Column::hidden("status"),
    Column::hidden("total"),
    Column::hidden("done"),
    Column::hidden("failed"),
    Column::hidden("remaining"),
    Column::hidden("started_at"),
    Column::hidden("finished_at"),
    Column::hidden("duration"),
    Column::hidden("error"),
];

/// For people: how far each is.
const STANDING: [Column; 9] = [
    Column::new("tenant_id", "tenant", Show::Text),
    Column::new("id", "rotation", Show::Number),
    Column::new("versions", "keys", Show::Text),
    Column::new("status", "status", Show::State),
    Column::new("total", "total", Show::Number),
    Column::new("done", "done", Show::Number),
    Column::new("failed", "failed", Show::Number),
    Column::new("remaining", "left", Show::Number),
    Column::new("duration", "took", Show::Span),
];

/// For people: why and when.
const HISTORY: [Column; 9] = [
    Column::new("tenant_id", "tenant", Show::Text),
    Column::new("id", "rotation", Show::Number),
    Column::new("versions", "keys", Show::Text),
    Column::new("status", "status", Show::State),
    Column::new("started_at", "started", Show::Day),
    Column::new("duration", "took", Show::Span),
    Column::new("done", "done", Show::Number),
    Column::new("failed", "failed", Show::Number),
    Column::new("trigger", "why", Show::Text),
];

const LIST_KEYS: &str = "select to_jsonb(k)
    from rotator.encryption_keys as k
    where $1::bool or k.tenant_id = (select rotator.current_tenant())
    order by k.tenant_id, k.purpose, k.version";

/// The rows are counted when they are asked for.
const LIST_KEYS_UNCOUNTED: &str = "select to_jsonb(u)
    from (
        select k.id, k.tenant_id, k.purpose, k.version, k.status, k.active, k.created_at, k.activated_at, k.retired_at,
            k.destroyed_at, k.uses
        from rotator.encryption_keys as k
        where $1::bool or k.tenant_id = (select rotator.current_tenant())
    ) as u
    order by u.tenant_id, u.purpose, u.version";

const LIST_ROTATIONS: &str = "select to_jsonb(r)
    from rotator.key_rotations as r
    where $1::bool or r.tenant_id = (select rotator.current_tenant())
    order by r.id desc";

const NONE: &str = "no keys to be seen; members choose a tenant with --tenant SLUG";

pub async fn run(place: &Place, args: KeysStatus) -> Result<Exit, Failure> {
    let mut session = Session::open(place).await?;
    let scope = Scope::of(place);
    let all = [Some(scope.all())];
    let format = args.output.format;
    if args.rotations {
        let mut rows = session.items(LIST_ROTATIONS, &all).await?;
        rows.iter_mut().for_each(complete);
        match format {
            Format::Table => tell(&HISTORY, &rows, "no key was rotated yet")?,
            _ => print_rows(format, &ROTATIONS, &rows, "")?,
        }
        return Ok(Exit::Ok);
    }
    let list = if args.no_rows {
        LIST_KEYS_UNCOUNTED
    } else {
        LIST_KEYS
    };
    let keys = session.items(list, &all).await?;
    if format != Format::Table {
        print_rows(format, &KEYS, &keys, "")?;
        return Ok(Exit::Ok);
    }
    print_rows(format, in_view(&KEYS, &keys), &keys, NONE)?;
    let mut rotations = standing::last(&mut session, scope).await?;
    rotations.iter_mut().for_each(complete);
    if !rotations.is_empty() {
        print("\n")?;
        tell(&STANDING, &rotations, "")?;
    }
    Ok(Exit::Ok)
}

/// What the view leaves to whoever reads it.
fn complete(row: &mut Item) {
    let number = |key: &str| row.get(key).and_then(Value::as_i64);
    let version =
        |key: &str| number(key).map_or_else(|| "?".to_owned(), |number| number.to_string());
    let versions = format!("{}→{}", version("from_version"), version("to_version"));
    let remaining = match (number("total"), number("done"), number("failed")) {
        (Some(total), Some(done), failed) => {
            Value::from((total - done - failed.unwrap_or_default()).max(0))
        }
        _ => Value::Null,
    };
    row.insert("versions".to_owned(), Value::from(versions));
    row.entry("remaining").or_insert(remaining);
}

/// A table, and below it what doesn't fit into one: errors.
fn tell(columns: &[Column], rows: &[Item], empty: &str) -> Result<(), Failure> {
    print_rows(Format::Table, in_view(columns, rows), rows, empty)?;
    for row in rows {
        if let Some(error) = row.get("error").and_then(Value::as_str) {
            let id = row.get("id").map_or_else(String::new, Value::to_string);
            print(&format!("rotation {id}: {}\n", printable(error)))?;
        }
    }
    Ok(())
}

/// Without the tenant where all rows are of one.
fn in_view<'a>(columns: &'a [Column], rows: &[Item]) -> &'a [Column] {
    let mut tenants = rows.iter().map(|row| row.get("tenant_id"));
    let first = tenants.next();
    let one = first.is_some() && tenants.all(|other| Some(other) == first);
    let at = columns.iter().position(|column| column.key == "tenant_id");
    match at {
        Some(at) if one => &columns[at + 1..],
        _ => columns,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(value: Value) -> Item {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn what_is_left_is_what_is_neither_done_nor_failed() {
        let mut known =
            row(json!({"from_version": 1, "to_version": 2, "total": 9, "done": 5, "failed": 1}));
        complete(&mut known);
        assert_eq!(
            (&known["remaining"], &known["versions"]),
            (&json!(3), &json!("1→2"))
        );
        let mut uncounted = row(json!({"from_version": null, "to_version": 2, "total": null}));
        complete(&mut uncounted);
        assert_eq!(uncounted["remaining"], Value::Null);
    }

    #[test]
    fn the_tenant_is_shown_where_there_are_several() {
        let (one, other) = (
            row(json!({"tenant_id": "a"})),
            row(json!({"tenant_id": "b"})),
        );
        assert_eq!(
            in_view(&STANDING, &[one.clone(), one.clone()]).len(),
            STANDING.len() - 1
        );
        assert_eq!(in_view(&STANDING, &[one, other]).len(), STANDING.len());
        assert_eq!(in_view(&STANDING, &[]).len(), STANDING.len());
    }
}
