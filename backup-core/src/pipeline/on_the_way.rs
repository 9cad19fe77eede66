//! Which folders of a snapshot only lie on the way to what was backed up. Of `/var`, with `/var/www` backed up, the
//! snapshot has one entry, because nobody looked at the others: a restore that deletes what the snapshot does not have
//! must leave them alone.

use crate::model::{Snapshot, SnapshotPath};

/// What was backed up into a snapshot.
#[derive(Debug)]
pub(super) struct Sources(Vec<SnapshotPath>);

impl Sources {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        Self(snapshot.paths.iter().map(|path| SnapshotPath::parse(path.as_bytes())).collect())
    }

    /// Whether all entries of `folder` were backed up that were not excluded, and not only those in `names`.
    ///
    /// restic drops the beginning of a relative path from the tree and keeps it in the snapshot's paths, so that the end
    /// of a path may lead to what was backed up as well as all of it.
    pub(super) fn have_all_of(&self, folder: &SnapshotPath, names: &[Vec<u8>]) -> bool {
        if self.0.iter().any(|source| folder.starts_with(source)) {
            return true;
        }
        let depth = folder.components().count();
        !self.0.iter().any(|source| {
            let components: Vec<&[u8]> = source.components().collect();
            (0..components.len()).any(|first| {
                let way = &components[first..];
                way.len() > depth
                    && folder.components().eq(way[..depth].iter().copied())
                    && names.iter().any(|name| name == way[depth])
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have_all(sources: &[&str], folder: &str, names: &[&str]) -> bool {
        let sources = Sources(sources.iter().map(|path| SnapshotPath::parse(path.as_bytes())).collect());
        let names: Vec<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        sources.have_all_of(&SnapshotPath::parse(folder.as_bytes()), &names)
    }

    #[test]
    fn folders_above_a_source_are_on_the_way_and_those_in_it_are_not() {
        let www = ["/var/www"];
        assert!(!have_all(&www, "/", &["var"]));
        assert!(!have_all(&www, "/var", &["www"]));
        assert!(have_all(&www, "/var/www", &["index.html"]));
        assert!(have_all(&www, "/var/www/var", &["www"]), "a folder that has the names of the way is not the way");
        assert!(have_all(&["/"], "/", &["var"]) && have_all(&["/"], "/var", &["www"]));
    }

    #[test]
    fn of_several_sources_each_has_its_way() {
        let several = ["/etc", "/var/www", "/var/lib/app"];
        assert!(!have_all(&several, "/", &["etc", "var"]));
        assert!(!have_all(&several, "/var", &["lib", "www"]));
        assert!(!have_all(&several, "/var/lib", &["app"]));
        assert!(have_all(&several, "/etc", &["ssl"]) && have_all(&several, "/var/lib/app", &["db"]));
        assert!(have_all(&["/var", "/var/www"], "/var", &["www"]), "a source is no way, though another one lies in it");
    }

    #[test]
    fn what_restic_backed_up_by_a_relative_path_has_its_way_too() {
        // `restic backup work/app` in /home/me keeps /work/app, and the whole path beside it.
        let relative = ["/home/me/work/app"];
        assert!(!have_all(&relative, "/", &["work"]));
        assert!(!have_all(&relative, "/work", &["app"]));
        assert!(have_all(&relative, "/work/app", &["src"]));
        // `restic backup .` keeps what is in the folder.
        assert!(have_all(&["/home/me/work"], "/", &["src", "notes"]));
    }
}
