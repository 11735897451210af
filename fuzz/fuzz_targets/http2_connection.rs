#![no_main]
//! Frames of HTTP/2 against a whole gateway, through a socket, while events are published.
//!
//! The gateway answers in whole frames, on streams that were opened and not yet ended, within the
//! windows that it was given, and goes on answering until it has said why not.

mod gateway;

use std::collections::HashMap;
use std::io::Write as _;
use std::net::TcpStream;

use gateway::{connect, gate, hang_up, look, publish, read_until};
use libfuzzer_sys::fuzz_target;

const HEAD: usize = 9;
const PING: &[u8; 17] = b"\0\0\x08\x06\0\0\0\0\0are you?";
const PONG: &[u8; 17] = b"\0\0\x08\x06\x01\0\0\0\0are you?";

/// The beginnings of header blocks, for streams and for the backend.
const BLOCKS: [&[u8]; 8] = [
    b"\x82\x86\x41\x01a\x04\x11/events?channel=a",
    b"\x82\x86\x41\x01a\x04\x0c/envelopes/a",
    b"\x82\x86\x41\x01a\x04\x12/events?channel=zz",
    b"\x82\x86\x41\x01a\x84",
    b"\x83\x86\x41\x01a\x84",
    b"\x83\x86\x41\x01a\x84\x0f\x0d\x015",
    b"\x42\x07CONNECT\x86\x41\x01a\x84\x40\x09:protocol\x09websocket",
    b"\x82\x87\x41\x01a\x84",
];

struct Client {
    socket: TcpStream,
    heard: Vec<u8>,
    /// Octets of `heard` that were looked at.
    seen: usize,
    streams: HashMap<u32, Stream>,
    /// The highest stream that the client has spoken of in HEADERS.
    newest: u32,
    /// What the gateway may send on the connection, and what it has sent.
    window: u64,
    sent: u64,
    /// The largest window that a stream may begin with.
    initial_window: u64,
    is_over: bool,
}

#[derive(Default)]
struct Stream {
    has_ended: bool,
    window: u64,
    sent: u64,
}

impl Client {
    fn say(&mut self, octets: &[u8]) {
        let _gone = self.socket.write_all(octets);
    }

    /// Says a frame, whose payload may have another length than it says.
    fn frame(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8], lie: usize) {
        let length = ((payload.len() + lie) as u32).to_be_bytes();
        let id = u32::from(stream);
        match (kind, payload) {
            (1, _) => {
                self.streams.entry(id).or_default();
                self.newest = self.newest.max(id);
            }
            (4, settings) if flags & 1 == 0 => {
                for setting in settings.chunks_exact(6).filter(|setting| setting[..2] == [0, 4]) {
                    self.initial_window = self.initial_window.max(number(&setting[2..]));
                }
            }
            (8, increment) if increment.len() == 4 => {
                let increment = number(increment) & 0x7fff_ffff;
                if id == 0 {
                    self.window += increment;
                } else {
                    self.streams.entry(id).or_default().window += increment;
                }
            }
            _ => {}
        }
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
        self.say(&[&head, payload].concat());
    }

    /// Waits until the gateway has taken everything so far.
    fn wait(&mut self) {
        if self.is_over {
            return;
        }
        self.say(PING);
        let from = self.seen;
        let end = read_until(&mut self.socket, &mut self.heard, |heard| has_pong(&heard[from..]));
        self.is_over = end.is_some();
        self.check();
    }

    /// Looks at the frames that came.
    fn check(&mut self) {
        let heard = std::mem::take(&mut self.heard);
        while let Some((head, payload)) = frame(&heard[self.seen..]) {
            self.check_frame(head, payload);
            self.seen += HEAD + payload.len();
        }
        self.heard = heard;
    }

    fn check_frame(&mut self, head: &[u8], payload: &[u8]) {
        let (kind, flags, id) = (head[3], head[4], number(&head[5..9]) as u32);
        let shown = || format!("{} {}", head.escape_ascii(), payload.escape_ascii());
        assert!(payload.len() <= 16 << 10, "{}", shown());
        assert!(self.seen > 0 || kind == 4, "SETTINGS come first: {}", shown());
        match kind {
            // Those below one that was opened count as closed, and a stream may be reset again (RFC
            // 9113, sections 5.1.1 and 5.1).
            3 => {
                assert!(id <= self.newest, "nobody opened it: {}", shown());
                self.streams.entry(id).or_default().has_ended = true;
            }
            0 | 1 | 9 => {
                let stream = self.streams.get_mut(&id).filter(|_| id <= self.newest);
                let stream = stream.unwrap_or_else(|| panic!("nobody opened it: {}", shown()));
                assert!(!stream.has_ended, "it has ended: {}", shown());
                if kind == 0 {
                    stream.sent += payload.len() as u64;
                    self.sent += payload.len() as u64;
                    let (all, one) = (self.window, self.initial_window + stream.window);
                    assert!(stream.sent <= one && self.sent <= all, "over the window: {}", shown());
                }
                stream.has_ended |= kind < 2 && flags & 1 != 0;
            }
            8 => {}
            4 | 6 | 7 => assert_eq!(id, 0, "{}", shown()),
            _ => panic!("no frame of a server: {}", shown()),
        }
    }
}

fn number(octets: &[u8]) -> u64 {
    octets.iter().fold(0, |number, &octet| number << 8 | u64::from(octet))
}

fn frame(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = octets.split_at_checked(HEAD)?;
    Some((head, rest.get(..number(&head[..3]) as usize)?))
}

fn has_pong(mut octets: &[u8]) -> bool {
    while let Some((head, payload)) = frame(octets) {
        if [head, payload].concat() == PONG {
            return true;
        }
        octets = &octets[HEAD + payload.len()..];
    }
    false
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, mut rest)) = input.split_first() else { return };
    let mut client = Client {
        socket: connect(gate().clients),
        heard: Vec::new(),
        seen: 0,
        streams: HashMap::new(),
        newest: 0,
        window: 65_535,
        sent: 0,
        initial_window: 0,
        is_over: false,
    };
    client.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    match first % 4 {
        0 => client.initial_window = 65_535, // what comes is the input's business
        1 => client.frame(4, 0, 0, &[0, 4, 0, 0, 0, 16], 0),
        2 => client.frame(4, 0, 0, &[0, 4, 0, 0, 0, 0], 0),
        _ => {
            client.initial_window = 65_535;
            client.frame(4, 0, 0, &[], 0);
        }
    }
    let mut is_delimited = true;
    while let [kind, flags, stream, length, more @ ..] = rest {
        let (payload, after) = more.split_at(usize::from(*length).min(more.len()));
        rest = after;
        match kind {
            0..0x80 => client.frame(kind % 12, *flags, stream % 16, payload, 0),
            0x80..0xc0 => {
                let block = [BLOCKS[usize::from(kind % 8)], payload].concat();
                client.frame(1, *flags, stream % 16, &block, 0);
            }
            0xc0..0xe0 => drop(publish(b"a", payload)),
            0xe0..0xf8 => client.wait(),
            _ => {
                is_delimited = false;
                client.frame(kind % 8, *flags, stream % 16, payload, usize::from(*flags));
                break;
            }
        }
    }
    if is_delimited {
        client.wait();
    }
    let is_over = client.is_over;
    let Client { socket, heard, .. } = &mut client;
    if !is_over {
        hang_up(socket, heard);
    }
    client.check();
    look();
});
