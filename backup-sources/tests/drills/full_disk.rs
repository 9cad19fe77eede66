//! A disk that is really too small, or really fills up, under a drill of files.

use backup_core::cancel::Cancel;
use backup_core::contracts::Sandbox as _;
use backup_core::observe::Amount;
use backup_sources::sandbox::{FilesSandbox, Meaning};

use super::small_disk::{Crowded, SmallDisk, When, fill_up};
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

#[test]
#[ignore = "needs root and mount"]
fn a_drill_that_takes_what_it_leaves_to_others_is_told_to_end() {
    let disk = SmallDisk::new(64);
    let mut sandbox = sandbox(&disk);
    sandbox.start(Amount { items: 1, bytes: 1 }, &Cancel::new()).unwrap();
    let stopper = sandbox.stopper().unwrap();
    assert_eq!((stopper.takes_too_much)(), None);
    fill_up(disk.path(), 1_000_000);
    let told = (stopper.takes_too_much)().unwrap();
    assert!(told.ends_with("and a drill leaves 2097152 to others"), "{told}");
    // Beforehand it is asked for as well.
    fill_up(disk.path(), 0);
    sandbox.remove().unwrap();
    let mut sandbox = self::sandbox(&disk);
    assert!(sandbox.start(Amount { items: 1, bytes: 1 }, &Cancel::new()).is_err());
}
