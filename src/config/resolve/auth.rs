//! Resolves `auth`: who may make the requests of a route. No message contains a part of a secret.

use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use ssegate_auth::TokenPlace;
use ssegate_auth::jwt::{Algorithm, JwtSettings, Key, KeySet};
use ssegate_auth::signed_url::UrlKey;
use ssegate_auth::static_token::{StaticToken, TokenHash};
use ssegate_strict_yaml::{At, Field, KeyLocation, OneOrMore, OrOff, Sets as _, quoted};

use super::jwks::JwksPlace;
use super::resolver::Resolver;
use super::secret;
use crate::auth::{AuthSettings, JwtAuth, MethodSettings, Requirement, TokensAuth};
use crate::bounded_file;
use crate::config::file::{AuthFile, JwtFile, SignedUrlFile, StaticTokenFile};

const ONE_METHOD: &str =
    "set one of forward, jwt, signed_url, tokens and basic, or several under any or all";
const ALGORITHMS: &str = "HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, \
                          ES384 and EdDSA are known";

/// The `auth` of a route or of the file; the inner `None`: everybody may use it; the outer one: there was a
/// mistake, so that no route is open by mistake.
pub(super) type ResolvedAuth = Option<Option<Arc<AuthSettings>>>;

impl Resolver<'_> {
    /// Returns the `auth` of a route, which is `default` if it has none of its own.
    pub(super) fn auth(
        &self,
        field: Field<OrOff<Box<AuthFile>>>,
        default: &ResolvedAuth,
    ) -> ResolvedAuth {
        match field {
            Field::Absent => default.clone(),
            Field::Invalid(_) => None,
            Field::Written(At { value: OrOff::Off, .. }) => Some(None),
            Field::Written(At { location, value: OrOff::On(file) }) => {
                let max_streams = file.max_streams.clone().value().map(|count| count.0);
                let requirement = self.requirement(*file, &location)?;
                Some(Some(Arc::new(AuthSettings { requirement, max_streams })))
            }
        }
    }

    fn requirement(&self, file: AuthFile, location: &KeyLocation) -> Option<Requirement> {
        let AuthFile { forward, jwt, signed_url, tokens, basic, any, all, max_streams: _ } = file;
        let methods = [
            (!forward.is_absent()).then_some("forward"),
            (!jwt.is_absent()).then_some("jwt"),
            (!signed_url.is_absent()).then_some("signed_url"),
            (!tokens.is_absent()).then_some("tokens"),
            (!basic.is_absent()).then_some("basic"),
            (!any.is_absent()).then_some("any"),
            (!all.is_absent()).then_some("all"),
        ];
        let there: Vec<&str> = methods.into_iter().flatten().collect();
        match there.as_slice() {
            [] => self.note(location, format!("has no method; {ONE_METHOD}")),
            [_] => {}
            several => {
                let several = several.join(" and ");
                self.note(
                    location,
                    format!("has {several}; write any: or all: with a list of them"),
                );
            }
        }
        let forward = forward.written().and_then(|at| self.forward_auth(at));
        let forward = forward.map(MethodSettings::Forward);
        let jwt = jwt.written().and_then(|at| self.jwt(at)).map(MethodSettings::Jwt);
        let signed_url = signed_url.written().and_then(|at| self.signed_url(at));
        let tokens = tokens.written().and_then(|at| self.tokens(at)).map(MethodSettings::Tokens);
        let method =
            forward.or(jwt).or_else(|| signed_url.map(MethodSettings::SignedUrl)).or(tokens);
        let basic = basic.written().and_then(|at| self.basic(at)).map(MethodSettings::Basic);
        let method = method.or(basic);
        let any = any.written().and_then(|at| self.parts(at)).map(Requirement::Any);
        let all = all.written().and_then(|at| self.parts(at)).map(Requirement::All);
        method.map(Requirement::One).or(any).or(all).filter(|_| there.len() == 1)
    }

    fn parts(&self, at: At<Vec<Field<Box<AuthFile>>>>) -> Option<Vec<Requirement>> {
        if at.value.is_empty() {
            self.note(&at.location, format!("the list is empty; {ONE_METHOD}"));
        }
        let part = |field: Field<Box<AuthFile>>| {
            let At { location, value: file } = field.written()?;
            if let Some(location) = file.max_streams.location() {
                self.note(location, "stands beside any or all, not in the list");
            }
            self.requirement(*file, &location)
        };
        // Collected before the check, so that the mistakes of all items are noted.
        let parts: Vec<_> = at.value.into_iter().map(part).collect();
        parts.into_iter().collect::<Option<Vec<_>>>().filter(|parts| !parts.is_empty())
    }

    fn jwt(&self, At { location, value: mut file }: At<JwtFile>) -> Option<Box<JwtAuth>> {
        let mut settings = JwtAuth {
            keys: KeySet::default(),
            jwks: None,
            rules: JwtSettings { leeway: Duration::from_secs(30), ..JwtSettings::default() },
            places: Vec::new(),
            renew: Duration::ZERO,
        };
        file.set(&mut settings, &location, self.mistakes);
        let place = self.jwks_place(&mut file, &location);
        let what =
            "set the algorithms with which tokens are signed, such as HS256 or [RS256, ES256]";
        let algorithms =
            self.required(std::mem::take(&mut file.algorithms), &location, "algorithms", what);
        let algorithms = algorithms.and_then(|at| self.each(at, algorithm));
        settings.rules.issuers = self.texts(std::mem::take(&mut file.issuer));
        settings.rules.audiences = self.texts(std::mem::take(&mut file.audience));
        settings.rules.types = self.texts(std::mem::take(&mut file.types));
        let places = self.places(std::mem::take(&mut file.from));
        let renew = file.renew.location().filter(|_| !settings.renew.is_zero());
        if let Some(location) = renew
            && places.as_ref().is_some_and(|places| !places.iter().any(is_cookie))
        {
            self.note(location, "is for tokens in cookies; add cookie:NAME to from");
        }
        let JwksPlace { file: jwks, remote } = place?;
        settings.keys = self.keys((file, jwks), remote.is_some(), &location)?;
        settings.rules.algorithms = algorithms?;
        settings.places = places?;
        settings.jwks = remote;
        // A set of keys that is published has no secrets.
        let usable = |algorithm: &Algorithm| {
            (settings.jwks.is_some() && !is_of_secrets(*algorithm))
                || settings.keys.iter().any(|key| key.is_for(*algorithm))
        };
        if let Some(useless) = settings.rules.algorithms.iter().find(|algorithm| !usable(algorithm))
        {
            let message = format!("no key is of a kind that signs with {useless:?}");
            self.note(&location.child("algorithms"), message);
            return None;
        }
        Some(Box::new(settings))
    }

    fn keys(
        &self,
        (file, jwks): (JwtFile, Option<At<PathBuf>>),
        has_remote: bool,
        location: &KeyLocation,
    ) -> Option<KeySet> {
        let is_elsewhere = jwks.is_some() || has_remote;
        if file.keys.is_absent() && file.key_files.is_absent() && !is_elsewhere {
            let message = "missing; set keys, key_files or jwks, such as keys: \"${JWT_KEY}\"";
            self.note(&location.child("keys"), message);
            return None;
        }
        let written = |field: Field<OneOrMore<String>>| match field {
            Field::Absent => Some(Vec::new()),
            field => field.written().and_then(|at| self.each(at, key)),
        };
        if let Field::Written(At { value: OneOrMore(keys), .. }) = &file.keys {
            let written = keys.iter().filter_map(|key| key.clone().written());
            written.filter(|at| !is_pem(&at.value)).for_each(|at| self.has_secret(&at.location));
        }
        let mut keys: Vec<Key> = written(file.keys)?;
        if !file.key_files.is_absent() {
            let OneOrMore(files) = file.key_files.value()?;
            for file in files {
                let at = file.written()?;
                let location = at.location.clone();
                let Some(text) = self.key_file(at)? else { continue };
                let key = std::str::from_utf8(&text).map_err(|_| "is not a PEM file".to_owned());
                let key =
                    key.and_then(|text| Key::from_pem(text).map_err(|error| error.to_string()));
                keys.push(key.map_err(|error| self.note(&location, error)).ok()?);
            }
        }
        let mut keys: KeySet = keys.into_iter().collect();
        if let Some(at) = jwks {
            let location = at.location.clone();
            if let Some(text) = self.key_file(at)? {
                let set = KeySet::from_jwks(&text);
                keys.extend(set.map_err(|error| self.note(&location, error.to_string())).ok()?);
            }
        }
        Some(keys)
    }

    /// The content of a file of keys; `Some(None)` where the files of a configuration are not read.
    pub(super) fn key_file(&self, at: At<PathBuf>) -> Option<Option<Vec<u8>>> {
        let location = at.location.clone();
        let path = self.readable_file(at)?;
        if !self.purpose.reads_files() {
            return Some(None);
        }
        let read = bounded_file::read(&path);
        read.map(Some)
            .map_err(|error| self.note(&location, format!("cannot be read: {error}")))
            .ok()
    }

    fn signed_url(&self, At { location, value: file }: At<SignedUrlFile>) -> Option<Vec<UrlKey>> {
        let what = "set a key, such as `keys: { k1: \"${URL_KEY}\" }`";
        let At { location, value: keys } = self.required(file.keys, &location, "keys", what)?;
        if keys.is_empty() {
            self.note(&location, format!("has none; {what}"));
        }
        let key = |(name, field): (String, Field<String>)| {
            let at = field.written()?;
            self.has_secret(&at.location);
            self.parse(&at, |text| {
                let secret = secret::bytes(text)?;
                UrlKey::new(&name, &secret).ok_or_else(|| match secret.len() < UrlKey::MIN_BYTES {
                    true => secret::too_short(secret.len(), UrlKey::MIN_BYTES),
                    false => "its name may have letters, digits, - and _ only".to_owned(),
                })
            })
        };
        let keys: Vec<_> = keys.into_iter().map(key).collect();
        keys.into_iter().collect::<Option<Vec<_>>>().filter(|keys| !keys.is_empty())
    }

    fn tokens(&self, at: At<Vec<Field<StaticTokenFile>>>) -> Option<TokensAuth> {
        let what = "add a token, such as `- { name: cron, sha256: … }`";
        if at.value.is_empty() {
            self.note(&at.location, format!("the list is empty; {what}"));
        }
        let token = |field: Field<StaticTokenFile>| {
            let At { location, value: file } = field.written()?;
            let name = self.required(file.name, &location, "name", "name who presents the token");
            let what = "set the SHA-256 of the token: printf %s TOKEN | sha256sum";
            let hash = self.required(file.sha256, &location, "sha256", what);
            let hash = hash.and_then(|at| {
                self.parse(&at, |text| {
                    TokenHash::from_hex(text)
                        .ok_or_else(|| format!("is not a SHA-256 of 64 hexadecimal digits; {what}"))
                })
            });
            let name = name?;
            if name.value.is_empty() {
                self.note(&name.location, "is empty; name who presents the token");
            }
            Some(StaticToken { name: name.value, hash: hash? })
        };
        let known: Vec<_> = at.value.into_iter().map(token).collect();
        let known =
            known.into_iter().collect::<Option<Vec<_>>>().filter(|known| !known.is_empty())?;
        Some(TokensAuth { known, places: vec![TokenPlace::Bearer] })
    }

    /// Where a token may stand.
    fn places(&self, field: Field<OneOrMore<String>>) -> Option<Vec<TokenPlace>> {
        match field {
            Field::Absent => Some(vec![TokenPlace::Bearer]),
            field => field.written().and_then(|at| self.each(at, place)),
        }
    }

    fn texts(&self, field: Field<OneOrMore<String>>) -> Vec<String> {
        let Some(At { location, value: OneOrMore(items) }) = field.written() else {
            return Vec::new();
        };
        if items.is_empty() {
            self.note(&location, "the list is empty; remove it, or set a value");
        }
        let texts: Vec<String> = items.into_iter().filter_map(Field::value).collect();
        if texts.iter().any(String::is_empty) {
            self.note(&location, "is empty; remove it, or set a value");
        }
        texts
    }

    /// Parses each item, and notes the mistakes of all. `None` after one, or where there is none.
    fn each<T>(
        &self,
        At { location, value: OneOrMore(items) }: At<OneOrMore<String>>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        if items.is_empty() {
            self.note(&location, "the list is empty");
        }
        let items: Vec<_> =
            items.into_iter().map(|item| self.parse(&item.written()?, &read)).collect();
        items.into_iter().collect::<Option<Vec<_>>>().filter(|items| !items.is_empty())
    }
}

fn is_of_secrets(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

fn is_cookie(place: &TokenPlace) -> bool {
    matches!(place, TokenPlace::Cookie(_))
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    if text.eq_ignore_ascii_case("none") {
        return Err("none is no signature: anybody could make such a token".to_owned());
    }
    Algorithm::from_str(text).map_err(|_| format!("{} is not known; {ALGORITHMS}", quoted(text)))
}

fn is_pem(text: &str) -> bool {
    text.trim_start().starts_with("-----BEGIN")
}

/// A key that is written in the file.
fn key(text: &str) -> Result<Key, String> {
    if is_pem(text) {
        return Key::from_pem(text).map_err(|error| error.to_string());
    }
    match secret::bytes(text)? {
        secret if secret.is_empty() => Err("is empty; set a secret".to_owned()),
        secret => Ok(Key::from_secret(&secret)),
    }
}

fn place(text: &str) -> Result<TokenPlace, String> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"=;,\"\\&?#%".contains(&byte))
    };
    match text.split_once(':') {
        None if text == "bearer" => Ok(TokenPlace::Bearer),
        Some(("cookie", name)) if is_name(name) => Ok(TokenPlace::Cookie(name.to_owned())),
        Some(("query", name)) if is_name(name) => Ok(TokenPlace::Query(name.to_owned())),
        _ => Err(format!("expected bearer, cookie:NAME or query:NAME; this is {}", quoted(text))),
    }
}
