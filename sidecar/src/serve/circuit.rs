//! What is known of each destination, and what follows for what waits to go there. A destination that works has up to
//! sixteen deliveries at once; one that is new, or has just failed, has one, so that a dead one never holds more. After
//! five failures in a row its circuit opens: nothing is sent for half a minute, doubling up to ten, and then one delivery
//! finds out. What waits for it meanwhile goes back to the queue, where it costs nobody anything.
//!
//! A failure is that nobody answers, or not in time; a vendor that refuses a message is there. Deliveries that take long
//! give their slot back after a second and go on beside the others (`Slots`). Elsewhere: who claims and begins
//! (`dispatch.rs`), how long a notification may be held back (`sql/api/fallback.sql`). Time is handed in; nothing here waits.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::delivery::{FinalReason, Outcome, Rate, RetryReason};

/// Deliveries at the same time that have not taken long yet.
pub const SLOTS: usize = 32;
/// Of these for destinations that are new or fail; the rest is always free for those that work.
const SLOTS_FOR_UNPROVEN: usize = 24;
/// Deliveries that take longer than [`SLOW`], beside the slots.
const SLOW_SLOTS: usize = 224;
/// After that a delivery holds no slot any more.
pub const SLOW: Duration = Duration::from_secs(1);
/// At the same time for one destination that works.
const AT_ONCE: usize = SLOTS / 2;
/// What may wait here for a destination that works and is slow; more waits in the database.
const WAITING: usize = 64;
/// How long it waits there, at least.
const LATER: Duration = Duration::from_secs(5);
/// Failures in a row that open the circuit.
const FAILURES: u32 = 5;
const OPEN_FIRST: Duration = Duration::from_secs(30);
const OPEN_LONGEST: Duration = Duration::from_secs(600);
/// A vendor's pace is kept by waiting here for that long, and in the database beyond it.
const TURN_SOON: Duration = Duration::from_secs(5);
/// Above this many, destinations of which nothing bad is known are forgotten.
const KNOWN: usize = 10_000;

/// How many deliveries are under way, of all destinations.
#[derive(Default)]
struct Slots {
    quick: usize,
    quick_unproven: usize,
    slow: usize,
}

/// What is known of one.
#[derive(Default)]
struct Destination {
    /// Under way.
    flying: usize,
    /// Of these, longer than [`SLOW`].
    slow: usize,
    /// Its last delivery was answered.
    proven: bool,
    /// In a row.
    failures: u32,
    /// What the last of them was.
    error: String,
    /// Nothing is sent before.
    closed_until: Option<Instant>,
    /// How long that was.
    pause: Duration,
    /// When the messages that were let through would have gone, one after the other.
    paced_until: Option<Instant>,
    /// The vendor asked for a pause.
    paused_until: Option<Instant>,
}

/// A delivery that has begun.
#[derive(Debug)]
pub struct Flight {
    destination: u64,
    unproven: bool,
    slow: bool,
}

/// What a circuit did.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    Opened(Duration),
    Closed,
}

/// What keeps a notification from being begun here.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// How long it should wait elsewhere.
    pub wait: Duration,
    pub error: String,
}

/// All that are known.
#[derive(Default)]
pub struct Destinations {
    known: HashMap<u64, Destination>,
    slots: Slots,
    open: usize,
}

impl Destinations {
    /// Whether nothing at all can begin now.
    pub const fn full(&self) -> bool {
        self.slots.quick >= SLOTS
    }

    /// Circuits that are open, or were until now and nobody has tried since.
    pub const fn open(&self) -> usize {
        self.open
    }

    /// Begins a delivery there if there is room for it and it is its turn; else says when its turn is, if that is known.
    ///
    /// # Errors
    /// Not now.
    pub fn begin(
        &mut self,
        key: u64,
        rate: Option<Rate>,
        now: Instant,
    ) -> Result<Flight, Option<Instant>> {
        self.forget(now);
        let known = self.known.entry(key).or_default();
        let unproven = known.is_unproven();
        if known.is_closed(now)
            || known.flying >= known.at_once()
            || self.slots.quick >= SLOTS
            || (unproven && self.slots.quick_unproven >= SLOTS_FOR_UNPROVEN)
            // So many hang that another one may, too: only who has nothing hanging is let through.
            || (self.slots.slow >= SLOW_SLOTS && (unproven || known.slow > 0))
        {
            return Err(None);
        }
        if let Some(until) = known.paused_until.filter(|until| *until > now) {
            return Err(Some(until));
        }
        if let Some(rate) = rate {
            let turn = known.turn(rate, 0, now);
            if turn > now {
                return Err(Some(turn));
            }
            known.paced_until =
                Some(known.paced_until.map_or(now, |until| until.max(now)) + rate.every);
        }
        known.flying += 1;
        self.slots.quick += 1;
        self.slots.quick_unproven += usize::from(unproven);
        Ok(Flight {
            destination: key,
            unproven,
            slow: false,
        })
    }

    /// It has taken longer than [`SLOW`].
    pub fn slow_down(&mut self, flight: &mut Flight) {
        if std::mem::replace(&mut flight.slow, true) {
            return;
        }
        self.slots.quick -= 1;
        self.slots.quick_unproven -= usize::from(flight.unproven);
        self.slots.slow += 1;
        if let Some(known) = self.known.get_mut(&flight.destination) {
            known.slow += 1;
        }
    }

    /// It has ended so, or nobody knows how.
    pub fn end(
        &mut self,
        flight: &Flight,
        outcome: Option<&Outcome>,
        now: Instant,
    ) -> Option<Change> {
        if flight.slow {
            self.slots.slow -= 1;
        } else {
            self.slots.quick -= 1;
            self.slots.quick_unproven -= usize::from(flight.unproven);
        }
        let known = self.known.get_mut(&flight.destination)?;
        known.flying -= 1;
        known.slow -= usize::from(flight.slow);
        let was_open = known.closed_until.is_some();
        let change = match outcome? {
            Outcome::Delivered { .. }
            | Outcome::Permanent {
                reason: FinalReason::Permanent | FinalReason::RecipientGone,
                ..
            } => known.answered(),
            Outcome::Retry {
                reason: RetryReason::Transient | RetryReason::Timeout,
                error,
                ..
            } => known.failed(error, now),
            Outcome::Retry {
                reason: RetryReason::RateLimited,
                after,
                ..
            } => {
                known.proven = true;
                known.paused_until = after.map(|after| now + after.min(OPEN_LONGEST));
                None
            }
            Outcome::Retry {
                reason: RetryReason::Refused,
                ..
            } => None,
        };
        match change {
            Some(Change::Opened(_)) => self.open += usize::from(!was_open),
            Some(Change::Closed) => self.open -= 1,
            None => {}
        }
        change
    }

    /// Whether something for that destination, behind so much else, should rather wait in the database.
    pub fn hold(&self, key: u64, rate: Option<Rate>, ahead: usize, now: Instant) -> Option<Held> {
        let known = self.known.get(&key)?;
        if let Some(until) = known.closed_until.filter(|until| *until > now) {
            let wait = until - now;
            let error = format!("held back, since its destination fails: {}", known.error);
            return Some(Held { wait, error });
        }
        let stuck = known.slow > 0 && known.flying >= known.at_once();
        if stuck && known.is_unproven() {
            let error = match known.failures {
                0 => "held back, since its destination takes long to answer".to_owned(),
                _ => format!("held back, since its destination fails: {}", known.error),
            };
            return Some(Held { wait: LATER, error });
        }
        if stuck && ahead >= WAITING {
            let error = "held back, since its destination takes long to answer".to_owned();
            return Some(Held { wait: LATER, error });
        }
        let turn = rate.map_or(now, |rate| known.turn(rate, ahead, now));
        let turn = known.paused_until.map_or(turn, |until| until.max(turn));
        let wait = turn.saturating_duration_since(now);
        (wait > TURN_SOON).then(|| Held {
            wait,
            error: "held back, since its vendor asks for a slower pace there".to_owned(),
        })
    }

    fn forget(&mut self, now: Instant) {
        if self.known.len() > KNOWN {
            self.known.retain(|_, known| {
                let later = |instant: Option<Instant>| instant.is_some_and(|until| until > now);
                let paced = later(known.paced_until) || later(known.paused_until);
                known.flying > 0 || known.failures > 0 || paced
            });
        }
    }
}

impl Destination {
    const fn is_unproven(&self) -> bool {
        !self.proven || self.failures > 0
    }

    const fn at_once(&self) -> usize {
        if self.is_unproven() { 1 } else { AT_ONCE }
    }

    fn is_closed(&self, now: Instant) -> bool {
        self.closed_until.is_some_and(|until| until > now)
    }

    /// When one may go that has so many before it.
    fn turn(&self, rate: Rate, ahead: usize, now: Instant) -> Instant {
        let until = self.paced_until.map_or(now, |until| until.max(now));
        let place = until + rate.every * u32::try_from(ahead).unwrap_or(u32::MAX).min(100_000);
        let head_start = rate.every * rate.at_once.saturating_sub(1);
        place
            .checked_sub(head_start)
            .map_or(now, |turn| turn.max(now))
    }

    fn answered(&mut self) -> Option<Change> {
        self.proven = true;
        self.failures = 0;
        self.pause = Duration::ZERO;
        self.error.clear();
        self.closed_until.take().map(|_| Change::Closed)
    }

    fn failed(&mut self, error: &str, now: Instant) -> Option<Change> {
        self.failures = self.failures.saturating_add(1);
        error.clone_into(&mut self.error);
        // Others that were under way when it opened are late news.
        if self.failures < FAILURES || self.is_closed(now) {
            return None;
        }
        self.pause = (self.pause * 2).clamp(OPEN_FIRST, OPEN_LONGEST);
        self.closed_until = Some(now + self.pause);
        Some(Change::Opened(self.pause))
    }
}

#[cfg(test)]
#[path = "circuit_tests.rs"]
mod tests;
