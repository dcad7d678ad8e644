//! Prometheus' text format, read strictly, as `promtool check metrics` would: for tests of `/metrics`.
//! The format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Of each family, its type.
    pub families: BTreeMap<String, String>,
    /// By name and labels as printed, such as `x_total{channel="slack"}`.
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// # Errors
    /// Whatever a scraper could stumble over: no help or type, a sample outside its family, a repeat, a histogram that
    /// isn't cumulative, a counter without `_total`.
    pub fn read(text: &str) -> Result<Self> {
        let mut page = Self::default();
        let mut helped = BTreeSet::new();
        let mut family = String::new();
        ensure!(text.ends_with('\n'), "the last line ends as well");
        for line in text.lines() {
            let at = || line.to_owned();
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').with_context(at)?;
                ensure!(
                    !help.trim().is_empty() && helped.insert(name.to_owned()),
                    "{line}"
                );
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').with_context(at)?;
                ensure!(
                    matches!(kind, "counter" | "gauge" | "histogram") && helped.contains(name),
                    "{line}"
                );
                ensure!(kind != "counter" || name.ends_with("_total"), "{line}");
                ensure!(
                    page.families
                        .insert(name.to_owned(), kind.to_owned())
                        .is_none(),
                    "{line}"
                );
                name.clone_into(&mut family);
            } else {
                let (series, value) = line.rsplit_once(' ').with_context(at)?;
                let name = check_series(series).with_context(at)?;
                let kind = page.families.get(&family).with_context(at)?;
                let ends = if kind == "histogram" {
                    &["_bucket", "_sum", "_count"][..]
                } else {
                    &[""][..]
                };
                ensure!(
                    ends.iter().any(|end| name == format!("{family}{end}")),
                    "outside its family: {line}"
                );
                let value: f64 = value.parse().with_context(at)?;
                ensure!(kind != "counter" || value >= 0.0, "{line}");
                ensure!(
                    page.samples.insert(series.to_owned(), value).is_none(),
                    "twice: {line}"
                );
            }
        }
        page.check_histograms()?;
        Ok(page)
    }

    /// The value of a series, named as it is printed.
    pub fn get(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// All series of a name, labels and values.
    pub fn series(&self, name: &str) -> Vec<(&str, f64)> {
        let of_name = |series: &str| series.split('{').next() == Some(name);
        self.samples
            .iter()
            .filter(|(series, _)| of_name(series))
            .map(|(series, value)| (series.as_str(), *value))
            .collect()
    }

    fn check_histograms(&self) -> Result<()> {
        for name in self
            .families
            .iter()
            .filter(|(_, kind)| *kind == "histogram")
            .map(|(name, _)| name)
        {
            for (count_series, count) in self.series(&format!("{name}_count")) {
                let labels = count_series
                    .split_once('{')
                    .map_or("", |(_, labels)| labels.trim_end_matches('}'));
                let mut buckets: Vec<(f64, f64)> = Vec::new();
                for (series, value) in self.series(&format!("{name}_bucket")) {
                    let (_, rest) = series.split_once('{').context("a bucket has a bound")?;
                    let (others, bound) = rest
                        .trim_end_matches("\"}")
                        .rsplit_once("le=\"")
                        .context("a bound")?;
                    if others.trim_end_matches(',') == labels {
                        buckets.push((bound.replace("+Inf", "inf").parse()?, value));
                    }
                }
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                ensure!(
                    buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1),
                    "not cumulative: {count_series}"
                );
                let last = buckets
                    .last()
                    .with_context(|| format!("no buckets: {count_series}"))?;
                ensure!(
                    last.0.is_infinite() && last.1 == count,
                    "+Inf is not the count: {count_series}"
                );
            }
        }
        Ok(())
    }
}

/// The name of a series whose labels are well formed.
fn check_series(series: &str) -> Result<&str> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let (name, labels) = match series.split_once('{') {
        None => (series, None),
        Some((name, rest)) => (name, Some(rest.strip_suffix('}').context("an open brace")?)),
    };
    ensure!(is_name(name), "no name: {name}");
    for pair in labels.into_iter().flat_map(|labels| labels.split(',')) {
        let (label, value) = pair.split_once('=').context("a label without a value")?;
        let inner = value
            .strip_prefix('"')
            .and_then(|value| value.strip_suffix('"'))
            .context("no quotes")?;
        if !is_name(label) || inner.contains(['"', '\\', '\n']) {
            bail!("no label: {pair}");
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_scraper_would_stumble_over_is_refused() {
        let good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\"} 1\n";
        assert_eq!(
            Exposition::read(good)
                .ok()
                .and_then(|page| page.get("a_total{b=\"c\"}")),
            Some(1.0)
        );
        let histogram = |buckets: &str| {
            format!("# HELP h x\n# TYPE h histogram\n{buckets}h_sum 1\nh_count 2\n")
        };
        assert!(
            Exposition::read(&histogram(
                "h_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\n"
            ))
            .is_ok()
        );
        for bad in [
            "a 1\n",
            "# TYPE a gauge\na 1\n",
            "# HELP a x\n# TYPE a counter\na 1\n",
            "# HELP a x\n# TYPE a gauge\na 1\na 2\n",
            "# HELP a x\n# TYPE a gauge\nb 1\n",
            "# HELP a x\n# TYPE a gauge\na{b=c} 1\n",
            "# HELP a x\n# TYPE a gauge\na one\n",
            "# HELP a x\n# TYPE a gauge\na 1",
            &histogram("h_bucket{le=\"1\"} 3\nh_bucket{le=\"+Inf\"} 2\n"),
            &histogram("h_bucket{le=\"1\"} 1\n"),
        ] {
            assert!(Exposition::read(bad).is_err(), "{bad}");
        }
    }
}
