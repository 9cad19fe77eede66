//! Redis and Valkey on the command line, and what their own client would read of the environment.

use std::env;
use std::sync::Arc;

use backup_core::clock::{Clock, SystemClock};
use backup_core::contracts::Source;
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::redis::{Existing, RedisSettings, RedisSource, RedisTarget, differences, observe};
use backup_sources::databases::url::{DatabaseUrl, Password};

use super::{Cleaning, Loading, Verified};
use crate::exit::Failure;

pub(super) fn source(url: &DatabaseUrl) -> Result<Box<dyn Source>, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(Box::new(RedisSource::connect(&settings(url)?, &clock)?))
}

pub(super) fn target(url: &DatabaseUrl, cleaning: Cleaning) -> Result<Box<dyn Loading>, Failure> {
    let existing = if cleaning == Cleaning::Asked { Existing::Replace } else { Existing::Refuse };
    Ok(Box::new(RedisTarget::connect(&settings(url)?, existing)?))
}

pub(super) fn verify(url: &DatabaseUrl, manifest: &Manifest) -> Result<Verified, Failure> {
    let observed = observe(&settings(url)?, &SystemClock)?;
    let (losses, notes) = differences(&manifest.report.expectations, &observed);
    Ok(Verified { objects: manifest.report.expectations.len(), losses, notes })
}

impl Loading for RedisTarget {
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

fn settings(url: &DatabaseUrl) -> Result<RedisSettings, Failure> {
    let mut settings = RedisSettings::of_url(url)?;
    if settings.password.is_none() {
        let found = env::var("REDISCLI_AUTH").ok().filter(|password| !password.is_empty());
        settings.password = found.map(Password::new);
    }
    Ok(settings)
}
