//! What the gateways of a fleet publish for each other, so that a client can resume at any of them.
//!
//! Redis sends one order of messages to all subscribers of a server, over all its channels. Gateways publish
//! [`marks`] into that order, and a message is [named](name) by the mark before it. A gateway that has not
//! received what a client has seen asks the others: a [question](message) is itself a mark, and the [answer]
//! says how far the channels had come at that mark. Pure: the hub ([`channels`](crate::channels)) decides
//! what is published and when, and its source publishes it.

pub(crate) mod answer;
pub(crate) mod marks;
pub(crate) mod member;
pub(crate) mod message;
pub(crate) mod name;
pub(crate) mod order_id;
pub(crate) mod orders;
pub(crate) mod pacer;
pub(crate) mod questions;
pub(crate) mod requests;
pub(crate) mod rules;
pub(crate) mod warm_up;
