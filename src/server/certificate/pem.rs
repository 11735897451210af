//! Reads a certificate chain and its private key from PEM files.
//!
//! If a file holds something else, the error says what it is and how to convert it.

use std::path::Path;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::bounded_file;
use crate::server::tls_error::TlsError;

/// What a file must contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PemItem {
    Certificate,
    Key,
}

/// Reads both files.
///
/// # Errors
/// A file cannot be read or contains something else, or the key does not match the certificate.
pub(super) fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = read_chain(certificate)?;
    let private_key = read_private_key(key)?;
    let provider = aws_lc_rs::default_provider();
    let signer = provider.key_provider.load_private_key(private_key);
    let signer = signer.map_err(|cause| TlsError::Key { path: key.into(), cause })?;
    let mut pair = CertifiedKey::new(chain, signer);
    let Err(cause) = pair.keys_match() else { return Ok(pair) };
    if matches!(cause, Error::InconsistentKeys(InconsistentKeys::Unknown)) {
        // The key type cannot export its public key; rustls skips the check in this case, too.
        return Ok(pair);
    }
    let (certificate, key) = (certificate.into(), key.into());
    if !matches!(cause, Error::InconsistentKeys(_)) {
        return Err(TlsError::Certificate { path: certificate, cause });
    }
    // In a chain in reverse order, the key matches a later certificate.
    let chain = std::mem::take(&mut pair.cert);
    let is_its = |at: &usize| {
        pair.cert = vec![chain[*at].clone()];
        pair.keys_match().is_ok()
    };
    let position = (1..chain.len()).find(is_its).map(|at| at + 1);
    Err(TlsError::Mismatch { certificate, key, position })
}

/// Reads the certificates of a file, the server's first.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read_file(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    chain.ok_or_else(|| missing_item(&bytes, path, PemItem::Certificate))
}

fn read_private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read_file(path)?;
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_malformed| missing_item(&bytes, path, PemItem::Key))
}

fn read_file(path: &Path) -> Result<Vec<u8>, TlsError> {
    bounded_file::read(path).map_err(|cause| TlsError::Unreadable { path: path.into(), cause })
}

fn missing_item(bytes: &[u8], path: &Path, wanted: PemItem) -> TlsError {
    let item = match wanted {
        PemItem::Certificate => "certificate",
        PemItem::Key => "private key",
    };
    let hint = hint(bytes, path, wanted);
    TlsError::Missing { path: path.into(), item, hint: hint.unwrap_or_default() }
}

/// Describes what the file contains instead, and how to convert it.
fn hint(bytes: &[u8], path: &Path, wanted: PemItem) -> Option<String> {
    let path = path.display();
    let has = |text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
    let has_key = has("PRIVATE KEY-----");
    if has_key && wanted == PemItem::Certificate {
        return Some("; it contains a private key: are certificate and key swapped?".to_owned());
    }
    if has("ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED") {
        return Some(format!(
            "; the private key is encrypted, and ssegate does not prompt for a passphrase; decrypt \
             it: openssl pkey -in {path} -out key.pem, readable by ssegate only"
        ));
    }
    if has("BEGIN CERTIFICATE-----") && wanted == PemItem::Key {
        return Some("; it contains a certificate: are certificate and key swapped?".to_owned());
    }
    match (bytes, wanted) {
        // SEQUENCE, a length of two bytes, INTEGER 3: PFX (RFC 7292, section 4).
        ([0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..], _) => {
            let part = if wanted == PemItem::Key { "-nocerts" } else { "-nokeys" };
            let convert = format!("openssl pkcs12 -in {path} {part} -noenc -out new.pem");
            Some(format!("; it is PKCS#12, convert it: {convert}"))
        }
        ([0x30, 0x80..=0xff, ..], PemItem::Certificate) => Some(format!(
            "; it is DER, convert it: openssl x509 -inform der -in {path} -out cert.pem"
        )),
        ([0x30, 0x80..=0xff, ..] | [0x30, _, 0x02, 0x01, ..], PemItem::Key) => Some(format!(
            "; it is DER, convert it: openssl pkey -inform der -in {path} -out key.pem"
        )),
        _ => None,
    }
}
