//! Where and how an engine's own programs are run for a drill.

use std::path::{Path, PathBuf};

use backup_core::cancel::Cancel;
use backup_core::contracts::{NotReady, SandboxFacts};

use super::container::{Container, ContainerSettings, Wanted};
use super::{Namespaces, RunAs, SandboxFolder};

/// Where and how an engine's own programs are run for a drill.
#[derive(Clone, Debug)]
pub struct SandboxPlace {
    /// The folder in which each drill gets its own.
    pub parent: PathBuf,
    /// Who runs the engine, when root runs the drill.
    pub run_as: RunAs,
    /// Whether namespaces are used; a container has its own.
    pub namespaces: Namespaces,
    /// Paths outside of `/usr` and of the engine's own folder that its programs need, such as libraries that were
    /// installed elsewhere.
    pub shown: Vec<PathBuf>,
    /// The container whose programs are used, in place of those of this machine.
    pub container: Option<ContainerSettings>,
}

impl SandboxPlace {
    /// A folder below `parent`, with the usual separation.
    pub fn new(parent: impl Into<PathBuf>) -> Self {
        Self {
            parent: parent.into(),
            run_as: RunAs::default(),
            namespaces: Namespaces::default(),
            shown: Vec::new(),
            container: None,
        }
    }

    /// What is known of a sandbox before it is started.
    pub(crate) fn facts(&self) -> SandboxFacts {
        let provider = if self.container.is_some() { "container" } else { "local" };
        SandboxFacts { provider: provider.to_owned(), ..SandboxFacts::default() }
    }

    /// Starts the drill's container where it is to have one, which then belongs to `folder`: the folder of the engine's
    /// programs. `None` where those of this machine are used.
    ///
    /// # Errors
    ///
    /// When there is to be one, and there cannot.
    pub(crate) fn enter<'f>(
        &self,
        folder: &'f mut SandboxFolder,
        wanted: Wanted,
        facts: &mut SandboxFacts,
        cancel: &Cancel,
    ) -> Result<Option<&'f Path>, NotReady> {
        let Some(settings) = &self.container else { return Ok(None) };
        let container = Container::start(folder, settings, &self.run_as, wanted, cancel)?;
        let container = folder.keep(container);
        facts.image = Some(container.image().clone());
        Ok(Some(container.stand_ins()))
    }

    /// Where programs are looked for, fitting after "is not installed".
    pub(crate) fn told(&self) -> String {
        match &self.container {
            Some(container) => format!("in the image {}", container.image),
            None => "here".to_owned(),
        }
    }

    /// What to try where programs of `product` are missing: `local` where it is this machine that lacks them.
    pub(crate) fn hint(&self, product: &str, local: String) -> String {
        match &self.container {
            Some(_) => format!("name an image of {product}, or the folder of its programs in this one"),
            None => local,
        }
    }
}
