//! Who runs a job's slot: a lease under `ext/leases/JOB/SLOT`, so that two machines with one configuration do not both
//! back up at two o'clock.
//!
//! What is always true: a lease is created and never written over, so of several that ask at once one gets it. It holds
//! its expiry inside. One that has expired, or whose process is seen to be gone, is not deleted but followed by the next
//! of its slot (`SLOT.1`, `SLOT.2`), because deleting and creating are two steps between which others ask.
//!
//! A lease is a courtesy and no lock: a run without one costs work twice and harms nothing. A crash leaves the lease;
//! the next who asks sees that its holder is gone. A slot whose run came to its end stays taken, because its record says
//! so, whatever the expiry.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::layout::LEASES;
use super::lock::{pid_space, process_lives_since};
use super::unpacked;
use super::{Record, RecordBody, Repository};
use crate::contracts::{ObjectKey, PutMode, SinkErrorKind};
use crate::limits::{LEASE_HOLDERS_MAX, LEASE_KEPT_SECONDS, LEASE_SECONDS, SMALL_OBJECT_BYTES_MAX};
use crate::model::Id;
use crate::{Error, ErrorKind, Result};

/// A lease as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// When it was taken.
    pub time: Timestamp,
    /// When it ends by itself.
    pub expires: Timestamp,
    /// The holder's machine.
    pub hostname: String,
    /// The holder's process.
    pub pid: i32,
    /// The boot of the machine and the process-number space on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid_space: Option<String>,
    /// By which the holder knows its own again, when a store has created it and said that it failed.
    mark: Id,
}

/// What became of asking for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The slot is the caller's.
    Taken,
    /// Somebody else runs it, or did.
    Held(Lease),
}

impl Repository {
    /// Asks for the slot `slot` of a job: [`Claim::Taken`] for one of all that ask. Old leases of the job are removed
    /// where that is allowed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] for a job whose name is no part of a key; what the store says, also that it keeps no leases.
    pub fn claim(&self, job: &str, slot: Timestamp) -> Result<Claim> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if job.is_empty() || job.starts_with('.') || !job.bytes().all(is_name) {
            return Err(Error::invalid(format!("the job {job:?}"), "its name is no word"));
        }
        let own = self.own_lease()?;
        // Leases of slots long past are gone: of them, the records alone tell.
        if slot < oldest_kept(own.time)
            && let Some(record) = self.run_of(job, slot)?
        {
            return Ok(Claim::Held(Lease::of(&record)));
        }
        for holder in 0..LEASE_HOLDERS_MAX {
            let key = key(job, slot, holder);
            let sealed = unpacked::seal_unpacked(&self.inner.master, self.inner.form, &own)?;
            match self.store().put(&key, sealed, PutMode::Create) {
                Ok(()) => {
                    self.store().sync()?;
                    self.forget_leases(job, slot, own.time);
                    return Ok(Claim::Taken);
                }
                Err(error) if *error.kind() == ErrorKind::Sink(SinkErrorKind::AlreadyExists) => {}
                Err(error) => return Err(error),
            }
            let Some(lease) = self.lease(&key)? else { continue };
            if lease.mark == own.mark {
                return Ok(Claim::Taken);
            }
            let is_last = holder + 1 == LEASE_HOLDERS_MAX;
            if is_last || lease.holds(&own) || self.run_of(job, slot)?.is_some() {
                return Ok(Claim::Held(lease));
            }
        }
        Err(Error::new(ErrorKind::Broken("no lease of a slot could be read"), job))
    }

    fn own_lease(&self) -> Result<Lease> {
        let now = self.clock().now();
        let mut mark = [0; 32];
        getrandom::fill(&mut mark).map_err(|error| {
            Error::new(ErrorKind::Broken("no random numbers from the system"), "lease").caused_by(error)
        })?;
        Ok(Lease {
            time: now,
            expires: now.saturating_add(SignedDuration::from_secs(LEASE_SECONDS)).unwrap_or(Timestamp::MAX),
            hostname: self.identity().hostname.clone(),
            pid: self.identity().pid,
            pid_space: pid_space(),
            mark: Id::from_bytes(mark),
        })
    }

    /// A lease; `None` when it is gone, or is none. A damaged one would otherwise hold its slot for ever.
    fn lease(&self, key: &ObjectKey) -> Result<Option<Lease>> {
        match self.store().get(key, None) {
            Ok(stored) if stored.len() as u64 <= SMALL_OBJECT_BYTES_MAX => {
                Ok(unpacked::open_unpacked(&self.inner.master, key, &stored).ok())
            }
            Ok(_) => Ok(None),
            Err(error) if *error.kind() == ErrorKind::Missing => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The record of a run of this slot that came to its end, well or not.
    fn run_of(&self, job: &str, slot: Timestamp) -> Result<Option<Record>> {
        let slot = Value::String(slot.to_string());
        let is_of_slot = |body: &RecordBody| match body {
            RecordBody::Run { figures, .. } => {
                figures.get("job").and_then(Value::as_str) == Some(job) && figures.get("slot") == Some(&slot)
            }
            _ => false,
        };
        Ok(self.records()?.into_iter().map(|(_, record)| record).find(|record| is_of_slot(&record.body)))
    }

    /// Removes leases of slots long past, but those of `taken`, which may be one. What cannot be removed lies there and is
    /// in nobody's way.
    fn forget_leases(&self, job: &str, taken: Timestamp, now: Timestamp) {
        let Ok(listed) = self.store().list(LEASES) else { return };
        let (limit, taken) = (spelled(oldest_kept(now)), spelled(taken));
        let folder = format!("{LEASES}/{job}/");
        let old = listed.into_iter().map(|info| info.key).filter(|key| {
            // The spelling of slots sorts by time.
            let is_old = |name: &str| name < limit.as_str() && name.len() >= limit.len() && !name.starts_with(&taken);
            key.as_str().strip_prefix(&folder).is_some_and(is_old)
        });
        let _ = self.store().delete_each(old);
    }
}

impl Lease {
    /// The lease of a run that has ended, by its record: nobody holds it, and nobody gets it.
    fn of(record: &Record) -> Self {
        Self {
            time: record.time,
            expires: record.time,
            hostname: record.hostname.clone(),
            pid: 0,
            pid_space: None,
            mark: Id::from_bytes([0; 32]),
        }
    }

    /// Whether its holder may still be at work, seen by who holds `own`.
    fn holds(&self, own: &Self) -> bool {
        let same_world = self.pid_space.is_some() && self.pid_space == own.pid_space;
        let is_gone = same_world && self.pid != own.pid && !process_lives_since(self.pid, self.time);
        self.expires > own.time && !is_gone
    }
}

/// Of slots before this, leases are removed.
fn oldest_kept(now: Timestamp) -> Timestamp {
    now.saturating_sub(SignedDuration::from_secs(LEASE_KEPT_SECONDS)).unwrap_or(Timestamp::MIN)
}

fn key(job: &str, slot: Timestamp, holder: u32) -> ObjectKey {
    let slot = spelled(slot);
    ObjectKey::new(match holder {
        0 => format!("{LEASES}/{job}/{slot}"),
        _ => format!("{LEASES}/{job}/{slot}.{holder}"),
    })
}

/// A slot without characters that some store does not take.
fn spelled(slot: Timestamp) -> String {
    slot.strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::{Clock as _, ManualClock};
    use crate::repository::{CreateOptions, Identity, Passphrase, ScryptCost};
    use crate::testing::MemorySink;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn opened(sink: &Arc<MemorySink>, hostname: &str, pid: i32, clock: &Arc<ManualClock>) -> Repository {
        let identity = Identity { hostname: hostname.to_owned(), username: "me".into(), uid: 1, gid: 1, pid };
        let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
        let passphrase = Passphrase::new("x");
        let clock = Arc::clone(clock) as Arc<dyn crate::clock::Clock>;
        let created =
            Repository::create(Arc::clone(sink) as _, &passphrase, &options, identity.clone(), Arc::clone(&clock));
        created.unwrap_or_else(|_| {
            Repository::open(Arc::clone(sink) as _, &passphrase, identity, clock, &crate::observe::Silent).unwrap()
        })
    }

    #[test]
    fn a_slot_is_given_once_and_every_job_and_slot_by_itself() {
        let (sink, clock) = (Arc::new(MemorySink::default()), Arc::new(ManualClock::new(at("2026-11-22T02:00:05Z"))));
        let here = i32::try_from(std::process::id()).unwrap();
        let (one, other) = (opened(&sink, "one", here, &clock), opened(&sink, "other", here, &clock));
        let slot = at("2026-11-22T02:00:00Z");
        assert_eq!(one.claim("app", slot).unwrap(), Claim::Taken);
        assert!(matches!(other.claim("app", slot).unwrap(), Claim::Held(lease) if lease.hostname == "one"));
        assert_eq!(other.claim("web", slot).unwrap(), Claim::Taken);
        assert_eq!(other.claim("app", at("2026-11-23T02:00:00Z")).unwrap(), Claim::Taken);
        for wrong in ["", "../x", "a/b", "é"] {
            assert!(one.claim(wrong, slot).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_dead_machine_left_is_taken_over_once_it_has_expired() {
        let (sink, clock) = (Arc::new(MemorySink::default()), Arc::new(ManualClock::new(at("2026-11-22T02:00:05Z"))));
        let here = i32::try_from(std::process::id()).unwrap();
        let (one, other) = (opened(&sink, "one", here, &clock), opened(&sink, "other", here, &clock));
        let slot = at("2026-11-22T02:00:00Z");
        assert_eq!(one.claim("app", slot).unwrap(), Claim::Taken);
        clock.advance(SignedDuration::from_secs(LEASE_SECONDS + 1));
        assert_eq!(other.claim("app", slot).unwrap(), Claim::Taken);
        assert!(matches!(one.claim("app", slot).unwrap(), Claim::Held(lease) if lease.hostname == "other"));
    }

    #[test]
    fn a_holder_whose_process_is_gone_holds_nothing() {
        let (sink, clock) = (Arc::new(MemorySink::default()), Arc::new(ManualClock::new(at("2026-11-22T02:00:05Z"))));
        let (gone, here) = (i32::MAX - 7, i32::try_from(std::process::id()).unwrap());
        let slot = at("2026-11-22T02:00:00Z");
        assert_eq!(opened(&sink, "one", gone, &clock).claim("app", slot).unwrap(), Claim::Taken);
        assert_eq!(opened(&sink, "one", here, &clock).claim("app", slot).unwrap(), Claim::Taken);
    }

    #[test]
    fn a_slot_whose_run_ended_stays_taken_whatever_the_expiry() {
        let (sink, clock) = (Arc::new(MemorySink::default()), Arc::new(ManualClock::new(at("2026-11-22T02:00:05Z"))));
        let (one, other) = (opened(&sink, "one", 1, &clock), opened(&sink, "other", 1, &clock));
        let slot = at("2026-11-22T02:00:00Z");
        assert_eq!(one.claim("app", slot).unwrap(), Claim::Taken);
        let figures = serde_json::json!({"job": "app", "slot": slot.to_string()}).as_object().unwrap().clone();
        one.save_record(RecordBody::Run { verb: "run".into(), outcome: "failed".into(), snapshot: None, figures })
            .unwrap();
        clock.advance(SignedDuration::from_secs(LEASE_SECONDS + 1));
        assert!(matches!(other.claim("app", slot).unwrap(), Claim::Held(_)));
    }

    #[test]
    fn a_slot_long_past_is_given_once_too() {
        let (sink, clock) = (Arc::new(MemorySink::default()), Arc::new(ManualClock::new(at("2026-11-22T02:00:05Z"))));
        let here = i32::try_from(std::process::id()).unwrap();
        let (one, other) = (opened(&sink, "one", here, &clock), opened(&sink, "other", here, &clock));
        let slot = at("2026-11-01T02:00:00Z");
        assert_eq!(one.claim("app", slot).unwrap(), Claim::Taken);
        assert!(matches!(other.claim("app", slot).unwrap(), Claim::Held(lease) if lease.hostname == "one"));
        let figures = serde_json::json!({"job": "app", "slot": slot.to_string()}).as_object().unwrap().clone();
        one.save_record(RecordBody::Run { verb: "run".into(), outcome: "done".into(), snapshot: None, figures })
            .unwrap();
        assert_eq!(one.claim("app", at("2026-11-22T02:00:00Z")).unwrap(), Claim::Taken);
        assert_eq!(one.store().list(LEASES).unwrap().len(), 1, "the lease of the old slot is gone");
        assert!(matches!(other.claim("app", slot).unwrap(), Claim::Held(lease) if lease.hostname == "one"));
    }

    #[test]
    fn old_leases_of_the_job_go_and_others_stay() {
        let (sink, clock) = (Arc::new(MemorySink::default()), Arc::new(ManualClock::new(at("2026-11-22T02:00:05Z"))));
        let one = opened(&sink, "one", 1, &clock);
        for job in ["app", "app2"] {
            assert_eq!(one.claim(job, clock.now()).unwrap(), Claim::Taken);
        }
        clock.advance(SignedDuration::from_secs(LEASE_KEPT_SECONDS + 60));
        assert_eq!(one.claim("app", clock.now()).unwrap(), Claim::Taken);
        let keys: Vec<_> = one.store().list(LEASES).unwrap().into_iter().map(|info| info.key.to_string()).collect();
        let expected = ["ext/leases/app/20261206T020105Z", "ext/leases/app2/20261122T020005Z"];
        assert_eq!(
            keys.iter().collect::<std::collections::BTreeSet<_>>(),
            expected.map(str::to_owned).iter().collect()
        );
    }
}
