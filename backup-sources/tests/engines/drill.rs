//! What a drill does with a sandbox, step by step, and what the tests of all sandboxes ask of it.

use std::path::Path;

use backup_core::cancel::Cancel;
use backup_core::contracts::{Check, CheckResult, Expected, NotReady, Report, Sandbox, Target, TargetError};
use backup_core::observe::Amount;
use backup_core::testing::load_all;
use jiff::Timestamp;

use crate::repository::Repo;

/// What is said to be coming, where nothing depends on it.
pub(crate) const LITTLE: Amount = Amount { items: 3, bytes: 1_000_000 };

/// More than any disk has.
pub(crate) const TOO_MUCH: Amount = Amount { items: 3, bytes: 1 << 60 };

/// Starts it, restores the newest snapshot's `folder` into it, and waits until it answers.
#[track_caller]
pub(crate) fn restored(mut sandbox: Box<dyn Sandbox>, repo: &Repo, folder: &str) -> Box<dyn Sandbox> {
    sandbox.start(LITTLE, &Cancel::new()).unwrap();
    let target = sandbox.target().unwrap();
    assert_eq!(repo.restore(folder, &*target).unwrap().losses, 0);
    drop(target);
    sandbox.ready().unwrap();
    sandbox
}

/// The same with files that are no snapshot's; why they cannot be restored.
pub(crate) fn load(sandbox: &mut dyn Sandbox, files: &[(&str, &[u8])]) -> Result<(), TargetError> {
    sandbox.start(LITTLE, &Cancel::new()).unwrap();
    let target = sandbox.target().unwrap();
    write(&*target, files)
}

/// Writes files into a target as a restore does, to the end.
pub(crate) fn write(target: &dyn Target, files: &[(&str, &[u8])]) -> Result<(), TargetError> {
    let files: Vec<_> = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    load_all(target, &files)
}

/// What is found when it is compared with a report.
#[track_caller]
pub(crate) fn examined(sandbox: &mut dyn Sandbox, report: &Report) -> Vec<Check> {
    let expected = Expected { report, entries: &mut std::iter::empty(), until: Timestamp::MAX };
    let checks = sandbox.examine(expected, &Cancel::new()).unwrap();
    assert!(checks.iter().any(|check| check.result == CheckResult::Passed), "nothing passed: {checks:?}");
    checks
}

/// The names of the checks that failed.
pub(crate) fn failed(checks: &[Check]) -> Vec<&str> {
    checks.iter().filter(|check| check.result == CheckResult::Failed).map(|check| check.id.as_str()).collect()
}

/// Why it does not start. It must not have left anything in `parent`.
#[track_caller]
pub(crate) fn not_run(mut sandbox: Box<dyn Sandbox>, expected: Amount, parent: &Path) -> String {
    let outcome = sandbox.start(expected, &Cancel::new());
    let Err(NotReady::CannotRun { reason, .. }) = outcome else { panic!("{outcome:?}") };
    drop(sandbox);
    assert_eq!(left(parent), Vec::<String>::new());
    reason
}

/// What is in a folder.
pub(crate) fn left(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    entries.map(|name| name.to_string_lossy().into_owned()).collect()
}
