//! Pipelined requests (RFC 9112, section 9.3.2): where each ends does not depend on how they arrive.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::recorder::{Recorder, RequestEnd};
use crate::support::{Gateway, Redis, SOON, Upstream, eventually, unread_bytes_of, within};

/// A POST whose body looks like header fields: what stands before the empty line has `length` bytes.
fn post_of_fields(length: usize) -> (String, String) {
    let body: String = (0..200).map(|n| format!("x-smuggled-{n}: {n}\r\n")).collect();
    let begin =
        format!("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nX-Fill: ", body.len());
    let fill = "y".repeat(length - begin.len() - 2);
    (format!("{begin}{fill}\r\n"), format!("\r\n{body}"))
}

/// Reads until `count` responses have come.
async fn read_responses(client: &mut TcpStream, count: usize) {
    let mut seen = Vec::new();
    while memchr::memmem::find_iter(&seen, b"\r\n\r\nok").count() < count {
        let read = within(SOON, "the responses", client.read_buf(&mut seen)).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
    }
}

#[tokio::test]
async fn the_body_of_a_pipelined_request_is_never_read_as_its_fields() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::build(&redis).routes(&upstream.route("/{*rest}")).start().await;
    // Together with the first request, while that is answered, and both.
    for first in [2048, 0, 100] {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        let (head, body) = post_of_fields(2048);
        let first = format!("GET /a HTTP/1.1\r\nHost: a\r\n\r\n{}", &head[..first]);
        client.write_all(first.as_bytes()).await.unwrap();
        let call = upstream.call().await;
        assert_eq!(call.line(), "GET /a HTTP/1.1");
        let rest = &format!("GET /a HTTP/1.1\r\nHost: a\r\n\r\n{head}")[first.len()..];
        client.write_all(rest.as_bytes()).await.unwrap();
        let has_read = async || unread_bytes_of(client.local_addr().unwrap()) == 0;
        eventually(SOON, "the gateway has read what has arrived", has_read).await;
        call.answer("200 OK", "", "ok").await;
        read_responses(&mut client, 1).await;
        client.write_all(body.as_bytes()).await.unwrap();
        let call = upstream.call().await;
        assert_eq!(call.line(), "POST /b HTTP/1.1");
        assert!(!call.head.contains("smuggled"), "{}", call.head);
        assert_eq!(String::from_utf8_lossy(&call.body), body[2..]);
        call.answer("200 OK", "", "ok").await;
        read_responses(&mut client, 1).await;
    }
}

/// A request as it is sent, and what the backend is to see of it.
struct Sent {
    octets: Vec<u8>,
    line: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Any request, with a body that looks like anything.
fn any_request(random: &mut fastrand::Rng, number: usize) -> Sent {
    let body: String = (0..random.usize(..200))
        .map(|n| match random.u8(..6) {
            0 => "\r\n".to_owned(),
            1 => "\n".to_owned(),
            2 => format!("GET /smuggled/{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
            3 => format!("5\r\nx-{n}: "),
            _ => format!("x-body-{n}: {n}\r\n"),
        })
        .collect();
    let body = if random.bool() { body.into_bytes() } else { Vec::new() };
    let line = format!("{} /{number} HTTP/1.1", if body.is_empty() { "GET" } else { "POST" });
    let count = *random.choice(&[0, 3, 88, 95, 300]).unwrap();
    let fields: Vec<_> = (0..count).map(|n| (format!("x-own-{n}"), n.to_string())).collect();
    let mut head: Vec<String> =
        fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let is_chunked = !body.is_empty() && random.bool();
    let framing = if is_chunked {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", body.len())
    };
    let at = random.usize(..=head.len());
    head.insert(at, framing);
    let head = format!("{line}\r\nHost: a\r\n{}\r\n\r\n", head.join("\r\n"));
    let mut octets = head.into_bytes();
    if is_chunked {
        for chunk in body.chunks(random.usize(1..500)) {
            let extension = if random.bool() { ";a=\"b\"" } else { "" };
            octets.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
            octets.extend_from_slice(chunk);
            octets.extend_from_slice(b"\r\n");
        }
        octets.extend_from_slice(b"0\r\n\r\n");
    } else {
        octets.extend_from_slice(&body);
    }
    Sent { octets, line, fields, body }
}

#[tokio::test]
async fn pipelined_requests_are_the_same_however_they_are_cut() {
    let redis = Redis::start().await;
    let backend = Recorder::start().await;
    let gateway = Gateway::build(&redis).routes(&backend.route("/{*rest}")).start().await;
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let sent: Vec<_> = (0..random.usize(2..7)).map(|n| any_request(&mut random, n)).collect();
        let octets: Vec<u8> = sent.iter().flat_map(|sent| sent.octets.clone()).collect();
        let client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (mut reader, mut writer) = client.into_split();
        let writing = tokio::spawn(async move {
            let mut rest = &octets[..];
            while !rest.is_empty() {
                let most = *random.choice(&[3, 100, 2048, 100_000]).unwrap();
                let (piece, other) = rest.split_at(random.usize(1..=most).min(rest.len()));
                writer.write_all(piece).await.unwrap();
                rest = other;
                if random.u8(..4) == 0 {
                    tokio::time::sleep(Duration::from_millis(random.u64(..3))).await;
                }
            }
            writer
        });
        let mut seen = Vec::new();
        while memchr::memmem::find_iter(&seen, b"\r\n\r\nok").count() < sent.len() {
            let read = within(SOON, "the responses", reader.read_buf(&mut seen)).await.unwrap();
            assert!(read > 0, "seed {seed}: {}", String::from_utf8_lossy(&seen));
        }
        drop(writing.await.unwrap());
        let recorded = backend.take();
        assert_eq!(recorded.len(), sent.len(), "seed {seed}");
        for (recorded, sent) in recorded.iter().zip(&sent) {
            assert_eq!((recorded.line(), recorded.end), (&*sent.line, RequestEnd::Complete));
            assert!(recorded.body == sent.body, "seed {seed}: {}", sent.line);
            let own = recorded.head.lines().filter_map(|line| line.split_once(": "));
            let mut own: Vec<_> = own.filter(|(name, _)| name.starts_with("x-")).collect();
            own.retain(|(name, _)| !name.starts_with("x-forwarded") && *name != "x-real-ip");
            let fields = sent.fields.iter();
            let mut fields: Vec<_> = fields.map(|(name, value)| (&**name, &**value)).collect();
            // Fields of different names have no order (RFC 9110, section 5.3).
            own.sort_unstable();
            fields.sort_unstable();
            assert_eq!(own, fields, "seed {seed}: {}", sent.line);
        }
    }
}
