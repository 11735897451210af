//! Frames of HTTP/2, and the reaction that the standard demands: a table.
//!
//! The cases and their names are those of h2spec, which is packaged nowhere: `generic` is what must
//! work, `http2` what RFC 9113 and `hpack` what RFC 7541 says of everything else; the numbers are those of
//! the sections. An error of a stream may also end the connection (section 5.4), and an
//! error of the connection may be told by its end alone (section 5.4.1).

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HAS_PRIORITY, HEADERS, PADDED, PING,
    PREFACE, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::support::{Frame, FrameConnection, Gateway, Redis, Site, Via};

/// Error codes (section 7).
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;

/// `:status: 400` in the static table (RFC 7541, appendix A).
const INDEXED_400: u8 = 0x80 | 12;

/// Nothing in here takes longer, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(20);

/// What happens, in its order.
#[derive(Debug)]
enum Step {
    /// The client sends this.
    Send(Vec<u8>),
    /// The response on this stream begins.
    Head(u32),
    /// The same, with the status 400.
    BadRequest(u32),
    /// It ends, after all its parts.
    Answer(u32),
    /// A piece of a response, of so many octets.
    Data(u32, usize),
    /// The client's PING is answered.
    Pong([u8; 8]),
    /// The same, or the end of the connection.
    PongOrEnd([u8; 8]),
    /// The client's SETTINGS are acknowledged.
    Acknowledged,
    /// An error of this stream.
    StreamError(u32, &'static [u32]),
    /// An error of the connection.
    ConnectionError(&'static [u32]),
    /// The connection is closed.
    End,
}
use Step::{
    Acknowledged, Answer, BadRequest, ConnectionError, Data, End, Head, Pong, PongOrEnd,
    StreamError,
};

struct Case {
    name: &'static str,
    what: &'static str,
    /// Whether the client says its preface, and SETTINGS, before all this.
    greets: bool,
    steps: Vec<Step>,
}

fn case(name: &'static str, what: &'static str, steps: impl Into<Vec<Step>>) -> Case {
    Case { name, what, greets: true, steps: steps.into() }
}

fn send<const N: usize>(frames: [Frame; N]) -> Step {
    Step::Send(frames.iter().flat_map(Frame::encode).collect())
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Frame {
    Frame::new(kind, flags, stream, payload)
}

/// `GET /`, from the static table but for the authority.
const GET: &[u8] = b"\x82\x86\x84\x41\x09localhost";
const POST: &[u8] = b"\x83\x86\x84\x41\x09localhost";

/// A whole request.
fn get(stream: u32) -> Frame {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, GET)
}

/// A request whose body is still to come.
fn post(stream: u32) -> Frame {
    frame(HEADERS, END_HEADERS, stream, POST)
}

/// A whole request, or half of one, with these octets behind its header block.
fn get_with(more: &[u8]) -> Frame {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &[GET, more].concat())
}

fn post_with(more: &[u8]) -> Frame {
    frame(HEADERS, END_HEADERS, 1, &[POST, more].concat())
}

/// A field, literally and without indexing.
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut octets = vec![0];
    for text in [name, value] {
        octets.push(u8::try_from(text.len()).unwrap());
        octets.extend_from_slice(text.as_bytes());
    }
    octets
}

fn fields(fields: &[(&str, &str)]) -> Frame {
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
}

fn settings(entries: &[(u16, u32)]) -> Frame {
    Frame::of_settings(entries)
}

fn window(stream: u32, more: u32) -> Frame {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

fn reset(stream: u32, code: u32) -> Frame {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// A priority: the stream it hangs on, whether alone, and its weight.
fn priority(on: u32, is_exclusive: bool, weight: u8) -> Vec<u8> {
    let on = on | if is_exclusive { 1 << 31 } else { 0 };
    [&on.to_be_bytes()[..], &[weight - 1]].concat()
}

const SAID: [u8; 8] = *b"h2spec\0\0";

fn ping() -> Frame {
    frame(PING, 0, 0, &SAID)
}

fn goaway(code: u32) -> Frame {
    frame(GOAWAY, 0, 0, &[&0_u32.to_be_bytes()[..], &code.to_be_bytes()].concat())
}

const CLOSED: &[u32] = &[STREAM_CLOSED];
const PROTOCOL: &[u32] = &[PROTOCOL_ERROR];
const SIZE: &[u32] = &[FRAME_SIZE_ERROR];
const FLOW: &[u32] = &[FLOW_CONTROL_ERROR];
const COMPRESSION: &[u32] = &[COMPRESSION_ERROR];
const CLOSED_OR_PROTOCOL: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];

/// What must work.
fn generic() -> Vec<Case> {
    let mut cases = vec![
        case("generic/1/1", "a client's preface", [send([get(1)]), Answer(1)]),
        case(
            "generic/2/1",
            "PRIORITY on an idle stream",
            [send([frame(PRIORITY, 0, 1, &priority(0, false, 16)), get(1)]), Answer(1)],
        ),
        case(
            "generic/2/2",
            "WINDOW_UPDATE on a half-closed (remote) stream",
            [send([get(1), window(1, 1)]), Answer(1)],
        ),
        case(
            "generic/2/3",
            "PRIORITY on a half-closed (remote) stream",
            [send([get(1), frame(PRIORITY, 0, 1, &priority(0, false, 16))]), Answer(1)],
        ),
        case(
            "generic/2/4",
            "RST_STREAM on a half-closed (remote) stream",
            [send([get(1), reset(1, 8), ping()]), Pong(SAID)],
        ),
        case(
            "generic/2/5",
            "PRIORITY on a closed stream",
            [
                send([get(1)]),
                Answer(1),
                send([frame(PRIORITY, 0, 1, &priority(0, false, 16)), ping()]),
                Pong(SAID),
            ],
        ),
        case(
            "generic/3.1/1",
            "DATA",
            [send([post(1), frame(DATA, END_STREAM, 1, b"test")]), Answer(1)],
        ),
        case(
            "generic/3.1/2",
            "two of DATA",
            [
                send([post(1), frame(DATA, 0, 1, b"test"), frame(DATA, END_STREAM, 1, b"test")]),
                Answer(1),
            ],
        ),
        case(
            "generic/3.1/3",
            "DATA with padding",
            [send([post(1), frame(DATA, END_STREAM | PADDED, 1, b"\x06test......")]), Answer(1)],
        ),
        case("generic/3.2/1", "HEADERS", [send([get(1)]), Answer(1)]),
        case(
            "generic/3.2/2",
            "HEADERS with padding",
            [
                send([frame(
                    HEADERS,
                    END_HEADERS | END_STREAM | PADDED,
                    1,
                    &[b"\x03", GET, b"..."].concat(),
                )]),
                Answer(1),
            ],
        ),
        case(
            "generic/3.2/3",
            "HEADERS with a priority",
            [
                send([frame(
                    HEADERS,
                    END_HEADERS | END_STREAM | HAS_PRIORITY,
                    1,
                    &[&priority(0, false, 255), GET].concat(),
                )]),
                Answer(1),
            ],
        ),
        case(
            "generic/3.3/5",
            "PRIORITY for an idle stream, then HEADERS of one before it",
            [send([frame(PRIORITY, 0, 3, &priority(0, false, 255)), get(1)]), Answer(1)],
        ),
        case("generic/3.4/1", "RST_STREAM", [send([get(1), reset(1, 8), ping()]), Pong(SAID)]),
        case("generic/3.5/1", "SETTINGS", [send([settings(&[(3, 100)])]), Acknowledged]),
        case("generic/3.7/1", "PING", [send([ping()]), Pong(SAID)]),
        case("generic/3.8/1", "GOAWAY", [send([goaway(0), ping()]), PongOrEnd(SAID)]),
        case("generic/3.9/1", "WINDOW_UPDATE", [send([window(0, 1), get(1)]), Answer(1)]),
        case(
            "generic/3.9/2",
            "WINDOW_UPDATE on a stream",
            [send([get(1), window(1, 1)]), Answer(1)],
        ),
        case(
            "generic/3.10/1",
            "CONTINUATION",
            [
                send([
                    frame(HEADERS, END_STREAM, 1, GET),
                    frame(CONTINUATION, END_HEADERS, 1, &field("x-dummy0", "a")),
                ]),
                Answer(1),
            ],
        ),
        case(
            "generic/3.10/2",
            "two of CONTINUATION",
            [
                send([
                    frame(HEADERS, END_STREAM, 1, GET),
                    frame(CONTINUATION, 0, 1, &field("x-dummy0", "a")),
                    frame(CONTINUATION, END_HEADERS, 1, &field("x-dummy1", "b")),
                ]),
                Answer(1),
            ],
        ),
        case("generic/4/1", "GET", [send([get(1)]), Answer(1)]),
        case(
            "generic/4/2",
            "HEAD",
            [
                send([fields(&[
                    (":method", "HEAD"),
                    (":scheme", "http"),
                    (":path", "/"),
                    (":authority", "localhost"),
                ])]),
                Answer(1),
            ],
        ),
        case(
            "generic/4/3",
            "POST",
            [send([post(1), frame(DATA, END_STREAM, 1, b"test")]), Answer(1)],
        ),
        case(
            "generic/4/4",
            "POST with trailers",
            [
                send([
                    post_with(&field("trailer", "x-test")),
                    frame(DATA, 0, 1, b"test"),
                    frame(HEADERS, END_HEADERS | END_STREAM, 1, &field("x-test", "ok")),
                ]),
                Answer(1),
            ],
        ),
    ];
    for (name, what, priority) in [
        ("generic/3.3/1", "PRIORITY 1", priority(0, false, 1)),
        ("generic/3.3/2", "PRIORITY 255", priority(0, false, 255)),
        ("generic/3.3/3", "PRIORITY that hangs on a stream", priority(3, false, 255)),
        ("generic/3.3/4", "PRIORITY that hangs on a stream alone", priority(3, true, 255)),
    ] {
        let frames = [frame(PRIORITY, 0, 1, &priority), get(1)];
        cases.push(case(name, what, [send(frames), Answer(1)]));
    }
    for (name, what, more) in [
        ("generic/5/1", "an indexed field", &b"\x90"[..]),
        ("generic/5/2", "incremental indexing, indexed name", b"\x7a\x04test"),
        (
            "generic/5/3",
            "incremental indexing, indexed name, Huffman",
            b"\x7a\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ),
        ("generic/5/4", "incremental indexing, new name", b"\x40\x06x-test\x04test"),
        (
            "generic/5/5",
            "incremental indexing, new name, Huffman",
            b"\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ),
        ("generic/5/6", "no indexing, indexed name", b"\x0f\x2b\x04test"),
        (
            "generic/5/7",
            "no indexing, indexed name, Huffman",
            b"\x0f\x2b\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ),
        ("generic/5/8", "no indexing, new name", b"\x00\x06x-test\x04test"),
        (
            "generic/5/9",
            "no indexing, new name, Huffman",
            b"\x00\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ),
        ("generic/5/10", "never indexed, indexed name", b"\x1f\x2b\x04test"),
        (
            "generic/5/11",
            "never indexed, indexed name, Huffman",
            b"\x1f\x2b\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ),
        ("generic/5/12", "never indexed, new name", b"\x10\x06x-test\x04test"),
        (
            "generic/5/13",
            "never indexed, new name, Huffman",
            b"\x10\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf",
        ),
    ] {
        cases.push(case(name, what, [send([get_with(more)]), Answer(1)]));
    }
    for (name, what, before) in [
        ("generic/5/14", "a new size of the table", &b"\x20"[..]),
        ("generic/5/15", "two new sizes of the table", b"\x20\x3f\xe1\x1f"),
    ] {
        let block = [before, GET].concat();
        let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
        cases.push(case(name, what, [send([request]), Answer(1)]));
    }
    cases
}

/// RFC 9113, sections 3 to 5.
fn connection_and_streams() -> Vec<Case> {
    let pinged = |what: Frame| [send([what]), Pong(SAID)];
    let mut undefined_flags = ping();
    undefined_flags.flags = 0x16;
    let mut reserved_bit = ping();
    reserved_bit.stream = 1 << 31;
    vec![
        case("http2/3.5/1", "a client's preface", [send([settings(&[])]), Acknowledged]),
        Case {
            greets: false,
            ..case(
                "http2/3.5/2",
                "a preface that is none",
                [Step::Send(b"INVALID CONNECTION PREFACE\r\n\r\n".to_vec()), End],
            )
        },
        case(
            "http2/4.1/1",
            "a frame of an unknown type",
            [send([frame(0x16, 0, 0, &[0; 8]), ping()]), Pong(SAID)],
        ),
        case("http2/4.1/2", "flags that are not defined", pinged(undefined_flags)),
        case("http2/4.1/3", "the reserved bit", pinged(reserved_bit)),
        case(
            "http2/4.2/1",
            "DATA of the largest size",
            [send([post(1), frame(DATA, END_STREAM, 1, &[b'x'; 1 << 14])]), Answer(1)],
        ),
        case(
            "http2/4.2/2",
            "DATA larger than that",
            [
                send([post(1), frame(DATA, END_STREAM, 1, &[b'x'; (1 << 14) + 1])]),
                StreamError(1, SIZE),
            ],
        ),
        case(
            "http2/4.2/3",
            "HEADERS larger than that",
            [
                send([frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0; (1 << 14) + 1])]),
                ConnectionError(SIZE),
            ],
        ),
        case(
            "http2/4.3/1",
            "a header block that is none",
            [
                send([frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x40")]),
                ConnectionError(COMPRESSION),
            ],
        ),
        case(
            "http2/4.3/2",
            "PRIORITY within a header block",
            [
                send([
                    frame(HEADERS, END_STREAM, 1, GET),
                    frame(PRIORITY, 0, 1, &priority(0, false, 255)),
                    frame(CONTINUATION, END_HEADERS, 1, b""),
                ]),
                ConnectionError(PROTOCOL),
            ],
        ),
        case(
            "http2/4.3/3",
            "HEADERS of another stream within a header block",
            [send([frame(HEADERS, END_STREAM, 1, GET), get(3)]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/5.1/1",
            "idle: DATA",
            [send([frame(DATA, END_STREAM, 1, b"test")]), ConnectionError(PROTOCOL)],
        ),
        case("http2/5.1/2", "idle: RST_STREAM", [send([reset(1, 8)]), ConnectionError(PROTOCOL)]),
        case(
            "http2/5.1/3",
            "idle: WINDOW_UPDATE",
            [send([window(1, 100)]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/5.1/4",
            "idle: CONTINUATION",
            [send([frame(CONTINUATION, END_HEADERS, 1, GET)]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/5.1/5",
            "half closed (remote): DATA",
            [send([get(1), frame(DATA, END_STREAM, 1, b"test")]), StreamError(1, CLOSED)],
        ),
        case(
            "http2/5.1/6",
            "half closed (remote): HEADERS",
            [send([get(1), get(1)]), StreamError(1, CLOSED)],
        ),
        case(
            "http2/5.1/7",
            "half closed (remote): CONTINUATION",
            [
                send([get(1), frame(CONTINUATION, END_HEADERS, 1, GET)]),
                StreamError(1, CLOSED_OR_PROTOCOL),
            ],
        ),
        case(
            "http2/5.1/8",
            "closed by RST_STREAM: DATA",
            [
                send([post(1), reset(1, 8), frame(DATA, END_STREAM, 1, b"test")]),
                StreamError(1, CLOSED),
            ],
        ),
        case(
            "http2/5.1/9",
            "closed by RST_STREAM: HEADERS",
            [send([post(1), reset(1, 8), get(1)]), StreamError(1, CLOSED)],
        ),
        case(
            "http2/5.1/10",
            "closed by RST_STREAM: CONTINUATION",
            [
                send([post(1), reset(1, 8), frame(CONTINUATION, END_HEADERS, 1, GET)]),
                StreamError(1, CLOSED_OR_PROTOCOL),
            ],
        ),
        case(
            "http2/5.1/11",
            "closed: DATA",
            [
                send([get(1)]),
                Answer(1),
                send([frame(DATA, END_STREAM, 1, b"test")]),
                StreamError(1, CLOSED),
            ],
        ),
        case(
            "http2/5.1/12",
            "closed: HEADERS",
            [send([get(1)]), Answer(1), send([get(1)]), ConnectionError(CLOSED)],
        ),
        case(
            "http2/5.1/13",
            "closed: CONTINUATION",
            [
                send([get(1)]),
                Answer(1),
                send([frame(CONTINUATION, END_HEADERS, 1, GET)]),
                ConnectionError(CLOSED_OR_PROTOCOL),
            ],
        ),
        case(
            "http2/5.1.1/1",
            "a stream with an even number",
            [send([get(2)]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/5.1.1/2",
            "a stream with a number that is smaller than another",
            [send([get(5), get(3)]), ConnectionError(PROTOCOL)],
        ),
        case("http2/5.1.2/1", "more streams than are allowed", {
            let posts = (0..257).flat_map(|number| post(2 * number + 1).encode());
            [Step::Send(posts.collect()), StreamError(513, &[PROTOCOL_ERROR, REFUSED_STREAM])]
        }),
        case(
            "http2/5.3.1/1",
            "HEADERS that depends on itself",
            [
                send([frame(
                    HEADERS,
                    END_HEADERS | END_STREAM | HAS_PRIORITY,
                    1,
                    &[&priority(1, false, 255), GET].concat(),
                )]),
                StreamError(1, PROTOCOL),
            ],
        ),
        case(
            "http2/5.3.1/2",
            "PRIORITY that depends on itself",
            [send([frame(PRIORITY, 0, 2, &priority(2, false, 255))]), StreamError(2, PROTOCOL)],
        ),
        case(
            "http2/5.4.1/1",
            "a PING that is none: GOAWAY",
            [send([frame(PING, 0, 0, &[0; 6])]), ConnectionError(SIZE)],
        ),
        case(
            "http2/5.4.1/2",
            "a PING that is none: the end",
            [send([frame(PING, 0, 3, &[0; 8])]), End],
        ),
        case(
            "http2/5.5/1",
            "a frame of an extension",
            [send([frame(0x16, 0, 0, &[0; 8]), ping()]), Pong(SAID)],
        ),
        case(
            "http2/5.5/2",
            "a frame of an extension within a header block",
            [
                send([frame(HEADERS, END_STREAM, 1, GET), frame(0x16, 0, 0, &[0; 8])]),
                ConnectionError(PROTOCOL),
            ],
        ),
    ]
}

/// RFC 9113, section 6.
fn frames() -> Vec<Case> {
    let more_padding = |kind, flags, block: &[u8]| {
        let length = u8::try_from(block.len() + 1).unwrap();
        frame(kind, flags | PADDED, 1, &[&[length], block].concat())
    };
    vec![
        case(
            "http2/6.1/1",
            "DATA on stream 0",
            [send([frame(DATA, END_STREAM, 0, b"test")]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.1/2",
            "DATA on a stream that is not open",
            [send([get(1), frame(DATA, END_STREAM, 1, b"test")]), StreamError(1, CLOSED)],
        ),
        case(
            "http2/6.1/3",
            "DATA with more padding than payload",
            [send([post(1), more_padding(DATA, END_STREAM, b"test")]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.2/1",
            "HEADERS without its end, then PRIORITY",
            [
                send([
                    frame(HEADERS, END_STREAM, 1, GET),
                    frame(PRIORITY, 0, 1, &priority(0, false, 255)),
                ]),
                ConnectionError(PROTOCOL),
            ],
        ),
        case(
            "http2/6.2/2",
            "HEADERS without its end, then another stream",
            [send([frame(HEADERS, END_STREAM, 1, GET), get(3)]), ConnectionError(PROTOCOL)],
        ),
        case("http2/6.2/3", "HEADERS on stream 0", [send([get(0)]), ConnectionError(PROTOCOL)]),
        case(
            "http2/6.2/4",
            "HEADERS with more padding than payload",
            [
                send([more_padding(HEADERS, END_HEADERS | END_STREAM, GET)]),
                ConnectionError(PROTOCOL),
            ],
        ),
        case(
            "http2/6.3/1",
            "PRIORITY on stream 0",
            [send([frame(PRIORITY, 0, 0, &priority(0, false, 255))]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.3/2",
            "PRIORITY of another size than 5",
            [send([post(1), frame(PRIORITY, 0, 1, &[0x80, 0, 0, 1])]), StreamError(1, SIZE)],
        ),
        case(
            "http2/6.4/1",
            "RST_STREAM on stream 0",
            [send([reset(0, 8)]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.4/2",
            "RST_STREAM on an idle stream",
            [send([reset(1, 8)]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.4/3",
            "RST_STREAM of another size than 4",
            [send([post(1), frame(RST_STREAM, 0, 1, &[0; 3])]), ConnectionError(SIZE)],
        ),
        case(
            "http2/6.5/1",
            "an acknowledgement of SETTINGS with a payload",
            [send([frame(SETTINGS, ACK, 0, &[0; 6])]), ConnectionError(SIZE)],
        ),
        case(
            "http2/6.5/2",
            "SETTINGS on a stream",
            [send([frame(SETTINGS, 0, 1, &[0, 3, 0, 0, 0, 100])]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.5/3",
            "SETTINGS that are cut short",
            [send([frame(SETTINGS, 0, 0, &[0, 3, 0])]), ConnectionError(SIZE)],
        ),
        case(
            "http2/6.5.2/1",
            "ENABLE_PUSH that is no 0 and no 1",
            [send([settings(&[(2, 2)])]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.5.2/2",
            "INITIAL_WINDOW_SIZE beyond 31 bits",
            [send([settings(&[(4, 1 << 31)])]), ConnectionError(FLOW)],
        ),
        case(
            "http2/6.5.2/3",
            "MAX_FRAME_SIZE too small",
            [send([settings(&[(5, (1 << 14) - 1)])]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.5.2/4",
            "MAX_FRAME_SIZE too large",
            [send([settings(&[(5, 1 << 24)])]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.5.2/5",
            "a setting that is not known",
            [send([settings(&[(0xff, 1)]), ping()]), Pong(SAID)],
        ),
        case(
            "http2/6.5.3/1",
            "one setting twice: the last counts",
            [send([settings(&[(4, 100), (4, 1)])]), Acknowledged, send([get(1)]), Data(1, 1)],
        ),
        case("http2/6.5.3/2", "SETTINGS", [send([settings(&[])]), Acknowledged]),
        case("http2/6.7/1", "PING", [send([ping()]), Pong(SAID)]),
        case(
            "http2/6.7/2",
            "an answer to no PING",
            [send([frame(PING, ACK, 0, b"not that"), ping()]), Pong(SAID)],
        ),
        case(
            "http2/6.7/3",
            "PING on a stream",
            [send([frame(PING, 0, 1, &[0; 8])]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.7/4",
            "PING of another size than 8",
            [send([frame(PING, 0, 0, &[0; 6])]), ConnectionError(SIZE)],
        ),
        case(
            "http2/6.8/1",
            "GOAWAY on a stream",
            [send([frame(GOAWAY, 0, 1, &[0; 8])]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.9/1",
            "WINDOW_UPDATE by 0",
            [send([window(0, 0)]), ConnectionError(PROTOCOL)],
        ),
        case(
            "http2/6.9/2",
            "WINDOW_UPDATE by 0 on a stream",
            [send([post(1), window(1, 0)]), StreamError(1, PROTOCOL)],
        ),
        case(
            "http2/6.9/3",
            "WINDOW_UPDATE of another size than 4",
            [send([frame(WINDOW_UPDATE, 0, 0, &[0, 0, 1])]), ConnectionError(SIZE)],
        ),
        case(
            "http2/6.9.1/1",
            "a window of 1",
            [send([settings(&[(4, 1)])]), Acknowledged, send([get(1)]), Data(1, 1)],
        ),
        case(
            "http2/6.9.1/2",
            "a window beyond 31 bits",
            [send([window(0, (1 << 31) - 1), window(0, (1 << 31) - 1)]), ConnectionError(FLOW)],
        ),
        case(
            "http2/6.9.1/3",
            "a stream's window beyond 31 bits",
            [
                send([post(1), window(1, (1 << 31) - 1), window(1, (1 << 31) - 1)]),
                StreamError(1, FLOW),
            ],
        ),
        case(
            "http2/6.9.2/1",
            "an initial window that grows from 0 to 1",
            [
                send([settings(&[(4, 0)])]),
                Acknowledged,
                send([get(1)]),
                Head(1),
                send([settings(&[(4, 1)])]),
                Data(1, 1),
            ],
        ),
        case(
            "http2/6.9.2/2",
            "a window below 0",
            [
                send([settings(&[(4, 3)])]),
                Acknowledged,
                send([get(1)]),
                Data(1, 3),
                send([settings(&[(4, 2)]), window(1, 2)]),
                Data(1, 1),
            ],
        ),
        case(
            "http2/6.9.2/3",
            "an initial window beyond 31 bits",
            [send([settings(&[(4, 1 << 31)])]), ConnectionError(FLOW)],
        ),
        case(
            "http2/6.10/1",
            "CONTINUATION twice",
            [
                send([
                    frame(HEADERS, END_STREAM, 1, GET),
                    frame(CONTINUATION, 0, 1, &field("x-dummy0", "a")),
                    frame(CONTINUATION, END_HEADERS, 1, &field("x-dummy1", "b")),
                ]),
                Answer(1),
            ],
        ),
        case(
            "http2/6.10/2",
            "CONTINUATION, then another frame",
            [
                send([
                    frame(HEADERS, END_STREAM, 1, GET),
                    frame(CONTINUATION, 0, 1, &field("x-dummy0", "a")),
                    frame(DATA, END_STREAM, 1, b"test"),
                ]),
                ConnectionError(PROTOCOL),
            ],
        ),
        case(
            "http2/6.10/3",
            "CONTINUATION on stream 0",
            [
                send([
                    frame(HEADERS, END_STREAM, 1, GET),
                    frame(CONTINUATION, END_HEADERS, 0, &field("x-dummy0", "a")),
                ]),
                ConnectionError(PROTOCOL),
            ],
        ),
        case(
            "http2/6.10/4",
            "CONTINUATION behind a HEADERS that has ended",
            [
                send([post(1), frame(CONTINUATION, END_HEADERS, 1, &field("x-dummy0", "a"))]),
                ConnectionError(PROTOCOL),
            ],
        ),
        case(
            "http2/6.10/5",
            "CONTINUATION behind one that has ended",
            [
                send([
                    frame(HEADERS, 0, 1, POST),
                    frame(CONTINUATION, END_HEADERS, 1, &field("x-dummy0", "a")),
                    frame(CONTINUATION, END_HEADERS, 1, &field("x-dummy1", "b")),
                ]),
                ConnectionError(PROTOCOL),
            ],
        ),
        case(
            "http2/6.10/6",
            "CONTINUATION behind DATA",
            [
                send([
                    post(1),
                    frame(DATA, 0, 1, b"test"),
                    frame(CONTINUATION, END_HEADERS, 1, &field("x-dummy0", "a")),
                ]),
                ConnectionError(PROTOCOL),
            ],
        ),
        case(
            "http2/7/1",
            "GOAWAY with a code that is not known",
            [send([goaway(0xff), ping()]), PongOrEnd(SAID)],
        ),
        case(
            "http2/7/2",
            "RST_STREAM with a code that is not known",
            [send([get(1), reset(1, 0xff), ping()]), PongOrEnd(SAID)],
        ),
    ]
}

/// RFC 9113, section 8.
fn messages() -> Vec<Case> {
    let malformed = |name, what, request: Frame| {
        case(name, what, [send([request]), BadRequest(1), StreamError(1, PROTOCOL)])
    };
    let with = |name: &str, value: &str| get_with(&field(name, value));
    let path = (":path", "/");
    let (method, scheme) = ((":method", "GET"), (":scheme", "http"));
    let authority = (":authority", "localhost");
    vec![
        case(
            "http2/8.1/1",
            "a second HEADERS that does not end its stream",
            [
                send([post(1), frame(HEADERS, END_HEADERS, 1, &field("x-test", "ok"))]),
                BadRequest(1),
                StreamError(1, PROTOCOL),
            ],
        ),
        malformed("http2/8.1.2/1", "a name with a capital letter", with("X-TEST", "ok")),
        malformed("http2/8.1.2.1/1", "a pseudo-field that is not known", {
            fields(&[method, scheme, path, authority, (":test", "ok")])
        }),
        malformed("http2/8.1.2.1/2", "a pseudo-field of responses", {
            fields(&[method, scheme, path, authority, (":status", "200")])
        }),
        case(
            "http2/8.1.2.1/3",
            "a pseudo-field as a trailer",
            [
                send([
                    post(1),
                    frame(DATA, 0, 1, b"test"),
                    frame(HEADERS, END_HEADERS | END_STREAM, 1, &field(":method", "200")),
                ]),
                BadRequest(1),
                StreamError(1, PROTOCOL),
            ],
        ),
        malformed("http2/8.1.2.1/4", "a pseudo-field behind a field", {
            fields(&[method, scheme, authority, ("x-test", "ok"), path])
        }),
        malformed("http2/8.1.2.2/1", "a field of connections", with("connection", "keep-alive")),
        malformed("http2/8.1.2.2/2", "TE that is not trailers", with("te", "trailers, deflate")),
        malformed("http2/8.1.2.3/1", "an empty :path", {
            fields(&[method, scheme, (":path", ""), authority])
        }),
        malformed("http2/8.1.2.3/2", "no :method", fields(&[scheme, path, authority])),
        malformed("http2/8.1.2.3/3", "no :scheme", fields(&[method, path, authority])),
        malformed("http2/8.1.2.3/4", "no :path", fields(&[method, scheme, authority])),
        malformed("http2/8.1.2.3/5", "two of :method", {
            fields(&[method, method, scheme, path, authority])
        }),
        malformed("http2/8.1.2.3/6", "two of :scheme", {
            fields(&[method, scheme, scheme, path, authority])
        }),
        malformed("http2/8.1.2.3/7", "two of :path", {
            fields(&[method, scheme, path, path, authority])
        }),
        case(
            "http2/8.1.2.6/1",
            "another length than was announced",
            [
                send([
                    post_with(&field("content-length", "1")),
                    frame(DATA, END_STREAM, 1, b"test"),
                ]),
                BadRequest(1),
                StreamError(1, PROTOCOL),
            ],
        ),
        case(
            "http2/8.1.2.6/2",
            "another length than was announced, in two pieces",
            [
                send([
                    post_with(&field("content-length", "1")),
                    frame(DATA, 0, 1, b"test"),
                    frame(DATA, END_STREAM, 1, b"test"),
                ]),
                BadRequest(1),
                StreamError(1, PROTOCOL),
            ],
        ),
        case(
            "http2/8.2/1",
            "PUSH_PROMISE",
            [
                send([frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 3], GET].concat())]),
                ConnectionError(PROTOCOL),
            ],
        ),
    ]
}

/// RFC 7541.
fn compression() -> Vec<Case> {
    [
        ("hpack/2.3.3/1", "an index behind both tables", &b"\xc6"[..]),
        ("hpack/2.3.3/2", "an index of a name behind both tables", b"\x7f\x07\x04test"),
        ("hpack/4.2/1", "a new size of the table at the end of a block", b"\x20"),
        ("hpack/5.2/1", "padding of a Huffman code longer than 7 bits", {
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x84\x49\x50\x9f\xff"
        }),
        ("hpack/5.2/2", "padding of a Huffman code with zeros", {
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x83\x49\x50\x90"
        }),
        ("hpack/5.2/3", "a Huffman code with the end of the string in it", {
            b"\x00\x85\xf2\xb2\x4a\x84\xff\x87\x49\x51\xff\xff\xff\xfa\x7f"
        }),
        ("hpack/6.1/1", "index 0", b"\x80"),
        ("hpack/6.3/1", "a size that is larger than the table may be", b"\x3f\xe2\x1f"),
    ]
    .into_iter()
    .map(|(name, what, octets)| {
        let is_size = name == "hpack/6.3/1";
        let block = if is_size { [octets, GET].concat() } else { [GET, octets].concat() };
        let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, &block);
        case(name, what, [send([request]), ConnectionError(COMPRESSION)])
    })
    .collect()
}

fn all() -> Vec<Case> {
    let mut cases = generic();
    cases.extend(connection_and_streams());
    cases.extend(frames());
    cases.extend(messages());
    cases.extend(compression());
    cases
}

/// Goes through a case; an error says what did not come.
async fn check(case: Case, via: Via, to: SocketAddr) -> Result<(), String> {
    let mut connection = FrameConnection::over(via.connect(to).await);
    if case.greets {
        connection.send_bytes(PREFACE).await;
        connection.send(&settings(&[])).await;
        connection.next_of(SETTINGS).await;
        connection.send(&frame(SETTINGS, ACK, 0, &[])).await;
        connection.next_of(SETTINGS).await; // ours is acknowledged
    }
    for step in case.steps {
        let said = format!("{step:?}");
        let seen = tokio::time::timeout(PATIENCE, Box::pin(go(&mut connection, step))).await;
        let seen = seen.unwrap_or_else(|_| Err("nothing".to_owned()));
        seen.map_err(|seen| {
            format!("{via:?} {}: {}: {seen} instead of {said:.100}", case.name, case.what)
        })?;
    }
    Ok(())
}

async fn go(connection: &mut FrameConnection, step: Step) -> Result<(), String> {
    if let Step::Send(octets) = &step {
        connection.send_bytes(octets).await;
        return Ok(());
    }
    loop {
        let Some(frame) = connection.next().await else {
            // Section 5.4.1: the end says it as well.
            let says = matches!(step, StreamError(..) | ConnectionError(_) | PongOrEnd(_) | End);
            return if says { Ok(()) } else { Err("the end".to_owned()) };
        };
        let ends = frame.flags & END_STREAM != 0;
        match (&step, frame.kind) {
            (Head(stream), HEADERS) if frame.stream == *stream => return Ok(()),
            (BadRequest(stream), HEADERS) if frame.stream == *stream => {
                // Behind a new size of the table, where that is the first block of all.
                let block = frame.payload.strip_prefix(&[0x20]).unwrap_or(&frame.payload);
                let is_it = block.first() == Some(&INDEXED_400);
                return if is_it { Ok(()) } else { Err(format!("{frame:?}")) };
            }
            (Answer(stream), HEADERS | DATA) if frame.stream == *stream && ends => return Ok(()),
            (Data(stream, length), DATA) if frame.stream == *stream => {
                let found = frame.payload.len();
                return if found == *length { Ok(()) } else { Err(format!("{found} octets")) };
            }
            (Pong(said) | PongOrEnd(said), PING) if frame.flags & ACK != 0 => {
                return if frame.payload == said { Ok(()) } else { Err(format!("{frame:?}")) };
            }
            (Acknowledged, SETTINGS) if frame.flags & ACK != 0 => return Ok(()),
            (StreamError(stream, codes), RST_STREAM) if frame.stream == *stream => {
                let found = frame.number(0);
                return if codes.contains(&found) { Ok(()) } else { Err(format!("RST {found}")) };
            }
            (StreamError(_, codes) | ConnectionError(codes), GOAWAY) => {
                let found = frame.goaway_code();
                return if codes.contains(&found) {
                    Ok(())
                } else {
                    Err(format!("GOAWAY {found}"))
                };
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn frames_have_the_reactions_that_the_standard_demands() {
    let redis = Redis::start().await;
    let site = Site::start("hello, whoever you are").await;
    let gateway = Gateway::build(&redis).routes(&site.route("/{*rest}")).start().await;
    let mut names: Vec<_> = all().iter().map(|case| case.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 147, "one case for each of h2spec's");

    let mut faults = Vec::new();
    for via in [Via::Http2, Via::H2c] {
        let to = gateway.address_for(via);
        let mut checks: JoinSet<_> = all().into_iter().map(|case| check(case, via, to)).collect();
        while let Some(checked) = checks.join_next().await {
            faults.extend(checked.unwrap().err());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(gateway.send(Via::Http2, crate::support::Request::get("/")).await.status, 200);
}

#[tokio::test]
async fn a_stream_that_nobody_opened_is_never_reset() {
    let redis = Redis::start().await;
    let site = Site::start("hello").await;
    let gateway = Gateway::build(&redis).routes(&site.route("/{*rest}")).start().await;
    // A PRIORITY that is cut short, before and behind the client's GOAWAY.
    for before in [vec![get(1)], vec![get(1), goaway(0)]] {
        let via = Via::H2c.connect(gateway.address_for(Via::H2c)).await;
        let mut connection = FrameConnection::over(via);
        connection.send_bytes(PREFACE).await;
        connection.send(&settings(&[])).await;
        let short = frame(PRIORITY, 0, 5, &[0; 4]);
        let octets: Vec<u8> = before.iter().chain([&short]).flat_map(Frame::encode).collect();
        connection.send_bytes(&octets).await;
        let mut codes = Vec::new();
        while let Some(frame) = connection.next().await {
            assert!(frame.kind != RST_STREAM || frame.stream == 1, "{frame:?}");
            if frame.kind == GOAWAY {
                codes.push(frame.goaway_code());
            }
        }
        assert_eq!(codes, [FRAME_SIZE_ERROR]);
    }
}
