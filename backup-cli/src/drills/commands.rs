//! The runbook's own commands, executed as a stranger would who has nothing but them: this program as a process of its
//! own, with an empty home, no cache, no state and no configuration; the passphrase and what opens the store in the
//! variables that the runbook names.
//!
//! What is always true: the words are those of the runbook, but for the last, which is the sandbox, and `--json`, so that
//! the figures can be read. What that leaves untried is in the drill's record.

use std::ffi::OsString;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::drill::{Restored, Verdict};
use backup_core::model::SnapshotId;
use backup_core::pipeline::RestoreOutcome;
use backup_core::runbook::RestoreCommand;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::{Credentials, Repository};
use crate::exit::Failure;
use crate::secrets::origin::Origin;
use crate::session::Session;

/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What of this program's environment a stranger would have too: where programs are, and what opens a store where the
/// configuration names nothing.
const PASSED_ON: [&str; 8] =
    ["PATH", "SSH_AUTH_SOCK", "AWS_", "AZURE_", "GOOGLE_", "BACKUP_REST_", "RESTIC_REST_", "BACKUP_PASSWORD"];

/// The variables of a bare shell in which the runbook's section “Before anything else” was followed.
pub(super) struct Shell(Vec<(OsString, Zeroizing<Vec<u8>>)>);

impl Shell {
    /// Reads what opens a repository.
    pub(super) fn of(repository: &Repository, session: &Session) -> Result<Self, Failure> {
        use std::os::unix::ffi::OsStrExt as _;
        let is_passed = |name: &str| {
            PASSED_ON.iter().any(|known| name == *known || known.ends_with('_') && name.starts_with(known))
        };
        let mut all: Vec<_> = std::env::vars_os()
            .filter(|(name, _)| {
                name.to_str().is_some_and(|name| is_passed(name) || name.starts_with("BACKUP_PASSWORD_"))
            })
            .map(|(name, value)| (name, Zeroizing::new(value.as_bytes().to_vec())))
            .collect();
        let mut read = |name: &str, origin: &Origin| -> Result<(), Failure> {
            let secret = origin.read(name, &session.console)?;
            all.push((name.into(), Zeroizing::new(secret.as_bytes().to_vec())));
            Ok(())
        };
        if let Some(origin) = &repository.passphrase {
            read("BACKUP_PASSWORD", origin)?;
        }
        match &repository.credentials {
            Some(Credentials::AccessKey { id, secret, session_token }) => {
                read("AWS_ACCESS_KEY_ID", id)?;
                read("AWS_SECRET_ACCESS_KEY", secret)?;
                if let Some(token) = session_token {
                    read("AWS_SESSION_TOKEN", token)?;
                }
            }
            Some(Credentials::AccountKey(key)) => read("AZURE_STORAGE_KEY", key)?,
            Some(Credentials::SharedAccessSignature(token)) => read("AZURE_STORAGE_SAS_TOKEN", token)?,
            Some(Credentials::Login { user, password }) => {
                read("BACKUP_REST_PASSWORD", password)?;
                all.push(("BACKUP_REST_USERNAME".into(), Zeroizing::new(user.as_bytes().to_vec())));
            }
            Some(Credentials::ServiceAccount(Origin::File(path))) => {
                let path = Zeroizing::new(path.as_os_str().as_bytes().to_vec());
                all.push(("GOOGLE_APPLICATION_CREDENTIALS".into(), path));
            }
            Some(Credentials::ServiceAccount(_)) => {
                return Err(Failure::new("a service account's key that lies in no file cannot be handed over"));
            }
            None => {}
        }
        Ok(Self(all))
    }
}

/// Executes the command with the sandbox at `address` as its target, below `parent`. `expected` is the snapshot that
/// the drill compares with.
pub(super) fn execute(
    command: &RestoreCommand,
    address: &str,
    shell: &Shell,
    parent: &Path,
    expected: SnapshotId,
    cancel: &Cancel,
) -> Result<Restored, Verdict> {
    use std::os::unix::ffi::OsStringExt as _;
    let not_run = |what: String| Verdict::NotRun { reason: format!("runbook: {what}") };
    let program = std::env::current_exe().map_err(|error| not_run(format!("this program was not found: {error}")))?;
    let home = tempfile::Builder::new().prefix("backup-stranger-").tempdir_in(parent);
    let home = home.map_err(|error| not_run(format!("no empty home can be made: {error}")))?;
    let aimed = command.aimed_at(address);
    let mut child = Command::new(program);
    child.args(&aimed.words()[1..]).arg("--json").env_clear().current_dir(home.path());
    child.envs(shell.0.iter().map(|(name, value)| (name, OsString::from_vec(value.to_vec()))));
    child.env("HOME", home.path()).env("LC_ALL", "C").env("TMPDIR", parent);
    child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = child.spawn().map_err(|error| not_run(format!("this program did not start: {error}")))?;
    let mut out = child.stdout.take();
    let reading = thread::spawn(move || {
        let mut text = String::new();
        // What is no text has no summary either, which is found below.
        let _ = out.as_mut().map(|out| out.read_to_string(&mut text));
        text
    });
    let mut is_asked = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| not_run(error.to_string()))? {
            break status;
        }
        if cancel.requested() && !is_asked {
            is_asked = true;
            let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()), Signal::SIGTERM);
        }
        thread::sleep(LOOK_EVERY);
    };
    let text = reading.join().unwrap_or_default();
    if cancel.requested() {
        return Err(Verdict::NotRun { reason: "stopped on request".to_owned() });
    }
    let last: Option<Value> = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    let last = last.unwrap_or_default();
    let number = |name: &str| last[name].as_u64();
    match (status.code(), last["event"].as_str()) {
        (Some(0 | 3), Some("summary")) => {}
        (code, _) => {
            let what = last["message"].as_str().unwrap_or("it said nothing of why").to_owned();
            let code = code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
            let reason = format!("the runbook's command ended with {code}: {what}");
            // A command that cannot be followed is a runbook that does not work: that is what was asked.
            return Err(Verdict::Failed { reason });
        }
    }
    if last["snapshot"].as_str() != Some(expected.to_string().as_str()) {
        return Err(not_run("there was a newer snapshot when the command ran: drill again".to_owned()));
    }
    let outcome = RestoreOutcome {
        files: number("files").unwrap_or_default(),
        dirs: number("dirs").unwrap_or_default(),
        others: number("others").unwrap_or_default(),
        bytes: number("bytes").unwrap_or_default(),
        bytes_written: number("bytes_written").unwrap_or_default(),
        files_kept: number("files_kept").unwrap_or_default(),
        deleted: number("deleted").unwrap_or_default(),
        losses: number("losses").unwrap_or_default(),
        verified: None,
    };
    Ok(Restored { outcome, command: command.line() })
}
