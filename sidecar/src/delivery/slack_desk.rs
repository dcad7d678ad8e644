//! What a pressed button is answered with: the message as it is now, in place of the old one, or a word that only the one
//! who pressed sees. Also who that is, by mail address, where Slack tells. Who may press, and what then happens: `sql/api`;
//! taking the call and checking its signature: `http/slack.rs`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::message::{Message, MessageError, Pages};
use super::outcome::Outcome;
use super::slack_api::{Post, SlackApi, hook};
use super::slack_blocks::Body;
use super::slack_buttons::Choices;
use super::web::Answer;
use super::{slack_answer, slack_layout, slack_rows};
use crate::config::{ConfigError, Settings};

pub use super::slack_buttons::{Action, Deed, OPEN, Press};
pub use super::slack_rows::Original;

/// URLs that Slack gives to answer a press with.
const RESPONSES: &str = "/actions/";
/// <https://docs.slack.dev/reference/methods/chat.postMessage>: where Slack begins to cut.
const TEXT_LIMIT: usize = 4000;

/// Answers presses.
pub struct SlackDesk {
    api: SlackApi,
    pages: Pages,
}

/// Where the message is whose button was pressed, and how to answer.
#[derive(Debug, Default)]
pub struct Spot {
    pub channel: Option<String>,
    pub ts: Option<String>,
    /// The thread that the message replies in.
    pub thread: Option<String>,
    /// What it says.
    pub original: Option<Original>,
    /// As Slack gave it.
    pub response_url: Option<String>,
}

/// An answer that takes the place of the message.
#[derive(Serialize)]
struct Replacement<'a> {
    replace_original: bool,
    #[serde(flatten)]
    body: &'a Body,
}

#[derive(Deserialize)]
struct UserAnswer {
    ok: bool,
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    id: String,
    team_id: String,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    is_bot: bool,
    #[serde(default)]
    is_stranger: bool,
    #[serde(default)]
    is_restricted: bool,
    #[serde(default)]
    is_ultra_restricted: bool,
    #[serde(default)]
    is_email_confirmed: bool,
    #[serde(default)]
    profile: Profile,
}

#[derive(Default, Deserialize)]
struct Profile {
    #[serde(default)]
    email: Option<String>,
}

#[derive(Deserialize)]
struct Ourselves {
    ok: bool,
    team_id: String,
}

impl SlackDesk {
    /// # Errors
    /// As [`SlackApi::new`].
    pub fn new(settings: &Settings) -> Result<Self, ConfigError> {
        Ok(Self {
            api: SlackApi::new(settings)?,
            pages: Pages::below(settings.link("")),
        })
    }

    /// Puts what the message says now in place of what it said. `facts` are those of `press_button`.
    pub async fn change(&self, spot: &Spot, facts: &Value, token: &str) {
        let body = match self.body(spot, facts, token) {
            Ok(body) => body,
            Err(error) => {
                tracing::error!("a pressed button's message can't be put into words: {error}");
                return;
            }
        };
        if self.update(spot, &body).await {
            return;
        }
        // By an incoming webhook there is nothing that the bot may change, but the press has an answer of its own.
        let answer = Replacement {
            replace_original: true,
            body: &body,
        };
        if let Err(problem) = self.respond(spot, &answer).await {
            tracing::warn!("a message in Slack could not be changed after a press: {problem}");
        }
    }

    fn body(&self, spot: &Spot, facts: &Value, token: &str) -> Result<Body, MessageError> {
        if facts["kind"] == "summary" {
            let original = spot.original.as_ref().ok_or(MessageError::Shape)?;
            return slack_rows::changed(original, facts, &self.pages);
        }
        let ends = facts["kind"] == "resolve";
        let link = (!ends).then(|| self.pages.of(token));
        let message = Message::render(facts, link, &self.pages)?;
        let choices = Choices::deserialize(facts).ok();
        Ok(slack_layout::body(&message, choices.as_ref()))
    }

    /// Tells only the one who pressed.
    pub async fn whisper(&self, spot: &Spot, text: &str) {
        let mut answer = json!({
            "response_type": "ephemeral", "replace_original": false,
            "text": slack_layout::plain(text, TEXT_LIMIT),
        });
        if let Some(thread) = &spot.thread {
            answer["thread_ts"] = json!(thread);
        }
        if let Err(problem) = self.respond(spot, &answer).await {
            tracing::warn!("who pressed a button in Slack could not be answered: {problem}");
        }
    }

    /// The address of a full member of our own workspace, as confirmed to Slack; none where Slack doesn't tell (it takes
    /// the scopes users:read and users:read.email), for guests, strangers of shared channels, and programs.
    pub async fn address(&self, team: &str, user: &str) -> Option<String> {
        let answer = self.api.ask("users.info", &[("user", user)]).await?.ok()?;
        let found: UserAnswer = serde_json::from_slice(&answer.body).ok()?;
        let found = found.user.filter(|_| found.ok)?;
        let is_full = found.id == user
            && found.team_id == team
            && found.is_email_confirmed
            && !(found.deleted
                || found.is_bot
                || found.is_stranger
                || found.is_restricted
                || found.is_ultra_restricted);
        let address = found.profile.email.filter(|_| is_full)?;
        // Whoever runs another workspace says there whose address is whose.
        let answer = self.api.ask("auth.test", &[]).await?.ok()?;
        let ours: Ourselves = serde_json::from_slice(&answer.body).ok()?;
        (ours.ok && ours.team_id == team).then_some(address)
    }

    async fn update(&self, spot: &Spot, body: &Body) -> bool {
        let (Some(channel), Some(ts)) = (&spot.channel, &spot.ts) else {
            return false;
        };
        let post = Post {
            ts: Some(ts),
            ..Post::to(channel, body)
        };
        let answer = self.api.call("chat.update", &post).await;
        answer.is_some_and(|answer| answer.is_ok_and(|answer| is_done(&answer)))
    }

    async fn respond(&self, spot: &Spot, body: &impl Serialize) -> Result<(), &'static str> {
        let url = spot.response_url.as_deref().unwrap_or_default();
        let url = hook(url, RESPONSES).ok_or("Slack gave no address of its own for an answer")?;
        match self.api.post_to_hook(url, body).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(_) => Err("Slack refused the answer"),
            Err(_) => Err("Slack did not take the answer"),
        }
    }
}

fn is_done(answer: &Answer) -> bool {
    matches!(slack_answer::judge_api(answer), Outcome::Delivered { .. })
}
