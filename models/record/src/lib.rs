//! A model of gateways that record one channel, checked exhaustively within bounds.
//!
//! What a gateway decides, and what the script in Redis does, is the code of `crates/record` itself. The model
//! has what is around it: a Redis that sends everything in one order, connections that lag and break, gateways
//! that end at any moment, requests that are carried out late or whose answers are lost, a Redis that comes back without
//! what it wrote last, and a slot of a Cluster that moves to another node, of which the old one and gateways learn late.
//! Worlds that go on alike count as one ([`unify`]).

mod action;
mod gateway;
mod properties;
mod unify;
mod world;

pub use action::Action;
pub use world::{Bounds, RecordModel};
