//! What is let through to whom: circuits, slots and pace, with time as a number.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn sent() -> Outcome {
    Outcome::Delivered { id: String::new() }
}

/// One delivery that ends so, at once.
fn deliver(all: &mut Destinations, key: u64, outcome: &Outcome, now: Instant) -> Option<Change> {
    let flight = all.begin(key, None, now).expect("there is room");
    all.end(&flight, Some(outcome), now)
}

fn closed(all: &mut Destinations, key: u64, now: Instant) -> bool {
    all.hold(key, None, 0, now).is_some() && all.begin(key, None, now).is_err()
}

#[test]
fn five_failures_in_a_row_open_it_and_one_delivery_at_a_time_finds_out() {
    let (mut all, start) = (Destinations::default(), Instant::now());
    for _ in 0..4 {
        assert_eq!(deliver(&mut all, 1, &Outcome::timeout("slow"), start), None);
    }
    assert_eq!(deliver(&mut all, 1, &sent(), start), None);
    for _ in 0..4 {
        assert_eq!(
            deliver(&mut all, 1, &Outcome::transient("503"), start),
            None
        );
    }
    let opened = deliver(&mut all, 1, &Outcome::timeout("slow"), start);
    assert_eq!(opened, Some(Change::Opened(30 * SECOND)));
    assert_eq!(all.open(), 1);
    let held = all.hold(1, None, 0, start + 10 * SECOND).expect("closed");
    assert_eq!(held.wait, 20 * SECOND);
    assert_eq!(held.error, "held back, since its destination fails: slow");
    assert!(all.begin(2, None, start).is_ok(), "another one");

    // The probe fails: twice as long, and so on up to ten minutes.
    let mut now = start;
    for pause in [30, 60, 120, 240, 480, 600, 600] {
        assert!(closed(&mut all, 1, now + (pause - 1) * SECOND), "{pause}");
        now += pause * SECOND;
        let probe = all.begin(1, None, now).expect("one may try");
        assert!(all.begin(1, None, now).is_err(), "only one");
        let change = all.end(&probe, Some(&Outcome::timeout("slow")), now);
        let next = Duration::from_secs((2 * u64::from(pause)).min(600));
        assert_eq!(change, Some(Change::Opened(next)));
    }
    now += 600 * SECOND;
    assert_eq!(deliver(&mut all, 1, &sent(), now), Some(Change::Closed));
    assert_eq!(all.open(), 0);
    let many: Vec<_> = (0..AT_ONCE).map(|_| all.begin(1, None, now)).collect();
    assert!(many.iter().all(Result::is_ok), "it works again");
    assert!(all.begin(1, None, now).is_err());
}

#[test]
fn a_vendor_that_refuses_is_there() {
    let limited = Outcome::Retry {
        after: None,
        reason: RetryReason::RateLimited,
        error: String::new(),
    };
    for refusal in [
        Outcome::permanent("no"),
        Outcome::recipient_gone("no"),
        Outcome::refused("450"),
        limited,
    ] {
        let (mut all, now) = (Destinations::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(deliver(&mut all, 1, &refusal, now), None, "{refusal:?}");
        }
    }
}

#[test]
fn one_that_was_never_heard_of_gets_one_and_holds_no_slot_for_long() {
    let (mut all, now) = (Destinations::default(), Instant::now());
    let mut hanging = all.begin(1, None, now).unwrap();
    assert_eq!(all.begin(1, None, now).unwrap_err(), None);
    assert_eq!(all.hold(1, None, 3, now), None, "it has only begun");
    all.slow_down(&mut hanging);
    all.slow_down(&mut hanging);
    assert_eq!(all.slots.quick, 0);
    let held = all.hold(1, None, 0, now).expect("it hangs");
    assert_eq!(held.wait, LATER);
    assert_eq!(all.end(&hanging, None, now), None);
    assert!(all.begin(1, None, now).is_ok());
}

#[test]
fn a_hundred_dead_ones_leave_room_for_who_works() {
    let (mut all, now) = (Destinations::default(), Instant::now());
    deliver(&mut all, 0, &sent(), now);
    let mut flights = Vec::new();
    for key in 1..=100 {
        flights.extend(all.begin(key, None, now));
    }
    assert_eq!(flights.len(), SLOTS_FOR_UNPROVEN);
    let healthy: Vec<_> = (0..8).map(|_| all.begin(0, None, now)).collect();
    assert!(healthy.iter().all(Result::is_ok) && all.full());
    for flight in healthy.into_iter().flatten() {
        all.end(&flight, Some(&sent()), now);
    }
    // A second later they hold no slot any more, and the next ones try.
    for flight in &mut flights {
        all.slow_down(flight);
    }
    let later = now + SLOW;
    for key in 1..=100 {
        flights.extend(all.begin(key, None, later));
    }
    assert_eq!(flights.len(), 2 * SLOTS_FOR_UNPROVEN);
    let healthy = (0..AT_ONCE).filter(|_| all.begin(0, None, later).is_ok());
    assert_eq!(healthy.count(), SLOTS - SLOTS_FOR_UNPROVEN);
}

#[test]
fn however_many_hang_who_works_still_begins() {
    let (mut all, now) = (Destinations::default(), Instant::now());
    deliver(&mut all, 0, &sent(), now);
    for key in 1..=1000 {
        if let Ok(mut flight) = all.begin(key, None, now) {
            all.slow_down(&mut flight);
        }
    }
    assert_eq!(all.slots.slow, SLOW_SLOTS);
    assert!(all.begin(0, None, now).is_ok());
    assert!(all.begin(2000, None, now).is_err(), "nobody knows that one");
}

#[test]
fn a_slow_one_that_works_keeps_some_waiting_and_gives_the_rest_back() {
    let (mut all, now) = (Destinations::default(), Instant::now());
    deliver(&mut all, 1, &sent(), now);
    let mut flights: Vec<_> = (0..AT_ONCE)
        .map(|_| all.begin(1, None, now).unwrap())
        .collect();
    assert_eq!(all.hold(1, None, 1000, now), None, "it may be quick");
    for flight in &mut flights {
        all.slow_down(flight);
    }
    assert_eq!(all.hold(1, None, WAITING - 1, now), None);
    assert!(all.hold(1, None, WAITING, now).is_some());
}

#[test]
fn a_pace_lets_some_go_at_once_and_sends_the_far_ones_back() {
    let rate = Some(Rate {
        at_once: 3,
        every: SECOND,
    });
    let (mut all, now) = (Destinations::default(), Instant::now());
    deliver(&mut all, 1, &sent(), now);
    for _ in 0..3 {
        let flight = all.begin(1, rate, now).unwrap();
        all.end(&flight, Some(&sent()), now);
    }
    assert_eq!(all.begin(1, rate, now).unwrap_err(), Some(now + SECOND));
    assert_eq!(all.hold(1, rate, 4, now), None, "five seconds");
    let held = all.hold(1, rate, 59, now).expect("a minute");
    assert_eq!(held.wait, 60 * SECOND);
    assert!(all.begin(1, rate, now + SECOND).is_ok());
    assert!(all.begin(2, rate, now).is_ok(), "another one has its own");
}

#[test]
fn a_pause_that_a_vendor_asks_for_is_kept() {
    let rate = Some(Rate {
        at_once: 3,
        every: SECOND,
    });
    let (mut all, now) = (Destinations::default(), Instant::now());
    let flight = all.begin(1, rate, now).unwrap();
    let limited = Outcome::Retry {
        after: Some(20 * SECOND),
        reason: RetryReason::RateLimited,
        error: String::new(),
    };
    all.end(&flight, Some(&limited), now);
    let turn = all
        .begin(1, rate, now)
        .unwrap_err()
        .expect("its turn is known");
    assert_eq!(turn, now + 20 * SECOND);
    assert!(all.hold(1, rate, 0, now).is_some());
}

#[test]
fn what_is_quiet_is_forgotten_and_what_fails_is_not() {
    let (mut all, now) = (Destinations::default(), Instant::now());
    deliver(&mut all, 0, &Outcome::timeout("x"), now);
    for key in 1..=KNOWN as u64 + 1 {
        deliver(&mut all, key, &sent(), now);
    }
    deliver(&mut all, 1, &sent(), now);
    assert!(
        all.known.len() <= 3 && all.known.contains_key(&0),
        "{}",
        all.known.len()
    );
}
