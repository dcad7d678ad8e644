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
    all.hold(key, None, 0, false, now).is_some() && all.begin(key, None, now).is_err()
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
    let held = all
        .hold(1, None, 0, false, start + 10 * SECOND)
        .expect("closed");
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
        let (mut all, mut now) = (Destinations::default(), Instant::now());
        for _ in 0..20 {
            assert_eq!(deliver(&mut all, 1, &refusal, now), None, "{refusal:?}");
            now += PAUSE;
        }
    }
}

#[test]
fn one_that_was_never_heard_of_gets_one_and_holds_no_slot_for_long() {
    let (mut all, now) = (Destinations::default(), Instant::now());
    let mut hanging = all.begin(1, None, now).unwrap();
    assert_eq!(all.begin(1, None, now).unwrap_err(), None);
    assert_eq!(all.hold(1, None, 3, false, now), None, "it has only begun");
    all.slow_down(&mut hanging);
    all.slow_down(&mut hanging);
    assert_eq!(all.slots.taken, 0);
    let held = all.hold(1, None, 0, false, now).expect("it hangs");
    assert_eq!(held.wait, LATER);
    assert_eq!(all.end(&hanging, None, now), None);
    assert!(all.begin(1, None, now).is_ok());
}

#[test]
fn a_hundred_that_fail_leave_room_for_who_works() {
    let (mut all, now) = (Destinations::default(), Instant::now());
    deliver(&mut all, 0, &sent(), now);
    for key in 1..=100 {
        deliver(&mut all, key, &Outcome::timeout("slow"), now);
    }
    let mut flights = Vec::new();
    for key in 1..=100 {
        flights.extend(all.begin(key, None, now));
    }
    assert_eq!(flights.len(), SLOTS_FOR_FAILING);
    assert!(all.crowded());
    let healthy: Vec<_> = (0..8).map(|_| all.begin(0, None, now)).collect();
    assert!(healthy.iter().all(Result::is_ok) && all.full());
    for flight in healthy.into_iter().flatten() {
        all.end(&flight, Some(&sent()), now);
    }
    // They give way to the next ones, and hold no slot any more.
    for flight in &mut flights {
        all.set_aside(flight);
    }
    assert!(!all.crowded());
    for key in 1..=100 {
        flights.extend(all.begin(key, None, now));
    }
    assert_eq!(flights.len(), 2 * SLOTS_FOR_FAILING);
    let healthy = (0..AT_ONCE).filter(|_| all.begin(0, None, now).is_ok());
    assert_eq!(healthy.count(), SLOTS - SLOTS_FOR_FAILING);
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
    assert_eq!(all.slots.aside, SLOTS_ASIDE);
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
    assert_eq!(all.hold(1, None, 1000, false, now), None, "it may be quick");
    for flight in &mut flights {
        all.slow_down(flight);
    }
    assert_eq!(all.hold(1, None, WAITING - 1, false, now), None);
    assert!(all.hold(1, None, WAITING, false, now).is_some());
    assert!(all.hold(1, None, 0, true, now).is_some(), "others wait");
}

/// A vendor that worked until now, with channels that get a message a second: none of them may fill what can wait here.
#[test]
fn a_hundred_that_hang_all_of_a_sudden_do_not_gather() {
    let (mut all, mut now) = (Destinations::default(), Instant::now());
    for key in 0..=100 {
        deliver(&mut all, key, &sent(), now);
    }
    let mut hanging = Vec::new();
    for _ in 0..10 {
        for key in 1..=100 {
            if let Ok(flight) = all.begin(key, None, now) {
                hanging.push(flight);
            }
            if all.full() {
                hanging.iter_mut().for_each(|flight| all.set_aside(flight));
            }
        }
        now += SECOND;
        hanging.iter_mut().for_each(|flight| all.slow_down(flight));
    }
    assert!(hanging.len() <= SLOTS_ASIDE, "{}", hanging.len());
    for key in 1..=100 {
        assert!(all.hold(key, None, 0, true, now).is_some(), "{key}");
    }
    assert_eq!(all.hold(0, None, 0, true, now), None);
    assert!(all.begin(0, None, now).is_ok());
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
    assert_eq!(all.hold(1, rate, 4, false, now), None, "five seconds");
    let held = all.hold(1, rate, 59, false, now).expect("a minute");
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
    assert!(all.hold(1, rate, 0, false, now).is_some());
}

#[test]
fn a_vendor_that_asks_for_a_pause_and_is_not_clear_gets_a_short_one() {
    let limited = |after| Outcome::Retry {
        after,
        reason: RetryReason::RateLimited,
        error: String::new(),
    };
    for (after, pause) in [
        (None, PAUSE),
        (Some(Duration::from_secs(100_000)), OPEN_LONGEST),
    ] {
        let (mut all, now) = (Destinations::default(), Instant::now());
        for _ in 0..4 {
            deliver(&mut all, 1, &Outcome::timeout("slow"), now);
        }
        // It is there: what went before doesn't count any more.
        assert_eq!(deliver(&mut all, 1, &limited(after), now), None);
        assert_eq!(all.begin(1, None, now).unwrap_err(), Some(now + pause));
        let opened = deliver(&mut all, 1, &Outcome::timeout("slow"), now + pause);
        assert_eq!(opened, None);
    }
}

#[test]
fn what_is_quiet_is_forgotten_and_what_fails_is_not_at_once() {
    let (mut all, now) = (Destinations::default(), Instant::now());
    deliver(&mut all, 0, &Outcome::timeout("x"), now);
    for key in 1..=KNOWN as u64 + 1 {
        deliver(&mut all, key, &sent(), now);
    }
    let flying = all.begin(1, None, now).unwrap();
    all.forget(now);
    assert!(all.known.contains_key(&0) && all.known.contains_key(&1));
    assert_eq!(all.known.len(), 2);
    all.end(&flying, Some(&sent()), now);
    all.forget(now);
    assert_eq!(all.known.len(), 2, "two are no crowd");
}

/// Anybody can name addresses that fail; they must not stay for ever, however many, nor count as open.
#[test]
fn what_failed_and_was_not_asked_again_is_forgotten_after_an_hour() {
    let (mut all, now) = (Destinations::default(), Instant::now());
    for key in 0..2 * KNOWN as u64 {
        for _ in 0..FAILURES {
            deliver(&mut all, key, &Outcome::timeout("x"), now);
        }
    }
    assert_eq!(all.open(), 2 * KNOWN);
    all.forget(now + QUIET - SECOND);
    assert_eq!((all.known.len(), all.open()), (2 * KNOWN, 2 * KNOWN));
    deliver(&mut all, 0, &Outcome::timeout("x"), now + QUIET - SECOND);
    all.forget(now + QUIET);
    assert_eq!((all.known.len(), all.open()), (1, 1));
    // Who closes it finds the figures right.
    let later = now + QUIET + OPEN_LONGEST;
    assert_eq!(deliver(&mut all, 0, &sent(), later), Some(Change::Closed));
    assert_eq!(all.open(), 0);
    assert_eq!(
        (all.slots.taken, all.slots.taken_by_failing, all.slots.aside),
        (0, 0, 0)
    );
}

/// Whatever begins, is set aside, slows down and ends in whichever order: nothing leaks.
#[test]
fn slots_are_all_given_back() {
    let (mut all, mut now) = (Destinations::default(), Instant::now());
    let mut flights: Vec<Flight> = Vec::new();
    // A generator of numbers as good as any for this: https://en.wikipedia.org/wiki/Linear_congruential_generator
    let mut random = 1_u64;
    for _ in 0..20_000 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let draw = (random >> 33) as usize;
        now += Duration::from_millis(draw as u64 % 500);
        let any = (!flights.is_empty()).then(|| draw % flights.len().max(1));
        match (draw / 7 % 6, any) {
            (0 | 1, _) => flights.extend(all.begin(draw as u64 % 40, None, now)),
            (2, Some(any)) => all.set_aside(&mut flights[any]),
            (3, Some(any)) => all.slow_down(&mut flights[any]),
            (4, Some(any)) => {
                let outcomes = [
                    Some(sent()),
                    Some(Outcome::timeout("x")),
                    Some(Outcome::refused("x")),
                    None,
                ];
                let flight = flights.swap_remove(any);
                all.end(&flight, outcomes[draw / 50 % 4].as_ref(), now);
            }
            _ => all.forget(now),
        }
        assert!(all.slots.taken <= SLOTS && all.slots.taken_by_failing <= SLOTS_FOR_FAILING);
        assert_eq!(all.slots.taken + all.slots.aside, flights.len());
        let open = all
            .known
            .values()
            .filter(|known| known.closed_until.is_some());
        assert_eq!(all.open(), open.count());
    }
    for flight in flights {
        all.end(&flight, None, now);
    }
    assert_eq!(
        (all.slots.taken, all.slots.taken_by_failing, all.slots.aside),
        (0, 0, 0)
    );
    assert!(
        all.known
            .values()
            .all(|known| known.flying == 0 && known.slow == 0)
    );
}
