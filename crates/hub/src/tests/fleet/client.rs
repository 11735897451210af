//! A client that moves between gateways, and knows what it must have been sent.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::task::{Context, Poll, Waker};

use ssegate_sse::frame::Form;

use super::server::Server;
use crate::Subscriber;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Lost(String),
    Repeated(String),
    Reordered(String),
    Early(String),
}

/// What a gateway knows that a client is read against.
#[derive(Clone, Copy)]
pub(super) struct Heard<'a> {
    /// The newest message that the gateway has heard, and the newest of which it has heard every copy.
    pub(super) newest: u64,
    pub(super) settled: u64,
    /// The newest message at each number of its run.
    pub(super) numbers: &'a [(u64, u64)],
    pub(super) run: &'a str,
    /// The same of earlier runs that it goes on with.
    pub(super) earlier: &'a [(String, Vec<(u64, u64)>)],
    /// Since it has lost its connection, the gaps for that were sent.
    pub(super) is_restored: bool,
}

/// How often a client was sent a gap, and how often nothing was missing there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) resumes: usize,
    pub(super) gaps: usize,
    pub(super) needless: usize,
    /// How often a gateway has gone on with the histories of another, that ran or had ended.
    pub(super) taken_over: usize,
    pub(super) restored: usize,
}

pub(super) struct FleetClient {
    pub(super) names: Vec<String>,
    /// The gateway, and the stream.
    pub(super) stream: Option<(usize, Subscriber)>,
    pub(super) id: Option<String>,
    /// Breaks the connection after so many more blocks.
    pub(super) blocks_left: Option<usize>,
    pub(super) takes_position: bool,
    /// Counts the connections.
    pub(super) visits: u64,
    pub(super) count: Count,
    is_new: bool,
    text: String,
    // The message up to which nothing of a channel is missing. Empty before the first `ready`.
    complete: HashMap<String, u64>,
    // Channels named in a gap: what is missing before their next message is no loss.
    excused: HashSet<String>,
    // Its past has come: from here on nothing may be missing.
    is_up_to_date: bool,
    got: HashSet<u64>,
    newest: u64,
    // Messages up to here were published before it subscribed.
    floor: u64,
}

impl FleetClient {
    pub(super) fn new(names: Vec<String>, takes_position: bool) -> Self {
        Self {
            names,
            stream: None,
            id: None,
            blocks_left: None,
            takes_position,
            visits: 0,
            count: Count::default(),
            is_new: false,
            text: String::new(),
            complete: HashMap::new(),
            excused: HashSet::new(),
            is_up_to_date: false,
            got: HashSet::new(),
            newest: 0,
            floor: 0,
        }
    }

    pub(super) fn open(&mut self, gateway: usize, stream: Subscriber, heard: Heard<'_>) {
        self.visits += 1;
        self.is_new = true;
        self.count.resumes += usize::from(self.id.is_some());
        // Without an id it begins anew: it is promised what comes from its next `ready` on.
        if self.id.is_none() {
            self.complete.clear();
            self.excused.clear();
            self.floor = heard.settled;
        }
        self.stream = Some((gateway, stream));
    }

    /// The connection is gone, and what was not read.
    pub(super) fn cut(&mut self, heard: Heard<'_>) {
        self.stream = None;
        self.text.clear();
        self.is_up_to_date = false;
        // What its id covers was excused for good; of the rest it is told again.
        let place = self.place_of_id(heard);
        for name in self.excused.drain() {
            let complete = self.complete.entry(name).or_default();
            *complete = place.max(*complete);
        }
    }

    fn place_of_id(&self, heard: Heard<'_>) -> u64 {
        let mut parts = self.id.as_deref().unwrap_or_default().splitn(3, '-');
        let (run, number) = (parts.next(), parts.next().and_then(|number| number.parse().ok()));
        let (Some(run), Some(number)) = (run, number) else { return 0 };
        // A number from before a run is one of the run that it goes on with.
        let earlier = heard.earlier.iter().map(|(run, numbers)| (&**run, &**numbers));
        let mut runs = earlier.chain([(heard.run, heard.numbers)]).rev();
        let runs = runs.by_ref().skip_while(|(known, _)| *known != run);
        let place = |(_, numbers): (&str, &[(u64, u64)])| {
            let after = numbers.partition_point(|(known, _)| *known <= number);
            Some(numbers[after.checked_sub(1)?].1)
        };
        runs.filter_map(place).next().unwrap_or_default()
    }

    /// Whether this is the first call since the stream was opened.
    pub(super) fn has_opened(&mut self) -> bool {
        self.stream.is_some() && std::mem::take(&mut self.is_new)
    }

    /// Reads what has arrived. Returns whether the connection is to be cut, and whether anything was read.
    pub(super) fn read(
        &mut self,
        heard: Heard<'_>,
        server: &Server,
    ) -> Result<(bool, bool), Fault> {
        let context = Context::from_waker(Waker::noop());
        let (mut is_over, mut has_read) = (false, false);
        // Until nothing is left: only then is the next page of the past requested.
        loop {
            let Some((_, stream)) = &self.stream else { return Ok((false, false)) };
            match stream.poll_next(Form::Text, &context) {
                Poll::Ready(Some(bytes)) => self.text += str::from_utf8(&bytes).expect("text"),
                Poll::Ready(None) => {
                    is_over = true;
                    break;
                }
                Poll::Pending => break,
            }
            has_read = true;
        }
        self.take_blocks(heard, server)?;
        Ok((is_over || self.blocks_left == Some(0), has_read))
    }

    /// Takes the blocks that have come.
    fn take_blocks(&mut self, heard: Heard<'_>, server: &Server) -> Result<(), Fault> {
        while self.blocks_left != Some(0)
            && let Some(end) = self.text.find("\n\n")
        {
            let block: String = self.text.drain(..end + 2).collect();
            self.take(&block, heard, server)?;
            if let Some(left) = &mut self.blocks_left {
                *left -= 1;
            }
        }
        // `ready` is a comment line, and ends no block.
        if self.blocks_left != Some(0) && self.text.contains(": ready\n") {
            self.text.clear();
            self.ready(heard, server)?;
        }
        Ok(())
    }

    fn take(&mut self, block: &str, heard: Heard<'_>, server: &Server) -> Result<(), Fault> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let is_ready = block.contains(": ready\n");
        if is_ready && !self.takes_position {
            self.ready(heard, server)?;
        }
        if let Some(id) = field("id: ") {
            self.id = Some(id.to_owned());
        }
        if is_ready && self.takes_position {
            self.ready(heard, server)?;
        }
        let Some(data) = field("data: ") else { return Ok(()) };
        if field("event: ") == Some("gap") {
            return self.gap(data, heard, server);
        }
        let (channel, index) = data.split_once(' ').expect("a channel and an index");
        let index: u64 = index.parse().expect("an index");
        if !self.got.insert(index) {
            return Err(Fault::Repeated(format!("{index} came twice")));
        }
        if index < self.newest {
            return Err(Fault::Reordered(format!("{index} came after {}", self.newest)));
        }
        self.newest = index;
        if index <= self.floor {
            return Err(Fault::Early(format!("{index} is from before {}", self.floor)));
        }
        let comes_once = !self.names.iter().any(|name| name == "p*");
        if comes_once && self.excused.remove(channel) {
            self.complete.insert(channel.to_owned(), index - 1);
        }
        // After a break, the gaps may come behind the first events.
        if self.is_up_to_date && heard.is_restored { self.check(index, server) } else { Ok(()) }
    }

    fn ready(&mut self, heard: Heard<'_>, server: &Server) -> Result<(), Fault> {
        self.is_up_to_date = true;
        for name in self.excused.drain() {
            self.complete.insert(name, heard.newest);
        }
        for name in &self.names {
            self.complete.entry(name.clone()).or_insert(heard.newest);
        }
        if heard.is_restored { self.check(self.newest, server) } else { Ok(()) }
    }

    fn gap(&mut self, data: &str, heard: Heard<'_>, server: &Server) -> Result<(), Fault> {
        if data.contains("too_large") {
            return Ok(());
        }
        let is_of_break = data.contains("redis_away");
        let is_unknown = data.contains("unknown_id");
        let named = |name: &&String| data.contains(&format!("\"{name}\""));
        let named: Vec<String> = self.names.iter().filter(named).cloned().collect();
        assert!(!named.is_empty(), "{data}");
        for name in named {
            let Some(complete) = self.complete.get_mut(&name) else { continue };
            self.count.gaps += 1;
            let missing = server.messages.get(&name).is_some_and(|messages| {
                let mut after = messages.iter().filter(|index| **index > *complete);
                after.any(|index| *index <= heard.newest && !self.got.contains(index))
            });
            self.count.needless += usize::from(!missing);
            if is_unknown || is_of_break && self.is_up_to_date {
                *complete = heard.newest.max(*complete);
            } else {
                self.excused.insert(name);
            }
        }
        Ok(())
    }

    /// Everything up to `index` must have come, or be covered by a gap.
    pub(super) fn check(&mut self, index: u64, server: &Server) -> Result<(), Fault> {
        for (name, complete) in &mut self.complete {
            if self.excused.contains(name) {
                continue;
            }
            let messages = server.messages.get(name).map_or(&[][..], Vec::as_slice);
            let start = messages.partition_point(|known| *known <= *complete);
            let due = messages[start..].iter().take_while(|known| **known <= index);
            let missing: Vec<_> = due.filter(|known| !self.got.contains(known)).collect();
            if !missing.is_empty() {
                return Err(Fault::Lost(format!("{missing:?} of {name} before {index}")));
            }
            *complete = index.max(*complete);
        }
        Ok(())
    }

    pub(super) fn is_up_to_date(&self) -> bool {
        self.is_up_to_date
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, text) = match self {
            Self::Lost(text) => ("lost", text),
            Self::Repeated(text) => ("repeated", text),
            Self::Reordered(text) => ("reordered", text),
            Self::Early(text) => ("early", text),
        };
        write!(f, "{what}: {text}")
    }
}
