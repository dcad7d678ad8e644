//! When the master keys are read again, with a source, a clock and a process of the test's own.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::keyring::master_command::Failed;
use crate::keyring::master_file::Unusable;

const ONE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const TWO: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const TENANT: TenantId = [7; 16];

/// A source that is what the test says, in a process and at a time that the test says.
struct World {
    contents: RefCell<Result<String, Problem>>,
    reads: Cell<u32>,
    start: Instant,
    seconds: Cell<u64>,
    process: Cell<i32>,
}

impl Surroundings for Rc<World> {
    fn read(&self) -> Result<MasterKeys, Problem> {
        self.reads.set(self.reads.get() + 1);
        let contents = self.contents.borrow();
        match &*contents {
            Ok(contents) => MasterKeys::parse(contents.as_bytes(), Source::File),
            Err(problem) => Err(problem.clone()),
        }
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.seconds.get())
    }

    fn process(&self) -> i32 {
        self.process.get()
    }
}

impl World {
    fn holds(&self, lines: &[(&str, &str)]) {
        let lines = lines.iter().map(|(id, key)| format!("{id}:{key}\n"));
        *self.contents.borrow_mut() = Ok(lines.collect());
    }

    fn fails(&self, problem: impl Into<Problem>) {
        *self.contents.borrow_mut() = Err(problem.into());
    }

    fn passes(&self, seconds: u64) {
        self.seconds.set(self.seconds.get() + seconds);
    }
}

fn begin() -> (Rc<World>, Masters<Rc<World>>) {
    let world = Rc::new(World {
        contents: RefCell::new(Err(Problem::NotSet)),
        reads: Cell::new(0),
        start: Instant::now(),
        seconds: Cell::new(0),
        process: Cell::new(1),
    });
    (Rc::clone(&world), Masters::new(world))
}

struct Made {
    bytes: Vec<u8>,
    check_value: [u8; 16],
    master_key_id: &'static str,
}

impl Made {
    fn wrapped(&self) -> Wrapped<'_> {
        Wrapped {
            binding: Binding {
                tenant: &TENANT,
                key_id: 5,
                purpose: "data",
                master_key_id: self.master_key_id,
            },
            bytes: &self.bytes,
            check_value: &self.check_value,
        }
    }
}

fn made_under(master_key_id: &'static str, master: u8) -> Made {
    let key = KeyBytes::generate().expect("entropy");
    let mut made = Made {
        bytes: Vec::new(),
        check_value: wrap::check_value(&key),
        master_key_id,
    };
    let master = KeyBytes::take(&mut [master; 32]);
    let binding = made.wrapped().binding;
    made.bytes = wrap::wrap(&master, &binding, &key).expect("entropy");
    made
}

fn opens(masters: &mut Masters<Rc<World>>, made: &Made) -> Result<(), String> {
    masters
        .unwrap(&made.wrapped())
        .map(|_| ())
        .map_err(|failure| failure.to_string())
}

#[test]
fn an_unknown_id_is_looked_for_at_most_every_ten_seconds() {
    let (world, mut masters) = begin();
    let (old, new) = (made_under("old", 1), made_under("new", 2));
    world.holds(&[("old", ONE)]);
    assert_eq!(opens(&mut masters, &old), Ok(()));
    let missing = opens(&mut masters, &new).expect_err("not there yet");
    assert!(missing.contains("holds no key called new, which data key 5"));
    world.holds(&[("new", TWO), ("old", ONE)]);
    world.passes(9);
    assert!(opens(&mut masters, &new).is_err());
    assert_eq!(world.reads.get(), 1);
    world.passes(1);
    assert_eq!(opens(&mut masters, &new), Ok(()));
    assert_eq!(opens(&mut masters, &old), Ok(()));
    assert_eq!(world.reads.get(), 2);
}

#[test]
fn a_key_that_does_not_open_counts_as_unknown() {
    let (world, mut masters) = begin();
    let made = made_under("a", 1);
    world.holds(&[("a", TWO)]);
    let wrong = opens(&mut masters, &made).expect_err("the wrong bytes");
    assert!(wrong.contains("the key called a does not open data key 5"));
    for _ in 0..5 {
        assert!(opens(&mut masters, &made).is_err());
    }
    assert_eq!(world.reads.get(), 1);
    world.holds(&[("a", ONE)]);
    world.passes(10);
    assert_eq!(opens(&mut masters, &made), Ok(()));
}

#[test]
fn a_forked_process_looks_at_once() {
    let (world, mut masters) = begin();
    world.holds(&[("old", ONE)]);
    assert!(masters.reload().is_ok());
    world.holds(&[("new", TWO), ("old", ONE)]);
    world.process.set(2);
    assert_eq!(opens(&mut masters, &made_under("old", 1)), Ok(()));
    assert_eq!(world.reads.get(), 1);
    assert_eq!(opens(&mut masters, &made_under("new", 2)), Ok(()));
}

#[test]
fn without_keys_a_file_is_tried_each_time_and_a_command_every_ten_seconds() {
    let (world, mut masters) = begin();
    let made = made_under("a", 1);
    world.fails(Unusable::NotAFile);
    assert!(opens(&mut masters, &made).is_err());
    world.fails(Failed::TooLarge);
    assert!(opens(&mut masters, &made).is_err());
    world.holds(&[("a", ONE)]);
    let remembered = opens(&mut masters, &made).expect_err("it failed a moment ago");
    assert!(remembered.contains("more than 64 KiB"));
    assert!(masters.begin_to_prove().is_err());
    assert_eq!(world.reads.get(), 2);
    world.passes(10);
    assert_eq!(opens(&mut masters, &made), Ok(()));
    assert_eq!(world.reads.get(), 3);
}

#[test]
fn what_is_held_survives_a_source_that_fails() {
    let (world, mut masters) = begin();
    let made = made_under("a", 1);
    world.holds(&[("a", ONE)]);
    assert_eq!(opens(&mut masters, &made), Ok(()));
    world.fails(Unusable::NotAFile);
    assert!(masters.reload().is_err());
    assert_eq!(opens(&mut masters, &made), Ok(()));
    assert!(masters.begin_to_prove().is_err());
    assert!(masters.proven().is_none());
}

#[test]
fn keys_are_proven_for_one_transaction_and_ten_seconds() {
    let (world, mut masters) = begin();
    world.holds(&[("a", ONE)]);
    assert!(masters.proven().is_none());
    assert!(masters.begin_to_prove().is_ok());
    assert!(masters.proven().is_none());
    masters.are_proven();
    world.passes(9);
    assert!(masters.proven().is_some());
    world.passes(1);
    assert!(masters.proven().is_none());
    assert!(masters.begin_to_prove().is_ok());
    masters.are_proven();
    assert!(masters.proven().is_some());
    masters.end_transaction();
    assert!(masters.proven().is_none());
    assert!(masters.begin_to_prove().is_ok());
    assert_eq!(world.reads.get(), 3);
}
