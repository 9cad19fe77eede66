//! One blob deleted by one request.
//!
//! `object_store` deletes by Azure's batch, whose answer is "accepted" whatever became of the parts, and whose parts lose
//! what the store says: a refusal could not be told from an outage. A crash leaves the blob, or not.

use futures::future::BoxFuture;
use http::Method;
use object_store::path::Path;

use super::requests::Reach;
use crate::sinks::object::Delete;

/// Deletes blobs of a container.
#[derive(Debug)]
pub(super) struct Deletion(pub(super) Reach);

impl Deletion {
    async fn delete_blob(&self, path: &Path) -> object_store::Result<()> {
        let parts: Vec<_> = path.parts().collect();
        let parts = [self.0.container.as_str()].into_iter().chain(parts.iter().map(AsRef::as_ref));
        let url = self.0.url(parts).ok_or_else(|| object_store::Error::Generic {
            store: "MicrosoftAzure",
            source: "the endpoint has no path".into(),
        })?;
        self.0.send(Method::DELETE, &url, &[]).await.map(drop)
    }
}

impl Delete for Deletion {
    fn delete<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, object_store::Result<()>> {
        Box::pin(self.delete_blob(path))
    }
}
