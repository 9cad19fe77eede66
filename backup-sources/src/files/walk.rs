//! The files source: the walk over the paths that were asked for.

use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::vec;

use backup_core::contracts::{Entry, Report, Source, SourceError, SourceEvent, SourceInfo};
use backup_core::model::SnapshotPath;

use super::ahead::{Ahead, Slot};
use super::filter::{Filter, LeftOut};
use super::list::{Found, Listing, Part, Walk, What, Whole};
use super::metadata::{Nodes, device_of};
use super::options::{FileSystems, FilesOptions};
use super::place::{Base, Place};
use super::plan::{Plan, absolute};

/// Threads that read folders ahead. Two keep up with all the readers of a small machine; on a disk or a network that
/// answers slowly more requests at a time help.
const THREADS: usize = 3;

/// Files and folders, as they are.
///
/// The entries stand under their absolute paths. A path that is a link is stored as that link; a folder on the way to
/// a path may be reached through one. Contents are opened by whoever reads them, and nothing stays open in between.
#[derive(Debug)]
pub struct FilesSource {
    info: SourceInfo,
    walk: Arc<Walk>,
    /// Where the walk begins; taken by the first step.
    start: Option<Arc<Slot>>,
    ahead: Option<Ahead>,
    frames: Vec<Frame>,
    pending: VecDeque<SourceEvent>,
}

/// A folder that was entered.
#[derive(Debug)]
struct Frame {
    found: vec::IntoIter<Found>,
    next: Option<Arc<Slot>>,
}

impl FilesSource {
    /// A source of everything at and below `paths`, relative ones taken from the current folder. A path that does not
    /// exist is an error; paths that lie within others are read once.
    pub fn new(paths: Vec<PathBuf>, options: &FilesOptions) -> Result<Self, SourceError> {
        let mut clean = paths.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
        clean.sort();
        clean.dedup();
        let Some(first) = clean.first() else {
            return Err(SourceError::new("walk", SnapshotPath::root(), "no path was given"));
        };
        let subject = SnapshotPath::of_file(first);
        let filter = Filter::new(options).map_err(|error| SourceError::new("prepare the walk of", subject, error))?;
        let plan = Plan::of(&clean);
        let start = if plan.is_source { whole_machine(plan, options)? } else { Slot::new(planned(plan)) };
        let info = SourceInfo {
            paths: clean.iter().map(|path| path.to_string_lossy().into_owned()).collect(),
            excludes: options.excludes.texts().map(str::to_owned).collect(),
        };
        let walk = Walk { filter, nodes: Nodes::new(options.atime), without_xattrs: RwLock::new(HashSet::new()) };
        Ok(Self {
            info,
            walk: Arc::new(walk),
            start: Some(start),
            ahead: None,
            frames: Vec::new(),
            pending: VecDeque::new(),
        })
    }

    /// What was left out so far, and why.
    pub fn left_out(&self) -> LeftOut {
        self.walk.filter.counts.so_far()
    }

    fn take(&mut self, slot: &Slot) -> Result<Listing, SourceError> {
        let ahead = self.ahead.get_or_insert_with(|| Ahead::start(Arc::clone(&self.walk), THREADS));
        ahead.take(slot).ok_or_else(|| SourceError::new("walk", SnapshotPath::root(), "a thread of the walk ended"))
    }

    fn step(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        if let Some(start) = self.start.take() {
            let listing = self.take(&start)?;
            self.push(listing);
        }
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(Some(event));
            }
            let Some(frame) = self.frames.last_mut() else {
                return Ok(None);
            };
            match frame.found.next() {
                Some(Found::Node(node, What::Folder(slot))) => {
                    let listing = slot.map(|slot| self.take(&slot)).transpose()?.unwrap_or_default();
                    if listing.vanished {
                        self.pending.extend(listing.problems.into_iter().map(SourceEvent::Problem));
                    } else {
                        self.push(listing);
                        return Ok(Some(SourceEvent::Enter(node)));
                    }
                }
                Some(Found::Node(node, What::File(content))) => {
                    return Ok(Some(SourceEvent::Entry(Entry { node, content: Some(Box::new(content)) })));
                }
                Some(Found::Node(node, What::Plain)) => {
                    return Ok(Some(SourceEvent::Entry(Entry::without_content(node))));
                }
                Some(Found::Problem(problem)) => return Ok(Some(SourceEvent::Problem(problem))),
                Some(Found::Failed(error)) => return Err(error),
                None => match frame.next.take() {
                    Some(slot) => {
                        let listing = self.take(&slot)?;
                        self.frames.pop();
                        self.push(listing);
                    }
                    None => {
                        self.frames.pop();
                        // The root of the snapshot is no entry.
                        if !self.frames.is_empty() {
                            return Ok(Some(SourceEvent::Leave));
                        }
                    }
                },
            }
        }
    }

    fn push(&mut self, listing: Listing) {
        self.pending.extend(listing.problems.into_iter().map(SourceEvent::Problem));
        self.frames.push(Frame { found: listing.found.into_iter(), next: listing.next });
    }
}

impl Source for FilesSource {
    fn info(&self) -> SourceInfo {
        self.info.clone()
    }

    fn next(&mut self) -> Result<Option<SourceEvent>, SourceError> {
        let event = self.step();
        if !matches!(event, Ok(Some(_))) {
            self.ahead = None;
        }
        event
    }

    fn finish(&mut self) -> Result<Report, SourceError> {
        Ok(Report::default())
    }
}

fn planned(plan: Arc<Plan>) -> Part {
    Part::Planned { path: Vec::new(), plan, depth: 0 }
}

fn whole_machine(plan: Arc<Plan>, options: &FilesOptions) -> Result<Arc<Slot>, SourceError> {
    let failed = |error: rustix::io::Errno| SourceError::of_io("open", SnapshotPath::root(), &error.into());
    let base = Base::open(b"").map_err(failed)?;
    let device = match options.file_systems {
        FileSystems::All => None,
        FileSystems::One => {
            let flags = rustix::fs::AtFlags::EMPTY_PATH;
            Some(device_of(&rustix::fs::statx(&base.fd, c"", flags, super::metadata::FIELDS).map_err(failed)?))
        }
    };
    Ok(Slot::new(Part::Whole(Whole { place: Place::of(base), plan: Some(plan), depth: 0, device, ignores: None })))
}
