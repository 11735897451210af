//! Continues a kept stream for a client that comes back.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response};

use super::answer;
use super::log::{Located, Position};
use super::loss::Loss;
use super::reader::KeptReader;
use super::registry::ID_LENGTH;
use super::stream::KeptStream;
use crate::proxy::Proxy;
use crate::query;
use crate::route::Route;
use crate::server::connection::ConnectionState;
use crate::service::admission::Admission;
use crate::service::backend_stream::{BackendStream, StreamSource};
use crate::service::body::ResponseBody;
use crate::service::rejection::Rejection;
use crate::service::request_info::RequestInfo;
use crate::service::{Service, events};

/// How a client came back, as the metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum ResumedBy {
    /// To the address of the stream.
    Address,
    /// With the very same request.
    Request,
    /// By the name of the stream.
    Name,
}

impl ResumedBy {
    pub(in crate::service) const ALL: [&'static str; 3] = ["address", "name", "request"];

    fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Request => "request",
            Self::Name => "name",
        }
    }
}

/// The id of an event of ours: the stream's, and the number of the event.
pub(super) fn parse_event_id(id: &[u8]) -> Option<(&str, u64)> {
    let (stream, number) = str::from_utf8(id).ok()?.rsplit_once('-')?;
    let is_stream = stream.len() == ID_LENGTH
        && stream.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_stream && is_number).then_some(())?;
    Some((stream, number.parse().ok()?))
}

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
pub(in crate::service) struct Resume<'a> {
    pub(in crate::service) service: &'a Service,
    pub(in crate::service) route: &'a Route,
    pub(in crate::service) proxy: &'a Proxy,
    pub(in crate::service) info: &'a RequestInfo,
    pub(in crate::service) admission: &'a Admission,
    pub(in crate::service) connection: Rc<ConnectionState>,
}

impl Resume<'_> {
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
        let (offset, loss) = match stream.log.locate(position) {
            Located::At(offset) => (offset, None),
            Located::AllRead if self.info.method == Method::GET => {
                metrics.kept_resumed(by.as_str());
                return Ok(answer::nothing());
            }
            Located::AllRead => {
                metrics.kept_resumed(by.as_str());
                return Ok(answer::all_read(&stream, self.info.origin.as_ref()));
            }
            Located::Behind | Located::Unknown => {
                metrics.kept_lost("history");
                let extent = stream.log.extent();
                let is_gap = Loss::Behind.goes_on(how) && !extent.is_torn;
                let told = Loss::Behind.told(how, None);
                if told.is_none() || (Loss::Behind.goes_on(how) && !is_gap) {
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

#[cfg(test)]
mod tests {
    use super::parse_event_id;

    #[test]
    fn only_ids_of_ours_are_taken_for_them() {
        let stream = "abcdefghijklmnopqrstuvwxyz";
        assert_eq!(parse_event_id(format!("{stream}-17").as_bytes()), Some((stream, 17)));
        for other in [
            "",
            "17",
            "a-17",
            "abcdefghijklmnopqrstuvwxyz",
            "abcdefghijklmnopqrstuvwxyz-",
            "abcdefghijklmnopqrstuvwxyz-+1",
            "abcdefghijklmnopqrstuvwxyz-1-2",
            "Abcdefghijklmnopqrstuvwxyz-1",
            "abcdefghijklmnopqrstuvwxyz-99999999999999999999",
        ] {
            assert_eq!(parse_event_id(other.as_bytes()), None, "{other}");
        }
    }
}
