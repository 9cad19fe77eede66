//! MySQL and MariaDB on the command line: where their programs are, and the password in the environment. Their own files
//! of options are read by the programs themselves.

use std::env;
use std::path::Path;
use std::sync::Arc;

use backup_core::clock::{Clock, SystemClock};
use backup_core::contracts::Source;
use backup_sources::databases::differences;
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::mysql::{Existing, MysqlSettings, MysqlSource, MysqlTarget, observe_as};
use backup_sources::databases::url::{DatabaseUrl, Password};

use super::{Cleaning, Loading, Verified};
use crate::exit::Failure;

pub(super) fn source(url: &DatabaseUrl, programs: Option<&Path>) -> Result<Box<dyn Source>, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(Box::new(MysqlSource::connect(&settings(url, programs)?, &clock)?))
}

pub(super) fn target(
    url: &DatabaseUrl,
    programs: Option<&Path>,
    cleaning: Cleaning,
    manifest: &Manifest,
) -> Result<Box<dyn Loading>, Failure> {
    let existing = if cleaning == Cleaning::Asked { Existing::Replace } else { Existing::Refuse };
    Ok(Box::new(MysqlTarget::connect(&settings(url, programs)?, existing, Some(manifest))?))
}

pub(super) fn verify(url: &DatabaseUrl, programs: Option<&Path>, manifest: &Manifest) -> Result<Verified, Failure> {
    let observed = observe_as(&settings(url, programs)?, &manifest.database)?;
    let losses = differences(&manifest.report.expectations, &observed);
    Ok(Verified { objects: manifest.report.expectations.len(), losses, notes: Vec::new() })
}

impl Loading for MysqlTarget {
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

fn settings(url: &DatabaseUrl, programs: Option<&Path>) -> Result<MysqlSettings, Failure> {
    let mut settings = MysqlSettings::of_url(url)?;
    if settings.password.is_none() {
        settings.password = env::var("MYSQL_PWD").ok().filter(|password| !password.is_empty()).map(Password::new);
    }
    settings.programs = match programs {
        Some(folder) => vec![folder.to_owned()],
        None => env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default(),
    };
    Ok(settings)
}
