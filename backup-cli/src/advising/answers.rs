//! What was said and found, in the words of [`backup_core::advice`].

use std::collections::BTreeMap;
use std::path::Path;

use backup_core::advice::{
    Answers, Bearable, Criticality, Item, Kind, Prices, Store, StoreKind, classify, kind_of_path,
};
use backup_core::policy;
use backup_store::Place;
use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::found::{Found, What};
use crate::exit::Failure;
use crate::facts;
use crate::session::identity;

/// A place where copies may stand.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    /// The name of its repository.
    pub(crate) name: String,
    /// Where it is, without a class.
    pub(crate) place: Place,
    /// What it stands on.
    pub(crate) stands: policy::Place,
    /// The machine that it is a disk of.
    host: Option<String>,
    /// The class that somebody has named.
    class: Option<String>,
}

/// What was said of some things by their names, and of all others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// Of all.
    pub(crate) bearable: Option<Bearable>,
    /// How much of some may be lost.
    pub(crate) losses: BTreeMap<String, SignedDuration>,
    /// How long some may be away.
    pub(crate) outages: BTreeMap<String, SignedDuration>,
    /// What the loss of some would mean.
    pub(crate) criticalities: BTreeMap<String, Criticality>,
    /// How large some are.
    pub(crate) sizes: BTreeMap<String, u64>,
    /// Which part of some changes in a day.
    pub(crate) changes: BTreeMap<String, f64>,
}

/// What may be lost where nobody says otherwise: a night's run and two hours for it to end, and for clocks that change.
pub(crate) const LOSS: SignedDuration = SignedDuration::from_hours(26);
/// How long an outage may last where nobody says otherwise: half a working day.
pub(crate) const OUTAGE: SignedDuration = SignedDuration::from_hours(4);

impl Destination {
    /// A folder on another disk, or one that is mounted, at the site where the data stands.
    ///
    /// # Errors
    ///
    /// A path that is none.
    pub(crate) fn near(path: &str, name: String, site: &str) -> Result<Self, Failure> {
        match Place::parse(path)? {
            Place::Folder(path) => {
                let path =
                    std::path::absolute(&path).map_err(|error| Failure::because(path.display().to_string(), &error))?;
                Ok(Self::new(name, Place::Folder(path), site.to_owned(), None))
            }
            _ => Err(Failure::usage(format!("{path} is no folder"), "--offsite takes places on a network")),
        }
    }

    /// A place elsewhere.
    ///
    /// # Errors
    ///
    /// A place that is none.
    pub(crate) fn far(text: &str, name: String, site: Option<&str>) -> Result<Self, Failure> {
        let mut place = Place::parse(text)?;
        if let Place::Folder(path) = &mut place {
            *path =
                std::path::absolute(&*path).map_err(|error| Failure::because(path.display().to_string(), &error))?;
        }
        let mut class = None;
        if let Place::Bucket(bucket) = &mut place {
            class = bucket.settings.storage_class.take();
        }
        let found = match &place {
            Place::Bucket(bucket) => bucket.settings.region.clone(),
            Place::Sftp(server) => Some(server.host.clone()),
            _ => None,
        };
        let site = site.map(str::to_owned).or(found).unwrap_or_else(|| "elsewhere".to_owned());
        let far = Self::new(name, place, site, class);
        // A disk that is carried away does not stay with the machine.
        Ok(match &far.place {
            Place::Folder(_) => Self { host: None, ..far },
            _ => far,
        })
    }

    fn new(name: String, place: Place, site: String, class: Option<String>) -> Self {
        let is_mounted = matches!(&place, Place::Folder(path) if is_of_network(path));
        let media = is_mounted.then(|| "nas".to_owned());
        let said = policy::Place { media, site: Some(site), failure_domain: None };
        let stands = facts::stands_at(&place, &said);
        let host = match &place {
            Place::Folder(_) if !is_mounted => Some(identity(None).hostname),
            Place::Sftp(server) => Some(server.host.clone()),
            _ => None,
        };
        Self { name, place, stands, host, class }
    }

    fn kind(&self) -> StoreKind {
        use backup_store::Provider;
        match &self.place {
            Place::Folder(_) => StoreKind::Folder,
            Place::Bucket(bucket) => match (bucket.provider, &bucket.settings.endpoint) {
                (Provider::S3, None) => StoreKind::S3,
                (Provider::S3, Some(_)) => StoreKind::S3Compatible,
                (Provider::Gcs, _) => StoreKind::Gcs,
                (Provider::Azure, _) => StoreKind::Azure,
            },
            _ => StoreKind::Server,
        }
    }
}

/// All of it together.
///
/// # Errors
///
/// When something is said of a name that nothing has.
pub(crate) fn answers(
    found: &[Found],
    destinations: &[Destination],
    said: &Said,
    zone: TimeZone,
    site: &str,
    prices: Option<Prices>,
) -> Result<Answers, Failure> {
    said.require_known(found)?;
    let usual = said.bearable.unwrap_or(Bearable { loss: LOSS, outage: OUTAGE });
    let item = |one: &Found| {
        let of = |name: &str| name == one.name || name == one.named();
        let (guessed, why) = classify(one.kind);
        let kind_because = match (&one.what, one.kind) {
            (What::Files { paths, .. }, Kind::Files | Kind::Configuration | Kind::Logs) => {
                paths.first().map(|path| kind_of_path(&path.to_string_lossy()).1)
            }
            _ => None,
        };
        let (criticality, because) = match pick(&said.criticalities, of) {
            Some(said) => (said, "somebody has said so".to_owned()),
            None => match kind_because {
                Some(kind) => (guessed, format!("{why} ({kind})")),
                None => (guessed, why.to_owned()),
            },
        };
        let usual = usual.of(criticality);
        let bearable = Bearable {
            loss: pick(&said.losses, of).unwrap_or(usual.loss),
            outage: pick(&said.outages, of).unwrap_or(usual.outage),
        };
        let home = policy::Place { site: Some(site.to_owned()), ..policy::Place::default() };
        Item {
            name: one.name.clone(),
            kind: one.kind,
            criticality,
            because,
            bytes: pick(&said.sizes, of).or(one.bytes),
            change: pick(&said.changes, of),
            home: facts::home_of(&one.source(), &home),
            host: one.host.clone(),
            bearable,
        }
    };
    let store = |destination: &Destination| Store {
        name: destination.name.clone(),
        kind: destination.kind(),
        place: destination.stands.clone(),
        host: destination.host.clone(),
        class: destination.class.clone(),
    };
    Ok(Answers {
        zone,
        items: found.iter().map(item).collect(),
        stores: destinations.iter().map(store).collect(),
        prices,
    })
}

impl Said {
    /// Somebody who misspells a name would believe that it was heard.
    fn require_known(&self, found: &[Found]) -> Result<(), Failure> {
        let named = self.losses.keys().chain(self.outages.keys()).chain(self.criticalities.keys());
        let mut named = named.chain(self.sizes.keys()).chain(self.changes.keys());
        let is_unknown = |name: &&String| !found.iter().any(|one| one.name == **name || one.named() == **name);
        match named.find(is_unknown) {
            None => Ok(()),
            Some(unknown) => {
                let known: Vec<_> = found.iter().map(|one| one.name.as_str()).collect();
                Err(Failure::usage(format!("nothing is called {unknown}"), format!("there are: {}", known.join(", "))))
            }
        }
    }
}

fn pick<T: Copy>(said: &BTreeMap<String, T>, of: impl Fn(&str) -> bool) -> Option<T> {
    said.iter().find(|(name, _)| of(name)).map(|(_, value)| *value)
}

/// Whether a path, or the nearest folder above it that is there, is on a file system of a network.
fn is_of_network(path: &Path) -> bool {
    // NFS, SMB and SMB2, by statfs(2).
    const NETWORK: [i64; 3] = [0x6969, 0xFF53_4D42, 0xFE53_4D42];
    let found = path.ancestors().find_map(|path| rustix::fs::statfs(path).ok());
    found.is_some_and(|found| NETWORK.contains(&(found.f_type & 0xFFFF_FFFF)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_in_a_place_is_taken_out_of_it_and_a_region_is_its_site() {
        let far =
            Destination::far("s3://b/x?region=eu-west-1&storage_class=DEEP_ARCHIVE", "offsite".into(), None).unwrap();
        assert_eq!((far.class.as_deref(), far.stands.site.as_deref()), (Some("DEEP_ARCHIVE"), Some("eu-west-1")));
        assert_eq!((far.place.to_string().as_str(), far.kind()), ("s3://b/x?region=eu-west-1", StoreKind::S3));
        let other = Destination::far("s3://b/x?endpoint=https://h:9000", "o".into(), Some("oslo")).unwrap();
        assert_eq!((other.kind(), other.stands.site.as_deref()), (StoreKind::S3Compatible, Some("oslo")));
        assert!(Destination::near("s3://b/x", "local".into(), "here").is_err());
    }

    #[test]
    fn what_is_said_of_something_that_is_not_there_is_an_error() {
        let mut said = Said::default();
        said.sizes.insert("uplaods".to_owned(), 1);
        let found = [Found::files(Path::new("/app/uploads"), Kind::Files, None, String::new())];
        let failure = answers(&found, &[], &said, TimeZone::UTC, "here", None).unwrap_err();
        assert_eq!(
            (failure.what.as_str(), failure.hint.as_deref()),
            ("nothing is called uplaods", Some("there are: uploads"))
        );
    }
}
