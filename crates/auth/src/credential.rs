//! Where a request carries its token.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};
use percent_encoding::percent_decode_str;

use crate::Refusal;

/// A place in which a request may carry a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TokenPlace {
    /// `Authorization: Bearer …` (RFC 6750, section 2.1).
    Bearer,
    /// The cookie with this name (RFC 6265).
    Cookie(String),
    /// The query parameter with this name. Unlike the others, it appears in access logs and browser histories.
    Query(String),
}

/// A token that a request carries.
#[derive(Debug, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The token.
    pub token: Cow<'a, str>,
    /// The place in which it was found.
    pub place: &'a TokenPlace,
}

/// Returns the token of the first of `places` that carries one.
///
/// # Errors
/// [`Refusal::Missing`] if none does. [`Refusal::Malformed`] if a place carries two: which one is meant
/// cannot be known, and another party may have added the second.
pub fn find_token<'a>(
    places: &'a [TokenPlace],
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> Result<Presented<'a>, Refusal> {
    for place in places {
        let token = match place {
            TokenPlace::Bearer => bearer(headers)?.map(Cow::Borrowed),
            TokenPlace::Cookie(name) => cookie(headers, name)?.map(Cow::Borrowed),
            TokenPlace::Query(name) => parameter(query.unwrap_or_default(), name)?,
        };
        if let Some(token) = token {
            return Ok(Presented { token, place });
        }
    }
    Err(Refusal::Missing)
}

/// Returns a query without the parameters in which a token may stand, for logs and for backends.
pub fn without_tokens<'a>(places: &[TokenPlace], query: &'a str) -> Cow<'a, str> {
    let is_token = |part: &str| {
        let key = key_of(part);
        places.iter().any(|place| matches!(place, TokenPlace::Query(name) if *name == *key))
    };
    if query.split('&').any(is_token) {
        let kept: Vec<&str> = query.split('&').filter(|part| !is_token(part)).collect();
        return Cow::Owned(kept.join("&"));
    }
    Cow::Borrowed(query)
}

/// The token of `Authorization: Bearer`. Other schemes are ignored.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let Some(value) = only(headers.get_all(AUTHORIZATION).iter(), "two Authorization headers")?
    else {
        return Ok(None);
    };
    let value = value.to_str().map_err(|_| Refusal::Malformed("Authorization is not ASCII"))?;
    let (scheme, token) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    match token.trim_matches(' ') {
        "" => Err(Refusal::Malformed("`Bearer` without a token")),
        token => Ok(Some(token)),
    }
}

/// The values of all cookies of this name, as they are written (RFC 6265, section 4.2.1). Other cookies may
/// have any bytes; they hide none of these.
pub fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let values = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = values.flat_map(|value| value.split(|&byte| byte == b';'));
    pairs.filter_map(move |pair| {
        let at = pair.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (&pair[..at], &pair[at + 1..]);
        (key.trim_ascii() == name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// The value of a cookie. An empty one counts as absent: applications empty a cookie to log out.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refusal> {
    let named = cookies(headers, name).map(unquoted);
    let value = only(named.filter(|value| !value.is_empty()), "two cookies with the token's name")?;
    let text = value.map(str::from_utf8).transpose();
    text.map_err(|_| Refusal::Malformed("the token in the cookie is not UTF-8"))
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// The decoded value of a query parameter. An empty one counts as absent.
fn parameter<'a>(query: &'a str, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
    let named = query.split('&').filter(|part| *key_of(part) == *name);
    let values = named.map(|part| part.split_once('=').map_or("", |(_, value)| value));
    let Some(value) = only(values.filter(|value| !value.is_empty()), "two tokens in the query")?
    else {
        return Ok(None);
    };
    let decoded = percent_decode_str(value).decode_utf8();
    decoded.map(Some).map_err(|_| Refusal::Malformed("the token in the query is not UTF-8"))
}

/// The decoded key of a part of a query.
fn key_of(part: &str) -> Cow<'_, str> {
    let key = part.split_once('=').map_or(part, |(key, _)| key);
    percent_decode_str(key).decode_utf8_lossy()
}

/// The only one of `values`. Repetitions of the same value count as one.
fn only<T: PartialEq>(
    mut values: impl Iterator<Item = T>,
    two: &'static str,
) -> Result<Option<T>, Refusal> {
    let first = values.next();
    match values.all(|value| Some(&value) == first.as_ref()) {
        true => Ok(first),
        false => Err(Refusal::Malformed(two)),
    }
}

#[cfg(test)]
mod tests {
    use http::header::{AUTHORIZATION, COOKIE};
    use http::{HeaderMap, HeaderValue};

    use super::{TokenPlace, find_token, without_tokens};
    use crate::Refusal;

    fn places() -> [TokenPlace; 3] {
        [TokenPlace::Bearer, TokenPlace::Cookie("token".into()), TokenPlace::Query("token".into())]
    }

    fn found(authorization: &[&str], cookies: &[&str], query: &str) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(AUTHORIZATION, value.parse().expect("a value"));
        }
        for value in cookies {
            headers.append(COOKIE, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let places = places();
        find_token(&places, &headers, Some(query)).map(|found| found.token.into_owned())
    }

    #[test]
    fn the_first_place_with_a_token_wins() {
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(found(&["Bearer a"], &["token=b"], "token=c"), ok("a"));
        assert_eq!(found(&["bEaReR  a"], &[], ""), ok("a"));
        assert_eq!(found(&["Basic eDp5"], &["x=1; token=b"], "token=c"), ok("b"));
        assert_eq!(found(&[], &["x=token", "token=\"b\""], ""), ok("b"));
        assert_eq!(found(&[], &["token="], "x=1&t%6Fken=c%2E"), ok("c."));
        assert_eq!(found(&[], &["token=a;token=a"], ""), ok("a"));
        assert_eq!(found(&[], &["name=Zoë; token=a"], ""), ok("a"));
    }

    #[test]
    fn no_token_is_missing_and_two_are_malformed() {
        assert_eq!(found(&[], &["xtoken=a; Token=b"], "token=&x=1"), Err(Refusal::Missing));
        assert_eq!(found(&["Basic eDp5"], &[], ""), Err(Refusal::Missing));
        for (authorization, cookies, query) in [
            (&["Bearer a", "Bearer b"][..], &[][..], ""),
            (&["Bearer a", "Basic eDp5"], &[], ""),
            (&["Bearer"], &["token=b"], ""),
            (&["Bearer "], &["token=b"], ""),
            (&[], &["token=a; token=b"], ""),
            (&[], &["token=a", "token=b"], ""),
            (&[], &["token=a; x=ë", "x=ë; token=b"], ""),
            (&[], &[], "token=a&token=b"),
            (&[], &[], "token=%ff"),
        ] {
            let found = found(authorization, cookies, query);
            assert!(
                matches!(found, Err(Refusal::Malformed(_))),
                "{found:?} {authorization:?} {cookies:?} {query}"
            );
        }
    }

    #[test]
    fn a_query_goes_on_without_its_token() {
        for (query, kept) in [
            ("a=1&token=x&b=2", "a=1&b=2"),
            ("t%6fken=x", ""),
            ("token", ""),
            ("a=token&tokens=1", "a=token&tokens=1"),
            ("token=1&&token=2&", "&"),
        ] {
            assert_eq!(without_tokens(&places(), query), kept, "{query}");
        }
    }
}
