//! The command table: the arity and the flags of each command.

use std::ops::RangeInclusive;

use super::words::Words;
use super::{BusClient, CommandResult, connection, pubsub, script, server, transaction};

/// One command.
#[derive(Debug)]
pub(super) struct CommandSpec {
    /// In lower case; matched without regard to case.
    pub(super) name: &'static str,
    /// The number of words, including the name.
    pub(super) arity: RangeInclusive<usize>,
    /// What it does.
    pub(super) run: fn(&mut BusClient, &Words) -> CommandResult,
    /// Whether a RESP2 client may send it while subscribed.
    pub(super) runs_while_subscribed: bool,
    /// Whether it runs at once inside a transaction instead of being queued.
    pub(super) controls_transaction: bool,
    /// Whether it can be queued in a transaction: it has exactly one reply, and does not change how
    /// the following commands are interpreted.
    pub(super) runs_in_transaction: bool,
}

const MANY: usize = usize::MAX;

/// The most frequent first, because the table is searched in order.
static COMMANDS: &[CommandSpec] = &[
    spec("publish", 3..=3, pubsub::publish),
    spec("ping", 1..=2, connection::ping).while_subscribed(),
    spec("eval", 3..=MANY, script::eval),
    spec("subscribe", 2..=MANY, pubsub::subscribe).while_subscribed().outside_transaction(),
    spec("psubscribe", 2..=MANY, pubsub::psubscribe).while_subscribed().outside_transaction(),
    spec("unsubscribe", 1..=MANY, pubsub::unsubscribe).while_subscribed().outside_transaction(),
    spec("punsubscribe", 1..=MANY, pubsub::punsubscribe).while_subscribed().outside_transaction(),
    spec("pubsub", 2..=MANY, pubsub::pubsub),
    spec("multi", 1..=1, transaction::multi).controlling_transaction(),
    spec("exec", 1..=1, transaction::exec).controlling_transaction(),
    spec("discard", 1..=1, transaction::discard).controlling_transaction(),
    spec("evalsha", 3..=MANY, script::evalsha),
    spec("echo", 2..=2, connection::echo),
    spec("select", 2..=2, connection::select),
    spec("hello", 1..=MANY, connection::hello).outside_transaction(),
    spec("auth", 2..=3, connection::auth),
    spec("client", 2..=MANY, connection::client),
    spec("quit", 1..=MANY, connection::quit).while_subscribed().controlling_transaction(),
    spec("reset", 1..=1, connection::reset).while_subscribed().controlling_transaction(),
    spec("info", 1..=MANY, server::info),
    spec("command", 1..=MANY, server::command),
    spec("config", 2..=MANY, server::config),
];

const fn spec(
    name: &'static str,
    arity: RangeInclusive<usize>,
    run: fn(&mut BusClient, &Words) -> CommandResult,
) -> CommandSpec {
    CommandSpec {
        name,
        arity,
        run,
        runs_while_subscribed: false,
        controls_transaction: false,
        runs_in_transaction: true,
    }
}

impl CommandSpec {
    /// Finds a command by name, without regard to case.
    pub(super) fn find(name: &[u8]) -> Option<&'static Self> {
        COMMANDS.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
    }

    /// The names of all commands.
    pub(super) fn names() -> impl ExactSizeIterator<Item = &'static str> {
        COMMANDS.iter().map(|spec| spec.name)
    }

    const fn while_subscribed(mut self) -> Self {
        self.runs_while_subscribed = true;
        self
    }

    const fn controlling_transaction(mut self) -> Self {
        self.controls_transaction = true;
        self
    }

    const fn outside_transaction(mut self) -> Self {
        self.runs_in_transaction = false;
        self
    }
}
