//! `backup forget`: removes snapshots, by rules or by name.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use backup_core::care::forget;
use backup_core::clock::{Clock as _, SystemClock};
use backup_core::contracts::{Proof, SnapshotFacts};
use backup_core::look::histories;
use backup_core::policy::Outcome;
use backup_core::repository::Repository;
use backup_core::retention::{
    Count, GroupBy, GroupKey, Guard, Hold, KeepRules, PlanOptions, PlannedSnapshot, RetentionPlan, Rules, Span, TagSet,
    Verdict,
};
use jiff::tz::TimeZone;
use serde_json::json;

use crate::args::Which;
use crate::console::{amounts, table::Table};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A rule keeps; what no rule keeps goes, if a newer snapshot of its group is proven to be there."
)]
pub(crate) struct Args {
    /// Remove these snapshots (beginnings of ids), whatever the rules say
    #[arg(value_name = "SNAP")]
    snapshots: Vec<String>,
    #[command(flatten)]
    keep: Keep,
    /// The time zone whose days, weeks and months count
    #[arg(long, value_name = "NAME", default_value = "UTC", value_parser = zone)]
    time_zone: TimeZone,
    /// What the rules count together: job, host, paths, tags, with commas between them
    #[arg(long, value_name = "FIELDS", value_parser = GroupBy::from_str)]
    group_by: Option<GroupBy>,
    /// How well a newer snapshot must be proven before an older one may go: present, verified, restored
    #[arg(long, value_name = "PROOF", default_value = "present", value_parser = proof)]
    require: Proof,
    /// Show what would be removed, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Remove what no snapshot needs afterwards, as `prune` does
    #[arg(long, conflicts_with = "dry_run")]
    prune: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Rules")]
struct Keep {
    /// Keep the newest N, or `unlimited`
    #[arg(long, value_name = "N", value_parser = Count::from_str)]
    keep_last: Option<Count>,
    /// Keep the newest of each of N hours
    #[arg(long, value_name = "N", value_parser = Count::from_str)]
    keep_hourly: Option<Count>,
    /// Keep the newest of each of N days
    #[arg(long, value_name = "N", value_parser = Count::from_str)]
    keep_daily: Option<Count>,
    /// Keep the newest of each of N weeks
    #[arg(long, value_name = "N", value_parser = Count::from_str)]
    keep_weekly: Option<Count>,
    /// Keep the newest of each of N months
    #[arg(long, value_name = "N", value_parser = Count::from_str)]
    keep_monthly: Option<Count>,
    /// Keep the newest of each of N years
    #[arg(long, value_name = "N", value_parser = Count::from_str)]
    keep_yearly: Option<Count>,
    /// Keep all of the last 30d, 6m, 1y6m, … before the newest
    #[arg(long, value_name = "TIME", value_parser = Span::from_str)]
    keep_within: Option<Span>,
    /// Keep one an hour in this time
    #[arg(long, value_name = "TIME", value_parser = Span::from_str)]
    keep_within_hourly: Option<Span>,
    /// Keep one a day in this time
    #[arg(long, value_name = "TIME", value_parser = Span::from_str)]
    keep_within_daily: Option<Span>,
    /// Keep one a week in this time
    #[arg(long, value_name = "TIME", value_parser = Span::from_str)]
    keep_within_weekly: Option<Span>,
    /// Keep one a month in this time
    #[arg(long, value_name = "TIME", value_parser = Span::from_str)]
    keep_within_monthly: Option<Span>,
    /// Keep one a year in this time
    #[arg(long, value_name = "TIME", value_parser = Span::from_str)]
    keep_within_yearly: Option<Span>,
    /// Keep those with this tag, or with all of these with commas between them
    #[arg(long, value_name = "TAGS", value_parser = TagSet::from_str)]
    keep_tag: Vec<TagSet>,
}

fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name).map_err(|_| "no time zone is called so: write Europe/Paris, or UTC".to_owned())
}

fn proof(word: &str) -> Result<Proof, String> {
    let proofs = [Proof::Present, Proof::Verified, Proof::Restored];
    let found = proofs.into_iter().find(|proof| proof.to_string() == word);
    found.ok_or_else(|| "not a step of proof: present, verified or restored".to_owned())
}

impl Args {
    fn rules(&self) -> Rules {
        let keep = &self.keep;
        Rules {
            last: keep.keep_last,
            hourly: keep.keep_hourly,
            daily: keep.keep_daily,
            weekly: keep.keep_weekly,
            monthly: keep.keep_monthly,
            yearly: keep.keep_yearly,
            within: keep.keep_within,
            within_hourly: keep.keep_within_hourly,
            within_daily: keep.keep_within_daily,
            within_weekly: keep.keep_within_weekly,
            within_monthly: keep.keep_within_monthly,
            within_yearly: keep.keep_within_yearly,
            tags: keep.keep_tag.clone(),
            require: self.require,
        }
    }
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Exit, Failure> {
    session.require_locks()?;
    let rules = args.rules();
    match (args.snapshots.is_empty(), rules.is_empty()) {
        (false, false) => Err(Failure::usage("snapshots and rules exclude each other", "give ids, or --keep-… rules")),
        (true, true) => Err(Failure::usage(
            "no rule says what to keep, and no snapshot was named",
            "forget --keep-daily 7 --keep-weekly 4, or forget SNAP; --dry-run shows what would go",
        )),
        (false, true) => by_name(args, session),
        (true, false) => by_rules(args, rules, session),
    }
}

fn by_name(args: &Args, session: &Session) -> Result<Exit, Failure> {
    let repository = session.open()?;
    let mut chosen = Vec::new();
    for text in &args.snapshots {
        let (id, snapshot) = session.find(&repository, text, &args.which)?;
        if Hold::of(&snapshot.tags).is_some_and(|hold| hold.holds_at(SystemClock.now())) {
            return Err(Failure::new(format!("snapshot {id:.8} is held"))
                .with_hint(format!("hold {id:.8} --release, if it is really to go")));
        }
        if !chosen.contains(&id) {
            chosen.push(id);
        }
    }
    let reporter = session.console.reporter();
    if !args.dry_run {
        repository.remove_snapshots(&chosen, &*reporter)?;
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    let document = json!({"event": "forget", "dry_run": args.dry_run, "removed": chosen, "groups": []});
    session.console.summary(&document, || chosen.iter().map(|id| format!("{verb} snapshot {id:.8}\n")).collect())?;
    afterwards(args, session, &repository)
}

fn by_rules(args: &Args, rules: Rules, session: &Session) -> Result<Exit, Failure> {
    let policy = KeepRules::new(rules, args.time_zone.clone())
        .map_err(|error| Failure::usage(error.to_string(), "forget --help lists the rules"))?;
    let repository = session.open()?;
    let frozen = frozen(&repository)?;
    let options = PlanOptions { group_by: args.group_by.clone().unwrap_or_default(), frozen };
    let query = args.which.query();
    let mine = |facts: &SnapshotFacts| {
        query.host.as_ref().is_none_or(|host| *host == facts.host)
            && query.tags.iter().all(|tag| facts.tags.contains(tag))
            && query.path.as_ref().is_none_or(|path| facts.paths.contains(path))
            && query.at.is_none_or(|at| facts.time <= at)
    };
    let mut facts = forget::gather(&repository)?;
    facts.retain(mine);
    let plan = forget::plan(&facts, &policy, SystemClock.now(), &options)?;
    let reporter = session.console.reporter();
    match (session.console.is_json(), args.dry_run) {
        (true, _) => {}
        (false, true) => session.console.text(text(&plan, &facts))?,
        // What is about to happen is shown before it does.
        (false, false) => session.console.summary(&(), || text(&plan, &facts))?,
    }
    let removed = if args.dry_run || plan.removals().next().is_none() {
        Vec::new()
    } else {
        forget::apply(&repository, &plan, &policy, &options, mine, &*reporter)?
    };
    let document = json!({"event": "forget", "dry_run": args.dry_run, "removed": removed, "groups": plan.groups});
    let (goes, stays) = (plan.removals().count() as u64, plan.kept().count() as u64);
    if args.dry_run {
        session.console.either(&document, || {
            format!("would remove {}, keep {}", amounts::counted(goes, "snapshot"), amounts::count(stays))
        })?;
    } else {
        let removed = removed.len() as u64;
        session.console.summary(&document, || {
            let kept = amounts::count(stays + goes - removed);
            format!("removed {}, kept {kept}", amounts::counted(removed, "snapshot"))
        })?;
    }
    for job in frozen_jobs(&plan, &facts) {
        session.console.note(&format!(
            "Nothing of {job} goes but by its id: its newest run looks wrong. `backup run --accept {job}` says that it is right."
        ));
    }
    if is_unproven(&plan) {
        session.console.note(
            "Some snapshots stay only because no newer one of their group is proven to be there: `check` looks, \
             records the proof, and then they can go.",
        );
    }
    afterwards(args, session, &repository)
}

fn afterwards(args: &Args, session: &Session, repository: &Repository) -> Result<Exit, Failure> {
    if args.prune {
        return super::prune::after_forget(repository, session);
    }
    Ok(Exit::Done)
}

/// The parts of jobs whose newest backup looks wrong: nobody has looked yet.
fn frozen(repository: &Repository) -> Result<BTreeSet<GroupKey>, Failure> {
    let histories = histories(repository)?;
    let mut newest = BTreeMap::new();
    let runs = histories.jobs.values().flat_map(|history| &history.runs);
    for run in runs.filter(|run| run.outcome.made_a_backup()) {
        let Some(part) = run.part.as_deref() else { continue };
        let known = newest.entry(part).or_insert(run);
        if run.ended > known.ended {
            *known = run;
        }
    }
    let suspicious = newest.into_iter().filter(|(_, run)| run.outcome == Outcome::Suspicious);
    Ok(suspicious.map(|(part, _)| part.clone()).collect())
}

/// The jobs of which something stays because a run looks wrong.
fn frozen_jobs(plan: &RetentionPlan, facts: &[SnapshotFacts]) -> BTreeSet<String> {
    let is_frozen = |planned: &&PlannedSnapshot| match &planned.verdict {
        Verdict::Keep { guards, .. } => guards.contains(&Guard::Frozen),
        Verdict::Remove { .. } => false,
    };
    let job = |planned: &PlannedSnapshot| {
        let facts = facts.iter().find(|facts| facts.id == planned.id)?;
        facts.tags.iter().find_map(|tag| Some(tag.strip_prefix("job:")?.to_owned()))
    };
    plan.kept().filter(is_frozen).filter_map(job).collect()
}

/// Whether anything stays for want of proof alone.
fn is_unproven(plan: &RetentionPlan) -> bool {
    plan.kept().any(|planned| match &planned.verdict {
        Verdict::Keep { reasons, guards } => {
            reasons.is_empty()
                && guards.iter().any(|guard| matches!(guard, Guard::NoNewerGood { .. } | Guard::StandsIn { .. }))
        }
        Verdict::Remove { .. } => false,
    })
}

fn text(plan: &RetentionPlan, facts: &[SnapshotFacts]) -> String {
    let mut parts = Vec::new();
    for group in &plan.groups {
        let mut table = Table::new(&["", "ID", "Time", "Proof", "Tags", "Why"]);
        for planned in &group.snapshots {
            let (sign, why) = match &planned.verdict {
                Verdict::Keep { reasons, guards } => {
                    let reasons = reasons.iter().map(ToString::to_string);
                    ("keep", reasons.chain(guards.iter().map(ToString::to_string)).collect::<Vec<_>>().join(", "))
                }
                Verdict::Remove { successor } => ("remove", format!("no rule keeps it; {successor:.8} is newer")),
            };
            let tags = facts.iter().find(|facts| facts.id == planned.id).map(|facts| facts.tags.join(","));
            table.row([
                sign.to_owned(),
                format!("{:.8}", planned.id),
                amounts::local_time(planned.time),
                planned.proof.to_string(),
                tags.unwrap_or_default(),
                why,
            ]);
        }
        parts.push(format!("{}\n{}", group.key, table.text()));
    }
    if parts.is_empty() { "no snapshots\n".to_owned() } else { parts.join("\n") }
}
