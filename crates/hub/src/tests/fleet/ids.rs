//! Ids that no gateway has written, or wrote for somebody else.

use std::time::Duration;

use proptest::prelude::*;

use crate::tests::{TestHub, read, run, settle};
use crate::{FleetRequest, HubSettings, OrderId, StreamSettings, Subscriber};

/// What is done to a genuine id.
#[derive(Clone, Debug)]
enum Tampering {
    Cut(usize),
    Flip(usize, u8),
    /// The place of the other id.
    Swap,
    ForeignRun,
    Number(u64),
    Repeat(usize),
    Any(Vec<u8>),
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        (0_usize..60).prop_map(Tampering::Cut),
        (0_usize..60, any::<u8>()).prop_map(|(at, byte)| Tampering::Flip(at, byte)),
        Just(Tampering::Swap),
        Just(Tampering::ForeignRun),
        any::<u64>().prop_map(Tampering::Number),
        (1_usize..200_000).prop_map(Tampering::Repeat),
        proptest::collection::vec(any::<u8>(), 0..80).prop_map(Tampering::Any),
    ]
}

fn tamper(id: &str, other: &str, how: Tampering) -> Vec<u8> {
    let place = |id: &str| id.splitn(3, '-').nth(2).unwrap_or_default().to_owned();
    match how {
        Tampering::Cut(at) => id.as_bytes()[..at.min(id.len())].to_vec(),
        Tampering::Flip(at, byte) => {
            let mut id = id.as_bytes().to_vec();
            let at = at % id.len();
            id[at] ^= byte;
            id
        }
        Tampering::Swap => id.replace(&place(id), &place(other)).into_bytes(),
        Tampering::ForeignRun => format!("zzzzzz{}", &id[6..]).into_bytes(),
        Tampering::Number(number) => format!("zzzzzz-{number}-{}", place(id)).into_bytes(),
        Tampering::Repeat(count) => id.repeat(count).into_bytes(),
        Tampering::Any(bytes) => bytes,
    }
}

/// A hub that knows marks, with five messages on each of two channels, all of them named.
async fn hub_with_names() -> (TestHub, Subscriber, Subscriber) {
    let test = TestHub::new(1, HubSettings::default());
    test.hub.in_order(OrderId::PLAIN).begin(true);
    test.hub.restored();
    let (a, b) = (test.open(0, &["a"]), test.open(0, &["b"]));
    settle().await;
    test.follow().await;
    assert!(test.hub.in_order(OrderId::PLAIN).receive_for_all(br#"{"mark":"0123456789abcdef"}"#));
    for number in ["1", "2", "3", "4", "5"] {
        test.publish_all(&[("a", number), ("b", "secret")]).await;
    }
    (test, a, b)
}

/// The last id that a stream was sent.
fn last_id(stream: &Subscriber) -> String {
    let context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut text = String::new();
    while let std::task::Poll::Ready(Some(bytes)) =
        stream.poll_next(ssegate_sse::frame::Form::Text, &context)
    {
        text += str::from_utf8(&bytes).expect("text");
    }
    let mut ids = text.lines().rev().filter_map(|line| line.strip_prefix("id: "));
    ids.next().expect("an id").to_owned()
}

/// Lets the hub look for a position, as a source would that hears no other gateway.
async fn serve_fleet(test: &TestHub) {
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        let waker = std::task::Waker::noop();
        let mut requests = std::pin::pin!(test.hub.fleet_requests());
        let polled = requests.as_mut().poll(&mut std::task::Context::from_waker(waker));
        let std::task::Poll::Ready(requests) = polled else { continue };
        for request in requests {
            match request {
                FleetRequest::Fence(ticket) => test.hub.in_order(OrderId::PLAIN).pass_fence(ticket),
                FleetRequest::PublishForAll { body, .. } => {
                    assert!(test.hub.in_order(OrderId::PLAIN).receive_for_all(&body))
                }
                FleetRequest::PublishForOne { .. } => {}
            }
        }
        test.hub.flush();
        settle().await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_tampered_id_is_a_gap_or_a_place_on_the_stream_itself(how in tampering()) {
        run(async move {
            let (test, a, b) = hub_with_names().await;
            let (id, other) = (last_id(&a), last_id(&b));
            let id = tamper(&id, &other, how);
            let id = String::from_utf8_lossy(&id).into_owned();
            let stream = test.open_with(0, &["a"], Some(&id), StreamSettings::default());
            drop(read(&stream));
            serve_fleet(&test).await;
            let text = read(&stream);
            assert!(!text.contains("secret"), "{text}");
            assert!(text.contains(": ready"), "{text}");
            // Nothing that it may be sent is reordered or comes twice.
            let numbers: Vec<u32> = text
                .lines()
                .filter_map(|line| line.strip_prefix("data: ")?.parse().ok())
                .collect();
            assert!(numbers.is_sorted_by(|one, next| one + 1 == *next), "{text}");
        });
    }
}

#[test]
fn an_id_of_ten_megabytes_is_unknown() {
    run(async {
        let (test, a, _b) = hub_with_names().await;
        let id = last_id(&a).repeat(200_000);
        let stream = test.open_with(0, &["a"], Some(&id), StreamSettings::default());
        drop(read(&stream));
        serve_fleet(&test).await;
        let text = read(&stream);
        assert!(text.contains("unknown_id"), "{text}");
    });
}

#[test]
fn a_place_on_another_channel_tells_nothing() {
    run(async {
        let (test, a, b) = hub_with_names().await;
        drop(a);
        let id = last_id(&b).replace(&test.hub.run_text(), "zzzzzz");
        let stream = test.open_with(0, &["a"], Some(&id), StreamSettings::default());
        drop(read(&stream));
        serve_fleet(&test).await;
        let text = read(&stream);
        assert!(text.contains("unknown_id") && !text.contains("data: 5"), "{text}");
    });
}

#[test]
fn a_client_of_another_run_resumes_by_its_place() {
    run(async {
        let (test, a, _b) = hub_with_names().await;
        let id = last_id(&a).replace(&test.hub.run_text(), "zzzzzz");
        test.publish("a", "6").await;
        let stream = test.open_with(0, &["a"], Some(&id), StreamSettings::default());
        drop(read(&stream));
        settle().await;
        let text = read(&stream);
        assert!(text.contains("data: 6\n") && !text.contains("data: 5\n"), "{text}");
        assert!(!text.contains("gap"), "{text}");
    });
}
