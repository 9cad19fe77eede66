//! The words that people know from other programs, and what is done here.

use serde::Serialize;

/// A word, and what it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Term {
    /// The word.
    pub word: &'static str,
    /// What is done.
    pub means: &'static str,
}

/// The four of them.
pub const TERMS: [Term; 4] = [
    Term {
        word: "full",
        means: "every backup is one: it restores by itself, and needs no other to be there. The first run stores \
                everything; `backup run` after a slot of read_again reads everything again",
    },
    Term {
        word: "incremental",
        means: "every run after the first is one in what it stores: only pieces that the repository does not have. There \
                is no chain that could break",
    },
    Term {
        word: "differential",
        means: "there is nothing to choose: it exists elsewhere to keep chains of incremental backups short, and here \
                there are none",
    },
    Term {
        word: "snapshot",
        means: "the result of a run, in the repository. A database is read as of one instant where its engine can do \
                that; of a file system no snapshot is made, a hook (hooks.before) can make one",
    },
];
