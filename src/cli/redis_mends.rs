//! What to do about problems with a Redis server, for `ssegate check --connect` and `ssegate doctor`.
//!
//! Texts about a server say `redis.url`; where there are several servers, the key of the one that is meant takes its place.

use ssegate::source::redis::{RedisProblem, SourceErrorKind};

const TLS: &str = "does this port of Redis speak TLS as redis.url says, has its certificate the name there, and does this \
                   machine trust who signed it (SSL_CERT_FILE)?";
const RIGHTS: &str = "deploy/redis-users.acl has the rights that it needs";
const URL: &str = "redis.url";

/// A text about the server whose URL stands at `key`.
pub(super) fn with_key(text: &str, key: &str) -> String {
    text.replace(URL, key)
}

/// What to do if there is no usable connection to the server whose URL stands at `key`.
pub(super) fn mend_of_connection(problem: &RedisProblem, key: &str) -> String {
    let mend = match problem.kind {
        // Where one side speaks TLS and the other does not, both wait; the text says so.
        Some(SourceErrorKind::Connection | SourceErrorKind::Timeout)
            if problem.text.contains("TLS") =>
        {
            TLS
        }
        None | Some(SourceErrorKind::Connection | SourceErrorKind::Timeout) => {
            "is redis.url right, is Redis running, and does a firewall let this machine through?"
        }
        // The text names the key.
        Some(SourceErrorKind::Auth) => {
            "the password is that of requirepass in Redis, or of the user in ACL LIST"
        }
        Some(SourceErrorKind::Permission) => RIGHTS,
        Some(SourceErrorKind::Tls) => TLS,
        Some(SourceErrorKind::Busy) => {
            "Redis is there, and does not serve now: wait until it has loaded its data, and look at its maxclients and \
             its log"
        }
        Some(SourceErrorKind::Protocol) => {
            "is redis.url the address of a Redis server, 6.2 or later?"
        }
        Some(SourceErrorKind::Failover) if problem.text.contains("CLUSTER INFO") => {
            "give each slot an owner: redis-cli --cluster check, redis-cli --cluster fix"
        }
        Some(SourceErrorKind::Failover | SourceErrorKind::Refused | SourceErrorKind::Deaf) => {
            "is redis.url right, with the name of the master where it has sentinels? See the log of Redis"
        }
    };
    with_key(mend, key)
}

/// What to do if the server whose URL stands at `key` is reachable, but refuses something.
pub(super) fn mend_of_refusal(problem: &RedisProblem, key: &str) -> String {
    let says = |word: &str| problem.text.split([' ', ':']).any(|said| said == word);
    let mend = match problem.kind {
        // Of one node of a Cluster.
        Some(
            SourceErrorKind::Connection
            | SourceErrorKind::Timeout
            | SourceErrorKind::Auth
            | SourceErrorKind::Tls
            | SourceErrorKind::Busy,
        ) => return mend_of_connection(problem, key),
        None => "redis.url has to lead to one server, and to no Redis Cluster; or set fleet: off",
        Some(SourceErrorKind::Permission) => RIGHTS,
        Some(SourceErrorKind::Failover) => {
            "look at the sentinels that redis.url names: SENTINEL MASTERS, SENTINEL CKQUORUM"
        }
        Some(_) if says("WRONGTYPE") => {
            "the key is no stream: remove it, or name another one on the route"
        }
        Some(_) if says("OOM") => {
            "the memory of Redis is used up: raise its maxmemory, or remove keys that nobody needs"
        }
        Some(_) if says("CLUSTERDOWN") => {
            "this is a node of a Redis Cluster: write redis+cluster:// in redis.url; where that is written, a slot has no \
             node that serves it: look at CLUSTER INFO (with cluster-require-full-coverage yes one missing node stops all)"
        }
        Some(_) if says("MOVED") => {
            "this is a node of a Redis Cluster: write redis+cluster:// in redis.url; where that is written, let the user \
             run CLUSTER SLOTS"
        }
        Some(_) => {
            "does this server know the command? Redis 6.2 or later does, if it was not renamed"
        }
    };
    with_key(mend, key)
}

#[cfg(test)]
mod tests {
    use ssegate::source::redis::{RedisProblem, SourceErrorKind};

    use super::{mend_of_connection, mend_of_refusal, with_key};

    fn problem(kind: SourceErrorKind, text: &str) -> RedisProblem {
        RedisProblem { kind: Some(kind), text: text.to_owned() }
    }

    #[test]
    fn a_refusal_is_explained_by_its_own_cause() {
        for (said, expected) in [
            ("OOM command not allowed when used memory > 'maxmemory'.", "raise its maxmemory"),
            ("MOVED 6763 127.0.0.1:7002", "write redis+cluster:// in redis.named.orders"),
            ("WRONGTYPE Operation against a key", "the key is no stream"),
            ("ERR unknown command 'XREAD'", "does this server know the command?"),
        ] {
            let refused = format!("Redis refused XINFO of the stream \"log\": {said}");
            let mend =
                mend_of_refusal(&problem(SourceErrorKind::Refused, &refused), "redis.named.orders");
            assert!(mend.contains(expected), "{said}: {mend}");
        }
    }

    #[test]
    fn the_key_of_the_server_stands_where_the_texts_say_that_of_the_first() {
        let text =
            with_key("WRONGPASS; check the user and the password in redis.url", "redis.shards[1]");
        assert_eq!(text, "WRONGPASS; check the user and the password in redis.shards[1]");
        for kind in SourceErrorKind::ALL {
            let away = problem(kind, "connection refused");
            for mend in [
                mend_of_connection(&away, "redis.shards[1]"),
                mend_of_refusal(&away, "redis.shards[1]"),
            ] {
                assert!(!mend.contains("redis.url"), "{mend}");
            }
        }
    }
}
