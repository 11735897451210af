//! Makes tokens, for the command line and for messages between gateways.

use std::fmt;

use aws_lc_rs::hmac::{self, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use serde_json::{Map, Value};

use super::Algorithm;
use super::keys::{HMAC, RSA, is_short};

/// Why no token is made. No text holds a part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// It is a public key or a certificate.
    #[error("it is a public key; tokens are signed with its private key")]
    Public,
    /// It is not a private key in PEM.
    #[error(
        "it is not a private key in PEM; an encrypted one is decrypted with `openssl pkey -in KEY`"
    )]
    Pem,
    /// It is of a kind or size that signs no tokens.
    #[error("its kind is not supported; RSA of 2048 to 8192 bits, P-256, P-384 and Ed25519 are")]
    Kind,
    /// The key does not sign with that algorithm.
    #[error("a key of this kind does not sign with {0:?}; use {1}")]
    Algorithm(Algorithm, &'static str),
    /// The library failed.
    #[error("signing failed")]
    Failed,
}

/// A key that signs tokens: the secret of an HMAC, or a private key.
pub struct SigningKey(KeyMaterial);

enum KeyMaterial {
    Secret(Vec<u8>),
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// Returns the key of an HMAC.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self(KeyMaterial::Secret(secret.to_vec()))
    }

    /// Returns the private key in `pem`: PKCS#8, PKCS#1 (RSA) or SEC 1 (EC), not encrypted.
    ///
    /// # Errors
    /// It is not such a key, or of a kind that signs no tokens.
    pub fn from_pem(pem: &str) -> Result<Self, MintError> {
        let (kind, der) =
            <(SectionKind, Vec<u8>)>::from_pem_slice(pem.as_bytes()).map_err(|_| MintError::Pem)?;
        let material = match kind {
            SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey => {
                material(&der)
            }
            SectionKind::PublicKey | SectionKind::Certificate => return Err(MintError::Public),
            _ => return Err(MintError::Pem),
        };
        material.map(Self).ok_or(MintError::Kind)
    }

    /// The algorithms that it signs with, the usual one first.
    pub fn algorithms(&self) -> &'static [Algorithm] {
        match &self.0 {
            KeyMaterial::Secret(_) => &HMAC,
            KeyMaterial::Rsa(_) => &RSA,
            KeyMaterial::P256(_) => &[Algorithm::ES256],
            KeyMaterial::P384(_) => &[Algorithm::ES384],
            KeyMaterial::Ed25519(_) => &[Algorithm::EdDSA],
        }
    }

    /// Whether it is a secret that is shorter than the hash of `algorithm`, which can be guessed (RFC
    /// 7518, section 3.2).
    pub fn is_short_for(&self, algorithm: Algorithm) -> bool {
        match &self.0 {
            KeyMaterial::Secret(secret) => is_short(secret.len(), algorithm),
            _ => false,
        }
    }

    fn sign(&self, algorithm: Algorithm, text: &[u8]) -> Result<Vec<u8>, MintError> {
        let random = SystemRandom::new();
        let signature = match &self.0 {
            KeyMaterial::Secret(secret) => {
                let hash = match algorithm {
                    Algorithm::HS384 => HMAC_SHA384,
                    Algorithm::HS512 => HMAC_SHA512,
                    _ => HMAC_SHA256,
                };
                return Ok(hmac::sign(&hmac::Key::new(hash, secret), text).as_ref().to_vec());
            }
            KeyMaterial::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(algorithm), &random, text, &mut signature)
                    .map_err(|_| MintError::Failed)?;
                return Ok(signature);
            }
            KeyMaterial::P256(pair) | KeyMaterial::P384(pair) => pair.sign(&random, text),
            KeyMaterial::Ed25519(pair) => pair.try_sign(text),
        };
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| MintError::Failed)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("algorithms", &self.algorithms()).finish_non_exhaustive()
    }
}

/// Returns a signed token with the header `typ: JWT`. The claims are written as they are: the caller adds `exp`.
///
/// # Errors
/// The key does not sign with `algorithm`.
pub fn mint(
    claims: &Map<String, Value>,
    key: &SigningKey,
    algorithm: Algorithm,
    key_id: Option<&str>,
) -> Result<String, MintError> {
    mint_typed("JWT", claims, key, algorithm, key_id)
}

/// Returns a signed token with the header `typ`, which keeps tokens for one purpose from passing as those
/// for another (RFC 8725, section 3.11).
///
/// # Errors
/// The key does not sign with `algorithm`.
pub fn mint_typed(
    typ: &str,
    claims: &Map<String, Value>,
    key: &SigningKey,
    algorithm: Algorithm,
    key_id: Option<&str>,
) -> Result<String, MintError> {
    if !key.algorithms().contains(&algorithm) {
        return Err(MintError::Algorithm(algorithm, names(key.algorithms())));
    }
    let mut header = Map::new();
    header.insert("alg".to_owned(), format!("{algorithm:?}").into());
    header.insert("typ".to_owned(), typ.into());
    if let Some(key_id) = key_id {
        header.insert("kid".to_owned(), key_id.into());
    }
    let part = |object: &Map<String, Value>| {
        let text = serde_json::to_vec(object).expect("a JSON object is JSON");
        URL_SAFE_NO_PAD.encode(text)
    };
    let signed = format!("{}.{}", part(&header), part(claims));
    let signature = key.sign(algorithm, signed.as_bytes())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// The private key in `der`, whatever its kind. PKCS#8 states the kind itself, and some programs write PKCS#8
/// under the heading of another form.
fn material(der: &[u8]) -> Option<KeyMaterial> {
    if let Ok(pair) = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
        return Some(KeyMaterial::Rsa(Box::new(pair)));
    }
    let p256 = EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
    if let Ok(pair) = p256 {
        return Some(KeyMaterial::P256(pair));
    }
    let p384 = EcdsaKeyPair::from_private_key_der(&ECDSA_P384_SHA384_FIXED_SIGNING, der);
    if let Ok(pair) = p384 {
        return Some(KeyMaterial::P384(pair));
    }
    Ed25519KeyPair::from_pkcs8(der).ok().map(KeyMaterial::Ed25519)
}

fn rsa_encoding(algorithm: Algorithm) -> &'static dyn RsaEncoding {
    match algorithm {
        Algorithm::RS384 => &RSA_PKCS1_SHA384,
        Algorithm::RS512 => &RSA_PKCS1_SHA512,
        Algorithm::PS256 => &RSA_PSS_SHA256,
        Algorithm::PS384 => &RSA_PSS_SHA384,
        Algorithm::PS512 => &RSA_PSS_SHA512,
        _ => &RSA_PKCS1_SHA256,
    }
}

fn names(algorithms: &[Algorithm]) -> &'static str {
    match algorithms.first() {
        Some(Algorithm::RS256) => "RS256, RS384, RS512, PS256, PS384 or PS512",
        Some(Algorithm::ES256) => "ES256",
        Some(Algorithm::ES384) => "ES384",
        Some(Algorithm::EdDSA) => "EdDSA",
        _ => "HS256, HS384 or HS512",
    }
}
