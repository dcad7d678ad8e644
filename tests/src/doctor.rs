//! What the doctor says of one thing.

use anyhow::{Context, Result, ensure};
use tokio_postgres::Client;

/// Whether the check is content, and its detail. One that isn't says what to do.
pub async fn check(session: &Client, name: &str) -> Result<(bool, String)> {
    let row = session
        .query_opt(
            "select ok, detail, fix from rotator.doctor() where check_name = $1",
            &[&name],
        )
        .await?
        .with_context(|| format!("no check {name}"))?;
    let fix: Option<String> = row.get(2);
    ensure!(
        row.get::<_, bool>(0) || fix.is_some_and(|fix| !fix.is_empty()),
        "{name} doesn't say what to do"
    );
    Ok((row.get(0), row.get(1)))
}
