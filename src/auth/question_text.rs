//! What an auth backend is asked, as one block of bytes.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::forward::{asked_target, carried, subject};
use super::request::AuthRequest;

/// What a buffer keeps for the next question. Most are shorter: two cookies, and what else a browser says.
const KEPT_BYTES: usize = 4096;

/// What an auth backend is asked: everything that its verdict may depend on, so that two questions with the
/// same text have the same verdict.
// In memory of its own: the header fields of a request are pieces of the connection's read buffer, which a
// stream that keeps its question would keep, too.
#[derive(PartialEq, Eq)]
pub struct QuestionText(Box<[u8]>);

/// Memory for the questions of a shard, one after the other.
#[derive(Default)]
pub struct QuestionBuffer(Vec<u8>);

/// A question that is written, and not kept: most verdicts are known.
pub struct WrittenQuestion<'a>(&'a [u8]);

/// Where a question goes, and for whom it is asked.
#[derive(Clone, Copy, Debug)]
pub struct QuestionSite<'a> {
    /// Tells the backend, and what is kept of its responses, from others.
    pub backend: &'a str,
    /// The path and query that the backend is asked at.
    pub target: &'a str,
    /// The `Host` that the backend is told.
    pub host: &'a str,
    /// The address of the client.
    pub client: &'a str,
    /// Whether the client's connection uses TLS.
    pub is_tls: bool,
    /// Whether a trusted proxy has sent the request.
    pub is_from_proxy: bool,
}

// The places of the parts before those of the header fields.
const TARGET: usize = 1;
const HOST: usize = 2;
const METHOD: usize = 5;
const ABOUT: usize = 6;
const FIELDS: usize = 7;

impl QuestionBuffer {
    /// Writes the question whether `request` is allowed. `about` is its target without the tokens of other
    /// methods.
    pub fn write(
        &mut self,
        site: QuestionSite<'_>,
        request: AuthRequest<'_>,
        about: &http::Uri,
    ) -> WrittenQuestion<'_> {
        let about = asked_target(about);
        let before: [&[u8]; FIELDS] = [
            site.backend.as_bytes(),
            site.target.as_bytes(),
            site.host.as_bytes(),
            site.client.as_bytes(),
            &[u8::from(site.is_tls)],
            request.method.as_str().as_bytes(),
            about.as_bytes(),
        ];
        self.0.clear();
        self.0.shrink_to(KEPT_BYTES);
        for part in before {
            self.push(part);
        }
        for (name, value) in carried(request, site.is_from_proxy) {
            self.push(name.as_bytes());
            self.push(value.as_bytes());
        }
        WrittenQuestion(&self.0)
    }

    /// Writes a part with its length, so that no two lists of parts are the same bytes.
    fn push(&mut self, part: &[u8]) {
        let length = u32::try_from(part.len()).expect("a header block is far below 4 GiB");
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(part);
    }
}

impl WrittenQuestion<'_> {
    /// The text as bytes: equal for equal questions alone.
    pub fn as_bytes(&self) -> &[u8] {
        self.0
    }

    /// The text in memory of its own.
    pub fn keep(&self) -> QuestionText {
        QuestionText(self.0.into())
    }
}

impl QuestionText {
    /// The path and query that the backend is asked at.
    pub fn target(&self) -> &str {
        self.text(TARGET)
    }

    /// The `Host` that the backend is told.
    pub fn host(&self) -> &str {
        self.text(HOST)
    }

    /// The header fields that say what the question is about; `None` if a field cannot hold it.
    pub fn subject(&self) -> Option<[(HeaderName, HeaderValue); 4]> {
        subject(self.text(METHOD), self.parts().nth(ABOUT)?)
    }

    /// The header fields of the request that the question carries.
    pub fn fields(&self) -> HeaderMap {
        let mut parts = self.parts().skip(FIELDS);
        let mut fields = HeaderMap::new();
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            let name = HeaderName::from_bytes(name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
                fields.append(name, value);
            }
        }
        fields
    }

    fn text(&self, place: usize) -> &str {
        let part = self.parts().nth(place).and_then(|part| str::from_utf8(part).ok());
        part.unwrap_or_default()
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk()?;
            let (part, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = after;
            Some(part)
        })
    }
}

// Without the credentials that they carry.
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
    use http::Request;

    use super::{QuestionBuffer, QuestionSite, QuestionText};
    use crate::auth::AuthRequest;

    const SITE: QuestionSite<'_> = QuestionSite {
        backend: "http://127.0.0.1:8000 x-user",
        target: "/auth",
        host: "app.example",
        client: "192.0.2.7",
        is_tls: true,
        is_from_proxy: false,
    };

    fn text(site: QuestionSite<'_>, target: &str, fields: &[(&str, &str)]) -> QuestionText {
        let mut request = Request::get(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("a request");
        QuestionBuffer::default().write(site, AuthRequest::new(&request), request.uri()).keep()
    }

    #[test]
    fn a_question_is_read_from_its_text() {
        let fields = [("cookie", "a=\u{e4}"), ("cookie", "b=c"), ("accept", ""), ("x-other", "x")];
        let text = text(SITE, "/events?x=1&lastEventId=7", &fields);
        assert_eq!((text.target(), text.host()), ("/auth", "app.example"));
        let subject = text.subject().expect("a subject");
        let about = ["GET", "/events?x=1", "GET", "/events?x=1"];
        assert_eq!(subject.map(|(_, value)| value), about.map(http::HeaderValue::from_static));
        let read = text.fields();
        let cookies: Vec<_> = read.get_all("cookie").iter().map(|value| value.as_bytes()).collect();
        assert_eq!(cookies, ["a=\u{e4}".as_bytes(), b"b=c"]);
        assert_eq!((read.len(), read.get("accept").map(|value| value.len())), (3, Some(0)));
        assert!(!format!("{text:?}").contains("b=c"));
    }

    #[test]
    fn other_questions_have_other_texts() {
        let one = text(SITE, "/events", &[("cookie", "a=b")]);
        assert_eq!(one, text(SITE, "/events?last_event_id=7", &[("cookie", "a=b")]));
        for other in [
            text(SITE, "/events", &[("cookie", "a=bc")]),
            text(SITE, "/events", &[("cookie", "a"), ("cookie", "b")]),
            text(SITE, "/events", &[("cookie", "a=b"), ("accept", "")]),
            text(SITE, "/event", &[("cookie", "a=b")]),
            text(QuestionSite { backend: "", ..SITE }, "/events", &[("cookie", "a=b")]),
            text(QuestionSite { target: "/", ..SITE }, "/events", &[("cookie", "a=b")]),
            text(QuestionSite { host: "", ..SITE }, "/events", &[("cookie", "a=b")]),
            text(QuestionSite { client: "", ..SITE }, "/events", &[("cookie", "a=b")]),
            text(QuestionSite { is_tls: false, ..SITE }, "/events", &[("cookie", "a=b")]),
        ] {
            assert_ne!(one, other);
        }
    }
}
