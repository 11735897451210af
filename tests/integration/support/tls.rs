//! TLS as a client that trusts everybody, and certificates to serve.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// How to greet a TLS server.
pub(crate) struct TlsClient {
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<&'static str>,
}

impl TlsClient {
    /// A client that offers these protocols, the preferred one first.
    pub(crate) fn offering(alpn: &[&'static str]) -> Self {
        Self { versions: rustls::ALL_VERSIONS.to_vec(), alpn: alpn.to_vec() }
    }

    /// Speaks this version of TLS only.
    pub(crate) fn version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    /// Connects and shakes hands.
    pub(crate) async fn connect(&self, to: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        self.handshake(TcpStream::connect(to).await?).await
    }

    /// Shakes hands over a connection that is there already.
    pub(crate) async fn handshake(&self, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        TlsConnector::from(self.config()).connect(localhost(), tcp).await
    }

    /// Connects and says hello, but does not finish the handshake.
    pub(crate) async fn only_hello(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        let mut connection = ClientConnection::new(self.config(), localhost()).unwrap();
        let mut hello = Vec::new();
        connection.write_tls(&mut hello)?;
        let mut tcp = TcpStream::connect(to).await?;
        tcp.write_all(&hello).await?;
        Ok(tcp)
    }

    /// What it says, for many connections that know of each other.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(TrustsEverybody(provider)))
            .with_no_client_auth();
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// The certificate that a new connection is shown.
pub(crate) async fn shown_certificate(to: SocketAddr) -> Vec<u8> {
    let stream = TlsClient::offering(&["h2"]).connect(to).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

pub(crate) fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// The certificates are made for the test: what is tested is not whom we trust.
#[derive(Debug)]
struct TrustsEverybody(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustsEverybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// An authority, and a certificate of localhost that it signed, as PEM files.
pub(crate) struct Pem {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// The certificate itself, as it travels.
    pub(crate) der: Vec<u8>,
}

impl Pem {
    /// Accepts TLS, and shows this certificate with its chain.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(&self.certificate).unwrap();
        let key = PrivateKeyDer::from_pem_file(&self.key).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Writes the three files into `dir`, over those that are there.
    pub(crate) fn write(dir: &Path) -> Self {
        Self::write_for(dir, -1, 365)
    }

    /// The same for a certificate that is good from so many days from now on, to so many.
    pub(crate) fn write_for(dir: &Path, from: i64, to: i64) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let now = time::OffsetDateTime::now_utc();
        let mut certificate = CertificateParams::new(names).unwrap();
        certificate.not_before = now + time::Duration::days(from);
        certificate.not_after = now + time::Duration::days(to);
        let certificate = certificate.signed_by(&key, &authority).unwrap();

        let pem = Self {
            authority: dir.join("ca.pem"),
            certificate: dir.join("cert.pem"),
            key: dir.join("key.pem"),
            der: certificate.der().to_vec(),
        };
        std::fs::write(&pem.authority, authority.pem()).unwrap();
        std::fs::write(&pem.certificate, certificate.pem()).unwrap();
        std::fs::write(&pem.key, key.serialize_pem()).unwrap();
        pem
    }
}
