//! The shape of the source: what may name what, and that names are unique.

mod circles;
mod docs;
mod layers;
mod links;
mod names;
mod source;
