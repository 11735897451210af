//! A reader of a kept stream: the source of the body of its response.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Frame;
use ssegate_sse::line_state::LineState;

use super::log::{KeptRead, LogReader, StreamEnd};
use super::loss::Loss;
use super::stream::KeptStream;
use crate::route::OnLost;
use crate::server::connection::BodyError;

/// The most bytes that are taken from the log at once.
const MAX_PIECE: usize = 16 << 10;

/// Reads a kept stream, from a place in its log to its end.
#[derive(Debug)]
pub(in crate::service) struct KeptReader {
    stream: Arc<KeptStream>,
    reader: LogReader,
    // Its position within the lines of the stream.
    lines: LineState,
    // The loss that it reports next.
    untold: Option<Loss>,
    // A loss was reported in place of the rest.
    is_over: bool,
    // Whether there was time to write what was read before a cut.
    is_written: bool,
}

impl KeptReader {
    /// Creates a reader that begins at this byte; it reports `loss` first.
    pub(in crate::service) fn new(
        stream: Arc<KeptStream>,
        offset: u64,
        loss: Option<Loss>,
    ) -> Self {
        let reader = stream.log.open(offset);
        stream.reader_came();
        Self {
            stream,
            reader,
            lines: LineState::default(),
            untold: loss,
            is_over: false,
            is_written: false,
        }
    }

    /// The next piece of the stream; an error cuts it.
    pub(in crate::service) fn poll_frame(
        &mut self,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let how = self.stream.settings.on_lost;
        if let Some(loss) = self.untold {
            let told = self.report_loss(loss, cx);
            self.untold = self.untold.filter(|_| told.is_pending());
            return told;
        }
        if self.is_over {
            return Poll::Ready(None);
        }
        let (log, whole_events) = (&self.stream.log, how != OnLost::Cut);
        match log.poll_read(&mut self.reader, cx, MAX_PIECE, whole_events) {
            KeptRead::Bytes(bytes) => {
                self.lines = self.lines.after(&bytes);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            KeptRead::Pending => Poll::Pending,
            KeptRead::End { end: StreamEnd::Complete | StreamEnd::Cancelled, .. } => {
                Poll::Ready(None)
            }
            KeptRead::End { end: StreamEnd::Lost, is_in_event: true } => self.cut(Loss::Broken, cx),
            KeptRead::End { end: StreamEnd::Lost, is_in_event: false } => {
                self.report_loss(Loss::Broken, cx)
            }
            KeptRead::Behind if !self.lines.is_between_blocks() => self.cut(Loss::Behind, cx),
            KeptRead::Behind => self.report_loss(Loss::Behind, cx),
        }
    }

    /// Reports a loss, or cuts the stream. After that the stream ends, or continues with what is kept.
    fn report_loss(
        &mut self,
        loss: Loss,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let how = self.stream.settings.on_lost;
        let (extent, goes_on) = (self.stream.log.extent(), loss.goes_on(how));
        let id = self.stream.event_id(extent.before).filter(|_| goes_on);
        let Some(report) = loss.report(how, id.as_deref()).filter(|_| !(goes_on && extent.is_torn))
        else {
            return self.cut(loss, cx);
        };
        if goes_on {
            self.reader.offset = extent.start;
        } else {
            self.is_over = true;
        }
        Poll::Ready(Some(Ok(Frame::data(report))))
    }

    /// Cuts the stream after what was read before has been written: cutting a connection drops what waits to
    /// be written.
    fn cut(
        &mut self,
        loss: Loss,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !std::mem::replace(&mut self.is_written, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let error = match loss {
            Loss::Broken => "the backend's stream broke off",
            Loss::Behind => "the reader is too slow: what follows is not kept any more",
        };
        Poll::Ready(Some(Err(error.into())))
    }
}

impl Drop for KeptReader {
    fn drop(&mut self) {
        self.stream.log.close(&self.reader);
        self.stream.reader_left();
    }
}
