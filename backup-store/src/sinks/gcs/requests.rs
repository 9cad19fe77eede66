//! Requests of Google's JSON interface, which `object_store` has no call for, sent by its client and with its
//! credentials.

use backup_core::contracts::{SinkError, SinkErrorKind};
use bytes::Bytes;
use http::Method;
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
use serde_json::Value;

use super::Reach;
use crate::bucket::{Bucket, encoded};
use crate::layers::Patience;
use crate::sinks::object::{Action, sink_error};

/// A bucket, and how it is reached. Requests are repeated where that may help: each of them must bear it.
pub(super) struct Requests {
    reach: Reach,
    bucket: Bucket,
    patience: Patience,
}

/// What is asked.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// The object's name in the repository; empty for the bucket.
    pub(super) key: &'a str,
    /// What follows the bucket, or the object, in the URL: a verb, or a query.
    pub(super) rest: String,
    pub(super) body: Option<Value>,
    /// What it is called when it is refused.
    pub(super) action: Action,
}

impl Requests {
    pub(super) fn new(reach: Reach, bucket: Bucket, patience: Patience) -> Self {
        Self { reach, bucket, patience }
    }

    pub(super) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// What messages call an object, or the bucket.
    pub(super) fn subject(&self, key: &str) -> String {
        match key {
            "" => self.bucket.short(),
            key => format!("{}/{key}", self.bucket.short()),
        }
    }

    /// Asks, as often as patience has it, and gives the answer's document.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<Value, SinkError> {
        self.patience.persist(0, |_| self.send_once(ask.clone())).await
    }

    async fn send_once(&self, ask: Ask<'_>) -> Result<Value, SinkError> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            self.explained(&ask, sink_error(self.subject(ask.key), ask.action, error))
        };
        let mut url = format!("{}/storage/v1/b/{}", self.reach.server, encoded(&self.bucket.name, ""));
        if !ask.key.is_empty() {
            url.push_str("/o/");
            url.push_str(&encoded(&self.bucket.path(ask.key), ""));
        }
        url.push_str(&ask.rest);
        let mut request = http::Request::builder().method(ask.method.clone()).uri(url);
        let credential = self.reach.store.credentials().get_credential().await.map_err(|error| failed(&error))?;
        request = request.header("authorization", format!("Bearer {}", credential.bearer));
        let body = ask.body.as_ref().map(Value::to_string).unwrap_or_default();
        if ask.body.is_some() {
            request = request.header("content-type", "application/json");
        } else if ask.method == Method::POST {
            request = request.header("content-length", 0);
        }
        let request: HttpRequest =
            request.body(HttpRequestBody::from(Bytes::from(body))).map_err(|error| failed(&error))?;
        let answer = self.reach.service.call(request).await.map_err(|error| failed(&error))?;
        let body = answer.into_body().bytes().await.map_err(|error| failed(&error))?;
        serde_json::from_slice(&body).map_err(|_| self.not_understood("the answer"))
    }

    /// What is not there is the bucket, where no object was asked for: Google has one code for both.
    fn explained(&self, ask: &Ask<'_>, error: SinkError) -> SinkError {
        if !ask.key.is_empty() || error.kind != SinkErrorKind::NotFound || error.hint.is_some() {
            return error;
        }
        error
            .caused_by("there is no such bucket")
            .with_hint("check the name of the bucket, and the endpoint; a bucket is made by its owner")
    }

    pub(super) fn not_understood(&self, what: &str) -> SinkError {
        SinkError::new(SinkErrorKind::Other, self.bucket.short()).caused_by(format!("{what} is not understood"))
    }
}
