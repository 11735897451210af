//! What is said a little at a time: heads, bodies, and answers that are hardly read. Row 21 of the
//! fault matrix; slowhttptest judges the same from outside, see `judges`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Scene;
use super::table::{judge, mib};
use crate::support::frames::{ACK, GOAWAY, PING};
use crate::support::{Frame, FrameConnection, Redis, Request, SOON, Site, Via, eventually, within};

const ATTACKERS: usize = 50;

/// Says an octet of it at a time, until the other side hangs up or there is an answer.
async fn drip(mut socket: TcpStream, begin: &[u8], then: &[u8]) -> Duration {
    let begun = Instant::now();
    socket.write_all(begin).await.unwrap();
    let (mut reader, mut writer) = socket.into_split();
    let say = async {
        for octet in then.iter().cycle() {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if writer.write_all(&[*octet]).await.is_err() {
                break;
            }
        }
    };
    let mut answer = Vec::new();
    tokio::select! {
        () = say => {}
        _ = reader.read_to_end(&mut answer) => {}
    }
    begun.elapsed()
}

/// Returns how many requests of others were served while all attackers were connected.
async fn visitors(scene: &Scene, is_over: &AtomicBool) -> usize {
    let mut served = 0;
    while !is_over.load(Ordering::SeqCst) {
        let response = scene.gateway.send(Via::Http2, Request::get("/site")).await;
        assert_eq!(response.status, 200, "service available");
        served += usize::from(!is_over.load(Ordering::SeqCst));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    served
}

#[tokio::test]
async fn heads_and_bodies_a_little_at_a_time() {
    let backend = Site::start("taken").await;
    let scene = Scene::with(Redis::start().await, |builder| {
        let route = backend.route("/upload").replace(" }", ", idle_timeout: 3s }");
        builder.settings("http1: { header_timeout: 3s }\nwrite_timeout: 3s").route(&route)
    })
    .await;
    let http = scene.gateway.address("http");
    let files = scene.gateway.open_files();
    for (what, begin, then) in [
        (
            "heads, an octet every 100 ms",
            &b"GET /site HTTP/1.1\r\nhost: a\r\n"[..],
            &b"x: y\r\n"[..],
        ),
        (
            "bodies that pause",
            b"POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nsome",
            b"",
        ),
    ] {
        let is_over = AtomicBool::new(false);
        let ((slowest, served), toll) = scene
            .crowd
            .under(async {
                let mut all = JoinSet::new();
                for _ in 0..ATTACKERS {
                    let socket = TcpStream::connect(http).await.unwrap();
                    all.spawn(async move {
                        match then {
                            [] => drip_nothing(socket, begin).await,
                            then => drip(socket, begin, then).await,
                        }
                    });
                }
                let attack = async {
                    let mut slowest = Duration::ZERO;
                    while let Some(one) = within(SOON, "all are closed", all.join_next()).await {
                        is_over.store(true, Ordering::SeqCst);
                        slowest = slowest.max(one.unwrap());
                    }
                    slowest
                };
                tokio::join!(attack, visitors(&scene, &is_over))
            })
            .await;
        let gone = async || scene.gateway.open_files() <= files + 5;
        eventually(SOON, "nothing is left", gone).await;
        assert!(served > 0, "nobody was served until the first attacker was cut off");
        // Sooner than the default of 10 s.
        let bounds =
            [("closed after s", 9.0, slowest.as_secs_f64()), ("MiB", 8.0, mib(toll.resident))];
        judge(&format!("{ATTACKERS} {what}"), &toll, &bounds);
    }
    scene.is_cut("header_timeout", 0.0, ATTACKERS as f64).await;
    let cut = scene.cut("header_timeout").await;
    assert_eq!(cut, ATTACKERS as f64);
    let refused = "route=\"/upload\"";
    let refused = scene.count("ssegate_http_requests_total", refused).await;
    assert!(refused >= ATTACKERS as f64, "408: {refused}");
}

/// Says what it begins with, and nothing more.
async fn drip_nothing(mut socket: TcpStream, begin: &[u8]) -> Duration {
    let begun = Instant::now();
    socket.write_all(begin).await.unwrap();
    let mut answer = Vec::new();
    drop(socket.read_to_end(&mut answer).await);
    begun.elapsed()
}

#[tokio::test]
async fn answers_that_nobody_reads() {
    let backend = Site::start(Box::leak("x".repeat(2 << 20).into_boxed_str())).await;
    let scene = Scene::with(Redis::start().await, |builder| {
        builder.settings("write_timeout: 2s").route(&backend.route("/large"))
    })
    .await;
    let http = scene.gateway.address("http");
    let files = scene.gateway.open_files();
    let (last, toll) = scene
        .crowd
        .under(async {
            let mut sockets = Vec::new();
            for _ in 0..ATTACKERS {
                let socket = TcpSocket::new_v4().unwrap();
                socket.set_recv_buffer_size(4 << 10).unwrap();
                let mut socket = socket.connect(http).await.unwrap();
                socket.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
                sockets.push(socket);
            }
            let asked = async || backend.begun() >= ATTACKERS;
            eventually(SOON, "all are being answered", asked).await;
            let begun = Instant::now();
            let gone = async || scene.gateway.open_files() <= files + 5;
            eventually(2 * SOON, "all are closed", gone).await;
            begun.elapsed()
        })
        .await;
    let bounds = [
        // Sooner than the default of 30 s.
        ("closed after s", 15.0, last.as_secs_f64()),
        ("MiB", 32.0, mib(toll.resident)),
        // Where large bodies are forwarded, a socket may hold four times `sockets.send_buffer` (64 KiB), which Linux doubles
        // (SO_SNDBUF in socket(7)). How much of that the bytes take, and how much their bookkeeping, depends on the sizes
        // of the writes. The sockets of the good streams are among them: on a busy machine their events wait, too.
        ("waiting MiB", ATTACKERS as f64 * 4.0 * 2.0 / 16.0 + 1.0, mib(toll.waiting as u64)),
    ];
    // A socket is closed before that is counted.
    scene.is_cut("write_timeout", 0.0, ATTACKERS as f64).await;
    assert_eq!(scene.cut("write_timeout").await, ATTACKERS as f64, "each is counted");
    judge(&format!("{ATTACKERS} answers that nobody reads"), &toll, &bounds);
}

/// Who answers every PING, and has nothing to ask, does not stay for ever.
#[tokio::test]
async fn who_is_there_and_wants_nothing() {
    let settings = "timeouts: { idle: 1s }\nhttp2: { keep_alive_interval: 500ms }";
    let scene = Scene::set(settings).await;
    let http = scene.gateway.address("http");
    let (last, toll) = scene
        .crowd
        .under(async {
            let begun = Instant::now();
            let mut all = JoinSet::new();
            for _ in 0..ATTACKERS {
                all.spawn(async move {
                    let mut connection = FrameConnection::open(http, &[]).await;
                    connection.send(&Frame::get(1, "/site")).await;
                    let mut pings = tokio::time::interval(Duration::from_millis(100));
                    let (mut reader, mut writer) = connection.split();
                    loop {
                        tokio::select! {
                            frame = reader.next() => match frame {
                                None => return,
                                Some(frame) if frame.kind == GOAWAY => assert_eq!(frame.goaway_code(), 0),
                                Some(frame) if frame.kind == PING && frame.flags & ACK == 0 => {
                                    let pong = Frame::new(PING, ACK, 0, &frame.payload);
                                    drop(writer.write_all(&pong.encode()).await);
                                }
                                Some(_) => {}
                            },
                            _ = pings.tick() => {
                                let ping = Frame::new(PING, 0, 0, b"still on").encode();
                                drop(writer.write_all(&ping).await);
                            }
                        }
                    }
                });
            }
            within(SOON, "all are closed", all.join_all()).await;
            begun.elapsed()
        })
        .await;
    // Sooner than the default of 60 s.
    let bounds = [("closed after s", 15.0, last.as_secs_f64()), ("MiB", 8.0, mib(toll.resident))];
    judge(&format!("{ATTACKERS} that answer PINGs and ask nothing"), &toll, &bounds);
}
