//! The commands of a pub/sub connection whose replies are pending.
//!
//! Replies arrive in the order of the commands; push messages are not replies. A reply that belongs to no
//! command is an error, which ends the connection, so that no reply is ever matched to the wrong command.

use std::collections::VecDeque;

use bytes::Bytes;
use ssegate_hub::Subscription;

use super::connection::RedisConnection;
use super::error::SourceError;

/// Names in one `SUBSCRIBE`, at most.
const MAX_NAMES: usize = 512;

/// A command whose reply is pending.
#[derive(Debug)]
pub(super) enum PubSubCommand {
    /// `SUBSCRIBE` or `PSUBSCRIBE`: one push message for each name. These are not confirmed yet.
    Subscribe(VecDeque<Subscription>),
    /// `UNSUBSCRIBE` or `PUNSUBSCRIBE`, likewise.
    Unsubscribe(VecDeque<Subscription>),
    /// `PING`; its reply passes the fence with this ticket.
    Ping(Option<u64>),
    /// A marker: the commands before it restore the subscriptions on a new connection.
    Resubscribed,
}

/// The commands whose replies are pending, in the order of sending.
#[derive(Debug, Default)]
pub(super) struct PendingCommands(VecDeque<PubSubCommand>);

impl PendingCommands {
    /// A command was sent.
    pub(super) fn push(&mut self, command: PubSubCommand) {
        self.0.push_back(command);
    }

    /// Queues `SUBSCRIBE` and `PSUBSCRIBE` for these subscriptions.
    pub(super) fn subscribe(
        &mut self,
        connection: &mut RedisConnection,
        subscriptions: Vec<Subscription>,
    ) {
        let commands = ["SUBSCRIBE", "PSUBSCRIBE"];
        self.queue(connection, subscriptions, commands, PubSubCommand::Subscribe);
    }

    /// Queues `UNSUBSCRIBE` and `PUNSUBSCRIBE` for these subscriptions.
    pub(super) fn unsubscribe(
        &mut self,
        connection: &mut RedisConnection,
        subscriptions: Vec<Subscription>,
    ) {
        let commands = ["UNSUBSCRIBE", "PUNSUBSCRIBE"];
        self.queue(connection, subscriptions, commands, PubSubCommand::Unsubscribe);
    }

    /// Queues a `PING`, whose reply passes the fence with this ticket.
    pub(super) fn ping(&mut self, connection: &mut RedisConnection, fence: Option<u64>) {
        connection.queue("PING", [].into_iter());
        self.push(PubSubCommand::Ping(fence));
    }

    /// Queues commands for these subscriptions: `plain` for channels and `pattern` for patterns.
    fn queue(
        &mut self,
        connection: &mut RedisConnection,
        subscriptions: Vec<Subscription>,
        [plain, pattern]: [&str; 2],
        command: fn(VecDeque<Subscription>) -> PubSubCommand,
    ) {
        let (patterns, channels): (Vec<_>, Vec<_>) =
            subscriptions.into_iter().partition(|subscription| subscription.is_pattern);
        for (name, subscriptions) in [(plain, channels), (pattern, patterns)] {
            for chunk in subscriptions.chunks(MAX_NAMES) {
                connection.queue(name, chunk.iter().map(|one| one.name.as_str()));
                self.push(command(chunk.iter().cloned().collect()));
            }
        }
    }

    /// Takes the command that the next reply belongs to.
    pub(super) fn pop(&mut self) -> Option<PubSubCommand> {
        self.0.pop_front()
    }

    /// Takes the marker, if everything before it was replied to.
    pub(super) fn take_resubscribed(&mut self) -> bool {
        let is_next = matches!(self.0.front(), Some(PubSubCommand::Resubscribed));
        if is_next {
            self.0.pop_front();
        }
        is_next
    }

    /// More commands were sent that restore the subscriptions: the marker, if it is pending, comes behind them.
    pub(super) fn delay_resubscribed(&mut self) {
        let is_marker = |command: &PubSubCommand| matches!(command, PubSubCommand::Resubscribed);
        if let Some(at) = self.0.iter().position(is_marker) {
            self.0.remove(at);
            self.0.push_back(PubSubCommand::Resubscribed);
        }
    }

    /// The names that the next reply confirms or refuses, if it belongs to a subscription.
    pub(super) fn subscribing(&self) -> Option<&VecDeque<Subscription>> {
        match self.0.front() {
            Some(PubSubCommand::Subscribe(names)) => Some(names),
            _ => None,
        }
    }

    /// Takes the name that a push message confirms as subscribed.
    ///
    /// # Errors
    /// No such confirmation is pending.
    pub(super) fn take_subscribed(
        &mut self,
        is_pattern: bool,
        name: &Bytes,
    ) -> Result<Subscription, SourceError> {
        // An unsolicited confirmation must not be matched to a pending command.
        let Some(PubSubCommand::Subscribe(names)) = self.0.front_mut() else {
            return Err(unexpected_confirmation("subscribe", name));
        };
        let Some(subscription) = pop_named(names, is_pattern, name) else {
            return Err(unexpected_confirmation("subscribe", name));
        };
        if names.is_empty() {
            self.0.pop_front();
        }
        Ok(subscription)
    }

    /// Takes the name that a push message confirms as unsubscribed.
    ///
    /// # Errors
    /// No such confirmation is pending.
    pub(super) fn take_unsubscribed(
        &mut self,
        is_pattern: bool,
        name: &Bytes,
    ) -> Result<(), SourceError> {
        let Some(PubSubCommand::Unsubscribe(names)) = self.0.front_mut() else {
            return Err(unexpected_confirmation("unsubscribe", name));
        };
        if pop_named(names, is_pattern, name).is_none() {
            return Err(unexpected_confirmation("unsubscribe", name));
        }
        if names.is_empty() {
            self.0.pop_front();
        }
        Ok(())
    }

    /// Whether this name is to be unsubscribed, and Redis has not confirmed it yet.
    pub(super) fn is_unsubscribing(&self, subscription: &Subscription) -> bool {
        self.0.iter().any(|command| {
            matches!(command, PubSubCommand::Unsubscribe(names) if names.contains(subscription))
        })
    }

    /// Whether the reply to a subscription is pending.
    pub(super) fn has_subscribe(&self) -> bool {
        self.0.iter().any(|command| matches!(command, PubSubCommand::Subscribe(_)))
    }

    /// Whether the reply to a `PING` is pending.
    pub(super) fn has_ping(&self) -> bool {
        self.0.iter().any(|command| matches!(command, PubSubCommand::Ping(_)))
    }
}

/// Removes the next name, if it is `name`: Redis confirms names in the order of the command.
fn pop_named(
    names: &mut VecDeque<Subscription>,
    is_pattern: bool,
    name: &Bytes,
) -> Option<Subscription> {
    let is_next = names.front().is_some_and(|next| {
        next.is_pattern == is_pattern && next.name.as_str().as_bytes() == &name[..]
    });
    if is_next { names.pop_front() } else { None }
}

fn unexpected_confirmation(kind: &str, name: &Bytes) -> SourceError {
    SourceError::Unexpected(format!("{kind} {}", String::from_utf8_lossy(name)))
}
