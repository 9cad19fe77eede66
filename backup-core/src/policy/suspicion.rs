//! Whether a run looks wrong: far less than there was.

use std::fmt;

use serde::Serialize;

use super::facts::Amounts;
use crate::limits::{SUSPICION_BYTES_MIN, SUSPICION_FILES_MIN, SUSPICION_RUNS};

/// What of a run is a fraction of what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Suspicion {
    /// Which figure.
    pub figure: Size,
    /// How much it usually is: the median of the newest runs before.
    pub usual: u64,
    /// How much it is now.
    pub now: u64,
}

/// A figure that says how much a run backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// Bytes of the files.
    Bytes,
    /// Files.
    Files,
    /// Rows, documents or keys of a database.
    Rows,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { figure, usual, now } = self;
        let name = match figure {
            Size::Bytes => "bytes",
            Size::Files => "files",
            Size::Rows => "rows",
        };
        write!(f, "{now} {name}, where it usually is {usual}")
    }
}

/// Whether `run` looks wrong beside the runs of the same part of a job before it, newest last: it holds less than half
/// of their median, in bytes or in files, or nothing at all where there was something.
///
/// Give it the runs that somebody or nobody doubted, without those that were suspicious and that nobody has accepted:
/// otherwise the fourth bad one would be the new usual. Little things shrink all the time: below a mebibyte and below ten
/// files only nothing is suspicious, and so is a first and second run never, but for nothing. Of rows only nothing is: a
/// dump of an empty database is a file all the same.
pub fn suspicion(run: Amounts, before: &[Amounts]) -> Option<Suspicion> {
    let newest = &before[before.len().saturating_sub(SUSPICION_RUNS)..];
    let of = |figure: Size, of: fn(&Amounts) -> Option<u64>, least: u64| {
        let usual = median(newest.iter().filter_map(of).collect())?;
        let now = of(&run)?;
        let is_nothing = now == 0 && usual > 0;
        let is_much_less = newest.len() > 2 && usual >= least && now < usual.div_ceil(2);
        (is_nothing || is_much_less).then_some(Suspicion { figure, usual, now })
    };
    of(Size::Rows, |amounts| amounts.rows, u64::MAX)
        .or_else(|| of(Size::Bytes, |amounts| Some(amounts.logical), SUSPICION_BYTES_MIN))
        .or_else(|| of(Size::Files, |amounts| Some(amounts.files), SUSPICION_FILES_MIN))
}

/// The one in the middle; of two, the smaller, which suspects less.
fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(files: u64, logical: u64) -> Amounts {
        Amounts { files, logical, ..Amounts::default() }
    }

    #[test]
    fn a_fraction_of_what_there_was_is_suspicious() {
        const MIB: u64 = 1 << 20;
        let usual = vec![of(100, 100 * MIB); 5];
        for (run, suspected) in [
            (of(100, 100 * MIB), None),
            (of(50, 50 * MIB), None),
            (of(100, 50 * MIB - 1), Some((Size::Bytes, 100 * MIB))),
            (of(49, 100 * MIB), Some((Size::Files, 100))),
            (of(1_000, 1_000 * MIB), None),
            (of(0, 0), Some((Size::Bytes, 100 * MIB))),
            // A dump that broke off after its header.
            (of(2, 700), Some((Size::Bytes, 100 * MIB))),
        ] {
            let found = suspicion(run, &usual).map(|suspicion| (suspicion.figure, suspicion.usual));
            assert_eq!(found, suspected, "{run:?}");
        }
    }

    #[test]
    fn nothing_where_there_was_something_is_suspicious_from_the_second_run_on() {
        assert_eq!(suspicion(of(0, 0), &[]), None);
        assert!(suspicion(of(0, 0), &[of(1, 5)]).is_some());
        assert!(suspicion(of(3, 0), &[of(3, 5)]).is_some());
        assert_eq!(suspicion(of(0, 0), &[of(0, 0)]), None);
    }

    #[test]
    fn a_database_without_rows_is_suspicious_when_it_had_some() {
        let of = |rows| Amounts { rows, ..of(2, 3_000) };
        assert!(suspicion(of(Some(0)), &[of(Some(5))]).is_some_and(|found| found.figure == Size::Rows));
        for (now, before) in [(Some(0), Some(0)), (Some(1), Some(1_000)), (Some(0), None), (None, Some(5))] {
            assert_eq!(suspicion(of(now), &[of(before)]), None, "{now:?} {before:?}");
        }
    }

    #[test]
    fn little_things_and_short_histories_are_not_suspected() {
        assert_eq!(suspicion(of(2, 100), &[of(9, 1_000_000); 6]), None);
        assert_eq!(suspicion(of(100, 1 << 20), &[of(100, 1 << 30); 2]), None);
        assert!(suspicion(of(100, 1 << 20), &[of(100, 1 << 30); 3]).is_some());
    }

    #[test]
    fn one_bad_run_does_not_become_the_usual_and_old_ones_are_forgotten() {
        let (large, small) = (of(100, 1 << 30), of(100, 1 << 21));
        assert!(suspicion(small, &[large, large, small, large]).is_some());
        let long_ago: Vec<_> = [large; 20].into_iter().chain([small; SUSPICION_RUNS]).collect();
        assert_eq!(suspicion(small, &long_ago), None);
    }

    #[test]
    fn it_says_what_it_saw() {
        let suspicion = suspicion(of(0, 0), &[of(2, 700)]).unwrap();
        assert_eq!(suspicion.to_string(), "0 bytes, where it usually is 700");
    }
}
