//! A disk that is really too small, or really fills up, under a drill of files.

use backup_sources::sandbox::{FilesSandbox, Meaning};

use super::small_disk::{Crowded, SmallDisk, When};
use super::trial::{Trial, failed, reason};

fn sandbox(disk: &SmallDisk) -> Box<FilesSandbox> {
    Box::new(FilesSandbox::new(disk.path().to_owned(), Meaning::Data))
}

#[test]
#[ignore = "needs root and mount"]
fn files_that_do_not_fit_are_not_drilled_and_nothing_is_made() {
    let (trial, disk) = (Trial::new(), SmallDisk::new(8));
    let outcome = trial.drill_in(sandbox(&disk), &[]);
    assert_eq!(outcome.verdict.word(), "not_run", "{outcome:?}");
    assert!(reason(&outcome).starts_with("disk: it takes about "), "{}", reason(&outcome));
    assert!(outcome.sandbox.is_none() && outcome.restored.is_none());
    assert_eq!(disk.left(), Vec::<String>::new());
}

#[test]
#[ignore = "needs root and mount"]
fn a_disk_that_fills_up_while_files_are_restored_says_nothing_of_the_backup() {
    for (when, left_bytes) in [(When::Started, 1_000_000), (When::Writing, 0), (When::Writing, 1_000_000)] {
        let (trial, disk) = (Trial::new(), SmallDisk::new(48));
        let crowded = Crowded { inner: sandbox(&disk), disk: disk.path().to_owned(), when, left_bytes };
        let outcome = trial.drill_in(Box::new(crowded), &[]);
        assert_eq!(outcome.verdict.word(), "not_run", "{when:?} {left_bytes}: {outcome:?}");
        assert!(reason(&outcome).starts_with("disk: "), "{}", reason(&outcome));
        assert_eq!(failed(&outcome), Vec::<&str>::new());
        assert_eq!(disk.left(), Vec::<String>::new());
    }
}
