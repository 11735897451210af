//! What a client can say, and what happens then. Knows no socket.
//!
//! A command is a row of [`table`] and a function in one of the files beside this one; it gets the
//! [`Client`] and its words and gives the reply. Which words Redis takes, and what it answers, is
//! written at <https://redis.io/docs/latest/commands/>.

mod connection;
mod error;
mod pubsub;
mod script;
mod server;
mod table;
mod transaction;
mod words;

use std::net::SocketAddr;
use std::rc::Rc;

use self::error::CommandError;
use self::table::Spec;
use self::transaction::Transaction;
use self::words::Words;
use super::broker::Broker;
use super::outbox::Outbox;
use super::roster::SubscriberId;
use crate::source::resp::{Protocol, Request, Value};

/// What a command amounts to: its (last) reply.
type Outcome = Result<Value, CommandError>;

/// How a session goes on after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// With the next command.
    Continue,
    /// It ends when all replies have been written.
    Close,
    /// It ends at once: this is HTTP.
    Abort,
}

/// One connection, as its commands see it. Leaves the bus when it is dropped.
pub(super) struct Client {
    broker: Broker,
    outbox: Rc<Outbox>,
    peer: SocketAddr,
    id: SubscriberId,
    /// Counts all connections of the bus, unlike `id`.
    number: u64,
    name: Box<[u8]>,
    transaction: Option<Transaction>,
    is_leaving: bool,
}

impl Client {
    pub(super) fn new(broker: Broker, outbox: Rc<Outbox>, peer: SocketAddr, number: u64) -> Self {
        let id = broker.connect(Rc::clone(&outbox));
        Self {
            broker,
            outbox,
            peer,
            id,
            number,
            name: Box::default(),
            transaction: None,
            is_leaving: false,
        }
    }

    /// Runs one command; its replies are in the outbox.
    pub(super) fn run(&mut self, request: Request) -> Next {
        if is_http(&request) {
            return Next::Abort;
        }
        let reply = self.answer(Words::new(request.words)).unwrap_or_else(|error| {
            if let Some(transaction) = &mut self.transaction {
                transaction.note(&error);
            }
            error.into()
        });
        self.outbox.reply(reply);
        if self.is_leaving { Next::Close } else { Next::Continue }
    }

    /// What commands hold that wait for EXEC, in bytes.
    pub(super) fn held(&self) -> usize {
        self.transaction.as_ref().map_or(0, Transaction::held)
    }

    /// Cuts connections, perhaps this one, where all together hold too much.
    pub(super) fn enforce_memory(&self) {
        self.broker.enforce_memory();
    }

    /// No more commands are at hand.
    pub(super) fn end_batch(&self) {
        self.broker.flush();
    }

    fn answer(&mut self, words: Words) -> Outcome {
        let spec = Spec::find(words.name()?).ok_or_else(|| CommandError::unknown(&words))?;
        if !spec.words.contains(&words.len()) {
            return Err(CommandError::WrongNumberOfArguments(spec.name));
        }
        if self.is_subscriber_only() && !spec.runs_while_subscribed {
            return Err(CommandError::NotWhileSubscribed(spec.name));
        }
        match &mut self.transaction {
            Some(transaction) if !spec.steers_transaction => transaction.queue(spec, &words),
            _ => (spec.run)(self, &words),
        }
    }

    /// In RESP2 a message cannot be told from a reply, so a subscriber asks for nothing else.
    fn is_subscriber_only(&self) -> bool {
        self.outbox.protocol() == Protocol::Resp2 && self.broker.subscriptions_of(self.id) > 0
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.broker.detach(self.id);
    }
}

/// Whether a browser, or something that a web page can make speak, is on the line.
///
/// Redis closes on the words `POST` and `Host:`; a request line of any method is as clear.
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
