//! Durations as people say them.

use jiff::SignedDuration;

/// The two largest units that matter: `45 s`, `12 min`, `26 h`, `3 d 4 h`, `40 d`. A day is 24 hours; what is negative is
/// nothing.
pub fn in_words(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let with = |large: i64, name: &str, rest: i64, unit: &str| match rest {
        0 => format!("{large} {name}"),
        rest => format!("{large} {name} {rest} {unit}"),
    };
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5_400 => format!("{minutes} min"),
        5_400..172_800 => with(hours, "h", if hours < 10 { minutes % 60 } else { 0 }, "min"),
        172_800..864_000 => with(days, "d", hours % 24, "h"),
        _ => format!("{days} d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_people_say_them() {
        for (seconds, words) in [
            (-5, "0 s"),
            (0, "0 s"),
            (89, "89 s"),
            (90, "1 min"),
            (5_399, "89 min"),
            (5_400, "1 h 30 min"),
            (93_600, "26 h"),
            (172_800, "2 d"),
            (273_600, "3 d 4 h"),
            (864_000, "10 d"),
            (3_456_000, "40 d"),
        ] {
            assert_eq!(in_words(SignedDuration::from_secs(seconds)), words, "{seconds}");
        }
    }
}
