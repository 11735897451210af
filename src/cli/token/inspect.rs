//! Prints what is in a token.

use std::fmt::Write as _;
use std::fs::File;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use ssegate::health;
use ssegate_auth::Refusal;
use ssegate_auth::jwt::{self, Algorithm, JwtSettings, Key, KeySet, UnverifiedToken};

use super::audience::Audience;
use super::{KEY, PEM, TokenCommand, TokenError};
use crate::cli::count::count;
use crate::cli::secret::{self, SecretOption};
use crate::cli::{CliError, output};

const TOKEN: SecretOption = SecretOption { option: "--inspect", variable: "SSEGATE_TOKEN" };

/// The largest set of keys.
const MAX_JWKS_BYTES: u64 = 1 << 20;

const ALGORITHMS: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

impl TokenCommand {
    pub(super) fn print_token(&self, token: &str) -> Result<(), CliError> {
        let keys = self.keys()?;
        let token = secret::token(token, TOKEN)?;
        let unverified = jwt::inspect(&token).map_err(TokenError::Unreadable)?;
        let now = SystemTime::now();
        let verdict = keys.map(|keys| verify(&token, &unverified, &keys, now));
        // Without -c not even ./gateway.yaml: the token may be anybody's.
        let settings = self.config.is_given().then(|| self.config.load_or_dev()).transpose()?;
        let audience = settings.as_ref().map(|settings| Audience::of(&unverified.claims, settings));
        output::bytes(describe(&unverified, verdict.as_ref(), now).as_bytes())?;
        for line in audience.iter().flat_map(Audience::lines) {
            output::line(line)?;
        }
        if let Some(Err(refusal)) = verdict {
            return Err(TokenError::Refused(refusal).into());
        }
        match audience.is_some_and(|audience| audience.is_wrong()) {
            true => Err(TokenError::Audience(self.config.path().display().to_string()).into()),
            false => Ok(()),
        }
    }

    /// The keys to verify with, if any are given.
    fn keys(&self) -> Result<Option<KeySet>, CliError> {
        if let Some(path) = &self.jwks {
            let usage = |error| CliError::Usage(format!("--jwks {}: {error}", path.display()));
            let content = File::open(path).and_then(|file| secret::bounded(file, MAX_JWKS_BYTES));
            let content = content.map_err(|error| usage(error.to_string()))?;
            return KeySet::from_jwks(&content).map(Some).map_err(|error| usage(error.to_string()));
        }
        let Some(text) = KEY.text(self.key.as_deref())? else { return Ok(None) };
        let secret = KEY.resolve(&text)?;
        let key = match secret.starts_with(PEM) {
            true => Key::from_pem(&String::from_utf8_lossy(&secret))
                .map_err(|error| CliError::Usage(format!("--key: {error}")))?,
            false => Key::from_secret(&secret),
        };
        Ok(Some([key].into_iter().collect()))
    }
}

/// Whether the signature and the times are good. The issuer is printed, but not checked. The audience is checked only
/// against a configuration: see [`Audience`].
fn verify(
    token: &str,
    unverified: &UnverifiedToken,
    keys: &KeySet,
    now: SystemTime,
) -> Result<(), Refusal> {
    let texts = |value: Option<&Value>| match value {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(values)) => {
            values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let settings = JwtSettings {
        algorithms: ALGORITHMS.to_vec(),
        audiences: texts(unverified.claims.get("aud")),
        types: texts(unverified.header.get("typ")),
        may_never_expire: true,
        ..JwtSettings::default()
    };
    jwt::verify(token, keys, &settings, now).map(drop)
}

fn describe(
    token: &UnverifiedToken,
    verdict: Option<&Result<(), Refusal>>,
    now: SystemTime,
) -> String {
    let mut text = format!("header {}\nclaims {}\n", pretty(&token.header), pretty(&token.claims));
    for (name, past, future) in [
        ("iat", "issued", "issued in the future:"),
        ("nbf", "valid since", "not valid before"),
        ("exp", "expired", "expires"),
    ] {
        let line = match token.claims.get(name).map(|value| (value, time(value))) {
            Some((_, Some(time))) if time <= now => format!("{past} {}", moment(time, now)),
            Some((_, Some(time))) => format!("{future} {}", moment(time, now)),
            Some((Value::Null, None)) | None if name == "exp" => {
                "never expires: no claim exp".into()
            }
            Some((Value::Null, None)) | None => continue,
            Some((_, None)) => format!("{name} is not a time"),
        };
        writeln!(text, "{line}").expect("a String takes text");
    }
    let signature = match verdict {
        None => "signature NOT CHECKED: anybody may have written this; --key or --jwks checks it",
        Some(Ok(())) => "signature good",
        Some(Err(Refusal::Expired { .. } | Refusal::NotYet | Refusal::Claim(_))) => {
            "signature good"
        }
        Some(Err(_)) => "signature NOT GOOD: not by that key, whoever wrote this",
    };
    text + signature + "\n"
}

/// A JSON object for a terminal: control characters that JSON lets stand are escaped, too.
fn pretty(object: &Map<String, Value>) -> String {
    let text = serde_json::to_string_pretty(object).expect("a JSON object is JSON");
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && c != '\n' {
            true => write!(escaped, "\\u{:04x}", u32::from(c)).expect("a String takes text"),
            false => escaped.push(c),
        }
    }
    escaped
}

/// A NumericDate (RFC 7519, section 2) that a calendar has.
fn time(value: &Value) -> Option<SystemTime> {
    const YEAR_10000: f64 = 253_402_300_800.0;
    let seconds = value.as_f64().filter(|seconds| (0.0..YEAR_10000).contains(seconds))?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs_f64(seconds))
}

/// A time, and how far it is from now: `2027-01-15T08:00:00Z, in 5 minutes`.
fn moment(time: SystemTime, now: SystemTime) -> String {
    let date = health::date(time);
    match now.duration_since(time) {
        Ok(passed) => format!("{date}, {} ago", words(passed)),
        Err(error) => format!("{date}, in {}", words(error.duration())),
    }
}

/// A duration in the unit in which a person says it.
fn words(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round();
    let (unit, name) = match seconds {
        ..90.0 => (1.0, "second"),
        ..5_400.0 => (60.0, "minute"),
        ..129_600.0 => (3_600.0, "hour"),
        _ => (86_400.0, "day"),
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 10^13")]
    let number = (seconds / unit).round() as usize;
    count(number, name)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use serde_json::json;
    use ssegate_auth::Refusal;
    use ssegate_auth::jwt::UnverifiedToken;

    use super::{describe, words};

    fn described(claims: serde_json::Value, verdict: Option<Result<(), Refusal>>) -> String {
        let object = |value: serde_json::Value| value.as_object().expect("an object").clone();
        let token =
            UnverifiedToken { header: object(json!({"alg": "none"})), claims: object(claims) };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        describe(&token, verdict.as_ref(), now)
    }

    #[test]
    fn times_are_in_words() {
        for (claims, expected) in [
            (json!({"iat": 1_799_999_700}), "issued 2027-01-15T07:55:00Z, 5 minutes ago\n"),
            (
                json!({"iat": 1_800_000_060}),
                "issued in the future: 2027-01-15T08:01:00Z, in 60 seconds\n",
            ),
            (json!({"nbf": 1_799_990_000.5}), "valid since 2027-01-15T05:13:20Z, 3 hours ago\n"),
            (json!({"nbf": 1_800_086_400}), "not valid before 2027-01-16T08:00:00Z, in 24 hours\n"),
            (json!({"exp": 1_800_003_599}), "expires 2027-01-15T08:59:59Z, in 60 minutes\n"),
            (json!({"exp": 1_799_999_999}), "expired 2027-01-15T07:59:59Z, 1 second ago\n"),
            (json!({"exp": 1_800_000_000}), "expired 2027-01-15T08:00:00Z, 0 seconds ago\n"),
            (json!({"exp": null}), "never expires: no claim exp\n"),
            (json!({}), "never expires: no claim exp\n"),
            (json!({"exp": "soon"}), "exp is not a time\n"),
            (json!({"exp": 1e300}), "exp is not a time\n"),
            (json!({"exp": -1}), "exp is not a time\n"),
            (
                json!({"exp": 253_402_300_799_u64}),
                "expires 9999-12-31T23:59:59Z, in 2912064 days\n",
            ),
        ] {
            let text = described(claims.clone(), None);
            assert!(text.contains(expected), "{claims}: {text}");
        }
        for (seconds, expected) in
            [(89, "89 seconds"), (90, "2 minutes"), (5_399, "90 minutes"), (129_600, "2 days")]
        {
            assert_eq!(words(Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn nobody_takes_what_is_shown_for_verified() {
        for (verdict, expected) in [
            (None, "signature NOT CHECKED: "),
            (Some(Ok(())), "signature good\n"),
            (Some(Err(Refusal::NotYet)), "signature good\n"),
            (Some(Err(Refusal::Signature)), "signature NOT GOOD: "),
            (Some(Err(Refusal::UnknownKey)), "signature NOT GOOD: "),
            (Some(Err(Refusal::Algorithm)), "signature NOT GOOD: "),
            (Some(Err(Refusal::Malformed("x"))), "signature NOT GOOD: "),
        ] {
            let text = described(json!({}), verdict.clone());
            let last = text.lines().last().expect("a line").to_owned() + "\n";
            assert!(last.starts_with(expected), "{verdict:?}: {last}");
        }
    }

    #[test]
    fn a_token_of_a_stranger_cannot_steer_the_terminal() {
        let text = described(json!({"a\u{1b}[2J": "\u{9b}2J\u{7f}\r\n"}), None);
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(text.contains(r#""a\u001b[2J": "\u009b2J\u007f\r\n""#), "{text}");
    }
}
