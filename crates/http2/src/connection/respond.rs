//! The sending side of streams: their responses, as far as they go now.

use std::task::{Context, Poll};

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::Connection;
use super::shutdown::ShutdownPhase;
use crate::error::ErrorCode;
use crate::sender::{SendLimits, SendOutcome};
use crate::server::Http2Server;
use crate::stream::{ClosedBy, Precedence, ResponseStage};

impl<S: Http2Server, T> Connection<S, T> {
    /// Serves a stream that was woken: updates its receive window, then continues its response.
    pub(super) fn serve_stream(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(id) else { return };
        let is_bulk = stream.precedence == Precedence::Bulk;
        let (read, update) = stream.receiver.take_read();
        if read > 0 {
            stream.stage.request_received(Instant::now);
            self.receive_window.shrink(stream.receiver.trim());
        }
        if update > 0 {
            self.sender.window_update(id, update);
            self.measure_window(id, update);
        }
        if read > 0 {
            self.update_receive_window();
        }
        if is_bulk {
            self.queue_bulk(id);
        } else {
            self.respond(id);
        }
    }

    /// Continues the response of a stream as far as it goes now.
    pub(super) fn respond(&mut self, id: u32) {
        let is_only_stream = self.streams.only_stream().is_some();
        let Some(stream) = self.streams.get_mut(id) else { return };
        if stream.receiver.take_continue() {
            // An interim response (section 8.1).
            self.sender.response_header(id, StatusCode::CONTINUE, &HeaderMap::new(), false);
        }
        if let ResponseStage::Handling { future, switch, interim, .. } = &mut stream.stage {
            let _handled = switch.enter();
            let mut context = Context::from_waker(&stream.waker);
            let polled = future.as_mut().poll(&mut context);
            for (status, headers) in interim.take() {
                self.sender.response_header(id, status, &headers, false);
            }
            let Poll::Ready(response) = polled else { return };
            let is_last = self.sender.start_response(id, stream, response, &self.server);
            if stream.precedence == Precedence::Events {
                self.bulk.event_stream_began(); // undone by `remove`, even if there is no body
            }
            if is_last {
                return self.complete(id);
            }
        }
        if let ResponseStage::Lingering { .. } = stream.stage {
            return self.complete(id);
        }
        if self.is_blocked {
            push_once(&mut self.write_blocked, id);
            return;
        }
        let before = self.sender.output.len();
        let waker = if is_only_stream { self.task.as_ref() } else { None };
        let is_bulk = stream.precedence == Precedence::Bulk;
        let limits = if is_bulk { self.bulk.limits() } else { Some(SendLimits::FULL) };
        let Some(limits) = limits else {
            self.server.keep_alive().note_blocked();
            push_once(&mut self.window_blocked, id);
            return;
        };
        match self.sender.send(id, stream, waker, limits, &self.server) {
            SendOutcome::Pending if stream.blocked_since.is_some() => {
                self.server.keep_alive().note_blocked()
            }
            SendOutcome::Pending => {}
            SendOutcome::WindowExhausted => {
                self.server.keep_alive().note_blocked();
                push_once(&mut self.window_blocked, id);
            }
            SendOutcome::BatchFull if stream.becomes_bulk() => self.queue_bulk(id),
            SendOutcome::BatchFull => self.ready.push_back(id),
            SendOutcome::Complete => self.complete(id),
            SendOutcome::Failed => self.reset(id, ErrorCode::INTERNAL_ERROR),
        }
        let sent = self.sender.output.len() - before;
        if sent > 0 {
            self.budget.earn();
        }
        if is_bulk {
            self.bulk.sent(sent);
        }
    }

    /// Ends a stream whose response has been sent. If the request has not ended, RST_STREAM with
    /// NO_ERROR could follow at once (section 8.1), but many clients drop the response when they
    /// see it. So the rest of the request is received and dropped for up to `lingering_close`, and
    /// the reset follows then.
    fn complete(&mut self, id: u32) {
        let is_open = matches!(self.phase, ShutdownPhase::Open);
        let lingers = is_open && !self.server.lingering_close().is_zero();
        let Some(stream) = self.streams.get_mut(id) else { return };
        match stream.receiver.reset_code() {
            None => drop(self.remove(id, ClosedBy::EndStream)),
            Some(_) if matches!(stream.stage, ResponseStage::Lingering { .. }) => {}
            Some(ErrorCode::NO_ERROR) if lingers => {
                let now = Instant::now();
                // Drops the body of the response, and with it whatever still reads the request.
                stream.stage = ResponseStage::Lingering { since: now, last_received: now };
                stream.blocked_since = None;
                stream.receiver.discard_rest();
                self.ready.push_back(id);
                self.start_linger_timer();
            }
            Some(code) => self.reset(id, code),
        }
    }
}

/// Adds a stream to a list, once.
fn push_once(list: &mut Vec<u32>, id: u32) {
    if !list.contains(&id) {
        list.push(id);
    }
}
