//! The owner of a kept stream: a keyed hash over the credentials that the route lists.
//!
//! The hash covers the host, the route and each credential: its name, whether it is there, and its value after
//! its length, so that no two sets of credentials have the same hash. The key is drawn at the start and never
//! leaves the process. If all gateways have to know the owners, the key is the secret of the route.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{digest, hmac};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName};
use ssegate_auth::Identity;

use crate::grip::signature::Secret;
use crate::route::{KeepSettings, OwnerCredential};

/// The key of the hash. `Debug` does not reveal it.
#[derive(Clone, Debug)]
pub(in crate::service) struct OwnerKey(hmac::Key);

/// The hash that stands for an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::service) struct OwnerTag([u8; digest::SHA256_OUTPUT_LEN]);

/// The owner of a request.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct Owner {
    pub(in crate::service) tag: OwnerTag,
    /// Whether it has one of the listed credentials.
    pub(in crate::service) is_named: bool,
    /// Whether a browser may have sent one of them by itself, for the page of another site.
    pub(in crate::service) is_ambient: bool,
}

impl OwnerKey {
    /// A new key.
    ///
    /// # Panics
    /// The system has no random numbers.
    pub(in crate::service) fn generate() -> Self {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        Self(key.expect("the system has random numbers"))
    }

    /// The key that gateways share.
    pub(in crate::service) fn shared(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.bytes()))
    }

    /// The hash of parts, each behind its length.
    pub(in crate::service) fn tag<'a>(
        &self,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> OwnerTag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut tag = [0; digest::SHA256_OUTPUT_LEN];
        tag.copy_from_slice(context.sign().as_ref());
        OwnerTag(tag)
    }

    /// Returns the owner of a request to a route, at this host. `None`: a credential is there twice, or there is
    /// none and the route is not public.
    pub(in crate::service) fn owner_of(
        &self,
        (host, scope): (&str, &str),
        keep: &KeepSettings,
        (headers, identity): (&HeaderMap, Option<&Identity>),
    ) -> Option<Owner> {
        let mut parts = vec![host.as_bytes().to_vec(), scope.as_bytes().to_vec()];
        let (mut is_named, mut is_ambient) = (false, false);
        let is_bearer = headers.get(AUTHORIZATION).is_some_and(|value| {
            value.as_bytes().get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case(b"bearer "))
        });
        for credential in &keep.owner {
            let (name, value) = match credential {
                OwnerCredential::Header(name) => {
                    (format!("header:{name}"), only_header(headers, name)?)
                }
                OwnerCredential::Cookie(name) => {
                    (format!("cookie:{name}"), only_cookie(headers, name)?)
                }
                OwnerCredential::Claim(name) => {
                    let value = identity.and_then(|identity| identity.claim(name));
                    (format!("claim:{name}"), value.map(String::into_bytes))
                }
            };
            parts.push(name.into_bytes());
            parts.push(vec![u8::from(value.is_some())]);
            if let Some(value) = value {
                is_named = true;
                is_ambient |= match credential {
                    OwnerCredential::Header(name) if *name == AUTHORIZATION => !is_bearer,
                    OwnerCredential::Header(name) => *name == COOKIE,
                    OwnerCredential::Cookie(_) => true,
                    OwnerCredential::Claim(_) => !is_bearer,
                };
                parts.push(value);
            }
        }
        let tag = self.tag(parts.iter().map(Vec::as_slice));
        (is_named || keep.is_public).then_some(Owner { tag, is_named, is_ambient })
    }
}

impl OwnerTag {
    /// The tag of no owner, to compare with if there is nothing else.
    pub(in crate::service) const NOBODY: Self = Self([0; digest::SHA256_OUTPUT_LEN]);

    /// The tag with these bytes.
    pub(super) fn from_bytes(bytes: [u8; digest::SHA256_OUTPUT_LEN]) -> Self {
        Self(bytes)
    }

    /// Whether both are equal, in constant time.
    pub(in crate::service) fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    pub(in crate::service) fn as_bytes(&self) -> &[u8; digest::SHA256_OUTPUT_LEN] {
        &self.0
    }
}

/// The value of a field: `Some(None)` if it is not there or empty, `None` if it is there twice.
#[expect(clippy::option_option, reason = "not there, and there twice, are two things")]
fn only_header(headers: &HeaderMap, name: &HeaderName) -> Option<Option<Vec<u8>>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.as_bytes().trim_ascii().to_vec());
    match values.next() {
        // Several Cookie fields are one list (RFC 9113, section 8.2.3).
        Some(_) if *name == COOKIE => {
            let all: Vec<_> = headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
            Some(Some(all.join(&b"; "[..])))
        }
        Some(_) => None,
        None => Some(first.filter(|value| !value.is_empty())),
    }
}

/// The value of a cookie, as [`only_header`].
#[expect(clippy::option_option, reason = "as that of a header")]
fn only_cookie(headers: &HeaderMap, name: &str) -> Option<Option<Vec<u8>>> {
    let mut values = ssegate_auth::cookies(headers, name);
    let first = values.next();
    values.next().is_none().then(|| first.filter(|value| !value.is_empty()).map(<[u8]>::to_vec))
}

#[cfg(test)]
mod tests {
    use http::header::{AUTHORIZATION, COOKIE};
    use http::{HeaderMap, HeaderName, HeaderValue};
    use ssegate_auth::Identity;

    use super::{Owner, OwnerKey};
    use crate::route::{KeepSettings, OwnerCredential};

    fn headers(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    fn settings(is_public: bool) -> KeepSettings {
        let owner = vec![
            OwnerCredential::Header(AUTHORIZATION),
            OwnerCredential::Cookie("session".into()),
            OwnerCredential::Claim("sub".into()),
        ];
        KeepSettings { owner, is_public, ..KeepSettings::default() }
    }

    fn owner(key: &OwnerKey, host: &str, fields: &[(HeaderName, &'static str)]) -> Option<Owner> {
        key.owner_of((host, "route"), &settings(false), (&headers(fields), None))
    }

    #[test]
    fn every_set_of_credentials_is_an_owner_of_its_own() {
        let key = OwnerKey::generate();
        let sets: [&[(HeaderName, &'static str)]; 6] = [
            &[(AUTHORIZATION, "Bearer a")],
            &[(AUTHORIZATION, "Bearer b")],
            &[(COOKIE, "session=a")],
            &[(COOKIE, "session=Bearer a")],
            &[(AUTHORIZATION, "Bearer a"), (COOKIE, "session=a")],
            &[(AUTHORIZATION, "Bearer as"), (COOKIE, "session=")],
        ];
        let tag = |host, set| owner(&key, host, set).expect("an owner").tag;
        for (at, set) in sets.iter().enumerate() {
            assert!(tag("a", set).is(&tag("a", set)));
            assert!(!tag("a", set).is(&tag("b", set)), "another host");
            assert!(sets[..at].iter().all(|other| !tag("a", set).is(&tag("a", other))), "{set:?}");
        }
        let same = [(COOKIE, "theme=dark; session=a")];
        assert!(tag("a", &same).is(&tag("a", sets[2])), "other cookies do not matter");
        assert!(!OwnerKey::generate().tag([]).is(&key.tag([])), "another key");
    }

    #[test]
    fn who_is_nobody_or_two_owns_nothing() {
        let key = OwnerKey::generate();
        for nobody in [
            &[][..],
            &[(COOKIE, "other=a")],
            &[(COOKIE, "session=")],
            &[(COOKIE, "session=a; session=a")],
            &[(COOKIE, "session=a"), (COOKIE, "session=b")],
            &[(AUTHORIZATION, "a"), (AUTHORIZATION, "a")],
            &[(AUTHORIZATION, "")],
        ] {
            assert!(owner(&key, "a", nobody).is_none(), "{nobody:?}");
        }
        let public =
            |fields: &[_]| key.owner_of(("a", "route"), &settings(true), (&headers(fields), None));
        assert!(public(&[]).is_some_and(|owner| !owner.is_named));
        assert!(public(&[(COOKIE, "session=a; session=a")]).is_none());
        let mut identity = Identity::named("7");
        identity.claims.insert("sub".into(), "7".into());
        let of_claim =
            key.owner_of(("a", "route"), &settings(false), (&HeaderMap::new(), Some(&identity)));
        assert!(of_claim.is_some_and(|owner| owner.is_named));
    }
}
