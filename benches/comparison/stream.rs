//! One stream of events as it arrives, and the checks on it: every sequence number, no gap, no repetition, in
//! order, every byte of every payload.

use std::collections::VecDeque;

use crate::clock;
use crate::payload::Stamp;

/// A stream of one channel.
#[derive(Debug)]
pub(crate) struct Stream {
    channel: u64,
    // The sequence number that comes next.
    next: u64,
    is_warm: bool,
    // The beginning of a line whose end has not come.
    line: Vec<u8>,
    // The data of an event whose end has not come.
    event: Option<Stamp>,
}

/// What all streams received together.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Bytes of a payload.
    pub(crate) payload: usize,
    /// Streams whose response has begun.
    pub(crate) opened: usize,
    /// Streams that received a warm-up.
    pub(crate) warm: usize,
    /// Events, warm-ups not counted.
    pub(crate) delivered: u64,
    /// Microseconds from publish to receipt, on the channels from this number on; `None` where they are not
    /// measured.
    pub(crate) latencies: Option<Vec<u32>>,
    /// How far one channel has come; used where publishing waits for the slowest.
    pub(crate) progress: Progress,
    /// The first thing that was wrong.
    pub(crate) failure: Option<String>,
}

/// Events of one channel that have not reached every stream.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    // The sequence number of the first of them.
    first: u64,
    // How many streams each event still has to reach.
    missing: VecDeque<usize>,
}

impl Progress {
    /// An event was published to this many streams.
    pub(crate) fn published(&mut self, sequence: u64, streams: usize) {
        if self.missing.is_empty() {
            self.first = sequence;
        }
        self.missing.push_back(streams);
    }

    /// Events on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.missing.len()
    }

    fn received(&mut self, sequence: u64) {
        let place = sequence.checked_sub(self.first).map(|place| place as usize);
        if let Some(missing) = place.and_then(|place| self.missing.get_mut(place)) {
            *missing -= 1;
        }
        while self.missing.front() == Some(&0) {
            self.missing.pop_front();
            self.first += 1;
        }
    }
}

impl Tally {
    /// Notes what went wrong, if it is the first thing.
    pub(crate) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.failure.is_none() {
            self.failure = Some(what());
        }
    }

    fn received(&mut self, stamp: Stamp) {
        self.delivered += 1;
        if let Some(latencies) = &mut self.latencies {
            let micros = (clock::now() - stamp.sent) / 1000;
            latencies.push(u32::try_from(micros).unwrap_or(u32::MAX));
        }
        self.progress.received(stamp.sequence);
    }
}

impl Stream {
    pub(crate) fn new(channel: u64) -> Self {
        Self { channel, next: 1, is_warm: false, line: Vec::new(), event: None }
    }

    /// Reads the next bytes of the body.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], tally: &mut Tally) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            if self.line.is_empty() {
                self.line(&bytes[..end], tally);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.line(&line, tally);
            }
            bytes = &bytes[end + 1..];
        }
        self.line.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8], tally: &mut Tally) {
        if let Some(data) = line.strip_prefix(b"data: ") {
            let stamp = Stamp::read(data, tally.payload);
            if stamp.is_none() || self.event.is_some() {
                let text = String::from_utf8_lossy(&data[..data.len().min(120)]);
                tally.fail(|| format!("not what was published: {text:?}, {} bytes", data.len()));
            }
            self.event = stamp;
        } else if line.is_empty()
            && let Some(stamp) = self.event.take()
        {
            self.event(stamp, tally);
        }
    }

    fn event(&mut self, stamp: Stamp, tally: &mut Tally) {
        if stamp.channel != self.channel {
            tally.fail(|| format!("channel {} on a stream of {}", stamp.channel, self.channel));
        } else if stamp.sequence == 0 && self.next == 1 {
            tally.warm += usize::from(!std::mem::replace(&mut self.is_warm, true));
        } else if stamp.sequence == self.next {
            self.next += 1;
            tally.received(stamp);
        } else {
            let next = self.next;
            tally.fail(|| format!("event {} came where {next} should have", stamp.sequence));
        }
    }
}
