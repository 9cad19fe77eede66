//! A server that speaks restic's REST protocol: restic's own `rest-server`, append-only ones too, and those that follow
//! it (`rclone serve restic`).
//!
//! What is always true:
//!
//! * Such a server keeps the objects of restic's format and no others: a config, and objects in five folders whose name is
//!   the SHA-256 of their content, which it verifies. Others are [`SinkErrorKind::Unsupported`] to put, and are not there
//!   otherwise.
//! * It never replaces an object. One that is there already under its hash, with the size that it should have, is what
//!   was to be put. A config is never replaced.
//! * What was put is durable when the answer comes (it calls `fsync` first), so there is nothing to sync.
//! * Nothing is sent twice from here: [`RetrySink`](crate::layers::RetrySink) does that.
//!
//! The protocol: restic's manual, *REST Backend*. Version 2 of listings is asked for and version 1 understood. A crash
//! leaves whole objects, or none; of a config a server may keep a part, which no program takes for a config.

mod answer;

use std::ops::Range;

use backup_core::Result;
use backup_core::contracts::{ObjectInfo, ObjectKey, PutMode, Sink, SinkError, SinkErrorKind, SinkFuture, SinkStream};
use backup_core::limits::{PACK_BYTES_MAX, UNPACKED_BYTES_MAX};
use backup_core::model::Id;
use backup_core::repository::layout::{DATA, INDEX, KEYS, LOCKS, SNAPSHOTS};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::ready;
use futures::stream::{self, TryStreamExt};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;

use crate::access::{Access, Credentials, Secret};
use crate::http::{Network, client};
use crate::server::RestServer;
use answer::{Action, in_time};

const FOLDERS: [&str; 5] = [DATA, INDEX, KEYS, LOCKS, SNAPSHOTS];
const CONFIG: &str = "config";
const LISTING_V2: &str = "application/vnd.x.restic.rest.v2";

/// Requests for sizes at once, with a server that lists only names.
const SIZES_AT_ONCE: usize = 16;

/// A repository on a REST server.
#[derive(Debug)]
pub struct RestSink {
    client: Client,
    server: RestServer,
    login: Option<Login>,
}

#[derive(Clone, Debug)]
struct Login {
    user: String,
    password: Option<Secret>,
}

/// An entry of a listing, of version 2 or 1.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Listed {
    Sized { name: String, size: u64 },
    Name(String),
}

/// Opens the store; the server is asked nothing yet.
pub(crate) fn open(server: &RestServer, access: &Access) -> Result<RestSink> {
    let network = Network::new(&access.environment, server.ca_certificate.clone());
    let client = client(&network, &server.to_string())?;
    Ok(RestSink { client, server: server.clone(), login: login(server, access) })
}

/// Who we say we are: what was given, else what the environment says, in our words or restic's.
fn login(server: &RestServer, access: &Access) -> Option<Login> {
    if let Some(Credentials::Login { user, password }) = &access.credentials {
        return Some(Login { user: user.clone(), password: Some(password.clone()) });
    }
    let variable = |name: &str| {
        let ours = access.environment.get(&format!("BACKUP_REST_{name}"));
        ours.or_else(|| access.environment.get(&format!("RESTIC_REST_{name}"))).map(str::to_owned)
    };
    let user = server.user.clone().or_else(|| variable("USERNAME"))?;
    Some(Login { user, password: variable("PASSWORD").map(Secret::new) })
}

impl RestSink {
    /// Has the server make the folders of a repository, if it has not yet: restic does not bear that one is missing.
    async fn create_folders(&self) -> Result<(), SinkError> {
        let request = self.request(Method::POST, "?create=true");
        self.send("", Action::Write, request).await.map(drop)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // Compressed answers have no length to compare with.
        let request =
            self.client.request(method, format!("{}{path}", self.server.url)).header(ACCEPT_ENCODING, "identity");
        match &self.login {
            Some(Login { user, password }) => request.basic_auth(user, password.as_ref().map(Secret::reveal)),
            None => request,
        }
    }

    async fn send(&self, path: &str, action: Action, request: RequestBuilder) -> Result<Response, SinkError> {
        let response = in_time(action, request.send()).await.map_err(|failure| self.failed(path, &failure))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(answer::refused(self.subject(path), action, self.login.is_some(), response).await)
    }

    /// Reads the whole of an answer, which is no longer than `bytes_max`, or the caller's memory would be the server's to
    /// fill.
    async fn body(&self, path: &str, mut response: Response, bytes_max: u64) -> Result<Bytes, SinkError> {
        let mut body = BytesMut::new();
        loop {
            let piece = in_time(Action::Read, response.chunk()).await.map_err(|failure| self.failed(path, &failure))?;
            let Some(piece) = piece else { return Ok(body.freeze()) };
            if (body.len() + piece.len()) as u64 > bytes_max {
                return Err(self.error(SinkErrorKind::Other, path).caused_by("the answer is longer than it can be"));
            }
            body.extend_from_slice(&piece);
        }
    }

    async fn put_object(&self, key: &ObjectKey, bytes: Bytes, mode: PutMode) -> Result<(), SinkError> {
        let Some(path) = path_of(key) else {
            let cause = "a REST server of restic keeps a repository's own objects and no others";
            return Err(self.error(SinkErrorKind::Unsupported, key.as_str()).caused_by(cause));
        };
        if mode == PutMode::Create {
            match self.size(&path).await {
                Ok(_) => return Err(self.error(SinkErrorKind::AlreadyExists, &path)),
                Err(error) if error.kind == SinkErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if path == CONFIG {
            self.create_folders().await?;
        }
        let size = bytes.len() as u64;
        let request = self.request(Method::POST, &path).header(CONTENT_LENGTH, size).body(bytes);
        let refused = match self.send(&path, Action::Write, request).await {
            Err(error) if error.kind == SinkErrorKind::PermissionDenied => error,
            answer => return answer.map(drop),
        };
        // The server says "forbidden" too when the object is there.
        match self.size(&path).await {
            Ok(_) if mode == PutMode::Create => Err(self.error(SinkErrorKind::AlreadyExists, &path)),
            Ok(_) if path == CONFIG => {
                let cause = "a REST server does not replace a config: do this where the repository is kept";
                Err(self.error(SinkErrorKind::Unsupported, &path).caused_by(cause))
            }
            Ok(there) if there == size => Ok(()),
            _ => Err(refused),
        }
    }

    async fn size(&self, path: &str) -> Result<u64, SinkError> {
        let answer = self.send(path, Action::Read, self.request(Method::HEAD, path)).await?;
        let length = answer.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        length.ok_or_else(|| self.error(SinkErrorKind::Other, path).caused_by("the server does not tell its size"))
    }

    async fn get_object(&self, key: &ObjectKey, range: Option<Range<u64>>) -> Result<Bytes, SinkError> {
        let Some(path) = path_of(key) else { return Err(self.error(SinkErrorKind::NotFound, key.as_str())) };
        let truncated = || self.error(SinkErrorKind::Truncated, &path);
        let Some(range) = range else {
            let answer = self.send(&path, Action::Read, self.request(Method::GET, &path)).await?;
            return self.body(&path, answer, PACK_BYTES_MAX).await;
        };
        if range.is_empty() {
            // It cannot be asked for.
            let size = self.size(&path).await?;
            return if range.start.max(range.end) <= size { Ok(Bytes::new()) } else { Err(truncated()) };
        }
        let length = range.end - range.start;
        let header = format!("bytes={}-{}", range.start, range.end - 1);
        let request = self.request(Method::GET, &path).header(RANGE, header);
        let answer = match self.send(&path, Action::Read, request).await {
            Err(error) if error.kind == SinkErrorKind::Truncated => return Err(truncated()),
            answer => answer?,
        };
        if answer.status() != StatusCode::PARTIAL_CONTENT {
            // The whole object: a config, or a server that knows no ranges.
            let whole = self.body(&path, answer, PACK_BYTES_MAX).await?;
            let bounds = (usize::try_from(range.start), usize::try_from(range.end));
            return match bounds {
                (Ok(start), Ok(end)) if end <= whole.len() => Ok(whole.slice(start..end)),
                _ => Err(truncated()),
            };
        }
        let sent = answer.headers().get(CONTENT_RANGE).and_then(|sent| sent.to_str().ok()).map(str::to_owned);
        let part = self.body(&path, answer, length).await?;
        let is_it = sent.is_none_or(|sent| sent.starts_with(&format!("bytes {}-", range.start)));
        match part.len() as u64 {
            got if got == length && is_it => Ok(part),
            _ if self.size(&path).await? < range.end => Err(truncated()),
            got => Err(self
                .error(SinkErrorKind::Unavailable, &path)
                .caused_by(format!("the server sent {got} of {length} bytes"))),
        }
    }

    /// All objects of a folder.
    async fn list_folder(&self, folder: &'static str) -> Result<Vec<ObjectInfo>, SinkError> {
        let path = format!("{folder}/");
        let request = self.request(Method::GET, &path).header(ACCEPT, LISTING_V2);
        let answer = match self.send(&path, Action::List, request).await {
            // A folder that nobody has made yet.
            Err(error) if error.kind == SinkErrorKind::NotFound => return Ok(Vec::new()),
            answer => answer?,
        };
        let is_json = answer.headers().get(CONTENT_TYPE).is_none_or(|kind| !kind.as_bytes().starts_with(b"text/html"));
        let body = self.body(&path, answer, UNPACKED_BYTES_MAX).await?;
        let listed: Vec<Listed> = serde_json::from_slice(&body).map_err(|error| {
            let error = self.error(SinkErrorKind::Other, &path).caused_by(error);
            let what = if is_json { "what answers there speaks another protocol" } else { "a web page answers there" };
            error.with_hint(format!("{what}: check the address"))
        })?;
        // Unfinished objects have names that are no ids.
        let entries = listed.into_iter().filter_map(|entry| {
            let (name, size) = match entry {
                Listed::Sized { name, size } => (name, Some(size)),
                Listed::Name(name) => (name, None),
            };
            name.parse::<Id>().ok()?;
            let key = if folder == DATA { format!("{DATA}/{name:.2}/{name}") } else { format!("{folder}/{name}") };
            Some((ObjectKey::new(key), size))
        });
        let sized = stream::iter(entries.collect::<Vec<_>>()).map(|(key, size)| async move {
            let bytes = match (size, path_of(&key)) {
                (Some(size), _) => size,
                (None, Some(path)) => match self.size(&path).await {
                    Err(error) if error.kind == SinkErrorKind::NotFound => return Ok(None),
                    size => size?,
                },
                (None, None) => return Ok(None),
            };
            Ok(Some(ObjectInfo { key, bytes }))
        });
        sized.buffer_unordered(SIZES_AT_ONCE).try_filter_map(|info| ready(Ok(info))).try_collect().await
    }

    async fn list_below(&self, prefix: &str) -> Result<Vec<ObjectInfo>, SinkError> {
        let top = prefix.split('/').next().unwrap_or_default();
        let mut found = Vec::new();
        for folder in FOLDERS.into_iter().filter(|folder| top.is_empty() || top == *folder) {
            found.extend(self.list_folder(folder).await?);
        }
        if prefix.is_empty() {
            match self.size(CONFIG).await {
                Ok(bytes) => found.push(ObjectInfo { key: ObjectKey::new(CONFIG), bytes }),
                Err(error) if error.kind == SinkErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let is_below =
            |key: &str| prefix.is_empty() || key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
        found.retain(|info| is_below(info.key.as_str()));
        Ok(found)
    }

    async fn delete_object(&self, key: &ObjectKey) -> Result<(), SinkError> {
        let Some(path) = path_of(key) else { return Ok(()) };
        match self.send(&path, Action::Delete, self.request(Method::DELETE, &path)).await {
            Err(error) if error.kind == SinkErrorKind::NotFound => Ok(()),
            answer => answer.map(drop),
        }
    }

    fn subject(&self, path: &str) -> String {
        format!("{}{path}", self.server.shown())
    }

    fn error(&self, kind: SinkErrorKind, path: &str) -> SinkError {
        SinkError::new(kind, self.subject(path))
    }

    fn failed(&self, path: &str, failure: &answer::Unanswered) -> SinkError {
        answer::unanswered(self.subject(path), failure, self.server.host())
    }
}

/// Where the server keeps an object, if it keeps such: without the folder that packs are spread over.
fn path_of(key: &ObjectKey) -> Option<String> {
    let text = key.as_str();
    if text == CONFIG {
        return Some(CONFIG.to_owned());
    }
    let (folder, rest) = text.split_once('/')?;
    let name = match folder {
        DATA => rest.split_once('/').filter(|(shard, name)| shard.len() == 2 && name.starts_with(shard))?.1,
        _ => rest,
    };
    let is_kept = FOLDERS.contains(&folder) && name.parse::<Id>().is_ok();
    is_kept.then(|| format!("{folder}/{name}"))
}

impl Sink for RestSink {
    fn location(&self) -> String {
        self.server.to_string()
    }

    fn put<'a>(&'a self, key: &'a ObjectKey, bytes: Bytes, mode: PutMode) -> SinkFuture<'a, ()> {
        Box::pin(self.put_object(key, bytes, mode))
    }

    fn get<'a>(&'a self, key: &'a ObjectKey, range: Option<Range<u64>>) -> SinkFuture<'a, Bytes> {
        Box::pin(self.get_object(key, range))
    }

    fn stat<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ObjectInfo> {
        Box::pin(async move {
            let path = path_of(key).ok_or_else(|| self.error(SinkErrorKind::NotFound, key.as_str()))?;
            Ok(ObjectInfo { key: key.clone(), bytes: self.size(&path).await? })
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> SinkStream<'a> {
        stream::once(self.list_below(prefix))
            .map_ok(|listed| stream::iter(listed.into_iter().map(Ok)))
            .try_flatten()
            .boxed()
    }

    fn delete<'a>(&'a self, key: &'a ObjectKey) -> SinkFuture<'a, ()> {
        Box::pin(self.delete_object(key))
    }

    fn sync(&self) -> SinkFuture<'_, ()> {
        Box::pin(ready(Ok(())))
    }

    fn parallelism(&self) -> usize {
        crate::sinks::SERVER_PARALLELISM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_keeps_has_a_path() {
        let id = Id::of(b"x").to_string();
        let path = |key: String| path_of(&ObjectKey::new(key));
        assert_eq!(path("config".into()).as_deref(), Some("config"));
        assert_eq!(path(format!("data/{id:.2}/{id}")), Some(format!("data/{id}")));
        assert_eq!(path(format!("locks/{id}")), Some(format!("locks/{id}")));
        for other in [format!("data/{id}"), format!("data/zz/{id}"), format!("ext/records/{id}"), "index/a".into()] {
            assert_eq!(path(other.clone()), None, "{other}");
        }
    }

    #[test]
    fn the_login_is_what_was_given_else_the_places_user_else_the_environments() {
        let environment = |pairs: &[(&str, &str)]| crate::access::Environment::new(pairs.iter().copied());
        let plain = RestServer::parse("http://host/").unwrap();
        let named = RestServer::parse("http://me@host/").unwrap();
        let mut access = Access::default();
        assert!(login(&plain, &access).is_none());
        access.environment = environment(&[("RESTIC_REST_USERNAME", "you"), ("RESTIC_REST_PASSWORD", "old")]);
        let found = |server, access: &Access| {
            let Login { user, password } = login(server, access).unwrap();
            (user, password.map(|password| password.reveal().to_owned()).unwrap_or_default())
        };
        assert_eq!(found(&plain, &access), ("you".into(), "old".into()));
        access.environment = environment(&[("RESTIC_REST_PASSWORD", "old"), ("BACKUP_REST_PASSWORD", "new")]);
        assert_eq!(found(&named, &access), ("me".into(), "new".into()));
        let password = Secret::new("given");
        access.credentials = Some(Credentials::Login { user: "they".into(), password });
        assert_eq!(found(&named, &access), ("they".into(), "given".into()));
    }
}
