//! Commands about the server, with which clients find a server that they support.

use std::fmt::Write as _;

use ssegate_resp::{RespVersion, Value};

use super::error::CommandError;
use super::words::Words;
use super::{BusClient, CommandResult};
use crate::reply;
use crate::stream_access::unix_ms;
use crate::streams::StreamStore;

/// The Redis version whose pub/sub the bus implements: clients choose their commands by it.
const REDIS_VERSION: &str = "7.0.0";

/// The reply to HELLO.
pub(super) fn greeting(number: u64, protocol: RespVersion) -> Value {
    let id = i64::try_from(number).unwrap_or(i64::MAX);
    Value::Map(vec![
        (reply::bulk("server"), reply::bulk("redis")),
        (reply::bulk("version"), reply::bulk(REDIS_VERSION)),
        (reply::bulk("proto"), Value::Integer(version_number(protocol))),
        (reply::bulk("id"), Value::Integer(id)),
        (reply::bulk("mode"), reply::bulk("standalone")),
        (reply::bulk("role"), reply::bulk("master")),
        (reply::bulk("modules"), Value::Array(Vec::new())),
    ])
}

pub(super) fn version_number(protocol: RespVersion) -> i64 {
    match protocol {
        RespVersion::Resp2 => 2,
        RespVersion::Resp3 => 3,
    }
}

/// `INFO [section …]`: only fields that apply to the bus; ioredis waits for `loading:0`.
pub(super) fn info(client: &mut BusClient, words: &Words) -> CommandResult {
    let mut wanted = Vec::new();
    for index in 1..words.len() {
        wanted.push(words.keyword(index)?);
    }
    let wants_all = wanted.is_empty()
        || wanted.iter().any(|name| ["all", "default", "everything"].contains(&&name[..]));
    let mut text = String::new();
    for (section, lines) in sections(client) {
        if wants_all || wanted.iter().any(|name| section.eq_ignore_ascii_case(name)) {
            let separator = if text.is_empty() { "" } else { "\r\n" };
            write!(text, "{separator}# {section}\r\n").expect("writing to a String cannot fail");
            for (key, value) in lines {
                write!(text, "{key}:{value}\r\n").expect("writing to a String cannot fail");
            }
        }
    }
    Ok(Value::Verbatim { format: *b"txt", text: text.into() })
}

type Section = (&'static str, Vec<(&'static str, String)>);

fn sections(client: &BusClient) -> [Section; 7] {
    let stats = client.broker.counters();
    let streams = client.broker.streams(unix_ms());
    [
        (
            "Server",
            vec![
                ("redis_version", REDIS_VERSION.into()),
                ("redis_mode", "standalone".into()),
                ("server_name", "ssegate".into()),
                // The crates of ssegate have one version.
                ("ssegate_version", env!("CARGO_PKG_VERSION").into()),
                ("process_id", std::process::id().to_string()),
            ],
        ),
        (
            "Clients",
            vec![
                ("connected_clients", stats.sessions().to_string()),
                ("blocked_clients", client.broker.blocked_readers().to_string()),
                ("maxclients", client.broker.settings().max_sessions.to_string()),
            ],
        ),
        (
            "Memory",
            vec![
                ("used_memory", (stats.memory() + streams.held_bytes()).to_string()),
                ("maxmemory", client.broker.settings().max_stream_bytes.to_string()),
                ("maxmemory_policy", "noeviction".into()),
            ],
        ),
        ("Persistence", vec![("loading", "0".into())]),
        (
            "Stats",
            vec![
                ("rejected_connections", stats.sessions_refused().to_string()),
                ("pubsub_channels", client.broker.channels(None).len().to_string()),
                ("pubsub_patterns", client.broker.patterns().to_string()),
            ],
        ),
        ("Keyspace", keyspace(&streams)),
        ("Replication", vec![("role", "master".into()), ("connected_slaves", "0".into())]),
    ]
}

/// As in Redis, a database without keys is left out.
fn keyspace(streams: &StreamStore) -> Vec<(&'static str, String)> {
    let (keys, expires) = (streams.len(), streams.expiring());
    let database = (keys > 0).then(|| format!("keys={keys},expires={expires},avg_ttl=0"));
    database.map(|line| ("db0", line)).into_iter().collect()
}

/// `CONFIG GET` finds nothing; `CONFIG SET` is not supported.
pub(super) fn config(_: &mut BusClient, words: &Words) -> CommandResult {
    match words.keyword(1)?.as_str() {
        "get" => Ok(Value::Map(Vec::new())),
        "set" | "rewrite" => Err(CommandError::NoConfiguration),
        "resetstat" => Ok(reply::ok()),
        _ => Err(words.unknown_subcommand("config")),
    }
}
