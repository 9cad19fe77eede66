//! Which file is the configuration.
//!
//! What is always true: a file of the working folder is taken only when nobody but its reader or root could have put it
//! there. A configuration runs commands; whoever may write one where root works would be root.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// What the name of the file in the working folder is.
const NAME: &str = "backup.toml";

/// The configuration: the one named, `./backup.toml`, `$XDG_CONFIG_HOME/backup/backup.toml`, `/etc/backup/backup.toml`.
/// `None` when there is none; `home` is the folder of `$XDG_CONFIG_HOME`.
///
/// # Errors
///
/// When the one in the working folder may be somebody else's.
pub(crate) fn find(named: Option<&Path>, home: Option<&Path>, reader: u32) -> Result<Option<PathBuf>, Failure> {
    if let Some(named) = named {
        return Ok(Some(named.to_owned()));
    }
    if Path::new(NAME).symlink_metadata().is_ok() {
        if let Some(why) = doubt(Path::new("."), reader).or_else(|| doubt(Path::new(NAME), reader)) {
            return Err(Failure::usage(
                format!("./{NAME} is passed over: {why}"),
                format!("name it with -c ./{NAME} if it is yours"),
            ));
        }
        return Ok(Some(NAME.into()));
    }
    let usual = home.map(|home| home.join(NAME)).into_iter().chain([PathBuf::from("/etc/backup").join(NAME)]);
    Ok(usual.into_iter().find(|path| path.exists()))
}

/// Why others may have written what is at `path`.
fn doubt(path: &Path, reader: u32) -> Option<String> {
    let told = |error: io::Error| Some(format!("{}: {error}", path.display()));
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) => return told(error),
    };
    let what = if metadata.is_dir() { "this folder" } else { "it" };
    if metadata.uid() != reader && metadata.uid() != 0 {
        return Some(format!("{what} belongs to somebody else"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Some(format!("others can write {what}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_may_have_written_is_doubted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::write(&path, "").unwrap();
        let me = path.metadata().unwrap().uid();
        let allow = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        allow(0o600);
        assert_eq!(doubt(&path, me), None);
        for mode in [0o620, 0o602, 0o666] {
            allow(mode);
            assert!(doubt(&path, me).is_some_and(|why| why.contains("others can write it")), "{mode:o}");
        }
        allow(0o644);
        if me != 0 {
            assert!(doubt(&path, me + 1).is_some_and(|why| why.contains("somebody else")));
        }
        assert!(doubt(&folder.path().join("absent"), me).is_some());
    }

    #[test]
    fn the_one_that_is_named_is_taken_as_it_is() {
        let named = Path::new("/nowhere/x.toml");
        let found = find(Some(named), None, 0).unwrap();
        assert_eq!(found, Some(named.to_owned()));
    }
}
