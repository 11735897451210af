//! Whether Redis keeps what it was given: eviction and persistence, as `INFO` reports them.

use super::connection::RedisConnection;
use super::error::SourceError;

/// Why entries that Redis has acknowledged may be gone later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurabilityRisk {
    /// With its memory full, Redis removes keys by this policy (`maxmemory-policy`).
    Evicts(String),
    /// `appendonly` is off: a restart goes back to the last snapshot, if there is one.
    NoAppendOnly,
}

impl DurabilityRisk {
    /// Describes the risk to an operator.
    pub fn text(&self) -> String {
        match self {
            Self::Evicts(policy) => format!(
                "maxmemory-policy is {policy}: when its memory is full, Redis removes streams, recorded channels and \
                 kept streams as it does a cache"
            ),
            Self::NoAppendOnly => "appendonly is off: a restart of Redis loses the entries since its last snapshot, or \
                                   all of them"
                .to_owned(),
        }
    }

    /// What to do about it.
    pub fn mend(&self) -> &'static str {
        match self {
            Self::Evicts(_) => {
                "CONFIG SET maxmemory-policy noeviction, or a Redis apart from the cache; then Redis refuses to write \
                 instead"
            }
            Self::NoAppendOnly => {
                "CONFIG SET appendonly yes, and CONFIG REWRITE; clients of lost entries are told a gap"
            }
        }
    }
}

/// Asks Redis for the risks. Returns none if `INFO` is refused.
///
/// # Errors
/// The connection is lost.
pub(super) async fn risks(
    connection: &mut RedisConnection,
) -> Result<Vec<DurabilityRisk>, SourceError> {
    match connection.request("INFO", std::iter::empty::<&str>()).await {
        Ok(info) => {
            let text = info.as_bytes().map(|text| String::from_utf8_lossy(text).into_owned());
            Ok(parse(&text.unwrap_or_default()))
        }
        Err(SourceError::Refused(_)) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The risks in the text of `INFO`.
fn parse(info: &str) -> Vec<DurabilityRisk> {
    let field = |name: &str| {
        let mut fields = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        fields.find_map(|(field, value)| (field == name).then(|| value.to_owned()))
    };
    let has_limit = field("maxmemory").is_some_and(|bytes| bytes != "0");
    let policy = field("maxmemory_policy").filter(|policy| has_limit && policy != "noeviction");
    let is_off = field("aof_enabled").is_some_and(|enabled| enabled == "0");
    let no_append_only = is_off.then_some(DurabilityRisk::NoAppendOnly);
    policy.map(DurabilityRisk::Evicts).into_iter().chain(no_append_only).collect()
}

#[cfg(test)]
mod tests {
    use super::{DurabilityRisk, parse};

    #[test]
    fn eviction_counts_only_with_a_limit_and_what_is_not_said_is_no_risk() {
        for (info, expected) in [
            ("", vec![]),
            ("maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\naof_enabled:1\r\n", vec![]),
            ("maxmemory:100\r\nmaxmemory_policy:noeviction\r\naof_enabled:1\r\n", vec![]),
            (
                "# Memory\r\nmaxmemory:100\r\nmaxmemory_policy:volatile-ttl\r\n# Persistence\r\naof_enabled:0\r\n",
                vec![
                    DurabilityRisk::Evicts("volatile-ttl".to_owned()),
                    DurabilityRisk::NoAppendOnly,
                ],
            ),
        ] {
            assert_eq!(parse(info), expected, "{info}");
        }
    }
}
