//! Where and how an engine's own programs are run for a drill.

use std::path::PathBuf;

use super::{Namespaces, RunAs};

/// Where and how an engine's own programs are run for a drill.
#[derive(Clone, Debug)]
pub struct SandboxPlace {
    /// The folder in which each drill gets its own.
    pub parent: PathBuf,
    /// Who runs the engine, when root runs the drill.
    pub run_as: RunAs,
    /// Whether namespaces are used.
    pub namespaces: Namespaces,
    /// Paths outside of `/usr` and of the engine's own folder that its programs need, such as libraries that were
    /// installed elsewhere.
    pub shown: Vec<PathBuf>,
}

impl SandboxPlace {
    /// A folder below `parent`, with the usual separation.
    pub fn new(parent: impl Into<PathBuf>) -> Self {
        Self { parent: parent.into(), run_as: RunAs::default(), namespaces: Namespaces::default(), shown: Vec::new() }
    }
}
