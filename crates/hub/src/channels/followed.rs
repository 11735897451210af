//! The patterns that are followed from the start, and the channels that they feed.
//!
//! What a followed pattern brings goes into the channels that it matches. Such a channel is *fed*: it has no
//! subscription of its own. For each pattern and format there is a number after which nothing was lost on
//! channels that are not open. So a channel that is opened is complete after that number. Knows no channels,
//! only names.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use smallvec::SmallVec;
use ssegate_format::Format;

use super::channel::Confirmation;
use crate::requests::source_request::SourceRequests;
use crate::{ChannelName, FollowedPattern, Ids, SourceKind, SourceRequest, Subscription, Topic};

/// The followed patterns of a hub.
#[derive(Default)]
pub(super) struct FollowedPatterns {
    patterns: HashMap<ChannelName, PatternState>,
    // The names of the channels that are fed.
    fed: HashSet<ChannelName>,
    // The channel of the newest message; empty if it has no name that can be subscribed to.
    channel: String,
    pub(super) requests: Rc<SourceRequests>,
}

/// One followed pattern.
struct PatternState {
    confirmation: Confirmation,
    // The formats in which its channels keep what it brings. Usually one.
    formats: SmallVec<[KeptFormat; 1]>,
    // It was confirmed after a loss, whose gap is still to be sent.
    is_restoring: bool,
    // It is no longer in the settings, and is left when none of these names needs it any more.
    retired_for: Option<HashSet<ChannelName>>,
}

/// What is kept of a pattern in one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeptFormat {
    format: Format,
    // After this number nothing was lost: what came is in open channels.
    complete_after: u64,
}

/// How a channel that followed patterns match begins if it is opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FedOrigin {
    /// It waits until a pattern is confirmed.
    Awaited,
    /// It is fed.
    Given {
        /// No message has come on the name after this number, if none of its channels is open.
        quiet_since: u64,
        /// A channel of this format would have kept every message that has come after this number. `None` if
        /// no pattern keeps this format.
        complete_after: Option<u64>,
        /// The gap for a loss is still to be sent.
        is_restoring: bool,
    },
}

impl PatternState {
    fn new(formats: &[Format]) -> Self {
        let formats = formats.iter().map(|&format| KeptFormat { format, complete_after: 0 });
        Self {
            confirmation: Confirmation::Awaited,
            formats: formats.collect(),
            is_restoring: false,
            retired_for: None,
        }
    }

    fn is_retired(&self) -> bool {
        self.retired_for.is_some()
    }

    /// Whether channels may rely on it, now or once it is confirmed.
    fn is_in_use(&self) -> bool {
        !self.is_retired() && self.confirmation != Confirmation::Denied
    }

    fn keeps(&self, format: Format) -> bool {
        self.formats.iter().any(|kept| kept.format == format)
    }
}

impl FollowedPatterns {
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.fed.is_empty()
    }

    /// Whether the source was asked to send what this pattern matches.
    pub(super) fn has(&self, pattern: &str) -> bool {
        self.patterns.contains_key(pattern)
    }

    pub(super) fn is_fed(&self, name: &str) -> bool {
        self.fed.contains(name)
    }

    // Messages.

    /// A message was published to this channel.
    pub(super) fn note_channel(&mut self, channel: &[u8]) {
        self.channel.clear();
        self.channel.push_str(str::from_utf8(channel).unwrap_or_default());
    }

    /// The channel of the newest message.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// The formats in which messages of this pattern are kept; empty while it is not confirmed.
    pub(super) fn formats_of(&self, pattern: &str) -> SmallVec<[Format; 2]> {
        let state = self.patterns.get(pattern);
        let state = state.filter(|s| s.is_in_use() && s.confirmation == Confirmation::Given);
        let formats = state.into_iter().flat_map(|state| &state.formats);
        formats.map(|kept| kept.format).collect()
    }

    /// The channel of the newest message, if its messages may be kept.
    pub(super) fn name_to_keep(&self) -> Option<ChannelName> {
        let is_kept = Self::may_keep(&self.channel);
        is_kept.then(|| ChannelName::new(&self.channel).ok()).flatten()
    }

    /// Whether channels of this name may be fed.
    pub(super) fn may_keep(name: &str) -> bool {
        !name.starts_with(ChannelName::OF_GATEWAYS)
    }

    // Channels.

    /// How a channel of this name begins, with ids of ours in this format; `None` if no pattern feeds it.
    pub(super) fn origin(&self, name: &str, format: Option<Format>) -> Option<FedOrigin> {
        let mut origin = None;
        for state in self.covering(name) {
            let Confirmation::Given = state.confirmation else {
                origin.get_or_insert(FedOrigin::Awaited);
                continue;
            };
            let kept = || state.formats.iter();
            let mut quiet = kept().map(|kept| kept.complete_after).min().unwrap_or(u64::MAX);
            let of_format = kept().find(|kept| Some(kept.format) == format);
            let mut complete = of_format.map(|kept| kept.complete_after);
            let mut restoring = state.is_restoring;
            if let Some(FedOrigin::Given { quiet_since, complete_after, is_restoring }) = origin {
                quiet = quiet.min(quiet_since);
                complete = complete.into_iter().chain(complete_after).min();
                restoring |= is_restoring;
            }
            origin = Some(FedOrigin::Given {
                quiet_since: quiet,
                complete_after: complete,
                is_restoring: restoring,
            });
        }
        origin
    }

    /// Channels of this name have no subscription of their own from now on. Returns whether they had one.
    pub(super) fn feed(&mut self, name: &ChannelName) -> bool {
        self.fed.insert(name.clone())
    }

    /// Whether what comes on this channel is kept also while it has no subscribers.
    pub(super) fn keeps(&self, topic: &Topic) -> bool {
        let Subscription { name, is_pattern } = &topic.subscription;
        topic.ids == Ids::Ours
            && !is_pattern
            && self.fed.contains(name)
            && self.covering(name.as_str()).any(|state| state.keeps(topic.format))
    }

    /// A channel whose newest record had this number was closed, or could not be opened: everything up to
    /// there is lost.
    pub(super) fn note_lost(&mut self, topic: &Topic, number: u64) {
        let Subscription { name, is_pattern } = &topic.subscription;
        if topic.ids != Ids::Ours || *is_pattern {
            return;
        }
        for (pattern, state) in &mut self.patterns {
            if !ssegate_glob::matches(pattern.as_str().as_bytes(), name.as_str().as_bytes()) {
                continue;
            }
            for kept in state.formats.iter_mut().filter(|kept| kept.format == topic.format) {
                kept.complete_after = kept.complete_after.max(number);
            }
        }
    }

    /// No channel of this name is open any more. Returns whether the name was fed.
    pub(super) fn note_closed(&mut self, name: &ChannelName) -> bool {
        self.settle(name.as_str());
        self.fed.remove(name)
    }

    // Patterns.

    /// Patterns that are to be followed, each with the formats in which it is kept.
    pub(super) fn grouped(settings: &[FollowedPattern]) -> HashMap<ChannelName, Vec<Format>> {
        let mut grouped: HashMap<ChannelName, Vec<Format>> = HashMap::new();
        for FollowedPattern { pattern, format } in settings {
            let formats = grouped.entry(pattern.clone()).or_default();
            if !formats.contains(format) {
                formats.push(*format);
            }
        }
        grouped
    }

    /// The patterns that are in the settings so far.
    pub(super) fn current(&self) -> Vec<ChannelName> {
        let current = self.patterns.iter().filter(|(_, state)| !state.is_retired());
        current.map(|(pattern, _)| pattern.clone()).collect()
    }

    /// Whether this pattern is known, and is not in the settings with these formats so far.
    pub(super) fn would_change(&self, pattern: &ChannelName, formats: &[Format]) -> bool {
        self.patterns.get(pattern).is_some_and(|state| {
            let kept = state.formats.iter().map(|kept| kept.format);
            state.is_retired() || !kept.eq(formats.iter().copied())
        })
    }

    /// Puts a pattern into the settings, or changes its formats; `number` is the newest. Returns whether it
    /// is new, and whether from now on it feeds channels that it did not feed.
    pub(super) fn put(
        &mut self,
        pattern: &ChannelName,
        formats: &[Format],
        number: u64,
    ) -> (bool, bool) {
        if self.is_empty() {
            // The channel was not noted for the newest message, of which another copy may follow.
            self.channel.clear();
        }
        let Some(state) = self.patterns.get_mut(pattern) else {
            self.patterns.insert(pattern.clone(), PatternState::new(formats));
            return (true, false);
        };
        let was_retired = state.retired_for.take().is_some();
        let kept = |&format: &Format| {
            let known = state.formats.iter().find(|kept| kept.format == format);
            let known = known.filter(|_| !was_retired);
            known.copied().unwrap_or(KeptFormat { format, complete_after: number })
        };
        state.formats = formats.iter().map(kept).collect();
        (false, was_retired && state.confirmation == Confirmation::Given)
    }

    /// Whether this pattern is to be followed, but the source does not send its messages.
    pub(super) fn is_unconfirmed(&self, pattern: &str) -> bool {
        let state = self.patterns.get(pattern).filter(|state| !state.is_retired());
        state.is_some_and(|state| state.confirmation != Confirmation::Given)
    }

    /// The source sends what this pattern matches, from `number` on.
    ///
    /// After a loss, a gap is still to be sent, also where it concerns only some of its channels.
    pub(super) fn confirm(&mut self, pattern: &str, number: u64, is_restoring: bool) {
        let Some(state) = self.patterns.get_mut(pattern) else { return };
        state.is_restoring = is_restoring || state.confirmation == Confirmation::Withdrawn;
        state.confirmation = Confirmation::Given;
        for kept in &mut state.formats {
            kept.complete_after = number;
        }
    }

    /// The gap for a loss was sent, with this number: a client with an id before it may have missed messages
    /// of a channel that was closed since.
    pub(super) fn restored(&mut self, gap: u64) {
        for state in self.patterns.values_mut() {
            let was_restoring = std::mem::take(&mut state.is_restoring);
            for kept in state.formats.iter_mut().filter(|_| was_restoring) {
                kept.complete_after = kept.complete_after.max(gap);
            }
        }
    }

    /// The source may not subscribe to this pattern. Returns whether channels relied on it.
    pub(super) fn deny(&mut self, pattern: &str) -> bool {
        let state = self.patterns.get_mut(pattern).filter(|state| !state.is_retired());
        state.is_some_and(|state| {
            std::mem::replace(&mut state.confirmation, Confirmation::Denied) != Confirmation::Denied
        })
    }

    /// The source has lost its connection, and is not subscribed to retired patterns any more. Returns these.
    pub(super) fn lose(&mut self) -> Vec<ChannelName> {
        let retired = self.patterns.extract_if(|_, state| state.is_retired());
        let retired = retired.map(|(pattern, _)| pattern).collect();
        for state in self.patterns.values_mut() {
            if state.confirmation == Confirmation::Given {
                state.confirmation = Confirmation::Withdrawn;
            }
        }
        retired
    }

    /// The pattern is no longer in the settings. The names that it feeds need it until another pattern feeds
    /// them, or they have a subscription of their own.
    pub(super) fn retire(&mut self, pattern: &str) {
        let fed = self.fed_by(pattern);
        if let Some(state) = self.patterns.get_mut(pattern) {
            let is_given = state.confirmation == Confirmation::Given;
            state.retired_for = Some(fed.into_iter().filter(|_| is_given).collect());
        }
    }

    /// The fed names that this pattern matches.
    pub(super) fn fed_by(&self, pattern: &str) -> Vec<ChannelName> {
        let matches = |name: &&ChannelName| {
            ssegate_glob::matches(pattern.as_bytes(), name.as_str().as_bytes())
        };
        self.fed.iter().filter(matches).cloned().collect()
    }

    /// The channels of this name get a subscription of their own. Returns false if there are none.
    pub(super) fn stop_feeding(&mut self, name: &ChannelName) -> bool {
        self.fed.remove(name)
    }

    /// The channels of this name need no retired pattern any more.
    pub(super) fn settle(&mut self, name: &str) {
        for names in self.patterns.values_mut().filter_map(|state| state.retired_for.as_mut()) {
            names.remove(name);
        }
    }

    /// Removes the retired patterns that no name needs, and returns them.
    pub(super) fn take_unneeded(&mut self) -> Vec<ChannelName> {
        let is_unneeded =
            |state: &PatternState| state.retired_for.as_ref().is_some_and(HashSet::is_empty);
        let unneeded = self.patterns.extract_if(|_, state| is_unneeded(state));
        unneeded.map(|(pattern, _)| pattern).collect()
    }

    /// Requests that the source follows or leaves a channel or a pattern.
    pub(super) fn request(&self, name: ChannelName, is_pattern: bool, request: SourceRequest) {
        let subscription = Subscription { name, is_pattern };
        self.requests.of(SourceKind::PubSub).put(subscription, request);
    }

    /// The patterns in use that match a name.
    fn covering(&self, name: &str) -> impl Iterator<Item = &PatternState> {
        let may_keep = Self::may_keep(name);
        let states = self.patterns.iter().filter(move |(_, state)| may_keep && state.is_in_use());
        let covering = states.filter(move |(pattern, _)| {
            ssegate_glob::matches(pattern.as_str().as_bytes(), name.as_bytes())
        });
        covering.map(|(_, state)| state)
    }
}
