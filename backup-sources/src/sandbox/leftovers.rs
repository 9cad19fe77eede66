//! What killed drills left behind: their folders and their processes, found and removed by the next one.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

use super::folder::{MARK, PREFIX, claim, remove_with_processes};

/// How often one looks again whether processes are gone, and how long one waits between.
const ROUNDS_MAX: u32 = 200;
/// See [`ROUNDS_MAX`].
const PAUSE: Duration = Duration::from_millis(10);

/// A folder that a dead drill left.
#[derive(Debug)]
pub struct Leftover {
    /// Where it is, or was.
    pub path: PathBuf,
    /// Whether it is gone, with its processes.
    pub removed: io::Result<()>,
}

/// Removes the folders in `parent` whose drill is dead, with every process that they left. Those of living drills, of
/// other users and of other names stay. It may run beside anything, itself included.
///
/// # Errors
///
/// When `parent` cannot be read. What happened to each folder is in the result.
pub fn remove_leftovers(parent: &Path) -> io::Result<Vec<Leftover>> {
    let own = rustix::process::geteuid().as_raw();
    let mut found = Vec::new();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if !entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        let path = entry.path();
        // Not through links, and nothing that somebody else put there.
        let is_ours = fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_dir() && facts.uid() == own);
        if !is_ours {
            continue;
        }
        match claim(&path) {
            Ok(None) => {}
            Ok(Some(lock)) => {
                let removed = remove_with_processes(&path);
                drop(lock);
                found.push(Leftover { path, removed });
            }
            Err(error) => found.push(Leftover { path, removed: Err(error) }),
        }
    }
    Ok(found)
}

/// Ends every process that bears the mark of this folder, and their children, and returns when none is left.
pub(super) fn end_processes(folder: &OsStr) -> io::Result<()> {
    let mut mark = MARK.as_bytes().to_vec();
    mark.push(b'=');
    mark.extend_from_slice(folder.as_bytes());
    let mut was_quiet = true;
    for _ in 0..ROUNDS_MAX {
        let processes = marked(&mark)?;
        // While a process turns into another program it shows no environment: what was ended may have left one behind
        // in that moment, whom nobody would find. So it has to be quiet twice.
        if processes.is_empty() && was_quiet {
            return Ok(());
        }
        was_quiet = processes.is_empty();
        for pid in processes {
            end(pid, &mark);
        }
        std::thread::sleep(PAUSE);
    }
    Err(io::Error::other("its processes do not end"))
}

/// The processes that bear the mark, and what descends from them: an engine may write over its children's environment.
fn marked(mark: &[u8]) -> io::Result<Vec<Pid>> {
    let mut parents = Vec::new();
    let mut marked = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // One that has ended and waits for its parent to look has no environment any more.
        let Some((parent, state)) = parent_and_state(number) else { continue };
        if state == b'Z' || state == b'X' {
            continue;
        }
        parents.push((number, parent));
        if bears(number, mark) {
            marked.push(number);
        }
    }
    let mut at = 0;
    while let Some(&parent) = marked.get(at) {
        let children = parents.iter().filter(|(_, its)| *its == parent).map(|(number, _)| *number);
        let new: Vec<i32> = children.filter(|number| !marked.contains(number)).collect();
        marked.extend(new);
        at += 1;
    }
    Ok(marked.into_iter().filter_map(Pid::from_raw).collect())
}

fn bears(pid: i32, mark: &[u8]) -> bool {
    // Not ours to read means not ours to end.
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == mark))
}

/// The parent and the state of a process (proc_pid_stat(5)).
fn parent_and_state(pid: i32) -> Option<(i32, u8)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold spaces and parentheses; what follows it does not.
    let end_of_name = stat.iter().rposition(|byte| *byte == b')')?;
    let mut words = stat.get(end_of_name + 2..)?.split(|byte| *byte == b' ');
    let state = *words.next()?.first()?;
    let parent = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    Some((parent, state))
}

/// Ends a process. Where the kernel can hold on to it, its number cannot have gone to another in the meantime.
fn end(pid: Pid, mark: &[u8]) {
    let number = pid.as_raw_nonzero().get();
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => {
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        Err(rustix::io::Errno::SRCH) => {}
        Err(_) if bears(number, mark) => {
            let _ = kill_process(pid, Signal::KILL);
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::super::SandboxFolder;
    use super::*;

    #[test]
    fn a_folder_is_gone_with_its_processes_when_it_is_dropped() {
        let parent = tempfile::tempdir().unwrap();
        let folder = SandboxFolder::create(parent.path()).unwrap();
        let mut child = folder.command("/bin/sh").args(["-c", "sleep 1000 & wait"]).spawn().unwrap();
        let path = folder.path().to_owned();
        drop(folder);
        assert!(!path.exists());
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn a_living_drills_folder_stays_and_a_dead_ones_goes() {
        let parent = tempfile::tempdir().unwrap();
        let living = SandboxFolder::create(parent.path()).unwrap();
        let dead = parent.path().join(format!("{PREFIX}0123456789abcdef"));
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("drill.lock"), "whatever").unwrap();
        let other = parent.path().join("something-else");
        fs::create_dir(&other).unwrap();

        let found = remove_leftovers(parent.path()).unwrap();
        assert_eq!(found.iter().map(|one| one.path.clone()).collect::<Vec<_>>(), std::slice::from_ref(&dead));
        assert!(found[0].removed.is_ok() && !dead.exists());
        assert!(living.path().exists() && other.exists());
        assert!(remove_leftovers(parent.path()).unwrap().is_empty());
    }

    #[test]
    fn processes_of_a_dead_drill_are_ended_and_those_of_others_are_not() {
        let parent = tempfile::tempdir().unwrap();
        let other = SandboxFolder::create(parent.path()).unwrap();
        let mut bystander = other.command("sleep").arg("1000").spawn().unwrap();
        let dead = SandboxFolder::create(parent.path()).unwrap();
        let mut orphan = dead.command("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
        let path = dead.path().to_owned();
        // As a kill would leave it: nobody holds the lock, nothing was removed.
        dead.forget();

        let found = remove_leftovers(parent.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert!(!path.exists());
        assert!(!orphan.wait().unwrap().success());
        assert!(bystander.try_wait().unwrap().is_none());
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }

    #[test]
    fn a_link_is_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let precious = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(precious.path(), parent.path().join(format!("{PREFIX}link"))).unwrap();
        assert!(remove_leftovers(parent.path()).unwrap().is_empty());
        assert!(precious.path().exists());
    }
}
