//! The streams of the embedded bus beside those of a real Redis: the same bytes, in both protocols.

mod bus_support;

use std::cell::RefCell;
use std::io::Write;
use std::thread;

use bus_support::redis::Redis;
use bus_support::{Bus, Peer, command, eventually, show};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};
use ssegate_bus::BusSettings;

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn lines(lines: &[&str]) -> Vec<Vec<String>> {
    lines.iter().map(|line| words(line)).collect()
}

/// Replies without what differs by design: the nodes of a tree that the bus does not have.
fn comparable(replies: &str) -> String {
    let mut lines: Vec<&str> = replies.split("\r\n").collect();
    for at in 1..lines.len() {
        if matches!(lines[at - 1], "radix-tree-keys" | "radix-tree-nodes") {
            lines[at] = "(nodes)";
        }
    }
    lines.join("\r\n")
}

/// Sends commands to both, in a protocol; fails unless they reply alike.
fn compare(
    ours: &mut Peer,
    theirs: &mut Peer,
    hello: &str,
    commands: &[Vec<String>],
) -> Result<(), String> {
    let start = lines(&["RESET", "DEL a b c", &format!("HELLO {hello}")]);
    for peer in [&mut *ours, &mut *theirs] {
        peer.replies(&start);
    }
    // One after the other, so that a difference is that of a command.
    for (index, command) in commands.iter().enumerate() {
        let command = std::slice::from_ref(command);
        let [ours, theirs] =
            [ours.replies(command), theirs.replies(command)].map(|replies| comparable(&replies));
        if ours != theirs {
            let command = command[0].join(" ");
            return Err(format!("HELLO {hello}, {index}: {command}: {ours:?}, not {theirs:?}"));
        }
    }
    Ok(())
}

#[test]
fn replies_about_streams_are_those_of_redis() {
    let (bus, redis) = (Bus::start(&[]), Redis::start());
    let (mut ours, mut theirs) = (bus.connect(), redis.connect());
    let sessions: [&[&str]; 12] = [
        &["XADD a 1-1 f v", "XADD a 1-* f v g w", "XADD a 2 f v", "XLEN a", "XRANGE a - +"],
        &["XADD a 1-1 f v", "XADD a 1-1 f v", "XADD a 0-0 f v", "XADD a 1-0 f v", "XADD b 0-* f v"],
        &["XADD a 18446744073709551615-18446744073709551615 f v", "XADD a * f v", "XADD a 1-* f v"],
        &[
            "XADD a 5-18446744073709551615 f v",
            "XADD a 5-* f v",
            "XADD a 5--03 f v",
            "XINFO STREAM a",
        ],
        &[
            "XADD a NOMKSTREAM 1-1 f v",
            "EXISTS a",
            "XADD a nomkstream * f",
            "TYPE a",
            "XINFO STREAM a",
        ],
        &[
            "XADD a MAXLEN 1 MINID 1 * f v",
            "XADD a MAXLEN -1 * f v",
            "XADD a LIMIT 1 * f v",
            "XADD a MAXLEN 1 LIMIT 1 * f v",
            "XADD a LIMIT 1 x f v",
            "XADD a MAXLEN x * f v",
            "XADD a MAXLEN ~ 1 LIMIT -1 * f v",
            "XADD a LIMIT 0 * f v",
            "XADD a MAXLEN",
            "XADD a MAXLEN 1 f v",
        ],
        &[
            "XADD a 1-1 f v",
            "XADD a 2-1 f v",
            "XADD a MAXLEN = 2 3-1 f v",
            "XADD a MINID = 3 4-1 f v",
            "XRANGE a - +",
            "XTRIM a MAXLEN 0",
            "XINFO STREAM a",
            "XINFO STREAM a FULL",
            "XREAD STREAMS a 0",
        ],
        &[
            "XADD a 1-1 f v",
            "XADD a 2-1 f v",
            "XADD a 3-1 f v",
            "XDEL a 3-1 2-1 2-1 9",
            "XINFO STREAM a",
            "XDEL a x 1-1",
            "XDEL b x",
            "XLEN a",
            "XADD a 3-1 f v",
            "XINFO STREAM a FULL COUNT 0",
        ],
        &[
            "XREAD STREAMS a",
            "XREAD STREAMS a b c",
            "XREAD COUNT 1 STREAMS a b 0 >",
            "XREAD BLOCK -1 STREAMS a 0",
            "XREAD BLOCK x STREAMS a 0",
            "XREAD GROUP g c STREAMS a 0",
            "XREAD NOACK STREAMS a 0",
            "XREAD COUNT 1 2",
        ],
        &[
            "MULTI",
            "XADD a 1-1 f v",
            "XREAD BLOCK 0 STREAMS a b 0 0",
            "XREAD BLOCK 0 STREAMS b $",
            "XLEN a",
            "XADD a 1-1 f v",
            "EXEC",
            "MULTI",
            "XADD a",
            "XLEN a",
            "EXEC",
        ],
        &[
            "XADD a 1-1 f v",
            "EXPIRE a 100",
            "TTL a",
            "EXPIRE a 50 GT",
            "EXPIRE a 500 NX",
            "EXPIRE a 500 LT",
            "TTL a",
            "PERSIST a",
            "PERSIST a",
            "TTL a",
            "PTTL b",
            "EXPIRE a 1 NX XX",
            "EXPIRE a 1 LT GT",
            "EXPIRE a 1 Y",
            "EXPIRE a 9223372036854775807",
            "PEXPIRE a 9223372036854775807",
            "EXPIRE a -1",
            "EXISTS a",
            "TTL a",
        ],
        &[
            "XADD a 1-1 f v",
            "XADD b 1-1 f v",
            "EXISTS a b a c",
            "TYPE a",
            "DEL a c",
            "UNLINK b b",
            "TYPE b",
            "CLIENT UNBLOCK 999999",
            "CLIENT UNBLOCK x",
            "CLIENT UNBLOCK 1 x",
            "XINFO STREAM a x",
            "XINFO",
            "XINFO STREAM",
            "XLEN",
            "XINFO GROUPS a",
            "XGROUP",
        ],
    ];
    for hello in ["2", "3"] {
        for session in sessions {
            // What the bus says of consumer groups is its own.
            let session: Vec<_> =
                session.iter().copied().filter(|line| *line != "XGROUP").collect();
            compare(&mut ours, &mut theirs, hello, &lines(&session)).expect("the same");
        }
    }
}

/// What is no id, or one that few would write.
const BAD_IDS: &[&str] = &[
    "-",
    "+",
    "$",
    ">",
    "",
    "x",
    "1-",
    "-1",
    "01-02",
    " 1",
    "1-+1",
    "1--1",
    "1--0",
    "*-1",
    "1-1-1",
    "(1",
    "4-18446744073709551615",
    "18446744073709551615",
    "18446744073709551615-18446744073709551615",
    "18446744073709551616",
];

/// Commands with nothing to choose.
const FIXED: &[&str] =
    &["DEL a", "UNLINK b c", "PERSIST a", "TTL a", "TTL b", "MULTI", "EXEC", "DISCARD"];

const EXPIRIES: &[&str] = &["1000", "2000", "-1", "x"];
const EXPIRE_OPTIONS: &[&str] = &["", " NX", " XX", " GT", " LT"];

/// An id, good or bad.
fn any_id() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0..5_u64, 0..4_u64).prop_map(|(ms, seq)| format!("{ms}-{seq}")),
        2 => (0..6_u64).prop_map(|ms| ms.to_string()),
        2 => (0..6_u64).prop_map(|ms| format!("{ms}-*")),
        1 => select(BAD_IDS).prop_map(str::to_owned),
    ]
}

fn any_bound() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec!["-", "+", "("]).prop_map(str::to_owned),
        any_id(),
        any_id().prop_map(|id| format!("({id}")),
    ]
}

fn any_number() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0..5_i64).prop_map(|number| number.to_string()),
        1 => select(vec!["-1", "x", "", "01", "+1", "9223372036854775808"]).prop_map(str::to_owned),
    ]
}

fn any_key() -> impl Strategy<Value = String> {
    select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

/// Options of a trim; those with `~` remove nothing, because the bus removes more than Redis.
fn any_trim() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        2 => any_number().prop_map(|most| format!(" MAXLEN {most}")),
        2 => any_number().prop_map(|most| format!(" maxlen = {most}")),
        2 => any_id().prop_map(|first| format!(" MINID {first}")),
        1 => any_number().prop_map(|limit| format!(" MAXLEN ~ 1000 LIMIT {limit}")),
        1 => any_number().prop_map(|limit| format!(" MINID ~ 0 LIMIT {limit}")),
        1 => any_number().prop_map(|limit| format!(" LIMIT {limit}")),
        1 => select(vec![" MAXLEN", " MAXLEN ~", " NOMKSTREAM", " MAXLEN 1 MINID 1", " x"])
            .prop_map(str::to_owned),
    ]
}

fn any_command() -> impl Strategy<Value = String> {
    let fields = || select(vec![" f v", " f v", " f v g w", " f", "", " f v g"]);
    let count = || {
        prop_oneof![
            3 => Just(String::new()),
            1 => any_number().prop_map(|count| format!(" COUNT {count}")),
        ]
    };
    prop_oneof![
        8 => (any_key(), any_trim(), any_id(), fields())
            .prop_map(|(key, trim, id, fields)| format!("XADD {key}{trim} {id}{fields}")),
        2 => (any_key(), any_bound(), any_bound(), count())
            .prop_map(|(key, start, end, count)| format!("XRANGE {key} {start} {end}{count}")),
        2 => (any_key(), any_bound(), any_bound(), count())
            .prop_map(|(key, start, end, count)| format!("XREVRANGE {key} {start} {end}{count}")),
        2 => (count(), any_key(), any_key(), any_id(), any_id())
            .prop_map(|(count, a, b, id, next)| format!("XREAD{count} STREAMS {a} {b} {id} {next}")),
        1 => (count(), any_key(), any_id())
            .prop_map(|(count, key, id)| format!("XREAD BLOCK 1{count} STREAMS {key} {id}")),
        2 => (any_key(), any_trim()).prop_map(|(key, trim)| format!("XTRIM {key}{trim}")),
        2 => (any_key(), any_id(), any_id())
            .prop_map(|(key, id, other)| format!("XDEL {key} {id} {other}")),
        1 => any_key().prop_map(|key| format!("XLEN {key}")),
        2 => any_key().prop_map(|key| format!("XINFO STREAM {key}")),
        1 => (any_key(), count()).prop_map(|(key, count)| format!("XINFO STREAM {key} FULL{count}")),
        1 => (any_key(), any_key()).prop_map(|(key, other)| format!("EXISTS {key} {other}")),
        1 => any_key().prop_map(|key| format!("TYPE {key}")),
        1 => select(FIXED).prop_map(str::to_owned),
        1 => (any_key(), select(EXPIRIES), select(EXPIRE_OPTIONS))
            .prop_map(|(key, seconds, option)| format!("EXPIRE {key} {seconds}{option}")),
    ]
}

#[test]
fn any_commands_have_the_replies_of_redis() {
    let (bus, redis) = (Bus::start(&[]), Redis::start());
    let peers = RefCell::new((bus.connect(), redis.connect()));
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    let commands = prop::collection::vec(any_command(), 1..40);
    let result = TestRunner::new(config).run(&(any::<bool>(), commands), |(is_resp3, commands)| {
        let commands: Vec<_> = commands.iter().map(|line| words(line)).collect();
        let (ours, theirs) = &mut *peers.borrow_mut();
        let hello = if is_resp3 { "3" } else { "2" };
        compare(ours, theirs, hello, &commands).map_err(TestCaseError::fail)
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// What a reader gets that waits while another client sends commands.
fn woken(connect: impl Fn() -> Peer, hello: &str, read: &str, others: &[&str]) -> String {
    let (mut reader, mut writer) = (connect(), connect());
    writer.replies(&lines(&["DEL a b c", "XADD a 5-5 old 1"]));
    reader.replies(&lines(&[&format!("HELLO {hello}")]));
    let blocked = |writer: &mut Peer| {
        show(&writer.ask(&["INFO", "clients"])).contains("blocked_clients:1\r\n")
    };
    reader.send(command(&read.split(' ').collect::<Vec<_>>()));
    eventually("it is blocked", || blocked(&mut writer));
    writer.replies(&lines(others));
    assert!(!blocked(&mut writer), "{read} is still blocked after {others:?}");
    reader.raw(1)
}

#[test]
fn a_waiting_reader_gets_what_it_gets_from_redis() {
    let (bus, redis) = (Bus::start(&[]), Redis::start());
    let table: [(&str, &[&str]); 10] = [
        ("XREAD BLOCK 0 STREAMS a $", &["XADD a 6-0 f v"]),
        ("XREAD BLOCK 0 STREAMS a b 5-5 0", &["XADD b 1-1 f v"]),
        (
            "XREAD BLOCK 0 STREAMS c a 9-9 6-0",
            &["XADD c 9-8 f v", "XADD a 6-0 f v", "XADD a 6-1 f v"],
        ),
        (
            "XREAD BLOCK 0 COUNT 1 STREAMS b 0",
            &["MULTI", "XADD b 1-1 f v", "XADD b 1-2 f v", "EXEC"],
        ),
        ("XREAD BLOCK 0 STREAMS a b $ $", &["MULTI", "XADD b 1-1 f v", "XADD a 6-0 f v", "EXEC"]),
        ("XREAD BLOCK 0 STREAMS b $", &["MULTI", "XADD b 1-1 f v", "XDEL b 1-1", "EXEC"]),
        (
            "XREAD BLOCK 0 STREAMS b $",
            &["MULTI", "XADD b 1-1 f v", "DEL b", "EXEC", "XADD b 1-2 f v"],
        ),
        ("XREAD BLOCK 0 STREAMS b b 0 9", &["XADD b 1-1 f v"]),
        ("XREAD BLOCK 0 STREAMS b $", &["XADD b MAXLEN 0 1-1 f v"]),
        ("XREAD BLOCK 20 STREAMS b $", &["PING", "XREAD BLOCK 100 STREAMS c $", "XADD b 1-1 f v"]),
    ];
    for hello in ["2", "3"] {
        for (read, others) in table {
            let ours = woken(|| bus.connect(), hello, read, others);
            let theirs = woken(|| redis.connect(), hello, read, others);
            assert_eq!(ours, theirs, "HELLO {hello}: {read}: {others:?}");
        }
    }
}

#[test]
fn readers_wait_until_their_connection_or_the_bus_ends() {
    let mut bus = Bus::start(&[]);
    let mut observer = bus.connect();
    let waiting = |observer: &mut Peer, count: usize| {
        eventually("as many wait", || {
            let info = show(&observer.ask(&["INFO", "clients"]));
            info.contains(&format!("blocked_clients:{count}\r\n"))
        });
    };
    let mut readers: Vec<Peer> = (0..20).map(|_| bus.connect()).collect();
    for reader in &mut readers {
        reader.send(command(&["XREAD", "BLOCK", "0", "STREAMS", "a", "$"]));
    }
    waiting(&mut observer, 20);
    readers.truncate(10);
    waiting(&mut observer, 10);
    bus.stop();
    for mut reader in readers {
        assert_eq!(reader.next(), None, "it is closed without a reply");
    }
    assert_eq!((bus.stats.sessions(), bus.stats.memory()), (0, 0));
}

#[test]
fn a_full_bus_refuses_entries_as_redis_does_and_says_so() {
    let settings = BusSettings { max_stream_bytes: 100_000, ..BusSettings::default() };
    let bus = Bus::start_with(settings, &[]);
    let mut peer = bus.connect();
    let value = "x".repeat(10_000);
    let mut added = 0;
    let error = loop {
        match show(&peer.ask(&["XADD", "a", "*", "data", &value])) {
            id if id.starts_with('-') => break id,
            _ => added += 1,
        }
    };
    assert_eq!(error, "-OOM command not allowed when used memory > 'maxmemory'.");
    assert!((7..10).contains(&added), "{added}");
    assert_eq!(bus.stats.entries_refused(), 1);
    assert!((70_000..=100_000).contains(&bus.stats.stream_bytes()) && bus.stats.streams() == 1);
    // What keeps a stream short goes on.
    let most = added.to_string();
    let id = show(&peer.ask(&["XADD", "a", "MAXLEN", "~", &most, "*", "data", &value]));
    assert!(!id.starts_with('-'), "{id}");
    assert_eq!(show(&peer.ask(&["XLEN", "a"])), format!(":{added}"));
    // Without COUNT all of it is one reply.
    let all = show(&peer.ask(&["XRANGE", "a", "-", "+"]));
    assert_eq!(all.matches(&value).count(), added);
    assert_eq!(show(&peer.ask(&["DEL", "a"])), ":1");
    assert_eq!((bus.stats.stream_bytes(), bus.stats.streams()), (0, 0));
}

#[test]
fn an_entry_that_is_too_long_is_refused_and_the_next_one_is_not() {
    let settings = BusSettings { max_event_bytes: 2000, ..BusSettings::default() };
    let bus = Bus::start_with(settings, &[]);
    let mut peer = bus.connect();
    let error = show(&peer.ask(&["XADD", "a", "*", "data", &"x".repeat(2001)]));
    assert!(
        error.starts_with("-ERR message of 2001 bytes exceeds max_event_bytes (2000)"),
        "{error}"
    );
    assert_eq!(show(&peer.ask(&["XADD", "a", "1-1", "data", &"x".repeat(2000)])), "1-1");
    assert_eq!(bus.stats.oversized_messages(), 1);
    let name = "n".repeat(1025);
    let error = show(&peer.ask(&["XADD", &name, "*", "data", "x"]));
    assert_eq!(error, "-ERR name of 1025 bytes is too long; the limit is 1024 bytes");
    assert_eq!(show(&peer.ask(&["XREAD", "BLOCK", "0", "STREAMS", &name, "$"])), error);
}

#[test]
fn an_expired_stream_is_gone_and_its_memory_is_freed() {
    let bus = Bus::start(&[]);
    let mut peer = bus.connect();
    peer.replies(&lines(&["XADD a 1-1 f v", "PEXPIRE a 50", "XADD b 1-1 f v"]));
    assert_eq!(bus.stats.streams(), 2);
    eventually("it has expired", || show(&peer.ask(&["EXISTS", "a"])) == ":0");
    peer.replies(&lines(&["PEXPIRE b 50"]));
    eventually("nobody asks, and the memory is freed", || bus.stats.stream_bytes() == 0);
}

#[test]
fn consumer_groups_are_refused_with_the_way_out() {
    let bus = Bus::start(&[]);
    let mut peer = bus.connect();
    for command in [
        "XGROUP CREATE a g $ MKSTREAM",
        "XREADGROUP GROUP g c STREAMS a >",
        "XACK a g 1-1",
        "XPENDING a g",
        "XCLAIM a g c 0 1-1",
        "XAUTOCLAIM a g c 0 0",
    ] {
        let name = command.split(' ').next().unwrap_or_default();
        assert_eq!(
            show(&peer.ask(&command.split(' ').collect::<Vec<_>>())),
            format!(
                "-ERR {name} is not supported by the embedded bus, which has no consumer groups; use Redis"
            )
        );
    }
}

#[test]
fn what_follows_a_blocked_read_waits_and_is_bounded() {
    let settings = BusSettings { max_event_bytes: 1000, ..BusSettings::default() };
    let bus = Bus::start_with(settings, &[]);
    let (mut reader, mut writer) = (bus.connect(), bus.connect());
    reader.send(command(&["XREAD", "BLOCK", "0", "STREAMS", "a", "$"]));
    const PINGS: usize = 1 << 20;
    let mut socket = reader.stream.try_clone().expect("a second handle");
    let flood = thread::spawn(move || socket.write_all(&b"PING\r\n".repeat(PINGS)).expect("sends"));
    // The rest stays in the sockets, and with the client.
    eventually("as much is read as one command may have", || bus.stats.memory() >= 2 << 20);
    assert!(bus.stats.memory() < 3 << 20, "{}", bus.stats.memory());
    assert_eq!(show(&writer.ask(&["XADD", "a", "1-1", "f", "v"])), "1-1");
    assert_eq!(show(&reader.next().expect("a reply")), "[[a [[1-1 [f v]]]]]");
    for _ in 0..PINGS {
        assert_eq!(show(&reader.next().expect("a reply")), "PONG");
    }
    flood.join().expect("all was sent");
}
