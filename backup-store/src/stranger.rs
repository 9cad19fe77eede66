//! What lies where a repository is to be made, and belongs to none: a folder of photographs, another program's prefix.
//!
//! A sink's listing shows only names that can be objects, so here is looked at what a store really holds. What an earlier
//! creation has left is no stranger, nor is an empty folder. It only looks.

use std::fs;
use std::io;
use std::path::Path;

use backup_core::contracts::{ObjectKey, SinkError};
use backup_core::model::Id;
use backup_core::repository::layout::{DATA, INDEX, KEYS, LOCKS, SNAPSHOTS};
use backup_core::{Error, Result};

use crate::access::Access;
use crate::layers::Patience;
use crate::url::Place;

/// Where our own additions lie.
const OURS: &str = "ext";

/// What a file system keeps at its root by itself.
const FILE_SYSTEMS_OWN: &str = "lost+found";

impl Place {
    /// The name of something that lies there and is of no repository; `None` where nothing does, or where a server keeps
    /// nothing else. Whether a repository lies there is not asked.
    ///
    /// # Errors
    ///
    /// What the store says, after as many attempts as `patience` has.
    #[cfg_attr(not(feature = "object"), expect(unused_variables, reason = "no store is built in that would use it"))]
    pub async fn stranger(&self, access: &Access, patience: &Patience) -> Result<Option<String>> {
        let found: std::result::Result<_, SinkError> = match self {
            Self::Folder(path) => {
                return stranger_in(path, "").map_err(|error| {
                    Error::invalid(path.display().to_string(), "cannot be looked into").caused_by(error)
                });
            }
            #[cfg(feature = "object")]
            Self::Bucket(bucket) => {
                let sink = crate::url::open_object(bucket, access)?;
                patience.persist(0, |_| sink.stranger()).await
            }
            #[cfg(feature = "sftp")]
            Self::Sftp(server) => {
                let sink = crate::sinks::SftpSink::new(server.clone());
                patience.persist(0, |_| sink.stranger()).await
            }
            // Such a server keeps nothing else, or this program cannot open it.
            _ => Ok(None),
        };
        Ok(found?)
    }
}

/// Whether a path below a repository's place is one that a repository has.
pub(crate) fn is_of_a_repository(path: &str) -> bool {
    let is_unfinished = path.rsplit('/').next().is_some_and(|name| name.starts_with('.') && name.contains(".tmp~"));
    let is_id = |name: &str| name.parse::<Id>().is_ok();
    is_unfinished
        || match path.split_once('/') {
            None => path == "config",
            Some((OURS, _) | (FILE_SYSTEMS_OWN, _)) => true,
            Some((KEYS | LOCKS | INDEX | SNAPSHOTS, name)) => is_id(name),
            Some((DATA, rest)) => {
                rest.split_once('/').is_some_and(|(shard, name)| name.starts_with(shard) && is_id(name))
            }
            Some(_) => false,
        }
}

/// Whether a folder directly in a repository's place may be a link: people put a large one elsewhere.
pub(crate) fn may_be_a_link(path: &str) -> bool {
    [DATA, INDEX, KEYS, LOCKS, SNAPSHOTS, OURS].contains(&path) && ObjectKey::is_component(path)
}

/// Looks folder by folder; the first that it finds.
fn stranger_in(root: &Path, folder: &str) -> io::Result<Option<String>> {
    let entries = match fs::read_dir(root.join(folder)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        let kind = entry.file_type()?;
        let found = if path == FILE_SYSTEMS_OWN || kind.is_symlink() && may_be_a_link(&path) {
            None
        } else if kind.is_dir() {
            stranger_in(root, &path)?
        } else {
            (!is_of_a_repository(&path)).then_some(path)
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_repository_has_is_of_one() {
        let id = Id::of(b"x").to_string();
        for own in ["config", "ext/records/x", "lost+found/x", &format!("keys/{id}"), &format!("data/{id:.2}/{id}")] {
            assert!(is_of_a_repository(own), "{own}");
        }
        assert!(is_of_a_repository(&format!("keys/.{id}.tmp~0000000000000001")));
        for foreign in ["a", "photos/2024/a.jpg", "data/my holiday.jpg", "keys/mine", &format!("data/{id}"), "config/x"]
        {
            assert!(!is_of_a_repository(foreign), "{foreign}");
        }
    }

    #[test]
    fn a_folder_is_empty_as_long_as_there_are_only_folders_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let look = || stranger_in(folder.path(), "").unwrap();
        assert_eq!(stranger_in(&folder.path().join("absent"), "").unwrap(), None);
        fs::create_dir_all(folder.path().join("data/00")).unwrap();
        fs::create_dir_all(folder.path().join("lost+found")).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("index")).unwrap();
        assert_eq!(look(), None);
        fs::create_dir_all(folder.path().join("photos/2024")).unwrap();
        fs::write(folder.path().join("photos/2024/a b.jpg"), "x").unwrap();
        assert_eq!(look().as_deref(), Some("photos/2024/a b.jpg"));
    }
}
