//! A real SMTP server on loopback: Python's aiosmtpd with the handler in `data/smtp_server.py`, which puts every mail
//! into a Maildir and, parsed, beside it as JSON. It can be told to answer 4xx or 5xx by recipient, at any time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command as StdCommand, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::patience::eventually;
use crate::scratch::Scratch;

/// When a recipient is refused.
#[derive(Clone, Copy, Debug)]
pub enum Stage {
    /// At `RCPT TO`.
    Recipient,
    /// After the mail was sent.
    Data,
}

/// One mail as it came in.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Of the envelope, not of the headers.
    pub from: String,
    pub recipients: Vec<String>,
    /// Names in lower case; decoded.
    pub headers: BTreeMap<String, String>,
    /// The text/plain part, decoded.
    pub text: String,
    /// The text/html part, decoded; empty if there is none.
    pub html: String,
    pub raw: String,
}

pub struct Server {
    port: u16,
    folder: Scratch,
    refusals: std::sync::Mutex<Map<String, Value>>,
    _process: Child,
}

impl Server {
    pub async fn start() -> Result<Self> {
        let folder = Scratch::new("smtp")?;
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/smtp_server.py");
        let mut process = Command::new(python()?)
            .arg(script)
            .arg(folder.path())
            .stdin(Stdio::piped()) // it ends when this closes, so it never outlives the test
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting the SMTP server")?;
        let stdout = process.stdout.take().context("standard output is a pipe")?;
        let mut line = String::new();
        let mut lines = BufReader::new(stdout);
        let started = lines.read_line(&mut line);
        tokio::time::timeout(Duration::from_secs(20), started)
            .await
            .context("the SMTP server did not start")??;
        let port = line
            .trim()
            .parse()
            .with_context(|| format!("the SMTP server said {line:?}, not its port"))?;
        Ok(Self {
            port,
            folder,
            refusals: std::sync::Mutex::default(),
            _process: process,
        })
    }

    /// For `ROTATOR_SMTP_URL`.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    /// From now on this recipient gets this reply, such as `550 5.1.1 user unknown`; `None` lets it through again.
    pub fn refuse(&self, recipient: &str, stage: Stage, reply: Option<&str>) -> Result<()> {
        let stage = match stage {
            Stage::Recipient => "rcpt",
            Stage::Data => "data",
        };
        let key = format!("{stage} {recipient}");
        let mut refusals = self
            .refusals
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match reply {
            Some(reply) => refusals.insert(key, Value::from(reply)),
            None => refusals.remove(&key),
        };
        // In one step: the server reads it at each command.
        let next = self.folder.join("refusals.next");
        std::fs::write(&next, serde_json::to_vec(&*refusals)?)?;
        std::fs::rename(next, self.folder.join("refusals.json"))?;
        Ok(())
    }

    /// The mails so far, in the order they came.
    pub fn mails(&self) -> Result<Vec<Mail>> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(self.folder.join("parsed"))?
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?;
        files.retain(|file| {
            file.extension()
                .is_some_and(|extension| extension == "json")
        });
        files.sort();
        files
            .iter()
            .map(|file| parse(&std::fs::read(file)?))
            .collect()
    }

    /// Waits until at least `count` mails came in, and gives all of them.
    pub async fn received(&self, count: usize, limit: Duration) -> Result<Vec<Mail>> {
        eventually(limit, &format!("{count} mails"), async || {
            let mails = self.mails()?;
            Ok((mails.len() >= count).then_some(mails))
        })
        .await
    }
}

/// The interpreter that has aiosmtpd: the system's first, since Debian's package is for that one.
fn python() -> Result<&'static str> {
    let has_it = |python: &str| {
        let asked = StdCommand::new(python)
            .args(["-c", "import aiosmtpd"])
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    };
    match ["/usr/bin/python3", "python3"]
        .into_iter()
        .find(|python| has_it(python))
    {
        Some(python) => Ok(python),
        None => bail!("no python3 with aiosmtpd: scripts/setup.sh installs it"),
    }
}

fn parse(bytes: &[u8]) -> Result<Mail> {
    let mail: Value = serde_json::from_slice(bytes)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let headers = mail["headers"]
        .as_object()
        .context("a mail without headers")?;
    Ok(Mail {
        from: text(&mail["from"]),
        recipients: mail["recipients"]
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect(),
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_lowercase(), text(value)))
            .collect(),
        text: text(&mail["text"]),
        html: text(&mail["html"]),
        raw: text(&mail["raw"]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;

    /// Sends one mail by hand and gives the server's replies.
    async fn send(server: &Server, recipient: &str) -> Result<Vec<String>> {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", server.port)).await?);
        let mut replies = Vec::new();
        let mail = "Subject: =?utf-8?q?f=C3=A4llig?=\r\nContent-Type: text/plain; charset=utf-8\r\n\
                    Content-Transfer-Encoding: quoted-printable\r\n\r\nsoon =E2=80=A6\r\n.";
        for line in [
            "",
            "HELO test",
            "MAIL FROM:<a@b.example>",
            &format!("RCPT TO:<{recipient}>"),
            "DATA",
            mail,
        ] {
            if !line.is_empty() {
                stream
                    .get_mut()
                    .write_all(format!("{line}\r\n").as_bytes())
                    .await?;
            }
            let mut reply = String::new();
            stream.read_line(&mut reply).await?;
            let refused = reply.starts_with(['4', '5']);
            replies.push(reply.trim().to_owned());
            if refused {
                break;
            }
        }
        Ok(replies)
    }

    #[tokio::test]
    async fn mails_are_kept_and_refusals_follow_the_recipient() -> Result<()> {
        let server = Server::start().await?;
        server.refuse(
            "gone@acme.example",
            Stage::Recipient,
            Some("550 5.1.1 user unknown"),
        )?;
        server.refuse(
            "full@acme.example",
            Stage::Data,
            Some("452 4.2.2 mailbox full"),
        )?;

        assert_eq!(
            send(&server, "gone@acme.example")
                .await?
                .last()
                .map(String::as_str),
            Some("550 5.1.1 user unknown")
        );
        assert_eq!(
            send(&server, "full@acme.example")
                .await?
                .last()
                .map(String::as_str),
            Some("452 4.2.2 mailbox full")
        );
        server.refuse("full@acme.example", Stage::Data, None)?;
        send(&server, "full@acme.example").await?;

        let mails = server.received(1, Duration::from_secs(5)).await?;
        assert_eq!(mails.len(), 1);
        assert_eq!(mails[0].headers["subject"], "fällig");
        assert_eq!(mails[0].text.trim(), "soon …");
        assert_eq!(mails[0].recipients, ["full@acme.example"]);
        Ok(())
    }
}
