//! What two readers must not share: a matrix of two users with a planted secret each.
//!
//! The backend writes into each stream what it has seen of the request. A reader must not find there what only another
//! one has sent, and one who does not share finds what is its own.

use std::time::Duration;

use super::matrix;
use super::seeing_backend::SeeingBackend;
use super::users::{Fate, Row, User, token};
use crate::support::{EventStream, Gateway, Redis, Request, SOON, Via, within};

/// A gateway with a route for each row, and its backend.
async fn start(rows: &[Row], settings: &str) -> (Redis, SeeingBackend, Gateway) {
    let redis = Redis::start().await;
    let answer = |(at, row): (usize, &Row)| (format!("/r{at}/"), row.answer.to_owned());
    let backend = SeeingBackend::start(rows.iter().enumerate().map(answer).collect()).await;
    let address = backend.address();
    let mut gateway = Gateway::build(&redis).settings(settings);
    for (at, row) in rows.iter().enumerate() {
        let Row { share, route, proxy, .. } = row;
        gateway = gateway.route(&format!(
            "- path: /r{at}/{{*rest}}\n  proxy: {{ upstream: \"http://{address}\"{proxy} }}\n  \
             share: {{ {share} }}\n{route}"
        ));
    }
    let gateway = gateway.start().await;
    (redis, backend, gateway)
}

/// A user's stream, and the header with which it began.
async fn open(gateway: &Gateway, path: &str, user: &User, via: Via) -> (EventStream, String) {
    let via = user.via.unwrap_or(via);
    let target = format!("{path}{}", user.target);
    let mut request = Request::new(user.method, &target).host(user.host).body(user.body.as_bytes());
    request = request.header("accept", "text/event-stream");
    for (name, value) in &user.fields {
        request = request.header(name, value);
    }
    let response = gateway.send(via, request).await;
    let head = format!("{:?}", response.headers);
    (response.stream(), head)
}

/// Reads until the backend has spoken to both.
async fn read(stream: &mut EventStream) -> String {
    let mut read = String::new();
    loop {
        let event = stream.next_event().await;
        read.push_str(&event.data);
        if event.name == "again" {
            return read;
        }
    }
}

/// Opens both streams, one after the other, and gives all that each of them reads.
async fn meet(
    (gateway, backend): (&Gateway, &SeeingBackend),
    (path, via): (&str, Via),
    [first, second]: [&User; 2],
) -> [String; 2] {
    let (mut one, one_head) = open(gateway, path, first, via).await;
    let (mut two, two_head) = open(gateway, path, second, via).await;
    let mut both = std::pin::pin!(async { tokio::join!(read(&mut one), read(&mut two)) });
    let (one, two) = loop {
        // A stream that has just been opened may begin behind this; then the next is for it.
        backend.say_again(path).await;
        tokio::select! {
            both = &mut both => break both,
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
    };
    [one + &one_head, two + &two_head]
}

async fn check(rows: Vec<Row>, settings: &str, via: Via) {
    let (_redis, backend, gateway) = start(&rows, settings).await;
    for (at, row) in rows.iter().enumerate() {
        for (order, [first, second]) in [[0, 1], [1, 0]].into_iter().enumerate() {
            let path = format!("/r{at}/{order}");
            let name = format!("{}, user {first} first, {via:?}", row.name);
            let users = [&row.users[first], &row.users[second]];
            let meeting = meet((&gateway, &backend), (&path, via), users);
            let seen = Box::pin(within(SOON, &name, meeting)).await;
            for (own, other) in [(0, 1), (1, 0)] {
                let is_other =
                    |user: &User| !user.secret.is_empty() && user.secret != users[own].secret;
                if is_other(users[other]) {
                    let leaked = seen[own].contains(&users[other].secret);
                    assert!(!leaked, "{name}: {:?} in\n{}", users[other], seen[own]);
                }
                let is_told = matches!(row.fate, Fate::Apart(_) | Fate::Same);
                let told = seen[own].contains(&users[own].secret);
                assert!(told == is_told || users[own].secret.is_empty(), "{name}:\n{}", seen[own]);
            }
            let requests = match row.fate {
                Fate::Together | Fate::Same => 1,
                Fate::Apart(requests) | Fate::Untold(requests) => requests,
            };
            assert_eq!(backend.requests(&path), requests, "{name}");
            let cookies = seen.iter().map(|seen| seen.split_once("session="));
            let cookies: Vec<_> = cookies.flatten().map(|(_, rest)| &rest[..1]).collect();
            if row.answer.contains("set-cookie") {
                assert_eq!(cookies, ["2", "3"], "{name}: each its own, and nobody the first");
            }
        }
    }
}

#[tokio::test]
async fn no_reader_gets_what_is_anothers_over_http1() {
    check(matrix::direct(), "", Via::Http1).await;
}

#[tokio::test]
async fn no_reader_gets_what_is_anothers_over_http2() {
    check(matrix::direct(), "", Via::Http2).await;
}

#[tokio::test]
async fn no_reader_gets_what_is_anothers_behind_a_proxy() {
    check(matrix::behind_a_proxy(), "trusted_proxies: [127.0.0.1]", Via::Http1).await;
}

#[tokio::test]
async fn each_reader_passes_auth_before_it_shares() {
    let rows = matrix::direct();
    let at = rows.iter().position(|row| row.name == "a token of the query").expect("a row");
    let (_redis, backend, gateway) = start(&rows, "").await;
    let path = format!("/r{at}/auth");
    let (mut stream, _) = open(&gateway, &path, &rows[at].users[0], Via::Http1).await;
    assert_eq!(stream.next_event().await.name, "first");
    for (target, status) in [
        (format!("{path}/a"), 401),
        (format!("{path}/a?token={}x", token("bert")), 401),
        (format!("{path}/a?token={}", token("bert")), 200),
    ] {
        let request = Request::events(&target).host("app.example");
        assert_eq!(gateway.send(Via::Http1, request).await.status, status, "{target}");
    }
    assert_eq!(backend.requests(&path), 1);
}

/// Otherwise one reader could have the backend begin for all others where it likes: behind what will ever be.
#[tokio::test]
async fn where_one_reader_is_decides_nothing_for_another() {
    let rows = matrix::direct();
    let at = rows.iter().position(|row| row.name == "where a reader is").expect("a row");
    let (_redis, backend, gateway) = start(&rows, "").await;
    let path = format!("/r{at}/steered");
    let target = format!("{path}/a");
    let (mut first, _) = open(&gateway, &path, &rows[at].users[0], Via::Http1).await;
    assert!(first.next_event().await.data.contains("last-event-id: secret-one"));
    for via in [Via::Http1, Via::H2c] {
        let request = Request::events(&target).host("app.example");
        let mut second = gateway.send(via, request).await.stream();
        let event = second.next_event().await;
        assert!(event.name == "first" && !event.data.contains("secret-one"), "{event:?}");
    }
    assert_eq!(backend.requests(&path), 2);
}
