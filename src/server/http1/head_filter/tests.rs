use http::StatusCode;
use proptest::prelude::*;

use super::{HeadExtras, HeadFilter, HeadKind, HeadLimits};

const LIMITS: HeadLimits = HeadLimits { fields: 1000, bytes: 32 << 10 };

/// What hyper reads, and what was found, when these pieces arrive.
fn read(kind: HeadKind, pieces: &[&[u8]]) -> (Vec<u8>, HeadExtras) {
    let (mut filter, mut extras) = (HeadFilter::new(kind, LIMITS), HeadExtras::default());
    filter.expect_head();
    let mut out = Vec::new();
    for piece in pieces {
        match filter.filter(piece, &mut extras) {
            Some(replacement) => out.extend(replacement),
            None => out.extend_from_slice(piece),
        }
    }
    (out, extras)
}

fn request(fields: usize) -> String {
    let fields: String = (0..fields).map(|n| format!("x-{n}: {n}\r\n")).collect();
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 3\r\n\r\n")
}

#[test]
fn a_head_with_few_fields_passes_unchanged() {
    let head = request(80);
    let (out, extras) = read(HeadKind::Request, &[head.as_bytes()]);
    assert_eq!((out, extras.fields.len()), (head.into_bytes(), 0));
}

#[test]
fn fields_beyond_the_first_ninety_are_set_aside_except_those_that_hyper_acts_on() {
    let head = request(500);
    let (out, extras) = read(HeadKind::Request, &[head.as_bytes(), b"abc"]);
    let out = String::from_utf8(out).expect("text");
    assert!(out.lines().count() <= 96, "{out}");
    assert!(out.ends_with("\r\nContent-Length: 3\r\n\r\nabc"), "{out}");
    let first = out.matches("x-").count();
    assert_eq!(first + extras.fields.len(), 500);
    for (n, (name, value)) in (first..).zip(&extras.fields) {
        assert_eq!(name.as_str(), format!("x-{n}"));
        assert_eq!(value.to_str().expect("text"), n.to_string());
    }
}

#[test]
fn a_length_that_hyper_does_not_read_is_replaced_by_the_longest_that_it_does() {
    for length in ["18446744073709551614", "18446744073709551615", "99999999999999999999999"] {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\ncontent-length:  {length} \r\n\r\nabc");
        let (first, rest) = head.as_bytes().split_at(40);
        for pieces in [&[head.as_bytes()][..], &[first, rest]] {
            let (out, _) = read(HeadKind::Request, pieces);
            let expected =
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551613\r\n\r\nabc";
            assert_eq!(String::from_utf8(out).expect("text"), expected, "{length}");
        }
        let head = head.replace("POST / HTTP/1.1", "HTTP/1.1 200 OK");
        let (out, _) = read(HeadKind::Response, &[head.as_bytes()]);
        assert_eq!(out, head.as_bytes(), "of a backend it is left alone");
    }
}

#[test]
fn malformed_lines_pass_and_a_head_beyond_the_limits_is_padded() {
    let beyond = |line: &str| {
        let head = request(95).replace("Content-Length", &format!("{line}\r\nContent-Length"));
        String::from_utf8(read(HeadKind::Request, &[head.as_bytes()]).0).expect("text")
    };
    for odd in ["x : y", "no colon", " folded", "x: \0", "x\0: y", ": y", "TE: trailers"] {
        assert!(beyond(odd).contains(&format!("\r\n{odd}\r\n")), "{odd:?}");
    }
    // `Host` and `Content-Length` count as well: 998 more are allowed.
    for (fields, is_padded) in [(998, false), (999, true), (1200, true)] {
        let (out, extras) = read(HeadKind::Request, &[request(fields).as_bytes()]);
        assert!(extras.fields.len() <= 1000);
        let lines = String::from_utf8(out).expect("text").lines().count();
        assert_eq!(lines > 101, is_padded, "{lines} of {fields}");
    }
    let large = "x: ".to_owned() + &"y".repeat(40_000);
    assert!(beyond(&large).contains(&large));
}

#[test]
fn what_hyper_drops_of_a_response_is_kept() {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink : </b>\r\n\r\n";
    let last = "HTTP/1.1 404 \u{e4}h\r\ncontent-length: 3\r\n\r\n\r\n\r";
    let all = [early.as_bytes(), last.as_bytes()].concat();
    for cut in 0..all.len() {
        let (out, extras) = read(HeadKind::Response, &[&all[..cut], &all[cut..]]);
        assert_eq!(out, all, "{cut}");
        assert_eq!(extras.reason.as_deref(), Some("\u{e4}h".as_bytes()), "{cut}");
        let [(StatusCode::EARLY_HINTS, headers)] = &*extras.interim else { panic!("{extras:?}") };
        let links: Vec<_> = headers.get_all("link").iter().collect();
        assert_eq!(links, ["</a>", "</b>"], "{cut}");
    }
}

#[test]
fn a_folded_line_of_a_response_stays_with_its_field() {
    let fields: String = (0..95).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let head = format!("HTTP/1.1 200 OK\r\n{fields}x: a,\r\n  b\r\n\t c \r\ny : z\r\n\r\n");
    let (out, extras) = read(HeadKind::Response, &[head.as_bytes()]);
    assert!(!String::from_utf8(out).expect("text").contains("b"));
    let [.., (_, x), (y, _)] = &*extras.fields else { panic!("{extras:?}") };
    assert_eq!((x.to_str().expect("text"), y.as_str()), ("a, b c", "y"));
}

proptest! {
    /// A head keeps its meaning, and a body its bytes, however they are split into pieces.
    #[test]
    fn no_field_and_no_body_byte_is_lost_or_reordered(
        fields in prop::collection::vec(("[xX]-[a-z]{1,3}|content-length|host", "[ -~]{0,6}"), 0..300),
        ends in prop::collection::vec(any::<bool>(), 300),
        body in "(\r\n|\n|a: b\r\n|[ -~]){0,40}",
        is_response in any::<bool>(),
        cuts in prop::collection::vec(1_usize..400, 1..8),
    ) {
        let first = if is_response { "HTTP/1.1 200 OK" } else { "POST / HTTP/1.1" };
        let kind = if is_response { HeadKind::Response } else { HeadKind::Request };
        let mut head = format!("{first}\r\n");
        for ((name, value), end) in fields.iter().zip(&ends) {
            head.push_str(&format!("{name}: {value}{}", if *end { "\r\n" } else { "\n" }));
        }
        let all = format!("{head}\r\n{body}").into_bytes();
        let (mut pieces, mut rest) = (Vec::new(), &all[..]);
        for cut in cuts.iter().cycle() {
            let (piece, other) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = other;
            if rest.is_empty() { break }
        }
        let (out, extras) = read(kind, &pieces);
        let out = String::from_utf8(out).expect("text");
        let seen = out.strip_suffix(&body).expect("the body is the same");
        let seen: Vec<_> = seen.lines().skip(1).filter_map(|line| line.split_once(':')).collect();
        prop_assert!(seen.len() + extras.fields.len() == fields.len());
        let read = |name: &str| -> Vec<String> {
            let seen = seen.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            let aside = extras.fields.iter().filter(|(n, _)| n.as_str().eq_ignore_ascii_case(name));
            let seen = seen.map(|(_, value)| value.trim_matches([' ', '\t']).to_owned());
            seen.chain(aside.map(|(_, value)| value.to_str().expect("text").to_owned())).collect()
        };
        for (name, _) in &fields {
            let same = fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
            let sent: Vec<_> = same.map(|(_, v)| v.trim_matches([' ', '\t']).to_owned()).collect();
            prop_assert_eq!(read(name), sent);
        }
    }
}
