//! The buttons under a message in Slack, and what they say when they are pressed: the same token as in the message's link,
//! in each button's value. Only where callbacks arrive (`ROTATOR_SLACK_SIGNING_SECRET`); else the link is all there is.
//! How a message looks: `slack_layout.rs`. Who takes a press: `http/slack.rs`.

use super::message::{Item, Kind, Message, Turn, shorten};
use super::slack_blocks::{Choice, Confirm, Element};
use super::slack_layout::plain_text;
use serde::Deserialize;

/// <https://docs.slack.dev/reference/block-kit/block-elements/button-element>: text.
const TEXT_LIMIT: usize = 75;
/// <https://docs.slack.dev/reference/block-kit/composition-objects/confirmation-dialog-object>
const CONFIRM_TITLE_LIMIT: usize = 100;
const CONFIRM_TEXT_LIMIT: usize = 300;
/// What our blocks with buttons are called; the token follows, since a date picker has no value.
const BLOCK: &str = "rotator";

const ACKNOWLEDGE: &str = "acknowledge";
const ROTATED: &str = "rotated";
const ROTATED_UNTIL: &str = "rotated_until";
const SNOOZE: &str = "snooze";
/// The button that only opens a page; Slack tells us of it, too.
pub const OPEN: &str = "open_link";

/// How long to be left in peace, by what the option says; each is offered where it ends before the expiry date.
const SNOOZES: [(&str, &str, i64); 3] =
    [("1 day", "1d", 1), ("3 days", "3d", 3), ("1 week", "7d", 7)];

/// Longest name in the question of a row, which has no room for more.
const ROW_NAME_LIMIT: usize = 40;

/// What the buttons need of a message's facts, or of those of a row: what may be chosen.
#[derive(Default, Deserialize)]
pub struct Choices {
    #[serde(default)]
    expiry_date: Option<String>,
    /// Nothing may be chosen where it isn't said.
    #[serde(default)]
    days_until_expiry: Option<i64>,
    #[serde(default)]
    overdue: Option<bool>,
    #[serde(default)]
    has_interval: bool,
    /// Of each row, where there are rows.
    #[serde(default)]
    pub items: Vec<Self>,
}

/// What somebody wants who pressed one.
#[derive(Debug, PartialEq, Eq)]
pub struct Press {
    /// Never logged.
    pub token: String,
    pub deed: Deed,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Deed {
    Acknowledge,
    /// With the next expiry date (YYYY-MM-DD), where there is no interval.
    Rotated(Option<String>),
    /// An interval from now, like `3 days`.
    SnoozeFor(String),
    /// An instant (RFC 3339).
    SnoozeUntil(String),
}

impl Deed {
    /// As the database calls it.
    pub const fn action(&self) -> &'static str {
        match self {
            Self::Acknowledge => ACKNOWLEDGE,
            Self::Rotated(_) => ROTATED,
            Self::SnoozeFor(_) | Self::SnoozeUntil(_) => SNOOZE,
        }
    }
}

/// The buttons of a message, without the one that opens its page; none for what nobody acts on.
pub fn elements(message: &Message, choices: &Choices) -> Vec<Element> {
    let acts = matches!(
        message.kind,
        Kind::Reminder | Kind::Escalation | Kind::Acknowledge
    );
    let (Some(token), true, Some(days)) = (message.token(), acts, choices.days_until_expiry) else {
        return Vec::new();
    };
    let confirm = confirm(
        "Is it rotated?",
        &format!(
            "{}: the new credential is in use everywhere, and the old one is revoked.",
            message.what
        ),
    );
    if message.kind == Kind::Acknowledge {
        return vec![rotated(choices, confirm, token)];
    }
    let mut elements = vec![acknowledge(token), rotated(choices, confirm, token)];
    let mut options = snoozes(choices, days, token);
    options.extend(day_before(choices, days, token));
    elements.extend(select(options));
    elements
}

/// The buttons of a row, without the one that opens its page; the choices are those of the item.
pub fn row_elements(item: &Item, choices: &Choices) -> Vec<Element> {
    let (Some(token), Some(days)) = (item.token(), choices.days_until_expiry) else {
        return Vec::new();
    };
    let confirm = confirm(
        &format!("Is {} rotated?", shorten(&item.name, ROW_NAME_LIMIT)),
        "It is in use everywhere, and the old one is revoked.",
    );
    match item.turn {
        Turn::Ended => Vec::new(),
        Turn::Acknowledged => vec![rotated(choices, confirm, token)],
        Turn::Open | Turn::Snoozed => {
            let mut elements = vec![acknowledge(token), rotated(choices, confirm, token)];
            elements.extend(select(snoozes(choices, days, token)));
            elements
        }
    }
}

/// The name of the block they are in. Slack wants another one whenever a message is changed.
pub fn block_id(message: &Message) -> Option<String> {
    let round = u8::from(message.kind == Kind::Acknowledge);
    Some(format!("{BLOCK}.{round}.{}", message.token()?))
}

/// The same for the buttons of a row.
pub fn row_block_id(item: &Item) -> Option<String> {
    let round = u8::from(item.turn == Turn::Acknowledged);
    Some(format!("{BLOCK}.{round}.{}", item.token()?))
}

/// The token in the name of a block with buttons.
pub fn token_in(block_id: &str) -> Option<&str> {
    let (_round, token) = block_id
        .strip_prefix(BLOCK)?
        .strip_prefix('.')?
        .split_once('.')?;
    Some(token)
}

fn acknowledge(token: &str) -> Element {
    button(ACKNOWLEDGE, "Acknowledge", token, Some("primary"), None)
}

fn button(
    action_id: &'static str,
    label: &str,
    token: &str,
    style: Option<&'static str>,
    confirm: Option<Box<Confirm>>,
) -> Element {
    Element::Button {
        action_id,
        text: plain_text(label, TEXT_LIMIT),
        value: Some(token.to_owned()),
        url: None,
        style,
        accessibility_label: None,
        confirm,
    }
}

fn confirm(title: &str, text: &str) -> Box<Confirm> {
    Box::new(Confirm {
        title: plain_text(title, CONFIRM_TITLE_LIMIT),
        text: plain_text(text, CONFIRM_TEXT_LIMIT),
        confirm: plain_text("Yes, it is rotated", 30),
        deny: plain_text("Not yet", 30),
    })
}

fn rotated(choices: &Choices, confirm: Box<Confirm>, token: &str) -> Element {
    if choices.has_interval {
        button(ROTATED, "Mark as rotated", token, None, Some(confirm))
    } else {
        // Nobody knows when the new one expires but who rotated it.
        Element::Datepicker {
            action_id: ROTATED_UNTIL,
            placeholder: plain_text("Rotated: it expires next…", 150),
            confirm,
        }
    }
}

/// For how long it may wait; not at all once it is late.
fn snoozes(choices: &Choices, left: i64, token: &str) -> Vec<Choice> {
    if choices.overdue.unwrap_or(left < 0) {
        return Vec::new();
    }
    SNOOZES
        .iter()
        .filter(|(.., days)| left > *days)
        .map(|(text, value, _)| option(text, value, token))
        .collect()
}

fn day_before(choices: &Choices, left: i64, token: &str) -> Option<Choice> {
    if left <= 2 || choices.overdue == Some(true) {
        return None;
    }
    let expiry: jiff::Timestamp = choices.expiry_date.as_deref()?.parse().ok()?;
    let until = expiry
        .checked_sub(jiff::SignedDuration::from_hours(24))
        .ok()?;
    let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Some(option("Until a day before it expires", &until, token))
}

fn select(options: Vec<Choice>) -> Option<Element> {
    (!options.is_empty()).then(|| Element::StaticSelect {
        action_id: SNOOZE,
        placeholder: plain_text("Snooze", 150),
        options,
    })
}

fn option(text: &str, value: &str, token: &str) -> Choice {
    // At most 150 characters, and a token has 43.
    // <https://docs.slack.dev/reference/block-kit/composition-objects/option-object>
    Choice {
        text: plain_text(text, TEXT_LIMIT),
        value: format!("{value}.{token}"),
    }
}

/// What Slack tells of one of these that was pressed.
#[derive(Debug, Default, Deserialize)]
pub struct Action {
    pub action_id: String,
    #[serde(default)]
    pub block_id: String,
    #[serde(default)]
    pub value: Option<String>,
    #[serde(default)]
    pub selected_option: Option<Chosen>,
    #[serde(default)]
    pub selected_date: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Chosen {
    #[serde(default)]
    pub value: String,
}

impl Action {
    /// What it stands for; none for what is no button of ours.
    pub fn press(&self) -> Option<Press> {
        let token_of_block = || token_in(&self.block_id).map(str::to_owned);
        let token = || self.value.clone().or_else(token_of_block);
        let (token, deed) = match self.action_id.as_str() {
            ACKNOWLEDGE => (token()?, Deed::Acknowledge),
            ROTATED => (token()?, Deed::Rotated(None)),
            ROTATED_UNTIL => {
                let date = self.selected_date.as_deref()?;
                date.parse::<jiff::civil::Date>().ok()?;
                (token()?, Deed::Rotated(Some(date.to_owned())))
            }
            SNOOZE => {
                let (until, token) = self.selected_option.as_ref()?.value.rsplit_once('.')?;
                (token.to_owned(), snooze_until(until)?)
            }
            _ => return None,
        };
        Some(Press { token, deed })
    }
}

fn snooze_until(choice: &str) -> Option<Deed> {
    if SNOOZES.iter().any(|(_, value, _)| *value == choice) {
        let days = choice.trim_end_matches('d');
        return Some(Deed::SnoozeFor(format!("{days} days")));
    }
    choice.parse::<jiff::Timestamp>().ok()?;
    Some(Deed::SnoozeUntil(choice.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::message::tests::{self, facts, facts_of};
    use serde_json::{Value, json};

    fn buttons(facts: &Value) -> Vec<Value> {
        let choices = Choices::deserialize(facts).unwrap();
        let elements = elements(&tests::render(facts), &choices);
        elements.iter().map(|element| json!(element)).collect()
    }

    fn ids(buttons: &[Value]) -> Vec<&str> {
        buttons
            .iter()
            .filter_map(|button| button["action_id"].as_str())
            .collect()
    }

    fn options(facts: &Value) -> Vec<String> {
        let buttons = buttons(facts);
        let select = buttons.iter().find(|button| button["action_id"] == SNOOZE);
        let options = select.and_then(|select| select["options"].as_array().cloned());
        let text = |option: &Value| option["text"]["text"].as_str().map(str::to_owned);
        options
            .unwrap_or_default()
            .iter()
            .filter_map(text)
            .collect()
    }

    #[test]
    fn each_kind_has_the_buttons_that_still_make_sense() {
        assert_eq!(
            ids(&buttons(&facts("k", 14))),
            [ACKNOWLEDGE, ROTATED, SNOOZE]
        );
        assert_eq!(
            ids(&buttons(&facts("k", -1))),
            [ACKNOWLEDGE, ROTATED],
            "late is late"
        );
        assert_eq!(ids(&buttons(&facts_of("acknowledge", "k", 14))), [ROTATED]);
        for done in [
            facts_of("resolve", "k", 14),
            tests::test_facts(),
            tests::summary_facts(3, 1),
        ] {
            assert!(buttons(&done).is_empty());
        }
        let mut once = facts("k", 14);
        once["has_interval"] = json!(false);
        assert_eq!(ids(&buttons(&once)), [ACKNOWLEDGE, ROTATED_UNTIL, SNOOZE]);
    }

    #[test]
    fn snoozing_ends_before_the_expiry_date() {
        let all = ["1 day", "3 days", "1 week", "Until a day before it expires"];
        assert_eq!(options(&facts("k", 14)), all);
        assert_eq!(options(&facts("k", 7)), [all[0], all[1], all[3]]);
        assert_eq!(options(&facts("k", 2)), [all[0]]);
        assert!(options(&facts("k", 1)).is_empty() && options(&facts("k", 0)).is_empty());
    }

    #[test]
    fn what_was_pressed_is_read_back() {
        let facts = facts("k", 14);
        let buttons = buttons(&facts);
        let press = |action: Value| Action::deserialize(action).unwrap().press();
        let expected = |deed| {
            Some(Press {
                token: "t?b=1&c".to_owned(),
                deed,
            })
        };
        for (place, deed) in [(0, Deed::Acknowledge), (1, Deed::Rotated(None))] {
            let button = &buttons[place];
            let action = json!({"action_id": button["action_id"], "value": button["value"]});
            assert_eq!(press(action), expected(deed));
        }
        let options = buttons[2]["options"].as_array().unwrap();
        for (place, deed) in [
            (0, Deed::SnoozeFor("1 days".to_owned())),
            (2, Deed::SnoozeFor("7 days".to_owned())),
            (3, Deed::SnoozeUntil("2026-12-05T08:00:00Z".to_owned())),
        ] {
            let action = json!({"action_id": "snooze", "selected_option": {"value": options[place]["value"]}});
            assert_eq!(press(action), expected(deed));
        }
        let block = block_id(&tests::render(&facts)).unwrap();
        let date =
            json!({"action_id": "rotated_until", "block_id": block, "selected_date": "2027-02-01"});
        assert_eq!(
            press(date),
            expected(Deed::Rotated(Some("2027-02-01".to_owned())))
        );
    }

    #[test]
    fn what_is_no_button_of_ours_is_nothing() {
        for action in [
            json!({"action_id": "delete", "value": "t"}),
            json!({"action_id": "acknowledge"}),
            json!({"action_id": "acknowledge", "block_id": "x"}),
            json!({"action_id": "rotated_until", "block_id": "rotator.0.t"}),
            json!({"action_id": "rotated_until", "block_id": "rotator.0.t", "selected_date": "soon"}),
            json!({"action_id": "snooze", "value": "t"}),
            json!({"action_id": "snooze", "selected_option": {"value": "9 years.t"}}),
            json!({"action_id": "snooze", "selected_option": {"value": "1d"}}),
        ] {
            assert_eq!(
                Action::deserialize(&action).unwrap().press(),
                None,
                "{action}"
            );
        }
    }
}
