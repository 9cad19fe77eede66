//! Programs that tests write, or copy, and run at once.
//!
//! A file that anybody has open for writing cannot be run. In a process with threads that is not only who writes it: a
//! child that another thread starts meanwhile has all that is open, until it turns into its own program. So another
//! process writes here, and has ended when the program is run.

#![expect(clippy::expect_used, reason = "a test whose program cannot be written cannot go on")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Writes a program that everybody may run. Panics where that fails.
pub fn write_program(path: &Path, text: &str) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "rm -f \"$0\" && cat >\"$0\" && chmod 755 \"$0\""]).arg(path).stdin(Stdio::piped());
    let mut writer = command.spawn().expect("there is a shell");
    let mut input = writer.stdin.take().expect("it was asked for");
    input.write_all(text.as_bytes()).expect("the shell reads");
    drop(input);
    assert!(writer.wait().expect("it was started").success(), "{} cannot be written", path.display());
}

/// Gives a program another name, as a second one of the same file where that can be. Panics where neither can.
pub fn copy_program(from: &Path, to: &Path) {
    let linked = std::fs::hard_link(from, to).is_ok();
    let is_there = linked || Command::new("cp").arg("--").args([from, to]).status().is_ok_and(|ended| ended.success());
    assert!(is_there, "{} cannot be copied to {}", from.display(), to.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_runs_at_once_whoever_starts_programs_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for lane in 0..4 {
                let folder = &folder;
                scope.spawn(move || {
                    for number in 0..25 {
                        let (path, copy) =
                            (folder.path().join(format!("{lane}")), folder.path().join(format!("{lane} {number}")));
                        write_program(&path, &format!("#!/bin/sh\necho {number}\n"));
                        copy_program(&path, &copy);
                        for program in [path, copy] {
                            let said = Command::new(program).output().unwrap().stdout;
                            assert_eq!(said, format!("{number}\n").as_bytes());
                        }
                    }
                });
            }
        });
    }
}
