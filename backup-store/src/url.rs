//! How people write where a repository is.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backup_core::contracts::Sink;
use backup_core::repository::layout::{DATA, INDEX, KEYS, LOCKS, SNAPSHOTS};
use backup_core::{Error, Result};

use crate::access::Access;
use crate::bucket::{Bucket, Provider};
#[cfg(feature = "object")]
use crate::layers::Patience;
use crate::server::{RestServer, SftpServer};
use crate::sinks::LocalSink;
#[cfg(feature = "object")]
use crate::sinks::ObjectSink;
#[cfg(feature = "azure")]
use crate::sinks::azure;
#[cfg(feature = "gcs")]
use crate::sinks::gcs;
#[cfg(feature = "rest")]
use crate::sinks::rest;
#[cfg(feature = "s3")]
use crate::sinks::s3;
#[cfg(feature = "object")]
use crate::sinks::{ObjectRetention, Versions};

/// Schemes that belong to stores which this crate does not reach, with or without `//` behind the colon: restic and
/// rclone write some of them without. A path that begins like one has to be written `./s3:…`.
const REMOTE_SCHEMES: [&str; 14] =
    ["s3", "gs", "az", "azure", "rest", "sftp", "ssh", "b2", "swift", "rclone", "http", "https", "smb", "webdav"];

/// The place of a repository: a path, or a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// A folder of this machine, or one that is mounted here.
    Folder(PathBuf),
    /// A bucket of an object store, or a part of one.
    Bucket(Bucket),
    /// A server that speaks restic's REST protocol.
    Rest(RestServer),
    /// A folder of a machine that is reached by SSH.
    Sftp(SftpServer),
}

impl Place {
    /// Reads a place as people write it: `/mnt/backups/repo`, `backups/my repo`, `file:///mnt/backups/my%20repo`,
    /// `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, `rest:https://host/path/`,
    /// `sftp://user@host/path`.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] when it is none, or one of a kind that is not supported. The error names
    /// the place without what may be secret in it.
    pub fn parse(text: impl AsRef<OsStr>) -> Result<Self> {
        let text = text.as_ref();
        if text.is_empty() {
            return Err(Error::invalid(
                "the repository's place",
                "it is empty; a path is needed, as /mnt/backups/repo",
            ));
        }
        match scheme(text.as_bytes()) {
            None => Ok(Self::Folder(text.into())),
            Some(("file", rest)) => file_url(text, rest).map(Self::Folder),
            Some(("s3", rest)) => bucket(Provider::S3, rest),
            Some(("gs", rest)) => bucket(Provider::Gcs, rest),
            Some(("az", rest)) => bucket(Provider::Azure, rest),
            Some(("rest", rest)) => match str::from_utf8(rest) {
                Ok(rest) => RestServer::parse(rest).map(Self::Rest),
                Err(_) => Err(Error::invalid("the place rest:…", "it is not UTF-8")),
            },
            Some(("sftp", rest)) => match str::from_utf8(rest) {
                Ok(rest) => SftpServer::parse(rest).map(Self::Sftp),
                Err(_) => Err(Error::invalid("the place sftp:…", "it is not UTF-8")),
            },
            Some((scheme, _)) => Err(Error::invalid(
                without_secret(text),
                format!("places of the kind {scheme}: are not supported by this version"),
            )
            .with_hint(
                "give a folder, as /mnt/backups/repo, or s3://, gs://, az://, rest:, sftp://; a path that begins so is written \
                 with ./",
            )),
        }
    }

    /// Whether the store is reached over a network.
    pub fn is_remote(&self) -> bool {
        !matches!(self, Self::Folder(_))
    }

    /// Whether the store keeps only what restic's format has, and nothing of ours beside it.
    pub fn is_restics_alone(&self) -> bool {
        matches!(self, Self::Rest(_))
    }

    /// Opens the store at this place. Blocks for as long as the file system needs; a store on a network is asked nothing
    /// yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Missing`] when there is no such folder, [`backup_core::ErrorKind::Invalid`] for settings
    /// or credentials that cannot be used.
    pub fn open(&self, access: &Access) -> Result<Arc<dyn Sink>> {
        match self {
            Self::Folder(path) => Ok(Arc::new(LocalSink::open(path)?)),
            Self::Bucket(bucket) => open_bucket(bucket, access),
            Self::Rest(server) => open_rest(server, access),
            Self::Sftp(server) => open_sftp(server),
        }
    }

    /// Makes a store at this place, or opens what is there. Blocks for as long as the file system needs. Buckets are not
    /// made: what they cost, keep and allow is their owner's affair.
    ///
    /// In a folder it makes the folders of a repository as well: where one of them is missing `rustic check` speaks of
    /// errors, even in a repository that has nothing yet to put there.
    ///
    /// # Errors
    ///
    /// What the store says when it cannot be made.
    pub fn create(&self, access: &Access) -> Result<Arc<dyn Sink>> {
        match self {
            Self::Folder(path) => {
                let sink = LocalSink::create(path)?;
                for folder in [DATA, INDEX, KEYS, LOCKS, SNAPSHOTS] {
                    LocalSink::create(path.join(folder))?;
                }
                Ok(Arc::new(sink))
            }
            Self::Bucket(bucket) => open_bucket(bucket, access),
            Self::Rest(server) => open_rest(server, access),
            Self::Sftp(server) => open_sftp(server),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::Bucket(bucket) => bucket.fmt(f),
            Self::Rest(server) => server.fmt(f),
            Self::Sftp(server) => server.fmt(f),
        }
    }
}

fn bucket(provider: Provider, rest: &[u8]) -> Result<Place> {
    let rest = str::from_utf8(rest)
        .map_err(|_| Error::invalid(format!("the place {}:…", provider.scheme()), "it is not UTF-8"))?;
    Bucket::parse(provider, rest).map(Place::Bucket)
}

#[cfg_attr(not(feature = "object"), expect(unused_variables, reason = "no store is built in that would use it"))]
fn open_bucket(bucket: &Bucket, access: &Access) -> Result<Arc<dyn Sink>> {
    #[cfg(feature = "object")]
    return Ok(Arc::new(open_object(bucket, access)?));
    #[cfg(not(feature = "object"))]
    Err(Error::invalid(bucket.to_string(), "this program was built without support for this provider"))
}

#[cfg(feature = "object")]
#[cfg_attr(
    not(any(feature = "s3", feature = "gcs", feature = "azure")),
    expect(unused_variables, reason = "no provider is built in")
)]
pub(crate) fn open_object(bucket: &Bucket, access: &Access) -> Result<ObjectSink> {
    match bucket.provider {
        #[cfg(feature = "s3")]
        Provider::S3 => s3::open(bucket, access),
        #[cfg(feature = "gcs")]
        Provider::Gcs => gcs::open(bucket, access),
        #[cfg(feature = "azure")]
        Provider::Azure => azure::open(bucket, access),
        #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
        _ => Err(Error::invalid(bucket.to_string(), "this program was built without support for this provider")),
    }
}

#[cfg(feature = "object")]
impl Bucket {
    /// What it still has of the past. Asks the store nothing yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for settings or credentials that cannot be used.
    pub fn versions(&self, access: &Access, patience: Patience) -> Result<Versions> {
        match self.provider {
            #[cfg(feature = "s3")]
            Provider::S3 => Ok(Versions::new(s3::S3Versions::open(self, access, patience)?)),
            #[cfg(feature = "gcs")]
            Provider::Gcs => Ok(Versions::new(gcs::GcsVersions::open(self, access, patience)?)),
            #[cfg(feature = "azure")]
            Provider::Azure => Ok(Versions::new(azure::AzureVersions::open(self, access, patience)?)),
            #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
            _ => Err(Error::invalid(self.to_string(), "this program was built without support for this provider")),
        }
    }

    /// Until when its objects are kept. Asks the store nothing yet.
    ///
    /// # Errors
    ///
    /// [`backup_core::ErrorKind::Invalid`] for settings or credentials that cannot be used.
    pub fn retention(&self, access: &Access, patience: Patience) -> Result<ObjectRetention> {
        match self.provider {
            #[cfg(feature = "s3")]
            Provider::S3 => Ok(ObjectRetention::new(s3::S3Retention::open(self, access, patience)?)),
            #[cfg(feature = "gcs")]
            Provider::Gcs => Ok(ObjectRetention::new(gcs::GcsRetention::open(self, access, patience)?)),
            #[cfg(feature = "azure")]
            Provider::Azure => Ok(ObjectRetention::new(azure::AzureRetention::open(self, access, patience)?)),
            #[cfg(not(all(feature = "s3", feature = "gcs", feature = "azure")))]
            _ => Err(Error::invalid(self.to_string(), "this program was built without support for this provider")),
        }
    }
}

#[cfg(feature = "rest")]
fn open_rest(server: &RestServer, access: &Access) -> Result<Arc<dyn Sink>> {
    Ok(Arc::new(rest::open(server, access)?))
}

#[cfg(not(feature = "rest"))]
fn open_rest(server: &RestServer, _: &Access) -> Result<Arc<dyn Sink>> {
    Err(Error::invalid(server.to_string(), "this program was built without support for REST servers"))
}

#[cfg(feature = "sftp")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature it fails")]
fn open_sftp(server: &SftpServer) -> Result<Arc<dyn Sink>> {
    Ok(Arc::new(crate::sinks::SftpSink::new(server.clone())))
}

#[cfg(not(feature = "sftp"))]
fn open_sftp(server: &SftpServer) -> Result<Arc<dyn Sink>> {
    Err(Error::invalid(server.to_string(), "this program was built without support for SFTP"))
}

/// The scheme of a URL and what follows its colon; `None` for a path.
fn scheme(text: &[u8]) -> Option<(&str, &[u8])> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    let (scheme, rest) = (&text[..colon], &text[colon + 1..]);
    let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic)
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    let scheme = str::from_utf8(scheme).ok().filter(|_| is_scheme)?;
    let is_url = rest.starts_with(b"//") || scheme == "file" || REMOTE_SCHEMES.contains(&scheme);
    is_url.then_some((scheme, rest))
}

/// The path of a `file:` URL (RFC 8089): `file:///path`, `file://localhost/path` or `file:/path`.
fn file_url(text: &OsStr, rest: &[u8]) -> Result<PathBuf> {
    let wrong = |why: &str| Error::invalid(text.to_string_lossy(), why);
    let path = match rest.strip_prefix(b"//") {
        Some(rest) => rest.strip_prefix(b"localhost").unwrap_or(rest),
        None => rest,
    };
    if !path.starts_with(b"/") {
        return Err(wrong("a file: URL names an absolute path of this machine, as file:///mnt/backups/repo"));
    }
    let path = percent_decoded(path).ok_or_else(|| wrong("a % is not followed by two hexadecimal digits"))?;
    if path.contains(&0) {
        return Err(wrong("a path cannot contain a zero byte"));
    }
    Ok(Path::new(&OsString::from_vec(path)).to_owned())
}

pub(crate) fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(*rest.next()?).to_digit(16);
            let value = digit()? << 4 | digit()?;
            decoded.push(u8::try_from(value).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    Some(decoded)
}

/// The URL without what stands before its last `@`, where user names and passwords are, and without its query, where
/// signatures and tokens are.
fn without_secret(text: &OsStr) -> String {
    let text = text.to_string_lossy();
    let (url, query) = match text.split_once('?') {
        // A `?` in a password, or an `@` in a token: no telling where the secret ends.
        Some((url, query)) if query.contains('@') => return format!("{}:…", url.split(':').next().unwrap_or_default()),
        Some((url, _)) => (url, "?…"),
        None => (&*text, ""),
    };
    match url.rsplit_once('@') {
        Some((before, after)) => format!("{}:…@{after}{query}", before.split(':').next().unwrap_or_default()),
        None => format!("{url}{query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &str) -> PathBuf {
        let Ok(Place::Folder(path)) = Place::parse(text) else { panic!("{text} is no folder") };
        path
    }

    #[test]
    fn paths_are_taken_as_they_are() {
        for path in ["/mnt/backups/repo", "backups/my repo", ".", "./s3:odd", "odd:name", "a%20b", "/x/file:///y", "~"]
        {
            assert_eq!(folder(path), Path::new(path));
        }
        let raw = OsStr::from_bytes(b"/mnt/\xff");
        assert_eq!(Place::parse(raw).unwrap(), Place::Folder(raw.into()));
    }

    #[test]
    fn a_new_place_has_the_folders_that_other_programs_look_into() {
        let scratch = tempfile::tempdir().unwrap();
        Place::Folder(scratch.path().join("new")).create(&Access::default()).unwrap();
        for name in ["data", "index", "keys", "locks", "snapshots"] {
            assert!(scratch.path().join("new").join(name).is_dir(), "{name}");
        }
    }

    #[test]
    fn file_urls_are_decoded() {
        assert_eq!(folder("file:///mnt/my%20repo"), Path::new("/mnt/my repo"));
        assert_eq!(folder("file://localhost/mnt"), Path::new("/mnt"));
        assert_eq!(folder("file:/mnt/%e2%82%ac"), Path::new("/mnt/€"));
        for wrong in ["file://host/mnt", "file:mnt", "file://", "file:///a%2", "file:///a%zz", "file:///a%00", ""] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn buckets_are_places_and_ask_nothing_when_they_are_opened() {
        for text in ["s3://bucket/prefix", "az://container?account=me", "gs://bucket"] {
            let place = Place::parse(text).unwrap();
            assert_eq!(place.to_string(), text);
            assert!(matches!(place, Place::Bucket(_)));
        }
        let error = Place::parse("s3:host/bucket").unwrap_err();
        assert!(
            error.hint().is_some_and(|hint| hint.contains("s3://BUCKET/PREFIX?endpoint=") || hint.contains("endpoint"))
        );
    }

    #[test]
    fn rest_servers_are_places_whose_passwords_are_refused() {
        let place = Place::parse("rest:https://me@host/repo").unwrap();
        assert_eq!(place.to_string(), "rest:https://me@host/repo/");
        let error = Place::parse("rest:https://me:secret@host/repo").unwrap_err();
        assert!(!error.to_string().contains("secret") && error.hint().is_some(), "{error}");
    }

    #[test]
    fn other_kinds_of_store_are_refused_by_name_and_their_secrets_kept() {
        for (url, shown) in [
            ("b2:bucket/prefix", "b2:bucket/prefix"),
            ("swift:https://me:secret@host/repo", "swift:…@host/repo"),
            ("smb://me:sec@ret@host/repo", "smb:…@host/repo"),
            ("swift://container/x?sig=secret", "swift://container/x?…"),
            ("ftp://host/x", "ftp://host/x"),
            ("smb://me:secret?@host/repo", "smb:…"),
            ("https://bucket/x?token=secret@x", "https:…"),
        ] {
            let error = Place::parse(url).unwrap_err();
            let kind = url.split(':').next().unwrap();
            assert_eq!(error.subject(), shown);
            assert!(error.to_string().contains(&format!("the kind {kind}: are not supported")), "{error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }
}
