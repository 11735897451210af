//! A simulated Redis: one order of messages, and connections that deliver it late.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;

use tokio::time::Instant;

use crate::Subscription;

/// What is on its way to a gateway.
#[derive(Clone, Debug)]
pub(super) enum WireItem {
    /// The marks can be heard from now on.
    Fleet,
    /// With the number of the command.
    Confirmed(Subscription, u64),
    /// All subscriptions of a new connection are confirmed.
    Restored,
    Copy {
        subscription: Subscription,
        message: PublishedMessage,
        is_last: bool,
    },
    ForAll(Vec<u8>),
    ForOne(Vec<u8>),
    Pong(u64),
}

/// A message of an application.
#[derive(Clone, Debug)]
pub(super) struct PublishedMessage {
    pub(super) channel: String,
    pub(super) payload: Vec<u8>,
    pub(super) index: u64,
    pub(super) is_too_large: bool,
}

/// What a gateway sends.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Fleet,
    /// With a number, by which its reply is told from that to an earlier one.
    Subscribe(Subscription, u64),
    Unsubscribe(Subscription),
    Restored,
    Ping(u64),
}

/// The connection of one gateway.
#[derive(Debug, Default)]
pub(super) struct ServerConnection {
    pub(super) subscribed: HashSet<Subscription>,
    pub(super) hears_fleet: bool,
    /// What is under way, and when it arrives, with the newest message before it.
    pub(super) wire: VecDeque<(Instant, u64, WireItem)>,
    pub(super) newest_arrival: Option<Instant>,
}

/// The server.
#[derive(Debug, Default)]
pub(super) struct Server {
    pub(super) newest: u64,
    /// By the name of a channel, or of the pattern: the messages that a subscriber is sent.
    pub(super) messages: HashMap<String, Vec<u64>>,
}

impl fmt::Display for WireItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy { subscription, message: PublishedMessage { index, .. }, .. } => {
                write!(f, "message {index} on {}", subscription.name)
            }
            Self::Confirmed(subscription, _) => write!(f, "{} confirmed", subscription.name),
            Self::ForAll(body) | Self::ForOne(body) => f.write_str(&String::from_utf8_lossy(body)),
            other => write!(f, "{other:?}"),
        }
    }
}
