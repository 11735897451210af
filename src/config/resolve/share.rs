//! Resolves `share`: which requests of a route have one stream of its backend together.

use std::sync::Arc;
use std::time::Duration;

use http::header::COOKIE;
use http::{HeaderName, Method};
use ssegate_hub::StreamSettings;
use ssegate_strict_yaml::{At, Field, Sets as _, quoted};

use super::header_name;
use super::resolver::Resolver;
use crate::config::file::ShareFile;
use crate::config::stream_options::StreamOptions;
use crate::proxy::is_hop_by_hop;
use crate::route::{ShareKeyPart, ShareSettings};

/// How long the channel of a shared stream stays at least, once it has no reader.
const CHANNEL_GRACE: Duration = Duration::from_secs(60);

/// What `share` has to know of its route.
#[derive(Clone, Copy)]
pub(super) struct SharedRoute<'a> {
    pub(super) is_proxied: bool,
    /// The key beside it that excludes it.
    pub(super) beside: Option<&'static str>,
    /// Empty: all methods.
    pub(super) methods: &'a [Method],
}

impl Resolver<'_> {
    /// Returns `None` where the route has no `share`, or after a mistake.
    pub(super) fn share(
        &self,
        field: Field<ShareFile>,
        route: SharedRoute<'_>,
        defaults: &StreamOptions,
    ) -> Option<Arc<ShareSettings>> {
        let At { location, value: file } = field.written()?;
        if !route.is_proxied {
            self.note(
                &location,
                "needs proxy on the same route, whose backend's event streams are shared",
            );
        }
        if let Some(other) = route.beside {
            let message = format!(
                "cannot be on a route with {other}: it has its own way to serve the backend's streams; make a \
                 second route, for the paths of one of them"
            );
            self.note(&location, message);
        }
        if !route.methods.is_empty() && !route.methods.contains(&Method::GET) {
            self.note(
                &location,
                "needs GET among methods of the route; requests with other methods are never shared",
            );
        }
        let mut settings = ShareSettings::default();
        file.set(&mut settings, &location, self.mistakes);
        // The stream ends with its last reader, and its channel after it.
        let linger = 2 * settings.leave + CHANNEL_GRACE;
        let stream = StreamSettings { replay: settings.replay, linger, ..defaults.stream.clone() };
        let (key, stream) = (self.share_key(file.key)?, Arc::new(stream));
        Some(Arc::new(ShareSettings { key, stream, ..settings }))
    }

    fn share_key(&self, field: Field<Vec<Field<String>>>) -> Option<Vec<ShareKeyPart>> {
        let items = match field {
            Field::Absent => return Some(Vec::new()),
            field => field.written()?.value,
        };
        let mut key: Vec<ShareKeyPart> = Vec::new();
        let mut is_valid = true;
        for item in items {
            let part = item.written().and_then(|at| {
                let part = self.parse(&at, key_part)?;
                match repeated(&key, &part) {
                    Some(message) => self.note(&at.location, message),
                    None => return Some(part),
                }
                None
            });
            is_valid &= part.is_some();
            key.extend(part);
        }
        is_valid.then_some(key)
    }
}

/// Why a part adds nothing to a key.
fn repeated(key: &[ShareKeyPart], part: &ShareKeyPart) -> Option<String> {
    if key.contains(part) {
        let name = match part {
            ShareKeyPart::Header(name) => format!("header:{name}"),
            ShareKeyPart::Cookie(name) => format!("cookie:{name}"),
        };
        return Some(format!("{name} is in the key already; remove one of them"));
    }
    let is_cookies = |part: &ShareKeyPart| *part == ShareKeyPart::Header(COOKIE);
    let is_cookie = |part: &ShareKeyPart| matches!(part, ShareKeyPart::Cookie(_));
    let all_and_one = (is_cookies(part) && key.iter().any(is_cookie))
        || (is_cookie(part) && key.iter().any(is_cookies));
    all_and_one.then(|| {
        "header:cookie is every cookie, also those that are named; remove it, or cookie:NAME"
            .to_owned()
    })
}

fn key_part(text: &str) -> Result<ShareKeyPart, String> {
    match text.split_once(':') {
        Some(("header", name)) => header(name).map(ShareKeyPart::Header),
        Some(("cookie", name)) if is_cookie_name(name) => Ok(ShareKeyPart::Cookie(name.to_owned())),
        Some(("cookie", name)) => Err(format!("{} is not the name of a cookie", quoted(name))),
        Some(("jwt", _)) => Err(format!(
            "{} is not known here; send the claim to the backend in a field (proxy.pass), and name that one: \
             header:NAME",
            quoted(text)
        )),
        _ => Err(format!("{} is not known here; use header:NAME or cookie:NAME", quoted(text))),
    }
}

/// What no cookie's name has in it: RFC 6265, section 4.1.1, but for characters that browsers and PHP take, too.
fn is_cookie_name(name: &str) -> bool {
    let is_taken = |byte: u8| byte.is_ascii_graphic() && !b"=;,\"".contains(&byte);
    !name.is_empty() && name.bytes().all(is_taken)
}

/// A field that clients send, and that can be part of a key.
fn header(name: &str) -> Result<HeaderName, String> {
    let parsed = header_name::of_field(name)?;
    let text = parsed.as_str();
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        // CGI, PHP, WSGI and Rack take it for the name with hyphens.
        return Err(format!(
            "{} has a character that backends read as a hyphen; use a name of letters, digits and hyphens",
            quoted(name)
        ));
    }
    match why_not(&parsed) {
        Some(why) => Err(format!("{} {why}; remove it", quoted(name))),
        None => Ok(parsed),
    }
}

const OF_A_CONNECTION: &str = "concerns one connection or a body, and not what is asked for";

/// Why a field cannot be part of a key.
fn why_not(name: &HeaderName) -> Option<&'static str> {
    match name.as_str() {
        "host" => Some("is part of every key"),
        "last-event-id" => {
            Some("says where a reader is, which readers of one stream do not have in common")
        }
        "accept" | "accept-encoding" => {
            Some("is the same for all: the gateway asks for text/event-stream without a coding")
        }
        "range"
        | "if-range"
        | "if-match"
        | "if-unmodified-since"
        | "expect"
        | "upgrade"
        | "x-http-method"
        | "x-http-method-override"
        | "x-method-override"
        | "x-original-url"
        | "x-rewrite-url"
        | "mcp-protocol-version"
        | "mcp-session-id" => Some("is in no request that is shared"),
        "if-none-match" | "if-modified-since" => Some("is not sent for a shared stream"),
        "trailer" | "content-length" | "content-type" | "content-encoding" => Some(OF_A_CONNECTION),
        _ if is_hop_by_hop(name) => Some(OF_A_CONNECTION),
        "forwarded" | "via" | "x-real-ip" => Some("is what the gateway tells the backend"),
        name if name.starts_with("x-forwarded-") => Some("is what the gateway tells the backend"),
        name if name.starts_with("grip-") || name.starts_with("ssegate-") => {
            Some("is for the gateway and its backends, and never a client's")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::key_part;

    #[test]
    fn a_part_of_a_key_is_what_a_client_says_for_itself() {
        for good in [
            "header:accept-language",
            "header:Authorization",
            "header:cookie",
            "header:origin",
            "header:x-user",
            "cookie:session",
            "cookie:a[b]",
            "cookie:__Host-id",
        ] {
            assert!(key_part(good).is_ok(), "{good}");
        }
        for wrong in [
            "",
            "accept-language",
            "header:",
            "header:a b",
            "header:x_user",
            "header:x.user",
            "header:Host",
            "header:X-Forwarded-User",
            "header:X-Real-IP",
            "header:connection",
            "header:TE",
            "header:content-length",
            "header:Last-Event-ID",
            "header:accept",
            "header:range",
            "header:mcp-session-id",
            "header:grip-hold",
            "cookie:",
            "cookie:a b",
            "cookie:a=b",
            "cookie:a;b",
            "cookie:\u{e4}",
            "jwt:sub",
            "body:/id",
        ] {
            assert!(key_part(wrong).is_err(), "{wrong}");
        }
    }
}
