//! `ssegate healthcheck` against an admin listener that says one thing.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::{run, stderr, stdout};

/// Answers one request with `answer`; its URL, and what was asked.
pub(crate) fn admin(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let read = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    (url, served)
}

#[test]
fn healthcheck_ends_with_0_or_1_as_the_gateway_says() {
    let (url, asked) = admin("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
    let output = run(&["healthcheck", "--url", &url]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "ok\n"));
    let asked = asked.join().unwrap();
    assert!(asked.starts_with("GET /livez HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: {}\r\n", &url["http://".len()..])), "{asked}");

    let (url, asked) = admin(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 22\r\n\r\n[-]redis down\n[+]drain",
    );
    let output = run(&["healthcheck", "--ready", "--url", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "ssegate: 503 Service Unavailable: [-]redis down; [+]drain\n");
    assert!(asked.join().unwrap().starts_with("GET /readyz?verbose HTTP/1.1\r\n"));
}

#[test]
fn healthcheck_of_a_gateway_that_is_not_there_or_does_not_answer_fails() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = run(&["healthcheck", "--url", &format!("http://127.0.0.1:{port}")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is it running?"), "{}", stderr(&output));

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let output = run(&["healthcheck", "--url", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no response within 2s"), "{}", stderr(&output));

    let output = run(&["healthcheck", "-c", "missing.yaml"]);
    assert_eq!(output.status.code(), Some(1), "a container knows 0 and 1 only");
}

#[test]
fn what_is_no_url_is_shown_with_one() {
    for url in
        ["foo", "foo:9464", "127.0.0.1:9464", "/livez", "http://", "http:///livez", "a b", ""]
    {
        let output = run(&["healthcheck", "--url", url]);
        assert_eq!(output.status.code(), Some(1));
        let said = stderr(&output);
        let expected = "is not a URL; write it like http://127.0.0.1:9464\n";
        assert!(said.starts_with("ssegate: --url: ") && said.ends_with(expected), "{url}: {said}");
    }
}

#[test]
fn a_verdict_does_not_depend_on_the_body() {
    let (url, _) = admin("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nok\n");
    assert_eq!(run(&["healthcheck", "--url", &url]).status.code(), Some(0), "it breaks off");
}

#[test]
fn a_verdict_does_not_depend_on_whether_it_can_be_printed() {
    let (url, asked) = admin("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let directory = tempfile::TempDir::new().unwrap();
    let mut healthcheck = super::ssegate(&["healthcheck", "--url", &url], &directory);
    assert_eq!(healthcheck.stdout(full).status().unwrap().code(), Some(0));
    asked.join().unwrap();
}
