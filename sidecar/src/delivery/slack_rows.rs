//! The rows of a message about many in Slack: a section for each secret and its buttons below it, at most 42 of the 50
//! blocks that Slack takes. Once somebody pressed one, his row says what became of it, and the rest stays as it was: the
//! callback brings the whole message with it. Everything around the rows: `slack_layout.rs`.
//!
//! Texts are short: Slack refuses messages whose blocks together have more than some 12,000 characters
//! (`msg_blocks_too_long`, <https://github.com/slackapi/bolt-js/issues/2509>); `slack.rs` then leaves the buttons out.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::message::{Item, Message, MessageError, Pages, Turn};
use super::slack_blocks::{Block, Body};
use super::slack_buttons::{self, Choices};
use super::slack_layout::{
    BUTTON_TEXT_LIMIT, OPEN_LABEL, button, escape, fit, fitting, section_text, unbracketed,
};

/// What the block of a row is called; the turn and the id of its notification follow.
const ROW: &str = "row";

/// Of the first line of a row.
const WHAT_LIMIT: usize = 120;

/// A message whose button was pressed, as Slack has it.
#[derive(Debug, Default, Deserialize)]
pub struct Original {
    #[serde(default)]
    text: String,
    #[serde(default)]
    blocks: Vec<Value>,
}

/// One secret of a list: what and when, and below it its buttons; where presses aren't heard, one that opens its page.
/// The choices are those of the item.
pub fn row(item: &Item, choices: Option<&Choices>) -> Vec<Block> {
    let (turn, mark) = match (item.turn, item.overdue) {
        (Turn::Open, true) => (0, ":red_circle: "),
        (Turn::Open, false) => (0, ""),
        (Turn::Snoozed, _) => (1, ":zzz: "),
        (Turn::Acknowledged, _) => (2, ":eyes: "),
        (Turn::Ended, _) => (3, ":white_check_mark: "),
    };
    let what = escape(&fit(&item.what, WHAT_LIMIT));
    let text = section_text(&format!("{mark}*{what}*\n{}", escape(&item.when)));
    let block_id = item.id.as_ref().map(|id| format!("{ROW}.{turn}.{id}"));
    let section = |accessory| Block::Section {
        block_id,
        text,
        accessory,
    };
    let link = fitting(item.link.as_deref()).filter(|_| item.turn != Turn::Ended);
    let Some(link) = link else {
        return vec![section(None)];
    };
    // Read aloud, twenty times "Open" says nothing.
    let spoken = unbracketed(&format!("{OPEN_LABEL} {}", item.what), BUTTON_TEXT_LIMIT);
    let open = button(OPEN_LABEL, link, None, Some(spoken));
    let mut elements = choices.map_or_else(Vec::new, |choices| {
        slack_buttons::row_elements(item, choices)
    });
    if elements.is_empty() {
        return vec![section(Some(Box::new(open)))];
    }
    elements.push(open);
    let block_id = slack_buttons::row_block_id(item);
    vec![section(None), Block::Actions { block_id, elements }]
}

/// The message that somebody acted in, as it is to be now. `facts` are those of `press_button`, of every row.
///
/// # Errors
/// Facts that are not of the agreed form.
pub fn changed(old: &Original, facts: &Value, pages: &Pages) -> Result<Body, MessageError> {
    let tokens = old.tokens();
    let mut facts = facts.clone();
    for item in facts["items"].as_array_mut().into_iter().flatten() {
        let token = item["notification_id"]
            .as_str()
            .and_then(|id| tokens.get(id));
        item["link_token"] = json!(token);
    }
    let items = Message::turns(&facts, pages)?;
    let choices = Choices::deserialize(&facts).map_err(|_| MessageError::Shape)?;
    let now: HashMap<&str, (usize, &Item)> = items
        .iter()
        .enumerate()
        .filter_map(|(place, item)| Some((item.id.as_deref()?, (place, item))))
        .collect();
    let mut blocks = Vec::with_capacity(old.blocks.len());
    let mut is_said_anew = false;
    for block in &old.blocks {
        if let Some((place, item)) = row_of(block).and_then(|id| now.get(id)) {
            blocks.extend(row(item, choices.items.get(*place)));
            is_said_anew = true;
        } else if !(is_said_anew && token_of(block).is_some()) {
            blocks.push(Block::Kept(block.clone()));
            is_said_anew = false;
        }
    }
    Ok(Body::new(old.text.clone(), blocks))
}

impl Original {
    /// By the id of each row's notification, the token of its buttons.
    fn tokens(&self) -> HashMap<&str, &str> {
        let mut tokens = HashMap::new();
        let mut row = None;
        for block in &self.blocks {
            if let (Some(id), Some(token)) = (row, token_of(block)) {
                tokens.insert(id, token);
            }
            row = row_of(block);
        }
        tokens
    }
}

fn row_of(block: &Value) -> Option<&str> {
    let (_turn, id) = block["block_id"]
        .as_str()?
        .strip_prefix(ROW)?
        .strip_prefix('.')?
        .split_once('.')?;
    Some(id)
}

fn token_of(block: &Value) -> Option<&str> {
    slack_buttons::token_in(block["block_id"].as_str()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::message::tests;
    use crate::delivery::slack_layout;

    fn pages() -> Pages {
        Pages::below("https://x.test/a/".to_owned())
    }

    fn body(message: &Message, facts: Option<&Value>) -> Value {
        let choices = facts.map(|facts| Choices::deserialize(facts).unwrap());
        json!(slack_layout::body(message, choices.as_ref()))
    }

    fn of_type(body: &Value, kind: &str) -> Vec<Value> {
        let blocks = body["blocks"].as_array().unwrap();
        blocks
            .iter()
            .filter(|block| block["type"] == kind)
            .cloned()
            .collect()
    }

    fn ids(block: &Value) -> Vec<&str> {
        let elements = block["elements"].as_array().unwrap();
        elements
            .iter()
            .map(|element| element["action_id"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn without_callbacks_each_row_opens_its_page() {
        let mut facts = tests::summary_facts(5000, 4000);
        for i in 0..20 {
            facts["items"][i]["secret"]["name"] = json!("<&".repeat(128));
            facts["items"][i]["secret"]["owner_id"] = json!("&".repeat(255));
        }
        let body = body(&tests::render(&facts), None);
        let blocks = body["blocks"].as_array().unwrap();
        assert_eq!(blocks.len(), 22);
        for (i, block) in blocks[1..21].iter().enumerate() {
            assert!(
                block["text"]["text"]
                    .as_str()
                    .unwrap()
                    .starts_with(":red_circle: *&lt;&amp;&lt;")
            );
            assert_eq!(
                block["accessory"]["url"],
                format!("https://x.test/a/token-{i}")
            );
            let label = block["accessory"]["accessibility_label"].as_str().unwrap();
            assert!(label.starts_with("Open ‹&") && label.chars().count() <= BUTTON_TEXT_LIMIT);
        }
        let context = blocks[21]["elements"][0]["text"].as_str().unwrap();
        assert!(
            context.starts_with("4980 more are not listed here"),
            "{context}"
        );
    }

    #[test]
    fn twenty_rows_with_their_own_buttons_fit_into_one_message() {
        let mut facts = tests::digest_facts(20, 3, 20);
        for i in 0..20 {
            facts["items"][i]["secret"]["name"] = json!("\u{1f511}".repeat(256));
            facts["items"][i]["secret"]["owner_id"] = json!(format!("{i}{}", "w".repeat(250)));
        }
        facts["items"][4]["has_interval"] = json!(false);
        let body = body(&tests::render(&facts), Some(&facts));
        assert!(body["blocks"].as_array().unwrap().len() <= 50);
        let actions = of_type(&body, "actions");
        assert_eq!(actions.len(), 20);
        assert_eq!(
            ids(&actions[0]),
            ["acknowledge", "rotated", "open_link"],
            "late is late"
        );
        assert_eq!(
            ids(&actions[4]),
            ["acknowledge", "rotated_until", "snooze", "open_link"]
        );
        assert_eq!(actions[7]["block_id"], "rotator.0.token-7");
        assert_eq!(actions[7]["elements"][0]["value"], "token-7");
        // All texts together, as Slack counts them.
        fn characters(value: &Value) -> usize {
            match value {
                Value::Object(fields) => fields
                    .iter()
                    .map(|(name, field)| match field.as_str() {
                        Some(text) if name == "text" => text.encode_utf16().count(),
                        _ => characters(field),
                    })
                    .sum(),
                Value::Array(values) => values.iter().map(characters).sum(),
                _ => 0,
            }
        }
        let all = characters(&body["blocks"]);
        assert!(all < 11_000, "{all}");
    }

    #[test]
    fn a_row_says_what_became_of_it_and_the_others_stay() {
        let facts = tests::digest_facts(5, 1, 0);
        let before = body(&tests::render(&facts), Some(&facts));
        let old = Original::deserialize(&before).unwrap();
        let mut after =
            json!({"kind": "summary", "notification_id": "0190", "items": facts["items"]});
        for item in after["items"].as_array_mut().unwrap() {
            item["link_token"] = json!(null);
        }
        after["items"][0]["ended"] = json!({"how": "rotated", "by": "dana"});
        after["items"][1]["acknowledged"] = json!({"by": "<!here>"});
        after["items"][2]["snoozed"] = json!({"until": "Tue 1 Dec 2026, 09:00 (UTC)", "by": "sam"});
        // Of the last one the database says nothing any more.
        after["items"].as_array_mut().unwrap().pop();
        let now = json!(changed(&old, &after, &pages()).unwrap());
        let rows = of_type(&now, "section");
        let text = |row: usize| rows[row]["text"]["text"].as_str().unwrap();
        assert!(
            text(1).starts_with(
                ":white_check_mark: *key-0 (stripe, production)*\nwas rotated by dana · "
            ),
            "{}",
            text(1)
        );
        assert!(
            text(2).contains("\nacknowledged by &lt;!here&gt; · "),
            "{}",
            text(2)
        );
        assert!(
            text(3).contains("\nsnoozed until Tue 1 Dec 2026, 09:00 (UTC) by sam · "),
            "{}",
            text(3)
        );
        assert!(
            text(4).starts_with("*key-3 (stripe, production)*\nexpires in 3 days"),
            "{}",
            text(4)
        );
        assert_eq!(rows[5], of_type(&before, "section")[5]);
        assert_eq!(now["blocks"][0], before["blocks"][0]);
        assert_eq!(now["text"], before["text"]);
        let actions = of_type(&now, "actions");
        let tokens: Vec<&str> = actions.iter().filter_map(token_of).collect();
        assert_eq!(tokens, ["token-1", "token-2", "token-3", "token-4"]);
        assert_eq!(ids(&actions[0]), ["rotated", "open_link"]);
        assert_eq!(
            ids(&actions[1]),
            ["acknowledge", "rotated", "snooze", "open_link"]
        );

        // And from there on.
        let old = Original::deserialize(&now).unwrap();
        after["items"][1]["ended"] = json!({"how": "rotated", "by": "sam"});
        let now = json!(changed(&old, &after, &pages()).unwrap());
        assert_eq!(of_type(&now, "actions").len(), 3);
        assert!(
            of_type(&now, "section")[1]["text"]["text"]
                .as_str()
                .unwrap()
                .contains("by dana")
        );
    }
}
