//! Databases on the command line: which engine a URL means, and what `create` and `restore` need of it.
//!
//! One file an engine, which reads the environment and the engine's own files of passwords; one arm an engine in each
//! of the functions below. The commands know no engine. Two flattened structures may not have one name.

mod dump_folder;
mod emptied;
#[cfg(feature = "mongodb")]
pub(crate) mod mongodb;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::ffi::OsString;

use backup_core::contracts::{Source, Target};
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::url::{DatabaseUrl, Engine};
use backup_sources::files::SpaceCheck;

pub(crate) use dump_folder::DumpFolder;
pub(crate) use emptied::emptied;

use crate::console::Console;
use crate::exit::Failure;

/// What of a database is backed up, and how: the options of all engines.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct DumpArgs {
    #[cfg(feature = "postgres")]
    #[command(flatten)]
    pub(crate) postgres: postgres::PostgresDump,
    #[cfg(feature = "mongodb")]
    #[command(flatten)]
    pub(crate) mongodb: mongodb::MongodbDump,
    /// The folder of mariadb-dump, mysqldump and their like, in place of those in PATH
    #[cfg(feature = "mysql")]
    #[arg(long, value_name = "DIR", env = "BACKUP_MYSQL_BIN", help_heading = "MySQL and MariaDB")]
    pub(crate) mysql_bin: Option<std::path::PathBuf>,
}

impl DumpArgs {
    /// Refuses options that `engine` does not have; `None` for files.
    pub(crate) fn require(&self, engine: Option<Engine>) -> Result<(), Failure> {
        #[cfg(feature = "postgres")]
        if engine != Some(Engine::Postgres) && self.postgres.is_asked_for() {
            return Err(Failure::usage("an option for PostgreSQL was given with another source", "leave it away"));
        }
        #[cfg(feature = "mongodb")]
        if engine != Some(Engine::Mongodb) && self.mongodb != mongodb::MongodbDump::default() {
            return Err(Failure::usage("an option for MongoDB was given with another source", "leave it away"));
        }
        let _ = engine;
        Ok(())
    }

    /// Refuses options for databases.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        self.require(None)
    }
}

/// How a database is restored: the options of all engines.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct LoadArgs {
    #[cfg(feature = "postgres")]
    #[command(flatten)]
    pub(crate) postgres: postgres::PostgresLoad,
    #[cfg(feature = "mongodb")]
    #[command(flatten)]
    mongodb: mongodb::MongodbLoad,
    /// Replace a database that holds something
    #[arg(long, help_heading = "Into a database")]
    clean: bool,
    /// The folder of mariadb, mysql and their like, in place of those in PATH
    #[cfg(feature = "mysql")]
    #[arg(long, value_name = "DIR", env = "BACKUP_MYSQL_BIN", help_heading = "Into a database")]
    mysql_bin: Option<std::path::PathBuf>,
    /// Replace a file of SQLite even if a program has it open
    #[cfg(feature = "sqlite")]
    #[arg(long, help_heading = "Into a database")]
    in_use: bool,
}

/// Whether what a database holds may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cleaning {
    /// It stays, and nothing is restored.
    NotAsked,
    /// It is replaced.
    Asked,
}

impl LoadArgs {
    /// Refuses options for databases.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        #[cfg(feature = "postgres")]
        if self.postgres.is_asked_for() {
            return Err(Failure::usage("an option for PostgreSQL was given for a folder", "leave it away"));
        }
        #[cfg(feature = "mongodb")]
        if self.mongodb != mongodb::MongodbLoad::default() {
            return Err(Failure::usage("an option for MongoDB was given for a folder", "leave it away"));
        }
        if self.clean {
            return Err(Failure::usage("--clean is for databases", "--delete removes what a snapshot does not have"));
        }
        #[cfg(feature = "sqlite")]
        self.refuse_in_use()?;
        Ok(())
    }

    /// Refuses to restore only a part where the whole is needed.
    pub(crate) fn require_whole(&self) -> Result<(), Failure> {
        #[cfg(feature = "postgres")]
        if self.postgres.is_part() {
            let hint = "leave it away with --table and --schema";
            return Err(Failure::usage("--verify compares a whole database", hint));
        }
        #[cfg(feature = "mongodb")]
        if self.mongodb.is_part() {
            return Err(Failure::usage("--verify compares a whole database", "leave it away with --collection"));
        }
        Ok(())
    }

    /// Refuses options that `engine` does not have.
    fn require(&self, engine: Engine) -> Result<(), Failure> {
        #[cfg(feature = "postgres")]
        if engine != Engine::Postgres && self.postgres.is_asked_for() {
            return Err(Failure::usage("an option for PostgreSQL was given for another database", "leave it away"));
        }
        #[cfg(feature = "mongodb")]
        if engine != Engine::Mongodb && self.mongodb != mongodb::MongodbLoad::default() {
            return Err(Failure::usage("an option for MongoDB was given for another database", "leave it away"));
        }
        #[cfg(feature = "sqlite")]
        if engine != Engine::Sqlite {
            self.refuse_in_use()?;
        }
        let _ = engine;
        Ok(())
    }

    #[cfg(feature = "sqlite")]
    fn refuse_in_use(&self) -> Result<(), Failure> {
        match self.in_use {
            true => Err(Failure::usage("--in-use is for databases of SQLite", "leave it away")),
            false => Ok(()),
        }
    }

    fn cleaning(&self) -> Cleaning {
        if self.clean { Cleaning::Asked } else { Cleaning::NotAsked }
    }
}

/// A database that is being loaded.
pub(crate) trait Loading: Target {
    /// What a person should know of it when it is loaded.
    fn warnings(&self) -> Vec<String>;
}

/// How a restored database compares with what it must show.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verified {
    /// How many objects were looked at.
    pub(crate) objects: usize,
    /// What is not as it must be.
    pub(crate) losses: Vec<String>,
    /// What differs and does not matter, or may not.
    pub(crate) notes: Vec<String>,
}

/// The databases that a URL means: one, or each of a whole server when it names none. Every one becomes a snapshot.
pub(crate) fn each(url: &DatabaseUrl, args: &DumpArgs, console: &Console) -> Result<Vec<DatabaseUrl>, Failure> {
    args.require(Some(url.engine()))?;
    match url.engine() {
        #[cfg(feature = "postgres")]
        Engine::Postgres => postgres::each(url, &args.postgres, console),
        #[cfg(feature = "mongodb")]
        Engine::Mongodb => mongodb::each(url),
        #[cfg(feature = "mysql")]
        Engine::Mysql => Ok(vec![url.clone()]),
        #[cfg(feature = "redis")]
        Engine::Redis => Ok(vec![url.clone()]),
        #[cfg(feature = "sqlite")]
        Engine::Sqlite => Ok(vec![url.clone()]),
        _ => Err(unsupported(url)),
    }
}

/// A database as a source.
pub(crate) fn source(url: &DatabaseUrl, args: &DumpArgs, console: &Console) -> Result<Box<dyn Source>, Failure> {
    match url.engine() {
        #[cfg(feature = "postgres")]
        Engine::Postgres => postgres::source(url, &args.postgres, console),
        #[cfg(feature = "mongodb")]
        Engine::Mongodb => mongodb::source(url, &args.mongodb),
        #[cfg(feature = "mysql")]
        Engine::Mysql => mysql::source(url, args.mysql_bin.as_deref()),
        #[cfg(feature = "redis")]
        Engine::Redis => redis::source(url),
        #[cfg(feature = "sqlite")]
        Engine::Sqlite => sqlite::source(url),
        _ => Err(unsupported(url)),
    }
}

/// What is known of a dump before it is restored.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its manifest.
    pub(crate) manifest: Manifest,
    /// The names and texts of the files that [`is_needed_beforehand`] names.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

/// Whether an engine's target has to know a file of its dump before the others come.
pub(crate) fn is_needed_beforehand(engine: Engine, name: &str) -> bool {
    match engine {
        #[cfg(feature = "mongodb")]
        Engine::Mongodb => backup_sources::databases::mongodb::is_needed_beforehand(name),
        _ => {
            let _ = name;
            false
        }
    }
}

/// A database as a target, for a dump of which this is known.
pub(crate) fn target(
    url: &DatabaseUrl,
    args: &LoadArgs,
    known: Known,
    space: SpaceCheck,
    console: &Console,
) -> Result<Box<dyn Loading>, Failure> {
    args.require(url.engine())?;
    let Known { manifest, files } = known;
    let _ = &files;
    match url.engine() {
        #[cfg(feature = "mongodb")]
        Engine::Mongodb => mongodb::target(url, &args.mongodb, args.cleaning(), manifest, &files),
        #[cfg(feature = "postgres")]
        Engine::Postgres => postgres::target(url, &args.postgres, args.cleaning(), manifest, space, console),
        #[cfg(feature = "mysql")]
        Engine::Mysql => mysql::target(url, args.mysql_bin.as_deref(), args.cleaning(), &manifest),
        #[cfg(feature = "redis")]
        Engine::Redis => redis::target(url, args.cleaning()),
        #[cfg(feature = "sqlite")]
        Engine::Sqlite => sqlite::target(url, args.cleaning(), args.in_use),
        _ => Err(unsupported(url)),
    }
}

/// Compares a restored database with its manifest.
pub(crate) fn verify(
    url: &DatabaseUrl,
    args: &LoadArgs,
    manifest: &Manifest,
    console: &Console,
) -> Result<Verified, Failure> {
    match url.engine() {
        #[cfg(feature = "postgres")]
        Engine::Postgres => postgres::verify(url, &args.postgres, manifest, console),
        #[cfg(feature = "mongodb")]
        Engine::Mongodb => mongodb::verify(url, manifest),
        #[cfg(feature = "mysql")]
        Engine::Mysql => mysql::verify(url, args.mysql_bin.as_deref(), manifest),
        #[cfg(feature = "redis")]
        Engine::Redis => redis::verify(url, manifest),
        #[cfg(feature = "sqlite")]
        Engine::Sqlite => sqlite::verify(url, manifest),
        _ => Err(unsupported(url)),
    }
}

/// The databases among `sources`. Databases and files make different snapshots, so they do not mix.
pub(crate) fn among(sources: &[OsString]) -> Result<Vec<DatabaseUrl>, Failure> {
    let urls = sources.iter().filter(|source| DatabaseUrl::is_one(source));
    let urls = urls.map(DatabaseUrl::parse).collect::<Result<Vec<_>, _>>()?;
    if !urls.is_empty() && urls.len() < sources.len() {
        return Err(Failure::usage(
            "databases cannot be mixed with files",
            "take a snapshot of each; a path that looks like a database is written with ./ before it",
        ));
    }
    Ok(urls)
}

fn unsupported(url: &DatabaseUrl) -> Failure {
    Failure::usage(
        format!("databases of the kind {}: are not supported by this program", url.scheme()),
        "back up the output of its dump program: create --name app.sql --command 'mysqldump app'",
    )
}
