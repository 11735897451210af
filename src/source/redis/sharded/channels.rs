//! Which sharded channel is subscribed to at which node. Pure: time is passed in.

use std::collections::{BTreeMap, HashMap};

use redis::ConnectionAddr;
use ssegate_hub::ChannelName;
use tokio::time::Instant;

use super::super::cluster::slot_of;

/// Names in one `SSUBSCRIBE`, at most.
const MAX_NAMES: usize = 512;

/// A node of a Cluster; `None`: the one server.
pub(super) type ShardPlace = Option<ConnectionAddr>;

/// The channels that are followed, by the names that the hub has for them.
#[derive(Debug, Default)]
pub(super) struct ShardedChannels {
    all: HashMap<ChannelName, ShardedChannel>,
    // No channel is due before this; `None`: none is due at all. Saves a look at every channel for each message.
    next_due: Option<Instant>,
    // How many channels have a command of their own.
    alone: u32,
}

#[derive(Debug)]
struct ShardedChannel {
    slot: u16,
    subscribed: Option<ShardPlace>,
    asked: Option<ShardPlace>,
    // When to send `SSUBSCRIBE` for it.
    due: Option<Instant>,
    // It gets a command of its own: a command with several names was refused.
    is_alone: bool,
    // Failed attempts since it was last subscribed.
    tries: u32,
}

impl ShardedChannels {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Subscribes to a channel. No effect if it is followed.
    pub(super) fn follow(&mut self, name: ChannelName) {
        let slot = slot_of(name.as_sharded().unwrap_or_default().as_bytes());
        let now = Instant::now();
        self.all.entry(name).or_insert_with(|| ShardedChannel {
            slot,
            subscribed: None,
            asked: None,
            due: Some(now),
            is_alone: false,
            tries: 0,
        });
        self.wake(now);
    }

    /// Forgets a channel. Returns where it is subscribed to.
    pub(super) fn leave(&mut self, name: &ChannelName) -> Option<ShardPlace> {
        let left = self.all.remove(name)?;
        self.alone -= u32::from(left.is_alone);
        left.subscribed
    }

    /// The number of failed attempts to subscribe to it.
    pub(super) fn tries(&self, name: &ChannelName) -> u32 {
        self.all.get(name).map_or(0, |channel| channel.tries)
    }

    /// Records that a channel is due at this time.
    fn wake(&mut self, due: Instant) {
        self.next_due = self.next_due.into_iter().chain([due]).min();
    }

    /// Whether any channel may have to be subscribed now.
    pub(super) fn is_any_due(&self, now: Instant) -> bool {
        self.next_due.is_some_and(|due| due <= now)
    }

    /// Takes the channels to subscribe to now, grouped into commands: one slot in each.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<(u16, Vec<ChannelName>)> {
        if !self.is_any_due(now) {
            return Vec::new();
        }
        let mut by_slot: BTreeMap<u16, Vec<ChannelName>> = BTreeMap::new();
        let mut commands = Vec::new();
        let mut next_due = None;
        for (name, channel) in &mut self.all {
            let Some(due) = channel.due else { continue };
            if due > now {
                next_due = next_due.into_iter().chain([due]).min();
                continue;
            }
            channel.due = None;
            match channel.is_alone {
                true => commands.push((channel.slot, vec![name.clone()])),
                false => by_slot.entry(channel.slot).or_default().push(name.clone()),
            }
        }
        self.next_due = next_due;
        for (slot, names) in by_slot {
            commands.extend(names.chunks(MAX_NAMES).map(|names| (slot, names.to_vec())));
        }
        commands
    }

    /// Records that `SSUBSCRIBE` for these channels was sent to this node.
    pub(super) fn ask(&mut self, names: &[ChannelName], place: &ShardPlace) {
        for name in names {
            if let Some(channel) = self.all.get_mut(name) {
                channel.asked = Some(place.clone());
            }
        }
    }

    /// A channel is subscribed to at this node. Returns another node where it is still subscribed. `None`: the channel
    /// is not followed any more.
    pub(super) fn confirm(
        &mut self,
        name: &ChannelName,
        place: &ShardPlace,
    ) -> Option<Option<ShardPlace>> {
        let channel = self.all.get_mut(name)?;
        self.alone -= u32::from(channel.is_alone);
        (channel.asked, channel.due, channel.is_alone, channel.tries) = (None, None, false, 0);
        let before = channel.subscribed.replace(place.clone());
        Some(before.filter(|before| before != place))
    }

    /// A channel is not subscribed to at this node any more. Returns whether it was there.
    pub(super) fn lose(&mut self, name: &ChannelName, place: &ShardPlace, now: Instant) -> bool {
        let here = Some(place);
        let channel = self.all.get_mut(name).filter(|channel| channel.subscribed.as_ref() == here);
        let Some(channel) = channel else { return false };
        channel.subscribed = None;
        if channel.asked.is_none() {
            channel.due = Some(now);
            self.wake(now);
        }
        true
    }

    /// Schedules another attempt for a channel that was requested from this node.
    pub(super) fn retry(&mut self, name: &ChannelName, place: &ShardPlace, due: Instant) {
        let here = Some(place);
        if let Some(channel) =
            self.all.get_mut(name).filter(|channel| channel.asked.as_ref() == here)
        {
            channel.asked = None;
            channel.tries = channel.tries.saturating_add(1);
            channel.due = Some(due);
            self.wake(due);
        }
    }

    /// Like [`Self::retry`], in a command of its own.
    pub(super) fn retry_alone(&mut self, name: &ChannelName, place: &ShardPlace, due: Instant) {
        self.retry(name, place, due);
        if let Some(channel) = self.all.get_mut(name) {
            self.alone += u32::from(!channel.is_alone);
            channel.is_alone = true;
        }
    }

    /// How many channels have a command of their own, because they were refused.
    pub(super) fn refused(&self) -> u32 {
        self.alone
    }

    /// The connection to a node is lost. Returns the channels that were subscribed to there. These, and those requested
    /// there, are due again at the time that `due` returns for the highest number of failed attempts. Channels of one
    /// slot share a command.
    pub(super) fn lose_place(
        &mut self,
        place: &ShardPlace,
        due: impl FnOnce(u32) -> Instant,
    ) -> Vec<ChannelName> {
        let here = Some(place);
        let asked = self.all.values().filter(|channel| channel.asked.as_ref() == here);
        let due = due(asked.map(|channel| channel.tries).max().unwrap_or_default());
        let mut lost = Vec::new();
        for (name, channel) in &mut self.all {
            let was_asked = channel.asked.as_ref() == here;
            let was_subscribed = channel.subscribed.as_ref() == here;
            if was_asked {
                channel.asked = None;
                channel.tries = channel.tries.saturating_add(1);
            }
            if was_subscribed {
                channel.subscribed = None;
                lost.push(name.clone());
            }
            if (was_asked || was_subscribed) && channel.asked.is_none() {
                channel.due = Some(due);
            }
        }
        self.wake(due);
        lost
    }

    /// Schedules the channels that are subscribed at another node than the owner of their slot.
    pub(super) fn compare(&mut self, owner: impl Fn(u16) -> ShardPlace, now: Instant) {
        for channel in self.all.values_mut() {
            let Some(owner) = owner(channel.slot) else { continue };
            let is_elsewhere = channel.subscribed.as_ref().is_some_and(|at| *at != Some(owner));
            if is_elsewhere && channel.asked.is_none() {
                channel.due.get_or_insert(now);
            }
        }
        self.wake(now);
    }

    /// The node that the channel was last requested from.
    #[cfg(test)]
    pub(super) fn asked_at(&self, name: &ChannelName) -> Option<ShardPlace> {
        self.all.get(name)?.asked.clone()
    }

    /// Whether a channel is subscribed to at this node.
    pub(super) fn is_at(&self, name: &ChannelName, place: &ShardPlace) -> bool {
        self.all.get(name).is_some_and(|channel| channel.subscribed.as_ref() == Some(place))
    }

    /// Whether any channel is subscribed at this node, or was requested from it.
    pub(super) fn has_any_at(&self, place: &ShardPlace) -> bool {
        let here = Some(place);
        let mut channels = self.all.values();
        channels
            .any(|channel| channel.subscribed.as_ref() == here || channel.asked.as_ref() == here)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redis::ConnectionAddr;
    use ssegate_hub::ChannelName;
    use tokio::time::Instant;

    use super::{ShardPlace, ShardedChannels};

    fn at(port: u16) -> ShardPlace {
        Some(ConnectionAddr::Tcp("10.0.0.1".to_owned(), port))
    }

    fn name(text: &str) -> ChannelName {
        ChannelName::sharded(text).expect("a name")
    }

    fn asked(
        channels: &mut ShardedChannels,
        place: &ShardPlace,
        now: Instant,
    ) -> Vec<Vec<ChannelName>> {
        let due = channels.take_due(now);
        due.iter().for_each(|(_, names)| channels.ask(names, place));
        let mut names: Vec<_> = due.into_iter().map(|(_, names)| names).collect();
        names.iter_mut().for_each(|names| names.sort());
        names.sort();
        names
    }

    #[test]
    fn each_command_has_channels_of_one_slot_and_those_that_were_refused_alone() {
        let (mut channels, now) =
            (ShardedChannels::default(), Instant::now() + Duration::from_secs(1));
        ["{a}1", "{a}2", "b"].map(name).into_iter().for_each(|name| channels.follow(name));
        let both = vec![name("{a}1"), name("{a}2")];
        assert_eq!(asked(&mut channels, &at(1), now), [vec![name("b")], both.clone()]);
        assert!(asked(&mut channels, &at(1), now).is_empty(), "they are asked for");
        both.iter().for_each(|name| channels.retry_alone(name, &at(1), now));
        assert_eq!(asked(&mut channels, &at(1), now), [vec![name("{a}1")], vec![name("{a}2")]]);
        both.iter().for_each(|name| channels.retry_alone(name, &at(1), now));
        assert_eq!((asked(&mut channels, &at(1), now).len(), channels.refused()), (2, 2));
        assert_eq!(channels.confirm(&name("{a}1"), &at(1)), Some(None));
        assert_eq!(channels.leave(&name("{a}1")), Some(at(1)));
        assert_eq!(channels.leave(&name("{a}2")), None);
        assert_eq!(channels.confirm(&name("{a}2"), &at(1)), None, "it was left meanwhile");
        assert_eq!(channels.refused(), 0);
    }

    #[test]
    fn a_channel_is_asked_for_where_its_slot_has_gone() {
        let (mut channels, now) =
            (ShardedChannels::default(), Instant::now() + Duration::from_secs(1));
        channels.follow(name("a"));
        asked(&mut channels, &at(1), now);
        // The node replies with `MOVED`.
        channels.retry(&name("a"), &at(1), now);
        assert_eq!(asked(&mut channels, &at(2), now).len(), 1);
        assert_eq!(channels.confirm(&name("a"), &at(2)), Some(None));
        // The node unsubscribes it by itself. The message of another node comes too late.
        assert!(!channels.lose(&name("a"), &at(1), now));
        assert!(channels.lose(&name("a"), &at(2), now));
        assert!(!channels.lose(&name("a"), &at(2), now));
        assert_eq!(asked(&mut channels, &at(3), now).len(), 1);
        channels.confirm(&name("a"), &at(3));
        // The slot map has changed: the old subscription ends once the new one is confirmed.
        channels.compare(|_| at(3), now);
        assert!(asked(&mut channels, &at(3), now).is_empty());
        channels.compare(|_| at(4), now);
        assert_eq!(asked(&mut channels, &at(4), now).len(), 1);
        channels.compare(|_| at(4), now);
        assert!(asked(&mut channels, &at(4), now).is_empty());
        assert_eq!(channels.confirm(&name("a"), &at(4)), Some(Some(at(3))));
        // The connection is lost.
        let later = now + Duration::from_secs(1);
        assert!(channels.lose_place(&at(3), |_| later).is_empty());
        assert_eq!(channels.lose_place(&at(4), |_| later), [name("a")]);
        assert!(asked(&mut channels, &at(5), now).is_empty());
        assert_eq!(asked(&mut channels, &at(5), later).len(), 1);
        assert!(channels.has_any_at(&at(5)) && !channels.has_any_at(&at(4)));
    }
}
