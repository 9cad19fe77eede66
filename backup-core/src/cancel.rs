//! A request to stop, shared by everyone who works on one thing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{Error, ErrorKind, Result};

/// Asks a running verb to stop at its next safe point. Clones ask and are asked together.
///
/// A verb that was asked to stop returns [`ErrorKind::Cancelled`]. What it has written so far stays valid: packs and
/// indexes remain for the next run, and nothing refers to what is missing.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>, Option<Arc<Cancel>>);

impl Cancel {
    /// A token that nobody has asked anything of yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is asked whenever this one is, and can be asked alone: what has only so much time inside of what has not.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Arc::default(), Some(Arc::new(self.clone())))
    }

    /// Asks to stop. Cannot be taken back.
    pub fn request(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether a stop was asked for.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Acquire) || self.1.as_ref().is_some_and(|parent| parent.requested())
    }

    /// `Err` of kind [`ErrorKind::Cancelled`] once a stop was asked for: the line to write at every safe point.
    pub fn check(&self) -> Result<()> {
        if self.requested() { Err(Error::new(ErrorKind::Cancelled, "run")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_asked_with_its_parent_and_never_asks_it() {
        let parent = Cancel::new();
        let (one, other) = (parent.child(), parent.child());
        one.request();
        assert_eq!((parent.requested(), one.requested(), other.requested()), (false, true, false));
        parent.request();
        assert!(other.child().requested() && other.check().is_err());
    }
}
