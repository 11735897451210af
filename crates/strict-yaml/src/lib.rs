#![doc = include_str!("../README.md")]

mod choice;
mod duplicates;
mod error;
mod field;
mod fill;
mod mapping;
mod markers;
mod mistakes;
mod parse;
mod plain;
mod read;
mod schema;
mod substituted;
mod syntax;
mod tree;
mod units;
mod variables;
mod wording;

pub use choice::{Limit, OneOrMore, OrOff};
pub use error::{ConfigErrors, KeyLocation, Mistake};
pub use field::{At, Field};
pub use mapping::Sets;
pub use mistakes::Mistakes;
pub use parse::parse;
pub use plain::{PlainEntry, PlainValue, plain};
pub use schema::schema;
pub use units::{Count, Size, Time, TimeOrZero};
pub use variables::{Env, StandIn};
pub use wording::{quoted, suggestion};
