//! How far long work has come: a bar on a terminal; elsewhere a line now and then, so that a log shows that it goes on.
//! On standard error, since standard output holds the result.

use std::cell::Cell;
use std::fmt::Write;
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often a line is written where there is no terminal for a bar.
const EVERY: Duration = Duration::from_secs(10);
const COUNTED: &str = "{bar:30} {human_pos}/{human_len} rows, {rate}, {elapsed} so far, {eta} left";
const UNCOUNTED: &str = "{spinner} {human_pos} rows, {elapsed} so far";

pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    told: Cell<Duration>,
}

impl Progress {
    /// Of so many rows, if that is known.
    pub fn new(total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        set_style(&bar, if total.is_some() { COUNTED } else { UNCOUNTED });
        bar.enable_steady_tick(Duration::from_millis(250));
        Self {
            bar,
            started: Instant::now(),
            told: Cell::new(Duration::ZERO),
        }
    }

    /// From now on it is known of how many rows.
    pub fn set_total(&self, total: u64) {
        if self.bar.length().is_none() {
            set_style(&self.bar, COUNTED);
        }
        self.bar.set_length(total);
    }

    /// So many rows are done.
    pub fn show(&self, done: u64) {
        self.bar.set_position(done);
        let elapsed = self.started.elapsed();
        if !stderr().is_terminal() && elapsed - self.told.get() >= EVERY {
            self.told.set(elapsed);
            let of = self
                .bar
                .length()
                .map_or(String::new(), |total| format!(" of {total}"));
            eprintln!("note: {done}{of} rows done after {} s", elapsed.as_secs());
        }
    }

    /// Says something beside the bar.
    pub fn note(&self, text: &str) {
        self.bar.suspend(|| eprintln!("note: {text}"));
    }

    /// Prints while the bar is out of the way.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        self.bar.finish_and_clear();
    }
}

fn set_style(bar: &ProgressBar, template: &str) {
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        // Rows a second, far below what a number of 64 bits holds.
        let _ = write!(out, "{}/s", HumanCount(state.per_sec() as u64));
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.with_key("rate", rate));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_may_come_later_and_grow() {
        let progress = Progress::new(None);
        progress.show(5);
        assert_eq!(progress.bar.length(), None);
        progress.set_total(10);
        progress.set_total(12);
        progress.show(7);
        assert_eq!(
            (progress.bar.length(), progress.bar.position()),
            (Some(12), 7)
        );
        progress.clear();
    }

    #[test]
    fn templates_are_well_formed() {
        for template in [COUNTED, UNCOUNTED] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
