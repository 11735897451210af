//! The pieces of the hot path, one by one, in time: `cargo bench -p ssegate-pieces --bench hot_path`.
//!
//! In the order of an event's way. On a busy machine, times vary: use `instructions` there.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ssegate_format::Format;
use ssegate_pieces::{self as pieces, FanOut};
use ssegate_sse::encode;

fn decode_push(c: &mut Criterion) {
    const MESSAGES: usize = 100;
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function("100 pushes of RESP3", |b| {
        b.iter_batched(
            || pieces::pushes(MESSAGES),
            |input| assert_eq!(pieces::decode_pushes(input), MESSAGES),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn decode_payload(c: &mut Criterion) {
    let raw = Bytes::from_static(&[b'x'; 100]);
    let envelope =
        Bytes::from(format!(r#"{{"event":"tick","data":{{"n":"{}"}}}}"#, "x".repeat(70)));
    let mut group = c.benchmark_group("payload");
    group.bench_function("raw", |b| b.iter(|| Format::Raw.decode(black_box(&raw))));
    group.bench_function("envelope", |b| {
        b.iter(|| Format::Envelope.decode(black_box(&envelope)));
    });
    group.finish();
}

fn encode_frame(c: &mut Criterion) {
    let event = Format::Raw.decode(&Bytes::from_static(&[b'x'; 100])).event;
    c.bench_function("encode/100 bytes", |b| {
        b.iter(|| encode::frame(black_box(&event), Some("abcdef-1234567")));
    });
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    for subscribers in [1, 100, 2000] {
        let hub = FanOut::new(subscribers);
        group.throughput(Throughput::Elements(subscribers as u64));
        group.bench_function(format!("1 event to {subscribers}"), |b| b.iter(|| hub.publish(1)));
        let hub = FanOut::without_history(subscribers);
        let name = format!("1 event to {subscribers}, history off");
        group.bench_function(name, |b| b.iter(|| hub.publish(1)));
    }
    group.finish();
}

/// 64 events wait in one queue, and are taken together.
fn queue(c: &mut Criterion) {
    const EVENTS: usize = 64;
    let hub = FanOut::new(1);
    let mut group = c.benchmark_group("queue");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group.bench_function("64 events through one", |b| b.iter(|| hub.publish(EVENTS)));
    group.finish();
}

/// A client comes back and has missed nothing: finds its position in the history of its channel, and what
/// comes after it.
fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup");
    for kept in [100, 10_000, 300_000] {
        let hub = FanOut::with_history(kept);
        let last = hub.last_but_one();
        group.bench_function(format!("an id among {kept}"), |b| b.iter(|| hub.come_back(&last)));
    }
    group.finish();
}

criterion_group!(benches, decode_push, decode_payload, encode_frame, fan_out, queue, lookup);
criterion_main!(benches);
