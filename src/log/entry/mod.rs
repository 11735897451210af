//! The content of a line of the access log, independent of its form.

mod combined;
mod json;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Version;

use super::LineForm;

/// The most bytes of each text of a client in a line, after escaping. Together they keep a line below `PIPE_BUF`, so
/// that it is written in one piece.
pub(super) mod most {
    pub(in crate::log) const TARGET: usize = 512;
    pub(in crate::log) const METHOD: usize = 32;
    pub(in crate::log) const ROUTE: usize = 256;
    pub(in crate::log) const OTHER: usize = 256;
}

/// What a request asked for, and who asked. Texts are those of the client, without secrets.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The address of the client.
    pub client: IpAddr,
    /// The identity, as the access log may show it.
    pub identity: Option<&'a str>,
    /// The method; empty if the request could not be read.
    pub method: &'a str,
    /// The host, with its port if the client has sent one.
    pub host: &'a [u8],
    /// Path and query; empty if the request could not be read.
    pub target: &'a str,
    /// The version of HTTP.
    pub version: Version,
    /// The label of the route: its path in gateway.yaml, behind its host if it has one; empty if none matched.
    pub route: &'a str,
    /// The page that the request came from.
    pub referer: &'a [u8],
    /// The program of the client.
    pub user_agent: &'a [u8],
    /// The trace that the request belongs to.
    pub traceparent: Option<&'a str>,
}

/// The part of a line that is known before its end. A stream keeps it while it is open.
#[derive(Clone, Debug)]
pub struct RenderedRequest {
    pub(super) text: Box<str>,
    // Where time and status are inserted, in the combined form.
    pub(super) parts: [u16; 2],
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineSubject {
    /// A request, at the end of its response.
    Request,
    /// A stream that was opened.
    StreamOpened,
    /// A stream that was closed.
    StreamClosed,
    /// A tunnel, such as a WebSocket, at its end.
    Tunnel,
}

/// What became of a request; what does not apply is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome<'a> {
    /// The status of the response.
    pub status: u16,
    /// Bytes of the body that were sent to the client.
    pub bytes: u64,
    /// Bytes that the client has sent through a tunnel.
    pub bytes_received: Option<u64>,
    /// How long it took.
    pub duration: Option<Duration>,
    /// How long the backend took to the header of its response.
    pub upstream: Option<Duration>,
    /// Why it was refused or has failed: a word of the metrics.
    pub error: Option<&'a str>,
    /// The number of channels of a stream.
    pub channels: Option<usize>,
    /// The number of events that were sent to a stream.
    pub events: Option<u64>,
    /// Why a stream or tunnel was closed.
    pub reason: Option<&'a str>,
    /// From where a stream was resumed.
    pub resumed: Option<&'a str>,
}

impl RenderedRequest {
    /// Renders what is known of a request.
    pub(super) fn new(form: LineForm, asked: &Asked<'_>) -> Self {
        match form {
            LineForm::Combined => combined::request(asked),
            LineForm::Json => json::request(asked),
        }
    }

    /// The line, with its newline; empty if the form has none for the subject.
    pub(super) fn line(
        &self,
        form: LineForm,
        subject: LineSubject,
        outcome: &Outcome<'_>,
        now: SystemTime,
    ) -> String {
        match form {
            LineForm::Combined => combined::line(self, subject, outcome, now),
            LineForm::Json => json::line(self, subject, outcome, now),
        }
    }
}

impl LineSubject {
    /// The word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::StreamOpened => "stream_opened",
            Self::StreamClosed => "stream_closed",
            Self::Tunnel => "tunnel_closed",
        }
    }
}

/// The protocol as a request line has it (RFC 9112, section 2.3).
pub(super) fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::Version;

    use super::{Asked, LineSubject, Outcome, RenderedRequest};
    use crate::log::LineForm;

    const ASKED: Asked<'_> = Asked {
        client: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)),
        identity: Some("a b"),
        method: "GET",
        host: b"app.example",
        target: "/events/news?x=\"\n",
        version: Version::HTTP_2,
        route: "/events/{channel}",
        referer: b"https://app.example/",
        user_agent: b"Mozilla/5.0 \"(\x1b)\"",
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    };

    fn line(
        form: LineForm,
        asked: &Asked<'_>,
        subject: LineSubject,
        outcome: &Outcome<'_>,
    ) -> String {
        let now = SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_976_738_123_456);
        RenderedRequest::new(form, asked).line(form, subject, outcome, now)
    }

    #[test]
    fn a_line_in_both_forms() {
        let outcome = Outcome {
            status: 200,
            bytes: 4711,
            duration: Some(Duration::from_micros(1_500_250)),
            upstream: Some(Duration::from_millis(3)),
            ..Outcome::default()
        };
        assert_eq!(
            line(LineForm::Json, &ASKED, LineSubject::Request, &outcome),
            "{\"time\":\"2026-11-29T18:25:38.123456Z\",\"event\":\"request\",\"client\":\"192.0.2.7\",\"id\":\"a b\",\
             \"method\":\"GET\",\"host\":\"app.example\",\"path\":\"/events/news?x=\\\"\\u000a\",\"protocol\":\"HTTP/2.0\",\
             \"route\":\"/events/{channel}\",\"referer\":\"https://app.example/\",\
             \"user_agent\":\"Mozilla/5.0 \\\"(\\u001b)\\\"\",\
             \"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\",\"status\":200,\"bytes\":4711,\
             \"duration_ms\":1500.250,\"upstream_ms\":3.000}\n"
        );
        assert_eq!(
            line(LineForm::Combined, &ASKED, LineSubject::Request, &outcome),
            "192.0.2.7 - a\\x20b [29/Nov/2026:18:25:38 +0000] \"GET /events/news?x=\\x22\\x0A HTTP/2.0\" 200 4711 \
             \"https://app.example/\" \"Mozilla/5.0 \\x22(\\x1B)\\x22\"\n"
        );
    }

    #[test]
    fn a_stream_has_two_lines_in_json_and_one_in_the_combined_form() {
        let opened = Outcome { status: 200, channels: Some(2), ..Outcome::default() };
        let closed = Outcome {
            events: Some(7),
            bytes: 100,
            duration: Some(Duration::from_secs(60)),
            reason: Some("drained"),
            resumed: Some("history"),
            ..opened
        };
        let opened_line = line(LineForm::Json, &ASKED, LineSubject::StreamOpened, &opened);
        assert!(opened_line.contains("\"event\":\"stream_opened\""), "{opened_line}");
        assert!(opened_line.ends_with("\"status\":200,\"channels\":2}\n"), "{opened_line}");
        let closed_line = line(LineForm::Json, &ASKED, LineSubject::StreamClosed, &closed);
        let end = "\"status\":200,\"channels\":2,\"events\":7,\"bytes\":100,\"duration_ms\":60000.000,\
                   \"reason\":\"drained\",\"resumed\":\"history\"}\n";
        assert!(closed_line.ends_with(end), "{closed_line}");
        assert_eq!(line(LineForm::Combined, &ASKED, LineSubject::StreamOpened, &opened), "");
        let combined = line(LineForm::Combined, &ASKED, LineSubject::StreamClosed, &closed);
        assert!(combined.contains("\" 200 100 \""), "{combined}");
    }

    #[test]
    fn what_could_not_be_read_is_left_out() {
        let asked = Asked {
            identity: None,
            method: "",
            host: b"",
            target: "",
            route: "",
            referer: b"",
            user_agent: b"",
            traceparent: None,
            version: Version::HTTP_11,
            ..ASKED
        };
        let outcome = Outcome { status: 431, error: Some("header"), ..Outcome::default() };
        let json = line(LineForm::Json, &asked, LineSubject::Request, &outcome);
        assert!(
            json.ends_with(
                "\"client\":\"192.0.2.7\",\"protocol\":\"HTTP/1.1\",\"status\":431,\"bytes\":0,\"error\":\"header\"}\n"
            ),
            "{json}"
        );
        let combined = line(LineForm::Combined, &asked, LineSubject::Request, &outcome);
        assert_eq!(
            combined,
            "192.0.2.7 - - [29/Nov/2026:18:25:38 +0000] \"-\" 431 0 \"-\" \"-\"\n"
        );
    }

    #[test]
    fn a_line_fits_into_one_write() {
        let long = "\u{1}".repeat(10_000);
        let asked = Asked {
            identity: Some(&long),
            method: &long,
            host: long.as_bytes(),
            target: &long,
            route: &long,
            referer: long.as_bytes(),
            user_agent: long.as_bytes(),
            ..ASKED
        };
        for form in [LineForm::Combined, LineForm::Json] {
            let line = line(form, &asked, LineSubject::StreamClosed, &Outcome::default());
            assert!(line.len() <= 4096 && line.matches('\n').count() == 1, "{}", line.len());
        }
    }
}
