//! MULTI, EXEC and DISCARD: many clients wrap their pipelines in a transaction.

use std::mem;

use ssegate_resp::Value;

use super::error::CommandError;
use super::spec::CommandSpec;
use super::words::Words;
use super::{BusClient, CommandResult};
use crate::reply;

/// The commands queued for EXEC.
#[derive(Default)]
pub(super) struct Transaction {
    queued: Vec<(&'static CommandSpec, Words)>,
    bytes: usize,
    max_bytes: usize,
    /// A command was rejected, so EXEC aborts.
    is_aborted: bool,
}

impl Transaction {
    const MAX_COMMANDS: usize = 10_000;

    /// Bytes that queued commands may hold in addition to one message of the maximum length.
    const EXTRA_BYTES: usize = 1 << 20;

    fn new(max_event_bytes: usize) -> Self {
        Self { max_bytes: max_event_bytes.saturating_add(Self::EXTRA_BYTES), ..Self::default() }
    }

    /// Bytes held by the queued commands.
    pub(super) fn held_bytes(&self) -> usize {
        if self.queued.is_empty() { 0 } else { self.bytes }
    }

    pub(super) fn queue(&mut self, spec: &'static CommandSpec, words: &Words) -> CommandResult {
        if !spec.runs_in_transaction {
            return Err(CommandError::NotInTransaction(spec.name));
        }
        self.bytes += words.held_bytes();
        if self.queued.len() >= Self::MAX_COMMANDS || self.bytes > self.max_bytes {
            self.queued = Vec::new();
            return Err(CommandError::TransactionTooLong);
        }
        self.queued.push((spec, words.to_owned()));
        Ok(reply::simple("QUEUED"))
    }

    /// An error while commands are queued aborts the transaction; a nested MULTI does not, as in
    /// Redis.
    pub(super) fn record_error(&mut self, error: &CommandError) {
        self.is_aborted |= *error != CommandError::NestedMulti;
    }
}

pub(super) fn multi(client: &mut BusClient, _: &Words) -> CommandResult {
    if client.transaction.is_some() {
        return Err(CommandError::NestedMulti);
    }
    client.transaction = Some(Transaction::new(client.broker.settings().max_event_bytes));
    Ok(reply::ok())
}

pub(super) fn exec(client: &mut BusClient, _: &Words) -> CommandResult {
    let mut transaction = client.transaction.take().ok_or(CommandError::WithoutMulti("EXEC"))?;
    if transaction.is_aborted {
        return Err(CommandError::TransactionAborted);
    }
    let queued = mem::take(&mut transaction.queued);
    client.is_in_exec = true;
    let replies = queued
        .into_iter()
        .map(|(spec, words)| (spec.run)(client, &words).unwrap_or_else(Value::from))
        .collect();
    client.is_in_exec = false;
    Ok(Value::Array(replies))
}

pub(super) fn discard(client: &mut BusClient, _: &Words) -> CommandResult {
    client.transaction.take().ok_or(CommandError::WithoutMulti("DISCARD"))?;
    Ok(reply::ok())
}
