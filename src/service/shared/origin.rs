//! Where a request comes from and what its target was, as far as that is not in its head, or is in the fields of a
//! proxy.

use http::{HeaderMap, HeaderName, HeaderValue};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Fields in which a trusted proxy reports the target of the request. They are sent unchanged in the question.
pub(super) const TARGET_FACTS: [HeaderName; 9] = [
    X_FORWARDED_HOST,
    HeaderName::from_static("x-forwarded-path"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-protocol"),
    HeaderName::from_static("x-forwarded-scheme"),
    HeaderName::from_static("x-forwarded-ssl"),
    HeaderName::from_static("x-forwarded-uri"),
];

/// Fields in which it reports the path of the request. The question is the gateway's own, so they are not in it.
pub(super) const WAY_FACTS: [&str; 4] =
    ["x-forwarded-for", "x-forwarded-by", "x-forwarded-server", "x-real-ip"];

/// The facts about a request besides its head. Fields that only the gateway may send to the backend must have been
/// removed from the head, and tokens from the query: the question has what the backend would be sent.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct RequestOrigin<'a> {
    /// Identifies its route, also after a reload.
    pub(in crate::service) scope: &'a str,
    /// Whether it came over TLS.
    pub(in crate::service) is_tls: bool,
    /// Whether it came from a trusted proxy, whose forwarding fields count.
    pub(in crate::service) is_trusted: bool,
    /// Whether it has a body.
    pub(in crate::service) has_body: bool,
    /// The fields that tell the backend the client's identity. A later one replaces an earlier one of the same
    /// name.
    pub(in crate::service) identity: &'a [(HeaderName, HeaderValue)],
}

/// The fields that tell the backend the target of the client's request.
pub(super) fn target_facts(
    headers: &HeaderMap,
    origin: RequestOrigin<'_>,
    host: &HeaderValue,
) -> Vec<(HeaderName, Vec<HeaderValue>)> {
    let said = |name: &HeaderName| match origin.is_trusted {
        true => headers.get_all(name).iter().cloned().collect(),
        false => Vec::new(),
    };
    let facts = TARGET_FACTS.into_iter().map(|name| {
        let mut values: Vec<HeaderValue> = said(&name);
        if values.is_empty() && name == X_FORWARDED_HOST {
            values.push(host.clone());
        } else if values.is_empty() && name == X_FORWARDED_PROTO {
            let scheme = if origin.is_tls { "https" } else { "http" };
            values.push(HeaderValue::from_static(scheme));
        }
        (name, values)
    });
    facts.collect()
}
