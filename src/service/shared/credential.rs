//! Header fields that identify the client of a request, by their names.
//!
//! Those of the standards, and those that gateways and applications use: a backend does not report which of them it
//! reads. A field that is wrongly taken for a credential costs a stream of the backend. The opposite mistake gives a
//! reader a stream that the backend made for no client. So words are looked for, rather than whole names.

/// Words anywhere in such a name: `authorization`, `x-auth-request-email`, `x-csrf-token`, `signature-input`.
const WORDS: [&str; 18] = [
    "api-key",
    "apikey",
    "assertion",
    "auth",
    "client-cert",
    "client-dn",
    "client-verify",
    "cookie",
    "credential",
    "identity",
    "jwt",
    "oidc",
    "passw",
    "principal",
    "secret",
    "session",
    "signature",
    "token",
];

/// Words between the hyphens of such a name: `remote-user`, `x-tenant-id`.
const PARTS: [&str; 12] = [
    "account", "consumer", "customer", "dpop", "email", "login", "sid", "tenant", "uid", "user",
    "userid", "username",
];

/// Whether the field identifies the client, as far as its name shows.
pub(super) fn is_credential(name: &str) -> bool {
    // CGI, PHP, WSGI and Rack read `x_user` as `x-user`.
    let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    if name.ends_with("user-agent") {
        return false;
    }
    WORDS.iter().any(|word| name.contains(word))
        || name.starts_with("ssl-client-")
        || name.starts_with("x-ssl-client-")
        || name == "x-wsse"
        || name.split('-').any(|part| PARTS.contains(&part))
}

#[cfg(test)]
mod tests {
    use super::is_credential;

    #[test]
    fn a_name_tells_whether_it_is_one() {
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "cookie2",
            "dpop",
            "x-api-key",
            "apikey",
            "x-auth-token",
            "x-auth-request-email",
            "x-amz-security-token",
            "x-amzn-oidc-data",
            "x-csrf-token",
            "x-session-id",
            "x-user",
            "x-user-id",
            "remote-user",
            "x-forwarded-user",
            "x-forwarded-client-cert",
            "x-goog-iap-jwt-assertion",
            "cf-access-jwt-assertion",
            "x-ms-client-principal-id",
            "client-cert",
            "x-client-verify",
            "ssl-client-s-dn",
            "x-ssl-client-serial",
            "signature-input",
            "sec-token-binding",
            "x-tenant-id",
            "x_user",
            "x-wsse",
        ] {
            assert!(is_credential(name), "{name}");
        }
        for name in [
            "accept",
            "accept-language",
            "cache-control",
            "user-agent",
            "x-user-agent",
            "origin",
            "referer",
            "sec-fetch-site",
            "sec-ch-ua",
            "dnt",
            "priority",
            "traceparent",
            "x-request-id",
            "x-requested-with",
            "x-forwarded-for",
            "cf-ray",
            "x-client-version",
        ] {
            assert!(!is_credential(name), "{name}");
        }
    }
}
