//! Commands to the nodes of a Cluster: each goes to the owner of its slot, over one connection to each node.
//!
//! If a node does not serve a slot, its reply says where or when the slot is served, and the command is sent again;
//! callers do not see this. The commands of one slot are executed in the order in which they were given, even while the
//! slot moves: once a node has not executed one of them, no other is sent until all replies for the slot have arrived.
//! Then the rest is sent in order.

mod node;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use redis::ConnectionAddr;
use ssegate_resp::Value;
use tokio::time::{Instant, sleep_until};

use self::node::{CommandNode, LostCommand};
use super::cluster::{Cluster, Redirect};
use super::error::{SourceError, SourceErrorKind};
use super::lost_nodes::{NodeLoss, NodeOutages};
use super::server::RedisServer;

/// How long a node may take to reply. It replies in the order of the commands, so one that is late is stuck.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before a command that no node could serve is sent again.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Times that a command is sent elsewhere at once, at most: two nodes may each name the other for a moment.
const MAX_REDIRECTS: u32 = 5;
/// A connection that is unused for this long is closed: managed services close idle connections after some minutes,
/// some without a FIN.
const IDLE: Duration = Duration::from_secs(30);
/// How often to check for late replies.
const TICK: Duration = Duration::from_millis(25);

/// A command, and the tag that identifies its result.
#[derive(Debug)]
pub(super) struct KeyCommand<T> {
    /// The command and its arguments.
    pub(super) words: Vec<Bytes>,
    /// Which node executes it.
    pub(super) target: CommandTarget,
    /// Whether it is idempotent: then it is sent again after a connection was lost.
    pub(super) is_repeatable: bool,
    /// After this time it is not sent any more.
    pub(super) deadline: Option<Instant>,
    /// Returned with the result.
    pub(super) tag: T,
}

/// Which node executes a command.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum CommandTarget {
    /// The owner of this slot.
    Slot(u16),
    /// Any.
    AnyNode,
    /// This one, if it is connected.
    Node(ConnectionAddr),
}

/// Why there is no reply to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoReply {
    /// It was not sent, and will not be.
    Unsent,
    /// It was sent, and the connection was lost: it may have been executed.
    Lost,
    /// It was sent, and there was no reply in time.
    TimedOut,
}

/// The tag of a command, and its reply, which may be an error reply.
pub(super) type CommandDone<T> = (T, Result<Value, NoReply>);

/// Sends commands to the nodes of a Cluster. Connects when there is something to send.
pub(super) struct ClusterCommands<T> {
    server: RedisServer,
    cluster: Cluster,
    max_reply_bytes: usize,
    nodes: Vec<CommandNode<T>>,
    // `None`: the commands that any node may execute.
    slots: HashMap<Option<u16>, SlotCommands<T>>,
    // The number of commands that wait in `slots`.
    held: usize,
    done: VecDeque<CommandDone<T>>,
    next_number: u64,
    // Selects the node for `AnyNode`; incremented after a failure.
    any: usize,
    // Oldest first.
    failures: VecDeque<NodeFailure>,
    outages: NodeOutages,
}

/// A connection was lost, or could not be opened.
#[derive(Debug)]
pub(super) struct NodeFailure {
    pub(super) node: ConnectionAddr,
    pub(super) error: SourceError,
    /// Whether to log it.
    pub(super) loss: NodeLoss,
}

/// The commands of one slot.
struct SlotCommands<T> {
    in_flight: usize,
    // In no order. No other command is sent while there are any.
    waiting: Vec<RoutedCommand<T>>,
    resume_at: Instant,
}

/// A command on its way.
struct RoutedCommand<T> {
    command: KeyCommand<T>,
    // The order in which the commands were given.
    number: u64,
    // The node that its slot is moving to.
    asks: Option<ConnectionAddr>,
    redirects: u32,
}

impl<T> ClusterCommands<T> {
    /// Whether no owner of any slot is known.
    pub(super) fn is_without_slots(&self) -> bool {
        self.cluster.is_without_slots()
    }

    /// Sends commands to the nodes of `cluster`, which is that of `server`. Strings in replies longer than
    /// `max_reply_bytes` are skipped. `is_back` is logged when a connection is open again that was lost.
    pub(super) fn new(
        (server, cluster): (&RedisServer, &Cluster),
        max_reply_bytes: usize,
        is_back: Option<&'static str>,
    ) -> Self {
        Self {
            server: server.clone(),
            cluster: cluster.clone(),
            max_reply_bytes,
            nodes: Vec::new(),
            slots: HashMap::new(),
            held: 0,
            done: VecDeque::new(),
            next_number: 0,
            any: 0,
            failures: VecDeque::new(),
            outages: NodeOutages::new(server, is_back),
        }
    }

    /// Sends a command.
    pub(super) fn send(&mut self, command: KeyCommand<T>) {
        let number = self.next_number;
        self.next_number += 1;
        let routed = RoutedCommand { command, number, asks: None, redirects: 0 };
        match self.slots.get_mut(&routed.slot()).filter(|slot| !slot.waiting.is_empty()) {
            Some(slot) => {
                slot.waiting.push(routed);
                self.held += 1;
            }
            None => self.dispatch(routed),
        }
    }

    /// The number of bytes that wait to be written to the owner of this slot.
    pub(super) fn unsent_bytes(&self, slot: u16) -> usize {
        let owner = self.cluster.owner(slot);
        let mut nodes = self.nodes.iter();
        let owner = nodes.find(|node| Some(&node.address) == owner.as_ref());
        owner.map_or(0, CommandNode::unsent_bytes)
    }

    /// Whether nothing is pending.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.is_empty() && self.done.is_empty()
    }

    /// The nodes to which there is a connection, or which are being connected to.
    pub(super) fn connected(&self) -> Vec<ConnectionAddr> {
        self.nodes.iter().map(|node| node.address.clone()).collect()
    }

    /// Takes the next result.
    pub(super) fn take_done(&mut self) -> Option<CommandDone<T>> {
        self.done.pop_front()
    }

    /// Takes the next failure.
    pub(super) fn take_failure(&mut self) -> Option<NodeFailure> {
        self.failures.pop_front()
    }

    /// Waits until there is a result or a failure. Cancel safe.
    pub(super) async fn exchange(&mut self) {
        loop {
            self.maintain(Instant::now());
            if !self.done.is_empty() || !self.failures.is_empty() {
                return;
            }
            let until = self.next_look();
            tokio::select! {
                () = poll_fn(|cx| self.poll_nodes(cx)) => {}
                () = async {
                    match until {
                        Some(until) => sleep_until(until).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    fn next_look(&self) -> Option<Instant> {
        match self.slots.is_empty() {
            false => Some(Instant::now() + TICK),
            true => self.nodes.iter().map(|node| node.used + IDLE).min(),
        }
    }

    fn poll_nodes(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut has_progressed = false;
        let mut at = 0;
        while let Some(node) = self.nodes.get_mut(at) {
            let was_open = node.is_open();
            let Poll::Ready(polled) = node.poll(cx) else {
                at += 1;
                continue;
            };
            has_progressed = true;
            if !was_open && node.is_open() {
                self.outages.open(Some(&node.address));
            }
            let from = node.address.clone();
            match polled {
                Ok(replies) => {
                    at += 1;
                    replies.into_iter().for_each(|(sent, reply)| self.handle(sent, reply, &from));
                }
                Err(error) => self.lose(at, error),
            }
        }
        if has_progressed { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Handles the reply of a node.
    fn handle(&mut self, mut sent: RoutedCommand<T>, reply: Value, from: &ConnectionAddr) {
        self.end_flight(sent.slot());
        let redirect = match &reply {
            Value::Error(message) if !sent.is_for_one_node() => Redirect::of(message, from),
            _ => None,
        };
        let has_asked = sent.asks.is_some() || matches!(reply, Value::Error(_));
        if let Some(slot) = sent.slot().filter(|_| !has_asked) {
            self.cluster.serves(slot, from);
        }
        let Some(redirect) = redirect else {
            self.done.push_back((sent.command.tag, Ok(reply)));
            return;
        };
        sent.redirects += 1;
        let mut is_later = sent.redirects.is_multiple_of(MAX_REDIRECTS);
        sent.asks = None;
        match redirect {
            Redirect::Moved(slot, owner) => self.cluster.moved(slot, &owner),
            Redirect::Ask(node) => sent.asks = Some(node),
            Redirect::TryAgain => is_later = true,
            Redirect::Wait => {
                self.cluster.outdate();
                is_later = true;
            }
        }
        self.hold(sent, is_later);
    }

    /// Sends a command again once no other of its slot is in flight.
    fn hold(&mut self, routed: RoutedCommand<T>, is_later: bool) {
        let now = Instant::now();
        let resume_at = if is_later { now + RETRY_DELAY } else { now };
        let slot = self.slot(routed.slot());
        slot.resume_at = slot.resume_at.max(resume_at);
        slot.waiting.push(routed);
        self.held += 1;
    }

    fn dispatch(&mut self, routed: RoutedCommand<T>) {
        let address = match (&routed.asks, &routed.command.target) {
            (Some(node), _) => Some(node.clone()),
            (None, CommandTarget::Node(node)) => {
                let is_connected = self.nodes.iter().any(|known| known.address == *node);
                Some(node.clone()).filter(|_| is_connected)
            }
            (None, CommandTarget::Slot(slot)) => {
                self.cluster.owner(*slot).or_else(|| self.any_node())
            }
            (None, CommandTarget::AnyNode) => self.any_node(),
        };
        let Some(address) = address else {
            return self.done.push_back((routed.command.tag, Err(NoReply::Unsent)));
        };
        self.slot(routed.slot()).in_flight += 1;
        let at = self.nodes.iter().position(|node| node.address == address);
        let at = at.unwrap_or_else(|| {
            self.nodes.push(CommandNode::open(&self.server, address, self.max_reply_bytes));
            self.nodes.len() - 1
        });
        self.nodes[at].send(routed);
    }

    /// One of the nodes; a different one after a failure.
    fn any_node(&self) -> Option<ConnectionAddr> {
        let mut nodes = self.cluster.candidates();
        (!nodes.is_empty()).then(|| nodes.swap_remove(self.any % nodes.len()))
    }

    fn slot(&mut self, slot: Option<u16>) -> &mut SlotCommands<T> {
        self.slots.entry(slot).or_insert_with(|| SlotCommands {
            in_flight: 0,
            waiting: Vec::new(),
            resume_at: Instant::now(),
        })
    }

    fn end_flight(&mut self, slot: Option<u16>) {
        if let Some(commands) = self.slots.get_mut(&slot) {
            commands.in_flight -= 1;
            if commands.in_flight == 0 && commands.waiting.is_empty() {
                self.slots.remove(&slot);
            }
        }
    }

    /// The connection to a node is lost, or could not be opened.
    fn lose(&mut self, at: usize, error: SourceError) {
        let node = self.nodes.swap_remove(at);
        let address = node.address.clone();
        let is_timeout = error.kind() == SourceErrorKind::Timeout;
        let lost: Vec<LostCommand<T>> = node.into_commands();
        let loss = self.outages.lose(Some(&address), lost.is_empty());
        for LostCommand { command: routed, is_unsent } in lost {
            self.end_flight(routed.slot());
            let no_reply = match (is_unsent, is_timeout) {
                (true, _) => NoReply::Unsent,
                (false, true) => NoReply::TimedOut,
                (false, false) => NoReply::Lost,
            };
            match (is_unsent || routed.command.is_repeatable) && !routed.is_for_one_node() {
                true => self.hold(RoutedCommand { asks: None, ..routed }, true),
                false => self.done.push_back((routed.command.tag, Err(no_reply))),
            }
        }
        self.any = self.any.wrapping_add(1);
        self.failures.push_back(NodeFailure { node: address, error, loss });
        self.cluster.outdate();
    }

    /// Closes connections that are late or idle, and sends waiting commands again.
    fn maintain(&mut self, now: Instant) {
        while let Some(at) = self.nodes.iter().position(|node| node.is_late(now, REPLY_TIMEOUT)) {
            let error = SourceError::Timeout(REPLY_TIMEOUT.as_secs());
            let error = error.at_server(&self.nodes[at].address);
            self.lose(at, error);
        }
        self.nodes.retain(|node| !node.is_idle() || now < node.used + IDLE);
        // Usually no command waits, while many slots may have commands in flight.
        if self.held == 0 {
            return;
        }
        let Self { slots, done, .. } = self;
        let mut due = Vec::new();
        for commands in slots.values_mut() {
            let is_late = |routed: &mut RoutedCommand<T>| {
                routed.command.deadline.is_some_and(|deadline| deadline <= now)
            };
            let late = commands.waiting.extract_if(.., is_late);
            done.extend(late.map(|routed| (routed.command.tag, Err(NoReply::Unsent))));
            if commands.in_flight == 0 && commands.resume_at <= now {
                due.append(&mut commands.waiting);
            }
        }
        slots.retain(|_, commands| commands.in_flight > 0 || !commands.waiting.is_empty());
        self.held = slots.values().map(|commands| commands.waiting.len()).sum();
        due.sort_by_key(|routed| routed.number);
        due.into_iter().for_each(|routed| self.dispatch(routed));
    }
}

impl<T> RoutedCommand<T> {
    fn slot(&self) -> Option<u16> {
        match self.command.target {
            CommandTarget::Slot(slot) => Some(slot),
            CommandTarget::AnyNode | CommandTarget::Node(_) => None,
        }
    }

    fn is_for_one_node(&self) -> bool {
        matches!(self.command.target, CommandTarget::Node(_))
    }
}

impl<T> std::fmt::Debug for ClusterCommands<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterCommands").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}
