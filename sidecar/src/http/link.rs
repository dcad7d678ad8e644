//! `/a/{token}`: the link inside a notification. GET shows what it is about and changes nothing, since mail scanners
//! and chat unfurlers fetch links. POST acts, but only on a deliberate choice that nothing preselects, since some
//! scanners submit simple forms.
//!
//! The token is the authority: it is never logged, and what can't be one never reaches the database.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::form::{Form, Unreadable};
use super::origin;
use super::page::{LinkPage, Notice, answer};
use super::refusals::Refusals;
use super::view::{Deed, View, for_people, local};
use crate::db::{DbError, Redemption, Session};

/// 32 random bytes in base64url without padding.
const TOKEN_LENGTH: usize = 43;
/// The database's word for a text that looks like a credential's value: not even shown back.
const LOOKS_LIKE_A_SECRET: &str = "RT001";

const UNCHANGED: &str = "Nothing was changed.";

/// What the link pages need.
pub struct Links {
    pub session: Arc<Session>,
    pub refusals: Refusals,
    pub public_url: Url,
}

/// GET and HEAD.
pub async fn show(State(links): State<Arc<Links>>, Path(token): Path<String>) -> Response {
    match view(&links, &token).await {
        Ok(view) => answer(
            StatusCode::OK,
            &LinkPage {
                view: &view,
                error: None,
                note: "",
                date: "",
                snooze_until: None,
            },
        ),
        Err(Unseen::Over(response) | Unseen::Answer(response)) => response,
    }
}

/// POST.
pub async fn act(
    State(links): State<Arc<Links>>,
    Path(token): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if !origin::is_ours(&headers, &links.public_url) {
        return notice(
            StatusCode::FORBIDDEN,
            "This form came from another site",
            &[
                UNCHANGED,
                "Open the link in your notification again and use the form there.",
            ],
        );
    }
    let mut form = match Form::read(&headers, body) {
        Ok(form) => form,
        Err(Unreadable::NotAForm) => {
            let lines = [
                UNCHANGED,
                "Open the link in your notification again and use the form there.",
            ];
            return notice(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "This is not the form of this page",
                &lines,
            );
        }
        Err(Unreadable::Body(status)) => {
            let lines = [UNCHANGED, "Shorten the note and send it again."];
            return notice(status, "That is more than this form takes", &lines);
        }
    };
    // Also finds out whether the link is good, before anything is said about the form.
    let view = match view(&links, &token).await {
        Ok(view) => view,
        Err(Unseen::Over(response)) => return repeat(&links, &token, &form, response).await,
        Err(Unseen::Answer(response)) => return response,
    };
    let again = |error: &str| refuse(&view, &form, error);
    let action = match form.action.as_deref() {
        Some(action @ ("acknowledge" | "snooze" | "rotated")) => action,
        _ => return again("Nothing was changed: choose one of them first."),
    };
    let date = form
        .next_expiry_date
        .as_deref()
        .filter(|_| action == "rotated");
    match date {
        Some(date) if date.parse::<jiff::civil::Date>().is_err() => {
            links.refused(&token, action, "input").await;
            return again("Nothing was changed: the new expiry date is not a date.");
        }
        None if action == "rotated" && view.needs_next_expiry_date => {
            links.refused(&token, action, "input").await;
            return again("Nothing was changed: enter the new expiry date as well.");
        }
        _ => {}
    }
    let until = (action == "snooze").then(|| view.snooze_end(form.snooze_until.as_deref()));
    if until == Some(None) {
        links.refused(&token, action, "input").await;
        return again("Nothing was changed: the day to be reminded on is not a date.");
    }
    let until = until.flatten();
    let zone = view.tenant.time_zone.as_str();
    let request = Redemption {
        note: form.note.as_deref(),
        until: until.as_deref(),
        next_expiry: date.map(|date| (date, zone)),
        ..Redemption::plain(&token, action)
    };
    match links.session.redeem_link(request).await {
        Ok(result) => done(action, &view.secret.name, &view.tenant.time_zone, result),
        Err(error) if is_bad_input(&error) => {
            links.failed(&token, action, &error).await;
            let hint = error.hint().map(sentence).unwrap_or_default();
            let problem = sentence(&for_people(&error));
            if error.sqlstate() == Some(LOOKS_LIKE_A_SECRET) {
                form.note = None;
            }
            refuse(
                &view,
                &form,
                &format!("Nothing was changed: {problem} {hint}"),
            )
        }
        Err(error) => {
            links.failed(&token, action, &error).await;
            problem(&error)
        }
    }
}

/// The form again, with what was wrong and what was typed; the choice has to be made anew.
fn refuse(view: &View, form: &Form, error: &str) -> Response {
    let page = LinkPage {
        view,
        error: Some(error),
        note: form.note.as_deref().unwrap_or(""),
        date: form.next_expiry_date.as_deref().unwrap_or(""),
        snooze_until: form.snooze_until.as_deref(),
    };
    answer(StatusCode::UNPROCESSABLE_ENTITY, &page)
}

/// Why a link's page can't be shown.
enum Unseen {
    /// Its cycle has ended, or its time. An action that ended the cycle may still be repeated.
    Over(Response),
    Answer(Response),
}

/// A second press of the button that ended the cycle: says who had done it, and when.
async fn repeat(links: &Links, token: &str, form: &Form, over: Response) -> Response {
    let Some(action @ ("acknowledge" | "rotated")) = form.action.as_deref() else {
        return over;
    };
    let request = Redemption::plain(token, action);
    match links.session.redeem_link(request).await {
        Ok(result) => done(action, "It", "UTC", result),
        Err(error) => {
            links.failed(token, action, &error).await;
            problem(&error)
        }
    }
}

/// What the token is about.
async fn view(links: &Links, token: &str) -> Result<View, Unseen> {
    let well_formed = token.len() == TOKEN_LENGTH
        && token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if !well_formed {
        return Err(Unseen::Answer(unknown()));
    }
    let request = Redemption::plain(token, "show");
    let shown =
        links
            .session
            .redeem_link(request)
            .await
            .map_err(|error| match error.sqlstate() {
                Some("PT410") => Unseen::Over(problem(&error)),
                _ => Unseen::Answer(problem(&error)),
            })?;
    View::read(shown).map_err(|error| {
        tracing::error!("redeem_link answered with something else than agreed: {error}");
        Unseen::Answer(broken())
    })
}

/// What the action did, or who had done it before.
fn done(action: &str, name: &str, zone: &str, result: Value) -> Response {
    #[derive(Deserialize)]
    struct Done {
        #[serde(default)]
        already: bool,
        #[serde(default)]
        next_expiry_local: Option<String>,
        #[serde(default)]
        next_expiry_date: Option<String>,
        #[serde(default)]
        until_local: Option<String>,
        #[serde(flatten)]
        deed: Deed,
    }
    let done = match Done::deserialize(result) {
        Ok(done) => done,
        Err(error) => {
            tracing::error!("redeem_link answered with something else than agreed: {error}");
            return broken();
        }
    };
    let by = done.deed.sentence(zone);
    let quiet = done.until_local.map_or_else(String::new, |until| {
        format!("Nobody is told about it until {until}. ")
    });
    let (title, first) = match (action, done.already) {
        ("rotated", true) => (
            "Already marked as rotated",
            format!("{name} was marked as rotated {by}."),
        ),
        ("rotated", false) => (
            "Marked as rotated",
            format!("{name} is rotated. Thank you."),
        ),
        ("snooze", true) => ("Already snoozed", format!("{name} was snoozed {by}.")),
        ("snooze", false) => ("Snoozed", format!("{name} is snoozed.")),
        (_, true) => (
            "Already acknowledged",
            format!("{name} was acknowledged {by}."),
        ),
        (_, false) => (
            "Acknowledged",
            format!("{name} is acknowledged. It still has to be rotated."),
        ),
    };
    let next = done.next_expiry_local.or_else(|| {
        done.next_expiry_date
            .as_deref()
            .map(|date| local(date, zone))
    });
    let second = match (action, done.already, next) {
        (_, true, _) => UNCHANGED.to_owned(),
        ("rotated", false, Some(next)) => format!("It expires next: {next}."),
        ("rotated", false, None) => String::new(),
        ("snooze", ..) => {
            format!("{quiet}Nobody has taken it on: it still has to be rotated before it expires.")
        }
        _ => format!("{quiet}When it is rotated, open the same link again and say so."),
    };
    let lines: Vec<&str> = [first.as_str(), second.as_str()]
        .into_iter()
        .filter(|line| !line.is_empty())
        .collect();
    notice(StatusCode::OK, title, &lines)
}

fn is_bad_input(error: &DbError) -> bool {
    // 22 bad argument, 23 what a constraint refuses, RT001 a note that looks like a secret value.
    error.sqlstate().is_some_and(|state| {
        state.starts_with("22") || state.starts_with("23") || state == LOOKS_LIKE_A_SECRET
    })
}

fn problem(error: &DbError) -> Response {
    match error.sqlstate() {
        Some("PT404") => unknown(),
        Some("PT410") => notice(
            StatusCode::GONE,
            "This link is no longer valid",
            &[
                "It has expired, or what it was about has been rotated since.",
                "The newest notification has a new link.",
            ],
        ),
        Some("PT409") => notice(
            StatusCode::CONFLICT,
            "That is not possible now",
            &[
                UNCHANGED,
                &sentence(&for_people(error)),
                error.hint().unwrap_or("Open the link again."),
            ],
        ),
        _ => {
            tracing::error!(
                sqlstate = error.sqlstate().unwrap_or_default(),
                "a link could not be answered: {error}"
            );
            // RT010 and its kin: an operator has to act, and the same link works afterwards.
            let later = error.is_transient()
                || matches!(error, DbError::Refused { .. })
                || error
                    .sqlstate()
                    .is_some_and(|state| state.starts_with("RT01"));
            if later { unavailable() } else { broken() }
        }
    }
}

/// The same page for every token that isn't one, however it isn't.
pub fn unknown() -> Response {
    notice(
        StatusCode::NOT_FOUND,
        "There is nothing here",
        &[
            "This link is not known. Check that it was copied completely, or open it from the notification itself.",
        ],
    )
}

/// Try again soon.
pub fn unavailable() -> Response {
    let lines = [
        UNCHANGED,
        "The link stays good: please try again in a minute.",
    ];
    notice(
        StatusCode::SERVICE_UNAVAILABLE,
        "rotator is not available right now",
        &lines,
    )
}

fn broken() -> Response {
    let lines = [
        UNCHANGED,
        "The operators of this service find the reason in its log.",
    ];
    notice(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Something went wrong here",
        &lines,
    )
}

fn notice(status: StatusCode, title: &str, lines: &[&str]) -> Response {
    Notice { title, lines }.answer(status)
}

/// A server's message as a sentence: it starts small and has no full stop.
fn sentence(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    if text.is_empty() {
        String::new()
    } else {
        format!("{text}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_says_becomes_the_right_page() {
        let statement = |sqlstate: &str| DbError::Statement {
            sqlstate: sqlstate.to_owned(),
            message: "m".to_owned(),
            hint: None,
        };
        for (sqlstate, status) in [
            ("PT404", 404),
            ("PT410", 410),
            ("PT409", 409),
            ("RT010", 503),
            ("57P01", 503),
            ("42501", 500),
        ] {
            assert_eq!(problem(&statement(sqlstate)).status(), status, "{sqlstate}");
        }
        assert_eq!(problem(&DbError::Timeout { seconds: 8 }).status(), 503);
        assert!(is_bad_input(&statement("22023")) && is_bad_input(&statement("RT001")));
        assert!(!is_bad_input(&statement("PT404")));
    }
}
