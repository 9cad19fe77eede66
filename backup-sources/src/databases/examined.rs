//! What a restored database shows against what it must show, as the checks of a drill.

use std::collections::BTreeMap;
use std::path::Path;

use backup_core::contracts::{Check, Expectation, Level, NotReady};
use backup_core::limits::SANDBOX_SERVER_BYTES;

use crate::sandbox::{SandboxFolder, kept_bytes, no_room};

/// What an engine's words mean where its own comparison differs from the plain one.
pub(super) trait Reading {
    /// Why an expectation is not looked at here; `None` for those that are.
    fn passes_over(&self, expected: &Expectation) -> Option<String>;

    /// Whether something may be there that nobody expected.
    fn is_excused(&self, observed: &Expectation) -> bool;

    /// Whether a hash that differs may be spelt otherwise for the same thing, and why.
    fn may_differ(&self, expected: &Expectation) -> Option<String>;
}

/// Nothing is special.
#[cfg(any(test, feature = "redis", feature = "sqlite"))]
pub(super) struct Plainly;

#[cfg(any(test, feature = "redis", feature = "sqlite"))]
impl Reading for Plainly {
    fn passes_over(&self, _expected: &Expectation) -> Option<String> {
        None
    }

    fn is_excused(&self, _observed: &Expectation) -> bool {
        false
    }

    fn may_differ(&self, _expected: &Expectation) -> Option<String> {
        None
    }
}

/// Each expectation against what was observed: a check for its count, one for its content or definition, and one for
/// each thing that is there and that no expectation names.
pub(super) fn checks(expected: &[Expectation], observed: &[Expectation], reading: &dyn Reading) -> Vec<Check> {
    let mut there: BTreeMap<(&str, &str), Vec<&Expectation>> = BTreeMap::new();
    for observed in observed {
        there.entry((&observed.kind, &observed.object)).or_default().push(observed);
    }
    let mut checks = Vec::new();
    for expected in expected {
        let id = format!("{} {}", expected.kind, expected.object);
        let key = (expected.kind.as_str(), expected.object.as_str());
        // A few kinds have several objects of one name, such as grants: each takes its own, or else the first.
        let found = there.get_mut(&key).and_then(|found| {
            let same = found.iter().position(|observed| *observed == expected);
            same.or((!found.is_empty()).then_some(0)).map(|place| found.remove(place))
        });
        if let Some(why) = reading.passes_over(expected) {
            checks.push(Check::not_tested(id, Level::Examined, why));
            continue;
        }
        let Some(found) = found else {
            checks.push(Check::failed(id, Level::Examined, "it is missing"));
            continue;
        };
        compare(&id, expected, found, reading, &mut checks);
    }
    for observed in there.into_values().flatten() {
        if !reading.is_excused(observed) {
            let id = format!("{} {}", observed.kind, observed.object);
            checks.push(Check::failed(id, Level::Examined, "it is there, and was not when it was backed up"));
        }
    }
    checks
}

fn compare(id: &str, expected: &Expectation, found: &Expectation, reading: &dyn Reading, checks: &mut Vec<Check>) {
    let Expectation { count, hash, .. } = expected;
    if let Some(count) = count {
        let actual = found.count.map_or_else(|| "not counted".to_owned(), |count| count.to_string());
        checks.push(Check::compare(format!("{id} count"), Level::Examined, count, actual));
    }
    if let Some(hash) = hash {
        let actual = found.hash.as_deref().unwrap_or("none");
        let what = match () {
            () if count.is_some() => "content",
            () if hash.starts_with("definition-") => "definition",
            () => "value",
        };
        let id = format!("{id} {what}");
        match reading.may_differ(expected).filter(|_| hash != actual) {
            None => checks.push(Check::compare(id, Level::Examined, hash, actual)),
            Some(why) => {
                let check = Check::not_tested(id, Level::Examined, why);
                checks.push(Check { expected: Some(hash.clone()), actual: Some(actual.to_owned()), ..check });
            }
        }
    }
    if count.is_none() && hash.is_none() {
        checks.push(Check::passed(id, Level::Examined));
    }
}

/// A drill's folder in `parent`, where what will be restored fits beside a server.
pub(super) fn folder_with_room(parent: &Path, bytes: u64) -> Result<SandboxFolder, NotReady> {
    let folder = SandboxFolder::create(parent)
        .map_err(|error| NotReady::cannot_run(format!("no folder can be made in {}: {error}", parent.display())))?;
    let unknown = |error: std::io::Error| NotReady::cannot_run(format!("the space for it is not known: {error}"));
    let kept = kept_bytes(folder.path()).map_err(unknown)?;
    let needed = bytes.saturating_add(SANDBOX_SERVER_BYTES).saturating_add(kept);
    let free = folder.free_bytes().map_err(unknown)?;
    if free >= needed {
        return Ok(folder);
    }
    Err(no_room(folder.path().parent().unwrap_or(folder.path()), needed, free))
}

#[cfg(test)]
mod tests {
    use backup_core::contracts::CheckResult;

    use super::*;

    fn table(object: &str, count: u64, hash: &str) -> Expectation {
        Expectation { kind: "table".into(), object: object.into(), count: Some(count), hash: Some(hash.into()) }
    }

    #[test]
    fn what_is_missing_other_or_besides_fails_and_the_rest_passes() {
        let expected = [table("same", 1, "x:1"), table("gone", 1, "x:1"), table("fewer", 2, "x:1")];
        let observed = [table("same", 1, "x:1"), table("fewer", 1, "x:2"), table("more", 1, "x:1")];
        let failed: Vec<_> = checks(&expected, &observed, &Plainly)
            .into_iter()
            .filter(|check| check.result == CheckResult::Failed)
            .map(|check| check.id)
            .collect();
        assert_eq!(failed, ["table gone", "table fewer count", "table fewer content", "table more"]);
        assert_eq!(checks(&expected[..1], &observed[..1], &Plainly).len(), 2);
    }
}
