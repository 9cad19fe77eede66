//! The files that are written: all or, where one is there already, none.
//!
//! What is always true: they are their owner's alone, because they name machines, paths and stores; nothing is written
//! over unless that was asked for, and then by renaming, so that a crash leaves the old file or the new one.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use crate::exit::Failure;

/// A file to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// Its name below the folder.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) text: String,
    /// Whether it is run.
    pub(crate) is_program: bool,
}

/// What happens to files that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Present {
    /// Nothing is written.
    Refuse,
    /// They are replaced.
    Replace,
}

/// Writes files below `folder`, which is made when it is not there.
///
/// # Errors
///
/// When one is there and may not be replaced, and what the file system says.
pub(crate) fn write(folder: &Path, outputs: &[Output], present: Present) -> Result<(), Failure> {
    if present == Present::Refuse
        && let Some(there) =
            outputs.iter().map(|output| folder.join(&output.name)).find(|path| path.symlink_metadata().is_ok())
    {
        return Err(Failure::usage(
            format!("{} is there already, and nothing was written", there.display()),
            "name another folder, or give --force to replace what is there",
        ));
    }
    for output in outputs {
        let path = folder.join(&output.name);
        written(&path, output, present).map_err(|error| Failure::because(path.display().to_string(), &error))?;
    }
    Ok(())
}

fn written(path: &Path, output: &Output, present: Present) -> io::Result<()> {
    if let Some(above) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(above)?;
    }
    let mode = if output.is_program { 0o700 } else { 0o600 };
    match present {
        Present::Refuse => {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            file.write_all(output.text.as_bytes())?;
            file.sync_all()
        }
        Present::Replace => {
            let above = path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(above)?;
            file.write_all(output.text.as_bytes())?;
            fs::set_permissions(file.path(), Permissions::from_mode(mode))?;
            file.as_file().sync_all()?;
            file.persist(path).map(drop).map_err(|error| error.error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_over_unasked_and_files_are_their_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("new");
        let output =
            |name: &str, text: &str, is_program| Output { name: name.to_owned(), text: text.to_owned(), is_program };
        write(&at, &[output("a", "1", false), output("units/b", "2", true)], Present::Refuse).unwrap();
        let mode = |name: &str| fs::metadata(at.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode("a"), mode("units/b"), mode("")], [0o600, 0o700, 0o700]);
        let refused = write(&at, &[output("c", "3", false), output("a", "4", false)], Present::Refuse).unwrap_err();
        assert_eq!(refused.exit as u8, 2);
        assert!(!at.join("c").exists());
        write(&at, &[output("a", "4", false)], Present::Replace).unwrap();
        assert_eq!((fs::read_to_string(at.join("a")).unwrap().as_str(), mode("a")), ("4", 0o600));
    }
}
