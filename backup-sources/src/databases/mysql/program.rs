//! A client program being run: its output, its last words, its end.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};

use backup_core::limits::STDERR_TAIL_BYTES;

/// A program being run. One that is dropped before its end is killed.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    errors: Option<JoinHandle<Vec<u8>>>,
}

impl Program {
    /// Starts it, with a pipe at each end.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        // Somebody must read it, or the program stops when the pipe is full.
        let errors = child.stderr.take().map(|errors| thread::spawn(move || tail(errors)));
        Ok(Self { child, input, output, errors })
    }

    /// Says that nothing more comes.
    pub(super) fn end_input(&mut self) {
        self.input = None;
    }

    /// Waits for its end: its last words when it failed.
    pub(super) fn finish(mut self) -> Result<(), String> {
        self.input = None;
        // A program that still has something to say would wait for a reader.
        if let Some(mut output) = self.output.take() {
            let _ = io::copy(&mut output, &mut io::sink());
        }
        let status = self.child.wait().map_err(|error| format!("its end is not known: {error}"))?;
        let said = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        if status.success() {
            return Ok(());
        }
        let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Err(match lines.last() {
            None => status.to_string(),
            // One line is the message; what came before it is mostly warnings.
            Some(last) => (*last).to_owned(),
        })
    }
}

impl Read for Program {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.output.as_mut().map_or(Ok(0), |output| output.read(buffer))
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
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The end of what `errors` gives.
fn tail(mut errors: impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        match errors.read(&mut buffer) {
            Ok(0) => return kept,
            Ok(length) => {
                kept.extend_from_slice(&buffer[..length]);
                kept.drain(..kept.len().saturating_sub(STDERR_TAIL_BYTES));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}
