//! What opens a place and is no part of its name: credentials, or where they are found.
//!
//! The library reads no environment. Who embeds it gives credentials, or the variables in which each provider's usual
//! chain begins; the binary passes its own. Nothing here shows a secret, in `Debug` either.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use zeroize::Zeroizing;

/// What opens a place.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Credentials that were given. Without, the provider's usual chain is followed: what the variables say, then
    /// files, then what the machine itself may do.
    pub credentials: Option<Credentials>,
    /// The variables that the usual chains begin with.
    pub environment: Environment,
}

/// Credentials for a store.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Credentials {
    /// For S3.
    AccessKey {
        /// Its name, which is no secret.
        id: String,
        /// Its secret.
        secret: Secret,
        /// The token of credentials that are valid for a while.
        session_token: Option<Secret>,
    },
    /// For GCS: the JSON of a service account's key.
    ServiceAccount(Secret),
    /// For Azure: the key of the storage account.
    AccountKey(Secret),
    /// For Azure: a shared access signature, as the portal gives it.
    SharedAccessSignature(Secret),
    /// For a REST server.
    Login {
        /// The user's name there, which is no secret.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// A text that is not shown, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for those who have to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The variables of an environment that stores ask for.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, Secret>);

impl Environment {
    /// Takes in variables. Those that no store asks for, that are empty or no text are left out.
    pub fn new(variables: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>) -> Self {
        let text = |value: OsString| value.into_string().ok().filter(|text| !text.is_empty());
        Self(
            variables
                .into_iter()
                .filter_map(|(name, value)| Some((text(name.into())?, value.into())))
                .filter(|(name, _)| is_asked_for(name))
                .filter_map(|(name, value)| Some((name, Secret::new(text(value)?))))
                .collect(),
        )
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Secret::reveal)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn is_asked_for(name: &str) -> bool {
    ["AWS_", "GOOGLE_", "AZURE_", "CLOUDSDK_", "BACKUP_REST_", "RESTIC_REST_"].iter().any(|prefix| name.starts_with(prefix))
        || matches!(name, "HOME" | "https_proxy" | "HTTPS_PROXY" | "http_proxy" | "no_proxy" | "NO_PROXY")
        // Where managed identities of Azure's app services are asked for.
        || matches!(name, "IDENTITY_ENDPOINT" | "IDENTITY_HEADER")
}

/// Insists that a file can be read. What stands in it is read again later, when it may be another.
#[cfg(any(feature = "s3", feature = "azure"))]
pub(crate) fn readable(path: &str) -> std::io::Result<()> {
    std::fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut [0])).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_secret() {
        let access = Access {
            credentials: Some(Credentials::AccessKey {
                id: String::from("AKIA"),
                secret: Secret::new("hunter2"),
                session_token: Some(Secret::new("hunter2")),
            }),
            environment: Environment::new([("AWS_SECRET_ACCESS_KEY", "hunter2"), ("PASSWORD", "hunter2")]),
        };
        let shown = format!("{access:?}");
        assert!(!shown.contains("hunter2") && shown.contains("AKIA") && shown.contains("AWS_SECRET"), "{shown}");
        assert_eq!(access.environment.get("PASSWORD"), None, "what nobody asks for is not kept");
        assert_eq!(access.environment.get("AWS_SECRET_ACCESS_KEY"), Some("hunter2"));
    }
}
