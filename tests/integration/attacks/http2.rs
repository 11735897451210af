//! Frames that are cheap to send and dear to take.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use super::Scene;
use super::table::{judge, mib};
use crate::support::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE,
};
use crate::support::{Frame, FrameConnection, Gateway, SOON, Via, eventually, within};

const ENHANCE_YOUR_CALM: u32 = 11;

async fn attacker(gateway: &Gateway) -> FrameConnection {
    let mut connection = FrameConnection::over(Via::Http2.connect(gateway.address("https")).await);
    connection.send_bytes(PREFACE).await;
    connection.send(&Frame::of_settings(&[])).await;
    connection.next_of(SETTINGS).await;
    connection
}

/// Waits for the GOAWAY and for the end, and gives the GOAWAY's code.
async fn cut_off(connection: &mut FrameConnection) -> u32 {
    within(SOON, "the attacker is cut off", async {
        let goaway = connection.next_of(GOAWAY).await.expect("a GOAWAY before the end");
        while connection.next().await.is_some() {}
        goaway.goaway_code()
    })
    .await
}

fn reset(stream: u32) -> Frame {
    Frame::new(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

fn post(stream: u32, path: &str) -> Frame {
    let fields =
        [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    Frame::request(stream, 0, &fields)
}

/// Sends as long as it may, never faster than the other side reads.
async fn flood(connection: &mut FrameConnection, bytes: &[u8], limit: Duration) {
    let flood = async { while connection.try_send_bytes(bytes).await {} };
    drop(tokio::time::timeout(limit, Box::pin(flood)).await);
}

#[tokio::test]
async fn requests_that_are_taken_back() {
    let scene = Scene::set("").await;
    let gateway = &scene.gateway;

    let (before, begun) = (scene.cut("resets").await, scene.silent.begun());
    let (code, toll) = scene
        .crowd
        .under(async {
            let mut connection = attacker(gateway).await;
            let pairs = (0..2000).map(|number| 2 * number + 1);
            let pairs = pairs.flat_map(|stream| [Frame::get(stream, "/silent"), reset(stream)]);
            connection.send_all(pairs).await;
            cut_off(&mut connection).await
        })
        .await;
    assert_eq!(code, ENHANCE_YOUR_CALM);
    scene.is_cut("resets", before, 1.0).await;
    let dispatched = (scene.silent.begun() - begun) as f64;
    judge(
        "Rapid Reset, 2,000 at once",
        &toll,
        &[("dispatched", 20.0, dispatched), ("MiB", 4.0, mib(toll.resident))],
    );

    let (before, begun) = (scene.cut("resets").await, scene.silent.begun());
    let (code, toll) = scene
        .crowd
        .under(async {
            let mut connection = attacker(gateway).await;
            for number in 0..1000 {
                let stream = 2 * number + 1;
                connection.send(&Frame::get(stream, "/silent")).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
                connection.send(&reset(stream)).await;
            }
            cut_off(&mut connection).await
        })
        .await;
    assert_eq!(code, ENHANCE_YOUR_CALM);
    scene.is_cut("resets", before, 1.0).await;
    let dispatched = (scene.silent.begun() - begun) as f64;
    // It never answers: who waits for an answer waits for a minute.
    eventually(SOON, "the backend is left alone", async || scene.silent.open() == 0).await;
    judge("Rapid Reset, every 2 ms", &toll, &[("dispatched", 100.0, dispatched)]);
}

#[tokio::test]
async fn faults_that_make_us_reset() {
    let scene = Scene::set("").await;
    let gateway = &scene.gateway;
    let by = |stream, more: u32| Frame::new(WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
    let variants: [(&str, &dyn Fn(u32) -> Frame); 5] = [
        ("a window beyond 31 bits", &|stream| by(stream, (1 << 31) - 1)),
        ("a window that grows by 0", &|stream| by(stream, 0)),
        ("a stream that depends on itself", &|stream| {
            Frame::new(PRIORITY, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat())
        }),
        ("a priority of 4 octets", &|stream| Frame::new(PRIORITY, 0, stream, &[0; 4])),
        ("DATA behind the end", &|stream| Frame::new(DATA, END_STREAM, stream, b"x")),
    ];
    for (what, fault) in variants {
        let (before, begun) = (scene.cut("faults").await, scene.silent.begun());
        let (code, toll) = scene
            .crowd
            .under(async {
                let mut connection = attacker(gateway).await;
                for number in 0..300 {
                    let stream = 2 * number + 1;
                    connection.send(&Frame::get(stream, "/silent")).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    connection.send(&fault(stream)).await;
                }
                cut_off(&mut connection).await
            })
            .await;
        assert_eq!(code, ENHANCE_YOUR_CALM, "{what}");
        scene.is_cut("faults", before, 1.0).await;
        let dispatched = (scene.silent.begun() - begun) as f64;
        let bounds = [("dispatched", 64.0, dispatched), ("MiB", 4.0, mib(toll.resident))];
        judge(&format!("MadeYouReset: {what}"), &toll, &bounds);
    }
}

#[tokio::test]
async fn headers_without_measure() {
    let scene = Scene::set("").await;
    let gateway = &scene.gateway;
    let (code, toll) = scene
        .crowd
        .under(async {
            let mut connection = attacker(gateway).await;
            let mut head = Frame::get(1, "/site");
            head.flags = END_STREAM;
            let more = Frame::new(CONTINUATION, 0, 1, b"\x00\x01a\x01b");
            connection
                .send_all(std::iter::once(head).chain((0..10_000).map(|_| more.clone())))
                .await;
            cut_off(&mut connection).await
        })
        .await;
    assert_eq!(code, ENHANCE_YOUR_CALM);
    scene.is_cut("headers", 0.0, 1.0).await;
    judge("CONTINUATION flood, 10,000 frames", &toll, &[("MiB", 2.0, mib(toll.resident))]);

    let before = scene.cut("headers").await;
    let (code, toll) = scene
        .crowd
        .under(async {
            let mut connection = attacker(gateway).await;
            let mut block = Frame::get(1, "/site").payload;
            block.extend(b"\x40\x01x\x7f\xa1\x1e");
            block.extend([b'y'; 4000]);
            block.extend([0x80 | 62; 8000]);
            connection.send(&Frame::new(HEADERS, END_STREAM | END_HEADERS, 1, &block)).await;
            cut_off(&mut connection).await
        })
        .await;
    assert_eq!(code, ENHANCE_YOUR_CALM);
    scene.is_cut("headers", before, 1.0).await;
    judge("HPACK bomb, 8,000 x 4 KB", &toll, &[("MiB", 2.0, mib(toll.resident))]);

    let (refused, toll) = scene
        .crowd
        .under(async {
            let mut connection = attacker(gateway).await;
            let mut refused = 0;
            for (number, kib) in [17_usize, 40, 70].into_iter().enumerate() {
                let stream = 2 * u32::try_from(number).unwrap() + 1;
                let large = "x".repeat(kib << 10);
                let mut fields = vec![
                    (":method", "GET"),
                    (":scheme", "http"),
                    (":path", "/site"),
                    (":authority", "localhost"),
                ];
                fields.push(("x-large", large.as_str()));
                let block = Frame::request(stream, END_STREAM, &fields).payload;
                let mut pieces = block.chunks(16 << 10);
                let first = pieces.next().unwrap();
                connection.send(&Frame::new(HEADERS, END_STREAM, stream, first)).await;
                for piece in pieces {
                    connection.send(&Frame::new(CONTINUATION, 0, stream, piece)).await;
                }
                connection.send(&Frame::new(CONTINUATION, END_HEADERS, stream, b"")).await;
                let answer = within(SOON, "431", connection.next_of(HEADERS)).await.unwrap();
                // The first octet is the size of the table, then a literal value for name 8.
                let is_refused = memchr::memmem::find(&answer.payload, b"431").is_some();
                refused += u32::from(answer.stream == stream && is_refused);
            }
            connection.send(&Frame::get(99, "/site")).await;
            let fine = within(SOON, "200", connection.next_of(HEADERS)).await.unwrap();
            refused + u32::from(fine.payload.contains(&0x88))
        })
        .await;
    let bounds = [
        ("unexpected answers of 4", 0.0, f64::from(4 - refused)),
        ("MiB", 2.0, mib(toll.resident)),
    ];
    judge("headers of 17, 40 and 70 KB: 431", &toll, &bounds);
}

/// What asks for nothing: cut off by its number.
async fn floods(seconds: u64, is_long: bool) {
    let scene = Scene::set("").await;
    let gateway = &scene.gateway;
    let (_, calm) = scene.crowd.under(tokio::time::sleep(Duration::from_secs(3))).await;
    let many = |frame: Frame| frame.encode().repeat(200);
    let empty_data =
        [post(1, "/silent").encode(), Frame::new(DATA, 0, 1, b"").encode().repeat(3000)];
    for (what, bytes, reads) in [
        ("PING, unread", many(Frame::new(PING, 0, 0, b"12345678")), false),
        ("PING, read", many(Frame::new(PING, 0, 0, b"12345678")), true),
        ("SETTINGS, unread", many(Frame::of_settings(&[(4, 65_535)])), false),
        ("SETTINGS, read", many(Frame::of_settings(&[(4, 1), (4, 65_535)])), true),
        ("PRIORITY", many(Frame::new(PRIORITY, 0, 1, &[0, 0, 0, 3, 0])), true),
        ("an unknown type", many(Frame::new(0xbe, 0, 0, b"")), true),
        ("WINDOW_UPDATE", many(Frame::new(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())), true),
        ("empty DATA", empty_data.concat(), true),
    ] {
        let before = scene.cut("flood").await;
        let (cuts, toll) = scene
            .crowd
            .under(async {
                let mut attackers = tokio::task::JoinSet::new();
                let until = Instant::now() + Duration::from_secs(seconds);
                for _ in 0..4 {
                    let (gateway, bytes) = (std::sync::Arc::clone(gateway), bytes.clone());
                    attackers.spawn(async move {
                        let mut cuts = 0;
                        loop {
                            let mut connection = attacker(&gateway).await;
                            if reads {
                                let (mut reader, mut writer) = connection.split();
                                let flood = async {
                                    while writer.write_all(&bytes).await.is_ok()
                                        && writer.flush().await.is_ok()
                                    {
                                    }
                                };
                                let read = async { while reader.next().await.is_some() {} };
                                tokio::select! { () = flood => {}, () = read => {} }
                            } else {
                                flood(&mut connection, &bytes, SOON).await;
                            }
                            cuts += 1;
                            if Instant::now() >= until {
                                return cuts;
                            }
                            // What a handshake costs is another attack's question.
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                    });
                }
                attackers.join_all().await.into_iter().sum::<u32>()
            })
            .await;
        assert!(cuts >= 4);
        scene.is_cut("flood", before, f64::from(cuts)).await;
        let mut bounds = vec![("MiB", 8.0, mib(toll.resident))];
        if is_long {
            // Attackers, readers and others work on the same processors: less than that says nothing.
            let bound = (2 * calm.p99).max(Duration::from_millis(100));
            bounds.push(("p99 ms", bound.as_millis() as f64, toll.p99.as_millis() as f64));
        }
        judge(&format!("flood of 4: {what}"), &toll, &bounds);
    }
}

#[tokio::test]
async fn frames_that_ask_for_nothing() {
    floods(0, false).await;
}

// The attackers do not keep those waiting who measure.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes its time: run by tests/run --full"]
async fn long_frames_that_ask_for_nothing() {
    floods(10, true).await;
}

#[tokio::test]
async fn bodies_in_crumbs_and_streams_without_end() {
    let scene = Scene::set("").await;
    let gateway = &scene.gateway;
    let (_, toll) = scene
        .crowd
        .under(async {
            // As much as the window of a connection holds, an octet at a time.
            let mut connection = attacker(gateway).await;
            for number in 0..16 {
                let stream = 2 * number + 1;
                connection.send(&post(stream, "/silent")).await;
                let crumbs = Frame::new(DATA, 0, stream, b"x").encode().repeat(60_000);
                connection.send_bytes(&crumbs).await;
            }
            connection.send(&Frame::new(PING, 0, 0, b"is it so")).await;
            let done = async {
                while connection.next_of(PING).await.expect("goes on").flags & ACK == 0 {}
            };
            within(2 * SOON, "all is taken", done).await;
        })
        .await;
    judge("DATA of one octet, 960,000 times", &toll, &[("MiB", 16.0, mib(toll.resident))]);

    let (refused, toll) = scene
        .crowd
        .under(async {
            let mut connection = attacker(gateway).await;
            let gets = (0..1000).map(|number| Frame::get(2 * number + 1, "/events/other"));
            connection.send_all(gets).await;
            let mut refused = 0;
            while refused < 1000 - 256 {
                let reset = within(SOON, "REFUSED_STREAM", connection.next_of(RST_STREAM)).await;
                assert_eq!(reset.unwrap().number(0), 7);
                refused += 1;
            }
            refused
        })
        .await;
    let bounds = [("streams", 256.0, f64::from(1000 - refused)), ("MiB", 16.0, mib(toll.resident))];
    judge("1,000 streams on one connection", &toll, &bounds);
}

/// Much padding and little data: what nobody reads has to be given back too.
#[tokio::test]
async fn an_upload_that_is_mostly_padding_gets_on() {
    let scene = Scene::set("").await;
    let mut connection = attacker(&scene.gateway).await;
    connection.send(&post(1, "/site")).await;
    let piece = [&[255][..], b"x", &[0; 255]].concat();
    let upload = async {
        let (mut window, mut all) = (64_i64 << 10, 1_i64 << 20);
        for number in 0..2000 {
            while window.min(all) < 257 {
                let update = connection.next_of(WINDOW_UPDATE).await.expect("the upload goes on");
                let more = i64::from(update.number(0));
                if update.stream == 0 { all += more } else { window += more }
            }
            let last = if number == 1999 { END_STREAM } else { 0 };
            connection.send(&Frame::new(DATA, 8 | last, 1, &piece)).await;
            window -= 257;
            all -= 257;
        }
        connection.next_of(HEADERS).await.expect("an answer")
    };
    let answer = within(SOON, "a padded upload", Box::pin(upload)).await;
    assert!(memchr::memmem::find(&answer.payload, b"2000").is_some(), "all has come");
}
