//! The parts of Block Kit that messages are made of, as Slack names them: <https://docs.slack.dev/reference/block-kit>. What
//! stands in them, and how long it may be: `slack_layout.rs`, `slack_rows.rs`, `slack_buttons.rs`.

use serde::Serialize;
use serde_json::Value;

/// The body of `chat.postMessage` without its place; also of `chat.update`, and for an incoming webhook.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Body {
    /// What a phone shows before it is unlocked, and screen readers read.
    pub text: String,
    pub blocks: Vec<Block>,
    /// Nobody fetches the links.
    unfurl_links: bool,
    unfurl_media: bool,
}

impl Body {
    pub fn new(text: String, blocks: Vec<Block>) -> Self {
        Self {
            text,
            blocks,
            ..Self::default()
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    Section {
        #[serde(skip_serializing_if = "Option::is_none")]
        block_id: Option<String>,
        text: Text,
        #[serde(skip_serializing_if = "Option::is_none")]
        accessory: Option<Box<Element>>,
    },
    Context {
        elements: [Text; 1],
    },
    Actions {
        #[serde(skip_serializing_if = "Option::is_none")]
        block_id: Option<String>,
        elements: Vec<Element>,
    },
    /// Of a message that Slack brought back: as it was.
    #[serde(untagged)]
    Kept(Value),
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Text {
    Mrkdwn { text: String, verbatim: bool },
    PlainText { text: String, emoji: bool },
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Element {
    Button {
        action_id: &'static str,
        text: Text,
        #[serde(skip_serializing_if = "Option::is_none")]
        value: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        style: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        accessibility_label: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        confirm: Option<Box<Confirm>>,
    },
    Datepicker {
        action_id: &'static str,
        placeholder: Text,
        confirm: Box<Confirm>,
    },
    StaticSelect {
        action_id: &'static str,
        placeholder: Text,
        options: Vec<Choice>,
    },
}

/// What is asked before a press counts.
#[derive(Clone, Debug, Serialize)]
pub struct Confirm {
    pub title: Text,
    pub text: Text,
    pub confirm: Text,
    pub deny: Text,
}

#[derive(Clone, Debug, Serialize)]
pub struct Choice {
    pub text: Text,
    pub value: String,
}
