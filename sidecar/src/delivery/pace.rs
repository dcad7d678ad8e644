//! A pace that is kept on our side of a vendor's limit: some calls at once, and then one after the other. Each key (a
//! routing key, say, as a hash) has its own. The algorithm is GCRA, which keeps one instant a key:
//! <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>. Several sidecars know nothing of each other's calls; what
//! they do too much is answered with 429.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Above this many, keys that have been quiet are forgotten.
const KEYS: usize = 1000;

/// Calls may begin this often.
pub struct Pace {
    every: Duration,
    at_once: u32,
    /// When the calls that were let through so far would have ended, one after the other.
    taken_until: Mutex<HashMap<u64, Instant>>,
}

impl Pace {
    /// `at_once` calls without a pause, then one `every` so often; what isn't used gathers again.
    pub fn new(every: Duration, at_once: u32) -> Self {
        Self {
            every,
            at_once,
            taken_until: Mutex::default(),
        }
    }

    /// How long to wait before the next call. If that is at most `longest`, the call counts as made then (`Ok`); else
    /// nothing is taken (`Err`).
    pub fn take(&self, key: u64, now: Instant, longest: Duration) -> Result<Duration, Duration> {
        let mut taken_until = self
            .taken_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if taken_until.len() > KEYS {
            taken_until.retain(|_, until| *until > now);
        }
        let until = taken_until.get(&key).map_or(now, |until| now.max(*until));
        let ahead = self.every * self.at_once.saturating_sub(1);
        let wait = (until - now).saturating_sub(ahead);
        if wait > longest {
            return Err(wait);
        }
        taken_until.insert(key, until + self.every);
        Ok(wait)
    }

    /// The vendor asks for a pause: nobody calls with that key before it ends.
    pub fn pause(&self, key: u64, now: Instant, pause: Duration) {
        let ahead = self.every * self.at_once.saturating_sub(1);
        let until = now + pause + ahead;
        let mut taken_until = self
            .taken_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = taken_until.entry(key).or_insert(until);
        *known = until.max(*known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(10);

    #[test]
    fn some_go_at_once_and_then_one_after_the_other() {
        let (pace, now) = (Pace::new(SECOND, 3), Instant::now());
        let waits: Vec<_> = (0..6).map(|_| pace.take(1, now, LONGEST)).collect();
        let expected = [0, 0, 0, 1, 2, 3].map(|seconds| Ok(SECOND * seconds));
        assert_eq!(waits, expected);
        assert_eq!(
            pace.take(2, now, LONGEST),
            Ok(Duration::ZERO),
            "another key"
        );
        // A minute later all is forgotten, and no more than the usual goes at once.
        let later = now + 60 * SECOND;
        let waits: Vec<_> = (0..4).map(|_| pace.take(1, later, LONGEST)).collect();
        assert_eq!(waits, [0, 0, 0, 1].map(|seconds| Ok(SECOND * seconds)));
    }

    #[test]
    fn who_would_wait_too_long_takes_nothing() {
        let (pace, now) = (Pace::new(SECOND, 1), Instant::now());
        for seconds in 0..=10 {
            assert_eq!(pace.take(1, now, LONGEST), Ok(SECOND * seconds));
        }
        for _ in 0..3 {
            assert_eq!(pace.take(1, now, LONGEST), Err(SECOND * 11));
        }
        assert_eq!(pace.take(1, now + SECOND, LONGEST), Ok(LONGEST));
    }

    #[test]
    fn a_pause_is_kept_by_all_and_only_that_key() {
        let (pace, now) = (Pace::new(SECOND, 3), Instant::now());
        assert_eq!(pace.take(1, now, LONGEST), Ok(Duration::ZERO));
        pace.pause(1, now, 30 * SECOND);
        pace.pause(1, now, 2 * SECOND);
        assert_eq!(pace.take(1, now, LONGEST), Err(30 * SECOND));
        assert_eq!(pace.take(1, now + 25 * SECOND, LONGEST), Ok(5 * SECOND));
        assert_eq!(pace.take(2, now, LONGEST), Ok(Duration::ZERO));
    }

    #[test]
    fn quiet_keys_are_forgotten() {
        let (pace, now) = (Pace::new(SECOND, 1), Instant::now());
        for key in 0..=KEYS as u64 {
            let _ = pace.take(key, now, LONGEST);
        }
        let _ = pace.take(0, now + 60 * SECOND, LONGEST);
        assert_eq!(pace.taken_until.lock().unwrap().len(), 1);
    }
}
