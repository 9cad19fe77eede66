//! The words of retention: spans, counts, tag sets, holds, groups, and whole tables of rules.

#![no_main]

use backup_core::retention::{Count, GroupBy, Hold, Rules, Span, TagSet};
use backup_fuzz::{bounded, of_json};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| bounded(of_json(bytes), || {
    if let Ok(rules) = serde_json::from_slice::<Rules>(bytes) {
        let text = serde_json::to_vec(&rules).expect("what was read can be written");
        assert_eq!(serde_json::from_slice::<Rules>(&text).expect("what was written reads"), rules);
        let _ = rules.is_empty();
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(span) = text.parse::<Span>() {
        assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        for instant in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
            assert!(span.before(instant, &TimeZone::UTC) <= instant);
        }
    }
    if let Ok(count) = text.parse::<Count>() {
        assert_eq!(count.to_string().parse::<Count>(), Ok(count));
    }
    if let Ok(set) = text.parse::<TagSet>() {
        let _ = set.matches(&[text.to_owned()]);
    }
    if let Ok(group_by) = text.parse::<GroupBy>() {
        let _ = format!("{group_by:?}");
    }
    let tags: Vec<String> = text.split('\n').map(str::to_owned).collect();
    if let Some(hold) = Hold::of(&tags) {
        assert_eq!(Hold::of(&hold.placed_on(&tags)), Some(hold));
        let _ = hold.holds_at(Timestamp::UNIX_EPOCH);
    }
    assert_eq!(Hold::of(&Hold::released_from(&tags)), None);
}));
