//! `ssegate sub` against servers that do one thing each: it behaves as `EventSource` does.

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http_body_util::Full;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;

use super::{run, ssegate, stderr, stdout};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

/// A server in clear text that gives each connection in turn one of `answers` and closes it. The
/// result has each request's header lines, in lower case.
fn server(answers: Vec<String>) -> (String, JoinHandle<Vec<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/events/news", listener.local_addr().unwrap());
    let serve = move |answer: String| answer_one(listener.accept().unwrap().0, &answer);
    (url, thread::spawn(move || answers.into_iter().map(serve).collect()))
}

fn answer_one(mut stream: TcpStream, answer: &str) -> Vec<String> {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
    let request = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase());
    let request = request.collect();
    stream.write_all(answer.as_bytes()).unwrap();
    request
}

#[test]
fn events_are_printed_as_they_come() {
    let (url, server) =
        server(vec![format!("{HEAD}: ready\n\nid: 7\nevent: ping\ndata: a\ndata: b\n\n")]);
    let output = run(&["sub", &url, "--count", "1"]);
    assert_eq!(stdout(&output), "id: 7\nevent: ping\ndata: a\ndata: b\n\n");
    let said: Vec<_> = stderr(&output).lines().collect();
    assert_eq!(said[0], format!("ssegate: {url}: connected over HTTP/1.1"));
    assert!(said[1].starts_with("ssegate: 1 event, 3 bytes in "), "{said:?}");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(output.status.success());
    let request = server.join().unwrap().remove(0);
    assert_eq!(request[0], "get /events/news http/1.1");
    let headers = ["accept: text/event-stream", "cache-control: no-cache", "sec-fetch-mode: cors"];
    for header in headers {
        assert!(request.iter().any(|line| line == header), "{header} in {request:?}");
    }
    assert!(!request.iter().any(|line| line.starts_with("last-event-id")), "{request:?}");
}

#[test]
fn it_comes_back_with_the_last_id_after_the_time_the_server_wished() {
    let (url, server) = server(vec![
        format!("{HEAD}retry: 150\nid: ü1\ndata: one\n\nid: lost\ndata: cut off"),
        format!("{HEAD}data: two\n\nid: 3\n\n"),
        format!("{HEAD}data: three\n\n"),
    ]);
    let output = run(&["sub", &url, "--count", "3", "--json", "-H", "X-Token: secret"]);
    let line = |id: &str, data: &str| {
        format!(r#"{{"from":"{url}","event":"message","id":"{id}","data":"{data}"}}"#)
    };
    let lines: Vec<_> = stdout(&output).lines().collect();
    assert_eq!(lines, [line("ü1", "one"), line("ü1", "two"), line("3", "three")]);
    let said = stderr(&output);
    assert!(said.contains("the stream ended; reconnecting in 150ms"), "{said}");
    let requests = server.join().unwrap();
    let ids = requests.iter().map(|request| {
        assert!(request.iter().any(|line| line == "x-token: secret"));
        request.iter().find_map(|line| line.strip_prefix("last-event-id: "))
    });
    assert_eq!(ids.collect::<Vec<_>>(), [None, Some("ü1"), Some("3")]);
}

#[test]
fn an_answer_that_is_no_stream_ends_it_for_good() {
    for (answer, problem) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "the server responded 404 Not Found"),
        (
            "HTTP/1.1 503 Service Unavailable\r\n\r\n",
            "the server responded 503 Service Unavailable",
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n",
            "not an event stream: Content-Type is \"text/html\"",
        ),
        (
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 40\r\n\r\n\
             404 Not Found: no route matches /x\nmore\n",
            "the server responded 404 Not Found: no route matches /x",
        ),
    ] {
        let (url, _server) = server(vec![answer.into()]);
        let output = run(&["sub", &url, "--for", "20s"]);
        assert_eq!(stderr(&output), format!("ssegate: {url}: {problem}\n"));
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn a_token_is_sent_and_never_printed() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("token"), "a.b.hunter2\n").unwrap();
    let own = ["-H", "Authorization: Basic eDp5"];
    for (more, variable, expected) in [
        (&["--token", "a.b.hunter2"][..], "", "authorization: bearer a.b.hunter2"),
        (&["--token", "@token"], "other", "authorization: bearer a.b.hunter2"),
        (&[], "a.b.hunter2", "authorization: bearer a.b.hunter2"),
        (&[], "@token", "authorization: bearer a.b.hunter2"),
        (&own, "a.b.hunter2", "authorization: basic edp5"),
    ] {
        let (url, server) = server(vec![format!("{HEAD}data: x\n\n")]);
        let arguments: Vec<&str> = ["sub", "-n", "1", &url].iter().chain(more).copied().collect();
        let output =
            ssegate(&arguments, &directory).env("SSEGATE_TOKEN", variable).output().unwrap();
        assert_eq!((output.status.code(), stdout(&output)), (Some(0), "data: x\n\n"));
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
        let request = server.join().unwrap().remove(0);
        let sent: Vec<_> =
            request.iter().filter(|line| line.starts_with("authorization")).collect();
        assert_eq!(sent, [expected]);
    }
    for (arguments, said) in [
        (&["--token", "a", own[0], own[1]][..], "--token and -H Authorization exclude each other"),
        (&["--token", "hunter2 hunter2"], "--token: it is not a token"),
        (&["--token", "@hunter2"], "--token: cannot read the file after @: "),
    ] {
        let arguments: Vec<&str> =
            ["sub", "http://127.0.0.1:1/"].iter().chain(arguments).copied().collect();
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
    }
}

#[test]
fn who_is_refused_is_told_what_to_do() {
    for (status, token, said) in [
        ("401 Unauthorized", "", "; it wants to know who you are: give a token with --token @FILE"),
        ("401 Unauthorized", "a.b.c", "; it does not accept the credential: has it expired"),
        ("403 Forbidden", "", "; not for everybody: give a token with --token @FILE"),
        ("403 Forbidden", "a.b.c", "; the credential is not for this stream: ask for channels"),
    ] {
        let directory = TempDir::new().unwrap();
        let (url, _server) = server(vec![format!("HTTP/1.1 {status}\r\n\r\n")]);
        let output =
            ssegate(&["sub", &url], &directory).env("SSEGATE_TOKEN", token).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let expected = format!("ssegate: {url}: the server responded {status}{said}");
        assert!(stderr(&output).starts_with(&expected), "{}", stderr(&output));
    }
}

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[test]
fn no_content_means_stop_and_is_no_failure_of_a_stream_that_was_open() {
    let open = format!("{HEAD}retry: 100\ndata: x\n\n");
    let (url, _server) = server(vec![open.clone(), NO_CONTENT.into()]);
    let output = run(&["sub", &url]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "data: x\n\n"));

    // Fewer events than were asked for are one.
    let (url, _server) = server(vec![open, NO_CONTENT.into()]);
    let output = run(&["sub", &url, "-n", "2"]);
    assert_eq!(output.status.code(), Some(1));
    let last = stderr(&output).lines().last().unwrap();
    let expected = "ssegate: received 1 of 2 events, then the server responded 204 No Content";
    assert_eq!(last, expected);
}

#[test]
fn a_stream_that_is_stopped_before_it_opened_is_a_failure() {
    let never = |url: &str| {
        format!(
            "ssegate: {url} never opened: the server responded 204 No Content, which tells clients \
             not to reconnect\n"
        )
    };
    let (url, _server) = server(vec![NO_CONTENT.into()]);
    let output = run(&["sub", &url]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), &*never(&url)));

    // One that was sent away with a reason never opened either.
    let away = format!("{HEAD}: the backend cannot be reached\nretry: 100\n");
    let (url, _server) = server(vec![away, NO_CONTENT.into()]);
    let output = run(&["sub", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).ends_with(&never(&url)), "{}", stderr(&output));

    // Nor does another stream make up for it.
    let (url, _server) = server(vec![NO_CONTENT.into()]);
    let (other, _other) = server(vec![format!("{HEAD}retry: 100\ndata: x\n\n"), NO_CONTENT.into()]);
    let output = run(&["sub", &url, &other]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).ends_with(&never(&url)), "{}", stderr(&output));
}

#[test]
fn a_redirect_is_followed_without_credentials_to_another_host() {
    let (there, elsewhere) = server(vec![format!("{HEAD}data: x\n\n")]);
    let (url, _server) =
        server(vec![format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {there}\r\n\r\n")]);
    let output = run(&["sub", &url, "-n", "1", "-H", "Cookie: secret", "-H", "X-Own: y"]);
    assert_eq!(stdout(&output), "data: x\n\n", "{}", stderr(&output));
    let request = elsewhere.join().unwrap().remove(0);
    assert!(request.iter().any(|line| line == "x-own: y"));
    assert!(!request.iter().any(|line| line.contains("secret")), "{request:?}");
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/");
    let output = run(&["sub", &url, "--for", "300ms"]);
    assert!(stderr(&output).contains("reconnecting in 3s"), "{}", stderr(&output));
    // It never opened: that is no success.
    assert_eq!(output.status.code(), Some(1));
    let last = stderr(&output).lines().last().unwrap();
    assert!(last.starts_with(&format!("ssegate: {url} never opened: cannot connect")), "{last}");

    // What was open once is.
    let (url, _server) = server(vec![format!("{HEAD}data: x\n\n")]);
    let output = run(&["sub", &url, "--for", "500ms"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn who_waits_for_an_answer_is_told_so() {
    let quiet = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = quiet.local_addr().unwrap();
    // As it is copied out of a URL: no channel's name.
    let place = format!("{address}/events/news");
    let output = run(&["sub", &place, "--for", "1500ms"]);
    let said: Vec<_> = stderr(&output).lines().collect();
    let waiting = format!("ssegate: {place}: waiting for a response at http://{place}");
    assert_eq!(said, [waiting, format!("ssegate: {place} never opened: no response")]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_reason_for_which_a_gateway_has_no_stream_is_told() {
    const REFUSED: &str = "the stream ended (the backend cannot be reached)";
    let refusal = || format!("{HEAD}: the backend cannot be reached\nretry: 200\n");
    let (url, _server) = server(vec![refusal(), refusal()]);
    let output = run(&["sub", &url, "--for", "300ms"]);
    let said = stderr(&output);
    assert!(said.contains(&format!("{url}: {REFUSED}; reconnecting in 200ms\n")), "{said}");
    // There was no stream: that is no success.
    assert!(said.ends_with(&format!("ssegate: {url} never opened: {REFUSED}\n")), "{said}");
    assert_eq!(output.status.code(), Some(1));

    // One that was open once was there, whatever is said later.
    let ready = format!("{HEAD}:\nretry: 100\n: ready\n");
    let (url, _server) = server(vec![ready, refusal(), refusal(), refusal()]);
    let output = run(&["sub", &url, "--for", "500ms"]);
    assert!(stderr(&output).contains(REFUSED), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn a_port_that_is_none_is_a_mistake_of_usage() {
    for url in ["http://127.0.0.1:99999/", "127.0.0.1:99999/events/news"] {
        let output = run(&["sub", url, "--for", "3s"]);
        assert_eq!(output.status.code(), Some(64));
        assert!(stderr(&output).contains("invalid port 99999"), "{}", stderr(&output));
    }
}

#[test]
fn a_scheme_that_cannot_be_followed_is_a_mistake_of_usage() {
    for url in ["ftp://127.0.0.1/", "ws://127.0.0.1/events/news"] {
        let output = run(&["sub", url, "--for", "3s"]);
        assert_eq!(output.status.code(), Some(64));
        assert!(stderr(&output).contains("only http:// and https://"), "{}", stderr(&output));
    }
}

#[test]
fn the_wrong_scheme_is_told_with_the_right_one() {
    // An alert (RFC 8446, section 6), as a server of TLS sends it to whom speaks HTTP.
    let (url, _server) = server(vec!["\x15\x03\x01\0\x02\x02\x46".to_owned()]);
    let output = run(&["sub", &url, "--count", "1", "--for", "2s"]);
    assert!(stderr(&output).contains("try https://"), "{}", stderr(&output));

    let quick = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", quick.local_addr().unwrap());
    drop(thread::spawn(move || {
        for stream in quick.incoming() {
            stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        }
    }));
    let output = run(&["sub", &url, "--count", "1", "--for", "2s"]);
    assert!(stderr(&output).contains("try http://"), "{}", stderr(&output));
}

#[test]
fn too_few_events_in_time_are_a_failure_where_a_count_was_asked_for() {
    let quiet = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", quiet.local_addr().unwrap());
    let output = run(&["sub", &url, "--count", "2", "--for", "200ms"]);
    let said =
        format!("ssegate: received 0 of 2 events in 200ms; {url} never opened: no response\n");
    assert_eq!(stderr(&output), said);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    let directory = TempDir::new().unwrap();
    let events = "data: x\n\n".repeat(100);
    let (url, _server) = server(vec![format!("{HEAD}{events}"), format!("{HEAD}{events}")]);
    let mut child = ssegate(&["sub", &url], &directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // As `head -1` does.
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
}

#[test]
fn an_interrupt_ends_it_without_failure() {
    let directory = TempDir::new().unwrap();
    let (url, _server) = server(vec![format!("{HEAD}data: x\n\n"); 2]);
    for signal in ["-INT", "-TERM"] {
        let mut child = ssegate(&["sub", &url], &directory)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It says something only after it has begun to watch for signals.
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut String::new()).unwrap();
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(killed.success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
    }
}

const GAP: &str = "event: gap\ndata: {\"reason\":\"expired\",\"channels\":[\"news\"]}\n\n";

#[test]
fn it_says_at_its_end_what_there_was() {
    let answers = || {
        vec![
            format!("{HEAD}retry: 100\ndata: one\n\n{GAP}data: two\n\n"),
            format!("{HEAD}event: ping\ndata: three\n\n"),
        ]
    };
    let (url, _server) = server(answers());
    let output = run(&["sub", &url, "--count", "4"]);
    let said = stderr(&output).lines().last().unwrap();
    assert!(said.starts_with("ssegate: 3 events, 11 bytes in "), "{said}");
    assert!(said.ends_with(" a second); 1 reconnect; 1 gap: 1 expired"), "{said}");
    assert!(!stdout(&output).contains("reconnect"), "it is not among the events");

    let (url, _server) = server(answers());
    let output = run(&["sub", &url, "--count", "4", "--json"]);
    assert_eq!(stdout(&output).lines().count(), 4, "{}", stdout(&output));
    let line: serde_json::Value =
        serde_json::from_str(stderr(&output).lines().last().unwrap()).unwrap();
    let summary = &line["summary"];
    assert_eq!(summary["events"], 3);
    assert_eq!(summary["bytes"], 11);
    assert_eq!(summary["gaps"], serde_json::json!({"expired": 1}));
    assert_eq!(summary["reconnects"], 1);

    // Also where it ends with a failure, before that.
    let (url, _server) = server(vec![format!("{HEAD}retry: 100\ndata: x\n\n"), NO_CONTENT.into()]);
    let output = run(&["sub", &url, "-n", "2"]);
    assert_eq!(output.status.code(), Some(1));
    let said: Vec<_> = stderr(&output).lines().rev().take(2).collect();
    assert!(said[0].starts_with("ssegate: received 1 of 2 events"), "{said:?}");
    assert!(said[1].starts_with("ssegate: 1 event, 1 byte in "), "{said:?}");
}

#[test]
fn it_says_so_when_it_is_interrupted_or_the_time_is_over() {
    let directory = TempDir::new().unwrap();
    let (url, _server) = server(vec![format!("{HEAD}retry: 60000\ndata: x\n\n")]);
    let mut child = ssegate(&["sub", &url], &directory)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    // The event has been printed, and the stream is over.
    assert!(said.any(|line| line.contains("reconnecting in 60s")));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let last = said.last().unwrap();
    assert!(last.starts_with("ssegate: 1 event, 1 byte in "), "{last}");
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let (url, _server) = server(vec![format!("{HEAD}retry: 60000\ndata: x\n\n")]);
    let output = run(&["sub", &url, "--for", "500ms"]);
    assert!(stderr(&output).lines().last().unwrap().starts_with("ssegate: 1 event, 1 byte in "));
}

#[test]
fn it_begins_where_it_is_told_and_goes_on_from_there() {
    let (url, server) = server(vec![
        format!("{HEAD}retry: 100\n: ready\n"),
        format!("{HEAD}id: 9\ndata: one\n\n"),
        format!("{HEAD}data: two\n\n"),
    ]);
    let output = run(&["sub", &url, "-n", "2", "--since", "k3v9qa-41"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let requests = server.join().unwrap();
    let ids = requests.iter().map(|request| {
        request.iter().find_map(|line| line.strip_prefix("last-event-id: ")).unwrap()
    });
    assert_eq!(ids.collect::<Vec<_>>(), ["k3v9qa-41", "k3v9qa-41", "9"]);

    for (since, said) in [
        ("2026-05-01T12:00:00", "write a time with its offset: 2026-05-01T12:00:00Z"),
        ("", "an id has no control characters, and is not empty"),
    ] {
        let output = run(&["sub", "http://127.0.0.1:1/", "--since", since]);
        assert_eq!(output.status.code(), Some(64));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
    }
    // A channel of pub/sub, by the configuration of `ssegate dev`.
    for since in ["beginning", "10m", "2026-05-01T12:00:00Z"] {
        let output = run(&["sub", "news", "--since", since]);
        assert_eq!(output.status.code(), Some(64));
        let said = "ssegate: news: its route has source: pubsub, of which Redis keeps nothing";
        assert!(stderr(&output).starts_with(said), "{}", stderr(&output));
    }
}

#[test]
fn colours_are_as_they_are_asked_for() {
    for (color, expected) in [
        ("never", "data: x\n\n"),
        ("auto", "data: x\n\n"),
        ("always", "\u{1b}[2mdata:\u{1b}[0m x\n\n"),
    ] {
        let (url, _server) = server(vec![format!("{HEAD}data: x\n\n")]);
        let output = run(&["sub", &url, "-n", "1", "--color", color]);
        assert_eq!(stdout(&output), expected, "{color}");
    }
}

#[test]
#[ignore = "needs script of bsdutils: run by tests/run"]
fn nothing_that_is_received_moves_the_cursor_of_a_terminal() {
    // `script` of util-linux gives it one, for stdout and stderr.
    let script = Path::new("/usr/bin/script");
    assert!(script.exists(), "missing: apt-get install bsdutils");
    let wild = "\u{1b}]0;title\u{7}\u{9b}2J\u{202e}";
    for (options, data) in [
        ("--color always", "\u{1b}[2mdata:\u{1b}[0m "),
        ("--color never", "data: "),
        ("--json", "\"data\":\""),
    ] {
        let (url, _server) = server(vec![
            format!("{HEAD}retry: 100\n: {wild}\n"),
            format!("{HEAD}id: {wild}\nevent: {wild}\ndata: {wild}\n\n"),
        ]);
        let program = assert_cmd::cargo::cargo_bin!("ssegate").display();
        let command = format!("{program} sub {url} -n 1 {options}");
        let output = Command::new(script).args(["-qec", &command, "/dev/null"]).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains(data) && shown.contains("the stream ended ("), "{shown:?}");
        for sequence in ["\u{1b}]", "\u{7}", "\u{9b}", "\u{202e}"] {
            assert!(!shown.contains(sequence), "{options}: {shown:?}");
        }
    }
}

/// A server with TLS and ALPN whose certificate is `state/local.crt`, as ssegate's own would be.
/// Every answer is one event that says which protocol was spoken.
fn tls_server(state: &Path, alpn: &[&str]) -> SocketAddr {
    let made =
        rcgen::generate_simple_self_signed(["localhost".into(), "127.0.0.1".into()]).unwrap();
    std::fs::write(state.join("local.crt"), made.cert.pem()).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut tls = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve_tls(listener, tls));
    address
}

/// Ends with the test's process.
#[tokio::main(flavor = "current_thread")]
async fn serve_tls(listener: TcpListener, tls: rustls::ServerConfig) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A client that does not trust us ends the handshake.
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let (stream, service) = (TokioIo::new(stream), service_fn(protocol));
            // How a client leaves is of no interest.
            if is_http2 {
                let builder = http2::Builder::new(TokioExecutor::new());
                builder.serve_connection(stream, service).await.ok();
            } else {
                http1::Builder::new().serve_connection(stream, service).await.ok();
            }
        });
    }
}

async fn protocol(
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let event = format!("data: {:?} {}\n\n", request.version(), request.uri().path());
    let response = Response::builder().header("content-type", "text/event-stream; charset=utf-8");
    Ok(response.body(Full::from(event)).unwrap())
}

fn sub_with_state(state: &TempDir, arguments: &[&str]) -> Output {
    ssegate(arguments, state).env("STATE_DIRECTORY", state.path()).output().unwrap()
}

#[test]
fn it_speaks_the_protocol_that_tls_agrees_on_and_trusts_the_local_certificate() {
    for (alpn, expected) in [
        (&["h2", "http/1.1"][..], "data: HTTP/2.0 /x\n\n"),
        (&["http/1.1"], "data: HTTP/1.1 /x\n\n"),
        (&[], "data: HTTP/1.1 /x\n\n"),
    ] {
        let state = TempDir::new().unwrap();
        let url = format!("https://{}/x", tls_server(state.path(), alpn));
        let output = sub_with_state(&state, &["sub", "-n", "1", &url]);
        assert_eq!(stdout(&output), expected, "{}", stderr(&output));
    }
}

#[test]
fn a_stranger_is_refused_unless_told_otherwise() {
    let (state, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let url = format!("https://{}/x", tls_server(other.path(), &["h2"]));
    let output = sub_with_state(&state, &["sub", "-n", "1", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--insecure"), "{}", stderr(&output));
    assert_eq!(stderr(&output).lines().count(), 1);

    let output = sub_with_state(&state, &["sub", "-n", "1", "--insecure", &url]);
    assert_eq!(stdout(&output), "data: HTTP/2.0 /x\n\n", "{}", stderr(&output));
}
