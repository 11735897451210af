#![no_main]
//! Whatever a backend answers, the gateway makes an answer of it or says that it cannot.

mod gateway;

use std::io::Write as _;

use gateway::{ANSWER, Heard, QUIET, check_answer, connect, gate, hang_up, look, read, read_until};
use libfuzzer_sys::fuzz_target;

/// What is asked: the input's first octet says which.
const REQUESTS: [&str; 6] = [
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: a\r\naccept: text/event-stream\r\n\r\n",
    "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
    "HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\nhello",
    "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
];

/// How an answer begins: likewise.
const BEGINNINGS: [&str; 7] = [
    "",
    "HTTP/1.1 ",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n",
    "HTTP/1.1 200 OK\r\ngrip-hold: stream\r\ngrip-channel: ",
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n",
];

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let (request, beginning) =
        (usize::from(first) % REQUESTS.len(), usize::from(first) / REQUESTS.len());
    let beginning = BEGINNINGS[beginning % BEGINNINGS.len()];
    *ANSWER.lock().expect("a lock") = [beginning.as_bytes(), rest].concat();
    let (mut socket, mut answer) = (connect(gate().clients), Vec::new());
    socket.write_all(REQUESTS[request].as_bytes()).expect("the gateway listens");
    let end = read_until(&mut socket, &mut answer, |answer| !answer.is_empty());
    if end.is_none() && read(&mut socket, QUIET, &mut answer) == Heard::Silence {
        hang_up(&mut socket, &mut answer);
    }
    // Of a body that breaks off at once the head may not come either; and who has switched protocols
    // speaks another one behind it.
    if !answer.is_empty() {
        check_answer(&answer, !matches!(request, 3 | 5));
    }
    look();
});
