//! The question to an auth backend, as one block of bytes.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::forward::{CARRIED, asked_target, carried, subject};
use super::request::AuthRequest;

/// The capacity that a buffer keeps for the next question. Most questions are shorter: two cookies and the other
/// fields of a browser.
const KEPT_BYTES: usize = 4096;

/// The question to an auth backend: everything that its verdict may depend on, so that equal texts have the same
/// verdict. Cheap to clone: streams with the same question share it.
// A copy, because the header fields of a request are slices of the connection's read buffer: a stream that keeps its
// question would keep the buffer, too.
#[derive(Clone, PartialEq, Eq)]
pub struct QuestionText(Arc<[u8]>);

/// Memory for the questions of a shard, one after the other.
#[derive(Default)]
pub struct QuestionBuffer(Vec<u8>);

/// A question in the buffer. Few are copied out of it, because most verdicts are known.
pub struct WrittenQuestion<'a>(&'a [u8]);

/// Where a question goes, and for whom it is asked.
#[derive(Clone, Copy, Debug)]
pub struct QuestionSite<'a> {
    /// Identifies the backend and the header fields that are kept of its responses.
    pub backend: &'a str,
    /// The path and query that the backend is asked at.
    pub target: &'a str,
    /// The `Host` of the request to the backend.
    pub host: &'a str,
    /// The address of the client.
    pub client: IpAddr,
    /// Whether the client's connection uses TLS.
    pub is_tls: bool,
    /// Whether a trusted proxy has sent the request.
    pub is_from_proxy: bool,
}

// The kinds of parts. The header fields come last: the kind of each is `FIELDS` and its place in `CARRIED`.
const BACKEND: u8 = 0;
const TARGET: u8 = 1;
const HOST: u8 = 2;
const CLIENT: u8 = 3;
const IS_TLS: u8 = 4;
const METHOD: u8 = 5;
const ABOUT: u8 = 6;
const FIELDS: u8 = 7;

impl QuestionBuffer {
    /// Writes the question whether `request` is allowed. `about` is its target without the tokens of other
    /// methods.
    pub fn write(
        &mut self,
        site: QuestionSite<'_>,
        request: AuthRequest<'_>,
        about: &http::Uri,
    ) -> WrittenQuestion<'_> {
        self.0.clear();
        self.0.shrink_to(KEPT_BYTES);
        self.push(BACKEND, site.backend.as_bytes());
        self.push(TARGET, site.target.as_bytes());
        self.push(HOST, site.host.as_bytes());
        match site.client {
            IpAddr::V4(address) => self.push(CLIENT, &address.octets()),
            IpAddr::V6(address) => self.push(CLIENT, &address.octets()),
        }
        self.push(IS_TLS, &[u8::from(site.is_tls)]);
        self.push(METHOD, request.method.as_str().as_bytes());
        self.push(ABOUT, asked_target(about).as_bytes());
        for (place, value) in carried(request, site.is_from_proxy) {
            self.push(FIELDS + place, value.as_bytes());
        }
        WrittenQuestion(&self.0)
    }

    /// Writes a part after its kind and its length, so that different lists of parts never have the same bytes.
    #[inline]
    fn push(&mut self, kind: u8, part: &[u8]) {
        let length = u32::try_from(part.len()).ok().filter(|length| *length < 1 << 24);
        let length = length.expect("a header block is far below 16 MiB");
        self.0.extend_from_slice(&(u32::from(kind) << 24 | length).to_be_bytes());
        self.0.extend_from_slice(part);
    }
}

impl WrittenQuestion<'_> {
    /// The text as bytes. Only equal questions have equal bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0
    }

    /// The text in memory of its own.
    pub fn keep(&self) -> QuestionText {
        QuestionText(self.0.into())
    }
}

impl QuestionText {
    /// Any bytes as a question, for tests in which the text does not matter.
    #[cfg(test)]
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Its length, in bytes.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// The path and query that the backend is asked at.
    pub fn target(&self) -> &str {
        self.text(TARGET)
    }

    /// The `Host` of the request to the backend.
    pub fn host(&self) -> &str {
        self.text(HOST)
    }

    /// The header fields with the method and target that are asked about; `None` if a field cannot hold one.
    pub fn subject(&self) -> Option<[(HeaderName, HeaderValue); 4]> {
        subject(self.text(METHOD), self.part(ABOUT)?)
    }

    /// The header fields of the request that the question carries.
    pub fn fields(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (kind, value) in self.parts() {
            let place = kind.checked_sub(FIELDS).map(usize::from);
            let name = place.and_then(|place| CARRIED.get(place));
            if let (Some(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                fields.append(HeaderName::from_static(name), value);
            }
        }
        fields
    }

    fn text(&self, kind: u8) -> &str {
        self.part(kind).and_then(|part| str::from_utf8(part).ok()).unwrap_or_default()
    }

    fn part(&self, kind: u8) -> Option<&[u8]> {
        self.parts().find(|(known, _)| *known == kind).map(|(_, part)| part)
    }

    fn parts(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let ([kind, length @ ..], after) = rest.split_first_chunk::<4>()?;
            let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            let (part, after) = after.split_at_checked(length)?;
            rest = after;
            Some((*kind, part))
        })
    }
}

// Without the text, which contains credentials.
impl fmt::Debug for QuestionBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuestionBuffer").finish_non_exhaustive()
    }
}

impl fmt::Debug for WrittenQuestion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrittenQuestion").finish_non_exhaustive()
    }
}

impl fmt::Debug for QuestionText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuestionText").field("target", &self.target()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use http::{HeaderMap, HeaderName, HeaderValue, Request};

    use super::{QuestionBuffer, QuestionSite, QuestionText};
    use crate::auth::AuthRequest;
    use crate::auth::forward::CARRIED;

    const SITE: QuestionSite<'_> = QuestionSite {
        backend: "http://127.0.0.1:8000 x-user",
        target: "/auth",
        host: "app.example",
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        is_tls: true,
        is_from_proxy: false,
    };

    type Fields<'a> = &'a [(&'a str, &'a str)];

    fn request((method, target, fields): (&str, &str, Fields<'_>)) -> Request<()> {
        let mut request =
            Request::builder().method(method).uri(target).body(()).expect("a request");
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            request.headers_mut().append(name, value);
        }
        request
    }

    fn text(site: QuestionSite<'_>, asked: (&str, &str, Fields<'_>)) -> QuestionText {
        let request = request(asked);
        QuestionBuffer::default().write(site, AuthRequest::new(&request), request.uri()).keep()
    }

    #[test]
    fn a_question_is_read_from_its_text() {
        let fields = [("cookie", "a=\u{e4}"), ("cookie", "b=c"), ("accept", ""), ("x-other", "x")];
        let text = text(SITE, ("GET", "/events?x=1&lastEventId=7", &fields));
        assert_eq!((text.target(), text.host()), ("/auth", "app.example"));
        let subject = text.subject().expect("a subject");
        let about = ["GET", "/events?x=1", "GET", "/events?x=1"];
        assert_eq!(subject.map(|(_, value)| value), about.map(HeaderValue::from_static));
        let read = text.fields();
        let cookies: Vec<_> = read.get_all("cookie").iter().map(|value| value.as_bytes()).collect();
        assert_eq!(cookies, ["a=\u{e4}".as_bytes(), b"b=c"]);
        assert_eq!((read.len(), read.get("accept").map(|value| value.len())), (3, Some(0)));
        assert!(!format!("{text:?}").contains("b=c"));
    }

    #[test]
    fn the_text_has_each_field_that_is_carried() {
        let fields: Vec<_> = CARRIED.iter().map(|name| (*name, *name)).collect();
        let site = QuestionSite { is_from_proxy: true, ..SITE };
        let expected: HeaderMap = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        assert_eq!(text(site, ("GET", "/", &fields)).fields(), expected);
    }

    #[test]
    fn other_questions_have_other_texts() {
        let one = ("GET", "/events", &[("cookie", "a=b")][..]);
        let other_last = ("GET", "/events?last_event_id=7", one.2);
        for same in [one, other_last, ("GET", "/events", &[("x", "y"), ("cookie", "a=b")])] {
            assert_eq!(text(SITE, same), text(SITE, one), "{same:?}");
        }
        let from_proxy = QuestionSite { is_from_proxy: true, ..SITE };
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        for (site, asked) in [
            (SITE, ("GET", "/events", &[("cookie", "a=bc")][..])),
            (SITE, ("GET", "/events", &[("cookie", "a=c")])),
            (SITE, ("GET", "/events", &[("cookie", "a"), ("cookie", "b")])),
            (SITE, ("GET", "/events", &[("cookie", "a=b"), ("cookie", "")])),
            (SITE, ("GET", "/events", &[("cookie", "a=b"), ("accept", "")])),
            (SITE, ("GET", "/events", &[("authorization", "a=b")])),
            (SITE, ("GET", "/events", &[])),
            (SITE, ("GET", "/event", one.2)),
            (SITE, ("HEAD", "/events", one.2)),
            (QuestionSite { backend: "", ..SITE }, one),
            (QuestionSite { target: "/", ..SITE }, one),
            (QuestionSite { host: "", ..SITE }, one),
            (QuestionSite { client: IpAddr::V4(Ipv4Addr::LOCALHOST), ..SITE }, one),
            (QuestionSite { client: v6, ..SITE }, one),
            (QuestionSite { is_tls: false, ..SITE }, one),
            (from_proxy, ("GET", "/events", &[("cookie", "a=b"), ("x-real-ip", "::1")])),
        ] {
            assert_ne!(text(site, asked), text(SITE, one), "{site:?} {asked:?}");
        }
    }
}
