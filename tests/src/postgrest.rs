//! PostgREST's part, for tests that speak to the database as it does, since it has no package here: how a request begins,
//! how a value is written, and what it makes of an error (<https://docs.postgrest.org/en/stable/references/errors.html>).

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_postgres::Client;

/// Begins a request's transaction: the role that the claims name, and the claims, local to it. A GET reads only.
pub async fn begin(session: &Client, claims: &Value, reads: bool) -> Result<()> {
    let role = claims["role"].as_str().context("the claims name a role")?;
    let mode = if reads { "read only" } else { "read write" };
    session
        .batch_execute(&format!("begin {mode}; set local role {role}"))
        .await?;
    session
        .execute(
            "select set_config('request.jwt.claims', $1, true)",
            &[&claims.to_string()],
        )
        .await?;
    Ok(())
}

/// A value without a type, so that the column or argument gives it one.
pub fn literal(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("'{}'", text.replace('\'', "''")),
        other => format!("'{}'", other.to_string().replace('\'', "''")),
    }
}

/// The HTTP status of an answer to a logged-in caller, by the error's SQLSTATE.
pub fn status(sqlstate: &str) -> u16 {
    let class = sqlstate.get(..2).unwrap_or_default();
    match (class, sqlstate) {
        (_, "23503" | "23505") => 409,
        (_, "25006") => 405,
        (_, "42501") => 403,
        (_, "42883" | "42P01") => 404,
        (_, "42P17" | "53400") => 500,
        (_, "P0001") => 400,
        ("PT", _) => sqlstate[2..].parse().unwrap_or(500),
        ("08" | "53", _) => 503,
        ("0L" | "0P" | "28", _) => 403,
        (
            "09" | "25" | "2D" | "38" | "39" | "3B" | "40" | "54" | "55" | "57" | "58" | "F0"
            | "HV" | "P0" | "XX",
            _,
        ) => 500,
        _ => 400,
    }
}

/// Whether the caller is told that the mistake is his: a 4xx.
pub fn blames_the_caller(sqlstate: &str) -> bool {
    (400..500).contains(&status(sqlstate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_its_table() {
        for (sqlstate, expected) in [
            ("22023", 400),
            ("22P02", 400),
            ("RT001", 400),
            ("P0001", 400),
            ("P0002", 500),
            ("23502", 400),
            ("23505", 409),
            ("42501", 403),
            ("42883", 404),
            ("25006", 405),
            ("25001", 500),
            ("40001", 500),
            ("53100", 503),
            ("54000", 500),
            ("55P03", 500),
            ("PT404", 404),
            ("PT410", 410),
            ("XX000", 500),
        ] {
            assert_eq!(status(sqlstate), expected, "{sqlstate}");
        }
        assert!(blames_the_caller("RT002") && !blames_the_caller("XX000"));
    }
}
