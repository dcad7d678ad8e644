//! Precision and recall, by class: of the set that the rules were made with, and of one that was held back. Printed with
//! `--nocapture`; docs/no-secrets.md has them. The bars are those of the project's security requirements.

use std::collections::BTreeMap;

use super::accepted::{self, HELD_BACK, TUNED, Vocabulary};
use super::chance::{Chance, base64};
use super::refused;
use crate::guard::{find, random};

fn is_refused(text: &str) -> bool {
    find(text).is_some() || !random::tokens(text).is_empty()
}

/// A value as it is pasted: alone, assigned, in JSON, in a sentence, and in base64.
fn wrapped(value: &str) -> [(&'static str, String); 5] {
    let json = serde_json::Value::from(value).to_string();
    [
        ("bare", value.to_owned()),
        ("assigned", format!("key={value}")),
        ("json", format!("{{\"label\":{json}}}")),
        (
            "sentence",
            format!("please use {value} from now on, it was rotated"),
        ),
        ("base64", base64(value.as_bytes())),
    ]
}

/// Refused and all, by class.
type Counts = BTreeMap<&'static str, (usize, usize)>;

struct Figures {
    recall: Counts,
    recall_by_wrapping: Counts,
    false_alarms: Counts,
    missed: Vec<String>,
    raised: Vec<String>,
}

fn measure(seed: u64, vocabulary: &Vocabulary, each: usize, accepted_each: usize) -> Figures {
    let mut chance = Chance(seed);
    let mut figures = Figures {
        recall: Counts::new(),
        recall_by_wrapping: Counts::new(),
        false_alarms: Counts::new(),
        missed: Vec::new(),
        raised: Vec::new(),
    };
    let mut bad = refused::known(&mut chance, each);
    bad.extend(refused::certain(&mut chance, each * 4));
    bad.extend(refused::random(&mut chance, each * 200));
    assert!(bad.len() >= 500, "{}", bad.len());
    for (class, value) in &bad {
        for (wrapping, text) in wrapped(value) {
            let found = if *class == "random" {
                is_refused(&text)
            } else {
                find(&text).is_some()
            };
            count(&mut figures.recall, class, found);
            count(&mut figures.recall_by_wrapping, wrapping, found);
            if !found {
                figures.missed.push(format!("{class}, {wrapping}: {text}"));
            }
        }
    }
    let good = accepted::generate(&mut chance, vocabulary, accepted_each);
    assert!(good.len() >= 500, "{}", good.len());
    for (class, value) in &good {
        let found = is_refused(value);
        count(&mut figures.false_alarms, class, found);
        if found {
            let why =
                find(value).map_or_else(|| format!("{:?}", random::tokens(value)), str::to_owned);
            figures.raised.push(format!("{class} ({why}): {value}"));
        }
    }
    figures
}

fn count(counts: &mut Counts, class: &'static str, hit: bool) {
    let entry = counts.entry(class).or_default();
    entry.0 += usize::from(hit);
    entry.1 += 1;
}

fn share((hits, all): (usize, usize)) -> f64 {
    hits as f64 / all as f64
}

fn sum(counts: &Counts) -> (usize, usize) {
    counts
        .values()
        .fold((0, 0), |sum, entry| (sum.0 + entry.0, sum.1 + entry.1))
}

fn print(title: &str, figures: &Figures) {
    println!("{title}");
    for (class, entry) in figures.recall.iter().chain(&figures.recall_by_wrapping) {
        println!(
            "  {class:<28} recall {:>7.3} %  ({} of {})",
            share(*entry) * 100.0,
            entry.0,
            entry.1
        );
    }
    for (class, entry) in &figures.false_alarms {
        println!(
            "  {class:<28} false  {:>7.3} %  ({} of {})",
            share(*entry) * 100.0,
            entry.0,
            entry.1
        );
    }
    let (found, bad) = sum(&figures.recall);
    let (raised, good) = sum(&figures.false_alarms);
    println!(
        "  all: recall {:.3} %, false alarms {:.3} %, precision {:.3} % at as many good as bad",
        100.0 * share((found, bad)),
        100.0 * share((raised, good)),
        100.0 * share((found, bad)) / (share((found, bad)) + share((raised, good)))
    );
    let shown = std::env::var("GUARD_SHOW").is_ok();
    for line in figures
        .missed
        .iter()
        .chain(&figures.raised)
        .filter(|_| shown)
    {
        println!("  {line}");
    }
}

/// What both sets must reach.
fn assert_bars(figures: &Figures) {
    for (class, entry) in &figures.recall {
        let bar = match *class {
            "known" => 0.99,
            "random" => 0.80,
            _ => 0.95,
        };
        assert!(
            share(*entry) >= bar,
            "{class}: {entry:?}, {:?}",
            figures.missed.first()
        );
    }
    for (class, entry) in &figures.false_alarms {
        let bar = if *class == "note" { 0.005 } else { 0.001 };
        assert!(
            share(*entry) <= bar,
            "{class}: {entry:?}, {:?}",
            figures.raised.first()
        );
    }
}

#[test]
fn the_set_it_was_made_with_meets_the_bars() {
    let figures = measure(2026, &TUNED, 2, 4_000);
    print("made with", &figures);
    assert_bars(&figures);
}

#[test]
fn the_held_back_set_meets_the_bars() {
    let figures = measure(0x5_eed0_fa11, &HELD_BACK, 3, 10_000);
    print("held back", &figures);
    assert_bars(&figures);
}
