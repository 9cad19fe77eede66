//! A repository that was found: where it lies, what opens it, and what stands between it and the program.
//!
//! What is always true: secrets are read when they are needed, and not before.

use std::sync::Arc;

use backup_core::contracts::Sink;
use backup_core::repository::Passphrase;
use backup_core::{Error, ErrorKind};
use backup_store::layers::HotColdSink;
use backup_store::{Access, Credentials, Place, Secret};

use crate::config;
use crate::exit::Failure;
use crate::network::{Caching, Network};
use crate::secrets::origin::Origin;
use crate::secrets::password;
use crate::session::{Session, access};

/// A repository that was found.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    /// Its name in the configuration.
    pub(crate) name: Option<String>,
    /// Where it lies.
    pub(crate) place: Place,
    /// Where the content of files lies, if not there too.
    pub(crate) cold: Option<Place>,
    /// Where the configuration says that its passphrase is.
    pub(crate) passphrase: Option<Origin>,
    credentials: Option<config::Credentials>,
    network: Network,
}

impl Located {
    /// One that was named by its place.
    pub(crate) fn at(place: Place, network: &Network) -> Self {
        Self { name: None, place, cold: None, passphrase: None, credentials: None, network: network.clone() }
    }

    /// One of the configuration. Options of the command line come before what it says of the network.
    pub(crate) fn configured(repository: &config::Repository, network: &Network) -> Self {
        let limits = repository.limits;
        let network = Network {
            limit_upload: network.limit_upload.or(limits.upload),
            limit_download: network.limit_download.or(limits.download),
            connections: network.connections.or(limits.connections),
            no_cache: network.no_cache || limits.is_uncached,
        };
        Self {
            name: Some(repository.name.clone()),
            place: repository.place.clone(),
            cold: repository.cold.clone(),
            passphrase: repository.passphrase.clone(),
            credentials: repository.credentials.clone(),
            network,
        }
    }

    /// Whether the content of files lies in a class or a place of its own, where reading costs more.
    pub(crate) fn has_cold_packs(&self) -> bool {
        self.cold.is_some() || matches!(&self.place, Place::Bucket(bucket) if bucket.settings.storage_class.is_some())
    }

    /// Opens the store. That nothing is there means that no repository is.
    pub(crate) fn open(&self, caching: Caching, session: &Session) -> Result<Arc<dyn Sink>, Failure> {
        let access = self.access(session)?;
        self.paired(caching, session, |place| {
            Ok(place.open(&access).map_err(|error| match error.kind() {
                ErrorKind::Missing => Error::new(ErrorKind::NoRepository, place.to_string()),
                _ => error,
            })?)
        })
    }

    /// Makes the store, where stores are made.
    pub(crate) fn create(&self, session: &Session) -> Result<Arc<dyn Sink>, Failure> {
        let access = self.access(session)?;
        self.paired(Caching::Forbidden, session, |place| Ok(place.create(&access)?))
    }

    /// The store, or the two that are one, each behind layers of its own. There is nothing to cache of content.
    fn paired(
        &self,
        caching: Caching,
        session: &Session,
        open: impl Fn(&Place) -> Result<Arc<dyn Sink>, Failure>,
    ) -> Result<Arc<dyn Sink>, Failure> {
        let hot = self.network.around(open(&self.place)?, &self.place, caching, session.console);
        let Some(cold) = &self.cold else { return Ok(hot) };
        if *cold == self.place {
            return Err(Failure::usage(
                format!("{cold} is named as both halves of a pair"),
                "give the content of files a place of its own, or leave the cold one away",
            ));
        }
        let cold = self.network.around(open(cold)?, cold, Caching::Forbidden, session.console);
        Ok(Arc::new(HotColdSink::new(hot, cold)))
    }

    /// Refuses a pair, for what works on a bucket and knows nothing of repositories.
    pub(crate) fn require_one_place(&self, hint: &str) -> Result<(), Failure> {
        match &self.cold {
            None => Ok(()),
            Some(cold) => Err(Failure::usage(
                format!("this works on one bucket, and the repository lies in {} and {cold}", self.place),
                hint,
            )),
        }
    }

    /// All places that it lies in.
    pub(crate) fn places(self) -> impl Iterator<Item = Place> {
        [Some(self.place), self.cold].into_iter().flatten()
    }

    /// The passphrase: as the configuration says, else as for a repository that was named by its place.
    pub(crate) fn passphrase(&self, session: &Session) -> Result<Passphrase, Failure> {
        match &self.passphrase {
            Some(origin) => password::of_origin(origin, session),
            None => password::of_repository(session, &self.place.to_string()),
        }
    }

    /// What opens the store.
    pub(crate) fn access(&self, session: &Session) -> Result<Access, Failure> {
        let name = self.name.as_deref().unwrap_or_default();
        let read = |origin: &Origin, key: &str| {
            let secret = origin.read(&format!("{key} of {name}"), &session.console)?;
            match secret.is_empty() {
                true => Err(Failure::usage(format!("{} is empty", origin.told(key)), "write the secret there")),
                false => Ok(Secret::new(secret.as_str())),
            }
        };
        let credentials = match &self.credentials {
            None => None,
            Some(config::Credentials::AccessKey { id, secret, session_token }) => Some(Credentials::AccessKey {
                id: read(id, "access_key_id")?.reveal().to_owned(),
                secret: read(secret, "secret_access_key")?,
                session_token: session_token.as_ref().map(|token| read(token, "session_token")).transpose()?,
            }),
            Some(config::Credentials::ServiceAccount(json)) => {
                Some(Credentials::ServiceAccount(read(json, "service_account")?))
            }
            Some(config::Credentials::AccountKey(key)) => Some(Credentials::AccountKey(read(key, "account_key")?)),
            Some(config::Credentials::SharedAccessSignature(signature)) => {
                Some(Credentials::SharedAccessSignature(read(signature, "shared_access_signature")?))
            }
            Some(config::Credentials::Login { user, password }) => {
                Some(Credentials::Login { user: user.clone(), password: read(password, "login.password")? })
            }
        };
        Ok(Access { credentials, ..access() })
    }
}
