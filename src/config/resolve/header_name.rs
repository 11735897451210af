//! Names of header fields that tell a backend who a request is from.

use http::HeaderName;
use ssegate_strict_yaml::quoted;

/// Header fields that the gateway or HTTP itself needs.
const OWN_FIELDS: [&str; 12] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The name of a field.
pub(super) fn of_field(name: &str) -> Result<HeaderName, String> {
    let parsed = HeaderName::try_from(name);
    parsed.map_err(|_| format!("{} is not the name of a header field", quoted(name)))
}

/// The name of a field that says who it is, to a backend.
pub(super) fn of_identity(name: &str) -> Result<HeaderName, String> {
    let parsed = of_field(name)?;
    let is_own =
        OWN_FIELDS.contains(&parsed.as_str()) || parsed.as_str().starts_with("x-forwarded-");
    match is_own || parsed.as_str().contains('_') {
        true => Err(format!(
            "{} is not for identities; use one of your own, such as x-user",
            quoted(name)
        )),
        false => Ok(parsed),
    }
}
