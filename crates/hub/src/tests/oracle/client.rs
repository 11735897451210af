//! A client that knows what it must have been sent.

use std::collections::{HashMap, HashSet};
use std::task::{Context, Poll, Waker};

use ssegate_sse::frame::Form;

use super::redis::Redis;
use crate::Subscriber;

/// Parses a stream as the standard says, and checks what is in it.
pub(super) struct OracleClient {
    pub(super) names: Vec<String>,
    pub(super) stream: Option<Subscriber>,
    pub(super) text: String,
    pub(super) id: Option<String>,
    // The message up to which nothing of a channel is missing. Empty before the first `ready`.
    pub(super) complete: HashMap<String, u64>,
    // Channels named in a gap: what is missing before their next message is no loss.
    pub(super) excused: HashSet<String>,
    // Its past has come, with gaps for what was missing: from here on nothing may be missing.
    pub(super) is_up_to_date: bool,
    // This stream was sent `ready`.
    pub(super) is_ready: bool,
    pub(super) got: HashSet<u64>,
    pub(super) newest: u64,
    // Messages up to here were delivered before it subscribed to these names, so they are not for it.
    pub(super) came_after: u64,
    // Gaps on channels of which nothing was to be missing.
    pub(super) gaps: usize,
    // For the trace.
    pub(super) taken: String,
}

impl OracleClient {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self {
            names,
            stream: None,
            text: String::new(),
            id: None,
            complete: HashMap::new(),
            excused: HashSet::new(),
            is_up_to_date: false,
            is_ready: false,
            got: HashSet::new(),
            newest: 0,
            came_after: 0,
            gaps: 0,
            taken: String::new(),
        }
    }

    pub(super) fn cut(&mut self, redis: &Redis) {
        self.stream = None;
        let place = redis.newest_at(self.number());
        for name in self.excused.drain() {
            let complete = self.complete.entry(name).or_default();
            *complete = place.max(*complete);
        }
        self.text.clear();
        self.is_up_to_date = false;
        self.is_ready = false;
    }

    /// The number in its last id.
    pub(super) fn number(&self) -> u64 {
        let number = self.id.as_deref().and_then(|id| id.split_once('-'));
        number.map_or(0, |(_, number)| number.parse().expect("a number"))
    }

    /// Reads what has arrived, but no more than `most` blocks.
    pub(super) fn read(&mut self, most: usize, redis: &Redis) -> Result<(), String> {
        let Some(stream) = &self.stream else { return Ok(()) };
        let context = Context::from_waker(Waker::noop());
        loop {
            match stream.poll_next(Form::Text, &context) {
                Poll::Ready(Some(bytes)) => self.text += str::from_utf8(&bytes).expect("text"),
                Poll::Ready(None) => break,
                Poll::Pending => break,
            }
        }
        for _ in 0..most {
            let Some(end) = self.text.find("\n\n") else { break };
            let block: String = self.text.drain(..end + 2).collect();
            self.taken.push_str(&block);
            self.take(&block, redis)?;
        }
        // A comment line, without a block.
        if !self.text.contains("\n\n") && self.text.contains(": ready\n") {
            self.ready(redis)?;
        }
        Ok(())
    }

    fn take(&mut self, block: &str, redis: &Redis) -> Result<(), String> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        if let Some(id) = field("id: ") {
            self.id = Some(id.to_owned());
        }
        if block.contains(": ready\n") {
            self.ready(redis)?;
        }
        let Some(data) = field("data: ") else { return Ok(()) };
        if field("event: ") == Some("gap") {
            return self.gap(data, redis);
        }
        let (channel, index) = data.split_once(' ').expect("a channel and an index");
        let index: u64 = index.parse().expect("an index");
        if !self.got.insert(index) {
            return Err(format!("{index} came twice"));
        }
        if index < self.newest {
            return Err(format!("{index} came after {}", self.newest));
        }
        self.newest = index;
        if index <= self.came_after {
            return Err(format!("{index} is from before it subscribed, after {}", self.came_after));
        }
        let matches = |name: &String| name == channel || name == "c*";
        assert!(self.names.iter().any(matches), "{channel} is not subscribed");
        // Where a message comes twice, the history may have kept either copy.
        let comes_once = !self.names.iter().any(|name| name == "c*");
        if comes_once && self.excused.remove(channel) {
            self.complete.insert(channel.to_owned(), index - 1);
        }
        if self.is_up_to_date { self.check(index, redis) } else { Ok(()) }
    }

    fn ready(&mut self, redis: &Redis) -> Result<(), String> {
        self.is_up_to_date = true;
        self.is_ready = true;
        for name in self.excused.drain() {
            self.complete.insert(name, redis.taken);
        }
        for name in &self.names {
            self.complete.entry(name.clone()).or_insert(redis.newest);
        }
        self.check(self.newest, redis)
    }

    fn gap(&mut self, data: &str, redis: &Redis) -> Result<(), String> {
        let place = redis.newest_at(self.number());
        let is_of_break = data.contains("redis_away");
        let named: Vec<String> = self
            .names
            .iter()
            .filter(|name| data.contains(&format!("\"{name}\"")))
            .cloned()
            .collect();
        assert!(!named.is_empty(), "{data}");
        for name in &named {
            if let Some(complete) = self.complete.get_mut(name) {
                self.gaps += 1;
                if is_of_break {
                    *complete = place.max(*complete);
                } else {
                    self.excused.insert(name.clone());
                }
            }
        }
        // For a client that was ready; for others it is a part of their past.
        self.is_up_to_date |= is_of_break && self.is_ready;
        if self.is_up_to_date { self.check(place, redis) } else { Ok(()) }
    }

    /// Everything up to `index` must have come, or be covered by a gap.
    pub(super) fn check(&mut self, index: u64, redis: &Redis) -> Result<(), String> {
        for (name, complete) in &mut self.complete {
            if self.excused.contains(name) {
                continue;
            }
            let messages = redis.messages.get(name).map_or(&[][..], Vec::as_slice);
            let start = messages.partition_point(|known| *known <= *complete);
            let due = messages[start..].iter().take_while(|known| **known <= index);
            let missing: Vec<_> = due.filter(|known| !self.got.contains(known)).collect();
            if !missing.is_empty() {
                return Err(format!("{missing:?} of {name} are missing before {index}"));
            }
            *complete = index.max(*complete);
        }
        Ok(())
    }
}
