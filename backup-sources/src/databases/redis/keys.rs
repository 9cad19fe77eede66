//! What a snapshot holds, counted and hashed as it passes.

use std::collections::BTreeMap;

use backup_core::contracts::Expectation;
use jiff::Timestamp;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::elements::Digest;
use super::listener::{Key, Listener};
use super::shape::sort_of;

/// The kind of expectation that counts keys which go away by themselves.
pub(super) const EXPIRING: &str = "expiring";

/// The kind that is the elements of collections which stay.
pub(super) const ELEMENTS: &str = "elements";

/// The kind that is the elements of collections which go away by themselves.
pub(super) const EXPIRING_ELEMENTS: &str = "expiring elements";

/// How what a server holds differs from what it must hold. Keys whose time has come since are no difference, and the
/// second list says how many they are.
pub fn differences(expected: &[Expectation], observed: &[Expectation]) -> (Vec<String>, Vec<String>) {
    let (due, notes) = due(expected, observed);
    (super::super::differences(&due, observed), notes)
}

/// What a server must hold now: what it had to hold, less the keys whose time has come since, in databases where that
/// explains what is gone. Of the other keys with an end only the number is left to compare then; those without one are
/// compared all the same.
pub(super) fn due(expected: &[Expectation], observed: &[Expectation]) -> (Vec<Expectation>, Vec<String>) {
    let find = |list: &[Expectation], kind: &str, object: &str| {
        list.iter().find(|expectation| expectation.kind == kind && expectation.object == object).cloned()
    };
    let count = |list: &[Expectation], kind: &str, object: &str| {
        find(list, kind, object).and_then(|expectation| expectation.count).unwrap_or(0)
    };
    let (mut due, mut notes) = (Vec::new(), Vec::new());
    for mut expectation in expected.iter().cloned() {
        let database = expectation.object.clone();
        let gone = count(expected, EXPIRING, &database).saturating_sub(count(observed, EXPIRING, &database));
        let left = expectation.count.unwrap_or(0).saturating_sub(gone);
        match expectation.kind.as_str() {
            EXPIRING | EXPIRING_ELEMENTS if gone > 0 => continue,
            "database" if gone > 0 && count(observed, "database", &database) == left => {
                notes.push(format!("database {database}: the time of {gone} keys has come since; {left} are there"));
                if left == 0 {
                    continue;
                }
                expectation.count = Some(left);
            }
            _ => {}
        }
        // One that was made by an older version of this program may be a sum of other things.
        let found = find(observed, &expectation.kind, &database).and_then(|found| found.hash);
        if let (Some(wanted), Some(found)) = (&expectation.hash, found)
            && method(wanted) != method(&found)
        {
            notes.push(format!("{} {database}: its hash is of another method, and was not compared", expectation.kind));
            expectation.hash = None;
        }
        due.push(expectation);
    }
    (due, notes)
}

fn method(hash: &str) -> &str {
    hash.split(':').next().unwrap_or(hash)
}

/// Counts keys, by database.
#[derive(Debug, Default)]
pub(super) struct Keys {
    databases: BTreeMap<u64, Counts>,
    functions: Vec<Expectation>,
    /// The server's version, as the file says it.
    pub(super) version: Option<String>,
    /// When the state was taken, by the server's clock.
    pub(super) taken: Option<Timestamp>,
    pub(super) has_module_data: bool,
}

/// Those of a database.
#[derive(Debug, Default)]
struct Counts {
    lasting: Sums,
    expiring: Sums,
}

/// Sums do not depend on the order, and a key that is there twice does not cancel itself out.
#[derive(Debug, Default)]
struct Sums {
    keys: u64,
    /// Of names, ends, sorts and strings.
    hash: u128,
    /// Of names and what is in the collections.
    elements: u128,
    /// Collections whose elements are not known here.
    unread: u64,
}

impl Sums {
    /// What it claims of the elements: nothing, unless it knows all.
    fn elements(&self, kind: &str, database: u64) -> Option<Expectation> {
        let is_known = self.keys > 0 && self.unread == 0;
        is_known.then(|| Expectation {
            kind: kind.into(),
            object: database.to_string(),
            count: None,
            hash: Some(format!("xxh3-128-sum-of-elements:{:032x}", self.elements)),
        })
    }
}

impl Keys {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.databases.values().map(|counts| counts.lasting.keys + counts.expiring.keys).sum()
    }

    /// Forgets what was counted.
    pub(super) fn forget(&mut self) {
        (self.databases, self.functions) = Default::default();
    }

    /// What a restore must show. Keys that expire go away by themselves, so those are counted and hashed apart.
    pub(super) fn expectations(&self) -> Vec<Expectation> {
        let mut expectations = Vec::new();
        for (&number, Counts { lasting, expiring }) in &self.databases {
            let counted = |kind: &str, count, hash| Expectation {
                kind: kind.into(),
                object: number.to_string(),
                count: Some(count),
                hash: Some(hash),
            };
            let hash = format!("xxh3-128-sum-of-lasting-keys-and-strings:{:032x}", lasting.hash);
            expectations.push(counted("database", lasting.keys + expiring.keys, hash));
            expectations.extend(lasting.elements(ELEMENTS, number));
            let hash = format!("xxh3-128-sum-of-keys-and-strings:{:032x}", expiring.hash);
            expectations.push(counted(EXPIRING, expiring.keys, hash));
            expectations.extend(expiring.elements(EXPIRING_ELEMENTS, number));
        }
        let mut functions = self.functions.clone();
        functions.sort_by(|a, b| a.object.cmp(&b.object));
        expectations.extend(functions);
        expectations
    }
}

impl Listener for Keys {
    const WANTS_VALUES: bool = false;
    const WANTS_ELEMENTS: bool = true;

    fn fact(&mut self, name: &[u8], value: &[u8]) {
        let value = String::from_utf8_lossy(value);
        match name {
            b"redis-ver" | b"valkey-ver" => self.version = Some(value.into_owned()),
            b"ctime" => self.taken = value.parse().ok().and_then(|second| Timestamp::from_second(second).ok()),
            _ => {}
        }
    }

    fn key(&mut self, key: Key<'_>) -> Result<(), String> {
        let counts = self.databases.entry(key.database).or_default();
        let sums = if key.expires.is_some() { &mut counts.expiring } else { &mut counts.lasting };
        sums.keys += 1;
        // Lengths before texts, so that no two keys have the same bytes; of collections, whose encodings are the
        // server's to choose, the sort here and the elements apart.
        let mut hash = Xxh3::new();
        hash.update(&(key.name.len() as u64).to_le_bytes());
        hash.update(key.name);
        hash.update(&key.expires.unwrap_or_default().to_le_bytes());
        hash.update(sort_of(key.kind).as_bytes());
        match key.elements {
            Digest::None => {}
            Digest::Unread => sums.unread += 1,
            Digest::Of(elements) => {
                let of_key = [hash.digest128().to_le_bytes(), elements.to_le_bytes()].concat();
                sums.elements = sums.elements.wrapping_add(xxh3_128(&of_key));
            }
        }
        hash.update(key.string.unwrap_or_default());
        sums.hash = sums.hash.wrapping_add(hash.digest128());
        Ok(())
    }

    fn function(&mut self, library: &[u8]) -> Result<(), String> {
        // Its first line is "#!lua name=NAME".
        let first =
            String::from_utf8_lossy(library.split(|&byte| byte == b'\n').next().unwrap_or_default()).into_owned();
        let name = first.split_whitespace().find_map(|word| word.strip_prefix("name=")).unwrap_or(&first);
        self.functions.push(Expectation {
            kind: "function".into(),
            object: name.to_owned(),
            count: None,
            hash: Some(format!("xxh3-128:{:032x}", xxh3_128(library))),
        });
        Ok(())
    }

    fn module_data(&mut self) {
        self.has_module_data = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a database shows: keys, those of them that expire, and the hash of those that do not.
    fn database(keys: u64, expiring: u64, hash: &str) -> Vec<Expectation> {
        let expectation = |kind: &str, count, hash: &str| Expectation {
            kind: kind.into(),
            object: "0".into(),
            count: Some(count),
            hash: Some(hash.to_owned()),
        };
        vec![expectation("database", keys, hash), expectation(EXPIRING, expiring, &format!("x:of {expiring}"))]
    }

    #[test]
    fn keys_whose_time_has_come_are_no_difference_and_lost_or_altered_ones_are() {
        let expected = database(10, 3, "x:1");
        assert_eq!(differences(&expected, &expected), (vec![], vec![]));
        let (lost, notes) = differences(&expected, &database(8, 1, "x:1"));
        assert!(lost.is_empty() && notes[0].contains("2 keys"), "{lost:?} {notes:?}");
        let (left, notes) = due(&expected, &database(8, 1, "x:1"));
        assert_eq!((left.len(), left[0].count, left[0].hash.as_deref(), notes.len()), (1, Some(8), Some("x:1"), 1));
        assert_eq!(due(&database(3, 3, "x:1"), &[]).0, []);
        for observed in [
            database(7, 1, "x:1"),
            database(10, 3, "x:2"),
            database(9, 3, "x:1"),
            // What has no end is compared whatever has gone.
            database(8, 1, "x:2"),
        ] {
            assert_eq!(differences(&expected, &observed).0.len(), 1, "{observed:?}");
        }
        assert_eq!(differences(&expected, &[]).0.len(), 1);
    }

    #[test]
    fn a_hash_of_another_method_is_not_compared() {
        let (lost, notes) = differences(&database(10, 0, "older:1"), &database(10, 0, "x:1"));
        assert!(lost.is_empty() && notes[0].contains("another method"), "{lost:?} {notes:?}");
    }
}
