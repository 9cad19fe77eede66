//! What happens during a verb, as a bar, as lines, or as JSON lines.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use backup_core::model::SnapshotPath;
use backup_core::observe::{Amount, EntryOutcome, Event, Observer, Phase, Problem, Severity};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use serde_json::{Value, json};

use super::json::put_path;
use super::{Format, amounts, say};

/// Problems that are printed in full unless `-v` asks for all.
const PROBLEMS_SHOWN_MAX: u64 = 20;
/// Between two JSON lines of progress.
const JSON_EVERY: Duration = Duration::from_secs(1);
/// Between two drawings of the bar.
const DRAW_EVERY: Duration = Duration::from_millis(120);

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Voice {
    /// Results and problems.
    Quiet,
    /// Notices and progress too.
    Normal,
    /// Every entry too.
    Verbose,
}

/// Hears a verb's events and tells them.
pub(crate) struct Reporter {
    format: Format,
    voice: Voice,
    draws: bool,
    done: Arc<Done>,
    problems: AtomicU64,
    read: AtomicU64,
    current: Mutex<Current>,
}

/// How far the present phase is.
#[derive(Debug, Default)]
struct Done {
    items: AtomicU64,
    bytes: AtomicU64,
    /// Bytes of packs that the stores have taken.
    sent: AtomicU64,
    /// How much there is, as far as it is known.
    total: Mutex<Option<Amount>>,
}

impl Done {
    fn total(&self) -> Option<Amount> {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expect(&self, total: Option<Amount>) {
        *self.total.lock().unwrap_or_else(PoisonError::into_inner) = total;
    }

    fn so_far(&self) -> SoFar {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        SoFar { items: read(&self.items), bytes: read(&self.bytes), sent: read(&self.sent) }
    }

    fn begin(&self, total: Option<Amount>) {
        self.expect(total);
        [&self.items, &self.bytes, &self.sent].iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }
}

/// The same at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct SoFar {
    items: u64,
    bytes: u64,
    sent: u64,
}

struct Current {
    phase: Option<Phase>,
    bar: Option<ProgressBar>,
    /// What the backup that is to come was said to come to.
    foreseen: Option<Amount>,
    began: Instant,
    told: Instant,
}

impl Reporter {
    pub(super) fn new(format: Format, voice: Voice, draws: bool) -> Self {
        let now = Instant::now();
        Self {
            format,
            voice,
            draws,
            done: Arc::default(),
            problems: AtomicU64::new(0),
            read: AtomicU64::new(0),
            current: Mutex::new(Current { phase: None, bar: None, foreseen: None, began: now, told: now }),
        }
    }

    /// Ends the drawing and says how many problems were not shown.
    pub(crate) fn finish(&self) {
        self.current().end();
        let problems = self.problems.load(Ordering::Relaxed);
        if self.format == Format::Text && self.voice != Voice::Verbose && problems > PROBLEMS_SHOWN_MAX {
            say(&format!("and {} more; -v shows all", amounts::counted(problems - PROBLEMS_SHOWN_MAX, "problem")));
        }
    }

    /// Whether a terminal shows how far it is.
    pub(crate) fn draws(&self) -> bool {
        self.draws
    }

    /// How much a backup will come to, before it or while it runs.
    pub(crate) fn expect(&self, total: Amount) {
        let mut current = self.current();
        match current.phase {
            Some(Phase::Backup) => self.done.expect(Some(total)),
            _ => current.foreseen = Some(total),
        }
    }

    /// Bytes of the files that a backup had to read, because they were new or changed.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says a line without tearing the bar.
    fn line(&self, text: &str) {
        match &self.current().bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn json(&self, value: &Value) {
        use std::io::Write as _;
        // One write per line, so that lines of several threads do not mix; a reader that went away ends the command
        // when its result is printed.
        let _ = std::io::stdout().lock().write_all(format!("{value}\n").as_bytes());
    }

    fn phase(&self, phase: Phase, total: Option<Amount>) {
        let mut current = self.current();
        current.end();
        let foreseen = current.foreseen;
        let total = total.or(foreseen.filter(|_| phase == Phase::Backup));
        self.done.begin(total);
        let now = Instant::now();
        *current = Current { phase: Some(phase), bar: None, foreseen, began: now, told: now };
        if self.draws {
            current.bar = Some(bar(phase, Arc::clone(&self.done)));
        }
        drop(current);
        if self.format == Format::Json {
            let total = total.map(|total| json!({"items": total.items, "bytes": total.bytes}));
            self.json(&json!({"event": "phase", "phase": word(phase), "total": total}));
        }
    }

    fn progress(&self, amount: Amount) {
        self.done.items.fetch_add(amount.items, Ordering::Relaxed);
        self.done.bytes.fetch_add(amount.bytes, Ordering::Relaxed);
        self.tell_progress();
    }

    /// Bytes that a store has taken: what a slow line shows while nothing else moves.
    fn sent(&self, bytes: u64) {
        self.done.sent.fetch_add(bytes, Ordering::Relaxed);
        self.tell_progress();
    }

    fn tell_progress(&self) {
        if self.format == Format::Text {
            return;
        }
        let mut current = self.current();
        if current.told.elapsed() < JSON_EVERY {
            return;
        }
        current.told = Instant::now();
        let SoFar { items, bytes, sent } = self.done.so_far();
        let left = seconds_left(self.done.total(), items, bytes, current.began.elapsed());
        let line = json!({
            "event": "progress", "phase": current.phase.map(word), "items": items, "bytes": bytes, "bytes_sent": sent,
            "seconds_elapsed": current.began.elapsed().as_secs_f64(), "seconds_left": left,
        });
        drop(current);
        self.json(&line);
    }

    fn entry(&self, path: &SnapshotPath, outcome: EntryOutcome, bytes: u64) {
        if matches!(outcome, EntryOutcome::New | EntryOutcome::Changed) {
            self.read.fetch_add(bytes, Ordering::Relaxed);
        }
        match (self.voice, self.format) {
            (Voice::Verbose, Format::Json) => {
                let line = json!({"event": "entry", "outcome": became(outcome), "bytes": bytes});
                self.json(&with_path(line, path));
            }
            (Voice::Verbose, Format::Text) => {
                self.line(&format!("{:<10} {path} ({})", became(outcome), amounts::size(bytes)));
            }
            _ => {}
        }
    }

    fn problem(&self, problem: &Problem) {
        let Problem { path, action, reason, severity } = problem;
        let word = match severity {
            Severity::Note => "note",
            Severity::Loss => "loss",
        };
        if self.format == Format::Json {
            let line = json!({"event": "problem", "severity": word, "action": action, "reason": reason});
            return self.json(&with_path(line, path));
        }
        let shown = self.problems.fetch_add(1, Ordering::Relaxed) < PROBLEMS_SHOWN_MAX;
        if shown || self.voice == Voice::Verbose {
            self.line(&format!("{word}: {action} {}: {reason}", shortened(&path.to_string())));
        }
    }
}

impl Observer for Reporter {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Phase { phase, total } => self.phase(phase, total),
            Event::Progress(amount) => self.progress(amount),
            Event::Entry { path, outcome, bytes } => self.entry(path, outcome, bytes),
            Event::Problem(problem) => self.problem(problem),
            Event::PackStored { bytes, .. } => self.sent(bytes),
            Event::Copied { snapshot, copy } => match (self.voice, self.format) {
                (_, Format::Json) => self.json(&json!({"event": "copied", "snapshot": snapshot, "copy": copy})),
                (Voice::Quiet, Format::Text) => {}
                (_, Format::Text) => self.line(&format!("snapshot {snapshot:.8} is there as {copy:.8}")),
            },
            Event::Notice(text) => match self.format {
                Format::Json => self.json(&json!({"event": "notice", "text": text})),
                Format::Text if self.voice != Voice::Quiet => self.line(text),
                Format::Text => {}
            },
            // Kinds of events that a later library adds are no reason to stop.
            _ => {}
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reporter({:?}, {:?})", self.format, self.voice)
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        self.current().end();
    }
}

impl Current {
    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(phase: Phase, done: Arc<Done>) -> ProgressBar {
    let line = move |state: &ProgressState, f: &mut dyn fmt::Write| {
        // Drawing is never a reason to fail.
        let _ = f.write_str(&drawn(phase, done.total(), done.so_far(), state.elapsed()));
    };
    let style = ProgressStyle::with_template("{line}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(style.with_key("line", line));
    bar.enable_steady_tick(DRAW_EVERY);
    bar
}

/// The line that shows how far a phase is: at most 79 columns, so that no terminal breaks it.
fn drawn(phase: Phase, total: Option<Amount>, so_far: SoFar, elapsed: Duration) -> String {
    const BAR: usize = 16;
    let SoFar { items, bytes, sent } = so_far;
    let seconds = elapsed.as_secs_f64();
    let mut line = format!("{:<9}", sentence(phase));
    if let Some((done, all)) = measure(total, items, bytes) {
        let percent = amounts::percent(done.min(all), all);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100")]
        let filled = (percent as usize) * BAR / 100;
        // Where bytes are sent, that says more, and there is no room for both.
        if sent == 0 {
            let _ = write!(line, " [{}{}]", "=".repeat(filled), " ".repeat(BAR - filled));
        }
        let _ = write!(line, " {percent:>3.0} %");
    } else if items > 0 {
        let _ = write!(line, "  {} {}", amounts::count(items), things(phase));
    }
    if bytes > 0 {
        let _ = write!(line, "  {}  {}", amounts::size(bytes), amounts::rate(bytes, seconds));
    }
    let time = match seconds_left(total, items, bytes, elapsed) {
        _ if seconds < 2.0 => String::new(),
        Some(left) => format!("  {} left", amounts::whole_span(left)),
        None => format!("  {}", amounts::whole_span(seconds)),
    };
    let sent = if sent > 0 { format!("  {} sent", amounts::size(sent)) } else { String::new() };
    // Of numbers without end the one that says least gives way.
    if line.chars().count() + sent.chars().count() + time.chars().count() < 80 {
        line.push_str(&sent);
    }
    line.push_str(&time);
    line
}

/// A path that a person can read: of one with thousands of folders, its beginning and its end.
fn shortened(path: &str) -> std::borrow::Cow<'_, str> {
    const SHOWN_MAX: usize = 400;
    if path.len() <= SHOWN_MAX {
        return path.into();
    }
    let begins = (0..=SHOWN_MAX / 2).rev().find(|&at| path.is_char_boundary(at)).unwrap_or(0);
    let ends = (path.len() - SHOWN_MAX / 2..path.len()).find(|&at| path.is_char_boundary(at)).unwrap_or(path.len());
    format!("{} … {}", &path[..begins], &path[ends..]).into()
}

fn with_path(mut line: Value, path: &SnapshotPath) -> Value {
    if let Value::Object(object) = &mut line {
        put_path(object, path);
    }
    line
}

/// What a phase is measured by: bytes where there are any, else items.
fn measure(total: Option<Amount>, items: u64, bytes: u64) -> Option<(u64, u64)> {
    match total? {
        Amount { bytes: all, .. } if all > 0 => Some((bytes, all)),
        Amount { items: all, .. } if all > 0 => Some((items, all)),
        _ => None,
    }
}

fn seconds_left(total: Option<Amount>, items: u64, bytes: u64, elapsed: Duration) -> Option<f64> {
    let (done, all) = measure(total, items, bytes)?;
    if done == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let left = elapsed.as_secs_f64() * (all.saturating_sub(done) as f64 / done as f64);
    Some(left)
}

/// The word that programs read.
fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::LoadIndex => "load_index",
        Phase::Backup => "backup",
        Phase::Confirm => "confirm",
        Phase::Thaw => "thaw",
        Phase::Plan => "plan",
        Phase::Restore => "restore",
        Phase::Verify => "verify",
        Phase::Check => "check",
        Phase::ReadPacks => "read_packs",
        Phase::FindUsed => "find_used",
        Phase::Repack => "repack",
        Phase::Delete => "delete",
        Phase::Copy => "copy",
        _ => "other",
    }
}

/// The words that people read.
fn sentence(phase: Phase) -> &'static str {
    match phase {
        Phase::LoadIndex => "index",
        Phase::Confirm => "confirm",
        Phase::ReadPacks => "read data",
        Phase::FindUsed => "find used",
        phase => word(phase),
    }
}

/// What a phase counts.
fn things(phase: Phase) -> &'static str {
    match phase {
        Phase::Backup | Phase::Restore | Phase::Verify => "files",
        Phase::ReadPacks | Phase::Repack | Phase::Thaw => "packs",
        Phase::Copy => "pieces",
        _ => "objects",
    }
}

/// The word for what became of an entry.
fn became(outcome: EntryOutcome) -> &'static str {
    match outcome {
        EntryOutcome::New => "new",
        EntryOutcome::Changed => "changed",
        EntryOutcome::Unmodified => "unmodified",
        EntryOutcome::Restored => "restored",
        EntryOutcome::Kept => "kept",
        EntryOutcome::Deleted => "deleted",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_pace_so_far() {
        let total = Some(Amount { items: 10, bytes: 1_000 });
        assert_eq!(seconds_left(total, 1, 250, Duration::from_secs(5)), Some(15.0));
        assert_eq!(seconds_left(total, 0, 0, Duration::from_secs(5)), None);
        assert_eq!(seconds_left(None, 1, 250, Duration::from_secs(5)), None);
        let items_only = Some(Amount { items: 10, bytes: 0 });
        assert_eq!(seconds_left(items_only, 5, 0, Duration::from_secs(5)), Some(5.0));
    }

    #[test]
    fn a_path_without_end_is_shown_by_its_ends() {
        assert_eq!(shortened("/a/b"), "/a/b");
        let deep = format!("/first{}/last", "/ö".repeat(10_000));
        let shown = shortened(&deep);
        assert!(shown.starts_with("/first") && shown.ends_with("/last") && shown.len() < 420, "{shown}");
    }

    #[test]
    fn a_drawn_line_fits_every_terminal() {
        let total = Some(Amount { items: 1_000_000, bytes: 1 << 50 });
        for bytes in [0, 1, 1 << 49, 1 << 50, (1 << 50) + 5] {
            for total in [total, None] {
                let so_far = SoFar { items: 1, bytes, sent: bytes };
                let line = drawn(Phase::ReadPacks, total, so_far, Duration::from_secs(86_000));
                assert!(line.chars().count() < 80, "{line}");
            }
        }
        let so_far = SoFar { items: 2, bytes: 200, sent: 0 };
        let line = drawn(Phase::Restore, Some(Amount { items: 4, bytes: 400 }), so_far, Duration::from_secs(20));
        assert_eq!(line, "restore   [========        ]  50 %  200 B  10 B/s  20 s left");
        let so_far = SoFar { items: 2, bytes: 200, sent: 100 };
        let line = drawn(Phase::Backup, None, so_far, Duration::from_secs(20));
        assert_eq!(line, "backup     2 files  200 B  10 B/s  100 B sent  20 s");
        let line = drawn(Phase::Backup, Some(Amount { items: 4, bytes: 400 }), so_far, Duration::from_secs(20));
        assert_eq!(line, "backup     50 %  200 B  10 B/s  100 B sent  20 s left");
    }
}
