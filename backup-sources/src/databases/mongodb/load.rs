//! Documents on their way into a database: cut out of a file as it comes, sent in batches, several at once.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use backup_core::contracts::{Expectation, TargetError, TargetFile};
use backup_core::limits::{MONGODB_BATCH_BYTES, MONGODB_BATCH_DOCUMENTS_MAX};
use backup_core::model::{Node, SnapshotPath};
use mongodb::bson::RawDocumentBuf;

use super::catalog::within;
use super::connection::Connection;
use super::documents::{Splitter, Sum};
use super::failure;
use super::target::fatal;

/// The batches that are under way, and what became of them.
#[derive(Debug)]
pub(super) struct Flow {
    connection: Arc<Connection>,
    database: String,
    jobs: usize,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Debug, Default)]
struct State {
    busy: usize,
    /// Files that were opened, and not finished.
    open: usize,
    /// Why not everything is in the database.
    failure: Option<String>,
}

/// A batch that is under way. However it ends, also with its connection, whoever waits for it is told.
struct Busy {
    shared: Arc<(Mutex<State>, Condvar)>,
    /// What became of it.
    outcome: Result<(), String>,
}

impl Busy {
    fn end(mut self, outcome: Result<(), String>) {
        self.outcome = outcome;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let (state, changed) = &*self.shared;
        let mut state = lock(state);
        state.busy -= 1;
        if let Err(why) = std::mem::replace(&mut self.outcome, Ok(())) {
            state.failure.get_or_insert(why);
        }
        changed.notify_all();
    }
}

/// Documents for one collection.
#[derive(Debug, Default)]
struct Batch {
    documents: Vec<RawDocumentBuf>,
    bytes: usize,
}

impl Flow {
    pub(super) fn new(connection: Arc<Connection>, database: &str, jobs: usize) -> Self {
        Self { connection, database: database.to_owned(), jobs, state: Arc::default() }
    }

    /// Batches that may be under way at once.
    pub(super) fn jobs(&self) -> usize {
        self.jobs
    }

    /// Waits until everything is in the database.
    pub(super) fn settle(&self) -> Result<(), String> {
        let mut state = self.idle(0)?;
        match state.failure.take() {
            None if state.open > 0 => Err("a collection did not come whole".to_owned()),
            None => Ok(()),
            Some(why) => Err(why),
        }
    }

    /// Sends a batch, when fewer than the jobs are under way; one that has to be in order waits for all before it.
    fn send(&self, namespace: &str, batch: Batch, is_ordered: bool) -> Result<(), String> {
        if batch.documents.is_empty() {
            return Ok(());
        }
        let client = self.connection.client().map_err(|error| error.to_string())?;
        let mut state = self.idle(if is_ordered { 0 } else { self.jobs - 1 })?;
        state.busy += 1;
        drop(state);
        let busy = Busy { shared: Arc::clone(&self.state), outcome: Err("the connection is gone".to_owned()) };
        let namespace = namespace.to_owned();
        let collection = client.database(&self.database).collection::<RawDocumentBuf>(&namespace);
        self.connection.spawn(async move {
            let insert = collection.insert_many(&batch.documents).ordered(is_ordered);
            // They were valid when they were written, or the validator came later.
            let sent = within(insert.bypass_document_validation(true).into_future()).await;
            let told = |error| format!("documents of {namespace} are not taken: {}", failure::told(&error));
            busy.end(sent.map(drop).map_err(told));
        });
        Ok(())
    }

    /// Waits until no more than `busy` batches are under way.
    fn idle(&self, busy: usize) -> Result<MutexGuard<'_, State>, String> {
        let (state, changed) = &*self.state;
        let state = changed.wait_while(lock(state), |state| state.busy > busy && state.failure.is_none());
        let state = state.unwrap_or_else(PoisonError::into_inner);
        match &state.failure {
            Some(why) => Err(why.clone()),
            None => Ok(state),
        }
    }

    fn fail(&self, why: &str) {
        lock(&self.state.0).failure.get_or_insert_with(|| why.to_owned());
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file of documents that is being restored.
#[derive(Debug)]
pub(super) struct DocumentsFile {
    flow: Arc<Flow>,
    path: SnapshotPath,
    namespace: String,
    is_ordered: bool,
    expected: Option<Expectation>,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    position: u64,
    splitter: Splitter,
    batch: Batch,
    sum: Sum,
}

impl DocumentsFile {
    /// The file of `namespace`; `expected` is what its manifest says of it.
    pub(super) fn new(
        flow: Arc<Flow>,
        path: &SnapshotPath,
        namespace: String,
        is_ordered: bool,
        expected: Option<Expectation>,
    ) -> Self {
        lock(&flow.state.0).open += 1;
        Self { flow, path: path.clone(), namespace, is_ordered, expected, progress: Mutex::default() }
    }

    fn take(&self, progress: &mut Progress, offset: u64, bytes: &[u8]) -> Result<(), String> {
        if offset != progress.position {
            return Err("the documents do not come in their order".to_owned());
        }
        progress.position += bytes.len() as u64;
        let Progress { splitter, batch, sum, .. } = progress;
        splitter.feed(bytes, |document| {
            sum.add(document);
            batch.bytes += document.len();
            batch.documents.push(RawDocumentBuf::from_bytes(document.to_vec()).map_err(|error| error.to_string())?);
            match batch.bytes >= MONGODB_BATCH_BYTES || batch.documents.len() >= MONGODB_BATCH_DOCUMENTS_MAX {
                true => self.flow.send(&self.namespace, std::mem::take(batch), self.is_ordered),
                false => Ok(()),
            }
        })
    }

    /// Sends the rest, and looks whether it was all.
    fn close(&self, progress: &mut Progress) -> Result<(), String> {
        if !progress.splitter.is_between() {
            return Err(format!("the documents of {} end in the middle of one", self.namespace));
        }
        self.flow.send(&self.namespace, std::mem::take(&mut progress.batch), self.is_ordered)?;
        let Some(expected) = &self.expected else { return Ok(()) };
        let is_other = expected.count.is_some_and(|count| count != progress.sum.count)
            || expected.hash.as_ref().is_some_and(|hash| *hash != progress.sum.hash());
        match is_other {
            true => Err(format!("the documents of {} are not those that the manifest describes", self.namespace)),
            false => Ok(()),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TargetFile for DocumentsFile {
    fn existing_bytes(&self) -> u64 {
        0
    }

    fn looks_unchanged(&self) -> bool {
        false
    }

    fn is_kept(&self) -> bool {
        false
    }

    fn read_at(&self, _offset: u64, _buffer: &mut [u8]) -> io::Result<()> {
        Err(io::Error::other("what a server was given cannot be read back"))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.take(&mut self.progress(), offset, bytes).map_err(|why| {
            self.flow.fail(&why);
            io::Error::other(why)
        })
    }

    fn finish(self: Box<Self>, _node: &Node, _size: u64) -> Result<Vec<TargetError>, TargetError> {
        let closed = self.close(&mut self.progress());
        closed.map_err(|why| {
            self.flow.fail(&why);
            fatal("load", &self.path, why)
        })?;
        lock(&self.flow.state.0).open -= 1;
        Ok(Vec::new())
    }
}
