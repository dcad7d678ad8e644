//! The form of a link's page: what a browser sent, read once. Elsewhere: what it does (`link.rs`), whether another
//! site sent it (`origin.rs`).

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode, header};
use url::form_urlencoded;

/// The fields of the form, blank ones absent.
#[derive(Default)]
pub struct Form {
    pub action: Option<String>,
    /// As typed.
    pub next_expiry_date: Option<String>,
    /// As typed: the day on which people are told again.
    pub snooze_until: Option<String>,
    pub note: Option<String>,
}

/// Why there is no form to look at.
#[derive(Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Too long (413), or it broke off.
    Body(StatusCode),
    NotAForm,
}

impl Form {
    /// Reads a form-encoded body.
    ///
    /// # Errors
    /// The body is too long or incomplete, or not that of a form.
    pub fn read(
        headers: &HeaderMap,
        body: Result<Bytes, BytesRejection>,
    ) -> Result<Self, Unreadable> {
        let body = body.map_err(|rejection| Unreadable::Body(rejection.status()))?;
        let is_form = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| {
                value.split(';').next().is_some_and(|kind| {
                    kind.trim()
                        .eq_ignore_ascii_case("application/x-www-form-urlencoded")
                })
            });
        if !is_form && !body.is_empty() {
            return Err(Unreadable::NotAForm);
        }
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(&body) {
            let field = match name.as_ref() {
                "action" => &mut form.action,
                "next_expiry_date" => &mut form.next_expiry_date,
                "snooze_until" => &mut form.snooze_until,
                "note" => &mut form.note,
                _ => continue,
            };
            let value = printable(&value);
            let value = value.trim();
            if field.is_some() {
                // Said twice is not a deliberate choice.
                *field = Some(String::new());
            } else if !value.is_empty() {
                *field = Some(value.to_owned());
            }
        }
        Ok(form)
    }
}

/// Without characters that no keyboard types; line ends stay.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && !matches!(c, '\n' | '\r' | '\t') {
                ' '
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &'static str) -> Result<Form, Unreadable> {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_TYPE,
            "application/x-www-form-urlencoded; charset=utf-8"
                .parse()
                .unwrap(),
        );
        Form::read(&headers, Ok(Bytes::from_static(body.as_bytes())))
    }

    #[test]
    fn fields_are_read_once_and_blank_ones_count_as_absent() {
        let read =
            form("action=rotated&next_expiry_date=2027-01-31&note=+done%21+&other=1").unwrap();
        assert_eq!(read.action.as_deref(), Some("rotated"));
        assert_eq!(read.next_expiry_date.as_deref(), Some("2027-01-31"));
        assert_eq!(read.note.as_deref(), Some("done!"));
        let blank = form("action=&note=+&next_expiry_date=").unwrap();
        assert!(blank.action.is_none() && blank.note.is_none() && blank.next_expiry_date.is_none());
        assert_eq!(form("note=a%00b").unwrap().note.as_deref(), Some("a b"));
        assert_eq!(
            form("action=acknowledge&action=rotated")
                .unwrap()
                .action
                .as_deref(),
            Some("")
        );
    }

    #[test]
    fn other_kinds_of_bodies_are_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, "text/plain".parse().unwrap());
        let body = Ok(Bytes::from_static(b"action=rotated"));
        assert_eq!(Form::read(&headers, body).err(), Some(Unreadable::NotAForm));
    }
}
