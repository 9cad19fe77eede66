//! Which credentials a container is opened with, and what is wrong with those that cannot be any.
//!
//! What is always true: what was given is looked at before anything is asked, and an error names where it stands and never
//! what it is.

use backup_core::{Error, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use crate::access::{Access, Credentials, readable};

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

/// Adds what was given, else what the variables say, for the account `account`; errors of neither are about `place`.
pub(super) fn with_credentials(
    builder: MicrosoftAzureBuilder,
    access: &Access,
    account: &str,
    place: &str,
) -> Result<MicrosoftAzureBuilder> {
    let with = |builder: MicrosoftAzureBuilder, name: &str, key, value: &str| {
        match key {
            AzureConfigKey::AccessKey => looks_like_a_key(name, value, account)?,
            AzureConfigKey::SasKey => looks_like_a_signature(name, value)?,
            AzureConfigKey::FederatedTokenFile => readable(value).map_err(|error| {
                Error::invalid(format!("{name}={value}"), "cannot be read")
                    .caused_by(error)
                    .with_hint("check the path and who may read it: whoever gives this workload its identity writes it")
            })?,
            _ => {}
        }
        Ok(builder.with_config(key, value))
    };
    match &access.credentials {
        Some(Credentials::AccountKey(key)) => with(builder, "account_key", AzureConfigKey::AccessKey, key.reveal()),
        Some(Credentials::SharedAccessSignature(signature)) => {
            with(builder, "shared_access_signature", AzureConfigKey::SasKey, signature.reveal())
        }
        Some(_) => {
            Err(Error::invalid(place, "Azure takes an account's key or a shared access signature as credentials"))
        }
        None => VARIABLES.iter().try_fold(builder, |builder, (variable, key)| match access.environment.get(variable) {
            Some(value) => with(builder, variable, *key, value),
            None => Ok(builder),
        }),
    }
}

fn looks_like_a_key(name: &str, key: &str, account: &str) -> Result<()> {
    let hint = format!(
        "copy it again, whole: `az storage account keys list --account-name {account}` shows both keys of the account"
    );
    match STANDARD.decode(key) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::invalid(name, "it is not base 64, as the key of a storage account is").with_hint(hint)),
    }
}

fn looks_like_a_signature(name: &str, signature: &str) -> Result<()> {
    // Percent signs stand for themselves in values, and names have none; one that is encoded whole is taken as well.
    let signature = signature.trim_start_matches('?').replace("%3D", "=").replace("%26", "&");
    let mut names = signature.split('&').map(|pair| Some(pair.trim().split_once('=')?.0));
    if names.clone().all(|name| name.is_some()) && names.any(|name| name == Some("sig")) {
        return Ok(());
    }
    let hint =
        "copy it again, whole and without the address before it, as `az storage container generate-sas` prints it";
    Err(Error::invalid(name, "it is no shared access signature, which has the form sv=…&sp=…&sig=…").with_hint(hint))
}
