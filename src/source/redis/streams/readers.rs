//! Which blocking reader reads which stream.

use std::collections::HashMap;
use std::rc::Rc;

use ssegate_hub::ChannelName;
use tokio::task::JoinSet;

use super::ReaderState;
use super::blocking_reader::BlockingReader;
use crate::source::redis::connection::NO_ID;
use crate::source::redis::error::SourceError;

/// The blocking readers beside one command connection. They end when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Readers {
    all: Vec<Rc<BlockingReader>>,
    tasks: JoinSet<SourceError>,
    by_stream: HashMap<ChannelName, Rc<BlockingReader>>,
}

impl Readers {
    /// Whether no stream is being read.
    pub(super) fn is_empty(&self) -> bool {
        self.by_stream.is_empty()
    }

    /// The streams that are being read.
    pub(super) fn streams(&self) -> Vec<ChannelName> {
        self.by_stream.keys().cloned().collect()
    }

    /// Waits until a reader fails. Returns its error; `None` if there are no readers. Cancel safe.
    pub(super) async fn failed(&mut self) -> Option<SourceError> {
        let ended = self.tasks.join_next().await?;
        Some(ended.unwrap_or_else(|error| SourceError::Unexpected(error.to_string())))
    }

    /// Lets a reader read this stream, a new one if all are full. If one reads it already, it starts
    /// again from where the stream stands now if `has_moved`.
    pub(super) fn read(&mut self, name: ChannelName, has_moved: bool, state: &Rc<ReaderState>) {
        match self.by_stream.get(&name) {
            None => self.assign(name, state),
            Some(reader) if has_moved => reader.mark_changed(),
            Some(_) => {}
        }
    }

    fn assign(&mut self, name: ChannelName, state: &Rc<ReaderState>) {
        let reader = match self.all.iter().find(|reader| reader.has_capacity()) {
            Some(reader) => Rc::clone(reader),
            None => {
                let reader = Rc::new(BlockingReader::default());
                self.tasks.spawn_local(Rc::clone(&reader).run(Rc::clone(state)));
                self.all.push(Rc::clone(&reader));
                reader
            }
        };
        reader.names.borrow_mut().insert(name.clone());
        reader.mark_changed();
        self.by_stream.insert(name, reader);
    }

    /// Stops reading a stream. No effect if it is not being read.
    pub(super) fn remove(&mut self, name: &ChannelName) {
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

    /// The ids of the connections whose `XREAD` is outdated.
    pub(super) fn outdated_connections(&self) -> Vec<String> {
        let outdated = self.all.iter().filter(|reader| reader.is_outdated());
        let ids = outdated.map(|reader| reader.connection_id.get());
        ids.filter(|id| *id != NO_ID).map(|id| id.to_string()).collect()
    }
}
