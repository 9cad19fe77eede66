//! Configurations that nobody would write: mutilated ones, and ones with values that fit nowhere. Each is read, or
//! refused with faults that name a line of it; none is a reason to panic, to hang or to take memory without bound.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::Config;
use super::tests::WHOLE;

/// What is put into the example, in the place of something.
fn foreign() -> impl Strategy<Value = String> {
    let values = [
        "",
        "0",
        "-1",
        "1e309",
        "nan",
        "99999999999999999999",
        "\"\"",
        "\"\u{0}\"",
        "\"/\"",
        "\"..\"",
        "\"${}\"",
        "\"${BUCKET\"",
        "\"9999999999999d\"",
        "\"0 0 30 2 *\"",
        "\"* * * * * *\"",
        "\"postgres://:@/\"",
        "\"s3://\"",
        "[]",
        "{}",
        "[[]]",
        "true",
        "1979-05-27T07:32:00Z",
        "\n[jobs.x]\n",
        "\n[[notify]]\n",
        "\n[repositories.local]\n",
        "\"\"\"",
        "'''",
        "#",
        "=",
        ".",
        "\u{feff}",
        "é\u{301}",
    ];
    let deep = (1..300_usize).prop_map(|depth| "[".repeat(depth));
    let long = (1..20_000_usize).prop_map(|length| format!("\"{}\"", "x".repeat(length)));
    prop_oneof![
        6 => select(values.to_vec()).prop_map(str::to_owned),
        // A part of the example, where it does not belong.
        4 => (any::<prop::sample::Index>(), 1..80_usize).prop_map(|(at, length)| part(WHOLE, at.index(WHOLE.len()), length).2.to_owned()),
        2 => ".{0,20}",
        1 => deep,
        1 => long,
    ]
}

/// What lies before a stretch of `text`, behind it, and in it.
fn part(text: &str, at: usize, length: usize) -> (&str, &str, &str) {
    let boundary = |mut place: usize| {
        place = place.min(text.len());
        while !text.is_char_boundary(place) {
            place -= 1;
        }
        place
    };
    let (start, end) = (boundary(at), boundary(at + length));
    (&text[..start], &text[end..], &text[start..end])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_is_read_or_refused(
        changes in vec((any::<prop::sample::Index>(), 0..40_usize, foreign()), 1..5),
    ) {
        let mut text = WHOLE.to_owned();
        for (at, length, foreign) in changes {
            let (before, behind, _) = part(&text, at.index(text.len() + 1), length);
            text = format!("{before}{foreign}{behind}");
        }
        let variables = |name: &str| (name == "BUCKET").then(|| "acme".to_owned());
        if let Err(wrong) = Config::read(Path::new("backup.toml"), &text, &variables) {
            prop_assert!(!wrong.faults.is_empty(), "it was refused without a reason");
            let lines = text.lines().count() + 1;
            for fault in &wrong.faults {
                prop_assert!((1..=lines).contains(&fault.line), "{fault:?} names a line that is not there");
            }
        }
    }
}
