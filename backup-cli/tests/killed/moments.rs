//! Draws the moments, kills, and looks what is left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use backup_core::clock::SystemClock;
use backup_core::observe::Silent;
use backup_core::repository::{Identity, Passphrase, Repository, ScryptCost};

use crate::driver::{PASSPHRASE, Ran, World};
use crate::tree;

/// The passphrase that a change of it gives way to.
const OTHER_PASSPHRASE: &str = "battery staple";

/// Rounds on one repository before a fresh one is taken: what kills leave behind piles up meanwhile.
const ROUNDS_ON_ONE: u32 = 10;

/// Kills in a world without which nothing can be said, and how many times its time may be taken until they are there.
const KILLS_MIN: u32 = 30;
const SPANS_MAX: u32 = 8;
/// Runs that look for damage in all data; the others look at the structure.
const READ_DATA_EVERY: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Create,
    Forget,
    PruneInstant,
    PruneMark,
    RepairIndex,
    KeyPasswd,
}

const VERBS: [Verb; 6] =
    [Verb::Create, Verb::Forget, Verb::PruneInstant, Verb::PruneMark, Verb::RepairIndex, Verb::KeyPasswd];

/// After these a `check` is clean, and the passphrase is known.
const VERBS_THAT_LEAVE_IT_USABLE: [Verb; 4] = [Verb::Create, Verb::Forget, Verb::PruneInstant, Verb::PruneMark];

/// A repository that is used and killed in, and what must be in it.
struct Victim<'world> {
    world: &'world World,
    repository: PathBuf,
    source: PathBuf,
    /// Snapshots that nobody asked to remove, by id, with a copy of what they hold.
    promised: BTreeMap<String, PathBuf>,
    passphrase: &'static str,
    random: u64,
    changes: u64,
}

/// How often was killed what.
#[derive(Default)]
struct Tally {
    killed: BTreeMap<Verb, u32>,
    /// Those that were through already.
    ended: u32,
    restored: u32,
}

impl Tally {
    fn kills(&self) -> u32 {
        self.killed.values().sum()
    }
}

impl Victim<'_> {
    fn command(&self) -> Command {
        let mut command = self.world.command();
        command.env("BACKUP_REPO", &self.repository).env("BACKUP_PASSWORD", self.passphrase);
        command
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(&self.command().args(arguments).output().unwrap())
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Prepares what makes the verb's work worth while, and gives the command.
    fn prepared(&mut self, verb: Verb) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match verb {
            Verb::Create => {
                self.changes += 1;
                let content = tree::noise(600_000, 50_000 + self.changes + self.draw(1 << 40));
                fs::write(self.source.join(format!("change {}", self.changes % 5)), content).unwrap();
                words(&["create", self.source.to_str().unwrap()])
            }
            Verb::Forget => {
                let ids: Vec<_> = self.snapshots().filter(|id| !self.promised.contains_key(id)).collect();
                // Without one to spare, one that does not exist.
                let id = ids.first().cloned().unwrap_or_else(|| "0".repeat(64));
                words(&["forget", &id])
            }
            Verb::PruneInstant => words(&["prune", "--instant", "--max-unused", "0%"]),
            Verb::PruneMark => words(&["prune", "--max-unused", "0%"]),
            Verb::RepairIndex => {
                if let Some(index) = files_in(&self.repository.join("index")).next() {
                    fs::remove_file(index).unwrap();
                }
                words(&["repair", "index"])
            }
            Verb::KeyPasswd => {
                let other = if self.passphrase == PASSPHRASE { OTHER_PASSPHRASE } else { PASSPHRASE };
                words(&["key", "passwd", "--new-password-command", &format!("echo {other}")])
            }
        }
    }

    fn snapshots(&self) -> impl Iterator<Item = String> {
        files_in(&self.repository.join("snapshots"))
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .filter(|name| name.len() == 64)
    }

    /// Kills the verb, perhaps after others, and looks whether everything is there.
    fn round(&mut self, verb: Verb, takes: &BTreeMap<Verb, Duration>, number: u32, tally: &mut Tally) {
        for _ in 0..self.draw(4) {
            let before = VERBS_THAT_LEAVE_IT_USABLE[self.draw(VERBS_THAT_LEAVE_IT_USABLE.len() as u64) as usize];
            self.kill(before, takes[&before], tally);
        }
        let at = self.kill(verb, takes[&verb], tally);
        self.next_command_works(verb, &at);
        let check: &[&str] =
            if number.is_multiple_of(READ_DATA_EVERY) { &["check", "--read-data"] } else { &["check"] };
        let ran = self.run(check);
        assert_eq!(ran.code, 0, "{at}\n{}{}", ran.out, ran.err);
        let left: Vec<_> = self.snapshots().collect();
        for id in self.promised.keys() {
            assert!(left.contains(id), "{at}: {id} is gone");
        }
        if verb == Verb::KeyPasswd {
            self.take_cheap_key_back();
        }
    }

    /// Starts the verb and kills it at some moment of the time that it takes; says so in words.
    fn kill(&mut self, verb: Verb, takes: Duration, tally: &mut Tally) -> String {
        let arguments = self.prepared(verb);
        let delay = takes.mul_f64(self.draw(1 << 20) as f64 / f64::from(1 << 20));
        let mut command = self.command();
        command.args(&arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        thread::sleep(delay);
        let had_ended = child.try_wait().unwrap().is_some();
        if had_ended {
            tally.ended += 1;
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
            *tally.killed.entry(verb).or_default() += 1;
        }
        format!("{verb:?} killed after {delay:?} (ended: {had_ended}), {}", self.repository.display())
    }

    /// The key that a change of passphrase makes takes long to open.
    fn take_cheap_key_back(&mut self) {
        let keys = self.repository.join("keys");
        fs::remove_dir_all(&keys).unwrap();
        copied(&self.world.repository().join("keys"), &keys);
        self.passphrase = PASSPHRASE;
    }

    /// What somebody would do next does not ask for an `unlock`.
    fn next_command_works(&mut self, verb: Verb, at: &str) {
        if verb == Verb::KeyPasswd {
            let (old, new) = match self.passphrase {
                PASSPHRASE => (PASSPHRASE, OTHER_PASSPHRASE),
                _ => (OTHER_PASSPHRASE, PASSPHRASE),
            };
            // Of a change that was killed either passphrase opens, or both.
            self.passphrase = old;
            if self.run(&["key", "list"]).code == 12 {
                self.passphrase = new;
                let ran = self.run(&["key", "list"]);
                assert_eq!(ran.code, 0, "{at}\n{}", ran.err);
            }
        } else if verb == Verb::RepairIndex {
            // Until it is repaired, something misses.
            let ran = self.run(&["repair", "index"]);
            assert_eq!(ran.code, 0, "{at}\n{}{}", ran.out, ran.err);
        } else if verb != Verb::Forget && self.draw(3) == 0 {
            let arguments = self.prepared(verb);
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let ran = self.run(&arguments);
            assert_eq!(ran.code, 0, "the same again after {at}\n{}{}", ran.out, ran.err);
        }
    }

    /// Restores everything; what is promised is compared with what was backed up.
    fn everything_restores(&self, tally: &mut Tally) {
        for id in self.snapshots() {
            let to = tempfile::tempdir_in(self.world.path()).unwrap();
            let to_name = to.path().to_str().unwrap();
            let source = self.source.to_str().unwrap();
            let ran = self.run(&["restore", &id, "--path", source, "--to", to_name]);
            assert_eq!(ran.code, 0, "{}\n{}{}", self.repository.display(), ran.out, ran.err);
            if let Some(original) = self.promised.get(&id) {
                let found = tree::differences(original, to.path());
                assert!(found.is_empty(), "{}", found.join("\n"));
            }
            tally.restored += 1;
        }
    }
}

/// Kills for `span`, on a repository of its own, and calls `judge` with every repository that is done with.
fn kill_for(span: Duration, seed: u64, judge: impl Fn(&Path, &str)) -> Tally {
    let world = World::new();
    let source = world.source();
    fs::create_dir(source.join("many")).unwrap();
    for number in 0..200 {
        fs::write(source.join(format!("many/{number}")), tree::noise(number * 50, number as u64)).unwrap();
    }
    world.run(["init"]).succeeds();
    make_key_cheap(&world.repository());
    let mut promised = BTreeMap::new();
    let mut spare = Vec::new();
    for state in 0..4_u64 {
        fs::write(source.join("large"), tree::noise(3_000_000, 900 + state)).unwrap();
        fs::remove_file(source.join(format!("many/{state}"))).unwrap();
        let id = world.create([]);
        if state % 2 == 1 {
            let copy = world.path().join(format!("state {state}"));
            copied(&source, &copy);
            promised.insert(id, copy);
        } else {
            spare.push(id);
        }
    }
    world.run(["forget", &spare[0]]).succeeds();

    let began = Instant::now();
    // A machine that is busy kills less in the same time; then it takes more.
    let is_over = |tally: &Tally| {
        let spans = if tally.kills() < KILLS_MIN { SPANS_MAX } else { 1 };
        began.elapsed() > span * spans
    };
    let mut tally = Tally::default();
    let mut takes = BTreeMap::new();
    let mut number = 0;
    let mut random = seed | 1;
    while !is_over(&tally) {
        let repository = world.path().join(format!("victim {number}"));
        copied(&world.repository(), &repository);
        let mut victim = Victim {
            world: &world,
            repository: repository.clone(),
            source: source.clone(),
            promised: promised.clone(),
            passphrase: PASSPHRASE,
            random,
            changes: u64::from(number),
        };
        if takes.is_empty() {
            takes = times(&mut victim);
            fs::remove_dir_all(&repository).unwrap();
            copied(&world.repository(), &repository);
            victim.passphrase = PASSPHRASE;
        }
        for _ in 0..ROUNDS_ON_ONE {
            let verb = VERBS[victim.draw(VERBS.len() as u64) as usize];
            victim.round(verb, &takes, number, &mut tally);
            number += 1;
            if is_over(&tally) {
                break;
            }
        }
        victim.everything_restores(&mut tally);
        judge(&repository, victim.passphrase);
        random = victim.random;
        fs::remove_dir_all(&repository).unwrap();
    }
    tally
}

/// How long each verb takes here and now.
fn times(victim: &mut Victim<'_>) -> BTreeMap<Verb, Duration> {
    let mut times = BTreeMap::new();
    for verb in VERBS {
        let arguments = victim.prepared(verb);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let began = Instant::now();
        let ran = victim.run(&arguments);
        assert_eq!(ran.code, 0, "{verb:?}\n{}{}", ran.out, ran.err);
        times.insert(verb, began.elapsed());
    }
    times
}

/// Replaces the key by one that opens fast, as restic of old made them: the derivation is not what is to be killed.
pub(crate) fn make_key_cheap(repository: &Path) {
    let sink = backup_store::Place::Folder(repository.to_owned()).open(&backup_store::Access::default()).unwrap();
    let pid = std::process::id().cast_signed();
    let identity = Identity { hostname: "test".into(), username: "test".into(), uid: 0, gid: 0, pid };
    let passphrase = Passphrase::new(PASSPHRASE);
    let repository = Repository::open(sink, &passphrase, identity, Arc::new(SystemClock), &Silent).unwrap();
    repository.change_passphrase(&passphrase, Some(ScryptCost::LEAST), &Silent).unwrap();
}

pub(crate) fn files_in(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
}

pub(crate) fn copied(from: &Path, to: &Path) {
    let ran = Ran::of(&Command::new("cp").arg("-a").arg(from).arg(to).output().unwrap());
    ran.succeeds();
}

/// Two worlds at once, for `span`.
fn kill_in_two_worlds(span: Duration, judge: impl Fn(&Path, &str) + Sync) {
    let seed = std::env::var("BACKUP_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("BACKUP_TEST_SEED={seed}");
    let tallies: Vec<_> = thread::scope(|scope| {
        let threads = [seed, seed.rotate_left(32)].map(|seed| {
            let judge = &judge;
            scope.spawn(move || kill_for(span, seed, judge))
        });
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for tally in &tallies {
        println!("killed {:?}, ended before: {}, restored: {}", tally.killed, tally.ended, tally.restored);
    }
    for tally in &tallies {
        assert!(tally.kills() >= KILLS_MIN, "too few kills to say anything: {}", tally.kills());
    }
}

#[test]
fn killed_at_any_moment_nothing_is_lost_and_nobody_has_to_unlock() {
    kill_in_two_worlds(Duration::from_secs(75), |_, _| {});
}

#[test]
#[ignore = "needs restic"]
fn what_kills_leave_restic_finds_sound() {
    let restic = std::env::var_os("BACKUP_TEST_RESTIC").expect("BACKUP_TEST_RESTIC names no program");
    kill_in_two_worlds(Duration::from_secs(30), |repository, passphrase| {
        let mut command = Command::new(&restic);
        command.env_clear().env("RESTIC_PASSWORD", passphrase).env("HOME", repository.parent().unwrap());
        command.args(["--no-cache", "check", "--read-data", "-r"]).arg(repository);
        let ran = Ran::of(&command.output().unwrap()).succeeds();
        assert!(ran.out.contains("no errors were found"), "{}{}", ran.out, ran.err);
    });
}
