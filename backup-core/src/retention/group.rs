//! Which snapshots are backups of the same thing.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::Hold;
use crate::contracts::SnapshotFacts;

/// What the snapshots of a group have in common. A field that is `None` was not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct GroupKey {
    /// The job's name, from the tag `job:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The paths, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// The tags, in order, without those that hold a snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
}

impl GroupKey {
    /// The group that a snapshot belongs to by its nature.
    ///
    /// That is its job when it has one: neither a container's new host name nor another folder in the job's list
    /// begins a new history. A dump is grouped by its own path besides (`/postgres/app`), because a job that dumps two
    /// databases makes two snapshots, and the newest of the one must not cost the last of the other. Without a job it
    /// is host and paths, as restic groups.
    ///
    /// Of several `job:` tags the first in alphabetical order counts.
    pub fn of(facts: &SnapshotFacts) -> Self {
        match job_of(&facts.tags) {
            Some(job) => Self {
                job: Some(job.to_owned()),
                paths: is_dump(&facts.paths).then(|| in_order(&facts.paths)),
                ..Self::default()
            },
            None => Self { host: Some(facts.host.clone()), paths: Some(in_order(&facts.paths)), ..Self::default() },
        }
    }

    /// The natural group of a job's files: what to freeze when a job's run looks wrong.
    pub fn of_job(name: impl Into<String>) -> Self {
        Self { job: Some(name.into()), ..Self::default() }
    }

    /// The natural group of one of a job's dumps, `path` being the dump's path in the snapshot (`/postgres/app`).
    pub fn of_dump(name: impl Into<String>, path: impl Into<String>) -> Self {
        Self { job: Some(name.into()), paths: Some(vec![path.into()]), ..Self::default() }
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |name: &str, values: &Option<Vec<String>>| {
            values.as_ref().map(|values| format!("{name} {}", values.join(" ")))
        };
        let parts = [
            self.job.as_ref().map(|job| format!("job {job}")),
            self.host.as_ref().map(|host| format!("host {host}")),
            list("paths", &self.paths),
            list("tags", &self.tags),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        f.write_str(if parts.is_empty() { "all snapshots" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// How the rules see groups. The guards always see [`GroupKey::of`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GroupBy {
    /// By the snapshots' nature, as [`GroupKey::of`] says.
    #[default]
    Nature,
    /// By these fields; by none, all snapshots are one group.
    Fields(BTreeSet<GroupField>),
}

/// Something that snapshots can be grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupField {
    /// The job's name; snapshots without one are a group.
    Job,
    /// The machine.
    Host,
    /// The paths.
    Paths,
    /// The tags, but for those that hold a snapshot: to hold one must not take it out of its group.
    Tags,
}

/// A word that is no [`GroupField`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot group by `{0}`: know job, host, paths, tags")]
pub struct UnknownGroupField(String);

impl GroupBy {
    /// The key of the group that the rules count a snapshot in.
    pub fn key(&self, facts: &SnapshotFacts) -> GroupKey {
        let Self::Fields(fields) = self else { return GroupKey::of(facts) };
        let by = |field| fields.contains(&field);
        let own_tags = || in_order(facts.tags.iter().filter(|tag| !Hold::spells(tag)));
        GroupKey {
            job: by(GroupField::Job).then(|| job_of(&facts.tags).unwrap_or_default().to_owned()),
            host: by(GroupField::Host).then(|| facts.host.clone()),
            paths: by(GroupField::Paths).then(|| in_order(&facts.paths)),
            tags: by(GroupField::Tags).then(own_tags),
        }
    }
}

impl FromStr for GroupBy {
    type Err = UnknownGroupField;

    /// Reads fields with commas between them, as restic's `--group-by`; the empty text is one group of everything.
    fn from_str(text: &str) -> Result<Self, UnknownGroupField> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let field = |word| match word {
            "job" | "jobs" => Ok(GroupField::Job),
            "host" | "hosts" => Ok(GroupField::Host),
            "path" | "paths" => Ok(GroupField::Paths),
            "tag" | "tags" => Ok(GroupField::Tags),
            _ => Err(UnknownGroupField(String::from(word))),
        };
        words.map(field).collect::<Result<_, _>>().map(Self::Fields)
    }
}

/// Where the sources put dumps, each in a folder or file of its own below.
const DUMP_ROOTS: [&str; 6] = ["postgres", "mysql", "mongodb", "sqlite", "redis", "command"];

/// Whether `paths` are dumps and nothing else.
fn is_dump(paths: &[String]) -> bool {
    let is_root = |path: &String| match path.split('/').collect::<Vec<_>>()[..] {
        ["", root, name] => DUMP_ROOTS.contains(&root) && !name.is_empty(),
        _ => false,
    };
    !paths.is_empty() && paths.iter().all(is_root)
}

fn job_of(tags: &[String]) -> Option<&str> {
    tags.iter().filter_map(|tag| tag.strip_prefix("job:")).filter(|name| !name.is_empty()).min()
}

fn in_order<'a>(values: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    let mut values: Vec<_> = values.into_iter().cloned().collect();
    values.sort();
    values.dedup();
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::Proof;
    use crate::model::SnapshotId;

    fn facts(host: &str, paths: &[&str], tags: &[&str]) -> SnapshotFacts {
        SnapshotFacts {
            id: SnapshotId::from_bytes([0; 32]),
            time: jiff::Timestamp::UNIX_EPOCH,
            host: host.to_owned(),
            paths: paths.iter().map(ToString::to_string).collect(),
            tags: tags.iter().map(ToString::to_string).collect(),
            proof: Proof::Present,
        }
    }

    #[test]
    fn a_job_is_one_group_whatever_its_host_and_folders() {
        let one = facts("a1b2c3", &["/srv"], &["job:uploads", "nightly"]);
        let other = facts("d4e5f6", &["/srv", "/srv2"], &["job:uploads"]);
        assert_eq!(GroupKey::of(&one), GroupKey::of(&other));
        assert_eq!(GroupKey::of(&one), GroupKey::of_job("uploads"));
        assert_eq!(GroupKey::of(&one).to_string(), "job uploads");
    }

    #[test]
    fn each_dump_of_a_job_is_a_group_of_its_own() {
        let files = facts("h", &["/srv", "/etc/app"], &["job:app"]);
        let dump = facts("h", &["/postgres/app"], &["job:app"]);
        let other = facts("h", &["/postgres/users"], &["job:app"]);
        let keys: BTreeSet<_> = [&files, &dump, &other].map(GroupKey::of).into();
        assert_eq!(keys.len(), 3);
        assert_eq!(GroupKey::of(&dump), GroupKey::of_dump("app", "/postgres/app"));
        // A folder below such a path, or beside it, is files.
        for path in ["/postgres/app/data", "/postgres", "/postgres/", "postgres/app", "/postgresql/app"] {
            assert_eq!(GroupKey::of(&facts("h", &[path], &["job:app"])), GroupKey::of_job("app"), "{path}");
        }
    }

    #[test]
    fn without_a_job_host_and_paths_make_the_group() {
        let one = facts("h", &["/b", "/a"], &["x"]);
        assert_eq!(GroupKey::of(&one), GroupKey::of(&facts("h", &["/a", "/b"], &["job:"])));
        assert_ne!(GroupKey::of(&one), GroupKey::of(&facts("i", &["/a", "/b"], &["x"])));
        assert_ne!(GroupKey::of(&one), GroupKey::of(&facts("h", &["/a"], &["x"])));
        assert_eq!(GroupKey::of(&one).to_string(), "host h, paths /a /b");
    }

    #[test]
    fn fields_are_read_as_restic_reads_them() {
        use GroupField::{Host, Job, Paths, Tags};
        for (text, fields) in
            [("", &[][..]), ("host,paths", &[Host, Paths]), ("path, hosts", &[Host, Paths]), ("job,tag", &[Job, Tags])]
        {
            assert_eq!(text.parse(), Ok(GroupBy::Fields(fields.iter().copied().collect())), "{text}");
        }
        let error = "host,user".parse::<GroupBy>().unwrap_err();
        assert_eq!(error.to_string(), "cannot group by `user`: know job, host, paths, tags");
    }

    #[test]
    fn chosen_fields_alone_make_the_key_and_a_hold_is_no_part_of_it() {
        let one = facts("h", &["/a"], &["job:x", "hold", "hold-until:2027-01-01T00:00:00Z"]);
        let other = facts("i", &["/b"], &["job:x"]);
        let same = |by: &str| {
            let by: GroupBy = by.parse().unwrap();
            by.key(&one) == by.key(&other)
        };
        assert!(same("") && same("job") && same("tags") && same("job,tags"));
        assert!(!same("host") && !same("paths") && !same("tags,paths"));
        assert_eq!("".parse::<GroupBy>().unwrap().key(&one).to_string(), "all snapshots");
    }
}
