//! What was measured: one row for each figure of each round, kept as CSV, and the medians of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Outcome;

const HEADER: &str = "figure,variant,server,mode,subscribers,payload,round,metric,value";

/// What was measured, and of what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) figure: String,
    /// What makes the difference within a figure, such as the number of channels.
    pub(crate) variant: String,
    pub(crate) server: String,
    pub(crate) mode: String,
    pub(crate) subscribers: usize,
    pub(crate) payload: usize,
    pub(crate) metric: String,
}

/// All rows, and a line on where they come from.
#[derive(Debug, Default)]
pub(crate) struct Results {
    /// Date, machine, command.
    pub(crate) origin: Vec<String>,
    rows: BTreeMap<Key, Vec<f64>>,
}

/// The median of several rounds, and their spread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Median {
    pub(crate) value: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Results {
    pub(crate) fn new(origin: Vec<String>) -> Self {
        Self { origin, rows: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, key: Key, value: f64) {
        self.rows.entry(key).or_default().push(value);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The medians of all rounds.
    pub(crate) fn medians(&self) -> impl Iterator<Item = (&Key, Median)> {
        self.rows.iter().filter_map(|(key, values)| Some((key, median(values)?)))
    }

    /// The median of what matches.
    pub(crate) fn find(&self, is_wanted: impl Fn(&Key) -> bool) -> Option<Median> {
        self.medians().find_map(|(key, median)| is_wanted(key).then_some(median))
    }

    pub(crate) fn write(&self, path: &Path) -> Outcome {
        let mut text = String::new();
        for line in &self.origin {
            writeln!(text, "# {line}")?;
        }
        writeln!(text, "{HEADER}")?;
        for (key, values) in &self.rows {
            let Key { figure, variant, server, mode, subscribers, payload, metric } = key;
            for (round, value) in values.iter().enumerate() {
                let round = round + 1;
                writeln!(
                    text,
                    "{figure},{variant},{server},{mode},{subscribers},{payload},{round},{metric},{value}"
                )?;
            }
        }
        Ok(fs::write(path, text)?)
    }

    pub(crate) fn read(path: &Path) -> Outcome<Self> {
        let mut results = Self::default();
        for line in fs::read_to_string(path)?.lines() {
            if let Some(origin) = line.strip_prefix("# ") {
                results.origin.push(origin.into());
            } else if line != HEADER {
                let fields: Vec<&str> = line.split(',').collect();
                let [figure, variant, server, mode, subscribers, payload, _, metric, value] =
                    <[&str; 9]>::try_from(fields).map_err(|_| format!("not a row: {line}"))?;
                let key = Key {
                    figure: figure.into(),
                    variant: variant.into(),
                    server: server.into(),
                    mode: mode.into(),
                    subscribers: subscribers.parse()?,
                    payload: payload.parse()?,
                    metric: metric.into(),
                };
                results.add(key, value.parse()?);
            }
        }
        Ok(results)
    }
}

fn median(values: &[f64]) -> Option<Median> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let value = if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    };
    Some(Median { value, least, most })
}
