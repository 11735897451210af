//! The broker without sockets: which messages are delivered to whom, and when.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use ssegate_resp::{Limits, Payload, ValueDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::{Broker, BusConnection, BusSettings, Outlet, OutletHandle, serve_connection};

/// Records the messages it receives, as `pattern|channel|payload`.
#[derive(Clone, Default)]
struct RecordingOutlet {
    received: Rc<RefCell<Vec<String>>>,
    /// Called for each message.
    on_message: Rc<RefCell<Option<Callback>>>,
}

type Callback = Box<dyn FnMut()>;

impl RecordingOutlet {
    fn received(&self) -> Vec<String> {
        self.received.take()
    }
}

impl Outlet for RecordingOutlet {
    fn message(&mut self, pattern: Option<&[u8]>, channel: &[u8], payload: &Payload) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let payload = match payload {
            Payload::Whole(bytes) => text(bytes),
            Payload::TooLarge(len) => format!("({len})"),
        };
        let pattern = pattern.map(text).unwrap_or_default();
        self.received.borrow_mut().push(format!("{pattern}|{}|{payload}", text(channel)));
        if let Some(on_message) = &mut *self.on_message.borrow_mut() {
            on_message();
        }
    }

    fn flush(&mut self) {
        self.received.borrow_mut().push("flush".into());
    }
}

fn broker() -> Broker {
    Broker::new(BusSettings::default())
}

fn attach(broker: &Broker) -> (RecordingOutlet, OutletHandle) {
    let outlet = RecordingOutlet::default();
    (outlet.clone(), broker.attach(outlet))
}

fn publish(broker: &Broker, channel: &str, payload: &'static str) -> usize {
    broker.publish(channel.as_bytes(), &Payload::Whole(Bytes::from_static(payload.as_bytes())))
}

#[test]
fn an_outlet_receives_messages_until_it_unsubscribes() {
    let broker = broker();
    let (outlet, handle) = attach(&broker);
    assert_eq!(publish(&broker, "news", "early"), 0);
    handle.psubscribe(b"n*");
    handle.subscribe(b"news");
    handle.subscribe(b"news");
    assert_eq!(publish(&broker, "news", "x"), 2);
    assert_eq!(outlet.received(), ["|news|x", "n*|news|x"]);
    handle.unsubscribe(b"news");
    assert_eq!(publish(&broker, "news", "y"), 1);
    handle.punsubscribe(b"n*");
    assert_eq!(publish(&broker, "news", "late"), 0);
    assert_eq!(outlet.received(), ["n*|news|y"]);
}

#[test]
fn each_outlet_receives_messages_until_its_handle_is_dropped() {
    let broker = broker();
    let (first, first_handle) = attach(&broker);
    let (second, second_handle) = attach(&broker);
    first_handle.subscribe(b"a");
    second_handle.subscribe(b"a");
    assert_eq!(publish(&broker, "a", "1"), 2);
    drop(first_handle);
    assert_eq!(publish(&broker, "a", "2"), 1);
    assert_eq!(first.received(), ["|a|1"]);
    assert_eq!(second.received(), ["|a|1", "|a|2"]);
    assert_eq!(broker.channels(None), ["a"]);
}

#[test]
fn a_flush_reaches_only_outlets_that_received_messages() {
    let broker = broker();
    let (outlet, handle) = attach(&broker);
    handle.subscribe(b"a");
    broker.flush();
    publish(&broker, "other", "x");
    broker.flush();
    assert!(outlet.received().is_empty());
    publish(&broker, "a", "1");
    publish(&broker, "a", "2");
    broker.flush();
    broker.flush();
    assert_eq!(outlet.received(), ["|a|1", "|a|2", "flush"]);
}

#[test]
fn an_outlet_may_subscribe_unsubscribe_and_publish_while_it_is_called() {
    let broker = broker();
    let (outlet, handle) = attach(&broker);
    handle.subscribe(b"a");
    let bus = broker.clone();
    *outlet.on_message.borrow_mut() = Some(Box::new(move || {
        handle.subscribe(b"b");
        handle.unsubscribe(b"a");
        publish(&bus, "b", "from within");
        bus.flush();
    }));
    assert_eq!(publish(&broker, "a", "1"), 1);
    assert_eq!(publish(&broker, "a", "2"), 0);
    assert_eq!(publish(&broker, "b", "3"), 1);
    // The message that it published was not delivered to it, and nothing broke.
    assert_eq!(outlet.received(), ["|a|1", "|b|3"]);
    outlet.on_message.take();
}

#[test]
fn a_message_that_is_too_large_is_counted_and_its_length_delivered() {
    let broker = broker();
    let (outlet, handle) = attach(&broker);
    handle.subscribe(b"a");
    assert_eq!(broker.publish(b"a", &Payload::TooLarge(99)), 1);
    assert_eq!(outlet.received(), ["|a|(99)"]);
    assert_eq!(broker.stats().oversized_messages(), 1);
}

/// The output of the bus for a client that sends these bytes and then closes.
fn session_with(bytes: &[u8]) -> Vec<u8> {
    let settings = BusSettings { max_event_bytes: 100, max_subscriptions: 5, ..Default::default() };
    session_of(settings, bytes)
}

fn session_of(settings: BusSettings, bytes: &[u8]) -> Vec<u8> {
    let broker = Broker::new(settings);
    let peer = ([127, 0, 0, 1], 1).into();
    let mut written = Vec::new();
    let session =
        serve_connection(bytes, &mut written, peer, broker.clone(), CancellationToken::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(session);
    assert_eq!((broker.stats().sessions(), broker.stats().memory()), (0, 0));
    assert!(broker.channels(None).is_empty());
    written
}

fn any_word() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        "publish",
        "subscribe",
        "psubscribe",
        "unsubscribe",
        "punsubscribe",
        "pubsub",
        "numsub",
        "channels",
        "multi",
        "exec",
        "discard",
        "hello",
        "2",
        "3",
        "auth",
        "setname",
        "client",
        "getname",
        "info",
        "command",
        "docs",
        "count",
        "config",
        "get",
        "eval",
        "reset",
        "ping",
        "echo",
        "xadd",
        "xread",
        "xrange",
        "xrevrange",
        "xlen",
        "xtrim",
        "xdel",
        "xinfo",
        "stream",
        "streams",
        "full",
        "maxlen",
        "minid",
        "~",
        "limit",
        "nomkstream",
        "*",
        "1-1",
        "2-*",
        "-",
        "+",
        "$",
        "(1",
        "del",
        "exists",
        "type",
        "expire",
        "pexpire",
        "ttl",
        "persist",
        "unblock",
        "xgroup",
        "a",
        "b",
        "a*",
        "[",
        "0",
        "-1",
        "99999999999999999999",
        "for i = 2, #ARGV do redis.call('publish', ARGV[i], ARGV[1]) end",
    ]);
    prop_oneof![
        9 => known.prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #[test]
    fn every_command_has_complete_replies(
        commands in prop::collection::vec(prop::collection::vec(any_word(), 1..6), 1..40),
    ) {
        let mut bytes = Vec::new();
        for words in &commands {
            bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in words {
                bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                bytes.extend_from_slice(word);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        let mut written = BytesMut::from(&session_with(&bytes)[..]);
        let mut decoder = ValueDecoder::new(Limits::default());
        let mut replies = 0;
        while decoder.decode(&mut written).expect("RESP").is_some() {
            replies += 1;
        }
        prop_assert!(written.is_empty() && decoder.is_between_values());
        prop_assert!(replies >= commands.len(), "{} {}", replies, commands.len());
    }

    #[test]
    fn no_input_makes_a_session_panic_or_leaves_a_subscription(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        lines in prop::collection::vec("[a-z0-9*$ '\"\\\\-]{0,20}\r?\n", 0..20),
    ) {
        session_with(&bytes);
        session_with(lines.concat().as_bytes());
    }
}

/// A bus with two connections, each of which is an end of a pair.
fn connected() -> (Broker, BusConnection, BusConnection) {
    let broker = broker();
    let (one, other) = (broker.connect(), broker.connect());
    (broker, one, other)
}

fn in_local_set(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

async fn send(connection: &mut BusConnection, command: &str) {
    connection.write_all(format!("{command}\r\n").as_bytes()).await.expect("written");
}

async fn expect(connection: &mut BusConnection, reply: &str) {
    let mut read = vec![0; reply.len()];
    connection.read_exact(&mut read).await.expect("a reply");
    assert_eq!(String::from_utf8_lossy(&read), reply);
}

#[test]
fn blocked_readers_are_woken_in_order_with_what_they_wait_for() {
    in_local_set(async {
        let (broker, mut first, mut second) = connected();
        send(&mut first, "XREAD BLOCK 0 STREAMS a b $ 0").await;
        tokio::task::yield_now().await;
        send(&mut second, "XREAD COUNT 1 BLOCK 0 STREAMS b $").await;
        while broker.blocked_readers() < 2 {
            tokio::task::yield_now().await;
        }
        let id = broker.add_entry(b"b", &[(b"f", b"v")], None).expect("added");
        let entry = format!("${}\r\n{id}\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n", id.len());
        let expected = format!("*1\r\n*2\r\n$1\r\nb\r\n*1\r\n*2\r\n{entry}");
        assert_eq!(broker.blocked_readers(), 0, "both have their reply when it was added");
        expect(&mut first, &expected).await;
        expect(&mut second, &expected).await;
        send(&mut first, "PING").await;
        expect(&mut first, "+PONG\r\n").await;
    });
}

#[test]
fn a_blocked_reader_gets_nothing_in_the_end_and_then_runs_what_it_sent_meanwhile() {
    in_local_set(async {
        let (broker, mut client, mut other) = connected();
        send(&mut client, "XREAD BLOCK 5000 STREAMS a 0\r\nPING").await;
        while broker.blocked_readers() == 0 {
            tokio::task::yield_now().await;
        }
        let start = tokio::time::Instant::now();
        expect(&mut client, "*-1\r\n+PONG\r\n").await;
        assert!(start.elapsed() >= std::time::Duration::from_secs(4), "{:?}", start.elapsed());
        send(&mut client, "HELLO 3\r\nXREAD BLOCK 0 STREAMS a 0\r\nPING").await;
        while broker.blocked_readers() == 0 {
            tokio::task::yield_now().await;
        }
        send(&mut other, "CLIENT UNBLOCK 1 ERROR\r\nCLIENT UNBLOCK 1").await;
        expect(&mut other, ":1\r\n:0\r\n").await;
        let mut rest = Vec::new();
        while !rest.ends_with(b"+PONG\r\n") {
            client.read_buf(&mut rest).await.expect("a reply");
        }
        let unblocked = b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n+PONG\r\n";
        assert!(rest.ends_with(unblocked), "{}", rest.escape_ascii());
    });
}

#[test]
fn a_blocked_reader_that_leaves_is_forgotten() {
    in_local_set(async {
        let (broker, mut client, other) = connected();
        send(&mut client, "XREAD BLOCK 0 STREAMS a 0").await;
        while broker.blocked_readers() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(broker.stats().sessions(), 2);
        drop((client, other));
        while broker.stats().sessions() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(broker.blocked_readers(), 0);
    });
    let written = session_with(b"XREAD BLOCK 0 STREAMS a 0\r\nPING\r\n");
    assert_eq!(written, b"", "nothing runs behind a wait that never ended");
}

#[test]
fn a_transaction_does_not_wait_and_wakes_others_once_it_is_complete() {
    in_local_set(async {
        let (broker, mut reader, mut writer) = connected();
        send(&mut reader, "XREAD BLOCK 0 STREAMS a b 0 0").await;
        while broker.blocked_readers() == 0 {
            tokio::task::yield_now().await;
        }
        let commands = ["MULTI", "XREAD BLOCK 0 STREAMS a $", "XADD b 1-1 f v", "XADD b 1-2 f v"];
        send(&mut writer, &commands.join("\r\n")).await;
        send(&mut writer, "EXEC").await;
        expect(&mut writer, "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n*-1\r\n$3\r\n1-1").await;
        expect(&mut reader, "*1\r\n*2\r\n$1\r\nb\r\n*2\r\n*2\r\n$3\r\n1-1\r\n").await;
    });
}

#[test]
fn a_short_command_does_not_get_a_reply_of_any_length() {
    let mut commands = b"XADD a * f ".to_vec();
    commands.extend([b'x'; 90]);
    commands.extend(b"\r\nHELLO 3\r\nMULTI\r\n");
    commands.extend(b"XRANGE a - +\r\n".repeat(400_000 / 100));
    commands.extend(b"EXEC\r\n");
    let settings = BusSettings { max_stream_bytes: 10_000, ..Default::default() };
    let written = String::from_utf8(session_of(settings, &commands)).expect("text");
    let (replies, errors) =
        (written.matches("xxxxx\r\n").count(), written.matches("-ERR the reply would").count());
    assert!((10..40).contains(&replies) && replies + errors == 4000, "{replies} {errors}");
    // XREAD returns what there is room for, as if there were a COUNT.
    let mut commands = b"XADD a * f xxxxx\r\nXREAD STREAMS".to_vec();
    commands.extend(b" a".repeat(1000));
    commands.extend(b" 0".repeat(1000));
    commands.extend(b"\r\n");
    let settings = BusSettings { max_stream_bytes: 10_000, ..Default::default() };
    let written = String::from_utf8(session_of(settings, &commands)).expect("text");
    let replies = written.matches("xxxxx\r\n").count();
    assert!((10..60).contains(&replies) && !written.contains("-ERR"), "{written}");
}
