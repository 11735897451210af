//! The state of the sentinels, for the operator: which can be reached, and what they name.

use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::ConnectionAddr;

use super::SentinelAddress;
use super::vote::SentinelVote;
use crate::source::redis::location::ShownAddress;

/// What is known of the sentinels.
#[derive(Debug)]
pub(in super::super) struct SentinelStatus(Mutex<SentinelStates>);

#[derive(Debug)]
struct SentinelStates {
    sentinels: Vec<SentinelRecord>,
    // Servers that sentinels name and that could not be used the last time, with the reason.
    unusable: Vec<(ConnectionAddr, String)>,
    // How many times another server has become the master, since the count was last taken.
    changes: u64,
}

/// What is known of one sentinel.
#[derive(Clone, Debug, Default)]
struct SentinelRecord {
    // Why it cannot be followed.
    not_followed: Option<String>,
    // Its last reply.
    named: Option<Result<ConnectionAddr, String>>,
}

/// The state of one sentinel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum SentinelCondition {
    /// It is followed, and names the master that is used.
    Well,
    /// It cannot be followed.
    Unreachable,
    /// It does not know the master, or its reply is not an address.
    NoMaster,
    /// It names another server than the one that is used.
    OtherMaster,
}

impl SentinelCondition {
    /// The label value of metrics.
    pub(in super::super) fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Unreachable => "unreachable",
            Self::NoMaster => "no_master",
            Self::OtherMaster => "other_master",
        }
    }
}

/// The states of all sentinels, in words.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct SentinelReport {
    /// What is wrong with each sentinel.
    pub(in super::super) problems: Vec<Option<String>>,
    /// How many are in each state.
    pub(in super::super) counts: [(SentinelCondition, usize); 4],
    /// Which server is used and who names it; `Err`: what is wrong, over all sentinels.
    pub(in super::super) summary: Result<String, String>,
}

impl SentinelStatus {
    /// Creates the status of this many sentinels, of which nothing is known yet.
    pub(super) fn new(sentinels: usize) -> Self {
        let sentinels = vec![SentinelRecord::default(); sentinels];
        Self(Mutex::new(SentinelStates { sentinels, unusable: Vec::new(), changes: 0 }))
    }

    /// Records why a sentinel cannot be followed; `None`: it can.
    pub(in super::super) fn set_followed(&self, at: usize, failure: Option<String>) {
        self.lock().sentinels[at].not_followed = failure.map(|failure| one_line(&failure));
    }

    /// Records the replies. A sentinel that was not waited for keeps its previous reply.
    pub(super) fn record_replies(&self, address: &SentinelAddress, vote: &SentinelVote) {
        for (state, reply) in self.lock().sentinels.iter_mut().zip(&vote.0) {
            match reply {
                None => {}
                Some(Ok(Some((named, _)))) => state.named = Some(Ok(named.clone())),
                Some(Ok(None)) => {
                    let unknown = format!("it knows no master {:?}", address.master());
                    state.named = Some(Err(unknown));
                }
                Some(Err(error)) => state.named = Some(Err(one_line(&error.to_string()))),
            }
        }
    }

    /// Records which of the servers that they name could not be used.
    pub(in super::super) fn set_unusable(&self, unusable: Vec<(ConnectionAddr, String)>) {
        let unusable = unusable.into_iter().map(|(address, why)| (address, one_line(&why)));
        self.lock().unusable = unusable.collect();
    }

    /// Records that another server has become the master.
    pub(super) fn record_change(&self) {
        self.lock().changes += 1;
    }

    /// How many times another server has become the master since the last call.
    pub(in super::super) fn take_changes(&self) -> u64 {
        std::mem::take(&mut self.lock().changes)
    }

    /// Describes the states of all sentinels. `master`: the server that is used.
    pub(in super::super) fn report(
        &self,
        address: &SentinelAddress,
        master: Option<&ConnectionAddr>,
    ) -> SentinelReport {
        let states = self.lock();
        let all = states.sentinels.len();
        let [mut lost, mut mute, mut astray] = [const { Vec::new() }; 3];
        let mut problems = Vec::new();
        for (state, at) in states.sentinels.iter().zip(address.sentinels()) {
            let at = ShownAddress(at);
            let problem = match (&state.not_followed, &state.named, master) {
                (Some(why), ..) => {
                    lost.push(format!("{at}: {why}"));
                    Some(why.clone())
                }
                (None, Some(Err(why)), _) => {
                    mute.push(format!("{at}: {why}"));
                    Some(why.clone())
                }
                (None, Some(Ok(named)), Some(master)) if named != master => {
                    let what = states.describe(named);
                    astray.push(format!("{at} names {what}"));
                    Some(format!("it names {what}"))
                }
                _ => None,
            };
            problems.push(problem);
        }
        let is_any_named = states.sentinels.iter().any(|state| matches!(state.named, Some(Ok(_))));
        let effect = match (is_any_named, lost.len() == all) {
            (false, _) => "a failover would go unseen; Redis is used where it was",
            (true, true) => "a failover is seen up to ten seconds late",
            (true, false) => "the others are asked",
        };
        let mut troubles = Vec::new();
        let count = |some: &[String]| format!("{} of {all}", some.len());
        if !lost.is_empty() {
            troubles.push(format!(
                "{} cannot be reached; {effect}: {}",
                count(&lost),
                lost.join(", ")
            ));
        }
        if !mute.is_empty() {
            troubles.push(format!(
                "{} name no master; {effect}: {}",
                count(&mute),
                mute.join(", ")
            ));
        }
        let used = master.map_or_else(|| "none".to_owned(), |at| ShownAddress(at).to_string());
        if !astray.is_empty() {
            let named = astray.join(", ");
            troubles.push(format!("{} name another master than {used}: {named}", count(&astray)));
        }
        let why = master.and_then(|master| states.why_unusable(master));
        troubles.extend(why.map(|why| format!("{used}, which they name, cannot be used: {why}")));
        let well = all - lost.len() - mute.len() - astray.len();
        let counts = [
            (SentinelCondition::Well, well),
            (SentinelCondition::Unreachable, lost.len()),
            (SentinelCondition::NoMaster, mute.len()),
            (SentinelCondition::OtherMaster, astray.len()),
        ];
        let summary = match troubles.is_empty() {
            true => {
                Ok(format!("{} is {used}; {all} of {all} sentinels are followed", address.master()))
            }
            false => Err(troubles.join("; ")),
        };
        SentinelReport { problems, counts, summary }
    }

    fn lock(&self) -> MutexGuard<'_, SentinelStates> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SentinelStates {
    fn why_unusable(&self, server: &ConnectionAddr) -> Option<&str> {
        let found = self.unusable.iter().find(|(address, _)| address == server);
        found.map(|(_, why)| why.as_str())
    }

    /// Describes a server that is not used, with the reason if it is known.
    fn describe(&self, named: &ConnectionAddr) -> String {
        let why = self.why_unusable(named);
        let named = ShownAddress(named);
        match why {
            Some(why) => format!("{named}, which cannot be used: {why}"),
            None => named.to_string(),
        }
    }
}

/// Makes one short line of an error for people: the reply of a sentinel in it may be long, and have several
/// lines.
fn one_line(error: &str) -> String {
    const MOST: usize = 300;
    let mut line: String = error.chars().take(MOST).collect();
    line = line.replace(char::is_control, " ");
    if line.len() < error.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use redis::{ConnectionAddr, RedisConnectionInfo};

    use super::super::SentinelAddress;
    use super::super::vote::SentinelVote;
    use super::SentinelStatus;
    use crate::source::redis::error::SourceError;

    #[test]
    fn each_kind_of_trouble_is_told_with_the_sentinel_that_has_it() {
        let at = |port| ConnectionAddr::Tcp("a".to_owned(), port);
        let address = SentinelAddress::new(
            vec![at(1), at(2), at(3)],
            "m".to_owned(),
            RedisConnectionInfo::default(),
        );
        let address = address.expect("it has sentinels");
        let status = SentinelStatus::new(3);
        let told = || status.report(&address, Some(&at(7)));
        let named = |port| Some(Ok(Some((at(port), 0))));
        status.record_replies(&address, &SentinelVote(vec![named(7), named(7), named(7)]));
        assert_eq!(told().summary, Ok("m is a:7; 3 of 3 sentinels are followed".to_owned()));

        status.record_replies(&address, &SentinelVote(vec![None, Some(Ok(None)), named(8)]));
        status.set_unusable(vec![(at(8), "refused".to_owned())]);
        status.set_followed(0, Some("bad\n[+] redis ok".repeat(99)));
        let problem = told().problems.swap_remove(0).expect("it has one");
        assert!(problem.starts_with("bad [+] redis okbad") && problem.ends_with('…'), "{problem}");
        assert_eq!(problem.chars().count(), 301);
        status.set_followed(0, Some("no reply".to_owned()));
        let report = told();
        assert_eq!(
            report.summary,
            Err("1 of 3 cannot be reached; the others are asked: a:1: no reply; \
                 1 of 3 name no master; the others are asked: a:2: it knows no master \"m\"; \
                 1 of 3 name another master than a:7: a:3 names a:8, which cannot be used: refused"
                .to_owned())
        );
        assert_eq!(report.counts.map(|(_, number)| number), [0, 1, 1, 1]);
        assert_eq!(report.problems[0].as_deref(), Some("no reply"));

        // The one that is used cannot be used any more.
        status.set_followed(0, None);
        status.set_unusable(vec![(at(7), "denied".to_owned())]);
        status.record_replies(&address, &SentinelVote(vec![named(7), named(7), named(7)]));
        assert_eq!(told().summary, Err("a:7, which they name, cannot be used: denied".to_owned()));

        status.set_unusable(Vec::new());
        let unknown = || Some(Err(SourceError::Closed));
        status.record_replies(&address, &SentinelVote(vec![unknown(), unknown(), unknown()]));
        let summary = told().summary.expect_err("none names it");
        assert!(
            summary.starts_with("3 of 3 name no master; a failover would go unseen;"),
            "{summary}"
        );
    }
}
