//! PostgreSQL on the command line: its options, and what libpq's programs would read of the environment.

use std::env;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use backup_core::contracts::Source;
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::postgres::{
    Difference, DumpOptions, Existing, Folders, LoadOptions, OwnSettings, PARAMETERS, Parallel, PostgresSource,
    PostgresTarget, Readers, Roles, Server, Settings, compare, databases, observe, of_name,
};
use backup_sources::databases::url::{DatabaseUrl, Password};
use backup_sources::files::SpaceCheck;

use super::{Cleaning, Loading};
use crate::args::parse_count;
use crate::console::Console;
use crate::exit::Failure;

/// What of a database is backed up.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "PostgreSQL")]
pub(crate) struct PostgresDump {
    /// Only these schemas; patterns as pg_dump takes them
    #[arg(long, value_name = "PATTERN")]
    pub(crate) schema: Vec<String>,
    /// Not these schemas
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude_schema: Vec<String>,
    /// Only these tables
    #[arg(long, value_name = "PATTERN")]
    pub(crate) table: Vec<String>,
    /// Not these tables
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude_table: Vec<String>,
    /// These tables without their rows
    #[arg(long, value_name = "PATTERN")]
    pub(crate) exclude_table_data: Vec<String>,
    /// Leave out roles and tablespaces, which are kept in globals.sql
    #[arg(long)]
    pub(crate) no_roles: bool,
    /// How long to wait for a lock on a table before the backup fails [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) lock_wait: Option<u64>,
    /// Connections that dump at once, by way of a folder on this machine with space for the whole dump [default: 1, and none]
    #[arg(long, value_name = "COUNT", value_parser = parse_count::<NonZeroUsize>)]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Where a dump by several connections is kept until it was read [default: the folder for temporary files]
    #[arg(long, value_name = "DIR", requires = "jobs")]
    pub(crate) spool: Option<PathBuf>,
    /// The folder of pg_dump and its like, in place of the usual ones
    #[arg(long, value_name = "DIR", env = "BACKUP_PG_BIN")]
    pub(crate) pg_bin: Option<PathBuf>,
}

impl PostgresDump {
    /// Whether anything was asked for by an option: the environment asks for nothing.
    pub(crate) fn is_asked_for(&self) -> bool {
        Self { pg_bin: None, ..self.clone() } != Self::default()
    }

    fn options(&self) -> DumpOptions {
        let usual = DumpOptions::default();
        let spool = || self.spool.clone().unwrap_or_else(env::temp_dir);
        // One connection streams.
        let jobs = self.jobs.filter(|jobs| jobs.get() > 1);
        DumpOptions {
            schemas: self.schema.clone(),
            exclude_schemas: self.exclude_schema.clone(),
            tables: self.table.clone(),
            exclude_tables: self.exclude_table.clone(),
            exclude_table_data: self.exclude_table_data.clone(),
            roles: if self.no_roles { Roles::LeftOut } else { Roles::Kept },
            lock_wait_seconds: self.lock_wait.unwrap_or(usual.lock_wait_seconds),
            parallel: jobs.map(|jobs| Parallel { jobs, spool: spool() }),
        }
    }
}

/// How a database is restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Into PostgreSQL")]
pub(crate) struct PostgresLoad {
    /// Only this table
    #[arg(long, value_name = "NAME")]
    table: Vec<String>,
    /// Only this schema
    #[arg(long, value_name = "NAME")]
    schema: Vec<String>,
    /// Make no roles, and give everything to who connects
    #[arg(long)]
    no_roles: bool,
    /// Connections that load at once [default: one a core]
    #[arg(long, value_name = "COUNT", value_parser = parse_count::<NonZeroUsize>)]
    jobs: Option<NonZeroUsize>,
    /// Where small tables and large objects are kept while they are loaded [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// The folder of pg_restore and its like, in place of the usual ones
    #[arg(long, value_name = "DIR", env = "BACKUP_PG_BIN")]
    pg_bin: Option<PathBuf>,
}

impl PostgresLoad {
    /// Whether anything was asked for by an option: the environment asks for nothing.
    pub(crate) fn is_asked_for(&self) -> bool {
        Self { pg_bin: None, ..self.clone() } != Self::default()
    }

    /// Whether only a part is to be restored.
    pub(crate) fn is_part(&self) -> bool {
        !self.table.is_empty() || !self.schema.is_empty()
    }
}

/// The database of `url`, or all that its server has.
pub(super) fn each(url: &DatabaseUrl, args: &PostgresDump, console: &Console) -> Result<Vec<DatabaseUrl>, Failure> {
    let server = Server::new(url, &settings(args.pg_bin.as_deref(), console))?;
    match server.database()? {
        Some(name) => Ok(vec![url.with_database(&name)]),
        None => Ok(databases(&server)?.iter().map(|name| url.with_database(name)).collect()),
    }
}

pub(super) fn source(url: &DatabaseUrl, args: &PostgresDump, console: &Console) -> Result<Box<dyn Source>, Failure> {
    let server = Server::new(url, &settings(args.pg_bin.as_deref(), console))?;
    let options = args.options();
    if let Some(parallel) = &options.parallel {
        console.note(&format!("the dump is kept in {} until it was read", parallel.spool.display()));
    }
    Ok(Box::new(PostgresSource::connect(&server, &named(&server)?, &options)?))
}

pub(super) fn target(
    url: &DatabaseUrl,
    args: &PostgresLoad,
    cleaning: Cleaning,
    manifest: Manifest,
    space: SpaceCheck,
    console: &Console,
) -> Result<Box<dyn Loading>, Failure> {
    if args.is_part() && args.jobs.is_some_and(|jobs| jobs.get() > 1) {
        let hint = "leave it away: --table and --schema are loaded in one transaction, all or nothing";
        return Err(Failure::usage("--jobs is for a whole database", hint));
    }
    let server = Server::new(url, &settings(args.pg_bin.as_deref(), console))?;
    let options = LoadOptions {
        existing: if cleaning == Cleaning::Asked { Existing::Replaced } else { Existing::Refused },
        roles: if args.no_roles { Roles::LeftOut } else { Roles::Kept },
        schemas: args.schema.clone(),
        tables: args.table.clone(),
        own: OwnSettings::Restored,
        jobs: args.jobs,
        spool: args.spool.clone().unwrap_or_else(env::temp_dir),
        space,
        readers: Readers::ThisUser,
    };
    let target = PostgresTarget::connect(&server, &named(&server)?, manifest, options)?;
    if let Some(folder) = target.copied_to() {
        console.note(&format!("the dump is kept in {} while it is loaded", folder.display()));
    }
    Ok(Box::new(target))
}

/// What of `manifest` the database does not show, and how many objects were looked at.
pub(super) fn verify(
    url: &DatabaseUrl,
    args: &PostgresLoad,
    manifest: &Manifest,
    console: &Console,
) -> Result<super::Verified, Failure> {
    let server = Server::new(url, &settings(args.pg_bin.as_deref(), console))?;
    let name = named(&server)?;
    let observed = of_name(observe(&server, &name, &DumpOptions::default())?, &name);
    let expected = of_name(manifest.report.expectations.clone(), &name);
    // Grants and owners stay behind when roles are left out.
    let expected: Vec<_> =
        expected.into_iter().filter(|expected| !args.no_roles || !expected.kind.ends_with("acl")).collect();
    let is_no_loss = |difference: &Difference| difference.is_of_words() || difference.is_of_the_database();
    let (words, losses) = compare(&expected, &observed).into_iter().partition(is_no_loss);
    let told = |differences: Vec<Difference>| differences.iter().map(|difference| difference.told()).collect();
    Ok(super::Verified { objects: expected.len(), losses: told(losses), notes: told(words) })
}

impl Loading for PostgresTarget {
    fn warnings(&self) -> Vec<String> {
        Self::warnings(self)
    }
}

/// The database that was named.
fn named(server: &Server) -> Result<String, Failure> {
    let hint = "write it behind the server: postgres://user@host/DATABASE";
    server.database()?.ok_or_else(|| Failure::usage(format!("{} names no database", server.location()), hint))
}

/// What libpq's programs would find in the environment.
pub(crate) fn settings(pg_bin: Option<&Path>, console: &Console) -> Settings {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let parameters = PARAMETERS
        .iter()
        .filter_map(|(name, variable_name)| variable(variable_name).map(|value| ((*name).to_owned(), value)));
    let home = env::home_dir();
    let also = env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    Settings {
        parameters: parameters.collect(),
        password: variable("PGPASSWORD").map(Password::new),
        passfile: passfile(variable("PGPASSFILE").map(PathBuf::from), home.as_deref(), console),
        home,
        folders: Folders { only: pg_bin.map(Path::to_owned), also },
    }
}

/// The text of the file of passwords. As libpq does, one that others can read is passed over, and that is said.
fn passfile(named: Option<PathBuf>, home: Option<&Path>, console: &Console) -> Option<Password> {
    let path = named.or_else(|| home.map(|home| home.join(".pgpass")))?;
    let metadata = fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        console.warn_once(&format!("{} is passed over because others can read it: chmod 600 it", path.display()));
        return None;
    }
    fs::read_to_string(&path).ok().map(Password::new)
}
