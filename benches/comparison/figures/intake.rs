//! Messages that the gateway receives without subscribers: how fast it takes them in.
//!
//! A pattern had a subscriber, and is still followed. Redis pushes every message that matches. What the
//! gateway does not take in time piles up in Redis' output buffer of its connection.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::Run;
use super::cell::{Cell, percentiles, warm_code};
use crate::clock::{self, MILLISECOND};
use crate::load::{Load, Pace};
use crate::mode::Mode;
use crate::servers::{Server, ask_redis};
use crate::{Outcome, payload};

const PER_SECOND: u64 = 200_000;
/// Channels that the pattern matches.
const CHANNELS: u64 = 1000;
const BATCH: u64 = 2000;

/// The result of a flood of messages.
struct Flood {
    published: u64,
    seconds: f64,
    most_output: u64,
}

pub(super) fn measure(run: &mut Run) -> Outcome {
    let cell = Cell { subscribers: 1, ..run.cell("intake", Server::Ssegate, Mode::HTTP1) };
    let running = Server::Ssegate.start(&run.site, &cell.settings)?;
    warm_code(&running, &run.site, cell.mode)?;
    let mut place = running.place(&run.site, cell.mode)?;
    follow_pattern(&running, place.clone())?;
    place.path = "/events/".into();
    let mut load = Load::new(running.publisher()?, cell.payload)?;
    load.open(&place, 1, 0, 1)?;
    load.warm_up(0.3)?;
    load.tally.latencies = Some(Vec::new());

    let redis = running.redis().ok_or("the gateway has a Redis")?;
    let admin = running.admin.ok_or("the gateway has an admin listener")?;
    let before = received(admin)?;
    let cpu = running.cpu();
    let is_over = AtomicBool::new(false);
    let (flood, window) = thread::scope(|scope| {
        let flood = scope.spawn(|| flood(redis, cell.payload, &is_over).map_err(|e| e.to_string()));
        let window = load.run(run.options.seconds, Pace::Rate(run.options.rate));
        is_over.store(true, Ordering::Relaxed);
        (flood.join(), window)
    });
    let flood = flood.map_err(|_panic| "the flood panicked")??;
    window?;
    let share = (running.cpu() - cpu) / flood.seconds;
    // What is still on its way, if it has fallen behind.
    let expected = before + flood.published;
    let caught_up =
        crate::machine::wait(10.0, || received(admin).is_ok_and(|now| now >= expected))?;
    let mut figures = percentiles(load.tally.latencies.take().unwrap_or_default());
    figures.extend([
        ("published_per_s", flood.published as f64 / flood.seconds),
        ("cpu_share", share),
        ("cpu_us", share * flood.seconds * 1e6 / flood.published as f64),
        ("most_output_buffer_bytes", flood.most_output as f64),
        ("all_received", f64::from(u8::from(caught_up))),
    ]);
    run.keep_all(&cell, figures);
    Ok(())
}

/// Opens a stream of the pattern and closes it: the gateway follows the pattern for the time of its linger.
fn follow_pattern(running: &crate::servers::Running, mut place: crate::load::Place) -> Outcome {
    place.path = "/patterns/load*".into();
    let mut load = Load::new(running.publisher()?, 100)?;
    load.open(&place, 1, 0, 1)?;
    load.run(0.5, Pace::Silence)?;
    drop(load);
    crate::machine::wait(0.3, || false).map(drop)
}

fn flood(redis: SocketAddr, bytes: usize, is_over: &AtomicBool) -> Outcome<Flood> {
    let payload = "x".repeat(bytes.max(payload::MIN_BYTES));
    let mut batch = String::new();
    for message in 0..BATCH {
        let channel = format!("load{}c0", message % CHANNELS);
        let (name, length) = (channel.len(), payload.len());
        write!(batch, "*3\r\n$7\r\nPUBLISH\r\n${name}\r\n{channel}\r\n${length}\r\n{payload}\r\n")?;
    }
    let mut stream = TcpStream::connect(redis)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    // `:1` for the gateway's one pattern.
    let mut answers = vec![0; 4 * BATCH as usize];
    let mut flood = Flood { published: 0, seconds: 0.0, most_output: 0 };
    let started = clock::now();
    let mut looked = started;
    while !is_over.load(Ordering::Relaxed) {
        let due = started + clock::seconds(flood.published as f64 / PER_SECOND as f64);
        let now = clock::now();
        if now < due {
            thread::park_timeout(Duration::from_nanos(due - now));
            continue;
        }
        stream.write_all(batch.as_bytes())?;
        stream.read_exact(&mut answers)?;
        if !answers.starts_with(b":1\r\n") {
            return Err("the gateway does not follow the pattern".into());
        }
        flood.published += BATCH;
        if clock::now() > looked + 50 * MILLISECOND {
            looked = clock::now();
            flood.most_output = flood.most_output.max(output_buffer(redis)?);
        }
    }
    flood.seconds = clock::as_seconds(clock::now() - started);
    Ok(flood)
}

/// What waits at Redis for the gateway (`omem` of its connection), in bytes.
fn output_buffer(redis: SocketAddr) -> Outcome<u64> {
    let clients = ask_redis(redis, "CLIENT LIST")?;
    let gateway = clients.lines().find(|client| client.contains("name=ssegate"));
    let omem = gateway.and_then(|client| client.split(" omem=").nth(1)?.split(' ').next());
    Ok(omem.ok_or("the gateway is not connected to Redis")?.parse()?)
}

/// Messages that the gateway has received, by its own count.
fn received(admin: SocketAddr) -> Outcome<u64> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let line = text.lines().find_map(|l| l.strip_prefix("ssegate_redis_messages_received_total "));
    Ok(line.ok_or("no count of messages among the metrics")?.trim().parse()?)
}
