//! The pages as types: templates escape everything, styles are embedded and named in the policy by their hash, and
//! nothing is loaded from anywhere. Elsewhere: who gets which page (`link.rs`), headers (`mod.rs`).

use std::sync::LazyLock;

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("../../templates/style.css");

/// Nothing but our own styles, recognised by their hash, and forms to ourselves.
pub static CONTENT_SECURITY_POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE.trim_end_matches('\n').as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// What `redeem_link(…, 'show')` answers.
#[derive(Debug, Deserialize)]
pub struct View {
    state: String,
    pub tenant: Tenant,
    pub secret: Secret,
    #[serde(default)]
    expiry_local: Option<String>,
    #[serde(default)]
    pub days_until_expiry: i64,
    #[serde(default)]
    pub needs_next_expiry_date: bool,
    #[serde(default)]
    pub acknowledged: Option<Deed>,
}

#[derive(Debug, Deserialize)]
pub struct Tenant {
    pub name: String,
    pub time_zone: String,
}

#[derive(Debug, Deserialize)]
pub struct Secret {
    pub name: String,
    #[serde(default)]
    pub provider_type: Option<String>,
    #[serde(default)]
    pub environment: Option<String>,
    #[serde(default)]
    pub priority: Option<String>,
    #[serde(default)]
    pub owner_id: Option<String>,
    #[serde(default)]
    pub purpose: Option<String>,
}

/// Who did something, and when.
#[derive(Debug, Deserialize)]
pub struct Deed {
    #[serde(default)]
    pub by: Option<String>,
    #[serde(default)]
    pub at: Option<String>,
}

impl View {
    fn headline(&self) -> String {
        let (verb, distance) = match self.days_until_expiry {
            2.. => ("Expires", format!("in {} days", self.days_until_expiry)),
            1 => ("Expires", "tomorrow".to_owned()),
            0 => ("Expires", "today".to_owned()),
            -1 => ("Expired", "yesterday".to_owned()),
            days => ("Expired", format!("{} days ago", days.unsigned_abs())),
        };
        match &self.expiry_local {
            Some(local) => format!("{verb} {distance}: {local}"),
            None => format!("{verb} {distance}"),
        }
    }

    fn is_rotated(&self) -> bool {
        self.state == "rotated"
    }

    fn is_acknowledged(&self) -> bool {
        self.state == "acknowledged"
    }
}

impl Deed {
    /// `by alice, Sun 22 Nov 2026, 11:00 (Europe/Berlin)`
    pub fn sentence(&self, time_zone: &str) -> String {
        let by = self.by.as_deref().map(|by| format!("by {by}"));
        let at = self.at.as_deref().map(|at| local(at, time_zone));
        [by, at]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// An instant as people of that zone write it; as it came if it can't be read.
pub fn local(instant: &str, time_zone: &str) -> String {
    let Ok(instant_read) = instant.parse::<Timestamp>() else {
        return instant.to_owned();
    };
    let (zone, name) = match TimeZone::get(time_zone) {
        Ok(zone) => (zone, time_zone),
        Err(_) => (TimeZone::UTC, "UTC"),
    };
    format!(
        "{} ({name})",
        instant_read.to_zoned(zone).strftime("%a %-d %b %Y, %H:%M")
    )
}

/// The link's page: what it is about, and the form.
#[derive(Template)]
#[template(path = "link.html")]
pub struct LinkPage<'a> {
    pub view: &'a View,
    /// What was wrong with the form before.
    pub error: Option<&'a str>,
    pub note: &'a str,
    pub date: &'a str,
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
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub fn show(state: &str) -> Value {
        json!({
            "state": state,
            "tenant": {"slug": "acme", "name": "Acme", "time_zone": "Europe/Berlin"},
            "secret": {"name": "<b>key</b>", "provider_type": "stripe", "environment": null, "priority": "P2",
                       "owner_id": "alice", "purpose": null},
            "expiry_date": "2026-12-06T08:00:00Z", "expiry_local": "Sun 6 Dec 2026, 09:00 (Europe/Berlin)",
            "days_until_expiry": 14, "cycle": 1, "needs_next_expiry_date": true,
            "acknowledged": null
        })
    }

    fn page(value: Value) -> String {
        let view = View::deserialize(value).unwrap();
        LinkPage {
            view: &view,
            error: None,
            note: "\"><script>",
            date: "",
        }
        .render()
        .unwrap()
    }

    #[test]
    fn nothing_is_preselected_and_everything_is_escaped() {
        let html = page(show("open"));
        assert!(html.contains("value=\"acknowledge\"") && html.contains("value=\"rotated\""));
        assert!(
            html.contains("type=\"date\"") && html.contains("Expires in 14 days: Sun 6 Dec 2026")
        );
        assert!(!html.contains("checked") && !html.contains("selected"));
        assert!(!html.contains("<b>key") && !html.contains("<script"));
        assert!(!html.contains("http"), "no resource of anybody else");
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
    fn acknowledged_leaves_rotated_usable_and_rotated_leaves_nothing() {
        let mut value = show("acknowledged");
        value["acknowledged"] = json!({"by": "bob", "at": "2026-11-22T10:00:00+00:00"});
        let html = page(value);
        assert!(
            html.contains("by bob, Sun 22 Nov 2026, 11:00 (Europe/Berlin)"),
            "{html}"
        );
        assert!(!html.contains("value=\"acknowledge\"") && html.contains("value=\"rotated\""));
        assert!(!page(show("rotated")).contains("<form"));
    }
}
