//! The questions that a gateway has asked the others.

use std::collections::{HashMap, HashSet, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::answer::Answer;
use super::name::{MarkId, SubscriptionTag};
use crate::Subscription;
use crate::position::event_id::RunTag;
use crate::requests::shard_request::StreamAddress;

/// How long questions of several streams are collected.
pub(crate) const COLLECT: Duration = Duration::from_millis(20);
/// How long to wait for the answers.
pub(crate) const PATIENCE: Duration = Duration::from_millis(600);
/// Answers kept of a channel, each of another gateway.
pub(crate) const MAX_ANSWERS: usize = 16;
/// Answers kept of all channels, the newest: some 10 MB.
const MAX_KEPT: usize = 1024;

/// The questions that this gateway has asked.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    // Collected, and not asked yet.
    pub(crate) next: Option<(Instant, FleetQuestion)>,
    pub(crate) asked: HashMap<MarkId, FleetQuestion>,
    // The channels refer to these.
    kept: VecDeque<Rc<Answer>>,
}

/// A question about some channels.
#[derive(Debug)]
pub(crate) struct FleetQuestion {
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) tags: Vec<SubscriptionTag>,
    // The streams that wait for the answers.
    pub(crate) streams: Vec<StreamAddress>,
    pub(crate) patience_ends: Instant,
    // The newest number when the question came back from the server, like a mark.
    pub(crate) asked_at: Option<u64>,
    // How many other gateways have received it.
    pub(crate) listeners: Option<usize>,
    pub(crate) answered_by: HashSet<RunTag>,
}

impl FleetQuestion {
    pub(crate) fn new() -> Self {
        Self {
            subscriptions: Vec::new(),
            tags: Vec::new(),
            streams: Vec::new(),
            patience_ends: Instant::now(),
            asked_at: None,
            listeners: None,
            answered_by: HashSet::new(),
        }
    }

    /// Adds a channel, unless it is there already, or another channel with the same tag.
    pub(crate) fn add(&mut self, subscription: &Subscription) {
        let tag = SubscriptionTag::of(subscription);
        if !self.tags.contains(&tag) {
            self.subscriptions.push(subscription.clone());
            self.tags.push(tag);
        }
    }

    /// Whether all others have answered. The first answer is not enough: another gateway may know more.
    pub(crate) fn is_over(&self) -> bool {
        let have_all = |listeners| self.answered_by.len() >= listeners;
        self.asked_at.is_some() && self.listeners.is_some_and(have_all)
    }
}

impl Asking {
    /// Keeps an answer as long as there is room. Returns the reference that its channels keep.
    pub(crate) fn keep(&mut self, answer: Rc<Answer>) -> Weak<Answer> {
        let weak = Rc::downgrade(&answer);
        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(answer);
        weak
    }

    pub(crate) fn next_due(&self) -> Option<Instant> {
        let asked = self.asked.values().map(|question| question.patience_ends);
        self.next.as_ref().map(|(due, _)| *due).into_iter().chain(asked).min()
    }

    /// Whether no question waits for answers.
    pub(crate) fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// Forgets all questions; returns the streams that wait for their answers.
    pub(crate) fn stop(&mut self) -> Vec<StreamAddress> {
        let next = self.next.take().map(|(_, question)| question);
        let questions = self.asked.drain().map(|(_, question)| question).chain(next);
        questions.flat_map(|question| question.streams).collect()
    }
}
