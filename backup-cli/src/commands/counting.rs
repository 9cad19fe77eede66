//! Counts what a backup will read while it runs, so that a terminal can show how long it will take.
//!
//! It walks the same files a second time, beside the backup, and begins only when a short backup would be over: where
//! nobody looks, nothing is counted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use backup_core::contracts::{Source as _, SourceEvent};
use backup_core::observe::Amount;
use backup_sources::files::FilesSource;

use crate::console::progress::Reporter;

/// How long a backup goes on before anything is counted: no time is shown before.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does `work`, and tells `reporter` meanwhile how much there is in `source`.
pub(super) fn while_counting<T>(source: Option<FilesSource>, reporter: &Reporter, work: impl FnOnce() -> T) -> T {
    let Some(source) = source.filter(|_| reporter.draws()) else { return work() };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let began = Instant::now();
            while began.elapsed() < PATIENCE && !is_over.load(Ordering::Relaxed) {
                thread::park_timeout(PATIENCE);
            }
            if let Some(total) = count(source, &is_over) {
                reporter.expect(total);
            }
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        counting.thread().unpark();
        done
    })
}

/// How much there is; `None` when that does not matter any more, or cannot be known.
fn count(mut source: FilesSource, is_over: &AtomicBool) -> Option<Amount> {
    let mut amount = Amount::default();
    while !is_over.load(Ordering::Relaxed) {
        match source.next() {
            Ok(Some(SourceEvent::Entry(entry))) => {
                amount.items += 1;
                amount.bytes = amount.bytes.saturating_add(entry.node.size());
            }
            Ok(Some(_)) => {}
            Ok(None) => return Some(amount),
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_what_a_backup_reads() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        std::fs::write(folder.path().join("a"), "12345").unwrap();
        std::fs::write(folder.path().join("sub/b"), "123").unwrap();
        let source = || FilesSource::new(vec![folder.path().to_owned()], &Default::default()).unwrap();
        assert_eq!(count(source(), &AtomicBool::new(false)), Some(Amount { items: 2, bytes: 8 }));
        assert_eq!(count(source(), &AtomicBool::new(true)), None);
    }
}
