//! The gateways at a server whose settings differ from this one's, where all must be the same. Pure: time is passed in.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::source::alike::{AlikeDifference, AlikeSettings};

/// How often a gateway publishes its settings while it knows a gateway with different ones.
pub(super) const AGAIN: Duration = Duration::from_secs(2);
/// A gateway that has not published them again for this long has ended.
const SILENT: Duration = Duration::from_secs(7);
/// Gateways that are remembered, at most.
const MAX_PEERS: usize = 1000;

/// Gateways with other settings, by their runs, and when each last published them.
#[derive(Debug, Default)]
pub(super) struct AlikePeers(BTreeMap<String, (AlikeSettings, Instant)>);

impl AlikePeers {
    /// Records the settings that a gateway has published. Returns whether it is a new gateway that differs from this
    /// one.
    pub(super) fn hear(
        &mut self,
        (run, settings): (String, AlikeSettings),
        own: &AlikeSettings,
        now: Instant,
    ) -> bool {
        if own.differences(&settings).is_empty() {
            self.0.remove(&run);
            return false;
        }
        let is_new = !self.0.contains_key(&run);
        // Gateways that differ publish again and again: one that is left out now is added later.
        if !is_new || self.0.len() < MAX_PEERS {
            self.0.insert(run, (settings, now));
        }
        is_new
    }

    /// The settings that differ from this gateway's, each once.
    pub(super) fn differences(
        &mut self,
        own: &AlikeSettings,
        now: Instant,
    ) -> Vec<AlikeDifference> {
        let mut all: Vec<AlikeDifference> = Vec::new();
        self.0.retain(|_, (settings, told)| {
            let differences = own.differences(settings);
            let is_kept = !differences.is_empty() && now.duration_since(*told) < SILENT;
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

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::{AGAIN, AlikePeers, MAX_PEERS, SILENT};
    use crate::source::alike::AlikeSettings;

    fn settings(keep: &[(&str, &str)]) -> AlikeSettings {
        let keep: Vec<_> = keep.iter().map(|(at, told)| format!("{at:?}:{told:?}")).collect();
        let text = format!("{{\"alike\":{{\"keep\":{{{}}}}}}}", keep.join(","));
        AlikeSettings::parse(text.as_bytes()).expect("a message").1
    }

    fn names(peers: &mut AlikePeers, own: &AlikeSettings, now: Instant) -> Vec<String> {
        peers.differences(own, now).into_iter().map(|it| it.setting).collect()
    }

    #[test]
    fn a_difference_ends_when_the_other_agrees_or_has_ended_or_this_one_has_changed() {
        let (own, now) = (settings(&[("/a", "1"), ("/b", "1")]), Instant::now());
        let mut peers = AlikePeers::default();
        let other = || settings(&[("/a", "2"), ("/b", "1")]);
        assert!(!peers.hear(("x".into(), own.clone()), &own, now));
        assert!(peers.hear(("x".into(), other()), &own, now));
        assert!(!peers.hear(("x".into(), other()), &own, now), "it is known");
        assert!(peers.hear(("y".into(), other()), &own, now));
        assert_eq!(names(&mut peers, &own, now), ["keep of /a"]);
        // One gateway is corrected.
        peers.hear(("x".into(), own.clone()), &own, now + AGAIN);
        assert_eq!(names(&mut peers, &own, now + AGAIN), ["keep of /a"]);
        // The other one is killed.
        assert_eq!(names(&mut peers, &own, now + SILENT), [""; 0]);
        // This one is corrected.
        peers.hear(("x".into(), other()), &own, now);
        assert_eq!(names(&mut peers, &other(), now), [""; 0]);
        assert_eq!(names(&mut peers, &own, now), [""; 0], "it tells what it has, and is answered");
    }

    #[test]
    fn the_gateways_that_are_remembered_are_bounded() {
        let (own, now) = (settings(&[("/a", "1")]), Instant::now());
        let mut peers = AlikePeers::default();
        for run in 0..2 * MAX_PEERS {
            peers.hear((run.to_string(), settings(&[("/a", "2")])), &own, now);
        }
        assert_eq!(peers.0.len(), MAX_PEERS);
    }
}
