//! Buckets of Google Cloud Storage: which server, with which credentials.
//!
//! The server is told the CRC32C of every write and verifies it.

mod federated;
mod requests;
mod retention;
mod versions;

pub(crate) use retention::GcsRetention;
pub(crate) use versions::GcsVersions;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use backup_core::{Error, Result};
use object_store::gcp::{GoogleCloudStorage, GoogleCloudStorageBuilder};
use serde_json::Value;
use zeroize::Zeroizing;

use federated::{Federated, Federation};

use super::object::{Naming, ObjectSink, Proof, Service, once};
use crate::access::{Access, Credentials, Environment};
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
    builder = match &access.credentials {
        Some(Credentials::ServiceAccount(json)) => match federation(json.reveal(), &bucket.to_string())? {
            Some(federation) => builder.with_credentials(Arc::new(Federated::new(federation, service.clone()))),
            None => builder.with_service_account_key(json.reveal()),
        },
        Some(_) => return Err(Error::invalid(bucket.to_string(), "GCS takes a service account's key as credentials")),
        // Without a file the machine is asked what it may do.
        None => match file_of(&access.environment) {
            Some(path) => with_file(builder, &path, service.clone())?,
            None => builder,
        },
    };
    builder.build().map_err(|error| Error::invalid(bucket.to_string(), error.to_string()))
}

/// The key of a service account, what `gcloud auth application-default login` writes, or how a workload says who it is.
fn with_file(builder: GoogleCloudStorageBuilder, path: &str, service: Service) -> Result<GoogleCloudStorageBuilder> {
    let text = fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|error| Error::invalid(path, "cannot be read").caused_by(error))?;
    if let Some(federation) = federation(&text, path)? {
        return Ok(builder.with_credentials(Arc::new(Federated::new(federation, service))));
    }
    Ok(if text.contains("\"private_key\"") {
        builder.with_service_account_key(text.as_str())
    } else {
        builder.with_application_credentials(path)
    })
}

/// What a file of the kind `external_account` says; nothing for one of another kind.
fn federation(text: &str, origin: &str) -> Result<Option<Federation>> {
    let kind =
        serde_json::from_str::<Value>(text).ok().and_then(|document| Some(document["type"].as_str()?.to_owned()));
    if kind.as_deref() != Some("external_account") {
        return Ok(None);
    }
    Federation::parse(text).map(Some).map_err(|why| Error::invalid(origin, why))
}

/// The file that Google's own programs would take: what the variable names, or what `gcloud` wrote for this user.
fn file_of(environment: &Environment) -> Option<String> {
    if let Some(path) = environment.get("GOOGLE_APPLICATION_CREDENTIALS") {
        return Some(path.to_owned());
    }
    let folder = match environment.get("CLOUDSDK_CONFIG") {
        Some(folder) => Path::new(folder).to_owned(),
        None => Path::new(environment.get("HOME")?).join(".config/gcloud"),
    };
    let path = folder.join("application_default_credentials.json");
    path.exists().then(|| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests;
