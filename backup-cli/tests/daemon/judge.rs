//! Programs that judge what this one prints.

use std::path::PathBuf;
use std::process::Command;

/// Runs a program that `scripts/tools` installs, and gives what it said when it agreed.
#[track_caller]
pub(crate) fn agrees(variable: &str, arguments: &[&str]) -> String {
    let program = PathBuf::from(std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names no program")));
    let output = Command::new(&program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{} {arguments:?}\n{said}", program.display());
    said
}
