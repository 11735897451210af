//! Reads the body of a request before the request is forwarded: for the name of a stream, or to compare it with an
//! earlier request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::kept::grant::KeptGrant;
use super::kept::registry::KeptStreams;
use crate::server::request_body::RequestBody;

/// The largest body that is searched for a name, or compared with an earlier request.
const MAX_BODY: usize = 1 << 20;
/// The longest pause in such a body.
const BODY_PAUSE: Duration = Duration::from_secs(30);

/// A request of which the body, or its beginning, was read. It can be forwarded.
pub(super) struct ReadRequest {
    pub(super) request: Request<RequestBody>,
    /// All of the body; `None` if it is too large, does not arrive, or there is no memory for it.
    pub(super) whole: Option<Bytes>,
    /// Whether there was no memory for it.
    pub(super) is_refused: bool,
    /// What it uses of the memory of its route.
    pub(super) grant: KeptGrant,
}

/// Reads the body to its end, until it is too large, or until the `total` memory of its route is used up. The request
/// can be forwarded in any case.
pub(super) async fn read_body(
    request: Request<RequestBody>,
    streams: &KeptStreams,
    (scope, total): (&Arc<str>, usize),
) -> ReadRequest {
    let (head, mut body) = request.into_parts();
    let (mut read, mut grant) = (Vec::new(), streams.grant(scope));
    let (mut is_whole, mut is_refused) = (body.is_end_stream(), false);
    while !is_whole && !is_refused && read.len() <= MAX_BODY {
        let Ok(frame) = tokio::time::timeout(BODY_PAUSE, body.frame()).await else { break };
        match frame {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    make_room(&mut read, data.len());
                    read.extend_from_slice(&data);
                    is_refused = !streams.cover(&mut grant, (read.capacity(), 1), (scope, total));
                }
                is_whole = body.is_end_stream();
            }
            Some(Err(_)) => break,
            None => is_whole = true,
        }
    }
    let read = Bytes::from(read);
    let whole = (is_whole && read.len() <= MAX_BODY).then(|| read.clone());
    let request = Request::from_parts(head, RequestBody::begun(read, body));
    ReadRequest { request, whole, is_refused, grant }
}

/// Makes room in small steps: a vector would double its memory, beyond what is counted.
fn make_room(read: &mut Vec<u8>, more: usize) {
    if read.len() + more > read.capacity() {
        read.reserve_exact(more.max(read.len() / 4));
    }
}
