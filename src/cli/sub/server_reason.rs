//! What a server says about its refusal.

use std::time::Duration;

use http::Response;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

/// How long the first bytes of a body may take, after its head.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The most of it that is printed, in characters.
const MAX_CHARACTERS: usize = 200;

/// Returns the first line of a plain text, without the status that it repeats; `None` if there is none.
pub(super) async fn of(response: &mut Response<Incoming>) -> Option<String> {
    let kind = response.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    if !kind.to_ascii_lowercase().starts_with("text/plain") {
        return None;
    }
    let frame = tokio::time::timeout(TIMEOUT, response.body_mut().frame()).await.ok()??.ok()?;
    let body = frame.into_data().ok()?;
    first_line(&String::from_utf8_lossy(&body), &response.status().to_string())
}

fn first_line(text: &str, status: &str) -> Option<String> {
    let line = text.lines().next()?.trim();
    let line = line.strip_prefix(status).map_or(line, |rest| rest.trim_start_matches([':', ' ']));
    // Nothing that a terminal would act upon.
    let shown: String = line.chars().filter(|c| !c.is_control()).take(MAX_CHARACTERS).collect();
    (!shown.is_empty()).then_some(shown)
}

#[cfg(test)]
mod tests {
    use super::first_line;

    #[test]
    fn the_first_line_is_shown_without_the_status() {
        for (text, expected) in [
            ("401 Unauthorized: the token has expired\nmore\n", Some("the token has expired")),
            ("no such user", Some("no such user")),
            ("\u{1b}[31mred\n", Some("[31mred")),
            ("401 Unauthorized\n", None),
            ("\nlater", None),
            ("", None),
        ] {
            assert_eq!(first_line(text, "401 Unauthorized").as_deref(), expected, "{text:?}");
        }
        let long = "x".repeat(1000);
        assert_eq!(first_line(&long, "").map(|line| line.len()), Some(200));
    }
}
