//! Locks, as restic's (restic's design document, *Locks*), and never in the way of tonight's run.
//!
//! A verb that needs others to stay away writes a lock, waits until a listing must show it, and looks whether
//! somebody else's forbids it. Locks are refreshed while they are held. One that nobody can be holding any more is
//! removed with a notice: its process is gone from this host, or it is older than half an hour.
//!
//! `restic unlock` asks whether a process lives by sending it SIGHUP, which would end it: while a lock names this
//! process the signal is caught and ignored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt as _;
use jiff::Timestamp;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

use super::Repository;
use super::layout::{LOCKS, Named};
use super::unpacked;
use crate::bridge::{Pending, PendingListing, Store};
use crate::contracts::{LISTING_LAG, ObjectInfo, PutMode, SinkError, SinkErrorKind};
use crate::limits::{LOCK_LOST_SECONDS, LOCK_REFRESH_SECONDS, LOCK_STALE_SECONDS};
use crate::model::{Id, LockId};
use crate::observe::{Event, Observer};
use crate::{Error, ErrorKind, Result};

/// Whom a verb can bear beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Everybody but exclusive holders: reading, and adding.
    Shared,
    /// Nobody: deleting.
    Exclusive,
    /// No lock is written and none is looked at: for credentials that cannot delete.
    None,
}

/// A lock as it is stored, in restic's words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LockFile {
    /// When it was written or last refreshed.
    pub time: Timestamp,
    /// Whether it bears nobody beside it.
    #[serde(default)]
    pub exclusive: bool,
    /// The holder's machine.
    #[serde(default)]
    pub hostname: String,
    /// The holder's user.
    #[serde(default)]
    pub username: String,
    /// The holder's process.
    #[serde(default)]
    pub pid: i32,
    /// The holder's user number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The holder's group number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    /// The boot of the machine and the process-number space on it: two containers, or two machines, with one host name
    /// are two worlds. Ours; restic passes over it.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "x_pid_space")]
    pub pid_space: Option<String>,
}

impl LockFile {
    fn described(&self) -> String {
        let kind = if self.exclusive { "an exclusive" } else { "a" };
        let Self { username, hostname, pid, time, .. } = self;
        format!("process {pid} of {username} on {hostname}, with {kind} lock of {time:.0}")
    }

    /// Whether nobody can be holding it any more, seen from the machine and process world that `own` names.
    fn is_stale(&self, own: &Self, now: Timestamp) -> bool {
        if now.as_second() - self.time.as_second() > LOCK_STALE_SECONDS {
            return true;
        }
        let same_world = match (&self.pid_space, &own.pid_space) {
            (Some(theirs), Some(ours)) => theirs == ours,
            // Another program's lock tells no more than the host.
            _ => self.hostname == own.hostname,
        };
        same_world && self.pid != own.pid && !process_lives_since(self.pid, self.time)
    }
}

/// Whether a process with this number lives and is older than `since`; a younger one has only inherited the number.
pub(super) fn process_lives_since(pid: i32, since: Timestamp) -> bool {
    // 0 and below are no process but groups of them; a lock may say so all the same.
    let Some(pid) = Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw) else { return false };
    // "Not permitted" means that it lives and is somebody else's.
    if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
        return false;
    }
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) else { return true };
    // The command's name may hold spaces and parentheses; what follows it does not.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    // One that has ended, and that nobody has asked how, holds nothing.
    if fields.trim_start().starts_with(['Z', 'X']) {
        return false;
    }
    // Where the start cannot be read, the process counts as the holder. A second of slack: clocks tick in hundredths.
    process_start(fields).is_none_or(|start| start.as_second() <= since.as_second() + 1)
}

/// When a process began (proc_pid_stat(5), field 22, in clock ticks since boot), of the fields behind its name.
fn process_start(fields: &str) -> Option<Timestamp> {
    let ticks: i64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let per_second = i64::try_from(rustix::param::clock_ticks_per_second()).ok()?;
    Timestamp::from_second(boot + ticks / per_second).ok()
}

/// The namespace's number alone is the same on every machine that has no containers.
pub(super) fn pid_space() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.to_string_lossy()))
}

/// What this machine is called, whatever name its snapshots carry: `restic unlock` compares with it.
fn machine_name(identity: &super::Identity) -> String {
    match rustix::system::uname().nodename().to_str() {
        Ok(name) if !name.is_empty() => name.to_owned(),
        _ => identity.hostname.clone(),
    }
}

/// A lock that is held until it is dropped.
///
/// A verb may look around as soon as it has one, and calls [`Lock::confirm`] before it changes anything.
#[derive(Debug)]
pub struct Lock(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    repository: Arc<super::Inner>,
    file: LockFile,
    current: std::sync::Mutex<LockId>,
    /// When it was last written.
    written: std::sync::Mutex<Timestamp>,
    lost: AtomicBool,
    /// The waiting time after writing, and the look after it; taken by the first confirmation.
    settling: std::sync::Mutex<Option<PendingListing>>,
    /// Whether the removal has come to its end.
    has_left: AtomicBool,
    /// The removal, once it was begun.
    leaving: std::sync::Mutex<Option<Pending<Result<(), SinkError>>>>,
    /// Dropped to end the refreshing.
    ended: std::sync::Mutex<Option<tokio::sync::oneshot::Sender<()>>>,
}

impl Lock {
    /// Takes a lock, or says who holds one that forbids it.
    pub(super) fn acquire(repository: &Repository, mode: LockMode, observer: &dyn Observer) -> Result<Self> {
        let exclusive = match mode {
            LockMode::None => return Ok(Self(None)),
            LockMode::Shared => false,
            LockMode::Exclusive => true,
        };
        let inner = &repository.inner;
        let identity = &inner.identity;
        let file = LockFile {
            time: inner.clock.now(),
            exclusive,
            hostname: machine_name(identity),
            username: identity.username.clone(),
            pid: identity.pid,
            uid: Some(identity.uid),
            gid: Some(identity.gid),
            pid_space: pid_space(),
        };
        look_around(inner, &file, None, inner.store.list(LOCKS)?, observer)?;
        catch_hangup(&inner.store);
        let id: LockId = unpacked::save(&inner.store, &inner.master, inner.form, &file)?;
        inner.store.sync()?;
        let held = Arc::new(Held {
            repository: Arc::clone(inner),
            written: std::sync::Mutex::new(file.time),
            file,
            current: std::sync::Mutex::new(id),
            lost: AtomicBool::new(false),
            settling: std::sync::Mutex::new(Some(look_when_settled(&inner.store))),
            has_left: AtomicBool::new(false),
            leaving: std::sync::Mutex::default(),
            ended: std::sync::Mutex::default(),
        });
        held.keep_fresh();
        Ok(Self(Some(held)))
    }

    /// Waits until everybody else must have seen the lock, and makes sure that nobody's forbids it. Once it has
    /// succeeded it costs nothing.
    pub fn confirm(&self, observer: &dyn Observer) -> Result<()> {
        let Some(held) = &self.0 else { return Ok(()) };
        let settling = lock(&held.settling).take();
        if let Some(settling) = settling {
            look_around(&held.repository, &held.file, Some(*lock(&held.current)), settling.wait()?, observer)?;
        }
        self.check()
    }

    /// Begins to remove the lock: nothing is changed any more that it is for. Dropping it waits for the end.
    pub fn leave(&self) {
        if let Some(held) = &self.0 {
            held.leave();
        }
    }

    /// Waits until it is removed, and tells when it could not be: it keeps others out until it is stale.
    pub fn tell_if_it_stays(&self, observer: &dyn Observer) {
        let Some(held) = &self.0 else { return };
        held.leave();
        let leaving = lock(&held.leaving).take();
        held.has_left.store(true, Ordering::Release);
        if let Some(Err(error)) = leaving.and_then(Pending::join) {
            observer.event(Event::Notice(&format!(
                "its lock stays for {} minutes, because it could not be removed ({}): who may not delete backs up with --no-lock, or lock_free in the configuration",
                LOCK_STALE_SECONDS / 60,
                error.kind
            )));
        }
    }

    /// Fails once the lock could not be refreshed for so long that others may have removed it.
    pub fn check(&self) -> Result<()> {
        match &self.0 {
            Some(held) if held.lost.load(Ordering::Acquire) => {
                Err(Error::new(ErrorKind::LockLost, held.repository.store.location()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(held) = &self.0
            && !held.has_left.load(Ordering::Acquire)
        {
            held.leave();
            if let Some(leaving) = lock(&held.leaving).take() {
                // A lock that cannot be removed now goes stale; there is nobody to tell.
                let _ = leaving.join();
            }
        }
    }
}

impl Held {
    /// Begins to remove the lock, once.
    fn leave(&self) {
        lock(&self.leaving).get_or_insert_with(|| {
            drop(lock(&self.ended).take());
            let (sink, key) = (Arc::clone(self.repository.store.sink()), lock(&self.current).key());
            self.repository.store.start(async move { sink.delete(&key).await })
        });
    }

    /// Refreshes the lock on the store's runtime until the lock is dropped.
    fn keep_fresh(self: &Arc<Self>) {
        let (ended, mut end) = tokio::sync::oneshot::channel::<()>();
        *lock(&self.ended) = Some(ended);
        let held = Arc::downgrade(self);
        drop(self.repository.store.start(async move {
            let mut refreshed = tokio::time::Instant::now();
            let mut wait = Duration::from_secs(LOCK_REFRESH_SECONDS);
            loop {
                tokio::select! {
                    _ = &mut end => return,
                    () = tokio::time::sleep(wait) => {}
                }
                let Some(held) = held.upgrade() else { return };
                // `Instant` stands still while the machine sleeps; the wall clock tells that others may have taken the
                // lock for stale, and come in, meanwhile.
                let age = held.repository.clock.now().as_second() - lock(&held.written).as_second();
                if age > LOCK_STALE_SECONDS {
                    held.lost.store(true, Ordering::Release);
                    return;
                }
                // It is as fresh as the time inside it, however long it was on its way.
                let begun = tokio::time::Instant::now();
                match held.refresh().await {
                    Ok(()) if refreshed.elapsed() > Duration::from_secs(LOCK_LOST_SECONDS) => {
                        // It came too late: others may have taken the one before it for stale meanwhile.
                        held.lost.store(true, Ordering::Release);
                        return;
                    }
                    Ok(()) => {
                        // Given up in the middle of a refresh: the new object would stay behind.
                        if end.try_recv() != Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                            let current = lock(&held.current).key();
                            let _ = held.repository.store.sink().delete(&current).await;
                            return;
                        }
                        refreshed = begun;
                        wait = Duration::from_secs(LOCK_REFRESH_SECONDS).saturating_sub(begun.elapsed());
                    }
                    Err(_) if refreshed.elapsed() > Duration::from_secs(LOCK_LOST_SECONDS) => {
                        held.lost.store(true, Ordering::Release);
                        return;
                    }
                    Err(_) => wait = Duration::from_secs(15),
                }
            }
        }));
    }

    async fn refresh(&self) -> Result<()> {
        let repository = &self.repository;
        let now = repository.clock.now();
        if now.as_second() - self.file.time.as_second() < 0 {
            // The clock was set back: keep the later time, or the lock would look older than it is.
            return Ok(());
        }
        let file = LockFile { time: now, ..self.file.clone() };
        let sealed = unpacked::seal_unpacked(&repository.master, repository.form, &file)?;
        let new = LockId::from(Id::of(&sealed));
        let sink = repository.store.sink();
        sink.put(&new.key(), sealed, PutMode::Overwrite).await?;
        *lock(&self.written) = now;
        let old = std::mem::replace(&mut *lock(&self.current), new);
        sink.delete(&old.key()).await?;
        Ok(())
    }
}

/// Looks which locks there are once everybody else must have seen the one that was just written, whether or not
/// somebody waits for it by then.
fn look_when_settled(store: &Store) -> PendingListing {
    let sink = Arc::clone(store.sink());
    store.start(async move {
        tokio::time::sleep(sink.listing_lag()).await;
        sink.list(LOCKS).try_collect().await
    })
}

/// Fails if a lock of somebody else, among those that were `listed`, forbids `own`; removes the stale ones.
fn look_around(
    repository: &Arc<super::Inner>,
    own: &LockFile,
    own_id: Option<LockId>,
    listed: Vec<ObjectInfo>,
    observer: &dyn Observer,
) -> Result<()> {
    let store = &repository.store;
    let now = repository.clock.now();
    for ObjectInfo { key, bytes } in listed {
        let Some(id) = LockId::from_key(&key).filter(|id| Some(*id) != own_id && bytes > 0) else { continue };
        let Some(file) = read_patiently(repository, id)? else { continue };
        if file.is_stale(own, now) {
            let removed = match store.delete(&id.key()) {
                Ok(()) => "removed",
                Err(error) if *error.kind() == ErrorKind::Sink(SinkErrorKind::PermissionDenied) => "passed over",
                Err(error) => return Err(error),
            };
            observer.event(Event::Notice(&format!("{removed} a stale lock: {}", file.described())));
        } else if file.exclusive || own.exclusive {
            return Err(Error::new(ErrorKind::Locked(file.described()), store.location()));
        }
    }
    Ok(())
}

/// Reads a lock; `None` when it is gone meanwhile. One that is being written may look damaged for a moment.
fn read_patiently(repository: &Arc<super::Inner>, id: LockId) -> Result<Option<LockFile>> {
    let mut tries = 0;
    loop {
        match unpacked::load(&repository.store, &repository.master, id) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if *error.kind() == ErrorKind::Missing => return Ok(None),
            Err(error) if tries == 3 => {
                let text = format!("a lock that cannot be read ({id:.8})");
                return Err(Error::new(ErrorKind::Locked(text), repository.store.location()).caused_by(error));
            }
            Err(_) => {
                tries += 1;
                std::thread::sleep(LISTING_LAG);
            }
        }
    }
}

/// All locks, for people and for `unlock`.
pub(super) fn list(repository: &Repository) -> Result<Vec<(LockId, Result<LockFile>)>> {
    let inner = &repository.inner;
    let ids = unpacked::list::<LockId>(&inner.store)?;
    Ok(ids.into_iter().map(|(id, _)| (id, unpacked::load(&inner.store, &inner.master, id))).collect())
}

/// Which locks `unlock` removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlock {
    /// Those that nobody can be holding any more, and those that cannot be read.
    Stale,
    /// All: somebody may be holding one.
    All,
}

/// Removes locks; returns those that were removed and those that were left.
pub(super) fn unlock(repository: &Repository, which: Unlock) -> Result<(usize, usize)> {
    let inner = &repository.inner;
    let identity = &inner.identity;
    let own = LockFile {
        time: inner.clock.now(),
        exclusive: true,
        hostname: machine_name(identity),
        username: String::new(),
        pid: identity.pid,
        uid: None,
        gid: None,
        pid_space: pid_space(),
    };
    let (mut removed, mut left) = (0, 0);
    for (id, file) in list(repository)? {
        let is_alive = file.is_ok_and(|file| !file.is_stale(&own, own.time));
        if which == Unlock::All || !is_alive {
            inner.store.delete(&id.key())?;
            removed += 1;
        } else {
            left += 1;
        }
    }
    Ok((removed, left))
}

/// Installs a handler for SIGHUP, which takes away its power to end the process.
fn catch_hangup(store: &Store) {
    store
        .start(async {
            // Without a handler a lock is still better than none.
            let _ = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        })
        .join();
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn file(hostname: &str, pid: i32, time: Timestamp) -> LockFile {
        let (username, pid_space) = (String::new(), pid_space());
        LockFile { time, exclusive: false, hostname: hostname.into(), username, pid, uid: None, gid: None, pid_space }
    }

    #[test]
    fn a_lock_is_stale_when_its_process_is_gone_or_it_is_half_an_hour_old() {
        let now = Timestamp::now();
        let minutes = |count: i64| SignedDuration::from_mins(count);
        let own = file("here", i32::try_from(std::process::id()).unwrap(), now);
        let gone = i32::MAX - 7;
        assert!(file("here", gone, now).is_stale(&own, now));
        let of_restic = |hostname: &str, time| LockFile { pid_space: None, ..file(hostname, gone, time) };
        assert!(of_restic("here", now).is_stale(&own, now));
        assert!(!of_restic("there", now).is_stale(&own, now));
        assert!(!of_restic("there", now - minutes(29)).is_stale(&own, now));
        assert!(of_restic("there", now - minutes(31)).is_stale(&own, now));
        // No process has such a number, and the system takes it for a group.
        for no_process in [0, -1, i32::MIN] {
            assert!(file("here", no_process, now).is_stale(&own, now));
        }
        // Process 1 lives and is older than any lock written now.
        assert!(!file("here", 1, now).is_stale(&own, now));
        // Another machine of the same name, or another container.
        let another_world = LockFile { pid_space: Some("boot pid:[1]".into()), ..file("here", gone, now) };
        assert!(!another_world.is_stale(&own, now));
    }

    #[test]
    fn a_process_younger_than_its_lock_is_not_the_holder() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let now = Timestamp::now();
        assert!(process_lives_since(pid, now));
        assert!(!process_lives_since(pid, now - SignedDuration::from_mins(5)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!process_lives_since(pid, now));
    }
}
