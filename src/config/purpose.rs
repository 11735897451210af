//! What a configuration is read for. This decides which parts of it must be present.

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigPurpose {
    /// To run a gateway: its certificates and keys are read too.
    Run,
    /// To contact a running gateway. Certificates and keys are not read: the user of such a command may
    /// have no permission for them. Nor need the variables be set of secrets that only the gateway uses.
    Contact,
    /// As [`Self::Contact`], and to revoke, for which there is a secret.
    Revoke,
}

/// A valid value for every key with a secret: long enough, hexadecimal digits, and base64.
const STAND_IN: &str = "abababababababababababababababababababababababababababababababab";

impl ConfigPurpose {
    /// Whether the files that the configuration names are read.
    pub(super) fn reads_files(self) -> bool {
        self == Self::Run
    }

    /// What stands for a variable that is not set in the value of the key at `path`; `None`: it has to be set.
    pub(super) fn stand_in(self, path: &str) -> Option<&'static str> {
        let is_needed = match self {
            Self::Run => true,
            Self::Contact => !is_of_gateway(path) && path != "revocation.key",
            Self::Revoke => !is_of_gateway(path),
        };
        (!is_needed).then_some(STAND_IN)
    }
}

/// Whether the key has a secret, whoever uses it.
pub(super) fn is_secret(path: &str) -> bool {
    is_of_gateway(path) || path == "revocation.key"
}

/// Whether the key has a secret that only the gateway uses.
fn is_of_gateway(path: &str) -> bool {
    let names: Vec<&str> =
        path.split('.').map(|name| name.split('[').next().unwrap_or_default()).collect();
    matches!(
        names[..],
        [.., "jwt", "keys"]
            | [.., "signed_url", "keys", _]
            | [.., "tokens", "sha256"]
            | [.., "handover", "key"]
            | [.., "keep", "secret"]
            | [.., "presence", "key"]
            | ["fleet", "key"]
    )
}

#[cfg(test)]
mod tests {
    use super::ConfigPurpose::{Contact, Revoke, Run};

    #[test]
    fn only_secrets_that_a_command_does_not_use_need_not_be_set() {
        for (path, by_contact, by_revoke) in [
            ("auth.jwt.keys", true, true),
            ("auth.any[1].jwt.keys[0]", true, true),
            ("routes[0].auth.signed_url.keys.k1", true, true),
            ("admin.auth.tokens[0].sha256", true, true),
            ("routes[2].handover.key", true, true),
            ("routes[0].keep.secret", true, true),
            ("routes[1].presence.key", true, true),
            ("fleet.key", true, true),
            ("revocation.key", true, false),
            ("redis.url", false, false),
            ("listeners[0].address", false, false),
            ("listeners[0].tls.key", false, false),
            ("routes[0].path", false, false),
            ("routes[0].events.channels[0]", false, false),
        ] {
            let is_there = |purpose: super::ConfigPurpose| purpose.stand_in(path).is_some();
            assert_eq!(
                [is_there(Run), is_there(Contact), is_there(Revoke)],
                [false, by_contact, by_revoke],
                "{path}"
            );
        }
    }
}
