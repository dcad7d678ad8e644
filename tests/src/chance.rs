//! Chance that can be had again: a test that draws prints its seed, and `ROTATOR_SEED` gives it the same draws.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). For tests, not for keys.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// From `$ROTATOR_SEED`, else a new one; printed, so that a failure can be tried again.
    pub fn for_test(name: &str) -> Self {
        let seed = std::env::var("ROTATOR_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| RandomState::new().build_hasher().finish());
        eprintln!("{name}: ROTATOR_SEED={seed}");
        Self(seed)
    }

    /// From `$ROTATOR_SEED`, else always the same: for a test that goes so far that each run finds out the same, and those at
    /// full count something new.
    pub fn steady(name: &str, seed: u64) -> Self {
        if std::env::var("ROTATOR_SEED").is_ok() {
            return Self::for_test(name);
        }
        eprintln!("{name}: ROTATOR_SEED={seed}");
        Self(seed)
    }

    /// Draws of its own, for a task beside this one: the order in which tasks run doesn't matter to them.
    pub fn branch(&mut self) -> Self {
        Self(self.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        // The remainder of so large a number prefers nothing that a test could notice.
        (self.next() % end as u64) as usize
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these; there is at least one.
    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// Up to this many microseconds: a random moment in a race, not a wait for anything.
    pub async fn moment(&mut self, microseconds: usize) {
        let length = std::time::Duration::from_micros(self.below(microseconds + 1) as u64);
        let end = std::time::Instant::now() + length;
        // A timer is as coarse as a millisecond; what is shorter is spent letting others run.
        if length.as_millis() > 2 {
            tokio::time::sleep(length).await;
        }
        while std::time::Instant::now() < end {
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_the_same_draws() {
        let draws = |seed| {
            let mut chance = Chance(seed);
            let mut other = chance.branch();
            [
                chance.below(1000),
                other.below(1000),
                chance.below(1000),
                other.below(1000),
            ]
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn every_choice_is_taken_sometimes() {
        let mut chance = Chance(1);
        let mut seen = [0; 5];
        for _ in 0..500 {
            seen[*chance.one_of(&[0, 1, 2, 3, 4])] += 1;
        }
        assert!(
            seen.iter().all(|times| (50..150).contains(times)),
            "{seen:?}"
        );
    }
}
