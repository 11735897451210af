#![no_main]
//! Whole requests of HTTP/1.1, well-formed or not, to streams and to a backend that is away.

mod gateway;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<u8>, Vec<u8>, Vec<u8>, u8)| {
    let (target, fields, body, kind) = input;
    let method: &[u8] = [&b"GET"[..], b"POST", b"OPTIONS", b"HEAD"][usize::from(kind) % 4];
    let path: &[u8] = if kind & 4 == 0 { b"/events?channel=" } else { b"/" };
    let host: &[u8] = if kind & 8 == 0 { b"host: a\r\n" } else { b"" };
    let line = [method, b" ", path, &target, b" HTTP/1.1\r\n", host, &fields, b"\r\n\r\n", &body];
    gateway::exchange(&line.concat());
});
