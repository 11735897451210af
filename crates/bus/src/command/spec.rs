//! One row of the command table.

use std::ops::RangeInclusive;

use super::words::Words;
use super::{BusClient, CommandResult};

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

/// Returns a command that may be queued in a transaction, and not be sent while subscribed.
pub(super) const fn spec(
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
    pub(super) const fn while_subscribed(mut self) -> Self {
        self.runs_while_subscribed = true;
        self
    }

    pub(super) const fn controlling_transaction(mut self) -> Self {
        self.controls_transaction = true;
        self
    }

    pub(super) const fn outside_transaction(mut self) -> Self {
        self.runs_in_transaction = false;
        self
    }
}
