//! Requests that `object_store` has no call for, signed with its signer and sent by the same client.

use backup_core::Result;
use backup_core::contracts::{SinkError, SinkErrorKind};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Method};
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
use reqwest::Url;

use crate::access::Access;
use crate::bucket::{Bucket, encoded};
use crate::layers::Patience;
use crate::sinks::object::{Action, Service, sink_error};

/// How a container is reached.
#[derive(Debug)]
pub(super) struct Reach {
    pub(super) credentials: AzureCredentialProvider,
    pub(super) service: Service,
    pub(super) account: String,
    /// Where the account's containers are.
    pub(super) endpoint: Url,
    pub(super) container: String,
}

/// A container, and how it is reached. Requests are repeated where that may help: each of them must bear it.
pub(super) struct Requests {
    reach: Reach,
    bucket: Bucket,
    patience: Patience,
}

/// What is asked. No request has a body.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) on: On<'a>,
    /// As it stands in the URL.
    pub(super) query: String,
    pub(super) headers: Vec<(&'static str, String)>,
    /// What it is called when it is refused.
    pub(super) action: Action,
}

/// What is asked about.
#[derive(Clone, Copy)]
pub(super) enum On<'a> {
    /// What the account keeps of what is deleted, and the like.
    Account,
    Container,
    /// An object, by its name in the repository.
    Object(&'a str),
}

impl Reach {
    /// The URL of something in the account, by the parts of its path.
    pub(super) fn url<'a>(&self, parts: impl IntoIterator<Item = &'a str>) -> Option<Url> {
        let mut url = self.endpoint.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend(parts);
        Some(url)
    }

    /// Sends a request without a body, once; its answer's headers and body.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: &[(&'static str, String)],
    ) -> object_store::Result<(HeaderMap, String)> {
        let mut request = http::Request::builder().method(method.clone()).uri(url.as_str());
        if !matches!(method, Method::GET | Method::HEAD) {
            request = request.header(CONTENT_LENGTH, 0);
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut request: HttpRequest = request.body(HttpRequestBody::empty()).map_err(failed)?;
        let credential = self.credentials.get_credential().await?;
        AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request)?;
        let answer = self.service.call(request).await.map_err(failed)?;
        let (parts, body) = answer.into_parts();
        let body = body.bytes().await.map_err(failed)?;
        Ok((parts.headers, String::from_utf8_lossy(&body).into_owned()))
    }
}

impl Requests {
    /// Asks the store nothing yet.
    pub(super) fn open(bucket: &Bucket, access: &Access, patience: Patience) -> Result<Self> {
        let (_, reach) = super::opened(bucket, access)?;
        Ok(Self { reach, bucket: bucket.clone(), patience })
    }

    pub(super) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// Asks, as often as patience has it, and gives the answer's headers and body.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<(HeaderMap, String), SinkError> {
        self.send_until(ask, |_| Ok(())).await
    }

    /// The same, where an answer may be none: `is_done` says whether it is, by its headers.
    pub(super) async fn send_until(
        &self,
        ask: Ask<'_>,
        is_done: impl Fn(&HeaderMap) -> Result<(), SinkError>,
    ) -> Result<(HeaderMap, String), SinkError> {
        let once = async |ask| {
            let answer = self.send_once(ask).await?;
            is_done(&answer.0).map(|()| answer)
        };
        self.patience.persist(0, |_| once(ask.clone())).await
    }

    async fn send_once(&self, ask: Ask<'_>) -> Result<(HeaderMap, String), SinkError> {
        let subject = self.subject(ask.on);
        let mut url = self.url(ask.on).ok_or_else(|| self.not_understood("the endpoint"))?;
        url.set_query((!ask.query.is_empty()).then_some(ask.query.as_str()));
        let sent = self.reach.send(ask.method, &url, &ask.headers).await;
        sent.map_err(|error| sink_error(subject, ask.action, &error))
    }

    fn url(&self, on: On<'_>) -> Option<Url> {
        match on {
            On::Account => self.reach.url([""]),
            On::Container => self.reach.url([self.reach.container.as_str()]),
            On::Object(key) => {
                let path = self.bucket.path(key);
                self.reach.url([self.reach.container.as_str()].into_iter().chain(path.split('/')))
            }
        }
    }

    /// What the store is told to copy from: what `query` names of an object. A source in the same account is read with the
    /// credentials of the request, but a signature has to stand in its address.
    pub(super) async fn source(&self, key: &str, query: &str) -> Result<String, SinkError> {
        let subject = self.subject(On::Object(key));
        let credential = self.reach.credentials.get_credential().await;
        let credential = credential.map_err(|error| sink_error(subject, Action::Read, &error))?;
        let mut url = self.url(On::Object(key)).ok_or_else(|| self.not_understood("the endpoint"))?;
        let mut query = query.to_owned();
        if let AzureCredential::SASToken(pairs) = &*credential {
            for (name, value) in pairs {
                query.push_str(&format!("&{name}={}", encoded(value, "")));
            }
        }
        url.set_query(Some(&query));
        Ok(url.into())
    }

    /// What messages call it.
    pub(super) fn subject(&self, on: On<'_>) -> String {
        match on {
            On::Account => self.reach.account.clone(),
            On::Container => self.bucket.short(),
            On::Object(key) => format!("{}/{key}", self.bucket.short()),
        }
    }

    pub(super) fn not_understood(&self, what: &str) -> SinkError {
        SinkError::new(SinkErrorKind::Other, self.bucket.short()).caused_by(format!("{what} is not understood"))
    }
}

/// The text of a header.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic { store: "MicrosoftAzure", source: source.into() }
}
