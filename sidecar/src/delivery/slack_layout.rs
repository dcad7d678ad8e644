//! How a message looks in Slack: a section that says what, when and what to do, a line of context, buttons. The rows of a
//! message about many: `slack_rows.rs`. Buttons that call back: `slack_buttons.rs`; sending: `slack.rs`; judging answers:
//! `slack_answer.rs`.
//!
//! Names and purposes are text of others: they mention nobody, make no link, and don't change what stands around them.

use super::message::{Message, shorten};
use super::slack_blocks::{Block, Body, Element, Text};
use super::slack_buttons::Choices;
use super::{slack_buttons, slack_rows};

/// <https://docs.slack.dev/reference/block-kit/blocks/section-block>: text of a section.
const SECTION_LIMIT: usize = 3000;
/// Ours, for what is in small print.
const CONTEXT_LIMIT: usize = 1000;
/// <https://docs.slack.dev/reference/block-kit/block-elements/button-element>: text, and URL, of a button.
pub const BUTTON_TEXT_LIMIT: usize = 75;
const BUTTON_URL_LIMIT: usize = 3000;
/// Where Slack begins to cut `text`: <https://docs.slack.dev/reference/methods/chat.postMessage>
const TEXT_LIMIT: usize = 4000;

/// What the button that opens a page says where others act.
pub const OPEN_LABEL: &str = "Open";

/// How a message looks. With choices it has buttons that call back, before the one that opens the page.
pub fn body(message: &Message, choices: Option<&Choices>) -> Body {
    let mark = if message.urgent {
        ":rotating_light: "
    } else {
        ""
    };
    let [subject, what, when, todo] = [
        &message.subject,
        &message.what,
        &message.when,
        &message.todo,
    ]
    .map(|text| escape(text));
    let lines = if message.items.is_empty() {
        [what.as_str(), &when, &todo]
    } else {
        // What the list says itself is not said twice.
        [what.as_str(), &todo, ""]
    };
    let mut text = format!("{mark}*{subject}*");
    for line in lines.into_iter().filter(|line| !line.is_empty()) {
        text.push('\n');
        text.push_str(line);
    }
    let mut blocks = vec![section(&text)];
    for (place, item) in message.items.iter().enumerate() {
        let choices = choices.and_then(|choices| choices.items.get(place));
        blocks.extend(slack_rows::row(item, choices));
    }
    let context = [
        message.rest.as_deref(),
        Some(&message.who),
        message.why.as_deref(),
    ];
    let context: Vec<String> = context.into_iter().flatten().map(escape).collect();
    blocks.push(Block::Context {
        elements: [mrkdwn(&context.join("\n"), CONTEXT_LIMIT)],
    });
    let spoken: Vec<&str> = [subject.as_str(), &when, &todo]
        .into_iter()
        .filter(|text| !text.is_empty())
        .map(|text| text.trim_end_matches('.'))
        .collect();
    let mut fallback = format!("{mark}{}.", spoken.join(". "));
    if let Some(link) = fitting(message.link.as_deref()) {
        let mut elements = choices.map_or_else(Vec::new, |choices| {
            slack_buttons::elements(message, choices)
        });
        let block_id = slack_buttons::block_id(message).filter(|_| !elements.is_empty());
        elements.push(if !elements.is_empty() {
            // Where others act, this one only tells more.
            button(OPEN_LABEL, link, None, None)
        } else {
            button(
                message.button(),
                link,
                message.urgent.then_some("danger"),
                None,
            )
        });
        blocks.push(Block::Actions { block_id, elements });
        fallback.push_str(&format!(" <{}>", entities(link)));
    }
    Body::new(cut(&fallback, TEXT_LIMIT), blocks)
}

/// A section of escaped text.
fn section(escaped: &str) -> Block {
    Block::Section {
        block_id: None,
        text: section_text(escaped),
        accessory: None,
    }
}

/// The text of a section.
pub fn section_text(escaped: &str) -> Text {
    mrkdwn(escaped, SECTION_LIMIT)
}

fn mrkdwn(escaped: &str, limit: usize) -> Text {
    // `verbatim`: names that look like channels, people or addresses are not made into links.
    Text::Mrkdwn {
        text: cut(escaped, limit),
        verbatim: true,
    }
}

/// A button that opens a page; `spoken` is what is read aloud in place of its label.
pub fn button(
    label: &str,
    link: &str,
    style: Option<&'static str>,
    spoken: Option<String>,
) -> Element {
    Element::Button {
        action_id: slack_buttons::OPEN,
        text: plain_text(label, BUTTON_TEXT_LIMIT),
        value: None,
        url: Some(link.to_owned()),
        style,
        accessibility_label: spoken,
        confirm: None,
    }
}

/// A link that a button may have.
pub fn fitting(link: Option<&str>) -> Option<&str> {
    link.filter(|link| link.len() <= BUTTON_URL_LIMIT)
}

/// Text without markup. Whether Slack reads entities there is written nowhere, so there are no angle brackets.
pub fn plain_text(text: &str, limit: usize) -> Text {
    Text::PlainText {
        text: unbracketed(text, limit),
        emoji: false,
    }
}

/// The same where only the text is wanted.
pub fn unbracketed(text: &str, limit: usize) -> String {
    fit(&text.replace('<', "‹").replace('>', "›"), limit)
}

/// At most `limit` characters, also by the count of who takes an emoji for two (UTF-16).
pub fn fit(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let mut characters = limit;
    loop {
        let short = shorten(text, characters);
        let over = short.encode_utf16().count().saturating_sub(limit);
        if over == 0 {
            return short;
        }
        characters = short.chars().count().saturating_sub(over.div_ceil(2));
    }
}

/// Text of others between ours. Slack reads three characters as its own, and has entities for them
/// (<https://docs.slack.dev/messaging/formatting-message-text#escaping>); it has none for its markup, so those marks become
/// others that look alike. An underscore within a word is no markup.
pub fn escape(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii() && !b"*~`_&<>".contains(&byte);
    if text.bytes().all(is_plain) {
        return text.to_owned();
    }
    let mut escaped = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let is_within =
            |other: Option<char>| other.is_some_and(|c| c.is_alphanumeric() || c == '_');
        match c {
            '*' | '＊' => escaped.push('∗'),
            '~' => escaped.push('∼'),
            '`' | '｀' => escaped.push('ˋ'),
            '_' | '＿' if !(is_within(before) && is_within(rest.peek().copied())) => {
                escaped.push('ˍ')
            }
            // At the beginning of a line it would be a quotation.
            '>' if before.is_none() => escaped.push('›'),
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            c => escaped.push(c),
        }
        before = Some(c);
    }
    escaped
}

fn entities(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A `text` of ours, or of others, that mentions nobody and links nowhere.
pub fn plain(text: &str, limit: usize) -> String {
    cut(&entities(text), limit)
}

/// Cuts escaped text to the limit without leaving half an entity at its end.
fn cut(escaped: &str, limit: usize) -> String {
    let short = fit(escaped, limit);
    if short == escaped {
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
    use serde::Deserialize;
    use serde_json::{Value, json};

    fn body(message: &Message, facts: Option<&Value>) -> Value {
        let choices = facts.map(|facts| Choices::deserialize(facts).unwrap());
        json!(super::body(message, choices.as_ref()))
    }

    fn render(name: &str, days: i64) -> Value {
        body(&tests::render(&facts(name, days)), None)
    }

    fn text(body: &Value) -> &str {
        body["blocks"][0]["text"]["text"].as_str().unwrap()
    }

    fn units(text: &Value) -> usize {
        text.as_str().unwrap().encode_utf16().count()
    }

    #[test]
    fn the_first_line_says_what_and_when() {
        let body = render("stripe-prod", 14);
        assert!(text(&body).starts_with(
            "*stripe-prod expires in 14 days*\nstripe-prod (stripe)\nExpires Sun 6 Dec"
        ));
        assert_eq!(
            body["blocks"][1]["elements"][0]["text"],
            "Owner alice · P2 · every 90 days · Acme\nThis is the reminder for 14 days before it expires."
        );
        assert_eq!(
            body["blocks"][2]["elements"][0]["url"],
            "https://x.test/a/t?b=1&c"
        );
        let fallback = body["text"].as_str().unwrap();
        assert!(
            fallback.ends_with("Acknowledge it there. <https://x.test/a/t?b=1&amp;c>"),
            "{fallback}"
        );
        assert_eq!(
            (&body["unfurl_links"], &body["unfurl_media"]),
            (&json!(false), &json!(false))
        );
        let late = render("k", -1);
        assert!(
            late["text"]
                .as_str()
                .unwrap()
                .starts_with(":rotating_light: k expired yesterday.")
        );
        assert_eq!(late["blocks"][2]["elements"][0]["style"], "danger");
    }

    #[test]
    fn data_can_not_mention_anybody_or_make_links_or_markup() {
        let hostile =
            "> <!channel> <@U1> <https://evil|x> &lt;!here&gt; *b* _i_ ~s~ `c` ```d``` a_b_c";
        let mut facts = facts(hostile, 3);
        facts["addressee"] = json!(hostile);
        facts["secret"]["purpose"] = json!(hostile);
        for facts_of_buttons in [None, Some(&facts)] {
            let body = body(&tests::render(&facts), facts_of_buttons);
            let all = body.to_string();
            for injected in ["<!", "<@", "<https://evil"] {
                assert!(!all.contains(injected), "{injected}: {all}");
            }
            let context = &body["blocks"][1]["elements"][0]["text"];
            for marked in [&body["blocks"][0]["text"]["text"], context, &body["text"]] {
                let marked = marked.as_str().unwrap();
                for markup in ["&lt;!here&gt;", "~", "`", "_i_", "*b*"] {
                    assert!(!marked.contains(markup), "{markup}: {marked}");
                }
            }
            let section = text(&body);
            assert!(section.contains(
                "› &lt;!channel&gt; &lt;@U1&gt; &lt;https://evil|x&gt; &amp;lt;!here&amp;gt; ∗b∗ ˍiˍ ∼s∼ ˋcˋ ˋˋˋdˋˋˋ a_b_c"
            ), "{section}");
            assert_eq!(section.matches('*').count(), 2, "ours: {section}");
            assert!(section.lines().all(|line| !line.starts_with("&gt;")));
        }
    }

    #[test]
    fn everything_stays_inside_the_limits() {
        for filler in ["&", "<", "*", "\u{1f511}", "e\u{301}\u{302}"] {
            let mut long = facts(&filler.repeat(10_000), 3);
            for field in [
                "purpose",
                "provider_ref",
                "environment",
                "owner_id",
                "provider_type",
            ] {
                long["secret"][field] = json!(filler.repeat(10_000));
            }
            for field in ["addressee", "interval_text"] {
                long[field] = json!(filler.repeat(10_000));
            }
            long["tenant"]["name"] = json!(filler.repeat(10_000));
            let body = body(&tests::render(&long), Some(&long));
            assert!(units(&body["blocks"][0]["text"]["text"]) <= SECTION_LIMIT);
            assert!(units(&body["blocks"][1]["elements"][0]["text"]) <= CONTEXT_LIMIT);
            assert!(units(&body["text"]) <= TEXT_LIMIT);
            for element in body["blocks"][2]["elements"].as_array().unwrap() {
                if element["type"] == "button" {
                    assert!(units(&element["text"]["text"]) <= BUTTON_TEXT_LIMIT);
                }
                for (part, limit) in [("title", 100), ("text", 300)] {
                    let text = &element["confirm"][part]["text"];
                    assert!(text.is_null() || units(text) <= limit, "{text}");
                }
            }
            let whole = text(&body);
            let tail: String = whole.chars().rev().take(8).collect();
            assert!(
                !tail.starts_with('…')
                    || tail.starts_with("…;")
                    || !tail["…".len()..].contains('&'),
                "{tail}"
            );
        }
        assert_eq!(cut("aaaaaaa&amp;b", 11), "aaaaaaa…");
        assert_eq!(fit("ab", 2), "ab");
        assert_eq!(fit("\u{1f511}\u{1f511}\u{1f511}", 4), "\u{1f511}…");
    }

    #[test]
    fn a_test_looks_like_a_reminder_and_opens_its_own_page() {
        let body = body(&tests::render(&tests::test_facts()), None);
        assert!(text(&body).starts_with("*[Test] sample-api-key expires in 14 days*\n"));
        assert!(text(&body).ends_with("Open the link once to see that it works."));
        assert_eq!(
            body["blocks"][2]["elements"][0]["url"],
            "https://x.test/a/test"
        );
    }

    #[test]
    fn a_key_rotation_has_no_button_and_its_errors_are_only_text() {
        let mut facts = tests::key_rotation_facts("failed");
        facts["error"] = json!("row <!channel> & <https://evil|x>");
        let message = body(&tests::render(&facts), Some(&facts));
        assert_eq!(
            message["blocks"].as_array().unwrap().len(),
            2,
            "{message:#}"
        );
        assert!(text(&message).starts_with(
            ":rotating_light: *Key rotation of Acme failed: 3 of 10,000 rows could not be re-encrypted*\n"
        ));
        assert!(text(&message).contains("row &lt;!channel&gt; &amp; &lt;https://evil|x&gt;"));
        assert!(text(&message).contains("select rotator.retry_key_rotation(7)"));
        for state in ["stalled", "overdue"] {
            let message = body(&tests::render(&tests::key_rotation_facts(state)), None);
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
