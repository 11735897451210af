//! What another gateway knew at a question, and what that means for a client.

use std::collections::HashMap;

use super::message::{AnswerText, MAX_ASKED};
use super::name::{EventName, FleetPosition, MarkId, SubscriptionTag};
use super::rules::FleetRule;
use crate::position::event_id::{EventId, RunTag};

/// The newest marks in an answer.
pub(crate) const MAX_MARKS_SENT: usize = 300;

/// An answer to a question of ours.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The run of the gateway that answered.
    pub(crate) run: RunTag,
    // Its newest number at the question.
    number: u64,
    marks: HashMap<MarkId, u64>,
    channels: HashMap<SubscriptionTag, ChannelAnswer>,
    /// Our own newest number at the question.
    pub(crate) asked_at: u64,
}

/// How far a channel had come.
#[derive(Clone, Copy, Debug)]
struct ChannelAnswer {
    // Of its newest message, or of its confirmation.
    number: u64,
    newest: Option<EventName>,
}

/// Where a client stands, in the numbers of the gateway that answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StandsAt {
    /// Exactly there.
    Exactly(u64),
    /// There, or later.
    AtLeast(u64),
}

impl Answer {
    /// Takes an answer to a question about `asked`; `None` if it is not one that a gateway writes.
    pub(crate) fn new(text: AnswerText, asked: &[SubscriptionTag], asked_at: u64) -> Option<Self> {
        let AnswerText { run, number, marks, channels, .. } = text;
        if marks.len() > MAX_MARKS_SENT || channels.len() > MAX_ASKED {
            return None;
        }
        let mut known = HashMap::with_capacity(channels.len());
        for channel in channels {
            let tag = *asked.get(channel.at)?;
            let newest = match &channel.newest {
                Some(text) => {
                    let position = FleetPosition::parse(text.as_bytes())?;
                    Some(position.name.known().filter(|_| position.tag == tag)?)
                }
                None => None,
            };
            if channel.number > number {
                return None;
            }
            known.insert(tag, ChannelAnswer { number: channel.number, newest });
        }
        let marks = marks.into_iter().map(|(mark, number)| (mark.0, number)).collect();
        Some(Self { run, number, marks, channels: known, asked_at })
    }

    /// Whether it says anything of this channel.
    pub(crate) fn has(&self, tag: SubscriptionTag) -> bool {
        self.channels.contains_key(&tag)
    }

    /// Whether nothing was published on this channel between the client's position and the question.
    ///
    /// Positions are compared within this one answer: two gateways number differently.
    pub(crate) fn is_quiet_since(&self, position: StandsAt, tag: SubscriptionTag) -> bool {
        let (StandsAt::Exactly(number) | StandsAt::AtLeast(number)) = position;
        let is_before = |number: u64, channel: &ChannelAnswer| {
            channel.number <= number || !FleetRule::OrderInAnswer.holds()
        };
        self.channels.get(&tag).is_some_and(|channel| is_before(number, channel))
    }

    /// Where a client with this id stood; `None` if the answer does not say.
    pub(crate) fn position(&self, id: &EventId) -> Option<StandsAt> {
        if self.run == id.run && id.number <= self.number {
            return Some(StandsAt::Exactly(id.number));
        }
        let FleetPosition { tag, name } = id.place?;
        let channel = self.channels.get(&tag)?;
        if name.k > 0 && channel.newest == Some(name) {
            return Some(StandsAt::Exactly(channel.number));
        }
        let mark = *self.marks.get(&name.mark)?;
        Some(if name.k == 0 { StandsAt::Exactly(mark) } else { StandsAt::AtLeast(mark) })
    }
}
