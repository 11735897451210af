//! Two users with a planted secret each, and what becomes of them where a route shares streams.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as CODE;

use crate::support::Via;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// What one of the two sends.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// `None`: as the test has it.
    pub(super) via: Option<Via>,
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) host: &'static str,
    pub(super) fields: Vec<(&'static str, String)>,
    pub(super) body: &'static str,
    /// What the backend writes if it was told of it; empty: nothing.
    pub(super) secret: String,
}

/// What becomes of two users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They have one stream, and the backend was told neither secret.
    Together,
    /// They have one stream, and the same secret.
    Same,
    /// Each has a stream with its own secret in it: so many requests.
    Apart(usize),
    /// They have a stream each, and the backend was told no secret: so many requests.
    Untold(usize),
}

/// A row of the matrix.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) share: &'static str,
    /// More of the route.
    pub(super) route: String,
    /// More of `proxy`.
    pub(super) proxy: &'static str,
    /// More of the head of the backend's responses.
    pub(super) answer: &'static str,
    pub(super) users: [User; 2],
    pub(super) fate: Fate,
}

impl Row {
    pub(super) fn proxy(self, proxy: &'static str) -> Self {
        Self { proxy, ..self }
    }

    pub(super) fn answer(self, answer: &'static str) -> Self {
        Self { answer, ..self }
    }

    /// With tokens, from there.
    pub(super) fn jwt(self, from: &str) -> Self {
        let jwt = format!("keys: {SECRET}, algorithms: HS256, from: [\"{from}\"]");
        Self { route: format!("  auth: {{ jwt: {{ {jwt} }} }}\n"), ..self }
    }

    pub(super) fn each(mut self, change: impl Fn(&mut User)) -> Self {
        self.users.iter_mut().for_each(change);
        self
    }
}

pub(super) fn row(name: &'static str, share: &'static str, users: [User; 2], fate: Fate) -> Row {
    Row { name, share, route: String::new(), proxy: "", answer: "", users, fate }
}

/// A user whose secret is in these fields.
pub(super) fn user(secret: &str, fields: &[(&'static str, &str)]) -> User {
    let fields = fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let (target, secret) = ("/a".to_owned(), secret.to_owned());
    User { via: None, method: "GET", target, host: "app.example", fields, body: "", secret }
}

/// Two users whose secrets are in the same field, with this around them.
pub(super) fn by(name: &'static str, (before, after): (&str, &str)) -> [User; 2] {
    ["secret-one", "secret-two"]
        .map(|secret| user(secret, &[(name, &format!("{before}{secret}{after}"))]))
}

pub(super) const PLAIN: (&str, &str) = ("", "");

/// Two users at these targets, whose secrets are these.
pub(super) fn at(targets: [&str; 2], secrets: [&str; 2]) -> [User; 2] {
    let [one, two] = secrets.map(|secret| user(secret, &[]));
    let [first, second] = targets.map(str::to_owned);
    [User { target: first, ..one }, User { target: second, ..two }]
}

/// A token of this name.
pub(super) fn token(sub: &str) -> String {
    let (head, claims) = (
        "{\"alg\":\"HS256\",\"typ\":\"JWT\"}",
        format!("{{\"sub\":\"{sub}\",\"exp\":9999999999}}"),
    );
    let signed = format!("{}.{}", CODE.encode(head), CODE.encode(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("{signed}.{}", CODE.encode(aws_lc_rs::hmac::sign(&key, signed.as_bytes())))
}

/// Two users with tokens in the query.
pub(super) fn with_tokens(secret: fn(&str) -> String) -> [User; 2] {
    ["anna", "bert"].map(|name| User {
        target: format!("/a?token={}", token(name)),
        ..user(&secret(name), &[])
    })
}
