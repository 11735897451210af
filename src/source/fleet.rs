//! What gateways of a fleet publish for each other: the channels, and the key that signs the messages.
//!
//! Does not know what is in the messages: the hub does.

use std::fmt;

use aws_lc_rs::hmac;

/// The channel that every gateway of a fleet follows, for marks and questions.
pub(crate) const FOR_ALL: &str = "ssegate:mark";

/// The prefix of the channel that only one gateway follows; its run follows.
pub(crate) const FOR_ONE: &str = "ssegate:fleet:";

/// The channel that every gateway follows at a node of a Cluster, or at one server, for the order of its sharded channels:
/// `server` is its run.
/// A `PUBLISH` at any node reaches it, since nodes pass on what is published.
pub(crate) fn for_all_at(server: &str) -> String {
    format!("{FOR_ONE}node:{server}")
}

/// The channel that only one gateway follows at one node; `run` is that of the gateway.
pub(crate) fn for_one_at(server: &str, run: &str) -> String {
    format!("{FOR_ONE}node:{server}:{run}")
}

/// Whether gateways publish for each other on this channel: no client gets its messages, whatever it is
/// subscribed to.
pub(crate) fn is_of_fleet(channel: &[u8]) -> bool {
    channel == FOR_ALL.as_bytes() || channel.starts_with(FOR_ONE.as_bytes())
}

/// The settings of a gateway in a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetSettings {
    /// Signs what gateways publish for each other; `None`: messages of everybody who may publish are trusted.
    pub key: Option<FleetKey>,
}

/// The secret of a fleet: HMAC with SHA-256 (RFC 2104).
#[derive(Clone)]
pub struct FleetKey {
    key: hmac::Key,
    // The HMAC of an empty message, by which two keys are compared.
    fingerprint: [u8; Self::MIN_BYTES],
}

impl FleetKey {
    /// The least length of a secret, in bytes: that of the hash (RFC 2104, section 3).
    pub const MIN_BYTES: usize = 32;

    /// Returns the key for a secret; `None` if it is shorter than [`Self::MIN_BYTES`].
    pub fn new(secret: &[u8]) -> Option<Self> {
        if secret.len() < Self::MIN_BYTES {
            return None;
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let fingerprint = hmac::sign(&key, b"").as_ref().try_into().ok()?;
        Some(Self { key, fingerprint })
    }

    /// Returns the signature of these parts, in their order.
    pub(crate) fn sign(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        parts.iter().for_each(|part| context.update(part));
        context.sign()
    }

    /// Whether `signature` is that of `signed`. Takes constant time.
    pub(crate) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        hmac::verify(&self.key, signed, signature).is_ok()
    }
}

impl PartialEq for FleetKey {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for FleetKey {}

impl fmt::Debug for FleetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FleetKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::{FleetKey, is_of_fleet};

    #[test]
    fn only_the_channels_of_the_fleet_are_kept_from_clients() {
        for (channel, expected) in [
            ("ssegate:mark", true),
            ("ssegate:fleet:abc123", true),
            ("ssegate:marks", false),
            ("ssegate:fleet", false),
            ("news", false),
        ] {
            assert_eq!(is_of_fleet(channel.as_bytes()), expected, "{channel}");
        }
    }

    #[test]
    fn a_key_has_32_bytes_and_shows_none_of_them() {
        assert!(FleetKey::new(&[b'x'; 31]).is_none());
        let (one, other) = (FleetKey::new(&[b'x'; 32]), FleetKey::new(&[b'y'; 32]));
        assert!(one.is_some() && one != other);
        assert_eq!(one, FleetKey::new(&[b'x'; 32]));
        assert_eq!(format!("{:?}", one.expect("long enough")), "FleetKey(…)");
    }
}
