//! The embedded bus, spoken to over its socket, byte by byte where that matters.

mod bus_support;

use std::io::Read;
use std::net::Shutdown;

use bus_support::{Bus, Heard, Peer, command, eventually, show};
use bytes::Bytes;
use ssegate_bus::BusSettings;
use ssegate_resp::{Payload, Value};

fn ask(peer: &mut Peer, words: &str) -> String {
    show(&peer.ask(&words.split(' ').collect::<Vec<_>>()))
}

fn message(channel: &str, payload: &str) -> Heard {
    Heard::Message {
        pattern: None,
        channel: channel.into(),
        payload: Payload::Whole(Bytes::copy_from_slice(payload.as_bytes())),
    }
}

#[test]
fn commands_answer_as_redis_does() {
    let bus = Bus::start(&["news"]);
    let mut peer = bus.connect();
    let table = [
        ("PING", "PONG"),
        ("ping hi", "hi"),
        ("ECHO hi", "hi"),
        ("SELECT 0", "OK"),
        ("SELECT x", "-ERR value is not an integer or out of range"),
        ("AUTH secret", "OK"),
        ("AUTH user secret", "OK"),
        ("PUBLISH news hello", ":1"),
        ("pUbLiSh other hello", ":0"),
        ("PUBLISH news", "-ERR wrong number of arguments for 'publish' command"),
        ("CLIENT SETINFO LIB-NAME test", "OK"),
        ("CLIENT GETNAME", "nil"),
        ("CLIENT SETNAME me", "OK"),
        ("CLIENT GETNAME", "me"),
        (
            "CLIENT MAINT_NOTIFICATIONS ON",
            "-ERR unknown subcommand 'MAINT_NOTIFICATIONS' of 'client'",
        ),
        ("GET key", "-ERR unknown command 'GET', with args beginning with: 'key'"),
        ("SSUBSCRIBE a", "-ERR unknown command 'SSUBSCRIBE', with args beginning with: 'a'"),
        ("CONFIG GET save", "[]"),
        ("CONFIG SET save 1", "-ERR the embedded bus stores no configuration; use gateway.yaml"),
        ("COMMAND DOCS", "[]"),
        ("COMMAND COUNT", ":45"),
        ("EVALSHA abc 0", "-NOSCRIPT No matching script. Please use EVAL."),
        ("HELLO 4", "-NOPROTO unsupported protocol version"),
        ("HELLO 3 AUTH default", "-ERR syntax error"),
        ("PUBSUB CHANNELS", "[news]"),
        ("PUBSUB CHANNELS n*", "[news]"),
        ("PUBSUB CHANNELS x*", "[]"),
        ("PUBSUB NUMSUB news other", "[news :1 other :0]"),
        ("PUBSUB NUMPAT", ":0"),
        ("PUBSUB x", "-ERR unknown subcommand 'x' of 'pubsub'"),
        ("RESET", "RESET"),
        ("QUIT", "OK"),
    ];
    for (words, reply) in table {
        assert_eq!(ask(&mut peer, words), reply, "{words}");
    }
    assert_eq!(peer.next(), None);
}

#[test]
fn hello_switches_the_protocol_and_tells_what_redis_tells() {
    let bus = Bus::start(&[]);
    let mut peer = bus.connect();
    let greeting = ask(&mut peer, "hello 3 AUTH default secret SETNAME me");
    for part in ["server=redis", "version=7.0.0", "proto=:3", "mode=standalone", "role=master"] {
        assert!(greeting.contains(part), "{greeting}");
    }
    assert_eq!(ask(&mut peer, "CLIENT GETNAME"), "me");
    assert_eq!(ask(&mut peer, "CONFIG GET x"), "{}");
    assert_eq!(peer.ask(&["EVAL", "return 1", "0"]).as_bytes(), None);
    assert!(matches!(peer.ask(&["HELLO", "2"]), Value::Array(flat) if flat.len() == 14));
}

#[test]
fn info_reads_like_that_of_redis() {
    let bus = Bus::start(&["news"]);
    let mut peer = bus.connect();
    let info = ask(&mut peer, "INFO");
    for line in
        ["# Server", "redis_version:7.0.0", "redis_mode:standalone", "loading:0", "role:master"]
    {
        assert!(info.lines().any(|found| found == line), "{line} in {info}");
    }
    assert!(info.contains("connected_clients:1\r\n") && info.contains("pubsub_channels:1\r\n"));
    assert!(!ask(&mut peer, "INFO stats").contains("redis_version"));
}

#[test]
fn subscribers_hear_in_the_protocol_that_they_chose() {
    let bus = Bus::start(&[]);
    let (mut old, mut new, mut publisher) = (bus.connect(), bus.connect(), bus.connect());
    ask(&mut new, "HELLO 3");
    assert_eq!(ask(&mut old, "SUBSCRIBE news sport"), "[subscribe news :1]");
    assert_eq!(show(&old.next().expect("a reply")), "[subscribe sport :2]");
    assert_eq!(ask(&mut old, "PSUBSCRIBE n*"), "[psubscribe n* :3]");
    assert_eq!(ask(&mut new, "SUBSCRIBE news"), ">[subscribe news :1]");
    assert_eq!(ask(&mut publisher, "PUBLISH news hello"), ":3");
    assert_eq!(show(&old.next().expect("a message")), "[message news hello]");
    assert_eq!(show(&old.next().expect("a message")), "[pmessage n* news hello]");
    assert_eq!(show(&new.next().expect("a message")), ">[message news hello]");

    assert_eq!(ask(&mut old, "PING"), "[pong ]");
    assert_eq!(ask(&mut old, "PING hi"), "[pong hi]");
    assert!(ask(&mut old, "PUBLISH a b").starts_with("-ERR Can't execute 'publish'"));
    assert_eq!(ask(&mut old, "UNSUBSCRIBE nothing"), "[unsubscribe nothing :3]");
    assert_eq!(ask(&mut old, "UNSUBSCRIBE"), "[unsubscribe news :2]");
    assert_eq!(show(&old.next().expect("a reply")), "[unsubscribe sport :1]");
    assert_eq!(ask(&mut old, "UNSUBSCRIBE"), "[unsubscribe nil :1]");
    assert_eq!(ask(&mut old, "PUNSUBSCRIBE n*"), "[punsubscribe n* :0]");
    assert_eq!(ask(&mut old, "PUBLISH news bye"), ":1");
    assert_eq!(show(&new.next().expect("a message")), ">[message news bye]");
    assert_eq!(ask(&mut new, "PUBLISH x y"), ":0");
    assert_eq!(ask(&mut new, "RESET"), "RESET");
    assert_eq!(ask(&mut publisher, "PUBLISH news nobody"), ":0");
}

#[test]
fn one_who_left_is_forgotten() {
    let bus = Bus::start(&[]);
    let (mut subscriber, mut publisher) = (bus.connect(), bus.connect());
    ask(&mut subscriber, "SUBSCRIBE a b c");
    drop(subscriber);
    eventually("the subscriber is gone", || ask(&mut publisher, "PUBSUB CHANNELS") == "[]");
    assert_eq!(bus.stats.sessions(), 1);
}

#[test]
fn the_gateway_hears_a_message_before_the_publisher_has_its_reply() {
    let bus = Bus::start(&["news", "n*"]);
    let mut peer = bus.connect();
    assert_eq!(ask(&mut peer, "PUBLISH news hello"), ":2");
    let heard: Vec<_> = bus.heard.try_iter().collect();
    let Heard::Message { payload, .. } = message("news", "hello") else { panic!() };
    let by_pattern = Heard::Message { pattern: Some("n*".into()), channel: "news".into(), payload };
    assert_eq!(heard, [message("news", "hello"), by_pattern, Heard::Flush]);
}

#[test]
fn pipelined_publishes_are_one_batch() {
    let bus = Bus::start(&["news"]);
    let mut peer = bus.connect();
    peer.send(command(&["PUBLISH", "news", "x"]).repeat(100));
    for _ in 0..100 {
        assert_eq!(peer.next(), Some(Value::Integer(1)));
    }
    let heard: Vec<_> = bus.heard.try_iter().collect();
    let flushes = heard.iter().filter(|heard| **heard == Heard::Flush).count();
    assert_eq!(heard.len() - flushes, 100);
    // The kernel may hand over one write in two reads.
    assert!(flushes <= 3, "{flushes}");
    assert_eq!(heard.last(), Some(&Heard::Flush));
}

#[test]
fn a_message_over_the_bound_is_told_to_both_sides() {
    let settings = BusSettings { max_event_bytes: 1000, ..BusSettings::default() };
    let bus = Bus::start_with(settings, &["news"]);
    let mut peer = bus.connect();
    assert_eq!(ask(&mut peer, &format!("PUBLISH news {}", "x".repeat(1000))), ":1");
    let error = ask(&mut peer, &format!("PUBLISH news {}", "x".repeat(1001)));
    assert!(
        error.starts_with("-ERR message of 1001 bytes exceeds max_event_bytes (1000)"),
        "{error}"
    );
    assert_eq!(ask(&mut peer, "PUBLISH news after"), ":1");
    let heard: Vec<_> = bus.heard.try_iter().filter(|heard| *heard != Heard::Flush).collect();
    assert_eq!(heard[0], message("news", &"x".repeat(1000)));
    let too_large = Payload::TooLarge(1001);
    assert_eq!(
        heard[1],
        Heard::Message { pattern: None, channel: "news".into(), payload: too_large }
    );
    assert_eq!(heard[2], message("news", "after"));
    assert_eq!(bus.stats.oversized_messages(), 1);
}

#[test]
fn laravels_loop_publishes_to_all_its_channels() {
    let bus = Bus::start(&["a", "b"]);
    let mut peer = bus.connect();
    let script = "for i = 2, #ARGV do\n  redis.call('publish', ARGV[i], ARGV[1])\nend";
    assert_eq!(peer.ask(&["EVAL", script, "0", "{\"x\":1}", "a", "b", "c"]), Value::Null);
    let heard: Vec<_> = bus.heard.try_iter().collect();
    assert_eq!(heard, [message("a", "{\"x\":1}"), message("b", "{\"x\":1}"), Heard::Flush]);
    assert_eq!(peer.ask(&["EVAL", script, "0"]), Value::Null);
    assert_eq!(peer.ask(&["EVAL", script, "1", "key", "m", "a"]), Value::Null);
    assert_eq!(bus.next_message(), ("a".into(), "m".into()));
    let keys = show(&peer.ask(&["EVAL", script, "1"]));
    assert_eq!(keys, "-ERR Number of keys can't be greater than number of args");
    let other = show(&peer.ask(&["EVAL", "return 1", "0"]));
    assert!(
        other.starts_with("-ERR the embedded bus supports no script except Laravel's"),
        "{other}"
    );
}

#[test]
fn transactions_publish_at_exec() {
    let bus = Bus::start(&["a"]);
    let mut peer = bus.connect();
    let table = [
        ("EXEC", "-ERR EXEC without MULTI"),
        ("DISCARD", "-ERR DISCARD without MULTI"),
        ("MULTI", "OK"),
        ("MULTI", "-ERR MULTI calls can not be nested"),
        ("PUBLISH a 1", "QUEUED"),
        ("PUBLISH b 2", "QUEUED"),
        ("SELECT x", "QUEUED"),
        ("EXEC", "[:1 :0 -ERR value is not an integer or out of range]"),
        ("MULTI", "OK"),
        ("SUBSCRIBE a", "-ERR subscribe is not allowed in transactions"),
        ("PUBLISH a 3", "QUEUED"),
        ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ("MULTI", "OK"),
        ("PUBLISH a 4", "QUEUED"),
        ("DISCARD", "OK"),
        ("PUBLISH a 5", ":1"),
    ];
    for (words, reply) in table {
        assert_eq!(ask(&mut peer, words), reply, "{words}");
    }
    assert_eq!(bus.next_message().1, "1");
    assert_eq!(bus.next_message().1, "5");
}

#[test]
fn a_transaction_is_bounded() {
    let settings = BusSettings { max_event_bytes: 1 << 20, ..BusSettings::default() };
    let bus = Bus::start_with(settings, &[]);
    let mut peer = bus.connect();
    ask(&mut peer, "MULTI");
    let payload = "x".repeat(900 << 10);
    let replies: Vec<_> = (0..3).map(|_| show(&peer.ask(&["PUBLISH", "a", &payload]))).collect();
    assert_eq!(replies, ["QUEUED", "QUEUED", "-ERR too many commands in a transaction"]);
    assert!(ask(&mut peer, "EXEC").starts_with("-EXECABORT"));
}

#[test]
fn lines_typed_into_telnet_are_commands() {
    let bus = Bus::start(&["news"]);
    let mut peer = bus.connect();
    peer.send("\r\nPUBLISH news 'hello world'\nPING\r\n");
    assert_eq!(peer.next(), Some(Value::Integer(1)));
    assert_eq!(show(&peer.next().expect("a reply")), "PONG");
    assert_eq!(bus.next_message(), ("news".into(), "hello world".into()));
    peer.send("PUBLISH 'a\r\n");
    let error = show(&peer.next().expect("a reply"));
    assert_eq!(error, "-ERR Protocol error: unbalanced quotes in request");
    assert_eq!(peer.next(), None);
}

#[test]
fn what_begins_like_http_is_closed_before_it_can_publish() {
    let bus = Bus::start(&["news"]);
    let body = "\r\nPUBLISH news forged\r\n";
    let beginnings = [
        "POST / HTTP/1.1\r\n",
        "post / HTTP/1.1\r\n",
        "GET /x HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "Host: 127.0.0.1:6380\r\n",
        "*2\r\n$4\r\nPOST\r\n$1\r\n/\r\n",
    ];
    for beginning in beginnings {
        let mut peer = bus.connect();
        peer.send(format!("{beginning}{body}"));
        assert_eq!(peer.next(), None, "{beginning}");
    }
    assert_eq!(bus.stats.http_requests(), beginnings.len() as u64);
    assert!(bus.heard.try_recv().is_err());
}

#[test]
fn a_client_that_has_said_its_last_word_still_gets_its_replies() {
    let bus = Bus::start(&[]);
    let mut peer = bus.connect();
    peer.send(command(&["PING"]).repeat(3));
    peer.stream.shutdown(Shutdown::Write).expect("half closed");
    let mut replies = String::new();
    peer.stream.read_to_string(&mut replies).expect("reads");
    assert_eq!(replies, "+PONG\r\n".repeat(3));
}

#[test]
fn a_subscriber_that_does_not_read_is_disconnected_and_nobody_else_waits() {
    let settings = BusSettings { max_queued_bytes: 1 << 20, ..BusSettings::default() };
    let bus = Bus::start_with(settings, &[]);
    let (mut slow, mut quick, mut publisher) = (bus.connect(), bus.connect(), bus.connect());
    ask(&mut slow, "SUBSCRIBE news");
    ask(&mut quick, "SUBSCRIBE news");
    let payload = "x".repeat(256 << 10);
    let mut rounds = 0;
    while bus.stats.slow_subscribers() == 0 {
        publisher.ask(&["PUBLISH", "news", &payload]);
        assert!(matches!(quick.next(), Some(Value::Array(_))));
        rounds += 1;
        assert!(rounds < 200, "the queue and both sockets' buffers hold less");
    }
    assert_eq!(ask(&mut publisher, "PUBSUB NUMSUB news"), "[news :1]");
    while slow.next().is_some() {}
}

#[test]
fn a_client_that_does_not_read_its_replies_is_not_served_on() {
    let bus = Bus::start(&[]);
    let mut rude = bus.connect();
    let echo = command(&["ECHO", &"x".repeat(8 << 10)]);
    rude.stream.set_write_timeout(Some(std::time::Duration::from_millis(500))).expect("a timeout");
    let mut taken = 0_usize;
    while let Ok(len) = std::io::Write::write(&mut rude.stream, &echo) {
        taken += len;
        assert!(taken < 200 << 20, "commands are read although no reply is");
    }
    // Everybody else is.
    assert_eq!(ask(&mut bus.connect(), "PING"), "PONG");
}

#[test]
fn unfinished_messages_are_bounded_over_all_connections_and_who_gets_on_is_served() {
    const MAX: usize = 32 << 20;
    let settings = BusSettings {
        max_event_bytes: 16 << 20,
        max_memory: MAX,
        max_queued_bytes: 64 << 20,
        ..BusSettings::default()
    };
    let bus = Bus::start_with(settings, &["news"]);
    let large = 15 << 20;
    let head = format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n${large}\r\n");
    let mut standing = Vec::new();
    for _ in 0..30 {
        let mut peer = bus.connect();
        peer.send(head.clone().into_bytes());
        // All but the end.
        let part = vec![b'x'; 1 << 20];
        for _ in 0..14 {
            // One that has been cut takes no more.
            if std::io::Write::write_all(&mut peer.stream, &part).is_err() {
                break;
            }
        }
        assert!(bus.stats.memory() <= MAX + large, "{}", bus.stats.memory());
        standing.push(peer);
    }
    assert!(bus.stats.closed_for_memory() >= 27, "{}", bus.stats.closed_for_memory());

    // Somebody who sends a whole one meanwhile is served.
    let mut publisher = bus.connect();
    assert_eq!(publisher.ask(&["PUBLISH", "news", &"y".repeat(large)]), Value::Integer(1));
    let (_, payload) = bus.next_message();
    assert_eq!(payload.len(), large);
    drop(standing);
    drop(publisher);
    eventually("nothing is held any more", || bus.stats.memory() == 0);
}

#[test]
fn replies_and_messages_that_nobody_reads_are_bounded_over_all_connections() {
    const MAX: usize = 32 << 20;
    let settings = BusSettings { max_memory: MAX, ..BusSettings::default() };
    let bus = Bus::start_with(settings, &[]);
    let echo = command(&["ECHO", &"x".repeat(12 << 20)]);
    let mut rude = Vec::new();
    for _ in 0..30 {
        let mut peer = bus.connect();
        // The reply is more than the sockets take.
        if std::io::Write::write_all(&mut peer.stream, &echo).is_ok() {
            rude.push(peer);
        }
        assert!(bus.stats.memory() <= MAX + (32 << 20), "{}", bus.stats.memory());
    }
    eventually("most of them are cut", || bus.stats.closed_for_memory() >= 10);
    eventually("no more is held than may be", || bus.stats.memory() <= MAX);
    assert_eq!(ask(&mut bus.connect(), "PING"), "PONG");

    // One message that many wait for is held once, and costs none of them their connection.
    drop(rude);
    let before = bus.stats.closed_for_memory();
    let mut subscribers: Vec<_> = (0..30).map(|_| bus.connect()).collect();
    for peer in &mut subscribers {
        ask(peer, "SUBSCRIBE news");
    }
    bus.connect().ask(&["PUBLISH", "news", &"z".repeat(8 << 20)]);
    assert_eq!(bus.stats.closed_for_memory(), before);
    for peer in &mut subscribers {
        assert!(matches!(peer.next(), Some(Value::Array(_))));
    }
}

#[test]
fn one_session_too_many_is_told_so() {
    let settings = BusSettings { max_sessions: 2, ..BusSettings::default() };
    let bus = Bus::start_with(settings, &[]);
    let mut open = [bus.connect(), bus.connect()];
    for peer in &mut open {
        ask(peer, "PING");
    }
    let mut refused = bus.connect();
    let reply = refused.next().map(|reply| show(&reply));
    assert_eq!(reply.as_deref(), Some("-ERR max number of clients reached"));
    assert_eq!(refused.next(), None);
    assert_eq!(bus.stats.sessions_refused(), 1);
    drop(open);
    eventually("there is room again", || bus.stats.sessions() == 0);
    assert_eq!(ask(&mut bus.connect(), "PING"), "PONG");
}

#[test]
fn subscriptions_and_names_are_bounded() {
    let settings = BusSettings { max_subscriptions: 2, ..BusSettings::default() };
    let bus = Bus::start_with(settings, &["gateway"]);
    let mut peer = bus.connect();
    ask(&mut peer, "HELLO 3");
    ask(&mut peer, "SUBSCRIBE a");
    peer.send(command(&["SUBSCRIBE", "b", "c"]));
    assert_eq!(show(&peer.next().expect("a reply")), ">[subscribe b :2]");
    let error = show(&peer.next().expect("a reply"));
    assert_eq!(error, "-ERR too many subscriptions on the embedded bus");
    ask(&mut peer, "UNSUBSCRIBE a");
    assert_eq!(ask(&mut peer, "SUBSCRIBE c"), ">[subscribe c :2]");
    let name = "x".repeat(BusSettings::MAX_NAME_BYTES + 1);
    for verb in ["SUBSCRIBE", "PSUBSCRIBE", "PUBLISH"] {
        let reply = show(&peer.ask(&[verb, &name, "x"][..if verb == "PUBLISH" { 3 } else { 2 }]));
        assert_eq!(reply, "-ERR name of 1025 bytes is too long; the limit is 1024 bytes");
    }
}

#[test]
fn a_stop_ends_all_sessions() {
    let mut bus = Bus::start(&[]);
    let mut peer = bus.connect();
    ask(&mut peer, "SUBSCRIBE news");
    bus.stop();
    assert_eq!(peer.next(), None);
}

#[test]
fn commands_cut_anywhere_are_understood() {
    let bus = Bus::start(&["news"]);
    let mut peer = bus.connect();
    let bytes = command(&["PUBLISH", "news", "a\r\nb"]);
    for cut in 1..bytes.len() {
        peer.send(&bytes[..cut]);
        // A round trip of another client, so that the first piece has been read alone.
        ask(&mut bus.connect(), "PING");
        peer.send(&bytes[cut..]);
        assert_eq!(peer.next(), Some(Value::Integer(1)));
        assert_eq!(bus.next_message(), ("news".into(), "a\r\nb".into()));
    }
}
