//! How requests are forwarded: to any kind of upstream, in time, and with the truth of where they
//! come from.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::time::Instant;

use crate::support::nginx::Nginx;
use crate::support::recorder::{Recorded, Recorder, RequestEnd};
use crate::support::{
    Gateway, Http2, Pem, Redis, Request, SOON, TlsClient, Upstream, Via, eventually, free_port,
    read_head, within,
};

/// A gateway in front of `upstream`, whose route says `more` besides.
async fn in_front_of(redis: &Redis, upstream: &str, more: &str) -> Gateway {
    let route = format!("- path: /{{*rest}}\n  proxy: {{ upstream: {upstream}, {more} }}\n");
    Gateway::build(redis).routes(&route).start().await
}

fn url(upstream: &Upstream) -> String {
    format!("\"http://{}\"", upstream.address())
}

/// The upstream is a name of this machine that the configuration cannot see through: a proxy that leads back.
#[tokio::test]
async fn a_request_in_a_loop_is_508_after_a_few_rounds() {
    let redis = Redis::start().await;
    for via in Via::ALL {
        for http2 in [false, true] {
            let relay = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let upstream = format!("\"http://{}\"", relay.local_addr().unwrap());
            let gateway = in_front_of(&redis, &upstream, &format!("http2: {http2}")).await;
            let back = tokio::spawn(lead_back(relay, gateway.address("http")));
            let response = gateway.send(via, Request::get("/")).await;
            assert_eq!(response.status, 508, "{via:?} {http2}");
            let text = response.text().await;
            assert!(text.contains("came back to this gateway"), "{text}");
            assert!(text.contains("Set upstream of this route"), "{text}");
            let metrics = gateway.metrics().await;
            let loops = metrics.sum("ssegate_upstream_errors_total", &["loop"]);
            assert_eq!(loops, 1.0);
            gateway.logs("this upstream leads to the gateway itself").await;
            // An EventSource is sent away for a while, since the operator may mend it.
            let stream =
                gateway.send(via, Request::get("/").header("accept", "text/event-stream")).await;
            assert_eq!(stream.status, 200);
            back.abort();
        }
    }
}

/// Connects each client to `to`.
pub(crate) async fn lead_back(relay: TcpListener, to: SocketAddr) {
    loop {
        let (mut client, _) = relay.accept().await.unwrap();
        tokio::spawn(async move {
            let mut gateway = TcpStream::connect(to).await.unwrap();
            // Ends when either side is gone.
            tokio::io::copy_bidirectional(&mut client, &mut gateway).await.unwrap_or_default()
        });
    }
}

/// What frameworks and proxies of authentication read beside the usual fields: Rails and Rack trust `-Ssl` and
/// `-Scheme`, Symfony and Laravel `-Prefix`, applications behind oauth2-proxy `-User`, `-Email` and `-Groups`.
const OTHER_FORWARDED: [&str; 14] = [
    "x-forwarded-ssl",
    "x-forwarded-scheme",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-by",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-forwarded-tls-client-cert",
    "x-forwarded-protocol",
    "x-forwarded-uri",
];

#[tokio::test]
async fn every_field_that_begins_with_x_forwarded_is_only_taken_from_a_trusted_proxy() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    for (trusted, expected) in [("192.0.2.1", ""), ("127.0.0.1", "me")] {
        let gateway = Gateway::build(&redis)
            .settings(&format!("trusted_proxies: [{trusted}]"))
            .routes(&upstream.route("/{*rest}"))
            .start()
            .await;
        for via in Via::ALL {
            let add = |request: Request, name| request.header(name, "me");
            let request = OTHER_FORWARDED.into_iter().fold(Request::get("/"), add);
            let serve = async {
                let call = upstream.call().await;
                for name in OTHER_FORWARDED {
                    assert_eq!(call.header(name), expected, "{name} from {trusted}, {via:?}");
                }
                call.answer("200 OK", "", "ok").await;
            };
            let (response, ()) = tokio::join!(gateway.send(via, request), serve);
            assert_eq!(response.status, 200);
        }
    }
}

/// A proxy that passes the client's `Connection` on cannot be made to take such a field away.
#[tokio::test]
async fn connection_removes_no_field_that_begins_with_x_forwarded() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::build(&redis)
        .settings("trusted_proxies: [127.0.0.1]")
        .routes(&upstream.route("/{*rest}"))
        .start()
        .await;
    let request = Request::get("/")
        .header("connection", "x-forwarded-user, x-forwarded-prefix, x-own")
        .header("x-forwarded-user", "me")
        .header("x-forwarded-prefix", "/app")
        .header("x-own", "1");
    let serve = async {
        let call = upstream.call().await;
        assert_eq!(call.header("x-forwarded-user"), "me");
        assert_eq!(call.header("x-forwarded-prefix"), "/app");
        assert_eq!(call.header("x-own"), "");
        call.answer("200 OK", "", "ok").await;
    };
    tokio::join!(gateway.send(Via::Http1, request), serve);
}

#[tokio::test]
async fn a_stranger_cannot_say_where_a_request_comes_from() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    for via in Via::ALL {
        let request = Request::get("/")
            .host("app.example")
            .header("x-forwarded-for", "6.6.6.6")
            .header("x-forwarded-proto", "gopher")
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-port", "1")
            .header("x-real-ip", "6.6.6.6")
            .header("forwarded", "for=6.6.6.6")
            .header("via", "1.0 fred");
        let serve = async {
            let call = upstream.call().await;
            let scheme = if via.is_tls() { "https" } else { "http" };
            assert_eq!(call.header("host"), "app.example", "{via:?}");
            assert_eq!(call.header("x-forwarded-for"), "127.0.0.1");
            assert_eq!(call.header("x-forwarded-proto"), scheme);
            assert_eq!(call.header("x-forwarded-host"), "app.example");
            assert_eq!(call.header("x-forwarded-port"), "");
            assert_eq!(call.header("x-real-ip"), "");
            let element = format!("for=127.0.0.1;host=app.example;proto={scheme}");
            assert_eq!(call.header("forwarded"), element);
            let ours = if via.is_http2() { "via: 2 ssegate-" } else { "via: 1.1 ssegate-" };
            assert!(call.head.contains("via: 1.0 fred\r\n"), "{}", call.head);
            assert!(call.head.contains(ours), "{}", call.head);
            call.answer("200 OK", "", "ok").await;
        };
        let (response, ()) = tokio::join!(gateway.send(via, request), serve);
        assert_eq!(response.status, 200);
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_where_a_request_comes_from() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = Gateway::build(&redis)
        .settings("trusted_proxies: [10.0.0.0/8, 127.0.0.1]")
        .routes(&upstream.route("/{*rest}"))
        .start()
        .await;
    let request = Request::get("/")
        .header("x-forwarded-for", "192.0.2.7")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "app.example")
        .header("x-real-ip", "192.0.2.7");
    let serve = async {
        let call = upstream.call().await;
        assert_eq!(call.header("x-forwarded-for"), "192.0.2.7, 127.0.0.1");
        assert_eq!(call.header("x-forwarded-proto"), "https");
        assert_eq!(call.header("x-forwarded-host"), "app.example");
        assert_eq!(call.header("x-real-ip"), "192.0.2.7");
        assert_eq!(call.header("forwarded"), "", "it would name the proxy as the client");
        call.answer("200 OK", "", "ok").await;
    };
    tokio::join!(gateway.send(Via::Http1, request), serve);
}

/// A gateway whose listener in clear text wants a PROXY header, and where that is.
async fn behind_a_balancer(redis: &Redis, backend: &Recorder, trusted: &str) -> (Gateway, u16) {
    let port = free_port();
    let gateway = Gateway::build(redis)
        .listener(&format!("{{ address: \"127.0.0.1:{port}\", proxy_protocol: true }}"))
        .settings(&format!("trusted_proxies: [{trusted}]"))
        .routes(&backend.route("/{*rest}"))
        .start()
        .await;
    (gateway, port)
}

#[tokio::test]
async fn a_balancer_says_whom_it_speaks_for() {
    let redis = Redis::start().await;
    let backend = Recorder::start().await;
    let (_gateway, port) = behind_a_balancer(&redis, &backend, "127.0.0.1").await;
    let version2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\x7f\0\0\x01\x10\0\x1f\x90";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, expected) in [
        (&b"PROXY TCP4 192.0.2.7 127.0.0.1 4096 8080\r\n"[..], "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4096 8080\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (version2, "192.0.2.8"),
        (local, "127.0.0.1"),
    ] {
        // Also when it comes in pieces.
        for cut in [header.len(), 1, header.len() - 1] {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            socket.set_nodelay(true).unwrap();
            socket.write_all(&header[..cut]).await.unwrap();
            tokio::task::yield_now().await;
            let request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n";
            socket.write_all(&[&header[cut..], request].concat()).await.unwrap();
            let mut line = [0; 15];
            within(SOON, "an answer", socket.read_exact(&mut line)).await.unwrap();
            assert_eq!(&line, b"HTTP/1.1 200 OK");
            let recorded = backend.take();
            let addresses = recorded[0].values("x-forwarded-for");
            // The balancer itself may say more: it is trusted. Its clients may not.
            let expected: &[&str] = match expected {
                "127.0.0.1" => &["6.6.6.6, 127.0.0.1"],
                _ => &[expected],
            };
            assert_eq!(addresses, expected, "{header:?}");
        }
    }
}

#[tokio::test]
async fn a_balancer_that_says_nothing_or_is_not_trusted_is_hung_up_on() {
    let redis = Redis::start().await;
    let backend = Recorder::start().await;
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let header = b"PROXY TCP4 192.0.2.7 127.0.0.1 4096 8080\r\n";
    for (trusted, sent) in [
        ("127.0.0.1", request.to_vec()),
        ("127.0.0.1", [&b"PROXY TCP4 nonsense\r\n"[..], request].concat()),
        ("127.0.0.1", [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"[..], &[0; 5000]].concat()),
        ("10.0.0.0/8", [&header[..], request].concat()),
    ] {
        let (gateway, port) = behind_a_balancer(&redis, &backend, trusted).await;
        let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        socket.write_all(&sent).await.unwrap();
        let mut answer = Vec::new();
        drop(within(SOON, "an end", socket.read_to_end(&mut answer)).await);
        assert_eq!(answer, b"", "{sent:?}");
        gateway.counts("ssegate_connections_cut_total", &["proxy_protocol"], 1.0).await;
    }
    assert_eq!(backend.take(), []);
}

#[tokio::test]
async fn a_name_with_an_underscore_is_refused_unless_the_route_lets_it_pass() {
    let redis = Redis::start().await;
    let backend = Recorder::start().await;
    let strict = Gateway::build(&redis).routes(&backend.route("/{*rest}")).start().await;
    let route = backend.route("/{*rest}").replace(" }\n", ", underscores_in_headers: true }\n");
    let lax = Gateway::build(&redis).routes(&route).start().await;
    for via in Via::ALL {
        let request = || Request::get("/").header("x_real_ip", "1.2.3.4");
        let refused = strict.send(via, request()).await;
        assert_eq!(refused.status, 400, "{via:?}");
        assert!(refused.text().await.contains("x_real_ip"));
        assert_eq!(backend.take(), []);
        let request = request().header("x_own", "1").header("x_forwarded-for", "1.2.3.4");
        assert_eq!(lax.send(via, request).await.status, 200);
        let taken = backend.take();
        assert_eq!(taken[0].values("x_own"), ["1"]);
        // A backend that reads `_` as `-` would take these for what the gateway says.
        assert_eq!(taken[0].values("x_real_ip"), [""; 0]);
        assert_eq!(taken[0].values("x_forwarded-for"), [""; 0]);
    }
}

/// The values of a field as CGI names it: it cannot tell `_` from `-`.
fn cgi_values(recorded: &Recorded, name: &str) -> Vec<String> {
    let fields = recorded.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let named = fields.filter(|(field, _)| field.replace('-', "_").eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.trim().to_owned()).collect()
}

#[tokio::test]
async fn no_name_with_an_underscore_passes_for_a_field_of_the_gateway() {
    let redis = Redis::start().await;
    let backend = Recorder::start().await;
    let route = backend.route("/{*rest}").replace(" }\n", ", underscores_in_headers: true }\n");
    let gateway = Gateway::build(&redis).routes(&route).start().await;
    for via in Via::ALL {
        let names = [
            "content_length",
            "transfer_encoding",
            "keep_alive",
            "proxy_authorization",
            "proxy_connection",
            "http2_settings",
            "x_forwarded_for",
            "x-forwarded_proto",
            "x_real_ip",
            "grip_sig",
            "x_own",
        ];
        let request = Request::new("POST", "/").header("content-length", "4").body(b"body");
        let request = names.iter().fold(request, |request, name| request.header(name, "6666"));
        assert_eq!(gateway.send(via, request).await.status, 200, "{via:?}");
        let taken = backend.take();
        for (name, expected) in [
            ("CONTENT_LENGTH", &["4"][..]),
            ("TRANSFER_ENCODING", &[]),
            ("KEEP_ALIVE", &[]),
            ("PROXY_AUTHORIZATION", &[]),
            ("PROXY_CONNECTION", &[]),
            ("HTTP2_SETTINGS", &[]),
            ("X_FORWARDED_FOR", &["127.0.0.1"]),
            ("X_FORWARDED_PROTO", &[if via.is_tls() { "https" } else { "http" }]),
            ("X_REAL_IP", &[]),
            ("GRIP_SIG", &[]),
            ("X_OWN", &["6666"]),
        ] {
            assert_eq!(cgi_values(&taken[0], name), expected, "{name} via {via:?}");
        }
    }
}

#[tokio::test]
async fn the_route_may_set_the_host() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "host: \"inner.example:81\"").await;
    for via in Via::ALL {
        let serve = async {
            let call = upstream.call().await;
            assert_eq!(call.header("host"), "inner.example:81", "{via:?}");
            assert_eq!(call.header("x-forwarded-host"), "outer.example");
            call.answer("200 OK", "", "ok").await;
        };
        tokio::join!(gateway.send(via, Request::get("/").host("outer.example")), serve);
    }
}

#[tokio::test]
async fn a_connection_to_the_backend_is_used_again() {
    let redis = Redis::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("\"http://{}\"", listener.local_addr().unwrap());
    let gateway = in_front_of(&redis, &upstream, "").await;
    let serve = async {
        // One shard's connection, or one of each of both.
        let mut sockets = Vec::new();
        for _ in 0..2 {
            sockets.push(listener.accept().await.unwrap().0);
            let mut socket = sockets.pop().unwrap();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while socket.read(&mut bytes).await.is_ok_and(|read| read > 0) {
                    socket
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                        .await
                        .unwrap();
                }
            });
        }
        listener.accept().await.unwrap();
        panic!("a third connection for requests one after the other");
    };
    let requests = async {
        for _ in 0..20 {
            assert_eq!(gateway.get("/").await.text().await, "ok");
        }
    };
    tokio::select! {
        () = requests => {}
        () = serve => {}
    }
    assert!(gateway.metrics().await.sum("ssegate_upstream_connections", &[]) <= 2.0);
}

#[tokio::test]
async fn a_kept_connection_that_has_died_costs_no_request() {
    let redis = Redis::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("\"http://{}\"", listener.local_addr().unwrap());
    let gateway = in_front_of(&redis, &upstream, "").await;
    for round in 0..20 {
        let serve = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4096];
            assert!(socket.read(&mut bytes).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
            socket.write_all(answer).await.unwrap();
            // It says that it would be kept, and is not.
            drop(socket);
        };
        let request = Request::new("POST", "/").body(b"once");
        let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), serve);
        assert_eq!(response.status, 200, "{round}");
        assert_eq!(response.text().await, "ok");
    }
}

#[tokio::test]
async fn a_unix_socket_is_an_upstream() {
    let redis = Redis::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let gateway = in_front_of(&redis, &format!("\"unix:{}\"", path.display()), "").await;
    let serve = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4096];
        let read = socket.read(&mut bytes).await.unwrap();
        assert!(bytes[..read].starts_with(b"GET /over HTTP/1.1\r\n"));
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    };
    let (response, ()) = tokio::join!(gateway.get("/over"), serve);
    assert_eq!(response.text().await, "ok");
}

#[tokio::test]
async fn a_backend_that_speaks_tls_must_be_whom_we_meant() {
    let redis = Redis::start().await;
    let recorder = Recorder::start().await;
    let dir = tempfile::tempdir().unwrap();
    let pem = Pem::write(dir.path());
    let (certificate, key) = (pem.certificate.display(), pem.key.display());
    let inner = Gateway::build(&redis)
        .tls(&format!("{{ certificate: \"{certificate}\", key: \"{key}\" }}"))
        .routes(&recorder.route("/{*rest}"))
        .start()
        .await;
    let port = inner.address("https").port();
    let ca = format!("ca: \"{}\"", pem.authority.display());
    for (host, tls, expected) in [
        ("localhost", ca.as_str(), 200),
        ("127.0.0.1", ca.as_str(), 200),
        ("127.0.0.1", &format!("{ca}, server_name: localhost"), 200),
        ("127.0.0.1", &format!("{ca}, server_name: other.example"), 502),
        ("localhost", "server_name: localhost", 502),
        ("localhost", "insecure_skip_verify: true", 200),
    ] {
        for http2 in [false, true] {
            let upstream = format!("\"https://{host}:{port}\"");
            let more = format!("http2: {http2}, tls: {{ {tls} }}");
            let outer = in_front_of(&redis, &upstream, &more).await;
            let request = Request::new("POST", "/x?y").body(b"a body").host("app.example");
            let response = outer.send(Via::Http1, request).await;
            assert_eq!(response.status, expected, "{host} {tls} {http2}");
            let recorded = recorder.take();
            if expected == 200 {
                assert_eq!(response.text().await, "ok");
                assert_eq!(recorded[0].line(), "POST /x?y HTTP/1.1");
                assert_eq!(recorded[0].body, b"a body");
                assert_eq!(recorded[0].values("host"), ["app.example"]);
                let version = if http2 { "2" } else { "1.1" };
                let [first, second] = recorded[0].values("via")[..] else { panic!("two") };
                assert!(first.starts_with("1.1 ssegate-"), "{first}");
                assert!(second.starts_with(&format!("{version} ssegate-")), "{second}");
                // Each process has a name of its own.
                assert_ne!(first.split(' ').nth(1), second.split(' ').nth(1));
            } else {
                let text = response.text().await;
                assert!(!text.contains(host) && !text.contains(&port.to_string()), "{text}");
                outer.logs(&port.to_string()).await;
                assert_eq!(recorded, []);
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_that_is_named_in_ca_itself_is_taken_for_its_names_while_it_is_valid() {
    let redis = Redis::start().await;
    let recorder = Recorder::start().await;
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap().cert.pem();
    for (is_ca, days, named, host, expected) in [
        (true, 9, true, "127.0.0.1", 200),
        (true, 9, true, "localhost", 502),
        (false, 9, true, "127.0.0.1", 200),
        (true, -1, true, "127.0.0.1", 502),
        (true, 9, false, "127.0.0.1", 502),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join(name);
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        // As `openssl req -x509` makes it.
        if is_ca {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(30);
        params.not_after = now + time::Duration::days(days);
        let certificate = params.self_signed(&key).unwrap().pem();
        std::fs::write(path("cert.pem"), &certificate).unwrap();
        std::fs::write(path("ca.pem"), if named { &certificate } else { &other }).unwrap();
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        let [cert, key, ca] =
            ["cert.pem", "key.pem", "ca.pem"].map(|name| path(name).display().to_string());
        let inner = Gateway::build(&redis)
            .tls(&format!("{{ certificate: \"{cert}\", key: \"{key}\" }}"))
            .routes(&recorder.route("/{*rest}"))
            .start()
            .await;
        let upstream = format!("\"https://{host}:{}\"", inner.address("https").port());
        let outer = in_front_of(&redis, &upstream, &format!("tls: {{ ca: \"{ca}\" }}")).await;
        let status = outer.get("/x").await.status;
        assert_eq!(status, expected, "{is_ca} {days} {named} {host}\n{}", outer.log());
    }
}

#[tokio::test]
async fn http2_in_clear_text_carries_many_requests_on_one_connection() {
    let redis = Redis::start().await;
    let recorder = Recorder::start().await;
    let inner = Gateway::build(&redis).routes(&recorder.route("/{*rest}")).start().await;
    let upstream = format!("\"http://{}\"", inner.address("http"));
    let outer = in_front_of(&redis, &upstream, "http2: true").await;
    let connection = Http2::connect(Via::Http2, outer.address("https")).await;
    let requests = (0..50).map(|number| {
        connection.send(Request::new("POST", &format!("/{number}")).body(b"some body"))
    });
    let mut requests: Vec<_> = requests.map(Box::pin).collect();
    for request in &mut requests {
        assert_eq!(within(SOON, "an answer", request).await.status, 200);
    }
    let connections = outer.metrics().await.sum("ssegate_upstream_connections", &[]);
    assert_eq!(connections.to_bits(), 1_f64.to_bits(), "{connections}");
    assert_eq!(recorder.take().len(), 50);
}

#[tokio::test]
async fn several_upstreams_have_their_turns_and_one_that_is_down_costs_no_request() {
    let redis = Redis::start().await;
    let (one, other) = (Recorder::start().await, Recorder::start().await);
    let down = free_port();
    let upstreams =
        format!("[\"{}\", \"http://127.0.0.1:{down}\", \"{}\"]", one.url(), other.url());
    let gateway = in_front_of(&redis, &upstreams, "").await;
    let request = || Request::new("POST", "/").body(b"once");
    for _ in 0..30 {
        assert_eq!(gateway.send(Via::Http1, request()).await.status, 200);
    }
    let (one, other) = (one.take().len(), other.take().len());
    assert_eq!(one + other, 30, "each once");
    assert!(one >= 10 && other >= 10, "{one} {other}");
    let failed = ["kind=\"connect\""];
    let failed = gateway.metrics().await.sum("ssegate_upstream_errors_total", &failed);
    assert!((1.0..=2.0).contains(&failed), "passed over once each shard knows: {failed}");
}

#[tokio::test]
async fn an_upstream_that_is_back_is_used_again() {
    let redis = Redis::start().await;
    let up = Recorder::start().await;
    let port = free_port();
    let upstreams = format!("[\"{}\", \"http://127.0.0.1:{port}\"]", up.url());
    let gateway = in_front_of(&redis, &upstreams, "fail_timeout: 200ms").await;
    for _ in 0..8 {
        assert_eq!(gateway.get("/").await.status, 200);
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let asking = async {
        loop {
            assert_eq!(gateway.get("/").await.status, 200);
        }
    };
    let serve = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 4096];
        assert!(socket.read(&mut bytes).await.unwrap() > 0);
        socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    };
    tokio::select! {
        () = asking => {}
        () = within(SOON, "a request at the one that is back", serve) => {}
    }
}

#[tokio::test]
async fn a_request_that_was_sent_is_not_sent_again() {
    let redis = Redis::start().await;
    let (one, other) = (Upstream::start().await, Upstream::start().await);
    let upstreams = format!("[{}, {}]", url(&one), url(&other));
    let gateway = in_front_of(&redis, &upstreams, "").await;
    for _ in 0..4 {
        let serve = async {
            let call = tokio::select! {
                call = one.call() => call,
                call = other.call() => call,
            };
            // It has read the request, and says nothing.
            drop(call);
            tokio::select! {
                _ = one.call() => panic!("sent again"),
                _ = other.call() => panic!("sent again"),
            }
        };
        let request = Request::new("POST", "/").body(b"once");
        let status = tokio::select! {
            response = gateway.send(Via::Http1, request) => response.status,
            () = serve => unreachable!("it panics"),
        };
        assert_eq!(status, 502);
    }
}

#[tokio::test]
async fn connections_to_the_backend_are_bounded() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "max_connections: 2").await;
    let held = async || {
        let (response, call) = tokio::join!(gateway.get("/held"), async {
            let mut call = upstream.call().await;
            call.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
            call
        });
        (response, call)
    };
    let first = held().await;
    let _second = held().await;
    let refused = gateway.send(Via::Http1, Request::get("/").header("accept", "application/json"));
    let refused = refused.await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.text().await, "{\"error\":\"the backend is busy\",\"status\":503}\n");
    drop(first);
    let serve = async {
        upstream.call().await.answer("200 OK", "", "ok").await;
    };
    let again = async {
        eventually(SOON, "a free place", async || gateway.get("/").await.status == 200).await;
    };
    tokio::join!(again, serve);
    let counted = gateway.metrics().await;
    assert!(counted.sum("ssegate_upstream_errors_total", &["max_connections"]) >= 1.0);
}

/// The time until an answer, and its status.
async fn timed(gateway: &Gateway, request: Request) -> (u16, Duration) {
    let start = Instant::now();
    let status = gateway.send(Via::Http1, request).await.status;
    (status, start.elapsed())
}

#[tokio::test]
async fn a_backend_that_does_not_answer_is_a_504_in_its_time() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "response_timeout: 700ms").await;
    for request in [Request::get("/"), Request::new("POST", "/").body(b"all of it")] {
        let ((status, time), _call) = tokio::join!(timed(&gateway, request), upstream.call());
        assert_eq!(status, 504);
        // And before the default of 60 s, or there would be no response here.
        assert!(time >= Duration::from_millis(700), "{time:?}");
    }
    // For a stream it will pass.
    let (response, _call) =
        tokio::join!(gateway.send(Via::Http2, Request::events("/")), upstream.call());
    response.stream().sent_away().await;
    let counted = gateway.metrics().await;
    assert!(counted.sum("ssegate_upstream_errors_total", &["response_timeout"]) >= 3.0);
}

#[tokio::test]
async fn a_backend_that_is_down_or_resets_is_a_502_at_once() {
    let redis = Redis::start().await;
    let down = format!("\"http://127.0.0.1:{}\"", free_port());
    // Who waited for a time to be over would wait for an hour.
    let times = "connect_timeout: 1h, response_timeout: 1h, idle_timeout: 1h";
    let gateway = in_front_of(&redis, &down, times).await;
    assert_eq!(gateway.get("/").await.status, 502);

    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), times).await;
    for request in [Request::get("/"), Request::new("POST", "/").body(b"x")] {
        let reset = async { upstream.call().await.reset() };
        let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), reset);
        assert_eq!(response.status, 502);
    }
}

#[tokio::test]
async fn a_backend_behind_a_full_queue_is_a_504_after_connect_timeout() {
    let redis = Redis::start().await;
    // Nobody accepts, and the queue is full: a further connection is never made.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&address.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _waiting = [TcpStream::connect(address).await.unwrap()];
    let gateway =
        in_front_of(&redis, &format!("\"http://{address}\""), "connect_timeout: 600ms").await;
    let (status, time) = timed(&gateway, Request::get("/")).await;
    assert_eq!(status, 504);
    // Sooner than the default of 5 s.
    assert!((600..4500).contains(&time.as_millis()), "{time:?}");
}

#[tokio::test]
async fn a_body_may_take_long_but_not_pause_for_long() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "idle_timeout: 2s").await;
    for via in Via::ALL {
        let (response, mut call) = tokio::join!(gateway.send(via, Request::get("/")), async {
            let mut call = upstream.call().await;
            call.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            call
        });
        let mut body = response.body;
        // Longer than the time-out, all in all.
        let mut last = Instant::now();
        for _ in 0..25 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            last = Instant::now();
            call.write("1\r\nx\r\n").await;
            assert!(within(SOON, "a piece", body.chunk()).await.unwrap().is_some(), "{via:?}");
        }
        // Before the default of 60 s.
        assert!(within(SOON, "an end", body.rest()).await.is_err(), "not a clean end");
        assert!(last.elapsed() >= Duration::from_millis(1900), "{:?}", last.elapsed());
        call.closed().await;
    }
    let counted = gateway.metrics().await;
    assert!(counted.sum("ssegate_upstream_errors_total", &["idle_timeout"]) >= 3.0);
}

#[tokio::test]
async fn an_upload_may_take_long_but_not_pause_for_long() {
    let redis = Redis::start().await;
    let backend = Recorder::start().await;
    let times = "idle_timeout: 2s, response_timeout: 500ms";
    let gateway = in_front_of(&redis, &format!("\"{}\"", backend.url()), times).await;
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 25\r\n\r\n";

    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    socket.write_all(head).await.unwrap();
    for _ in 0..25 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        socket.write_all(b"x").await.unwrap();
    }
    let mut line = [0; 12];
    within(SOON, "an answer", socket.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 200");
    assert_eq!(backend.take()[0].body, [b'x'; 25]);

    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    let last = Instant::now();
    socket.write_all(head).await.unwrap();
    socket.write_all(b"x").await.unwrap();
    within(SOON, "an answer", socket.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 408");
    assert!(last.elapsed() >= Duration::from_millis(1900), "{:?}", last.elapsed());
    let is_cut = async || backend.recorded().iter().any(|r| r.end == RequestEnd::Cut);
    eventually(SOON, "the end of the request at the backend", is_cut).await;
}

#[tokio::test]
async fn a_backend_that_does_not_read_stops_the_upload_and_costs_no_memory() {
    let redis = Redis::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("\"http://{}\"", listener.local_addr().unwrap());
    let gateway = in_front_of(&redis, &upstream, "idle_timeout: 2s").await;
    let before = gateway.resident_bytes();
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    let length = 1_u64 << 30;
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let (_deaf, _) = within(SOON, "a connection", listener.accept()).await.unwrap();
    let (mut read, mut write) = socket.into_split();
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    let answer = async {
        let mut line = [0; 12];
        read.read_exact(&mut line).await.unwrap();
        line
    };
    let send = async {
        while write.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
        std::future::pending().await
    };
    let line = tokio::select! {
        line = within(SOON, "an answer", answer) => line,
        () = send => unreachable!("it never ends"),
    };
    assert_eq!(&line, b"HTTP/1.1 504");
    // What the sockets of four ends can hold.
    assert!(sent < 64 << 20, "{sent}");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown}");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_takes_its_request_with_it() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    for via in Via::ALL {
        let call = {
            let asking = gateway.send(via, Request::get("/slow"));
            tokio::select! {
                _ = asking => panic!("nobody has answered"),
                call = upstream.call() => call,
            }
        };
        call.closed().await;
    }
}

#[tokio::test]
async fn the_backend_decides_whether_a_body_is_sent() {
    let redis = Redis::start().await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("\"http://{}\"", upstream.local_addr().unwrap());
    let gateway = in_front_of(&redis, &address, "").await;
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
    let begin = async || {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client.write_all(head).await.unwrap();
        let (mut backend, _) = within(SOON, "a connection", upstream.accept()).await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            assert!(backend.read_buf(&mut seen).await.unwrap() > 0);
        }
        let seen = String::from_utf8(seen).unwrap().to_lowercase();
        assert!(seen.contains("expect: 100-continue\r\n"), "{seen}");
        (client, backend)
    };

    let (mut client, mut backend) = begin().await;
    backend.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
    let mut line = [0; 25];
    within(SOON, "100 Continue", client.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"body").await.unwrap();
    let mut body = [0; 4];
    within(SOON, "the body", backend.read_exact(&mut body)).await.unwrap();
    backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut line = [0; 15];
    within(SOON, "an answer", client.read_exact(&mut line)).await.unwrap();
    assert_eq!((&body, &line), (b"body", b"HTTP/1.1 200 OK"));

    // A backend that refuses is believed at once, and gets no body.
    let (mut client, mut backend) = begin().await;
    let refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
    backend.write_all(refusal).await.unwrap();
    let mut line = [0; 12];
    within(SOON, "an answer", client.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 413");
    let mut rest = Vec::new();
    drop(within(SOON, "the end", backend.read_to_end(&mut rest)).await);
    assert_eq!(rest, b"");
}

/// RFC 9110, section 10.1.1: a client over HTTP/1.0 knows no 100, and does not wait for one.
#[tokio::test]
async fn an_expectation_over_http10_is_ignored() {
    let redis = Redis::start().await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("\"http://{}\"", upstream.local_addr().unwrap());
    let gateway = in_front_of(&redis, &address, "").await;
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    let request =
        b"POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody";
    client.write_all(request).await.unwrap();
    let (mut backend, _) = within(SOON, "a connection", upstream.accept()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"body") {
        assert!(within(SOON, "the body", backend.read_buf(&mut seen)).await.unwrap() > 0);
    }
    let seen = String::from_utf8(seen).unwrap().to_lowercase();
    assert!(!seen.contains("expect:"), "{seen}");
    backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut line = [0; 15];
    within(SOON, "a response", client.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line[8..], b" 200 OK");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let redis = Redis::start().await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("\"http://{}\"", upstream.local_addr().unwrap());
    let gateway = in_front_of(&redis, &address, "").await;
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: x-sum\r\n\
                   Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let (mut backend, _) = within(SOON, "a connection", upstream.accept()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"x-sum: 7\r\n\r\n") {
        let read = within(SOON, "the trailer", backend.read_buf(&mut seen)).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
    }
    let seen = String::from_utf8(seen).unwrap().to_lowercase();
    assert!(seen.contains("\r\nte: trailers\r\n"), "{seen}");
    assert!(seen.ends_with("3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), "{seen}");
    let answer = "HTTP/1.1 200 OK\r\nTrailer: x-end\r\nTransfer-Encoding: chunked\r\n\r\n\
                  2\r\nok\r\n0\r\nx-end: yes\r\n\r\n";
    backend.write_all(answer.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"0\r\nx-end: yes\r\n\r\n") {
        let read = within(SOON, "the trailer", client.read_buf(&mut seen)).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
    }
}

/// Reads until `end` is the end of what has come.
async fn read_until(socket: &mut TcpStream, end: &str) -> String {
    let mut seen = Vec::new();
    while !seen.ends_with(end.as_bytes()) {
        let read = within(SOON, end, socket.read_buf(&mut seen)).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
    }
    String::from_utf8(seen).unwrap()
}

/// A known limit, of hyper: what `Trailer` does not announce is lost over HTTP/1.1. The message stays whole, and
/// both connections can be used again.
#[tokio::test]
async fn trailers_that_are_not_announced_are_lost_over_http1_and_nothing_else_is() {
    let redis = Redis::start().await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("\"http://{}\"", upstream.local_addr().unwrap());
    let gateway = in_front_of(&redis, &address, "").await;
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    let mut backend = None;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n";
    let ok = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";
    for (announced, last) in [("", "0\r\n\r\n"), ("Trailer: x-sum\r\n", "0\r\nx-sum: 7\r\n\r\n")] {
        for _ in 0..2 {
            let body = "3\r\nabc\r\n0\r\nx-other: 1\r\nx-sum: 7\r\n\r\n";
            client.write_all(format!("{post}{announced}\r\n{body}").as_bytes()).await.unwrap();
            if backend.is_none() {
                backend = Some(within(SOON, "a connection", upstream.accept()).await.unwrap().0);
            }
            let backend = backend.as_mut().unwrap();
            let asked = read_until(backend, &format!("3\r\nabc\r\n{last}")).await;
            assert!(!asked.contains("x-other"), "{asked}");
            backend.write_all(format!("{ok}{announced}\r\n{body}").as_bytes()).await.unwrap();
            let answer = read_until(&mut client, &format!("3\r\nabc\r\n{last}")).await;
            assert!(!answer.contains("x-other"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_transfer_coding_that_we_do_not_know_is_a_502() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    let (response, _call) = tokio::join!(gateway.get("/"), async {
        let mut call = upstream.call().await;
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n";
        call.write(format!("{head}3\r\nabc\r\n0\r\n\r\n")).await;
        call
    });
    assert_eq!(response.status, 502);
}

#[tokio::test]
async fn a_length_beside_chunks_is_not_passed_on() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    for (via, length) in [(Via::Http1, 1), (Via::Http1, 9), (Via::Http2, 1), (Via::Http2, 9)] {
        let (mut response, ()) = tokio::join!(gateway.send(via, Request::get("/")), async {
            let mut call = upstream.call().await;
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n";
            let chunks = "3\r\nabc\r\n0\r\n\r\n";
            call.write(format!("{head}content-length: {length}\r\n\r\n{chunks}")).await;
        });
        let said = response.headers.get("content-length");
        assert!(said.is_none_or(|said| said == "3"), "{via:?}, {said:?}");
        let body = within(SOON, "the body", response.body.rest()).await.expect("all of it");
        assert_eq!(body, b"abc", "{via:?}, {length}");
    }
}

#[tokio::test]
async fn a_length_is_passed_on_once_and_only_where_it_is_one() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    for (method, length, expected) in [
        ("HEAD", "5", Some("5")),
        ("HEAD", "five", None),
        ("HEAD", "+5", None),
        ("HEAD", "5, 6", None),
        ("GET", "3, 3", Some("3")),
        ("GET", "3\r\ncontent-length: 3", Some("3")),
    ] {
        let request = Request::new(method, "/");
        let (response, ()) = tokio::join!(gateway.send(Via::Http1, request), async {
            let mut call = upstream.call().await;
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n";
            let body = if method == "GET" { "abc" } else { "" };
            call.write(format!("{head}content-length: {length}\r\n\r\n{body}")).await;
        });
        assert_eq!(response.status, 200, "{method}, {length}");
        let said = response.headers.get_all("content-length").iter();
        let said: Vec<_> = said.map(|said| said.to_str().unwrap()).collect();
        assert_eq!(said, Vec::from_iter(expected), "{method}, {length}");
    }
}

/// The body of an answer, where it looks complete. Of what breaks off at once, the head may not come
/// either.
async fn complete(gateway: &Gateway, via: Via) -> Option<Vec<u8>> {
    if via.is_http2() {
        let connection = Http2::connect(via, gateway.address_for(via)).await;
        let mut body = connection.try_send(Request::get("/cut")).await.ok()?.body;
        return within(SOON, "the end of the body", body.rest()).await.ok();
    }
    let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
    socket.write_all(b"GET /cut HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // A reset is no complete end.
    within(SOON, "the end", socket.read_to_end(&mut answer)).await.ok()?;
    let body = answer.split_off(memchr::memmem::find(&answer, b"\r\n\r\n")? + 4);
    let is_complete = match memchr::memmem::find(&answer, b"content-length: 10").is_some() {
        true => body.len() == 10,
        false => body.ends_with(b"0\r\n\r\n"),
    };
    is_complete.then_some(body)
}

#[tokio::test]
async fn an_answer_that_is_cut_never_looks_complete() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    // What is complete does.
    for via in [Via::Http1, Via::Http2] {
        let serve = async {
            let mut call = upstream.call().await;
            let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 10\r\n\r\n";
            call.write(format!("{head}0123456789")).await;
        };
        let (complete, ()) = tokio::join!(complete(&gateway, via), serve);
        assert_eq!(complete.as_deref(), Some(&b"0123456789"[..]), "{via:?}");
    }
    let whole = [
        "content-length: 10\r\n\r\n0123456789",
        "transfer-encoding: chunked\r\n\r\n\
                  5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
    ];
    for whole in whole {
        let begin = whole.find("\r\n\r\n").unwrap() + 4;
        // Wherever it is cut.
        for end in begin..whole.len() {
            let via = if end % 2 == 0 { Via::Http1 } else { Via::Http2 };
            let (complete, ()) = tokio::join!(complete(&gateway, via), async {
                let mut call = upstream.call().await;
                call.write(format!("HTTP/1.1 200 OK\r\n{}", &whole[..end])).await;
            });
            assert_eq!(complete, None, "{:?} via {via:?}", &whole[..end]);
        }
    }
}

/// Nothing but the end of its connection ends a body over HTTP/1.0.
#[tokio::test]
async fn an_answer_that_is_cut_never_looks_complete_over_http10() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    let chunks = "transfer-encoding: chunked\r\n\r\n5\r\n01234\r\n";
    for (end, is_whole) in [("0\r\n\r\n", true), ("", false), ("5\r\n01", false)] {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client.write_all(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").await.unwrap();
        let mut call = upstream.call().await;
        call.write(format!("HTTP/1.1 200 OK\r\n{chunks}")).await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"01234") {
            assert!(within(SOON, "a piece", client.read_buf(&mut answer)).await.unwrap() > 0);
        }
        call.write(end).await;
        drop(call);
        let ended = within(SOON, "the end", client.read_to_end(&mut answer)).await;
        assert_eq!(ended.is_ok(), is_whole, "{end:?}");
    }
}

/// RFC 9112, section 9.3: a client over HTTP/1.0 that asks for a connection that is kept gets one only
/// where the response tells its own end.
#[tokio::test]
async fn a_response_without_a_length_promises_a_client_over_http10_no_kept_connection() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    for (head, body, is_kept) in [
        ("transfer-encoding: chunked", "2\r\nok\r\n0\r\n\r\n", false),
        ("content-length: 2", "ok", true),
    ] {
        let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
        client
            .write_all(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
            .await
            .unwrap();
        upstream.call().await.write(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}")).await;
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\nok") {
            assert!(within(SOON, "more", client.read_buf(&mut response)).await.unwrap() > 0);
        }
        let text = String::from_utf8(response).unwrap().to_ascii_lowercase();
        assert_eq!(text.contains("\r\nconnection: keep-alive\r\n"), is_kept, "{text}");
        assert_eq!(text.contains("keep-alive"), is_kept, "{text}");
        if !is_kept {
            let mut rest = Vec::new();
            within(SOON, "the end", client.read_to_end(&mut rest)).await.unwrap();
            assert_eq!(rest, b"");
        }
    }
}

#[tokio::test]
async fn a_connect_is_nobodys_way_to_anywhere() {
    let redis = Redis::start().await;
    let backend = Recorder::start().await;
    let gateway = Gateway::build(&redis).routes(&backend.route("/{*rest}")).start().await;
    let tls = TlsClient::offering(&["http/1.1"]).connect(gateway.address("https")).await.unwrap();
    let mut tls = tls;
    tls.write_all(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").await.unwrap();
    let mut line = [0; 12];
    within(SOON, "an answer", tls.read_exact(&mut line)).await.unwrap();
    assert_eq!(&line, b"HTTP/1.1 405");
    assert_eq!(backend.take(), []);
}

#[tokio::test]
async fn an_answer_that_is_cut_behind_http2_never_looks_complete() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let inner = in_front_of(&redis, &url(&upstream), "").await;
    let inner_url = format!("\"http://{}\"", inner.address("http"));
    let outer = in_front_of(&redis, &inner_url, "http2: true").await;
    for cut in ["0123", "012345678"] {
        for head in ["content-length: 10\r\n\r\n", "transfer-encoding: chunked\r\n\r\na\r\n"] {
            for via in [Via::Http1, Via::Http2] {
                let (complete, ()) = tokio::join!(complete(&outer, via), async {
                    let mut call = upstream.call().await;
                    call.write(format!("HTTP/1.1 200 OK\r\n{head}{cut}")).await;
                });
                assert_eq!(complete, None, "{head} {cut} via {via:?}");
            }
        }
    }
}

#[tokio::test]
async fn trailers_reach_clients_of_http2() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    let io = Via::Http2.connect(gateway.address_for(Via::Http2)).await;
    let (mut requests, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://a/").header("te", "trailers").body(()).unwrap();
    let (response, _) = requests.send_request(request, true).unwrap();
    let (response, _call) = tokio::join!(response, async {
        let mut call = upstream.call().await;
        assert_eq!(call.header("te"), "trailers");
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        call.write(format!("{head}2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n")).await;
        call
    });
    let mut body = response.unwrap().into_body();
    let mut data = Vec::new();
    while let Some(chunk) = within(SOON, "the body", body.data()).await {
        data.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(data, b"ok");
    let trailers = within(SOON, "the trailers", body.trailers()).await.unwrap();
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
}

/// Names that are no trailers: the gateway sets or strips them, or they change what a message means.
const NO_TRAILERS: [&str; 12] = [
    "x-forwarded-for",
    "x-forwarded-proto",
    "forwarded",
    "x-real-ip",
    "via",
    "grip-sig",
    "grip-hold",
    "x_sum",
    "authorization",
    "set-cookie",
    "content-type",
    "if-match",
];

fn trailers(name: &'static str) -> http::HeaderMap {
    let names = NO_TRAILERS.into_iter().chain([name]);
    names.map(|name| (name.parse().unwrap(), "7".parse().unwrap())).collect()
}

/// The last chunk, and trailers that are none beside `name`.
fn last_chunk(name: &'static str) -> String {
    let lines: String = NO_TRAILERS.map(|name| format!("{name}: 7\r\n")).concat();
    format!("3\r\nabc\r\n0\r\n{lines}{name}: 7\r\n\r\n")
}

fn declared() -> String {
    format!("{}, x-sum", NO_TRAILERS.join(", "))
}

/// A request with a body and these trailers, and the trailers of its answer.
async fn trailers_over_http2(gateway: &Gateway) -> Option<http::HeaderMap> {
    let io = Via::Http2.connect(gateway.address_for(Via::Http2)).await;
    let (mut requests, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("https://a/").header("te", "trailers");
    let request = request.header("trailer", declared()).body(()).unwrap();
    let (response, mut body) = requests.send_request(request, false).unwrap();
    body.send_data("abc".into(), false).unwrap();
    body.send_trailers(trailers("x-sum")).unwrap();
    let mut body = within(SOON, "an answer", response).await.unwrap().into_body();
    while let Some(data) = within(SOON, "the body", body.data()).await {
        data.unwrap();
    }
    within(SOON, "the trailers", body.trailers()).await.unwrap()
}

#[tokio::test]
async fn what_may_be_no_trailer_does_not_pass_behind_a_body() {
    let redis = Redis::start().await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("\"http://{}\"", upstream.local_addr().unwrap());
    let gateway = in_front_of(&redis, &address, "").await;
    let serve = async |name| {
        let (mut backend, _) = within(SOON, "a connection", upstream.accept()).await.unwrap();
        let mut seen = Vec::new();
        while memchr::memmem::find(&seen, b"\r\n0\r\n").is_none() || !seen.ends_with(b"\r\n\r\n") {
            assert!(within(SOON, "the trailer", backend.read_buf(&mut seen)).await.unwrap() > 0);
        }
        let seen = String::from_utf8(seen).unwrap();
        assert!(seen.ends_with("3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), "{seen}");
        let declared = declared();
        let head = format!("HTTP/1.1 200 OK\r\nTrailer: {declared}\r\nConnection: close\r\n");
        let answer = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", last_chunk(name));
        backend.write_all(answer.as_bytes()).await.unwrap();
    };

    let (passed, ()) = tokio::join!(trailers_over_http2(&gateway), serve("x-sum"));
    let passed = passed.expect("one of them is one");
    assert_eq!(passed.len(), 1, "{passed:?}");
    assert_eq!(passed["x-sum"], "7");
    // Where none is left, the body ends all the same.
    let (passed, ()) = tokio::join!(trailers_over_http2(&gateway), serve("host"));
    assert!(passed.is_none_or(|passed| passed.is_empty()));

    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: {}\r\n", declared());
    let request = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", last_chunk("x-sum"));
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = async {
        let mut seen = Vec::new();
        while memchr::memmem::find(&seen, b"\r\n0\r\n").is_none() || !seen.ends_with(b"\r\n\r\n") {
            assert!(within(SOON, "the trailer", client.read_buf(&mut seen)).await.unwrap() > 0);
        }
        String::from_utf8(seen).unwrap()
    };
    let (answer, ()) = tokio::join!(answer, serve("x-sum"));
    assert!(answer.ends_with("3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn what_may_be_no_trailer_does_not_pass_to_a_backend_over_http2() {
    let redis = Redis::start().await;
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("\"http://{}\"", upstream.local_addr().unwrap());
    for name in ["x-sum", "host"] {
        // Another gateway, or both requests may share one connection.
        let gateway = in_front_of(&redis, &address, "http2: true").await;
        let serve = async {
            let (backend, _) = within(SOON, "a connection", upstream.accept()).await.unwrap();
            let mut backend = h2::server::handshake(backend).await.unwrap();
            let (request, mut respond) = backend.accept().await.unwrap().unwrap();
            tokio::spawn(async move { while backend.accept().await.is_some() {} });
            let mut body = request.into_body();
            while let Some(data) = within(SOON, "the body", body.data()).await {
                data.unwrap();
            }
            let seen = within(SOON, "the trailers", body.trailers()).await.unwrap().unwrap();
            assert_eq!(seen.len(), 1, "{seen:?}");
            let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
            stream.send_data("abc".into(), false).unwrap();
            stream.send_trailers(trailers(name)).unwrap();
        };
        let (passed, ()) = tokio::join!(trailers_over_http2(&gateway), serve);
        let expected = usize::from(name == "x-sum");
        assert_eq!(passed.unwrap_or_default().len(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_request_of_http10_without_a_host_gets_that_of_the_backend() {
    let redis = Redis::start().await;
    let says = "location / { return 200 \"$http_host $server_protocol\"; }";
    let (http1, http2) = (Nginx::start(says).await, Nginx::listening("http2", says).await);
    let named = "host: inner.example";
    for (nginx, more, expected) in [
        (&http1, "", format!("{} HTTP/1.1", http1.address())),
        (&http1, named, "inner.example HTTP/1.1".to_owned()),
        (&http2, "http2: true", format!("{} HTTP/2.0", http2.address())),
        (&http2, &format!("http2: true, {named}"), "inner.example HTTP/2.0".to_owned()),
    ] {
        let gateway = in_front_of(&redis, &format!("\"http://{}\"", nginx.address()), more).await;
        let mut socket = TcpStream::connect(gateway.address("http")).await.unwrap();
        socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        let mut response = within(SOON, "an answer", read_head(Box::new(socket), false)).await;
        let body = within(SOON, "a body", response.body.rest()).await.unwrap();
        assert_eq!(response.status, 200);
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }
}

/// nginx on a port of its own: what it redirects to names that port.
const REDIRECTS: &str = "
    add_header Content-Location http://$host:$server_port/content always;
    add_header Refresh '3; url=http://$host:$server_port/refresh' always;
    location /old { return 302 /new?a=b; }
    location /folder { return 301 /folder/; }
    location /out { return 302 https://other.example/; }
    location /new { return 200 arrived; }";

#[tokio::test]
async fn a_redirect_to_the_port_of_the_backend_leads_to_the_gateway() {
    let redis = Redis::start().await;
    for (listen, http2) in [("", false), ("http2", true)] {
        let nginx = Nginx::listening(listen, REDIRECTS).await;
        let upstream = format!("\"http://{}\"", nginx.address());
        let gateway = in_front_of(&redis, &upstream, &format!("http2: {http2}")).await;
        for via in Via::ALL {
            for host in [None, Some("app.example"), Some("app.example:8443")] {
                let get =
                    |path: &str| Request { host: host.map(str::to_owned), ..Request::get(path) };
                let response = gateway.send(via, get("/old")).await;
                assert_eq!(response.status, 302, "{via:?}");
                assert_eq!(response.header("location"), "/new?a=b", "{via:?} {host:?}");
                assert_eq!(response.header("content-location"), "/content");
                assert_eq!(response.header("refresh"), "3; url=/refresh");
                let arrived = gateway.send(via, get(response.header("location"))).await;
                assert_eq!(arrived.text().await, "arrived");
                let response = gateway.send(via, get("/folder")).await;
                assert_eq!(response.header("location"), "/folder/");
                let response = gateway.send(via, get("/out")).await;
                assert_eq!(response.header("location"), "https://other.example/");
            }
        }
        let host = "host: inner.example";
        let named = in_front_of(&redis, &upstream, &format!("{host}, http2: {http2}")).await;
        assert_eq!(named.get("/old").await.header("location"), "/new?a=b");
        let keep = format!("location: keep, {host}, http2: {http2}");
        let kept = in_front_of(&redis, &upstream, &keep).await;
        let port = nginx.address().port();
        let own = |path: &str| format!("http://inner.example:{port}{path}");
        let response = kept.get("/old").await;
        assert_eq!(response.header("location"), own("/new?a=b"));
        assert_eq!(response.header("content-location"), own("/content"));
        assert_eq!(response.header("refresh"), format!("3; url={}", own("/refresh")));
    }
}

/// So many fields, each in a line.
fn lines(count: usize) -> String {
    (0..count).map(|n| format!("x-{n}: {n}\r\n")).collect()
}

/// How many of them are there, in their order.
#[track_caller]
fn counted<'a>(values: impl Iterator<Item = (&'a str, &'a str)>) -> usize {
    let mut count = 0;
    for (name, value) in values {
        if let Some(number) = name.strip_prefix("x-").filter(|rest| rest.parse::<usize>().is_ok()) {
            assert_eq!(number, value);
            count += 1;
        }
    }
    count
}

#[tokio::test]
async fn more_than_a_hundred_fields_pass_both_ways_over_http1() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    // Behind the fields that are said besides them.
    for (sent, received) in [(90, 100), (101, 101), (500, 995), (990, 500)] {
        for via in Via::ALL {
            // What a request over HTTP/2 may have is counted otherwise: `http2.header_list`.
            let sent = if via.is_http2() { sent.min(300) } else { sent };
            let mut request =
                Request::new("POST", "/").header("x-again", "1").body(b"a\nb: c\n\nd");
            for n in 0..sent {
                request = request.header(&format!("x-{n}"), &n.to_string());
            }
            let request = request.header("x-again", "2");
            let serve = async {
                let call = upstream.call().await;
                let fields = call.head.lines().filter_map(|line| line.split_once(": "));
                assert_eq!(counted(fields), sent, "{via:?}");
                let again = call
                    .head
                    .lines()
                    .filter(|line| line.starts_with("x-again"))
                    .collect::<Vec<_>>();
                assert_eq!(again, ["x-again: 1", "x-again: 2"]);
                assert_eq!(call.body, b"a\nb: c\n\nd");
                let fields = lines(received) + "set-cookie: a=1\r\nset-cookie: b=2\r\n";
                call.answer("200 OK", &fields, "a\nb: c\n\nd").await;
            };
            let (response, ()) = tokio::join!(gateway.send(via, request), serve);
            assert_eq!(response.status, 200, "{via:?}, {sent}, {received}");
            let fields = response.headers.iter();
            let fields = fields.map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
            assert_eq!(counted(fields), received, "{via:?}");
            let cookies: Vec<_> = response.headers.get_all("set-cookie").iter().collect();
            assert_eq!(cookies, ["a=1", "b=2"]);
            assert_eq!(response.text().await, "a\nb: c\n\nd");
        }
    }
}

#[tokio::test]
async fn a_head_of_many_fields_may_come_in_pieces_and_again() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    let mut client = TcpStream::connect(gateway.address("http")).await.unwrap();
    client.set_nodelay(true).unwrap();
    for round in 0..3 {
        let lines = lines(400);
        let request =
            format!("POST /{round} HTTP/1.1\r\nHost: a\r\n{lines}Content-Length: 3\r\n\r\na\nb");
        let pieces = async {
            for piece in request.as_bytes().chunks(97 + round) {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let serve = async {
            let call = upstream.call().await;
            let fields = call.head.lines().filter_map(|line| line.split_once(": "));
            assert_eq!((counted(fields), &*call.body), (400, &b"a\nb"[..]));
            call.answer("200 OK", "", "ok").await;
        };
        tokio::join!(pieces, serve);
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            assert!(within(SOON, "an answer", client.read_buf(&mut answer)).await.unwrap() > 0);
        }
    }
}

#[tokio::test]
async fn blanks_before_a_colon_and_folds_of_a_response_are_removed() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    for before in [0, 120] {
        for via in [Via::Http1, Via::Http2] {
            let odd = "X-XSS-Protection : 1\r\nX-Tab\t: 2\r\nX-Fold: a,\r\n b,\r\n\tc\r\n";
            let serve = async {
                let headers = lines(before) + odd;
                upstream.call().await.answer("200 OK", &headers, "ok").await;
            };
            let (response, ()) = tokio::join!(gateway.send(via, Request::get("/")), serve);
            assert_eq!(response.status, 200, "{via:?}");
            assert_eq!(response.header("x-xss-protection"), "1");
            assert_eq!(response.header("x-tab"), "2");
            assert_eq!(response.header("x-fold"), "a, b, c");
        }
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_response_is_named() {
    let redis = Redis::start().await;
    let upstream = Upstream::start().await;
    let gateway = in_front_of(&redis, &url(&upstream), "").await;
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", lines(3000));
    let invalid = "the backend sent an invalid response";
    let too_large = "the backend sent too large a response header";
    for (answer, expected, kind) in [
        ("", "the backend closed its connection without a response", "exchange"),
        ("HTTP/1.1 200", "the backend closed its connection without a response", "exchange"),
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", invalid, "invalid_response"),
        ("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", invalid, "invalid_response"),
        ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", invalid, "invalid_response"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", invalid, "transfer_coding"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\r\nabc",
            invalid,
            "transfer_coding",
        ),
        (&large, too_large, "large_response"),
        (&many, too_large, "large_response"),
    ] {
        let kind = format!("kind=\"{kind}\"");
        let count = async || gateway.metrics().await.sum("ssegate_upstream_errors_total", &[&kind]);
        let before = count().await;
        for via in [Via::Http1, Via::Http2] {
            let serve = async {
                let mut call = upstream.call().await;
                call.write(answer).await;
            };
            let (response, ()) = tokio::join!(gateway.send(via, Request::get("/")), serve);
            assert_eq!(response.status, 502, "{via:?}");
            let text = response.text().await;
            let shown: String = answer.chars().take(50).collect();
            assert_eq!(text, format!("502 Bad Gateway: {expected}\n"), "{shown:?}");
        }
        assert!(count().await >= before + 2.0, "{kind}");
    }
    let down = in_front_of(&redis, &format!("\"http://127.0.0.1:{}\"", free_port()), "").await;
    let text = down.get("/").await.text().await;
    assert_eq!(text, "502 Bad Gateway: the backend cannot be reached\n");
}
