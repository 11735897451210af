//! The other paths as which a backend may read a path.
//!
//! Before it decides what a path is, a server or a framework decodes it (some of them twice), resolves its
//! dot segments, merges its slashes, removes what stands behind a `;`, or reads `\\` as `/`. nginx does most
//! of it before it chooses a `location`. A route is chosen by the path as it is, so that what the backend
//! gets is what the client sent; these readings show where the backend would see another route's path.
//! Paths are case-sensitive here: routes cannot protect a backend that ignores case.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

/// The most readings of one path, itself among them. A path with more is written to deceive.
const MAX_READINGS: usize = 64;
/// The most bytes of them together, so that a long path of this kind does not delay other requests.
const MAX_READING_BYTES: usize = 64 << 10;
/// What is percent-encoded in the path of a route.
const ENCODED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?');

/// What a server may do with a path.
type ReadingStep = fn(&[u8]) -> Vec<u8>;

/// A path has more readings than [`MAX_READINGS`] or [`MAX_READING_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyReadings;

/// Returns the other paths as which a backend may read this one; none for most paths.
///
/// # Errors
/// See [`TooManyReadings`].
pub(super) fn readings(path: &str) -> Result<Vec<String>, TooManyReadings> {
    if is_plain(path) {
        return Ok(Vec::new());
    }
    // Each may or may not be done, in this order.
    const STEPS: [ReadingStep; 9] = [
        decode_but_slashes,
        decode,
        decode,
        cut_at_nul,
        turn_backslashes,
        without_parameters,
        resolve_dots,
        merge_slashes,
        resolve_dots,
    ];
    let mut readings = vec![path.as_bytes().to_vec()];
    let mut bytes_left = MAX_READING_BYTES.saturating_sub(path.len());
    for step in STEPS {
        for index in 0..readings.len() {
            let reading = step(&readings[index]);
            if readings.contains(&reading) {
                continue;
            }
            bytes_left = bytes_left.checked_sub(reading.len()).ok_or(TooManyReadings)?;
            if readings.len() == MAX_READINGS {
                return Err(TooManyReadings);
            }
            readings.push(reading);
        }
    }
    let others = readings[1..].iter();
    Ok(others.map(|reading| percent_encode(reading, ENCODED).to_string()).collect())
}

/// Whether every server reads the path as it is.
fn is_plain(path: &str) -> bool {
    let has_dots = || path.split('/').any(|segment| matches!(segment, "." | ".."));
    !path.contains(['%', ';', '\\']) && !path.contains("//") && !has_dots()
}

fn decode(path: &[u8]) -> Vec<u8> {
    percent_decode(path).collect()
}

/// Decodes everything except slashes: many frameworks split a path at its slashes before they decode.
fn decode_but_slashes(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, behind @ ..] = rest {
        let length = if *first == b'%' && behind.len() >= 2 { 3 } else { 1 };
        let (part, behind) = rest.split_at(length);
        let is_slash = [&b"%2f"[..], b"%5c"].iter().any(|slash| part.eq_ignore_ascii_case(slash));
        match is_slash {
            true => decoded.extend_from_slice(part),
            false => decoded.extend(percent_decode(part)),
        }
        rest = behind;
    }
    decoded
}

fn cut_at_nul(path: &[u8]) -> Vec<u8> {
    path.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

fn turn_backslashes(path: &[u8]) -> Vec<u8> {
    path.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()
}

/// Without path parameters, as Java servers remove them: `/a;x=1/b` is `/a/b`.
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|&byte| byte == b'/');
    let named =
        segments.map(|segment| segment.split(|&byte| byte == b';').next().unwrap_or_default());
    named.collect::<Vec<_>>().join(&b'/')
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut merged = path.to_vec();
    merged.dedup_by(|second, first| *first == b'/' && *second == b'/');
    merged
}

/// Removes dot segments (RFC 3986, section 5.2.4).
fn resolve_dots(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|&byte| byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment.len() == 2 {
                    kept.pop();
                }
                if is_last {
                    kept.push(b"");
                }
            }
            segment => kept.push(segment),
        }
    }
    [&b"/"[..], &kept.join(&b'/')].concat()
}

#[cfg(test)]
mod tests {
    use super::{MAX_READINGS, TooManyReadings, readings};

    #[test]
    fn most_paths_are_read_as_they_are() {
        for path in ["/", "/a", "/a/b.c", "/.well-known/x", "/a..b/...", "/a,b/c@d:e", "/~x/"] {
            assert_eq!(readings(path), Ok(Vec::new()), "{path}");
        }
    }

    #[test]
    fn a_path_can_be_read_as_what_servers_make_of_it() {
        for (path, read) in [
            ("/%61dmin/x", "/admin/x"),
            ("/%2561dmin/x", "/admin/x"),
            ("//admin/x", "/admin/x"),
            ("/.//admin/x", "/admin/x"),
            ("/./admin/x", "/admin/x"),
            ("/x/../admin/x", "/admin/x"),
            ("/x/%2e%2E/admin/x", "/admin/x"),
            ("/x/..%2fadmin/x", "/admin/x"),
            ("/x/..%5Cadmin%5Cx", "/admin/x"),
            ("/x/..\\admin\\x", "/admin/x"),
            ("/x/..;/admin/x", "/admin/x"),
            ("/x/..;y=z/admin/x", "/admin/x"),
            ("/x/..%3b/admin/x", "/admin/x"),
            ("/admin;x/x", "/admin/x"),
            ("/x//../admin", "/x/admin"),
            ("/x//../admin", "/admin"),
            ("/x/%2e%2e/admin/..%2fy", "/admin/..%2fy"),
            ("/admin%00.png", "/admin"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
        ] {
            let encoded = read.replace("%2f", "%252f");
            let readings = readings(path).expect(path);
            assert!(
                readings.iter().any(|one| one == read || *one == encoded),
                "{path}: {readings:?}"
            );
        }
    }

    #[test]
    fn a_reading_is_written_as_the_path_of_a_route() {
        assert_eq!(readings("/caf%C3%A9/a%20b"), Ok(vec!["/caf%C3%A9/a%20b".to_owned()]));
    }

    #[test]
    fn a_path_that_is_written_to_deceive_has_too_many_readings() {
        let path = "/a;b//../%2e%2e/%252e%252e;c\\..//%5c..%2f%00/;d";
        assert_eq!(readings(path), Err(TooManyReadings));
        for length in 0..path.len() {
            let read = readings(&path[..length]);
            assert!(read.is_err() || read.is_ok_and(|read| read.len() < MAX_READINGS));
        }
        let long = |path: &str| readings(&format!("/{}{path}", "a".repeat(16_000)));
        assert!(long("/%C3%A9").is_ok() && long("/../b").is_ok());
        assert_eq!(long("//../b;c"), Err(TooManyReadings));
    }
}
