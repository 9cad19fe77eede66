//! The repository's parameters: the one object without a name of its own.

use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::chunk::{Chunking, Fixed, Polynomial, PolynomialError, Rabin, RabinSizes};
use crate::contracts::ObjectKey;
use crate::limits::CHUNK_BYTES_MAX;
use crate::model::Id;
use crate::{Error, ErrorKind, Result};

/// The versions of restic's format that are read and written.
pub const VERSIONS: std::ops::RangeInclusive<u64> = 1..=2;

/// A repository's parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// The format's version.
    pub version: u64,
    /// The repository's identity: 64 hexadecimal digits.
    pub id: Id,
    /// The polynomial by which files are cut, in restic's spelling.
    pub chunker_polynomial: String,
    /// rustic's choice of chunker; absent means Rabin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunker: Option<String>,
    /// rustic's average chunk size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk_size: Option<usize>,
    /// rustic's least chunk size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk_min_size: Option<usize>,
    /// rustic's greatest chunk size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunk_max_size: Option<usize>,
    /// Fields of other programs, kept when the config is rewritten.
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Config {
    /// Parameters for a new repository of the newest version; `like` another one's, to cut files where it does.
    pub fn create(like: Option<&Self>) -> Result<Self> {
        let mut failure = None;
        let mut random = || {
            getrandom::u64().unwrap_or_else(|error| {
                failure = Some(error);
                // Any number ends the search; it is thrown away with the failure below.
                0
            })
        };
        let mut id = [0; 32];
        for part in id.as_chunks_mut::<8>().0 {
            *part = random().to_le_bytes();
        }
        let polynomial = match like {
            // Whoever cannot cut as the other does cannot promise to share its cuts.
            Some(other) => other.chunking().and_then(|_| other.polynomial()),
            None => Polynomial::random(&mut random).map_err(no_polynomial),
        };
        match failure {
            Some(error) => {
                Err(Error::new(ErrorKind::Broken("no random numbers from the system"), "config").caused_by(error))
            }
            None => Ok(Self {
                version: *VERSIONS.end(),
                id: Id::from_bytes(id),
                chunker_polynomial: polynomial?.to_string(),
                chunker: like.and_then(|other| other.chunker.clone()),
                chunk_size: like.and_then(|other| other.chunk_size),
                chunk_min_size: like.and_then(|other| other.chunk_min_size),
                chunk_max_size: like.and_then(|other| other.chunk_max_size),
                other: Map::new(),
            }),
        }
    }

    /// Refuses a version that this program cannot read. How files are cut matters only to those who add some.
    pub fn validate(&self, key: &ObjectKey) -> Result<()> {
        if !VERSIONS.contains(&self.version) {
            return Err(Error::new(ErrorKind::UnknownVersion(self.version), key.as_str()));
        }
        Ok(())
    }

    /// The polynomial by which files are cut.
    pub fn polynomial(&self) -> Result<Polynomial> {
        self.chunker_polynomial
            .parse()
            .map_err(|error| Error::damaged("config", "its chunker polynomial").caused_by(error))
    }

    /// How files are cut in this repository.
    pub fn chunking(&self) -> Result<Chunking> {
        let polynomial = self.polynomial()?;
        let unknown =
            |what: &str| Error::invalid("config", format!("cannot cut files as this repository asks: {what}"));
        match self.chunker.as_deref() {
            None | Some("Rabin") => {
                let mut sizes = RabinSizes::default();
                if let Some(bytes) = self.chunk_size {
                    if !bytes.is_power_of_two() {
                        return Err(unknown("chunk_size is no power of two"));
                    }
                    sizes.average_bits = bytes.ilog2();
                }
                if let Some(bytes) = self.chunk_min_size {
                    sizes.min_bytes = bytes;
                }
                if let Some(bytes) = self.chunk_max_size {
                    sizes.max_bytes = bytes;
                }
                let rabin = Rabin::with_sizes(polynomial, sizes).map_err(|error| unknown(&error.to_string()))?;
                Ok(Chunking::Rabin(Arc::new(rabin)))
            }
            Some("FixedSize") => match NonZeroUsize::new(self.chunk_size.unwrap_or(1024 * 1024)) {
                Some(bytes) if bytes.get() <= CHUNK_BYTES_MAX => Ok(Chunking::Fixed(Fixed::new(bytes))),
                _ => Err(unknown("chunk_size is out of range")),
            },
            Some(other) => Err(unknown(&format!("its chunker is {other:?}"))),
        }
    }
}

fn no_polynomial(error: PolynomialError) -> Error {
    Error::new(ErrorKind::Broken("no polynomial could be drawn"), "config").caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_like_anothers_have_its_cuts_and_an_identity_of_their_own() {
        let mut other = Config::create(None).unwrap();
        other.chunk_size = Some(512 * 1024);
        other.chunk_min_size = Some(64 * 1024);
        let like = Config::create(Some(&other)).unwrap();
        assert_eq!(like.chunker_polynomial, other.chunker_polynomial);
        assert_eq!((like.chunk_size, like.chunk_min_size), (other.chunk_size, other.chunk_min_size));
        assert_ne!(like.id, other.id);
        other.chunker = Some("unheard-of".into());
        assert!(Config::create(Some(&other)).is_err());
    }
}
