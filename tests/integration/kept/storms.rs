//! Many streams at once, whose readers are cut off at random and come back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{OWNER, SHARED};
use crate::support::{Gateway, Parser, Redis, Request, SOON, Via, measured, within};

const EVENTS: usize = 60;
const CUTS: usize = 3;

/// A backend that generates [`EVENTS`] events for each request, in pieces that are not events.
async fn generator() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, calls) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let count = Arc::clone(&calls);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(generate(socket, Arc::clone(&count)));
        }
    });
    (address, calls)
}

async fn generate(mut socket: TcpStream, calls: Arc<AtomicUsize>) {
    let mut head = Vec::new();
    while memchr::memmem::find(&head, b"\r\n\r\n").is_none() {
        match socket.read_buf(&mut head).await {
            Ok(read) if read > 0 => {}
            _ => return,
        }
    }
    calls.fetch_add(1, Ordering::SeqCst);
    let mut text = String::from(": begins\n\n");
    for number in 1..=EVENTS {
        text.push_str(&format!("data: {number} {}\n\n", "x".repeat(fastrand::usize(..200))));
        if number % 7 == 0 {
            text.push_str(": ping\n\n");
        }
    }
    let begin = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\
                 connection: close\r\n\r\n";
    if socket.write_all(begin.as_bytes()).await.is_err() {
        return;
    }
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(fastrand::usize(1..300).min(rest.len()));
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        if socket.write_all(chunk.as_bytes()).await.is_err() {
            return;
        }
        rest = after;
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..20))).await;
    }
    drop(socket.write_all(b"0\r\n\r\n").await);
}

/// A client that loses its connection some times, and goes on behind the last event that it saw whole.
async fn reads_all(gateways: Arc<Vec<Gateway>>, user: usize) {
    let owner = format!("Bearer {user}");
    let via = Via::ALL[user % 4];
    let ask =
        |method: &str, target: &str| Request::new(method, target).header("authorization", &owner);
    let body = format!("{{\"user\":{user}}}");
    let first = ask("POST", "/chat").body(body.as_bytes());
    // Each time another one, if there are several.
    let address = |cuts: usize| gateways[(user + cuts) % gateways.len()].address_for(via);
    let mut response = first.clone().send_within(4 * SOON, via, address(0)).await;
    let location = response.header("location").to_owned();
    let (mut seen, mut last, mut cuts) = (Vec::new(), String::new(), 0);
    loop {
        assert_eq!(response.status, 200, "of user {user}");
        let mut parser = Parser::default();
        let cut_after = if cuts < CUTS { fastrand::usize(..6000 / CUTS) } else { usize::MAX };
        let mut read = 0;
        let is_over = loop {
            match within(4 * SOON, "more", response.body.chunk()).await.unwrap() {
                None => break true,
                Some(bytes) => {
                    // Of the last chunk only a part arrives.
                    let arrived = bytes.len().min(cut_after - read);
                    parser.push(&bytes[..arrived]);
                    read += arrived;
                    if read >= cut_after {
                        break false;
                    }
                }
            }
        };
        while let Some(block) = parser.next() {
            if let Some(event) = block.event {
                seen.push(event.data.split(' ').next().unwrap().to_owned());
                last.clone_from(&event.id);
            }
        }
        if is_over {
            break;
        }
        drop(response);
        cuts += 1;
        let again = match cuts % 2 {
            _ if last.is_empty() => ask("GET", &location),
            0 => ask("GET", &location).header("last-event-id", &last),
            _ => first.clone().header("last-event-id", &last),
        };
        // Any of the shards.
        response = again.send_within(4 * SOON, via, address(cuts)).await;
        if response.status == 204 {
            break;
        }
    }
    let expected: Vec<_> = (1..=EVENTS).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected, "of user {user}");
}

async fn storm(streams: usize, (gateways, keep): (usize, &str)) {
    let redis = Redis::start().await;
    let (backend, calls) = generator().await;
    let mut all = Vec::new();
    while all.len() < gateways {
        let gateway = Gateway::build(&redis).settings("shards: 2").route(&format!(
            "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://{backend}\", max_connections: 5000 }}\n  \
             keep: {{ {keep} }}\n"
        ));
        all.push(gateway.start().await);
    }
    let gateways = Arc::new(all);
    let mut clients = JoinSet::new();
    for user in 0..streams {
        clients.spawn(reads_all(Arc::clone(&gateways), user));
    }
    while let Some(read) = clients.join_next().await {
        read.unwrap();
    }
    assert_eq!(calls.load(Ordering::SeqCst), streams, "one generation for each");
    let mut resumes = 0.0;
    for gateway in gateways.iter() {
        resumes += gateway.metrics().await.sum("ssegate_kept_resumes_total", &[]);
    }
    measured(&format!("{streams} streams, {resumes} resumes at {} gateways", gateways.len()));
    assert!(resumes >= f64::from(u32::try_from(streams).unwrap()), "they were cut");
}

#[tokio::test]
async fn fifty_streams_that_are_cut_three_times_have_every_event_once() {
    storm(50, (1, OWNER)).await;
}

/// The promise.
#[tokio::test]
#[ignore = "takes the whole machine"]
async fn long_a_thousand_streams_that_are_cut_three_times_have_every_event_once() {
    storm(1000, (1, OWNER)).await;
}

#[tokio::test]
async fn sixty_streams_that_are_cut_three_times_go_on_at_the_other_of_two_gateways() {
    storm(60, (2, SHARED)).await;
}

/// The promise.
#[tokio::test]
#[ignore = "takes the whole machine"]
async fn long_a_thousand_streams_that_are_cut_three_times_go_on_at_the_other_of_two_gateways() {
    storm(1000, (2, SHARED)).await;
}
