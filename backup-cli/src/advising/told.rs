//! What is said of a strategy: the summary for who asked, and the matrix of restores.

use backup_core::advice::{Event, JobPlan, Recovery, TERMS};
use backup_core::policy::{Answer, in_words};

use super::configuration::Plan;
use super::found::{Found, What};
use super::scripts::quoted;
use crate::console::{amounts, table::Table};

/// The summary.
pub(crate) fn summary(plan: &Plan<'_>, notes: &[String]) -> String {
    let strategy = plan.strategy;
    let mut text = String::new();
    let mut table = Table::new(&["what", "", "size", "runs", "lost at worst", "drill", "3-2-1"]);
    for job in &strategy.jobs {
        let when = if job.on_change {
            format!("on change, and {}", job.frequency.schedule)
        } else {
            job.frequency.schedule.clone()
        };
        table.row([
            job.name.clone(),
            job.criticality.word().to_owned(),
            amounts::size_or_dash(job.bytes),
            when,
            format!("{} of {}", in_words(job.frequency.lost), in_words(job.bearable.loss)),
            job.drill.clone(),
            job.three_two_one.answer.to_string(),
        ]);
    }
    text += &table.text();
    text.push('\n');
    let mut table = Table::new(&["where", "class", "holds", "a month", "a full restore"]);
    for (store, destination) in strategy.stores.iter().zip(plan.destinations) {
        let money = |amount: Option<f64>| match (amount, plan.currency) {
            (Some(amount), Some(currency)) => format!("{amount:.2} {currency}"),
            _ => "-".to_owned(),
        };
        table.row([
            format!("{}: {}", store.name, destination.place),
            store.class.class.clone().unwrap_or_else(|| "its own".to_owned()),
            amounts::size_or_dash(store.volume.as_ref().map(|volume| volume.bytes_kept)),
            money(store.cost.map(|cost| cost.month())),
            money(store.cost.map(|cost| cost.restore)),
        ]);
    }
    text += &table.text();
    if let (Some(cost), Some(currency)) = (strategy.cost, plan.currency) {
        text += &format!("all together {:.2} {currency} a month\n", cost.month());
    }
    text.push('\n');
    let mut table = Table::new(&["when", "what", "from", "lost at worst", "longest restore, estimated"]);
    for (recovery, jobs) in alike(&strategy.recoveries) {
        table.row([
            recovery.event.title().to_owned(),
            jobs.join(", "),
            recovery.repository.clone().unwrap_or_else(|| "nowhere".to_owned()),
            lost(&recovery),
            takes(&recovery),
        ]);
    }
    text += &table.text();
    let findings = findings(&strategy.jobs);
    let lists = [
        ("what three copies on two media with one elsewhere still lack:", findings),
        ("the words of other programs:", TERMS.iter().map(|term| format!("{}: {}", term.word, term.means)).collect()),
        ("what the figures rest on:", strategy.assumptions.clone()),
        ("to see to:", notes.to_vec()),
    ];
    for (head, lines) in lists.iter().filter(|(_, lines)| !lines.is_empty()) {
        text += &format!("\n{head}\n");
        text.extend(lines.iter().map(|line| format!("  - {line}\n")));
    }
    text
}

/// `MATRIX.md`.
pub(crate) fn matrix(plan: &Plan<'_>) -> String {
    let mut text = "# When something goes wrong\n\n\
        Proposed by `backup advise`, before anything ran: what is lost is what the schedules lose at worst, how long a restore\n\
        takes is estimated from sizes, without the time that people need. Drills measure it: `backup status` and\n\
        `backup runbook` say what they found.\n"
        .to_owned();
    for event in Event::ALL {
        text += &format!("\n## {}\n\n{}\n\n", capital(event.title()), meaning(event));
        text += "| what | lost at worst (RPO) | may be lost | restore, estimated (RTO) | may take | from |\n|---|---|---|---|---|---|\n";
        let of_event = || plan.strategy.recoveries.iter().filter(move |recovery| recovery.event == event);
        for recovery in of_event() {
            let Some(job) = plan.strategy.jobs.iter().find(|job| job.name == recovery.job) else { continue };
            text += &format!(
                "| {} | {} | {} | {} | {} | {} |\n",
                recovery.job,
                lost(recovery),
                in_words(job.bearable.loss),
                takes(recovery),
                in_words(job.bearable.outage),
                recovery.repository.as_deref().unwrap_or("nowhere: there is no copy that outlives this"),
            );
        }
        for recovery in of_event() {
            let found = plan.found.iter().find(|found| found.name == recovery.job);
            if let (Some(found), Some(repository)) = (found, &recovery.repository) {
                text += &format!("\n    {}\n", procedure(plan, found, event, repository));
            }
        }
    }
    text
}

fn meaning(event: Event) -> &'static str {
    match event {
        Event::Deletion => {
            "Stop what still deletes. Restore beside, look, and copy what is missing; `backup find NAME` says which backups have \
             a file."
        }
        Event::Corruption => {
            "Find out since when it is wrong, and restore what was before: `--at TIME` takes the newest backup of that time or \
             before."
        }
        Event::HostLost => {
            "On a new machine: install this program, or restic, which reads the same repositories; fetch the passphrase from its \
             second place and the credentials of the store. Then, in the order of this list:"
        }
        Event::RegionLost => "As when the host is lost, from a place that is left.",
    }
}

/// The command that brings something back.
fn procedure(plan: &Plan<'_>, found: &Found, event: Event, repository: &str) -> String {
    // What is there after the machine went is the address, and no configuration.
    let place = plan.destinations.iter().find(|one| one.name == repository).map(|one| one.place.to_string());
    let (store, at) = match event {
        Event::Deletion => (repository.to_owned(), ""),
        Event::Corruption => (repository.to_owned(), " --at \"2026-01-31 14:00\""),
        Event::HostLost | Event::RegionLost => (place.unwrap_or_else(|| repository.to_owned()), ""),
    };
    let to = match &found.what {
        What::Database { url, .. } => match url.engine() {
            backup_sources::databases::url::Engine::Sqlite => "sqlite:/tmp/back.db".to_owned(),
            _ => format!("{}://…/an_empty_one", url.scheme()),
        },
        What::Files { .. } => "/tmp/back".to_owned(),
    };
    format!("backup -r {} restore latest --job {}{at} --to {}", quoted(&store), found.name, quoted(&to))
}

/// What comes back from the same event out of the same place, with the worst of each figure.
fn alike(recoveries: &[Recovery]) -> Vec<(Recovery, Vec<&str>)> {
    let mut all: Vec<(Recovery, Vec<&str>)> = Vec::new();
    for one in recoveries {
        let same = |known: &&mut (Recovery, Vec<&str>)| {
            (known.0.event, &known.0.repository, known.0.in_time) == (one.event, &one.repository, one.in_time)
        };
        match all.iter_mut().find(same) {
            Some((worst, jobs)) => {
                worst.lost = worst.lost.max(one.lost);
                worst.restore = worst.restore.max(one.restore);
                jobs.push(&one.job);
            }
            None => all.push((one.clone(), vec![&one.job])),
        }
    }
    all
}

fn lost(recovery: &Recovery) -> String {
    if recovery.repository.is_some() { in_words(recovery.lost) } else { "everything".to_owned() }
}

fn takes(recovery: &Recovery) -> String {
    match (&recovery.repository, recovery.restore, recovery.in_time) {
        (None, ..) => "never".to_owned(),
        (_, None, _) => "not known".to_owned(),
        (_, Some(restore), Some(false)) => format!("{}, which is too long", in_words(restore)),
        (_, Some(restore), _) => in_words(restore),
    }
}

/// What is missing, once for all jobs that miss the same.
fn findings(jobs: &[JobPlan]) -> Vec<String> {
    let mut told: Vec<(String, Vec<&str>)> = Vec::new();
    for job in jobs.iter().filter(|job| job.three_two_one.answer != Answer::Yes) {
        for finding in &job.three_two_one.findings {
            let line = format!("{}; {}", finding.what, finding.mend);
            match told.iter_mut().find(|(known, _)| *known == line) {
                Some((_, names)) => names.push(&job.name),
                None => told.push((line, vec![&job.name])),
            }
        }
    }
    told.into_iter().map(|(line, names)| format!("{}: {line}", names.join(", "))).collect()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}
