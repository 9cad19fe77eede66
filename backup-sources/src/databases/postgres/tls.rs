//! TLS as `sslmode` says, with the meanings that libpq gives its words.
//!
//! `disable` and `prefer` protect from nobody who sits between; `require` encrypts; `verify-ca` and `verify-full` also
//! know whom they talk to. As in libpq, `require` verifies the authority when a file of authorities is there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_core::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::server::Server;

/// Where systems keep the authorities that everybody trusts: Debian, Red Hat, Alpine.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How a connection is protected.
pub(super) struct Protection {
    pub(super) mode: SslMode,
    pub(super) connector: MakeRustlsConnect,
    /// The file of authorities, for the programs: older ones do not know the word `system`.
    pub(super) authorities: Option<PathBuf>,
}

/// Whom a certificate must convince.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Anybody,
    Authority,
    Full,
}

impl Protection {
    /// As the parameters of `server` say.
    ///
    /// # Errors
    ///
    /// When a word is not known, or a file of certificates is missing or holds none.
    pub(super) fn of(server: &Server) -> Result<Self> {
        let wrong = |what: String| Error::invalid(server.location(), what);
        let authorities = match server.parameter("sslrootcert") {
            Some("system") => {
                let found = SYSTEM_AUTHORITIES.iter().map(PathBuf::from).find(|path| path.is_file());
                Some(found.ok_or_else(|| wrong("this system keeps no certificates of authorities".to_owned()))?)
            }
            _ => server.certificate_file("sslrootcert", "root.crt"),
        };
        let usual = if server.parameter("sslrootcert") == Some("system") { "verify-full" } else { "prefer" };
        let (mode, trust) = match server.parameter("sslmode").unwrap_or(usual) {
            "disable" => (SslMode::Disable, Trust::Anybody),
            // libpq tries without first; both take what the server offers and trust anybody.
            "allow" | "prefer" => (SslMode::Prefer, Trust::Anybody),
            "require" if authorities.is_some() => (SslMode::Require, Trust::Authority),
            "require" => (SslMode::Require, Trust::Anybody),
            "verify-ca" => (SslMode::Require, Trust::Authority),
            "verify-full" => (SslMode::Require, Trust::Full),
            other => {
                return Err(wrong(format!("sslmode={other} is not known"))
                    .with_hint("known are disable, allow, prefer, require, verify-ca and verify-full"));
            }
        };
        let provider = Arc::new(ring::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match (trust, &authorities) {
            (Trust::Anybody, _) => Arc::new(Lenient { provider: Arc::clone(&provider), authority: None }),
            (_, None) => {
                return Err(wrong(
                    "sslmode asks for a verified server, and there is no file of authorities".to_owned(),
                )
                .with_hint("give sslrootcert=FILE, or sslrootcert=system for those that this machine trusts"));
            }
            (trust, Some(path)) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(path)?);
                let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
                let full = built.map_err(|error| wrong(format!("{}: {error}", path.display())))?;
                match trust {
                    Trust::Full => full,
                    _ => Arc::new(Lenient { provider: Arc::clone(&provider), authority: Some(full) }),
                }
            }
        };
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| wrong(error.to_string()))?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let own = server.certificate_file("sslcert", "postgresql.crt");
        let config = match (own, server.certificate_file("sslkey", "postgresql.key")) {
            (Some(own), Some(key)) if mode != SslMode::Disable => {
                let secret = PrivateKeyDer::from_pem_file(&key);
                let secret = secret.map_err(|error| wrong(format!("the key {}: {error}", key.display())))?;
                let config = builder.with_client_auth_cert(certificates(&own)?, secret);
                config.map_err(|error| wrong(format!("the certificate {}: {error}", own.display())))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self { mode, connector: MakeRustlsConnect::new(config), authorities })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |why: String| Error::invalid(path.display().to_string(), why);
    let text = fs::read(path).map_err(|error| failed(error.to_string()))?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| failed(format!("it is no file of certificates: {error}")))?;
    if found.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(found)
}

/// Trusts any server, or any that its authority vouches for under whatever name. That the server has the key of the
/// certificate that it shows is always checked.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    authority: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        match authority.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The chain was verified before the name.
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
