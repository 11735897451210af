//! The command table: the arity and the flags of each command.

use std::ops::RangeInclusive;

use super::words::Words;
use super::{Client, Outcome, connection, pubsub, script, server, transaction};

/// One command.
#[derive(Debug)]
pub(super) struct Spec {
    /// In lower case; matched without regard to case.
    pub(super) name: &'static str,
    /// The number of words, including the name.
    pub(super) words: RangeInclusive<usize>,
    /// What it does.
    pub(super) run: fn(&mut Client, &Words) -> Outcome,
    /// Whether a RESP2 client may send it while subscribed.
    pub(super) runs_while_subscribed: bool,
    /// Whether it runs at once inside a transaction instead of being queued.
    pub(super) steers_transaction: bool,
    /// Whether it can be queued in a transaction: it has exactly one reply, and does not change how
    /// the following commands are interpreted.
    pub(super) runs_in_transaction: bool,
}

const MANY: usize = usize::MAX;

/// The most frequent first, because the table is searched in order.
static COMMANDS: &[Spec] = &[
    spec("publish", 3..=3, pubsub::publish),
    spec("ping", 1..=2, connection::ping).while_subscribed(),
    spec("eval", 3..=MANY, script::eval),
    spec("subscribe", 2..=MANY, pubsub::subscribe).while_subscribed().alone(),
    spec("psubscribe", 2..=MANY, pubsub::psubscribe).while_subscribed().alone(),
    spec("unsubscribe", 1..=MANY, pubsub::unsubscribe).while_subscribed().alone(),
    spec("punsubscribe", 1..=MANY, pubsub::punsubscribe).while_subscribed().alone(),
    spec("pubsub", 2..=MANY, pubsub::pubsub),
    spec("multi", 1..=1, transaction::multi).steering(),
    spec("exec", 1..=1, transaction::exec).steering(),
    spec("discard", 1..=1, transaction::discard).steering(),
    spec("evalsha", 3..=MANY, script::evalsha),
    spec("echo", 2..=2, connection::echo),
    spec("select", 2..=2, connection::select),
    spec("hello", 1..=MANY, connection::hello).alone(),
    spec("auth", 2..=3, connection::auth),
    spec("client", 2..=MANY, connection::client),
    spec("quit", 1..=MANY, connection::quit).while_subscribed().steering(),
    spec("reset", 1..=1, connection::reset).while_subscribed().steering(),
    spec("info", 1..=MANY, server::info),
    spec("command", 1..=MANY, server::command),
    spec("config", 2..=MANY, server::config),
];

const fn spec(
    name: &'static str,
    words: RangeInclusive<usize>,
    run: fn(&mut Client, &Words) -> Outcome,
) -> Spec {
    Spec {
        name,
        words,
        run,
        runs_while_subscribed: false,
        steers_transaction: false,
        runs_in_transaction: true,
    }
}

impl Spec {
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

    const fn steering(mut self) -> Self {
        self.steers_transaction = true;
        self
    }

    const fn alone(mut self) -> Self {
        self.runs_in_transaction = false;
        self
    }
}
