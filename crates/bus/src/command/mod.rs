//! The commands of the bus. Does not know sockets.
//!
//! A command is a row of [`table`] and a function in one of the submodules: it gets the
//! [`BusClient`] and the words of the command, and returns the reply. Arguments and replies are
//! those of Redis (<https://redis.io/docs/latest/commands/>).

mod connection;
mod error;
mod keys;
mod pubsub;
mod script;
mod server;
mod spec;
mod stream_error;
mod stream_info;
mod stream_range;
mod stream_read;
mod stream_write;
mod table;
mod transaction;
mod words;

use std::net::SocketAddr;
use std::rc::Rc;

use ssegate_resp::{Request, RespVersion, Value};
use tokio::time::Instant;

use self::error::CommandError;
use self::transaction::Transaction;
use self::words::Words;
use super::broker::Broker;
use super::outbox::Outbox;
use super::streams::reply::ReplyAllowance;
use super::streams::waiting::BlockedRead;
use super::subscriptions::SubscriberId;

/// The result of a command: its (last) reply.
type CommandResult = Result<Value, CommandError>;

/// How a session continues after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommandFlow {
    /// Runs the next command.
    Continue,
    /// Closes the connection when all replies have been written.
    Close,
    /// Closes the connection at once: this is HTTP.
    Abort,
}

/// One connection, as its commands see it. Removed from the bus on drop.
pub(super) struct BusClient {
    broker: Broker,
    outbox: Rc<Outbox>,
    peer: SocketAddr,
    id: SubscriberId,
    /// Unique among all connections of the bus, unlike `id`, which is reused.
    number: u64,
    name: Box<[u8]>,
    transaction: Option<Transaction>,
    /// EXEC is running: nothing blocks.
    is_in_exec: bool,
    /// What the entries in the replies to this command may still have.
    allowance: ReplyAllowance,
    blocked: Option<Blocked>,
    is_closing: bool,
}

/// An XREAD that waits for its reply.
struct Blocked {
    read: Rc<BlockedRead>,
    /// `None`: it waits for ever.
    until: Option<Instant>,
}

impl BusClient {
    pub(super) fn new(broker: Broker, outbox: Rc<Outbox>, peer: SocketAddr, number: u64) -> Self {
        let id = broker.add_connection(Rc::clone(&outbox));
        Self {
            allowance: broker.reply_allowance(),
            broker,
            outbox,
            peer,
            id,
            number,
            name: Box::default(),
            transaction: None,
            is_in_exec: false,
            blocked: None,
            is_closing: false,
        }
    }

    /// Runs one command, and queues its replies.
    pub(super) fn run(&mut self, request: Request) -> CommandFlow {
        if is_http(&request) {
            return CommandFlow::Abort;
        }
        self.allowance = self.broker.reply_allowance();
        let reply = self.execute(Words::new(request.words)).unwrap_or_else(|error| {
            if let Some(transaction) = &mut self.transaction {
                transaction.record_error(&error);
            }
            error.into()
        });
        if !self.is_blocked() {
            self.outbox.reply(reply);
        }
        self.broker.wake_readers();
        if self.is_closing { CommandFlow::Close } else { CommandFlow::Continue }
    }

    /// Whether an XREAD waits for its reply, so that no further command may run.
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.as_ref().is_some_and(|blocked| !blocked.read.is_over())
    }

    /// When an XREAD that waits gets the reply that there is nothing; `None`: never.
    pub(super) fn block_ends(&self) -> Option<Instant> {
        self.blocked.as_ref().and_then(|blocked| blocked.until)
    }

    /// Replies to an XREAD that waits: there is nothing.
    pub(super) fn end_block(&self) {
        self.broker.release_reader(self.number, Some(Value::NullArray));
    }

    /// Ends an XREAD that waits without a reply.
    pub(super) fn release(&self) {
        self.broker.release_reader(self.number, None);
    }

    /// Bytes held by commands queued for EXEC.
    pub(super) fn held_bytes(&self) -> usize {
        self.transaction.as_ref().map_or(0, Transaction::held_bytes)
    }

    /// Closes connections, perhaps this one, if all of them together hold too much.
    pub(super) fn enforce_memory(&self) {
        self.broker.enforce_memory();
    }

    /// Flushes the outlets: no more commands are ready.
    pub(super) fn flush_outlets(&self) {
        self.broker.flush();
    }

    fn execute(&mut self, words: Words) -> CommandResult {
        let spec = table::find(words.name()?).ok_or_else(|| words.unknown_command())?;
        if !spec.arity.contains(&words.len()) {
            return Err(CommandError::WrongNumberOfArguments(spec.name));
        }
        if self.is_subscriber_only() && !spec.runs_while_subscribed {
            return Err(CommandError::NotWhileSubscribed(spec.name));
        }
        match &mut self.transaction {
            Some(transaction) if !spec.controls_transaction => transaction.queue(spec, &words),
            _ => (spec.run)(self, &words),
        }
    }

    /// In RESP2, messages cannot be distinguished from replies, so only a few commands are allowed
    /// while subscribed.
    fn is_subscriber_only(&self) -> bool {
        self.outbox.protocol() == RespVersion::Resp2 && self.broker.subscriptions_of(self.id) > 0
    }
}

impl Drop for BusClient {
    fn drop(&mut self) {
        self.release();
        self.broker.detach(self.id);
    }
}

/// Whether the client is a browser, or something else that a web page can make send requests.
///
/// Redis closes the connection on the words `POST` and `Host:`; the bus does so on a request line
/// with any method, too.
fn is_http(request: &Request) -> bool {
    let word = |index: usize| match request.words.get(index) {
        Some(Value::Bulk(word)) => &word[..],
        _ => b"",
    };
    let is_request_line =
        request.is_inline && request.words.len() == 3 && word(2).starts_with(b"HTTP/");
    is_request_line
        || word(0).eq_ignore_ascii_case(b"POST")
        || word(0).eq_ignore_ascii_case(b"Host:")
}
