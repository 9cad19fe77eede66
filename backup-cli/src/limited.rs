//! Commands of the configuration, which may hang: each has its time, and is ended after it.
//!
//! Who runs a command that others than itself have started gives it a process group of its own; then all of it ends.

use std::io::{self, Read as _};
use std::process::{Child, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

/// How often it is looked whether a command has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits for the end; `None` when it took too long, or a stop was asked for, and it was ended.
pub(crate) fn wait(
    child: &mut Child,
    within: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() >= within || is_stopped() {
            // It may be gone by now, and may lead no group.
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The same, with all that it prints; `None` also when something that it has left behind still holds its output.
pub(crate) fn output(child: &mut Child, within: Duration) -> io::Result<Option<(ExitStatus, Zeroizing<Vec<u8>>)>> {
    let began = Instant::now();
    let (whole, read) = mpsc::channel();
    if let Some(mut out) = child.stdout.take() {
        // What holds the pipe for ever holds this thread, and nobody waits for it.
        thread::Builder::new().name("output".to_owned()).spawn(move || {
            let mut bytes = Zeroizing::new(Vec::new());
            let _ = whole.send(out.read_to_end(&mut bytes).map(|_| bytes));
        })?;
    }
    let Some(status) = wait(child, within, &|| false)? else { return Ok(None) };
    match read.recv_timeout(within.saturating_sub(began.elapsed())) {
        Ok(bytes) => Ok(Some((status, bytes?))),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn shell(script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn().unwrap()
    }

    #[test]
    fn a_command_that_hangs_is_ended_with_what_it_has_started() {
        let began = Instant::now();
        let mut hangs = shell("sleep 600 & echo $!; sleep 600");
        assert_eq!(wait(&mut hangs, Duration::from_millis(300), &|| false).unwrap(), None);
        let mut pid = String::new();
        hangs.stdout.take().unwrap().read_to_string(&mut pid).unwrap();
        // It has let go of its output, and takes a moment to be gone.
        while !is_gone(pid.trim()) {
            assert!(began.elapsed() < Duration::from_secs(60), "{pid}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether a process has ended, also where nobody has asked how.
    fn is_gone(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
    }

    #[test]
    fn what_a_command_prints_is_whole_and_what_hangs_is_not_waited_for() {
        let (status, bytes) = output(&mut shell("head -c 300000 /dev/zero"), Duration::from_secs(60)).unwrap().unwrap();
        assert!(status.success());
        assert_eq!(bytes.len(), 300_000);
        assert!(output(&mut shell("echo x; sleep 600"), Duration::from_millis(300)).unwrap().is_none());
    }
}
