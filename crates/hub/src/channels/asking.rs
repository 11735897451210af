//! Questions to the other gateways, and answers to theirs.

use std::rc::{Rc, Weak};

use tokio::time::Instant;

use super::hub_state::HubState;
use crate::Subscription;
use crate::fleet::answer::{Answer, MAX_MARKS_TOLD};
use crate::fleet::message::{
    self, AnswerText, ChannelText, ForAll, ForOne, HexId, MAX_ASKED, SubscriptionText,
};
use crate::fleet::name::MarkId;
use crate::fleet::questions::{COLLECT, FleetQuestion, MAX_ANSWERS, PATIENCE};
use crate::fleet::rules::FleetRule;
use crate::position::event_id::RunTag;
use crate::requests::shard_request::StreamAddress;
use crate::subject::ChannelIndex;

impl HubState {
    /// Asks the other gateways how far these channels have come, for a stream.
    pub(super) fn ask_for(
        &mut self,
        stream: StreamAddress,
        channels: &[ChannelIndex],
        now: Instant,
    ) {
        let next = &mut self.fleet.asking.next;
        let (_, question) = next.get_or_insert_with(|| (now + COLLECT, FleetQuestion::new()));
        let channels = channels.iter().map(|index| &self.channels[*index as usize]);
        // An answer says what came before it, so it is of use from the confirmation on.
        for channel in channels.filter(|channel| channel.is_confirmed()) {
            question.add(&channel.topic.subscription);
        }
        question.streams.push(stream);
        if question.tags.len() >= MAX_ASKED {
            self.ask_collected(now);
        }
        self.fleet.timers.notify_one();
    }

    /// Asks about these channels, for whoever comes later.
    pub(super) fn ask_about(&mut self, subscriptions: &[Subscription], now: Instant) {
        for some in subscriptions.chunks(MAX_ASKED) {
            let mut question = FleetQuestion::new();
            some.iter().for_each(|subscription| question.add(subscription));
            self.ask(question, now);
        }
    }

    /// Asks what is due, and gives up on what was not answered in time.
    pub(super) fn ask_due(&mut self, now: Instant) {
        if self.fleet.asking.next.as_ref().is_some_and(|(due, _)| *due <= now) {
            self.ask_collected(now);
        }
        let asked = self.fleet.asking.asked.iter();
        let is_due = |question: &FleetQuestion| question.patience_ends <= now;
        let due: Vec<_> = asked.filter(|(_, q)| is_due(q)).map(|(mark, _)| *mark).collect();
        due.into_iter().for_each(|mark| self.finish_question(mark));
    }

    fn ask_collected(&mut self, now: Instant) {
        if let Some((_, question)) = self.fleet.asking.next.take() {
            self.ask(question, now);
        }
    }

    fn ask(&mut self, mut question: FleetQuestion, now: Instant) {
        if question.subscriptions.is_empty() {
            return self.fence(question.streams);
        }
        let mark = fastrand::u64(..);
        let of = question.subscriptions.iter().map(message::subscription_text).collect();
        let ask = self.run;
        self.publish_for_all(&ForAll::Question { mark: HexId(mark), ask, of }, Some(mark));
        question.patience_ends = now + PATIENCE;
        self.fleet.asking.asked.insert(mark, question);
        self.fleet.timers.notify_one();
    }

    /// A question of ours has come back from the server: this is its place.
    pub(super) fn note_question(&mut self, mark: MarkId) {
        let number = self.numbers.newest();
        if let Some(question) = self.fleet.asking.asked.get_mut(&mark) {
            question.asked_at = Some(number);
            self.finish_if_over(mark);
        }
    }

    /// The server has sent a question of ours to this many subscribers, this gateway among them.
    pub(super) fn note_asked(&mut self, mark: MarkId, subscribers: usize) {
        if let Some(question) = self.fleet.asking.asked.get_mut(&mark) {
            question.listeners = Some(subscribers.saturating_sub(1));
            self.finish_if_over(mark);
        }
        self.fleet.warm_up.note_asked(mark, subscribers);
        self.fleet.note_left(mark, subscribers);
    }

    /// A question of ours could not be published.
    pub(super) fn note_not_asked(&mut self, mark: MarkId) {
        self.finish_question(mark);
        self.fleet.warm_up.note_asked(mark, 0);
        self.fleet.note_left(mark, 0);
    }

    pub(super) fn take_answer(&mut self, text: AnswerText) {
        let mark = text.to.0;
        let Some(question) = self.fleet.asking.asked.get_mut(&mark) else { return };
        let (Some(asked_at), tags) = (question.asked_at, &question.tags) else { return };
        // One that was forged under many names counts as often as there are gateways.
        let has_all = question.listeners.is_some_and(|most| question.answered_by.len() >= most);
        let Some(answer) = Answer::new(text, tags, asked_at).filter(|_| !has_all) else { return };
        if !question.answered_by.insert(answer.run) {
            return;
        }
        let (answer, subscriptions) = (Rc::new(answer), question.subscriptions.clone());
        let weak = self.fleet.asking.keep(Rc::clone(&answer));
        let mut with_hole = Vec::new();
        for subscription in &subscriptions {
            let name = subscription.name.as_str();
            for &index in self.names.of_subscription(subscription.is_pattern, name) {
                let channel = &mut self.channels[index as usize];
                let is_followed =
                    channel.is_confirmed() && channel.confirmed.max(self.answers_from) <= asked_at;
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
        self.finish_if_over(mark);
    }

    fn finish_if_over(&mut self, mark: MarkId) {
        if self.fleet.asking.asked.get(&mark).is_some_and(FleetQuestion::is_over) {
            self.finish_question(mark);
        }
    }

    fn finish_question(&mut self, mark: MarkId) {
        if let Some(question) = self.fleet.asking.asked.remove(&mark) {
            self.fence(question.streams);
        }
    }

    /// Answers the question of another gateway, as of its place in the order.
    pub(super) fn answer(&self, to: HexId, asker: RunTag, of: &[SubscriptionText]) {
        let asked = of.iter().take(MAX_ASKED).enumerate();
        let known = asked.filter_map(|(at, text)| self.channel_text(at, text));
        let channels: Vec<_> = known.collect();
        // Without a channel it only says that this gateway has answered.
        let marks = if channels.is_empty() { 0 } else { MAX_MARKS_TOLD };
        let answer = ForOne::Answer(AnswerText {
            to,
            run: self.run,
            number: self.numbers.newest(),
            channels,
            marks: self.fleet.last_marks(marks),
        });
        self.publish_for_one(asker, &answer);
    }

    /// How far a channel has come that is followed without a hole since its confirmation.
    fn channel_text(&self, at: usize, text: &SubscriptionText) -> Option<ChannelText> {
        let subscription = message::subscription(text)?;
        let name = subscription.name.as_str();
        let siblings = self.names.of_subscription(subscription.is_pattern, name);
        let mut siblings = siblings.iter().map(|index| &self.channels[*index as usize]);
        let channel = siblings.find(|channel| channel.is_confirmed() && channel.history.is_some());
        let Some(channel) = channel else {
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
