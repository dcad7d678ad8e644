//! What a statement of the property test was answered, and whether the answer betrays another tenant.

use anyhow::{Context, Result, bail};
use tokio_postgres::Client;

use super::session::As;

/// Rows, sorted, or the SQLSTATE, with all that the answer said.
#[derive(Default)]
pub struct Answer {
    pub rows: Vec<String>,
    pub error: Option<String>,
    pub said: String,
}

impl Answer {
    pub fn fail(&mut self, error: &tokio_postgres::Error) -> Result<()> {
        let Some(refusal) = error.as_db_error() else {
            bail!("the connection broke: {error:?}")
        };
        self.error = Some(refusal.code().code().to_owned());
        self.said = format!("{refusal:?}");
        Ok(())
    }

    pub fn finished(mut self) -> Self {
        self.rows.sort();
        self.said.push_str(&self.rows.join("\n"));
        self
    }
}

/// Whether the answer names a row or carries the mark of a tenant that the statement itself didn't name.
pub fn betrayed(
    said: &str,
    asked: &str,
    own: Option<usize>,
    owners: &[(String, usize)],
) -> Option<String> {
    let marks = said
        .match_indices("zq")
        .filter_map(|(at, _)| said.get(at..at + 4));
    let foreign_mark = marks
        .filter(|found| {
            found[2..]
                .parse::<usize>()
                .is_ok_and(|number| Some(number) != own)
        })
        .find(|found| !asked.contains(found));
    let foreign_row = || {
        owners
            .iter()
            .find(|(id, tenant)| {
                Some(*tenant) != own && said.contains(id.as_str()) && !asked.contains(id.as_str())
            })
            .map(|(id, _)| id.as_str())
    };
    foreign_mark.or_else(foreign_row).map(str::to_owned)
}

/// The role that a subject has: its member row, else what it claims.
pub async fn role_of(admin: &Client, who: &As, tenant_id: &str) -> Result<Option<String>> {
    let row = admin
        .query_opt(
            "select role from rotator_internal.member where tenant_id = $1::text::uuid and subject = $2",
            &[&tenant_id, &who.subject],
        )
        .await
        .context("the member row")?;
    Ok(match row {
        Some(row) => row.get(0),
        None => who.claimed_role.map(str::to_owned),
    })
}
