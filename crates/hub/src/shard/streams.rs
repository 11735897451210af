//! Streams that open and close: what a shard requests of the hub for them.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::Shard;
use super::local_channel::{LocalChannel, LocalSubscriber, OpenStream};
use crate::Ids;
use crate::Topic;
use crate::history::retention::HistorySettings;
use crate::mailbox::{Mailbox, MailboxParts, StreamOpening};
use crate::position::cursor::Cursor;
use crate::position::resume::{LastSeen, Resume};
use crate::requests::shard_request::{JoinRequest, ReplayRequest, ShardRequest, StreamAddress};
use crate::settings::StreamSettings;
use crate::timed_streams::StreamKey;

/// A request for a stream.
pub struct StreamRequest {
    /// The channels; at least one. All of them are logs, or none.
    pub topics: Vec<Topic>,
    /// How the stream is kept.
    pub settings: Arc<StreamSettings>,
    /// Bytes at the head of each channel's name that the client does not see.
    pub prefix_bytes: usize,
    /// What is kept of the channels; `None`: nothing, and the client cannot resume.
    pub history: Option<HistorySettings>,
    /// What the client has seen already.
    pub last_seen: LastSeen,
    /// How the stream begins.
    pub opening: StreamOpening,
    /// When the client's credential expires, and the stream ends; `None`: never.
    pub expires_at: Option<Instant>,
    /// Cuts the stream off from outside, when it cannot be written to.
    pub cut: Box<dyn Fn()>,
    /// The tag by which the owner knows the stream, in [`SlowStream`](crate::SlowStream). Has no meaning here.
    pub tag: u64,
}

impl Shard {
    /// Opens a stream.
    pub(crate) fn open(&self, request: StreamRequest) -> Rc<OpenStream> {
        let StreamRequest { topics, settings, prefix_bytes, history, last_seen, .. } = request;
        let StreamRequest { opening, expires_at, cut, tag, .. } = request;
        let now = Instant::now();
        let beginning = self.beginning(&topics);
        let (linger, channels) = (settings.linger, topics.len());
        let resume = Resume::new(&beginning, channels, &last_seen, settings.replay);
        let parts = MailboxParts {
            settings,
            beginning,
            resume,
            channels,
            prefix_bytes,
            opening,
            expires_at,
            cut,
        };
        let mailbox = Mailbox::new(parts, now);
        let stream = Rc::new(OpenStream { mailbox, channels: RefCell::default(), tag });
        let channels: SmallVec<_> = topics
            .into_iter()
            .enumerate()
            .map(|(slot, topic)| self.subscribe_to(topic, slot, (linger, history), &stream))
            .collect();
        self.0.observer.subscribed(channels.len());
        stream.channels.replace(channels);
        let mailbox = &stream.mailbox;
        let first_visit = mailbox.first_visit(now, self.0.write_timeout.get());
        mailbox.set_key(self.0.streams.insert(Rc::clone(&stream), first_visit));
        if mailbox.is_ready() {
            self.ready(&stream, now);
        }
        self.end_if_over(&stream, now);
        stream
    }

    /// Removes a stream that was closed, or whose client has left.
    pub(crate) fn leave(&self, stream: &OpenStream) {
        // The channels are taken out, because a channel and its subscribers refer to each other.
        let channels = stream.channels.take();
        self.0.observer.unsubscribed(channels.len());
        if let Some(key) = stream.key() {
            self.0.streams.remove(key);
            if stream.mailbox.is_replaying() {
                self.0.link.requests.put(ShardRequest::CancelReplay(self.address(key)));
            }
        }
        for (slot, channel) in channels.iter().enumerate() {
            if channel.remove(stream.mailbox.place(slot)) {
                self.forget(channel);
            }
        }
    }

    /// Requests the page of the past that a stream is to be sent next.
    pub(crate) fn request_replay(&self, stream: &OpenStream) {
        let Some(key) = stream.key() else { return };
        if let Some((resume, max_bytes, ticket)) = stream.mailbox.take_replay() {
            let (topics, stream) = (stream.topics().into(), self.address(key));
            let request = ReplayRequest { stream, topics, resume, max_bytes, ticket };
            self.0.link.requests.put(ShardRequest::Replay(request));
        }
    }

    /// The position at which a stream begins now. When everything is delivered, it is the hub's own position,
    /// because the message that was delivered last does not say that no copy of it follows.
    pub(super) fn position(&self) -> u64 {
        if self.0.batch.borrow().is_empty()
            && let Some(settled) = self.0.link.inbox.settled()
        {
            self.0.number.set(settled.max(self.0.number.get()));
        }
        self.0.number.get()
    }

    /// The position before the first event of these channels.
    fn beginning(&self, topics: &[Topic]) -> Cursor {
        let ids = topics.first().map_or(Ids::Publisher, |topic| topic.ids);
        let logs = topics.iter().filter(|topic| topic.ids.is_log());
        let logs = logs.map(|topic| topic.subscription.name.as_str());
        Cursor::new(ids, self.0.link.run, logs)
    }

    fn subscribe_to(
        &self,
        topic: Topic,
        slot: usize,
        (linger, history): (Duration, Option<HistorySettings>),
        stream: &Rc<OpenStream>,
    ) -> Rc<LocalChannel> {
        let mut channels = self.0.channels.borrow_mut();
        let channel =
            channels.entry(topic).or_insert_with_key(|topic| self.join(topic, linger, history));
        let is_unconfirmed = !channel.is_confirmed.get();
        let mut subscribers = channel.subscribers.borrow_mut();
        let mailbox = &stream.mailbox;
        mailbox.set_place(slot, subscribers.len());
        let subscriber = LocalSubscriber {
            stream: Rc::clone(stream),
            slot: u32::try_from(slot)
                .expect("a stream has no more channels than one request names"),
            is_unconfirmed: Cell::new(is_unconfirmed),
            // A client that comes back was subscribed before: it is sent a gap that is still to come,
            // unless it finds the gap in its past.
            was_cut_off: Cell::new(mailbox.is_replaying()),
        };
        if is_unconfirmed {
            mailbox.add_unconfirmed();
        } else {
            mailbox.begin_log(subscriber.log_entry(channel.entry()));
        }
        subscribers.push(subscriber);
        Rc::clone(channel)
    }

    fn join(
        &self,
        topic: &Topic,
        linger: Duration,
        history: Option<HistorySettings>,
    ) -> Rc<LocalChannel> {
        // Used once: distinguishes the response to this request from that to an earlier request.
        let ticket = self.0.next_ticket.replace(self.0.next_ticket.get() + 1);
        let (shard, topic) = (self.0.link.shard, topic.clone());
        let request = JoinRequest { shard, topic: topic.clone(), linger, history, ticket };
        self.0.link.requests.put(ShardRequest::Join(request));
        Rc::new(LocalChannel::new(topic, ticket))
    }

    /// The last subscriber of a channel has left.
    fn forget(&self, channel: &Rc<LocalChannel>) {
        let mut channels = self.0.channels.borrow_mut();
        // After a refusal, another channel may have the topic.
        if channels.get(&channel.topic).is_some_and(|known| Rc::ptr_eq(known, channel)) {
            channels.remove(&channel.topic);
            let (shard, topic) = (self.0.link.shard, channel.topic.clone());
            self.0.link.requests.put(ShardRequest::Leave { shard, topic });
        }
        if let Some(index) = channel.index.take() {
            self.0.by_index.borrow_mut().remove(&index);
        }
    }

    fn address(&self, key: StreamKey) -> StreamAddress {
        StreamAddress { shard: self.0.link.shard, key }
    }
}

impl fmt::Debug for StreamRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamRequest").field("topics", &self.topics).finish_non_exhaustive()
    }
}
