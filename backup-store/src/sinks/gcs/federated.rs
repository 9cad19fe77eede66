//! Credentials of a workload that Google trusts another's word for (`external_account`: workload identity federation).
//!
//! A token that somebody else has given this machine is exchanged for one of Google's (RFC 8693), and that, where the file
//! says so, for one of a service account. When they are asked for is up to [`Kept`]. It holds nothing that a crash could
//! lose.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use backup_core::clock::{Clock as _, SystemClock};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use object_store::CredentialProvider;
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
use object_store::gcp::GcpCredential;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::http::Failure;
use crate::sinks::object::{Given, Kept, Service, failure_in};

/// What a token is for: everything that the account may, which its roles narrow.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

/// What is said of the first token's life where the answer says nothing.
const LIFETIME_SECONDS: i64 = 3_600;

/// What the file says (Google's AIP-4117).
#[derive(Deserialize)]
pub(super) struct Federation {
    audience: String,
    subject_token_type: String,
    token_url: String,
    service_account_impersonation_url: Option<String>,
    #[serde(default)]
    service_account_impersonation: Impersonation,
    credential_source: Source,
}

#[derive(Default, Deserialize)]
struct Impersonation {
    token_lifetime_seconds: Option<i64>,
}

/// Where the machine finds the token that somebody else has given it.
#[derive(Deserialize)]
struct Source {
    file: Option<PathBuf>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    format: Format,
}

#[derive(Default, Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: Option<String>,
    subject_token_field_name: Option<String>,
}

/// Credentials by a [`Federation`].
pub(super) struct Federated {
    federation: Federation,
    service: Service,
    kept: Kept<GcpCredential>,
}

impl Federation {
    /// What a file of the kind `external_account` says.
    ///
    /// # Errors
    ///
    /// Why it cannot be used, for people.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // Its own words would quote the text.
        let federation: Self =
            serde_json::from_str(text).map_err(|_| String::from("its credential_source is not understood"))?;
        let Self { token_url, service_account_impersonation_url, credential_source, .. } = &federation;
        if credential_source.file.is_some() == credential_source.url.is_some() {
            return Err(String::from(
                "its credential_source is neither a file nor a url, which are followed (not aws and executable): let \
                 another program write its token into a file",
            ));
        }
        for url in [Some(token_url), service_account_impersonation_url.as_ref()].into_iter().flatten() {
            let url: reqwest::Url = url.parse().map_err(|_| format!("{url} is not a URL"))?;
            let is_here =
                || url.host_str().is_some_and(|host| host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()));
            if url.scheme() != "https" && !is_here() {
                return Err(format!("a token would be sent to {url}, which is not https://"));
            }
        }
        Ok(federation)
    }
}

impl Federated {
    pub(super) fn new(federation: Federation, service: Service) -> Self {
        Self { federation, service, kept: Kept::default() }
    }

    async fn ask(&self) -> Result<Given<GcpCredential>, Failure> {
        let Federation { audience, subject_token_type, token_url, service_account_impersonation_url, .. } =
            &self.federation;
        let subject = self.subject().await?;
        let asked = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "audience": audience,
            "scope": SCOPE,
            "subject_token_type": subject_token_type,
            "subject_token": subject.as_str(),
        });
        let answer = self.post(token_url, None, &asked).await?;
        let token = answer["access_token"].as_str().ok_or_else(|| not_understood(token_url))?;
        let Some(url) = service_account_impersonation_url else {
            let seconds = answer["expires_in"].as_i64().unwrap_or(LIFETIME_SECONDS);
            return Ok(given(token, SystemClock.now() + SignedDuration::from_secs(seconds.clamp(0, 86_400))));
        };
        let seconds = self.federation.service_account_impersonation.token_lifetime_seconds.unwrap_or(LIFETIME_SECONDS);
        let asked = json!({"scope": [SCOPE], "lifetime": format!("{seconds}s")});
        let answer = self.post(url, Some(token), &asked).await?;
        let token = answer["accessToken"].as_str().ok_or_else(|| not_understood(url))?;
        let expires = answer["expireTime"].as_str().and_then(|time| time.parse().ok());
        Ok(given(token, expires.ok_or_else(|| not_understood(url))?))
    }

    /// The token that somebody else has given: read each time, because it changes.
    async fn subject(&self) -> Result<Zeroizing<String>, Failure> {
        let Source { file, url, headers, format } = &self.federation.credential_source;
        let (origin, text) = match (file, url) {
            (Some(file), _) => {
                let origin = file.display().to_string();
                let read = std::fs::read_to_string(file);
                let text = read.map_err(|error| not_handed_out(&origin, error.to_string()))?;
                (origin, Zeroizing::new(text))
            }
            (None, url) => {
                let url = url.as_deref().unwrap_or_default();
                let mut request = http::Request::builder().method(Method::GET).uri(url);
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                (url.to_owned(), self.send(url, request, String::new()).await?)
            }
        };
        let token = match format.kind.as_deref() {
            Some("json") => {
                let name = format.subject_token_field_name.as_deref().unwrap_or("access_token");
                let document: Value = serde_json::from_str(&text).unwrap_or_default();
                let token = document[name].as_str().map(str::to_owned);
                token.ok_or_else(|| not_handed_out(&origin, format!("it has no {name}")))?
            }
            _ => text.trim().to_owned(),
        };
        Ok(Zeroizing::new(token))
    }

    async fn post(&self, url: &str, bearer: Option<&str>, body: &Value) -> Result<Value, Failure> {
        let mut request = http::Request::builder().method(Method::POST).uri(url);
        request = request.header("content-type", "application/json");
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let text = self.send(url, request, body.to_string()).await?;
        serde_json::from_str(&text).map_err(|_| not_understood(url))
    }

    /// Those failures that may pass stay what they are; others are why there are no credentials.
    async fn send(
        &self,
        url: &str,
        request: http::request::Builder,
        body: String,
    ) -> Result<Zeroizing<String>, Failure> {
        let failed = |error: &(dyn std::error::Error + 'static)| match failure_in(error) {
            Some(Failure::Refused(refusal)) if !matches!(refusal.status, 408 | 429 | 500..) => {
                // It is no store that refuses here.
                not_handed_out(url, refusal.to_string().replacen("the store says ", "", 1))
            }
            Some(failure) => Failure::Unreachable { host: url.to_owned(), why: failure.to_string() },
            None => not_handed_out(url, error.to_string()),
        };
        let request: HttpRequest =
            request.body(HttpRequestBody::from(body)).map_err(|error| not_handed_out(url, error.to_string()))?;
        let answer = self.service.call(request).await.map_err(|error| failed(&error))?;
        let body = answer.into_body().bytes().await.map_err(|error| failed(&error))?;
        Ok(Zeroizing::new(String::from_utf8_lossy(&body).into_owned()))
    }
}

fn given(token: &str, expires: Timestamp) -> Given<GcpCredential> {
    Given::new(GcpCredential { bearer: token.to_owned() }, Some(expires))
}

fn not_handed_out(origin: &str, why: String) -> Failure {
    Failure::NotHandedOut { origin: origin.to_owned(), why }
}

fn not_understood(origin: &str) -> Failure {
    not_handed_out(origin, String::from("its answer is not understood"))
}

#[async_trait]
impl CredentialProvider for Federated {
    type Credential = GcpCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<GcpCredential>> {
        self.kept.or_asked("GCS", self.ask()).await
    }
}

impl fmt::Debug for Federated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Federated({})", self.federation.audience)
    }
}
