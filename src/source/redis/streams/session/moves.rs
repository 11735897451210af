//! Streams of a Cluster whose slot moves, whose node is gone, or that have no blocking connection.

use std::rc::Rc;

use ssegate_hub::ChannelName;
use ssegate_resp::Value;
use tokio::time::Instant;

use super::StreamSession;
use crate::source::redis::cluster::slot_of;
use crate::source::redis::error::SourceError;
use crate::source::redis::streams::blocking_reader::parse_streams;
use crate::source::redis::streams::command::StreamCommand;
use crate::source::redis::streams::entry::{EntriesReply, ReplyBudget};
use crate::source::redis::streams::readers::EndedReader;

impl StreamSession {
    /// Replaces a reader that has failed, or whose slot is at another node. Its streams are read again once it is known
    /// whether they are the same there. They are checked at once if the node has redirected the reader, else soon.
    ///
    /// # Errors
    /// The one server has failed.
    pub(super) fn replace_reader(&mut self, ended: EndedReader) -> Result<(), SourceError> {
        let Some(reader) = ended.reader.filter(|_| self.link.is_cluster()) else {
            return Err(ended.error);
        };
        let names = self.readers.remove_ended(&reader);
        let is_redirected = matches!(ended.error, SourceError::Redirected(_));
        if !is_redirected {
            let what = "lost the connection to a node while reading streams";
            let loss = self.state.lose_reader(reader.node.borrow().as_ref());
            self.state.lost(&ended.error, what, loss);
        }
        for name in names {
            // Two nodes may each name the other for a moment.
            match is_redirected && self.moved.insert(name.clone()) {
                true => self.recheck(name),
                false => drop(self.to_recheck.insert(name)),
            }
        }
        Ok(())
    }

    /// Handles the loss of a connection to a node. Its pending commands are sent again. The streams that were polled
    /// there may not be the same at the node that takes its place.
    pub(super) fn handle_failure(&mut self) {
        let Some(failure) = self.link.take_failure() else { return };
        let what = "lost the connection to a node of the Cluster";
        self.state.lost(&failure.error, what, failure.loss);
        let Some((_, cluster)) = self.state.server.cluster() else { return };
        let is_there = |name: &ChannelName| {
            cluster.owner(slot_of(name.as_str().as_bytes())).as_ref() == Some(&failure.node)
        };
        let polled: Vec<ChannelName> = self.readers.polled.names().filter(is_there).collect();
        polled.into_iter().for_each(|name| self.recheck(name));
    }

    /// Whether the node that owns a stream cannot be used: it is read once that can, and the gateway serves others meanwhile.
    pub(super) fn is_down(&self, name: &ChannelName) -> bool {
        let slot = slot_of(name.as_str().as_bytes());
        self.state.server.cluster().is_some_and(|(_, cluster)| cluster.is_down(slot))
    }

    /// Stops reading a stream until it is known whether it is still the same, as on a new connection.
    pub(super) fn recheck(&mut self, name: ChannelName) {
        self.readers.remove(&name);
        if self.pending_info.contains(&name) {
            self.stale.insert(name);
        } else if self.state.streams.borrow().contains_key(name.as_str()) {
            self.unchecked.insert(name.clone());
            self.send_info(name);
        }
    }

    /// Whether the result of a check dates from before the stream was [checked again](Self::recheck). If so, begins the
    /// new check.
    pub(super) fn is_stale(&mut self, name: &ChannelName) -> bool {
        let is_stale = self.stale.remove(name);
        if is_stale {
            self.end_check(name);
            self.recheck(name.clone());
        }
        is_stale
    }

    /// Polls the streams that are due.
    pub(super) fn poll_streams(&mut self) {
        let state = Rc::clone(&self.state);
        for (name, number, most) in self.readers.polled.begin(Instant::now()) {
            let last = state.streams.borrow().get(name.as_str()).and_then(|stream| stream.last);
            let Some(last) = last else {
                self.readers.polled.end(&name, number);
                continue;
            };
            let (most, last) = (most.to_string(), last.to_string());
            let arguments = ["COUNT", &most, "STREAMS", name.as_str(), &last];
            let command = StreamCommand::Poll(name.clone(), number);
            self.link.send("XREAD", arguments.into_iter(), command);
        }
    }

    /// Delivers the entries that a poll has returned.
    pub(super) fn handle_poll(
        &mut self,
        name: &ChannelName,
        number: u64,
        reply: Value,
    ) -> Result<(), SourceError> {
        if !self.readers.polled.end(name, number) || reply == Value::Null {
            return Ok(());
        }
        let streams = parse_streams(reply)
            .ok_or_else(|| SourceError::Unexpected("invalid reply to XREAD".into()))?;
        let received = Instant::now();
        for (_, entries) in streams {
            let mut budget = ReplyBudget::default();
            let entries = EntriesReply::parse(entries, &mut budget, self.state.max_event_bytes)
                .ok_or_else(|| SourceError::Unexpected("invalid stream entries".into()))?;
            for entry in &entries.entries {
                self.state.deliver(name.as_str(), entry, received);
            }
            self.state.flush(entries.entries.len() as u64);
            self.readers.polled.hurry(name, entries.is_truncated, received);
        }
        Ok(())
    }
}
