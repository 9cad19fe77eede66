//! The words of the command line that all commands share. What a command takes of its own stands beside what it does,
//! in `commands/`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use backup_core::repository::{LockMode, SnapshotQuery};
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

use crate::commands;
use crate::network::Network;

/// Backups that come back: encrypted, deduplicated, readable by restic
///
/// The repository is named by -r or $BACKUP_REPO. The passphrase is read from --password-file, --password-command,
/// $BACKUP_PASSWORD, $BACKUP_PASSWORD_FILE or $BACKUP_PASSWORD_COMMAND, in this order, and otherwise asked for.
#[derive(Debug, Parser)]
#[command(name = "backup", version, arg_required_else_help = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Globals {
    /// The repository: a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX, rest:URL,
    /// sftp://HOST/PATH; or a name from the configuration; `create` takes several
    #[arg(short, long, env = "BACKUP_REPO", value_name = "PLACE", global = true, hide_env_values = true)]
    pub(crate) repo: Vec<String>,
    /// Where the content of files lies, when `-r` keeps only what is looked at often: `init` makes such a pair
    #[arg(long, env = "BACKUP_REPO_COLD", value_name = "PLACE", global = true, hide_env_values = true)]
    pub(crate) repo_cold: Option<String>,
    /// The configuration [default: ./backup.toml, $XDG_CONFIG_HOME/backup/backup.toml, /etc/backup/backup.toml]
    #[arg(short, long, env = "BACKUP_CONFIG", value_name = "FILE", global = true, hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// The configuration's text stands on standard input; --config says where it is from
    #[arg(long, global = true, hide = true, requires = "config")]
    pub(crate) config_text: bool,
    /// Read the passphrase from this file; line ends at its end do not count
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "password_command")]
    pub(crate) password_file: Vec<PathBuf>,
    /// Read the passphrase from what this command, run by /bin/sh, prints
    #[arg(long, value_name = "COMMAND", global = true)]
    pub(crate) password_command: Vec<String>,
    /// Print JSON on standard output: one document, or lines from commands that take long
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print what was asked for and problems, not what was done
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// List every file, and every problem
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Take no lock and look at none: for credentials that cannot delete
    #[arg(long, global = true)]
    pub(crate) no_lock: bool,
    #[command(flatten)]
    pub(crate) network: Network,
}

impl Globals {
    /// The lock for commands that bear others beside them.
    pub(crate) fn shared_lock(&self) -> LockMode {
        if self.no_lock { LockMode::None } else { LockMode::Shared }
    }
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Prove it on your own data: back up, restore, compare, show figures, leave nothing behind
    Try(commands::r#try::Args),
    /// Create a repository, or all of the configuration
    Init(commands::init::Args),
    /// Take a snapshot
    Create(Box<commands::create::Args>),
    /// Run jobs of the configuration: back up, thin out, tell
    Run(commands::run::Args),
    /// Show how each job of the configuration stands
    Status(commands::status::Args),
    /// Look at or check the configuration
    #[command(subcommand)]
    Config(commands::config::Command),
    /// List snapshots
    Snapshots(commands::snapshots::Args),
    /// List what is in a snapshot
    Ls(commands::ls::Args),
    /// Find files in snapshots by their names
    Find(commands::find::Args),
    /// Compare two snapshots
    Diff(commands::diff::Args),
    /// Print a file of a snapshot
    Cat(commands::cat::Args),
    /// Show sizes
    Stats(commands::stats::Args),
    /// Restore a snapshot, or a part of it
    Restore(Box<commands::restore::Args>),
    /// Restore into a sandbox, compare, time it, and write down what was proven
    Drill(Box<commands::drill::Args>),
    /// Show, verify and export the signed records of drills
    #[command(subcommand)]
    Evidence(commands::evidence::Command),
    /// Verify the repository
    Check(commands::check::Args),
    /// Mend what can be mended
    #[command(subcommand)]
    Repair(commands::repair::Command),
    /// Remove snapshots, by rules or by name
    Forget(Box<commands::forget::Args>),
    /// Remove data that no snapshot needs
    Prune(commands::prune::Args),
    /// Keep anybody from removing what the snapshots need, for a while (S3 with object lock, Google with object retention,
    /// Azure with immutability)
    #[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
    Protect(commands::protect::Args),
    /// Change the tags of snapshots
    Tag(commands::tag::Args),
    /// Protect snapshots from being removed
    Hold(commands::hold::Args),
    /// Copy snapshots to another repository
    Copy(Box<commands::copy::Args>),
    /// Manage passphrases
    #[command(subcommand)]
    Key(commands::key::Command),
    /// Remove locks that nobody holds any more
    Unlock(commands::unlock::Args),
    /// Bring the repository to the newest format version
    Migrate,
    /// Run jobs when they are due, until stopped; show how things are over HTTP
    Daemon,
    /// Write how to get everything back, step by step
    Runbook(commands::runbook::Args),
    /// Print the configuration's schedules for cron, systemd or Kubernetes
    #[command(subcommand)]
    Schedule(commands::schedule::Command),
    /// Propose a strategy: find or name what matters, and get a configuration with its reasons
    Advise(Box<commands::advise::Args>),
    /// Print alerting rules for what is configured
    #[command(subcommand)]
    Alerts(commands::alerts::Command),
    /// Print a completion script for a shell
    Completions(commands::completions::Args),
    /// Print the manual page, or write all of them into a folder
    Man(commands::man::Args),
}

/// Which snapshots are meant, for commands that take several or `latest`.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which snapshots")]
pub(crate) struct Which {
    /// Only those of this job
    #[arg(long, value_name = "NAME")]
    pub(crate) job: Option<String>,
    /// Only those of this path
    #[arg(long, value_name = "PATH")]
    pub(crate) source: Option<String>,
    /// Only those of this machine
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Option<String>,
    /// Only those with this tag; may be given several times, all must be there
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Vec<String>,
    /// Only those of this time or before: 2026-01-31, "2026-01-31 14:00" (local), or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) at: Option<Timestamp>,
}

impl Which {
    /// The library's word for it.
    pub(crate) fn query(&self) -> SnapshotQuery {
        let job = self.job.iter().map(|job| format!("job:{job}"));
        SnapshotQuery {
            host: self.host.clone(),
            tags: self.tag.iter().cloned().chain(job).collect(),
            path: self.source.clone(),
            at: self.at,
        }
    }

    /// Whether all are meant.
    pub(crate) fn is_all(&self) -> bool {
        self.query() == SnapshotQuery::default()
    }
}

/// How many of something at once, which the configuration file may say just so.
pub(crate) fn parse_count<N: TryFrom<NonZeroU64>>(text: &str) -> Result<N, String> {
    let count = text.parse::<NonZeroU64>().ok().filter(|count| count.get() <= 1_000);
    count.and_then(|count| count.try_into().ok()).ok_or_else(|| "give a number from 1 to 1000".to_owned())
}

/// An instant as people write it. A date is its first moment; what has no zone is local time.
pub(crate) fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse() {
        return Ok(instant);
    }
    let local = text
        .parse::<DateTime>()
        .or_else(|_| text.parse::<Date>().map(|date| date.to_datetime(jiff::civil::Time::midnight())));
    local
        .and_then(|local| local.to_zoned(TimeZone::system()))
        .map(|zoned| zoned.timestamp())
        .map_err(|_| "not a time: write 2026-01-31, \"2026-01-31 14:00\" or 2026-01-31T14:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_count_of_what_goes_on_at_once_is_what_the_configuration_takes() {
        assert_eq!(parse_count::<NonZeroU64>("1000").unwrap().get(), 1_000);
        for wrong in ["", "0", "-1", "1001", "many"] {
            assert_eq!(parse_count::<NonZeroU64>(wrong).unwrap_err(), "give a number from 1 to 1000", "{wrong}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(parse_time("2026-01-31T14:00:00Z").unwrap().as_second(), 1_769_868_000);
        assert_eq!(parse_time("2026-01-31T14:00:00+02:00").unwrap().as_second(), 1_769_860_800);
        assert!(parse_time("2026-01-31").unwrap() < parse_time("2026-01-31 00:01").unwrap());
        for wrong in ["", "yesterday", "31.1.2026", "2026-13-01"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
