//! What a snapshot holds, counted and hashed as it passes.

use std::collections::BTreeMap;

use backup_core::contracts::Expectation;
use jiff::Timestamp;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::rdb::{Key, Listener};
use super::shape::sort_of;

/// How what a server holds differs from what it must hold. Keys whose time has come since are no difference; then the
/// others are not compared one by one, and the second list says so.
pub fn differences(expected: &[Expectation], observed: &[Expectation]) -> (Vec<String>, Vec<String>) {
    let count = |list: &[Expectation], kind: &str, object: &str| {
        let found = list.iter().find(|expectation| expectation.kind == kind && expectation.object == object);
        found.and_then(|expectation| expectation.count).unwrap_or(0)
    };
    let (mut compared, mut notes) = (Vec::new(), Vec::new());
    for expectation in expected {
        let database = &expectation.object;
        let expired = |list: &[Expectation]| count(list, "expiring", database);
        let gone = expired(expected).saturating_sub(expired(observed));
        match expectation.kind.as_str() {
            "expiring" => {}
            "database" if gone > 0 => {
                let left = expectation.count.unwrap_or(0) - gone;
                if count(observed, "database", database) == left {
                    notes
                        .push(format!("database {database}: the time of {gone} keys has come since; {left} are there"));
                } else {
                    compared.push(expectation.clone());
                }
            }
            _ => compared.push(expectation.clone()),
        }
    }
    (super::super::differences(&compared, observed), notes)
}

/// What a server must hold now: what it had to hold, less the keys whose time has come since, in databases where that
/// explains what is gone. Of those only the number is left to compare, and the second list says so.
pub(super) fn due(expected: &[Expectation], observed: &[Expectation]) -> (Vec<Expectation>, Vec<String>) {
    let count = |list: &[Expectation], kind: &str, object: &str| {
        let found = list.iter().find(|expectation| expectation.kind == kind && expectation.object == object);
        found.and_then(|expectation| expectation.count).unwrap_or(0)
    };
    let (mut due, mut notes) = (Vec::new(), Vec::new());
    for expectation in expected.iter().filter(|expectation| expectation.kind != EXPIRING) {
        let database = &expectation.object;
        let gone = count(expected, EXPIRING, database).saturating_sub(count(observed, EXPIRING, database));
        let left = expectation.count.unwrap_or(0).saturating_sub(gone);
        if expectation.kind != "database" || gone == 0 || count(observed, "database", database) != left {
            due.push(expectation.clone());
            continue;
        }
        notes.push(format!("database {database}: the time of {gone} keys has come since; {left} are there"));
        if left > 0 {
            due.push(Expectation { count: Some(left), hash: None, ..expectation.clone() });
        }
    }
    (due, notes)
}

/// The kind of expectation that counts keys which go away by themselves.
pub(super) const EXPIRING: &str = "expiring";

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

#[derive(Debug, Default)]
struct Counts {
    keys: u64,
    expiring: u64,
    /// Sums do not depend on the order, and a key that is there twice does not cancel itself out.
    hash: u128,
}

impl Keys {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.databases.values().map(|counts| counts.keys).sum()
    }

    /// Forgets what was counted.
    pub(super) fn forget(&mut self) {
        (self.databases, self.functions) = Default::default();
    }

    /// What a restore must show. Keys that expire go away by themselves, so those are counted apart.
    pub(super) fn expectations(&self) -> Vec<Expectation> {
        let mut expectations = Vec::new();
        for (number, Counts { keys, expiring, hash }) in &self.databases {
            expectations.push(Expectation {
                kind: "database".into(),
                object: number.to_string(),
                count: Some(*keys),
                hash: Some(format!("xxh3-128-sum-of-keys-and-strings:{hash:032x}")),
            });
            expectations.push(Expectation {
                kind: "expiring".into(),
                object: number.to_string(),
                count: Some(*expiring),
                hash: None,
            });
        }
        let mut functions = self.functions.clone();
        functions.sort_by(|a, b| a.object.cmp(&b.object));
        expectations.extend(functions);
        expectations
    }
}

impl Listener for Keys {
    const WANTS_VALUES: bool = false;

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
        counts.keys += 1;
        counts.expiring += u64::from(key.expires.is_some());
        // Lengths before texts, so that no two keys have the same bytes; of collections, whose encodings are the
        // server's to choose, only the sort.
        let mut hash = Xxh3::new();
        hash.update(&(key.name.len() as u64).to_le_bytes());
        hash.update(key.name);
        hash.update(&key.expires.unwrap_or_default().to_le_bytes());
        hash.update(sort_of(key.kind).as_bytes());
        hash.update(key.string.unwrap_or_default());
        counts.hash = counts.hash.wrapping_add(hash.digest128());
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

    fn database(keys: u64, expiring: u64, hash: &str) -> Vec<Expectation> {
        let expectation = |kind: &str, count, hash: Option<&str>| Expectation {
            kind: kind.into(),
            object: "0".into(),
            count: Some(count),
            hash: hash.map(str::to_owned),
        };
        vec![expectation("database", keys, Some(hash)), expectation("expiring", expiring, None)]
    }

    #[test]
    fn keys_whose_time_has_come_are_no_difference_and_lost_ones_are() {
        let expected = database(10, 3, "x:1");
        assert_eq!(differences(&expected, &database(10, 3, "x:1")), (vec![], vec![]));
        let (lost, notes) = differences(&expected, &database(8, 1, "x:2"));
        assert!(lost.is_empty() && notes[0].contains("2 keys"), "{lost:?} {notes:?}");
        assert_eq!(due(&expected, &expected), (vec![expected[0].clone()], vec![]));
        let (left, notes) = due(&expected, &database(8, 1, "x:2"));
        assert_eq!((left[0].count, left[0].hash.as_deref(), notes.len()), (Some(8), None, 1));
        assert_eq!(due(&expected, &database(7, 1, "x:2")), (vec![expected[0].clone()], vec![]));
        assert_eq!(due(&database(3, 3, "x:1"), &[]).0, []);
        for observed in [database(7, 1, "x:2"), database(10, 3, "x:2"), database(9, 3, "x:2"), vec![]] {
            assert_eq!(differences(&expected, &observed).0.len(), 1, "{observed:?}");
        }
    }
}
