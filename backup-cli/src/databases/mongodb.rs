//! MongoDB on the command line: its options, and the password in the environment.

use std::env;
use std::num::NonZeroUsize;

use backup_core::contracts::Source;
use backup_sources::databases::differences;
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::mongodb::{
    DumpOptions, Existing, Grants, LoadOptions, MongodbSettings, MongodbSource, MongodbTarget, Reads, Selection,
    databases, observe,
};
use backup_sources::databases::url::{DatabaseUrl, Password};

use super::{Cleaning, Loading, Verified};
use crate::args::parse_count;
use crate::exit::Failure;

/// What of a database is backed up.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "MongoDB")]
pub(crate) struct MongodbDump {
    /// Only this collection; `*` at the end stands for anything
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Vec<String>,
    /// Not this collection
    #[arg(long, value_name = "NAME")]
    pub(crate) exclude_collection: Vec<String>,
    /// Read each collection as it is when its turn comes, not all as of one instant
    #[arg(long)]
    pub(crate) no_snapshot_read: bool,
}

/// How a database is restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Into MongoDB")]
pub(crate) struct MongodbLoad {
    /// Only this collection; `*` at the end stands for anything
    #[arg(long, value_name = "NAME")]
    collection: Vec<String>,
    /// Not this collection
    #[arg(long, value_name = "NAME")]
    exclude_collection: Vec<String>,
    /// Batches of documents, and indexes, under way at once [default: one a core]
    #[arg(long = "insertions", value_name = "COUNT", value_parser = parse_count::<NonZeroUsize>)]
    mongodb_jobs: Option<NonZeroUsize>,
    /// Make the database's users and roles too, but for those that are there
    #[arg(long)]
    users: bool,
}

impl MongodbLoad {
    /// Whether only a part is to be restored.
    pub(super) fn is_part(&self) -> bool {
        !self.collection.is_empty() || !self.exclude_collection.is_empty()
    }
}

/// The database of `url`, or all that its deployment has.
pub(super) fn each(url: &DatabaseUrl) -> Result<Vec<DatabaseUrl>, Failure> {
    if url.database()?.is_some() {
        return Ok(vec![url.clone()]);
    }
    // With a database in it the URL would mean that its user is one of that database's.
    let url = if url.user().is_some() { url.with_parameter("authSource", "admin") } else { url.clone() };
    Ok(databases(&settings(&url))?.iter().map(|name| url.with_database(name)).collect())
}

pub(super) fn source(url: &DatabaseUrl, args: &MongodbDump) -> Result<Box<dyn Source>, Failure> {
    let settings = settings(url);
    let options = DumpOptions {
        selection: Selection { only: args.collection.clone(), except: args.exclude_collection.clone() },
        reads: if args.no_snapshot_read { Reads::Latest } else { Reads::Snapshot },
    };
    Ok(Box::new(MongodbSource::connect(&settings, named(&settings)?, &options)?))
}

pub(super) fn target(
    url: &DatabaseUrl,
    args: &MongodbLoad,
    cleaning: Cleaning,
    manifest: Manifest,
    beforehand: &[(String, Vec<u8>)],
) -> Result<Box<dyn Loading>, Failure> {
    let settings = settings(url);
    let options = LoadOptions {
        existing: if cleaning == Cleaning::Asked { Existing::Replace } else { Existing::Refuse },
        selection: Selection { only: args.collection.clone(), except: args.exclude_collection.clone() },
        jobs: args.mongodb_jobs,
        grants: if args.users { Grants::Restored } else { Grants::LeftOut },
    };
    Ok(Box::new(MongodbTarget::connect(&settings, named(&settings)?, beforehand, manifest, options)?))
}

/// What of `manifest` the database does not show, and how many objects were looked at.
pub(super) fn verify(url: &DatabaseUrl, manifest: &Manifest) -> Result<Verified, Failure> {
    let settings = settings(url);
    let observed = observe(&settings, named(&settings)?, &Selection::default())?;
    let losses = differences(&manifest.report.expectations, &observed);
    Ok(Verified { objects: manifest.report.expectations.len(), losses, notes: Vec::new() })
}

impl Loading for MongodbTarget {
    fn warnings(&self) -> Vec<String> {
        Self::warnings(self)
    }
}

/// The database that was named.
fn named(settings: &MongodbSettings) -> Result<&str, Failure> {
    let hint = "write it behind the server: mongodb://user@host/DATABASE";
    settings.database()?.ok_or_else(|| Failure::usage(format!("{} names no database", settings.location()), hint))
}

fn settings(url: &DatabaseUrl) -> MongodbSettings {
    let mut settings = MongodbSettings::new(url);
    // MongoDB's own programs read none; this one is ours.
    let found = env::var("BACKUP_MONGODB_PASSWORD").ok().filter(|password| !password.is_empty());
    settings.password = found.map(Password::new);
    settings
}
