//! Whether the certificates of the listeners are good: valid, with their key, with all names, with the whole chain.

use std::path::Path;
use std::time::SystemTime;

use rustls::CertificateError;
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use ssegate::bounded_file;
use ssegate::config::Settings;
use ssegate::server::certificate::{Certificate, ValidityStatus, conflicts};
use ssegate::server::{CertificateFiles, TlsSettings, tls};
use ssegate::tls_client::verify_server;

use super::finding::Finding;

/// Those of all listeners with TLS.
pub(super) fn findings(settings: &Settings, now: SystemTime) -> Vec<Finding> {
    let hosts: Vec<&str> =
        settings.routes.iter().filter_map(|route| route.host.as_deref()).collect();
    let mut findings = Vec::new();
    for (index, listener) in settings.listeners.iter().enumerate() {
        let key = format!("listeners[{index}].tls");
        match &listener.tls {
            None => {}
            Some(TlsSettings::Files(files)) => findings.extend(of_all(&key, files, &hosts, now)),
            Some(settings @ TlsSettings::SelfSigned) => {
                findings.push(of_self_signed(key, settings, now));
            }
        }
    }
    findings
}

fn of_self_signed(about: String, settings: &TlsSettings, now: SystemTime) -> Finding {
    const MEND: &str = "for others than yourself: certificate and key of an authority that browsers know \
                        (docs/OPERATING.md, \"Certificates and TLS\")";
    let found = tls::check(settings, now).map(|problems| problems.join("; "));
    match found {
        Ok(problems) if problems.is_empty() => {
            Finding::warning(about, "self-signed: browsers warn of it", MEND)
        }
        Ok(problems) => Finding::warning(about, problems, MEND),
        Err(error) => Finding::error(about, error.to_string(), MEND),
    }
}

/// The findings about each certificate of a listener, and about all of them together.
fn of_all(key: &str, files: &[CertificateFiles], hosts: &[&str], now: SystemTime) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (mut opened, mut chains) = (Vec::new(), Vec::new());
    for CertificateFiles { certificate, key: private } in files {
        let about = format!("{key} {}", certificate.display());
        match Certificate::open(certificate, private) {
            Ok(one) => {
                let chain = chain(certificate);
                findings.extend(of_one(&about, &one, &chain, now));
                chains.push(chain);
                opened.push(one);
            }
            // The error says what to do.
            Err(error) => findings.push(Finding::error(about, error.to_string(), "")),
        }
    }
    if opened.len() == files.len() {
        findings.extend(uncovered(key, &chains, hosts));
    }
    let mend = "take the name out of one of them, or one of them out of the list";
    let conflict = |found: String| Finding::warning(key, found, mend);
    findings.extend(conflicts(&opened).into_iter().map(conflict));
    findings
}

fn chain(certificate: &Path) -> Vec<CertificateDer<'static>> {
    let text = bounded_file::read(certificate).unwrap_or_default();
    CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect()
}

fn of_one(
    about: &str,
    opened: &Certificate,
    chain: &[CertificateDer<'_>],
    now: SystemTime,
) -> Vec<Finding> {
    let names = opened.names().all();
    let mut findings = Vec::new();
    if let Some(problem) = opened.problem(now) {
        let status = opened.validity().map(|validity| validity.status(now));
        let mend = "renew it; the gateway reads the new files by itself";
        findings.push(match status {
            Some(ValidityStatus::Expired | ValidityStatus::NotYetValid) => {
                Finding::error(about, problem, mend)
            }
            _ => Finding::warning(about, problem, mend),
        });
    }
    findings.extend(chain_problem(about, chain, &names));
    if findings.is_empty() {
        let left =
            opened.validity().and_then(|validity| validity.not_after().duration_since(now).ok());
        let days = left.map_or(0, |left| left.as_secs() / 86_400);
        let found =
            format!("good for {} for {days} more days; key and chain match", names.join(", "));
        findings.push(Finding::ok(about, found));
    }
    findings
}

/// The hosts of routes for which the listener has no certificate.
fn uncovered(about: &str, chains: &[Vec<CertificateDer<'_>>], hosts: &[&str]) -> Option<Finding> {
    let firsts = chains.iter().filter_map(|chain| chain.first());
    let parsed: Vec<_> = firsts.filter_map(|it| ParsedCertificate::try_from(it).ok()).collect();
    let is_covered = |host: &str| {
        ServerName::try_from(host)
            .is_ok_and(|name| parsed.iter().any(|it| verify_server_name(it, &name).is_ok()))
    };
    let mut missing: Vec<&str> = hosts.iter().copied().filter(|host| !is_covered(host)).collect();
    missing.sort_unstable();
    missing.dedup();
    (!missing.is_empty()).then(|| {
        Finding::warning(
            about,
            format!("no certificate for {}, which routes have as host", missing.join(", ")),
            "get a certificate for them, and add it to `certificates`",
        )
    })
}

/// The error of clients that trust the same roots as this machine.
fn chain_problem(about: &str, chain: &[CertificateDer<'_>], names: &[String]) -> Option<Finding> {
    let name = names.iter().find(|name| !name.contains('*')).cloned();
    // Any name below a wildcard will do.
    let name = name.or_else(|| Some(names.first()?.replace('*', "www")));
    let name = name.and_then(|name| ServerName::try_from(name).ok());
    let Some(name) = name else {
        let found = "it has no name in subjectAltName: clients reject it";
        return Some(Finding::error(about, found, "get one with the name that clients use"));
    };
    let Err(rustls::Error::InvalidCertificate(error)) = verify_server(chain, &name) else {
        return None;
    };
    if !matches!(error, CertificateError::UnknownIssuer) {
        // Another finding reports the validity period.
        return None;
    }
    let issuer = chain.last().map(issuer).unwrap_or_default();
    let (found, mend) = match chain.last().is_some_and(is_authority) {
        true => (
            format!("its authority, {issuer}, is not one that this machine trusts"),
            "for the public, get one of a known authority; inside, clients must trust this one",
        ),
        false => (
            format!(
                "the chain ends with an authority that is not in the file nor trusted: {issuer}"
            ),
            "append the certificates between (certbot: use fullchain.pem, not cert.pem); if the authority is \
             private, clients must trust it",
        ),
    };
    Some(Finding::warning(about, found, mend))
}

fn issuer(certificate: &CertificateDer<'_>) -> String {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.map(|(_, parsed)| parsed.issuer().to_string()).unwrap_or_default()
}

/// Whether it is a self-signed certificate authority.
fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    parsed.is_ok_and(|(_, parsed)| parsed.is_ca() && parsed.issuer() == parsed.subject())
}
