//! Removes what is in the way or not in the snapshot, never through a link and never into another file system.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, renameat, statx, unlinkat};
use rustix::io::Errno;

use super::Shared;
use super::folders::open_folder;
use super::options::Extra;
use crate::files::metadata::{FIELDS, device_of};
use crate::files::names::list_anew;

/// Folders within folders are removed with one open file per level. Those that are deeper are first moved up, so that
/// no depth exhausts what a process may have open.
const LEVELS_MAX: usize = 64;

/// Removes the entry `name` of `folder` with everything in it.
pub(super) fn remove(folder: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let device = device(folder)?;
    let mut names = vec![name.to_vec()];
    let mut moved_count = 0;
    while let Some(name) = names.pop() {
        let mut move_up = |below: &OwnedFd, deep: &[u8]| {
            let unique = format!(".backup-removes-{}-{moved_count}", std::process::id()).into_bytes();
            moved_count += 1;
            renameat(below, deep, folder, unique.as_slice())?;
            names.push(unique);
            Ok(())
        };
        remove_folder(folder, &name, device, 0, &mut move_up)?;
    }
    Ok(())
}

fn remove_folder(
    above: &OwnedFd,
    name: &[u8],
    device_expected: u64,
    level: usize,
    move_up: &mut dyn FnMut(&OwnedFd, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let folder = open_folder(above, name)?;
    if device(&folder)? != device_expected {
        return Err(io::Error::other("another file system is mounted there"));
    }
    let names = list_anew(&folder)?;
    for (name, _) in names.iter() {
        match unlinkat(&folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) if level < LEVELS_MAX => {
                remove_folder(&folder, name, device_expected, level + 1, move_up)?;
            }
            Err(Errno::ISDIR) => move_up(&folder, name)?,
            Err(error) => return Err(error.into()),
        }
    }
    drop(folder);
    Ok(unlinkat(above, name, AtFlags::REMOVEDIR)?)
}

fn device(folder: &OwnedFd) -> io::Result<u64> {
    Ok(device_of(&statx(folder, c"", AtFlags::EMPTY_PATH, FIELDS)?))
}

/// Removes what stands where something else is to be. A folder that is not empty is only removed when removing what
/// the snapshot does not have was asked for.
pub(super) fn make_way(shared: &Shared, folder: &OwnedFd, name: &[u8]) -> io::Result<()> {
    if shared.options.extra == Extra::Delete {
        return remove(folder, name);
    }
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => Ok(unlinkat(folder, name, AtFlags::REMOVEDIR)?),
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
