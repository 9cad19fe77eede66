//! Lengths of time as a configuration writes them: `26h`, `30d`, `90s`, `15min`.
//!
//! A bare `m` is refused: in the rules of retention it means months (restic's spelling), elsewhere people mean minutes,
//! and a mistake between the two is not seen until it hurts.

use jiff::SignedDuration;

const UNITS: [(&str, i64); 5] = [("s", 1), ("min", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)];

/// Reads one. Several parts may follow each other: `1d12h`.
///
/// # Errors
///
/// What is wrong, for people.
pub(crate) fn parse(text: &str) -> Result<SignedDuration, String> {
    let wrong = |why: &str| format!("{text:?} is no length of time: {why}; write 90s, 15min, 26h, 30d or 2w");
    let mut seconds = 0_i64;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("it is empty"));
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: i64 = rest[..digits].parse().map_err(|_| wrong("a number is missing, or too large"))?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = &rest[..letters];
        rest = rest[letters..].trim_start();
        if unit == "m" {
            return Err(wrong("m means months in retention: minutes are written min"));
        }
        let (_, length) =
            UNITS.iter().find(|(known, _)| *known == unit).ok_or_else(|| wrong("it has no unit, or an unknown one"))?;
        let part = number.checked_mul(*length).ok_or_else(|| wrong("it is too large"))?;
        seconds = seconds.checked_add(part).ok_or_else(|| wrong("it is too large"))?;
    }
    // Longer than any calendar, and small enough that sums of a few never overflow.
    if seconds > 1_000 * 366 * 86_400 {
        return Err(wrong("it is longer than a thousand years"));
    }
    Ok(SignedDuration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("90s", 90),
            ("15min", 900),
            ("26h", 93_600),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
            ("1d12h", 129_600),
            ("0s", 0),
            ("1h 30min", 5_400),
        ] {
            assert_eq!(parse(text), Ok(SignedDuration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "h", "5", "5m", "-5h", "5 h", "5hours", "99999999999999999999s", "9999999999d", "1h-1s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("5m").is_err_and(|what| what.contains("min")));
    }
}
