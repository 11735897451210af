//! `ssegate metrics` against an admin listener that says one thing.

use super::healthcheck::admin;
use super::{run, stderr, stdout};

const METRICS: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\
    # HELP ssegate_streams Open event streams.\n\
    # TYPE ssegate_streams gauge\n\
    ssegate_streams{route=\"/events\"} 2\n\
    ssegate_channels 1\n\
    process_open_fds 20\n";

#[test]
fn metrics_prints_what_the_gateway_exposes_or_the_named_part_of_it() {
    let (url, asked) = admin(METRICS);
    let output = run(&["metrics", "--url", &url]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(Some(stdout(&output)), METRICS.split_once("\r\n\r\n").map(|(_, body)| body));
    assert!(asked.join().unwrap().starts_with("GET /metrics HTTP/1.1\r\n"));

    let (url, _) = admin(METRICS);
    let output = run(&["metrics", "--url", &url, "streams", "_fds"]);
    assert_eq!(stdout(&output), "ssegate_streams{route=\"/events\"} 2\nprocess_open_fds 20\n");
}

#[test]
fn a_name_without_a_metric_is_a_failure_as_of_grep() {
    for (names, expected) in [
        (&["nothing"][..], "no metric has nothing in its name"),
        (&["nothing", "HELP"], "no metric has nothing or HELP in its name"),
    ] {
        let (url, _) = admin(METRICS);
        let output = run(&[&["metrics", "--url", &url], names].concat());
        assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
        let said = format!("ssegate: {expected}; all of them: ssegate metrics\n");
        assert_eq!(stderr(&output), said);
    }
    // No metrics at all, and nobody asked for one by its name.
    let (url, _) = admin("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let output = run(&["metrics", "--url", &url]);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

#[test]
fn metrics_that_break_off_are_an_error() {
    let (url, _) = admin("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nssegate_channels 1\n");
    let output = run(&["metrics", "--url", &url]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
    assert!(stderr(&output).contains("is not complete"), "{}", stderr(&output));
}

#[test]
fn metrics_of_a_gateway_that_is_not_there_are_an_error() {
    let output = run(&["metrics", "--url", "http://127.0.0.1:1"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
    assert_eq!(
        stderr(&output),
        "ssegate: cannot connect to 127.0.0.1:1: Connection refused (os error 111); nothing listens there: is it \
         running?\n"
    );
}
