//! How jobs of one slot are spread.

use jiff::SignedDuration;
use sha2::{Digest, Sha256};

/// How far jobs of one slot are spread: each begins up to this much after it.
///
/// A job's delay follows from its name and is the same each time and on each machine, so that its runs stay as far
/// apart as its slots, and what a schedule loses at worst does not grow by the jitter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    at_most: SignedDuration,
}

impl Jitter {
    /// Delays of less than `at_most`; none, when it is not positive.
    pub fn new(at_most: SignedDuration) -> Self {
        Self { at_most: at_most.max(SignedDuration::ZERO) }
    }

    /// The most that a job may be delayed.
    pub fn at_most(self) -> SignedDuration {
        self.at_most
    }

    /// How long after its slots the job of this name begins, in whole seconds.
    pub fn delay(self, job: &str) -> SignedDuration {
        let seconds = self.at_most.as_secs();
        if seconds == 0 {
            return SignedDuration::ZERO;
        }
        let hash = Sha256::digest(job.as_bytes());
        let number = hash.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        SignedDuration::from_secs((number % seconds.unsigned_abs()).try_into().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_delay_is_its_own_and_the_same_each_time() {
        let jitter = Jitter::new(SignedDuration::from_mins(30));
        // By `printf app-db | sha256sum`, whose first eight bytes are taken modulo 1800.
        assert_eq!(jitter.delay("app-db").as_secs(), 772);
        assert_eq!(jitter.delay("app-db"), jitter.delay("app-db"));
        assert_ne!(jitter.delay("app-db"), jitter.delay("uploads"));
    }

    #[test]
    fn a_thousand_jobs_are_spread_over_the_whole_time() {
        let jitter = Jitter::new(SignedDuration::from_mins(10));
        let mut minutes = [0_u32; 10];
        for job in 0..1000 {
            let delay = jitter.delay(&format!("job-{job}"));
            minutes[usize::try_from(delay.as_mins()).unwrap()] += 1;
        }
        assert!(minutes.iter().all(|jobs| (50..150).contains(jobs)), "{minutes:?}");
    }

    #[test]
    fn without_jitter_there_is_no_delay() {
        for none in [SignedDuration::ZERO, SignedDuration::from_secs(-5), SignedDuration::from_millis(900)] {
            assert_eq!(Jitter::new(none).delay("app"), SignedDuration::ZERO);
        }
    }
}
