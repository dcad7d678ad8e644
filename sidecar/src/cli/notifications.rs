//! `rotator notifications test`: sends the message that a reminder would be to one recipient, clearly marked as a test
//! (`rotator.test_notification`), and with `--wait` says what became of it (`rotator.notifications`).
//!
//! It only queues: the running `rotator serve` delivers, so what is tested is what delivers reminders.
//! `rotator notifications undeliverable`: what nobody could be told (`rotator.undeliverable`).

use std::io::BufRead;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Place;
use super::args::{Output, TestNotification, spelling};
use super::output::{Column, Show, print_one, print_rows};
use super::session::{Session, field, only};
use crate::failure::{Exit, Failure};
use crate::import::Item;

const POLL_EVERY: Duration = Duration::from_millis(500);

const TEST: [Column; 4] = [
    Column::hidden("id"),
    Column::hidden("state"),
    Column::hidden("provider_message_id"),
    Column::hidden("last_error"),
];

const UNDELIVERABLE: [Column; 12] = [
    Column::hidden("id"),
    Column::hidden("secret_id"),
    Column::new("secret_name", "secret", Show::Text),
    Column::new("kind", "kind", Show::Text),
    Column::hidden("rule"),
    Column::new("addressee", "meant for", Show::Text),
    Column::new("channel", "channel", Show::Text),
    Column::hidden("due_at"),
    Column::hidden("queued_at"),
    Column::new("undeliverable_at", "given up", Show::Time),
    Column::new("tried", "tried", Show::Number),
    Column::new("last_error", "", Show::Below),
];

const LOST: &str = "select to_jsonb(u) from rotator.undeliverable as u
    order by u.undeliverable_at desc, u.id";

const QUEUE: &str = "select rotator.test_notification(channel => $1, recipient => $2)::text";

const LOOK: &str = "select to_jsonb(n) from rotator.notifications as n where n.id = $1::uuid";

pub async fn test(place: &Place, args: TestNotification) -> Result<Exit, Failure> {
    let recipient = match args.recipient.as_str() {
        "-" => first_line()?,
        _ => args.recipient,
    };
    let channel = spelling(&args.channel);
    let mut session = Session::open_in_tenant(place).await?;
    let rows = session
        .call(QUEUE, &[channel.as_deref(), Some(&recipient)])
        .await?;
    let id: String = only(&rows, 0)?;
    let Some(seconds) = args.wait else {
        let row = Item::from_iter([
            ("id".to_owned(), Value::from(id.as_str())),
            ("state".to_owned(), Value::from("queued")),
        ]);
        print_one(args.output.format, &id, &TEST, &row)?;
        return Ok(Exit::Ok);
    };
    let row = outcome(&mut session, &id, Duration::from_secs(seconds)).await?;
    let id = text(&row, "provider_message_id").unwrap_or(&id).to_owned();
    print_one(args.output.format, &format!("sent: {id}"), &TEST, &row)?;
    Ok(Exit::Ok)
}

pub async fn undeliverable(place: &Place, output: Output) -> Result<Exit, Failure> {
    let mut session = Session::open_in_tenant(place).await?;
    let rows = session.items(LOST, &[]).await?;
    let empty = "everything that was sent reached somebody, or is still under way";
    print_rows(output.format, &UNDELIVERABLE, &rows, empty)?;
    Ok(Exit::Ok)
}

/// Waits until it is sent.
async fn outcome(session: &mut Session, id: &str, limit: Duration) -> Result<Item, Failure> {
    let begun = Instant::now();
    loop {
        let rows = session.call(LOOK, &[Some(id)]).await?;
        let row = match rows.first().map(|row| field(row, 0)).transpose()? {
            Some(Value::Object(row)) => row,
            _ => Item::new(),
        };
        let state = text(&row, "state").unwrap_or("gone");
        let error = text(&row, "last_error");
        match state {
            "sent" => return Ok(row),
            "queued" | "leased" | "retry" if begun.elapsed() < limit => {}
            "queued" | "leased" | "retry" => {
                let seconds = limit.as_secs();
                let message = match error {
                    Some(error) => {
                        format!("not delivered within {seconds} s, and tried again: {error}")
                    }
                    None => format!("not delivered within {seconds} s: it is {state}"),
                };
                return Err(Failure::new(Exit::Failed, message).hint(
                    "It stays in the queue. Is `rotator serve` running for this database? Its log and /readyz say more.",
                ));
            }
            _ => {
                let error = error.unwrap_or("no reason was recorded");
                return Err(
                    Failure::new(Exit::Failed, format!("not delivered, {state}: {error}"))
                        .hint("Correct it, and send another test."),
                );
            }
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

fn text<'a>(row: &'a Item, key: &str) -> Option<&'a str> {
    row.get(key).and_then(Value::as_str)
}

fn first_line() -> Result<String, Failure> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|error| {
            Failure::new(Exit::Failed, format!("can't read standard input: {error}"))
        })?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
