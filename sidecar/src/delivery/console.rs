//! The console channel: one readable block on standard output, for a demo and for trying a schedule out. With
//! `ROTATOR_CONSOLE_OUTBOX` each message is also appended to that file as one JSON object a line; the links in it
//! work, so the file is readable by its owner only.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use super::{Channel, Delivering, Delivery, Outcome};

/// Writes to the terminal and the outbox file, one message at a time.
pub struct Console {
    outbox: Option<Arc<Path>>,
    /// Keeps blocks and lines whole.
    turn: Arc<Mutex<()>>,
}

impl Console {
    /// Writes to standard output, and to that file as well.
    pub fn new(outbox: Option<PathBuf>) -> Self {
        Self {
            outbox: outbox.map(Into::into),
            turn: Arc::new(Mutex::new(())),
        }
    }
}

impl Channel for Console {
    fn deliver<'a>(&'a self, delivery: Delivery<'a>) -> Delivering<'a> {
        let block = block(&delivery);
        let line = line(&delivery);
        let id = format!("console:{}", delivery.notification_id);
        let (outbox, turn) = (self.outbox.clone(), self.turn.clone());
        Box::pin(async move {
            // A terminal or a disk may block.
            let written = tokio::task::spawn_blocking(move || {
                let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(outbox) = outbox {
                    append(&outbox, &line).map_err(|error| {
                        format!("can't append to ROTATOR_CONSOLE_OUTBOX: {}", error.kind())
                    })?;
                }
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(block.as_bytes())
                    .and_then(|()| stdout.flush())
                    .map_err(|error| format!("can't write to standard output: {}", error.kind()))
            })
            .await;
            match written {
                Ok(Ok(())) => Outcome::Delivered { id },
                Ok(Err(error)) => {
                    tracing::error!("{error}");
                    Outcome::transient(error)
                }
                Err(_) => Outcome::transient("writing to the console failed"),
            }
        })
    }
}

fn append(path: &Path, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(line.as_bytes())
}

/// For people.
pub(super) fn block(delivery: &Delivery<'_>) -> String {
    let message = delivery.message;
    let mut text = format!(
        "\n{} {}\n  {}\n  {}\n  {}\n  {}\n",
        if message.urgent { "!!" } else { "--" },
        message.subject,
        message.what,
        message.when,
        message.todo,
        message.who
    );
    if let Some(why) = &message.why {
        text.push_str(&format!("  {why}\n"));
    }
    if let Some(link) = &message.link {
        text.push_str(&format!("  {link}\n"));
    }
    for item in &message.items {
        let mark = if item.overdue { "!!" } else { "--" };
        text.push_str(&format!("  {mark} {}: {}\n", item.what, item.when));
        if let Some(link) = &item.link {
            text.push_str(&format!("     {link}\n"));
        }
    }
    if let Some(rest) = &message.rest {
        text.push_str(&format!("  {rest}\n"));
    }
    text
}

/// For programs.
pub(super) fn line(delivery: &Delivery<'_>) -> String {
    let message = delivery.message;
    let items: Vec<_> = message
        .items
        .iter()
        .map(|item| json!({"what": item.what, "when": item.when, "link": item.link}))
        .collect();
    let mut line = json!({
        "notification_id": delivery.notification_id,
        "attempt": delivery.attempt,
        "channel": "console",
        "kind": message.kind.name(),
        "recipient": delivery.recipient,
        "subject": message.subject,
        "what": message.what,
        "when": message.when,
        "todo": message.todo,
        "who": message.who,
        "why": message.why,
        "link": message.link,
        "items": items,
        "rest": message.rest,
    })
    .to_string();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::RawMessage;
    use crate::delivery::message::tests::{facts, key_rotation_facts, render, summary_facts};
    use uuid::Uuid;

    #[tokio::test]
    async fn each_message_is_one_json_line_with_its_link() {
        let path =
            std::env::temp_dir().join(format!("rotator-outbox-{}.jsonl", std::process::id()));
        let console = Console::new(Some(path.clone()));
        let message = render(&facts("a \"quoted\" key", 3));
        for attempt in 1..=2 {
            let delivery = Delivery {
                notification_id: Uuid::nil(),
                recipient: "desk",
                message: &message,
                facts: &RawMessage::default(),
                attempt,
            };
            let id = format!("console:{}", Uuid::nil());
            assert_eq!(console.deliver(delivery).await, Outcome::Delivered { id });
        }
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["link"], "https://x.test/a/t?b=1&c");
        assert_eq!(lines[1]["attempt"], 2);
    }

    #[test]
    fn a_key_rotation_is_a_block_of_five_lines() {
        let message = render(&key_rotation_facts("failed"));
        let block = block(&Delivery {
            notification_id: Uuid::nil(),
            recipient: "desk",
            message: &message,
            facts: &RawMessage::default(),
            attempt: 1,
        });
        assert!(block.starts_with("\n!! Key rotation of Acme failed: 3 of 10,000 rows"));
        assert!(block.contains("\n  Mend these rows, then select"));
        assert_eq!(block.lines().count(), 6);
    }

    #[test]
    fn a_summary_is_a_block_with_a_link_for_each() {
        let message = render(&summary_facts(22, 1));
        let delivery = Delivery {
            notification_id: Uuid::nil(),
            recipient: "desk",
            message: &message,
            facts: &RawMessage::default(),
            attempt: 1,
        };
        let block = block(&delivery);
        assert!(block.starts_with("\n!! 22 imported credentials need attention"));
        assert!(block.contains("\n  !! key-0 (stripe, production): expired 400 days ago"));
        assert!(block.contains("\n  -- key-1 (stripe, production): expires tomorrow"));
        assert_eq!(block.matches("\n     https://x.test/a/token-").count(), 20);
        assert!(block.contains("\n  2 more are not listed here"));
        let line: serde_json::Value = serde_json::from_str(&line(&delivery)).unwrap();
        assert_eq!(line["kind"], "summary");
        assert_eq!(line["items"][19]["link"], "https://x.test/a/token-19");
    }
}
