//! The keys with which tokens are verified: secrets, PEM, and sets of JSON Web Keys (RFC 7517).

use std::fmt;
use std::str::FromStr as _;

use jsonwebtoken::DecodingKey;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde::Deserialize;
use serde_json::Value;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{Algorithm, decode_part};
use crate::Refusal;
use crate::fingerprint::Fingerprint;

/// The most keys of one set. A token without `kid` may be tried with each.
const MAX_KEYS: usize = 64;
/// The sizes of RSA keys, in bits, that the library verifies with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

pub(super) const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
pub(super) const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// Why a key cannot be used. No text holds a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is a private key.
    #[error("it is a private key; give its public key (`openssl pkey -in KEY -pubout`)")]
    Private,
    /// It is neither a public key nor a certificate in PEM.
    #[error("it is not a public key or certificate in PEM")]
    Pem,
    /// Tokens are not signed with keys of this kind.
    #[error("its kind is not supported; RSA, P-256, P-384 and Ed25519 are")]
    Kind,
    /// It is an RSA key of a size that is not supported.
    #[error("it is an RSA key of {0} bits; 2048 to 8192 are supported")]
    RsaBits(usize),
    /// It is not a JSON Web Key Set.
    #[error("it is not a JSON Web Key Set: {0}")]
    Jwks(&'static str),
}

/// A key, and what may be verified with it. Two are equal if they have the same id, verify the same
/// algorithms, and are the same key, in whichever form it was read.
#[derive(Clone)]
pub struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
    fingerprint: Fingerprint,
    /// The length of a secret in bytes.
    secret_bytes: Option<usize>,
}

impl Key {
    /// Returns the key of an HMAC. One that is shorter than the hash can be guessed (RFC 7518, section
    /// 3.2): see [`Key::is_short_for`].
    pub fn from_secret(secret: &[u8]) -> Self {
        Self {
            id: None,
            algorithms: HMAC.to_vec(),
            key: DecodingKey::from_secret(secret),
            fingerprint: Fingerprint::of("secret", &[secret]),
            secret_bytes: Some(secret.len()),
        }
    }

    /// Returns the public key in `pem`: SubjectPublicKeyInfo, or that of a certificate.
    ///
    /// # Errors
    /// It is not such a key, or of a kind that signs no tokens.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let (kind, der) =
            <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Pem)?;
        match kind {
            SectionKind::PublicKey => Self::from_spki(&der),
            SectionKind::Certificate => {
                let (_, certificate) =
                    x509_parser::parse_x509_certificate(&der).map_err(|_| KeyError::Pem)?;
                Self::from_parsed(certificate.public_key())
            }
            SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
                Err(KeyError::Private)
            }
            _ => Err(KeyError::Pem),
        }
    }

    fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let (_, key) = SubjectPublicKeyInfo::from_der(der).map_err(|_| KeyError::Pem)?;
        Self::from_parsed(&key)
    }

    fn from_parsed(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyError> {
        match info.parsed().map_err(|_| KeyError::Kind)? {
            PublicKey::RSA(rsa) => Self::from_rsa(rsa.modulus, rsa.exponent),
            PublicKey::EC(point) => match point.data().len() {
                65 => Ok(Self::from_point(Algorithm::ES256, point.data())),
                97 => Ok(Self::from_point(Algorithm::ES384, point.data())),
                _ => Err(KeyError::Kind),
            },
            // Ed25519 (RFC 8410), which the parser does not name.
            PublicKey::Unknown(key)
                if key.len() == 32 && info.algorithm.algorithm.to_id_string() == "1.3.101.112" =>
            {
                Ok(Self::from_ed25519(key))
            }
            _ => Err(KeyError::Kind),
        }
    }

    /// The key that is an uncompressed point of a curve (SEC 1, section 2.3.3).
    fn from_point(algorithm: Algorithm, point: &[u8]) -> Self {
        Self {
            id: None,
            algorithms: vec![algorithm],
            key: DecodingKey::from_ec_der(point),
            fingerprint: Fingerprint::of("ec", &[point]),
            secret_bytes: None,
        }
    }

    fn from_ed25519(key: &[u8]) -> Self {
        Self {
            id: None,
            algorithms: vec![Algorithm::EdDSA],
            key: DecodingKey::from_ed_der(key),
            fingerprint: Fingerprint::of("ed25519", &[key]),
            secret_bytes: None,
        }
    }

    fn from_rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let modulus = without_zeros(modulus);
        let bits =
            modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::RsaBits(bits));
        }
        let exponent = without_zeros(exponent);
        Ok(Self {
            id: None,
            algorithms: RSA.to_vec(),
            key: DecodingKey::from_rsa_raw_components(modulus, exponent),
            fingerprint: Fingerprint::of("rsa", &[modulus, exponent]),
            secret_bytes: None,
        })
    }

    /// Whether it is a secret that is shorter than the hash of `algorithm`.
    pub fn is_short_for(&self, algorithm: Algorithm) -> bool {
        self.secret_bytes.is_some_and(|bytes| is_short(bytes, algorithm))
    }

    /// Whether tokens that are signed with `algorithm` may be verified with it.
    pub fn is_for(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// A key without an id may have signed any token.
    fn may_have_id(&self, id: Option<&str>) -> bool {
        id.is_none() || self.id.is_none() || self.id.as_deref() == id
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
            && self.algorithms == other.algorithms
            && self.fingerprint == other.fingerprint
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithms", &self.algorithms)
            .finish_non_exhaustive()
    }
}

/// A set of keys, each of which may have signed a token. Two sets are equal if they have equal keys in the
/// same order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl KeySet {
    /// Reads a JSON Web Key Set. Skips keys for another purpose and keys of unknown kinds (RFC 7517, section
    /// 5). Skips secrets, too: a published set cannot hold one.
    ///
    /// # Errors
    /// It is not a set of keys, it has too many keys, or no key that can be used.
    pub fn from_jwks(text: &[u8]) -> Result<Self, KeyError> {
        let set: Jwks = serde_json::from_slice(text)
            .map_err(|_| KeyError::Jwks("an object with an array `keys` is expected"))?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeyError::Jwks("it has more than 64 keys"));
        }
        let keys: Vec<Key> = set.keys.into_iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err(KeyError::Jwks("it has no key that verifies signatures"));
        }
        Ok(Self { keys })
    }

    /// The algorithms for which the set has a key, without duplicates.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        let mut all = Vec::new();
        for algorithm in self.keys.iter().flat_map(|key| &key.algorithms) {
            if !all.contains(algorithm) {
                all.push(*algorithm);
            }
        }
        all
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Verifies a signature with the keys that may have made it.
    pub(super) fn verify(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        signed: &str,
        signature: &str,
    ) -> Result<(), Refusal> {
        let is_signed_with = |key: &Key| {
            let verified =
                jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key.key, algorithm);
            verified.unwrap_or(false)
        };
        let mut candidates = self.keys.iter().filter(|key| key.may_have_id(id));
        if candidates.any(|key| key.is_for(algorithm) && is_signed_with(key)) {
            return Ok(());
        }
        match id {
            Some(_) if !self.keys.iter().any(|key| key.id.as_deref() == id) => {
                Err(Refusal::UnknownKey)
            }
            _ => Err(Refusal::Signature),
        }
    }
}

impl FromIterator<Key> for KeySet {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        Self { keys: keys.into_iter().collect() }
    }
}

impl Extend<Key> for KeySet {
    fn extend<I: IntoIterator<Item = Key>>(&mut self, keys: I) {
        self.keys.extend(keys);
    }
}

impl IntoIterator for KeySet {
    type Item = Key;
    type IntoIter = std::vec::IntoIter<Key>;

    fn into_iter(self) -> Self::IntoIter {
        self.keys.into_iter()
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

/// A JSON Web Key (RFC 7517, section 4; RFC 7518, section 6; RFC 8037, section 2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default, rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

/// The key of a member of a set, if signatures can be verified with it.
fn usable(member: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(member).ok()?;
    let is_other = jwk.purpose.as_ref().is_some_and(|purpose| purpose != "sig");
    let is_unfit =
        jwk.key_ops.as_ref().is_some_and(|uses| !uses.iter().any(|use_| use_ == "verify"));
    if is_other || is_unfit {
        return None;
    }
    let mut key = jwk.key()?;
    if let Some(algorithm) = &jwk.alg {
        let algorithm = Algorithm::from_str(algorithm).ok()?;
        key.algorithms.retain(|known| *known == algorithm);
    }
    key.id = jwk.kid;
    (!key.algorithms.is_empty()).then_some(key)
}

impl Jwk {
    fn key(&self) -> Option<Key> {
        let bytes = |text: &str| decode_part(text).ok();
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => Key::from_rsa(&bytes(&self.n)?, &bytes(&self.e)?).ok(),
            ("EC", Some("P-256")) => Some(Key::from_point(Algorithm::ES256, &self.point(32)?)),
            ("EC", Some("P-384")) => Some(Key::from_point(Algorithm::ES384, &self.point(48)?)),
            ("OKP", Some("Ed25519")) => {
                let key = bytes(&self.x).filter(|key| key.len() == 32)?;
                Some(Key::from_ed25519(&key))
            }
            _ => None,
        }
    }

    /// An uncompressed point (SEC 1, section 2.3.3).
    fn point(&self, coordinate: usize) -> Option<Vec<u8>> {
        let mut point = vec![4];
        for text in [&self.x, &self.y] {
            point.extend(decode_part(text).ok().filter(|bytes| bytes.len() == coordinate)?);
        }
        Some(point)
    }
}

/// Whether a secret of this length is shorter than the hash of `algorithm` (RFC 7518, section 3.2).
pub(super) fn is_short(secret_bytes: usize, algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::HS256 => secret_bytes < 32,
        Algorithm::HS384 => secret_bytes < 48,
        Algorithm::HS512 => secret_bytes < 64,
        _ => false,
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let first = number.iter().position(|&byte| byte != 0).unwrap_or(number.len());
    &number[first..]
}
