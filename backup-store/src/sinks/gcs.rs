//! Buckets of Google Cloud Storage: which server, with which credentials.
//!
//! The server is told the CRC32C of every write and verifies it.

mod credentials;
mod federated;
mod requests;
mod retention;
mod versions;

pub(crate) use retention::GcsRetention;
pub(crate) use versions::GcsVersions;

use std::sync::Arc;

use backup_core::{Error, Result};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};

use credentials::{AGAIN, Found, found};
use federated::Federated;

use super::object::{Naming, ObjectSink, Proof, Service, once};
use crate::access::Access;
use crate::bucket::Bucket;
use crate::http::{Network, client};

/// Google's own server.
const SERVER: &str = "https://storage.googleapis.com";

/// The sink of a bucket. Asks the store nothing yet.
pub(crate) fn open(bucket: &Bucket, access: &Access) -> Result<ObjectSink> {
    Ok(ObjectSink::new(Arc::new(Reach::of(bucket, access)?.store), Naming::of(bucket)))
}

/// How a bucket is reached.
struct Reach {
    store: GoogleCloudStorage,
    service: Service,
    /// The server, without a slash at the end.
    server: String,
}

impl Reach {
    fn of(bucket: &Bucket, access: &Access) -> Result<Self> {
        let network = Network::new(&access.environment, bucket.settings.ca_certificate.clone());
        let service = Service::new(client(&network, &bucket.short())?, Proof::GoogleHash);
        let server = bucket.settings.endpoint.as_deref().unwrap_or(SERVER).trim_end_matches('/').to_owned();
        Ok(Self { store: store(bucket, access, &service, &server)?, service, server })
    }
}

fn store(bucket: &Bucket, access: &Access, service: &Service, server: &str) -> Result<GoogleCloudStorage> {
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&bucket.name)
        .with_base_url(server)
        .with_http_connector(service.clone())
        .with_retry(once());
    let mut key_in = None;
    builder = match found(access)? {
        // The machine is asked what it may do.
        None => builder,
        Some(Found::Federation(federation)) => {
            builder.with_credentials(Arc::new(Federated::new(federation, service.clone())))
        }
        Some(Found::User(path)) => builder.with_application_credentials(path),
        Some(Found::Key { json, origin }) => {
            key_in = Some(origin);
            builder.with_service_account_key(json.as_str())
        }
    };
    builder.build().map_err(|error| match key_in {
        // All else was looked at.
        Some(origin) => Error::invalid(origin, "its private_key is no private key in PEM").with_hint(AGAIN),
        None => Error::invalid(bucket.to_string(), error.to_string()),
    })
}

#[cfg(test)]
mod tests;
