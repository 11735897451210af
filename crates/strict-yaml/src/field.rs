//! The value of a key, with its location in the file.
//!
//! Every key of a struct to fill is a [`Field`]. An invalid value becomes [`Field::Invalid`] and does not
//! end the parsing, and a mistake found later still has its location.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use crate::error::KeyLocation;

/// The value of a key.
#[derive(Clone, Debug, Default)]
pub enum Field<T> {
    /// The key is not in the file.
    #[default]
    Absent,
    /// The key has an invalid value here, and the mistake has been noted.
    Invalid(KeyLocation),
    /// The key has this value.
    Written(At<T>),
}

/// A value and its location.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// Where the value is.
    pub location: KeyLocation,
    /// The value.
    pub value: T,
}

impl<T> Field<T> {
    /// Whether the key is not in the file.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// The location of a valid value.
    pub fn location(&self) -> Option<&KeyLocation> {
        match self {
            Self::Written(at) => Some(&at.location),
            Self::Absent | Self::Invalid(_) => None,
        }
    }

    /// The value and its location, if there is a valid one.
    pub fn written(self) -> Option<At<T>> {
        match self {
            Self::Written(at) => Some(at),
            Self::Absent | Self::Invalid(_) => None,
        }
    }

    /// The value, if there is a valid one.
    pub fn value(self) -> Option<T> {
        self.written().map(|at| at.value)
    }

    /// The value, or `default` where there is no valid one.
    pub fn or(self, default: T) -> T {
        self.value().unwrap_or(default)
    }

    /// The value, or the default of its type where there is no valid one.
    pub fn or_default(self) -> T
    where
        T: Default,
    {
        self.value().unwrap_or_default()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not what other types ask for, each of whose ways would be compiled for every field.
        deserializer.deserialize_tuple_struct("Field", 2, FieldVisitor(PhantomData))
    }
}

/// Reads the location and, if it is valid, the value.
struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the parts of a field")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut parts: A) -> Result<Field<T>, A::Error> {
        let location = parts.next_key()?.ok_or_else(|| A::Error::missing_field("location"))?;
        let LocationKey(location) = location;
        Ok(match parts.next_value() {
            Ok(value) => Field::Written(At { location, value }),
            // It has been noted.
            Err(_) => Field::Invalid(location),
        })
    }
}

/// The location of a field as a text, `LINE:COLUMN:PATH`.
pub(crate) struct LocationKey(pub(crate) KeyLocation);

impl fmt::Display for LocationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KeyLocation { path, line, column } = &self.0;
        write!(f, "{line}:{column}:{path}")
    }
}

impl<'de> Deserialize<'de> for LocationKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut parts = text.splitn(3, ':');
        let mut number = || parts.next()?.parse().ok();
        let place = number().zip(number());
        let ((line, column), path) =
            place.zip(parts.next()).ok_or_else(|| D::Error::custom("not a location"))?;
        Ok(Self(KeyLocation { path: path.to_owned(), line, column }))
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
