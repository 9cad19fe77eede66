//! Containers of Azure Blob Storage: which account, with which credentials.
//!
//! The server answers every write with the CRC64 of what it has taken, which is compared with what was sent.

mod credentials;
mod deletion;
mod requests;
mod retention;
mod versions;

pub(crate) use retention::AzureRetention;
pub(crate) use versions::AzureVersions;

use std::sync::Arc;

use backup_core::{Error, Result};
use object_store::azure::{MicrosoftAzure, MicrosoftAzureBuilder};

use deletion::Deletion;
use requests::Reach;

use super::object::{Naming, ObjectSink, Proof, Service, once};
use crate::access::Access;
use crate::bucket::Bucket;
use crate::http::{Network, client};

/// The sink of a container. Asks the store nothing yet.
pub(crate) fn open(bucket: &Bucket, access: &Access) -> Result<ObjectSink> {
    let (store, reach) = opened(bucket, access)?;
    Ok(ObjectSink::new(Arc::new(store), Naming::of(bucket)).deleting_by(Arc::new(Deletion(reach))))
}

fn opened(bucket: &Bucket, access: &Access) -> Result<(MicrosoftAzure, Reach)> {
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
    let service = Service::new(client, Proof::AzureAnswer);
    let mut builder = MicrosoftAzureBuilder::new()
        .with_account(account)
        .with_container_name(&bucket.name)
        .with_http_connector(service.clone())
        .with_retry(once());
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint.clone()).with_allow_http(true);
    }
    let builder = credentials::with_credentials(builder, access, account, &bucket.to_string())?;
    let store = builder.build().map_err(|error| wrong(&error.to_string()))?;
    let endpoint = settings.endpoint.clone().unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    let reach = Reach {
        credentials: Arc::clone(store.credentials()),
        service,
        account: account.to_owned(),
        endpoint: endpoint.parse().map_err(|_| wrong("the endpoint is no URL"))?,
        container: bucket.name.clone(),
    };
    Ok((store, reach))
}

#[cfg(test)]
mod tests {
    use backup_core::contracts::{ObjectKey, Sink as _, SinkErrorKind};

    use super::*;
    use crate::access::Environment;
    use crate::bucket::Provider;
    use crate::sinks::object::fake::fake;

    #[test]
    fn a_machines_identity_and_a_workloads_are_exchanged_for_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "who-i-am").unwrap();
        let (address, heard) = fake(|asked| {
            let answer = match asked.split([' ', '?']).nth(1).unwrap() {
                "/machine" if asked.contains("metadata: true") => {
                    r#"{"access_token": "machines", "expires_on": "4070908800", "token_type": "Bearer"}"#
                }
                "/tenant/oauth2/v2.0/token" if asked.contains("who-i-am") => {
                    r#"{"access_token": "workloads", "expires_in": 3600, "token_type": "Bearer"}"#
                }
                _ => return ("404 Not Found", String::new()),
            };
            ("200 OK", answer.to_owned())
        });
        let host = format!("http://{address}");
        let machine = format!("{host}/machine");
        let workload = [
            ("AZURE_CLIENT_ID", "client"),
            ("AZURE_TENANT_ID", "tenant"),
            ("AZURE_FEDERATED_TOKEN_FILE", file.to_str().unwrap()),
            ("AZURE_AUTHORITY_HOST", &host),
        ];
        for (variables, token) in
            [(&[("IDENTITY_ENDPOINT", machine.as_str())][..], "machines"), (&workload, "workloads")]
        {
            let environment = Environment::new(variables.iter().copied());
            let bucket = Bucket::parse(Provider::Azure, &format!("//c?account=a&endpoint={host}")).unwrap();
            let sink = open(&bucket, &Access { credentials: None, environment }).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let error = runtime.block_on(sink.get(&ObjectKey::new("config"), None)).unwrap_err();
            assert_eq!(error.kind, SinkErrorKind::NotFound, "{error:?}");
            let last = heard.try_iter().last().unwrap();
            assert!(last.contains(&format!("authorization: bearer {token}")), "{last}");
        }
    }
}
