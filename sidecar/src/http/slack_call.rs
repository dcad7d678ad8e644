//! What a callback of Slack says, once it is known to be Slack's: which button, who pressed it, and where.
//! <https://docs.slack.dev/reference/interaction-payloads/block_actions-payload>

use serde::Deserialize;
use url::form_urlencoded;

use crate::delivery::{Action, OPEN, Original, Press, Spot};

/// 32 random bytes in base64url without padding.
const TOKEN_LENGTH: usize = 43;

/// What is to be done about a callback.
#[derive(Debug)]
pub enum Wanted {
    /// Somebody opened a page; Slack says so, and wants nothing.
    Nothing,
    Press(Box<Call>),
}

/// A button that was pressed.
#[derive(Debug)]
pub struct Call {
    pub press: Press,
    /// Workspace and user, like `T024BE7LD/U012AB3CD`.
    pub identity: String,
    pub team: String,
    pub user: String,
    pub spot: Spot,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    user: User,
    #[serde(default)]
    team: Option<Team>,
    #[serde(default)]
    container: Container,
    /// The whole of it, as it was when the button was pressed.
    #[serde(default)]
    message: Option<Original>,
    #[serde(default)]
    response_url: Option<String>,
    #[serde(default)]
    actions: Vec<Action>,
}

#[derive(Default, Deserialize)]
struct User {
    #[serde(default)]
    id: String,
    #[serde(default)]
    team_id: Option<String>,
}

#[derive(Deserialize)]
struct Team {
    id: String,
}

#[derive(Default, Deserialize)]
struct Container {
    #[serde(default)]
    channel_id: Option<String>,
    #[serde(default)]
    message_ts: Option<String>,
    #[serde(default)]
    thread_ts: Option<String>,
}

impl Call {
    /// Reads a form with one field, `payload`, that is JSON.
    ///
    /// # Errors
    /// In our words: what came is not quoted.
    pub fn read(body: &[u8]) -> Result<Wanted, &'static str> {
        let mut payloads = form_urlencoded::parse(body).filter(|(name, _)| name == "payload");
        let (Some((_, payload)), None) = (payloads.next(), payloads.next()) else {
            return Err("it has no payload, or more than one");
        };
        let payload: Payload =
            serde_json::from_str(&payload).map_err(|_| "its payload is not of the agreed form")?;
        if payload.kind != "block_actions" {
            return Err("it is about something else than buttons");
        }
        let [action] = payload.actions.as_slice() else {
            return Err("it isn't about one button");
        };
        if action.action_id == OPEN {
            return Ok(Wanted::Nothing);
        }
        let press = action
            .press()
            .ok_or("it is about a button that is not known")?;
        if !is_token(&press.token) {
            return Err("its button has no token");
        }
        // Of the user himself: in a channel that two companies share, the other is somebody of another workspace.
        let team = payload.user.team_id.or(payload.team.map(|team| team.id));
        let (Some(team), user) = (team, payload.user.id) else {
            return Err("it doesn't say of which workspace the user is");
        };
        if !(is_id(&team, &['T', 'E']) && is_id(&user, &['U', 'W'])) {
            return Err("it doesn't say who pressed");
        }
        Ok(Wanted::Press(Box::new(Self {
            press,
            identity: format!("{team}/{user}"),
            team,
            user,
            spot: Spot {
                channel: payload.container.channel_id,
                ts: payload.container.message_ts,
                thread: payload.container.thread_ts,
                original: payload.message,
                response_url: payload.response_url,
            },
        })))
    }
}

/// What can't be a token never reaches the database.
fn is_token(text: &str) -> bool {
    text.len() == TOKEN_LENGTH
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn is_id(text: &str, kinds: &[char]) -> bool {
    text.starts_with(kinds)
        && (2..=31).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Deed;
    use serde_json::{Value, json};

    fn payload() -> Value {
        json!({
            "type": "block_actions",
            "user": {"id": "U012AB3CD", "username": "dana", "team_id": "T024BE7LD"},
            "team": {"id": "T024BE7LD", "domain": "acme"},
            "container": {"type": "message", "message_ts": "1700000000.000001", "channel_id": "C1"},
            "response_url": "https://hooks.slack.com/actions/T024BE7LD/1/x",
            "actions": [{"type": "button", "action_id": "acknowledge", "block_id": "b", "value": "A".repeat(43)}]
        })
    }

    fn read(payload: &Value) -> Result<Wanted, &'static str> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("payload", &payload.to_string());
        Call::read(form.finish().as_bytes())
    }

    #[test]
    fn a_press_says_who_and_where() {
        let Ok(Wanted::Press(call)) = read(&payload()) else {
            panic!("a press")
        };
        assert_eq!(
            (call.identity.as_str(), call.press.deed),
            ("T024BE7LD/U012AB3CD", Deed::Acknowledge)
        );
        assert_eq!(call.spot.ts.as_deref(), Some("1700000000.000001"));
        let mut shared = payload();
        shared["user"]["team_id"] = json!("T0OTHERS");
        let Ok(Wanted::Press(call)) = read(&shared) else {
            panic!("a press")
        };
        assert_eq!(
            call.identity, "T0OTHERS/U012AB3CD",
            "his own workspace counts"
        );
        shared["user"]["team_id"] = json!(null);
        let Ok(Wanted::Press(call)) = read(&shared) else {
            panic!("a press")
        };
        assert_eq!(call.identity, "T024BE7LD/U012AB3CD");
    }

    #[test]
    fn opening_a_page_is_nothing_to_do() {
        let mut opened = payload();
        opened["actions"][0] = json!({"type": "button", "action_id": "open_link"});
        assert!(matches!(read(&opened), Ok(Wanted::Nothing)));
    }

    #[test]
    fn what_is_no_press_of_a_button_of_ours_is_refused() {
        let changes: [(&str, Value); 12] = [
            ("/type", json!("view_submission")),
            ("/type", json!(7)),
            ("/actions", json!([])),
            (
                "/actions",
                json!([payload()["actions"][0], payload()["actions"][0]]),
            ),
            ("/actions/0/action_id", json!("drop_tables")),
            ("/actions/0/value", json!("short")),
            ("/actions/0/value", json!(format!("{}'", "A".repeat(42)))),
            ("/actions/0/value", json!(null)),
            ("/user/id", json!("")),
            ("/user/id", json!("U1'; drop table x; --")),
            ("/user/team_id", json!("acme")),
            ("/user", json!(null)),
        ];
        for (place, value) in changes {
            let mut changed = payload();
            *changed.pointer_mut(place).unwrap() = value;
            assert!(read(&changed).is_err(), "{place}: {changed}");
        }
        for body in [
            "",
            "payload=",
            "payload=x",
            "payload={}",
            "payload={}&payload={}",
            "other=1",
            "{}",
            "\0",
        ] {
            assert!(Call::read(body.as_bytes()).is_err(), "{body:?}");
        }
        assert!(Call::read(b"payload=%ff%fe").is_err());
    }
}
