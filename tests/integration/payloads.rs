//! Any payload arrives as it was published, with its line ends normalised and what is not UTF-8
//! replaced, and nothing else.

use std::cell::RefCell;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::support::{Gateway, Redis};

/// Any bytes, and more often than chance has it what could end a line, a field or a frame.
fn payload() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => vec(any::<u8>(), 0..20),
        3 => ".{0,20}".prop_map(String::into_bytes),
        6 => prop_oneof![
            Just("\n"), Just("\r"), Just("\r\n"), Just("\n\n"), Just("\0"), Just("\u{feff}"),
            Just("data: "), Just("event: x\n"), Just("id: 7\n"), Just("retry: 1\n"), Just(":"),
            Just(" "), Just("\u{2028}"), Just("😀"), Just("0\r\n\r\n"),
        ].prop_map(|text| text.as_bytes().to_vec()),
        1 => prop_oneof![
            Just(vec![0xff]), Just(vec![0xc3]), Just(vec![0xe2, 0x82]), Just(vec![0xc0, 0xaf]),
            Just(vec![0xf0, 0x9f, 0x98]), Just(vec![0xed, 0xa0, 0x80]),
        ],
        1 => (any::<u8>(), 1_000..70_000_usize).prop_map(|(byte, count)| vec![byte; count]),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// What the standard lets a payload arrive as.
fn as_it_should_arrive(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).replace("\r\n", "\n").replace('\r', "\n")
}

#[test]
fn any_bytes_arrive_as_published() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let redis = runtime.block_on(Redis::start());
    let gateway = runtime.block_on(Gateway::start(&redis));
    let stream = RefCell::new(runtime.block_on(gateway.subscribe("/events/news")));

    let config = Config { cases: 512, failure_persistence: None, ..Config::default() };
    let property = |payload: Vec<u8>| {
        runtime.block_on(redis.publish("news", &payload));
        let block = runtime.block_on(stream.borrow_mut().next_word());
        let Some(event) = block.event else {
            return Err(TestCaseError::fail(format!("no event: {block:?}")));
        };
        proptest::prop_assert_eq!(event.data, as_it_should_arrive(&payload));
        proptest::prop_assert_eq!(event.name, "message");
        proptest::prop_assert_eq!((block.comments, block.retry), (vec![], None));
        Ok(())
    };
    TestRunner::new(config).run(&payload(), property).unwrap();
}

#[tokio::test]
async fn a_stream_has_no_carriage_returns_whatever_is_published() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut response = gateway.get("/events/news").await;
    response.body.until(": ready\n").await;

    redis.publish("news", "a\rb\r\nc\n\rd\r").await;
    let event = response.body.until("\n\n").await;
    let data = event.split_once("id: ").unwrap().0;
    assert_eq!(data, "data: a\ndata: b\ndata: c\ndata: \ndata: d\ndata: \n");
}

#[tokio::test]
async fn a_payload_of_sixteen_mebibytes_arrives() {
    let redis = Redis::start().await;
    let gateway = Gateway::start(&redis).await;
    let mut stream = gateway.subscribe("/events/news").await;

    let large = "0123456789abcde\n".repeat(1 << 20);
    redis.publish("news", &large).await;
    let event = stream.next_event().await;
    assert_eq!(event.data.len(), large.len());
    assert!(event.data == large, "sixteen mebibytes, but not the same");
}
