//! Weighs the replies of the sentinels: which servers may be the master, the most likely first. Pure.

use redis::ConnectionAddr;
use tokio::time::Instant;

use super::NamedMaster;
use crate::source::redis::error::SourceError;

/// The reply of one sentinel: an address, and the version of its configuration. `None`: it does not know the master.
pub(super) type SentinelReply = Result<Option<(ConnectionAddr, u64)>, SourceError>;

/// Servers that are tried one after the other, at most.
const MAX_CANDIDATES: usize = 3;

/// The replies of all sentinels, in their order; `None`: the reply did not come in time.
#[derive(Debug)]
pub(super) struct SentinelVote(pub(super) Vec<Option<SentinelReply>>);

/// An address, and the versions of the configurations that name it.
struct NamedAddress<'a> {
    address: &'a ConnectionAddr,
    epochs: Vec<u64>,
}

impl SentinelVote {
    /// Creates the vote of this many sentinels, without replies.
    pub(super) fn new(sentinels: usize) -> Self {
        Self((0..sentinels).map(|_| None).collect())
    }

    /// The servers that are named, in the order in which to try them: first the one that a majority of all sentinels
    /// names; then by the version of their configuration, and by the number of sentinels.
    ///
    /// A majority counts more than a newer version: a single sentinel may be misconfigured or lie, and one that was set
    /// up again counts from 0. Besides the choice of a majority, only a newer configuration is worth trying: the server
    /// of the majority may be dead, and the failover not yet known to all.
    pub(super) fn candidates(&self, asked: Instant) -> Vec<NamedMaster> {
        let needed = self.majority();
        let mut candidates: Vec<(NamedMaster, usize)> = self
            .named()
            .into_iter()
            .map(|NamedAddress { address, mut epochs }| {
                epochs.sort_unstable_by(|one, other| other.cmp(one));
                // For a majority, the version that all of it has reached: a single sentinel may report any number.
                let majority = epochs.get(needed - 1).copied();
                let epoch = majority.unwrap_or(epochs[0]);
                let is_agreed = majority.is_some();
                (NamedMaster { address: address.clone(), epoch, asked, is_agreed }, epochs.len())
            })
            .collect();
        // The sort is stable: of equal ones the first sentinel decides.
        candidates.sort_by(|(one, votes), (other, other_votes)| {
            let key = |master: &NamedMaster, votes| (master.is_agreed, master.epoch, votes);
            key(other, *other_votes).cmp(&key(one, *votes))
        });
        let agreed = candidates.first().filter(|(first, _)| first.is_agreed);
        let least = agreed.map(|(agreed, _)| agreed.epoch);
        let candidates = candidates.into_iter().map(|(candidate, _)| candidate);
        let is_worth_trying = |candidate: &NamedMaster| {
            candidate.is_agreed || least.is_none_or(|least| candidate.epoch > least)
        };
        candidates.filter(is_worth_trying).take(MAX_CANDIDATES).collect()
    }

    /// Whether a majority of all sentinels names the same server.
    pub(super) fn is_decided(&self) -> bool {
        self.named().iter().any(|named| named.epochs.len() >= self.majority())
    }

    fn majority(&self) -> usize {
        self.0.len() / 2 + 1
    }

    fn named(&self) -> Vec<NamedAddress<'_>> {
        let mut all: Vec<NamedAddress<'_>> = Vec::new();
        for (address, epoch) in
            self.0.iter().filter_map(|reply| reply.as_ref()?.as_ref().ok()?.as_ref())
        {
            match all.iter_mut().find(|named| named.address == address) {
                Some(named) => named.epochs.push(*epoch),
                None => all.push(NamedAddress { address, epochs: vec![*epoch] }),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use redis::ConnectionAddr;
    use tokio::time::Instant;

    use super::SentinelVote;

    /// The ports of the candidates in their order, and whether a majority names the first one.
    fn candidates(replies: &[Option<(u16, u64)>]) -> (Vec<u16>, bool) {
        let at = |port| ConnectionAddr::Tcp("10.0.0.1".to_owned(), port);
        let named = |&(port, epoch): &(u16, u64)| Ok(Some((at(port), epoch)));
        let vote = SentinelVote(replies.iter().map(|reply| reply.as_ref().map(named)).collect());
        let candidates = vote.candidates(Instant::now());
        let is_agreed = candidates.first().is_some_and(|first| first.is_agreed);
        assert_eq!(is_agreed, vote.is_decided(), "{replies:?}");
        let port = |address: &ConnectionAddr| match address {
            ConnectionAddr::Tcp(_, port) => *port,
            other => panic!("{other}"),
        };
        (candidates.iter().map(|candidate| port(&candidate.address)).collect(), is_agreed)
    }

    #[test]
    fn a_majority_counts_most_then_the_newest_configuration_then_most_then_the_first() {
        for (replies, expected) in [
            (&[][..], (vec![], false)),
            (&[None, None, None], (vec![], false)),
            (&[Some((1, 0))], (vec![1], true)),
            (&[Some((1, 0)), Some((2, 0)), Some((2, 0))], (vec![2], true)),
            (&[Some((2, 0)), Some((1, 0))], (vec![2, 1], false)),
            (&[Some((2, 0)), Some((1, 1))], (vec![1, 2], false)),
            // A failover of which two have not been told, or a liar.
            (&[Some((1, 3)), Some((1, 3)), Some((2, 4))], (vec![1, 2], true)),
            // Two that were set up anew, and one that cannot reply.
            (&[Some((1, 0)), Some((1, 0)), None], (vec![1], true)),
            (&[Some((1, 5)), None, None], (vec![1], false)),
            // One that is behind is not worth trying.
            (&[Some((1, 5)), Some((1, 5)), Some((2, 4))], (vec![1], true)),
            // Nor is a version that only one of a majority has reached a reason to distrust the rest.
            (&[Some((1, u64::MAX)), Some((1, 3)), Some((2, 4))], (vec![1, 2], true)),
            (&[Some((1, 1)), Some((2, 2)), Some((3, 3)), Some((4, 4))], (vec![4, 3, 2], false)),
        ] {
            assert_eq!(candidates(replies), expected, "{replies:?}");
        }
    }
}
