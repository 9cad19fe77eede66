//! A drill that is asked to stop while it waits for an engine, which looks at nothing of ours: what runs in the sandbox is
//! ended from beside it, and whoever waits has an answer. The same where a dump makes the sandbox take what everybody else on
//! the machine needs: the rest of a disk.
//!
//! What is always true: it happens after the request, or once it was noted what is lacking, and never before, so that whoever
//! finds a failure then looks whether there was one, and takes it for the stop. It goes on until the work has ended, because one program may be started just
//! when the others were ended.

use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::contracts::Stopper;

/// How often it is looked whether a stop was asked for.
const LOOK: Duration = Duration::from_millis(50);

/// Does `work`; `grace` after a stop was asked for and it goes on all the same, what runs in the sandbox is ended. So it is at
/// once when it takes too much: what of, is given with what came of the work.
pub(super) fn stopping<T>(
    cancel: &Cancel,
    stopper: Option<Stopper>,
    grace: Duration,
    work: impl FnOnce() -> T,
) -> (T, Option<String>) {
    let Some(stopper) = stopper else { return (work(), None) };
    let lacking = OnceLock::new();
    let result = std::thread::scope(|scope| {
        let lacking = &lacking;
        let (done, waiting) = channel::<()>();
        scope.spawn(move || {
            let mut asked: Option<Instant> = None;
            // It ends when the work does, which lets go of the other end.
            while waiting.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                if let Some(what) = (stopper.takes_too_much)() {
                    let _ = lacking.set(what);
                }
                let is_asked = cancel.requested() && asked.get_or_insert_with(Instant::now).elapsed() >= grace;
                if is_asked || lacking.get().is_some() {
                    (stopper.end)();
                }
            }
        });
        let result = work();
        drop(done);
        result
    });
    (result, lacking.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_an_engine_has_an_answer_once_a_stop_was_asked_for() {
        let cancel = Cancel::new();
        let (end, ended) = channel();
        let stopper = Stopper { end: Box::new(move || _ = end.send("ended")), takes_too_much: Box::new(|| None) };
        let asking = cancel.clone();
        let answer = stopping(&cancel, Some(stopper), Duration::ZERO, || {
            asking.request();
            ended.recv_timeout(Duration::from_secs(30))
        });
        assert_eq!(answer, (Ok("ended"), None));
    }

    #[test]
    fn what_takes_the_rest_of_a_disk_is_ended_without_being_asked() {
        let (end, ended) = channel();
        let stopper = Stopper {
            end: Box::new(move || _ = end.send("ended")),
            takes_too_much: Box::new(|| Some("3 bytes left".to_owned())),
        };
        let wait = || ended.recv_timeout(Duration::from_secs(30));
        let came = stopping(&Cancel::new(), Some(stopper), Duration::from_secs(60), wait);
        assert_eq!(came, (Ok("ended"), Some("3 bytes left".to_owned())));
    }

    #[test]
    fn nothing_is_ended_without_a_request_or_within_the_grace() {
        let never = || Stopper { end: Box::new(|| panic!("nobody asked")), takes_too_much: Box::new(|| None) };
        let wait = || std::thread::sleep(4 * LOOK);
        stopping(&Cancel::new(), Some(never()), Duration::ZERO, wait);
        let cancel = Cancel::new();
        cancel.request();
        stopping(&cancel, Some(never()), Duration::from_secs(60), wait);
    }
}
