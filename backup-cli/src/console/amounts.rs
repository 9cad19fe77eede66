//! Sizes, times and counts as people read and write them.

use bytesize::ByteSize;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A size: `1.2 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().iec().to_string()
}

/// A size that may not be known.
pub(crate) fn size_or_dash(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), size)
}

/// A count with separators: `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun in the right number: `1 file`, `2 files`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

/// A length of time: `0.8 s`, `3 min 12 s`, `2 d 4 h`.
pub(crate) fn span(seconds: f64) -> String {
    if seconds < 10.0 { format!("{:.1} s", seconds.max(0.0)) } else { whole_span(seconds) }
}

/// A length of time without fractions, for what is drawn again and again.
pub(crate) fn whole_span(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; huge ones saturate")]
    let whole = seconds.round() as u64;
    let parts = [(whole / 86_400, "d"), (whole / 3_600 % 24, "h"), (whole / 60 % 60, "min"), (whole % 60, "s")];
    let first = parts.iter().position(|(number, _)| *number > 0).unwrap_or(3);
    let told = parts[first..].iter().take(2).enumerate().filter(|(at, (number, _))| *at == 0 || *number > 0);
    told.map(|(_, (number, unit))| format!("{number} {unit}")).collect::<Vec<_>>().join(" ")
}

/// Bytes in a time as a rate: `210 MiB/s`; `-` when the time is too short to say.
pub(crate) fn rate(bytes: u64, seconds: f64) -> String {
    if seconds < 0.001 {
        return "-".to_owned();
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rate for people needs three digits"
    )]
    let per_second = (bytes as f64 / seconds) as u64;
    format!("{}/s", size(per_second))
}

/// A part of a whole in percent.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a percentage for people needs three digits")]
    let percent = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    percent
}

/// An instant in local time, to the second.
pub(crate) fn local_time(instant: Timestamp) -> String {
    instant.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A size as people write it: `100`, `100k`, `10M`, `2GiB`. The letters stand for powers of 1024, as in restic.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size: write 100, 100k, 10M, 2G or 1T");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let exponent = ["", "k", "m", "g", "t"].iter().position(|known| *known == unit).ok_or_else(wrong)?;
    u32::try_from(exponent).ok().and_then(|exponent| number.checked_mul(1024_u64.pow(exponent))).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_told_as_people_tell_them() {
        assert_eq!((size(0), size(1_288_490_189)), ("0 B".into(), "1.2 GiB".into()));
        assert_eq!([count(0), count(999), count(1_000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([counted(1, "file"), counted(2, "file")], ["1 file", "2 files"]);
        for (seconds, text) in [(0.84, "0.8 s"), (59.6, "1 min"), (192.0, "3 min 12 s"), (187_200.0, "2 d 4 h")] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!([whole_span(0.2), whole_span(3.4), whole_span(7_200.0)], ["0 s", "3 s", "2 h"]);
        assert_eq!(rate(10 * 1024 * 1024, 2.0), "5.0 MiB/s");
        assert_eq!(rate(1, 0.0), "-");
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("0", 0), ("100", 100), ("1k", 1024), ("10M", 10 << 20), ("2GiB", 2 << 30), ("1 TB", 1 << 40), ("3b", 3)]
        {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "M", "-1", "1.5G", "1X", "99999999999999T"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
