#![no_main]
//! Credentials of clients and messages of senders of revocations: takes a text as each kind of credential,
//! and as what is signed.

use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use ssegate_auth::jwt::{self, Algorithm, JwtSettings, Key, KeySet, SigningKey};
use ssegate_auth::password::Passwords;
use ssegate_auth::revocation::{self, ControlKey, MESSAGE_TYPE, Revocation, RevocationTarget};
use ssegate_auth::signed_url::{self, SignedRequest, UrlKey};
use ssegate_auth::static_token::TokenHash;
use ssegate_auth::{Refusal, TokenPlace, basic_credentials, find_token, without_tokens};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// In 2027, as in the seeds.
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fuzz_target!(|text: &str| {
    places(text);
    basic(text);
    token(text);
    keys(text);
    url(text);
    passwords(text);
    message(text);
});

/// The places in which a request carries a token. The query that is left has no token.
fn places(text: &str) {
    let places = ["token", text.split(['=', '&']).next().unwrap_or_default()];
    let places = places.map(|name| TokenPlace::Query(name.to_owned()));
    let left = without_tokens(&places, text);
    let headers = HeaderMap::new();
    let found = find_token(&places, &headers, Some(&left)).map(|found| found.token);
    assert_eq!(found, Err(Refusal::Missing), "{left}");

    let places = [TokenPlace::Bearer, TokenPlace::Cookie("token".to_owned())];
    let mut headers = HeaderMap::new();
    for (name, value) in [(AUTHORIZATION, text.to_owned()), (COOKIE, format!("a=b; token={text}"))]
    {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
    if let Ok(found) = find_token(&places, &headers, None) {
        assert!(!found.token.is_empty() && text.contains(&*found.token));
    }
}

fn basic(text: &str) {
    let Ok(value) = HeaderValue::from_str(text) else { return };
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    if let Ok(credentials) = basic_credentials(&headers) {
        let both = format!("{}:{}", credentials.name, credentials.password);
        assert!(!credentials.name.contains(':') && !both.contains(char::is_control));
    }
}

/// A text as a token, and as the claims of one.
fn token(text: &str) {
    let keys: KeySet = [Key::from_secret(SECRET)].into_iter().collect();
    let settings = JwtSettings {
        algorithms: vec![Algorithm::HS256],
        audiences: vec!["events".to_owned()],
        ..JwtSettings::default()
    };
    let verified = jwt::verify(text, &keys, &settings, now());
    assert!(verified.is_err() || jwt::inspect(text).is_ok());
    let Some(claims) = object(text) else { return };
    let key = SigningKey::from_secret(SECRET);
    let token = jwt::mint(&claims, &key, Algorithm::HS256, None).expect("a secret signs");
    let written = jwt::inspect(&token).expect("it was minted").claims;
    match jwt::verify(&token, &keys, &settings, now()) {
        Ok(identity) => {
            assert_eq!(identity.claims, written);
            let is_over = identity.expires.is_none_or(|expires| expires <= now() - settings.leeway);
            assert!(!is_over);
            let _ = (identity.claim(text), identity.list("scope"));
        }
        Err(refusal) => assert!(!matches!(
            refusal,
            Refusal::Missing | Refusal::Signature | Refusal::UnknownKey | Refusal::Algorithm
        )),
    }
    assert!(jwt::verify(&changed(&token), &keys, &settings, now()).is_err());
}

fn keys(text: &str) {
    if let Ok(keys) = KeySet::from_jwks(text.as_bytes()) {
        assert!(keys.iter().count() <= 64);
        let settings = JwtSettings { algorithms: vec![Algorithm::ES256], ..JwtSettings::default() };
        assert!(jwt::verify("eyJhbGciOiJFUzI1NiJ9.e30.AAAA", &keys, &settings, now()).is_err());
    }
    let _ = (Key::from_pem(text).err(), SigningKey::from_pem(text).err());
    if let Some(hash) = TokenHash::from_hex(text) {
        assert_eq!(hash.to_string(), text.to_ascii_lowercase());
    }
}

fn url(text: &str) {
    let keys = [UrlKey::new("k1", SECRET).expect("a key")];
    let verify = |path_and_query: &str, now| signed_url::verify(get(path_and_query), &keys, now);
    assert!(verify(text, now()).is_err(), "nobody has signed it");
    let expires = now() + Duration::from_secs(60);
    let Some(signed) = signed_url::sign(get(text), &keys[0], expires) else {
        assert!(text.contains("&sig=") || text.contains('#'));
        return;
    };
    assert_eq!(verify(&signed, now()).expect("it was signed").expires, Some(expires));
    let behind = format!("{signed}&last_event_id={}", text.replace('&', ""));
    assert!(verify(&behind, now()).is_ok());
    assert!(verify(&changed(&signed), now()).is_err());
    assert!(verify(&signed, expires).is_err());
}

fn get(path_and_query: &str) -> SignedRequest<'_> {
    SignedRequest { method: "GET", host: "a.example", path_and_query }
}

/// A file with the text as its lines. Hashing would take seconds.
fn passwords(text: &str) {
    match Passwords::parse(text) {
        Ok(passwords) => {
            assert!((1..=text.lines().count()).contains(&passwords.user_count()));
            assert_eq!(Passwords::parse(&format!("#\n{text}")), Ok(passwords));
        }
        Err(errors) => assert!(!errors.is_empty()),
    }
}

/// A text as a message, as its claims, and as what is revoked.
fn message(text: &str) {
    let key = ControlKey::new(SECRET).expect("a key");
    assert!(revocation::read(text, &key, now()).is_err(), "nobody has signed it");
    if let Some(claims) = object(text) {
        let signing = SigningKey::from_secret(SECRET);
        let message = jwt::mint_typed(MESSAGE_TYPE, &claims, &signing, Algorithm::HS256, None);
        if let Ok(read) = revocation::read(&message.expect("a secret signs"), &key, now()) {
            same_again(&read, &key);
        }
    }
    let id = text.to_owned();
    for target in [RevocationTarget::Session(id.clone()), RevocationTarget::Channel(id)] {
        if let Ok(revocation) = Revocation::new(target, now(), Duration::from_millis(1500)) {
            same_again(&revocation, &key);
        }
    }
}

fn same_again(revocation: &Revocation, key: &ControlKey) {
    let message = revocation::sign(revocation, key);
    // Escapes in JSON, and base64, make a text longer; a fraction of a millisecond is rounded off.
    if revocation.expires() > now() && message.len() <= revocation::MAX_MESSAGE_BYTES {
        assert_eq!(revocation::read(&message, key, now()).as_ref(), Ok(revocation), "{message}");
    }
    assert!(revocation::read(&changed(&message), key, now()).is_err());
}

fn object(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}

/// A text with another character in one place, which depends on the text.
fn changed(text: &str) -> String {
    let place = text.bytes().fold(7, |sum: usize, byte| sum.wrapping_mul(31) + usize::from(byte));
    let place = place % text.chars().count();
    let other = |c| if c == 'A' { 'B' } else { 'A' };
    text.chars().enumerate().map(|(at, c)| if at == place { other(c) } else { c }).collect()
}
