//! A sandbox in which somebody meddles with what was restored, before it is looked at.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Expected, Newest, NotReady, Question, Sandbox, SandboxError, SandboxFacts, Target,
};
use backup_core::observe::Amount;

type Meddling = Box<dyn FnOnce(&Path) + Send>;

/// A sandbox, and what happens to the restored folder in it.
pub(crate) struct Meddler<S> {
    inner: S,
    parent: PathBuf,
    /// The folder inside of the sandbox that the snapshot's source becomes.
    below: PathBuf,
    meddling: Option<Meddling>,
}

impl<S> Meddler<S> {
    pub(crate) fn new(inner: S, parent: &Path, source: &Path, meddling: impl FnOnce(&Path) + Send + 'static) -> Self {
        let below = source.strip_prefix("/").unwrap().to_owned();
        Self { inner, parent: parent.to_owned(), below, meddling: Some(Box::new(meddling)) }
    }
}

impl<S: fmt::Debug> fmt::Debug for Meddler<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<S: Sandbox> Sandbox for Meddler<S> {
    fn facts(&self) -> SandboxFacts {
        self.inner.facts()
    }

    fn start(&mut self, expected: Amount, cancel: &Cancel) -> Result<(), NotReady> {
        self.inner.start(expected, cancel)
    }

    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError> {
        self.inner.target()
    }

    fn ready(&mut self) -> Result<(), SandboxError> {
        let folder = fs::read_dir(&self.parent).unwrap().next().unwrap().unwrap().path();
        if let Some(meddling) = self.meddling.take() {
            meddling(&folder.join("restored").join(&self.below));
        }
        self.inner.ready()
    }

    fn examine(&mut self, expected: Expected<'_>, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        self.inner.examine(expected, cancel)
    }

    fn ask(&mut self, question: &Question, cancel: &Cancel) -> Result<Answer, SandboxError> {
        self.inner.ask(question, cancel)
    }

    fn newest(&mut self) -> Option<Newest> {
        self.inner.newest()
    }

    fn caveats(&self) -> Caveats {
        self.inner.caveats()
    }

    fn remove(self: Box<Self>) -> Result<(), SandboxError> {
        Box::new(self.inner).remove()
    }
}
