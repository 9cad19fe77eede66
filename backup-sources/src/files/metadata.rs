//! What the system says of a file, as a node.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use backup_core::model::{Metadata, Node, NodeKind, Xattr};
use jiff::Timestamp;
use nix::unistd::{Gid, Group, Uid, User};
use rustix::fs::{Statx, StatxFlags, StatxTimestamp, makedev};

use super::options::Atime;

/// The fields that a node is made of.
pub(super) const FIELDS: StatxFlags = StatxFlags::BASIC_STATS;

/// Makes nodes.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    atime: Atime,
    users: Mutex<HashMap<u32, String>>,
    groups: Mutex<HashMap<u32, String>>,
}

impl Nodes {
    pub(super) fn new(atime: Atime) -> Self {
        Self { atime, ..Self::default() }
    }

    /// The node of `name`.
    pub(super) fn node(&self, name: &[u8], kind: NodeKind, stat: &Statx, xattrs: Vec<Xattr>) -> Node {
        let metadata = self.metadata(&kind, stat, xattrs);
        Node { name: name.to_vec(), kind, metadata }
    }

    /// The metadata of something of this kind.
    pub(super) fn metadata(&self, kind: &NodeKind, stat: &Statx, xattrs: Vec<Xattr>) -> Metadata {
        let mtime = timestamp(stat.stx_mtime);
        let has_links = !matches!(kind, NodeKind::Dir { .. } | NodeKind::Fifo | NodeKind::Socket);
        Metadata {
            mode: u32::from(stat.stx_mode) & 0o7777,
            mtime: Some(mtime),
            atime: if self.atime == Atime::Recorded { Some(timestamp(stat.stx_atime)) } else { Some(mtime) },
            ctime: timestamp(stat.stx_ctime),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            user: cached(&self.users, stat.stx_uid, |uid| {
                User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
            }),
            group: cached(&self.groups, stat.stx_gid, |gid| {
                Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
            }),
            inode: stat.stx_ino,
            device_id: device_of(stat),
            links: if has_links { u64::from(stat.stx_nlink) } else { 0 },
            xattrs,
            generic_attributes: None,
            error: String::new(),
        }
    }
}

/// The number of the device that something is on, as `st_dev` gives it.
pub(super) fn device_of(stat: &Statx) -> u64 {
    makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

/// The number of the device that something is, as `st_rdev` gives it.
pub(super) fn device_number_of(stat: &Statx) -> u64 {
    makedev(stat.stx_rdev_major, stat.stx_rdev_minor)
}

/// An instant; one that no calendar of ours has is moved to the nearest that it has.
pub(super) fn timestamp(time: StatxTimestamp) -> Timestamp {
    let nanosecond = i32::try_from(time.tv_nsec).unwrap_or(0);
    Timestamp::new(time.tv_sec, nanosecond).unwrap_or(if time.tv_sec < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// A look-up may ask a directory server: each number is asked for once.
fn cached(names: &Mutex<HashMap<u32, String>>, number: u32, look_up: impl FnOnce(u32) -> Option<String>) -> String {
    let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
    names.entry(number).or_insert_with(|| look_up(number).unwrap_or_default()).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_before_1970_keep_their_nanoseconds() {
        let mut time = rustix::fs::statx(rustix::fs::CWD, "/", rustix::fs::AtFlags::empty(), FIELDS).unwrap().stx_mtime;
        (time.tv_sec, time.tv_nsec) = (-2, 300_000_000);
        assert_eq!(timestamp(time).as_nanosecond(), -1_700_000_000);
        time.tv_sec = i64::MAX;
        assert_eq!(timestamp(time), Timestamp::MAX);
        time.tv_sec = i64::MIN;
        assert_eq!(timestamp(time), Timestamp::MIN);
    }
}
