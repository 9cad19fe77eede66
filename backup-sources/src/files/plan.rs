//! Which paths are to be walked, as the tree that the snapshot will have.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use backup_core::contracts::SourceError;
use backup_core::model::SnapshotPath;
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

/// A folder on the way to a source, or a source itself. The sources below a source matter where it would leave them
/// out.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    pub(super) is_source: bool,
    pub(super) children: BTreeMap<Vec<u8>, Arc<Self>>,
}

impl Plan {
    /// The plan of `paths`, which are absolute and clean.
    pub(super) fn of(paths: &[PathBuf]) -> Arc<Self> {
        let mut root = Arc::new(Self::default());
        for path in paths {
            let mut plan = Arc::make_mut(&mut root);
            for component in SnapshotPath::of_file(path).components() {
                plan = Arc::make_mut(plan.children.entry(component.to_vec()).or_default());
            }
            plan.is_source = true;
        }
        root
    }
}

/// The path, absolute and without `.` and `..`, as Go's `filepath.Abs` makes it: `..` takes the component before it
/// away, without looking whether that is a link. What is not there is an error.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, SourceError> {
    let whole = std::path::absolute(path)
        .map_err(|error| SourceError::of_io("find", SnapshotPath::parse(path.as_os_str().as_bytes()), &error))?;
    let mut clean = PathBuf::from("/");
    for component in whole.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    match statx(CWD, &clean, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(_) => Ok(clean),
        Err(error) => Err(SourceError::of_io("find", SnapshotPath::of_file(&clean), &error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_within_sources_are_one_tree() {
        let plan = Plan::of(&["/a/b/c".into(), "/a/b".into(), "/d".into()]);
        assert!(!plan.is_source);
        assert_eq!(plan.children.len(), 2);
        let b = &plan.children[b"a".as_slice()].children[b"b".as_slice()];
        assert!(b.is_source && b.children[b"c".as_slice()].is_source);
    }

    #[test]
    fn a_path_is_made_absolute_by_its_letters() {
        assert_eq!(absolute(Path::new("/proc/./self/../self")).unwrap(), Path::new("/proc/self"));
        assert_eq!(absolute(Path::new("/../..")).unwrap(), Path::new("/"));
        assert!(absolute(Path::new(".")).unwrap().is_absolute());
        assert!(absolute(Path::new("/proc/no-such-thing")).unwrap_err().vanished);
    }
}
