//! The embedded bus beside the real thing: spoken to by redis-cli, compared with redis-server.

mod bus_support;

use std::io::{BufRead, BufReader};
use std::process::Command;

use bus_support::redis::{NEEDS, Redis, Running};
use bus_support::{Bus, LONG, Peer, command, eventually, run, show, text};
use ssegate_resp::Value;

fn cli(bus: &Bus, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &bus.port()]).args(arguments);
    let output = run(&mut command, input, LONG, NEEDS);
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

#[test]
fn redis_cli_publishes() {
    let bus = Bus::start(&["news"]);
    assert_eq!(cli(&bus, &["PUBLISH", "news", "hello"], ""), "1\n");
    assert_eq!(bus.next_message(), ("news".into(), "hello".into()));
    assert_eq!(cli(&bus, &["-3", "PUBLISH", "news", "hello"], ""), "1\n");
    assert_eq!(cli(&bus, &["-n", "1", "-a", "secret", "PUBLISH", "other", "hello"], ""), "0\n");
    assert_eq!(cli(&bus, &[], "PUBLISH news one\nPUBLISH news 'two words'\n"), "1\n1\n");
}

#[test]
fn redis_cli_publishes_what_it_reads() {
    let bus = Bus::start(&["news"]);
    assert_eq!(cli(&bus, &["-x", "PUBLISH", "news"], "line one\nline two"), "1\n");
    assert_eq!(bus.next_message(), ("news".into(), "line one\nline two".into()));
    let pipe = text(&command(&["PUBLISH", "news", "x"])).repeat(1000);
    let printed = cli(&bus, &["--pipe"], &pipe);
    assert!(printed.contains("errors: 0, replies: 1000"), "{printed}");
}

#[test]
fn redis_cli_adds_entries_and_waits_for_them() {
    for protocol in ["-2", "-3"] {
        let bus = Bus::start(&[]);
        assert_eq!(cli(&bus, &[protocol, "XADD", "log", "1-1", "data", "one"], ""), "1-1\n");
        let arguments = [protocol, "-p", &bus.port(), "XREAD", "BLOCK", "0", "STREAMS", "log", "$"];
        let mut reader = Running::start(Command::new("redis-cli").args(arguments));
        let stdout = reader.stdout();
        eventually("it waits", || {
            show(&bus.connect().ask(&["INFO", "clients"])).contains("blocked_clients:1")
        });
        let words = ["XADD", "log", "MAXLEN", "~", "10", "1-*", "data", "two"];
        assert_eq!(cli(&bus, &words, ""), "1-2\n");
        let lines = BufReader::new(stdout).lines().map(|line| line.expect("text"));
        let read = lines.collect::<Vec<_>>().join(" ");
        let read: Vec<_> = read.split_whitespace().collect();
        assert_eq!(read, ["log", "1-2", "data", "two"], "{protocol}");
        let all = cli(&bus, &[protocol, "XRANGE", "log", "-", "+"], "");
        assert_eq!(all, "1-1\ndata\none\n1-2\ndata\ntwo\n");
        assert_eq!(
            cli(&bus, &["XREVRANGE", "log", "+", "(1-1", "COUNT", "5"], ""),
            "1-2\ndata\ntwo\n"
        );
    }
}

#[test]
fn redis_cli_runs_laravels_loop() {
    let bus = Bus::start(&["a", "b"]);
    let script = "for i = 2, #ARGV do\n  redis.call('publish', ARGV[i], ARGV[1])\nend";
    assert_eq!(cli(&bus, &["EVAL", script, "0", "hello", "a", "b"], ""), "\n");
    assert_eq!(bus.next_message(), ("a".into(), "hello".into()));
    assert_eq!(bus.next_message(), ("b".into(), "hello".into()));
}

#[test]
fn redis_cli_is_content_when_a_person_types() {
    let bus = Bus::start(&["news"]);
    // util-linux' script gives redis-cli a terminal, so it asks for COMMAND DOCS first. On a dumb
    // one it does not throw away what was typed before its prompt.
    let mut terminal = Command::new("script");
    terminal.env("TERM", "dumb");
    terminal.args(["-qec", &format!("redis-cli -p {}", bus.port()), "/dev/null"]);
    let input = "PUBLISH news hello\nPUBSUB CHANNELS\nNONSENSE\nINFO server\nQUIT\n";
    let output = run(&mut terminal, input, LONG, "apt-get install bsdutils redis-server");
    let printed = text(&output.stdout);
    assert_eq!(bus.next_message(), ("news".into(), "hello".into()), "{printed}");
    for part in ["(integer) 1", "1) \"news\"", "(error) ERR unknown command 'NONSENSE'", "7.0.0"] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
}

#[test]
fn redis_cli_hears_what_is_published() {
    for (protocol, verb, name, expected) in [
        ("-2", "SUBSCRIBE", "news", ["message", "news", "hello"].as_slice()),
        ("-3", "SUBSCRIBE", "news", &["message", "news", "hello"]),
        ("-2", "PSUBSCRIBE", "n[a-f]?s", &["pmessage", "n[a-f]?s", "news", "hello"]),
    ] {
        let bus = Bus::start(&[]);
        let arguments = [protocol, "-p", &bus.port(), verb, name];
        let mut subscriber = Running::start(Command::new("redis-cli").args(arguments));
        let stdout = subscriber.stdout();
        eventually("redis-cli has subscribed", || {
            let mut peer = bus.connect();
            let channels = show(&peer.ask(&["PUBSUB", "CHANNELS"]));
            let patterns = show(&peer.ask(&["PUBSUB", "NUMPAT"]));
            (channels.as_str(), patterns.as_str()) != ("[]", ":0")
        });
        assert_eq!(cli(&bus, &["PUBLISH", "news", "hello"], ""), "1\n");
        let lines = BufReader::new(stdout).lines().map(|line| line.expect("text"));
        let heard: Vec<_> = lines.skip(3).take(expected.len()).collect();
        assert_eq!(heard, expected, "{protocol} {verb}");
    }
}

#[test]
fn replies_are_those_of_redis_in_both_protocols() {
    let (bus, redis) = (Bus::start(&[]), Redis::start());
    let sessions: [&[&str]; 8] = [
        &["PING", "PING x", "ECHO x", "SELECT 0", "CLIENT SETNAME a", "CLIENT GETNAME"],
        &["PUBLISH a x", "PUBSUB CHANNELS", "PUBSUB NUMSUB a b", "PUBSUB NUMSUB", "PUBSUB NUMPAT"],
        &["SUBSCRIBE a", "PING", "PING x", "SUBSCRIBE a", "UNSUBSCRIBE b", "PSUBSCRIBE a*"],
        &["SUBSCRIBE a", "PSUBSCRIBE a*", "UNSUBSCRIBE", "PUNSUBSCRIBE", "PUNSUBSCRIBE", "PING"],
        &["MULTI", "PUBLISH a x", "PING", "EXEC", "EXEC", "MULTI", "MULTI", "DISCARD", "DISCARD"],
        &["MULTI", "NONSENSE", "PUBLISH a x", "EXEC", "MULTI", "PUBLISH a", "EXEC", "PING"],
        &["NONSENSE", "PUBLISH", "SELECT x", "EVALSHA x 0", "PUBSUB NONSENSE", "HELLO 9", "QUIT"],
        &["SUBSCRIBE a", "RESET", "PUBLISH a x", "CLIENT GETNAME", "CLIENT SETINFO x", "PING"],
    ];
    for hello in ["2", "3"] {
        for session in sessions {
            let (mut ours, mut theirs) = (bus.connect(), redis.connect());
            for peer in [&mut ours, &mut theirs] {
                peer.ask(&["HELLO", hello]);
            }
            for words in session {
                let words: Vec<_> = words.split(' ').collect();
                let replies = [ours.ask(&words), theirs.ask(&words)];
                let [ours, theirs] = replies.each_ref().map(first_word_of_errors);
                assert_eq!(ours, theirs, "HELLO {hello}: {words:?}, with errors {replies:?}");
            }
        }
    }
}

/// Clients go by the first word of an error; the rest is for people.
fn first_word_of_errors(reply: &Value) -> String {
    let shown = show(reply);
    match reply {
        Value::Error(_) => shown.split(' ').next().unwrap_or_default().into(),
        _ => shown,
    }
}

#[test]
fn patterns_match_what_they_match_in_redis() {
    let (bus, redis) = (Bus::start(&[]), Redis::start());
    let (mut ours, mut theirs) = (bus.connect(), redis.connect());
    for peer in [&mut ours, &mut theirs] {
        peer.ask(&["HELLO", "3"]);
    }
    let mut random = fastrand::Rng::with_seed(7);
    let mut matched = 0;
    for _ in 0..10_000 {
        let pattern = any_of(&mut random, &["*", "?", "[", "]", "^", "-", "\\", "a", "b", "c"]);
        let channel = any_of(&mut random, &["a", "b", "c", "]", "-", "\\", "^"]);
        let counts = [&mut ours, &mut theirs].map(|peer| receivers(peer, &pattern, &channel));
        assert_eq!(counts[0], counts[1], "{pattern} {channel}");
        matched += counts[0];
    }
    assert!(matched > 200, "the patterns are too wild: {matched}");
}

fn any_of(random: &mut fastrand::Rng, alphabet: &[&str]) -> String {
    (0..random.usize(1..9)).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
}

/// How many hear `channel` while the peer itself is subscribed to `pattern`.
fn receivers(peer: &mut Peer, pattern: &str, channel: &str) -> i64 {
    for words in [&["PSUBSCRIBE", pattern][..], &["PUBLISH", channel, ""], &["PUNSUBSCRIBE"]] {
        peer.send(command(words));
    }
    let mut count = None;
    loop {
        match peer.next().expect("a reply") {
            Value::Integer(receivers) => count = Some(receivers),
            Value::Push(words) if show(&words[0]) == "punsubscribe" => {
                return count.expect("PUBLISH was answered");
            }
            _ => {}
        }
    }
}
