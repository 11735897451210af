//! Errors of commands, with the texts of Redis where it has them.

use ssegate_resp::Value;

use super::stream_error::StreamCommandError;
use crate::settings::BusSettings;
use crate::streams::EntryRefused;

/// Why a command failed. Displayed as the text of the error reply, of which clients examine the
/// first word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("ERR unknown command '{name}', with args beginning with: {arguments}")]
    UnknownCommand { name: String, arguments: String },
    #[error("ERR unknown subcommand '{subcommand}' of '{command}'")]
    UnknownSubcommand { command: &'static str, subcommand: String },
    #[error("ERR wrong number of arguments for '{0}' command")]
    WrongNumberOfArguments(&'static str),
    #[error("ERR syntax error")]
    Syntax,
    #[error("ERR value is not an integer or out of range")]
    NotANumber,
    #[error("ERR argument of {0} bytes is too long")]
    ArgumentTooLong(u64),
    #[error("ERR name of {0} bytes is too long; the limit is {max} bytes", max = BusSettings::MAX_NAME_BYTES)]
    NameTooLong(usize),
    #[error(
        "ERR message of {len} bytes exceeds max_event_bytes ({max}) and was dropped; publish less, \
         or raise max_event_bytes in gateway.yaml"
    )]
    MessageTooLarge { len: u64, max: usize },
    #[error("ERR too many subscriptions on the embedded bus")]
    TooManySubscriptions,
    #[error(
        "ERR Can't execute '{0}': only (P)SUBSCRIBE / (P)UNSUBSCRIBE / PING / QUIT / RESET are \
         allowed in this context"
    )]
    NotWhileSubscribed(&'static str),
    #[error("NOPROTO unsupported protocol version")]
    UnsupportedProtocol,
    #[error("NOSCRIPT No matching script. Please use EVAL.")]
    NoScript,
    #[error(
        "ERR the embedded bus supports no script except Laravel's, which publishes one message to \
         many channels; use a Redis server for other scripts"
    )]
    UnknownScript,
    #[error("ERR Number of keys can't be greater than number of args")]
    TooManyKeys,
    #[error("ERR MULTI calls can not be nested")]
    NestedMulti,
    #[error("ERR {0} without MULTI")]
    WithoutMulti(&'static str),
    #[error("ERR {0} is not allowed in transactions")]
    NotInTransaction(&'static str),
    #[error("ERR too many commands in a transaction")]
    TransactionTooLong,
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    TransactionAborted,
    #[error("ERR no such key")]
    NoSuchKey,
    #[error("ERR unknown subcommand or wrong number of arguments for '{0}'. Try {1} HELP.")]
    SubcommandSyntax(String, &'static str),
    #[error(transparent)]
    Stream(#[from] StreamCommandError),
    #[error(transparent)]
    Entry(#[from] EntryRefused),
    #[error("ERR the embedded bus stores no configuration; use gateway.yaml")]
    NoConfiguration,
}

impl From<CommandError> for Value {
    fn from(error: CommandError) -> Self {
        Self::Error(error.to_string().into())
    }
}
