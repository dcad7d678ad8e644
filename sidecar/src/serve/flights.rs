//! Deliveries under way, in the order in which they began, and which of them give their slot up because they take long.
//! How many slots there are, and who may begin: `circuit.rs`; who asks: `dispatch.rs`.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::circuit::{Destinations, Flight, SLOW, SOON};

/// All that are under way, by number.
#[derive(Default)]
pub struct Flights {
    by_number: HashMap<u64, Flight>,
    next: u64,
    /// Those that may have a slot, and some that have landed.
    quick: VecDeque<(Instant, u64)>,
    /// Those that aren't known to be slow, and some that have landed.
    fresh: VecDeque<(Instant, u64)>,
}

impl Flights {
    /// Gives it a number.
    pub fn begin(&mut self, flight: Flight, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.by_number.insert(number, flight);
        self.quick.push_back((now, number));
        self.fresh.push_back((now, number));
        number
    }

    /// It has ended.
    pub fn land(&mut self, number: u64) -> Option<Flight> {
        self.by_number.remove(&number)
    }

    /// Those that take too long give their slot up.
    pub fn make_room(&mut self, destinations: &mut Destinations, now: Instant) {
        while let Some((begun, flight)) = oldest(&mut self.fresh, &mut self.by_number) {
            if now < begun + SLOW {
                break;
            }
            destinations.slow_down(flight);
            self.fresh.pop_front();
        }
        let crowded = destinations.crowded();
        while let Some((begun, flight)) = oldest(&mut self.quick, &mut self.by_number) {
            if !crowded || now < begun + SOON || !destinations.has_room_aside() {
                break;
            }
            destinations.set_aside(flight);
            self.quick.pop_front();
        }
    }

    /// When somebody may have to, if nothing lands before.
    pub fn next_look(&self, destinations: &Destinations) -> Option<Instant> {
        let at = |queue: &VecDeque<(Instant, u64)>, limit: Duration| {
            queue.front().map(|(begun, _)| *begun + limit)
        };
        let soon = if destinations.crowded() {
            at(&self.quick, SOON)
        } else {
            None
        };
        soon.into_iter().chain(at(&self.fresh, SLOW)).min()
    }
}

/// The first of the queue that hasn't landed yet; those before it are dropped.
fn oldest<'a>(
    queue: &mut VecDeque<(Instant, u64)>,
    flights: &'a mut HashMap<u64, Flight>,
) -> Option<(Instant, &'a mut Flight)> {
    while let Some((begun, number)) = queue.front().copied() {
        if flights.contains_key(&number) {
            return flights.get_mut(&number).map(|flight| (begun, flight));
        }
        queue.pop_front();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::Outcome;

    fn sent() -> Outcome {
        Outcome::Delivered { id: String::new() }
    }

    /// They have been heard of, and work.
    fn proven(keys: std::ops::RangeInclusive<u64>, now: Instant) -> Destinations {
        let mut all = Destinations::default();
        for key in keys {
            let flight = all.begin(key, None, now).unwrap();
            all.end(&flight, Some(&sent()), now);
        }
        all
    }

    #[test]
    fn a_hundred_that_hang_all_of_a_sudden_give_way_within_a_moment() {
        let (mut now, mut flights) = (Instant::now(), Flights::default());
        let begun = now;
        let mut all = proven(0..=100, now);
        let mut waiting: VecDeque<u64> = (1..=100).collect();
        while let Some(key) = waiting.pop_front() {
            while all.full() {
                now = now.max(flights.next_look(&all).expect("somebody will give way"));
                flights.make_room(&mut all, now);
            }
            let flight = all.begin(key, None, now).unwrap();
            flights.begin(flight, now);
        }
        assert!(now - begun < 4 * SOON, "{:?}", now - begun);
        // The one that works has its turn, and more than one at once.
        now += SOON;
        flights.make_room(&mut all, now);
        for _ in 0..16 {
            assert!(all.begin(0, None, now).is_ok());
        }
    }

    #[test]
    fn who_is_in_nobodys_way_keeps_its_slot_for_a_second() {
        let (now, mut flights) = (Instant::now(), Flights::default());
        let mut all = proven(1..=2, now);
        let number = flights.begin(all.begin(1, None, now).unwrap(), now);
        for (later, next) in [
            (now, Some(now + SLOW)),
            (now + SOON, Some(now + SLOW)),
            (now + SLOW, None),
        ] {
            flights.make_room(&mut all, later);
            assert_eq!(flights.next_look(&all), next);
        }
        let landed = flights.land(number).unwrap();
        all.end(&landed, Some(&sent()), now + SLOW);
        // What has landed holds nobody up, and isn't kept.
        for _ in 0..1000 {
            let number = flights.begin(all.begin(2, None, now).unwrap(), now);
            all.end(&flights.land(number).unwrap(), Some(&sent()), now);
            flights.make_room(&mut all, now);
        }
        assert!(
            flights.quick.is_empty() && flights.fresh.is_empty() && flights.by_number.is_empty()
        );
    }
}
