//! What the parts of `serve` count, for `/metrics`. Counting takes one atomic addition and no lock, so that it costs a
//! delivery nothing. Names and meanings: `http/metrics.rs`. What the database knows (queue depth, say) isn't kept here.
//!
//! Labels come from fixed lists: what a database or a vendor says never becomes one.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::delivery::Outcome;

/// Channels that have figures of their own; any other counts as the last.
pub const CHANNELS: [&str; 6] = ["slack", "email", "pagerduty", "webhook", "console", "other"];
/// As [`Outcome::label`].
pub const OUTCOMES: [&str; 6] = [
    "delivered",
    "transient",
    "rate_limited",
    "timeout",
    "permanent",
    "recipient_gone",
];
/// Upper bounds in milliseconds. The last finite one is beyond the 20 seconds that a delivery may take.
pub const BOUNDS_MS: [u64; 12] = [
    5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000,
];

/// Durations of one channel.
#[derive(Default)]
pub struct Histogram {
    /// Not cumulative; the last is for whatever took longer.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    microseconds: AtomicU64,
}

impl Histogram {
    fn observe(&self, duration: Duration) {
        // Rounded up: what took 5.4 ms took more than 5.
        let milliseconds = u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MS
            .iter()
            .position(|bound| milliseconds <= *bound)
            .unwrap_or(BOUNDS_MS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
    }

    /// Cumulative counts, one a bound and then all of them; and the sum in seconds.
    pub fn read(&self) -> ([u64; BOUNDS_MS.len() + 1], f64) {
        let mut total = 0;
        let counts = self.buckets.each_ref().map(|bucket| {
            total += bucket.load(Ordering::Relaxed);
            total
        });
        let sum = Duration::from_micros(self.microseconds.load(Ordering::Relaxed));
        (counts, sum.as_secs_f64())
    }
}

/// All that is counted.
pub struct Figures {
    pub started: SystemTime,
    deliveries: [[AtomicU64; OUTCOMES.len()]; CHANNELS.len()],
    durations: [Histogram; CHANNELS.len()],
    in_flight: AtomicI64,
    waiting: AtomicU64,
    claimed: AtomicU64,
    late: AtomicU64,
    postponed: AtomicU64,
    open_circuits: AtomicU64,
    reencrypted: AtomicU64,
    reencrypt_remaining: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            deliveries: Default::default(),
            durations: Default::default(),
            in_flight: AtomicI64::new(0),
            waiting: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
            late: AtomicU64::new(0),
            postponed: AtomicU64::new(0),
            open_circuits: AtomicU64::new(0),
            reencrypted: AtomicU64::new(0),
            reencrypt_remaining: AtomicU64::new(0),
        }
    }
}

impl Figures {
    /// A delivery begins; it is in flight until what this returns is ended or dropped.
    pub fn begin(&self, channel: &str) -> UnderWay<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        UnderWay {
            figures: self,
            channel: position(&CHANNELS, channel),
            begun: Instant::now(),
        }
    }

    /// So many notifications were leased to us.
    pub fn claimed(&self, notifications: usize) {
        self.claimed
            .fetch_add(notifications as u64, Ordering::Relaxed);
    }

    /// So many are leased to us and not begun yet.
    pub fn set_waiting(&self, notifications: usize) {
        self.waiting.store(notifications as u64, Ordering::Relaxed);
    }

    /// So many were given back because their destination fails or has its pace.
    pub fn postponed(&self, notifications: usize) {
        self.postponed
            .fetch_add(notifications as u64, Ordering::Relaxed);
    }

    /// To so many destinations nothing is sent for the moment.
    pub fn set_open_circuits(&self, destinations: usize) {
        self.open_circuits
            .store(destinations as u64, Ordering::Relaxed);
    }

    /// A result came after somebody else had claimed its notification.
    pub fn late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    /// So many rows were re-encrypted, and so many are left.
    pub fn reencrypted(&self, rows: u64, remaining: u64) {
        self.reencrypted.fetch_add(rows, Ordering::Relaxed);
        self.set_reencrypt_remaining(remaining);
    }

    /// So many rows are left to re-encrypt; 0 where that is somebody else's business.
    pub fn set_reencrypt_remaining(&self, rows: u64) {
        self.reencrypt_remaining.store(rows, Ordering::Relaxed);
    }

    /// By positions in [`CHANNELS`] and [`OUTCOMES`].
    pub fn deliveries(&self, channel: usize, outcome: usize) -> u64 {
        self.deliveries[channel][outcome].load(Ordering::Relaxed)
    }

    /// By position in [`CHANNELS`].
    pub fn durations(&self, channel: usize) -> &Histogram {
        &self.durations[channel]
    }

    pub fn in_flight(&self) -> i64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub fn claims(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    pub fn late_results(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub fn postponed_claims(&self) -> u64 {
        self.postponed.load(Ordering::Relaxed)
    }

    pub fn open_circuits(&self) -> u64 {
        self.open_circuits.load(Ordering::Relaxed)
    }

    pub fn reencrypted_rows(&self) -> u64 {
        self.reencrypted.load(Ordering::Relaxed)
    }

    pub fn reencrypt_remaining(&self) -> u64 {
        self.reencrypt_remaining.load(Ordering::Relaxed)
    }
}

/// One delivery in flight.
pub struct UnderWay<'a> {
    figures: &'a Figures,
    channel: usize,
    begun: Instant,
}

impl UnderWay<'_> {
    /// It ended so.
    pub fn end(self, outcome: &Outcome) {
        let label = position(&OUTCOMES, outcome.label());
        self.figures.deliveries[self.channel][label].fetch_add(1, Ordering::Relaxed);
        self.figures.durations[self.channel].observe(self.begun.elapsed());
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.figures.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where it is in the list; the last place stands for whatever isn't.
fn position(list: &[&str], name: &str) -> usize {
    list.iter()
        .position(|known| *known == name)
        .unwrap_or(list.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_counted_by_channel_and_outcome_and_leave_flight_however_they_end() {
        let figures = Figures::default();
        let first = figures.begin("slack");
        let second = figures.begin("a channel of tomorrow");
        assert_eq!(figures.in_flight(), 2);
        first.end(&Outcome::timeout("x"));
        drop(second); // a task that was cut off
        assert_eq!(figures.in_flight(), 0);
        let counted: Vec<(usize, usize)> = (0..CHANNELS.len())
            .flat_map(|channel| (0..OUTCOMES.len()).map(move |outcome| (channel, outcome)))
            .filter(|(channel, outcome)| figures.deliveries(*channel, *outcome) > 0)
            .collect();
        assert_eq!(counted, [(0, 3)]);
        figures
            .begin("a channel of tomorrow")
            .end(&Outcome::recipient_gone("x"));
        assert_eq!(figures.deliveries(CHANNELS.len() - 1, 5), 1);
    }

    #[test]
    fn every_outcome_has_its_own_label() {
        let all = [
            Outcome::Delivered { id: String::new() },
            Outcome::transient(""),
            Outcome::Retry {
                after: None,
                reason: crate::delivery::RetryReason::RateLimited,
                error: String::new(),
            },
            Outcome::timeout(""),
            Outcome::permanent(""),
            Outcome::recipient_gone(""),
        ];
        assert_eq!(all.map(|outcome| outcome.label()), OUTCOMES);
    }

    #[test]
    fn durations_fall_into_the_bucket_that_bounds_them_from_above() {
        let histogram = Histogram::default();
        for milliseconds in [0, 5, 6, 25_000, 90_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        histogram.observe(Duration::from_micros(5_400));
        let (counts, sum) = histogram.read();
        assert_eq!(counts, [2, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5, 6]);
        assert!((sum - 115.0164).abs() < 0.000_1, "{sum}");
    }
}
