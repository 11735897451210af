//! Questions to the other gateways, and answers to theirs.

use std::rc::{Rc, Weak};

use tokio::time::Instant;

use super::hub_state::HubState;
use crate::Subscription;
use crate::fleet::answer::{Answer, MAX_MARKS_SENT};
use crate::fleet::message::{
    self, AnswerText, ChannelText, ForAll, ForOne, HexId, MAX_ASKED, SubscriptionText,
};
use crate::fleet::name::MarkId;
use crate::fleet::order_id::OrderId;
use crate::fleet::questions::{COLLECT, FleetQuestion, MAX_ANSWERS, PATIENCE};
use crate::fleet::rules::FleetRule;
use crate::position::event_id::RunTag;
use crate::requests::shard_request::StreamAddress;
use crate::subject::ChannelIndex;

impl HubState {
    /// Asks the other gateways how far these channels have come, for a stream.
    pub(super) fn ask_for(
        &mut self,
        order: OrderId,
        stream: StreamAddress,
        channels: &[ChannelIndex],
        now: Instant,
    ) {
        let fleet = if order == OrderId::PLAIN {
            &mut self.fleet
        } else {
            let Some(fleet) = self.nodes.get_mut(order) else { return };
            fleet
        };
        let next = &mut fleet.asking.next;
        let (_, question) = next.get_or_insert_with(|| (now + COLLECT, FleetQuestion::new()));
        let channels = channels.iter().map(|index| &self.channels[*index as usize]);
        // An answer says what came before it, so it is of use from the confirmation on.
        for channel in channels.filter(|channel| channel.is_confirmed()) {
            question.add(&channel.topic.subscription);
        }
        question.streams.push(stream);
        if question.tags.len() >= MAX_ASKED {
            self.ask_collected(order, now);
        }
        self.fleet.timers.notify_one();
    }

    /// Asks about these channels, for clients that come later.
    pub(super) fn ask_about(
        &mut self,
        order: OrderId,
        subscriptions: &[Subscription],
        now: Instant,
    ) {
        for some in subscriptions.chunks(MAX_ASKED) {
            let mut question = FleetQuestion::new();
            some.iter().for_each(|subscription| question.add(subscription));
            self.ask(order, question, now);
        }
    }

    /// Sends the questions that are due, and gives up on those that were not answered in time.
    pub(super) fn ask_due(&mut self, order: OrderId, now: Instant) {
        let Some(fleet) = self.fleet_of(order) else { return };
        let is_next_due = fleet.asking.next.as_ref().is_some_and(|(due, _)| *due <= now);
        let asked = fleet.asking.asked.iter();
        let is_due = |question: &FleetQuestion| question.patience_ends <= now;
        let due: Vec<_> = asked.filter(|(_, q)| is_due(q)).map(|(mark, _)| *mark).collect();
        if is_next_due {
            self.ask_collected(order, now);
        }
        due.into_iter().for_each(|mark| self.finish_question(order, mark));
    }

    fn ask_collected(&mut self, order: OrderId, now: Instant) {
        let next = self.fleet_mut(order).and_then(|fleet| fleet.asking.next.take());
        if let Some((_, question)) = next {
            self.ask(order, question, now);
        }
    }

    fn ask(&mut self, order: OrderId, mut question: FleetQuestion, now: Instant) {
        if question.subscriptions.is_empty() {
            return self.fence(order, question.streams);
        }
        let mark = fastrand::u64(..);
        let of = question.subscriptions.iter().map(message::subscription_text).collect();
        let ask = self.run;
        self.publish_for_all(order, &ForAll::Question { mark: HexId(mark), ask, of }, Some(mark));
        question.patience_ends = now + PATIENCE;
        if let Some(fleet) = self.fleet_mut(order) {
            fleet.asking.asked.insert(mark, question);
            fleet.timers.notify_one();
        }
    }

    /// A question of ours has come back from the server: this is its place.
    pub(super) fn note_question(&mut self, order: OrderId, mark: MarkId) {
        let number = self.numbers.newest();
        if let Some(question) = self.asked(order, mark) {
            question.asked_at = Some(number);
            self.finish_if_over(order, mark);
        }
    }

    fn asked(&mut self, order: OrderId, mark: MarkId) -> Option<&mut FleetQuestion> {
        self.fleet_mut(order)?.asking.asked.get_mut(&mark)
    }

    /// The server has sent a question of ours to this many subscribers, this gateway among them.
    pub(super) fn note_asked(&mut self, order: OrderId, mark: MarkId, subscribers: usize) {
        if let Some(question) = self.asked(order, mark) {
            question.listeners = Some(subscribers.saturating_sub(1));
            self.finish_if_over(order, mark);
        }
        if let Some(fleet) = self.fleet_mut(order) {
            fleet.warm_up.note_asked(mark, subscribers);
            fleet.note_left(mark, subscribers);
        }
    }

    /// A question of ours could not be published.
    pub(super) fn note_not_asked(&mut self, order: OrderId, mark: MarkId) {
        self.finish_question(order, mark);
        if let Some(fleet) = self.fleet_mut(order) {
            fleet.warm_up.note_asked(mark, 0);
            fleet.note_left(mark, 0);
        }
    }

    pub(super) fn take_answer(&mut self, order: OrderId, text: AnswerText) {
        let mark = text.to.0;
        let Some(fleet) = self.fleet_mut(order) else { return };
        let Some(question) = fleet.asking.asked.get_mut(&mark) else { return };
        let (Some(asked_at), tags) = (question.asked_at, &question.tags) else { return };
        // Answers forged under many names count only up to the number of gateways.
        let has_all = question.listeners.is_some_and(|most| question.answered_by.len() >= most);
        let Some(answer) = Answer::new(text, tags, asked_at).filter(|_| !has_all) else { return };
        if !question.answered_by.insert(answer.run) {
            return;
        }
        let (answer, subscriptions) = (Rc::new(answer), question.subscriptions.clone());
        let weak = fleet.asking.keep(Rc::clone(&answer));
        let mut with_hole = Vec::new();
        for subscription in &subscriptions {
            let name = subscription.name.as_str();
            for &index in self.names.of_subscription(subscription.is_pattern, name) {
                let channel = &mut self.channels[index as usize];
                let is_followed = channel.is_confirmed()
                    && channel.order == order
                    && channel.confirmed.max(self.answers_from) <= asked_at;
                if !is_followed || !answer.has(channel.tag) {
                    continue;
                }
                let is_other = |known: &Weak<Answer>| {
                    known.upgrade().is_some_and(|known| known.run != answer.run)
                };
                channel.answers.retain(is_other);
                if channel.answers.len() == MAX_ANSWERS {
                    channel.answers.remove(0);
                }
                channel.answers.push(Weak::clone(&weak));
                with_hole.extend(channel.hole.is_some().then_some(index));
            }
        }
        with_hole.into_iter().for_each(|index| self.close_hole(index, &answer));
        self.finish_if_over(order, mark);
    }

    fn finish_if_over(&mut self, order: OrderId, mark: MarkId) {
        if self.asked(order, mark).is_some_and(|question| question.is_over()) {
            self.finish_question(order, mark);
        }
    }

    fn finish_question(&mut self, order: OrderId, mark: MarkId) {
        let question = self.fleet_mut(order).and_then(|fleet| fleet.asking.asked.remove(&mark));
        if let Some(question) = question {
            self.fence(order, question.streams);
        }
    }

    /// Answers the question of another gateway, as of its place in the order.
    pub(super) fn answer(&self, order: OrderId, to: HexId, asker: RunTag, of: &[SubscriptionText]) {
        let Some(fleet) = self.fleet_of(order) else { return };
        let asked = of.iter().take(MAX_ASKED).enumerate();
        let known = asked.filter_map(|(at, text)| self.channel_text(order, at, text));
        let channels: Vec<_> = known.collect();
        // An answer without channels only says that this gateway has answered.
        let marks = if channels.is_empty() { 0 } else { MAX_MARKS_SENT };
        let answer = ForOne::Answer(AnswerText {
            to,
            run: self.run,
            number: self.numbers.newest(),
            channels,
            marks: fleet.last_marks(marks),
        });
        self.publish_for_one(order, asker, &answer);
    }

    /// How far a channel has come that is followed without a hole since its confirmation.
    fn channel_text(
        &self,
        order: OrderId,
        at: usize,
        text: &SubscriptionText,
    ) -> Option<ChannelText> {
        let subscription = message::subscription(text)?;
        let name = subscription.name.as_str();
        let siblings = self.names.of_subscription(subscription.is_pattern, name);
        let mut siblings = siblings.iter().map(|index| &self.channels[*index as usize]);
        let channel = siblings.find(|channel| {
            channel.is_confirmed() && channel.order == order && channel.history.is_some()
        });
        let Some(channel) = channel else {
            if order != OrderId::PLAIN {
                return None;
            }
            let number = self.quiet_since(&subscription)?;
            return Some(ChannelText { at, number, newest: None });
        };
        let holds = FleetRule::NoHoleInAnswer.holds();
        let since = if holds { channel.whole_since? } else { 0 };
        let Some((number, name)) = channel.newest_message(since) else {
            return Some(ChannelText { at, number: since, newest: None });
        };
        let place = channel.place(name).map(|place| place.text());
        let newest = place.and_then(|text| String::from_utf8(text.to_vec()).ok());
        Some(ChannelText { at, number, newest })
    }
}
