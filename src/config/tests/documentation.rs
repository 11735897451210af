//! docs/CONFIGURATION.md is generated from the JSON Schema, and from the defaults in gateway.yaml, which
//! another test compares with the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::Value;

use super::settings;
use crate::config::defaults::defaults;
use crate::config::schema;

const HEAD: &str = "\
# Configuration

Every key of gateway.yaml: its type, its default, what it means. [Configuring](CONFIGURING.md) says how a file is built.
This page is generated from the JSON Schema (`ssegate schema`) and from the defaults in gateway.yaml:
`UPDATE_DOCS=1 cargo test config::tests::documentation` writes it, and a test fails while they differ.

A duration is written `250ms`, `15s`, `5m`, `1h` or `1d`; a size `1500`, `64KiB`, `4MiB` or `1GiB`. `${VAR}`,
`${VAR:-default}` and `${VAR:?hint}` are replaced in every value; `$$` is a dollar sign. No default (–) means that the key
is absent.
";

/// The schema, and what has been documented of it.
struct Reference {
    schema: Value,
    /// By path: `routes[].events.retry`.
    defaults: BTreeMap<String, String>,
    /// The mappings that have a section, by their name in the schema, with its heading.
    sections: BTreeMap<String, String>,
    text: String,
}

impl Reference {
    fn new() -> Self {
        let schema = serde_json::from_str(&schema()).expect("JSON");
        let (sections, text) = (BTreeMap::new(), HEAD.to_owned());
        Self { schema, defaults: defaults(), sections, text }
    }

    /// What a schema stands for, and its name if it is a definition: through `$ref` and `allOf`.
    fn resolve<'a>(&'a self, mut node: &'a Value) -> (Option<&'a str>, &'a Value) {
        let mut name = None;
        loop {
            if let Some(reference) = node["$ref"].as_str() {
                let to = reference.rsplit('/').next().expect("a path");
                name = Some(to);
                node = &self.schema["definitions"][to];
            } else if let Some(only) = node["allOf"].as_array().filter(|all| all.len() == 1) {
                node = &only[0];
            } else {
                return (name, node);
            }
        }
    }

    /// The mapping that a value may be, through lists and `off`: its name, its schema, and `[]` for each list.
    fn mapping<'a>(&'a self, node: &'a Value) -> Option<(&'a str, &'a Value, String)> {
        let (name, node) = self.resolve(node);
        if node.get("properties").is_some() {
            return Some((name?, node, String::new()));
        }
        if let Some((name, mapping, suffix)) =
            node.get("items").and_then(|items| self.mapping(items))
        {
            return Some((name, mapping, format!("[]{suffix}")));
        }
        node["anyOf"].as_array()?.iter().find_map(|variant| self.mapping(variant))
    }

    /// The type in words.
    fn kind(&self, node: &Value) -> String {
        if let Some((name, _, list)) = self.mapping(node) {
            let heading = self.sections.get(name).map_or(name, String::as_str);
            let link = format!("[keys]({})", anchor(heading));
            let or_off = if self.may_be_off(node) { ", or `off`" } else { "" };
            return if list.is_empty() {
                format!("{link}{or_off}")
            } else {
                format!("list of {link}")
            };
        }
        let (_, node) = self.resolve(node);
        for union in ["oneOf", "anyOf"] {
            if let Some(variants) = node[union].as_array() {
                let kinds: Vec<_> = variants.iter().map(|variant| self.kind(variant)).collect();
                let mut seen = BTreeSet::new();
                let kinds =
                    kinds.into_iter().filter(|kind| !kind.is_empty() && seen.insert(kind.clone()));
                return kinds.collect::<Vec<_>>().join(" or ");
            }
        }
        if let Some(word) = node["const"].as_str() {
            return format!("`{word}`");
        }
        if let Some(words) = node["enum"].as_array() {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            return words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
        }
        let pattern = node["pattern"].as_str().unwrap_or_default();
        let of = |schema: &str| node["type"] == schema;
        match pattern {
            r"\$\{" => String::new(),
            _ if pattern.contains("KiB") => "size".into(),
            _ if pattern.contains("ms|s|m") => "duration".into(),
            _ if pattern.contains("none|last") => "`none`, `last`, `all` or a number".into(),
            _ if pattern.contains("all|errors") => "`off`, `all`, `errors` or a share".into(),
            _ if of("integer") => number(node),
            _ if of("boolean") => "`true` or `false`".into(),
            _ if of("array") => format!("list of {}", self.kind(&node["items"])),
            _ if node.get("additionalProperties").is_some() => "names with texts".into(),
            _ => "text".into(),
        }
    }

    fn may_be_off(&self, node: &Value) -> bool {
        let (_, node) = self.resolve(node);
        let variants = node["anyOf"].as_array();
        variants.is_some_and(|all| all.iter().any(|one| one["enum"][0] == "off"))
    }

    /// The default: of gateway.yaml, or as the description says it, which then loses that sentence.
    fn default(&self, path: &str, required: bool, meaning: &mut String) -> String {
        if let Some((before, after)) = meaning.clone().split_once("Default: ") {
            let end = after.find(". ").map_or(after.len(), |end| end + 1);
            let (said, rest) = after.split_at(end);
            *meaning = format!("{before}{}", rest.trim_start()).trim_end().to_owned();
            return said.trim_end_matches('.').to_owned();
        }
        // A stream that is handed over has the defaults of one on an events route.
        let as_event = path.replace(".handover.", ".events.");
        let found = self.defaults.get(path).or_else(|| self.defaults.get(&as_event));
        match found {
            Some(value) => format!("`{value}`"),
            None if required => "required".into(),
            None => "–".into(),
        }
    }

    /// Writes the section of one mapping, then those of the mappings in it that have none yet.
    fn section(&mut self, path: &str, heading: &str, mapping: &Value) {
        let properties = mapping["properties"].as_object().expect("a mapping").clone();
        let mut below = Vec::new();
        for (key, node) in &properties {
            let Some((name, inner, list)) = self.mapping(node) else { continue };
            if self.sections.contains_key(name) {
                continue;
            }
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let (name, inner, path) = (name.to_owned(), inner.clone(), format!("{path}{list}"));
            self.sections.insert(name, format!("`{path}`"));
            below.push((path, inner));
        }
        // `sse` is the place of what routes have, too.
        below.sort_by_key(|(path, _)| path != "sse");
        let about = mapping["description"].as_str().unwrap_or_default();
        // What the whole file is for stands in the head.
        let about =
            if path.is_empty() { String::new() } else { format!("{}\n\n", one_line(about)) };
        writeln!(
            self.text,
            "\n## {heading}\n\n{about}| key | type | default | meaning |\n|---|---|---|---|"
        )
        .expect("a string");
        let required = |key: &str| {
            mapping["required"].as_array().is_some_and(|keys| keys.iter().any(|one| one == key))
        };
        for (key, node) in &properties {
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let mut meaning = one_line(node["description"].as_str().unwrap_or_default());
            let default = self.default(&at, required(key), &mut meaning);
            let kind = self.kind(node);
            writeln!(self.text, "| `{key}` | {kind} | {default} | {meaning}{} |", self.words(node))
                .expect("a string");
        }
        for (path, inner) in below {
            self.section(&path, &format!("`{path}`"), &inner);
        }
    }

    /// What each word of a key with a few words means.
    fn words(&self, node: &Value) -> String {
        let (_, node) = self.resolve(node);
        let variants = node["oneOf"].as_array().into_iter().flatten();
        let described = variants.filter_map(|one| {
            let (word, meaning) = (one["const"].as_str()?, one["description"].as_str()?);
            Some(format!(" `{word}`: {}", one_line(meaning)))
        });
        described.collect()
    }
}

fn number(node: &Value) -> String {
    match (node["minimum"].as_u64(), node["maximum"].as_u64()) {
        (Some(least), Some(most)) => format!("number, {least} to {most}"),
        _ => "number".into(),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The anchor of a heading, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_ascii_alphanumeric() || "_- ".contains(*c));
    format!("#{}", kept.collect::<String>().to_lowercase().replace(' ', "-"))
}

fn generated() -> String {
    let mut reference = Reference::new();
    let root = reference.schema.clone();
    reference.section("", "The file", &root);
    reference.text
}

#[test]
fn the_reference_in_the_docs_is_generated_from_the_schema() {
    let tests = "config::tests::documentation";
    crate::generated_page::assert_current("docs/CONFIGURATION.md", &generated(), tests);
}

/// Configurations with one of the mappings that gateway.yaml shows as an example only, where `MORE` stands for
/// further keys; with the path of the mapping.
const OPTIONAL: [(&str, &str); 5] = [
    ("auth.forward", "auth: {forward: {url: 'http://h/a', copy_headers: [x-user], MORE}}"),
    (
        "auth.jwt",
        "auth: {jwt: {keys: 'thirty-two bytes, that is the least', algorithms: HS256, MORE}}",
    ),
    ("revocation", "auth: {tokens: [{name: a, sha256: HASH}]}\nrevocation: {MORE}"),
    (
        "routes[].publish",
        "- path: /publish/{channel}\n  publish: {MORE}\n  auth: {tokens: [{name: a, sha256: HASH}]}",
    ),
    (
        "routes[].handover",
        "- path: /h\n  proxy: {upstream: 'http://h'}\n  handover: {key: 'thirty-two bytes, that is the least', MORE}",
    ),
];

#[test]
fn the_defaults_of_optional_mappings_are_the_defaults() {
    let generated = generated();
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let mut compared = 0;
    for (path, yaml) in OPTIONAL {
        let yaml = yaml.replace("HASH", hash);
        let parsed = |more: &str| {
            let yaml = yaml
                .replace("{MORE}", &format!("{{{more}}}"))
                .replace(", MORE", &format!(", {more}"));
            let text = if path.starts_with("routes") {
                super::with_routes(&yaml)
            } else {
                super::with(&yaml)
            };
            format!("{:#?}", settings(&text))
        };
        let section = generated.split_once(&format!("## `{path}`\n")).expect(path).1;
        let section = section.split("\n## ").next().expect("a section");
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> = row.split(" | ").collect();
            let key = cells[0].trim_start_matches("| ").trim_matches('`');
            let Some(default) = cells[2].strip_prefix('`').and_then(|text| text.strip_suffix('`'))
            else {
                continue;
            };
            assert_eq!(parsed(&format!("{key}: {default}")), parsed(""), "{path}.{key}");
            compared += 1;
        }
    }
    assert!(compared > 20, "only {compared}");
}
