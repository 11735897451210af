//! Whether Redis is there and permits what the routes need, and whether the keys of tokens can be fetched.

use ssegate::auth::fetch_keys;
use ssegate::config::Settings;
use ssegate::source::SourceLocation;
use ssegate::source::redis::{Inspection, RedisServer, inspect};

use super::finding::Finding;
use crate::cli::connect::{found, key_sets, permitted, reads};

const ABOUT: &str = "redis";
const RIGHTS: &str = "deploy/redis-users.acl has the rights that it needs";

/// What `ssegate check --connect` tests, and the keys of tokens.
pub(super) async fn findings(settings: &Settings) -> Vec<Finding> {
    let mut findings = match &settings.source.location {
        SourceLocation::Embedded(_) => {
            vec![Finding::ok(
                ABOUT,
                "the embedded bus of the gateway itself, nothing to connect to",
            )]
        }
        SourceLocation::Redis(location) => {
            of_server(&RedisServer::new(location.clone()), settings).await
        }
    };
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

async fn of_server(server: &RedisServer, settings: &Settings) -> Vec<Finding> {
    let address = server.to_string();
    let reads = match reads(settings) {
        Ok(reads) => reads,
        Err(error) => return vec![Finding::error("routes", error.to_string(), "change the path")],
    };
    let Inspection { server: described, refused, notes, fleet } = match inspect(server, &reads)
        .await
    {
        Ok(inspection) => inspection,
        Err(error) => {
            let mend = "is redis.url right, is Redis running, and does a firewall let this machine through?";
            return vec![Finding::error(ABOUT, format!("{address}: {error}"), mend)];
        }
    };
    let mut findings = Vec::new();
    if refused.is_empty() {
        findings.push(Finding::ok(ABOUT, format!("{address}, {described}; {}", permitted(&reads))));
    }
    findings.extend(
        refused
            .iter()
            .map(|refusal| Finding::error(ABOUT, format!("{address}: {refusal}"), RIGHTS)),
    );
    findings.extend(notes.iter().map(|note| Finding::warning(ABOUT, note.to_string(), RIGHTS)));
    match fleet {
        None => {}
        Some(Ok(())) => {
            findings.push(Finding::ok("fleet", "clients can resume at another gateway"));
        }
        Some(Err(why)) => findings.push(Finding::warning(
            "fleet",
            format!("clients cannot resume at another gateway: {why}"),
            RIGHTS,
        )),
    }
    findings
}
