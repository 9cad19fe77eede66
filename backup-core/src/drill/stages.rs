//! What a drill spends its time on, and which of it counts as time to recover.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A part of a drill that is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StageName {
    /// The repository is opened with the passphrase and the snapshot found.
    Open,
    /// What lies in an archive is asked for, and waited for. Only where that was asked for, and needed.
    Thaw,
    /// The repository's index is read.
    Index,
    /// Every pack that the snapshot needs is looked for in the listing. Only drills do that.
    Present,
    /// The sandbox is made and what runs in it is started.
    Provision,
    /// The snapshot is read, opened, hashed and written; a database loads it meanwhile.
    Restore,
    /// The restored data answers its first query.
    Ready,
    /// What was restored is compared with what it was.
    Examine,
    /// The user's questions are asked.
    Ask,
    /// The sandbox is removed. Only drills do that.
    Remove,
}

impl StageName {
    /// Whether whoever needs the data waits for it: it is part of RTO_technical.
    pub fn is_technical(self) -> bool {
        matches!(self, Self::Open | Self::Thaw | Self::Index | Self::Provision | Self::Restore | Self::Ready)
    }

    /// Whether a careful operator would wait for it too: it is part of RTO_verified.
    pub fn is_verified(self) -> bool {
        self.is_technical() || self == Self::Examine
    }

    /// Whether it takes longer for more data.
    pub fn grows(self) -> bool {
        matches!(self, Self::Restore | Self::Ready | Self::Examine)
    }

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Thaw => "thaw",
            Self::Index => "index",
            Self::Present => "present",
            Self::Provision => "provision",
            Self::Restore => "restore",
            Self::Ready => "ready",
            Self::Examine => "examine",
            Self::Ask => "ask",
            Self::Remove => "remove",
        }
    }
}

/// A stage that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// Which one.
    pub name: StageName,
    /// When it began, in milliseconds after the drill did.
    pub start_ms: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Logical bytes that it dealt with, where it deals with any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Entries, packs or rows that it dealt with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u64>,
}

/// Times the stages of one drill, by a clock that only goes forward.
#[derive(Debug)]
pub struct Stopwatch {
    began: Instant,
    stages: Vec<Stage>,
}

impl Stopwatch {
    /// The drill begins now.
    pub fn begin() -> Self {
        Self { began: Instant::now(), stages: Vec::new() }
    }

    /// Does something as a stage, whatever comes of it; the same as the last one goes on with that.
    pub fn time<T>(&mut self, name: StageName, work: impl FnOnce() -> T) -> T {
        let start = self.began.elapsed();
        let result = work();
        let ended = self.began.elapsed();
        if let Some(last) = self.stages.last_mut().filter(|last| last.name == name) {
            last.duration_ms = milliseconds(ended).saturating_sub(last.start_ms);
            return result;
        }
        let (start_ms, duration_ms) = (milliseconds(start), milliseconds(ended.saturating_sub(start)));
        self.stages.push(Stage { name, start_ms, duration_ms, bytes: None, items: None });
        result
    }

    /// Says how much the stage that ended last dealt with.
    pub fn amount(&mut self, bytes: Option<u64>, items: Option<u64>) {
        if let Some(stage) = self.stages.last_mut() {
            (stage.bytes, stage.items) = (bytes, items);
        }
    }

    /// The stages so far, in their order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    pub(super) fn into_stages(self) -> Vec<Stage> {
        self.stages
    }
}

/// How long the stages of a kind took together.
pub(super) fn total(stages: &[Stage], counts: impl Fn(StageName) -> bool) -> Duration {
    Duration::from_millis(stages.iter().filter(|stage| counts(stage.name)).map(|stage| stage.duration_ms).sum())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_and_only_some_count_as_recovery() {
        let mut watch = Stopwatch::begin();
        watch.time(StageName::Restore, || ());
        watch.amount(Some(7), None);
        watch.time(StageName::Examine, || ());
        let stages = watch.stages();
        assert_eq!((stages[0].bytes, stages[1].bytes), (Some(7), None));
        assert!(stages[1].start_ms >= stages[0].start_ms + stages[0].duration_ms);

        watch.time(StageName::Examine, || std::thread::sleep(Duration::from_millis(2)));
        assert_eq!(watch.stages().len(), 2, "the same goes on");
        assert!(watch.stages()[1].duration_ms >= 2);

        let stage = |name, duration_ms| Stage { name, start_ms: 0, duration_ms, bytes: None, items: None };
        let stages = [
            stage(StageName::Open, 1),
            stage(StageName::Present, 10),
            stage(StageName::Restore, 100),
            stage(StageName::Examine, 1_000),
            stage(StageName::Ask, 10_000),
            stage(StageName::Remove, 100_000),
        ];
        assert_eq!(total(&stages, StageName::is_technical), Duration::from_millis(101));
        assert_eq!(total(&stages, StageName::is_verified), Duration::from_millis(1_101));
    }

    #[test]
    fn a_stages_word_is_its_spelling_in_json() {
        for name in [StageName::Open, StageName::Present, StageName::Examine] {
            assert_eq!(serde_json::to_value(name).unwrap(), name.word());
        }
    }
}
