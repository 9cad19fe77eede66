//! Instants as Go writes them: RFC 3339 with as many digits of nanoseconds as needed, in UTC.

use jiff::Timestamp;

/// Go writes years 0 to 9999 only; restic clamps what is outside, and so do we.
const FIRST_SECOND: i64 = -62_167_219_200;
const LAST_SECOND: i64 = 253_402_300_799;

/// The text of an instant: `2006-01-02T15:04:05.123456789Z`, trailing zeros of the fraction dropped.
pub fn format_timestamp(time: Timestamp) -> String {
    let mut out = Vec::with_capacity(30);
    push_timestamp(&mut out, time);
    String::from_utf8(out).unwrap_or_default()
}

/// Appends the text of an instant. A backup of a million files formats three million of these, so it is written by
/// hand: days to a civil date by the arithmetic of Howard Hinnant's `civil_from_days`.
pub(super) fn push_timestamp(out: &mut Vec<u8>, time: Timestamp) {
    let nanoseconds_total = time.as_nanosecond();
    let second = i64::try_from(nanoseconds_total.div_euclid(1_000_000_000)).unwrap_or_default();
    let nanosecond = u32::try_from(nanoseconds_total.rem_euclid(1_000_000_000)).unwrap_or_default();
    let second = second.clamp(FIRST_SECOND, LAST_SECOND);

    let days = second.div_euclid(86_400);
    let second_of_day = second.rem_euclid(86_400);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);

    push_digits(out, year, 4);
    out.push(b'-');
    push_digits(out, month, 2);
    out.push(b'-');
    push_digits(out, day, 2);
    out.push(b'T');
    push_digits(out, second_of_day / 3_600, 2);
    out.push(b':');
    push_digits(out, second_of_day / 60 % 60, 2);
    out.push(b':');
    push_digits(out, second_of_day % 60, 2);
    if nanosecond != 0 {
        out.push(b'.');
        push_digits(out, i64::from(nanosecond), 9);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'Z');
}

fn push_digits(out: &mut Vec<u8>, mut value: i64, count: usize) {
    let start = out.len();
    out.resize(start + count, b'0');
    for place in out[start..].iter_mut().rev() {
        // A remainder by ten is a digit.
        *place = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn instants_are_spelled_as_go_spells_them() {
        for (text, seconds, nanoseconds) in [
            ("1970-01-01T00:00:00Z", 0, 0),
            ("2024-02-29T23:59:59.1Z", 1_709_251_199, 100_000_000),
            ("1969-12-31T23:59:59.999999999Z", -1, 999_999_999),
            ("0000-01-01T00:00:00Z", FIRST_SECOND - 100_000, 0),
            ("9999-12-30T22:00:00Z", 253_402_207_200, 0),
        ] {
            let time = Timestamp::from_nanosecond(i128::from(seconds) * 1_000_000_000 + nanoseconds).unwrap();
            assert_eq!(format_timestamp(time), text);
        }
    }

    proptest! {
        #[test]
        fn every_instant_reads_back(seconds in FIRST_SECOND..253_402_207_200, nanoseconds in 0..1_000_000_000_i128) {
            let time = Timestamp::from_nanosecond(i128::from(seconds) * 1_000_000_000 + nanoseconds).unwrap();
            prop_assert_eq!(format_timestamp(time).parse::<Timestamp>().unwrap(), time);
        }
    }
}
