//! Is a chain whole? What was altered, taken away, put elsewhere or forked is found, and what cannot be found is said.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use super::UNSIGNED;
use super::canonical::canonical;
use super::key::PublicKey;
use super::record::EvidenceRecord;
use super::stored::{EvidenceName, SealedRecord};
use crate::model::Id;

/// The end of a chain: what an auditor notes down, because a chain cannot show that its end was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many records the chain has.
    pub sequence: u64,
    /// The hash of the last.
    pub hash: Id,
}

impl Head {
    /// As it is noted down, and as `evidence verify --expect-head` reads it: `CHAIN:COUNT:HASH`.
    pub fn noted(&self, chain: &str) -> String {
        format!("{chain}:{}:{}", self.sequence, self.hash)
    }
}

/// A record as it was found: under its name, or the reason why it could not be read.
pub type Stored = (EvidenceName, Result<SealedRecord, String>);

/// What the verifier knows beside the records.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// Ends that were noted down, by chain.
    pub heads: BTreeMap<String, Head>,
    /// The keys that may sign, when they are known.
    pub keys: Option<Vec<PublicKey>>,
}

/// What was found of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// The chain.
    pub chain: String,
    /// Records that are as they were written.
    pub sound: u64,
    /// When the first of them ended.
    pub first: Option<Timestamp>,
    /// When the last of them ended.
    pub last: Option<Timestamp>,
    /// The end of the chain.
    pub head: Option<Head>,
    /// What is wrong, in the order of the chain.
    pub faults: Vec<Fault>,
    /// What cannot be excluded all the same, in plain sentences.
    pub not_excluded: Vec<String>,
}

/// Something that is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What sort of thing.
    pub kind: FaultKind,
    /// The number of the record.
    pub sequence: u64,
    /// What was found.
    pub what: String,
}

/// What can be wrong with a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// The text is not the one that was written, or the signature is not of this key.
    Altered,
    /// A record is not there.
    Missing,
    /// A record lies in another place than it says, or does not follow the one before it.
    Reordered,
    /// Two records say that they have one place.
    Forked,
    /// The chain ends before the end that was noted down, or has another record there.
    Cut,
    /// The key is none of those that may sign.
    Foreign,
}

impl FaultKind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Altered => "altered",
            Self::Missing => "missing",
            Self::Reordered => "reordered",
            Self::Forked => "forked",
            Self::Cut => "cut",
            Self::Foreign => "foreign",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} is {}: {}", self.sequence, self.kind.word(), self.what)
    }
}

impl ChainReport {
    /// Whether nothing is wrong that can be found.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Verifies every chain of which there is a record or an expectation. Records may come in any order, and one may come
/// several times.
pub fn verify(records: &[Stored], expected: &Expectations) -> Vec<ChainReport> {
    let mut chains: BTreeMap<&str, Vec<&Stored>> = BTreeMap::new();
    for stored in records {
        chains.entry(&stored.0.chain).or_default().push(stored);
    }
    for chain in expected.heads.keys() {
        chains.entry(chain).or_default();
    }
    let named: Vec<String> = expected.keys.iter().flatten().map(PublicKey::id).collect();
    for chain in &named {
        chains.entry(chain).or_default();
    }
    chains.into_iter().map(|(chain, records)| verify_one(chain, records, expected)).collect()
}

/// A record that is authentic and lies where it says.
struct Link {
    hash: Id,
    previous: Option<Id>,
    ended: Timestamp,
}

fn verify_one(chain: &str, records: Vec<&Stored>, expected: &Expectations) -> ChainReport {
    let mut faults = Vec::new();
    let mut links: BTreeMap<u64, Vec<Link>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for (name, stored) in records {
        let mut fault = |kind, what: String| faults.push(Fault { kind, sequence: name.sequence, what });
        // One record in several stores is one record; a sound copy of it outweighs a damaged one below.
        match stored.as_ref().map_err(Clone::clone).and_then(|sealed| open(name, sealed)) {
            Ok((record, link)) => {
                if let Some(signer) = &record.signer {
                    keys.insert(signer.public_key.clone());
                }
                if !seen.insert(name.clone()) {
                    continue;
                }
                if record.sequence != name.sequence || record.chain != name.chain {
                    let what =
                        format!("it lies here and says that it is number {} of {}", record.sequence, record.chain);
                    fault(FaultKind::Reordered, what);
                    continue;
                }
                links.entry(name.sequence).or_default().push(link);
            }
            Err(what) => fault(FaultKind::Altered, what),
        }
    }
    let head = expected.heads.get(chain);
    faults.extend(gaps(&links));
    faults.extend(order(&links));
    faults.extend(cut(&links, head));
    faults.extend(foreign(chain, &keys, expected));
    faults.extend(unused(chain, &links, expected));
    faults.sort_by_key(|fault| (fault.sequence, fault.kind));
    faults.dedup();
    let all = || links.values().flatten();
    let last = links.last_key_value().and_then(|(number, links)| Some((*number, links.last()?)));
    ChainReport {
        chain: chain.to_owned(),
        sound: all().count() as u64,
        first: all().map(|link| link.ended).min(),
        last: all().map(|link| link.ended).max(),
        head: last.map(|(sequence, link)| Head { sequence, hash: link.hash }),
        faults,
        not_excluded: not_excluded(chain, head, expected),
    }
}

/// The record and its place in the chain, when text, hash and signature are those that were written.
fn open(name: &EvidenceName, sealed: &SealedRecord) -> Result<(EvidenceRecord, Link), String> {
    if sealed.hash() != name.hash {
        return Err("its text does not have the hash of its name".to_owned());
    }
    let record = EvidenceRecord::parse(&sealed.body).map_err(|error| error.to_string())?;
    let value = serde_json::from_str(&sealed.body).map_err(|error| error.to_string())?;
    if canonical(&value).ok().as_deref() != Some(&sealed.body) {
        return Err("its text is not in the canonical form".to_owned());
    }
    if !sealed.is_authentic(&record) {
        return Err("its signature is not that of the key whose chain it is in".to_owned());
    }
    let link = Link { hash: name.hash, previous: record.previous, ended: record.times.ended };
    Ok((record, link))
}

/// Numbers without a record, up to the last that is there; what is missing after it is cut off.
fn gaps(links: &BTreeMap<u64, Vec<Link>>) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut next = 1;
    for number in links.keys().copied() {
        if number > next {
            let what = match number - next {
                1 => "it is not there".to_owned(),
                count => format!("{count} records up to number {} are not there", number - 1),
            };
            faults.push(Fault { kind: FaultKind::Missing, sequence: next, what });
        }
        next = number + 1;
    }
    faults
}

/// Records that share a place, and those that do not follow the one before them.
fn order(links: &BTreeMap<u64, Vec<Link>>) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (&number, here) in links {
        let mut fault = |kind, what: &str| faults.push(Fault { kind, sequence: number, what: what.to_owned() });
        if here.len() > 1 {
            fault(FaultKind::Forked, "several records have this number");
        }
        let before = number.checked_sub(1).and_then(|number| links.get(&number));
        for link in here {
            let follows = match (number, link.previous, before) {
                (1, None, _) => true,
                (1, Some(_), _) | (_, None, _) => false,
                (_, Some(previous), Some(before)) => before.iter().any(|before| before.hash == previous),
                // The gap has been told.
                (_, Some(_), None) => true,
            };
            if !follows {
                fault(FaultKind::Reordered, "it names another record as the one before it");
            }
        }
    }
    faults
}

/// The end that was noted down is not in the chain.
fn cut(links: &BTreeMap<u64, Vec<Link>>, head: Option<&Head>) -> Option<Fault> {
    let Head { sequence, hash } = *head?;
    let what = match links.get(&sequence) {
        Some(links) if links.iter().any(|link| link.hash == hash) => return None,
        Some(_) => "another record is there than the one that was noted down".to_owned(),
        None => "the chain was once this long".to_owned(),
    };
    Some(Fault { kind: FaultKind::Cut, sequence, what })
}

fn foreign(chain: &str, keys: &BTreeSet<String>, expected: &Expectations) -> Option<Fault> {
    let known = expected.keys.as_ref()?;
    let is_known = |key: &String| known.iter().any(|known| known.hex() == *key);
    if chain != UNSIGNED && keys.iter().all(is_known) {
        return None;
    }
    let what = if chain == UNSIGNED { "nobody has signed it" } else { "its key is none of those that were named" };
    Some(Fault { kind: FaultKind::Foreign, sequence: 1, what: what.to_owned() })
}

/// A key that was named, and that signed nothing here: records of it that are all gone look like this.
fn unused(chain: &str, links: &BTreeMap<u64, Vec<Link>>, expected: &Expectations) -> Option<Fault> {
    let is_named = expected.keys.iter().flatten().any(|key| key.id() == chain);
    let what = "there is no record that this key has signed".to_owned();
    (is_named && links.is_empty()).then_some(Fault { kind: FaultKind::Missing, sequence: 1, what })
}

/// What no verification of this kind can exclude.
fn not_excluded(chain: &str, head: Option<&Head>, expected: &Expectations) -> Vec<String> {
    let mut sentences = Vec::new();
    match head {
        None => sentences.push(
            "records may have been taken away from the end: only an end that was noted down elsewhere (count and hash) \
             shows that"
                .to_owned(),
        ),
        Some(head) => sentences.push(format!(
            "records after number {}, the last end that was noted down, may have been taken away from the end",
            head.sequence
        )),
    }
    if chain == UNSIGNED {
        sentences
            .push("these records are not signed: whoever can write to the repository can have made them".to_owned());
        return sentences;
    }
    if expected.keys.is_none() {
        sentences.push(
            "the key may be anybody's: compare it with the one that the auditor holds, or name that one".to_owned(),
        );
    }
    sentences
        .push("whoever holds the private key can write another chain, or go on from any record of this one".to_owned());
    sentences.push("a record says what its machine's clock said, and what its program found".to_owned());
    sentences
}

#[cfg(test)]
mod tests {
    use super::super::SigningKey;
    use super::super::record::tests::context;
    use super::*;
    use crate::drill::{DrillOutcome, Verdict};

    fn chain(key: Option<&SigningKey>, count: i64) -> Vec<Stored> {
        follow(key, None, 0..count)
    }

    fn follow(key: Option<&SigningKey>, mut head: Option<Head>, minutes: std::ops::Range<i64>) -> Vec<Stored> {
        let outcome = DrillOutcome::ended_early(Verdict::Passed, Vec::new());
        let append = |minute| {
            let public = key.map(SigningKey::public);
            let record = EvidenceRecord::new(&context(minute), &outcome, public, head.as_ref()).unwrap();
            let sealed = SealedRecord::seal(&record, key).unwrap();
            head = Some(Head { sequence: record.sequence, hash: sealed.hash() });
            (sealed.name(&record), Ok(sealed))
        };
        minutes.map(append).collect()
    }

    fn kinds(records: &[Stored], expected: &Expectations) -> Vec<(FaultKind, u64)> {
        let reports = verify(records, expected);
        reports.iter().flat_map(|report| &report.faults).map(|fault| (fault.kind, fault.sequence)).collect()
    }

    fn key() -> SigningKey {
        SigningKey::generate().unwrap().0
    }

    #[test]
    fn a_whole_chain_is_sound_in_whatever_order_it_comes() {
        let key = key();
        let mut records = chain(Some(&key), 5);
        records.reverse();
        records.push(records[2].clone());
        let reports = verify(&records, &Expectations::default());
        assert_eq!((reports.len(), reports[0].sound), (1, 5));
        assert!(reports[0].is_sound(), "{:?}", reports[0].faults);
        assert_eq!(reports[0].head.unwrap().sequence, 5);
        assert_eq!(reports[0].chain, key.public().id());
        let known = Expectations { keys: Some(vec![*key.public()]), ..Expectations::default() };
        assert_eq!(kinds(&records, &known), []);
    }

    #[test]
    fn an_altered_record_is_found_however_it_was_altered() {
        let key = key();
        let good = chain(Some(&key), 3);
        // The text, with its old name.
        let mut records = good.clone();
        let text = records[1].1.as_ref().unwrap().body.replace("passed", "failed");
        records[1].1.as_mut().unwrap().body = text;
        let altered = [(FaultKind::Altered, 2), (FaultKind::Missing, 2)];
        assert_eq!(kinds(&records, &Expectations::default()), altered);
        // With a name that fits, as whoever has the repository can give it.
        records[1].0.hash = records[1].1.as_ref().unwrap().hash();
        assert!(kinds(&records, &Expectations::default()).contains(&(FaultKind::Altered, 2)));
        // Signed by another key, which it names, in the chain of the first.
        let mut forged = follow(Some(&self::key()), None, 1..2).remove(0);
        forged.0.chain = key.public().id();
        forged.0.sequence = 2;
        let records = [good[0].clone(), forged, good[2].clone()];
        assert!(!kinds(&records, &Expectations::default()).is_empty());
        // Without a signature.
        let mut records = good.clone();
        records[1].1.as_mut().unwrap().signature = None;
        assert!(kinds(&records, &Expectations::default()).contains(&(FaultKind::Altered, 2)));
        // Unreadable.
        let mut records = good;
        records[1].1 = Err("it is damaged".to_owned());
        assert!(kinds(&records, &Expectations::default()).contains(&(FaultKind::Altered, 2)));
    }

    #[test]
    fn a_removed_record_is_found_unless_it_was_the_last_and_nobody_noted_the_end() {
        let key = key();
        let mut records = chain(Some(&key), 5);
        drop(records.remove(2));
        assert_eq!(kinds(&records, &Expectations::default()), [(FaultKind::Missing, 3)]);
        let mut records = chain(Some(&key), 5);
        drop(records.remove(0));
        assert_eq!(kinds(&records, &Expectations::default()), [(FaultKind::Missing, 1)]);

        let whole = chain(Some(&key), 5);
        let end = verify(&whole, &Expectations::default())[0].head.unwrap();
        let cut = &whole[..4];
        let report = &verify(cut, &Expectations::default())[0];
        assert!(report.is_sound() && report.not_excluded[0].contains("taken away from the end"));
        let expected = Expectations { heads: [(key.public().id(), end)].into(), keys: None };
        assert_eq!(kinds(cut, &expected), [(FaultKind::Cut, 5)]);
        assert_eq!(kinds(&[], &expected), [(FaultKind::Cut, 5)], "all of it may be gone");
        assert_eq!(kinds(&whole, &expected), []);
    }

    #[test]
    fn reordered_records_are_found() {
        let key = key();
        let mut records = chain(Some(&key), 4);
        (records[1].0.sequence, records[2].0.sequence) = (3, 2);
        let found = kinds(&records, &Expectations::default());
        assert!(found.contains(&(FaultKind::Reordered, 2)) && found.contains(&(FaultKind::Reordered, 3)), "{found:?}");
    }

    #[test]
    fn a_forked_chain_is_found() {
        let key = key();
        let mut records = chain(Some(&key), 3);
        let (name, _) = &records[1];
        let head = Head { sequence: name.sequence, hash: name.hash };
        records.extend(follow(Some(&key), Some(head), 10..12));
        assert_eq!(kinds(&records, &Expectations::default()), [(FaultKind::Forked, 3)]);
    }

    #[test]
    fn a_chain_that_was_written_anew_is_found_by_the_end_that_was_noted_down() {
        let key = key();
        let end = verify(&chain(Some(&key), 3), &Expectations::default())[0].head.unwrap();
        let anew = follow(Some(&key), None, 10..15);
        let expected = Expectations { heads: [(key.public().id(), end)].into(), keys: None };
        assert_eq!(kinds(&anew, &expected), [(FaultKind::Cut, 3)]);
    }

    #[test]
    fn a_key_that_was_not_named_and_no_key_at_all_are_foreign_to_who_names_keys() {
        let expected = Expectations { keys: Some(vec![*key().public()]), ..Expectations::default() };
        for chain in [chain(Some(&key()), 2), chain(None, 2), Vec::new()] {
            let mut found = kinds(&chain, &expected);
            found.sort_unstable();
            // Nothing of the named key is there; chains are told in the order of their names.
            let foreign = (FaultKind::Foreign, 1);
            assert_eq!(
                found,
                if chain.is_empty() { vec![(FaultKind::Missing, 1)] } else { vec![(FaultKind::Missing, 1), foreign] }
            );
        }
        let unsigned = &verify(&chain(None, 2), &Expectations::default())[0];
        assert!(unsigned.is_sound() && unsigned.not_excluded.iter().any(|text| text.contains("not signed")));
    }
}
