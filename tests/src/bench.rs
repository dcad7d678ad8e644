//! What the benches share: interleaved rounds, medians, the backend's CPU time, and one record a result.
//!
//! Machines drift while they measure, so both sides of a ratio are measured in turns within one run, and the medians
//! are compared. The benches themselves are in `bin/bench/`.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use tokio_postgres::Client;

use crate::database::scalar;

/// What a value must be, as it is printed: `<=0.6` or `>=4`.
#[derive(Clone, Copy)]
pub enum Bar {
    AtMost(f64),
    AtLeast(f64),
}

impl Bar {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bar) => value <= bar,
            Self::AtLeast(bar) => value >= bar,
        }
    }
}

impl std::fmt::Display for Bar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(bar) => write!(f, "<={bar}"),
            Self::AtLeast(bar) => write!(f, ">={bar}"),
        }
    }
}

/// Writes results as they come: a line of JSON to the file, a row of the table to standard output.
pub struct Record {
    file: File,
    filter: String,
    missed: usize,
}

impl Record {
    pub fn new(file: &Path, filter: &str) -> Result<Self> {
        println!(
            "{:<28} {:>12} {:<6} {:<8} {:<6} detail",
            "name", "value", "unit", "bar", "holds"
        );
        let file = File::create(file).with_context(|| format!("writing {}", file.display()))?;
        Ok(Self {
            file,
            filter: filter.to_owned(),
            missed: 0,
        })
    }

    /// Whether any of these is asked for.
    pub fn wants(&self, names: &[&str]) -> bool {
        names.iter().any(|name| name.contains(&self.filter))
    }

    pub fn add(
        &mut self,
        name: &str,
        value: f64,
        unit: &str,
        bar: Bar,
        detail: &str,
    ) -> Result<()> {
        let (holds, bar) = (bar.holds(value), bar.to_string());
        let value = (value * 1000.0).round() / 1000.0;
        let line = json!({"name": name, "value": value, "unit": unit, "bar": bar, "holds": holds, "detail": detail});
        writeln!(self.file, "{line}")?;
        println!(
            "{name:<28} {value:>12} {unit:<6} {bar:<8} {:<6} {detail}",
            if holds { "yes" } else { "NO" }
        );
        self.missed += usize::from(!holds);
        Ok(())
    }

    /// How many missed their bar.
    pub fn missed(&self) -> usize {
        self.missed
    }
}

pub fn median(values: &mut [f64]) -> f64 {
    percentile(values, 50.0)
}

/// The smallest value that at least `percent` of all don't exceed.
pub fn percentile(values: &mut [f64], percent: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * percent / 100.0).ceil() as usize;
    values
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// Seconds of CPU that the backend of this session spends on the statement.
pub async fn cpu_seconds(client: &Client, backend: i32, sql: &str) -> Result<f64> {
    let watch = Stopwatch::start(backend)?;
    client
        .batch_execute(sql)
        .await
        .with_context(|| sql.to_owned())?;
    Ok(watch.read()?.1)
}

/// Two clocks of one stretch of work: the wall's, and the CPU time of a backend.
pub struct Stopwatch {
    backend: i32,
    begun: Instant,
    before: Duration,
}

impl Stopwatch {
    pub fn start(backend: i32) -> Result<Self> {
        Ok(Self {
            backend,
            before: on_cpu(backend)?,
            begun: Instant::now(),
        })
    }

    /// Seconds so far.
    pub fn wall(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Seconds so far: by the wall, on the CPU.
    pub fn read(&self) -> Result<(f64, f64)> {
        let wall = self.wall();
        Ok((wall, (on_cpu(self.backend)? - self.before).as_secs_f64()))
    }
}

/// Seconds until the statement's result is here.
pub async fn wall_seconds(client: &Client, sql: &str) -> Result<f64> {
    let before = Instant::now();
    client
        .batch_execute(sql)
        .await
        .with_context(|| sql.to_owned())?;
    Ok(before.elapsed().as_secs_f64())
}

pub async fn backend_id(client: &Client) -> Result<i32> {
    scalar(client, "select pg_backend_pid()", &[]).await
}

/// Time on CPU so far, from the kernel's scheduler statistics (nanoseconds, first field).
fn on_cpu(process: i32) -> Result<Duration> {
    let file = format!("/proc/{process}/schedstat");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    let nanoseconds = text
        .split_whitespace()
        .next()
        .context("schedstat is empty")?
        .parse()?;
    Ok(Duration::from_nanos(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut values: Vec<f64> = (1..=100).map(f64::from).rev().collect();
        assert_eq!(median(&mut values), 50.0);
        assert_eq!(percentile(&mut values, 99.0), 99.0);
        assert_eq!(percentile(&mut values, 100.0), 100.0);
    }

    #[test]
    fn a_bar_is_met_on_its_edge() {
        assert!(Bar::AtMost(0.6).holds(0.6) && !Bar::AtMost(0.6).holds(0.61));
        assert!(Bar::AtLeast(4.0).holds(4.0) && !Bar::AtLeast(4.0).holds(f64::NAN));
        assert_eq!(Bar::AtMost(0.6).to_string(), "<=0.6");
    }
}
