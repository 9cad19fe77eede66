//! What has gone wrong, which copies are left then, and the one command that brings a part of a job back.

use super::facts::{JobUnderRunbook, Part, PartKind, RunbookFacts, StoreFacts};
use crate::policy::{Answer, Scenario, survives};

/// What has gone wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The data is there and is wrong: a failed migration, an attacker, rot.
    Corrupted,
    /// Something was deleted that is needed.
    Deleted,
    /// The machine is gone, with everything that fails together with it.
    HostLost,
    /// The site or region is gone.
    RegionLost,
}

impl Trouble {
    /// All of them, in the order of the document. That this program is not available is a section of its own.
    pub const ALL: [Self; 4] = [Self::Corrupted, Self::Deleted, Self::HostLost, Self::RegionLost];

    /// The title of its section.
    pub fn title(self) -> &'static str {
        match self {
            Self::Corrupted => "The data is there, and wrong",
            Self::Deleted => "Something was deleted by accident",
            Self::HostLost => "The host is lost",
            Self::RegionLost => "The site or region is lost",
        }
    }

    pub(super) fn anchor(self) -> &'static str {
        match self {
            Self::Corrupted => "corrupted",
            Self::Deleted => "deleted",
            Self::HostLost => "host-lost",
            Self::RegionLost => "region-lost",
        }
    }

    /// Which copies outlive it, in the words of the policy.
    pub(super) fn scenario(self) -> Scenario {
        match self {
            Self::Corrupted | Self::Deleted => Scenario::DataLost,
            Self::HostLost => Scenario::DomainLost,
            Self::RegionLost => Scenario::SiteLost,
        }
    }
}

/// The copies of a job that are left, the best to restore from first, each with whether it surely is left: one that
/// holds something before one that does not or cannot be read, one that a drill has restored before one that none has,
/// then as the configuration has them.
pub fn stores_left<'a>(
    job: &JobUnderRunbook,
    trouble: Trouble,
    facts: &'a RunbookFacts,
) -> Vec<(&'a StoreFacts, Answer)> {
    let mut left: Vec<_> = job
        .facts
        .copies
        .iter()
        .map(|copy| (copy, survives(copy, &job.facts, trouble.scenario())))
        .filter(|(_, survives)| *survives != Answer::No)
        .filter_map(|(copy, survives)| Some((facts.store(&copy.repository)?, survives)))
        .collect();
    left.sort_by_key(|(store, survives)| {
        let is_usable = store.unreachable.is_none() && job.newest(&store.name).is_some();
        (*survives != Answer::Yes, !is_usable, job.last_passed(&store.name).is_none())
    });
    left
}

/// A command of this program that restores one part of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreCommand {
    words: Vec<String>,
}

/// The command that brings the newest backup of a part back to where it was, on a machine that has no configuration.
///
/// Its last word is its target. A drill executes the same command with another last word ([`RestoreCommand::aimed_at`]).
pub fn restore_command(job: &JobUnderRunbook, part: &Part, store: &StoreFacts) -> RestoreCommand {
    let mut words = selected("restore", "latest", job, part, store);
    let target = match &part.kind {
        PartKind::Files(_) => "/".to_owned(),
        PartKind::Database { url, .. } => url.clone(),
        PartKind::Output(file) => {
            words.extend(["--path".to_owned(), file.clone()]);
            beside(job)
        }
    };
    if store.is_archived {
        words.push("--thaw".to_owned());
    }
    words.extend(["--to".to_owned(), target]);
    RestoreCommand { words }
}

/// `backup -r PLACE VERB SNAP --job JOB`, with what tells the part from others.
pub(super) fn selected(verb: &str, snap: &str, job: &JobUnderRunbook, part: &Part, store: &StoreFacts) -> Vec<String> {
    let mut words: Vec<_> = ["backup", "-r", &store.place].map(str::to_owned).into();
    if let Some(cold) = &store.cold {
        words.extend(["--repo-cold".to_owned(), cold.clone()]);
    }
    if store.is_lock_free {
        words.push("--no-lock".to_owned());
    }
    words.extend([verb, snap].iter().filter(|word| !word.is_empty()).map(|word| (*word).to_owned()));
    words.extend(["--job".to_owned(), job.name().to_owned()]);
    if let Some(source) = &part.source {
        words.extend(["--source".to_owned(), source.clone()]);
    }
    words
}

/// A folder beside what is there, for a job's data.
pub(super) fn beside(job: &JobUnderRunbook) -> String {
    let plain = |byte: char| if byte.is_ascii_alphanumeric() || matches!(byte, '-' | '_' | '.') { byte } else { '_' };
    format!("/srv/restored/{}", job.name().chars().map(plain).collect::<String>())
}

impl RestoreCommand {
    /// Its words; the first is the program's name.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Where it restores to.
    pub fn target(&self) -> &str {
        self.words.last().map(String::as_str).unwrap_or_default()
    }

    /// The same command with another target, and nothing else changed.
    #[must_use]
    pub fn aimed_at(&self, target: &str) -> Self {
        let mut words = self.words.clone();
        if let Some(last) = words.last_mut() {
            target.clone_into(last);
        }
        Self { words }
    }

    /// As it is typed into a shell.
    pub fn line(&self) -> String {
        line(&self.words)
    }
}

/// Words as they are typed into a shell.
pub(super) fn line(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word that a shell takes for this word and nothing else.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    // What is printed stands on one line.
    let word: String = word.chars().map(|character| if character.is_control() { '?' } else { character }).collect();
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_shell_takes_each_word_as_it_is() {
        for (word, typed) in [
            ("s3://bucket/prefix", "s3://bucket/prefix"),
            ("s3://b?region=x&y=z", "'s3://b?region=x&y=z'"),
            ("my repo", "'my repo'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("", "''"),
            ("~", "'~'"),
        ] {
            assert_eq!(quoted(word), typed);
        }
    }

    #[test]
    fn the_command_names_the_place_and_the_job_and_only_its_target_is_replaced() {
        let facts = sample::facts();
        let (job, store) = (&facts.jobs[0], &facts.repositories[1]);
        let command = restore_command(job, &job.parts[0], store);
        assert_eq!(
            command.line(),
            "backup -r s3://acme/prod restore latest --job app-db --to postgres://backup@db.internal/app"
        );
        let archived = restore_command(job, &job.parts[0], &StoreFacts { is_archived: true, ..store.clone() });
        assert!(archived.line().contains("--job app-db --thaw --to postgres://"), "{}", archived.line());
        let into = command.aimed_at("postgres:///app?host=/tmp/x y");
        assert_eq!(into.words()[..7], command.words()[..7]);
        assert_eq!(into.target(), "postgres:///app?host=/tmp/x y");
        let files = &facts.jobs[1];
        assert_eq!(restore_command(files, &files.parts[0], store).target(), "/");
    }

    #[test]
    fn copies_that_are_lost_with_the_host_are_not_named_and_drilled_ones_come_first() {
        let facts = sample::facts();
        let names = |trouble| {
            stores_left(&facts.jobs[0], trouble, &facts).iter().map(|(store, _)| store.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(Trouble::Corrupted), ["offsite", "local"], "only offsite was drilled");
        assert_eq!(names(Trouble::RegionLost), ["offsite"]);
    }
}
