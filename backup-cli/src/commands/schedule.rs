//! `backup schedule`: the units of another scheduler for what the configuration says.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::console::amounts;
use crate::exit::{Exit, Failure};
use crate::session::Session;
use crate::units::{self, Program, kubernetes::Cluster, systemd::Unit};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print lines for `crontab -e`, or with --user a file for /etc/cron.d
    Cron {
        /// The user that runs them: cron wants one in the files of /etc/cron.d, and none in `crontab -e`
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        #[command(flatten)]
        which: Which,
    },
    /// Print a service and a timer for each job, or write them
    Systemd {
        /// Write the units into this folder, such as /etc/systemd/system
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
        #[command(flatten)]
        which: Which,
    },
    /// Print a CronJob for each job
    Kubernetes {
        /// The image that holds the program
        #[arg(long, value_name = "IMAGE")]
        image: String,
        /// The secret that holds the configuration and the files that it names
        #[arg(long, value_name = "NAME", default_value = "backup-config")]
        secret: String,
        #[command(flatten)]
        which: Which,
    },
}

/// Which jobs, and how the units call the program.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Jobs; all when none is named
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Where the program lies on the machine that runs the units; where it lies on this one when not given
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

pub(crate) fn run(command: &Command, session: &Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    let which = match command {
        Command::Cron { which, .. } | Command::Systemd { which, .. } | Command::Kubernetes { which, .. } => which,
    };
    let (timed, notes) = units::timed(&config, &config.jobs_named(&which.jobs)?);
    let program = Program { path: program(which)?, config: absolute(&config.path)? };
    match command {
        Command::Cron { user, .. } => print(&units::cron::text(&program, &timed, &notes, user.as_deref()), session)?,
        Command::Systemd { output, .. } => {
            for note in &notes {
                session.console.note(note);
            }
            let units = units::systemd::units(&program, &timed)?;
            match output {
                Some(folder) => write(folder, &units, session)?,
                None => print(&joined(&units), session)?,
            }
        }
        Command::Kubernetes { image, secret, .. } => {
            let cluster = Cluster { image: image.clone(), secret: secret.clone() };
            // In a cluster the program lies where the image has it.
            let path = which.program.clone().unwrap_or_else(|| "/usr/bin/backup".into());
            print(&units::kubernetes::text(&cluster, &Program { path, ..program }, &timed, &notes)?, session)?;
        }
    }
    Ok(Exit::Done)
}

fn print(text: &str, session: &Session) -> Result<(), Failure> {
    session.console.either(&json!({"text": text}), || text.trim_end().to_owned())
}

/// Units one after the other, each below its name.
fn joined(units: &[Unit]) -> String {
    units.iter().map(|unit| format!("# {}\n{}\n", unit.name, unit.text)).collect()
}

fn write(folder: &Path, units: &[Unit], session: &Session) -> Result<(), Failure> {
    for unit in units {
        let path = folder.join(&unit.name);
        std::fs::write(&path, &unit.text).map_err(|error| Failure::because(format!("{}", path.display()), &error))?;
    }
    let timers: Vec<_> = units.iter().map(|unit| unit.name.as_str()).filter(|name| name.ends_with(".timer")).collect();
    session.console.either(&json!({"folder": folder.to_string_lossy(), "timers": timers}), || {
        format!(
            "{} in {}; now: systemctl daemon-reload && systemctl enable --now {}",
            amounts::counted(units.len() as u64, "unit"),
            folder.display(),
            timers.join(" ")
        )
    })?;
    Ok(())
}

/// Units name the program by its full path.
fn program(which: &Which) -> Result<PathBuf, Failure> {
    match &which.program {
        Some(path) => Ok(path.clone()),
        None => std::env::current_exe().map_err(|error| Failure::because("the path of this program", &error)),
    }
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::because(format!("{}", path.display()), &error))
}
