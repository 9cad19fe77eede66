//! A call of a sink as data.

use std::ops::Range;

use bytes::Bytes;

use crate::contracts::{ObjectKey, PutMode};

/// A call of one of [`Sink`](crate::contracts::Sink)'s operations, with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `put`.
    Put {
        /// The object.
        key: ObjectKey,
        /// Its content; shared with the caller, not copied.
        bytes: Bytes,
        /// What to do when it is there already.
        mode: PutMode,
    },
    /// `get`.
    Get {
        /// The object.
        key: ObjectKey,
        /// Which of its bytes; all when `None`.
        range: Option<Range<u64>>,
    },
    /// `stat`.
    Stat {
        /// The object.
        key: ObjectKey,
    },
    /// `list`.
    List {
        /// The prefix.
        prefix: String,
    },
    /// `delete`.
    Delete {
        /// The object.
        key: ObjectKey,
    },
    /// `sync`.
    Sync,
}

/// Which operation a [`Call`] is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// `put`.
    Put,
    /// `get`.
    Get,
    /// `stat`.
    Stat,
    /// `list`.
    List,
    /// `delete`.
    Delete,
    /// `sync`.
    Sync,
}

impl Call {
    /// Which operation it is.
    pub fn verb(&self) -> Verb {
        match self {
            Self::Put { .. } => Verb::Put,
            Self::Get { .. } => Verb::Get,
            Self::Stat { .. } => Verb::Stat,
            Self::List { .. } => Verb::List,
            Self::Delete { .. } => Verb::Delete,
            Self::Sync => Verb::Sync,
        }
    }

    /// What it is about: the object's key, a listing's prefix, nothing for `sync`.
    pub fn subject(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Get { key, .. } | Self::Stat { key } | Self::Delete { key } => key.as_str(),
            Self::List { prefix } => prefix,
            Self::Sync => "",
        }
    }

    /// Whether it concerns `folder` or something below it. Everything concerns the empty folder.
    pub fn is_below(&self, folder: &str) -> bool {
        match self.subject().strip_prefix(folder) {
            Some(rest) => folder.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }

    /// Whether it changes what is stored.
    pub fn is_change(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. })
    }
}
