//! Errors of commands about streams and keys, word for word those of Redis where it has them.

use ssegate_resp::Value;

/// Why such a command failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamCommandError {
    #[error("ERR Invalid stream ID specified as stream command argument")]
    InvalidId,
    #[error("ERR The ID specified in XADD must be greater than 0-0")]
    ZeroId,
    #[error("ERR invalid start ID for the interval")]
    IntervalStart,
    #[error("ERR invalid end ID for the interval")]
    IntervalEnd,
    #[error("ERR syntax error, MAXLEN and MINID options at the same time are not compatible")]
    TwoStrategies,
    #[error("ERR The {0} argument must be >= 0.")]
    Negative(&'static str),
    #[error("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy")]
    LimitWithoutStrategy,
    #[error("ERR syntax error, LIMIT cannot be used without the special ~ option")]
    LimitWithoutTilde,
    #[error("ERR syntax error, XTRIM must be called with a trimming strategy")]
    NoStrategy,
    #[error(
        "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."
    )]
    Unbalanced,
    #[error("ERR The {0} option is only supported by XREADGROUP. You called XREAD instead.")]
    OnlyInGroups(&'static str),
    #[error(
        "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> \
         <consumer> option."
    )]
    NewInGroup,
    #[error("ERR timeout is not an integer or out of range")]
    TimeoutNotANumber,
    #[error("ERR timeout is negative")]
    NegativeTimeout,
    #[error("UNBLOCKED client unblocked via CLIENT UNBLOCK")]
    Unblocked,
    #[error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")]
    UnblockReason,
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    #[error("ERR Unsupported option {0}")]
    ExpireOption(String),
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    ExpireNx,
    #[error("ERR GT and LT options at the same time are not compatible")]
    ExpireGtLt,
    #[error("ERR the reply would repeat more entries than all streams have; read fewer with COUNT")]
    ReplyTooLong,
    #[error(
        "ERR {0} is not supported by the embedded bus, which has no consumer groups; use Redis"
    )]
    Groups(String),
}

impl From<StreamCommandError> for Value {
    fn from(error: StreamCommandError) -> Self {
        Self::Error(error.to_string().into())
    }
}
