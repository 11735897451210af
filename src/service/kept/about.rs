//! The description of a kept stream: the request to which it is the response, and the header of the response. Other
//! gateways have it as text.

use std::sync::{Arc, OnceLock};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use super::owner::OwnerTag;
use crate::hex::{hex, unhex};

/// About what a stream takes beside its log.
const BASE_COST: usize = 2 << 10;
/// About what a header field takes beside its text.
const FIELD_COST: usize = 32;

/// The keyed hash of a request's body, once the body is complete.
pub(in crate::service) type BodyDigest = Arc<OnceLock<[u8; 32]>>;

/// The request to which a stream is the response.
#[derive(Clone, Debug)]
pub(in crate::service) struct KeptRequest {
    /// The route: see [`Route::scope`](crate::route::Route::scope).
    pub(in crate::service) scope: Arc<str>,
    pub(in crate::service) owner: OwnerTag,
    pub(in crate::service) method: Method,
    /// Its path.
    pub(in crate::service) path: Box<str>,
    /// Its query, without the id of a last event.
    pub(in crate::service) query: Box<str>,
    pub(in crate::service) body: BodyDigest,
    /// The page that made it.
    pub(in crate::service) origin: Option<HeaderValue>,
}

impl KeptRequest {
    /// Whether both are the same request; `None`: they are equal except for a body whose end is not known yet.
    pub(super) fn is_same(&self, other: &Self) -> Option<bool> {
        let is_same = self.owner.is(&other.owner)
            && self.scope == other.scope
            && self.method == other.method
            && self.path == other.path
            && self.query == other.query;
        if !is_same {
            return Some(false);
        }
        Some(self.body.get()? == other.body.get()?)
    }
}

/// The header fields of a response that later readers get.
#[derive(Clone, Debug, Default)]
pub(in crate::service) struct KeptHead {
    pub(in crate::service) headers: HeaderMap,
    /// Those of the CORS protocol, for pages of the same origin as the first.
    pub(in crate::service) cors: HeaderMap,
}

impl KeptHead {
    /// About what a stream with this header takes beside its log, in bytes.
    pub(super) fn memory(&self) -> usize {
        let fields = self.headers.iter().chain(&self.cors);
        let bytes = fields.map(|(name, value)| name.as_str().len() + value.len() + FIELD_COST);
        BASE_COST + bytes.sum::<usize>()
    }
}

/// The same as text. The bytes of header fields are characters of their number.
#[derive(Debug, Deserialize, Serialize)]
struct AboutText {
    scope: String,
    owner: String,
    method: String,
    path: String,
    query: String,
    origin: Option<String>,
    name: Option<String>,
    headers: Vec<(String, String)>,
    cors: Vec<(String, String)>,
}

/// The description of a stream.
#[derive(Clone, Debug)]
pub(in crate::service) struct KeptAbout {
    pub(in crate::service) request: KeptRequest,
    pub(in crate::service) head: KeptHead,
    /// Its name, with its owner and method.
    pub(in crate::service) name: Option<OwnerTag>,
}

impl KeptAbout {
    /// The description as text.
    pub(super) fn to_text(&self) -> String {
        let request = &self.request;
        let fields = |headers: &HeaderMap| {
            headers.iter().map(|(name, value)| (name.to_string(), latin(value))).collect()
        };
        let text = AboutText {
            scope: request.scope.to_string(),
            owner: hex(request.owner.as_bytes()),
            method: request.method.to_string(),
            path: request.path.to_string(),
            query: request.query.to_string(),
            origin: request.origin.as_ref().map(latin),
            name: self.name.map(|name| hex(name.as_bytes())),
            headers: fields(&self.head.headers),
            cors: fields(&self.head.cors),
        };
        serde_json::to_string(&text).unwrap_or_default()
    }

    /// Parses a description. `digest`: the hash of the request's body, if it is known. `None`: the text is
    /// malformed.
    pub(super) fn parse(text: &[u8], digest: &str) -> Option<Self> {
        let text: AboutText = serde_json::from_slice(text).ok()?;
        let body = BodyDigest::default();
        if let Some(digest) = unhex(digest.as_bytes()).and_then(|digest| digest.try_into().ok()) {
            body.get_or_init(|| digest);
        }
        let request = KeptRequest {
            scope: text.scope.into(),
            owner: tag(&text.owner)?,
            method: text.method.parse().ok()?,
            path: text.path.into(),
            query: text.query.into(),
            body,
            origin: match text.origin {
                Some(origin) => Some(unlatin(&origin)?),
                None => None,
            },
        };
        let fields = |fields: Vec<(String, String)>| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(name.parse::<HeaderName>().ok()?, unlatin(&value)?);
            }
            Some(headers)
        };
        let head = KeptHead { headers: fields(text.headers)?, cors: fields(text.cors)? };
        let name = match text.name {
            Some(name) => Some(tag(&name)?),
            None => None,
        };
        Some(Self { request, head, name })
    }
}

fn tag(text: &str) -> Option<OwnerTag> {
    unhex(text.as_bytes())?.try_into().ok().map(OwnerTag::from_bytes)
}

fn latin(value: &HeaderValue) -> String {
    value.as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

fn unlatin(text: &str) -> Option<HeaderValue> {
    let bytes: Vec<u8> = text.chars().map(|it| u8::try_from(it).ok()).collect::<Option<_>>()?;
    HeaderValue::from_bytes(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};

    use super::{BodyDigest, KeptAbout, KeptHead, KeptRequest};
    use crate::hex::hex;
    use crate::service::kept::owner::OwnerTag;

    #[test]
    fn a_gateway_knows_what_another_one_describes() {
        let body = BodyDigest::default();
        body.get_or_init(|| [7; 32]);
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_bytes(b"caf\xe9").expect("a value"));
        headers.append("x-a", HeaderValue::from_static("two"));
        let mut cors = HeaderMap::new();
        cors.append("access-control-allow-origin", HeaderValue::from_static("*"));
        let request = KeptRequest {
            scope: "/{*rest}".into(),
            owner: OwnerTag::from_bytes([9; 32]),
            method: Method::POST,
            path: "/chat".into(),
            query: "a=\"1\"".into(),
            body,
            origin: Some(HeaderValue::from_static("https://app.example")),
        };
        let head = KeptHead { headers, cors };
        let about = KeptAbout { request, head, name: Some(OwnerTag::from_bytes([3; 32])) };
        let text = about.to_text();
        let known = KeptAbout::parse(text.as_bytes(), &hex(&[7; 32])).expect("the same");
        assert_eq!(known.request.is_same(&about.request), Some(true));
        assert_eq!(known.request.origin, about.request.origin);
        assert_eq!(known.head.headers, about.head.headers);
        assert_eq!(known.head.cors, about.head.cors);
        assert!(known.name == about.name);
        let unknown = KeptAbout::parse(text.as_bytes(), "").expect("without its body");
        assert_eq!(unknown.request.is_same(&about.request), None);
        for wrong in ["", "{}", &text.replace("POST", "P OST"), &text.replace("0909", "09")] {
            assert!(KeptAbout::parse(wrong.as_bytes(), "").is_none(), "{wrong}");
        }
    }
}
