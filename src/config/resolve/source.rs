//! Resolves `redis.url`, the source of events. No message contains a part of the URL that may be secret.

use redis::{ConnectionAddr, ConnectionInfo};
use ssegate_bus::BusSettings;
use ssegate_strict_yaml::{At, Field, KeyLocation, Size, quoted, suggestion};

use super::redis_url::{redis_info, with_tls};
use super::resolver::{FurtherServers, Resolver, SourceOrder};
use super::{authority, cluster_url, sentinel_url};
use crate::config::file::RedisFile;
use crate::source::fleet::FleetSettings;
use crate::source::recorded::RecordedSettings;
use crate::source::redis::{RedisAddress, RedisLocation};
use crate::source::{SourceLocation, SourceSettings};

const SCHEMES: [&str; 9] = [
    "redis",
    "rediss",
    "redis+unix",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "embedded",
];

impl Resolver<'_> {
    pub(super) fn source(
        &mut self,
        redis: Field<RedisFile>,
        (max_event_bytes, (fleet, recorded)): (usize, (Option<FleetSettings>, RecordedSettings)),
        (bus_memory, bus_streams): (&Field<Size>, &Field<Size>),
    ) -> Option<SourceSettings> {
        const WHAT: &str = "set the source of events, such as redis://127.0.0.1:6379, or \
                            embedded://127.0.0.1:6380 for a bus inside the gateway";
        // The bus must have room for one message of the maximum size, beside others; as an entry, too.
        let least = BusSettings::least_memory(max_event_bytes);
        let mut max_bus_memory = BusSettings::default().max_memory.max(2 * least);
        bus_memory
            .within(Size(least)..=Size::MAX, self.mistakes)
            .set(&mut max_bus_memory, self.mistakes);
        let mut max_bus_streams = BusSettings::default().max_stream_bytes.max(least);
        bus_streams
            .within(Size(least)..=Size::MAX, self.mistakes)
            .set(&mut max_bus_streams, self.mistakes);
        let redis = self.required(redis, &KeyLocation::default(), "redis", WHAT)?;
        let (location, (further, servers)) = self.servers_of(redis, fleet.as_ref(), WHAT)?;
        // Each node of a Cluster has an order of its own.
        let is_cluster = self.order == SourceOrder::Cluster;
        let has_sharded = is_cluster || self.order == SourceOrder::Fleet;
        let node_fleet = fleet.clone().filter(|_| has_sharded && !self.servers.divides_names);
        let fleet = fleet.filter(|_| !is_cluster);
        Some(SourceSettings {
            location,
            further,
            servers,
            max_event_bytes,
            max_bus_memory,
            max_bus_streams,
            fleet,
            node_fleet,
            recorded,
        })
    }

    /// The first server, and those beside it.
    fn servers_of(
        &mut self,
        At { location: at, value: file }: At<RedisFile>,
        fleet: Option<&FleetSettings>,
        what: &str,
    ) -> Option<(SourceLocation, FurtherServers)> {
        let RedisFile { url, named, shards } = file;
        if let Some(shards) = shards.written() {
            for (key, location) in [("url", url.location()), ("named", named.location())] {
                if let Some(location) = location {
                    let why = format!("{key} and shards exclude each other; remove one of them");
                    self.note(location, why);
                }
            }
            self.order = match fleet {
                Some(_) => SourceOrder::Fleet,
                None => SourceOrder::Unused,
            };
            return self.shards(shards, fleet);
        }
        let url = self.required(url, &at, "url", what)?;
        let location = self.parse(&url, location)?;
        match &location {
            SourceLocation::Embedded(address) => {
                self.order = SourceOrder::Bus;
                self.claim_address(*address, &url.location);
            }
            SourceLocation::Redis(redis) => {
                self.check_not_own_redis(redis, &url.location);
                self.order = SourceOrder::of(redis, fleet);
                if redis.has_password() {
                    self.has_secret(&url.location);
                }
            }
        }
        let further = self.named_servers(named, &location, fleet);
        Some((location, further))
    }

    /// Notes a URL that points to this gateway, which would receive RESP on an HTTP listener.
    pub(super) fn check_not_own_redis(&self, redis: &RedisLocation, location: &KeyLocation) {
        let addresses = match redis.address() {
            RedisAddress::Server(address) => std::slice::from_ref(address),
            RedisAddress::Sentinels(address) => address.sentinels(),
            RedisAddress::Cluster(address) => address.nodes(),
        };
        for address in addresses {
            let (ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }) =
                address
            else {
                continue;
            };
            if let Some(key) = self.addresses.key_reached_by(host, *port) {
                let message = format!("is this gateway itself ({key}); set the address of Redis");
                self.note(location, message);
            }
        }
    }
}

/// Parses the URL of a source, as `redis.url`.
///
/// # Errors
/// A message that says what is wrong and how to fix it. It never contains a secret.
pub fn location(url: &str) -> Result<SourceLocation, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err("not a URL; use forms like redis://127.0.0.1:6379".to_owned());
    };
    match scheme {
        "embedded" => authority::embedded(rest).map(SourceLocation::Embedded),
        "redis" | "redis+unix" | "unix" => server(redis_info(url)),
        "rediss" => server(rediss_info(rest)),
        "redis+sentinel" => sentinel_url::location(rest, None).map(SourceLocation::Redis),
        "rediss+sentinel" => {
            let (rest, insecure) = without_fragment(rest)?;
            sentinel_url::location(rest, Some(insecure)).map(SourceLocation::Redis)
        }
        "redis+cluster" => cluster_url::location(rest, None).map(SourceLocation::Redis),
        "rediss+cluster" => {
            let (rest, insecure) = without_fragment(rest)?;
            cluster_url::location(rest, Some(insecure)).map(SourceLocation::Redis)
        }
        other => Err(unsupported_scheme(other).unwrap_or_else(|| unknown_scheme(other))),
    }
}

fn server(info: Result<ConnectionInfo, String>) -> Result<SourceLocation, String> {
    info.map(|info| SourceLocation::Redis(RedisLocation::server(&info)))
}

/// Returns a message for a scheme that other programs use.
fn unsupported_scheme(scheme: &str) -> Option<String> {
    let plain = scheme.replace(['+', '-'], "").to_lowercase();
    Some(match plain.as_str() {
        "redissentinel" | "sentinel" => format!("write redis+sentinel:// instead of {scheme}://"),
        "redisssentinel" | "sentinels" => {
            format!("write rediss+sentinel:// instead of {scheme}://")
        }
        "rediscluster" | "cluster" => format!("write redis+cluster:// instead of {scheme}://"),
        "redisscluster" => format!("write rediss+cluster:// instead of {scheme}://"),
        "valkey" | "tcp" | "predis" | "phpredis" => {
            format!("write redis:// instead of {scheme}://")
        }
        "valkeys" | "redisssl" | "redistls" | "tls" | "ssl" => {
            format!("write rediss:// instead of {scheme}://")
        }
        "redissocket" | "redisunixsocket" => format!("write redis+unix:// instead of {scheme}://"),
        _ => return None,
    })
}

fn unknown_scheme(scheme: &str) -> String {
    let is_word = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    match suggestion(scheme, &SCHEMES) {
        Some(meant) if is_word => {
            format!("unknown scheme {}; did you mean {meant}://?", quoted(scheme))
        }
        // The text before :// may be a part of a password, so it is not repeated.
        _ => "unknown scheme; use redis://, rediss://, redis+unix://, redis+sentinel://, redis+cluster:// or embedded://".to_owned(),
    }
}

/// Parses a `rediss://` URL as `redis://`, then sets TLS: the `redis` crate accepts `rediss://` only
/// where it is built with a TLS of its own.
fn rediss_info(rest: &str) -> Result<ConnectionInfo, String> {
    let (rest, insecure) = without_fragment(rest)?;
    let info = redis_info(&format!("redis://{rest}"))?;
    let address = with_tls(info.addr().clone(), insecure);
    Ok(info.set_addr(address))
}

/// Returns the rest of a URL with TLS, and whether certificates are not verified.
fn without_fragment(rest: &str) -> Result<(&str, bool), String> {
    match rest.split_once('#') {
        None => Ok((rest, false)),
        Some((rest, "insecure")) => Ok((rest, true)),
        Some(_) => Err("the only fragment of a rediss:// URL is #insecure".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use redis::ConnectionAddr;

    use super::location;
    use crate::source::redis::RedisAddress;

    #[test]
    fn every_kind_of_url_is_parsed() {
        for (url, expected) in [
            ("embedded://127.0.0.1:6380", "embedded://127.0.0.1:6380"),
            ("redis://redis", "redis:6379"),
            ("redis://me:secret@redis:7000/3", "redis:7000"),
            ("rediss://redis", "redis:6379"),
            ("redis+unix:///run/redis.sock", "/run/redis.sock"),
            ("redis+cluster://a,[::1]:7000", "cluster (nodes a:6379, [::1]:7000)"),
            ("rediss+cluster://me:secret@a:1/0#insecure", "cluster (nodes a:1)"),
            ("unix:///run/redis.sock?db=2", "/run/redis.sock"),
        ] {
            assert_eq!(format!("{:?}", location(url).expect(url)), expected, "{url}");
        }
    }

    #[test]
    fn user_password_database_and_tls_are_parsed() {
        let location = location("rediss://me:s%40crt@redis:7000/3#insecure").expect("valid");
        let super::SourceLocation::Redis(location) = location else { panic!("{location:?}") };
        assert_eq!(location.login().username(), Some("me"));
        assert_eq!(location.login().password(), Some("s@crt"));
        assert_eq!(location.login().db(), 3);
        assert!(matches!(
            location.address(),
            RedisAddress::Server(ConnectionAddr::TcpTls { port: 7000, insecure: true, .. })
        ));
    }

    #[test]
    fn no_message_contains_the_secret() {
        for (url, hint) in [
            ("secret", "not a URL"),
            ("", "not a URL"),
            ("reddis://:secret@redis", "did you mean redis://?"),
            ("valkey://:secret@redis", "write redis:// instead of valkey://"),
            ("tls://:secret@redis", "write rediss:// instead of tls://"),
            ("redis-cluster://:secret@a", "write redis+cluster:// instead of redis-cluster://"),
            ("redis+cluster://:secret@a,", "a node has no host"),
            ("redis+cluster://:secret@a/3", "a Cluster has database 0 alone"),
            ("redis+cluster://:secret@a,A:6379", "names the node \"a:6379\" twice"),
            ("redis+cluster://:secret@a?x=secret", "has no parameters"),
            ("redis+cluster://u:secret@a,u:secret@b", "more than one host"),
            ("redis-sentinel://:secret@a", "write redis+sentinel:// instead of redis-sentinel://"),
            ("redis://a,b", "has 2 hosts; redis:// has one"),
            ("redis://:secret@a:6379,b:6379,c/0", "has 3 hosts"),
            ("rediss://:sec,ret@a,b", "has 2 hosts"),
            ("redis://redis:99999", "\"99999\" is not a valid port; the highest is 65535"),
            ("redis://:secret@redis:99999/0", "\"99999\" is not a valid port"),
            ("redis://:99999/secret@redis", "percent-encode"),
            ("https://:secret@redis", "unknown scheme; use redis://"),
            ("redis+sentinel://:secret@redis", "names no master"),
            ("redis://:secret@", "not a valid URL"),
            ("redis://:sec/secret@redis", "percent-encode"),
            ("redis://:secret@redis/zero", "must be a number"),
            ("redis://:secret@redis/-1", "from 0 to"),
            ("redis://:secret@redis:0", "port 0"),
            ("redis://:secret%zz@redis", "write %25"),
            ("redis://secret@redis", "a user and no password"),
            ("redis://redis?sentinel_password=secret", "are of redis+sentinel://"),
            ("rediss://redis?sentinel_password=secret", "are of redis+sentinel://"),
            ("redis://999.1.1.1", "is not an IP address"),
            ("redis://:secret@redis?protocol=secret", "resp2 or resp3"),
            ("redis://:secret@0.0.0.0", "set the address of Redis"),
            ("rediss://:secret@redis#secret", "fragment of a rediss:// URL is #insecure"),
            ("redis+unix://secret@redis/run", "has no socket path"),
        ] {
            let message = location(url).expect_err(url);
            assert!(message.contains(hint), "{url}: {message}");
            assert!(!message.contains("secret"), "{url}: {message}");
        }
    }
}
