//! Mail servers that misbehave at each stage of the dialogue: what becomes of the mail, and of the one after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::*;
use crate::config::Secret;
use crate::delivery::message::tests::{facts, render};

/// What the server does at a stage instead of what it should.
#[derive(Clone, Copy, Debug)]
enum Does {
    Says(&'static str),
    Cuts,
    Nothing,
    /// This, again and again, without a pause.
    Floods(&'static str),
    /// A letter of it at a time.
    Drips(&'static str),
    /// The right thing, but so late.
    Late(Duration),
}

/// The stages: `greeting`, the commands by name, and `.` for the end of the mail.
#[derive(Clone)]
struct Server {
    stage: &'static str,
    does: Does,
    connections: Arc<AtomicUsize>,
    mails: Arc<AtomicUsize>,
}

impl Server {
    async fn start(stage: &'static str, does: Does, limit: Duration) -> (Self, Smtp) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}?tls=none", listener.local_addr().unwrap());
        let server = Self {
            stage,
            does,
            connections: Arc::default(),
            mails: Arc::default(),
        };
        let running = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                running.connections.fetch_add(1, Ordering::Relaxed);
                let running = running.clone();
                // It ends with the client, or where it is to break off.
                tokio::spawn(async move { running.talk(BufReader::new(stream)).await });
            }
        });
        let smtp = Smtp {
            server: Connections::new(&Secret::new(url)).unwrap(),
            from: mail::sender("rotator <rotator@example.com>").unwrap(),
            limit,
        };
        (server, smtp)
    }

    async fn talk(self, mut stream: BufReader<TcpStream>) -> Option<()> {
        self.reply(&mut stream, "greeting", "220 mail.test").await?;
        let mut line = String::new();
        loop {
            line.clear();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let command = line.split([' ', '\r']).next()?.to_owned();
            let right = match command.as_str() {
                "EHLO" => "250-mail.test\r\n250 8BITMIME",
                "DATA" => "354 go on",
                "MAIL" | "RCPT" | "RSET" | "QUIT" => "250 2.0.0 OK",
                _ => "500 5.5.1 no such command",
            };
            if self.reply(&mut stream, &command, right).await? && command == "DATA" {
                while line != ".\r\n" {
                    line.clear();
                    if stream.read_line(&mut line).await.ok()? == 0 {
                        return None;
                    }
                }
                self.mails.fetch_add(1, Ordering::Relaxed);
                self.reply(&mut stream, ".", "250 2.0.0 queued").await?;
            }
        }
    }

    /// Whether it was the right one; none when the connection ends here.
    async fn reply(
        &self,
        stream: &mut BufReader<TcpStream>,
        stage: &str,
        right: &str,
    ) -> Option<bool> {
        let stream = stream.get_mut();
        if stage != self.stage {
            stream
                .write_all(format!("{right}\r\n").as_bytes())
                .await
                .ok()?;
            return Some(true);
        }
        match self.does {
            Does::Says(text) => {
                stream
                    .write_all(format!("{text}\r\n").as_bytes())
                    .await
                    .ok()?;
                Some(false)
            }
            Does::Cuts => None,
            Does::Nothing => std::future::pending().await,
            Does::Floods(text) => loop {
                stream.write_all(text.repeat(1000).as_bytes()).await.ok()?;
            },
            Does::Drips(text) => {
                for letter in text.bytes() {
                    stream.write_all(&[letter]).await.ok()?;
                    sleep(Duration::from_millis(100)).await;
                }
                None
            }
            Does::Late(pause) => {
                sleep(pause).await;
                stream
                    .write_all(format!("{right}\r\n").as_bytes())
                    .await
                    .ok()?;
                Some(true)
            }
        }
    }
}

async fn send(smtp: &Smtp) -> Outcome {
    let facts = facts("stripe-prod", 3);
    let message = render(&facts);
    let delivery = Delivery {
        notification_id: Uuid::nil(),
        recipient: "alice@example.com",
        message: &message,
        facts: &(&facts).into(),
        attempt: 1,
    };
    smtp.deliver(delivery).await
}

fn error(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Delivered { .. } => "",
        Outcome::Retry { error, .. } | Outcome::Permanent { error, .. } => error,
    }
}

/// Long enough for a busy machine.
const LIMIT: Duration = Duration::from_secs(4);
const STAGES: [&str; 6] = ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."];

#[tokio::test]
async fn whatever_a_server_does_at_whichever_stage_has_its_outcome() {
    use Does::{Cuts, Drips, Floods, Nothing, Says};
    let slow = "no answer from the mail server within 20 s";
    let everywhere = [
        (Says("421 4.3.2 closing"), "transient", "SMTP 421 4.3.2"),
        (
            Says("450 <alice@example.com> greylisted"),
            "transient",
            "SMTP 450",
        ),
        (
            Says("452-4.2.2 mailbox\r\n452 4.2.2 full"),
            "transient",
            "SMTP 452 4.2.2",
        ),
        (
            Says("550 5.7.1 <alice@example.com> no"),
            "permanent",
            "SMTP 550 5.7.1",
        ),
        (Says("554 no"), "permanent", "SMTP 554"),
        (
            Says("550 5.1.1 alice unknown"),
            "recipient_gone",
            "SMTP 550 5.1.1",
        ),
        (Says("HTTP/1.1 400 Bad Request"), "transient", NOT_SMTP),
        (Says("25O OK"), "transient", NOT_SMTP),
        (Says("\0\u{1}\u{fffd}"), "transient", NOT_SMTP),
        (Says(""), "transient", NOT_SMTP),
        (Says("-250 OK"), "transient", NOT_SMTP),
        (Says("99999999999999999999 OK"), "transient", NOT_SMTP),
        (Floods("x"), "transient", NOT_SMTP),
        (Floods("250-x\r\n"), "transient", NOT_SMTP),
        (Cuts, "transient", "the connection to the mail server broke"),
        (Nothing, "timeout", slow),
        (
            Drips("250 well, well, well, well, well, well, well, well, well"),
            "timeout",
            slow,
        ),
    ];
    let mut cases = Vec::new();
    for stage in STAGES {
        cases.extend(everywhere.map(|(does, label, said)| (stage, does, label, said)));
    }
    // More than it was asked for, or something else: who believed it would have the next reply for another command's.
    cases.extend(["EHLO", "MAIL", "RCPT", "DATA"].map(|stage| {
        let right = if stage == "DATA" {
            "354 go on\r\n250 OK"
        } else {
            "250 OK\r\n250 OK"
        };
        (stage, Says(right), "transient", NOT_SMTP)
    }));
    cases.extend(
        ["MAIL", "RCPT", "."].map(|stage| (stage, Says("354 go on"), "transient", NOT_SMTP)),
    );
    cases.push(("DATA", Says("250 OK"), "transient", NOT_SMTP));
    cases.push(("none", Cuts, "delivered", ""));

    join_all(
        cases
            .into_iter()
            .map(|(stage, does, label, said)| async move {
                let (server, smtp) = Server::start(stage, does, LIMIT).await;
                let outcome = send(&smtp).await;
                let label = match (label, stage) {
                    // Nobody knows of alice yet.
                    ("recipient_gone", "greeting" | "EHLO" | "MAIL" | "DATA") => "permanent",
                    (label, _) => label,
                };
                assert_eq!(outcome.label(), label, "{stage} {does:?}: {outcome:?}");
                assert_eq!(error(&outcome), said, "{stage} {does:?}");
                let taken = server.mails.load(Ordering::Relaxed);
                assert_eq!(
                    taken,
                    usize::from(matches!(stage, "." | "none")),
                    "{stage} {does:?}"
                );
            }),
    )
    .await;
}

#[tokio::test]
async fn a_connection_is_used_again_also_after_a_refusal_and_never_after_anything_else() {
    let (server, smtp) = Server::start("none", Does::Cuts, LIMIT).await;
    for _ in 0..3 {
        assert_eq!(send(&smtp).await.label(), "delivered");
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    for (stage, does, connections) in [
        ("RCPT", Does::Says("550 5.1.1 unknown"), 1),
        (".", Does::Says("452 4.2.2 full"), 1),
        (".", Does::Cuts, 3),
        ("RSET", Does::Cuts, 3),
        ("RSET", Does::Says("250 OK\r\n250 OK"), 2),
        ("RSET", Does::Says("421 you were idle"), 3),
    ] {
        let (server, smtp) = Server::start(stage, does, LIMIT).await;
        for _ in 0..3 {
            send(&smtp).await;
        }
        let opened = server.connections.load(Ordering::Relaxed);
        assert_eq!(opened, connections, "{stage} {does:?}");
    }
}

/// Its reply must not be taken for one to the next mail, which may be refused.
#[tokio::test]
async fn a_server_that_answers_when_nobody_waits_any_more_is_not_heard() {
    let (limit, late) = (Duration::from_millis(300), Duration::from_millis(450));
    join_all(STAGES.map(|stage| async move {
        let (server, smtp) = Server::start(stage, Does::Late(late), limit).await;
        for attempt in 1..=3 {
            assert_eq!(send(&smtp).await.label(), "timeout", "{stage}");
            sleep(late).await;
            let opened = server.connections.load(Ordering::Relaxed);
            assert_eq!(opened, attempt, "{stage}");
        }
    }))
    .await;
}

#[tokio::test]
async fn eight_connections_at_most_and_the_others_take_turns() {
    let (server, smtp) = Server::start(".", Does::Late(Duration::from_millis(50)), LIMIT).await;
    let outcomes = timeout(
        Duration::from_secs(10),
        join_all((0..24).map(|_| send(&smtp))),
    )
    .await;
    assert!(
        outcomes
            .unwrap()
            .iter()
            .all(|outcome| outcome.label() == "delivered")
    );
    assert_eq!(server.connections.load(Ordering::Relaxed), 8);
}
