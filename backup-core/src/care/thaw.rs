//! Waits until packs can be read that lie in a store's archive.
//!
//! What is always true: only what is in the archive is asked for, and once; what was asked for comes out whether or not
//! anybody goes on waiting, so a run that was stopped, or gave up, is simply repeated. Nothing in the repository changes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream;

use crate::cancel::Cancel;
use crate::contracts::{Archive, ObjectKey, Readiness, SinkError, SinkErrorKind, ThawRequest};
use crate::limits::{THAW_LOOKS_MAX, THAW_SILENCE_MAX};
use crate::model::PackId;
use crate::observe::{Amount, Event, Observer, Phase};
use crate::repository::Repository;
use crate::repository::layout::Named as _;
use crate::{Error, ErrorKind, Result};

/// How packs are thawed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThawOptions {
    /// How they are asked for.
    pub request: ThawRequest,
    /// How long is waited at most.
    pub limit: Duration,
    /// Nothing is asked for, and nobody waits: the outcome says how it stands.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThawOutcome {
    /// Packs that could be read at once.
    pub ready: u64,
    /// Packs that somebody had asked for before.
    pub thawing: u64,
    /// Packs that were asked for; in a dry run, those that would be.
    pub frozen: Vec<ObjectKey>,
}

/// Asks for those of `packs` that lie in the archive, and waits until all of them can be read.
///
/// # Errors
///
/// [`SinkErrorKind::Frozen`] when the time is over; what was asked for comes out all the same. Else what the store says
/// to a request: that it does not answer is borne for a while ([`THAW_SILENCE_MAX`]).
pub fn thaw(
    repository: &Repository,
    archive: &Arc<dyn Archive>,
    packs: &[PackId],
    options: &ThawOptions,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<ThawOutcome> {
    let began = Instant::now();
    let total = Amount { items: packs.len() as u64, bytes: 0 };
    observer.event(Event::Phase { phase: Phase::Thaw, total: Some(total) });
    let mut outcome = ThawOutcome::default();
    let mut waiting: Vec<Waiting> = packs.iter().map(|pack| Waiting { key: pack.key(), stands: None }).collect();
    let (mut answered, mut is_told) = (Instant::now(), false);
    loop {
        let mut silence = None;
        let mut left = Vec::new();
        for group in waiting.chunks(THAW_LOOKS_MAX) {
            cancel.check()?;
            for (one, answer) in group.iter().zip(look(repository, archive, group, options)?) {
                let now = match answer {
                    // A pack that is not there is not in the archive either; who reads it says so.
                    Err(error) if error.kind == SinkErrorKind::NotFound => Readiness::Ready,
                    Err(error) if error.kind == SinkErrorKind::Unavailable => {
                        silence = Some(error);
                        left.push(one.clone());
                        continue;
                    }
                    answer => answer?,
                };
                answered = Instant::now();
                if one.stands.is_none() {
                    match now {
                        Readiness::Ready => outcome.ready += 1,
                        Readiness::Thawing => outcome.thawing += 1,
                        Readiness::Frozen => outcome.frozen.push(one.key.clone()),
                    }
                }
                match now {
                    Readiness::Ready => observer.event(Event::Progress(Amount { items: 1, bytes: 0 })),
                    now => left.push(Waiting { key: one.key.clone(), stands: Some(now) }),
                }
            }
        }
        waiting = left;
        if let Some(silence) = silence.filter(|_| answered.elapsed() > THAW_SILENCE_MAX || options.dry_run) {
            return Err(silence.into());
        }
        if waiting.is_empty() || options.dry_run {
            return Ok(outcome);
        }
        if !is_told {
            is_told = true;
            let (count, of) = (waiting.len(), packs.len());
            observer
                .event(Event::Notice(&format!("{count} of {of} packs are asked for from the archive, and waited for")));
        }
        let left = options.limit.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Err(too_late(&waiting, packs.len(), options.limit));
        }
        pause(pause_after(began.elapsed()).min(left), cancel)?;
    }
}

/// A pack that cannot be read yet.
#[derive(Clone)]
struct Waiting {
    key: ObjectKey,
    /// How it stood with it when the store was last asked; `None` before the first answer.
    stands: Option<Readiness>,
}

/// Asks how it stands with some packs at once, and for those of which nobody knows it yet that they be brought out.
fn look(
    repository: &Repository,
    archive: &Arc<dyn Archive>,
    group: &[Waiting],
    options: &ThawOptions,
) -> Result<Vec<Result<Readiness, SinkError>>> {
    let (archive, group, options) = (Arc::clone(archive), group.to_vec(), *options);
    let looks = async move {
        let each = group.iter().map(|one| match one.stands {
            None if !options.dry_run => archive.thaw(&one.key, options.request),
            _ => archive.readiness(&one.key),
        });
        let each: Vec<_> = each.collect();
        Ok::<_, SinkError>(stream::iter(each).buffered(THAW_LOOKS_MAX).collect::<Vec<_>>().await)
    };
    repository.store().start(looks).wait()
}

/// Soon at first, since some archives take a minute, and seldom when it takes hours.
fn pause_after(elapsed: Duration) -> Duration {
    (elapsed / 10).clamp(Duration::from_secs(1), Duration::from_secs(5 * 60))
}

fn pause(time: Duration, cancel: &Cancel) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        cancel.check()?;
        std::thread::sleep(Duration::from_millis(100).min(end.saturating_duration_since(Instant::now())));
    }
    cancel.check()
}

fn too_late(waiting: &[Waiting], total: usize, limit: Duration) -> Error {
    let first = waiting.first().map(|one| one.key.to_string()).unwrap_or_default();
    let subject = format!("{} of {total} packs after {} s, the first of them {first}", waiting.len(), limit.as_secs());
    Error::new(ErrorKind::Sink(SinkErrorKind::Frozen), subject)
        .with_hint("they come out all the same: run it again later, or wait longer with --thaw-limit")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use crate::clock::SystemClock;
    use crate::contracts::{SinkFuture, ThawSpeed};
    use crate::model::Id;
    use crate::observe::Silent;
    use crate::repository::{CreateOptions, Identity, Passphrase, ScryptCost};
    use crate::testing::MemorySink;

    /// An archive in which what was asked for is ready when it is looked at for the third time.
    #[derive(Debug, Default)]
    struct Slow {
        looks: Mutex<HashMap<ObjectKey, u32>>,
        asked: Mutex<Vec<ObjectKey>>,
        ready: Option<ObjectKey>,
        failures: Mutex<Vec<SinkErrorKind>>,
    }

    impl Archive for Slow {
        fn readiness<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, Readiness> {
            Box::pin(async move {
                if let Some(kind) = self.failures.lock().unwrap().pop() {
                    return Err(SinkError::new(kind, "x"));
                }
                if self.ready.as_ref() == Some(key) {
                    return Ok(Readiness::Ready);
                }
                if !self.asked.lock().unwrap().contains(key) {
                    return Ok(Readiness::Frozen);
                }
                let mut looks = self.looks.lock().unwrap();
                let looks = looks.entry(key.clone()).or_default();
                *looks += 1;
                Ok(if *looks >= 2 { Readiness::Ready } else { Readiness::Thawing })
            })
        }

        fn thaw<'a>(&'a self, key: &'a ObjectKey, request: ThawRequest) -> SinkFuture<'a, Readiness> {
            assert_eq!(request.days, 3);
            Box::pin(async move {
                let stood = self.readiness(key).await?;
                if stood == Readiness::Frozen {
                    self.asked.lock().unwrap().push(key.clone());
                }
                Ok(stood)
            })
        }
    }

    fn repository() -> Repository {
        let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
        let identity = Identity { hostname: "h".into(), username: "u".into(), uid: 0, gid: 0, pid: 1 };
        let (sink, clock) = (Arc::new(MemorySink::new()), Arc::new(SystemClock));
        Repository::create(sink, &Passphrase::new("x"), &options, identity, clock).unwrap()
    }

    fn packs() -> [PackId; 3] {
        [b"a", b"b", b"c"].map(|text| PackId::from(Id::of(text)))
    }

    fn options(limit_seconds: u64) -> ThawOptions {
        let request = ThawRequest { days: 3, speed: ThawSpeed::Standard };
        ThawOptions { request, limit: Duration::from_secs(limit_seconds), dry_run: false }
    }

    fn run(slow: &Arc<Slow>, options: &ThawOptions) -> Result<ThawOutcome> {
        let archive: Arc<dyn Archive> = slow.clone();
        thaw(&repository(), &archive, &packs(), options, &Cancel::new(), &Silent)
    }

    #[test]
    fn what_is_frozen_is_asked_for_once_and_waited_for() {
        let slow = Arc::new(Slow { ready: Some(packs()[1].key()), ..Slow::default() });
        let outcome = run(&slow, &options(60)).unwrap();
        assert_eq!((outcome.ready, outcome.thawing, outcome.frozen.len()), (1, 0, 2));
        assert_eq!(*slow.asked.lock().unwrap(), [packs()[0].key(), packs()[2].key()]);
    }

    #[test]
    fn a_dry_run_asks_for_nothing() {
        let slow = Arc::new(Slow::default());
        let outcome = run(&slow, &ThawOptions { dry_run: true, ..options(60) }).unwrap();
        assert_eq!(outcome.frozen.len(), 3);
        assert!(slow.asked.lock().unwrap().is_empty());
    }

    #[test]
    fn when_the_time_is_over_it_says_what_still_lies_there_and_that_it_comes_all_the_same() {
        let slow = Arc::new(Slow::default());
        let error = run(&slow, &options(0)).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Sink(SinkErrorKind::Frozen));
        assert!(error.subject().contains("3 of 3 packs") && error.subject().contains("data/"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("run it again")));
        assert_eq!(slow.asked.lock().unwrap().len(), 3);
    }

    #[test]
    fn a_store_that_is_silent_for_a_moment_is_asked_again_and_one_that_refuses_is_not() {
        let slow = Arc::new(Slow { failures: vec![SinkErrorKind::Unavailable].into(), ..Slow::default() });
        assert_eq!(run(&slow, &options(60)).unwrap().frozen.len(), 3);
        let slow = Arc::new(Slow { failures: vec![SinkErrorKind::PermissionDenied].into(), ..Slow::default() });
        let error = run(&slow, &options(60)).unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Sink(SinkErrorKind::PermissionDenied));
    }

    #[test]
    fn pauses_are_short_at_first_and_minutes_after_hours() {
        assert_eq!(pause_after(Duration::ZERO).as_secs(), 1);
        assert_eq!(pause_after(Duration::from_secs(600)).as_secs(), 60);
        assert_eq!(pause_after(Duration::from_secs(40_000)).as_secs(), 300);
    }
}
