//! Fills the structs of [`file`](mod@super::file) from the tree, and notes every mistake.
//!
//! Knows the shapes of YAML, and no key of gateway.yaml.
//!
//! A serde deserializer that does not stop at the first mistake: it notes an unknown key and skips it,
//! and an invalid value becomes [`Field::Invalid`](super::field::Field::Invalid).

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::{Deserialize, forward_to_deserialize_any};

use super::error::{KeyLocation, Mistakes, all_of, join, one_of, quoted, suggestion};
use super::field::{FIELD, LIMIT, ONE_OR_MORE, OR_OFF};
use super::tree::{Node, NodeKey, NodeValue, Scalar};

/// Fills `T` from the whole tree; `None` when its root is invalid.
pub(super) fn fill<'de, T: Deserialize<'de>>(root: &Node, mistakes: &Mistakes) -> Option<T> {
    let filler = Filler { node: root, path: String::new(), mistakes };
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
pub(super) enum Problem {
    /// A mistake that has to be noted at the value's location.
    Message(String),
    /// A mistake that has been noted already.
    Noted,
}

impl Problem {
    fn note(self, location: &KeyLocation, mistakes: &Mistakes) {
        if let Self::Message(message) = self {
            mistakes.note(location, message);
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => f.write_str(message),
            Self::Noted => f.write_str("noted already"),
        }
    }
}

impl std::error::Error for Problem {}

impl serde::de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Message(message.to_string())
    }
}

/// Deserializes one node.
#[derive(Debug)]
pub(super) struct Filler<'a> {
    node: &'a Node,
    path: String,
    mistakes: &'a Mistakes,
}

impl<'a> Filler<'a> {
    fn expected(&self, what: &str) -> Problem {
        let found = match &self.node.value {
            NodeValue::Invalid => return Problem::Noted,
            NodeValue::Nothing => "the value is empty".to_owned(),
            NodeValue::List(_) => "this is a list".to_owned(),
            NodeValue::Map(_) => "this is a mapping".to_owned(),
            NodeValue::Scalar(scalar) => format!("this is {}", quoted(&scalar.text)),
        };
        Problem::Message(format!("expected {what}; {found}"))
    }

    fn scalar(&self, what: &str) -> Result<&Scalar, Problem> {
        match &self.node.value {
            NodeValue::Scalar(scalar) => Ok(scalar),
            _ => Err(self.expected(what)),
        }
    }

    fn number(&self) -> Result<u64, Problem> {
        const NUMBER: &str = "a whole number";
        let Scalar { text, is_plain } = self.scalar(NUMBER)?;
        match text.parse() {
            Ok(number) if *is_plain => Ok(number),
            Ok(_) => Err(Problem::Message(format!("expected {NUMBER}; remove the quotes"))),
            Err(_) => Err(self.expected(NUMBER)),
        }
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
            let path = join(&self.path, &key.name);
            let location = KeyLocation { path, line: key.line, column: key.column };
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
        Some(key) => format!("unknown key; did you mean `{key}`?"),
        None => format!("unknown key; the valid keys are {}", all_of(keys)),
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

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match u32::try_from(self.number()?) {
            Ok(number) => visitor.visit_u32(number),
            Err(_) => Err(self.expected(&format!("a whole number up to {}", u32::MAX))),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_u64(self.number()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.node.value {
            NodeValue::List(items) => {
                visitor.visit_seq(ListItems { filler: &self, items, next: 0 })
            }
            _ => Err(self.expected("a list")),
        }
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
        let entries = self.known_entries(keys, entries).into_iter();
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
        Err(Problem::Message(format!("expected {}; this is {}{hint}", one_of(words), quoted(text))))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match (name, &self.node.value) {
            (FIELD, _) => visitor.visit_seq(FieldParts { filler: self, next: 0 }),
            (ONE_OR_MORE, NodeValue::List(_)) => self.deserialize_seq(visitor),
            (OR_OFF | LIMIT, NodeValue::Scalar(scalar)) if is_off(scalar) => visitor.visit_unit(),
            (OR_OFF, NodeValue::Scalar(_)) => Err(self.expected("a mapping or off")),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct tuple tuple_struct map identifier ignored_any
    }
}

/// The parts of a [`Field`](super::field::Field): path, line, column, value.
struct FieldParts<'a> {
    filler: Filler<'a>,
    next: usize,
}

impl<'de> SeqAccess<'de> for FieldParts<'_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Problem> {
        self.next += 1;
        let Filler { node, path, mistakes } = &self.filler;
        match self.next {
            1 => seed.deserialize(path.as_str().into_deserializer()).map(Some),
            2 => seed.deserialize(node.line.into_deserializer()).map(Some),
            3 => seed.deserialize(node.column.into_deserializer()).map(Some),
            _ => {
                let value = Filler { node, path: path.clone(), mistakes };
                match seed.deserialize(value) {
                    Ok(value) => Ok(Some(value)),
                    Err(problem) => {
                        problem.note(&node.location(path), mistakes);
                        Ok(None)
                    }
                }
            }
        }
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
        seed.deserialize(Filler { node, path, mistakes: self.filler.mistakes }).map(Some)
    }
}

struct MappingEntries<'a> {
    filler: &'a Filler<'a>,
    entries: std::vec::IntoIter<(&'static str, &'a Node)>,
    value: Option<(&'static str, &'a Node)>,
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
        seed.deserialize(Filler { node, path, mistakes: self.filler.mistakes })
    }
}
