//! What auditors ask for, and what a record of a drill shows of it.
//!
//! The requirements are told in our words; the texts themselves are what counts. A record speaks to a requirement; that
//! it is met as a whole, only an auditor says.

/// A requirement of a framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Its short name in a record.
    pub id: &'static str,
    /// The framework and the place in it.
    pub title: &'static str,
    /// What it asks for, in short.
    pub asks: &'static str,
    /// What the records show of it.
    pub shown: &'static str,
    /// What they do not show, and who has to.
    pub not_shown: &'static str,
}

/// All of them.
pub const CONTROLS: &[Control] = &[
    Control {
        id: "SOC2-A1.2",
        title: "SOC 2, A1.2",
        asks: "backup processes and recovery infrastructure are designed, run and monitored",
        shown: "that backups were there to be restored, from which copy, when, and how old the restored state was",
        not_shown: "the policy, its approval, and how failures were followed up",
    },
    Control {
        id: "SOC2-A1.3",
        title: "SOC 2, A1.3",
        asks: "recovery procedures are tested; integrity and completeness of backup data are tested periodically",
        shown: "each test with its date, what was compared, its result, its duration, and what was not tested",
        not_shown: "procedures that people carry out around the restore",
    },
    Control {
        id: "ISO27001-A.8.13",
        title: "ISO/IEC 27001:2022, A.8.13",
        asks: "backup copies are kept and regularly tested under an agreed policy",
        shown: "regular tests by restoring, the copy that each of them used, and its age",
        not_shown: "the policy, and that everything which needs a backup has one",
    },
    Control {
        id: "NIS2-4.2.3",
        title: "NIS2, Implementing Regulation (EU) 2024/2690, Annex 4.2.3",
        asks: "the integrity of backup copies is checked regularly",
        shown: "that every byte of the restored snapshot was read, decrypted and hashed, and compared after the restore",
        not_shown: "snapshots that were not drawn: `check --read-data` reads all of them",
    },
    Control {
        id: "NIS2-4.2.6",
        title: "NIS2, Implementing Regulation (EU) 2024/2690, Annex 4.2.6",
        asks: "recovery from backup copies is tested regularly, results are documented, corrective action is taken",
        shown: "tests and their results, failed ones and those that could not run included",
        not_shown: "the corrective action: a later record of the same job that passed shows only that it worked",
    },
    Control {
        id: "DORA-12",
        title: "DORA, Regulation (EU) 2022/2554, Article 12",
        asks: "backup, restoration and recovery procedures are tested periodically; restoring uses systems that are \
               separated from the source; recovery time and point objectives are set for each function",
        shown: "tests with times against their objectives, and what separated the sandbox from the source",
        not_shown: "that the objectives are right for the function, and reports to the management",
    },
];
