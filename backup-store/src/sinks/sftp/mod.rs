//! A folder on another machine, reached by SSH.
//!
//! What is always true:
//!
//! * An object is written under a temporary name in its own folder and gets its name in one step, as in a local folder: by
//!   a hard link when nothing may be replaced, by a rename else.
//! * Its content is on the server's disk before it gets its name, where the server offers that (`fsync@openssh.com`, which
//!   OpenSSH's does). That the name is there too nobody can be asked for: a power failure at the server may lose the name
//!   of an object, but none is found damaged.
//! * One login serves all requests. When it breaks, what was under way is [`SinkErrorKind::Unavailable`], and the next
//!   request logs in again; so it does when whoever waited for an answer has given up. Nothing is sent twice from here.
//!
//! A crash leaves whole objects, and temporary files, which no listing shows.

mod connection;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use backup_core::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::ready;
use futures::stream::{self, TryStreamExt};
use openssh_sftp_client::Error as SftpError;
use openssh_sftp_client::error::SftpErrorKind;
use openssh_sftp_client::file::File;
use openssh_sftp_client::fs::{DirEntry, Fs};
use tokio::io::AsyncSeekExt;

use crate::server::SftpServer;
use crate::stranger::{is_of_a_repository, may_be_a_link};
use connection::Connection;

/// Content moves in pieces of this size, which every server takes, several on their way at once: 1 MiB, enough for
/// 20 MB/s at 50 ms.
const PIECE_BYTES: usize = 32 * 1024;
const PIECES_AT_ONCE: usize = 32;

/// Folders that are read at once.
const FOLDERS_AT_ONCE: usize = 16;

/// A folder on another machine.
#[derive(Debug)]
pub struct SftpSink {
    server: SftpServer,
    connection: Mutex<Option<Arc<Connection>>>,
    /// Held while somebody logs in.
    login: tokio::sync::Mutex<()>,
    /// Different for each process with near certainty; the file is made exclusively all the same.
    next_number: AtomicU64,
}

/// Somebody who waits for an answer.
struct Waiting<'a> {
    sink: &'a SftpSink,
    is_answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            *self.sink.standing() = None;
        }
    }
}

/// What came of reading.
enum Read {
    Content(Bytes),
    /// What has the name is a folder.
    NoObject,
    /// It ends before the range does.
    Truncated,
}

impl SftpSink {
    /// The folder that `server` names. Nobody logs in yet.
    pub fn new(server: SftpServer) -> Self {
        let number = RandomState::new().hash_one(std::process::id());
        Self {
            server,
            connection: Mutex::default(),
            login: tokio::sync::Mutex::default(),
            next_number: AtomicU64::new(number),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        Path::new(&self.server.path).join(key)
    }

    fn subject(&self, key: &str) -> String {
        format!("{}/{key}", self.server.shown())
    }

    fn error(&self, kind: SinkErrorKind, key: &str) -> SinkError {
        SinkError::new(kind, self.subject(key))
    }

    /// The login that stands, or a new one.
    async fn connect(&self) -> Result<Arc<Connection>, SinkError> {
        if let Some(connection) = &*self.standing() {
            return Ok(Arc::clone(connection));
        }
        let _turn = self.login.lock().await;
        // Somebody else may have logged in meanwhile.
        if let Some(connection) = &*self.standing() {
            return Ok(Arc::clone(connection));
        }
        let connection = Arc::new(Connection::open(&self.server).await?);
        *self.standing() = Some(Arc::clone(&connection));
        Ok(connection)
    }

    fn standing(&self) -> MutexGuard<'_, Option<Arc<Connection>>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work`. When whoever waits for it gives up first, the login is given up too: on a line on which nothing moves,
    /// or with a server's process that hangs while its daemon answers, the next attempt would wait for the same. What else
    /// is under way keeps it until it ends.
    async fn watched<T>(&self, work: impl Future<Output = T>) -> T {
        let mut waiting = Waiting { sink: self, is_answered: false };
        let answer = work.await;
        waiting.is_answered = true;
        answer
    }

    /// What it means that `action` on `key` failed so. A connection that is no longer one is given up.
    async fn failed(
        &self,
        key: &str,
        action: &'static str,
        connection: &Arc<Connection>,
        error: SftpError,
    ) -> SinkError {
        use SinkErrorKind::{NotFound, Other, PermissionDenied, Unavailable, Unsupported};
        if let SftpError::SftpError(kind, message) = &error {
            let said = format!("the server says: {}", message.get().0);
            return match kind {
                SftpErrorKind::NoSuchFile => self.error(NotFound, key),
                SftpErrorKind::PermDenied => {
                    let hint =
                        format!("let the user {action} there: owner and permissions of the folder on the server");
                    let cause = format!("this user may not {action} it: {said}");
                    self.error(PermissionDenied, key).caused_by(cause).with_hint(hint)
                }
                SftpErrorKind::OpUnsupported => self.error(Unsupported, key).caused_by(said),
                _ => self.error(Other, key).caused_by(said),
            };
        }
        {
            let mut standing = self.standing();
            if standing.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
                *standing = None;
            }
        }
        let words = connection.last_words().unwrap_or_else(|| error.to_string());
        self.error(Unavailable, key).caused_by(format!("the connection broke: {words}"))
    }

    async fn put_object(&self, key: &ObjectKey, bytes: Bytes, mode: PutMode) -> Result<(), SinkError> {
        let connection = self.connect().await?;
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let target = self.path(key.as_str());
        let temporary = target.with_file_name(format!(".{}.tmp~{number:016x}", key.name()));
        let placed = async {
            self.write(&connection, key, &temporary, &bytes).await?;
            match mode {
                PutMode::Create => self.link(&connection, key, &temporary, &target).await,
                PutMode::Overwrite | PutMode::Bulk(_) => {
                    self.rename(&connection, key, &temporary, &target, bytes.len() as u64).await
                }
            }
        };
        let placed = placed.await;
        if placed.is_err() || mode == PutMode::Create {
            // Nothing depends on it being gone.
            let _ = connection.sftp.fs().remove_file(&temporary).await;
        }
        placed
    }

    /// Writes the temporary file and waits until it is on the server's disk.
    async fn write(
        &self,
        connection: &Arc<Connection>,
        key: &ObjectKey,
        temporary: &Path,
        bytes: &Bytes,
    ) -> Result<(), SinkError> {
        let sftp = &connection.sftp;
        let mut options = sftp.options();
        options.write(true).create_new(true);
        let opened = match options.open(temporary).await {
            Err(error) if is_absence(&error) => {
                let forbidden = self.make_folders(&mut sftp.fs(), key).await;
                // What is missing is a folder that may not be made, and no object of a repository.
                options.open(temporary).await.map_err(|error| match forbidden {
                    Some(forbidden) if is_absence(&error) => forbidden,
                    _ => error,
                })
            }
            opened => opened,
        };
        let written = async {
            let file = opened?;
            let pieces = (0..bytes.len()).step_by(PIECE_BYTES).map(|start| {
                let (mut file, piece) = (file.clone(), bytes.slice(start..bytes.len().min(start + PIECE_BYTES)));
                async move {
                    seek(&mut file, start as u64).await?;
                    file.write_all(&piece).await
                }
            });
            stream::iter(pieces).buffer_unordered(PIECES_AT_ONCE).try_collect::<()>().await?;
            let mut file = file;
            if sftp.support_fsync() {
                file.sync_all().await?;
            }
            file.close().await
        };
        match written.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.failed(key.as_str(), "write", connection, error).await),
        }
    }

    /// Makes the folders of an object. The sink's own folder is made only for what a repository begins with: a disk that
    /// is not mounted must not look like an empty store. What cannot be made is missed by who needs it; the first that this
    /// user may not make is why.
    async fn make_folders(&self, fs: &mut Fs, key: &ObjectKey) -> Option<SftpError> {
        let mut forbidden = None;
        let mut note = |made: Result<(), SftpError>| {
            if let Err(error @ SftpError::SftpError(SftpErrorKind::PermDenied, _)) = made {
                forbidden.get_or_insert(error);
            }
        };
        let first = key.as_str().split('/').next().unwrap_or_default();
        if matches!(first, "config" | "keys") {
            let own = Path::new(&self.server.path);
            let mut above: Vec<_> = own.ancestors().filter(|path| !path.as_os_str().is_empty()).collect();
            above.reverse();
            for folder in above {
                note(fs.create_dir(folder).await);
            }
        }
        for (at, _) in key.as_str().match_indices('/') {
            note(fs.create_dir(self.path(&key.as_str()[..at])).await);
        }
        forbidden
    }

    /// Gives the temporary file its name if nothing has it.
    async fn link(
        &self,
        connection: &Arc<Connection>,
        key: &ObjectKey,
        temporary: &Path,
        target: &Path,
    ) -> Result<(), SinkError> {
        let mut fs = connection.sftp.fs();
        if !connection.sftp.support_hardlink() {
            let cause = "the server cannot make an object under a name that must be free (no hard links)";
            return Err(self.error(SinkErrorKind::Unsupported, key.as_str()).caused_by(cause));
        }
        match fs.hard_link(temporary, target).await {
            Ok(()) => Ok(()),
            Err(_) if fs.symlink_metadata(target).await.is_ok() => {
                Err(self.error(SinkErrorKind::AlreadyExists, key.as_str()))
            }
            Err(error) => Err(self.failed(key.as_str(), "write", connection, error).await),
        }
    }

    /// Gives the temporary file its name, whatever had it.
    async fn rename(
        &self,
        connection: &Arc<Connection>,
        key: &ObjectKey,
        temporary: &Path,
        target: &Path,
        bytes: u64,
    ) -> Result<(), SinkError> {
        let mut fs = connection.sftp.fs();
        match fs.rename(temporary, target).await {
            Ok(()) => Ok(()),
            // A server that never replaces: one of this size under a hash is what was to be put.
            Err(error) if !connection.sftp.support_posix_rename() && key.as_str() != "config" => {
                match fs.symlink_metadata(target).await {
                    Ok(there) if there.len() == Some(bytes) => {
                        let _ = fs.remove_file(temporary).await;
                        Ok(())
                    }
                    _ => Err(self.failed(key.as_str(), "write", connection, error).await),
                }
            }
            Err(error) => Err(self.failed(key.as_str(), "write", connection, error).await),
        }
    }

    async fn get_object(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes, SinkError> {
        let connection = self.connect().await?;
        match self.read(&connection, key, range).await {
            Ok(Read::Content(content)) => Ok(content),
            Ok(Read::NoObject) => Err(self.error(SinkErrorKind::NotFound, key.as_str())),
            Ok(Read::Truncated) => Err(self.error(SinkErrorKind::Truncated, key.as_str())),
            Err(error) => Err(self.failed(key.as_str(), "read", &connection, error).await),
        }
    }

    async fn read(
        &self,
        connection: &Connection,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> Result<Read, SftpError> {
        let mut file = connection.sftp.open(self.path(key.as_str())).await?;
        let found = file.metadata().await?;
        let is_object = found.file_type().is_none_or(|kind| kind.is_file());
        let Some(size) = found.len().filter(|_| is_object) else { return Ok(Read::NoObject) };
        let range = range.unwrap_or(0..size);
        if range.end > size {
            return Ok(Read::Truncated);
        }
        let length = range.end.saturating_sub(range.start);
        let starts = (0..length).step_by(PIECE_BYTES).map(|offset| {
            let mut file = file.clone();
            let bytes = usize::try_from(length - offset).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
            async move {
                seek(&mut file, range.start + offset).await?;
                file.read_all(bytes, BytesMut::new()).await
            }
        });
        let mut content = BytesMut::new();
        let mut pieces = stream::iter(starts).buffered(PIECES_AT_ONCE);
        while let Some(piece) = pieces.next().await {
            content.extend_from_slice(&piece?);
        }
        drop(pieces);
        file.close().await?;
        Ok(Read::Content(content.freeze()))
    }

    async fn stat_object(&self, key: &ObjectKey) -> Result<ObjectInfo, SinkError> {
        let connection = self.connect().await?;
        match connection.sftp.fs().metadata(self.path(key.as_str())).await {
            Ok(found) if found.file_type().is_some_and(|kind| !kind.is_file()) => {
                Err(self.error(SinkErrorKind::NotFound, key.as_str()))
            }
            Ok(found) => Ok(ObjectInfo { key: key.clone(), bytes: found.len().unwrap_or_default() }),
            Err(error) => Err(self.failed(key.as_str(), "read", &connection, error).await),
        }
    }

    async fn list_below(&self, prefix: &str) -> Result<Vec<ObjectInfo>, SinkError> {
        if !prefix.is_empty() && !prefix.split('/').all(ObjectKey::is_component) {
            return Ok(Vec::new());
        }
        let connection = self.connect().await?;
        let mut listed = Vec::new();
        let mut folders = vec![prefix.to_owned()];
        while !folders.is_empty() {
            let read = folders.drain(..).map(|folder| self.read_folder(&connection, folder));
            let found: Vec<_> = stream::iter(read).buffer_unordered(FOLDERS_AT_ONCE).try_collect().await?;
            for (below, objects) in found {
                folders.extend(below);
                listed.extend(objects);
            }
        }
        Ok(listed)
    }

    /// The folders and the objects in a folder. Nothing when there is no such folder.
    async fn read_folder(
        &self,
        connection: &Arc<Connection>,
        folder: String,
    ) -> Result<(Vec<String>, Vec<ObjectInfo>), SinkError> {
        let (mut folders, mut objects) = (Vec::new(), Vec::new());
        for entry in self.entries(connection, &folder).await? {
            // Others, and unfinished objects, have names that are none of a key's.
            let Some(name) = entry.filename().to_str().filter(|name| ObjectKey::is_component(name)) else { continue };
            let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            match entry.file_type() {
                Some(kind) if kind.is_dir() => folders.push(path),
                // People put a large folder elsewhere and leave a link, directly in the sink's own.
                Some(kind) if kind.is_symlink() && folder.is_empty() => folders.push(path),
                Some(kind) if kind.is_file() => {
                    let bytes = entry.metadata().len().unwrap_or_default();
                    objects.push(ObjectInfo { key: ObjectKey::new(path), bytes });
                }
                _ => {}
            }
        }
        Ok((folders, objects))
    }

    /// What is in a folder, whatever it is. Nothing when there is no such folder.
    async fn entries(&self, connection: &Arc<Connection>, folder: &str) -> Result<Vec<DirEntry>, SinkError> {
        let read = match connection.sftp.fs().open_dir(self.path(folder)).await {
            Err(error) if is_absence(&error) => return Ok(Vec::new()),
            Ok(dir) => dir.read_dir().try_collect().await,
            Err(error) => Err(error),
        };
        match read {
            Ok(entries) => Ok(entries),
            Err(error) => Err(self.failed(folder, "list", connection, error).await),
        }
    }

    /// The name of a file below the folder that is of no repository.
    pub(crate) async fn stranger(&self) -> Result<Option<String>, SinkError> {
        let connection = self.connect().await?;
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in self.entries(&connection, &folder).await? {
                let name = entry.filename().to_string_lossy().into_owned();
                if matches!(name.as_str(), "." | ".." | "lost+found") {
                    continue;
                }
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                match entry.file_type() {
                    Some(kind) if kind.is_dir() => folders.push(path),
                    Some(kind) if kind.is_symlink() && may_be_a_link(&path) => {}
                    _ if is_of_a_repository(&path) => {}
                    _ => return Ok(Some(path)),
                }
            }
        }
        Ok(None)
    }

    async fn delete_object(&self, key: &ObjectKey) -> Result<(), SinkError> {
        let connection = self.connect().await?;
        let path = self.path(key.as_str());
        let mut fs = connection.sftp.fs();
        match fs.remove_file(&path).await {
            Ok(()) => Ok(()),
            Err(error) if is_absence(&error) => Ok(()),
            Err(error) => match fs.symlink_metadata(&path).await {
                // A folder is no object.
                Ok(found) if found.file_type().is_some_and(|kind| kind.is_dir()) => Ok(()),
                Err(gone) if is_absence(&gone) => Ok(()),
                _ => Err(self.failed(key.as_str(), "delete", &connection, error).await),
            },
        }
    }
}

async fn seek(file: &mut File, offset: u64) -> Result<(), SftpError> {
    file.seek(io::SeekFrom::Start(offset)).await.map(drop).map_err(SftpError::from)
}

fn is_absence(error: &SftpError) -> bool {
    matches!(error, SftpError::SftpError(SftpErrorKind::NoSuchFile, _))
}

impl Sink for SftpSink {
    fn location(&self) -> String {
        self.server.to_string()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(self.watched(self.put_object(key, bytes, mode)))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(self.watched(self.get_object(key, range)))
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(self.watched(self.stat_object(key)))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        stream::once(self.watched(self.list_below(prefix)))
            .map_ok(|listed| stream::iter(listed.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(self.watched(self.delete_object(key)))
    }

    /// What was put is on the server's disk already; for names there is nothing to ask for.
    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn parallelism(&self) -> usize {
        crate::sinks::SERVER_PARALLELISM
    }
}
