//! What a repository knows after a drill: proofs, figures, evidence.

use backup_core::contracts::{Level, Proof};
use backup_core::drill::{DrillFigures, Extent, Verdict, write_down};
use backup_core::evidence::{
    Context, CopyUnderTest, Expectations, FaultKind, Host, Journal, Objectives, SigningKey, Times, verify,
};
use backup_core::repository::RecordBody;
use jiff::Timestamp;

use super::trial::Trial;

fn proof(trial: &Trial) -> Proof {
    let records = trial.repository.records().unwrap();
    let snapshots = trial.repository.snapshots().unwrap();
    let id = snapshots.last().unwrap().0;
    backup_core::care::proofs(records.iter().map(|(_, record)| record), &snapshots)[&id]
}

#[test]
fn a_passed_drill_is_the_highest_proof_and_a_failed_one_takes_it_away() {
    let trial = Trial::new();
    let (id, _) = trial.latest();
    let outcome = trial.drill();
    write_down(&trial.repository, id, Some("files"), Extent::Part, &outcome).unwrap();
    assert_ne!(proof(&trial), Proof::Restored, "a part proves nothing of the whole");
    write_down(&trial.repository, id, Some("files"), Extent::Whole, &outcome).unwrap();
    assert_eq!(proof(&trial), Proof::Restored);

    trial.sink.remove(&trial.packs()[0]);
    let outcome = trial.drill();
    write_down(&trial.repository, id, None, Extent::Whole, &outcome).unwrap();
    assert_eq!(proof(&trial), Proof::Uploaded);

    let records = trial.repository.records().unwrap();
    let figures: Vec<_> = records.iter().filter_map(|(_, record)| DrillFigures::from_record(record)).collect();
    let verdicts: Vec<_> = figures.iter().map(|(verdict, _, _)| *verdict).collect();
    assert_eq!(verdicts, ["passed", "passed", "failed"]);
    let (_, snapshot, first) = &figures[0];
    assert_eq!((*snapshot, first.level, first.job.as_deref()), (Some(id), Some(Level::Examined), Some("files")));
    assert!(first.verified_ms >= first.technical_ms && first.bytes.is_some());
    assert!(records.iter().any(|(_, record)| matches!(record.body, RecordBody::Broken { .. })));
}

#[test]
fn evidence_goes_to_the_repository_and_what_waited_goes_with_it() {
    let trial = Trial::new();
    let state = tempfile::tempdir().unwrap();
    let (key, _) = SigningKey::generate().unwrap();
    let now = Timestamp::now();
    let context = Context {
        policy: None,
        runbook: None,
        times: Times { began: now, ended: now },
        program: "test".to_owned(),
        trigger: "manual".to_owned(),
        host: Host::default(),
        job: None,
        copy: CopyUnderTest::default(),
        snapshot: None,
        objectives: Objectives::default(),
    };
    let outcome = trial.drill();
    assert_eq!(outcome.verdict, Verdict::Passed);
    let append = || {
        let journal = Journal::open(state.path(), Some(key.public())).unwrap();
        let end = journal.append(&context, &outcome, Some(&key), &[&trial.repository]).unwrap().1;
        (journal, end)
    };
    // Twice nobody delivers.
    drop(append());
    drop(append());
    let (journal, end) = append();
    let delivery = journal.deliver(&trial.repository);
    assert_eq!((delivery.delivered, delivery.failure.is_none()), (3, true));
    assert_eq!(journal.deliver(&trial.repository).delivered, 0);
    drop(journal);

    let reports = verify(&trial.repository.evidence().unwrap(), &Expectations::default());
    assert!(reports[0].is_sound() && reports[0].sound == 3, "{reports:?}");
    assert_eq!(reports[0].head, Some(end));

    // The journal is deleted: the chain goes on from what the repository has.
    std::fs::remove_dir_all(state.path().join("evidence")).unwrap();
    let (journal, end) = append();
    assert_eq!(end.sequence, 4);
    assert!(journal.deliver(&trial.repository).failure.is_none());
    drop(journal);

    // Somebody takes a record out of the store, and somebody else damages one.
    let keys: Vec<_> =
        trial.sink.objects().into_keys().filter(|key| key.as_str().starts_with("ext/evidence/")).collect();
    assert_eq!(keys.len(), 4);
    let taken = trial.sink.remove(&keys[1]).unwrap();
    let found = |expected: &Expectations| {
        let reports = verify(&trial.repository.evidence().unwrap(), expected);
        reports[0].faults.iter().map(|fault| (fault.kind, fault.sequence)).collect::<Vec<_>>()
    };
    assert_eq!(found(&Expectations::default()), [(FaultKind::Missing, 2)]);
    let mut damaged = taken.to_vec();
    damaged[30] ^= 1;
    trial.sink.replace(keys[1].clone(), damaged);
    assert!(found(&Expectations::default()).contains(&(FaultKind::Altered, 2)));
    trial.sink.replace(keys[1].clone(), taken);
    trial.sink.remove(&keys[3]);
    assert_eq!(found(&Expectations::default()), []);
    let expected = Expectations { heads: [(key.public().id(), end)].into(), keys: None };
    assert_eq!(found(&expected), [(FaultKind::Cut, 4)]);
}
