#![no_main]
//! Whole requests of HTTP/1.1, well-formed or not: to streams, and to a backend that sees whatever
//! gets through.

mod gateway;

use gateway::{check_answer, exchange, gate};
use libfuzzer_sys::fuzz_target;

/// What an input goes on from: its first octet says which.
const BEGINNINGS: [&str; 16] = [
    "",
    "GET ",
    "GET /events?channel=",
    "GET /events?channel=a HTTP/1.1\r\nhost: a\r\n",
    "GET /envelopes/",
    "OPTIONS /events?channel=a HTTP/1.1\r\nhost: a\r\norigin: ",
    "HEAD /events?channel=a HTTP/1.1\r\nhost: a\r\n",
    "GET /events?channel=a HTTP/1.1\r\nhost: a\r\nlast-event-id: ",
    "GET / HTTP/1.1\r\nhost: a\r\n",
    "GET / HTTP/1.1\r\nhost: ",
    "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: ",
    "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: ",
    "GET /\r\n",
];

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let beginning = BEGINNINGS[usize::from(first) % BEGINNINGS.len()];
    // What is left open is closed, unless the input is to end in the midst of something.
    let end: &[u8] = if first < 0xc0 { b"\r\n\r\n" } else { b"" };
    let answer = exchange(gate().clients, &[beginning.as_bytes(), rest, end].concat());
    // What follows the first answer may be one to what follows the request; and the input may greet
    // as HTTP/2 does.
    if !answer.is_empty() && !answer.starts_with(PREFACE) {
        check_answer(&answer, false);
    }
});

/// The server's, of HTTP/2: SETTINGS on stream 0.
const PREFACE: &[u8] = b"\0\0";
