//! The envelope of a message between gateways: the server at which it was published, and a signature.
//!
//! `SERVER BODY`, or with a key `SERVER SIGNATURE BODY`. The signature covers the channel, too: what was
//! published for one gateway cannot be sent to another. Pure.

use super::server::are_two;
use crate::hex::{hex, unhex};
use crate::source::fleet::FleetKey;

/// Hexadecimal digits of a signature.
const SIGNATURE_DIGITS: usize = 64;

/// Why a message is not for this gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FleetRefusal {
    /// It was published at another server.
    Server,
    /// It has no signature, and this gateway has a key.
    Unsigned,
    /// It has a signature, and this gateway has no key.
    Signed,
    /// It was signed with another key, or changed.
    Signature,
    /// No gateway writes such a message.
    Malformed,
    /// It is one that a later version may write.
    Unknown,
}

impl FleetRefusal {
    /// The label value of this reason.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Unsigned => "unsigned",
            Self::Signed => "signed",
            Self::Signature => "signature",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
        }
    }

    /// Explains the reason to an operator.
    pub(super) fn explanation(self) -> &'static str {
        match self {
            Self::Server => {
                "it was published at another server, which has another order of messages"
            }
            Self::Unsigned => "it is not signed, and this gateway has a fleet.key",
            Self::Signed => "it is signed, and this gateway has no fleet.key",
            Self::Signature => "it is not signed with the fleet.key of this gateway",
            Self::Malformed => "no gateway writes such a message",
            Self::Unknown => "no gateway of this version writes such a message",
        }
    }
}

/// Writes a message for this channel.
pub(super) fn write(server: &str, channel: &str, body: &[u8], key: Option<&FleetKey>) -> Vec<u8> {
    let mut message = format!("{server} ");
    if let Some(key) = key {
        let [channel, server] = [channel.as_bytes(), server.as_bytes()];
        message.push_str(&hex(key.sign(&[channel, b"\n", server, b"\n", body]).as_ref()));
        message.push(' ');
    }
    [message.as_bytes(), body].concat()
}

/// Reads a message that came on this channel; returns its body.
///
/// # Errors
/// It was not written for this gateway, or not by one of its fleet.
pub(super) fn read<'a>(
    message: &'a [u8],
    (server, channel): (&str, &str),
    key: Option<&FleetKey>,
) -> Result<&'a [u8], FleetRefusal> {
    let (written_at, rest) = split(message).ok_or(FleetRefusal::Malformed)?;
    let written_at = str::from_utf8(written_at).map_err(|_| FleetRefusal::Malformed)?;
    // A gateway whose user may not ask for the id of the server can be a part of the fleet.
    if are_two(written_at, server) {
        return Err(FleetRefusal::Server);
    }
    // A body is JSON, which begins with a brace.
    let signed = if rest.starts_with(b"{") { None } else { split(rest) };
    match (signed, key) {
        (None, None) if rest.starts_with(b"{") => Ok(rest),
        (None, Some(_)) if rest.starts_with(b"{") => Err(FleetRefusal::Unsigned),
        (None, _) => Err(FleetRefusal::Malformed),
        (Some(_), None) => Err(FleetRefusal::Signed),
        (Some((signature, body)), Some(key)) => {
            let signature = Some(signature).filter(|digits| digits.len() == SIGNATURE_DIGITS);
            let signature = signature.and_then(unhex).ok_or(FleetRefusal::Malformed)?;
            let signed = [channel.as_bytes(), b"\n", written_at.as_bytes(), b"\n", body].concat();
            if key.verifies(&signed, &signature) { Ok(body) } else { Err(FleetRefusal::Signature) }
        }
    }
}

/// Why this gateway does not know a body. Later versions may write other messages, in JSON: the operator need not act
/// on these.
pub(super) fn not_known(body: &[u8]) -> FleetRefusal {
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body) {
        Ok(_) => FleetRefusal::Unknown,
        Err(_) => FleetRefusal::Malformed,
    }
}

/// The bytes before the first space, and those behind it.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(b' ', text)?;
    Some((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::{FleetRefusal, not_known, read, write};
    use crate::source::fleet::FleetKey;

    const BODY: &[u8] = br#"{"mark":"00000000000000ff"}"#;

    fn key(of: u8) -> FleetKey {
        FleetKey::new(&[of; 32]).expect("long enough")
    }

    #[test]
    fn a_message_reads_back_where_it_was_meant_to_go() {
        for key in [None, Some(key(1))] {
            let message = write("abc", "ssegate:mark", BODY, key.as_ref());
            assert_eq!(read(&message, ("abc", "ssegate:mark"), key.as_ref()), Ok(BODY));
            let elsewhere = read(&message, ("abd", "ssegate:mark"), key.as_ref());
            assert_eq!(elsewhere, Err(FleetRefusal::Server));
        }
    }

    #[test]
    fn a_signature_is_the_hmac_of_channel_server_and_body() {
        let message = write("abc", "ssegate:mark", BODY, Some(&key(b'k')));
        // printf 'ssegate:mark\nabc\n{"mark":"00000000000000ff"}' | openssl dgst -sha256 -hmac kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk
        let expected = format!("abc {HMAC} {}", String::from_utf8_lossy(BODY));
        assert_eq!(String::from_utf8_lossy(&message), expected);
    }

    const HMAC: &str = "66881ed2284d51b111d9344f5439172160cdb9ef6b61b24dbf2c29fc61b9b309";

    #[test]
    fn what_a_later_version_may_write_is_told_from_what_none_does() {
        for (body, expected) in [
            (&br#"{"later":{"a":[1]}}"#[..], FleetRefusal::Unknown),
            (br#"{"mark":"00000000000000ff","more":1}"#, FleetRefusal::Unknown),
            (br#"{"mark":"0000"#, FleetRefusal::Malformed),
            (b"{} {}", FleetRefusal::Malformed),
            (b"{nonsense}", FleetRefusal::Malformed),
        ] {
            assert_eq!(not_known(body), expected, "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_gateway_that_does_not_know_its_server_is_no_stranger() {
        for key in [None, Some(key(1))] {
            for (from, at) in [("unknown", "abc"), ("abc", "unknown"), ("unknown", "unknown")] {
                let message = write(from, "ssegate:mark", BODY, key.as_ref());
                assert_eq!(read(&message, (at, "ssegate:mark"), key.as_ref()), Ok(BODY), "{from}");
            }
            let message = write("abd", "ssegate:mark", BODY, key.as_ref());
            let refusal = read(&message, ("abc", "ssegate:mark"), key.as_ref());
            assert_eq!(refusal, Err(FleetRefusal::Server));
        }
    }

    #[test]
    fn what_is_not_signed_with_the_key_for_this_channel_is_refused() {
        let signed = |channel| write("abc", channel, BODY, Some(&key(1)));
        let refusal = |message: &[u8], of: Option<u8>| {
            let key = of.map(key);
            read(message, ("abc", "ssegate:mark"), key.as_ref()).expect_err("refused")
        };
        let good = signed("ssegate:mark");
        assert_eq!(refusal(&good, Some(2)), FleetRefusal::Signature);
        assert_eq!(refusal(&good, None), FleetRefusal::Signed);
        assert_eq!(refusal(&signed("ssegate:fleet:x"), Some(1)), FleetRefusal::Signature);
        let plain = write("abc", "ssegate:mark", BODY, None);
        assert_eq!(refusal(&plain, Some(1)), FleetRefusal::Unsigned);
        let mut changed = good;
        *changed.last_mut().expect("not empty") = b' ';
        assert_eq!(refusal(&changed, Some(1)), FleetRefusal::Signature);
        for malformed in [&b""[..], b"abc", b"abc ", b"abc zz {}", b"abc \xff\xff {}"] {
            assert_eq!(refusal(malformed, Some(1)), FleetRefusal::Malformed, "{malformed:?}");
        }
    }
}
