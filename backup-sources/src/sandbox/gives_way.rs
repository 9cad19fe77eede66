//! How what runs for a drill gives way to what else the machine does, and where the system's tools for such things are.
//!
//! What is always true: it changes nothing of what a program may do, and it is all of it or nothing, which the record says.
//! Used by the walls; there is nothing to clean up.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Where the tools are looked for; never on the caller's own path.
const TOOLS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// The tools that make a program give way. It is started by them, one by the other.
#[derive(Clone, Debug)]
pub(super) struct GivesWay {
    nice: PathBuf,
    ionice: PathBuf,
}

impl GivesWay {
    /// What it is, for the record.
    pub(super) const TOLD: &str = "gives way: nice 10, idle input and output";

    /// Those of this machine, where it has them.
    pub(super) fn find() -> Option<Self> {
        Some(Self { nice: tool("nice")?, ionice: tool("ionice")? })
    }

    /// What stands before a program. A disk that knows no such classes is no reason not to run (`-t`).
    pub(super) fn words(&self) -> Vec<OsString> {
        let nice = [self.nice.clone().into_os_string(), "-n".into(), "10".into()];
        let ionice = [self.ionice.clone().into_os_string(), "-c".into(), "3".into(), "-t".into()];
        nice.into_iter().chain(ionice).collect()
    }
}

/// A tool of the system.
pub(super) fn tool(name: &str) -> Option<PathBuf> {
    TOOLS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}
