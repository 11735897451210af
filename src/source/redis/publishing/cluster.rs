//! Publishes in a Cluster: each entry at the owner of its log, each sharded message at that of its channel, and other
//! messages at any node.
//!
//! Publications under an `Idempotency-Key` are divided by slots, since a script can only touch keys of one slot. Each
//! part is made once, and a retry of the request makes the parts that were not made.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use ssegate_resp::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::command;
use crate::source::publishing::{
    DividedOutcome, IdempotencyKey, JobResult, NotPublished, Publication, PublicationJob,
    PublicationOutcome,
};
use crate::source::redis::cluster::{slot_of, tag_of};
use crate::source::redis::cluster_commands::{
    ClusterCommands, CommandDone, CommandTarget, KeyCommand, NoReply,
};
use crate::source::redis::error::SourceError;
use crate::source::redis::retry::FailureLog;

/// How long a command waits until a node takes it, while its slot moves or its owner is replaced.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes to the nodes of a Cluster.
pub(super) struct ClusterPublisher {
    commands: ClusterCommands<JobPart>,
    jobs: mpsc::Receiver<PublicationJob>,
    failures: FailureLog,
    pending: HashMap<u64, DividedJob>,
    next_number: u64,
}

/// What one command of a job publishes.
#[derive(Debug)]
pub(super) struct JobPart {
    job: u64,
    // The indexes of its publications in the job.
    indexes: Vec<usize>,
}

/// A job, and the results of its parts so far.
struct DividedJob {
    job: PublicationJob,
    outcome: DividedOutcome,
    parts_left: usize,
}

impl ClusterPublisher {
    /// Creates a publisher that sends the jobs from `jobs` with `commands`.
    pub(super) fn new(
        commands: ClusterCommands<JobPart>,
        jobs: mpsc::Receiver<PublicationJob>,
        failures: FailureLog,
    ) -> Self {
        Self { commands, jobs, failures, pending: HashMap::new(), next_number: 0 }
    }

    /// Runs for ever. Owned by the gateway, which drops it.
    pub(super) async fn run(mut self) {
        loop {
            tokio::select! {
                Some(job) = self.jobs.recv() => self.send(job),
                () = self.commands.exchange() => {
                    if let Some(failure) = self.commands.take_failure() {
                        const WHAT: &str = "cannot publish at a node of the Cluster";
                        self.failures.lost(&failure.error, WHAT, failure.loss);
                    }
                    while let Some(done) = self.commands.take_done() {
                        self.take(done);
                    }
                }
            }
        }
    }

    fn send(&mut self, job: PublicationJob) {
        let number = self.next_number;
        self.next_number += 1;
        let parts = match &job.key {
            Some(key) => scripts(key, &job.publications),
            None => job.publications.iter().enumerate().map(single).collect(),
        };
        let outcome = DividedOutcome::new(job.publications.len());
        let divided = DividedJob { job, outcome, parts_left: parts.len() };
        self.pending.insert(number, divided);
        let deadline = Some(Instant::now() + SEND_TIMEOUT);
        for (words, target, indexes) in parts {
            let tag = JobPart { job: number, indexes };
            // Not repeatable: a message that is published twice is delivered twice.
            self.commands.send(KeyCommand { words, target, is_repeatable: false, deadline, tag });
        }
    }

    fn take(&mut self, (part, result): CommandDone<JobPart>) {
        let Some(divided) = self.pending.get_mut(&part.job) else { return };
        match result {
            Ok(reply) => match result_of(&divided.job, &part.indexes, &reply) {
                Ok(result) => divided.outcome.take(&part.indexes, result),
                Err(error) => {
                    const WHAT: &str = "cannot read what Redis replied to a publication";
                    self.failures.report(&error, WHAT);
                    divided.outcome.fail(NotPublished::Lost);
                }
            },
            Err(NoReply::Unsent) => divided.outcome.fail(NotPublished::Away),
            Err(NoReply::Lost) => divided.outcome.fail(NotPublished::Lost),
            Err(NoReply::TimedOut) => divided.outcome.fail(NotPublished::TimedOut),
        }
        divided.parts_left -= 1;
        if divided.parts_left == 0
            && let Some(divided) = self.pending.remove(&part.job)
        {
            divided.job.complete(divided.outcome.result());
        }
    }
}

/// The result of a part of a job, from the reply of a node.
fn result_of(
    job: &PublicationJob,
    indexes: &[usize],
    reply: &Value,
) -> Result<JobResult, SourceError> {
    match job.key {
        None => {
            let receipts = vec![command::receipt(reply)?];
            Ok(Ok(PublicationOutcome { receipts, is_repeated: false }))
        }
        Some(_) => command::outcome(reply, indexes.len()),
    }
}

type JobCommand = (Vec<Bytes>, CommandTarget, Vec<usize>);

fn single((index, publication): (usize, &Publication)) -> JobCommand {
    let target = match publication.has_slot() {
        true => CommandTarget::Slot(slot_of(publication.channel.as_str().as_bytes())),
        false => CommandTarget::AnyNode,
    };
    (command::words(publication), target, vec![index])
}

/// One script for each slot of the logs, and one for all messages. Each keeps its result under a key in its slot.
fn scripts(key: &IdempotencyKey, publications: &[Publication]) -> Vec<JobCommand> {
    let mut by_slot: BTreeMap<Option<u16>, Vec<usize>> = BTreeMap::new();
    for (index, publication) in publications.iter().enumerate() {
        let slot = publication.has_slot().then(|| slot_of(publication.channel.as_str().as_bytes()));
        by_slot.entry(slot).or_default().push(index);
    }
    let part = |(slot, indexes): (Option<u16>, Vec<usize>)| {
        let name = match slot {
            None => key.name.clone(),
            Some(slot) => format!("{}{{{}}}", key.name, tag_of(slot)),
        };
        let slot = slot.unwrap_or_else(|| slot_of(name.as_bytes()));
        let key = IdempotencyKey { name, fingerprint: key.fingerprint.clone() };
        let words = command::once(&key, indexes.iter().map(|&index| &publications[index]));
        (words, CommandTarget::Slot(slot), indexes)
    };
    by_slot.into_iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ssegate_hub::ChannelName;

    use super::scripts;
    use crate::source::publishing::{IdempotencyKey, Publication, PublicationKind};
    use crate::source::redis::cluster::slot_of;
    use crate::source::redis::cluster_commands::CommandTarget;

    #[test]
    fn each_script_touches_keys_of_one_slot() {
        let key = IdempotencyKey {
            name: "ssegate:idempotency:1".to_owned(),
            fingerprint: "f".repeat(64),
        };
        let publication = |(name, is_entry)| {
            let payload = Bytes::from_static(b"x");
            let kind = match is_entry {
                true => {
                    PublicationKind::Entry { fields: vec![("data", payload)], max_entries: None }
                }
                false => PublicationKind::Message(payload),
            };
            Publication { channel: ChannelName::new(name).expect("a name"), kind }
        };
        let names =
            [("{a}1", true), ("news", false), ("b}", true), ("{a}2", true), ("sport", false)];
        let publications: Vec<_> = names.into_iter().map(publication).collect();
        let parts = scripts(&key, &publications);
        let mut indexes: Vec<_> = parts.iter().map(|(_, _, indexes)| indexes.clone()).collect();
        indexes.sort();
        assert_eq!(indexes, [vec![0, 3], vec![1, 4], vec![2]]);
        for (words, target, _) in parts {
            let keys: usize = String::from_utf8_lossy(&words[2]).parse().expect("a number");
            for key in &words[3..3 + keys] {
                assert_eq!(target, CommandTarget::Slot(slot_of(key)), "{key:?}");
            }
            assert!(words[3].starts_with(b"ssegate:idempotency:1"), "an ACL permits it");
        }
    }
}
