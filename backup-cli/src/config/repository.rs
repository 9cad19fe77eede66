//! `[repositories.NAME]`: where copies lie, what opens them, and how they are looked after.

use std::num::NonZeroU64;
use std::sync::Arc;

use backup_core::policy;
use backup_core::schedule::Schedule;
use backup_store::Place;
use backup_store::layers::Pace;
use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::length;
use super::section::{Section, Value};
use crate::secrets::origin::Origin;

/// Prune runs this often where nothing else is said: it reads all folders of all snapshots, and what it frees comes back
/// a day after it was marked (`docs/decisions/jobs.md`).
const PRUNE_EVERY: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A repository of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Repository {
    /// Its name.
    pub(crate) name: String,
    /// Where it lies.
    pub(crate) place: Place,
    /// Where the content of files lies, if not there too.
    pub(crate) cold: Option<Place>,
    /// What it stands on, as far as the file says.
    pub(crate) stands: policy::Place,
    /// Where its passphrase is.
    pub(crate) passphrase: Option<Origin>,
    /// What opens the store, where the provider's usual chain is not meant.
    pub(crate) credentials: Option<Credentials>,
    /// How much of the network it may take.
    pub(crate) limits: Limits,
    /// Whether no lock is taken: its credentials cannot delete.
    pub(crate) is_lock_free: bool,
    /// When what nobody needs is removed.
    pub(crate) pruning: Pruning,
    /// When everything in it is read and hashed.
    pub(crate) read_back: Option<Schedule>,
}

impl Repository {
    /// All places that it lies in.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        [Some(self.place.clone()), self.cold.clone()].into_iter().flatten()
    }
}

/// What opens a store.
#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    /// S3.
    AccessKey { id: Origin, secret: Origin, session_token: Option<Origin> },
    /// Google Cloud Storage.
    ServiceAccount(Origin),
    /// Azure.
    AccountKey(Origin),
    /// Azure.
    SharedAccessSignature(Origin),
    /// A REST server.
    Login { user: String, password: Origin },
}

/// How much of the network a repository may take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// What is sent, by all that open it.
    pub(crate) upload: Option<Arc<Pace>>,
    /// What is fetched.
    pub(crate) download: Option<Arc<Pace>>,
    /// Requests at once.
    pub(crate) connections: Option<NonZeroU64>,
    /// Whether copies of indexes and the like are kept on this machine.
    pub(crate) is_uncached: bool,
}

/// When what nobody needs is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pruning {
    /// After a run, when the last prune is this long ago.
    Every(SignedDuration),
    /// Somebody else sees to it.
    Never,
}

/// Settings that belong to a bucket, under the names that places have for them.
const SETTINGS: [&str; 6] = ["endpoint", "region", "storage_class", "profile", "account", "ca_certificate"];

/// Reads one.
pub(super) fn read(
    name: String,
    section: &Section<'_>,
    defaults: Option<&Section<'_>>,
    zone: &TimeZone,
) -> Option<Repository> {
    let (place, cold) = (place(section), cold(section));
    let text = |key| section.text(key);
    let stands = policy::Place { media: text("media"), site: text("site"), failure_domain: text("failure_domain") };
    let passphrase = passphrase(section).or_else(|| passphrase(defaults?));
    let credentials = credentials(section, place.as_ref());
    let limits = Limits {
        upload: section.parsed("limit_upload", crate::network::parse_pace),
        download: section.parsed("limit_download", crate::network::parse_pace),
        connections: section.number("connections", 1..=1_000).and_then(|count| NonZeroU64::new(count.unsigned_abs())),
        is_uncached: section.flag("cache") == Some(false),
    };
    if place.iter().chain(&cold).all(|place| !place.is_remote()) && place.is_some() {
        let idle = ["limit_upload", "limit_download", "connections", "cache"].into_iter();
        for value in idle.filter(|key| section.has(key)).filter_map(|key| section.value(key)) {
            value.fault("it is for stores on a network, and this is a folder", Some(String::from("leave it away")));
        }
    }
    let is_lock_free = section.flag("lock_free").unwrap_or(false);
    let pruning = section.parsed("prune", |text| match text {
        "never" => Ok(Pruning::Never),
        _ => length::parse(text).map(Pruning::Every),
    });
    if is_lock_free && matches!(pruning, Some(Pruning::Every(_))) {
        section.fault(
            "lock_free and prune exclude each other: credentials that cannot delete cannot prune",
            Some(String::from("leave prune away here, and run it where credentials can delete")),
        );
    }
    let pruning = if is_lock_free { Pruning::Never } else { pruning.unwrap_or(Pruning::Every(PRUNE_EVERY)) };
    let own = read_back(section, zone);
    let read_back =
        if section.has("read_back") { own } else { defaults.and_then(|defaults| read_back(defaults, zone)) };
    section.finish();
    let place = place?;
    Some(Repository { name, place, cold, stands, passphrase, credentials, limits, is_lock_free, pruning, read_back })
}

/// Reads what the defaults may say for repositories, so that it is known there.
pub(super) fn read_defaults(defaults: &Section<'_>, zone: &TimeZone) {
    let _ = (passphrase(defaults), read_back(defaults, zone));
}

fn read_back(section: &Section<'_>, zone: &TimeZone) -> Option<Schedule> {
    super::job::schedule(section, "read_back", "never", zone)
}

fn place(section: &Section<'_>) -> Option<Place> {
    let url = section.required("url", "\"/mnt/backups/repo\", or s3://BUCKET/PREFIX");
    parsed_place(section, &section.value("url")?, &url?)
}

/// The other half of a pair; settings and credentials are those of both.
fn cold(section: &Section<'_>) -> Option<Place> {
    let url = section.text("cold")?;
    parsed_place(section, &section.value("cold")?, &url)
}

fn parsed_place(section: &Section<'_>, value: &Value<'_>, url: &str) -> Option<Place> {
    let mut place =
        Place::parse(url).map_err(|error| value.fault(error.to_string(), error.hint().map(str::to_owned))).ok();
    let path_style = section.flag("path_style").map(|flag| flag.to_string());
    let settings = SETTINGS.iter().map(|key| (*key, section.text(key))).chain([("path_style", path_style)]);
    for (key, setting) in settings {
        let Some(setting) = setting else { continue };
        let set = match &mut place {
            Some(Place::Bucket(bucket)) => {
                bucket.set(key, setting).map_err(|error| (error.to_string(), error.hint().map(str::to_owned)))
            }
            Some(Place::Rest(server)) if key == "ca_certificate" => {
                server.ca_certificate = Some(setting.into());
                Ok(())
            }
            Some(_) => Err((String::from("it is for buckets, and this is none"), Some(String::from("leave it away")))),
            None => Ok(()),
        };
        if let (Err((what, hint)), Some(value)) = (set, section.value(key)) {
            value.fault(what, hint);
        }
    }
    place
}

/// Where the passphrase is: one of three keys.
fn passphrase(section: &Section<'_>) -> Option<Origin> {
    let file = section.text("password_file").map(|file| Origin::File(file.into()));
    let command = section.text("password_command").map(|command| Origin::Command(command.into()));
    let given = section.secret("password");
    let mut all: Vec<_> = [file, command, given].into_iter().flatten().collect();
    if all.len() > 1 {
        section.fault(
            "the passphrase is named more than once",
            Some(String::from("keep one of password_file, password_command, password")),
        );
    }
    all.pop()
}

fn credentials(section: &Section<'_>, place: Option<&Place>) -> Option<Credentials> {
    let secret = |key| section.secret(key);
    let (id, key, token) = (secret("access_key_id"), secret("secret_access_key"), secret("session_token"));
    let (account, shared) = (secret("account_key"), secret("shared_access_signature"));
    let service = secret("service_account");
    let login = section.section("login").and_then(|login| {
        let user = login.required("user", "\"me\"");
        let password = login.secret("password");
        if password.is_none() {
            login.fault("password is missing", Some(String::from("write password = { file = \"…\" }")));
        }
        login.finish();
        Some(Credentials::Login { user: user?, password: password? })
    });
    let pair = match (id, key) {
        (Some(id), Some(secret)) => Some(Credentials::AccessKey { id, secret, session_token: token }),
        (None, None) if token.is_none() => None,
        _ => {
            section.fault(
                "access_key_id and secret_access_key belong together, and a session_token to both",
                Some(String::from("give both, or none of them")),
            );
            None
        }
    };
    let scheme = match place? {
        Place::Bucket(bucket) => bucket.provider.scheme(),
        Place::Rest(_) => "rest",
        _ => "",
    };
    let mut all = [
        ("s3", pair),
        ("gs", service.map(Credentials::ServiceAccount)),
        ("az", account.map(Credentials::AccountKey)),
        ("az", shared.map(Credentials::SharedAccessSignature)),
        ("rest", login),
    ]
    .into_iter()
    .filter_map(|(of, credentials)| Some((of, credentials?)))
    .collect::<Vec<_>>();
    if all.len() > 1 {
        section.fault("it has credentials of several kinds", Some(String::from("keep those of its provider")));
    } else if let Some((of, _)) = all.first()
        && *of != scheme
    {
        section
            .fault(format!("its credentials are for places of the kind {of}:"), Some(String::from("leave them away")));
    }
    all.pop().map(|(_, credentials)| credentials)
}
