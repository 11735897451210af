//! The value of a key, with its location in the file.
//!
//! Every key of the structs in [`file`](mod@super::file) is a [`Field`]. An invalid value becomes
//! [`Field::Invalid`] and does not end the parsing, and a mistake found later still has its location.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};

use super::error::KeyLocation;

// The names by which a `Filler` recognizes these types in `deserialize_newtype_struct`.
pub(super) const FIELD: &str = "ssegate field";
pub(super) const OR_OFF: &str = "ssegate or off";
pub(super) const LIMIT: &str = "ssegate limit or off";
pub(super) const ONE_OR_MORE: &str = "ssegate one or more";

/// The value of a key.
#[derive(Clone, Debug, Default)]
pub(super) enum Field<T> {
    /// The key is not in the file.
    #[default]
    Absent,
    /// The key has an invalid value, and the mistake has been noted.
    Invalid,
    /// The key has this value.
    Written(At<T>),
}

/// A value and its location.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) location: KeyLocation,
    pub(super) value: T,
}

impl<T> Field<T> {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    pub(super) fn location(&self) -> Option<&KeyLocation> {
        match self {
            Self::Written(at) => Some(&at.location),
            Self::Absent | Self::Invalid => None,
        }
    }

    pub(super) fn written(self) -> Option<At<T>> {
        match self {
            Self::Written(at) => Some(at),
            Self::Absent | Self::Invalid => None,
        }
    }

    pub(super) fn value(self) -> Option<T> {
        self.written().map(|at| at.value)
    }

    pub(super) fn or(self, default: T) -> T {
        self.value().unwrap_or(default)
    }

    pub(super) fn or_default(self) -> T
    where
        T: Default,
    {
        self.value().unwrap_or_default()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(FIELD, FieldVisitor(PhantomData))
    }
}

/// Reads the path, the line, the column and, if it is valid, the value.
struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the parts of a field")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Field<T>, A::Error> {
        let path = parts.next_element()?.ok_or_else(|| A::Error::missing_field("path"))?;
        let line = parts.next_element()?.ok_or_else(|| A::Error::missing_field("line"))?;
        let column = parts.next_element()?.ok_or_else(|| A::Error::missing_field("column"))?;
        let location = KeyLocation { path, line, column };
        Ok(match parts.next_element()? {
            Some(value) => Field::Written(At { location, value }),
            None => Field::Invalid,
        })
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A single value, or a list of values.
#[derive(Clone, Debug)]
pub(super) struct OneOrMore<T>(pub(super) Vec<Field<T>>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(ONE_OR_MORE, OneOrMoreVisitor(PhantomData))
    }
}

struct OneOrMoreVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMoreVisitor<T> {
    type Value = OneOrMore<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value or a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMore<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(OneOrMore(all))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, one: D) -> Result<OneOrMore<T>, D::Error> {
        Field::deserialize(one).map(|one| OneOrMore(vec![one]))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrMore", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

/// A mapping, or the word `off`.
#[derive(Clone, Debug)]
pub(super) enum OrOff<T> {
    /// `off`, or `false`: YAML 1.1 reads `off` as `false`.
    Off,
    /// A mapping.
    On(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OrOff<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(OR_OFF, OrOffVisitor(PhantomData))
    }
}

struct OrOffVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for OrOffVisitor<T> {
    type Value = OrOff<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or off")
    }

    fn visit_unit<E>(self) -> Result<OrOff<T>, E> {
        Ok(OrOff::Off)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<OrOff<T>, D::Error> {
        T::deserialize(inner).map(OrOff::On)
    }
}

/// A number or a size, or the word `off`.
#[derive(Clone, Debug)]
pub(super) struct Limit<T>(pub(super) OrOff<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Limit<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(LIMIT, OrOffVisitor(PhantomData)).map(Self)
    }
}

impl<T: JsonSchema> JsonSchema for Limit<T> {
    fn schema_name() -> Cow<'static, str> {
        OrOff::<T>::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        OrOff::<T>::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for OrOff<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrOff", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let on = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [on, { "enum": ["off", false] }] })
    }
}
