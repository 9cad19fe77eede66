//! A program being run: what goes in, what comes out, its last words, its end.
//!
//! What is always true: its error output is read beside the work, so that no full pipe stops it, and of what it says there
//! the beginning and the end are kept, because a complaint may be followed by a statement with the names of ten thousand
//! tables. One that is dropped before its end is killed, and waited for; one that was started as a group takes with it, at
//! any end, what it has started itself. Used by the source of a command's output and by the engines whose own programs dump
//! and load. When we are killed, it finds its pipes closed.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use backup_core::limits::{PIPE_BYTES, STDERR_TAIL_BYTES};

/// How often, and after which pauses, a program that was asked to end is looked at before it is killed.
#[cfg(feature = "postgres")]
const STOP_LOOKS: u32 = 200;
#[cfg(feature = "postgres")]
const STOP_PAUSE: Duration = Duration::from_millis(10);

/// A reader that has room for this much, and finds less, lets more come before it takes it.
const GATHERED_BYTES: usize = 64 * 1024;
/// For so long: a program that writes 1 GB/s has filled half of the pipe then, and does not wait.
const GATHERING_PAUSE: Duration = Duration::from_micros(500);

/// A program being run.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    errors: Option<JoinHandle<Vec<u8>>>,
    /// Whether it leads a group of processes that is not known to be gone: only until its own end was waited for, because
    /// its number is nobody else's until then.
    leads: bool,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The beginning and the end of what it said on its error output.
    pub(crate) said: String,
}

impl Program {
    /// Starts one that nothing comes into. The error names it.
    pub(crate) fn start(command: Command) -> io::Result<Self> {
        Self::start_with(command, Stdio::null())
    }

    /// Starts one that is written to, until [`Self::end_input`].
    #[cfg(feature = "mysql")]
    pub(crate) fn start_with_input(command: Command) -> io::Result<Self> {
        Self::start_with(command, Stdio::piped())
    }

    /// Starts one that nothing comes into, in a group of its own with what it starts. The error names it.
    ///
    /// An interrupt from the terminal does not reach it: who starts it ends it.
    #[cfg(feature = "postgres")]
    pub(crate) fn start_as_group(mut command: Command) -> io::Result<Self> {
        use std::os::unix::process::CommandExt as _;

        command.process_group(0);
        let mut program = Self::start_with(command, Stdio::null())?;
        program.leads = true;
        Ok(program)
    }

    fn start_with(mut command: Command, input: Stdio) -> io::Result<Self> {
        let spawned = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| {
            let program = Path::new(command.get_program()).display();
            io::Error::new(error.kind(), format!("{program} cannot be started: {error}"))
        })?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        if let Some(output) = &output {
            // The usual size makes both sides wait for each other all the time. Not everybody may have more.
            let _ = rustix::pipe::fcntl_setpipe_size(output, PIPE_BYTES);
        }
        let errors = child.stderr.take().map(|errors| thread::spawn(move || ends(errors)));
        Ok(Self { child, input, output, errors, leads: false })
    }

    /// Says that nothing more comes.
    #[cfg(feature = "mysql")]
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Whether it has ended already. What is left of its group is killed then: somebody may have killed its leader alone,
    /// as a system does that has no memory left, and the others would hold our pipes for ever.
    #[cfg(feature = "postgres")]
    pub(crate) fn has_ended(&mut self) -> io::Result<bool> {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

        // Its end is left to be waited for: so long its number is its own.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let has_ended = waitid(WaitId::Pid(Pid::from_child(&self.child)), look)?.is_some();
        if has_ended {
            self.kill_group();
        }
        Ok(has_ended)
    }

    /// Asks it to end, so that it ends what it has started itself, and waits for that; in the end all of it is killed.
    #[cfg(feature = "postgres")]
    pub(crate) fn stop(mut self) {
        use rustix::process::{Pid, Signal, kill_process};

        if matches!(self.has_ended(), Ok(false)) && kill_process(Pid::from_child(&self.child), Signal::TERM).is_ok() {
            for _ in 0..STOP_LOOKS {
                if !matches!(self.has_ended(), Ok(false)) {
                    return;
                }
                thread::sleep(STOP_PAUSE);
            }
        }
    }

    fn kill_group(&self) {
        use rustix::process::{Pid, Signal, kill_process_group};

        if self.leads {
            // Nobody may be left.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When nobody knows how it ended, in a line for people.
    pub(crate) fn finish(mut self) -> Result<Ended, String> {
        self.input = None;
        // A program that still has something to say would wait for a reader.
        if let Some(mut output) = self.output.take() {
            let _ = io::copy(&mut output, &mut io::sink());
        }
        let status = self.child.wait().map_err(|error| format!("the program's end is not known: {error}"))?;
        self.leads = false;
        let said = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Ok(Ended { status, said: String::from_utf8_lossy(&said).into_owned() })
    }
}

impl Read for Program {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(output) = &mut self.output else { return Ok(0) };
        // Most programs write a page at a time. Who takes each as it comes is woken for each, and wakes the writer.
        if buffer.len() >= GATHERED_BYTES
            && rustix::io::ioctl_fionread(&*output).is_ok_and(|there| there < GATHERED_BYTES as u64)
        {
            thread::sleep(GATHERING_PAUSE);
        }
        output.read(buffer)
    }
}

impl Write for Program {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.input.as_mut().map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), |input| input.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill_group();
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The beginning and the end of what `errors` gives.
fn ends(mut errors: impl Read) -> Vec<u8> {
    let (mut kept, mut last) = (Vec::new(), Vec::new());
    let mut buffer = [0; 4_096];
    loop {
        match errors.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(length @ 1..) => {
                let (first, rest) = buffer[..length].split_at(length.min(STDERR_TAIL_BYTES - kept.len()));
                kept.extend_from_slice(first);
                last.extend_from_slice(rest);
                let excess = last.len().saturating_sub(STDERR_TAIL_BYTES);
                last.drain(..excess);
            }
            Ok(0) | Err(_) => {
                kept.extend_from_slice(&last);
                return kept;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Program::start(command).unwrap()
    }

    #[test]
    fn of_much_that_is_said_the_beginning_and_the_end_are_kept() {
        let ended = shell("echo first >&2; head -c 1000000 /dev/zero >&2; echo last >&2; exit 3").finish().unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert!(ended.said.starts_with("first\n") && ended.said.ends_with("last\n"), "{}", ended.said.len());
        assert!(ended.said.len() <= 2 * STDERR_TAIL_BYTES);
    }

    #[test]
    fn one_that_is_dropped_is_ended() {
        let program = shell("exec sleep 1000");
        let id = program.child.id();
        drop(program);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn one_whose_leader_was_killed_leaves_nothing_behind_that_holds_its_pipes() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & echo ready >&2; kill -STOP $!; kill -KILL $$"]);
        let mut program = Program::start_as_group(command).unwrap();
        while !program.has_ended().unwrap() {
            thread::sleep(STOP_PAUSE);
        }
        // With the pipes in a sleeper's hands this would wait for it.
        let ended = program.finish().unwrap();
        assert_eq!((ended.status.code(), &ended.said[..]), (None, "ready\n"));
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn one_that_is_stopped_takes_with_it_what_it_has_started() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap 'exit 0' TERM; sleep 1000 & echo $!; wait"]);
        let mut program = Program::start_as_group(command).unwrap();
        let mut told = Vec::new();
        while !told.ends_with(b"\n") {
            let mut byte = [0];
            program.read_exact(&mut byte).unwrap();
            told.extend(byte);
        }
        program.stop();
        let status = format!("/proc/{}/stat", String::from_utf8(told).unwrap().trim());
        // Until it is gone, or waits for whoever has inherited it to take note of that.
        while std::fs::read_to_string(&status).is_ok_and(|status| !status.contains(") Z ")) {
            thread::sleep(STOP_PAUSE);
        }
    }

    #[test]
    fn one_that_is_not_there_is_named() {
        let error = Program::start(Command::new("/no/such/program")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("/no/such/program cannot be started: "), "{error}");
    }
}
