//! Containers of Azure Blob Storage: which account, with which credentials.
//!
//! The server answers every write with the CRC64 of what it has taken, which is compared with what was sent.

use std::sync::Arc;

use backup_core::{Error, Result};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::object::{Naming, ObjectSink, Proof, Service, once};
use crate::access::{Access, Credentials};
use crate::bucket::Bucket;
use crate::http::{Network, client};

/// The variables of Azure's own programs, and those that a workload identity is handed over in.
const VARIABLES: [(&str, AzureConfigKey); 11] = [
    ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_ACCOUNT_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_SAS_TOKEN", AzureConfigKey::SasKey),
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_AUTHORITY_HOST", AzureConfigKey::AuthorityHost),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
    ("IDENTITY_ENDPOINT", AzureConfigKey::MsiEndpoint),
    ("AZURE_USE_AZURE_CLI", AzureConfigKey::UseAzureCli),
    ("AZURE_MSI_ENDPOINT", AzureConfigKey::MsiEndpoint),
];

/// The sink of a container. Asks the store nothing yet.
pub(crate) fn open(bucket: &Bucket, access: &Access) -> Result<ObjectSink> {
    let (settings, environment) = (&bucket.settings, &access.environment);
    let wrong = |why: &str| Error::invalid(bucket.to_string(), why);
    let account = settings
        .account
        .as_deref()
        .or_else(|| environment.get("AZURE_STORAGE_ACCOUNT"))
        .or_else(|| environment.get("AZURE_STORAGE_ACCOUNT_NAME"))
        .ok_or_else(|| {
            wrong("no storage account is named").with_hint("add ?account=NAME, or set AZURE_STORAGE_ACCOUNT")
        })?;
    let client = client(&Network::new(environment, settings.ca_certificate.clone()), &bucket.short())?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(&bucket.name)
        .with_http_connector(Service::new(client, Proof::AzureAnswer))
        .with_retry(once());
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint.clone()).with_allow_http(true);
    }
    builder = match &access.credentials {
        Some(Credentials::AccountKey(key)) => builder.with_access_key(key.reveal()),
        Some(Credentials::SharedAccessSignature(signature)) => {
            builder.with_config(AzureConfigKey::SasKey, signature.reveal())
        }
        Some(_) => return Err(wrong("Azure takes an account's key or a shared access signature as credentials")),
        None => VARIABLES.iter().fold(builder, |builder, (variable, key)| match environment.get(variable) {
            Some(value) => builder.with_config(*key, value),
            None => builder,
        }),
    };
    let store = builder.build().map_err(|error| wrong(&error.to_string()))?;
    Ok(ObjectSink::new(Arc::new(store), Naming::of(bucket)))
}
