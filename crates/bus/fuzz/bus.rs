#![no_main]
//! Commands to the embedded bus: every reply is RESP and complete, streams are within their bound, and
//! nothing is left of clients that have left.

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use ssegate_bus::{Broker, BusSettings, Outlet, serve_connection};
use ssegate_resp::{Limits, Payload, ValueDecoder};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

const COUNT: &[u8] = b"*2\r\n$6\r\nPUBSUB\r\n$6\r\nNUMPAT\r\n";

/// The streams of the dictionary.
const NAMES: [&[u8]; 2] = [b"a", b"b"];

/// The process's own subscriber.
struct Ear;

impl Outlet for Ear {
    fn message(&mut self, pattern: Option<&[u8]>, channel: &[u8], _: &Payload) {
        assert_eq!(pattern, Some(&b"*"[..]));
        assert!(channel.len() <= BusSettings::MAX_NAME_BYTES);
    }
}

/// What the bus replies to a client that sends these bytes and then closes.
fn replies(runtime: &Runtime, broker: &Broker, commands: &[u8]) -> Vec<u8> {
    let (peer, stop) = (([127, 0, 0, 1], 1).into(), CancellationToken::new());
    let mut written = Vec::new();
    runtime.block_on(serve_connection(commands, &mut written, peer, broker.clone(), stop));
    written
}

fuzz_target!(|commands: &[u8]| {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    // Limits that inputs reach.
    let settings = BusSettings {
        max_event_bytes: 100,
        max_subscriptions: 5,
        max_stream_bytes: 4000,
        ..BusSettings::default()
    };
    let broker = Broker::new(settings);
    let outlet = broker.attach(Ear);
    outlet.psubscribe(b"*");
    let written = replies(&runtime, &broker, commands);
    let (mut decoder, mut buffer) =
        (ValueDecoder::new(Limits::default()), BytesMut::from(&*written));
    while decoder.decode(&mut buffer).expect("replies are RESP").is_some() {}
    let is_whole = buffer.is_empty() && decoder.is_between_values();
    assert!(is_whole, "a reply is cut short: {}", written.escape_ascii());
    assert_eq!((broker.stats().sessions(), broker.stats().memory()), (0, 0));
    assert_eq!(replies(&runtime, &broker, COUNT), b":1\r\n", "nobody but the outlet is left");
    let stats = broker.stats();
    assert!(stats.stream_bytes() <= 4000, "{} bytes in streams", stats.stream_bytes());
    // Nobody waits any more, and no name or entry is left behind.
    let info = replies(&runtime, &broker, b"INFO clients\r\n");
    assert!(info.windows(17).any(|part| part == b"blocked_clients:0"), "{}", info.escape_ascii());
    let names = NAMES.iter().map(|name| [b"DEL ", &name[..], b"\r\n"].concat());
    replies(&runtime, &broker, &names.collect::<Vec<_>>().concat());
    if stats.streams() == 0 {
        assert_eq!(stats.stream_bytes(), 0, "entries are counted");
    }
});
