//! The sections around the scenarios: what this is, what one needs first, in which order to go, whom to call.

use std::collections::BTreeSet;

use super::document::{Section, Words};
use super::facts::{
    JobUnderRunbook, KnownFrom, PartKind, RunbookFacts, StoreFacts, Variable, VariableValue, instant, recovery_order,
    span,
};
use super::procedure::quoted;
use crate::drill::Confidence;
use crate::policy::in_words;

/// What this is and how old its facts are.
pub(super) fn about(facts: &RunbookFacts) -> Section {
    let mut section = Section::new("about", "What this is");
    let source = match &facts.known_from {
        KnownFrom::File(path) => Words::from("the configuration ").code(path),
        KnownFrom::Kept { place, time } => {
            Words::from(format!("the configuration of {} that was kept on {} in ", facts.host, instant(*time)))
                .code(place)
        }
        KnownFrom::Snapshots { place } => Words::from("the snapshots in ").code(place).plain(" alone"),
        KnownFrom::Proposed => Words::from("a configuration that was proposed and is not in use yet"),
    };
    section.text(
        Words::from("How to get back what is backed up on ")
            .code(&facts.host)
            .plain(format!(", written on {} by {} from ", instant(facts.now), facts.program))
            .and(source)
            .plain(". It holds no secrets; it says where they are."),
    );
    let read = facts.repositories.iter().map(|store| {
        let name = Words::new().code(&store.name).plain(": ");
        match (&store.unreachable, store.read) {
            (Some(why), _) => name.strong("could not be read").plain(format!(": {why}")),
            (None, Some(read)) => name.plain(format!("read on {}", instant(read))),
            (None, None) => name.strong("was not read"),
        }
    });
    section.text("What is said below of each repository is as old as this:");
    section.list(read);
    for caveat in &facts.caveats {
        section.warning(caveat.as_str());
    }
    section.text(
        "Print it, or keep it where it can be read when this host and its repositories are gone. Write it again after \
         each change: backup runbook --output FILE.",
    );
    section
}

/// What one needs before anything can be restored.
pub(super) fn prerequisites(facts: &RunbookFacts) -> Section {
    let mut section = Section::new("prerequisites", "Before anything else");
    section.text(
        Words::from("1. A Linux machine with this program (")
            .code(&facts.program)
            .plain(" or newer), or restic 0.14 or newer: ")
            .plain("see “This program is not available”."),
    );
    section.text(
        "2. The passphrase. Without it nobody can read anything, and nobody can help. A second copy must lie somewhere \
         else than on the host that is backed up:",
    );
    section.list(facts.repositories.iter().map(|store| {
        let name = Words::new().code(&store.name).plain(": ");
        match &store.passphrase {
            Some(place) => name.plain(format!("{place} on {}; second copy: ", facts.host)).strong(second_copy(facts)),
            None => name.plain("it is typed, or given by who runs the jobs; second copy: ").strong(second_copy(facts)),
        }
    }));
    section.text("3. What opens the stores. In the shell in which you restore:");
    section
        .shell(["umask 077; read -rs BACKUP_PASSWORD; export BACKUP_PASSWORD   # type the passphrase, then Enter"
            .to_owned()]);
    for store in facts.repositories.iter().filter(|store| !store.variables.is_empty()) {
        section.text(Words::from("For ").code(&store.name).plain(":"));
        section.shell(store.variables.iter().map(exported));
    }
    let programs = programs(facts);
    let room = if programs.is_empty() { 4 } else { 5 };
    if !programs.is_empty() {
        section.text("4. The client programs of the databases, of these versions or newer:");
        section.list(programs);
    }
    section.text(format!("{room}. Room for what comes back, and servers that take it:"));
    section.list(facts.jobs.iter().map(needs));
    section
}

/// What the machine and the server need to have for a job.
fn needs(job: &JobUnderRunbook) -> Words {
    let mut words = Words::new().code(job.name()).plain(": ");
    words = match job.bytes() {
        Some(bytes) => words.plain(format!("{} MB", bytes.div_ceil(1_000_000))),
        None => words.strong("how much is not known"),
    };
    let is_of = |wanted: &str| {
        job.parts.iter().any(|part| matches!(&part.kind, PartKind::Database { engine, .. } if engine == wanted))
    };
    if job.parts.iter().any(|part| matches!(part.kind, PartKind::Database { .. })) {
        words = words.plain(", and as much again for a database's copy of its dump and for its indexes");
    }
    if is_of("postgres") {
        words = words.plain("; a login that is a superuser, because roles and their grants are made");
    }
    let extensions: BTreeSet<_> = job.parts.iter().flat_map(|part| &part.extensions).map(String::as_str).collect();
    if !extensions.is_empty() {
        words =
            words.plain("; on the server the packages of ").code(extensions.into_iter().collect::<Vec<_>>().join(", "));
    }
    words
}

fn second_copy(facts: &RunbookFacts) -> String {
    facts
        .passphrase_copy
        .clone()
        .unwrap_or_else(|| "nobody has said where (write checklist.passphrase_copy)".to_owned())
}

/// A variable as it is set in a shell.
pub(super) fn exported(variable: &Variable) -> String {
    match &variable.value {
        VariableValue::Plain(value) => format!("export {}={}", variable.name, quoted(value)),
        VariableValue::Secret(place) => {
            let place: String = place.chars().filter(|character| !character.is_control()).collect();
            format!("read -rs {0}; export {0}   # {place}", variable.name)
        }
    }
}

fn programs(facts: &RunbookFacts) -> Vec<Words> {
    let mut lines = Vec::new();
    for job in &facts.jobs {
        for part in &job.parts {
            if let PartKind::Database { engine, .. } = &part.kind {
                let tools = match part.tools.is_empty() {
                    true => format!("those of {engine}; the snapshot's manifest.json says the versions"),
                    false => part.tools.join(", "),
                };
                lines.push(Words::new().code(job.name()).plain(format!(": {tools}")));
            }
        }
    }
    lines
}

/// In which order to go.
pub(super) fn order(facts: &RunbookFacts) -> Section {
    let mut section = Section::new("order", "In which order");
    section.text(
        "First what may be away the shortest, then what may lose the least, then as the configuration has them. One \
         restore at a time unless the machine and the network bear more; times add up.",
    );
    let rows = recovery_order(facts).into_iter().enumerate().map(|(number, job)| {
        let objectives = &job.facts.objectives;
        let best = job.facts.copies.iter().filter_map(|copy| Some((copy, job.last_passed(&copy.repository)?)));
        let last = best.max_by_key(|(_, drill)| drill.ended);
        let proven = match last {
            Some((copy, drill)) => Words::from(format!("{}, from ", instant(drill.ended))).code(&copy.repository),
            None => Words::new().strong("never"),
        };
        let longest = job.facts.copies.iter().filter_map(|copy| job.estimate(&copy.repository));
        let estimate = longest
            .max_by_key(|estimate| estimate.ninety)
            .map_or_else(|| Words::new().strong("not known"), |estimate| Words::from(estimated(&estimate)));
        let objective = |objective: Option<_>| objective.map_or_else(|| "none".to_owned(), in_words).into();
        vec![
            (number + 1).to_string().into(),
            Words::new().code(job.name()),
            objective(objectives.rto),
            estimate,
            objective(objectives.rpo),
            proven,
        ]
    });
    section.table(&["", "job", "back within", "would take", "may lose", "last proven by a drill"], rows.collect());
    section
}

/// An estimate in words, with its confidence.
pub fn estimated(estimate: &crate::drill::Estimate) -> String {
    let (median, ninety) = (span(estimate.median), span(estimate.ninety));
    match estimate.confidence {
        Confidence::High => format!("{median}, nine times of ten within {ninety}"),
        Confidence::Low => format!("{median} to {ninety}, a guess: {}", estimate.reasons.join("; ")),
    }
}

/// Whom to call.
pub(super) fn contacts(facts: &RunbookFacts) -> Section {
    let mut section = Section::new("contacts", "Whom to call");
    if facts.contacts.is_empty() {
        section.warning("Nobody: the configuration has no [contacts].");
    }
    section.list(facts.contacts.iter().map(|(what, whom)| Words::new().strong(what).plain(format!(": {whom}"))));
    section
}

/// What a reader must know of a store before he relies on it.
pub(super) fn trouble_with(store: &StoreFacts) -> Option<Words> {
    let why = store.unreachable.as_ref()?;
    Some(Words::from("When this was written ").code(&store.name).plain(format!(" could not be read: {why}")))
}
