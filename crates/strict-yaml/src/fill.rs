//! Fills structs from the tree, and notes every mistake.
//!
//! A serde deserializer that does not stop at the first mistake: it notes an unknown key and skips it, and an
//! invalid value becomes [`Field::Invalid`](crate::Field::Invalid).

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};

use crate::error::{KeyLocation, join};
use crate::field::LocationKey;
use crate::markers::{COUNT, LIMIT, ONE_OR_MORE, OR_OFF};
use crate::mistakes::{Fault, Mistakes, UNKNOWN_KEY};
use crate::tree::{Node, NodeKey, NodeValue, Scalar};
use crate::wording::{all_of, one_of, quoted, suggestion};

/// Fills `T` from the whole tree; `None` when its root is invalid.
pub(crate) fn fill<'de, T: Deserialize<'de>>(root: &Node, mistakes: &Mistakes) -> Option<T> {
    let filler = Filler::new(root, String::new(), mistakes);
    match T::deserialize(filler) {
        Ok(value) => Some(value),
        Err(problem) => {
            problem.note(&root.location(""), mistakes);
            None
        }
    }
}

/// Why a value is invalid.
#[derive(Debug)]
pub(crate) enum Problem {
    /// A mistake that has to be noted at the value's location.
    Fault(Fault),
    /// A mistake that has been noted already.
    Noted,
}

impl Problem {
    fn note(self, location: &KeyLocation, mistakes: &Mistakes) {
        if let Self::Fault(fault) = self {
            mistakes.note_fault(location, fault);
        }
    }

    fn message(message: String) -> Self {
        Self::Fault(Fault::Message(message))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => f.write_str(&fault.clone().into_message()),
            Self::Noted => f.write_str("noted already"),
        }
    }
}

impl std::error::Error for Problem {}

impl serde::de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::message(message.to_string())
    }
}

/// Deserializes one node.
#[derive(Debug)]
pub(crate) struct Filler<'a> {
    node: &'a Node,
    path: String,
    mistakes: &'a Mistakes,
    /// The range of a number, as far as its type states one, with a space before it.
    range: &'static str,
}

impl<'a> Filler<'a> {
    fn new(node: &'a Node, path: String, mistakes: &'a Mistakes) -> Self {
        Self { node, path, mistakes, range: "" }
    }

    /// What is there, for a message; `None` if a mistake about it has been noted already.
    fn found(&self) -> Option<String> {
        Some(match &self.node.value {
            NodeValue::Invalid => return None,
            NodeValue::Nothing => "the value is empty".to_owned(),
            NodeValue::List(_) => "this is a list".to_owned(),
            NodeValue::Map(_) => "this is a mapping".to_owned(),
            NodeValue::Scalar(scalar) => format!("this is {}", quoted(&scalar.text)),
        })
    }

    fn expected(&self, what: &str) -> Problem {
        self.found()
            .map_or(Problem::Noted, |found| Problem::message(format!("expected {what}; {found}")))
    }

    fn scalar(&self, what: &str) -> Result<&Scalar, Problem> {
        match &self.node.value {
            NodeValue::Scalar(scalar) => Ok(scalar),
            _ => Err(self.expected(what)),
        }
    }

    /// Returns a whole number up to `most`, the highest of its type.
    fn number(&self, most: u64) -> Result<u64, Problem> {
        let Some(mut found) = self.found() else { return Err(Problem::Noted) };
        if let NodeValue::Scalar(Scalar { text, is_plain }) = &self.node.value {
            match text.parse() {
                Ok(number) if *is_plain && number <= most => return Ok(number),
                Ok(_) if !is_plain => found += " in quotes; remove the quotes",
                _ => {}
            }
        }
        let range = match self.range {
            "" if most < u64::MAX => format!(" from 0 to {most}"),
            range => range.to_owned(),
        };
        Err(Problem::Fault(Fault::NotANumber { range, found }))
    }

    /// Returns the entries of a mapping whose keys are known, and notes the unknown ones. A misspelt key
    /// is read as the key that was probably meant, so that `adress` does not also report a missing
    /// `address`.
    fn known_entries(
        &self,
        keys: &'static [&'static str],
        entries: &'a [(NodeKey, Node)],
    ) -> Vec<(&'static str, &'a Node)> {
        let mut known = Vec::new();
        for (key, node) in entries {
            if let Some(name) = keys.iter().find(|name| **name == key.name) {
                known.push((*name, node));
                continue;
            }
            let location = key.location(join(&self.path, &key.name));
            let meant = suggestion(&key.name, keys);
            self.mistakes.note(&location, unknown_key(meant, keys));
            let is_free = |name: &&str| !entries.iter().any(|(key, _)| key.name == **name);
            if let Some(name) = meant.filter(is_free)
                && !known.iter().any(|(other, _)| *other == name)
            {
                known.push((name, node));
            }
        }
        known
    }
}

fn unknown_key(meant: Option<&str>, keys: &[&str]) -> String {
    match meant {
        Some(key) => format!("{UNKNOWN_KEY}; did you mean `{key}`?"),
        None => format!("{UNKNOWN_KEY}; the valid keys are {}", all_of(keys)),
    }
}

fn is_off(scalar: &Scalar) -> bool {
    ["off", "false"].iter().any(|off| scalar.text.eq_ignore_ascii_case(off))
}

impl<'de> Deserializer<'de> for Filler<'_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_str(&self.scalar("text")?.text)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        const BOOL: &str = "true or false";
        match self.scalar(BOOL)? {
            Scalar { text, is_plain: true } if text == "true" => visitor.visit_bool(true),
            Scalar { text, is_plain: true } if text == "false" => visitor.visit_bool(false),
            _ => Err(self.expected(BOOL)),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_u64(self.number(u8::MAX.into())?)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_u64(self.number(u16::MAX.into())?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_u64(self.number(u32::MAX.into())?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_u64(self.number(u64::MAX)?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.node.value {
            NodeValue::List(items) => {
                visitor.visit_seq(ListItems { filler: &self, items, next: 0 })
            }
            _ => Err(self.expected("a list")),
        }
    }

    /// A mapping whose names the user chooses.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let NodeValue::Map(entries) = &self.node.value else {
            return Err(self.expected("a mapping"));
        };
        let entries: Vec<_> = entries.iter().map(|(key, node)| (key.name.as_str(), node)).collect();
        let entries = entries.into_iter();
        visitor.visit_map(MappingEntries { filler: &self, entries, value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let entries = match &self.node.value {
            NodeValue::Map(entries) => entries.as_slice(),
            // A mapping whose keys are all commented out.
            NodeValue::Nothing => &[],
            _ => return Err(self.expected(&format!("a mapping with {}", all_of(keys)))),
        };
        let entries: Vec<(&str, &Node)> = self.known_entries(keys, entries);
        let entries = entries.into_iter();
        visitor.visit_map(MappingEntries { filler: &self, entries, value: None })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        words: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let text = &self.scalar(&one_of(words))?.text;
        if words.contains(&text.as_str()) {
            return visitor.visit_enum(StrDeserializer::new(text));
        }
        let hint = match suggestion(text, words) {
            Some(word) => format!("; did you mean `{word}`?"),
            None => String::new(),
        };
        let expected = one_of(words);
        Err(Problem::message(format!("expected {expected}; this is {}{hint}", quoted(text))))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match (name, &self.node.value) {
            (ONE_OR_MORE, NodeValue::List(_)) => self.deserialize_seq(visitor),
            (OR_OFF | LIMIT, NodeValue::Scalar(scalar)) if is_off(scalar) => visitor.visit_unit(),
            (OR_OFF, NodeValue::Scalar(_)) => Err(self.expected("a mapping or off")),
            (COUNT, _) => visitor.visit_newtype_struct(Self { range: " of at least 1", ..self }),
            (LIMIT, _) => {
                visitor.visit_newtype_struct(Self { range: " of at least 1, or off", ..self })
            }
            _ => visitor.visit_newtype_struct(self),
        }
    }

    /// A [`Field`](crate::field::Field).
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_map(FieldParts { filler: self })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct tuple identifier ignored_any
    }
}

/// The parts of a [`Field`](crate::field::Field): the location is the key, and the value is the value. An invalid one is
/// noted.
struct FieldParts<'a> {
    filler: Filler<'a>,
}

impl<'de> MapAccess<'de> for FieldParts<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        let location = LocationKey(self.filler.node.location(&self.filler.path));
        seed.deserialize(location.to_string().into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let Filler { node, path, mistakes, .. } = &self.filler;
        seed.deserialize(Filler::new(node, path.clone(), mistakes)).map_err(|problem| {
            problem.note(&node.location(path), mistakes);
            Problem::Noted
        })
    }
}

struct ListItems<'a> {
    filler: &'a Filler<'a>,
    items: &'a [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for ListItems<'_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Problem> {
        let Some(node) = self.items.get(self.next) else { return Ok(None) };
        let path = format!("{}[{}]", self.filler.path, self.next);
        self.next += 1;
        seed.deserialize(Filler::new(node, path, self.filler.mistakes)).map(Some)
    }
}

struct MappingEntries<'a> {
    filler: &'a Filler<'a>,
    entries: std::vec::IntoIter<(&'a str, &'a Node)>,
    value: Option<(&'a str, &'a Node)>,
}

impl<'de> MapAccess<'de> for MappingEntries<'_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Problem> {
        self.value = self.entries.next();
        let Some((key, _)) = self.value else { return Ok(None) };
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let Some((key, node)) = self.value.take() else {
            return Err(Problem::custom("next_value_seed was called before next_key_seed"));
        };
        let path = join(&self.filler.path, key);
        seed.deserialize(Filler::new(node, path, self.filler.mistakes))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Count, Field, KeyLocation, Limit, Mistakes, Sets as _, mapping, parse};

    #[derive(Default)]
    struct TestSettings {
        port: u16,
        shards: usize,
        streams: u32,
        connections: usize,
        requests: Option<usize>,
    }

    mapping! {
        struct TestFile sets TestSettings {
            port: u16 => port in 1..=u16::MAX,
            shards: usize => shards in 1..=128,
            streams: u32 => streams,
            connections: Count => connections,
            requests: Limit<usize> => requests,
            inner: TestInner,
            list: Vec<Field<Count>>,
        }
    }

    mapping! {
        struct TestInner sets TestSettings {
            port: u16,
        }
    }

    fn report(text: &str) -> String {
        let resolve = |file: TestFile, mistakes: &Mistakes| {
            let mut settings = TestSettings::default();
            file.set(&mut settings, &KeyLocation::default(), mistakes);
            file.inner.set(&mut settings, mistakes);
            drop(file.list);
            Some(settings)
        };
        parse(text, "f", (&|_| None, &|_| None), resolve)
            .map_or_else(|errors| errors.to_string(), |_| String::new())
    }

    #[test]
    fn where_a_number_is_expected_its_range_is_named() {
        for (text, expected) in [
            ("port: 8443", ""),
            (
                "port: http",
                "port: expected a whole number from 1 to 65535; this is \"http\" (f:1:7)",
            ),
            (
                "port: 70000",
                "port: expected a whole number from 1 to 65535; this is \"70000\" (f:1:7)",
            ),
            ("port: -1", "port: expected a whole number from 1 to 65535; this is \"-1\" (f:1:7)"),
            ("port: 0", "port: must be at least 1; this is 0 (f:1:7)"),
            ("port:", "port: expected a whole number from 1 to 65535; the value is empty (f:1:5)"),
            ("port: [1]", "port: expected a whole number from 1 to 65535; this is a list (f:1:7)"),
            (
                "port: '80'",
                "port: expected a whole number from 1 to 65535; this is \"80\" in quotes; remove the \
                 quotes (f:1:7)",
            ),
            (
                "shards: all",
                "shards: expected a whole number from 1 to 128; this is \"all\" (f:1:9)",
            ),
            ("shards: 129", "shards: must be at most 128; this is 129 (f:1:9)"),
            (
                "streams: 5000000000",
                "streams: expected a whole number from 0 to 4294967295; this is \"5000000000\" (f:1:10)",
            ),
            (
                "connections: many",
                "connections: expected a whole number of at least 1; this is \"many\" (f:1:14)",
            ),
            ("list: [x]", "list[0]: expected a whole number of at least 1; this is \"x\" (f:1:8)"),
            (
                "requests: none",
                "requests: expected a whole number of at least 1, or off; this is \"none\" (f:1:11)",
            ),
        ] {
            assert_eq!(report(text), expected, "{text}");
        }
    }
}
