//! Until when objects cannot be removed, read back one by one, and prolonged: what is the same for every provider.
//!
//! Retention counts from each upload. What a snapshot of today needs may have been uploaded long ago, so its time runs
//! out while it is needed: whoever owns the bucket prolongs it now and then. A time is only ever moved to a later one,
//! so a crash, or a second run beside the first, leaves some prolonged and some not, and the next run does the rest.
//! The providers' own part, which is [`Keeps`], is `retention.rs` beside each of them.

use async_trait::async_trait;
use backup_core::contracts::{ObjectKey, SinkError, SinkErrorKind};
use backup_core::model::Id;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};

use super::past::OBJECTS_MAX;

/// The mode in which nobody can remove an object, whatever they may.
pub const COMPLIANCE: &str = "COMPLIANCE";

/// The mode in which nobody can but who may pass over it.
pub(crate) const GOVERNANCE: &str = "GOVERNANCE";

/// Until when the objects of a bucket are kept.
pub struct ObjectRetention(Box<dyn Keeps>);

/// What each provider does by itself.
#[async_trait]
pub(crate) trait Keeps: Send + Sync {
    /// Fails with [`SinkErrorKind::Unsupported`] where the bucket cannot keep its objects from being removed.
    async fn require(&self) -> Result<(), SinkError>;

    /// What the store says of an object.
    async fn look(&self, key: &ObjectKey) -> Result<Seen, SinkError>;

    /// Asks the store to keep what was `found` until the instant.
    async fn prolong(&self, key: &ObjectKey, found: &Seen, until: Timestamp) -> Result<(), SinkError>;
}

/// Until when an object cannot be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// The instant.
    pub until: Timestamp,
    /// `COMPLIANCE`: by nobody; `GOVERNANCE`: but by who may pass over it. Google and Azure say locked and unlocked.
    pub mode: String,
}

/// Whether times are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prolong {
    /// Yes, where they end too early.
    Now,
    /// No: it is only looked.
    DryRun,
}

/// What was found, and done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Objects that were protected for long enough.
    pub enough: u64,
    /// Objects whose time was moved, and read back as it should be.
    pub prolonged: u64,
    /// Objects that are not protected for long enough.
    pub short: Vec<Short>,
    /// Of those that are, how many the store keeps no SHA-256 of: whether they are still what they were is not known.
    pub uncompared: u64,
    /// What protects the others at least: the earliest of their times, and `COMPLIANCE` where all of them have that.
    pub least: Option<Retention>,
}

/// An object that is not protected for long enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short {
    /// The object.
    pub key: ObjectKey,
    /// What protects what has its name.
    pub retention: Option<Retention>,
    /// Why that is not enough.
    pub why: ShortReason,
}

/// Why an object is not protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortReason {
    /// Its time ends too early: with [`Prolong::DryRun`] it would be moved, otherwise the store said that it was, and says
    /// something else when it is asked.
    TooEarly,
    /// Something else was written over it: its size or its hash is another one.
    Replaced,
    /// It was deleted.
    Missing,
}

/// An object that is to be protected, and how it is known for what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name; where the last part is a SHA-256, it is that of its content.
    pub key: ObjectKey,
    /// Its size, where that is known from elsewhere than from the store.
    pub bytes: Option<u64>,
}

/// What a store says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What protects it by itself.
    pub(crate) own: Option<Retention>,
    /// What protects it because the bucket does so with all of its objects, as long as they are young.
    pub(crate) by_bucket: Option<Retention>,
    pub(crate) bytes: Option<u64>,
    /// The SHA-256 of its content in base 64, where the store has verified and kept one.
    pub(crate) sha256: Option<String>,
    /// What the store calls what is there.
    pub(crate) version: Option<String>,
}

impl RetentionReport {
    /// Takes what protects one more object, or what protects others at least.
    pub fn see(&mut self, found: Retention) {
        self.least = Some(match self.least.take() {
            None => found,
            Some(least) => {
                let mode = if least.mode == COMPLIANCE { found.mode } else { least.mode };
                Retention { until: least.until.min(found.until), mode }
            }
        });
    }
}

impl ObjectRetention {
    pub(crate) fn new(keeps: impl Keeps + 'static) -> Self {
        Self(Box::new(keeps))
    }

    /// Sees to it that none of `objects` can be removed before `until`, rounded up to the second, which is what stores keep.
    /// An object's mode stays as it is; one that has none gets the mode that its owner can undo, because the other cannot
    /// be undone by anybody. What was written over one of them is not protected in its place.
    ///
    /// # Errors
    ///
    /// The first that occurs, [`SinkErrorKind::Unsupported`] when the bucket can keep nothing. What was prolonged
    /// before stays so.
    pub async fn ensure(
        &self,
        objects: &[Wanted],
        until: Timestamp,
        prolong: Prolong,
    ) -> Result<RetentionReport, SinkError> {
        self.0.require().await?;
        // No time that a program can be asked for is so far away that it cannot be rounded.
        let until = until.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil)).unwrap_or(until);
        // Boxed, because the compiler cannot tell that the plain ones may move between threads.
        let each: Vec<_> = objects.iter().map(|object| self.ensure_one(object, until, prolong).boxed()).collect();
        let report = RetentionReport::default();
        stream::iter(each)
            .buffered(OBJECTS_MAX)
            .try_fold(report, |mut report, ended| async move {
                match ended {
                    Ended::Enough(found, content) => {
                        report.enough += 1;
                        report.uncompared += u64::from(content == Content::Unknown);
                        report.see(found);
                    }
                    Ended::Prolonged(found, content) => {
                        report.prolonged += 1;
                        report.uncompared += u64::from(content == Content::Unknown);
                        report.see(found);
                    }
                    Ended::Short(short) => report.short.push(short),
                }
                Ok(report)
            })
            .await
    }

    async fn ensure_one(&self, object: &Wanted, until: Timestamp, prolong: Prolong) -> Result<Ended, SinkError> {
        let short = |retention, why| Ok(Ended::Short(Short { key: object.key.clone(), retention, why }));
        let found = match self.0.look(&object.key).await {
            Err(error) if error.kind == SinkErrorKind::NotFound && error.hint.is_none() => {
                return short(None, ShortReason::Missing);
            }
            found => found?,
        };
        let content = found.content(object);
        match found.strongest(until) {
            retention if content == Content::Another => return short(retention, ShortReason::Replaced),
            Some(retention) if retention.until >= until => return Ok(Ended::Enough(retention, content)),
            retention if prolong == Prolong::DryRun => return short(retention, ShortReason::TooEarly),
            _ => {}
        }
        self.0.prolong(&object.key, &found, until).await?;
        let then = self.0.look(&object.key).await?;
        let retention = then.strongest(until);
        if then.version != found.version || then.content(object) == Content::Another {
            return short(retention, ShortReason::Replaced);
        }
        match retention {
            Some(retention) if retention.until >= until => Ok(Ended::Prolonged(retention, content)),
            retention => short(retention, ShortReason::TooEarly),
        }
    }
}

impl std::fmt::Debug for ObjectRetention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ObjectRetention(…)")
    }
}

/// How it ended with one object.
enum Ended {
    Enough(Retention, Content),
    Prolonged(Retention, Content),
    Short(Short),
}

/// Whether what has an object's name is that object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Same,
    Another,
    Unknown,
}

impl Seen {
    /// What protects it until then: rather by what nobody can undo, else what protects it longest.
    fn strongest(&self, until: Timestamp) -> Option<Retention> {
        let rank =
            |found: &&Retention| (found.until >= until, found.until >= until && found.mode == COMPLIANCE, found.until);
        [&self.own, &self.by_bucket].into_iter().flatten().max_by_key(rank).cloned()
    }

    fn content(&self, object: &Wanted) -> Content {
        if object.bytes.is_some() && self.bytes.is_some() && self.bytes != object.bytes {
            return Content::Another;
        }
        match (object.key.name().parse::<Id>(), &self.sha256) {
            // Known by being used: the config, which is the only one without a hash for its name.
            (Err(_), _) => Content::Same,
            (Ok(_), None) => Content::Unknown,
            (Ok(id), Some(sum)) if STANDARD.encode(id.as_bytes()) == *sum => Content::Same,
            _ => Content::Another,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: u8) -> Timestamp {
        format!("2026-01-{day:02}T00:00:00Z").parse().unwrap()
    }

    #[test]
    fn of_two_that_last_long_enough_the_one_counts_that_nobody_can_undo_and_else_the_longer() {
        let until = |day, mode: &str| Some(Retention { until: at(day), mode: mode.to_owned() });
        let (own, by_bucket) = (until(20, GOVERNANCE), until(10, COMPLIANCE));
        let both = Seen { own, by_bucket, bytes: None, sha256: None, version: None };
        for (wanted, day, mode) in
            [(5, 10, COMPLIANCE), (10, 10, COMPLIANCE), (15, 20, GOVERNANCE), (25, 20, GOVERNANCE)]
        {
            assert_eq!(both.strongest(at(wanted)), until(day, mode), "until day {wanted}");
        }
        assert_eq!(Seen { own: None, by_bucket: None, ..both }.strongest(at(1)), None);
    }
}
