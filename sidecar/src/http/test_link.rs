//! `/a/test`: where the link of a test notification leads. It says that links from notifications reach this sidecar,
//! knows no token, asks no database and takes no form, so that whoever finds it learns and changes nothing.
//! The notification: `rotator.test_notification`. Links that are about something: `link.rs`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::page::Notice;

/// GET and HEAD.
pub async fn show() -> Response {
    let lines = [
        "You came here from a test notification. Nothing needs rotating.",
        "In a real one, this page says what expires and when, and you confirm here that it is rotated.",
    ];
    let title = "Links from your notifications reach rotator";
    Notice {
        title,
        lines: &lines,
    }
    .answer(StatusCode::OK)
}

/// Every other method: there is no form here, so this is no person's press of a button.
pub async fn refuse() -> Response {
    let lines = [
        "Nothing was changed.",
        "This page only shows that links arrive; there is nothing to acknowledge or to confirm.",
    ];
    let title = "A test has no form";
    let mut answer = Notice {
        title,
        lines: &lines,
    }
    .answer(StatusCode::METHOD_NOT_ALLOWED)
    .into_response();
    let allowed = HeaderValue::from_static("GET,HEAD");
    answer.headers_mut().insert(header::ALLOW, allowed);
    answer
}
