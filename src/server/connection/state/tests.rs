use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use ssegate_http2::Http2Settings;
use tokio::time::Instant;

use super::HttpProtocol::{Http1, Http2};
use super::{ConnectionState, CutReason, HttpProtocol, Notice};
use crate::server::settings::ConnectionSettings;

/// The shortest of the timeouts below that can start at any time: when nothing else is due, the
/// next check is this much later.
const LEAST: u64 = 7;

fn settings() -> ConnectionSettings {
    ConnectionSettings {
        first_request_timeout: seconds(10),
        idle_timeout: seconds(60),
        write_timeout: seconds(30),
        http2: Http2Settings {
            header_timeout: seconds(LEAST),
            keep_alive_interval: seconds(20),
            keep_alive_timeout: seconds(15),
            ..Http2Settings::default()
        },
        ..ConnectionSettings::default()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// What happens on a connection, and at which second after it was accepted.
#[derive(Clone, Copy, Debug)]
enum TestStep {
    /// A request begins.
    Request,
    /// Its response ends.
    Response(u64),
    Drain(u64),
    /// A write finds the socket full.
    Block(u64),
    /// A write is accepted again.
    Unblock,
    /// The first bytes of an HTTP/2 frame arrive.
    Frame(u64),
    /// An HTTP/2 client sends something.
    Heard(u64),
    /// An HTTP/2 client is due a PING, and is sent one.
    Ping(u64),
}

use TestStep::{Block, Drain, Frame, Heard, Ping, Request, Response, Unblock};

struct TestConnection {
    state: ConnectionState,
    accepted: Instant,
}

impl TestConnection {
    fn new(protocol: impl Into<Option<HttpProtocol>>, steps: &[TestStep]) -> Self {
        let accepted = Instant::now();
        let peer = "192.0.2.1:4000".parse().expect("an address");
        let state = ConnectionState::new(peer, true, accepted);
        state.protocol.set(protocol.into());
        let connection = Self { state, accepted };
        steps.iter().for_each(|step| connection.run(*step));
        connection
    }

    fn at(&self, second: u64) -> Instant {
        self.accepted + seconds(second)
    }

    fn run(&self, step: TestStep) {
        let Self { state, .. } = self;
        match step {
            Request => state.request_began(),
            Response(at) => state.request_ended(self.at(at)),
            Drain(at) => state.drain(self.at(at)),
            Block(at) => state.socket.writes.record(false, || self.at(at)),
            Unblock => state.socket.writes.record(true, || self.at(0)),
            Frame(at) => state.keep_alive.set_unfinished_since(Some(self.at(at))),
            Heard(at) => state.keep_alive.received(self.at(at)),
            Ping(at) => {
                state.enforce(self.at(at), &settings());
                assert!(state.keep_alive.take_ping(|| self.at(at)), "a PING is due at {at}");
            }
        }
    }
}

/// What enforcing the deadlines comes to; with the second of the next check.
#[derive(Debug)]
enum Enforced {
    Open(u64),
    Draining(u64),
    Cut(CutReason),
}

use Enforced::{Cut, Draining, Open};

/// Name, protocol, what happens, when the deadlines are enforced, and what that comes to.
type Case<'a> = (&'a str, Option<HttpProtocol>, &'a [TestStep], u64, Enforced);

fn check(cases: &[Case<'_>]) {
    for (name, protocol, steps, at, outcome) in cases {
        let connection = TestConnection::new(*protocol, steps);
        let next = connection.state.enforce(connection.at(*at), &settings());
        let next = (next - connection.accepted).as_secs();
        match (connection.state.notice(), outcome) {
            (None, Open(expected)) | (Some(Notice::Drain), Draining(expected)) => {
                assert_eq!(next, *expected, "{name}: the next check");
            }
            (Some(Notice::Cut(reason)), Cut(expected)) => assert_eq!(reason, *expected, "{name}"),
            (notice, outcome) => panic!("{name}: {notice:?} instead of {outcome:?}"),
        }
    }
}

#[test]
fn the_first_request_must_arrive_in_time() {
    check(&[
        ("early", None, &[], 9, Open(10)),
        ("late", None, &[], 10, Cut(CutReason::FirstRequest)),
        ("late over HTTP/2", Some(Http2), &[], 10, Cut(CutReason::FirstRequest)),
        ("arrived", Some(Http1), &[Request], 10, Open(10 + LEAST)),
    ]);
}

#[test]
fn a_drain_waits_a_second_for_the_first_request() {
    check(&[
        ("before its end", None, &[Drain(4)], 4, Open(5)),
        ("at its end", None, &[Drain(4)], 5, Draining(5)),
        ("drained twice", None, &[Drain(4), Drain(5)], 5, Draining(5)),
        ("first request", Some(Http1), &[Drain(4), Request], 4, Draining(4 + LEAST)),
        ("later request", Some(Http1), &[Request, Response(2), Drain(4)], 4, Draining(4 + LEAST)),
        ("late", None, &[Drain(10)], 10, Cut(CutReason::FirstRequest)),
    ]);
}

#[test]
fn a_client_that_does_not_read_is_cut_after_the_write_timeout() {
    check(&[
        ("before", Some(Http1), &[Request, Block(5)], 34, Open(35)),
        ("after", Some(Http1), &[Request, Block(5)], 35, Cut(CutReason::Stalled)),
        ("after, over HTTP/2", Some(Http2), &[Request, Block(5)], 35, Cut(CutReason::Stalled)),
        ("it reads again", Some(Http1), &[Request, Block(5), Unblock], 35, Open(35 + LEAST)),
        ("in a drain", Some(Http1), &[Request, Block(5), Drain(6)], 35, Cut(CutReason::Stalled)),
    ]);
}

#[test]
fn an_http2_connection_without_requests_is_drained_after_the_idle_timeout() {
    let idle = &[Request, Response(5), Heard(59)];
    check(&[
        ("before", Some(Http2), idle, 64, Open(65)),
        ("after", Some(Http2), idle, 65, Draining(65)),
        ("with a request", Some(Http2), &[Request, Heard(59)], 65, Open(65 + LEAST)),
        ("HTTP/1.1 has its own deadline", Some(Http1), idle, 65, Open(65 + LEAST)),
    ]);
}

#[test]
fn an_http2_frame_must_be_complete_in_time() {
    check(&[
        ("before", Some(Http2), &[Request, Frame(5)], 11, Open(12)),
        ("after", Some(Http2), &[Request, Frame(5)], 12, Cut(CutReason::HeaderTimeout)),
        // Nothing is read then.
        ("while blocked", Some(Http2), &[Request, Frame(5), Block(6)], 12, Open(12 + LEAST)),
    ]);
}

#[test]
fn a_silent_http2_client_is_sent_a_ping_and_cut_if_it_does_not_respond() {
    check(&[
        ("before the PING", Some(Http2), &[Request], 19, Open(20)),
        ("the PING is due", Some(Http2), &[Request], 20, Open(20)),
        ("before the timeout", Some(Http2), &[Request, Ping(20)], 34, Open(35)),
        ("after the timeout", Some(Http2), &[Request, Ping(20)], 35, Cut(CutReason::KeepAlive)),
        ("it responds", Some(Http2), &[Request, Ping(20), Heard(30)], 35, Open(35 + LEAST)),
    ]);
}

#[test]
fn the_first_cut_is_final() {
    let connection = TestConnection::new(Http1, &[]);
    connection.state.cut(CutReason::Stream);
    connection.state.cut(CutReason::Stopped);
    connection.run(Request);
    connection.run(Drain(1));
    assert_eq!(connection.state.notice(), Some(Notice::Cut(CutReason::Stream)));
}

#[test]
fn only_an_idle_connection_is_closed_in_a_shortage() {
    for (name, steps, at, is_closed) in [
        ("just accepted", [].as_slice(), 0, false),
        ("without a request", &[], 1, true),
        ("with a running request", &[Request], 100, false),
        ("just after a request", &[Request, Response(50)], 50, false),
        ("a second after a request", &[Request, Response(50)], 51, true),
    ] {
        let connection = TestConnection::new(Http1, steps);
        assert_eq!(connection.state.close_if_idle(connection.at(at)), is_closed, "{name}");
        let notice = is_closed.then_some(Notice::Cut(CutReason::Shortage));
        assert_eq!(connection.state.notice(), notice, "{name}");
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct WakeCount(AtomicUsize);

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn each_notice_wakes_the_task_and_is_returned_once() {
    let connection = TestConnection::new(Http1, &[Request]);
    let state = &connection.state;
    assert!(state.socket.attention.take(), "raised at first");
    let count = Arc::new(WakeCount::default());
    let waker = Waker::from(Arc::clone(&count));
    let context = Context::from_waker(&waker);
    let mut last_seen = None;
    assert!(state.poll_cut(&mut last_seen, &context).is_pending());

    connection.run(Drain(1));
    assert!(state.socket.attention.take());
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(state.poll_cut(&mut last_seen, &context).is_pending(), "a drain is not a cut");
    assert_eq!(last_seen, Some(Notice::Drain));

    state.cut(CutReason::Stopped);
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    assert!(state.poll_cut(&mut last_seen, &context).is_ready());
}
