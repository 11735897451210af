//! Requests over HTTP/2 that are none, or that two parties would read differently.

use super::Scene;
use super::table::judge;
use crate::support::frames::{ACK, DATA, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS};
use crate::support::{Frame, FrameConnection, SOON, within};

const PROTOCOL_ERROR: u32 = 1;

/// What becomes of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is answered with 400, and its stream is reset then (RFC 9113, section 8.1.1).
    Malformed,
    /// It is answered.
    Status(u16),
}
use Outcome::{Malformed, Status};

type Fields = Vec<(&'static str, &'static str)>;

const BASE: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/site"), (":authority", "localhost")];

fn with(more: &[(&'static str, &'static str)]) -> Fields {
    BASE.iter().chain(more).copied().collect()
}

fn changed(name: &str, value: &'static str) -> Fields {
    BASE.iter().map(|field| if field.0 == name { (field.0, value) } else { *field }).collect()
}

fn without(name: &str) -> Fields {
    BASE.iter().filter(|field| field.0 != name).copied().collect()
}

fn table() -> Vec<(&'static str, Fields, Option<&'static str>, Outcome)> {
    let connect = |more: &[(&'static str, &'static str)]| -> Fields {
        let base = [(":method", "CONNECT"), (":authority", "localhost:443")];
        base.iter().chain(more).copied().collect()
    };
    let without_host = |host: &'static str| [without(":authority"), vec![("host", host)]].concat();
    vec![
        ("a request as it should be", with(&[]), None, Status(200)),
        ("a host instead of an authority", without_host("localhost"), None, Status(200)),
        ("both, and equal", with(&[("host", "localhost")]), None, Status(200)),
        ("CONNECT", connect(&[]), None, Status(405)),
        ("CONNECT with a length", connect(&[("content-length", "5")]), Some("12345"), Status(405)),
        ("CONNECT with a path", changed(":method", "CONNECT"), None, Malformed),
        ("no path", without(":path"), None, Malformed),
        ("an empty path", changed(":path", ""), None, Malformed),
        ("a path without a slash", changed(":path", "site"), None, Status(400)),
        ("a path with a blank", changed(":path", "/si te"), None, Status(400)),
        ("a path with a line feed", changed(":path", "/site\n"), None, Malformed),
        ("another host than the authority", with(&[("host", "evil")]), None, Status(400)),
        ("two hosts", with(&[("host", "localhost"), ("host", "localhost")]), None, Status(400)),
        ("neither host nor authority", without(":authority"), None, Status(400)),
        ("a user in the authority", changed(":authority", "user@localhost"), None, Status(400)),
        ("a path in the authority", changed(":authority", "localhost/x"), None, Status(400)),
        ("connection", with(&[("connection", "close")]), None, Malformed),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")]), None, Malformed),
        ("upgrade", with(&[("upgrade", "h2c")]), None, Malformed),
        ("te: gzip", with(&[("te", "gzip")]), None, Malformed),
        ("a capital letter", with(&[("X-Up", "1")]), None, Malformed),
        ("a carriage return in a value", with(&[("x-a", "b\rc: d")]), None, Malformed),
        ("a line feed in a value", with(&[("x-a", "b\nc: d")]), None, Malformed),
        ("a NUL in a value", with(&[("x-a", "b\0")]), None, Malformed),
        ("a blank before a value", with(&[("x-a", " b")]), None, Malformed),
        ("a blank behind a value", with(&[("x-a", "b ")]), None, Malformed),
        ("a colon in a name", with(&[("x:a", "b")]), None, Malformed),
        ("a blank in a name", with(&[("x a", "b")]), None, Malformed),
        ("no name", with(&[("", "b")]), None, Malformed),
        ("a shorter body than announced", with(&[("content-length", "9")]), Some("abc"), Malformed),
        ("a longer body than announced", with(&[("content-length", "2")]), Some("abc"), Malformed),
        ("a length and no body", with(&[("content-length", "2")]), None, Malformed),
        (
            "two lengths",
            with(&[("content-length", "3"), ("content-length", "3")]),
            Some("abc"),
            Malformed,
        ),
        ("a length with a sign", with(&[("content-length", "+3")]), Some("abc"), Malformed),
        ("a length that is a list", with(&[("content-length", "3, 3")]), Some("abc"), Malformed),
        (
            "a length without end",
            with(&[("content-length", "18446744073709551616")]),
            None,
            Malformed,
        ),
    ]
}

async fn outcome(connection: &mut FrameConnection, stream: u32) -> Outcome {
    let mut answer = None;
    loop {
        let frame = within(SOON, "an answer", connection.next()).await.expect("goes on");
        match frame.kind {
            GOAWAY => panic!("the connection ends: {}", frame.goaway_code()),
            RST_STREAM if frame.stream == stream && answer.is_some() => {
                assert_eq!(frame.number(0), PROTOCOL_ERROR);
                answer = Some(Malformed);
            }
            HEADERS if frame.stream == stream => {
                let status = status(&frame.payload);
                if status != 400 {
                    return Status(status);
                }
                answer = Some(Status(status));
                // What is sent behind it has been sent before this is acknowledged.
                connection.send(&Frame::new(PING, 0, 0, b"and then")).await;
            }
            PING if frame.flags & ACK != 0 => return answer.expect("sent behind an answer"),
            _ => {}
        }
    }
}

/// The status of a head that we wrote: indexed in the static table, or a literal with its name.
fn status(block: &[u8]) -> u16 {
    let block = block.strip_prefix(&[0x20]).unwrap_or(block);
    match block {
        [8, 3, digits @ ..] => std::str::from_utf8(&digits[..3]).unwrap().parse().unwrap(),
        [index, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(index - 0x88)],
        [] => panic!("no status"),
    }
}

#[tokio::test]
async fn each_costs_its_own_stream_and_no_other() {
    let scene = Scene::set("").await;
    let begun = scene.site.begun();
    let (unexpected, toll) = scene
        .crowd
        .under(async {
            let mut unexpected = Vec::new();
            let mut connection = FrameConnection::open(scene.gateway.address("http"), &[]).await;
            connection.next_of(SETTINGS).await;
            // A stream beside it, on the same connection.
            connection.send(&Frame::get(1, "/events/beside")).await;
            assert_eq!(outcome(&mut connection, 1).await, Status(200));
            for (number, (what, fields, body, expected)) in table().into_iter().enumerate() {
                let stream = 2 * u32::try_from(number).unwrap() + 3;
                let flags = if body.is_some() { 0 } else { END_STREAM };
                connection.send(&Frame::request(stream, flags, &fields)).await;
                if let Some(body) = body {
                    let data = Frame::new(DATA, END_STREAM, stream, body.as_bytes());
                    connection.send(&data).await;
                }
                let found = outcome(&mut connection, stream).await;
                if found != expected {
                    unexpected.push(format!("{what}: {found:?} instead of {expected:?}"));
                }
            }
            connection.send(&Frame::new(PING, 0, 0, b"still on")).await;
            within(SOON, "an answer", connection.next_of(PING)).await.expect("goes on");
            unexpected
        })
        .await;
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    let reached = (scene.site.begun() - begun) as f64;
    // What has no end, or another than announced, may have been begun.
    judge("malformed requests, a table of 36", &toll, &[("reached the backend", 6.0, reached)]);
}
