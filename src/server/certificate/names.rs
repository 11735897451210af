//! The names that a certificate is for, and whether one of them is the name that a client asks for. Pure.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;

/// The names of a certificate: its subjectAltName (RFC 5280, section 4.2.1.6). The common name of the subject is not
/// one of them: clients have stopped reading it (RFC 9525, section 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    // In lower case, without a dot at the end, without duplicates.
    hosts: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl CertificateNames {
    /// Reads them from a certificate; none if it cannot be parsed.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        let mut names = Self::default();
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
            return names;
        };
        let Ok(Some(alternative)) = parsed.subject_alternative_name() else { return names };
        for name in &alternative.value.general_names {
            match name {
                GeneralName::DNSName(host) => {
                    let host = host.trim_end_matches('.').to_ascii_lowercase();
                    if !host.is_empty() && !names.hosts.contains(&host) {
                        names.hosts.push(host);
                    }
                }
                GeneralName::IPAddress(bytes) => names.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        names
    }

    /// The host names, in lower case. A wildcard is `*.example.org`.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// All names as text, hosts first.
    pub fn all(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        self.hosts.iter().cloned().chain(addresses).collect()
    }
}

/// An address has 4 or 16 bytes.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    match <[u8; 4]>::try_from(bytes) {
        Ok(octets) => Some(octets.into()),
        Err(_) => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
    }
}

/// Returns the wildcard that stands for a host: `*` in place of its first label, and only of that one (RFC 9525,
/// section 6.3). `None` for a host of one label.
pub(super) fn wildcard_of(host: &str) -> Option<String> {
    let (first, rest) = host.split_once('.')?;
    (!first.is_empty() && !rest.is_empty()).then(|| format!("*.{rest}"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};
    use rustls_pki_types::CertificateDer;

    use super::{CertificateNames, wildcard_of};

    #[test]
    fn hosts_are_in_lower_case_and_each_once() {
        let mut params = CertificateParams::default();
        let host = |name: &str| SanType::DnsName(name.try_into().expect("ASCII"));
        params.subject_alt_names = vec![
            host("Example.ORG"),
            host("example.org"),
            host("*.Example.org"),
            SanType::IpAddress([192, 0, 2, 1].into()),
            SanType::Rfc822Name("a@example.org".try_into().expect("ASCII")),
            SanType::IpAddress("2001:db8::1".parse().expect("an address")),
        ];
        params.distinguished_name.push(rcgen::DnType::CommonName, "not-a-name.example");
        let made = params.self_signed(&KeyPair::generate().expect("a key")).expect("signed");
        let names = CertificateNames::of(made.der());
        assert_eq!(names.hosts(), ["example.org", "*.example.org"]);
        assert_eq!(names.all(), ["example.org", "*.example.org", "192.0.2.1", "2001:db8::1"]);
        let damaged = CertificateDer::from(vec![0x30, 0x03]);
        assert_eq!(CertificateNames::of(&damaged), CertificateNames::default());
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        for (host, expected) in [
            ("a.example.org", Some("*.example.org")),
            ("a.b.example.org", Some("*.b.example.org")),
            ("example.org", Some("*.org")),
            ("localhost", None),
            ("localhost.", None),
            (".org", None),
            ("", None),
        ] {
            assert_eq!(wildcard_of(host).as_deref(), expected, "{host}");
        }
    }
}
