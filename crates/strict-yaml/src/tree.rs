//! YAML as a tree of nodes, each with its location in the file.
//!
//! A scalar keeps its text as written, and whether it was quoted. The type of its key decides whether that is
//! a number, a duration or text, so that `off`, `007` and `1e3` are never converted by YAML's own rules.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned};

use crate::error::KeyLocation;
use crate::syntax::{MAX_DEPTH, position};

/// A YAML value and its location.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) value: NodeValue,
}

/// A YAML value.
#[derive(Debug)]
pub(crate) enum NodeValue {
    /// `key:` without a value, `~`, `null`.
    Nothing,
    /// A scalar.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(NodeKey, Node)>),
    /// An invalid value whose mistake has been noted already.
    Invalid,
}

/// The text of a scalar.
#[derive(Debug)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Whether it is unquoted, and so may be a number or a boolean.
    pub(crate) is_plain: bool,
}

/// A key of a mapping.
#[derive(Debug)]
pub(crate) struct NodeKey {
    pub(crate) name: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl NodeKey {
    /// The location of the key, given its path.
    pub(crate) fn location(&self, path: String) -> KeyLocation {
        KeyLocation { path, line: self.line, column: self.column }
    }
}

impl Node {
    /// The location of the node, given its path.
    pub(crate) fn location(&self, path: &str) -> KeyLocation {
        KeyLocation { path: path.to_owned(), line: self.line, column: self.column }
    }
}

/// Parses one YAML document. `duplicate_keys` says which of them end the parsing, and which arrive.
///
/// # Errors
/// The first syntax error.
pub(crate) fn parse(
    text: &str,
    duplicate_keys: DuplicateKeyPolicy,
) -> Result<Node, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH },
        duplicate_keys: duplicate_keys,
        reject_unsupported_tags: true,
        with_snippet: false,
        emit_comments: false,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options).map(|raw| node(raw, text))
}

fn node(raw: Spanned<Raw>, text: &str) -> Node {
    // For an alias, the location to edit is that of its anchor.
    let (line, column) = position(raw.defined);
    let source = source(raw.defined, text);
    let value = match raw.value {
        Raw::Nothing => NodeValue::Nothing,
        Raw::Typed => NodeValue::Scalar(Scalar { text: source.to_owned(), is_plain: true }),
        Raw::Text(text) => {
            let is_plain = !source.starts_with(['"', '\'']);
            NodeValue::Scalar(Scalar { text, is_plain })
        }
        Raw::List(items) => {
            NodeValue::List(items.into_iter().map(|item| node(item, text)).collect())
        }
        Raw::Map(entries) => {
            NodeValue::Map(entries.into_iter().map(|(k, v)| (key(k), node(v, text))).collect())
        }
    };
    Node { line, column, value }
}

fn key(raw: Spanned<String>) -> NodeKey {
    let (line, column) = position(raw.defined);
    NodeKey { name: raw.value, line, column }
}

/// The text of the file that a scalar was read from.
fn source(location: Location, text: &str) -> &str {
    let span = location.span();
    let start = span.byte_offset().and_then(|start| usize::try_from(start).ok());
    let length = span.byte_len().and_then(|length| usize::try_from(length).ok());
    let end = start.zip(length).and_then(|(start, length)| start.checked_add(length));
    start.zip(end).and_then(|(start, end)| text.get(start..end)).unwrap_or_default()
}

/// A value as the parser delivers it.
#[derive(Debug)]
enum Raw {
    Nothing,
    /// Parsed as a number or a boolean; its text is taken from the file.
    Typed,
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<String>, Spanned<Self>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Typed)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries: Vec<(Spanned<String>, Spanned<Raw>)> = Vec::new();
        while let Some(entry) = map.next_entry::<Spanned<String>, _>()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use serde_saphyr::DuplicateKeyPolicy;

    use super::{Node, NodeValue, parse};

    /// Prints the tree in one line: `line:column` before each node, quoted scalars in quotes.
    fn shown(node: &Node) -> String {
        let value = match &node.value {
            NodeValue::Nothing => "~".to_owned(),
            NodeValue::Invalid => "!".to_owned(),
            NodeValue::Scalar(scalar) if scalar.is_plain => scalar.text.clone(),
            NodeValue::Scalar(scalar) => format!("{:?}", scalar.text),
            NodeValue::List(items) => {
                format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" "))
            }
            NodeValue::Map(entries) => {
                let entry = |(key, node): &_| {
                    let (key, node): (&super::NodeKey, &Node) = (key, node);
                    format!("{}@{}:{}={}", key.name, key.line, key.column, shown(node))
                };
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
        };
        format!("{}:{} {value}", node.line, node.column)
    }

    fn tree(text: &str) -> String {
        shown(&parse(text, DuplicateKeyPolicy::Error).expect("valid YAML"))
    }

    #[test]
    fn scalars_keep_their_text_and_their_quotes() {
        for (text, expected) in [
            ("007", "1:1 007"),
            ("off", "1:1 off"),
            ("1e3", "1:1 1e3"),
            (".inf", "1:1 .inf"),
            ("0x10", "1:1 0x10"),
            ("'1'", "1:1 \"1\""),
            ("\"a\\tb\"", "1:1 \"a\\tb\""),
            ("!!str 5", "1:7 5"),
            ("~", "1:1 ~"),
            ("", "1:1 ~"),
            ("${A:-b}", "1:1 ${A:-b}"),
        ] {
            assert_eq!(tree(text), expected, "{text}");
        }
    }

    #[test]
    fn every_node_has_its_location() {
        for (text, expected) in [
            ("a:\nb: [1, {c: d}]", "1:1 {a@1:1=1:2 ~ b@2:1=2:4 [2:5 1 2:8 {c@2:9=2:12 d}]}"),
            ("ä: {ö: ü, 'k': 2}", "1:1 {ä@1:1=1:4 {ö@1:5=1:8 ü k@1:11=1:16 2}}"),
            ("a: &x 'y'\nb: *x", "1:1 {a@1:1=1:7 \"y\" b@2:1=1:7 \"y\"}"),
            (
                "a: &x {b: 1}\nc:\n  <<: *x",
                "1:1 {a@1:1=1:7 {b@1:8=1:11 1} c@2:1=3:3 {b@1:8=1:11 1}}",
            ),
        ] {
            assert_eq!(tree(text), expected, "{text}");
        }
    }
}
