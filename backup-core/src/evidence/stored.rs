//! How a record lies in a store and on this machine: its text, its signature, and a name that tells its place.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::chain::Stored;
use super::key::PublicKey;
use super::record::EvidenceRecord;
use super::{SigningKey, UNSIGNED};
use crate::model::Id;
use crate::repository::Repository;
use crate::{ErrorKind, Result};

/// Digits of a number in a name, so that names are in the order of their numbers.
const NUMBER_DIGITS: usize = 10;

/// A record with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedRecord {
    /// The record's text, to the byte.
    pub body: String,
    /// The signature of the text, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// The place of a record: its chain, its number and the hash of its text. The same in every store and in the journal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EvidenceName {
    /// The chain.
    pub chain: String,
    /// The number, from 1.
    pub sequence: u64,
    /// The SHA-256 of the text.
    pub hash: Id,
}

impl SealedRecord {
    /// Signs a record that names this key, or none.
    pub fn seal(record: &EvidenceRecord, key: Option<&SigningKey>) -> Result<Self> {
        let body = record.to_text()?;
        let signature = key.map(|key| key.sign(body.as_bytes()));
        Ok(Self { body, signature })
    }

    /// The SHA-256 of the text.
    pub fn hash(&self) -> Id {
        Id::of(self.body.as_bytes())
    }

    /// The name that it must have.
    pub fn name(&self, record: &EvidenceRecord) -> EvidenceName {
        EvidenceName { chain: record.chain.clone(), sequence: record.sequence, hash: self.hash() }
    }

    /// Whether text and signature are those of one key, whose chain the record says that it belongs to.
    pub(super) fn is_authentic(&self, record: &EvidenceRecord) -> bool {
        match (&record.signer, &self.signature) {
            (None, None) => record.chain == UNSIGNED,
            (Some(signer), Some(signature)) => PublicKey::parse(&signer.public_key)
                .is_ok_and(|key| key.id() == record.chain && key.verifies(self.body.as_bytes(), signature)),
            _ => false,
        }
    }
}

impl Repository {
    /// The names of all records of evidence in it, in the order of their chains. One listing, and nothing is read.
    pub fn evidence_names(&self) -> Result<Vec<EvidenceName>> {
        let mut names: Vec<_> = self.list_evidence()?.iter().filter_map(|path| path.parse().ok()).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Reads a record. What it says is for [`super::verify()`] to judge.
    pub fn load_evidence(&self, name: &EvidenceName) -> Result<SealedRecord> {
        self.get_evidence(&name.to_string())
    }

    /// Stores a record. It is not durable before the next sync of the store.
    pub fn save_evidence(&self, name: &EvidenceName, record: &SealedRecord) -> Result<()> {
        self.put_evidence(&name.to_string(), record)
    }

    /// All records, those that cannot be read as the reason why.
    pub fn evidence(&self) -> Result<Vec<Stored>> {
        let read = |name: EvidenceName| match self.load_evidence(&name) {
            Ok(record) => Ok((name, Ok(record))),
            Err(error) => match error.kind() {
                ErrorKind::Damaged(_) | ErrorKind::Limit(_) | ErrorKind::Missing => Ok((name, Err(error.to_string()))),
                _ => Err(error),
            },
        };
        self.evidence_names()?.into_iter().map(read).collect()
    }
}

impl fmt::Display for EvidenceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{:0NUMBER_DIGITS$}-{}", self.chain, self.sequence, self.hash)
    }
}

impl FromStr for EvidenceName {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (chain, rest) = text.split_once('/').ok_or(())?;
        let (number, hash) = rest.split_once('-').ok_or(())?;
        let is_chain =
            !chain.is_empty() && chain.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let is_number = number.len() >= NUMBER_DIGITS && number.bytes().all(|byte| byte.is_ascii_digit());
        if !is_chain || !is_number {
            return Err(());
        }
        let sequence = number.parse().map_err(|_| ())?;
        let name = Self { chain: chain.to_owned(), sequence, hash: hash.parse().map_err(|_| ())? };
        // One place, one name.
        if name.to_string() == text { Ok(name) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_nothing_else_is_one() {
        let name = EvidenceName { chain: "0123456789abcdef".to_owned(), sequence: 42, hash: Id::of(b"x") };
        let text = name.to_string();
        assert!(text.starts_with("0123456789abcdef/0000000042-"), "{text}");
        assert_eq!(text.parse(), Ok(name));
        for wrong in
            [text.replace("0000000042", "42"), text.to_uppercase(), format!("{text}0"), "a/b".into(), "".into()]
        {
            assert!(wrong.parse::<EvidenceName>().is_err(), "{wrong}");
        }
    }
}
