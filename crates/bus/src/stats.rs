//! Counters of the bus, which any thread may read.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::memory::BusMemory;

/// Counters of one bus since its start.
#[derive(Debug, Default)]
pub struct BusStats {
    sessions_opened: AtomicU64,
    sessions_closed: AtomicU64,
    sessions_refused: AtomicU64,
    slow_subscribers: AtomicU64,
    http_requests: AtomicU64,
    oversized_messages: AtomicU64,
    closed_for_memory: AtomicU64,
    memory: BusMemory,
    streams: AtomicUsize,
    stream_bytes: AtomicUsize,
    entries_refused: AtomicU64,
}

impl BusStats {
    pub(super) fn new(memory: BusMemory) -> Self {
        Self { memory, ..Self::default() }
    }

    /// Bytes that all connections hold together.
    pub fn memory(&self) -> usize {
        self.memory.used()
    }

    /// Streams.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Bytes that all streams hold together.
    pub fn stream_bytes(&self) -> usize {
        self.stream_bytes.load(Ordering::Relaxed)
    }

    /// Entries refused because all streams together held too much.
    pub fn entries_refused(&self) -> u64 {
        get(&self.entries_refused)
    }

    /// Connections closed because all of them together held too much.
    pub fn closed_for_memory(&self) -> u64 {
        get(&self.closed_for_memory)
    }

    /// Connections refused or closed since the start, by reason.
    pub fn connections_closed(&self) -> [(&'static str, u64); 4] {
        [
            ("http", self.http_requests()),
            ("memory", self.closed_for_memory()),
            ("sessions", self.sessions_refused()),
            ("slow_subscriber", self.slow_subscribers()),
        ]
    }

    /// Open connections.
    pub fn sessions(&self) -> u64 {
        get(&self.sessions_opened).saturating_sub(get(&self.sessions_closed))
    }

    /// Connections refused because too many were open.
    pub fn sessions_refused(&self) -> u64 {
        get(&self.sessions_refused)
    }

    /// Subscribers disconnected because they did not read.
    pub fn slow_subscribers(&self) -> u64 {
        get(&self.slow_subscribers)
    }

    /// Connections closed because they sent HTTP.
    pub fn http_requests(&self) -> u64 {
        get(&self.http_requests)
    }

    /// Messages larger than `max_event_bytes`.
    pub fn oversized_messages(&self) -> u64 {
        get(&self.oversized_messages)
    }

    pub(super) fn set_streams(&self, streams: usize, bytes: usize) {
        self.streams.store(streams, Ordering::Relaxed);
        self.stream_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn entry_was_refused(&self) {
        add(&self.entries_refused);
    }

    /// Counts a session, and returns its number.
    pub(super) fn session_opened(&self) -> u64 {
        self.sessions_opened.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn session_closed(&self) {
        add(&self.sessions_closed);
    }

    pub(super) fn session_refused(&self) {
        add(&self.sessions_refused);
    }

    pub(super) fn subscriber_was_slow(&self) {
        add(&self.slow_subscribers);
    }

    pub(super) fn http_request_closed(&self) {
        add(&self.http_requests);
    }

    pub(super) fn session_closed_for_memory(&self) {
        add(&self.closed_for_memory);
    }

    pub(super) fn message_was_oversized(&self) {
        add(&self.oversized_messages);
    }
}

fn get(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
