//! An HTTP client that trusts the system's certificates and uses the proxies it is told of.

use std::error::Error as StdError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backup_core::contracts::{SinkError, SinkErrorKind};
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::CONNECT_SECONDS_MAX;
use crate::access::Environment;

/// How the network is reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network {
    /// Certificates (PEM) that are trusted beside the system's.
    pub(crate) ca_certificate: Option<PathBuf>,
    https_proxy: Option<String>,
    http_proxy: Option<String>,
    no_proxy: Option<String>,
}

impl Network {
    /// The proxies that the environment names, in the spelling that curl and others know.
    pub(crate) fn new(environment: &Environment, ca_certificate: Option<PathBuf>) -> Self {
        let either = |lower, upper| environment.get(lower).or_else(|| environment.get(upper)).map(str::to_owned);
        Self {
            ca_certificate,
            https_proxy: either("https_proxy", "HTTPS_PROXY"),
            // In upper case a web server may have it from whoever called it.
            http_proxy: environment.get("http_proxy").map(str::to_owned),
            no_proxy: either("no_proxy", "NO_PROXY"),
        }
    }
}

/// A client for `subject`, which errors name.
///
/// # Errors
///
/// [`SinkErrorKind::Other`] when the machine has no certificates to trust, or a setting cannot be used.
pub(crate) fn client(network: &Network, subject: &str) -> Result<reqwest::Client, SinkError> {
    let no_proxy = network.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
        .user_agent(concat!("backup/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .tls_backend_preconfigured(tls(network, subject)?);
    for (proxy, make) in [
        (&network.https_proxy, reqwest::Proxy::https as fn(String) -> reqwest::Result<reqwest::Proxy>),
        (&network.http_proxy, reqwest::Proxy::http),
    ] {
        if let Some(proxy) = proxy {
            let proxy = make(proxy.clone()).map_err(|error| failed("the proxy", &error.without_url()))?;
            builder = builder.proxy(proxy.no_proxy(no_proxy.clone()));
        }
    }
    builder.build().map_err(|error| failed(subject, &error))
}

fn tls(network: &Network, subject: &str) -> Result<ClientConfig, SinkError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(subject, &error))?;
    let mut extra = Vec::new();
    if let Some(path) = &network.ca_certificate {
        let name = || format!("ca_certificate {}", path.display());
        let hint = "name a file with certificates in PEM form that whoever runs this may read";
        let wrong = |error| failed(name(), &error).with_hint(hint);
        let read = CertificateDer::pem_file_iter(path).map_err(wrong)?;
        extra = read.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        if extra.is_empty() {
            let error = SinkError::new(SinkErrorKind::Other, name()).with_hint(hint);
            return Err(error.caused_by("it holds no certificate in PEM form"));
        }
    }
    match Verifier::new_with_extra_roots(extra, provider) {
        Ok(verifier) => {
            Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
        }
        // A machine without certificates can still speak with a server on it; with others every handshake fails, and
        // says why.
        Err(_) => Ok(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()),
    }
}

fn failed(subject: impl Into<String>, cause: &dyn StdError) -> SinkError {
    SinkError::new(SinkErrorKind::Other, subject).caused_by(super::failure::root(cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_those_that_were_told() {
        let environment = Environment::new([("HTTPS_PROXY", "http://proxy:1"), ("HTTP_PROXY", "http://forged:2")]);
        let network = Network::new(&environment, None);
        assert_eq!(network.https_proxy.as_deref(), Some("http://proxy:1"));
        assert_eq!(network.http_proxy, None, "a web server's callers set HTTP_PROXY by a header");
        client(&network, "x").unwrap();
    }

    #[test]
    fn a_file_without_certificates_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing\n").unwrap();
        for path in [path, folder.path().join("absent")] {
            let network = Network { ca_certificate: Some(path.clone()), ..Network::default() };
            let error = client(&network, "x").unwrap_err();
            assert!(error.subject.contains(path.to_str().unwrap()), "{error}");
        }
    }
}
