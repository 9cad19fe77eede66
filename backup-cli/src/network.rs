//! What stands between the program and a store on a network: patience, limits and a cache, as the options say.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backup_core::contracts::Sink;
use backup_core::model::Id;
use backup_store::Place;
use backup_store::layers::{
    AsideSink, CACHE_BYTES_MAX, CacheSink, LimitSink, Limits, Pace, Patience, RetryPolicy, RetrySink, Setback,
};
use backup_store::sinks::LocalSink;
use bytesize::ByteSize;

use crate::args::parse_count;
use crate::console::Console;
use crate::session::Session;

/// What every command takes that may speak with a store on a network.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Stores on a network")]
pub(crate) struct Network {
    /// Send no more than this many bytes a second, on average, to all places together: 500K, 2MiB
    #[arg(long, value_name = "BYTES", global = true, value_parser = parse_pace)]
    pub(crate) limit_upload: Option<Arc<Pace>>,
    /// Fetch no more than this many bytes a second, on average, from all places together
    #[arg(long, value_name = "BYTES", global = true, value_parser = parse_pace)]
    pub(crate) limit_download: Option<Arc<Pace>>,
    /// Have no more than this many requests under way at once
    #[arg(long, value_name = "COUNT", global = true, value_parser = parse_count::<NonZeroU64>)]
    pub(crate) connections: Option<NonZeroU64>,
    /// Keep no copies of indexes, snapshots and folders on this machine, and use none
    #[arg(long, global = true)]
    pub(crate) no_cache: bool,
}

/// Whether copies on this machine may stand for what is in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    /// They may.
    Allowed,
    /// The store itself is to be looked at.
    Forbidden,
}

/// Setbacks are told this often: more would only fill the screen.
const TOLD_EVERY: Duration = Duration::from_secs(10);

impl Network {
    /// Puts the layers around the store at `place`. A folder of this machine needs none.
    pub(crate) fn around(
        &self,
        sink: Arc<dyn Sink>,
        place: &Place,
        caching: Caching,
        session: &Session,
    ) -> Arc<dyn Sink> {
        if !place.is_remote() {
            return sink;
        }
        let console = session.console;
        let (tell, upload) = (told_now_and_then(console), self.limit_upload.clone());
        let sink = RetrySink::new(sink, RetryPolicy::default()).watched_by(move |setback| {
            // What is sent once more is sent as well.
            if let Some(upload) = &upload {
                upload.book(setback.bytes_to_send);
            }
            tell(setback);
        });
        let sink = sink.stopped_by(session.cancel.clone());
        let limits = Limits {
            upload: self.limit_upload.clone(),
            download: self.limit_download.clone(),
            requests_max: self.connections,
        };
        let sink: Arc<dyn Sink> = match limits.is_none() {
            true => Arc::new(sink),
            false => Arc::new(LimitSink::new(Arc::new(sink), limits)),
        };
        let variable = |name: &str| std::env::var_os(name);
        let sink = match own_folder(variable, "XDG_CACHE_HOME", ".cache") {
            Some(folder) if !self.no_cache && caching == Caching::Allowed => cached(sink, &folder, console),
            _ => sink,
        };
        match own_folder(variable, "XDG_STATE_HOME", ".local/state") {
            Some(folder) if place.is_restics_alone() => with_records_in(sink, &folder, console),
            _ => sink,
        }
    }
}

/// Patience for requests that are none of a sink's.
pub(crate) fn patience(session: &Session) -> Patience {
    let patience = Patience::new(RetryPolicy::default()).stopped_by(session.cancel.clone());
    patience.watched_by(told_now_and_then(session.console))
}

fn told_now_and_then(console: Console) -> impl Fn(&Setback<'_>) + Send + Sync + 'static {
    let last_told = Mutex::new(None::<Instant>);
    move |setback| {
        let mut last_told = last_told.lock().unwrap_or_else(PoisonError::into_inner);
        if last_told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
            *last_told = Some(Instant::now());
            console.note(&told(setback));
        }
    }
}

fn cached(sink: Arc<dyn Sink>, folder: &Path, console: Console) -> Arc<dyn Sink> {
    match CacheSink::open(Arc::clone(&sink), folder, CACHE_BYTES_MAX) {
        Ok(cached) => Arc::new(cached),
        Err(error) => {
            console.note(&format!("nothing is cached: {}: {error}", folder.display()));
            sink
        }
    }
}

/// Keeps on this machine what a store does not keep: the records of what was proven, without which `forget` removes
/// nothing.
fn with_records_in(sink: Arc<dyn Sink>, folder: &Path, console: Console) -> Arc<dyn Sink> {
    let name = Id::of(sink.location().as_bytes()).to_string();
    match LocalSink::create(folder.join("records").join(&name[..32])) {
        Ok(aside) => Arc::new(AsideSink::new(sink, Arc::new(aside))),
        Err(error) => {
            console.note(&format!("no records are kept: {error}"));
            sink
        }
    }
}

/// Where this program keeps what it must not forget, and may: nothing that a repository does not have as well, once it
/// answers.
pub(crate) fn state_folder() -> Option<PathBuf> {
    own_folder(|name| std::env::var_os(name), "XDG_STATE_HOME", ".local/state")
}

/// Where people keep this program's settings and keys.
pub(crate) fn settings_folder() -> Option<PathBuf> {
    own_folder(|name| std::env::var_os(name), "XDG_CONFIG_HOME", ".config")
}

/// A folder of this program's own below the one that `variable` names, or below the home folder (XDG Base Directory
/// Specification: a path that is not absolute does not count).
pub(crate) fn own_folder(variable: impl Fn(&str) -> Option<OsString>, name: &str, below_home: &str) -> Option<PathBuf> {
    let folder = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    Some(folder(name).or_else(|| Some(folder("HOME")?.join(below_home)))?.join("backup"))
}

fn told(setback: &Setback<'_>) -> String {
    let cause = setback.error.source.as_ref().map(|cause| format!(" ({cause})")).unwrap_or_default();
    let wait = setback.wait.as_secs_f64().ceil();
    format!("waiting for the store: {}{cause}; trying again in {wait} s", setback.error)
}

/// A rate that all who are given it share.
pub(crate) fn parse_pace(text: &str) -> Result<Arc<Pace>, String> {
    parse_rate(text).map(|rate| Arc::new(Pace::new(rate)))
}

fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let rate = text.parse::<ByteSize>().ok().and_then(|size| NonZeroU64::new(size.as_u64()));
    rate.ok_or_else(|| "not a number of bytes above 0: write 500K, 2MiB or 1000000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, bytes) in [("500K", 500_000), ("2MiB", 2 * 1024 * 1024), ("1000000", 1_000_000), ("1 MB", 1_000_000)]
        {
            assert_eq!(parse_rate(text).unwrap().get(), bytes, "{text}");
        }
        for wrong in ["", "0", "-1", "fast", "1Mbit/s"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_cache_is_where_caches_are() {
        let with = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
            own_folder(
                move |name| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()),
                "XDG_CACHE_HOME",
                ".cache",
            )
        };
        assert_eq!(with(&[("HOME", "/home/me")]), Some("/home/me/.cache/backup".into()));
        assert_eq!(with(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "/caches")]), Some("/caches/backup".into()));
        assert_eq!(with(&[("HOME", "/home/me"), ("XDG_CACHE_HOME", "x")]), Some("/home/me/.cache/backup".into()));
        assert_eq!(with(&[]), None);
    }
}
