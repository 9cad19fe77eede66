//! What is seen to change, as a hint that a job might run.
//!
//! Events are lost: when the kernel's queue overflows, on file systems of other machines, while nobody watches. So no
//! event decides anything but when to look; the scan does. What patterns leave out is not seen to change: a file that is
//! written all day and never backed up starts no run. What else leaves files out (`.gitignore`, markers, sizes) is known to
//! the scan alone, which then finds nothing new.
//!
//! The kernel watches what is at a path and not the path: a file that an editor replaces, a folder that is renamed and put
//! back, would be watched no longer. So the folder that holds each path is watched as well, a thread of each job's own
//! looks at every change there and every [`LOOK_AGAIN`] whether its paths are still what is watched, and watches anew what
//! is not. What could not be watched is tried again.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use backup_core::clock::{Clock as _, SystemClock};
use backup_sources::files::{Below, Excludes};
use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::Wake;

/// How often a job's paths are looked at: a folder further up that was renamed tells nobody.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How often it is tried again to watch what is there and could not be watched: that is a walk through all its folders.
const TRY_AGAIN: Duration = Duration::from_secs(15 * 60);

/// Watches the files of one job for as long as it lives.
#[derive(Debug)]
pub(super) struct Watch(Sender<Look>);

/// What a job's thread is told.
#[derive(Debug)]
enum Look {
    /// Something appeared, went or was renamed at this path.
    At(PathBuf),
    /// Events were lost.
    Everywhere,
    /// Nobody wants to know any more.
    Stop,
}

/// Watches `paths` and what is below them and not left out, for `job`. Returns what cannot be watched now as well; when
/// that changes, a [`Wake::Watched`] tells it.
///
/// # Errors
///
/// In words, when nothing can be watched on this machine.
pub(super) fn watch(
    job: &str,
    paths: &[PathBuf],
    excludes: &Excludes,
    wakes: &Sender<Wake>,
) -> Result<(Watch, Option<String>), String> {
    let (looks, wanted) = mpsc::channel();
    let below = Below::new(paths.to_vec(), excludes).map_err(|error| error.to_string())?;
    let places = Place::of(paths);
    let teller = Teller { job: job.to_owned(), wakes: wakes.clone() };
    let tell = {
        let (teller, looks) = (teller.clone(), looks.clone());
        let (roots, at): (Vec<_>, Vec<_>) = (paths.to_vec(), places.iter().map(|place| place.path.clone()).collect());
        move |event: notify::Result<notify::Event>| hear(event, &roots, &at, &below, &teller, &looks)
    };
    let watcher = notify::recommended_watcher(tell).map_err(|error| error.to_string())?;
    let mut watched = Watched { watcher, places };
    watched.look(|_| false);
    let trouble = watched.trouble();
    let told = trouble.clone();
    let thread = thread::Builder::new().name(format!("watch {job}"));
    thread.spawn(move || watched.go_on(&wanted, &teller, told)).map_err(|error| error.to_string())?;
    Ok((Watch(looks), trouble))
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A thread that has ended watches nothing.
        let _ = self.0.send(Look::Stop);
    }
}

/// Whom changes are told.
#[derive(Clone, Debug)]
struct Teller {
    job: String,
    wakes: Sender<Wake>,
}

impl Teller {
    // Nobody listens any more when the daemon ends.
    fn changed(&self) {
        let _ = self.wakes.send(Wake::Changed { job: self.job.clone(), at: SystemClock.now() });
    }

    fn watched(&self, trouble: Option<String>) {
        let _ = self.wakes.send(Wake::Watched { job: self.job.clone(), trouble });
    }
}

/// What an event says: whether something that is backed up changed, and whether a watched path may be another one now.
fn hear(
    event: notify::Result<notify::Event>,
    roots: &[PathBuf],
    places: &[PathBuf],
    below: &Below,
    teller: &Teller,
    looks: &Sender<Look>,
) {
    let lost = || {
        teller.changed();
        let _ = looks.send(Look::Everywhere);
    };
    // What went wrong may have lost events: that is a change too.
    let Ok(event) = event else { return lost() };
    if event.need_rescan() || event.paths.is_empty() {
        return lost();
    }
    // Reading is no change.
    if matches!(event.kind, EventKind::Access(_)) {
        return;
    }
    // A folder that holds a path has other entries, which are nobody's.
    let is_ours = |path: &&PathBuf| roots.iter().any(|root| path.starts_with(root)) && !below.leaves_out(path);
    if event.paths.iter().any(|path| is_ours(&path)) {
        teller.changed();
    }
    let is_another =
        matches!(event.kind, EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
    if is_another {
        for path in event.paths.into_iter().filter(|path| places.contains(path)) {
            let _ = looks.send(Look::At(path));
        }
    }
}

/// A path that is watched: one of the job's, or the folder that holds it.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    mode: RecursiveMode,
    state: State,
}

/// What is known of a path.
#[derive(Debug)]
enum State {
    /// It was not looked at yet.
    New,
    /// This is watched there.
    Watched(Identity),
    /// Nothing is there, for this reason.
    Absent(String),
    /// What is there cannot be watched.
    Refused { tried: Instant, why: String },
}

/// What tells one file or folder from another that has its name.
type Identity = (u64, u64, Option<SystemTime>);

fn identity(metadata: &Metadata) -> Identity {
    (metadata.dev(), metadata.ino(), metadata.created().ok())
}

impl Place {
    /// The job's paths, and the folders that hold them where those are not watched anyway.
    fn of(paths: &[PathBuf]) -> Vec<Self> {
        let mut all = BTreeMap::new();
        for folder in paths.iter().filter_map(|path| path.parent()) {
            if !paths.iter().any(|path| folder.starts_with(path)) {
                all.insert(folder.to_owned(), RecursiveMode::NonRecursive);
            }
        }
        all.extend(paths.iter().map(|path| (path.clone(), RecursiveMode::Recursive)));
        all.into_iter().map(|(path, mode)| Self { path, mode, state: State::New }).collect()
    }

    /// Watches what is there now, if that is not watched yet, or if it `is_another` for certain. Whether there is
    /// something new to see.
    fn look(&mut self, watcher: &mut RecommendedWatcher, is_another: bool) -> bool {
        let there = std::fs::metadata(&self.path);
        let is_as_before = match (&there, &self.state) {
            (Ok(there), State::Watched(watched)) => identity(there) == *watched,
            (Ok(_), State::Refused { tried, .. }) => tried.elapsed() < TRY_AGAIN,
            (Err(_), State::Absent(_)) => true,
            _ => false,
        };
        if is_as_before && !is_another {
            return false;
        }
        // What was watched under this name may lie elsewhere now, or nowhere.
        let _ = watcher.unwatch(&self.path);
        self.state = match there {
            Ok(there) => match watcher.watch(&self.path, self.mode) {
                Ok(()) => State::Watched(identity(&there)),
                Err(error) => State::Refused { tried: Instant::now(), why: error.to_string() },
            },
            Err(error) => State::Absent(error.to_string()),
        };
        matches!(self.state, State::Watched(_))
    }
}

/// All that is watched for a job.
#[derive(Debug)]
struct Watched {
    watcher: RecommendedWatcher,
    places: Vec<Place>,
}

impl Watched {
    /// Looks at every path until nobody wants to know any more.
    fn go_on(mut self, wanted: &Receiver<Look>, teller: &Teller, mut told: Option<String>) {
        let (mut are_lost, mut began_anew) = (false, None::<Instant>);
        loop {
            let mut another = Vec::new();
            let mut next = match wanted.recv_timeout(LOOK_AGAIN) {
                Ok(look) => Some(look),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            while let Some(look) = next {
                match look {
                    Look::At(path) => another.push(path),
                    Look::Everywhere => are_lost = true,
                    Look::Stop => return,
                }
                next = wanted.try_recv().ok();
            }
            // Folders that were made meanwhile are not watched. To walk through all makes events as well.
            let is_anew = are_lost && began_anew.is_none_or(|began| began.elapsed() >= TRY_AGAIN);
            if is_anew {
                (are_lost, began_anew) = (false, Some(Instant::now()));
            }
            if self.look(|path| is_anew || another.contains(path)) {
                teller.changed();
            }
            let trouble = self.trouble();
            if trouble != told {
                teller.watched(trouble.clone());
                told = trouble;
            }
        }
    }

    /// Looks at every path; whether there is something new to see.
    fn look(&mut self, is_another: impl Fn(&PathBuf) -> bool) -> bool {
        let mut is_new = false;
        for place in &mut self.places {
            is_new |= place.look(&mut self.watcher, is_another(&place.path));
        }
        is_new
    }

    /// The first of the job's paths that is not watched, and why.
    fn trouble(&self) -> Option<String> {
        let paths = self.places.iter().filter(|place| place.mode == RecursiveMode::Recursive);
        let trouble = |place: &Place| match &place.state {
            State::Absent(why) | State::Refused { why, .. } => Some(format!("{}: {why}", place.path.display())),
            State::New | State::Watched(_) => None,
        };
        paths.filter_map(trouble).next()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder with what is to be watched in it.
    struct World {
        folder: tempfile::TempDir,
        woken: Receiver<Wake>,
        wakes: Sender<Wake>,
    }

    impl World {
        fn new() -> Self {
            let (wakes, woken) = mpsc::channel();
            Self { folder: tempfile::tempdir().unwrap(), woken, wakes }
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn watch(&self, name: &str) -> (Watch, Option<String>) {
            watch("app", &[self.at(name)], &Excludes::default(), &self.wakes).unwrap()
        }

        /// A change is told, and then no more of it.
        #[track_caller]
        fn is_told(&self, what: &str) {
            let until = Instant::now() + Duration::from_secs(20);
            loop {
                match self.woken.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(Wake::Changed { job, .. }) => break assert_eq!(job, "app"),
                    Ok(_) => {}
                    Err(_) => panic!("nobody was told that {what}"),
                }
            }
            self.is_quiet();
        }

        fn is_quiet(&self) {
            while self.woken.recv_timeout(Duration::from_millis(200)).is_ok() {}
        }
    }

    #[test]
    fn a_file_that_is_replaced_again_and_again_is_seen_each_time() {
        let world = World::new();
        fs::write(world.at("app.conf"), "one").unwrap();
        let (_watch, trouble) = world.watch("app.conf");
        assert_eq!(trouble, None);
        for text in ["two", "three"] {
            fs::write(world.at("app.conf.new"), text).unwrap();
            fs::rename(world.at("app.conf.new"), world.at("app.conf")).unwrap();
            world.is_told(&format!("it is {text} now"));
        }
        fs::write(world.at("app.conf"), "four").unwrap();
        world.is_told("it was written in place");
    }

    #[test]
    fn what_lies_beside_a_file_is_nobodys() {
        // A world in which nothing else happens, of which something might be told late.
        let world = World::new();
        fs::write(world.at("app.conf"), "one").unwrap();
        let (_watch, _) = world.watch("app.conf");
        fs::write(world.at("neighbour"), "x").unwrap();
        assert!(world.woken.recv_timeout(Duration::from_millis(300)).is_err());
    }

    #[test]
    fn a_folder_that_is_renamed_and_put_back_is_watched_to_its_ground() {
        let world = World::new();
        fs::create_dir_all(world.at("data/deep")).unwrap();
        let (_watch, _) = world.watch("data");
        fs::rename(world.at("data"), world.at("aside")).unwrap();
        world.is_told("it is gone");
        fs::rename(world.at("aside"), world.at("data")).unwrap();
        world.is_told("it is back");
        fs::write(world.at("data/deep/file"), "x").unwrap();
        world.is_told("a file is new in it");
        fs::remove_dir_all(world.at("data")).unwrap();
        world.is_told("it was removed");
        fs::create_dir_all(world.at("data/deep")).unwrap();
        world.is_told("another is there");
        fs::write(world.at("data/deep/file"), "x").unwrap();
        world.is_told("a file is new in the other");
    }

    #[test]
    fn what_is_not_there_yet_is_watched_from_when_it_is() {
        let world = World::new();
        let (_watch, trouble) = world.watch("later");
        assert!(trouble.is_some_and(|why| why.contains("later: ")));
        fs::create_dir(world.at("later")).unwrap();
        let is_watched = |wake| matches!(wake, Ok(Wake::Watched { trouble: None, .. }));
        while !is_watched(world.woken.recv_timeout(Duration::from_secs(20))) {}
        world.is_quiet();
        fs::write(world.at("later/file"), "x").unwrap();
        world.is_told("a file is new in it");
    }
}
