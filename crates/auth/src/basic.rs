//! Name and password of an `Authorization: Basic` (RFC 7617).

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::Refusal;

/// A name and a password that are not verified yet.
#[derive(Clone, PartialEq, Eq)]
pub struct BasicCredentials {
    /// The name: the text up to the first colon.
    pub name: String,
    /// The password, which may have colons.
    pub password: String,
}

impl fmt::Debug for BasicCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicCredentials").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Returns the name and the password that a request carries.
///
/// # Errors
/// [`Refusal::Missing`] if it has no `Authorization`, or one of another scheme. [`Refusal::Malformed`] if
/// it has two, which cannot be told apart, or one that is not base64, UTF-8 without control characters
/// and a colon (RFC 7617, section 2).
pub fn basic_credentials(headers: &HeaderMap) -> Result<BasicCredentials, Refusal> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() {
        return Err(Refusal::Malformed("two Authorization headers"));
    }
    let value = value.to_str().map_err(|_| Refusal::Malformed("Authorization is not ASCII"))?;
    let (scheme, encoded) = value.split_once(' ').unwrap_or((value, ""));
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Refusal::Missing);
    }
    let decoded = STANDARD.decode(encoded.trim_matches(' '));
    let decoded = decoded.map_err(|_| Refusal::Malformed("`Basic` is not base64"))?;
    let text =
        String::from_utf8(decoded).map_err(|_| Refusal::Malformed("`Basic` is not UTF-8"))?;
    if text.contains(char::is_control) {
        return Err(Refusal::Malformed("`Basic` has a control character"));
    }
    let (name, password) =
        text.split_once(':').ok_or(Refusal::Malformed("`Basic` has no colon"))?;
    Ok(BasicCredentials { name: name.to_owned(), password: password.to_owned() })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::AUTHORIZATION;

    use super::{BasicCredentials, basic_credentials};
    use crate::Refusal;

    fn read(values: &[&str]) -> Result<BasicCredentials, Refusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().expect("a value"));
        }
        basic_credentials(&headers)
    }

    #[test]
    fn a_name_ends_at_the_first_colon() {
        for (value, name, password) in [
            // RFC 7617, section 2.
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Aladdin", "open sesame"),
            // RFC 7617, section 2.1: a pound sign in UTF-8.
            ("Basic dGVzdDoxMjPCow==", "test", "123£"),
            ("bAsIc  dGVzdDoxMjPCow== ", "test", "123£"),
            // printf 'a:b:c:' | base64
            ("Basic YTpiOmM6", "a", "b:c:"),
            ("Basic Og==", "", ""),
        ] {
            let read = read(&[value]).expect(value);
            assert_eq!((&*read.name, &*read.password), (name, password), "{value}");
        }
        let debug = format!("{:?}", read(&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="]));
        assert!(debug.contains("Aladdin") && !debug.contains("sesame"), "{debug}");
    }

    #[test]
    fn another_scheme_is_missing_and_what_cannot_be_read_is_malformed() {
        for values in [&[][..], &["Bearer a"], &["Basics dGVzdDoxMjPCow=="], &[""]] {
            assert_eq!(read(values), Err(Refusal::Missing), "{values:?}");
        }
        let basic = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        for (values, why) in [
            (&[basic, basic][..], "two Authorization headers"),
            (&[basic, "Bearer a"], "two Authorization headers"),
            (&["Bearer a", basic], "two Authorization headers"),
            (&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ"], "`Basic` is not base64"),
            (&["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ== x"], "`Basic` is not base64"),
            (&["Basic _w=="], "`Basic` is not base64"),
            // \xff:
            (&["Basic /zo="], "`Basic` is not UTF-8"),
            // a:\n, a:\x7f and, in UTF-8, a:\u{85}
            (&["Basic YToK"], "`Basic` has a control character"),
            (&["Basic YTp/"], "`Basic` has a control character"),
            (&["Basic YTrChQ=="], "`Basic` has a control character"),
            (&["Basic YQ=="], "`Basic` has no colon"),
            (&["Basic"], "`Basic` has no colon"),
        ] {
            assert_eq!(read(values), Err(Refusal::Malformed(why)), "{values:?}");
        }
    }
}
