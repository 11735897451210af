//! Whether Redis is there and permits what the routes need, and whether the keys of tokens can be fetched.

use ssegate::auth::fetch_keys;
use ssegate::config::Settings;
use ssegate::source::SourceLocation;
use ssegate::source::redis::{DurabilityRisk, Inspection, RedisProblem, RedisServer, inspect};

use super::finding::Finding;
use crate::cli::connect::{found, key_of, key_sets, name_of, permitted, reads, with_which};
use crate::cli::redis_mends::{mend_of_connection, mend_of_refusal, with_key};

const ABOUT: &str = "redis";

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
    let (address, key) = (server.to_string(), key_of(settings, index));
    let reads = match reads(settings, index) {
        Ok(reads) => reads,
        Err(error) => return vec![Finding::error("routes", error.to_string(), "change the path")],
    };
    let Inspection { server: described, refused, notes, risks, fleet } =
        match inspect(server, &reads).await {
            Ok(inspection) => inspection,
            Err(error) => {
                let mend = mend_of_connection(&error, &key);
                let found = format!("{address}: {}", with_key(&error.text, &key));
                return vec![Finding::error(ABOUT, found, mend)];
            }
        };
    let mut findings = Vec::new();
    if refused.is_empty() {
        findings.push(Finding::ok(ABOUT, format!("{address}, {described}; {}", permitted(&reads))));
    }
    findings.extend(refused.iter().map(|refusal| {
        let found = format!("{address}: {}", with_key(&refusal.text, &key));
        Finding::error(ABOUT, found, mend_of_refusal(refusal, &key))
    }));
    let warning = |note: &RedisProblem| {
        Finding::warning(ABOUT, with_key(&note.text, &key), mend_of_refusal(note, &key))
    };
    findings.extend(notes.iter().map(warning));
    let at_risk =
        |risk: &DurabilityRisk| Finding::warning("what Redis keeps", risk.text(), risk.mend());
    findings.extend(risks.iter().map(at_risk));
    let (name, with) = (name_of(settings, index), with_which(&reads));
    match fleet {
        None => {}
        Some(Ok(())) => {
            let found = format!("{name}clients{with} can resume at another gateway");
            findings.push(Finding::ok("fleet", found));
        }
        Some(Err(why)) => findings.push(Finding::warning(
            "fleet",
            format!("{name}clients{with} cannot resume at another gateway: {why}"),
            mend_of_refusal(&why, &key),
        )),
    }
    findings
}
