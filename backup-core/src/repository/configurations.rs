//! The configurations of those who back up into a repository, under `ext/configurations/`, so that a bare machine with
//! the passphrase alone can tell what was backed up, from where, and whom to call.
//!
//! What is always true: what is kept is what the caller gives, who has taken the secrets out. The same text is not kept
//! twice in a row. Objects are sealed and named like all others; a crash leaves one more of them than needed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Repository;
use super::layout::Named as _;
use crate::Result;
use crate::limits::CONFIGURATIONS_KEPT_MAX;
use crate::model::ConfigurationId;

/// A configuration as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptConfiguration {
    /// When it was kept for the first time.
    pub time: Timestamp,
    /// The machine that it is of.
    pub hostname: String,
    /// The text, without secrets.
    pub text: String,
}

impl Repository {
    /// Keeps a configuration of this machine, unless the newest of it says the same. The oldest beyond
    /// [`CONFIGURATIONS_KEPT_MAX`] are removed where that is allowed.
    ///
    /// # Errors
    ///
    /// What the store says, also that it keeps nothing of ours.
    pub fn keep_configuration(&self, text: &str) -> Result<()> {
        let hostname = &self.identity().hostname;
        let mut own = self.configurations()?;
        own.retain(|(_, kept)| kept.hostname == *hostname);
        if own.last().is_some_and(|(_, kept)| kept.text == text) {
            return Ok(());
        }
        let kept = KeptConfiguration { time: self.clock().now(), hostname: hostname.clone(), text: text.to_owned() };
        self.save::<ConfigurationId>(&kept)?;
        let surplus = (own.len() + 1).saturating_sub(CONFIGURATIONS_KEPT_MAX);
        // Who may not delete leaves a few kilobytes more.
        let _ = self.store().delete_each(own.iter().take(surplus).map(|(id, _)| id.key()));
        Ok(())
    }

    /// All configurations that can be read, oldest first.
    pub fn configurations(&self) -> Result<Vec<(ConfigurationId, KeptConfiguration)>> {
        let ids = self.list::<ConfigurationId>()?;
        let mut all = Vec::with_capacity(ids.len());
        self.store().get_each(ids.iter().map(|(id, _)| id.key()), |key, stored| {
            if let Some(id) = ConfigurationId::from_key(&key)
                && let Ok(kept) = stored.and_then(|stored| self.open_object(id, &stored))
            {
                all.push((id, kept));
            }
            Ok(())
        })?;
        all.sort_by_key(|(id, kept): &(ConfigurationId, KeptConfiguration)| (kept.time, *id));
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;

    use super::*;
    use crate::clock::ManualClock;
    use crate::repository::{CreateOptions, Identity, Passphrase, ScryptCost};
    use crate::testing::MemorySink;

    #[test]
    fn a_configuration_is_kept_when_it_changes_and_the_oldest_go() {
        let identity = Identity { hostname: "here".into(), username: "me".into(), uid: 1, gid: 1, pid: 1 };
        let options = CreateOptions { cost: Some(ScryptCost { n: 2, r: 1, p: 1 }), ..CreateOptions::default() };
        let clock = Arc::new(ManualClock::new(Timestamp::UNIX_EPOCH));
        let (sink, passphrase) = (Arc::new(MemorySink::default()), Passphrase::new("x"));
        let repository = Repository::create(sink, &passphrase, &options, identity, Arc::clone(&clock) as _).unwrap();
        let texts = || repository.configurations().unwrap().into_iter().map(|(_, kept)| kept.text).collect::<Vec<_>>();
        for text in ["a", "a", "b", "a"] {
            repository.keep_configuration(text).unwrap();
            clock.advance(SignedDuration::from_secs(1));
        }
        assert_eq!(texts(), ["a", "b", "a"]);
        for number in 0..CONFIGURATIONS_KEPT_MAX {
            repository.keep_configuration(&number.to_string()).unwrap();
            clock.advance(SignedDuration::from_secs(1));
        }
        assert_eq!(texts().len(), CONFIGURATIONS_KEPT_MAX);
        assert_eq!(texts().last().map(String::as_str), Some("9"));
    }
}
