//! The state of a gateway as a member of a fleet.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::marks::{Marks, ReceivedMark};
use super::message::HexId;
use super::name::MarkId;
use super::pacer::MarkPacer;
use super::questions::Asking;
use super::requests::FleetRequests;
use super::rules::FleetRule;
use super::warm_up::WarmUp;
use crate::position::event_id::RunTag;
use crate::requests::shard_request::{ReplayRequest, StreamAddress};

/// Gateways that wait for the list of what this one follows, at most.
const MAX_LISTS: usize = 16;
/// The pause between two such lists.
const LIST_PAUSE: Duration = Duration::from_millis(50);

/// What the hub knows of its fleet.
#[derive(Default)]
pub(crate) struct Fleet {
    pub(crate) link: FleetLink,
    pub(crate) marks: Marks,
    // The number from which on marks name messages; `None` until all subscriptions are restored.
    pub(crate) named_after: Option<u64>,
    pub(crate) pacer: MarkPacer,
    pub(crate) asking: Asking,
    pub(crate) warm_up: WarmUp,
    // Gateways that have asked what this one follows, and when the next one is sent it.
    pub(crate) lists: BTreeSet<RunTag>,
    pub(crate) next_list: Option<Instant>,
    // What gateways that drain have followed, and how far this one has come with following it.
    pub(crate) leaving: Vec<WarmUp>,
    // Since when this gateway drains, and to how many others it was announced, once that is known.
    pub(crate) left: Option<(Instant, MarkId, Option<usize>)>,
    // Streams whose client's position is being looked for.
    pub(crate) locating: HashMap<StreamAddress, ReplayRequest>,
    // Of those, the ones that wait for a fence, and those that wait for the source to come back first.
    pub(crate) fences: HashMap<u64, Vec<StreamAddress>>,
    pub(crate) unfenced: Vec<StreamAddress>,
    pub(crate) next_fence: u64,
    pub(crate) requests: Rc<FleetRequests>,
    // Notified when something is due earlier than before.
    pub(crate) timers: Rc<Notify>,
}

/// What the source can do for the fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FleetLink {
    /// Nothing: there is no fleet.
    #[default]
    None,
    /// Its connection is lost.
    Away,
    /// It is subscribed to the marks.
    Up,
}

impl Fleet {
    /// Whether marks may come.
    pub(crate) fn has_marks(&self) -> bool {
        self.link != FleetLink::None
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link == FleetLink::Up
    }

    /// The mark that messages are named by.
    ///
    /// After a break, only marks that came after the gaps for it. A client with a name from before, but
    /// without the gap, would be taken for complete elsewhere.
    pub(crate) fn newest_mark(&self) -> Option<ReceivedMark> {
        let after = if FleetRule::GapsBeforeNames.holds() { self.named_after? } else { 0 };
        self.marks.newest().filter(|mark| mark.number >= after)
    }

    /// The number at which a mark stood.
    pub(crate) fn mark_number(&self, mark: MarkId) -> Option<u64> {
        self.marks.number(mark)
    }

    pub(crate) fn last_marks(&self, count: usize) -> Vec<(HexId, u64)> {
        self.marks.last(count).map(|mark| (HexId(mark.id), mark.number)).collect()
    }

    /// A subscription was confirmed.
    pub(crate) fn confirmed(&mut self, now: Instant) {
        if self.is_up() {
            self.pacer.confirmed(now);
            self.timers.notify_one();
        }
    }

    /// A message has come.
    #[inline]
    pub(crate) fn message(&mut self, received: Instant) {
        if self.is_up() && self.pacer.message(received) {
            self.timers.notify_one();
        }
    }

    /// Records how many gateways, including this one, received the announcement with this name.
    pub(crate) fn note_left(&mut self, asked: MarkId, subscribers: usize) {
        if let Some((_, mark, others)) = &mut self.left
            && *mark == asked
        {
            *others = Some(subscribers.saturating_sub(1));
        }
    }

    /// When the next action is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        if !self.is_up() {
            return None;
        }
        let list = self.next_list.filter(|_| !self.lists.is_empty());
        let due = [self.pacer.due(), self.asking.next_due(), self.warm_up.next_due(), list];
        let leaving = self.leaving.iter().map(WarmUp::next_due);
        due.into_iter().chain(leaving).flatten().min()
    }

    /// A gateway asks what this one follows.
    pub(crate) fn note_list(&mut self, run: RunTag, now: Instant) {
        if self.lists.len() < MAX_LISTS {
            self.lists.insert(run);
            self.next_list = Some(self.next_list.map_or(now, |next| next.max(now)));
            self.timers.notify_one();
        }
    }

    /// Takes a gateway that is to be sent now what this one follows. One at a time, because the lists are long.
    pub(crate) fn take_list(&mut self, now: Instant) -> Option<RunTag> {
        if self.next_list.is_none_or(|next| now < next) {
            return None;
        }
        let run = self.lists.pop_first()?;
        self.next_list = Some(now + LIST_PAUSE);
        Some(run)
    }

    /// The source is away: the position of the stream's client is looked for when it is back.
    pub(crate) fn wait_for_source(&mut self, stream: StreamAddress) {
        // While the source is away, clients come and go.
        if self.unfenced.len() == self.unfenced.capacity() {
            let locating = &self.locating;
            self.unfenced.retain(|stream| locating.contains_key(stream));
        }
        self.unfenced.push(stream);
    }

    /// The stream has left.
    pub(crate) fn cancel(&mut self, stream: StreamAddress) {
        self.locating.remove(&stream);
    }
}
