//! What makes a dropped future final.

use std::sync::{Arc, Mutex, PoisonError};

/// Stands between a future and the blocking work that it started, which cannot be stopped. A change is made inside
/// [`Gate::pass`] or not at all; once the future is gone no change passes. So a `put` that somebody gave up cannot
/// bring an object back that was deleted since.
#[derive(Clone, Debug, Default)]
pub(super) struct Gate(Arc<Mutex<State>>);

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Open,
    Closed,
}

/// Closes its gate when it is dropped. Waits for a change that is just being made.
pub(super) struct CloseOnDrop(Gate);

impl Gate {
    /// Ties the gate to the life of a future that holds what this returns.
    pub(super) fn close_on_drop(&self) -> CloseOnDrop {
        CloseOnDrop(self.clone())
    }

    /// Makes a change: one call of the system, because a dropping future waits for it. `None` when the gate is closed.
    pub(super) fn pass<T>(&self, change: impl FnOnce() -> T) -> Option<T> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (*state == State::Open).then(change)
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = State::Closed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_a_gate_whose_future_is_gone() {
        let gate = Gate::default();
        let future = gate.close_on_drop();
        assert_eq!(gate.pass(|| 1), Some(1));
        drop(future);
        assert_eq!(gate.pass(|| 1), None);
    }
}
