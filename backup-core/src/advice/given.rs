//! What somebody has said, and what was found.

use jiff::SignedDuration;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::cost::Prices;
use super::kind::Kind;
use super::{as_seconds, class};
use crate::policy::Place;

/// All that a strategy is made of.
#[derive(Clone, Debug)]
pub struct Answers {
    /// Whose nights these are.
    pub zone: TimeZone,
    /// What is to be backed up.
    pub items: Vec<Item>,
    /// Where copies may stand, the nearest first.
    pub stores: Vec<Store>,
    /// What they cost, where somebody has said.
    pub prices: Option<Prices>,
}

/// Something that is to be backed up.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The name of its job.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What its loss would mean.
    pub criticality: Criticality,
    /// Why that is thought of it.
    pub because: String,
    /// How large it is, where that is known.
    pub bytes: Option<u64>,
    /// Which part of it changes in a day, where somebody has said; what is usual for its kind otherwise.
    pub change: Option<f64>,
    /// Where it stands.
    pub home: Place,
    /// The machine that it is on, where that is known.
    pub host: Option<String>,
    /// What may be lost of it, and how long it may be away.
    pub bearable: Bearable,
}

/// What its loss would mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Criticality {
    /// It would be missed by somebody.
    Ordinary,
    /// Work stops, or has to be done again.
    Important,
    /// It cannot be made again, by nobody.
    Critical,
}

impl Criticality {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ordinary => "ordinary",
            Self::Important => "important",
            Self::Critical => "critical",
        }
    }

    /// The one of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Ordinary, Self::Important, Self::Critical].into_iter().find(|known| known.word() == word)
    }
}

/// What can be borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bearable {
    /// How much may be lost at worst, as a time.
    #[serde(rename = "rpo_seconds", serialize_with = "as_seconds")]
    pub loss: SignedDuration,
    /// How long it may be away.
    #[serde(rename = "rto_seconds", serialize_with = "as_seconds")]
    pub outage: SignedDuration,
}

impl Bearable {
    /// What can be borne of something of this criticality, when this is the answer for what matters: the same, and of
    /// what is ordinary a week and a day of loss, and a day without it, where the answer is not more.
    pub fn of(self, criticality: Criticality) -> Self {
        match criticality {
            Criticality::Critical | Criticality::Important => self,
            Criticality::Ordinary => Self {
                loss: self.loss.max(SignedDuration::from_hours(8 * 24)),
                outage: self.outage.max(SignedDuration::from_hours(24)),
            },
        }
    }
}

/// A place where copies may stand.
#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    /// The name of its repository.
    pub name: String,
    /// What it is.
    pub kind: StoreKind,
    /// Where it stands.
    pub place: Place,
    /// The machine that it is a disk of, when it is one.
    pub host: Option<String>,
    /// The class that somebody has named for it.
    pub class: Option<String>,
}

/// What a store is, as far as classes and requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreKind {
    /// A folder of this machine, or one that is mounted here.
    Folder,
    /// A server that is no object store: REST, SFTP.
    Server,
    /// Amazon S3.
    S3,
    /// A server that speaks S3's protocol; which classes it has is not known.
    S3Compatible,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl StoreKind {
    /// Whether it is reached over a network.
    pub fn is_remote(self) -> bool {
        self != Self::Folder
    }

    /// The class that it has where none is named.
    pub fn usual_class(self) -> Option<&'static str> {
        class::of(self).first().map(|class| class.name)
    }
}
