//! Continues a kept stream for a client that comes back.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response};

use super::admission::Admission;
use super::backend_stream::{BackendStream, StreamSource};
use super::body::ResponseBody;
use super::kept::answer;
use super::kept::log::{LogPlace, Position, StreamEnd};
use super::kept::loss::Loss;
use super::kept::reader::KeptReader;
use super::kept::stream::{KeptStream, ResumedBy};
use super::kept::stream_id::parse_event_id;
use super::rejection::Rejection;
use super::request_info::RequestInfo;
use super::{Service, events};
use crate::proxy::Proxy;
use crate::query;
use crate::route::{OnLost, Route};
use crate::server::connection::ConnectionState;

/// Where in this stream a client is that sends this id.
pub(super) fn position_of(stream: &KeptStream, id: &[u8]) -> Position {
    match parse_event_id(id) {
        Some((name, number)) if name == &*stream.id => Position::After(number),
        _ => Position::AfterOwn(id.to_vec()),
    }
}

/// Where a client wants to begin: behind the event in `Last-Event-ID` or in the query, or `after` in the query.
pub(super) fn requested_position<B>(request: &Request<B>, stream: &KeptStream) -> Position {
    if let Some(id) = events::last_event_id(request) {
        return position_of(stream, &id);
    }
    let pairs = query::parse(request.uri().query().unwrap_or_default());
    let after = pairs.into_iter().find(|(name, _)| name == "after");
    let after = after.and_then(|(_, number)| number.parse().ok());
    after.map_or(Position::Start, Position::After)
}

/// What a reader is opened with.
pub(super) struct KeptResume<'a> {
    pub(super) service: &'a Service,
    pub(super) route: &'a Route,
    pub(super) proxy: &'a Proxy,
    pub(super) info: &'a RequestInfo,
    pub(super) admission: &'a Admission,
    pub(super) connection: Rc<ConnectionState>,
}

impl KeptResume<'_> {
    /// The rest of a stream, and what follows.
    ///
    /// # Errors
    /// The client has as many streams as it may have, or what it needs is not kept any more.
    pub(super) fn open(
        self,
        stream: Arc<KeptStream>,
        position: &Position,
        by: ResumedBy,
    ) -> Result<Response<ResponseBody>, Rejection> {
        let metrics = self.service.metrics();
        let how = stream.settings.on_lost;
        let place = stream.log.locate(position);
        let is_lost = stream.log.extent().end == Some(StreamEnd::Lost);
        let (offset, loss) = match place {
            LogPlace::At(offset) => (offset, None),
            // Told by another cut, it would come back for ever.
            LogPlace::AllRead(_) if is_lost && how == OnLost::Cut => return Err(Rejection::Gone),
            LogPlace::AllRead(offset) if is_lost => (offset, None),
            LogPlace::AllRead(_) => {
                metrics.kept_resumed(by.as_str());
                return Ok(self.all_read(&stream));
            }
            LogPlace::Behind | LogPlace::Unknown => {
                metrics.kept_lost("history");
                let extent = stream.log.extent();
                let is_gap = Loss::Behind.goes_on(how) && !extent.is_torn;
                let report = Loss::Behind.report(how, None);
                if report.is_none() || (Loss::Behind.goes_on(how) && !is_gap) {
                    return Err(Rejection::Gone);
                }
                (extent.start, Some(Loss::Behind))
            }
        };
        metrics.kept_resumed(by.as_str());
        self.info.note(|log| log.note_last_event_id());
        let reader = KeptReader::new(Arc::clone(&stream), offset, loss);
        let origin = self.info.origin.clone();
        let body = self.body(reader)?;
        Ok(answer::again(&stream, origin.as_ref(), body))
    }

    /// Says that the stream has ended, and that its client has all of it. An `EventSource` stops at 204. A library
    /// that reads streams by other methods takes that for an error and repeats its request (fetch-event-source
    /// 2.0.1, for ever): it gets a stream without events.
    fn all_read(&self, stream: &KeptStream) -> Response<ResponseBody> {
        match self.info.accepts_stream && self.info.method != Method::GET {
            true => answer::all_read(stream, self.info.origin.as_ref()),
            false => answer::nothing(),
        }
    }

    /// The body of a response that has a reader.
    ///
    /// # Errors
    /// The client has as many streams as it may have.
    pub(super) fn body(self, reader: KeptReader) -> Result<ResponseBody, Rejection> {
        let Self { service, route, proxy, admission, connection, .. } = self;
        let cut = connection.current_request_abort();
        let counted = (service, service.count_stream(route, admission, connection)?);
        let timing = (proxy.stream_keep_alive(), admission.expires_at);
        let source = StreamSource::Kept(Box::new(reader));
        let stream = BackendStream::new(source, &HeaderMap::new(), timing, counted, cut);
        Ok(ResponseBody::BackendStream(Box::new(stream)))
    }
}
