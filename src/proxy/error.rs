//! Why a backend did not answer.

use std::error::Error as StdError;

use crate::route::UpstreamAddress;

/// Why a request was not answered by its backend. The text is for the log: it names what failed.
#[derive(Debug, thiserror::Error)]
#[error("{upstream}: {failure}")]
pub struct ProxyError {
    upstream: UpstreamAddress,
    failure: Failure,
}

/// What failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("no connection within connect_timeout")]
    ConnectTimeout,
    #[error("no response within response_timeout")]
    ResponseTimeout,
    #[error("it ended before it answered: {0}")]
    Exchange(String),
    #[error("it switches to a protocol that nobody asked for")]
    UnaskedSwitch,
}

impl Failure {
    pub(super) fn connect(error: &(dyn StdError + 'static)) -> Self {
        Self::Connect(down_to_the_cause(error))
    }

    pub(super) fn exchange(error: &(dyn StdError + 'static)) -> Self {
        Self::Exchange(down_to_the_cause(error))
    }
}

impl ProxyError {
    pub(super) fn new(upstream: &UpstreamAddress, failure: Failure) -> Self {
        Self { upstream: upstream.clone(), failure }
    }

    /// Whether the backend might have answered, had there been more time.
    pub fn is_timeout(&self) -> bool {
        matches!(self.failure, Failure::ConnectTimeout | Failure::ResponseTimeout)
    }
}

fn down_to_the_cause(error: &(dyn StdError + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| (*error).source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
