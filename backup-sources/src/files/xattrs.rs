//! Extended attributes, among them ACLs (`system.posix_acl_*`) and capabilities (`security.capability`).

use std::os::fd::AsFd;

use backup_core::model::Xattr;
use rustix::fs::{fgetxattr, flistxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

/// Linux keeps a file's list of names, and each value, below 64 KiB; file systems with larger ones exist.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The attributes of the file at `path`, not of what it points at. `Err(NOTSUP)`: the file system has none.
pub(super) fn read(path: &[u8]) -> Result<Vec<Xattr>, Errno> {
    collect(|buffer| llistxattr(path, buffer), |name, buffer| lgetxattr(path, name, buffer))
}

/// The attributes of an open file.
pub(super) fn read_open(file: impl AsFd) -> Result<Vec<Xattr>, Errno> {
    collect(|buffer| flistxattr(&file, buffer), |name, buffer| fgetxattr(&file, name, buffer))
}

/// The names of the attributes of an open file.
pub(super) fn names_open(file: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let list = grown(|buffer| flistxattr(&file, buffer))?;
    Ok(split(&list).map(<[u8]>::to_vec).collect())
}

fn collect(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<Xattr>, Errno> {
    let list = grown(list)?;
    let mut xattrs = Vec::new();
    for name in split(&list) {
        match grown(|buffer| get(name, buffer)) {
            Ok(value) => xattrs.push(Xattr { name: name.to_vec(), value }),
            // It was removed in between.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(xattrs)
}

fn split(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    list.split(|byte| *byte == 0).filter(|name| !name.is_empty())
}

fn grown(fill: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut first = [0; 512];
    match fill(&mut first) {
        Err(Errno::RANGE) => {}
        outcome => return outcome.map(|length| first[..length].to_vec()),
    }
    let mut bytes = vec![0; 16 * first.len()];
    loop {
        match fill(&mut bytes) {
            Ok(length) => {
                bytes.truncate(length);
                return Ok(bytes);
            }
            Err(Errno::RANGE) if bytes.len() < BYTES_MAX => bytes.resize(bytes.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}
