//! What a drill restores to: a place of its own, made by the drill, that nobody else uses and that is gone afterwards.
//!
//! What a sandbox must never do is touch production. It is made with nothing that could lead there: no address, no
//! password and no path of the source; what it needs to know of the data comes from the snapshot.

use std::fmt::{self, Debug};
use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::report::{Report, Tool};
use super::target::Target;
use crate::cancel::Cancel;
use crate::model::{Id, Node, SnapshotPath};
use crate::observe::Amount;

/// A place of its own that a drill restores to.
///
/// The drill calls, from one thread and in this order: [`Sandbox::start`], [`Sandbox::target`] (which it drops when the
/// restore has ended), [`Sandbox::ready`], [`Sandbox::examine`], [`Sandbox::ask`] for each question,
/// [`Sandbox::newest`], and [`Sandbox::remove`] on every path, after a failure of any of them as well.
///
/// What holds for every one of them:
///
/// * Its endpoint is made by itself and can be reached by a socket file or the loopback device only. Every statement
///   that destroys is preceded by a check that it is the sandbox which it would hit.
/// * Everything on disk lies in one folder that a later drill recognises and removes when this one was killed.
/// * Children get an empty environment, and as little of the system as the kernel and the rights of the drill allow.
///   What was reached is said by [`Sandbox::facts`], what was not looked at by [`Sandbox::caveats`].
/// * Dropping it is like [`Sandbox::remove`], but for the error.
pub trait Sandbox: Send + Debug {
    /// What it is. Complete once [`Sandbox::start`] has returned; before that, as far as it is known.
    fn facts(&self) -> SandboxFacts;

    /// Checks that the drill can run, then makes the place and starts what must run in it.
    ///
    /// Whatever speaks against it is looked for first, and before anything is started: the space, the programs and
    /// their versions, extensions, the user to run as. It then says [`NotReady::CannotRun`], and the drill's verdict is
    /// `not_run`; after that point a failure is one of the drill.
    ///
    /// `expected` is what will be restored: entries, and logical bytes.
    fn start(&mut self, expected: Amount, cancel: &Cancel) -> Result<(), NotReady>;

    /// Where the snapshot is restored to: always the sandbox's own endpoint. A failure that is not ours says that what
    /// describes the dump cannot be understood.
    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError>;

    /// How a program that is started for the drill, and that the drill ends, gets into it: the command of a runbook. It is
    /// the sandbox's own endpoint, as in [`Sandbox::target`]; nothing is opened for it that was shut.
    ///
    /// # Errors
    ///
    /// Why no program can, in words that fit after a colon. A drill then cannot execute a runbook's commands.
    fn entrance(&self) -> Result<Entrance, String> {
        Err("no command line can name this sandbox; drill it without the runbook".to_owned())
    }

    /// What this side lacks just now, which would be the reason of a failure whatever the words of the engine: space.
    /// Asked after something has failed. `None` when nothing is known to be lacking.
    fn shortage(&self) -> Option<String> {
        None
    }

    /// What ends everything that works in it, at once and from another thread: for a drill that is to stop, or takes what
    /// others need, since whoever waits for an engine cannot look whether it should. Whatever is under way then fails. It
    /// may be called more than once. Asked once the sandbox was started; `None` where nothing runs that one would wait
    /// for.
    fn stopper(&self) -> Option<Stopper> {
        None
    }

    /// Returns when the restored data answers its first query. RTO_technical ends here.
    fn ready(&mut self) -> Result<(), SandboxError>;

    /// Compares what was restored with what it was (level 4): each expectation of the report with what is there now,
    /// and what is there that no expectation names; for files each entry of the snapshot; then the engine's own checks
    /// of its integrity. A difference is a check that failed and no error; an error means that it could not be looked.
    ///
    /// An empty result proves nothing: the drill then ends below level 4.
    fn examine(&mut self, expected: Expected<'_>, cancel: &Cancel) -> Result<Vec<Check>, SandboxError>;

    /// Asks one of the user's questions (level 5), without the right to change anything.
    fn ask(&mut self, question: &Question, cancel: &Cancel) -> Result<Answer, SandboxError>;

    /// The newest trace of a change in the restored data that nobody has to ask for, no later than the `until` of
    /// [`Sandbox::examine`], which was before. `None` where the data has none, or none that a restore keeps.
    fn newest(&mut self) -> Option<Newest>;

    /// What a reader of the result must know beside the checks.
    fn caveats(&self) -> Caveats;

    /// Stops and removes everything. An error says what is left, and where.
    fn remove(self: Box<Self>) -> Result<(), SandboxError>;
}

/// The newest trace of a change in restored data: the state that came back is at least as new. It is no recovery point, since
/// it is as old when nobody has changed anything as when something is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newest {
    /// When it was changed, as the data says.
    pub time: Timestamp,
    /// What of it says so.
    pub from: Trace,
}

/// What of restored data tells when something was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Trace {
    /// The time of a file.
    File,
    /// An identifier of a document that has the time of its making in it.
    ObjectId,
    /// The answer to a question of the user's for something that must not be too old.
    Answer,
}

impl Newest {
    /// The newer of two.
    #[must_use]
    pub fn or_newer(self, other: Option<Self>) -> Self {
        other.filter(|other| other.time > self.time).unwrap_or(self)
    }
}

/// See [`Sandbox::stopper`].
pub struct Stopper {
    /// Ends what works in it, at once.
    pub end: Box<dyn Fn() + Send>,
    /// What everybody else on this machine begins to lack because of it, so that it has to end: space. `None` as long as there
    /// is enough.
    pub takes_too_much: Box<dyn Fn() -> Option<String> + Send>,
}

impl Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}

/// How another program gets into a sandbox.
#[derive(Clone)]
pub struct Entrance {
    /// What a command line names as the target of a restore: a folder, the address of a database. It holds no secret.
    pub target: String,
    /// A folder of the sandbox's own, which goes with it, for what the program needs besides: a home, a copy of the dump.
    pub folder: PathBuf,
    /// Variables of its environment: the mark by which it is ended with the sandbox, and what lets it in.
    pub variables: Vec<(String, Zeroizing<String>)>,
}

impl Debug for Entrance {
    /// Without the variables' values, one of which may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entrance").field("target", &self.target).field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What a sandbox is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxFacts {
    /// By whose means it was made: `folder`, `local` (an engine's programs on this machine), `server`, `container`.
    pub provider: String,
    /// The engine that the data was restored to, with the version that it says itself. `None` for files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<Tool>,
    /// The image of the container that its programs are from: as it was named, with its id in place of a version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Tool>,
    /// What separates it from the rest, in short sentences: "own uid 65534", "no network".
    #[serde(default)]
    pub isolation: Vec<String>,
    /// What was set otherwise than a production server would have it, and makes it faster or slower: "fsync=off".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tuned: Vec<String>,
}

/// What a reader of a drill's result must know beside the checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caveats {
    /// What is unusual and no failure, with its cause: "the collation's version differs: 153.80 here, 153.14 there".
    pub warnings: Vec<String>,
    /// What was not looked at: "roles and grants", "owners of files". Never empty for an honest sandbox.
    pub not_tested: Vec<String>,
}

/// What must be there after a restore.
pub struct Expected<'a> {
    /// The source's last word, from the manifest. Empty for files and for commands.
    pub report: &'a Report,
    /// The entries of what was restored, depth first, a folder before what is in it, as the snapshot has them. Read from
    /// the repository as it is asked for. An engine's sandbox has no use for it.
    pub entries: &'a mut dyn Iterator<Item = Result<ExpectedEntry, SandboxError>>,
    /// The state that it returns to, as its source said: what claims to be newer is no witness.
    pub until: Timestamp,
}

impl Debug for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expected").field("report", self.report).finish_non_exhaustive()
    }
}

/// An entry that must be there after a restore.
#[derive(Clone, Debug)]
pub struct ExpectedEntry {
    /// Its path, relative to what was restored.
    pub path: SnapshotPath,
    /// Its metadata.
    pub node: Node,
    /// For a file: the pieces of its content in order, each with the SHA-256 of its bytes and their number.
    pub pieces: Vec<(Id, u32)>,
}

/// How far a drill went. Each level includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Level {
    /// 0: every pack that the snapshot needs is listed with its size.
    Present,
    /// 1: all its blobs were read, opened and hashed.
    Read,
    /// 2: the dump's own format was read to its end.
    Parsed,
    /// 3: it was restored, and the restored data answers.
    Restored,
    /// 4: the restored data is what was backed up. The least that counts as proven.
    Examined,
    /// 5: the user's own questions were answered as they should.
    Asked,
    /// 6: it was restored to an instant chosen at random.
    PointInTime,
}

impl Level {
    /// The least level that makes a backup proven.
    pub const PROVEN: Self = Self::Examined;

    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Present, Self::Read, Self::Parsed, Self::Restored, Self::Examined, Self::Asked, Self::PointInTime];
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        level as Self
    }
}

impl TryFrom<u8> for Level {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        Self::ALL.get(usize::from(number)).copied().ok_or_else(|| format!("there is no level {number}"))
    }
}

/// One thing that was compared, and how it came out. It holds no value of the data: names, counts and digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was compared: `table public.users rows`, `amcheck`. The same thing has the same id in every drill.
    pub id: String,
    /// The level that it belongs to.
    pub level: Level,
    /// What it must be: a count, or a digest with the name of its method before a colon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// How it came out.
    pub result: CheckResult,
    /// Why it failed or was not tested, or what else a person should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
    /// It is as it must be.
    Passed,
    /// It is not. The drill fails.
    Failed,
    /// It could not be looked at here (a tool that is missing); its detail says why. Never counted as passed.
    NotTested,
}

impl Check {
    /// Compares what must be with what is.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over numbers and texts alike")]
    pub fn compare(id: impl Into<String>, level: Level, expected: impl ToString, actual: impl ToString) -> Self {
        let (expected, actual) = (expected.to_string(), actual.to_string());
        let result = if expected == actual { CheckResult::Passed } else { CheckResult::Failed };
        Self { id: id.into(), level, expected: Some(expected), actual: Some(actual), result, detail: None }
    }

    /// Something that has no figures: it holds.
    pub fn passed(id: impl Into<String>, level: Level) -> Self {
        Self { id: id.into(), level, expected: None, actual: None, result: CheckResult::Passed, detail: None }
    }

    /// Something that has no figures: it does not hold, and why.
    pub fn failed(id: impl Into<String>, level: Level, why: impl Into<String>) -> Self {
        Self { result: CheckResult::Failed, ..Self::passed(id, level) }.with_detail(why)
    }

    /// Something that could not be looked at, and why.
    pub fn not_tested(id: impl Into<String>, level: Level, why: impl Into<String>) -> Self {
        Self { result: CheckResult::NotTested, ..Self::passed(id, level) }.with_detail(why)
    }

    /// Adds what else a person should know.
    #[must_use]
    pub fn with_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }
}

/// A question of the user to the restored data.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Question {
    /// A statement of SQL that gives one value.
    Sql(String),
    /// An aggregation of MongoDB whose only document's only field is the answer, `_id` aside where there is another; the
    /// pipeline as JSON, in which the order of fields counts.
    Aggregation {
        /// The collection.
        collection: String,
        /// The stages: a JSON array.
        pipeline: String,
    },
    /// A command to the engine, in words: `GET counter` for Redis.
    Engine(Vec<String>),
    /// A program of the user's, found by its path, without a shell. It runs in the sandbox's folder with as little
    /// around it as the engine; its standard output, trimmed, is the answer, and a status other than 0 an error.
    Program(Vec<String>),
}

/// An answer: one value as text, or nothing (SQL's NULL, no row, no key). Booleans are `true` and `false`, numbers plain
/// decimals, instants RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer(pub Option<String>);

impl From<Timestamp> for Answer {
    fn from(time: Timestamp) -> Self {
        Self(Some(time.to_string()))
    }
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotReady {
    /// The drill cannot run here: nothing was started, and nothing is said about the backup. The reason is what the
    /// record says after `not_run`.
    #[error("{reason}")]
    CannotRun {
        /// Why, fitting after "cannot run because": "PostgreSQL 16 is not installed here".
        reason: String,
        /// What would make it run.
        hint: Option<String>,
    },
    /// It could run and failed.
    #[error(transparent)]
    Failed(#[from] SandboxError),
}

impl NotReady {
    /// That the drill cannot run, and why.
    pub fn cannot_run(reason: impl Into<String>) -> Self {
        Self::CannotRun { reason: reason.into(), hint: None }
    }
}

/// A sandbox's failure.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {reason}")]
pub struct SandboxError {
    /// What was being done, with its object: "start postgres", "read the index public.users_pkey".
    pub action: String,
    /// Why it failed.
    pub reason: String,
    /// What to try, where something is known to help.
    pub hint: Option<String>,
    /// Whether the reason lies on this side (a stop that was asked for, no space, a dead program) and says nothing about
    /// the backup. The drill is then `not_run`, not `failed`.
    pub is_ours: bool,
}

impl SandboxError {
    /// A failure to do `action`.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors and texts alike")]
    pub fn new(action: impl Into<String>, reason: impl ToString) -> Self {
        Self { action: action.into(), reason: reason.to_string(), hint: None, is_ours: false }
    }

    /// Says that the reason lies on this side.
    #[must_use]
    pub fn ours(self) -> Self {
        Self { is_ours: true, ..self }
    }

    /// Adds what to try.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}
