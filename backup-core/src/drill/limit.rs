//! A drill that has only so much time.
//!
//! What is always true: it is asked to stop as anybody would ask it, so that it removes its sandbox on the way, and its
//! verdict says that the time was over. What it had found wrong by then stays found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::outcome::{DrillOutcome, Verdict};
use crate::cancel::Cancel;

/// Runs a drill that may take `limit`. `work` gets what it has to look at in place of `cancel`.
pub fn within(limit: Duration, cancel: &Cancel, work: impl FnOnce(&Cancel) -> DrillOutcome) -> DrillOutcome {
    let inner = cancel.child();
    let is_late = AtomicBool::new(false);
    let outcome = std::thread::scope(|scope| {
        let (done, waiting) = channel::<()>();
        let (late, asked) = (&is_late, &inner);
        scope.spawn(move || {
            // It ends when the drill does, which lets go of the other end.
            if waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                late.store(true, Ordering::Release);
                asked.request();
            }
        });
        let outcome = work(&inner);
        drop(done);
        outcome
    });
    match outcome.verdict {
        Verdict::NotRun { .. } if is_late.load(Ordering::Acquire) && !cancel.requested() => {
            let reason = format!("time: it was not done within its limit of {} s", limit.as_secs());
            DrillOutcome { verdict: Verdict::NotRun { reason }, ..outcome }
        }
        _ => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A drill that goes on until it is asked to stop, for a minute at most.
    fn slow(cancel: &Cancel) -> DrillOutcome {
        for _ in 0..6_000 {
            if cancel.requested() {
                return DrillOutcome::ended_early(Verdict::NotRun { reason: "stopped".to_owned() }, Vec::new());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        DrillOutcome::ended_early(Verdict::Passed, Vec::new())
    }

    #[test]
    fn a_drill_that_takes_too_long_is_stopped_and_has_not_run_for_want_of_time() {
        let cancel = Cancel::new();
        let late = within(Duration::from_millis(20), &cancel, slow);
        assert!(late.verdict.reason().is_some_and(|reason| reason.starts_with("time: ")), "{late:?}");
        assert!(!cancel.requested(), "nobody else is stopped");
    }

    #[test]
    fn one_that_ends_in_time_is_what_it_was_and_one_that_was_stopped_says_so() {
        let quick = |_: &Cancel| DrillOutcome::ended_early(Verdict::Passed, Vec::new());
        assert_eq!(within(Duration::from_secs(60), &Cancel::new(), quick).verdict, Verdict::Passed);
        let cancel = Cancel::new();
        cancel.request();
        let stopped = within(Duration::from_secs(60), &cancel, slow);
        assert_eq!(stopped.verdict.reason(), Some("stopped"));
        let broken = |cancel: &Cancel| {
            slow(cancel);
            DrillOutcome::ended_early(Verdict::Failed { reason: "a pack".to_owned() }, Vec::new())
        };
        assert_eq!(within(Duration::from_millis(20), &Cancel::new(), broken).verdict.reason(), Some("a pack"));
    }
}
