//! A certificate and its key from PEM files, and what is wrong with files that hold none.

use std::fs;
use std::path::Path;

use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::server::tls::TlsError;

/// What a file is to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Certificate,
    Key,
}

/// Reads both files.
///
/// # Errors
/// One cannot be read or holds something else, or they do not belong together.
pub(super) fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = read_chain(certificate)?;
    let private_key =
        PrivateKeyDer::from_pem_file(key).map_err(|cause| unusable(cause, key, Wanted::Key))?;
    let provider = aws_lc_rs::default_provider();
    let signer = provider.key_provider.load_private_key(private_key);
    let signer = signer.map_err(|cause| TlsError::Key { path: key.into(), cause })?;
    let mut pair = CertifiedKey::new(chain, signer);
    let Err(cause) = pair.keys_match() else { return Ok(pair) };
    if matches!(cause, Error::InconsistentKeys(InconsistentKeys::Unknown)) {
        // The kind of key cannot tell its public half; rustls goes on as well.
        return Ok(pair);
    }
    let (certificate, key) = (certificate.into(), key.into());
    if !matches!(cause, Error::InconsistentKeys(_)) {
        return Err(TlsError::Certificate { path: certificate, cause });
    }
    // In a chain that stands the wrong way round, a later certificate is that of the key.
    let chain = std::mem::take(&mut pair.cert);
    let is_its = |at: &usize| {
        pair.cert = vec![chain[*at].clone()];
        pair.keys_match().is_ok()
    };
    let position = (1..chain.len()).find(is_its).map(|at| at + 1);
    Err(TlsError::Mismatch { certificate, key, position })
}

/// The certificates of a file, the server's own first.
pub(super) fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err(unusable(pem::Error::NoItemsFound, path, Wanted::Certificate))
        }
        Ok(chain) => Ok(chain),
        Err(cause) => Err(unusable(cause, path, Wanted::Certificate)),
    }
}

fn unusable(cause: pem::Error, path: &Path, wanted: Wanted) -> TlsError {
    if let pem::Error::Io(cause) = cause {
        return TlsError::Unreadable { path: path.into(), cause };
    }
    let what = match wanted {
        Wanted::Certificate => "certificate",
        Wanted::Key => "private key",
    };
    let hint = fs::read(path).ok().and_then(|bytes| hint(&bytes, path, wanted));
    TlsError::Missing { path: path.into(), what, hint: hint.unwrap_or_default() }
}

/// What the file is instead, and what to do about it.
fn hint(bytes: &[u8], path: &Path, wanted: Wanted) -> Option<String> {
    let path = path.display();
    let has = |text: &str| memchr::memmem::find(bytes, text.as_bytes()).is_some();
    let has_key = has("PRIVATE KEY-----");
    if has_key && wanted == Wanted::Certificate {
        return Some("; it holds a private key: are certificate and key swapped?".to_owned());
    }
    if has("ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED") {
        return Some(format!(
            "; the key in it is encrypted, and nobody is there to ask for its passphrase: openssl \
             pkey -in {path} -out key.pem, and let only ssegate read that"
        ));
    }
    if has("BEGIN CERTIFICATE-----") && wanted == Wanted::Key {
        return Some("; it holds a certificate: are certificate and key swapped?".to_owned());
    }
    match (bytes, wanted) {
        // SEQUENCE, a length of two bytes, INTEGER 3: PFX (RFC 7292, section 4).
        ([0x30, 0x82, _, _, 0x02, 0x01, 0x03, ..], _) => {
            let part = if wanted == Wanted::Key { "-nocerts" } else { "-nokeys" };
            Some(format!("; it is PKCS#12: openssl pkcs12 -in {path} {part} -noenc -out new.pem"))
        }
        ([0x30, 0x80..=0xff, ..], Wanted::Certificate) => {
            Some(format!("; it is DER: openssl x509 -inform der -in {path} -out cert.pem"))
        }
        ([0x30, 0x80..=0xff, ..] | [0x30, _, 0x02, 0x01, ..], Wanted::Key) => {
            Some(format!("; it is DER: openssl pkey -inform der -in {path} -out key.pem"))
        }
        _ => None,
    }
}
