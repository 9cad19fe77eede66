//! A program of the user's that looks at restored data.

use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use backup_core::cancel::Cancel;
use backup_core::contracts::{Answer, SandboxError};

use super::{SandboxFolder, Walls};

/// How long a program may take to answer.
const SECONDS_MAX: u64 = 600;
/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// How often it is looked whether it has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// Enters the folder in which a program is to run, from wherever the walls have put it.
const ENTER: &str = "cd \"$0\" && exec \"$@\"";

/// What may be the cause where a program is not found.
const UNSEEN: &str = "; it sees the system's programs and the restored data, and what sandbox.shown names";

/// Where a program is run, and what separates it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The drill's folder.
    pub(crate) folder: &'a SandboxFolder,
    /// What it sees, and as whom; whoever drills, without.
    pub(crate) walls: Option<&'a Walls>,
    /// The working folder, which it must see.
    pub(crate) within: &'a Path,
}

/// Runs `words` as `asked` says, and takes what it prints, trimmed, for the answer. It has an empty environment but for
/// `variables`, `PATH`, `HOME`, the C locale, and `BACKUP_RESTORED`, which names the working folder.
///
/// # Errors
///
/// When it cannot be started, ends with another status than 0, takes too long, or says too much. Only a stop that was
/// asked for is ours. What it says on standard error is not repeated: it may quote the data.
pub(crate) fn ask_program(
    asked: Asked<'_>,
    words: &[String],
    variables: &[(&str, String)],
    cancel: &Cancel,
) -> Result<Answer, SandboxError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(SandboxError::new("ask a program", "none was named").ours());
    };
    let failed = |why: String| SandboxError::new(format!("ask {program}"), why);
    let Asked { folder, walls, within } = asked;
    let mut command = match walls {
        None => {
            let mut command = folder.command(program);
            command.args(arguments).current_dir(within);
            command
        }
        Some(walls) => {
            let mut command = walls.command(folder, Path::new("/bin/sh"));
            command.args(["-c", ENTER]).arg(within).args(words);
            command
        }
    };
    command.env("BACKUP_RESTORED", within);
    command.envs(variables.iter().map(|(name, value)| (*name, value.as_str())));
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(format!("cannot be started: {error}")))?;
    let output = child.stdout.take();
    // Read on a thread of its own, so that neither a full pipe nor a silent program keeps us.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = output.map(|output| output.take(ANSWER_BYTES_MAX + 1).read_to_end(&mut text));
        (text, read.is_none_or(|read| read.is_ok()))
    });
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) => {}
            Err(error) => return Err(failed(error.to_string())),
        }
        let is_late = began.elapsed() > Duration::from_secs(SECONDS_MAX);
        if cancel.requested() || is_late {
            // Its children, which may hold the pipe, go with the folder.
            let _ = child.kill();
            let _ = child.wait();
            let late = failed(format!("no answer within {SECONDS_MAX} seconds"));
            return Err(if is_late { late } else { failed("stopped on request".to_owned()).ours() });
        }
        std::thread::sleep(PAUSE);
    };
    if !status.success() {
        // What a shell says of a program that is not there, or not to be run.
        let is_unseen = walls.is_some() && matches!(status.code(), Some(126 | 127));
        return Err(match is_unseen {
            // Where it stands is up to this side, and says nothing of the backup.
            true => failed(format!("it ended with {status}{UNSEEN}")).ours(),
            false => failed(format!("it ended with {status}")),
        });
    }
    let (text, is_whole) = reader.join().map_err(|_| failed("its answer could not be read".to_owned()))?;
    if !is_whole || text.len() as u64 > ANSWER_BYTES_MAX {
        return Err(failed(format!("its answer is not to be read, or longer than {ANSWER_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    // A program that says nothing and ends well has said yes.
    Ok(Answer(Some(if text.is_empty() { "true".to_owned() } else { text })))
}
