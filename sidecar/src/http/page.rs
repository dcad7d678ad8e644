//! The pages as types: templates escape everything, styles are embedded and named in the policy by their hash, and
//! nothing is loaded from anywhere. Elsewhere: who gets which page (`link.rs`), what the database says (`view.rs`),
//! headers (`mod.rs`).

use std::sync::LazyLock;

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::view::View;

const STYLE: &str = include_str!("../../templates/style.css");

/// Nothing but our own styles, recognised by their hash, and forms to ourselves.
pub static CONTENT_SECURITY_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE.trim_end_matches('\n').as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// The link's page: what it is about, and the form.
#[derive(Template)]
#[template(path = "link.html")]
pub struct LinkPage<'a> {
    pub view: &'a View,
    /// What was wrong with the form before.
    pub error: Option<&'a str>,
    pub note: &'a str,
    pub date: &'a str,
    /// As typed before.
    pub snooze_until: Option<&'a str>,
}

/// A page that only says something.
#[derive(Template)]
#[template(path = "notice.html")]
pub struct Notice<'a> {
    pub title: &'a str,
    pub lines: &'a [&'a str],
}

impl Notice<'_> {
    /// This notice as an answer.
    pub fn answer(&self, status: StatusCode) -> Response {
        answer(status, self)
    }
}

/// A rendered page as an answer.
pub fn answer(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => {
            let html_type = HeaderValue::from_static("text/html; charset=utf-8");
            (status, [(header::CONTENT_TYPE, html_type)], html).into_response()
        }
        Err(error) => {
            tracing::error!("a page can't be rendered: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::view::tests::show;
    use super::*;
    use serde_json::{Value, json};

    fn page(value: Value) -> String {
        let view = View::read(value).unwrap();
        LinkPage {
            view: &view,
            error: None,
            note: "\"><script>",
            date: "",
            snooze_until: None,
        }
        .render()
        .unwrap()
    }

    #[test]
    fn nothing_is_preselected_and_everything_is_escaped() {
        let html = page(show("open"));
        for action in ["acknowledge", "snooze", "rotated"] {
            assert!(html.contains(&format!("value=\"{action}\"")), "{action}");
        }
        assert!(
            html.contains("type=\"date\"") && html.contains("Expires in 14 days: Sun 6 Dec 2026")
        );
        assert!(!html.contains("checked") && !html.contains("selected"));
        assert!(!html.contains("<b>key") && !html.contains("<script"));
        assert!(!html.contains("http"), "no resource of anybody else");
    }

    #[test]
    fn texts_of_others_stay_on_their_line_and_turn_nothing_around() {
        let mut value = show("open");
        value["secret"]["purpose"] = json!(format!(
            "a\u{202e}b\r\n\u{338}<img src=x onerror=y>{}",
            "z".repeat(10_000)
        ));
        value["secret"]["owner_id"] = json!("\"><svg/onload=x>");
        value["tenant"]["name"] = json!("Ac\u{200b}me\u{1b}[31m");
        value["snoozed"] = json!({"until": "Tue 1 Dec 2026, 09:00 (UTC)", "by": "<b>sam"});
        let html = page(value);
        for injected in [
            "<img", "<svg", "<b>sam", "\u{202e}", "\u{1b}", "\u{200b}", "\u{338}",
        ] {
            assert!(!html.contains(injected), "{injected:?}: {html}");
        }
        assert!(html.len() < 20_000 && html.contains("until Tue 1 Dec 2026, 09:00 (UTC), by "));
    }

    #[test]
    fn the_policy_names_the_styles_that_are_on_the_page() {
        let html = page(show("open"));
        let style = html
            .split("<style>")
            .nth(1)
            .unwrap()
            .split("</style>")
            .next()
            .unwrap();
        let hash = STANDARD.encode(Sha256::digest(style.as_bytes()));
        assert!(CONTENT_SECURITY_POLICY.to_str().unwrap().contains(&hash));
    }

    #[test]
    fn acknowledged_leaves_rotated_usable() {
        let mut value = show("acknowledged");
        value["acknowledged"] = json!({"by": "bob", "at": "2026-11-22T10:00:00+00:00"});
        let html = page(value);
        assert!(
            html.contains("by bob, Sun 22 Nov 2026, 11:00 (Europe/Berlin)"),
            "{html}"
        );
        assert!(!html.contains("value=\"acknowledge\"") && html.contains("value=\"rotated\""));
    }
}
