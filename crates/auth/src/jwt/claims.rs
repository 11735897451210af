//! The claims of a token (RFC 7519, section 4.1).

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::{JwtSettings, decode_part};
use crate::{Identity, Refusal};

/// The claims of a token whose signature is good.
pub(super) struct TokenClaims(Map<String, Value>);

impl TokenClaims {
    pub(super) fn decode(part: &str) -> Result<Self, Refusal> {
        let claims = serde_json::from_slice(&decode_part(part)?);
        claims.map(Self).map_err(|_| Refusal::Malformed("the claims are not a JSON object"))
    }

    /// Checks the claims, and returns the identity that they describe.
    pub(super) fn check(
        self,
        settings: &JwtSettings,
        now: SystemTime,
    ) -> Result<Identity, Refusal> {
        let (expires, issued) = (self.time("exp")?, self.time("iat")?);
        match expires {
            Some(expires) if now >= later(expires, settings.leeway) => {
                let by = now.duration_since(expires).unwrap_or_default();
                return Err(Refusal::Expired { by });
            }
            None if !settings.may_never_expire => return Err(Refusal::Claim("exp")),
            _ => {}
        }
        if self.time("nbf")?.is_some_and(|not_before| later(now, settings.leeway) < not_before) {
            return Err(Refusal::NotYet);
        }
        let issuer = self.0.get("iss").and_then(Value::as_str);
        if !settings.issuers.is_empty()
            && !settings.issuers.iter().any(|wanted| issuer == Some(wanted))
        {
            return Err(Refusal::Claim("iss"));
        }
        self.check_audience(&settings.audiences)?;
        let id = self.subject()?;
        Ok(Identity { id, claims: self.0, issued, expires, ..Identity::default() })
    }

    /// A token for another audience is refused, even if no audience is configured (RFC 7519, section
    /// 4.1.3).
    fn check_audience(&self, wanted: &[String]) -> Result<(), Refusal> {
        if is_for(&self.0, wanted) { Ok(()) } else { Err(Refusal::Claim("aud")) }
    }

    /// `sub` is a string; many applications write the number of a row.
    fn subject(&self) -> Result<Option<String>, Refusal> {
        match self.0.get("sub") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(subject)) => Ok(Some(subject.clone())),
            Some(Value::Number(subject)) => Ok(Some(subject.to_string())),
            Some(_) => Err(Refusal::Claim("sub")),
        }
    }

    /// A NumericDate: seconds since 1970, which may have a fraction (RFC 7519, section 2).
    fn time(&self, name: &'static str) -> Result<Option<SystemTime>, Refusal> {
        let seconds = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value.as_f64().ok_or(Refusal::Claim(name))?,
        };
        let since = Duration::try_from_secs_f64(seconds).map_err(|_| Refusal::Claim(name))?;
        SystemTime::UNIX_EPOCH.checked_add(since).map(Some).ok_or(Refusal::Claim(name))
    }
}

/// Whether a token with these claims is for one of the `wanted` audiences or, if there are none, for nobody in
/// particular. Says nothing about its signature.
pub fn is_for(claims: &Map<String, Value>, wanted: &[String]) -> bool {
    let named: Vec<&str> = match claims.get("aud") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        Some(_) => return false,
    };
    match wanted {
        [] => named.is_empty(),
        wanted => wanted.iter().any(|wanted| named.contains(&wanted.as_str())),
    }
}

/// `time` plus `by`; `time` alone if the sum overflows.
fn later(time: SystemTime, by: Duration) -> SystemTime {
    time.checked_add(by).unwrap_or(time)
}
