//! The Prometheus text format, read back.

use std::collections::BTreeMap;

/// One reading of `/metrics`.
#[derive(Debug)]
pub(crate) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads `text`.
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Self(samples.map(sample).collect())
    }

    /// The sum of all samples of `name` that have each of `labels`, as in `reason="lagged"`.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.matching(name, labels).map(|(_, value)| value).sum()
    }

    /// Whether any sample is called `name`, with each of `labels`.
    pub(crate) fn has(&self, name: &str, labels: &[&str]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// The names and labels of all samples.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [&str],
    ) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(key, value)| {
            let (base, rest) = key.split_once('{').unwrap_or((key, ""));
            let matches = base == name && labels.iter().all(|label| rest.contains(label));
            matches.then_some((key.as_str(), *value))
        })
    }
}

fn sample(line: &str) -> (String, f64) {
    let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
    (key.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
}
