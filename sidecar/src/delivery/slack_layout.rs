//! How a message looks in Slack: a section that says what, when and what to do, a line of context, a button that opens
//! the page; in a summary a short section with its own button for each secret, at most 20 of the 50 blocks that Slack
//! takes (<https://docs.slack.dev/reference/block-kit/blocks>). Buttons that call back: `slack_buttons.rs`; sending:
//! `slack.rs`; judging answers: `slack_answer.rs`.

use serde_json::{Value, json};

use super::message::{Item, Message, shorten};
use super::slack_buttons;

/// <https://docs.slack.dev/reference/block-kit/blocks/section-block>: text of a section.
const SECTION_LIMIT: usize = 3000;
/// <https://docs.slack.dev/reference/block-kit/composition-objects/text-object>: text of a context element.
const CONTEXT_LIMIT: usize = 3000;
/// <https://docs.slack.dev/reference/block-kit/block-elements/button-element>: text, and URL, of a button.
const BUTTON_TEXT_LIMIT: usize = 75;
const BUTTON_URL_LIMIT: usize = 3000;
/// Where Slack begins to cut `text`: <https://docs.slack.dev/reference/methods/chat.postMessage>
const TEXT_LIMIT: usize = 4000;

/// What the button of one secret in a list says.
const ITEM_BUTTON: &str = "Open";

/// The body of `chat.postMessage` without its channel; also the body for an incoming webhook. `acts`: the buttons that
/// call back, before the one that opens the page.
pub fn body(message: &Message, acts: Vec<Value>) -> Value {
    let mark = if message.urgent {
        ":rotating_light: "
    } else {
        ""
    };
    let subject = escape(&message.subject);
    let (what, when) = (escape(&message.what), escape(&message.when));
    let todo = escape(&message.todo);
    let lines = if message.items.is_empty() {
        format!("{what}\n{when}\n{todo}")
    } else {
        // What the list says itself is not said twice.
        format!("{what}\n{todo}")
    };
    let mut blocks = vec![section(&format!("{mark}*{subject}*\n{lines}"))];
    blocks.extend(message.items.iter().map(item));
    let mut context = escape(&message.who);
    if let Some(rest) = &message.rest {
        context = format!("{}\n{context}", escape(rest));
    }
    blocks.push(json!({"type": "context", "elements": [text(&context, CONTEXT_LIMIT)]}));
    // What a phone shows before it is unlocked, and screen readers read.
    let mut fallback = format!("{mark}{subject}. {when}. {todo}");
    if let Some(link) = fitting(message.link.as_deref()) {
        let mut button = button(message.button(), link);
        // Where others act, this one only tells more.
        if acts.is_empty() && message.urgent {
            button["style"] = json!("danger");
        } else if !acts.is_empty() {
            button["text"]["text"] = json!(ITEM_BUTTON);
        }
        let mut actions = json!({"type": "actions"});
        if let Some(id) = slack_buttons::block_id(message).filter(|_| !acts.is_empty()) {
            actions["block_id"] = json!(id);
        }
        actions["elements"] = acts.into_iter().chain([button]).collect();
        blocks.push(actions);
        fallback.push_str(&format!(" <{}>", escape(link)));
    }
    json!({
        "text": cut(&fallback, TEXT_LIMIT),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// One secret of a list: a line with a button of its own.
fn item(item: &Item) -> Value {
    let mark = if item.overdue { ":red_circle: " } else { "" };
    let mut section = section(&format!(
        "{mark}*{}*\n{}",
        escape(&item.what),
        escape(&item.when)
    ));
    if let Some(link) = fitting(item.link.as_deref()) {
        let mut button = button(ITEM_BUTTON, link);
        // Read aloud, twenty times "Open" says nothing.
        let label = format!("{ITEM_BUTTON} {}", item.what);
        button["accessibility_label"] = json!(shorten(&label, BUTTON_TEXT_LIMIT));
        section["accessory"] = button;
    }
    section
}

fn section(escaped: &str) -> Value {
    json!({"type": "section", "text": text(escaped, SECTION_LIMIT)})
}

fn button(label: &str, link: &str) -> Value {
    json!({
        "type": "button",
        "action_id": slack_buttons::OPEN,
        "text": {"type": "plain_text", "text": shorten(label, BUTTON_TEXT_LIMIT)},
        "url": link,
    })
}

fn fitting(link: Option<&str>) -> Option<&str> {
    link.filter(|link| link.len() <= BUTTON_URL_LIMIT)
}

fn text(escaped: &str, limit: usize) -> Value {
    // `verbatim`: names that look like channels, people or addresses are not made into links.
    json!({"type": "mrkdwn", "text": cut(escaped, limit), "verbatim": true})
}

/// Exactly the three characters that Slack treats as its own:
/// <https://docs.slack.dev/messaging/formatting-message-text#escaping>
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A text of ours, or of others, that is no markup.
pub fn plain(text: &str, limit: usize) -> String {
    cut(&escape(text), limit)
}

/// Cuts escaped text to the limit without leaving half an entity at its end.
fn cut(escaped: &str, limit: usize) -> String {
    let short = shorten(escaped, limit);
    if short.len() == escaped.len() {
        return short;
    }
    match (short.rfind('&'), short.rfind(';')) {
        (Some(start), end)
            if end.is_none_or(|end| end < start) && short.len() - start <= "&amp…".len() =>
        {
            format!("{}…", &short[..start])
        }
        _ => short,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::message::tests::{self, facts};

    fn render(name: &str, days: i64) -> Value {
        body(&tests::render(&facts(name, days)), Vec::new())
    }

    #[test]
    fn the_first_line_says_what_and_when() {
        let body = render("stripe-prod", 14);
        let section = body["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(section.starts_with(
            "*stripe-prod expires in 14 days*\nstripe-prod (stripe)\nExpires Sun 6 Dec"
        ));
        assert_eq!(
            body["blocks"][2]["elements"][0]["url"],
            "https://x.test/a/t?b=1&c"
        );
        assert!(
            body["text"]
                .as_str()
                .unwrap()
                .ends_with("<https://x.test/a/t?b=1&amp;c>")
        );
        assert_eq!(
            (&body["unfurl_links"], &body["unfurl_media"]),
            (&json!(false), &json!(false))
        );
        assert!(
            render("k", -1)["text"]
                .as_str()
                .unwrap()
                .starts_with(":rotating_light: k expired yesterday")
        );
    }

    #[test]
    fn data_can_not_mention_anybody_or_make_links() {
        let body = render("<!channel> <@U1> <https://evil|x> & >quote", 3).to_string();
        for injected in ["<!channel>", "<@U1>", "<https://evil"] {
            assert!(!body.contains(injected), "{injected}");
        }
        assert!(
            body.contains("&lt;!channel&gt; &lt;@U1&gt; &lt;https://evil|x&gt; &amp; &gt;quote")
        );
    }

    #[test]
    fn everything_stays_inside_the_limits() {
        let mut long = facts(&"&".repeat(256), 3);
        for field in ["purpose", "provider_ref", "environment", "owner_id"] {
            long["secret"][field] = json!("<".repeat(10_000));
        }
        let body = body(&tests::render(&long), Vec::new());
        for block in body["blocks"].as_array().unwrap() {
            for text in [&block["text"]["text"], &block["elements"][0]["text"]] {
                assert!(
                    text.as_str()
                        .is_none_or(|text| text.chars().count() <= SECTION_LIMIT)
                );
            }
        }
        assert!(body["text"].as_str().unwrap().chars().count() <= TEXT_LIMIT);
        let section = body["blocks"][0]["text"]["text"].as_str().unwrap();
        let tail: String = section.chars().rev().take(8).collect();
        assert!(
            tail.starts_with("…;tl&")
                || tail.starts_with('…') && !tail[.."…".len() + 3].contains('&'),
            "{tail}"
        );
    }

    #[test]
    fn a_test_looks_like_a_reminder_and_opens_its_own_page() {
        let body = body(&tests::render(&tests::test_facts()), Vec::new());
        let section = body["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(section.starts_with("*[Test] sample-api-key expires in 14 days*\n"));
        assert!(section.ends_with("Open the link once to see that it works."));
        assert_eq!(
            body["blocks"][2]["elements"][0]["url"],
            "https://x.test/a/test"
        );
    }

    #[test]
    fn a_summary_has_a_button_for_each_and_stays_inside_the_limits() {
        let mut facts = tests::summary_facts(5000, 4000);
        for i in 0..20 {
            facts["items"][i]["secret"]["name"] = json!("<&".repeat(128));
            facts["items"][i]["secret"]["owner_id"] = json!("&".repeat(255));
        }
        let body = body(&tests::render(&facts), Vec::new());
        let blocks = body["blocks"].as_array().unwrap();
        assert_eq!(blocks.len(), 22);
        for (i, block) in blocks[1..21].iter().enumerate() {
            let text = block["text"]["text"].as_str().unwrap();
            assert!(text.starts_with(":red_circle: *&lt;&amp;") && text.chars().count() <= 3000);
            assert_eq!(
                block["accessory"]["url"],
                format!("https://x.test/a/token-{i}")
            );
            let label = block["accessory"]["accessibility_label"].as_str().unwrap();
            assert!(label.starts_with("Open <&") && label.chars().count() <= BUTTON_TEXT_LIMIT);
        }
        let context = blocks[21]["elements"][0]["text"].as_str().unwrap();
        assert!(
            context.starts_with("4980 more are not listed here") && context.chars().count() <= 3000
        );
    }

    #[test]
    fn a_key_rotation_has_no_button_and_its_errors_are_only_text() {
        let mut facts = tests::key_rotation_facts("failed");
        facts["error"] = json!("row <!channel> & <https://evil|x>");
        let message = body(&tests::render(&facts), Vec::new());
        let blocks = message["blocks"].as_array().unwrap();
        assert_eq!(blocks.len(), 2, "{message:#}");
        let section = blocks[0]["text"]["text"].as_str().unwrap();
        assert!(section.starts_with(
            ":rotating_light: *Key rotation of Acme failed: 3 of 10,000 rows could not be re-encrypted*\n"
        ));
        assert!(section.contains("row &lt;!channel&gt; &amp; &lt;https://evil|x&gt;"));
        assert!(section.ends_with("\nMend these rows, then select rotator.retry_key_rotation(7)"));
        for state in ["stalled", "overdue"] {
            let message = body(
                &tests::render(&tests::key_rotation_facts(state)),
                Vec::new(),
            );
            let text = message["text"].as_str().unwrap();
            assert!(text.starts_with("Key rotation of Acme is "), "{text}");
        }
    }

    #[test]
    fn button_texts_fit() {
        for facts in [facts("k", 3), tests::test_facts()] {
            assert!(tests::render(&facts).button().chars().count() <= BUTTON_TEXT_LIMIT);
        }
    }
}
