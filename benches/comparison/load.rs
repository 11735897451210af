//! The load: thousands of streams and one publisher, on one thread.
//!
//! Events of epoll, and nothing between them and the reading: it must take less CPU than any server.
//! [`crate::stream`] checks what arrives.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;

use crate::Outcome;
use crate::clock::{self, MILLISECOND, SECOND};
use crate::connection::{Connection, Scratch};
use crate::machine;
use crate::mode::Mode;
use crate::payload::Stamp;
use crate::publisher::Publisher;
use crate::stream::{Stream, Tally};

const PUBLISHER: Token = Token(usize::MAX);
/// The time limit for everything that should take almost no time.
const PATIENCE: u64 = 30 * SECOND;
/// Bytes to publish that may wait for the server to take them.
const MAX_BACKLOG: usize = 256 << 10;

/// Where the streams of a load come from.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) address: SocketAddr,
    pub(crate) mode: Mode,
    /// The path of a channel's stream, before the name of the channel.
    pub(crate) path: String,
    pub(crate) tls: Arc<ClientConfig>,
    /// Streams that may be in the process of being opened.
    pub(crate) opening: usize,
}

impl Place {
    fn path(&self, channel: u64) -> String {
        format!("{}{}", self.path, crate::publisher::channel_name(channel))
    }
}

/// How events are published.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Not at all.
    Silence,
    /// This many in a second, one channel after the other.
    Rate(f64),
    /// This many rounds in a second, each on all channels at once.
    Rounds(f64),
    /// As fast as the slowest stream keeps up, with this many on their way.
    InFlight(usize),
}

/// The result of publishing for a while.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    pub(crate) seconds: f64,
    pub(crate) delivered: u64,
}

/// Streams that come and go beside the others.
#[derive(Clone, Debug)]
pub(crate) struct Churn {
    /// Opened and closed in a second, together.
    pub(crate) per_second: f64,
    /// The channels that they ask for, one after the other.
    pub(crate) channels: std::ops::Range<u64>,
    /// The connections that they are on; their first stream stays.
    pub(crate) connections: std::ops::Range<usize>,
}

/// The load: connections, and one publisher.
#[derive(Debug)]
pub(crate) struct Load {
    poll: Poll,
    // Taken out only while they are handled.
    events: Option<Events>,
    connections: Vec<Connection>,
    publisher: Publisher,
    scratch: Scratch,
    pub(crate) tally: Tally,
    // The streams of each channel, and the sequence number it is at.
    channels: Vec<(usize, u64)>,
    message: Vec<u8>,
    next_channel: usize,
    // Streams that were requested.
    asked: usize,
    // What is due to be published: messages, or for rounds the number of rounds.
    due: f64,
    // Messages that the round has yet to publish.
    left_of_round: usize,
}

impl Load {
    pub(crate) fn new(mut publisher: Publisher, payload: usize) -> Outcome<Self> {
        let poll = Poll::new()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(publisher.socket(), PUBLISHER, interest)?;
        Ok(Self {
            poll,
            events: Some(Events::with_capacity(1024)),
            connections: Vec::new(),
            publisher,
            scratch: Scratch::new(),
            tally: Tally { payload, ..Tally::default() },
            channels: Vec::new(),
            message: Vec::new(),
            next_channel: 0,
            asked: 0,
            due: 0.0,
            left_of_round: 0,
        })
    }

    /// The connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Opens this many streams, spread over channels `first..first + channels`, and waits until all of them
    /// have a response.
    pub(crate) fn open(
        &mut self,
        place: &Place,
        streams: usize,
        first: u64,
        channels: usize,
    ) -> Outcome {
        self.channels.resize(self.channels.len().max(first as usize + channels), (0, 0));
        let wanted: Vec<u64> =
            (0..streams).map(|place| first + (place % channels) as u64).collect();
        for group in wanted.chunks(place.mode.streams_per_connection) {
            let limit = place.opening.max(place.mode.streams_per_connection);
            self.until("streams to open", |load| load.asked - load.tally.opened <= limit)?;
            for &channel in group {
                self.channels[channel as usize].0 += 1;
            }
            let group =
                group.iter().map(|&channel| (Stream::new(channel), place.path(channel))).collect();
            self.connect(place, group)?;
        }
        self.until("all streams to open", |load| load.asked == load.tally.opened)
    }

    fn connect(&mut self, place: &Place, streams: Vec<(Stream, String)>) -> Outcome {
        self.asked += streams.len();
        let mut connection = Connection::open(place.address, place.mode, &place.tls, streams)?;
        let token = Token(self.connections.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(connection.socket(), token, interest)?;
        self.connections.push(connection);
        Ok(())
    }

    /// Publishes until every stream has received something: from then on nothing may be missing.
    pub(crate) fn warm_up(&mut self, pause: f64) -> Outcome {
        let streams = self.asked;
        let end = clock::now() + PATIENCE;
        while self.tally.warm < streams {
            for channel in 0..self.channels.len() {
                if self.channels[channel].0 > 0 {
                    self.publish(channel, 0);
                }
                if channel % 512 == 511 {
                    self.turn(1)?;
                }
            }
            let next = clock::now() + clock::seconds(0.3);
            while clock::now() < next && self.tally.warm < streams {
                self.turn(10)?;
            }
            if clock::now() > end {
                let warm = self.tally.warm;
                return Err(format!("{warm} of {streams} streams receive anything").into());
            }
        }
        // Warm-ups that are still on their way.
        self.run(pause, Pace::Silence).map(drop)
    }

    /// Publishes for this long, then waits until all of it has been delivered.
    pub(crate) fn run(&mut self, seconds: f64, pace: Pace) -> Outcome<Window> {
        self.run_with(seconds, pace, None)
    }

    /// The same, with streams that come and go.
    pub(crate) fn run_with(
        &mut self,
        seconds: f64,
        pace: Pace,
        churn: Option<(&Place, &Churn, &mut Churned)>,
    ) -> Outcome<Window> {
        let mut churn = churn;
        let started = clock::now();
        let end = started + clock::seconds(seconds);
        let before = self.tally.delivered;
        let mut expected = 0;
        (self.due, self.left_of_round) = (0.0, 0);
        let mut last = started;
        loop {
            let now = clock::now();
            if now >= end {
                break;
            }
            let passed = clock::as_seconds(now - std::mem::replace(&mut last, now));
            while self.is_due(pace) {
                expected += self.publish_next() as u64;
            }
            if let Pace::Rate(rate) | Pace::Rounds(rate) = pace {
                self.due += passed * rate;
            }
            if let Some((place, churn, done)) = &mut churn {
                self.churn(place, churn, passed, done);
            }
            let until_end = (end - now) / MILLISECOND + 1;
            let until_due = match pace {
                Pace::Rate(rate) | Pace::Rounds(rate) => {
                    ((1.0 - self.due).max(0.0) / rate * 1000.0) as u64
                }
                Pace::InFlight(_) | Pace::Silence => 100,
            };
            let pause = if churn.is_some() { 1 } else { until_due.min(until_end) };
            self.turn(pause)?;
        }
        self.until("everything to arrive", |load| load.tally.delivered - before >= expected)?;
        // The rate is that of everything that was delivered, including the wait for the last event.
        let elapsed = clock::as_seconds(clock::now() - started);
        Ok(Window { seconds: elapsed, delivered: self.tally.delivered - before })
    }

    fn is_due(&mut self, pace: Pace) -> bool {
        if self.publisher.backlog() >= MAX_BACKLOG {
            return false;
        }
        if self.left_of_round > 0 {
            self.left_of_round -= 1;
            return true;
        }
        let is_due = match pace {
            Pace::Silence => false,
            Pace::Rate(_) | Pace::Rounds(_) => self.due >= 1.0,
            Pace::InFlight(most) => self.tally.progress.in_flight() < most,
        };
        if is_due {
            self.due -= 1.0;
            if let Pace::Rounds(_) = pace {
                self.left_of_round = self.channels.len() - 1;
            }
        }
        is_due
    }

    /// Publishes on the next channel that has streams; returns how many it has.
    fn publish_next(&mut self) -> usize {
        let channels = self.channels.len();
        let channel = (0..channels)
            .map(|step| (self.next_channel + step) % channels)
            .find(|&channel| self.channels[channel].0 > 0)
            .unwrap_or(0);
        self.next_channel = channel + 1;
        let (streams, sequence) = &mut self.channels[channel];
        *sequence += 1;
        let (streams, sequence) = (*streams, *sequence);
        if channels == 1 {
            self.tally.progress.published(sequence, streams);
        }
        self.publish(channel, sequence);
        streams
    }

    fn publish(&mut self, channel: usize, sequence: u64) {
        let channel = channel as u64;
        let stamp = Stamp { sequence, sent: clock::now(), channel };
        stamp.write(&mut self.message, self.tally.payload);
        self.publisher.publish(channel, &self.message);
        if let Err(error) = self.publisher.write() {
            self.tally.fail(|| format!("publishing: {error}"));
        }
    }

    fn until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) -> Outcome {
        let end = clock::now() + PATIENCE;
        while !is_done(self) {
            self.turn(20)?;
            if clock::now() > end {
                let Tally { opened, delivered, .. } = self.tally;
                return Err(format!("waited for {what}: {opened} opened, {delivered} came").into());
            }
        }
        self.check()
    }

    fn check(&self) -> Outcome {
        self.tally.failure.as_ref().map_or(Ok(()), |failure| Err(failure.clone().into()))
    }

    /// Waits for events, at most this many milliseconds, and handles them.
    fn turn(&mut self, milliseconds: u64) -> Outcome {
        machine::check_interrupt()?;
        let mut events = self.events.take().unwrap_or_else(|| Events::with_capacity(1024));
        let wait = Duration::from_millis(milliseconds.min(100));
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            if event.token() == PUBLISHER {
                self.publisher.read()?;
                self.publisher.write()?;
                continue;
            }
            let Some(connection) = self.connections.get_mut(event.token().0) else {
                continue;
            };
            if event.is_writable() {
                connection.writable(&mut self.tally);
            }
            if event.is_readable() || event.is_read_closed() {
                connection.readable(&mut self.scratch, &mut self.tally);
            }
        }
        self.events = Some(events);
        self.check()
    }

    fn churn(&mut self, place: &Place, churn: &Churn, passed: f64, done: &mut Churned) {
        done.due += passed * churn.per_second;
        // A larger delay is not made up for: the rate that was reached is reported.
        done.due = done.due.min(churn.per_second / 20.0);
        while done.due >= 1.0 {
            done.due -= 1.0;
            let turn = done.turn;
            done.turn += 1;
            let connections = churn.connections.len();
            let connection = churn.connections.start + (turn / 2) % connections;
            let Some(connection) = self.connections.get_mut(connection) else { return };
            if turn.is_multiple_of(2) && done.open < 20 * connections {
                let channels = churn.channels.end - churn.channels.start;
                let channel = churn.channels.start + (turn as u64 / 2) % channels;
                connection.open_stream(Stream::new(channel), &place.path(channel), &mut self.tally);
                done.open += 1;
                done.opened += 1;
            } else if connection.reset_stream(1, &mut self.tally) {
                done.open -= 1;
                done.closed += 1;
            }
        }
    }
}

/// The result of a [`Churn`].
#[derive(Debug, Default)]
pub(crate) struct Churned {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    due: f64,
    turn: usize,
    open: usize,
}
