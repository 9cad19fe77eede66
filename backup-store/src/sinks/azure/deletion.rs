//! One blob deleted by one request.
//!
//! `object_store` deletes by Azure's batch, whose answer is "accepted" whatever became of the parts, and whose parts lose
//! what the store says: a refusal could not be told from an outage. Signed with its signer and sent by the same client.
//! A crash leaves the blob, or not.

use futures::future::BoxFuture;
use http::Method;
use http::header::CONTENT_LENGTH;
use object_store::azure::{AzureAuthorizer, AzureCredentialProvider};
use object_store::client::{HttpRequest, HttpRequestBody, HttpService as _};
use object_store::path::Path;
use reqwest::Url;

use crate::sinks::object::{Delete, Service};

/// Deletes blobs of a container.
#[derive(Debug)]
pub(super) struct Deletion {
    pub(super) credentials: AzureCredentialProvider,
    pub(super) service: Service,
    pub(super) account: String,
    /// Where the account's containers are.
    pub(super) endpoint: Url,
    pub(super) container: String,
}

impl Deletion {
    async fn delete_blob(&self, path: &Path) -> object_store::Result<()> {
        let mut url = self.endpoint.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => drop(segments.push(&self.container).extend(path.parts())),
            Err(()) => return Err(failed("the endpoint has no path")),
        }
        let mut request: HttpRequest = http::Request::builder()
            .method(Method::DELETE)
            .uri(url.as_str())
            .header(CONTENT_LENGTH, 0)
            .body(HttpRequestBody::empty())
            .map_err(failed)?;
        let credential = self.credentials.get_credential().await?;
        AzureAuthorizer::new(&credential, &self.account).try_authorize(&mut request)?;
        self.service.call(request).await.map(drop).map_err(failed)
    }
}

impl Delete for Deletion {
    fn delete<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, object_store::Result<()>> {
        Box::pin(self.delete_blob(path))
    }
}

fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic { store: "MicrosoftAzure", source: source.into() }
}
