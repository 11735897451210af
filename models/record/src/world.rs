//! Redis, the gateways, and what is on its way between them.

use ssegate_record::{AppendAnswer, AppendKind, AppendRequest, RecordId, ReferenceLog};
use stateright::{Model, Property};

use crate::action::Action;
use crate::gateway::Gateway;
use crate::properties;

/// The bounds of the exploration.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Gateways.
    pub gateways: u8,
    /// Messages that the application publishes.
    pub messages: u8,
    /// Marks that gateways publish because they have none since they connected.
    pub marks: u8,
    /// Further marks.
    pub asks: u8,
    /// How often a process ends.
    pub ends: u8,
    /// How often a connection breaks.
    pub breaks: u8,
    /// How often a gap is appended although another gateway could have helped.
    pub hurries: u8,
    /// How often a reply or a request is lost.
    pub unseen: u8,
    /// How often a gateway drops what it keeps, for lack of memory.
    pub overflows: u8,
    /// How often Redis loses its last writes and its connections.
    pub restores: u8,
    /// How often it loses its last writes and keeps its connections.
    pub forgets: u8,
    /// Whether the slot of the channel moves to another node.
    pub is_moving: bool,
}

/// What Redis has sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Sent {
    Message(u8),
    Mark(u64),
}

/// A request on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Travelling {
    // The gateway that waits for its answer.
    pub(crate) by: Option<u8>,
    pub(crate) request: AppendRequest<u8>,
}

/// Where the slot of the channel is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum SlotPlace {
    /// It never moved.
    #[default]
    Old,
    /// It has moved, and the old node does not know it. What is sent from here on comes from the new node.
    Both(usize),
    /// All know it.
    New(usize),
}

impl SlotPlace {
    /// Where the messages of the new node begin.
    pub(crate) fn moved(self) -> Option<usize> {
        match self {
            Self::Old => None,
            Self::Both(from) | Self::New(from) => Some(from),
        }
    }
}

/// Everything there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    // What the old node has sent, then what the new one has.
    pub(crate) sent: Vec<Sent>,
    pub(crate) slot: SlotPlace,
    pub(crate) last_mark: u64,
    pub(crate) log: ReferenceLog<u8>,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) travelling: Vec<Travelling>,
    pub(crate) spent: Spent,
}

/// How much of the bounds was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Spent {
    pub(crate) messages: u8,
    marks: u8,
    asks: u8,
    ends: u8,
    breaks: u8,
    pub(crate) hurries: u8,
    unseen: u8,
    restores: u8,
    forgets: u8,
    pub(crate) overflows: u8,
}

impl Spent {
    /// Whether Redis has lost anything.
    pub(crate) fn has_lost(&self) -> bool {
        self.restores + self.forgets > 0
    }
}

/// The model.
#[derive(Clone, Debug)]
pub struct RecordModel {
    /// The bounds of the exploration.
    pub bounds: Bounds,
}

impl Model for RecordModel {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World {
            sent: Vec::new(),
            slot: SlotPlace::Old,
            // Room for the marks of a server whose clock has gone back.
            last_mark: 10,
            log: ReferenceLog::default(),
            gateways: vec![Gateway::default(); self.bounds.gateways.into()],
            travelling: Vec::new(),
            spent: Spent::default(),
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let (most, spent) = (&self.bounds, &world.spent);
        if spent.messages < most.messages {
            actions.push(Action::Publish);
        }
        match world.slot {
            SlotPlace::Old if most.is_moving => actions.push(Action::Move),
            SlotPlace::Old | SlotPlace::New(_) => {}
            SlotPlace::Both(_) => {
                actions.push(Action::EndMove);
                if spent.messages < most.messages {
                    actions.push(Action::PublishOld);
                }
            }
        }
        for (number, gateway) in (0..).zip(&world.gateways) {
            match gateway.next {
                None => {
                    actions.push(Action::Connect(number));
                    // One that was there before and comes back to the old node is as one that never left it.
                    if !gateway.is_alive && matches!(world.slot, SlotPlace::Both(_)) {
                        actions.push(Action::ConnectOld(number));
                    }
                }
                Some(next) => {
                    let (spent, most) = match gateway.recorder.is_open() {
                        true => (spent.asks, most.asks),
                        false => (spent.marks, most.marks),
                    };
                    if spent < most {
                        actions.push(Action::Mark(number));
                    }
                    if next < world.end_for(gateway) {
                        actions.push(Action::Read(number));
                    }
                    if world.spent.breaks < self.bounds.breaks || world.is_left_behind(gateway) {
                        actions.push(Action::Break(number));
                    }
                }
            }
            if gateway.recorder.has_items() && spent.overflows < most.overflows {
                actions.push(Action::Overflow(number));
            }
            if gateway.is_alive && spent.ends < most.ends {
                actions.push(Action::End(number));
            }
            if let Some(request) = gateway.recorder.clone().request(AppendKind::Items, usize::MAX) {
                actions.push(Action::Request(number, AppendKind::Items));
                let is_missing = world.log.top < request.since;
                let can_wait = world.can_others_help(number, request.since);
                if is_missing && !can_wait {
                    actions.push(Action::Request(number, AppendKind::ItemsBehindGap));
                } else if is_missing && spent.hurries < most.hurries {
                    actions.push(Action::Hurry(number));
                }
            }
        }
        for (at, travelling) in world.travelling.iter().enumerate() {
            actions.push(Action::Execute(at));
            if travelling.by.is_some() && spent.unseen < most.unseen {
                actions.push(Action::ExecuteUnseen(at));
                actions.push(Action::Drop(at));
            }
        }
        for kept in 0..=world.log.entries.len() {
            if spent.restores < most.restores {
                actions.push(Action::Restore(kept));
            }
            if spent.forgets < most.forgets {
                actions.push(Action::Forget(kept));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut world = world.clone();
        match action {
            Action::Publish => {
                world.spent.messages += 1;
                world.sent.push(Sent::Message(world.spent.messages));
            }
            Action::PublishOld => world.publish_old()?,
            Action::Move => world.slot = SlotPlace::Both(world.sent.len()),
            Action::EndMove => world.slot = SlotPlace::New(world.slot.moved()?),
            Action::Mark(gateway) => world.mark(gateway),
            Action::Read(number) => {
                let World { gateways, sent, .. } = &mut world;
                gateways[usize::from(number)].read(sent);
            }
            Action::Connect(gateway) => {
                let (sent, is_at_new) = (world.sent.len(), world.slot.moved().is_some());
                world.gateway(gateway).connect(sent, is_at_new);
            }
            Action::ConnectOld(gateway) => {
                let sent = world.slot.moved()?;
                world.gateway(gateway).connect(sent, false);
            }
            Action::Break(gateway) => {
                if !world.is_left_behind(&world.gateways[usize::from(gateway)]) {
                    world.spent.breaks += 1;
                }
                world.lose(gateway);
            }
            Action::End(gateway) => {
                world.spent.ends += 1;
                world.lose(gateway);
                world.gateway(gateway).end();
            }
            Action::Overflow(gateway) => {
                world.spent.overflows += 1;
                world.gateway(gateway).recorder.overflow();
            }
            Action::Request(gateway, kind) => world.request(gateway, kind)?,
            Action::Hurry(gateway) => {
                world.spent.hurries += 1;
                world.request(gateway, AppendKind::ItemsBehindGap)?;
            }
            Action::Execute(at) => {
                if let Some((gateway, answer)) = world.execute(at) {
                    let gateway = world.gateway(gateway);
                    gateway.timeline.note_top(answer.top.mark);
                    gateway.recorder.answer(answer, |_| {});
                }
            }
            Action::ExecuteUnseen(at) => {
                world.spent.unseen += 1;
                if let Some((gateway, _lost)) = world.execute(at) {
                    world.gateway(gateway).recorder.forget_request();
                }
            }
            Action::Drop(at) => {
                world.spent.unseen += 1;
                let by = world.travelling.remove(at).by?;
                world.gateway(by).recorder.forget_request();
            }
            Action::Restore(kept) => {
                world.spent.restores += 1;
                world.restore(kept);
                world.last_mark = 0;
                (0..self.bounds.gateways).for_each(|gateway| world.lose(gateway));
            }
            Action::Forget(kept) => {
                world.spent.forgets += 1;
                world.restore(kept);
            }
        }
        world.unify();
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self.bounds)
    }
}

impl World {
    fn gateway(&mut self, gateway: u8) -> &mut Gateway {
        &mut self.gateways[usize::from(gateway)]
    }

    /// How far the node that a gateway listens to has sent.
    fn end_for(&self, gateway: &Gateway) -> usize {
        self.slot.moved().filter(|_| !gateway.is_at_new).unwrap_or(self.sent.len())
    }

    /// Whether a gateway is connected to a node that the slot has left: it is unsubscribed, or learns of it
    /// in another way.
    fn is_left_behind(&self, gateway: &Gateway) -> bool {
        self.slot.moved().is_some() && !gateway.is_at_new
    }

    /// The old node sends one more message.
    fn publish_old(&mut self) -> Option<()> {
        let SlotPlace::Both(from) = self.slot else { return None };
        self.spent.messages += 1;
        self.sent.insert(from, Sent::Message(self.spent.messages));
        self.slot = SlotPlace::Both(from + 1);
        for gateway in self.gateways.iter_mut().filter(|gateway| gateway.is_at_new) {
            gateway.next = gateway.next.map(|next| next + 1);
        }
        Some(())
    }

    /// Does what the script of marks does.
    fn mark(&mut self, gateway: u8) {
        match self.gateway(gateway).recorder.is_open() {
            true => self.spent.asks += 1,
            false => self.spent.marks += 1,
        }
        let floor = self.gateway(gateway).timeline.floor();
        let mut mark = self.last_mark.max(floor) + 1;
        // The clock has gone on: no number is used twice.
        let is_used = |sent: &Sent, mark| *sent == Sent::Mark(mark);
        while self.sent.iter().any(|sent| is_used(sent, mark)) {
            mark += 1;
        }
        self.last_mark = mark;
        self.sent.push(Sent::Mark(mark));
    }

    fn lose(&mut self, gateway: u8) {
        self.gateway(gateway).lose();
        for travelling in &mut self.travelling {
            travelling.by.take_if(|by| *by == gateway);
        }
    }

    fn request(&mut self, number: u8, kind: AppendKind) -> Option<()> {
        let request = self.gateway(number).recorder.request(kind, usize::MAX)?;
        self.travelling.push(Travelling { by: Some(number), request });
        Some(())
    }

    /// Returns the reply, and the gateway that waits for it.
    fn execute(&mut self, at: usize) -> Option<(u8, AppendAnswer)> {
        let Travelling { by, request } = self.travelling.remove(at);
        let answer = request.apply(&mut self.log);
        by.map(|by| (by, answer))
    }

    fn restore(&mut self, kept: usize) {
        self.log.entries.truncate(kept);
        self.log.top = self.log.entries.last().map(|(id, _)| *id).unwrap_or_default();
    }

    /// Whether another gateway has, or will have, what is missing before `since`.
    fn can_others_help(&self, own: u8, since: RecordId) -> bool {
        let mark = |sent: &Sent| *sent == Sent::Mark(since.mark);
        let place = self.sent.iter().position(mark).unwrap_or(0);
        (0..).zip(&self.gateways).any(|(number, gateway)| {
            let is_other = number != own && gateway.is_alive;
            let has = gateway.recorder.oldest().is_some_and(|oldest| oldest < since);
            let is_before = |next| next < place || next == place && gateway.has_read;
            let will_have = gateway.next.is_some_and(is_before)
                && !self.slot.moved().is_some_and(|from| from <= place && !gateway.is_at_new);
            is_other && (has || will_have)
        })
    }
}
