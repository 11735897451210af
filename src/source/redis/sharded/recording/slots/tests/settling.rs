//! A slot moves to and fro between two nodes while its channels are followed and left. Whatever the order in which
//! nodes confirm, no message gets a name after a possible hole, and in the end all messages get names again.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use ssegate_hub::ChannelName;
use tokio::time::Instant;

use super::super::super::super::channels::ShardedChannels;
use super::super::{RecordedSlots, ShardPlace, slot_of_name};
use super::{MARK, at, receive, slots};

/// A command that was sent to a node and not executed yet.
enum Sent {
    Subscribe(Vec<ChannelName>),
    Unsubscribe(ChannelName),
}

/// Two nodes, and what this gateway knows of them.
struct Nodes {
    slots: RecordedSlots,
    channels: ShardedChannels,
    sent: [VecDeque<Sent>; 2],
    subscribed: [BTreeSet<ChannelName>; 2],
    followed: BTreeSet<ChannelName>,
    marks: ChannelName,
    mark: u64,
    now: Instant,
}

fn place(node: usize) -> ShardPlace {
    at(u16::try_from(node).expect("small"))
}

fn channel(name: &str) -> ChannelName {
    ChannelName::sharded(name).expect("a name")
}

impl Nodes {
    fn new() -> Self {
        let mut slots = slots();
        let marks = slots.slot(&channel("{x}a")).expect("a slot").marks.clone();
        Self {
            slots,
            channels: ShardedChannels::default(),
            sent: Default::default(),
            subscribed: Default::default(),
            followed: BTreeSet::new(),
            marks,
            mark: MARK,
            now: Instant::now() + Duration::from_secs(1),
        }
    }

    fn follow(&mut self, name: &ChannelName, owner: usize) {
        self.followed.insert(name.clone());
        let names = self.slots.follow(name);
        names.into_iter().for_each(|name| self.channels.follow(name));
        self.ask(owner);
    }

    fn leave(&mut self, name: &ChannelName) {
        self.followed.remove(name);
        if self.slots.leave(name)
            && let Some(at) = self.channels.leave(name)
        {
            self.unsubscribe(&at, name);
        }
    }

    fn unsubscribe(&mut self, at: &ShardPlace, name: &ChannelName) {
        let node = usize::from(*at == place(1));
        self.sent[node].push_back(Sent::Unsubscribe(name.clone()));
    }

    /// Subscribes to what is due, at this node.
    fn ask(&mut self, node: usize) {
        for (_, names) in self.channels.take_due(self.now) {
            self.channels.ask(&names, &place(node));
            self.sent[node].push_back(Sent::Subscribe(names));
        }
    }

    /// The gateway learns that this node owns the slot.
    fn compare(&mut self, owner: usize) {
        self.channels.compare(|_| place(owner), self.now);
        self.ask(owner);
    }

    /// The node executes its next command, and the gateway reads the reply.
    fn go_on(&mut self, node: usize) {
        match self.sent[node].pop_front() {
            None => {}
            Some(Sent::Subscribe(names)) => {
                self.subscribed[node].extend(names.iter().cloned());
                names.iter().for_each(|name| self.confirmed(name, &place(node)));
            }
            Some(Sent::Unsubscribe(name)) => {
                self.subscribed[node].remove(&name);
                if self.channels.lose(&name, &place(node), self.now) {
                    self.slots.unsubscribed(&name, &place(node));
                }
            }
        }
    }

    fn confirmed(&mut self, name: &ChannelName, here: &ShardPlace) {
        match self.channels.confirm(name, here) {
            None => self.unsubscribe(here, name),
            Some(before) => {
                before.iter().for_each(|before| self.unsubscribe(before, name));
                let channels = &self.channels;
                self.slots.confirm(name, here, |name| channels.is_at(name, here), self.now);
            }
        }
    }

    /// The node learns that the slot is at the other one, and unsubscribes from everything by itself.
    fn end_at(&mut self, node: usize) {
        for name in std::mem::take(&mut self.subscribed[node]) {
            let front = self.sent[node].front();
            if matches!(front, Some(Sent::Unsubscribe(left)) if *left == name) {
                self.go_on(node);
            } else if self.channels.lose(&name, &place(node), self.now) {
                self.slots.unsubscribed(&name, &place(node));
            }
        }
    }

    fn lose(&mut self, node: usize) {
        self.sent[node].clear();
        self.subscribed[node].clear();
        self.channels.lose_place(&place(node), |_| self.now);
        self.slots.lose_place(&place(node));
    }

    fn publish_mark(&mut self, node: usize) {
        self.mark += 1;
        if self.subscribed[node].contains(&self.marks) {
            let text = format!("{} other", self.mark);
            receive(&mut self.slots, &place(node), &self.marks, text);
        }
    }

    fn is_named(&self, name: &ChannelName) -> bool {
        let state = self.slots.states.get(slot_of_name(name)).expect("it is recorded");
        let book = state.book.borrow();
        book.is_named(name)
    }

    /// Every message with a name comes from the node whose marks count.
    fn check(&self) {
        let slot = self.slots.all.get(&slot_of_name(&self.marks)).expect("it is recorded");
        for name in &self.followed {
            if self.is_named(name) {
                let counts = |node: &usize| slot.place.as_ref() == Some(&place(*node));
                let node = [0, 1].into_iter().find(counts).expect("it is listened to");
                let subscribed = &self.subscribed[node];
                assert!(subscribed.contains(name) && subscribed.contains(&self.marks), "{name:?}");
            }
        }
    }

    /// All learn who owns the slot, and all pending commands are executed.
    fn settle(&mut self, owner: usize) {
        for _ in 0..4 {
            for node in [1 - owner, owner] {
                while !self.sent[node].is_empty() {
                    self.go_on(node);
                    self.check();
                }
            }
            self.end_at(1 - owner);
            self.compare(owner);
        }
        assert!(self.sent.iter().all(VecDeque::is_empty));
        self.publish_mark(owner);
        self.check();
        for name in &self.followed {
            assert!(self.is_named(name), "{name:?} has no names");
        }
    }
}

#[test]
fn one_channel_that_an_old_node_takes_late_leaves_the_others_where_they_are() {
    let mut nodes = Nodes::new();
    let [a, b] = ["{x}a", "{x}b"].map(channel);
    nodes.follow(&a, 0);
    nodes.go_on(0);
    nodes.publish_mark(0);
    assert!(nodes.is_named(&a));
    // The old node is stopped before it has read this.
    nodes.follow(&b, 0);
    nodes.compare(1);
    nodes.go_on(1);
    nodes.publish_mark(1);
    // It goes on, confirms, and then learns that it owns the slot no longer.
    nodes.go_on(0);
    assert!(nodes.is_named(&a) && !nodes.is_named(&b));
    nodes.settle(1);
}

#[test]
fn whatever_nodes_confirm_when_everything_has_names_in_the_end() {
    let names = ["{x}a", "{x}b", "{x}c"].map(channel);
    for seed in 0..800 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut nodes = Nodes::new();
        nodes.follow(&names[0], 0);
        for _ in 0..random.usize(1..60) {
            let (node, name) = (random.usize(0..2), &names[random.usize(0..names.len())]);
            match random.u8(0..16) {
                0..6 => nodes.go_on(node),
                6..9 => nodes.publish_mark(node),
                9..11 => nodes.compare(node),
                11 => nodes.ask(node),
                12 => nodes.end_at(node),
                13 => nodes.lose(node),
                14 if nodes.followed.contains(name) => nodes.leave(name),
                _ => nodes.follow(name, node),
            }
            nodes.check();
        }
        nodes.settle(random.usize(0..2));
    }
}
