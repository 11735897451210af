//! Parses the GRIP instructions in a backend's response (`Grip-Hold`, `Grip-Channel`,
//! `Grip-Keep-Alive`, `Grip-Status`).

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};

/// A stream that the gateway is to hold open (`Grip-Hold: stream`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The channels to subscribe; at least one.
    pub channels: Vec<HeldChannel>,
    /// The backend's own keep-alive (`Grip-Keep-Alive`); `None`: that of the route.
    pub keep_alive: Option<GripKeepAlive>,
    /// The status for the client (`Grip-Status`), if it differs from that of the response.
    pub status: Option<StatusCode>,
}

/// A channel of a held stream (`Grip-Channel`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldChannel {
    /// Its name.
    pub name: String,
    /// The id of the newest event that the response body already covers (`prev-id`).
    pub prev_id: Option<String>,
}

/// What is sent on an idle stream (`Grip-Keep-Alive`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GripKeepAlive {
    /// The bytes to send.
    pub text: Bytes,
    /// The interval; `None`: that of the route.
    pub timeout: Option<Duration>,
}

/// Why the instructions of a response cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstructError {
    /// An unknown mode.
    #[error("Grip-Hold: {0:?} is not supported: use stream")]
    Hold(String),
    /// Long polling.
    #[error("Grip-Hold: response (long polling) is not supported: use stream")]
    LongPolling,
    /// No channel to subscribe.
    #[error("Grip-Hold without a Grip-Channel")]
    NoChannel,
    /// A filter, which would change what is sent.
    #[error("Grip-Channel: filters are not supported")]
    Filter,
    /// A header with invalid syntax.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}

/// Parses the instructions; `None`: the response holds no stream.
///
/// # Errors
/// See [`InstructError`]: each is the backend's fault.
pub fn parse(headers: &HeaderMap) -> Result<Option<Hold>, InstructError> {
    let Some(hold) = headers.get("grip-hold") else {
        return Ok(None);
    };
    match text(hold, "Grip-Hold")?.trim() {
        "stream" => {}
        "response" => return Err(InstructError::LongPolling),
        other => return Err(InstructError::Hold(other.to_owned())),
    }
    let mut channels = Vec::new();
    for value in headers.get_all("grip-channel") {
        for item in items(text(value, "Grip-Channel")?) {
            channels.push(channel(item?)?);
        }
    }
    if channels.is_empty() {
        return Err(InstructError::NoChannel);
    }
    let keep_alive = headers.get("grip-keep-alive").map(keep_alive).transpose()?;
    let status = headers.get("grip-status").map(status).transpose()?;
    Ok(Some(Hold { channels, keep_alive, status }))
}

fn text<'a>(value: &'a HeaderValue, name: &'static str) -> Result<&'a str, InstructError> {
    std::str::from_utf8(value.as_bytes()).map_err(|_not_text| InstructError::Malformed(name))
}

fn channel(item: ListItem<'_>) -> Result<HeldChannel, InstructError> {
    if item.parameter("filter").is_some() {
        return Err(InstructError::Filter);
    }
    let prev_id = item.parameter("prev-id").filter(|id| !id.is_empty());
    Ok(HeldChannel { name: item.value.to_owned(), prev_id: prev_id.map(str::to_owned) })
}

fn keep_alive(value: &HeaderValue) -> Result<GripKeepAlive, InstructError> {
    const MALFORMED: InstructError = InstructError::Malformed("Grip-Keep-Alive");
    let whole = text(value, "Grip-Keep-Alive")?;
    // The text ends at the first semicolon, and may contain commas.
    let (value, parameters) = whole.split_once(';').unwrap_or((whole, ""));
    let (value, parameters) = (value.trim(), parameters_of(parameters).ok_or(MALFORMED)?);
    let item = ListItem { value, parameters };
    let text = match item.parameter("format") {
        None | Some("" | "raw") => value.as_bytes().to_vec(),
        Some("cstring") => unescape(value).ok_or(MALFORMED)?,
        Some("base64") => BASE64_STANDARD.decode(value).map_err(|_not_base64| MALFORMED)?,
        Some(_) => return Err(MALFORMED),
    };
    let timeout = match item.parameter("timeout") {
        None => None,
        Some(seconds) => Some(seconds.parse().map_err(|_no_number| MALFORMED)?),
    };
    if text.is_empty() {
        return Err(MALFORMED);
    }
    let timeout = timeout.filter(|&seconds| seconds > 0).map(|seconds: u32| seconds.into());
    Ok(GripKeepAlive { text: text.into(), timeout: timeout.map(Duration::from_secs) })
}

/// A status code, optionally followed by a reason phrase.
fn status(value: &HeaderValue) -> Result<StatusCode, InstructError> {
    const MALFORMED: InstructError = InstructError::Malformed("Grip-Status");
    let code = text(value, "Grip-Status")?.split(' ').next().unwrap_or_default();
    let status = code.parse().map_err(|_no_status| MALFORMED)?;
    if (200..=599).contains(&StatusCode::as_u16(&status)) { Ok(status) } else { Err(MALFORMED) }
}

/// One value of a list with its parameters.
#[derive(Debug)]
struct ListItem<'a> {
    value: &'a str,
    parameters: Vec<(&'a str, String)>,
}

impl ListItem<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        let mut named = self.parameters.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }
}

/// Parses a list such as `a; prev-id=1, b`. Empty elements are ignored (RFC 9110, section 5.6.1).
fn items(list: &str) -> impl Iterator<Item = Result<ListItem<'_>, InstructError>> {
    let mut rest = list;
    let texts = std::iter::from_fn(move || {
        let end = end_of_item(rest)?;
        let item = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(item.trim())
    });
    texts.filter(|item| !item.is_empty()).map(|item| {
        let (value, parameters) = item.split_once(';').unwrap_or((item, ""));
        let parameters = parameters_of(parameters);
        let parameters = parameters.ok_or(InstructError::Malformed("Grip-Channel"))?;
        Ok(ListItem { value: value.trim(), parameters })
    })
}

/// The end of the first list element: a comma outside a quoted parameter.
fn end_of_item(list: &str) -> Option<usize> {
    if list.is_empty() {
        return None;
    }
    let (mut has_parameters, mut is_quoted, mut is_escaped) = (false, false, false);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' if has_parameters => is_quoted = !is_quoted,
            b';' => has_parameters = true,
            b',' if !is_quoted => return Some(at),
            _ => {}
        }
    }
    Some(list.len())
}

/// Parses parameters such as `a=1; b="2;3"`; `None` if a quoted string does not end.
fn parameters_of(text: &str) -> Option<Vec<(&str, String)>> {
    let (mut parameters, mut rest) = (Vec::new(), text);
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return Some(parameters);
        }
        let end = rest.find(['=', ';']).unwrap_or(rest.len());
        let name = rest[..end].trim();
        rest = &rest[end..];
        let Some(value) = rest.strip_prefix('=') else {
            parameters.push((name, String::new()));
            continue;
        };
        let value = value.trim_start();
        if let Some(quoted) = value.strip_prefix('"') {
            let (value, after) = unquote(quoted)?;
            parameters.push((name, value));
            rest = after;
        } else {
            let end = value.find(';').unwrap_or(value.len());
            parameters.push((name, value[..end].trim().to_owned()));
            rest = &value[end..];
        }
    }
}

/// Parses a quoted string after its opening quote; returns its value and the rest (RFC 9110,
/// section 5.6.4).
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

/// Decodes C escapes. An unknown escape stands for its character; `None`: an escape is truncated.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        out.push(match bytes.next()? {
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            b'x' => {
                let digits =
                    [bytes.next()?, bytes.next()?].map(|digit| char::from(digit).to_digit(16));
                let [Some(high), Some(low)] = digits else { return None };
                u8::try_from(high << 4 | low).ok()?
            }
            other => other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

    use super::{Hold, InstructError, parse};

    fn read(fields: &[(&'static str, &str)]) -> Result<Option<Hold>, InstructError> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
            headers.append(HeaderName::from_static(name), value);
        }
        parse(&headers)
    }

    fn channels(values: &[&str]) -> Result<Vec<(String, Option<String>)>, InstructError> {
        let mut fields = vec![("grip-hold", "stream")];
        fields.extend(values.iter().map(|value| ("grip-channel", *value)));
        let hold = read(&fields)?.expect("a hold");
        Ok(hold.channels.into_iter().map(|channel| (channel.name, channel.prev_id)).collect())
    }

    fn keep_alive(value: &str) -> Result<(Vec<u8>, Option<u64>), InstructError> {
        let fields = [("grip-hold", "stream"), ("grip-channel", "a"), ("grip-keep-alive", value)];
        let keep_alive = read(&fields)?.expect("a hold").keep_alive.expect("a keep-alive");
        Ok((keep_alive.text.to_vec(), keep_alive.timeout.as_ref().map(Duration::as_secs)))
    }

    #[test]
    fn without_grip_hold_the_response_is_not_held() {
        assert_eq!(read(&[("grip-channel", "a"), ("grip-keep-alive", "")]), Ok(None));
    }

    #[test]
    fn channels_may_be_listed_in_one_field_or_in_several() {
        let plain = |name: &str| (name.to_owned(), None);
        let with_id = |name: &str, id: &str| (name.to_owned(), Some(id.to_owned()));
        for (values, expected) in [
            (&["news"][..], vec![plain("news")]),
            (&["a, b", "c"], vec![plain("a"), plain("b"), plain("c")]),
            (&["user:7;prev-id=x-1"], vec![with_id("user:7", "x-1")]),
            (
                &["a; prev-id=1, b; Prev-Id=\"2, \\\"3\\\"\"; other=4,c;x;prev-id="],
                vec![with_id("a", "1"), with_id("b", "2, \"3\""), plain("c")],
            ),
            (&[" w\u{f6}rld \"x\" ,, "], vec![plain("w\u{f6}rld \"x\"")]),
        ] {
            assert_eq!(channels(values), Ok(expected), "{values:?}");
        }
        assert_eq!(channels(&[]), Err(InstructError::NoChannel));
        assert_eq!(channels(&["", " , "]), Err(InstructError::NoChannel));
        assert_eq!(channels(&["a; filter=skip-self"]), Err(InstructError::Filter));
        let malformed = Err(InstructError::Malformed("Grip-Channel"));
        assert_eq!(channels(&["a; prev-id=\"1"]), malformed);
    }

    #[test]
    fn a_channel_name_that_is_not_utf8_is_rejected() {
        let mut headers = HeaderMap::new();
        headers.insert("grip-hold", HeaderValue::from_static("stream"));
        headers.insert("grip-channel", HeaderValue::from_bytes(b"\xff").expect("a value"));
        assert_eq!(parse(&headers), Err(InstructError::Malformed("Grip-Channel")));
    }

    #[test]
    fn only_the_mode_stream_is_supported() {
        let hold = |value| read(&[("grip-hold", value), ("grip-channel", "a")]).map(|_| ());
        assert_eq!(hold("stream"), Ok(()));
        assert_eq!(hold("response"), Err(InstructError::LongPolling));
        assert_eq!(hold("Stream"), Err(InstructError::Hold("Stream".into())));
    }

    #[test]
    fn a_keep_alive_may_be_raw_cstring_or_base64() {
        for (value, text, timeout) in [
            (":", &b":"[..], None),
            (":, x; format=raw; timeout=20", b":, x", Some(20)),
            (":\\n\\n; format=cstring; timeout=30", b":\n\n", Some(30)),
            ("a\\\\b\\r\\t\\x41\\q;format=cstring", b"a\\b\r\tAq", None),
            ("Ogo=; format=base64; timeout=\"5\"", b":\n", Some(5)),
            (": \\n; timeout=0", b": \\n", None),
        ] {
            assert_eq!(keep_alive(value), Ok((text.to_vec(), timeout)), "{value}");
        }
        for value in [
            "",
            "; format=cstring; timeout=5",
            "x\\; format=cstring",
            "\\x4; format=cstring",
            "\\xg0; format=cstring",
            "%%; format=base64",
            "x; format=hex",
            "x; timeout=soon",
            "x; timeout=-1",
            "x; format=\"raw",
        ] {
            let malformed = Err(InstructError::Malformed("Grip-Keep-Alive"));
            assert_eq!(keep_alive(value), malformed, "{value}");
        }
    }

    #[test]
    fn grip_status_overrides_the_status_of_the_response() {
        let status = |value| {
            let fields = [("grip-hold", "stream"), ("grip-channel", "a"), ("grip-status", value)];
            read(&fields).map(|hold| hold.expect("a hold").status)
        };
        assert_eq!(status("201"), Ok(Some(StatusCode::CREATED)));
        assert_eq!(status("304 Not Modified"), Ok(Some(StatusCode::NOT_MODIFIED)));
        for value in ["", "OK", "99", "101", "700", "2000"] {
            assert_eq!(status(value), Err(InstructError::Malformed("Grip-Status")), "{value}");
        }
    }
}
