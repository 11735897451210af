#![no_main]
//! Frames of HTTP/2 against a whole gateway, through a socket.

mod gateway;

use libfuzzer_sys::fuzz_target;

/// A frame: type, flags, stream, and a payload of the length that it says.
type Frame = (u8, u8, u8, Vec<u8>);

fuzz_target!(|input: (bool, Vec<Frame>)| {
    let (is_greeted, frames) = input;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    if is_greeted {
        // SETTINGS, and a request that stays open.
        bytes.extend_from_slice(b"\0\0\0\x04\0\0\0\0\0");
        let head = b"\x83\x86\x44\x01/\x41\x01a";
        bytes.extend_from_slice(&[0, 0, head.len() as u8, 1, 4, 0, 0, 0, 1]);
        bytes.extend_from_slice(head);
    }
    for (kind, flags, stream, payload) in frames {
        let length = (payload.len() as u32).to_be_bytes();
        bytes.extend_from_slice(&length[1..]);
        bytes.extend_from_slice(&[kind % 11, flags, 0, 0, 0, stream % 8]);
        bytes.extend_from_slice(&payload);
    }
    gateway::exchange(&bytes);
});
