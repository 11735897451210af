//! Resolves `listeners[].tls`: one certificate or several, each with its key.

use std::path::PathBuf;

use ssegate_strict_yaml::{At, Field, KeyLocation};

use super::resolver::Resolver;
use crate::config::file::{CertificateFile, TlsFile};
use crate::server::certificate::Certificate;
use crate::server::{CertificateFiles, TlsSettings};

impl Resolver<'_> {
    pub(super) fn tls(&self, At { location, value: file }: At<TlsFile>) -> Option<TlsSettings> {
        if matches!(file.self_signed, Field::Invalid(_)) {
            return None;
        }
        let self_signed = file.self_signed.or(false);
        let is_one = !matches!((&file.certificate, &file.key), (Field::Absent, Field::Absent));
        let is_list = !matches!(file.certificates, Field::Absent);
        let mistake = match (self_signed, is_one, is_list) {
            (true, false, false) => return Some(TlsSettings::SelfSigned),
            (false, true, false) => {
                let files = self.certificate_files(file.certificate, file.key, &location)?;
                return Some(TlsSettings::Files(vec![files]));
            }
            (false, false, true) => return self.certificate_list(file.certificates),
            (true, _, false) => {
                "self_signed: true excludes certificate and key; use one or the other"
            }
            (true, _, true) => "self_signed: true excludes certificates; use one or the other",
            (false, true, true) => {
                "certificates excludes certificate and key; put them first into the list"
            }
            (false, false, false) => {
                "no certificate; set self_signed: true, or certificate and key"
            }
        };
        self.note(&location, mistake);
        None
    }

    fn certificate_list(&self, field: Field<Vec<Field<CertificateFile>>>) -> Option<TlsSettings> {
        let At { location, value: items } = field.written()?;
        if items.is_empty() {
            self.note(&location, "the list is empty; add a mapping with certificate and key");
            return None;
        }
        let mut all: Vec<CertificateFiles> = Vec::with_capacity(items.len());
        let mut is_valid = true;
        // Every mistake is told, in each of them.
        for item in items {
            let files = item.written().and_then(|At { location, value: file }| {
                let files = self.certificate_files(file.certificate, file.key, &location)?;
                if all.iter().any(|other| other.certificate == files.certificate) {
                    self.note(
                        &location.child("certificate"),
                        "it is already in the list; remove one",
                    );
                    return None;
                }
                Some(files)
            });
            is_valid &= files.is_some();
            all.extend(files);
        }
        is_valid.then_some(TlsSettings::Files(all))
    }

    fn certificate_files(
        &self,
        certificate: Field<PathBuf>,
        key: Field<PathBuf>,
        parent: &KeyLocation,
    ) -> Option<CertificateFiles> {
        let certificate = self.required(
            certificate,
            parent,
            "certificate",
            "set the path of this key's certificate",
        );
        let key =
            self.required(key, parent, "key", "set the path of this certificate's private key");
        // Checks both files before returning on a mistake in either.
        let [certificate, key] =
            [certificate, key].map(|at| at.map(|at| (at.location.clone(), self.readable_file(at))));
        let ((certificate_location, certificate), (key_location, key)) = (certificate?, key?);
        let (certificate, key) = (certificate?, key?);
        if self.purpose.reads_files()
            && let Err(error) = Certificate::open(&certificate, &key)
        {
            let location = if error.is_key_fault() { key_location } else { certificate_location };
            self.note(&location, error.to_string());
            return None;
        }
        Some(CertificateFiles { certificate, key })
    }
}
