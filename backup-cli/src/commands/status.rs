//! `backup status`: how each job stands, by what its repositories hold.

use backup_core::clock::{Clock as _, SystemClock};
use backup_core::contracts::Proof;
use backup_core::drill::Estimate;
use backup_core::policy::{
    Answer, CopyFacts, Exposure, Finding, FindingKind, JobFacts, JobStanding, Offsite, Practice, Standards, Worst,
    checklist, exposure_of, in_words,
};
use backup_core::repository::Repository;
use backup_core::runbook::estimated;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::{Config, Job};
use crate::console::{amounts, table::Table};
use crate::drills::told;
use crate::exit::{Exit, Failure};
use crate::facts;
use crate::session::Session;
use crate::telling;

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 4: an objective is missed. 5: a copy is missing, behind, or cannot be read.")]
pub(crate) struct Args {
    /// Jobs, by name; all of the configuration when none is named
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Show the checklist of a sound backup as well
    #[arg(long)]
    checklist: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let config = session.config()?;
    let chosen = config.jobs_named(&args.jobs)?;
    let now = SystemClock.now();
    let mut documented = None;
    let readings = facts::gather_and(&config, &chosen, session, |repository| {
        documented = documented.max(seen_in(repository, &config, now));
    });
    let all: Vec<(&Job, JobFacts)> =
        chosen.iter().map(|job| (*job, facts::of_job(&config, job, &readings, now))).collect();
    let standings: Vec<JobStanding> =
        all.iter().map(|(job, facts)| JobStanding::of(facts, &job.standards, now)).collect();
    let estimates: Vec<_> = all
        .iter()
        .map(|(job, known)| facts::estimate_of(known, &facts::past_drills(&job.name, &job.repositories, &readings)))
        .collect();
    let lines = {
        let facts: Vec<_> = all.iter().map(|(job, facts)| (facts.clone(), job.standards)).collect();
        checklist(&facts, &practice(&config, documented), &Standards::default(), now)
    };
    let documents: Vec<_> = all
        .iter()
        .zip(&standings)
        .zip(&estimates)
        .map(|(((_, facts), standing), estimate)| document(facts, standing, estimate.as_ref(), now))
        .collect();
    let told = json!({"time": now.to_string(), "jobs": documents, "checklist": lines});
    session.console.either(&told, || {
        let mut text = String::new();
        for (((_, facts), standing), estimate) in all.iter().zip(&standings).zip(&estimates) {
            text += &told_of(facts, standing, estimate.as_ref(), now);
            text.push('\n');
        }
        if args.checklist {
            let mut table = Table::new(&["", "", ""]);
            for line in &lines {
                let item = json!(line.item).as_str().unwrap_or_default().replace('_', " ");
                table.row([item, line.answer.to_string(), line.reason.clone()]);
            }
            text += &table.text();
        }
        text
    })?;
    let exits = all.iter().zip(&standings).map(|((job, facts), standing)| match exit(standing) {
        Exit::Done if has_lapsed(job, facts, standing) => Exit::Missed,
        exit => exit,
    });
    Ok(exits.fold(Exit::Done, Exit::graver))
}

/// What a standing means for who asks.
fn exit(standing: &JobStanding) -> Exit {
    let lacks = |kind| matches!(kind, FindingKind::CopyEmpty | FindingKind::CopyBehind | FindingKind::Unreachable);
    let is_behind = standing.findings.iter().any(|finding| lacks(finding.kind));
    let missed = [
        FindingKind::NeverBackedUp,
        FindingKind::RpoMissed,
        FindingKind::RtoMissed,
        FindingKind::RunFailed,
        FindingKind::DrillFailed,
    ];
    let is_missed =
        standing.misses_an_objective() || standing.findings.iter().any(|finding| missed.contains(&finding.kind));
    match (is_behind, is_missed) {
        (true, _) => Exit::Behind,
        (false, true) => Exit::Missed,
        (false, false) => Exit::Done,
    }
}

/// Whether drills that have a schedule have not gone on: the last one that restored a copy lies too far back. One that there
/// never was may not have had its turn yet.
fn has_lapsed(job: &Job, facts: &JobFacts, standing: &JobStanding) -> bool {
    let is_late = |finding: &Finding| {
        let there_was_one = finding.repository.as_deref().and_then(|name| facts.restored_from(name)).is_some();
        finding.kind == FindingKind::DrillOverdue && there_was_one
    };
    job.drill.as_ref().is_some_and(|drill| drill.schedule.is_some()) && standing.findings.iter().any(is_late)
}

/// What is known beside the jobs.
fn practice(config: &Config, documented: Option<Timestamp>) -> Practice {
    Practice {
        monitoring: telling::monitoring(config),
        passphrase_elsewhere: config.checklist.passphrase_copy.clone(),
        rehearsed: config.checklist.rehearsed.clone(),
        documented,
    }
}

/// When the configuration, from which the way to restore is told, was last seen in a repository: now, where the newest
/// of this machine says what the file says; before, when it was kept.
fn seen_in(repository: &Repository, config: &Config, now: Timestamp) -> Option<Timestamp> {
    let kept = repository.configurations().ok()?;
    let hostname = &repository.identity().hostname;
    let (_, newest) = kept.into_iter().rfind(|(_, kept)| kept.hostname == *hostname)?;
    Some(if newest.text == config.kept { now } else { newest.time })
}

fn document(facts: &JobFacts, standing: &JobStanding, estimate: Option<&Estimate>, now: Timestamp) -> Value {
    let copies = facts.copies.iter().map(|copy| {
        let newest = copy.history.backups.last();
        let counts = standing.three_two_one.verdicts.iter().find(|verdict| verdict.repository == copy.repository);
        json!({
            "repository": copy.repository,
            "place": copy.place,
            "read": copy.read.map(|read| read.to_string()),
            "unreachable": copy.unreachable,
            "snapshots": copy.history.backups.len(),
            "newest": newest.map(|backup| json!({
                "snapshot": backup.snapshot,
                "recovery_point": backup.recovery_point.to_string(),
                "proof": backup.proof,
                "verified": backup.verified.map(|verified| verified.to_string()),
                "immutable_until": backup.immutable_until.map(|until| until.to_string()),
            })),
            "restored": facts.restored_from(&copy.repository).map(|restored| restored.to_string()),
            "exposure": exposure_of(copy, facts, Proof::Present, now),
            "counts": counts.map(|verdict| verdict.counts),
        })
    });
    let copies: Vec<_> = copies.collect();
    let estimate = estimate.map(told::estimate_document);
    json!({"job": facts.job, "standing": standing, "copies": copies, "estimate": estimate})
}

fn told_of(facts: &JobFacts, standing: &JobStanding, estimate: Option<&Estimate>, now: Timestamp) -> String {
    let mut text = format!("{}\n", facts.job);
    let mut table = Table::new(&["", "", "", "", "", ""]);
    for copy in &facts.copies {
        let counts = standing.three_two_one.verdicts.iter().find(|verdict| verdict.repository == copy.repository);
        let counts = match counts.map(|verdict| verdict.counts) {
            Some(Answer::Yes) => "counts",
            Some(Answer::No) => "does not count",
            _ => "not known whether it counts",
        };
        let [newest, proof, age] = newest_of(copy, facts, now);
        let drilled = match facts.restored_from(&copy.repository) {
            Some(restored) => format!("restored by a drill {} ago", in_words(now.duration_since(restored))),
            None => "restored by no drill".to_owned(),
        };
        table.row([format!("  {}", copy.repository), newest, proof, age, counts.to_owned(), drilled]);
    }
    text += &table.text();
    let mut lines = Vec::new();
    let allowed = match (standing.rpo, standing.rpo_met) {
        (Some(rpo), Some(met)) => format!(", {} allowed: {}", in_words(rpo), word(met)),
        _ => String::new(),
    };
    let exposed = |step| exposed(standing.exposure(step));
    lines.push(format!("would be lost now: {}{allowed}", exposed(Proof::Present)));
    lines.push(format!(
        "of what was read back: {}; of what a drill has restored: {}",
        exposed(Proof::Verified),
        exposed(Proof::Restored)
    ));
    if let Some(worst) = &standing.worst {
        lines.push(format!("would have been lost at worst in 30 days: {}, {}", in_words(worst.lost), at_worst(worst)));
    }
    if let Some(estimate) = estimate {
        lines.push(format!("a restore would take: {}", estimated(estimate)));
    }
    if let Some(words) = immutable(facts, standing, now) {
        lines.push(words);
    }
    let rule = &standing.three_two_one;
    let offsite = match &facts.offsite {
        Offsite::Waived(reason) => format!("waived: {reason}"),
        Offsite::Required => word(rule.one_offsite).to_owned(),
    };
    lines.push(format!(
        "3-2-1: {} (three copies: {}, two media: {}, one at another site: {offsite})",
        word(rule.answer),
        word(rule.three_copies),
        word(rule.two_media),
    ));
    for line in lines {
        text += &format!("  {line}\n");
    }
    for finding in &standing.findings {
        text += &format!("  - {}\n      try: {}\n", finding.what, finding.mend);
    }
    text
}

/// What is left when somebody holds all credentials; nothing where no copy is known to be immutable.
fn immutable(facts: &JobFacts, standing: &JobStanding, now: Timestamp) -> Option<String> {
    let Exposure::Since { age, repository, .. } = &standing.compromised else { return None };
    let copy = facts.copies.iter().find(|copy| copy.repository == *repository)?;
    let until =
        copy.history.backups.iter().filter_map(|backup| backup.immutable_until).filter(|until| *until > now).min()?;
    Some(format!(
        "whoever holds all credentials leaves a backup that is {} old: nobody can delete it in {repository} before {}",
        in_words(*age),
        amounts::local_time(until)
    ))
}

fn exposed(exposure: &Exposure) -> String {
    match exposure {
        Exposure::Since { age, .. } => in_words(*age),
        Exposure::Everything => "everything".to_owned(),
        Exposure::Unknown => "not known".to_owned(),
    }
}

/// When it was worst, and from when on that is known.
fn at_worst(worst: &Worst) -> String {
    format!("at {} (known since {})", amounts::local_time(worst.moment), amounts::local_time(worst.since))
}

fn newest_of(copy: &CopyFacts, facts: &JobFacts, now: Timestamp) -> [String; 3] {
    if let Some(why) = &copy.unreachable {
        return [format!("cannot be read: {why}"), String::new(), String::new()];
    }
    let Some(backup) = copy.history.backups.last() else {
        return ["no snapshot".to_owned(), String::new(), String::new()];
    };
    let age = match exposure_of(copy, facts, Proof::Uploaded, now) {
        Exposure::Since { age, .. } => format!("{} old", in_words(age)),
        _ => String::new(),
    };
    let when = amounts::local_time(backup.recovery_point);
    [format!("snapshot {:.8} of {when}", backup.snapshot), backup.proof.to_string(), age]
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Yes => "yes",
        Answer::No => "no",
        Answer::Unknown => "not known",
    }
}
