//! Requests that `object_store` has no call for, signed with its signer and sent by the same client.

use backup_core::contracts::{SinkError, SinkErrorKind};
use bytes::Bytes;
use http::{HeaderMap, Method};
use object_store::aws::AwsAuthorizer;
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};

use super::Reach;
use crate::bucket::{Bucket, encoded};
use crate::layers::Patience;
use crate::sinks::object::{Action, sink_error};

/// A bucket, and how it is reached.
pub(super) struct Requests {
    reach: Reach,
    bucket: Bucket,
    patience: Option<Patience>,
}

/// What is asked.
#[derive(Clone)]
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// The object, with the prefix; empty for the bucket.
    pub(super) path: &'a str,
    /// As it stands in the URL; its parts in the order of their names.
    pub(super) query: &'a str,
    pub(super) headers: &'a [(&'a str, String)],
    pub(super) body: String,
    /// What it is called when it is refused.
    pub(super) action: Action,
}

impl Requests {
    /// Requests each of which is sent once.
    pub(super) fn new(reach: Reach, bucket: Bucket) -> Self {
        Self { reach, bucket, patience: None }
    }

    /// Requests that are repeated where that may help: each of them must bear it.
    pub(super) fn with_patience(self, patience: Patience) -> Self {
        Self { patience: Some(patience), ..self }
    }

    pub(super) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// What messages call an object.
    pub(super) fn subject(&self, key: &str) -> String {
        format!("{}/{key}", self.bucket.short())
    }

    /// Asks, as often as patience has it, and gives the answer's headers and body.
    pub(super) async fn send(&self, ask: Ask<'_>) -> Result<(HeaderMap, String), SinkError> {
        self.send_until(ask, |_| Ok(())).await
    }

    /// The same, where an answer may be none: `is_done` says whether it is.
    pub(super) async fn send_until(
        &self,
        ask: Ask<'_>,
        is_done: impl Fn(&str) -> Result<(), SinkError>,
    ) -> Result<(HeaderMap, String), SinkError> {
        let once = async |ask| {
            let answer = self.send_once(ask).await?;
            is_done(&answer.1).map(|()| answer)
        };
        match &self.patience {
            Some(patience) => patience.persist(0, |_| once(ask.clone())).await,
            None => once(ask).await,
        }
    }

    async fn send_once(&self, ask: Ask<'_>) -> Result<(HeaderMap, String), SinkError> {
        let subject = if ask.path.is_empty() {
            self.bucket.short()
        } else {
            format!("{}://{}/{}", self.bucket.provider.scheme(), self.bucket.name, ask.path)
        };
        let failed = |error: &(dyn std::error::Error + 'static)| sink_error(subject.clone(), ask.action, error);
        let separator = if ask.path.is_empty() { "" } else { "/" };
        let mark = if ask.query.is_empty() { "" } else { "?" };
        let url = format!("{}{separator}{}{mark}{}", self.reach.bucket_url, encoded(ask.path, "/"), ask.query);
        let mut request = http::Request::builder().method(ask.method).uri(url);
        for (name, value) in ask.headers {
            request = request.header(*name, value);
        }
        let mut request: HttpRequest =
            request.body(HttpRequestBody::from(Bytes::from(ask.body))).map_err(|error| failed(&error))?;
        let credential = self.reach.store.credentials().get_credential().await.map_err(|error| failed(&error))?;
        AwsAuthorizer::new(&credential, "s3", &self.reach.region)
            .try_authorize(&mut request, None)
            .map_err(|error| failed(&error))?;
        let answer = self.reach.service.call(request).await.map_err(|error| failed(&error))?;
        let (parts, body) = answer.into_parts();
        let body = body.bytes().await.map_err(|error| failed(&error))?;
        Ok((parts.headers, String::from_utf8_lossy(&body).into_owned()))
    }

    pub(super) fn not_understood(&self, what: &str) -> SinkError {
        SinkError::new(SinkErrorKind::Other, self.bucket.short()).caused_by(format!("{what} is not understood"))
    }
}

/// The SHA-256 that the store keeps of an object's whole content, in base 64, where it keeps one.
pub(super) fn sha256_of(headers: &HeaderMap) -> Option<String> {
    let sum = headers.get("x-amz-checksum-sha256")?.to_str().ok()?;
    // Of an object in parts it is the hash of their hashes.
    (!sum.contains('-')).then(|| sum.to_owned())
}
