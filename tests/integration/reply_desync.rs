//! Row 16 of the fault matrix: a Redis that says things nobody asked for, between its answers. No
//! value of one key is ever delivered for another.
//!
//! A real Redis does so when slots move or keys are tracked, and cannot be made to at will.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Gateway, Redis, Via};

const KEYS: usize = 10;

/// Listens where a Redis should.
struct Fake {
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Fake {
    async fn start(messages: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, messages));
            }
        });
        Self { address, _task: AbortOnDropHandle::new(task) }
    }
}

async fn serve(mut socket: TcpStream, messages: usize) {
    let mut input = Vec::new();
    let mut subscribed = 0;
    while matches!(socket.read_buf(&mut input).await, Ok(1..)) {
        let mut output = Vec::new();
        while let Some(words) = take_command(&mut input) {
            if words[0] != "HELLO" {
                output.extend(noise());
            }
            output.extend(answer(&words));
            if words[0] == "SUBSCRIBE" {
                subscribed += words.iter().filter(|word| word.starts_with('k')).count();
            }
        }
        // Once all are there, everything that is published, with what nobody asked for in between.
        if subscribed == KEYS {
            subscribed += 1;
            for number in 0..messages {
                let key = format!("k{}", number % KEYS);
                let value = format!("{key}:{number}");
                output.extend(noise());
                output.extend(
                    format!(">3\r\n{}{}{}", bulk("message"), bulk(&key), bulk(&value)).bytes(),
                );
            }
        }
        if socket.write_all(&output).await.is_err() {
            return;
        }
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// What nobody asked for.
fn noise() -> Vec<u8> {
    let key = format!("k{}", fastrand::usize(..KEYS));
    let push = match fastrand::usize(..6) {
        0 => format!(">3\r\n{}{}:0\r\n", bulk("sunsubscribe"), bulk(&key)),
        1 => format!(">2\r\n{}*1\r\n{}", bulk("invalidate"), bulk(&key)),
        2 => format!(">3\r\n{}{}{}", bulk("smessage"), bulk(&key), bulk("for nobody")),
        _ => String::new(),
    };
    push.into_bytes()
}

fn answer(words: &VecDeque<String>) -> Vec<u8> {
    let key = words.get(1).cloned().unwrap_or_default();
    let entry =
        |id: &str, data: &str| format!("*2\r\n{}*2\r\n{}{}", bulk(id), bulk("data"), bulk(data));
    let text = match words[0].as_str() {
        "HELLO" => format!("%1\r\n{}:7\r\n", bulk("id")),
        "SUBSCRIBE" => {
            let names = words.iter().skip(1);
            names.map(|name| format!(">3\r\n{}{}:1\r\n", bulk("subscribe"), bulk(name))).collect()
        }
        "XINFO" => format!(
            "%4\r\n{}:2\r\n{}:2\r\n{}{}{}{}",
            bulk("length"),
            bulk("entries-added"),
            bulk("last-generated-id"),
            bulk("5-0"),
            bulk("first-entry"),
            entry("1-0", "old")
        ),
        // The client's own entry, and the newest.
        "XRANGE" if words[2] == "1-0" => {
            format!("*2\r\n{}{}", entry("1-0", "old"), entry("5-0", &words[1]))
        }
        "XRANGE" => format!("*1\r\n{}", entry(&words[2], &words[1])),
        // It waits.
        "XREAD" => String::new(),
        "PING" => "+PONG\r\n".to_owned(),
        "CLIENT" => ":1\r\n".to_owned(),
        _ => format!("-NOPERM {key}\r\n"),
    };
    text.into_bytes()
}

/// The next command, once all of it is there.
fn take_command(input: &mut Vec<u8>) -> Option<VecDeque<String>> {
    let mut at = 0;
    let mut line = |input: &[u8]| {
        let end = at + memchr::memmem::find(&input[at..], b"\r\n")?;
        let text = String::from_utf8(input[at..end].to_vec()).unwrap();
        at = end + 2;
        Some(text)
    };
    let count: usize = line(input)?[1..].parse().unwrap();
    let mut words = VecDeque::new();
    for _ in 0..count {
        line(input)?;
        words.push_back(line(input)?);
    }
    input.drain(..at);
    Some(words)
}

async fn gateway(fake: &Fake) -> Arc<Gateway> {
    let routes = "- path: /published/{channel}\n  events: { channels: [\"{channel}\"] }\n\
                  - path: /added/{channel}\n  events: { channels: [\"{channel}\"], source: stream }\n";
    let nowhere = Redis::stopped(&[]);
    let url = format!("redis://{}", fake.address);
    let settings = "sse: { queue: { bytes: 64MiB } }";
    Arc::new(
        Gateway::build(&nowhere).redis_url(&url).settings(settings).routes(routes).start().await,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_16_what_nobody_asked_for_is_taken_for_no_message() {
    const MESSAGES: usize = 10_000;
    let fake = Fake::start(MESSAGES).await;
    let gateway = gateway(&fake).await;
    let mut streams = Vec::new();
    for key in 0..KEYS {
        streams.push(gateway.subscribe(&format!("/published/k{key}")).await);
    }
    for (key, stream) in streams.iter_mut().enumerate() {
        for number in (key..MESSAGES).step_by(KEYS) {
            assert_eq!(stream.next_event().await.data, format!("k{key}:{number}"));
        }
    }
}

/// Asks for so many pieces of the past, some together.
async fn ask(times: usize) {
    const TOGETHER: usize = 20;
    let fake = Fake::start(0).await;
    let gateway = gateway(&fake).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..TOGETHER {
        let gateway = Arc::clone(&gateway);
        clients.spawn(async move {
            for _ in 0..times / TOGETHER {
                let key = format!("k{}", fastrand::usize(..KEYS));
                let target = format!("/added/{key}");
                let mut back = gateway.resume(Via::Http1, &target, "1-0").await;
                let event = back.next_event().await;
                assert_eq!((event.data, event.id.as_str()), (key, "5-0"));
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_16_what_nobody_asked_for_is_taken_for_no_answer() {
    ask(1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: run by tests/run --full"]
async fn long_row_16_ten_thousand_answers_are_for_what_was_asked() {
    ask(10_000).await;
}
