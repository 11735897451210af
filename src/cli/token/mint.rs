//! Mints a token.

use std::str::FromStr as _;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use ssegate_auth::jwt::{self, Algorithm, SigningKey};

use super::{KEY, PEM, TokenCommand};
use crate::cli::{CliError, output};

const DEFAULT_EXPIRES: Duration = Duration::from_secs(3600);

/// `--claim NAME=VALUE`.
#[derive(Clone, Debug)]
pub(super) struct ClaimArgument {
    name: String,
    value: Value,
}

/// Parses `NAME=VALUE`. A value that is JSON is that; any other is text.
pub(super) fn claim(text: &str) -> Result<ClaimArgument, String> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("use forms like org=7, admin=true, name=Ada or 'channels=[\"a\",\"b\"]'")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
    Ok(ClaimArgument { name: name.to_owned(), value })
}

/// Parses the name of an algorithm (RFC 7518, section 3.1; RFC 8037, section 3.1).
pub(super) fn algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::from_str(text).map_err(|_| {
        "use HS256, RS256, PS256 (or 384, 512), ES256, ES384 or EdDSA, as the key is".into()
    })
}

impl TokenCommand {
    pub(super) fn mint(&self) -> Result<(), CliError> {
        let claims = self.claims_at(SystemTime::now())?;
        let secret = KEY.text(self.key.as_deref())?.ok_or_else(|| {
            CliError::Usage(format!(
                "give the key that signs: --key @FILE, or the variable {}",
                KEY.variable
            ))
        })?;
        let key = signing_key(&KEY.resolve(&secret)?)?;
        let algorithm = self.alg.unwrap_or_else(|| key.algorithms()[0]);
        if key.is_short_for(algorithm) {
            output::to_stderr(format_args!(
                "ssegate: warning: the secret is shorter than the hash of {algorithm:?} and can be \
                 guessed; openssl rand -hex 32 makes a good one"
            ));
        }
        let token = jwt::mint(&claims, &key, algorithm, self.kid.as_deref());
        output::line(token.map_err(|error| CliError::Usage(format!("--alg: {error}")))?)
    }

    /// The claims of a token that is minted now.
    fn claims_at(&self, now: SystemTime) -> Result<Map<String, Value>, CliError> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let expires = self.expires.unwrap_or(DEFAULT_EXPIRES);
        let mut claims = Map::new();
        let audience = match self.audience.as_slice() {
            [] => None,
            [one] => Some(one.as_str().into()),
            several => Some(several.into()),
        };
        let given = [
            ("sub", self.sub.as_deref().map(Value::from)),
            ("iss", self.issuer.as_deref().map(Value::from)),
            ("aud", audience),
            ("exp", self.expires.map(|_| (now + expires).as_secs().into())),
        ];
        let given = given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        let more = self.claims.iter().map(|claim| (claim.name.clone(), claim.value.clone()));
        for (name, value) in given.chain(more) {
            if claims.insert(name.clone(), value).is_some() {
                return Err(CliError::Usage(format!("the claim {name} is given twice")));
            }
        }
        claims.entry("iat").or_insert_with(|| now.as_secs().into());
        claims.entry("exp").or_insert_with(|| (now + expires).as_secs().into());
        Ok(claims)
    }
}

fn signing_key(secret: &[u8]) -> Result<SigningKey, CliError> {
    if !secret.starts_with(PEM) {
        return Ok(SigningKey::from_secret(secret));
    }
    let key = SigningKey::from_pem(&String::from_utf8_lossy(secret));
    key.map_err(|error| CliError::Usage(format!("--key: {error}")))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use serde_json::json;

    use super::super::TokenCommand;
    use super::{algorithm, claim};
    use crate::cli::{Command, parse};

    fn command(arguments: &[&str]) -> TokenCommand {
        let arguments = ["ssegate", "token"].iter().chain(arguments).map(Into::into);
        match parse(arguments) {
            Ok(Command::Token(command)) => command,
            other => panic!("{other:?}"),
        }
    }

    fn claims(arguments: &[&str]) -> Result<serde_json::Value, String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_900);
        let claims = command(arguments).claims_at(now);
        claims.map(Into::into).map_err(|error| error.to_string())
    }

    #[test]
    fn a_claim_is_json_or_text() {
        assert_eq!(claims(&[]), Ok(json!({"iat": 1000, "exp": 4600})));
        assert_eq!(
            claims(&[
                "--sub",
                "42",
                "--issuer",
                "https://app",
                "--audience",
                "a",
                "--expires",
                "90s"
            ]),
            Ok(json!({"sub": "42", "iss": "https://app", "aud": "a", "iat": 1000, "exp": 1090}))
        );
        let arguments = [
            "--claim=org=7",
            "--claim",
            "name=Ada = L",
            "--claim=a=true",
            "--claim=l=[\"x\"]",
            "--claim=s=\"7\"",
            "--claim=e=",
            "--audience=a",
            "--audience=b",
            "--claim=iat=5",
            "--claim=exp=null",
        ];
        assert_eq!(
            claims(&arguments),
            Ok(json!({
                "org": 7, "name": "Ada = L", "a": true, "l": ["x"], "s": "7", "e": "",
                "aud": ["a", "b"], "iat": 5, "exp": null,
            }))
        );
        for twice in [&["--sub=1", "--claim=sub=2"][..], &["--claim=a=1", "--claim=a=1"]] {
            assert!(
                claims(twice).is_err_and(|error| error.contains("is given twice")),
                "{twice:?}"
            );
        }
        assert!(claims(&["--expires=1h", "--claim=exp=5"]).is_err());
        assert!(claim("name").is_err() && claim("=value").is_err());
        assert!(algorithm("none").is_err() && algorithm("hs256").is_err());
    }
}
