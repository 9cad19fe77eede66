//! Facts for this room's tests.

use jiff::{SignedDuration, Timestamp};

use super::facts::{JobUnderRunbook, KnownFrom, Part, PartKind, ResticPlace, RunbookFacts, StoreFacts, Variable};
use crate::contracts::{Level, Proof};
use crate::drill::{DrillFigures, PastDrill, StageName, Verdict};
use crate::model::SnapshotId;
use crate::policy::{
    Amounts, Backup, CopyFacts, History, JobFacts, JobStanding, Objectives, Offsite, Place, Standards, Trigger,
};
use crate::retention::GroupKey;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A database and files, in Paris, on a disk beside them and in a bucket in another region; the bucket was drilled.
pub(super) fn facts() -> RunbookFacts {
    let now = at("2026-11-22T12:00:00Z");
    let database = Part {
        source: None,
        kind: PartKind::Database {
            engine: "postgres".to_owned(),
            folder: "/postgres/app".to_owned(),
            name: "app".to_owned(),
            url: "postgres://backup@db.internal/app".to_owned(),
        },
        tools: vec!["pg_dump 16.4".to_owned()],
        extensions: vec!["pg_trgm".to_owned()],
    };
    let files = Part {
        source: None,
        kind: PartKind::Files(vec!["/app/uploads".to_owned()]),
        tools: Vec::new(),
        extensions: Vec::new(),
    };
    let store = |name: &str, place: &str, restic: &str| StoreFacts {
        name: name.to_owned(),
        place: place.to_owned(),
        passphrase: Some("the file /etc/backup/passphrase".to_owned()),
        restic: Some(ResticPlace { repository: restic.to_owned(), variables: Vec::new() }),
        read: Some(now),
        ..StoreFacts::default()
    };
    let bucket = StoreFacts {
        variables: vec![Variable::secret("AWS_SECRET_ACCESS_KEY", "the file /etc/backup/s3.key")],
        ..store("offsite", "s3://acme/prod", "s3:s3.amazonaws.com/acme/prod")
    };
    RunbookFacts {
        now,
        program: "backup 0.1.0".to_owned(),
        host: "web-1".to_owned(),
        known_from: KnownFrom::File("/etc/backup/backup.toml".to_owned()),
        repositories: vec![store("local", "/mnt/backups/repo", "/mnt/backups/repo"), bucket],
        jobs: vec![job("app-db", 1, database, vec![drill()]), job("uploads", 4, files, Vec::new())],
        contacts: vec![("dba".to_owned(), "dba@example.org".to_owned())],
        passphrase_copy: None,
        caveats: Vec::new(),
    }
}

fn drill() -> PastDrill {
    PastDrill {
        ended: at("2026-11-22T05:00:00Z"),
        repository: "offsite".to_owned(),
        snapshot: Some(SnapshotId::of(b"drilled")),
        verdict: Verdict::Passed,
        figures: DrillFigures {
            job: Some("app-db".to_owned()),
            level: Some(Level::Examined),
            reason: None,
            technical_ms: Some(754_000),
            verified_ms: Some(790_000),
            bytes: Some(1_000_000_000),
            recovery_point: None,
            stages: vec![(StageName::Open, 4_000), (StageName::Restore, 750_000)],
            commands: Vec::new(),
        },
    }
}

fn job(name: &str, rto_hours: i64, part: Part, drills: Vec<PastDrill>) -> JobUnderRunbook {
    let place = |site: &str, domain: &str| Place {
        media: Some("disk".to_owned()),
        site: Some(site.to_owned()),
        failure_domain: Some(domain.to_owned()),
    };
    let copy = |repository: &str, site: &str| CopyFacts {
        repository: repository.to_owned(),
        place: place(site, repository),
        has_retention: true,
        read: Some(at("2026-11-22T12:00:00Z")),
        unreachable: None,
        history: History { backups: vec![backup(name)], runs: Vec::new() }.into(),
    };
    let facts = JobFacts {
        job: name.to_owned(),
        home: place("paris", "web-1"),
        copies: vec![copy("local", "paris"), copy("offsite", "eu-west-1")],
        trigger: Trigger::Schedule { longest_gap: SignedDuration::from_hours(24) },
        objectives: Objectives {
            rpo: Some(SignedDuration::from_hours(26)),
            rto: Some(SignedDuration::from_hours(rto_hours)),
        },
        offsite: Offsite::Required,
        drilled_from: None,
        drills: Vec::new(),
    };
    let standing = JobStanding::of(&facts, &Standards::default(), at("2026-11-22T12:00:00Z"));
    JobUnderRunbook { facts, standing, parts: vec![part], drills }
}

fn backup(job: &str) -> Backup {
    Backup {
        snapshot: SnapshotId::of(job.as_bytes()),
        part: GroupKey::of_job(job).into(),
        recovery_point: at("2026-11-22T02:00:00Z"),
        durable: at("2026-11-22T02:10:00Z"),
        proof: Proof::Present,
        verified: None,
        restored: None,
        immutable_until: None,
        size: Some(Amounts { files: 1, logical: 1_000_000_000, new: 1, stored: 1, rows: None }),
    }
}
