//! Slack's side by Slack's own SDK: `slack_sdk` for Python, in the virtual environment that `scripts/setup.sh` makes, with
//! `data/slack_peer.py` to talk to. It signs callbacks as Slack does, and takes blocks apart by the rules of Block Kit.
//! Slack's API as a server: `slack.rs`.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;

use crate::kms::target;
use crate::sidecar::http;

pub struct Sdk {
    pipes: Mutex<(ChildStdin, Lines<BufReader<ChildStdout>>)>,
    _process: Child,
}

/// A callback as it is to be sent: the body's bytes, and what is said about them.
#[derive(Clone, Debug)]
pub struct Callback {
    pub body: String,
    pub timestamp: String,
    pub signature: String,
}

impl Sdk {
    pub async fn start() -> Result<Self> {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = target().join("slack_sdk/bin/python");
        let mut process = Command::new(&python)
            .arg(tests.join("data/slack_peer.py"))
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}: run scripts/setup.sh", python.display()))?;
        let stdin = process.stdin.take().context("standard input is a pipe")?;
        let stdout = process.stdout.take().context("standard output is a pipe")?;
        Ok(Self {
            pipes: Mutex::new((stdin, BufReader::new(stdout).lines())),
            _process: process,
        })
    }

    async fn ask(&self, request: &Value) -> Result<Value> {
        let mut pipes = self.pipes.lock().await;
        pipes.0.write_all(format!("{request}\n").as_bytes()).await?;
        let answer = tokio::time::timeout(Duration::from_secs(20), pipes.1.next_line());
        let line = answer
            .await
            .context("the SDK is silent")??
            .context("the SDK ended")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// A payload as Slack sends it: form-encoded, and signed with that secret, at this moment.
    pub async fn callback(&self, secret: &str, payload: &Value) -> Result<Callback> {
        self.callback_at(secret, payload, now()?).await
    }

    pub async fn callback_at(&self, secret: &str, payload: &Value, at: i64) -> Result<Callback> {
        let mut form = reqwest::Url::parse("https://slack.test")?;
        form.query_pairs_mut()
            .append_pair("payload", &payload.to_string());
        let form = form.query().context("a form")?.to_owned();
        self.signed(secret, form, at).await
    }

    /// Any body, signed.
    pub async fn signed(&self, secret: &str, body: String, at: i64) -> Result<Callback> {
        let timestamp = at.to_string();
        let request = json!({"sign": {"secret": secret, "timestamp": timestamp, "body": body}});
        let signature = self.ask(&request).await?["signature"]
            .as_str()
            .map(str::to_owned);
        Ok(Callback {
            body,
            timestamp,
            signature: signature.context("a signature")?,
        })
    }

    /// The blocks as the SDK understood them.
    ///
    /// # Errors
    /// What it says is wrong with them.
    pub async fn blocks(&self, blocks: &Value) -> Result<Value> {
        let mut answer = self.ask(&json!({"blocks": blocks})).await?;
        match answer["error"].as_str() {
            Some(error) => bail!("Slack's SDK: {error}: {blocks:#}"),
            None => Ok(answer["blocks"].take()),
        }
    }
}

impl Callback {
    /// Sends it, and gives the status.
    pub async fn send(&self, url: &str) -> Result<u16> {
        let answer = http()
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-slack-request-timestamp", &self.timestamp)
            .header("x-slack-signature", &self.signature)
            .body(self.body.clone())
            .send()
            .await?;
        Ok(answer.status().as_u16())
    }
}

/// Seconds since 1970, by this machine's clock.
pub fn now() -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(i64::try_from(now)?)
}

/// What Slack sends when this user presses that button of a message which it got in `chat.postMessage`.
pub fn press(message: &Value, ts: &str, action_id: &str, identity: &str) -> Result<Value> {
    press_below(message, ts, "", action_id, identity)
}

/// The same in a list: the button of the row that has this text.
pub fn press_below(
    message: &Value,
    ts: &str,
    row: &str,
    action_id: &str,
    identity: &str,
) -> Result<Value> {
    let (team, user) = identity.split_once('/').context("workspace and user")?;
    let found = message["blocks"]
        .as_array()
        .into_iter()
        .flatten()
        .skip_while(|block| {
            !block["text"]["text"]
                .as_str()
                .is_some_and(|text| text.contains(row))
        })
        .find_map(|block| {
            let elements = block["elements"].as_array()?;
            let element = elements
                .iter()
                .find(|element| element["action_id"] == action_id)?;
            Some((block["block_id"].clone(), element.clone()))
        });
    let (block_id, element) = found.with_context(|| format!("no {action_id} in {message:#}"))?;
    let mut action = json!({"type": element["type"], "action_id": action_id, "block_id": block_id, "action_ts": ts});
    match element["type"].as_str() {
        Some("static_select") => action["selected_option"] = element["options"][0].clone(),
        Some("datepicker") => action["selected_date"] = json!("2031-07-01"),
        _ => action["value"] = element["value"].clone(),
    }
    Ok(json!({
        "type": "block_actions",
        "user": {"id": user, "username": "somebody", "name": "somebody", "team_id": team},
        "api_app_id": "A0APP", "token": "legacy",
        "container": {"type": "message", "message_ts": ts, "channel_id": message["channel"], "is_ephemeral": false},
        "trigger_id": trigger(), "team": {"id": "T024BE7LD", "domain": "acme"}, "enterprise": null,
        "is_enterprise_install": false, "channel": {"id": message["channel"], "name": "deploys"},
        "message": {"type": "message", "ts": ts, "text": message["text"], "blocks": message["blocks"]},
        "state": {"values": {}},
        "response_url": "https://hooks.slack.com/actions/T024BE7LD/397700885554/96rGlfmibIGlgcZRskXaIFfN",
        "actions": [action],
    }))
}

/// Where the stand-in for Slack takes what answers such a press.
pub const RESPONSES: &str = "/actions/T024BE7LD/397700885554/96rGlfmibIGlgcZRskXaIFfN";

/// Each press has another: no two callbacks of Slack are the same.
fn trigger() -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("398738663015.{}", LAST.fetch_add(1, Ordering::Relaxed))
}
