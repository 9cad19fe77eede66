//! Buckets of Google Cloud Storage: which server, with which credentials.
//!
//! The server is told the CRC32C of every write and verifies it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use backup_core::{Error, Result};
use object_store::gcp::GoogleCloudStorageBuilder;
use zeroize::Zeroizing;

use super::object::{Naming, ObjectSink, Proof, Service, once};
use crate::access::{Access, Credentials, Environment};
use crate::bucket::Bucket;
use crate::http::{Network, client};

/// The sink of a bucket. Asks the store nothing yet.
pub(crate) fn open(bucket: &Bucket, access: &Access) -> Result<ObjectSink> {
    let client = client(&Network::new(&access.environment, bucket.settings.ca_certificate.clone()), &bucket.short())?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&bucket.name)
        .with_http_connector(Service::new(client, Proof::GoogleHash))
        .with_retry(once());
    if let Some(endpoint) = &bucket.settings.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    builder = match &access.credentials {
        Some(Credentials::ServiceAccount(json)) => builder.with_service_account_key(json.reveal()),
        Some(_) => return Err(Error::invalid(bucket.to_string(), "GCS takes a service account's key as credentials")),
        // Without a file the machine is asked what it may do.
        None => match file_of(&access.environment) {
            Some(path) => with_file(builder, &path)?,
            None => builder,
        },
    };
    let store = builder.build().map_err(|error| Error::invalid(bucket.to_string(), error.to_string()))?;
    Ok(ObjectSink::new(Arc::new(store), Naming::of(bucket)))
}

/// The key of a service account, or what `gcloud auth application-default login` writes.
fn with_file(builder: GoogleCloudStorageBuilder, path: &str) -> Result<GoogleCloudStorageBuilder> {
    let text = fs::read_to_string(path).map(Zeroizing::new);
    let text = text.map_err(|error| Error::invalid(path, "cannot be read").caused_by(error))?;
    Ok(if text.contains("\"private_key\"") {
        builder.with_service_account_key(text.as_str())
    } else {
        builder.with_application_credentials(path)
    })
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
