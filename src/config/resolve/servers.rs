//! Resolves `redis.named` and `redis.shards`: the servers beside the first, and which of them a route has.

use std::collections::BTreeMap;
use std::sync::Arc;

use ssegate_strict_yaml::{At, Field, KeyLocation, quoted, suggestion};

use super::resolver::{FurtherServers, Resolver, SourceOrder};
use super::source::location;
use crate::route::{ServerChoice, ServerList};
use crate::source::fleet::FleetSettings;
use crate::source::redis::RedisLocation;
use crate::source::{FurtherServer, SourceLocation};

/// The most servers: each has connections of its own, and a share of the memory for histories.
const MAX_SERVERS: usize = 32;
/// The longest name of one, which is in logs and metrics.
const MAX_NAME: usize = 32;

impl Resolver<'_> {
    /// Resolves `redis.named`. `first` is the server of `redis.url`.
    pub(super) fn named_servers(
        &mut self,
        field: Field<BTreeMap<String, Field<String>>>,
        first: &SourceLocation,
        fleet: Option<&FleetSettings>,
    ) -> FurtherServers {
        let none = || (Vec::new(), ServerList::default());
        let Some(At { location: at, value }) = field.written() else { return none() };
        if matches!(first, SourceLocation::Embedded(_)) {
            self.note(&at, "is not supported with embedded://; set redis.url to a Redis");
        }
        if value.is_empty() {
            self.note(
                &at,
                "names no server; add one, such as `orders: redis://host`, or remove it",
            );
            return none();
        }
        self.check_number(&at, value.len() + 1);
        let (mut names, mut servers) = (Vec::new(), Vec::new());
        for (name, url) in value {
            let url = url.written();
            let place = url.as_ref().map_or(&at, |url| &url.location);
            if let Err(why) = check_name(&name) {
                self.note(place, why);
            }
            let Some(server) = url.and_then(|url| self.further(&url)) else {
                // Routes may name it: its own mistake is noted.
                self.servers.named.insert(name, SourceOrder::Unused);
                continue;
            };
            let order = SourceOrder::of(&server, fleet);
            self.servers.named.insert(name.clone(), order);
            names.push(Arc::from(name));
            let has_sharded = matches!(order, SourceOrder::Cluster | SourceOrder::Fleet);
            let node_fleet = fleet.filter(|_| has_sharded).cloned();
            let fleet = fleet.filter(|_| order == SourceOrder::Fleet).cloned();
            servers.push(FurtherServer { location: server, fleet, node_fleet });
        }
        (servers, ServerList::named(names.into_iter()))
    }

    /// Resolves `redis.shards`: the first of them, and the others.
    pub(super) fn shards(
        &mut self,
        At { location: at, value }: At<Vec<Field<String>>>,
        fleet: Option<&FleetSettings>,
    ) -> Option<(SourceLocation, FurtherServers)> {
        self.servers.divides_names = true;
        if value.len() < 2 {
            self.note(&at, "has less than two servers; write `url` for one alone");
        }
        self.check_number(&at, value.len());
        let count = value.len();
        let mut servers = Vec::new();
        for url in value.into_iter().filter_map(Field::written) {
            let Some(server) = self.further(&url) else { continue };
            if server.is_cluster() {
                const WHY: &str = "is a Cluster, which divides its channels itself; a shard is one server, or the \
                                   master that sentinels name";
                self.note(&url.location, WHY);
            }
            if servers.iter().any(|known: &RedisLocation| known.is_same(&server)) {
                self.note(&url.location, "is there twice; each shard is another server");
            }
            servers.push(server);
        }
        let mut servers = servers.into_iter();
        let first = SourceLocation::Redis(servers.next()?);
        let further = servers.map(|location| FurtherServer {
            location,
            fleet: fleet.cloned(),
            node_fleet: None,
        });
        Some((first, (further.collect(), ServerList::shards(count))))
    }

    /// Which server a stream has that says `redis: NAME`.
    pub(super) fn server_choice(&self, field: &Field<String>) -> ServerChoice {
        let other = match self.servers.divides_names {
            true => ServerChoice::ByName,
            false => ServerChoice::First,
        };
        let Field::Written(At { location, value }) = field else { return other };
        if self.servers.divides_names {
            const WHY: &str = "is not supported with redis.shards, where the name of each channel decides; remove it";
            self.note(location, WHY);
            return other;
        }
        if !self.servers.named.contains_key(value) {
            let names: Vec<&str> = self.servers.named.keys().map(String::as_str).collect();
            let hint = match (suggestion(value, &names), names.is_empty()) {
                (Some(meant), _) => format!("; did you mean {meant}?"),
                (None, true) => "; add it under redis.named".to_owned(),
                (None, false) => format!("; redis.named has {}", names.join(", ")),
            };
            self.note(location, format!("there is no server {}{hint}", quoted(value)));
        }
        ServerChoice::Named(Arc::from(value.as_str()))
    }

    /// What is known of the order of messages where these channels are.
    pub(super) fn order_at(&self, choice: &ServerChoice) -> SourceOrder {
        match choice {
            ServerChoice::Named(name) => {
                self.servers.named.get(&**name).copied().unwrap_or(SourceOrder::Unused)
            }
            ServerChoice::First | ServerChoice::ByName => self.order,
        }
    }

    /// Parses the URL of a server that is not the only one.
    fn further(&self, url: &At<String>) -> Option<RedisLocation> {
        match self.parse(url, location)? {
            SourceLocation::Embedded(_) => {
                self.note(
                    &url.location,
                    "the embedded bus is the only server, at redis.url; set the URL of a Redis",
                );
                None
            }
            SourceLocation::Redis(server) => {
                self.check_not_own_redis(&server, &url.location);
                if server.has_password() {
                    self.has_secret(&url.location);
                }
                Some(server)
            }
        }
    }

    fn check_number(&self, at: &KeyLocation, count: usize) {
        if count > MAX_SERVERS {
            self.note(at, format!("makes {count} servers; a gateway has at most {MAX_SERVERS}"));
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let is_word = |name: &str| {
        let mut bytes = name.bytes();
        let letter = bytes.next().is_some_and(|first| first.is_ascii_alphabetic());
        letter && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    if name == ServerList::FIRST {
        return Err(format!("{name} is what the server of redis.url is called; use another name"));
    }
    match is_word(name) && name.len() <= MAX_NAME {
        true => Ok(()),
        false => Err(format!(
            "{} is no name of a server: a letter, then letters, digits, - and _, at most {MAX_NAME}",
            quoted(name)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn a_server_has_a_name_that_logs_and_metrics_can_show() {
        for good in ["orders", "chat-2", "A_b"] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for wrong in ["", "url", "2", "a b", "a\"", "ä", &"x".repeat(33)] {
            assert!(check_name(wrong).is_err(), "{wrong}");
        }
    }
}
