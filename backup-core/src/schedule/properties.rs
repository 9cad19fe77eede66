//! What is true of every schedule in every zone, tried on random ones.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;

use super::{Due, Schedule, due};

/// Zones whose clocks go forward and back, at other hours and by other amounts, spelled out.
fn zone() -> impl Strategy<Value = TimeZone> {
    let rules = vec![
        "UTC0",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
        "EST5EDT,M3.2.0,M11.1.0",
        "<-01>1<+00>,M3.5.0/0,M10.5.0/1",
    ];
    select(rules).prop_map(|rules| TimeZone::posix(rules).unwrap())
}

fn expression() -> impl Strategy<Value = String> {
    let minute = select(vec!["0", "30", "59", "*/20", "*/7", "5,50", "*"]);
    let hour = select(vec!["*", "0", "1", "2", "3", "2,14", "*/6", "1-3", "8-18/5", "23"]);
    let day = select(vec!["*", "*", "*", "1", "29", "31", "1,15", "*/9"]);
    let month = select(vec!["*", "*", "*", "2", "3,10,11", "JAN"]);
    let weekday = select(vec!["*", "*", "*", "0", "MON-FRI", "7", "6,SUN"]);
    let fields = (minute, hour, day, month, weekday);
    fields
        .prop_map(|(minute, hour, day, month, weekday)| format!("{minute} {hour} {day} {month} {weekday}"))
        .prop_filter("a day that comes", |text| Schedule::parse(text, TimeZone::UTC).is_ok())
}

fn schedule() -> impl Strategy<Value = Schedule> {
    (expression(), zone()).prop_map(|(text, zone)| Schedule::parse(&text, zone).unwrap())
}

/// Around the nights of 2026 in which clocks change, and anywhere else.
fn instant() -> impl Strategy<Value = Timestamp> {
    let changes =
        select(vec![1_774_746_000_i64, 1_792_890_000, 1_772_953_200, 1_793_512_800, 1_775_314_800, 1_790_956_800]);
    let seconds = prop_oneof![
        3 => (changes, -20_000_i64..20_000).prop_map(|(change, away)| change + away),
        1 => 1_700_000_000_i64..1_900_000_000,
    ];
    seconds.prop_map(|second| Timestamp::from_second(second).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn slots_rise_and_each_is_the_next_of_the_one_before(schedule in schedule(), from in instant()) {
        let slots: Vec<_> = schedule.slots(from, Timestamp::MAX).take(40).collect();
        prop_assert!(slots.first().is_none_or(|slot| *slot > from));
        for pair in slots.windows(2) {
            prop_assert!(pair[0] < pair[1]);
            prop_assert_eq!(schedule.next(pair[0]), Some(pair[1]));
            // The way back finds the same.
            prop_assert_eq!(schedule.previous(pair[1]), Some(pair[1]));
            let before = pair[1].checked_sub(SignedDuration::from_secs(1)).unwrap();
            prop_assert_eq!(schedule.previous(before), Some(pair[0]));
        }
    }

    #[test]
    fn no_two_slots_are_further_apart_than_the_longest_gap(schedule in schedule(), from in instant(), days in 0_i64..200) {
        let longest = schedule.longest_gap(from);
        let later = from.checked_add(SignedDuration::from_hours(24 * days)).unwrap();
        let slots: Vec<_> = schedule.slots(later, later.checked_add(SignedDuration::from_hours(24 * 60)).unwrap()).take(300).collect();
        for pair in slots.windows(2) {
            prop_assert!(pair[1].duration_since(pair[0]) <= longest, "{} to {} of {:?}: {longest}", pair[0], pair[1], schedule);
        }
    }

    #[test]
    fn what_is_stepped_over_changes_no_gap(schedule in schedule(), from in instant()) {
        prop_assert_eq!(schedule.longest_gap(from), schedule.walk(from, None));
    }

    #[test]
    fn a_day_that_has_an_hour_named_has_a_slot_whatever_the_clocks_do(hour in 0_u8..24, zone in zone(), from in instant()) {
        // A second hour, because that is what croner would give up.
        let text = format!("30 {hour},{} * * *", (hour + 7) % 24);
        let schedule = Schedule::parse(&text, zone).unwrap();
        let until = from.checked_add(SignedDuration::from_hours(240)).unwrap();
        let count = schedule.slots(from, until).count();
        prop_assert!((19..=21).contains(&count), "{count}");
    }

    #[test]
    fn what_is_due_is_the_newest_slot_that_has_come_and_is_not_due_again(
        schedule in schedule(), last in instant(), now in instant(), delay in 0_i64..3_600
    ) {
        let delay = SignedDuration::from_secs(delay);
        match due(&schedule, last, delay, now) {
            Due::Now { slot, .. } => {
                prop_assert!(slot + delay <= now);
                prop_assert_eq!(schedule.previous(now - delay), Some(slot));
                let again = due(&schedule, slot, delay, now);
                prop_assert!(!matches!(again, Due::Now { .. }), "{again:?}");
            }
            Due::Not { before } => {
                prop_assert!(before > now);
                // Asked at that very moment, it is due.
                let is_due = matches!(due(&schedule, last, delay, before), Due::Now { slot, .. } if slot + delay == before);
                prop_assert!(is_due);
                // And not a second before.
                let earlier = before - SignedDuration::from_secs(1);
                let is_due_before = matches!(due(&schedule, last, delay, earlier), Due::Now { .. });
                prop_assert!(earlier < now || !is_due_before);
            }
            Due::Never => prop_assert!(false, "these schedules come for ever"),
        }
    }
}
