//! Trying again, with growing pauses and chance in them, within one limit for everything a command asks of AWS: the
//! database server waits for its master key command for ten seconds.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::error::KmsError;

/// How long one attempt may take. KMS answers within tens of milliseconds.
const ATTEMPT: Duration = Duration::from_secs(3);
/// With less time than this left no other attempt is made.
const LEAST: Duration = Duration::from_millis(250);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(1600);

/// Why an attempt failed.
pub enum Trouble {
    /// It may work in a moment.
    Again(Again),
    /// It won't.
    Final(KmsError),
}

/// What is reported if it doesn't work in time: `who` did `why`.
pub struct Again {
    pub who: String,
    pub why: String,
    pub throttled: bool,
}

impl Again {
    pub fn new(who: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            who: who.into(),
            why: why.into(),
            throttled: false,
        }
    }
}

impl From<KmsError> for Trouble {
    fn from(error: KmsError) -> Self {
        Self::Final(error)
    }
}

/// How long is left, of one limit for everything.
pub struct Patience {
    begun: Instant,
    limit: Duration,
}

impl Patience {
    /// From now on.
    pub fn new(limit: Duration) -> Self {
        Self {
            begun: Instant::now(),
            limit,
        }
    }

    fn left(&self) -> Duration {
        self.limit.saturating_sub(self.begun.elapsed())
    }

    /// Tries until it works, is refused, or the time is up.
    ///
    /// # Errors
    /// The refusal; [`KmsError::GaveUp`] with the last trouble.
    pub async fn keep_trying<T>(
        &self,
        who: &str,
        mut attempt: impl AsyncFnMut() -> Result<T, Trouble>,
    ) -> Result<T, KmsError> {
        let mut attempts = 0;
        let mut last: Option<Again> = None;
        loop {
            let most = self.left().min(ATTEMPT);
            attempts += 1;
            match timeout(most, attempt()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(Trouble::Final(error))) => return Err(error),
                Ok(Err(Trouble::Again(again))) => last = Some(again),
                // An attempt cut short by the end of our time says less than the one before it.
                Err(_) if most < ATTEMPT && last.is_some() => {}
                Err(_) => last = Some(Again::new(who, "does not answer")),
            }
            let pause = pause(attempts);
            if self.left() < pause + LEAST {
                let last = last.unwrap_or_else(|| Again::new(who, "was given no time to answer"));
                return Err(KmsError::GaveUp {
                    who: last.who,
                    throttled: last.throttled,
                    why: last.why,
                    attempts,
                    seconds: self.begun.elapsed().as_secs_f64(),
                });
            }
            sleep(pause).await;
        }
    }
}

/// Doubles with each attempt up to a longest; between half and all of that, so that servers that were turned away
/// together don't come back together.
fn pause(attempts: u32) -> Duration {
    let doubled = FIRST_PAUSE * 2_u32.pow((attempts - 1).min(8));
    let longest = doubled.min(LONGEST_PAUSE);
    let mut chance = [0_u8; 1];
    // Without chance all pauses are the longest.
    let share = match getrandom::fill(&mut chance) {
        Ok(()) => f64::from(chance[0]) / 255.0,
        Err(_) => 1.0,
    };
    longest.mul_f64(0.5 + 0.5 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn give_up(limit: Duration, slow: bool) -> KmsError {
        Patience::new(limit)
            .keep_trying("KMS", async || -> Result<(), Trouble> {
                if slow {
                    std::future::pending::<()>().await;
                }
                Err(Trouble::Again(Again::new("KMS", "turns us away")))
            })
            .await
            .unwrap_err()
    }

    #[tokio::test]
    async fn it_gives_up_within_its_limit_with_the_last_trouble() {
        let begun = Instant::now();
        let error = give_up(Duration::from_millis(900), false).await;
        assert!(begun.elapsed() < Duration::from_millis(900));
        let text = error.to_string();
        assert!(
            text.starts_with("KMS turns us away (") && text.contains("attempts in 0."),
            "{text}"
        );
        let begun = Instant::now();
        let error = give_up(Duration::from_millis(400), true).await;
        assert!(begun.elapsed() < Duration::from_millis(600));
        assert!(
            error
                .to_string()
                .contains("KMS does not answer (1 attempts"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn it_tries_again_and_stops_at_a_refusal() {
        let mut tries = 0;
        let patience = Patience::new(Duration::from_secs(8));
        let done = patience
            .keep_trying("KMS", async || {
                tries += 1;
                if tries < 3 {
                    return Err(Trouble::Again(Again::new("KMS", "turns us away")));
                }
                Ok(tries)
            })
            .await;
        assert_eq!(done.unwrap(), 3);
        let refused: Result<(), _> = patience
            .keep_trying("KMS", async || Err(KmsError::NoRegion.into()))
            .await;
        assert!(matches!(refused, Err(KmsError::NoRegion)));
    }

    #[test]
    fn pauses_grow_to_a_longest() {
        for attempts in 1..40 {
            let pause = pause(attempts);
            assert!(pause >= FIRST_PAUSE / 2 && pause <= LONGEST_PAUSE);
        }
        assert!(pause(20) >= LONGEST_PAUSE / 2);
    }
}
