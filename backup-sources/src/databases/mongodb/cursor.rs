//! The documents of one collection on their way: a batch at hand, and the next one asked for already.
//!
//! The documents are not decoded: what the server sends is what the file has.

use std::sync::mpsc::{Receiver, sync_channel};

use futures::StreamExt as _;
use mongodb::bson::{Document, RawDocumentBuf, Timestamp, doc};
use mongodb::options::SessionOptions;
use mongodb::raw_batch_cursor::{RawBatchCursor, SessionRawBatchCursor};
use mongodb::{Client, ClientSession};
use tokio::runtime::Handle;

use super::catalog::within;
use super::connection::Connection;
use super::documents::Sum;

/// What is read, and as of when.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) database: String,
    pub(super) namespace: String,
    pub(super) filter: Document,
    pub(super) view: View,
}

/// In which state of the deployment something is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// As it is when the server comes to it.
    Latest,
    /// As it was at this instant.
    At(Timestamp),
}

/// A server's cursor.
enum Cursor {
    Latest(Box<RawBatchCursor>),
    Snapshot(Box<(SessionRawBatchCursor, ClientSession)>),
}

/// The documents of one reply, one behind the other, and what they add up to.
struct Batch {
    bytes: Vec<u8>,
    sum: Sum,
}

/// What comes next, with the cursor that gives what comes after it.
type Answer = Result<Option<(Batch, Cursor)>, mongodb::error::Error>;

/// The documents of one collection, as bytes.
pub(super) struct Documents {
    handle: Handle,
    batch: Vec<u8>,
    read: usize,
    /// `None` at the end.
    next: Option<Receiver<Answer>>,
    sum: Sum,
}

/// Why documents stop coming.
pub(super) enum Stop {
    /// The server, or the way to it.
    Server(mongodb::error::Error),
    /// The connection was closed.
    Gone,
}

impl Documents {
    /// Asks for the documents; the first of them come in a moment.
    pub(super) fn ask(connection: &Connection, query: Query) -> backup_core::Result<Self> {
        let client = connection.client()?;
        let (answer, next) = sync_channel(1);
        connection.spawn(async move {
            let first = async {
                let cursor = Box::pin(open(&client, &query)).await?;
                fetch(cursor).await
            };
            // Nobody may be waiting any more.
            let _ = answer.send(first.await);
        });
        Ok(Self { handle: connection.handle(), batch: Vec::new(), read: 0, next: Some(next), sum: Sum::default() })
    }

    /// Reads on; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Stop> {
        while self.read == self.batch.len() {
            if !self.advance()? {
                return Ok(0);
            }
        }
        let rest = &self.batch[self.read..];
        let bytes = rest.len().min(buffer.len());
        buffer[..bytes].copy_from_slice(&rest[..bytes]);
        self.read += bytes;
        Ok(bytes)
    }

    /// Passes over all that is left.
    pub(super) fn exhaust(&mut self) -> Result<(), Stop> {
        while self.advance()? {}
        Ok(())
    }

    /// What they add up to; `None` before the end.
    pub(super) fn sum(&self) -> Option<Sum> {
        self.next.is_none().then_some(self.sum)
    }

    fn advance(&mut self) -> Result<bool, Stop> {
        let Some(next) = self.next.take() else { return Ok(false) };
        let Some((batch, cursor)) = next.recv().map_err(|_| Stop::Gone)?.map_err(Stop::Server)? else {
            return Ok(false);
        };
        let (answer, next) = sync_channel(1);
        drop(self.handle.spawn(async move {
            let _ = answer.send(fetch(cursor).await);
        }));
        self.next = Some(next);
        self.sum.join(batch.sum);
        (self.batch, self.read) = (batch.bytes, 0);
        Ok(true)
    }
}

/// Opens a cursor.
async fn open(client: &Client, query: &Query) -> Result<Cursor, mongodb::error::Error> {
    let collection = client.database(&query.database).collection::<RawDocumentBuf>(&query.namespace);
    let find = collection.find(query.filter.clone());
    match query.view {
        View::Latest => Ok(Cursor::Latest(Box::new(within(find.batch()).await?))),
        View::At(time) => {
            let mut session = session(client, Some(time)).await?;
            let cursor = within(find.session(&mut session).batch()).await?;
            Ok(Cursor::Snapshot(Box::new((cursor, session))))
        }
    }
}

/// A session that reads as of one instant: the given one, or that of its first question.
async fn session(client: &Client, time: Option<Timestamp>) -> Result<ClientSession, mongodb::error::Error> {
    let mut options = SessionOptions::default();
    options.snapshot = Some(true);
    options.snapshot_time = time;
    client.start_session().with_options(options).await
}

/// The instant at which a deployment can be read as a whole from now on, asked for at one of its collections.
pub(super) async fn snapshot_time(
    client: &Client,
    database: &str,
    namespace: &str,
) -> Result<Option<Timestamp>, mongodb::error::Error> {
    let mut session = session(client, None).await?;
    let collection = client.database(database).collection::<RawDocumentBuf>(namespace);
    within(collection.find(doc! {}).limit(1).session(&mut session).batch()).await?;
    Ok(session.snapshot_time())
}

/// The next documents, hashed where the driver's threads are: the reader has the repository's hashes to make.
async fn fetch(mut cursor: Cursor) -> Answer {
    let next = within(async {
        match &mut cursor {
            Cursor::Latest(cursor) => cursor.next().await.transpose(),
            Cursor::Snapshot(both) => {
                let (cursor, session) = &mut **both;
                cursor.stream(session).next().await.transpose()
            }
        }
    });
    let Some(reply) = next.await? else { return Ok(None) };
    let mut batch = Batch { bytes: Vec::new(), sum: Sum::default() };
    let documents = reply.doc_slices()?;
    batch.bytes.reserve(documents.as_bytes().len());
    for document in documents {
        let document = document?;
        let document = document.as_document().ok_or_else(|| std::io::Error::other("the server sent no documents"))?;
        batch.sum.add(document.as_bytes());
        batch.bytes.extend_from_slice(document.as_bytes());
    }
    Ok(Some((batch, cursor)))
}
