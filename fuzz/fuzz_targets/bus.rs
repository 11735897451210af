#![no_main]
//! Commands to the embedded bus: every reply is RESP and whole, and who has left is forgotten.

mod gateway;

use bytes::BytesMut;
use gateway::{gate, say_all};
use libfuzzer_sys::fuzz_target;
use ssegate_resp::{Limits, ValueDecoder};

const COUNT: &[u8] = b"*2\r\n$6\r\nPUBSUB\r\n$6\r\nNUMPAT\r\n";

fuzz_target!(|commands: &[u8]| {
    let answer = say_all(gate().bus, commands);
    let (mut decoder, mut buffer) =
        (ValueDecoder::new(Limits::default()), BytesMut::from(&*answer));
    while decoder.decode(&mut buffer).expect("replies are RESP").is_some() {}
    let is_whole = buffer.is_empty() && decoder.is_between_values();
    assert!(is_whole, "a reply is cut short: {}", answer.escape_ascii());
    assert_eq!(say_all(gate().bus, COUNT), b":0\r\n", "nobody is left behind");
});
