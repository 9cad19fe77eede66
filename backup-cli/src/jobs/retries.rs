//! When a run that failed is tried again.

use std::time::Duration;

use crate::config::Retries;

/// How long to wait before the next attempt; `None` when there is none. `attempts` were made, the first of them `since`
/// ago. Each wait is twice the one before, and none begins an attempt after the window.
pub(super) fn next(retries: Retries, attempts: u32, since: Duration) -> Option<Duration> {
    if attempts >= retries.attempts {
        return None;
    }
    let first = Duration::try_from(retries.wait).ok()?;
    let wait = first.checked_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX))?;
    let window = Duration::try_from(retries.window).ok()?;
    (since.checked_add(wait)? <= window).then_some(wait)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn waits_double_and_end_with_the_count_or_the_window() {
        let retries =
            Retries { attempts: 4, wait: SignedDuration::from_secs(60), window: SignedDuration::from_secs(600) };
        let seconds = |attempts, since| next(retries, attempts, Duration::from_secs(since)).map(|wait| wait.as_secs());
        assert_eq!(seconds(1, 0), Some(60));
        assert_eq!(seconds(2, 70), Some(120));
        assert_eq!(seconds(3, 200), Some(240));
        assert_eq!(seconds(4, 460), None);
        assert_eq!(seconds(1, 541), None);
        let once = Retries { attempts: 1, ..retries };
        assert_eq!(next(once, 1, Duration::ZERO), None);
        let many = Retries { attempts: 100, ..retries };
        assert_eq!(next(many, 99, Duration::ZERO), None, "a wait that has grown beyond all bounds");
    }
}
