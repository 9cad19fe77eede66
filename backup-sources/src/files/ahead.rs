//! Reads folders ahead of the walk.
//!
//! A [`Slot`] is a part of a folder that is looked at once: by one of a few threads that run ahead, or by the walk
//! itself when it gets there first. So the threads may stop whenever enough waits, and forget what they like: the walk
//! never waits for anything but a part that is being looked at this moment.
//!
//! What waits to be read is a stack in the order in which the walk will come by, so that the threads go depth first
//! as the walk does and stay near it.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use backup_core::limits;

use super::list::{self, Listing, Part, Walk};

/// A part of a folder, on its way to being known.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Debug)]
enum State {
    Waiting(Part),
    Running,
    /// Running, and the walk waits for it: waking nobody would still be a call of the system.
    Awaited,
    Ready(Listing),
    Gone,
}

impl Slot {
    pub(super) fn new(part: Part) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::Waiting(part)), ready: Condvar::new() })
    }

    /// Takes the part when nobody has begun with it.
    fn begin(&self) -> Option<Part> {
        let mut state = lock(&self.state);
        match std::mem::replace(&mut *state, State::Running) {
            State::Waiting(part) => Some(part),
            other => {
                *state = other;
                None
            }
        }
    }
}

/// The threads that read ahead. Dropping it ends them.
#[derive(Debug)]
pub(super) struct Ahead {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    walk: Arc<Walk>,
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// The last is wanted first.
    slots: VecDeque<Arc<Slot>>,
    entries_ready: usize,
    idle_count: usize,
    is_ending: bool,
}

impl Ahead {
    /// Starts `count` threads; as many of them as the system lets, and none is enough.
    pub(super) fn start(walk: Arc<Walk>, count: usize) -> Self {
        let shared = Arc::new(Shared { walk, queue: Mutex::default(), work: Condvar::new() });
        let threads = (0..count).filter_map(|_| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("walk".to_owned()).spawn(move || shared.run()).ok()
        });
        let threads = threads.collect();
        Self { shared, threads }
    }

    /// What was found in a slot. `None` when it was taken before, or the thread that looked at it panicked.
    pub(super) fn take(&self, slot: &Slot) -> Option<Listing> {
        if let Some(part) = slot.begin() {
            return Some(self.shared.look_at(part));
        }
        let mut state = lock(&slot.state);
        while matches!(*state, State::Running | State::Awaited) {
            *state = State::Awaited;
            state = slot.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let taken = std::mem::replace(&mut *state, State::Gone);
        drop(state);
        let State::Ready(listing) = taken else {
            return None;
        };
        let mut queue = lock(&self.shared.queue);
        let was_full = queue.entries_ready >= limits::WALK_ENTRIES_AHEAD_MAX;
        queue.entries_ready -= listing.found.len();
        if was_full && queue.entries_ready < limits::WALK_ENTRIES_AHEAD_MAX {
            self.shared.work.notify_all();
        }
        Some(listing)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        queue.is_ending = true;
        queue.slots.clear();
        drop(queue);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has left its slot as gone, which the walk reports.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        while let Some(slot) = self.next() {
            let Some(part) = slot.begin() else { continue };
            let mut work = Work { slot: &slot, result: State::Gone };
            let listing = self.look_at(part);
            lock(&self.queue).entries_ready += listing.found.len();
            work.result = State::Ready(listing);
        }
    }

    fn next(&self) -> Option<Arc<Slot>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.is_ending {
                return None;
            }
            if queue.entries_ready < limits::WALK_ENTRIES_AHEAD_MAX
                && let Some(slot) = queue.slots.pop_back()
            {
                return Some(slot);
            }
            queue.idle_count += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle_count -= 1;
        }
    }

    fn look_at(&self, part: Part) -> Listing {
        list::read(&self.walk, part, &mut |slots| self.announce(slots))
    }

    fn announce(&self, slots: Vec<Arc<Slot>>) {
        if slots.is_empty() {
            return;
        }
        let mut queue = lock(&self.queue);
        let wakes = queue.idle_count.min(slots.len());
        queue.slots.extend(slots.into_iter().rev());
        let excess = queue.slots.len().saturating_sub(limits::WALK_FOLDERS_WAITING_MAX);
        let forgotten: Vec<_> = queue.slots.drain(..excess).collect();
        drop(queue);
        drop(forgotten);
        for _ in 0..wakes {
            self.work.notify_one();
        }
    }
}

/// A slot being looked at. Whatever happens, its end is told to who waits for it.
struct Work<'a> {
    slot: &'a Slot,
    result: State,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, State::Gone);
        let before = std::mem::replace(&mut *lock(&self.slot.state), result);
        if matches!(before, State::Awaited) {
            self.slot.ready.notify_all();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
