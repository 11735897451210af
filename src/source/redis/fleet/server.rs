//! Which server a connection leads to.
//!
//! A mark is valid at the server at which it was published. Behind a proxy, two connections may lead to
//! two servers.

use ssegate_resp::Value;

use super::super::connection::RedisConnection;
use super::super::error::SourceError;

/// The id of every server that does not report its own.
const UNKNOWN: &str = "unknown";

/// The fields of `INFO server` that are used (<https://redis.io/docs/latest/commands/info/>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ServerIdentity {
    /// Random, and different after each start of the server; `unknown` if it is not reported.
    pub(in super::super) run_id: String,
    /// Whether the server is a node of a Redis Cluster, which has no single order of messages.
    pub(in super::super) is_cluster: bool,
}

/// Whether two ids are those of two servers. Of a server that does not report its id, nothing is known: it may be the
/// other one.
pub(super) fn are_two(one: &str, other: &str) -> bool {
    one != other && ![one, other].contains(&UNKNOWN)
}

impl ServerIdentity {
    /// Whether they are two servers, as far as is known.
    pub(super) fn is_another_than(&self, other: &Self) -> bool {
        are_two(&self.run_id, &other.run_id)
    }

    /// Whether the server has reported its id.
    pub(super) fn is_known(&self) -> bool {
        self.run_id != UNKNOWN
    }

    fn parse(info: &str) -> Self {
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
        let run_id = field("run_id:").map(str::trim);
        // It stands before a space in every message.
        let is_word = |id: &&str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic());
        Self {
            run_id: run_id.filter(is_word).unwrap_or(UNKNOWN).to_owned(),
            is_cluster: field("redis_mode:").is_some_and(|mode| mode.trim() == "cluster"),
        }
    }
}

/// Asks a connection that has no pending replies, and no subscriptions, which server it leads to. A server
/// that does not report it is unknown.
///
/// # Errors
/// The connection is lost.
pub(in super::super) async fn identify(
    connection: &mut RedisConnection,
) -> Result<ServerIdentity, SourceError> {
    connection.queue("INFO", ["server"].into_iter());
    loop {
        let reply = connection.read_value().await?;
        if matches!(reply, Value::Push(_)) {
            continue;
        }
        let text = match &reply {
            Value::Error(_) => None,
            reply => reply.as_bytes().map(|text| String::from_utf8_lossy(text)),
        };
        return Ok(ServerIdentity::parse(&text.unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerIdentity, are_two};

    #[test]
    fn a_server_is_known_by_its_run() {
        for (info, run_id, is_cluster) in [
            ("# Server\r\nredis_mode:standalone\r\nrun_id:abc123\r\n", "abc123", false),
            ("redis_mode:cluster\r\nrun_id:abc123\r\n", "abc123", true),
            ("run_id:\r\n", "unknown", false),
            ("run_id:a b\r\n", "unknown", false),
            ("", "unknown", false),
        ] {
            let server = ServerIdentity::parse(info);
            assert_eq!((server.run_id.as_str(), server.is_cluster), (run_id, is_cluster), "{info}");
            assert_eq!(server.is_known(), run_id != "unknown");
        }
    }

    #[test]
    fn a_server_that_is_not_known_is_no_other_one() {
        for (one, other, two) in [
            ("a", "a", false),
            ("a", "b", true),
            ("a", "unknown", false),
            ("unknown", "b", false),
            ("unknown", "unknown", false),
        ] {
            assert_eq!(are_two(one, other), two, "{one} {other}");
        }
    }
}
