//! The defaults that complete a configuration: which key of which mapping gets which value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use ssegate_strict_yaml::{PlainEntry, PlainValue, plain};

use crate::config::defaults::defaults;
use crate::config::schema;

const DEFAULT: &str = "default";
const OF_SSE: &str = "of sse";

/// What a route is for, of which it has one.
const TARGETS: [&str; 3] = ["events", "proxy", "publish"];

/// Values for keys that a configuration leaves out.
#[derive(Clone, Debug, Default)]
pub(super) struct Completion(Vec<Addition>);

/// One key in one mapping.
#[derive(Clone, Debug)]
struct Addition {
    /// The path of the mapping, `routes[0].events`.
    at: String,
    /// The path of the key without indices, `routes[].events.retry`: what is left out is so everywhere.
    rule: String,
    entry: PlainEntry,
}

impl Completion {
    /// Without the additions of these rules.
    pub(super) fn without(&self, rules: &BTreeSet<String>) -> Self {
        Self(self.0.iter().filter(|one| !rules.contains(&one.rule)).cloned().collect())
    }

    /// The additions of one rule.
    pub(super) fn only(&self, rule: &str) -> Self {
        Self(self.0.iter().filter(|one| one.rule == rule).cloned().collect())
    }

    /// Every rule.
    pub(super) fn rules(&self) -> impl Iterator<Item = String> + use<> {
        self.0.iter().map(|one| one.rule.clone()).collect::<BTreeSet<_>>().into_iter()
    }

    /// The rules of the additions that a mistake at this path is about: of the key itself, or of one in its value.
    pub(super) fn rules_at(&self, path: &str) -> BTreeSet<String> {
        let is_about = |one: &&Addition| {
            let own = joined(&one.at, &one.entry.key);
            own == path || is_below(path, &own)
        };
        self.0.iter().filter(is_about).map(|one| one.rule.clone()).collect()
    }

    /// Writes the values into a configuration.
    pub(super) fn apply(&self, value: &mut PlainValue) {
        let mut by_place: BTreeMap<&str, Vec<&PlainEntry>> = BTreeMap::new();
        for addition in &self.0 {
            by_place.entry(&addition.at).or_default().push(&addition.entry);
        }
        add_below(value, String::new(), &by_place);
    }
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with(['.', '[']))
}

fn add_below(value: &mut PlainValue, path: String, by_place: &BTreeMap<&str, Vec<&PlainEntry>>) {
    match value {
        PlainValue::Map(entries) => {
            for entry in &mut *entries {
                add_below(&mut entry.value, joined(&path, &entry.key), by_place);
            }
            entries.extend(by_place.get(&*path).into_iter().flatten().copied().cloned());
        }
        PlainValue::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                add_below(item, format!("{path}[{index}]"), by_place);
            }
        }
        PlainValue::Nothing | PlainValue::Scalar { .. } => {}
    }
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The values for all keys that `written` leaves out, and that have a default: of gateway.yaml, of the keys'
/// descriptions, of `sse`, and the number of threads.
pub(super) fn candidates(written: &PlainValue, shards: usize) -> Completion {
    let schema: Value = serde_json::from_str(&schema()).unwrap_or_default();
    let mut finder = CandidateFinder {
        defaults: defaults(),
        schema: &schema,
        sse: written.get("sse").cloned().unwrap_or(PlainValue::Nothing),
        found: Vec::new(),
    };
    finder.in_mapping(written, &schema, (String::new(), String::new()));
    if written.get("shards").is_none() {
        let comment = "the processors of this machine";
        finder.add(("", ""), "shards", (scalar(&shards.to_string()), comment));
    }
    Completion(finder.found)
}

struct CandidateFinder<'a> {
    /// By path without indices.
    defaults: BTreeMap<String, String>,
    schema: &'a Value,
    /// What the file says for all streams.
    sse: PlainValue,
    found: Vec<Addition>,
}

impl<'a> CandidateFinder<'a> {
    fn add(
        &mut self,
        (at, rule): (&str, &str),
        key: &str,
        (value, comment): (PlainValue, &'static str),
    ) {
        let entry = PlainEntry { key: key.to_owned(), value, comment };
        self.found.push(Addition { at: at.to_owned(), rule: joined(rule, key), entry });
    }

    /// Looks through a mapping with this schema, at this path with and without indices.
    fn in_mapping(&mut self, value: &PlainValue, mapping: &'a Value, (at, rule): (String, String)) {
        let Some(properties) = mapping["properties"].as_object() else { return };
        for (key, node) in properties {
            let (at_key, rule_key) = (joined(&at, key), joined(&rule, key));
            let below = self.mapping(node);
            match (value.get(key), below) {
                (Some(PlainValue::Map(entries)), Some((below, false))) => {
                    let entries = PlainValue::Map(entries.clone());
                    self.in_mapping(&entries, below, (at_key, rule_key));
                }
                (Some(PlainValue::List(items)), Some((below, _))) => {
                    for (index, item) in items.iter().enumerate() {
                        let paths = (format!("{at_key}[{index}]"), format!("{rule_key}[]"));
                        self.in_mapping(item, below, paths);
                    }
                }
                (Some(_), _) => {}
                (None, below) => {
                    if let Some(found) = self.default(&rule_key, key, node) {
                        self.add((&at, &rule), key, found);
                    } else if !TARGETS.contains(&key.as_str())
                        && let Some((below, false)) = below
                        && let whole @ PlainValue::Map(_) = self.whole(below, &rule_key)
                    {
                        self.add((&at, &rule), key, (whole, DEFAULT));
                    }
                }
            }
        }
    }

    /// A mapping of defaults only; nothing if it has none: then it is there only where somebody wants it.
    fn whole(&self, mapping: &'a Value, rule: &str) -> PlainValue {
        let properties = mapping["properties"].as_object().into_iter().flatten();
        let entries: Vec<_> = properties
            .filter_map(|(key, node)| {
                let rule = joined(rule, key);
                let value = match (self.of_reference(&rule), self.mapping(node)) {
                    (Some(value), _) => value,
                    (None, Some((below, false))) => self.whole(below, &rule),
                    (None, _) => PlainValue::Nothing,
                };
                let entry = PlainEntry { key: key.clone(), value, comment: DEFAULT };
                (entry.value != PlainValue::Nothing).then_some(entry)
            })
            .collect();
        if entries.is_empty() { PlainValue::Nothing } else { PlainValue::Map(entries) }
    }

    fn default(&self, rule: &str, key: &str, node: &Value) -> Option<(PlainValue, &'static str)> {
        let is_stream = rule.starts_with("routes[].events.");
        if let Some(value) = self.sse.get(key).filter(|_| is_stream) {
            return Some((value.clone(), OF_SSE));
        }
        if let Some(value) = self.sse.get("keep_alive").filter(|_| key == "stream_keep_alive") {
            return Some((value.clone(), OF_SSE));
        }
        let found = self.of_reference(rule).or_else(|| described(node));
        found.map(|value| (value, DEFAULT))
    }

    fn of_reference(&self, rule: &str) -> Option<PlainValue> {
        // A stream that is handed over has the defaults of one on an events route.
        let as_event = rule.replace(".handover.", ".events.");
        let text = self.defaults.get(rule).or_else(|| self.defaults.get(&as_event))?;
        plain(text, "", (&|_| None, &|_| None)).ok()
    }

    /// The mapping that a value may be, and whether it is a list of them: through `$ref`, `allOf`, and `off`.
    fn mapping(&self, mut node: &'a Value) -> Option<(&'a Value, bool)> {
        loop {
            if let Some(reference) = node["$ref"].as_str() {
                node = &self.schema["definitions"][reference.rsplit('/').next()?];
            } else if let Some(only) = node["allOf"].as_array().filter(|all| all.len() == 1) {
                node = only.first()?;
            } else {
                break;
            }
        }
        if node.get("properties").is_some() {
            return Some((node, false));
        }
        if let Some((mapping, _)) = node.get("items").and_then(|items| self.mapping(items)) {
            return Some((mapping, true));
        }
        node["anyOf"].as_array()?.iter().find_map(|variant| self.mapping(variant))
    }
}

/// The value that a description names: "Default: `24h`."
fn described(node: &Value) -> Option<PlainValue> {
    let (_, after) = node["description"].as_str()?.split_once("Default: `")?;
    let (value, rest) = after.split_once('`')?;
    rest.starts_with('.').then(|| scalar(value))
}

fn scalar(text: &str) -> PlainValue {
    PlainValue::Scalar { text: text.to_owned(), is_bare: true }
}
