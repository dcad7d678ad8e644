//! Counts the bytes that rules look at, in tests: that the guard takes linear time is shown by counting, not by a clock.
//!
//! Every loop over the text says how far it went. In a release it says so to nobody, and the calls vanish.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// So many more bytes were looked at.
#[inline(always)]
pub fn count(steps: usize) {
    #[cfg(test)]
    STEPS.with(|counted| counted.set(counted.get() + steps));
    #[cfg(not(test))]
    let _ = steps;
}

/// What `work` looked at, on this thread.
#[cfg(test)]
pub fn of(work: impl FnOnce()) -> usize {
    STEPS.with(|counted| counted.set(0));
    work();
    STEPS.with(std::cell::Cell::get)
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_what_is_said_to_it() {
        assert_eq!(super::of(|| super::count(3)), 3);
        assert_eq!(
            super::of(|| (0..10).for_each(|_| super::count(2))),
            20,
            "each time from zero"
        );
        assert_eq!(super::of(|| ()), 0);
    }

    #[test]
    fn threads_count_for_themselves() {
        let here = super::of(|| {
            super::count(1);
            let other = std::thread::spawn(|| super::of(|| super::count(100)));
            assert_eq!(other.join().ok(), Some(100));
        });
        assert_eq!(here, 1);
    }
}
