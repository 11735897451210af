//! The response to a request that hyper cannot read. hyper's own response has a status and no text; this one tells the
//! author of the client what is wrong.

/// Whether these bytes, the first of a response, are those of a refusal (4xx) in HTTP/1.
pub(super) fn is_refusal(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.") && bytes.get(8..10) == Some(b" 4")
}

/// Returns a refusal with the fields of hyper's `refusal`, and with `why` as its text. The connection closes after it.
pub(in crate::server) fn with_text(refusal: &[u8], why: &str) -> Vec<u8> {
    let head = String::from_utf8_lossy(refusal);
    let mut lines = head.split("\r\n").take_while(|line| !line.is_empty());
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.split_once(' ').map_or("", |(_version, status)| status);
    let text = format!("{status}: {why}\n");
    let mut response = format!("{status_line}\r\n");
    let replaced = ["content-length:", "content-type:", "connection:"];
    for line in lines.filter(|line| !replaced.iter().any(|name| is_field(line, name))) {
        response += line;
        response += "\r\n";
    }
    response += "content-type: text/plain; charset=utf-8\r\nconnection: close\r\n";
    response += &format!("content-length: {}\r\n\r\n{text}", text.len());
    response.into_bytes()
}

fn is_field(line: &str, name: &str) -> bool {
    line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::{is_refusal, with_text};

    #[test]
    fn a_refusal_keeps_its_fields_and_has_a_text() {
        let refusal = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\ndate: today\r\n\r\n";
        let expected = "HTTP/1.1 400 Bad Request\r\ndate: today\r\n\
            content-type: text/plain; charset=utf-8\r\nconnection: close\r\ncontent-length: 24\r\n\r\n\
            400 Bad Request: no, no\n";
        assert_eq!(String::from_utf8_lossy(&with_text(refusal, "no, no")), expected);
    }

    #[test]
    fn refusals_are_told_from_other_responses() {
        for (bytes, expected) in [
            ("HTTP/1.1 400 Bad Request", true),
            ("HTTP/1.0 431 Request Header Fields Too Large", true),
            ("HTTP/1.1 100 Continue", false),
            ("HTTP/1.1 200 OK", false),
            ("HTTP/1.", false),
            ("GET / HTTP/1.1 400", false),
        ] {
            assert_eq!(is_refusal(bytes.as_bytes()), expected, "{bytes}");
        }
    }
}
