//! Recognizes event streams by their content type.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Whether the content type is `text/event-stream`, with any parameters.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("text/event-stream")
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;
    use http::{HeaderMap, HeaderValue};

    use super::is_event_stream;

    fn headers(kind: &'static str) -> HeaderMap {
        [(CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect()
    }

    #[test]
    fn a_stream_is_recognized_by_its_content_type_in_any_case_with_any_parameters() {
        for (kind, expected) in [
            ("text/event-stream", true),
            ("text/event-stream;charset=UTF-8", true),
            ("Text/Event-Stream ; x=y", true),
            ("text/event-streams", false),
            ("text/plain; text/event-stream", false),
            ("", false),
        ] {
            assert_eq!(is_event_stream(&headers(kind)), expected, "{kind}");
        }
        assert!(!is_event_stream(&HeaderMap::new()));
    }
}
