//! How a message looks in Slack: a section that says what, when and what to do, a line of context, a button that opens
//! the page. Sending and judging answers: `slack.rs`.

use serde_json::{Value, json};

use super::message::{Message, shorten};

/// <https://docs.slack.dev/reference/block-kit/blocks/section-block>: text of a section.
const SECTION_LIMIT: usize = 3000;
/// <https://docs.slack.dev/reference/block-kit/composition-objects/text-object>: text of a context element.
const CONTEXT_LIMIT: usize = 3000;
/// <https://docs.slack.dev/reference/block-kit/block-elements/button-element>: text, and URL, of a button.
const BUTTON_TEXT_LIMIT: usize = 75;
const BUTTON_URL_LIMIT: usize = 3000;
/// Where Slack begins to cut `text`: <https://docs.slack.dev/reference/methods/chat.postMessage>
const TEXT_LIMIT: usize = 4000;

const BUTTON: &str = "Open: rotated or acknowledge";

/// The body of `chat.postMessage` without its channel; also the body for an incoming webhook.
pub fn body(message: &Message) -> Value {
    let subject = escape(&message.subject);
    let what = escape(&message.what);
    let when = escape(&message.when);
    let todo = escape(&message.todo);
    let mark = if message.urgent {
        ":rotating_light: "
    } else {
        ""
    };
    let mut blocks = vec![
        json!({
            "type": "section",
            "text": text(&format!("{mark}*{subject}*\n{what}\n{when}\n{todo}"), SECTION_LIMIT),
        }),
        json!({"type": "context", "elements": [text(&escape(&message.who), CONTEXT_LIMIT)]}),
    ];
    // What a phone shows before it is unlocked, and screen readers read.
    let mut fallback = format!("{mark}{subject}. {when}. {todo}");
    if let Some(link) = message
        .link
        .as_deref()
        .filter(|link| link.len() <= BUTTON_URL_LIMIT)
    {
        let mut button = json!({
            "type": "button",
            "action_id": "open_link",
            "text": {"type": "plain_text", "text": shorten(BUTTON, BUTTON_TEXT_LIMIT)},
            "url": link,
        });
        if message.urgent {
            button["style"] = json!("danger");
        }
        blocks.push(json!({"type": "actions", "elements": [button]}));
        fallback.push_str(&format!(" <{}>", escape(link)));
    }
    json!({
        "text": cut(&fallback, TEXT_LIMIT),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
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
    use crate::delivery::message::tests::facts;

    fn render(name: &str, days: i64) -> Value {
        body(
            &Message::render(
                &facts(name, days),
                Some("https://x.test/a/t?b=1&c".to_owned()),
            )
            .unwrap(),
        )
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
        let body = body(&Message::render(&long, None).unwrap());
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
    fn button_text_fits() {
        assert!(BUTTON.chars().count() <= BUTTON_TEXT_LIMIT);
    }
}
