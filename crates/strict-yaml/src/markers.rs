//! The names by which a `Filler` recognizes the types of this crate in `deserialize_newtype_struct`: serde
//! passes a deserializer nothing else about the type that it fills.

pub(crate) const COUNT: &str = "strict YAML count";
pub(crate) const LIMIT: &str = "strict YAML limit or off";
pub(crate) const ONE_OR_MORE: &str = "strict YAML one or more";
pub(crate) const OR_OFF: &str = "strict YAML or off";
