//! The gateways at a server whose settings differ from this one's, where all must be the same. Pure: time is passed in.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::source::alike::{AlikeDifference, AlikeSettings};

/// How often a gateway publishes its settings in the first minute in which it knows a gateway with different ones.
const FIRST_INTERVAL: Duration = Duration::from_secs(2);
/// How often at most later: each of many gateways receives what all of them publish.
const MAX_INTERVAL: Duration = Duration::from_secs(20);
/// From the first minute on, the interval is the time since a gateway with different settings was found, divided by
/// this. It grows slowly, so that the others can tell a longer interval from silence.
const STRETCH: u32 = 30;
/// The shortest silence after which a gateway has ended.
const MIN_SILENCE: Duration = Duration::from_secs(7);
/// Gateways that are remembered, at most.
const MAX_PEERS: usize = 1000;

/// Gateways with other settings, by their runs.
///
/// Silence is measured by what arrives: each message with settings, also of this gateway itself, proves that Redis
/// delivered. While Redis is away, nobody has ended.
#[derive(Debug, Default)]
pub(super) struct AlikePeers {
    known: BTreeMap<String, AlikePeer>,
    // When the last gateway with different settings was found.
    found: Option<Instant>,
    // When the last message of this gateway itself arrived.
    own: Option<Instant>,
    // When the last message with settings arrived, and for how long Redis has delivered up to then.
    last: Option<Instant>,
    delivered: Duration,
}

#[derive(Debug)]
struct AlikePeer {
    settings: AlikeSettings,
    // The value of `delivered` at its last message, and the time between its last two.
    received_at: Duration,
    interval: Duration,
}

impl AlikePeers {
    /// Records the settings that a gateway has published. Returns whether it is a new gateway that differs from this
    /// one.
    pub(super) fn receive(
        &mut self,
        (run, settings): (String, AlikeSettings),
        own: &AlikeSettings,
        now: Instant,
    ) -> bool {
        self.note_delivery(now);
        if own.differences(&settings).is_empty() {
            self.known.remove(&run);
            return false;
        }
        let received_at = self.delivered;
        if let Some(peer) = self.known.get_mut(&run) {
            let interval = received_at.saturating_sub(peer.received_at);
            *peer = AlikePeer { settings, received_at, interval };
            return false;
        }
        // Gateways that differ publish again and again: one that is left out now is added later.
        if self.known.len() >= MAX_PEERS {
            return false;
        }
        self.known.insert(run, AlikePeer { settings, received_at, interval: FIRST_INTERVAL });
        self.found = Some(now);
        true
    }

    /// Records that settings that this gateway has published have arrived.
    pub(super) fn receive_own(&mut self, now: Instant) {
        self.note_delivery(now);
        let is_back = self
            .own
            .replace(now)
            .is_none_or(|last| now.duration_since(last) >= longest_silence(self.interval(last)));
        if is_back {
            // The others may have forgotten this gateway, and expect it to publish as one that is new.
            self.found = Some(now);
        }
    }

    fn note_delivery(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            // This gateway publishes at these intervals. If nothing arrived for longer, Redis did not deliver all of
            // the time.
            let most = self.interval(last) + FIRST_INTERVAL / 2;
            self.delivered += now.duration_since(last).min(most);
        }
    }

    /// How often to publish the settings while any gateway differs.
    pub(super) fn interval(&self, now: Instant) -> Duration {
        let since = self.found.map_or(Duration::ZERO, |found| now.duration_since(found));
        (since / STRETCH).clamp(FIRST_INTERVAL, MAX_INTERVAL)
    }

    /// The settings that differ from this gateway's, each once. Forgets gateways that agree now or have ended.
    pub(super) fn differences(&mut self, own: &AlikeSettings) -> Vec<AlikeDifference> {
        let mut all: Vec<AlikeDifference> = Vec::new();
        let delivered = self.delivered;
        self.known.retain(|_, peer| {
            let differences = own.differences(&peer.settings);
            let silence = delivered.saturating_sub(peer.received_at);
            let is_kept = !differences.is_empty() && silence < longest_silence(peer.interval);
            for difference in differences.into_iter().filter(|_| is_kept) {
                if !all.iter().any(|known| known.setting == difference.setting) {
                    all.push(difference);
                }
            }
            is_kept
        });
        all
    }
}

/// The silence after which a gateway that publishes at this interval has ended. One lost message is not enough.
fn longest_silence(interval: Duration) -> Duration {
    (interval.min(MAX_INTERVAL) * 5 / 2).max(MIN_SILENCE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{AlikePeers, FIRST_INTERVAL, MAX_INTERVAL, MAX_PEERS};
    use crate::source::alike::AlikeSettings;

    fn settings(keep: &[(&str, &str)]) -> AlikeSettings {
        let keep: Vec<_> = keep.iter().map(|(at, told)| format!("{at:?}:{told:?}")).collect();
        let text = format!("{{\"alike\":{{\"keep\":{{{}}}}}}}", keep.join(","));
        AlikeSettings::parse(text.as_bytes()).expect("a message").1
    }

    fn names(peers: &mut AlikePeers, own: &AlikeSettings) -> Vec<String> {
        peers.differences(own).into_iter().map(|it| it.setting).collect()
    }

    #[test]
    fn a_difference_ends_when_the_other_agrees_or_has_ended_or_this_one_has_changed() {
        let (own, now) = (settings(&[("/a", "1"), ("/b", "1")]), Instant::now());
        let mut peers = AlikePeers::default();
        let other = || settings(&[("/a", "2"), ("/b", "1")]);
        assert!(!peers.receive(("x".into(), own.clone()), &own, now));
        assert!(peers.receive(("x".into(), other()), &own, now));
        assert!(!peers.receive(("x".into(), other()), &own, now), "it is known");
        assert!(peers.receive(("y".into(), other()), &own, now));
        assert_eq!(names(&mut peers, &own), ["keep of /a"]);
        // One gateway is corrected.
        peers.receive(("x".into(), own.clone()), &own, now + FIRST_INTERVAL);
        assert_eq!(names(&mut peers, &own), ["keep of /a"]);
        // The other one is killed, and messages of this one arrive.
        (2..4).for_each(|at| peers.receive_own(now + FIRST_INTERVAL * at));
        assert_eq!(names(&mut peers, &own), ["keep of /a"]);
        peers.receive_own(now + FIRST_INTERVAL * 4);
        assert_eq!(names(&mut peers, &own), [""; 0]);
        // This one is corrected.
        peers.receive(("x".into(), other()), &own, now + FIRST_INTERVAL * 4);
        assert_eq!(names(&mut peers, &other()), [""; 0]);
        assert_eq!(names(&mut peers, &own), [""; 0], "it tells what it has, and is answered");
    }

    #[test]
    fn nobody_has_ended_while_redis_delivers_nothing() {
        let (own, now) = (settings(&[("/a", "1")]), Instant::now());
        let mut peers = AlikePeers::default();
        peers.receive(("x".into(), settings(&[("/a", "2")])), &own, now);
        // Redis is away for an hour; then the message of this gateway is the first one to arrive.
        let back = now + Duration::from_secs(3600);
        peers.receive_own(back);
        peers.receive_own(back + FIRST_INTERVAL);
        assert_eq!(names(&mut peers, &own), ["keep of /a"]);
        assert_eq!(peers.interval(back), FIRST_INTERVAL, "others may have forgotten this one");
        (2..60).for_each(|at| peers.receive_own(back + FIRST_INTERVAL * at));
        assert_eq!(names(&mut peers, &own), [""; 0], "it did not come back");
    }

    #[test]
    fn what_differs_for_long_is_published_less_often_and_nobody_seems_to_have_ended() {
        let (own, start) = (settings(&[("/a", "1")]), Instant::now());
        let mut peers = AlikePeers::default();
        let other = || settings(&[("/a", "2")]);
        peers.receive(("x".into(), other()), &own, start);
        let (mut now, mut messages) = (start, 0);
        while now < start + Duration::from_secs(3600) {
            now += peers.interval(now);
            peers.receive_own(now);
            assert_eq!(names(&mut peers, &own), ["keep of /a"], "after {:?}", now - start);
            peers.receive(("x".into(), other()), &own, now + FIRST_INTERVAL / 4);
            messages += 1;
        }
        assert!((180..300).contains(&messages), "{messages}");
        assert_eq!(peers.interval(start + Duration::from_secs(59)), FIRST_INTERVAL);
        assert_eq!(peers.interval(now), MAX_INTERVAL);
        assert!(peers.receive(("y".into(), other()), &own, now));
        assert_eq!(peers.interval(now), FIRST_INTERVAL, "the new one is told soon");
    }

    #[test]
    fn the_gateways_that_are_remembered_are_bounded() {
        let (own, now) = (settings(&[("/a", "1")]), Instant::now());
        let mut peers = AlikePeers::default();
        for run in 0..2 * MAX_PEERS {
            let is_new = peers.receive((run.to_string(), settings(&[("/a", "2")])), &own, now);
            assert_eq!(is_new, run < MAX_PEERS, "{run}");
        }
        assert_eq!(peers.known.len(), MAX_PEERS);
    }
}
