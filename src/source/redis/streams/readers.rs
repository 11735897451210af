//! Which streams are read, and how: by a blocking connection or, in a Cluster, by polling.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::time::Duration;

use ssegate_hub::ChannelName;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ReaderState;
use super::blocking_reader::BlockingReader;
use super::polled::PolledStreams;
use crate::source::redis::cluster::slot_of;
use crate::source::redis::connection::NO_ID;
use crate::source::redis::error::SourceError;

/// Slots of a Cluster with a blocking connection, at most: each slot needs a connection of its own. Streams of
/// further slots are polled.
const MAX_SLOTS: usize = 64;

/// How long streams are polled while their slot moves to another node.
const MOVING: Duration = Duration::from_secs(2);

/// What reads the streams of one session. Ends when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Readers {
    is_cluster: bool,
    all: Vec<Rc<BlockingReader>>,
    tasks: JoinSet<EndedReader>,
    by_stream: HashMap<ChannelName, Rc<BlockingReader>>,
    pub(super) polled: PolledStreams,
}

/// A reader that has failed.
#[derive(Debug)]
pub(super) struct EndedReader {
    /// `None`: its task has panicked.
    pub(super) reader: Option<Rc<BlockingReader>>,
    pub(super) error: SourceError,
}

impl Readers {
    /// Creates the readers of streams in a Cluster, or at one server.
    pub(super) fn new(is_cluster: bool) -> Self {
        Self { is_cluster, ..Self::default() }
    }

    /// Whether no stream is being read.
    pub(super) fn is_empty(&self) -> bool {
        self.by_stream.is_empty() && self.polled.is_empty()
    }

    /// The streams that are being read.
    pub(super) fn streams(&self) -> Vec<ChannelName> {
        self.by_stream.keys().cloned().chain(self.polled.names()).collect()
    }

    /// Waits until a reader fails; `None` if there are no readers. Cancel safe.
    pub(super) async fn failed(&mut self) -> Option<EndedReader> {
        let ended = self.tasks.join_next().await?;
        Some(ended.unwrap_or_else(|error| EndedReader {
            reader: None,
            error: SourceError::Unexpected(error.to_string()),
        }))
    }

    /// Removes a reader in a Cluster that has failed. Returns its streams, which are not read any more.
    pub(super) fn remove_ended(&mut self, ended: &Rc<BlockingReader>) -> HashSet<ChannelName> {
        self.all.retain(|reader| !Rc::ptr_eq(reader, ended));
        let names = ended.names.take();
        for name in &names {
            self.by_stream.remove(name);
        }
        if ended.is_moving.get() {
            let until = Instant::now() + MOVING;
            names.iter().for_each(|name| self.polled.expect(name.clone(), until));
        }
        names
    }

    /// Assigns this stream to a reader, a new one if all are full. If a reader has it already, that reader starts
    /// again from the current position of the stream if `has_moved`.
    pub(super) fn read(&mut self, name: ChannelName, has_moved: bool, state: &Rc<ReaderState>) {
        match self.by_stream.get(&name) {
            None if self.polled.has(&name) => self.polled.restart(&name, has_moved),
            None => self.assign(name, state),
            Some(reader) if has_moved => reader.mark_changed(),
            Some(_) => {}
        }
    }

    fn assign(&mut self, name: ChannelName, state: &Rc<ReaderState>) {
        let slot = self.is_cluster.then(|| slot_of(name.as_str().as_bytes()));
        let with_room = self.all.iter().find(|reader| reader.has_capacity(slot));
        let reader = match with_room {
            _ if self.polled.is_expected(&name) => return self.polled.add(name),
            Some(reader) => Rc::clone(reader),
            None if self.is_cluster && self.all.len() >= MAX_SLOTS => return self.polled.add(name),
            None => {
                let reader = Rc::new(BlockingReader::of_slot(slot));
                let (running, state) = (Rc::clone(&reader), Rc::clone(state));
                self.tasks.spawn_local(async move {
                    let error = Rc::clone(&running).run(state).await;
                    EndedReader { reader: Some(running), error }
                });
                self.all.push(Rc::clone(&reader));
                reader
            }
        };
        reader.names.borrow_mut().insert(name.clone());
        reader.mark_changed();
        self.by_stream.insert(name, reader);
    }

    /// Ends the polling of streams whose slot was moving: a blocking connection reads them again.
    pub(super) fn end_moves(&mut self, state: &Rc<ReaderState>) {
        for name in self.polled.take_settled(Instant::now()) {
            self.assign(name, state);
        }
    }

    /// Stops reading a stream. No effect if it is not being read.
    pub(super) fn remove(&mut self, name: &ChannelName) {
        self.polled.remove(name);
        if let Some(reader) = self.by_stream.remove(name) {
            reader.names.borrow_mut().remove(name);
            reader.mark_changed();
        }
    }

    /// The streams of the readers whose `XREAD` was refused since the last call.
    pub(super) fn take_refused(&self) -> Vec<ChannelName> {
        let refused = self.all.iter().filter(|reader| reader.is_refused.replace(false));
        refused
            .flat_map(|reader| reader.names.borrow().iter().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// Whether the `XREAD` of a reader is outdated, so that its connection is to be unblocked.
    pub(super) fn needs_unblock(&self) -> bool {
        self.all.iter().any(|reader| reader.is_outdated())
    }

    /// The readers whose `XREAD` is outdated and can be unblocked.
    pub(super) fn outdated(&self) -> Vec<Rc<BlockingReader>> {
        let outdated = self
            .all
            .iter()
            .filter(|reader| reader.is_outdated() && reader.connection_id.get() != NO_ID);
        outdated.cloned().collect()
    }
}
