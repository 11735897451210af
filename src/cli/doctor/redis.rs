//! Whether Redis is there and permits what the routes need, and whether the keys of tokens can be fetched.

use ssegate::auth::fetch_keys;
use ssegate::config::Settings;
use ssegate::source::SourceLocation;
use ssegate::source::redis::{
    DurabilityRisk, Inspection, RedisProblem, RedisServer, SourceErrorKind, inspect,
};

use super::finding::Finding;
use crate::cli::connect::{found, key_sets, permitted, reads};

const ABOUT: &str = "redis";
const TLS: &str = "does this port of Redis speak TLS as redis.url says, has its certificate the name there, and does this \
                   machine trust who signed it (SSL_CERT_FILE)?";
const RIGHTS: &str = "deploy/redis-users.acl has the rights that it needs";

/// What `ssegate check --connect` tests, and the keys of tokens.
pub(super) async fn findings(settings: &Settings) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let SourceLocation::Embedded(_) = &settings.source.location {
        const BUS: &str = "the embedded bus of the gateway itself, nothing to connect to";
        findings.push(Finding::ok(ABOUT, BUS));
    }
    for (index, server) in settings.source.redis_servers() {
        findings.extend(of_server(&server, index, settings).await);
    }
    for (location, algorithms) in key_sets(settings) {
        let about = format!("jwks {location}");
        findings.push(
            match fetch_keys(location).await.and_then(|keys| found(&keys, &algorithms)) {
                Ok(found) => Finding::ok(about, found),
                Err(why) => Finding::error(
                    about,
                    why,
                    "open it from this machine: without keys no token is accepted",
                ),
            },
        );
    }
    findings
}

async fn of_server(server: &RedisServer, index: usize, settings: &Settings) -> Vec<Finding> {
    let address = server.to_string();
    let reads = match reads(settings, index) {
        Ok(reads) => reads,
        Err(error) => return vec![Finding::error("routes", error.to_string(), "change the path")],
    };
    let Inspection { server: described, refused, notes, risks, fleet } =
        match inspect(server, &reads).await {
            Ok(inspection) => inspection,
            Err(error) => {
                let mend = mend_of_connection(&error);
                return vec![Finding::error(ABOUT, format!("{address}: {error}"), mend)];
            }
        };
    let mut findings = Vec::new();
    if refused.is_empty() {
        findings.push(Finding::ok(ABOUT, format!("{address}, {described}; {}", permitted(&reads))));
    }
    findings.extend(refused.iter().map(|refusal| {
        Finding::error(ABOUT, format!("{address}: {refusal}"), mend_of_refusal(refusal))
    }));
    let warning =
        |note: &RedisProblem| Finding::warning(ABOUT, note.to_string(), mend_of_refusal(note));
    findings.extend(notes.iter().map(warning));
    let at_risk =
        |risk: &DurabilityRisk| Finding::warning("what Redis keeps", risk.text(), risk.mend());
    findings.extend(risks.iter().map(at_risk));
    match fleet {
        None => {}
        Some(Ok(())) => {
            findings.push(Finding::ok("fleet", "clients can resume at another gateway"));
        }
        Some(Err(why)) => findings.push(Finding::warning(
            "fleet",
            format!("clients cannot resume at another gateway: {why}"),
            mend_of_refusal(&why),
        )),
    }
    findings
}

/// What to do where there is no connection that can be used.
fn mend_of_connection(problem: &RedisProblem) -> &'static str {
    match problem.kind {
        // Where one side speaks TLS and the other does not, both wait; the text says so.
        Some(SourceErrorKind::Connection | SourceErrorKind::Timeout)
            if problem.text.contains("TLS") =>
        {
            TLS
        }
        None | Some(SourceErrorKind::Connection | SourceErrorKind::Timeout) => {
            "is redis.url right, is Redis running, and does a firewall let this machine through?"
        }
        Some(SourceErrorKind::Auth) => {
            "compare the user and the password in redis.url with those of Redis: requirepass, or ACL LIST"
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
        Some(SourceErrorKind::Failover | SourceErrorKind::Refused | SourceErrorKind::Deaf) => {
            "is redis.url right, with the name of the master where it has sentinels? See the log of Redis"
        }
    }
}

/// What to do about what Redis refuses, though the connection can be used.
fn mend_of_refusal(problem: &RedisProblem) -> &'static str {
    match problem.kind {
        None => "redis.url has to lead to one server, and to no Redis Cluster; or set fleet: off",
        Some(SourceErrorKind::Permission) => RIGHTS,
        Some(SourceErrorKind::Failover) => {
            "look at the sentinels that redis.url names: SENTINEL MASTERS, SENTINEL CKQUORUM"
        }
        Some(_) if problem.text.contains("WRONGTYPE") => {
            "the key is no stream: remove it, or name another one on the route"
        }
        Some(_) => {
            "does this server know the command? Redis 6.2 or later does, if it was not renamed"
        }
    }
}
