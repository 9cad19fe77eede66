//! A repository that was found: where it lies, what opens it, and what stands between it and the program.
//!
//! What is always true: secrets are read when they are needed, and not before.

use std::sync::Arc;

use backup_core::contracts::{Archive, Sink};
use backup_core::repository::Passphrase;
use backup_core::{Error, ErrorKind};
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
use backup_store::Bucket;
#[cfg(feature = "s3")]
use backup_store::Provider;
use backup_store::layers::HotColdSink;
#[cfg(feature = "s3")]
use backup_store::sinks::S3Archive;
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

/// What a bucket is needed for.
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Its versions.
    Versions,
    /// That its objects can be kept from being removed.
    Retention,
}

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
impl Need {
    /// Which stores have it.
    fn has(self) -> &'static str {
        match self {
            Self::Versions => "this is for s3://, gs:// and az:// that keep versions",
            Self::Retention => {
                "this is for s3:// with object lock, gs:// with object retention, az:// with immutability"
            }
        }
    }
}

impl Located {
    /// One that was named by its place.
    pub(crate) fn at(place: Place, network: &Network) -> Self {
        Self { name: None, place, cold: None, passphrase: None, credentials: None, network: network.clone() }
    }

    /// One of the configuration. Options of the command line come before what it says of the network.
    pub(crate) fn configured(repository: &config::Repository, network: &Network) -> Self {
        let limits = &repository.limits;
        let network = Network {
            limit_upload: network.limit_upload.clone().or_else(|| limits.upload.clone()),
            limit_download: network.limit_download.clone().or_else(|| limits.download.clone()),
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
        let hot = self.network.around(open(&self.place)?, &self.place, caching, session);
        let Some(cold) = &self.cold else { return Ok(hot) };
        if *cold == self.place {
            return Err(Failure::usage(
                format!("{cold} is named as both halves of a pair"),
                "give the content of files a place of its own, or leave the cold one away",
            ));
        }
        let cold = self.network.around(open(cold)?, cold, Caching::Forbidden, session);
        Ok(Arc::new(HotColdSink::new(hot, cold)))
    }

    /// The buckets that it lies in, one or both of a pair, for what works on buckets and knows nothing of repositories.
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    pub(crate) fn buckets(&self, need: Need) -> Result<Vec<&Bucket>, Failure> {
        let each = [Some(&self.place), self.cold.as_ref()].into_iter().flatten();
        let buckets = each.map(|place| match place {
            Place::Bucket(bucket) => Ok(bucket),
            place => Err(Failure::usage(format!("{place} is no bucket"), need.has())),
        });
        buckets.collect()
    }

    /// The archive that the content of files may lie in.
    pub(crate) fn archive(&self, session: &Session) -> Result<Arc<dyn Archive>, Failure> {
        let place = self.cold.as_ref().unwrap_or(&self.place);
        #[cfg(feature = "s3")]
        if let Place::Bucket(bucket) = place
            && bucket.provider == Provider::S3
        {
            return Ok(Arc::new(S3Archive::open(bucket, &self.access(session)?)?));
        }
        #[cfg(not(feature = "s3"))]
        let _ = session;
        Err(Failure::usage(
            format!("nothing in {place} can be thawed from here"),
            "leave out --thaw, which is for s3://; the manual's page of the provider tells what there is elsewhere",
        ))
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
