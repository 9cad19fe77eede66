//! The runbook's own commands, executed as a stranger would who has nothing but them: this program as a process of its
//! own, with an empty home, no cache, no state and no configuration; the passphrase and what opens the store in the
//! variables that the runbook names.
//!
//! What is always true: the words are those of the runbook, but for the last, which is the sandbox, and `--json`, so that
//! the figures can be read. What that leaves untried is in the drill's record.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::Entrance;
use backup_core::drill::{Restored, Verdict};
use backup_core::limits::DRILL_PROBLEMS_NAMED_MAX;
use backup_core::model::SnapshotId;
use backup_core::pipeline::RestoreOutcome;
use backup_core::runbook::RestoreCommand;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::config::{Credentials, Repository};
use crate::exit::{Exit, Failure};
use crate::secrets::origin::Origin;
use crate::session::Session;

/// How often a child is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What of this program's environment a stranger would have too: where programs are, and what opens a store where the
/// configuration names nothing.
const PASSED_ON: [&str; 10] = [
    "PATH",
    "SSH_AUTH_SOCK",
    "AWS_",
    "AZURE_",
    "GOOGLE_",
    "BACKUP_REST_",
    "RESTIC_REST_",
    "BACKUP_PASSWORD",
    PROGRAMS[0],
    PROGRAMS[1],
];

/// Where the programs of engines are.
const PROGRAMS: [&str; 2] = ["BACKUP_PG_BIN", "BACKUP_MYSQL_BIN"];

/// The variables of a bare shell in which the runbook's section “Before anything else” was followed.
pub(super) struct Shell(Vec<(OsString, Zeroizing<Vec<u8>>)>);

impl Shell {
    /// Reads what opens a repository. `programs` is the folder of the engine's own, where it is not a usual one.
    pub(super) fn of(repository: &Repository, programs: Option<&str>, session: &Session) -> Result<Self, Failure> {
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
        if let Some(folder) = programs {
            all.retain(|(name, _)| !PROGRAMS.iter().any(|known| name == known));
            let folder = |name: &str| (name.into(), Zeroizing::new(folder.as_bytes().to_vec()));
            all.extend(PROGRAMS.map(folder));
        }
        Ok(Self(all))
    }
}

/// Executes the command with the sandbox behind `entrance` as its target. `expected` is the snapshot that the drill
/// compares with.
pub(super) fn execute(
    command: &RestoreCommand,
    entrance: &Entrance,
    shell: &Shell,
    expected: SnapshotId,
    cancel: &Cancel,
) -> Result<Restored, Verdict> {
    let aimed = command.aimed_at(&entrance.target);
    if aimed.words().iter().rev().nth(1).is_none_or(|word| word != "--to") || aimed.target() != entrance.target {
        return Err(not_run("its command does not end with its target"));
    }
    let mut child = start(&aimed, entrance, shell)?;
    let out = child.stdout.take();
    let listening = thread::spawn(move || out.map(Said::hear).unwrap_or_default());
    let mut is_asked = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(not_run)? {
            break status;
        }
        if cancel.requested() && !is_asked {
            is_asked = true;
            let _ = kill(Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()), Signal::SIGTERM);
        }
        thread::sleep(LOOK_EVERY);
    };
    let said = listening.join().unwrap_or_default();
    if cancel.requested() {
        return Err(Verdict::NotRun { reason: "stopped on request".to_owned() });
    }
    said.judge(status.code(), status.signal())?;
    if said.last["snapshot"].as_str() != Some(expected.to_string().as_str()) {
        return Err(not_run("there was a newer snapshot when the command ran: drill again"));
    }
    Ok(said.into_restored(command.line()))
}

/// This program with the command's words, and as little around it as a stranger has. What it writes beside its target is
/// in the sandbox's folder and goes with it.
fn start(aimed: &RestoreCommand, entrance: &Entrance, shell: &Shell) -> Result<Child, Verdict> {
    let program = std::env::current_exe().map_err(|error| not_run(format!("this program was not found: {error}")))?;
    let (home, scratch) = (entrance.folder.join("home"), entrance.folder.join("scratch"));
    for folder in [&home, &scratch] {
        let made = DirBuilder::new().mode(0o700).create(folder);
        made.map_err(|error| not_run(format!("no empty home can be made: {error}")))?;
    }
    let mut child = Command::new(program);
    child.args(&aimed.words()[1..]).arg("--json").env_clear().current_dir(&home);
    child.envs(shell.0.iter().map(|(name, value)| (name, OsString::from_vec(value.to_vec()))));
    child.envs(entrance.variables.iter().map(|(name, value)| (name, value.as_str())));
    child.env("HOME", &home).env("LC_ALL", "C").env("TMPDIR", &scratch);
    child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    child.spawn().map_err(|error| not_run(format!("this program did not start: {error}")))
}

/// What a command printed, with `--json`.
#[derive(Debug, Default)]
struct Said {
    /// Its last line.
    last: Value,
    /// What it could not restore, the first of it.
    problems: Vec<String>,
}

impl Said {
    fn hear(out: impl Read) -> Self {
        let mut said = Self::default();
        // What is no text has no summary either, which is found by whoever looks for it.
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            said.last = serde_json::from_str(&line).unwrap_or_default();
            let is_loss = said.last["event"] == "problem" && said.last["severity"] == "loss";
            if is_loss && said.problems.len() < DRILL_PROBLEMS_NAMED_MAX {
                let word = |name: &str| said.last[name].as_str().unwrap_or_default().to_owned();
                said.problems.push(format!("{} {}: {}", word("action"), word("path"), word("reason")));
            }
        }
        said
    }

    /// What its end says of the runbook. Whatever would have stopped any command says nothing.
    fn judge(&self, code: Option<i32>, signal: Option<i32>) -> Result<(), Verdict> {
        const LOCKED: i32 = Exit::Locked as i32;
        const INTERRUPTED: i32 = Exit::Interrupted as i32;
        let message = self.last["message"].as_str().unwrap_or("it said nothing of why");
        match code {
            Some(0 | 3) if self.last["event"] == "summary" => Ok(()),
            Some(LOCKED) => Err(not_run(format!("its command met a lock: {message}"))),
            Some(INTERRUPTED) => Err(not_run("its command was asked to stop")),
            None => Err(not_run(format!("its command was ended by signal {}", signal.unwrap_or_default()))),
            // A command that cannot be followed is a runbook that does not work: that is what was asked.
            Some(code) => {
                Err(Verdict::Failed { reason: format!("the runbook's command ended with {code}: {message}") })
            }
        }
    }

    fn into_restored(self, command: String) -> Restored {
        let number = |name: &str| self.last[name].as_u64().unwrap_or_default();
        let outcome = RestoreOutcome {
            files: number("files"),
            dirs: number("dirs"),
            others: number("others"),
            bytes: number("bytes"),
            bytes_written: number("bytes_written"),
            files_kept: number("files_kept"),
            deleted: number("deleted"),
            losses: number("losses"),
            verified: None,
        };
        let warnings = self.last["warnings"].as_array().into_iter().flatten();
        let warnings = warnings.filter_map(|warning| warning.as_str().map(str::to_owned)).collect();
        Restored { outcome, command, problems: self.problems, warnings }
    }
}

fn not_run(what: impl std::fmt::Display) -> Verdict {
    Verdict::NotRun { reason: format!("runbook: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &str) -> Said {
        Said::hear(lines.as_bytes())
    }

    #[test]
    fn what_would_have_stopped_any_command_says_nothing_of_the_runbook() {
        let error = said("{\"event\":\"error\",\"message\":\"locked by web-2\"}\n");
        let word = |code, signal| {
            let verdict = error.judge(code, signal).unwrap_err();
            (verdict.word(), verdict.reason().unwrap_or_default().to_owned())
        };
        let (verdict, reason) = word(Some(11), None);
        assert_eq!(verdict, "not_run");
        assert!(reason.starts_with("runbook: ") && reason.contains("locked by web-2"), "{reason}");
        assert_eq!(word(Some(130), None).0, "not_run");
        let (verdict, reason) = word(None, Some(9));
        assert!(verdict == "not_run" && reason.contains("signal 9"), "{reason}");
        for code in [1, 2, 10, 12] {
            assert_eq!(word(Some(code), None).0, "failed", "{code}: whoever follows the runbook would be stuck too");
        }
    }

    #[test]
    fn an_end_without_a_summary_is_no_restore() {
        assert!(said("{\"event\":\"summary\"}\n").judge(Some(0), None).is_ok());
        assert!(said("").judge(Some(0), None).is_err() && said("not json\n").judge(Some(0), None).is_err());
    }

    #[test]
    fn what_was_not_restored_is_heard_on_the_way() {
        let heard = said(
            "{\"event\":\"problem\",\"severity\":\"loss\",\"path\":\"/a\",\"action\":\"write\",\"reason\":\"No space left\"}\n\
             {\"event\":\"problem\",\"severity\":\"note\",\"path\":\"/b\",\"action\":\"x\",\"reason\":\"y\"}\n\
             {\"event\":\"summary\",\"losses\":1,\"warnings\":[\"w\"]}\n",
        );
        let restored = heard.into_restored("backup restore".to_owned());
        assert_eq!(restored.problems, ["write /a: No space left"]);
        assert_eq!((restored.outcome.losses, restored.warnings), (1, vec!["w".to_owned()]));
    }
}
