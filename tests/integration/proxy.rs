//! Everything that is not a stream goes to the backend, and its answer comes back unchanged.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::nginx::Nginx;
use crate::support::{Gateway, Redis, Request, SOON, Upstream, Via, free_port, within};

async fn in_front_of(redis: &Redis, upstream: &Upstream) -> Gateway {
    Gateway::build(redis).route(&upstream.route("/{*rest}")).start().await
}

#[tokio::test]
async fn a_request_reaches_the_backend_and_its_answer_comes_back() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;

    for via in Via::ALL {
        let request = Request::new("POST", "/orders/7%2F8?a=b%20c&d").header("x-mine", "yes");
        let serve = async {
            let call = upstream.call().await;
            assert_eq!(call.line(), "POST /orders/7%2F8?a=b%20c&d HTTP/1.1");
            assert_eq!(call.header("x-mine"), "yes");
            assert_eq!(call.body, b"two lines\r\nof text");
            call.answer("201 Created", "x-theirs: too\r\nset-cookie: a=1\r\n", "made").await;
        };
        let request = request.body(b"two lines\r\nof text");
        let (response, ()) = tokio::join!(gateway.send(via, request), serve);
        assert_eq!(response.status, 201, "{via:?}");
        assert_eq!(response.header("x-theirs"), "too");
        assert_eq!(response.header("set-cookie"), "a=1");
        assert_eq!(response.text().await, "made");
    }
}

#[tokio::test]
async fn the_root_goes_to_the_backend_too() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    let serve = async {
        let call = upstream.call().await;
        assert_eq!(call.line(), "GET / HTTP/1.1");
        call.answer("200 OK", "", "home").await;
    };
    let (response, ()) = tokio::join!(gateway.get("/"), serve);
    assert_eq!(response.text().await, "home");
}

#[tokio::test]
async fn each_piece_of_an_answer_arrives_before_the_next_is_written() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;

    for via in Via::ALL {
        let (response, mut call) = tokio::join!(gateway.send(via, Request::get("/slow")), async {
            let mut call = upstream.call().await;
            call.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            call
        });
        let mut body = response.body;
        for piece in ["first", "2nd", "third and last"] {
            call.write(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
            let arrived = within(SOON, "the piece just written", body.chunk()).await.unwrap();
            assert_eq!(arrived.unwrap(), piece.as_bytes(), "{via:?}");
        }
        call.write("0\r\n\r\n").await;
        assert_eq!(within(SOON, "the end", body.chunk()).await, Ok(None));
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_does_not_look_complete() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;

    for head in ["content-length: 100", "transfer-encoding: chunked"] {
        for via in Via::ALL {
            let (response, call) = tokio::join!(gateway.send(via, Request::get("/cut")), async {
                let mut call = upstream.call().await;
                call.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n")).await;
                call
            });
            drop(call);
            let mut body = response.body;
            let end = within(SOON, "the end of the body", body.rest()).await;
            assert!(end.is_err(), "{head} via {via:?}: {end:?}");
        }
    }
}

#[tokio::test]
async fn the_backend_is_told_when_the_client_leaves() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    for via in Via::ALL {
        let (response, call) = tokio::join!(gateway.send(via, Request::get("/slow")), async {
            let mut call = upstream.call().await;
            call.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
            call
        });
        drop(response);
        call.closed().await;
    }
}

#[tokio::test]
async fn a_status_of_the_backend_passes_unchanged() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    for status in ["204 No Content", "302 Found", "404 Not Found", "500 Oops", "503 Later"] {
        let serve = async { upstream.call().await.answer(status, "location: /x\r\n", "").await };
        let request = Request::events("/anything");
        let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), serve);
        assert!(status.starts_with(&response.status.to_string()), "{status}");
        assert_eq!(response.header("location"), "/x");
    }
}

#[tokio::test]
async fn a_backend_that_is_down_is_a_502_for_pages_and_a_retry_for_streams() {
    let redis = Redis::start().await;
    let down = format!(
        "- path: /{{*rest}}\n  proxy: {{ upstream: \"http://127.0.0.1:{}\" }}\n",
        free_port()
    );
    let gateway = Gateway::build(&redis).route(&down).start().await;

    for via in Via::ALL {
        assert_eq!(gateway.send(via, Request::get("/page")).await.status, 502, "{via:?}");

        // An `EventSource` gives up for good on a 502; after a 200 that ends it comes back.
        let stream = gateway.send(via, Request::events("/stream")).await.stream();
        let (reason, retry) = stream.sent_away().await;
        assert_eq!(reason, "the backend cannot be reached");
        assert!((500..=30_000).contains(&retry), "{retry}");

        let post = Request::new("POST", "/stream").header("accept", "text/event-stream");
        assert_eq!(gateway.send(via, post).await.status, 502, "not a GET");
    }
}

#[tokio::test]
async fn who_has_just_started_it_is_told_what_to_do_about_a_backend_that_is_not_there() {
    let redis = Redis::start().await;
    let backend = format!("http://127.0.0.1:{}", free_port());
    let route = format!("- path: /{{*rest}}\n  proxy: {{ upstream: \"{backend}\" }}\n");
    let gateway = Gateway::build(&redis).route(&route).start().await;
    let browser = |target: &str| Request::get(target).header("accept", "text/html,*/*;q=0.8");
    for via in Via::ALL {
        let page = gateway.send(via, browser("/")).await;
        assert_eq!((page.status, page.header("cache-control")), (502, "no-store"));
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        let text = page.text().await;
        for words in ["BACKEND_URL=", "ssegate pub news hello"] {
            assert!(text.contains(words), "{words} in {text}");
        }
        // It may be somebody else, behind a proxy that says nothing.
        for words in [backend.as_str(), "refused", "/events", "{*rest}"] {
            assert!(!text.contains(words), "{words} in {text}");
        }
        // Strangers learn nothing of the backend.
        for stranger in [
            browser("/").host("app.example"),
            browser("/").header("x-forwarded-for", "192.0.2.1"),
            Request::get("/").header("accept", "*/*"),
            Request::new("POST", "/").header("accept", "text/html"),
        ] {
            let plain = gateway.send(via, stranger).await;
            assert_eq!(plain.status, 502);
            let text = plain.text().await;
            assert_eq!(text, "502 Bad Gateway: the backend cannot be reached\n");
        }
    }
    gateway.logs(&backend).await;
}

#[tokio::test]
async fn visitors_behind_an_nginx_that_only_passes_on_do_not_get_the_start_page() {
    let redis = Redis::start().await;
    let backend = format!("http://127.0.0.1:{}", free_port());
    let route = format!("- path: /{{*rest}}\n  proxy: {{ upstream: \"{backend}\" }}\n");
    let gateway = Gateway::build(&redis).route(&route).start().await;
    let passes = format!("location / {{ proxy_pass http://{}; }}", gateway.address("http"));
    let nginx = Nginx::start(&passes).await;
    let visitor = Request::get("/").host("app.example").header("accept", "text/html");
    let response = visitor.send(Via::Http1, nginx.address()).await;
    assert_eq!(response.status, 502);
    assert_eq!(response.text().await, "502 Bad Gateway: the backend cannot be reached\n");
}

#[tokio::test]
async fn cookies_of_several_fields_reach_the_backend_as_one() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    let request = || Request::get("/").header("cookie", "a=1").header("cookie", "b=2");
    for via in Via::ALL {
        let serve = async {
            let call = upstream.call().await;
            assert_eq!(call.header("cookie"), "a=1; b=2", "{via:?}");
            assert_eq!(call.head.to_lowercase().matches("cookie:").count(), 1, "{via:?}");
            call.answer("200 OK", "", "ok").await;
        };
        let (response, ()) = tokio::join!(gateway.send(via, request()), serve);
        assert_eq!(response.status, 200);
    }
}

#[tokio::test]
async fn an_old_backend_does_not_make_the_gateway_old() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut call = upstream.call().await;
    call.write("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let mut line = [0; 15];
    within(SOON, "an answer", socket.read_exact(&mut line)).await.unwrap();
    assert_eq!(std::str::from_utf8(&line), Ok("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_a_502() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    for via in Via::ALL {
        let (response, _call) = tokio::join!(gateway.send(via, Request::get("/")), async {
            let mut call = upstream.call().await;
            let switch =
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n";
            call.write(format!("{switch}\r\n")).await;
            call
        });
        assert_eq!(response.status, 502, "{via:?}");
    }
}

#[tokio::test]
async fn headers_that_concern_one_connection_stay_on_it() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &upstream).await;
    let request = Request::get("/")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("x-kept", "1");
    let serve = async {
        let call = upstream.call().await;
        assert_eq!((call.header("x-hop"), call.header("keep-alive")), ("", ""));
        assert_eq!(call.header("x-kept"), "1");
        call.answer("200 OK", "keep-alive: timeout=9\r\n", "ok").await;
    };
    let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), serve);
    assert_eq!(response.header("keep-alive"), "");
}
