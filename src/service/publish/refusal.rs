//! Why what was sent is not published, or not known to be published.

use crate::source::publishing::NotPublished;

/// Why a request to publish is refused. The text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::service) enum PublishRefusal {
    /// The body, the query or a header is not valid.
    #[error("{0}")]
    Invalid(String),
    /// The client left in the middle of the body, or closed its sending side there.
    #[error("the body is incomplete")]
    Incomplete,
    /// The body is larger than `max_body`.
    #[error("the body is larger than max_body of the route, {0} bytes")]
    BodyTooLarge(usize),
    /// No subscriber would get a message of this size.
    #[error("a message is larger than max_event_bytes, {0} bytes")]
    MessageTooLarge(usize),
    /// The body did not arrive in time.
    #[error("the body did not arrive within {0} seconds")]
    Slow(u64),
    /// Nothing is known to be published.
    #[error("{why}{servers}{hint}", hint = hint(*why))]
    NotPublished {
        /// The reason.
        why: NotPublished,
        /// The servers at which it was to be published, in brackets, if there are several.
        servers: String,
    },
    /// Redis refused some or all messages, and may take them later.
    #[error("{0}")]
    NotNow(String),
    /// Redis refused some or all messages.
    #[error("{0}")]
    Refused(String),
}

impl From<NotPublished> for PublishRefusal {
    fn from(why: NotPublished) -> Self {
        Self::NotPublished { why, servers: String::new() }
    }
}

fn hint(error: NotPublished) -> &'static str {
    match error {
        NotPublished::Lost | NotPublished::TimedOut => {
            "; with an Idempotency-Key it can be sent again without being published twice"
        }
        _ => "",
    }
}
