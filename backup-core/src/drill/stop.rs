//! A drill that is asked to stop while it waits for an engine, which looks at nothing of ours: what runs in the sandbox is
//! ended from beside it, and whoever waits has an answer.
//!
//! What is always true: it happens after the request and never before, so that whoever finds a failure then looks whether
//! there was one, and takes it for the stop. It goes on until the work has ended, because one program may be started just
//! when the others were ended.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::contracts::Stopper;

/// How often it is looked whether a stop was asked for.
const LOOK: Duration = Duration::from_millis(50);

/// Does `work`; `grace` after a stop was asked for and it goes on all the same, what runs in the sandbox is ended.
pub(super) fn stopping<T>(cancel: &Cancel, stopper: Option<Stopper>, grace: Duration, work: impl FnOnce() -> T) -> T {
    let Some(stopper) = stopper else { return work() };
    std::thread::scope(|scope| {
        let (done, waiting) = channel::<()>();
        scope.spawn(move || {
            let mut asked: Option<Instant> = None;
            // It ends when the work does, which lets go of the other end.
            while waiting.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if cancel.requested() && asked.get_or_insert_with(Instant::now).elapsed() >= grace {
                    stopper();
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_an_engine_has_an_answer_once_a_stop_was_asked_for() {
        let cancel = Cancel::new();
        let (end, ended) = channel();
        let stopper: Stopper = Box::new(move || _ = end.send("ended"));
        let asking = cancel.clone();
        let answer = stopping(&cancel, Some(stopper), Duration::ZERO, || {
            asking.request();
            ended.recv_timeout(Duration::from_secs(30))
        });
        assert_eq!(answer, Ok("ended"));
    }

    #[test]
    fn nothing_is_ended_without_a_request_or_within_the_grace() {
        let never = || -> Stopper { Box::new(|| panic!("nobody asked")) };
        let wait = || std::thread::sleep(4 * LOOK);
        stopping(&Cancel::new(), Some(never()), Duration::ZERO, wait);
        let cancel = Cancel::new();
        cancel.request();
        stopping(&cancel, Some(never()), Duration::from_secs(60), wait);
    }
}
