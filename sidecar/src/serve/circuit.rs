//! What is known of each destination, and what follows for what waits to go there. A destination that works has up to
//! sixteen deliveries at once; one that is new, or has just failed, has one, so that a dead one never holds more. After
//! five failures in a row its circuit opens: nothing is sent for half a minute, doubling up to ten, and then one delivery
//! finds out. What waits for it meanwhile goes back to the queue, where it costs nobody anything.
//!
//! A failure is that nobody answers, or not in time; a vendor that refuses a message is there. Deliveries that take long
//! give their slot back, after a moment if others need it, and go on beside them (`Slots`). Elsewhere: who claims and begins
//! (`dispatch.rs`), how long each has taken (`flights.rs`), how long a notification may be held back
//! (`sql/api/fallback.sql`). Time is handed in; nothing here waits.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::delivery::{FinalReason, Outcome, Rate, RetryReason};

/// Deliveries at the same time that have not taken long yet.
pub const SLOTS: usize = 32;
/// Of these for destinations that fail; the rest is always free for those that work, or may.
const SLOTS_FOR_FAILING: usize = 24;
/// Deliveries that are set aside, beside the slots.
const SLOTS_ASIDE: usize = 224;
/// After that a delivery is set aside where others need its slot: vendors that work answer in about that time, and a hundred
/// that don't have given way before anybody notices.
pub const SOON: Duration = Duration::from_millis(50);
/// After that a delivery is set aside in any case, and its destination counts as slow.
pub const SLOW: Duration = Duration::from_secs(1);
/// At the same time for one destination that works.
const AT_ONCE: usize = SLOTS / 2;
/// Of these, so many may take long: then one must end before another begins.
const SLOW_AT_ONCE: usize = 2;
/// What may wait here for a destination that works and is slow; more waits in the database.
const WAITING: usize = 64;
/// How long it waits there, at least; and where the last delivery failed, about as long as the next one takes to.
const LATER: Duration = Duration::from_secs(5);
const MUCH_LATER: Duration = Duration::from_secs(20);
/// Failures in a row that open the circuit.
const FAILURES: u32 = 5;
const OPEN_FIRST: Duration = Duration::from_secs(30);
const OPEN_LONGEST: Duration = Duration::from_secs(600);
/// A vendor's pace is kept by waiting here for that long, and in the database beyond it.
const TURN_SOON: Duration = Duration::from_secs(5);
/// A pause where a vendor asks for one and doesn't say how long.
const PAUSE: Duration = Duration::from_secs(1);
/// Above this many, destinations of which nothing bad is known are forgotten.
const KNOWN: usize = 10_000;
/// What fails and is not asked for so long is forgotten, too: its contact may be gone.
const QUIET: Duration = Duration::from_secs(3600);

/// How many deliveries are under way, of all destinations.
#[derive(Default)]
struct Slots {
    taken: usize,
    taken_by_failing: usize,
    aside: usize,
}

/// What is known of one.
struct Destination {
    /// When something last began or ended there.
    touched: Instant,
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
    failing: bool,
    aside: bool,
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

impl Held {
    fn slow() -> Self {
        Self {
            wait: LATER,
            error: "held back, since its destination takes long to answer".to_owned(),
        }
    }
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
        self.slots.taken >= SLOTS
    }

    /// Whether somebody can't begin for want of a slot that a delivery could give up.
    pub const fn crowded(&self) -> bool {
        (self.slots.taken >= SLOTS || self.slots.taken_by_failing >= SLOTS_FOR_FAILING)
            && self.has_room_aside()
    }

    /// Whether one that is under way can be set aside before it is slow.
    pub const fn has_room_aside(&self) -> bool {
        self.slots.aside < SLOTS_ASIDE
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
        let known = self
            .known
            .entry(key)
            .or_insert_with(|| Destination::new(now));
        let failing = known.failures > 0;
        if known.is_closed(now)
            || known.is_busy()
            || self.slots.taken >= SLOTS
            || (failing && self.slots.taken_by_failing >= SLOTS_FOR_FAILING)
            // So many hang that another one may, too: only who has nothing hanging is let through.
            || (self.slots.aside >= SLOTS_ASIDE && (known.is_unproven() || known.slow > 0))
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
        known.touched = now;
        self.slots.taken += 1;
        self.slots.taken_by_failing += usize::from(failing);
        Ok(Flight {
            destination: key,
            failing,
            aside: false,
            slow: false,
        })
    }

    /// It gives its slot up, and goes on.
    pub fn set_aside(&mut self, flight: &mut Flight) {
        if !std::mem::replace(&mut flight.aside, true) {
            self.slots.taken -= 1;
            self.slots.taken_by_failing -= usize::from(flight.failing);
            self.slots.aside += 1;
        }
    }

    /// It has taken longer than [`SLOW`].
    pub fn slow_down(&mut self, flight: &mut Flight) {
        self.set_aside(flight);
        if std::mem::replace(&mut flight.slow, true) {
            return;
        }
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
        if flight.aside {
            self.slots.aside -= 1;
        } else {
            self.slots.taken -= 1;
            self.slots.taken_by_failing -= usize::from(flight.failing);
        }
        let known = self.known.get_mut(&flight.destination)?;
        known.flying -= 1;
        known.touched = now;
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
                known.paused_until = Some(now + after.unwrap_or(PAUSE).min(OPEN_LONGEST));
                known.answered()
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

    /// Whether something for that destination, behind so much else, should rather wait in the database; also where it
    /// could wait here if not so much did.
    pub fn hold(
        &self,
        key: u64,
        rate: Option<Rate>,
        ahead: usize,
        much: bool,
        now: Instant,
    ) -> Option<Held> {
        let known = self.known.get(&key)?;
        if let Some(until) = known.closed_until.filter(|until| *until > now) {
            let wait = until - now;
            let error = format!("held back, since its destination fails: {}", known.error);
            return Some(Held { wait, error });
        }
        let stuck = known.slow > 0 && (known.is_busy() || !self.has_room_aside());
        if stuck && known.is_unproven() {
            return Some(match known.failures {
                0 => Held::slow(),
                _ => Held {
                    wait: MUCH_LATER,
                    error: format!("held back, since its destination fails: {}", known.error),
                },
            });
        }
        if stuck && (much || ahead >= WAITING) {
            return Some(Held::slow());
        }
        let turn = rate.map_or(now, |rate| known.turn(rate, ahead, now));
        let turn = known.paused_until.map_or(turn, |until| until.max(turn));
        let wait = turn.saturating_duration_since(now);
        (wait > TURN_SOON).then(|| Held {
            wait,
            error: "held back, since its vendor asks for a slower pace there".to_owned(),
        })
    }

    /// Lets go of what is of no use any more; now and then.
    pub fn forget(&mut self, now: Instant) {
        let crowded = self.known.len() > KNOWN;
        let open = &mut self.open;
        self.known.retain(|_, known| {
            let later = |instant: Option<Instant>| instant.is_some_and(|until| until > now);
            let waits =
                later(known.paced_until) || later(known.paused_until) || later(known.closed_until);
            let of_use = if known.failures > 0 {
                now.saturating_duration_since(known.touched) < QUIET
            } else {
                !crowded
            };
            let kept = known.flying > 0 || waits || of_use;
            *open -= usize::from(!kept && known.closed_until.is_some());
            kept
        });
    }
}

impl Destination {
    const fn new(now: Instant) -> Self {
        Self {
            touched: now,
            flying: 0,
            slow: 0,
            proven: false,
            failures: 0,
            error: String::new(),
            closed_until: None,
            pause: Duration::ZERO,
            paced_until: None,
            paused_until: None,
        }
    }

    const fn is_unproven(&self) -> bool {
        !self.proven || self.failures > 0
    }

    const fn at_once(&self) -> usize {
        if self.is_unproven() { 1 } else { AT_ONCE }
    }

    const fn is_busy(&self) -> bool {
        self.flying >= self.at_once() || self.slow >= SLOW_AT_ONCE
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
