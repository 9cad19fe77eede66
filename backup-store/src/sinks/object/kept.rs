//! Credentials that somebody hands out for a while.
//!
//! They are asked for when they are needed, kept, and asked for again some minutes before they expire. Once they were
//! given, a failure to give them counts as one that may pass. It holds nothing that a crash could lose.
//! The providers use it that have such credentials: S3 and Google.

use std::sync::Arc;

use backup_core::clock::{Clock as _, SystemClock};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::http::Failure;

/// So long before they expire they are asked for again (what Amazon's own programs do).
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// The credentials that were handed out last.
pub(crate) struct Kept<C>(Mutex<Option<Given<C>>>);

/// What was handed out.
pub(crate) struct Given<C> {
    credential: Arc<C>,
    expires: Option<Timestamp>,
}

impl<C> Given<C> {
    pub(crate) fn new(credential: C, expires: Option<Timestamp>) -> Self {
        Self { credential: Arc::new(credential), expires }
    }
}

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> Kept<C> {
    /// Those that are kept while they last, else what `asked` brings. One asks at a time.
    pub(crate) async fn or_asked(
        &self,
        store: &'static str,
        asked: impl Future<Output = Result<Given<C>, Failure>>,
    ) -> object_store::Result<Arc<C>> {
        let mut kept = self.0.lock().await;
        let is_fresh = |given: &&Given<C>| {
            given.expires.is_none_or(|expires| SystemClock.now().duration_until(expires) > RENEWED_BEFORE)
        };
        if let Some(given) = kept.as_ref().filter(is_fresh) {
            return Ok(Arc::clone(&given.credential));
        }
        match asked.await {
            Ok(given) => Ok(Arc::clone(&kept.insert(given).credential)),
            Err(failure) => {
                let failure = match failure {
                    // Who has given them once will again.
                    Failure::NotHandedOut { origin, why } if kept.is_some() => {
                        Failure::Unreachable { host: origin, why }
                    }
                    failure => failure,
                };
                Err(object_store::Error::Generic { store, source: Box::new(failure) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn they_are_asked_for_again_before_they_expire_and_a_failure_then_may_pass() {
        let kept = Kept::<u32>::default();
        let given = |number, minutes| async move {
            Ok(Given::new(number, Some(SystemClock.now() + SignedDuration::from_mins(minutes))))
        };
        let refused = || async { Err(Failure::NotHandedOut { origin: "agent".into(), why: "busy".into() }) };
        let told = |error: object_store::Error| format!("{error:?}");
        assert!(told(kept.or_asked("S3", refused()).await.unwrap_err()).contains("NotHandedOut"));
        assert_eq!(*kept.or_asked("S3", given(1, 4)).await.unwrap(), 1, "who gives little is asked again soon");
        assert_eq!(*kept.or_asked("S3", given(2, 4)).await.unwrap(), 2);
        assert!(told(kept.or_asked("S3", refused()).await.unwrap_err()).contains("Unreachable"));
        assert_eq!(*kept.or_asked("S3", given(3, 60)).await.unwrap(), 3);
        assert_eq!(*kept.or_asked("S3", refused()).await.unwrap(), 3, "they last");
    }
}
