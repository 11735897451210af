//! Which servers of the old gateway are those of the new one: names and URLs may have changed between the two. Pure.

use std::collections::BTreeMap;

use ssegate_hub::Snapshot;

use super::Passed;

/// Numbers that the old gateway may still give to messages until it is asked for its histories: those of the new
/// one begin behind them.
const NUMBERS_LEFT: u64 = 1 << 24;

/// The servers of the old gateway, the first one first.
#[derive(Debug)]
pub(super) struct OldServers(Vec<OldServer>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OldServer {
    /// What its histories are asked for by; `None`: it is the first.
    pub(super) name: Option<String>,
    /// Behind which number the new gateway begins there.
    pub(super) begins_after: u64,
    // What it is called, and where it is, if the old gateway has said that.
    known: Option<(String, String)>,
}

/// What the old gateway has of a server of the new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OldMatch {
    /// It is at the same URL, perhaps by another name; or the old gateway does not say where its servers are.
    Same(OldServer),
    /// A server of this name is at another URL: the same one all the same, or another.
    Moved(OldServer),
    /// Nothing.
    Missing,
}

impl OldServers {
    /// Those that came with the sockets. `None`: no gateway gives such numbers.
    pub(super) fn new(passed: &Passed) -> Option<Self> {
        let Passed { newest, further, servers, .. } = passed;
        let behind = |newest: u64| {
            (newest <= Snapshot::MAX_NUMBER).then(|| newest.saturating_add(NUMBERS_LEFT))
        };
        let known = |name: &String| Some((name.clone(), servers.get(name)?.clone()));
        // The first one is that which is not among the further ones.
        let first = servers.keys().find(|name| !further.contains_key(*name));
        let begins_after = behind(*newest)?;
        let mut all = vec![OldServer { name: None, begins_after, known: first.and_then(known) }];
        for (name, newest) in further {
            let begins_after = behind(*newest)?;
            all.push(OldServer { name: Some(name.clone()), begins_after, known: known(name) });
        }
        Some(Self(all))
    }

    /// Finds a server of the new gateway, its `index` among those, its name and its place.
    pub(super) fn find(&self, index: usize, (name, place): (&str, &str)) -> OldMatch {
        let is_here = |old: &&OldServer| old.known.as_ref().is_some_and(|known| known.1 == place);
        let is_called_so = |old: &&OldServer| match &old.known {
            Some((known, _)) => known == name,
            None if index == 0 => old.name.is_none(),
            None => old.name.as_deref() == Some(name),
        };
        let called_so = self.0.iter().find(is_called_so);
        let same = called_so.filter(|old| old.known.is_none() || is_here(old));
        match (same.or_else(|| self.0.iter().find(is_here)), called_so) {
            (Some(same), _) => OldMatch::Same(same.clone()),
            (None, Some(moved)) => OldMatch::Moved(moved.clone()),
            (None, None) => OldMatch::Missing,
        }
    }
}

/// The places of servers by their names, as they are passed on.
pub(super) fn places<'a>(
    servers: impl Iterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, String> {
    servers.map(|(name, place)| (name.to_owned(), place.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::{NUMBERS_LEFT, OldMatch, OldServers};
    use crate::gateway::takeover::Passed;

    fn old(further: &[(&str, u64)], servers: &[(&str, &str)]) -> OldServers {
        let further = further.iter().map(|(name, newest)| ((*name).to_owned(), *newest));
        let servers = super::places(servers.iter().copied());
        let passed =
            Passed { addresses: Vec::new(), newest: 1, further: further.collect(), servers };
        OldServers::new(&passed).expect("numbers")
    }

    /// What it is found as, by which name, and where numbers begin.
    fn found(servers: &OldServers, index: usize, own: (&str, &str)) -> (&'static str, u64) {
        let at = |begins_after| begins_after - NUMBERS_LEFT;
        match servers.find(index, own) {
            OldMatch::Same(old) => ("same", at(old.begins_after)),
            OldMatch::Moved(old) => ("moved", at(old.begins_after)),
            OldMatch::Missing => ("missing", 0),
        }
    }

    #[test]
    fn a_server_is_found_by_its_place_and_one_that_has_another_is_told_of() {
        let servers =
            old(&[("orders", 5), ("chat", 7)], &[("url", "A"), ("orders", "B"), ("chat", "C")]);
        assert_eq!(found(&servers, 0, ("url", "A")), ("same", 1));
        assert_eq!(found(&servers, 1, ("orders", "B")), ("same", 5));
        assert_eq!(found(&servers, 1, ("shop", "B")), ("same", 5), "it has another name");
        assert_eq!(found(&servers, 1, ("orders", "D")), ("moved", 5));
        assert_eq!(found(&servers, 0, ("url", "D")), ("moved", 1));
        assert_eq!(found(&servers, 2, ("new", "D")), ("missing", 0));
        // The list has another order.
        let servers = old(&[("shard1", 5)], &[("shard0", "A"), ("shard1", "B")]);
        assert_eq!(found(&servers, 0, ("shard0", "B")), ("same", 5));
        assert_eq!(found(&servers, 1, ("shard1", "A")), ("same", 1));
    }

    #[test]
    fn an_old_gateway_that_does_not_say_where_its_servers_are_is_believed_by_their_names() {
        let servers = old(&[("orders", 5)], &[]);
        assert_eq!(found(&servers, 0, ("url", "A")), ("same", 1));
        assert_eq!(found(&servers, 1, ("orders", "B")), ("same", 5));
        assert_eq!(found(&servers, 1, ("chat", "B")), ("missing", 0));
    }
}
