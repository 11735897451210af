//! Clients of several logs that come back and name them in another order, fewer of them, or others,
//! against an oracle that has all entries.

use std::collections::{BTreeMap, HashMap};
use std::task::{Context, Poll, Waker};

use fastrand::Rng;
use ssegate_format::Format;
use ssegate_sse::Event;
use ssegate_sse::frame::Form;
use tokio::time::Instant;

use super::{TestHub, run, settle};
use crate::Topic;
use crate::{ChannelName, EntryId, Ids, Subscription};
use crate::{
    HistorySettings, HubSettings, LogRange, LogRead, LogReadResult, SourceKind, SourceRequest,
    StreamSettings, Subscriber,
};

const LOGS: [&str; 5] = ["orders:1", "orders:2", "bills", "a", "b"];

/// The source, which keeps every entry.
#[derive(Default)]
struct Source {
    entries: BTreeMap<&'static str, Vec<EntryId>>,
    followed: HashMap<ChannelName, EntryId>,
    clock: u64,
}

impl Source {
    fn newest(&self, log: &str) -> EntryId {
        let entries = self.entries.get(log).and_then(|entries| entries.last());
        entries.copied().unwrap_or(EntryId::ZERO)
    }

    fn add(&mut self, log: &'static str, rng: &mut Rng) {
        // Several logs have entries of one millisecond.
        self.clock += rng.u64(..2);
        let newest = self.newest(log);
        let sequence = if newest.milliseconds == self.clock { newest.sequence + 1 } else { 0 };
        let id = EntryId { milliseconds: self.clock, sequence };
        self.entries.entry(log).or_default().push(id.max(EntryId { milliseconds: 0, sequence: 1 }));
    }

    async fn serve(&mut self, test: &TestHub) {
        settle().await;
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(requests) =
            std::pin::pin!(test.hub.source_requests(SourceKind::Logs)).poll(&mut context)
        {
            for (Subscription { name, .. }, request) in requests {
                match request {
                    SourceRequest::Leave => drop(self.followed.remove(&name)),
                    SourceRequest::Follow => {
                        let newest = self.newest(name.as_str());
                        let at = *self.followed.entry(name.clone()).or_insert(newest);
                        test.hub.begin_log((SourceKind::Logs, name.as_str()), at);
                    }
                }
            }
        }
        if let Poll::Ready(reads) =
            std::pin::pin!(test.hub.log_reads(SourceKind::Logs)).poll(&mut context)
        {
            for read in reads {
                let result = self.read(&read);
                test.hub.finish_log_read(read.key(), result);
            }
        }
        for (name, at) in &mut self.followed {
            let entries = self.entries.get(name.as_str()).map_or(&[][..], Vec::as_slice);
            for &id in &entries[entries.partition_point(|id| *id <= *at)..] {
                *at = id;
                test.hub.publish_entry(
                    (SourceKind::Logs, name.as_str()),
                    id,
                    Instant::now(),
                    |_| Some(event(name.as_str(), id)),
                );
            }
        }
        test.hub.flush();
        settle().await;
    }

    fn read(&self, read: &LogRead) -> LogReadResult {
        let name = read.log.as_str();
        let LogRange::After { after, until } = read.range else {
            panic!("no client requests the newest entries")
        };
        let entries = self.entries.get(name).map_or(&[][..], Vec::as_slice);
        let due = entries.iter().filter(|id| after < **id && **id <= until);
        let entries: Vec<_> = due.map(|&id| (id, Some(event(name, id)))).collect();
        LogReadResult::Entries {
            gap: None,
            is_all: entries.len() <= 2,
            entries: entries.into_iter().take(2).collect(),
        }
    }
}

fn event(log: &str, id: EntryId) -> Event {
    Event { data: format!("{log} {id}").into(), ..Event::default() }
}

/// A client that checks what it reads.
#[derive(Default)]
struct LogClient {
    names: Vec<&'static str>,
    stream: Option<Subscriber>,
    text: String,
    id: Option<String>,
    // The newest entry that it has of each log.
    has: HashMap<&'static str, EntryId>,
    // Of a log of which it has none: entries after this were promised.
    promised: HashMap<&'static str, EntryId>,
}

impl LogClient {
    fn read(&mut self, most: usize, source: &Source) -> Result<(), String> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(bytes)) = stream.poll_next(Form::Text, &context) {
            self.text += str::from_utf8(&bytes).expect("text");
        }
        for _ in 0..most {
            let Some(end) = self.text.find("\n\n") else { break };
            let block: String = self.text.drain(..end + 2).collect();
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let Some(id) = field("id: ") {
                self.id = Some(id.to_owned());
            }
            if block.contains(": ready\n") {
                for log in &self.names {
                    self.promised.entry(log).or_insert_with(|| source.newest(log));
                }
            }
            let Some(data) = field("data: ") else { continue };
            if field("event: ") == Some("gap") {
                self.has.clear();
                self.promised.clear();
                continue;
            }
            let (log, id) = data.split_once(' ').expect("a log and an id");
            let log = self.names.iter().find(|name| **name == log).expect("it is subscribed");
            let id = EntryId::parse(id.as_bytes()).expect("an id");
            let entries = &source.entries[log];
            let promised = self.promised.get(log).filter(|promised| **promised < id);
            if let Some(has) = self.has.get(log).or(promised) {
                let next = entries.iter().find(|entry| *entry > has);
                if next != Some(&id) {
                    return Err(format!("{log}: {id} came after {has}, not {next:?}"));
                }
            }
            self.has.insert(log, id);
        }
        Ok(())
    }
}

async fn live(seed: u64) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let test = TestHub::new(1, HubSettings::default());
    let mut source = Source { clock: 1_700_000_000_000, ..Source::default() };
    let mut client = LogClient::default();
    // Another client keeps some of the logs followed.
    let kept = open(&test, &LOGS[..rng.usize(..3).max(1)], None);
    for _ in 0..120 {
        match rng.u8(..10) {
            0..4 => {
                let log = *rng.choice(&LOGS).expect("a log");
                source.add(log, &mut rng);
            }
            4..6 => client.read(rng.usize(..6), &source)?,
            6 => {
                client.stream = None;
                client.text.clear();
            }
            7 if client.stream.is_none() => {
                let mut names = LOGS.to_vec();
                rng.shuffle(&mut names);
                names.truncate(rng.usize(2..=LOGS.len()));
                // A log that it did not name the last time, or has no position in, begins live.
                let position = client.id.clone();
                let is_named = |log: &&str| names.contains(log) && client.names.contains(log);
                client.has.retain(|log, _| is_named(log));
                client.promised.retain(|log, _| is_named(log));
                client.stream = Some(open(&test, &names, position.as_deref()));
                client.names = names;
            }
            _ => source.serve(&test).await,
        }
    }
    for _ in 0..20 {
        source.serve(&test).await;
        client.read(usize::MAX, &source)?;
    }
    drop(kept);
    let is_behind = |(log, has): (&&str, &EntryId)| source.newest(log) != *has;
    match client.stream.is_some().then(|| client.has.iter().find(|has| is_behind(*has))).flatten() {
        Some(behind) => Err(format!("{behind:?} is not the newest")),
        None => Ok(()),
    }
}

fn open(test: &TestHub, names: &[&str], id: Option<&str>) -> Subscriber {
    let topic = |name: &&str| {
        let name = ChannelName::new(name).expect("a name");
        let subscription = Subscription { name, is_pattern: false };
        Topic { subscription, format: Format::Raw, ids: Ids::Entries }
    };
    let history = HistorySettings { count: 3, ..HistorySettings::default() };
    let topics = names.iter().map(topic).collect();
    test.open_topics(0, topics, id, StreamSettings::default(), history)
}

#[test]
fn a_client_resumes_in_the_logs_that_it_names_in_any_order() {
    for seed in 0..500 {
        run(async move {
            if let Err(error) = live(seed).await {
                panic!("seed {seed}: {error}");
            }
        });
    }
}
