//! What is seen to change, as a hint that a job might run.
//!
//! Events are lost: when the kernel's queue overflows, on file systems of other machines, while nobody watches. So no
//! event decides anything but when to look; the scan does. What patterns leave out is not seen to change: a file that is
//! written all day and never backed up starts no run. What else leaves files out (`.gitignore`, markers, sizes) is known to
//! the scan alone, which then finds nothing new.

use std::path::PathBuf;
use std::sync::mpsc::Sender;

use backup_core::clock::{Clock as _, SystemClock};
use backup_sources::files::{Below, Excludes};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Wake;

/// Watches the files of one job for as long as it lives.
#[derive(Debug)]
pub(super) struct Watch(#[expect(dead_code, reason = "it watches until it is dropped")] RecommendedWatcher);

/// Watches `paths` and what is below them and not left out, for `job`.
///
/// # Errors
///
/// In words, when they cannot be watched: too many folders for the system's bound, or a path that is not there.
pub(super) fn watch(job: &str, paths: &[PathBuf], excludes: &Excludes, wakes: &Sender<Wake>) -> Result<Watch, String> {
    let (name, sender) = (job.to_owned(), wakes.clone());
    let below = Below::new(paths.to_vec(), excludes).map_err(|error| error.to_string())?;
    let tell = move |event: notify::Result<notify::Event>| {
        // What went wrong may have lost events: that is a change too. Reading is none.
        let is_change = event.map_or(true, |event| {
            let is_left_out = !event.paths.is_empty() && event.paths.iter().all(|path| below.leaves_out(path));
            !matches!(event.kind, EventKind::Access(_)) && !is_left_out
        });
        if is_change {
            // Nobody listens any more when the daemon ends.
            let _ = sender.send(Wake::Changed { job: name.clone(), at: SystemClock.now() });
        }
    };
    let mut watcher = notify::recommended_watcher(tell).map_err(|error| error.to_string())?;
    for path in paths {
        watcher.watch(path, RecursiveMode::Recursive).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(Watch(watcher))
}
