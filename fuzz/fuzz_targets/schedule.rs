//! Schedules of the configuration: whatever is written, its slots come in order, and soon.

#![no_main]

use backup_core::schedule::Schedule;
use backup_fuzz::{MIB, bounded};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(16 * MIB + 64 * bytes.len(), || {
    let text = String::from_utf8_lossy(bytes);
    // A clock that goes back and forth, at an instant shortly before it does.
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
    let start: Timestamp = "2026-10-24T12:00:00Z".parse().expect("an instant");
    for zone in [TimeZone::UTC, zone] {
        let Ok(schedule) = Schedule::parse(&text, zone.clone()) else { continue };
        let mut last = start;
        for slot in schedule.slots(start, Timestamp::MAX).take(40) {
            assert!(slot > last, "{slot} does not come after {last}");
            last = slot;
        }
        let again = Schedule::parse(schedule.text(), zone).expect("what was read reads again");
        assert_eq!(again.next(start), schedule.next(start));
    }
}));
