//! What happens when: for each thing that can go wrong, what is lost, how long it takes, and from where it comes back.

use jiff::SignedDuration;
use serde::Serialize;

use super::given::{Item, Store};
use super::{as_seconds, as_seconds_or_none};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Somebody has deleted it.
    Deletion,
    /// The data is there and wrong.
    Corruption,
    /// What it stood on is lost, with all that fails together with it.
    HostLost,
    /// The place where it stood is lost.
    RegionLost,
}

impl Event {
    /// All of them, in the order of how often they come.
    pub const ALL: [Self; 4] = [Self::Deletion, Self::Corruption, Self::HostLost, Self::RegionLost];

    /// Its name, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Corruption => "data corrupted",
            Self::Deletion => "deleted by accident",
            Self::HostLost => "host lost",
            Self::RegionLost => "region lost",
        }
    }
}

/// How something comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// What has gone wrong.
    pub event: Event,
    /// The job.
    pub job: String,
    /// The repository that is left; `None` where none is, and everything is lost.
    pub repository: Option<String>,
    /// How much is lost at worst.
    #[serde(rename = "rpo_seconds", serialize_with = "as_seconds")]
    pub lost: SignedDuration,
    /// How long the restore is thought to take, without the time that people need; `None` where the size is not known.
    #[serde(rename = "rto_estimate_seconds", serialize_with = "as_seconds_or_none")]
    pub restore: Option<SignedDuration>,
    /// Whether that is within what an outage may last; `None` where it is not known.
    pub in_time: Option<bool>,
}

/// Bytes that a disk or a database takes in a second while it is restored.
const WRITE_BYTES_A_SECOND: u64 = 50_000_000;
/// Bytes that come over a network in a second: a hundred megabits.
const NETWORK_BYTES_A_SECOND: u64 = 12_500_000;
/// Opening, the index, and starting what serves it again.
const BEGIN: SignedDuration = SignedDuration::from_mins(2);

/// How a thing comes back from each event.
pub(super) fn recoveries(item: &Item, lost: SignedDuration, stores: &[Store]) -> Vec<Recovery> {
    let each = |event| {
        let store = stores.iter().find(|store| outlives(store, item, event));
        let restore = store.and_then(|store| takes(item, store));
        Recovery {
            event,
            job: item.name.clone(),
            repository: store.map(|store| store.name.clone()),
            lost,
            restore,
            in_time: restore.map(|restore| restore <= item.bearable.outage),
        }
    };
    Event::ALL.map(each).into()
}

/// How long a run is thought to take: what has to be read, or what has to be sent, whichever is slower.
pub(super) fn run_takes(item: &Item, stores: &[Store]) -> Option<SignedDuration> {
    let bytes = item.bytes?;
    let change = item.change.unwrap_or(item.kind.usual_change());
    let new = part(bytes, change);
    // A dump reads everything each time; of files, those that changed.
    let read = if item.kind.is_database() || item.kind == super::Kind::Command { bytes } else { new };
    let sent = if stores.iter().any(|store| store.kind.is_remote()) { part(new, item.kind.usual_ratio()) } else { 0 };
    let seconds = (read / WRITE_BYTES_A_SECOND).max(sent / NETWORK_BYTES_A_SECOND);
    Some(SignedDuration::from_secs(60).saturating_add(seconds_of(seconds)))
}

fn takes(item: &Item, store: &Store) -> Option<SignedDuration> {
    let bytes = item.bytes?;
    let fetched = part(bytes, item.kind.usual_ratio());
    let fetching = if store.kind.is_remote() { fetched / NETWORK_BYTES_A_SECOND } else { 0 };
    Some(BEGIN.saturating_add(seconds_of(fetching.max(bytes / WRITE_BYTES_A_SECOND))))
}

/// Whether a store is there after an event. Another disk of the lost machine is lost with it; with a site everything is
/// lost that is not known to stand at another, and its machines.
fn outlives(store: &Store, item: &Item, event: Event) -> bool {
    let same = |one: &Option<String>, other: &Option<String>| one.is_some() && one == other;
    match event {
        Event::Corruption | Event::Deletion => true,
        Event::HostLost => {
            !same(&store.host, &item.host) && !same(&store.place.failure_domain, &item.home.failure_domain)
        }
        Event::RegionLost => {
            let is_elsewhere =
                store.place.site.is_some() && item.home.site.is_some() && store.place.site != item.home.site;
            is_elsewhere && outlives(store, item, Event::HostLost)
        }
    }
}

fn seconds_of(seconds: u64) -> SignedDuration {
    SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate of bytes, which is neither negative nor exact"
)]
fn part(bytes: u64, of: f64) -> u64 {
    (bytes as f64 * of) as u64
}

#[cfg(test)]
mod tests {
    use super::super::{Bearable, Criticality, Kind, StoreKind};
    use super::*;
    use crate::policy::Place;

    fn place(site: &str, domain: &str) -> Place {
        let some = |text: &str| Some(text.to_owned());
        Place { media: None, site: some(site), failure_domain: some(domain) }
    }

    fn store(name: &str, kind: StoreKind, host: Option<&str>, place: Place) -> Store {
        Store { name: name.to_owned(), kind, place, host: host.map(str::to_owned), class: None }
    }

    fn item(bytes: u64) -> Item {
        Item {
            name: "app".to_owned(),
            kind: Kind::Files,
            criticality: Criticality::Important,
            because: String::new(),
            bytes: Some(bytes),
            change: None,
            home: place("paris", "sda"),
            host: Some("web".to_owned()),
            bearable: Bearable { loss: SignedDuration::from_hours(26), outage: SignedDuration::from_hours(2) },
        }
    }

    #[test]
    fn the_nearest_store_that_outlives_an_event_brings_things_back() {
        let stores = [
            store("disk", StoreKind::Folder, Some("web"), place("paris", "sdb")),
            store("nas", StoreKind::Folder, None, place("paris", "nas")),
            store("bucket", StoreKind::S3, None, place("oslo", "account")),
        ];
        let left = |stores: &[Store]| -> Vec<Option<String>> {
            recoveries(&item(1), SignedDuration::ZERO, stores).into_iter().map(|one| one.repository).collect()
        };
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(left(&stores), [some("disk"), some("disk"), some("nas"), some("bucket")]);
        assert_eq!(left(&stores[..1]), [some("disk"), some("disk"), None, None]);
    }

    #[test]
    fn what_comes_over_a_network_takes_as_long_as_the_network() {
        let near = [store("disk", StoreKind::Folder, None, place("paris", "sdb"))];
        let far = [store("bucket", StoreKind::S3, None, place("oslo", "account"))];
        let first = |stores: &[Store]| {
            let all = recoveries(&item(100_000_000_000), SignedDuration::ZERO, stores);
            all.first().map(|one| (one.restore.map(|time| time.as_mins()), one.in_time))
        };
        assert_eq!(first(&near), Some((Some(35), Some(true))));
        assert_eq!(first(&far), Some((Some(135), Some(false))));
    }
}
