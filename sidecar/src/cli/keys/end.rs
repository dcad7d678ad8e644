//! `rotator keys retire` and `destroy`: the end of a version. Whether anything still needs it is found out in the
//! database, against concurrent writers; here somebody has to say twice what is destroyed.

use std::io::{BufRead, IsTerminal, Write, stderr, stdin};

use serde_json::Value;

use crate::cli::Place;
use crate::cli::args::{Destroy, Format, Retire};
use crate::cli::output::{Column, print_one};
use crate::cli::session::Session;
use crate::failure::{Exit, Failure};
use crate::import::Item;

const ENDED: [Column; 2] = [Column::hidden("version"), Column::hidden("status")];

const RETIRE: &str = "select rotator.retire_key(version => $1::int4)::text";

const DESTROY: &str = "select rotator.destroy_key(version => $1::int4, confirm => $2)::text";

pub async fn retire(place: &Place, args: Retire) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let version = args.version.to_string();
    session.call(RETIRE, &[Some(&version)]).await?;
    said(args.output.format, args.version, "retired")
}

pub async fn destroy(place: &Place, args: Destroy) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let version = args.version.to_string();
    let confirm = match args.confirm {
        Some(confirm) => confirm,
        None => ask(&version)?,
    };
    session
        .call(DESTROY, &[Some(&version), Some(confirm.trim())])
        .await?;
    said(args.output.format, args.version, "destroyed")
}

/// Somebody at a terminal types what a script gives by --confirm. What has to be typed is not shown in full: who destroys
/// a key knows whose it is.
fn ask(version: &str) -> Result<String, Failure> {
    let unconfirmed = |message: &str| {
        Failure::new(Exit::Usage, message).hint(format!(
            "Add --confirm SLUG/{version}, with the tenant's slug."
        ))
    };
    if !stdin().is_terminal() {
        return Err(unconfirmed("destroying a key has to be confirmed"));
    }
    let mut err = stderr().lock();
    let asked = write!(
        err,
        "What is under version {version} will be unreadable for ever, in backups too.\n\
         Type the tenant's slug, a slash and the version to destroy it: "
    )
    .and_then(|()| err.flush());
    let mut line = String::new();
    if asked.is_err() || stdin().lock().read_line(&mut line).is_err() || line.trim().is_empty() {
        return Err(unconfirmed("nothing was destroyed: it was not confirmed"));
    }
    Ok(line)
}

fn said(format: Format, version: i32, status: &str) -> Result<Exit, Failure> {
    let row = Item::from_iter([
        ("version".to_owned(), Value::from(version)),
        ("status".to_owned(), Value::from(status)),
    ]);
    print_one(
        format,
        &format!("{status}: version {version}"),
        &ENDED,
        &row,
    )?;
    Ok(Exit::Ok)
}
