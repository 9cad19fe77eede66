//! As whom an engine's programs run, when root runs the drill: never as root.
//!
//! What is always true: a uid that is chosen here belongs to no user of the machine, so no file is anybody's of that number but
//! a drill's. It holds nothing; a killed drill leaves no uid behind.

use backup_core::contracts::NotReady;
use nix::unistd::{Uid, User};

/// The uids that systemd gives to services that have none: nobody's files belong to them.
const OWN_UIDS: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The user that owns nothing, where a program wants to find its own name and there are no namespaces to tell it one.
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
const NOBODY: &str = "nobody";

/// Who runs the engine, when root runs the drill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RunAs {
    /// A uid that nobody else has; `nobody` where there are no namespaces.
    #[default]
    OwnUid,
    /// The user of this name.
    Named(String),
}

/// The uid and gid of whoever runs the engine, when root runs the drill.
///
/// # Errors
///
/// When nobody is there who could.
pub(super) fn own_uid(run_as: &RunAs) -> Result<(u32, u32), NotReady> {
    ids_of(run_as, OWN_UIDS)
}

/// Those of the user that owns nothing.
///
/// # Errors
///
/// When there is no such user.
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
pub(super) fn nobody() -> Result<(u32, u32), NotReady> {
    ids_of(&RunAs::Named(NOBODY.to_owned()), OWN_UIDS)
}

fn ids_of(run_as: &RunAs, own: std::ops::RangeInclusive<u32>) -> Result<(u32, u32), NotReady> {
    let cannot = |reason: String| NotReady::CannotRun {
        reason,
        hint: Some("name a user that the engine may run as, or run the drill as another user than root".to_owned()),
    };
    match run_as {
        RunAs::Named(name) => match User::from_name(name) {
            Ok(Some(user)) if !user.uid.is_root() => Ok((user.uid.as_raw(), user.gid.as_raw())),
            Ok(Some(_)) => Err(cannot("an engine does not run as root".to_owned())),
            _ => Err(cannot(format!("there is no user {name}"))),
        },
        RunAs::OwnUid => {
            let mut random = [0; 4];
            getrandom::fill(&mut random).map_err(|error| cannot(format!("no random number: {error}")))?;
            let count = own.end() - own.start() + 1;
            let first = u32::from_ne_bytes(random) % count;
            // From a random place on, so that two drills at once are two users.
            let free = (0..count)
                .map(|step| own.start() + (first + step) % count)
                .find(|uid| matches!(User::from_uid(Uid::from_raw(*uid)), Ok(None)));
            free.map(|uid| (uid, uid)).ok_or_else(|| cannot("every uid is taken".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_does_not_run_an_engine_as_root() {
        assert!(matches!(ids_of(&RunAs::Named("root".into()), OWN_UIDS), Err(NotReady::CannotRun { .. })));
        assert!(matches!(ids_of(&RunAs::Named("no such user".into()), OWN_UIDS), Err(NotReady::CannotRun { .. })));
        let (uid, gid) = ids_of(&RunAs::OwnUid, OWN_UIDS).unwrap();
        assert!(OWN_UIDS.contains(&uid) && uid == gid);
    }
}
