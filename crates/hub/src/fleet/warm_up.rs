//! How far a gateway has come with following what others of its fleet follow: when it starts, the channels of
//! all others; later, those of a gateway that drains.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::message::{self, MAX_FOLLOWED, TopicText};
use super::name::MarkId;
use super::order_id::OrderId;
use crate::{Subscription, Topic};

/// How long the others have time to list what they follow.
pub(crate) const LISTING: Duration = Duration::from_millis(200);
/// How long the server has time to confirm the subscriptions.
pub(crate) const CONFIRMING: Duration = Duration::from_millis(1_100);
/// How long other gateways have to report how far the channels have come.
pub(crate) const ANSWERING: Duration = Duration::from_millis(650);
/// How long the request for the lists may take to be published.
pub(crate) const PUBLISHING: Duration = Duration::from_millis(1_000);
/// How often the state is checked.
pub(crate) const LOOK: Duration = Duration::from_millis(10);
/// Channels that a gateway lists, or follows because others listed them, at most.
pub(crate) const MAX_TOPICS: usize = 10_000;

/// How long a gateway that drains stays at least, to answer the others: they ask once the channels that it
/// follows are confirmed.
pub(crate) const FAREWELL: Duration = Duration::from_millis(700);
/// How many gateways that drain are handled at once.
pub(crate) const MAX_LEAVING: usize = 8;
/// How long to wait for further messages of a gateway that drains.
pub(crate) const LEAVING: Duration = Duration::from_millis(20);

/// How far a gateway that starts has come.
#[derive(Debug, Default)]
pub(crate) enum WarmUp {
    /// There is no fleet, as far as this gateway knows.
    #[default]
    Idle,
    /// The others were asked what they follow.
    Listing { mark: MarkId, until: Instant, topics: HashSet<Topic>, is_alone: bool },
    /// The listed channels are being subscribed to.
    Confirming { until: Instant, look: Instant, subscriptions: Vec<Subscription> },
    /// The others were asked how far the channels have come.
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

    /// The state for a gateway that drains.
    pub(crate) fn of_leaving(now: Instant) -> Self {
        let topics = HashSet::new();
        Self::Listing { mark: 0, until: now + LEAVING, topics, is_alone: false }
    }

    /// Another gateway has listed what it follows.
    pub(crate) fn note_followed(&mut self, follows: Vec<TopicText>, order: OrderId) {
        if let Self::Listing { topics, .. } = self
            && follows.len() <= MAX_FOLLOWED
        {
            let room = MAX_TOPICS.saturating_sub(topics.len());
            let read = |text| message::topic(text, order);
            topics.extend(follows.into_iter().take(room).filter_map(read));
        }
    }

    /// Records how many gateways, including this one, received the request for lists with this name.
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
