//! Which server the channels of a route are at, where there are several.

use std::sync::Arc;

use super::jump_hash::jump_hash;

/// Where the channels of a route are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ServerChoice {
    /// At the server of `redis.url`.
    #[default]
    First,
    /// At this one of `redis.named`.
    Named(Arc<str>),
    /// Each at one of `redis.shards`, by its name in Redis.
    ByName,
}

/// The servers that the gateway reads from, the first one first. A cheap handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerList {
    names: Arc<[Arc<str>]>,
    divides_names: bool,
}

impl ServerList {
    /// What the server of `redis.url` is called beside named ones.
    pub const FIRST: &str = "url";

    /// The server of `redis.url` and those of `redis.named`.
    pub fn named(names: impl Iterator<Item = Arc<str>>) -> Self {
        let names = [Arc::from(Self::FIRST)].into_iter().chain(names).collect();
        Self { names, divides_names: false }
    }

    /// The number of servers in `redis.shards`.
    pub fn shards(count: usize) -> Self {
        let names = (0..count).map(|index| Self::shard_name(index).into()).collect();
        Self { names, divides_names: true }
    }

    /// What a server of `redis.shards` is called.
    pub fn shard_name(index: usize) -> String {
        format!("shard{index}")
    }

    /// The key of gateway.yaml that has the URL of a server.
    pub fn key(&self, index: usize) -> String {
        match self.names.get(index) {
            Some(_) if self.divides_names => format!("redis.shards[{index}]"),
            Some(name) if index > 0 => format!("redis.named.{name}"),
            _ => "redis.url".to_owned(),
        }
    }

    /// Whether channels are divided among them by their names.
    pub fn divides_names(&self) -> bool {
        self.divides_names
    }

    /// The number of servers: one or more.
    pub fn count(&self) -> usize {
        self.names.len()
    }

    /// The names, in order. The name of a single server is never shown.
    pub fn names(&self) -> &[Arc<str>] {
        &self.names
    }

    /// The server of a channel, or of the key of a stream; `None`: there is no such server.
    pub fn server_of(&self, choice: &ServerChoice, channel: &str) -> Option<usize> {
        match choice {
            ServerChoice::First => Some(0),
            ServerChoice::Named(name) => self.names.iter().position(|known| known == name),
            ServerChoice::ByName if self.divides_names => {
                Some(jump_hash(channel.as_bytes(), self.count()))
            }
            ServerChoice::ByName => None,
        }
    }

    /// The server of a channel that no route has.
    pub fn server_of_unknown(&self, channel: &str) -> usize {
        match self.divides_names {
            true => jump_hash(channel.as_bytes(), self.count()),
            false => 0,
        }
    }

    /// Whether channels of a route may be at this server.
    pub fn may_be_at(&self, choice: &ServerChoice, server: usize) -> bool {
        match choice {
            ServerChoice::ByName => self.divides_names,
            one => self.server_of(one, "") == Some(server),
        }
    }
}

/// One of the servers. A cheap handle.
#[derive(Clone, Debug)]
pub struct ServerPlace {
    /// All of them.
    pub servers: ServerList,
    /// Which one it is.
    pub index: usize,
}

impl ServerPlace {
    /// Whether channels of a route may be there.
    pub fn may_have(&self, choice: &ServerChoice) -> bool {
        self.servers.may_be_at(choice, self.index)
    }
}

impl Default for ServerList {
    /// One server.
    fn default() -> Self {
        Self::named(std::iter::empty())
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerChoice, ServerList};

    #[test]
    fn a_channel_is_where_its_route_says() {
        let named = ServerList::named(["chat".into(), "orders".into()].into_iter());
        let orders = ServerChoice::Named("orders".into());
        assert_eq!(named.server_of(&ServerChoice::First, "a"), Some(0));
        assert_eq!(named.server_of(&orders, "a"), Some(2));
        assert_eq!(named.server_of(&ServerChoice::Named("gone".into()), "a"), None);
        assert_eq!(named.server_of(&ServerChoice::ByName, "a"), None);
        assert_eq!(named.server_of_unknown("a"), 0);
        assert_eq!([0, 1, 2].map(|server| named.may_be_at(&orders, server)), [false, false, true]);
    }

    #[test]
    fn a_server_has_a_key_in_the_file() {
        let named = ServerList::named(["orders".into()].into_iter());
        assert_eq!([0, 1].map(|index| named.key(index)), ["redis.url", "redis.named.orders"]);
        assert_eq!(ServerList::shards(2).key(0), "redis.shards[0]");
        assert_eq!(ServerList::default().key(0), "redis.url");
    }

    #[test]
    fn of_shards_the_name_decides() {
        let shards = ServerList::shards(3);
        let names: Vec<String> = (0..50).map(|number| format!("c{number}")).collect();
        let used: std::collections::BTreeSet<_> = names
            .iter()
            .map(|name| {
                let server = shards.server_of(&ServerChoice::ByName, name).expect("one of them");
                assert_eq!(shards.server_of_unknown(name), server);
                server
            })
            .collect();
        assert_eq!(used.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
        assert!((0..3).all(|server| shards.may_be_at(&ServerChoice::ByName, server)));
        assert_eq!(&*shards.names()[2], "shard2");
    }
}
