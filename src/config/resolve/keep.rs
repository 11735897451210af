//! Resolves `keep`: which event streams of the backend of a route survive their readers, and whose they are.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use ssegate_strict_yaml::{At, Field, KeyLocation, Sets as _, Time, quoted};

use super::resolver::{Resolver, SourceOrder};
use super::routes::methods;
use super::secret;
use crate::config::file::{KeepFile, KeepStoreFile};
use crate::route::{
    KeepSettings, KeepStore, KeySource, OwnerCredential, ResumeTemplate, WhenNobody,
};

/// What no stream may be the response to.
const NEVER: [Method; 4] = [Method::HEAD, Method::OPTIONS, Method::CONNECT, Method::TRACE];

impl Resolver<'_> {
    /// Returns `None` where the route has no `keep`, or after a mistake.
    pub(super) fn keep(
        &self,
        field: Field<KeepFile>,
        is_proxied: bool,
        has_auth: bool,
    ) -> Option<Arc<KeepSettings>> {
        let At { location, value: file } = field.written()?;
        if !is_proxied {
            self.note(
                &location,
                "needs proxy on the same route, whose backend's event streams are kept",
            );
        }
        let mut settings = KeepSettings::default();
        file.set(&mut settings, &location, self.mistakes);
        let is_there = !file.methods.is_absent();
        let methods_location = location.child("methods");
        let methods = methods(file.methods);
        if let Some(method) = methods.iter().flatten().find(|method| NEVER.contains(method)) {
            self.note(
                &methods_location,
                format!("a response to {method} is never an event stream to keep"),
            );
        }
        let key = self.list(file.key, key_source);
        let owner = self.list(file.owner, |text| owner_credential(text, has_auth));
        if owner.as_ref().is_some_and(Vec::is_empty) && !settings.is_public {
            let message = "missing; list what says whose a stream is, such as [authorization] or \
                           [\"cookie:session\"]; or, if everybody who knows a stream's address may read it, public: true";
            self.note(&location.child("owner"), message);
        }
        let when_nobody = file.when_nobody.written().map(|at| self.parse(&at, when_nobody));
        let store = self.keep_store((file.store, file.secret), &location);
        let resume_at = self.resume_at(file.resume_at, key.as_deref(), &location);
        Some(Arc::new(KeepSettings {
            methods: if is_there { methods? } else { settings.methods },
            key: key?,
            owner: owner?,
            store: store?,
            when_nobody: when_nobody.unwrap_or(Some(settings.when_nobody))?,
            resume_at: resume_at?,
            ..settings
        }))
    }

    fn keep_store(
        &self,
        (store, secret): (Field<KeepStoreFile>, Field<String>),
        keep: &KeyLocation,
    ) -> Option<KeepStore> {
        let store = match store {
            Field::Absent => KeepStoreFile::Memory,
            field => field.written()?.value,
        };
        match store {
            KeepStoreFile::Memory => {
                if let Some(location) = secret.location() {
                    self.note(
                        location,
                        "has no effect without store: redis; remove it, or set that",
                    );
                }
                Some(KeepStore::Memory)
            }
            KeepStoreFile::Redis => {
                if self.order == SourceOrder::Bus {
                    self.note(
                        &keep.child("store"),
                        "redis is not supported with embedded://, which no other gateway has; set redis.url to a \
                         Redis, or use memory",
                    );
                }
                let what = "set the secret by which all gateways know whose a stream is, the same at each, such as \
                            ${KEEP_SECRET:?openssl rand -base64 32}";
                let secret = self.required(secret, keep, "secret", what)?;
                self.has_secret(&secret.location);
                self.parse(&secret, secret::shared).map(KeepStore::Redis)
            }
        }
    }

    fn list<T>(
        &self,
        field: Field<Vec<Field<String>>>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let items = match field {
            Field::Absent => return Some(Vec::new()),
            field => field.written()?.value,
        };
        let items = items.into_iter().map(|item| self.parse(&item.written()?, &read));
        // Collected before the check, so that the mistakes of all items are noted.
        items.collect::<Vec<_>>().into_iter().collect()
    }

    fn resume_at(
        &self,
        field: Field<String>,
        key: Option<&[KeySource]>,
        keep: &KeyLocation,
    ) -> Option<Option<ResumeTemplate>> {
        let at = match field {
            Field::Absent => return Some(None),
            field => field.written()?,
        };
        if at.value.is_empty() {
            return Some(None);
        }
        if key.is_some_and(<[_]>::is_empty) {
            self.note(
                &keep.child("key"),
                "missing; resume_at finds streams by their names, such as [\"body:/id\"]",
            );
        }
        self.parse(&at, ResumeTemplate::parse).map(Some)
    }
}

fn key_source(text: &str) -> Result<KeySource, String> {
    let header = |name: &str| header_name(name);
    match text.split_once(':') {
        Some(("header", name)) => header(name).map(KeySource::Header),
        Some(("response", name)) => header(name).map(KeySource::Response),
        Some(("body", pointer)) if is_pointer(pointer) => Ok(KeySource::Body(pointer.to_owned())),
        Some(("body", _)) => {
            Err(format!("{} is not a JSON pointer; use forms like body:/id", quoted(text)))
        }
        _ => Err(format!(
            "{} is not known here; use header:NAME, body:/POINTER or response:NAME",
            quoted(text)
        )),
    }
}

/// A JSON pointer (RFC 6901, section 3) that does not mean the whole document.
fn is_pointer(text: &str) -> bool {
    text.starts_with('/') && text.split('~').skip(1).all(|after| after.starts_with(['0', '1']))
}

fn owner_credential(text: &str, has_auth: bool) -> Result<OwnerCredential, String> {
    match text.split_once(':') {
        Some(("cookie", name)) if !name.is_empty() => Ok(OwnerCredential::Cookie(name.to_owned())),
        Some(("jwt", _)) if !has_auth => {
            Err("jwt: needs auth on the route, or for the whole file".to_owned())
        }
        Some(("jwt", claim)) if !claim.is_empty() => Ok(OwnerCredential::Claim(claim.to_owned())),
        Some(("header", name)) => header_name(name).map(OwnerCredential::Header),
        Some(_) => Err(format!(
            "{} is not known here; use the name of a header, cookie:NAME or jwt:CLAIM",
            quoted(text)
        )),
        None => header_name(text).map(OwnerCredential::Header),
    }
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    text.parse().map_err(|_| format!("{} is not the name of a header", quoted(text)))
}

fn when_nobody(text: &str) -> Result<WhenNobody, String> {
    match text.split_once(' ').unwrap_or((text, "")) {
        ("continue", "") => Ok(WhenNobody::Continue),
        ("cancel", "") => Ok(WhenNobody::CancelAfter(Duration::ZERO)),
        ("cancel_after", time) if !time.is_empty() => {
            Time::try_from(time.trim().to_owned()).map(|time| WhenNobody::CancelAfter(time.0))
        }
        _ => Err(format!(
            "expected continue, cancel or a form like cancel_after 30s; this is {}",
            quoted(text)
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{is_pointer, key_source, owner_credential, when_nobody};
    use crate::route::WhenNobody;

    #[test]
    fn what_is_written_in_a_word_is_checked() {
        for (text, expected) in [
            ("continue", Some(WhenNobody::Continue)),
            ("cancel", Some(WhenNobody::CancelAfter(Duration::ZERO))),
            ("cancel_after 1m30s", Some(WhenNobody::CancelAfter(Duration::from_secs(90)))),
            ("cancel_after", None),
            ("cancel_after 5", None),
            ("cancel 5s", None),
            ("", None),
        ] {
            assert_eq!(when_nobody(text).ok(), expected, "{text}");
        }
        for (text, expected) in [
            ("/id", true),
            ("/a/0/b", true),
            ("/a~1b~0", true),
            ("/a~2", false),
            ("id", false),
            ("", false),
        ] {
            assert_eq!(is_pointer(text), expected, "{text}");
        }
        for good in ["header:x-id", "body:/id", "response:ssegate-key"] {
            assert!(key_source(good).is_ok(), "{good}");
        }
        for wrong in ["x-id", "header:", "header:a b", "body:id", "cookie:a"] {
            assert!(key_source(wrong).is_err(), "{wrong}");
        }
        for (text, has_auth, expected) in [
            ("authorization", false, true),
            ("cookie:session", false, true),
            ("jwt:sub", true, true),
            ("jwt:sub", false, false),
            ("cookie:", false, false),
            ("query:token", false, false),
        ] {
            assert_eq!(owner_credential(text, has_auth).is_ok(), expected, "{text}");
        }
    }
}
