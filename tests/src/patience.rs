//! Waiting for events instead of sleeping: a probe is asked again until it has an answer, and a test that waited in
//! vain says for what.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` until it gives `Some`, for at most `limit`. An error of the probe ends the wait at once.
///
/// ```ignore
/// let sent = eventually(Duration::from_secs(10), "the mail", async || Ok(mail.received()?.pop())).await?;
/// ```
pub async fn eventually<T>(
    limit: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = probe().await? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// As [`eventually`], for a condition.
pub async fn until(
    limit: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    eventually(limit, what, async || Ok(probe().await?.then_some(()))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn eventually_gives_the_first_answer() -> Result<()> {
        let mut asked = 0;
        let answer = eventually(Duration::from_secs(5), "three", async || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        })
        .await?;
        assert_eq!(answer, 3);
        Ok(())
    }

    #[tokio::test]
    async fn waiting_in_vain_names_what_was_waited_for() {
        let outcome = until(Duration::from_millis(30), "a pig to fly", async || {
            Ok(false)
        })
        .await;
        let message = outcome.expect_err("it can't come true").to_string();
        assert!(message.contains("a pig to fly"), "{message}");
    }
}
