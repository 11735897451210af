//! How far a gateway that starts has come with following what its fleet follows.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::message::{self, MAX_FOLLOWED, RunText, TopicText};
use super::name::MarkId;
use crate::{Subscription, Topic};

/// How long the others have time to say what they follow.
pub(crate) const LISTING: Duration = Duration::from_millis(200);
/// How long the server has time to confirm it.
pub(crate) const CONFIRMING: Duration = Duration::from_millis(1_100);
/// How long the others have time to say how far it has come.
pub(crate) const ANSWERING: Duration = Duration::from_millis(650);
/// How long the question what they follow may take to be published.
pub(crate) const PUBLISHING: Duration = Duration::from_millis(1_000);
/// How often it is looked whether it has.
pub(crate) const LOOK: Duration = Duration::from_millis(10);
/// Channels that a gateway tells, or follows because it was told, at most.
pub(crate) const MAX_TOPICS: usize = 10_000;

/// How far a gateway that starts has come.
#[derive(Debug, Default)]
pub(crate) enum WarmUp {
    /// There is no fleet, as far as is known.
    #[default]
    Idle,
    /// The others were asked what they follow.
    Listing { mark: MarkId, until: Instant, topics: HashSet<Topic>, is_alone: bool },
    /// It is subscribed to.
    Confirming { until: Instant, look: Instant, subscriptions: Vec<Subscription> },
    /// The others were asked how far it has come.
    Asking { until: Instant, look: Instant },
    /// Clients are served.
    Done,
}

impl WarmUp {
    pub(crate) fn next_due(&self) -> Option<Instant> {
        match self {
            Self::Listing { until, .. } => Some(*until),
            Self::Confirming { look, .. } | Self::Asking { look, .. } => Some(*look),
            Self::Idle | Self::Done => None,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Idle | Self::Done)
    }

    /// Another gateway has said what it follows.
    pub(crate) fn note_followed(&mut self, _run: RunText, follows: Vec<TopicText>) {
        if let Self::Listing { topics, .. } = self
            && follows.len() <= MAX_FOLLOWED
        {
            topics.extend(follows.into_iter().filter_map(message::topic));
        }
    }

    /// The server has sent what was published with this name to so many gateways, this one among them.
    pub(crate) fn note_asked(&mut self, asked: MarkId, subscribers: usize) {
        if let Self::Listing { mark, is_alone, until, .. } = self
            && *mark == asked
        {
            let now = Instant::now();
            *is_alone = subscribers <= 1;
            *until = if *is_alone { now } else { now + LISTING };
        }
    }
}
