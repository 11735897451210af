//! The members of this gateway: their streams, and what the store has of them.
//!
//! Pure: time is passed in. Its size is bounded by the streams that are open or have just ended.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ssegate_hub::ChannelName;
use tokio::time::Instant;

use super::change::{ChangeOutcome, ChannelChange, LeaseChange, MemberChange};
use super::member::LocalMember;
use super::watched::{WatchedRoute, WatchedRoutes};
use crate::route::PresenceSettings;

/// How often this gateway renews its leases at the store: three times within a lease.
const RENEWAL: Duration = Duration::from_secs(6);

/// Members of one channel in one change, at most, so that a large channel does not hold up the others.
const MAX_MEMBERS: usize = 200;

/// The members of this gateway.
#[derive(Debug, Default)]
pub(super) struct LocalTable {
    channels: HashMap<ChannelName, PresentChannel>,
    // The channels with changes for the store, each once.
    changed: VecDeque<ChannelName>,
    // When members without streams leave, each once.
    graces: BTreeSet<(Instant, ChannelName, Arc<str>)>,
    // When the leases of channels at the store are renewed, each channel once, the earliest first.
    renewals: VecDeque<(Instant, ChannelName)>,
    members: usize,
    // Whether the store forgets leases that are not renewed.
    renews: bool,
    routes: WatchedRoutes,
    // Other routes may be watched than before.
    has_new_routes: bool,
}

#[derive(Debug)]
struct PresentChannel {
    // The scope of the route through which its last stream was opened.
    scope: Arc<str>,
    // The settings of that route.
    settings: Arc<PresenceSettings>,
    prefix_bytes: usize,
    members: HashMap<Arc<str>, LocalMember>,
    // The members with changes for the store, each once.
    changed: VecDeque<Arc<str>>,
    is_changed: bool,
    // The store knows that this gateway has members here.
    is_known: bool,
    is_renewed: bool,
    // The store had no room for some members.
    has_refused: bool,
}

impl LocalTable {
    /// Creates a table without members.
    pub(super) fn new(routes: WatchedRoutes) -> Self {
        Self { routes, ..Self::default() }
    }

    /// Applies a reload: the channels of a route have its new settings from now on. Those of a route that is gone
    /// keep their settings until their last member leaves.
    pub(super) fn change_routes(&mut self, routes: WatchedRoutes) {
        for channel in self.channels.values_mut() {
            if let Some(route) = routes.get(&channel.scope) {
                channel.take_settings(route);
            }
        }
        self.has_new_routes = !routes.watched().is_empty();
        self.routes = routes;
    }

    /// The routes with presence.
    pub(super) fn routes(&self) -> &WatchedRoutes {
        &self.routes
    }

    /// A stream of `member` has been opened, on a route that matches `scope`. `route` is used if a reload has removed
    /// that route.
    pub(super) fn join(
        &mut self,
        name: &ChannelName,
        member: &Arc<str>,
        (scope, route): (&Arc<str>, &WatchedRoute),
        now: Instant,
    ) {
        // A reload may not have reached the thread of the stream yet.
        let route = self.routes.get(scope).unwrap_or(route);
        let channel = self.channels.entry(name.clone()).or_insert_with(|| PresentChannel {
            scope: Arc::clone(scope),
            settings: Arc::clone(&route.settings),
            prefix_bytes: route.prefix_bytes,
            members: HashMap::new(),
            changed: VecDeque::new(),
            is_changed: false,
            is_known: false,
            is_renewed: false,
            has_refused: false,
        });
        // If two routes have the channel, the settings of the newest stream apply.
        channel.scope = Arc::clone(scope);
        channel.take_settings(route);
        let members = &mut self.members;
        let known = channel.members.entry(Arc::clone(member)).or_insert_with(|| {
            *members += 1;
            LocalMember::new(now)
        });
        known.streams += 1;
        known.is_gone = false;
        self.note(name, member);
    }

    /// A stream of `member` has ended.
    pub(super) fn leave(&mut self, name: &ChannelName, member: &Arc<str>, now: Instant) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        let grace = channel.settings.grace;
        let Some(known) = channel.members.get_mut(member) else { return };
        known.streams = known.streams.saturating_sub(1);
        if known.streams > 0 {
            return self.note(name, member);
        }
        known.leaves_at = now + grace;
        if !std::mem::replace(&mut known.is_in_grace, true) {
            self.graces.insert((known.leaves_at, name.clone(), Arc::clone(member)));
        }
    }

    /// Removes the members whose grace is over.
    pub(super) fn end_graces(&mut self, now: Instant) {
        while self.graces.first().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, name, id)) = self.graces.pop_first() else { return };
            let channel = self.channels.get_mut(&name);
            let Some(member) = channel.and_then(|channel| channel.members.get_mut(&id)) else {
                continue;
            };
            if member.streams > 0 {
                member.is_in_grace = false;
            } else if member.leaves_at > now {
                self.graces.insert((member.leaves_at, name, id));
            } else {
                (member.is_in_grace, member.is_gone) = (false, true);
                self.note(&name, &id);
            }
        }
    }

    /// When there are changes for the store: `None`: never; the inner `None`: now.
    pub(super) fn wakes_at(&self) -> Option<Option<Instant>> {
        if !self.changed.is_empty() || self.has_new_routes {
            return Some(None);
        }
        let grace = self.graces.first().map(|(at, ..)| *at);
        let renewal = self.renewals.front().map(|(at, _)| *at);
        grace.into_iter().chain(renewal).min().map(Some)
    }

    /// From now on leases are renewed, since the store forgets those that are not.
    pub(super) fn renew(&mut self) {
        self.renews = true;
    }

    /// Whether it has no channel.
    pub(super) fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// The members of all channels.
    pub(super) fn members(&self) -> usize {
        self.members
    }

    /// Takes changes for the store, for at most `most` channels and members together.
    pub(super) fn take(&mut self, most: usize, now: Instant) -> Vec<ChannelChange> {
        let (mut left, mut changes) = (most, Vec::new());
        self.has_new_routes = false;
        while left > 0
            && let Some(name) = self.changed.pop_front()
        {
            if let Some(change) = self.take_channel(&name, left) {
                left = left.saturating_sub(1 + change.members.len());
                changes.push(change);
            }
        }
        while left > 0 && self.renewals.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, name)) = self.renewals.pop_front() else { break };
            let Some(channel) = self.channels.get_mut(&name) else { continue };
            channel.is_renewed = false;
            if channel.is_known {
                left -= 1;
                changes.push(channel.change(&name, Vec::new()));
                self.note_refused(&name);
            }
        }
        changes
    }

    fn take_channel(&mut self, name: &ChannelName, most: usize) -> Option<ChannelChange> {
        let channel = self.channels.get_mut(name)?;
        channel.is_changed = false;
        let mut members = Vec::new();
        while members.len() < most.min(MAX_MEMBERS)
            && let Some(id) = channel.changed.pop_front()
        {
            let Some(member) = channel.members.get_mut(&id) else { continue };
            member.is_changed = false;
            match member.news() {
                Some(streams) => {
                    // Until the store has confirmed the change.
                    member.is_unsure = true;
                    members.push(MemberChange { id, streams, since: member.since });
                }
                // The store never had the member.
                None if member.is_gone => {
                    channel.members.remove(&id);
                    self.members -= 1;
                }
                None => {}
            }
        }
        if !channel.changed.is_empty() {
            channel.is_changed = true;
            self.changed.push_back(name.clone());
        }
        if channel.members.is_empty() && !channel.is_known {
            self.channels.remove(name);
            return None;
        }
        let is_news = !members.is_empty() || channel.members.is_empty() || !channel.is_known;
        is_news.then(|| channel.change(name, members))
    }

    /// Records the result of a change at the store.
    pub(super) fn settle(&mut self, change: &ChannelChange, outcome: &ChangeOutcome, now: Instant) {
        let Some(channel) = self.channels.get_mut(&change.name) else { return };
        let refused = match outcome {
            ChangeOutcome::Known(refused) => refused,
            ChangeOutcome::Lost => return self.say_again(&change.name),
        };
        channel.is_known = change.lease != LeaseChange::Ended;
        channel.has_refused |= !refused.is_empty();
        let mut changed = Vec::new();
        for (place, MemberChange { id, streams, .. }) in change.members.iter().enumerate() {
            let Some(member) = channel.members.get_mut(id) else { continue };
            member.told = streams.filter(|_| !refused.contains(&place));
            member.is_unsure = false;
            if streams.is_none() && member.is_gone {
                channel.members.remove(id);
                self.members -= 1;
            } else if member.news().is_some() && !refused.contains(&place) {
                // The member has changed again meanwhile.
                changed.push(Arc::clone(id));
            }
        }
        let (is_empty, is_known) = (channel.members.is_empty(), channel.is_known);
        if is_empty && !is_known {
            self.channels.remove(&change.name);
        } else if is_empty {
            self.note_channel(&change.name);
        } else if is_known && self.renews && !std::mem::replace(&mut channel.is_renewed, true) {
            self.renewals.push_back((now + RENEWAL, change.name.clone()));
        }
        changed.iter().for_each(|id| self.note(&change.name, id));
    }

    /// Writes everything to the store again: it is not certain what the store has.
    pub(super) fn begin_anew(&mut self) {
        let names: Vec<ChannelName> = self.channels.keys().cloned().collect();
        names.iter().for_each(|name| self.say_again(name));
    }

    fn say_again(&mut self, name: &ChannelName) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        channel.is_known = false;
        let mut ids = Vec::with_capacity(channel.members.len());
        for (id, member) in &mut channel.members {
            member.is_unsure |= member.told.take().is_some();
            if !member.is_gone || member.is_unsure {
                ids.push(Arc::clone(id));
            }
        }
        ids.iter().for_each(|id| self.note(name, id));
        self.note_channel(name);
    }

    /// Writes members for which there was no room to the store again.
    fn note_refused(&mut self, name: &ChannelName) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        if !std::mem::take(&mut channel.has_refused) {
            return;
        }
        let unknown = channel.members.iter().filter(|(_, member)| member.told.is_none());
        let ids: Vec<_> = unknown.map(|(id, _)| Arc::clone(id)).take(MAX_MEMBERS).collect();
        ids.iter().for_each(|id| self.note(name, id));
    }

    /// Queues a member with a change for the store.
    fn note(&mut self, name: &ChannelName, id: &Arc<str>) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        let Some(member) = channel.members.get_mut(id) else { return };
        let is_news = member.news().is_some() || member.is_gone;
        if is_news && !std::mem::replace(&mut member.is_changed, true) {
            channel.changed.push_back(Arc::clone(id));
            self.note_channel(name);
        }
    }

    fn note_channel(&mut self, name: &ChannelName) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        if !std::mem::replace(&mut channel.is_changed, true) {
            self.changed.push_back(name.clone());
        }
    }
}

impl PresentChannel {
    fn take_settings(&mut self, route: &WatchedRoute) {
        self.settings = Arc::clone(&route.settings);
        self.prefix_bytes = route.prefix_bytes;
    }

    fn change(&self, name: &ChannelName, members: Vec<MemberChange>) -> ChannelChange {
        let leaves = |change: &MemberChange| change.streams.is_none();
        let gone = members.iter().filter(|member| leaves(member)).count();
        ChannelChange {
            name: name.clone(),
            prefix_bytes: self.prefix_bytes,
            settings: Arc::clone(&self.settings),
            is_beginning: !self.is_known,
            lease: match gone == self.members.len() {
                true => LeaseChange::Ended,
                false => LeaseChange::Renewed,
            },
            members,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ssegate_hub::ChannelName;
    use tokio::time::Instant;

    use super::{LocalTable, MAX_MEMBERS, RENEWAL, WatchedRoute, WatchedRoutes};
    use crate::grip::signature::Secret;
    use crate::route::PresenceSettings;
    use crate::source::presence::change::{ChangeOutcome, ChannelChange, LeaseChange};
    use crate::webhook::Webhook;

    const GRACE: Duration = Duration::from_secs(5);

    struct Desk {
        table: LocalTable,
        settings: Arc<PresenceSettings>,
        name: ChannelName,
        now: Instant,
    }

    impl Desk {
        fn new() -> Self {
            let settings =
                Arc::new(PresenceSettings { grace: GRACE, ..PresenceSettings::default() });
            let name = ChannelName::new("news").expect("a name");
            let mut table = LocalTable::default();
            table.renew();
            Self { table, settings, name, now: Instant::now() }
        }

        fn join(&mut self, id: &str) {
            let settings = Arc::clone(&self.settings);
            let route = WatchedRoute { settings, prefix_bytes: 0 };
            self.table.join(&self.name, &id.into(), (&"/news".into(), &route), self.now);
        }

        fn leave(&mut self, id: &str) {
            self.table.leave(&self.name, &id.into(), self.now);
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.table.end_graces(self.now);
        }

        fn take(&mut self) -> Vec<ChannelChange> {
            self.table.take(1000, self.now)
        }

        /// Takes what the store has to write, and settles it: `+` where a channel begins, `-` where it ends.
        fn settle(&mut self) -> String {
            let changes = self.take();
            for change in &changes {
                self.table.settle(change, &ChangeOutcome::Known(Vec::new()), self.now);
            }
            shown(&changes)
        }
    }

    fn shown(changes: &[ChannelChange]) -> String {
        let one = |change: &ChannelChange| {
            let mut members: Vec<String> = change
                .members
                .iter()
                .map(|member| match member.streams {
                    Some(streams) => format!(" {}={streams}", member.id),
                    None => format!(" {}=gone", member.id),
                })
                .collect();
            members.sort();
            let begins = if change.is_beginning { "+" } else { "" };
            let ends = if change.lease == LeaseChange::Ended { "-" } else { "" };
            format!("{begins}{}{ends}{}", change.name, members.concat())
        };
        changes.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn five_streams_of_a_listener_are_one_that_comes_once_and_goes_once() {
        let mut desk = Desk::new();
        for _ in 0..5 {
            desk.join("a");
        }
        assert_eq!(desk.settle(), "+news a=5");
        for _ in 0..4 {
            desk.leave("a");
        }
        assert_eq!(desk.settle(), "news a=1");
        desk.leave("a");
        assert_eq!(desk.settle(), "", "it may come back");
        desk.pass(GRACE - Duration::from_millis(1));
        assert_eq!(desk.settle(), "");
        desk.pass(Duration::from_millis(1));
        assert_eq!(desk.settle(), "news- a=gone");
        assert!(desk.table.is_empty() && desk.table.members() == 0);
        desk.pass(RENEWAL);
        assert_eq!((desk.settle().as_str(), desk.table.wakes_at()), ("", None));
    }

    #[test]
    fn who_reconnects_within_the_grace_costs_nothing() {
        let mut desk = Desk::new();
        desk.join("a");
        assert_eq!(desk.settle(), "+news a=1");
        for _ in 0..10 {
            desk.leave("a");
            desk.pass(Duration::from_secs(1));
            desk.join("a");
            desk.pass(Duration::from_secs(1));
            assert!(matches!(desk.settle().as_str(), "" | "news"), "at most a renewal");
        }
        desk.leave("a");
        desk.pass(Duration::from_secs(4));
        assert!(!desk.settle().contains('a'));
        desk.pass(GRACE);
        assert_eq!(desk.settle(), "news- a=gone");
    }

    #[test]
    fn who_comes_and_goes_before_the_store_is_told_was_never_there() {
        let mut desk = Desk::new();
        desk.join("a");
        desk.leave("a");
        desk.pass(GRACE);
        assert_eq!(desk.settle(), "");
        assert!(desk.table.is_empty() && desk.table.members() == 0);
    }

    #[test]
    fn who_comes_back_while_the_store_is_told_that_it_left_is_told_again() {
        let mut desk = Desk::new();
        desk.join("a");
        desk.settle();
        desk.leave("a");
        desk.pass(GRACE);
        let leaving = desk.take();
        assert_eq!(shown(&leaving), "news- a=gone");
        desk.join("a");
        desk.table.settle(&leaving[0], &ChangeOutcome::Known(Vec::new()), desk.now);
        assert_eq!(desk.settle(), "+news a=1");
    }

    #[test]
    fn a_lease_is_renewed_and_what_the_store_has_lost_is_said_again() {
        let mut desk = Desk::new();
        desk.join("a");
        desk.join("b");
        assert_eq!(desk.settle(), "+news a=1 b=1");
        desk.pass(RENEWAL - Duration::from_millis(1));
        assert_eq!(desk.settle(), "");
        assert_eq!(desk.table.wakes_at(), Some(Some(desk.now + Duration::from_millis(1))));
        desk.pass(Duration::from_millis(1));
        let renewal = desk.take();
        assert_eq!(shown(&renewal), "news");
        desk.leave("b");
        desk.pass(GRACE);
        desk.table.settle(&renewal[0], &ChangeOutcome::Lost, desk.now);
        assert_eq!(desk.settle(), "+news a=1 b=gone");
        desk.table.begin_anew();
        assert_eq!(desk.settle(), "+news a=1");
        desk.pass(RENEWAL);
        assert_eq!(desk.settle(), "news", "one renewal");
    }

    #[test]
    fn who_leaves_while_the_store_is_away_is_told_to_have_left() {
        let mut desk = Desk::new();
        desk.join("a");
        desk.settle();
        desk.leave("a");
        // The connection is lost, and there again before and after the grace ends.
        desk.table.begin_anew();
        desk.pass(GRACE);
        desk.table.begin_anew();
        assert_eq!(desk.settle(), "+news- a=gone");
        assert!(desk.table.is_empty());
        // The store may have taken what it did not confirm.
        desk.join("b");
        assert_eq!(shown(&desk.take()), "+news b=1");
        desk.leave("b");
        desk.pass(GRACE);
        desk.table.begin_anew();
        assert_eq!(desk.settle(), "+news- b=gone");
        assert!(desk.table.is_empty());
    }

    #[test]
    fn who_had_no_room_is_tried_again_with_the_renewal() {
        let mut desk = Desk::new();
        desk.join("a");
        let first = desk.take();
        desk.table.settle(&first[0], &ChangeOutcome::Known(vec![0]), desk.now);
        assert_eq!(desk.settle(), "");
        desk.pass(RENEWAL);
        assert_eq!(desk.settle(), "news");
        assert_eq!(desk.settle(), "news a=1");
    }

    /// The route of the desk, which tells with this key.
    fn telling(byte: u8) -> WatchedRoute {
        let key = Secret::new(vec![byte; 32]).expect("long enough");
        let webhook = Webhook { url: "http://a.example/".parse().expect("a URL"), key };
        let on_vacated = Some(Arc::new(webhook));
        let settings = PresenceSettings { grace: GRACE, on_vacated, ..PresenceSettings::default() };
        WatchedRoute { settings: Arc::new(settings), prefix_bytes: 0 }
    }

    #[test]
    fn after_a_reload_the_new_settings_of_the_route_count() {
        let (old, new) = (telling(b'o'), telling(b'n'));
        let routes = |route: Option<&WatchedRoute>| {
            WatchedRoutes::new(route.cloned().map(|route| ("/news".into(), route)).into_iter())
        };
        let mut desk = Desk::new();
        desk.settings = Arc::clone(&old.settings);
        desk.table.change_routes(routes(Some(&old)));
        assert_eq!(desk.table.wakes_at(), Some(None), "somebody else's channels may be due");
        desk.join("a");
        assert_eq!(
            (desk.settle().as_str(), desk.table.wakes_at().flatten().is_some()),
            ("+news a=1", true)
        );
        desk.table.change_routes(routes(Some(&new)));
        let watched = |desk: &Desk| -> Vec<_> {
            desk.table.routes().watched().iter().map(|route| Arc::clone(&route.settings)).collect()
        };
        assert_eq!(watched(&desk), [Arc::clone(&new.settings)], "the new key alone signs");
        desk.leave("a");
        desk.pass(GRACE);
        // A thread that has not heard of the reload.
        desk.join("b");
        let changes = desk.take();
        assert_eq!(shown(&changes), "news a=gone b=1");
        assert_eq!(changes[0].settings, new.settings);
        desk.table.settle(&changes[0], &ChangeOutcome::Known(Vec::new()), desk.now);
        desk.table.change_routes(routes(None));
        assert!(watched(&desk).is_empty(), "nobody asks for what a removed route told");
        desk.leave("b");
        desk.pass(GRACE);
        let changes = desk.take();
        assert_eq!(
            (shown(&changes[..1]).as_str(), &changes[0].settings),
            ("news- b=gone", &new.settings)
        );
    }

    #[test]
    fn a_large_channel_is_told_in_parts() {
        let mut desk = Desk::new();
        for id in 0..=MAX_MEMBERS {
            desk.join(&id.to_string());
        }
        let changes = desk.take();
        let sizes: Vec<usize> = changes.iter().map(|change| change.members.len()).collect();
        assert_eq!(sizes, [MAX_MEMBERS, 1]);
        assert!(changes.iter().all(|change| change.lease == LeaseChange::Renewed));
        for change in &changes {
            desk.table.settle(change, &ChangeOutcome::Known(Vec::new()), desk.now);
        }
        for id in 0..=MAX_MEMBERS {
            desk.leave(&id.to_string());
        }
        desk.pass(GRACE);
        desk.settle();
        assert_eq!(desk.settle(), "news-", "nobody is left");
        assert!(desk.table.is_empty());
    }
}
