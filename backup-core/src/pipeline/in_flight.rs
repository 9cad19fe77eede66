//! How many packs are under way at once: as few as keep the line busy, found by trying.
//!
//! More packs under way help only where answers are waited for, and each costs the memory of a pack. So it begins with
//! few, and while the work waits for the store it doubles them as long as that makes the line carry clearly more; a
//! doubling that did not is taken back, and tried again later. Only thinks: the instants are given.

use std::time::{Duration, Instant};

/// What it begins with, and never goes below: one is sent while the next one is filled.
const LEAST: usize = 2;
/// A doubling must bring this much to be kept: less is chance.
const GAIN_MIN: f64 = 1.2;
/// After a doubling that brought nothing, so many measurements pass before the next one.
const REST: u32 = 16;

/// The bound on packs under way.
#[derive(Debug)]
pub(super) struct InFlightBound {
    bound: usize,
    most: usize,
    /// Bytes a second with the bound before this one; `None` when nothing was tried.
    before: Option<f64>,
    rest: u32,
    measured: Option<Measured>,
}

/// What was stored since an instant, while the work waited for the store all the time.
#[derive(Debug)]
struct Measured {
    since: Instant,
    bytes: u64,
    packs: usize,
}

impl InFlightBound {
    /// Between the least and `most`.
    pub(super) fn up_to(most: usize) -> Self {
        Self { bound: LEAST.min(most.max(1)), most: most.max(1), before: None, rest: 0, measured: None }
    }

    /// How many may be under way now.
    pub(super) fn get(&self) -> usize {
        self.bound
    }

    /// A pack was sent without waiting: the store is not what is waited for.
    pub(super) fn was_free(&mut self) {
        self.measured = None;
    }

    /// A pack was stored, and somebody waited for it.
    pub(super) fn stored(&mut self, bytes: u64, now: Instant) {
        let Some(measured) = &mut self.measured else {
            self.measured = Some(Measured { since: now, bytes: 0, packs: 0 });
            return;
        };
        measured.bytes += bytes;
        measured.packs += 1;
        // Twice around, so that each place was used more than once.
        if measured.packs < 2 * self.bound {
            return;
        }
        let seconds = now.saturating_duration_since(measured.since).max(Duration::from_micros(1)).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = measured.bytes as f64 / seconds;
        self.measured = Some(Measured { since: now, bytes: 0, packs: 0 });
        self.decide(rate);
    }

    fn decide(&mut self, rate: f64) {
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        match self.before {
            Some(before) if rate < before * GAIN_MIN => {
                self.bound = (self.bound / 2).max(LEAST.min(self.most));
                self.before = None;
                self.rest = REST;
            }
            _ if self.bound < self.most => {
                self.before = Some(rate);
                self.bound = (self.bound * 2).min(self.most);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: u64 = 16_000_000;

    /// Stores packs over a line that carries `per_place` bytes a second for each pack under way, and `line` at most.
    fn run(bound: &mut InFlightBound, packs: usize, per_place: f64, line: f64) {
        let mut now = Instant::now();
        for _ in 0..packs {
            #[expect(clippy::cast_precision_loss, reason = "a handful")]
            let rate = (bound.get() as f64 * per_place).min(line);
            now += Duration::from_secs_f64(16e6 / rate);
            bound.stored(PACK, now);
        }
    }

    #[test]
    fn a_line_that_takes_more_gets_more() {
        let mut bound = InFlightBound::up_to(8);
        assert_eq!(bound.get(), 2);
        run(&mut bound, 60, 10e6, 1e9);
        assert_eq!(bound.get(), 8);
    }

    #[test]
    fn a_full_line_is_not_filled_further() {
        let mut bound = InFlightBound::up_to(8);
        run(&mut bound, 200, 10e6, 12e6);
        assert_eq!(bound.get(), 2);
        let mut bound = InFlightBound::up_to(16);
        run(&mut bound, 100, 10e6, 45e6);
        assert!((4..=8).contains(&bound.get()), "{}", bound.get());
    }

    #[test]
    fn what_never_waits_stays_with_the_least() {
        let mut bound = InFlightBound::up_to(8);
        for _ in 0..100 {
            bound.was_free();
            bound.stored(PACK, Instant::now());
        }
        assert_eq!(bound.get(), 2);
    }

    #[test]
    fn the_most_is_never_exceeded() {
        for most in [0, 1, 2, 3, 5] {
            let mut bound = InFlightBound::up_to(most);
            run(&mut bound, 100, 10e6, 1e9);
            assert_eq!(bound.get(), most.max(1));
        }
    }
}
