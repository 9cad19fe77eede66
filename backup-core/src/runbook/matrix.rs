//! The restore matrix: for each job and each thing that goes wrong, what may be lost and how long it may take, and what
//! was measured of both.

use std::time::Duration;

use super::document::{Section, Words};
use super::facts::{JobUnderRunbook, RunbookFacts, StoreFacts, recovery_order, span};
use super::prerequisites::estimated;
use super::procedure::{Trouble, stores_left};
use crate::contracts::Proof;
use crate::policy::{Exposure, exposure, in_words};

pub(super) fn section(facts: &RunbookFacts) -> Section {
    let mut section = Section::new("matrix", "Restore matrix");
    section.text(
        "“Would be lost” is counted when this was written, from the newest backup that is complete in a copy which \
         outlives the scenario. “Took” is the last drill that passed from the copy named in the scenario, until the data \
         answered; finding out, deciding, and getting a machine come on top.",
    );
    let mut rows = Vec::new();
    for job in recovery_order(facts) {
        for trouble in Trouble::ALL {
            let store = stores_left(job, trouble, facts).first().map(|(store, _)| *store);
            let lost = exposure(&job.facts, Proof::Present, trouble.scenario(), facts.now);
            rows.push(row(trouble.title(), job, &lost, store, Way::ThisProgram));
        }
        let store = stores_left(job, Trouble::Corrupted, facts).first().map(|(store, _)| *store);
        let lost = exposure(&job.facts, Proof::Present, Trouble::Corrupted.scenario(), facts.now);
        rows.push(row("This program is not available", job, &lost, store, Way::PlainTools));
    }
    section.table(&["job", "scenario", "may lose", "would be lost", "back within", "took", "from"], rows);
    section
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ThisProgram,
    PlainTools,
}

fn row(title: &str, job: &JobUnderRunbook, lost: &Exposure, store: Option<&StoreFacts>, way: Way) -> Vec<Words> {
    let objectives = &job.facts.objectives;
    let objective = |objective: Option<_>| objective.map_or_else(|| "none".to_owned(), in_words).into();
    let lost: Words = match lost {
        Exposure::Since { age, .. } => in_words(*age).into(),
        Exposure::Everything => Words::new().strong("everything"),
        Exposure::Unknown => Words::new().strong("not known"),
    };
    let took = match (store, way) {
        (None, _) => Words::new().strong("no copy"),
        (Some(_), Way::PlainTools) => Words::new().strong("never measured"),
        (Some(store), Way::ThisProgram) => took(job, store),
    };
    let from = store.map_or_else(|| "-".into(), |store| Words::new().code(&store.name));
    vec![
        Words::new().code(job.name()),
        title.into(),
        objective(objectives.rpo),
        lost,
        objective(objectives.rto),
        took,
        from,
    ]
}

fn took(job: &JobUnderRunbook, store: &StoreFacts) -> Words {
    let measured = job.last_passed(&store.name).and_then(|drill| drill.figures.technical_ms);
    match (measured, job.estimate(&store.name)) {
        (Some(ms), _) => span(Duration::from_millis(ms)).into(),
        (None, Some(estimate)) => Words::new().strong("never measured").plain(format!("; {}", estimated(&estimate))),
        (None, None) => Words::new().strong("never measured"),
    }
}
