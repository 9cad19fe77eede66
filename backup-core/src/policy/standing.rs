//! How a job stands: everything that is computed of its facts, and what is wrong in plain words.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::exposure::{Exposure, Scenario, exposure, parts};
use super::facts::{Answer, DrillVerdict, Finding, FindingKind, JobFacts, Outcome, Run, Standards};
use super::worst::{Predicted, Worst, durations, predicted, worst};
use super::{ThreeTwoOne, as_seconds_or_none, in_words, three_two_one};
use crate::contracts::Proof;

/// How a job stands at an instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobStanding {
    /// Its name.
    pub job: String,
    /// What would be lost now, for each step of proof.
    pub exposures: Vec<(Proof, Exposure)>,
    /// The same, when the site where the data stands is lost; what is present counts.
    pub site_lost: Exposure,
    /// The same, when somebody holds all credentials: what nobody can delete is left.
    pub compromised: Exposure,
    /// How much may be lost.
    #[serde(rename = "rpo_seconds", serialize_with = "as_seconds_or_none")]
    pub rpo: Option<SignedDuration>,
    /// Whether no more would be lost now than may be; nothing where nobody has said how much.
    pub rpo_met: Option<Answer>,
    /// What was lost at worst within thirty days.
    pub worst: Option<Worst>,
    /// What its schedule will lose at worst.
    pub predicted: Option<Predicted>,
    /// How long a restore may take.
    #[serde(rename = "rto_seconds", serialize_with = "as_seconds_or_none")]
    pub rto: Option<SignedDuration>,
    /// How long the last drill that passed took.
    #[serde(rename = "rto_measured_seconds", serialize_with = "as_seconds_or_none")]
    pub rto_measured: Option<SignedDuration>,
    /// Whether that is no longer than may be; unknown without a drill.
    pub rto_met: Option<Answer>,
    /// When a drill last restored it.
    pub restored: Option<Timestamp>,
    /// Three copies, two media, one other site.
    pub three_two_one: ThreeTwoOne,
    /// All that is wrong, the gravest first.
    pub findings: Vec<Finding>,
}

impl JobStanding {
    /// Computes all of it.
    pub fn of(facts: &JobFacts, standards: &Standards, now: Timestamp) -> Self {
        let steps = [Proof::Uploaded, Proof::Present, Proof::Verified, Proof::Restored];
        let exposures = steps.map(|step| (step, exposure(facts, step, Scenario::DataLost, now)));
        let objectives = facts.objectives;
        let rpo_met = objectives.rpo.map(|rpo| exposures[1].1.within(rpo));
        let rto_measured = measured(facts);
        let rto_met = objectives.rto.map(|rto| match rto_measured {
            Some(measured) if measured <= rto => Answer::Yes,
            Some(_) => Answer::No,
            None => Answer::Unknown,
        });
        let mut standing = Self {
            job: facts.job.clone(),
            site_lost: exposure(facts, Proof::Present, Scenario::SiteLost, now),
            compromised: exposure(facts, Proof::Present, Scenario::Compromised, now),
            rpo: objectives.rpo,
            rpo_met,
            worst: worst(facts, SignedDuration::from_hours(30 * 24), now),
            predicted: predicted(facts.trigger, &durations(facts), objectives),
            rto: objectives.rto,
            rto_measured,
            restored: restored(facts),
            rto_met,
            three_two_one: three_two_one(facts, standards, now),
            exposures: exposures.into(),
            findings: Vec::new(),
        };
        standing.findings = standing.wrong(facts, standards, now);
        standing
    }

    /// What would be lost now, if only backups at `step` of proof can be relied on.
    pub fn exposure(&self, step: Proof) -> &Exposure {
        self.exposures.iter().find(|(known, _)| *known == step).map_or(&Exposure::Unknown, |(_, exposure)| exposure)
    }

    /// Whether an objective is missed: what may be lost, or how long a restore may take.
    pub fn misses_an_objective(&self) -> bool {
        [self.rpo_met, self.rto_met].contains(&Some(Answer::No))
    }

    fn wrong(&self, facts: &JobFacts, standards: &Standards, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        let job = &facts.job;
        let mut find = |kind, what: String, mend: String| findings.push(Finding { kind, repository: None, what, mend });
        let again = || format!("backup run {job}");
        match (self.exposure(Proof::Present), self.exposure(Proof::Uploaded)) {
            (Exposure::Everything, Exposure::Everything) => {
                find(FindingKind::NeverBackedUp, format!("there is no backup of {job}"), again());
            }
            (Exposure::Since { age, part, .. }, _) if self.rpo_met == Some(Answer::No) => {
                let of = if parts(&facts.copies).len() > 1 { part.to_string() } else { job.clone() };
                let allowed = self.rpo.map(in_words).unwrap_or_default();
                let what = format!("the newest backup of {of} is {} old, where {allowed} are allowed", in_words(*age));
                find(FindingKind::RpoMissed, what, again());
            }
            (Exposure::Everything, _) if self.rpo_met == Some(Answer::No) => {
                let what = format!("no backup of {job} was seen complete");
                find(FindingKind::RpoMissed, what, check(facts));
            }
            _ => {}
        }
        if let Some(run) = last_run(facts) {
            let when = in_words(now.duration_since(run.ended));
            let why = run.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            match run.outcome {
                Outcome::Failed => {
                    find(FindingKind::RunFailed, format!("the last run failed {when} ago{why}"), again());
                }
                Outcome::Suspicious => {
                    let what = format!(
                        "the last run, {when} ago, looks wrong{why}; retention removes nothing until somebody has looked"
                    );
                    let mend = format!("look at what it backed up; if that is right: backup run --accept {job}");
                    find(FindingKind::RunSuspicious, what, mend);
                }
                Outcome::Losses => {
                    let what = format!("the last run, {when} ago, could not read some files{why}");
                    find(
                        FindingKind::RunLosses,
                        what,
                        "let the one who runs the backup read them, or exclude them".to_owned(),
                    );
                }
                Outcome::Done => {}
            }
        }
        findings.extend(drills(facts, standards, now));
        let mut find = |kind, what: String, mend: String| findings.push(Finding { kind, repository: None, what, mend });
        if let (Some(Answer::No), Some(measured), Some(allowed)) = (self.rto_met, self.rto_measured, self.rto) {
            let what = format!("a restore takes {}, where {} are allowed", in_words(measured), in_words(allowed));
            find(FindingKind::RtoMissed, what, format!("backup drill {job}"));
        }
        if let Some(Predicted { lost, missed_by: Some(by), .. }) = &self.predicted {
            let what =
                format!("the schedule of {job} loses {} at worst, {} more than may be", in_words(*lost), in_words(*by));
            find(FindingKind::ScheduleTooRare, what, "run it more often, or allow more".to_owned());
        }
        findings.extend(self.three_two_one.findings.iter().cloned());
        findings
    }
}

/// What the drills of each copy tell: that of one copy says nothing of the others.
fn drills(facts: &JobFacts, standards: &Standards, now: Timestamp) -> Vec<Finding> {
    let mut wrong = Vec::new();
    let job = &facts.job;
    let is_only = facts.copies.len() < 2;
    let mut find = |kind, copy: &str, what: String| {
        let mend = if is_only { format!("backup drill {job}") } else { format!("backup -r {copy} drill {job}") };
        wrong.push(Finding { kind, repository: Some(copy.to_owned()), what, mend });
    };
    for copy in facts.copies.iter().map(|copy| copy.repository.as_str()) {
        let Some(drill) = facts.drilled(copy) else { continue };
        let when = in_words(now.duration_since(drill.ended));
        let from = if is_only { String::new() } else { format!(" from {copy}") };
        match &drill.verdict {
            DrillVerdict::Passed => {}
            DrillVerdict::Failed(why) => {
                find(FindingKind::DrillFailed, copy, format!("the last drill{from}, {when} ago, failed: {why}"));
            }
            DrillVerdict::NotRun(why) => {
                let what = format!("the last drill{from}, {when} ago, could not run: {why}");
                find(FindingKind::DrillFailed, copy, what);
            }
        }
    }
    if restored(facts).is_none() {
        let what = "no drill of it has ever passed".to_owned();
        let mend = format!("backup drill {job}");
        wrong.push(Finding { kind: FindingKind::DrillOverdue, repository: None, what, mend });
        return wrong;
    }
    let is_in_turn = |name: &str| facts.drilled_from.as_ref().is_none_or(|only| only == name);
    for copy in facts.copies.iter().filter(|copy| copy.read.is_some() && is_in_turn(&copy.repository)) {
        let name = copy.repository.as_str();
        let it = if is_only { "it".to_owned() } else { format!("the copy in {name}") };
        let what = match facts.restored_from(name) {
            Some(when) if now.duration_since(when) <= standards.drilled_within => continue,
            Some(when) => format!("no drill of {it} has passed for {}", in_words(now.duration_since(when))),
            None => format!("no drill of {it} has ever passed"),
        };
        wrong.push(Finding {
            kind: FindingKind::DrillOverdue,
            repository: Some(name.to_owned()),
            what,
            mend: if is_only { format!("backup drill {job}") } else { format!("backup -r {name} drill {job}") },
        });
    }
    wrong
}

/// What looks whether a backup is complete, in the first repository that has one.
fn check(facts: &JobFacts) -> String {
    let holder = facts.copies.iter().find(|copy| !copy.history.backups.is_empty()).or(facts.copies.first());
    holder.map_or_else(|| "backup status".to_owned(), |copy| format!("backup -r {} check", copy.repository))
}

/// The last run of a job, in whichever repository it ended last.
pub(super) fn last_run(facts: &JobFacts) -> Option<&Run> {
    facts.copies.iter().flat_map(|copy| &copy.history.runs).max_by_key(|run| run.ended)
}

/// When a drill last restored a job.
pub(super) fn restored(facts: &JobFacts) -> Option<Timestamp> {
    facts.copies.iter().filter_map(|copy| facts.restored_from(&copy.repository)).max()
}

/// How long the last drill that passed took.
fn measured(facts: &JobFacts) -> Option<SignedDuration> {
    let passed = facts.drills.iter().filter(|drill| drill.verdict == DrillVerdict::Passed);
    passed.max_by_key(|drill| drill.ended).and_then(|drill| drill.took)
}

#[cfg(test)]
mod tests {
    use super::super::facts::Drill;
    use super::super::sample::{at, backup, copy, hours, job, run};
    use super::*;
    use crate::retention::GroupKey;

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn standing(facts: &JobFacts) -> JobStanding {
        JobStanding::of(facts, &Standards::default(), at(NOW))
    }

    /// A job of which nothing is to say.
    fn sound() -> JobFacts {
        let backups = || [backup("2026-11-21T02:00:00Z").proven(Proof::Restored), backup("2026-11-22T02:00:00Z")];
        let mut facts = job(vec![copy("local", backups()).at("paris", "nas").on("disk"), copy("offsite", backups())]);
        facts.drills.push(drill("2026-11-21T05:00:00Z", DrillVerdict::Passed));
        facts.copies[0].history_mut().runs.push(run("2026-11-22T03:00:00Z", Outcome::Done));
        facts
    }

    fn drill(ended: &str, verdict: DrillVerdict) -> Drill {
        Drill { ended: at(ended), repository: "local".to_owned(), part: None, verdict, took: Some(hours(1)) }
    }

    #[test]
    fn each_copy_tells_when_it_was_last_restored_also_from_a_snapshot_that_is_gone() {
        let plain = || backup("2026-11-22T02:00:00Z");
        let restored = plain().proven(Proof::Restored);
        let mut facts = job(vec![copy("local", [plain()]), copy("offsite", [restored]), copy("third", [plain()])]);
        facts.drills = vec![
            drill("2026-11-20T05:00:00Z", DrillVerdict::Passed),
            drill("2026-11-21T05:00:00Z", DrillVerdict::Failed("rows of users differ".to_owned())),
        ];
        assert_eq!(facts.restored_from("local"), Some(at("2026-11-20T05:00:00Z")), "a failed one restored nothing");
        assert_eq!(facts.restored_from("offsite"), Some(at("2026-11-22T04:00:00Z")));
        assert_eq!((facts.restored_from("third"), facts.restored_from("no copy")), (None, None));
    }

    #[test]
    fn a_copy_that_failed_its_drill_stays_failed_whatever_drills_of_other_copies_and_parts_find() {
        let mut facts = sound();
        let far = |drill: Drill| Drill { repository: "offsite".to_owned(), ..drill };
        let of = |part: &str, drill: Drill| Drill { part: Some(GroupKey::of_dump("app", part).into()), ..drill };
        let passed = |ended| drill(ended, DrillVerdict::Passed);
        let failed = |ended| drill(ended, DrillVerdict::Failed("rows of users differ".to_owned()));
        facts.drills = vec![far(failed("2026-11-22T05:00:00Z")), passed("2026-11-22T06:00:00Z")];
        let told = |facts: &JobFacts| {
            let found = standing(facts).findings;
            let found = found.into_iter().filter(|finding| finding.kind == FindingKind::DrillFailed);
            found.map(|finding| (finding.repository, finding.what)).collect::<Vec<_>>()
        };
        let expected = (
            Some("offsite".to_owned()),
            "the last drill from offsite, 7 h ago, failed: rows of users differ".to_owned(),
        );
        assert_eq!(told(&facts), [expected]);
        facts.drills.push(far(passed("2026-11-22T07:00:00Z")));
        assert_eq!(told(&facts), []);
        facts.drills =
            vec![of("/sqlite/a", failed("2026-11-22T05:00:00Z")), of("/sqlite/b", passed("2026-11-22T06:00:00Z"))];
        assert_eq!(told(&facts).len(), 1, "another database of the same copy");
        facts.drills.push(of("/sqlite/a", passed("2026-11-22T07:00:00Z")));
        assert_eq!(told(&facts), []);
    }

    #[test]
    fn each_copy_has_to_be_restored_by_a_drill_or_the_one_that_drills_are_of() {
        let mut facts = sound();
        facts.copies[1].history_mut().backups.iter_mut().for_each(|backup| backup.restored = None);
        let overdue = |facts: &JobFacts| {
            let found = standing(facts).findings;
            let found = found.into_iter().filter(|finding| finding.kind == FindingKind::DrillOverdue);
            found.map(|finding| (finding.what, finding.mend)).collect::<Vec<_>>()
        };
        let never = "no drill of the copy in offsite has ever passed".to_owned();
        assert_eq!(overdue(&facts), [(never, "backup -r offsite drill app".to_owned())]);
        facts.drilled_from = Some("local".to_owned());
        assert_eq!(overdue(&facts), []);
    }

    #[test]
    fn of_a_sound_job_there_is_nothing_to_say() {
        let standing = standing(&sound());
        assert_eq!(standing.findings, []);
        assert_eq!((standing.rpo_met, standing.rto_met), (Some(Answer::Yes), Some(Answer::Yes)));
        assert_eq!(standing.site_lost.age(), Some(hours(10)));
        assert!(!standing.misses_an_objective());
    }

    #[test]
    fn what_is_wrong_is_said_in_plain_words_with_what_to_do() {
        type Change = fn(&mut JobFacts);
        let cases: [(Change, FindingKind, &str, &str); 10] = [
            (
                |facts| facts.objectives.rpo = Some(hours(9)),
                FindingKind::RpoMissed,
                "the newest backup of app is 10 h old, where 9 h are allowed",
                "backup run app",
            ),
            (
                |facts| {
                    let failed = run("2026-11-22T10:00:00Z", Outcome::Failed);
                    facts.copies[1].history_mut().runs.push(Run { why: Some("no space left".to_owned()), ..failed });
                },
                FindingKind::RunFailed,
                "the last run failed 2 h ago: no space left",
                "backup run app",
            ),
            (
                |facts| {
                    facts.copies[1].history_mut().runs.push(run("2026-11-22T10:00:00Z", Outcome::Suspicious));
                },
                FindingKind::RunSuspicious,
                "the last run, 2 h ago, looks wrong; retention removes nothing until somebody has looked",
                "look at what it backed up; if that is right: backup run --accept app",
            ),
            (
                |facts| {
                    for copy in &mut facts.copies {
                        copy.history_mut().backups.iter_mut().for_each(|backup| backup.proof = Proof::Uploaded);
                    }
                },
                FindingKind::RpoMissed,
                "no backup of app was seen complete",
                "backup -r local check",
            ),
            (
                |facts| facts.copies.iter_mut().for_each(|copy| copy.history_mut().backups.clear()),
                FindingKind::NeverBackedUp,
                "there is no backup of app",
                "backup run app",
            ),
            (
                |facts| {
                    let failed = DrillVerdict::Failed("rows of users differ".to_owned());
                    facts.drills.push(drill("2026-11-22T05:00:00Z", failed));
                },
                FindingKind::DrillFailed,
                "the last drill from local, 7 h ago, failed: rows of users differ",
                "backup -r local drill app",
            ),
            (
                |facts| facts.drills.push(drill("2026-11-22T05:00:00Z", DrillVerdict::NotRun("no sandbox".to_owned()))),
                FindingKind::DrillFailed,
                "the last drill from local, 7 h ago, could not run: no sandbox",
                "backup -r local drill app",
            ),
            (
                |facts| facts.objectives.rto = Some(SignedDuration::from_mins(30)),
                FindingKind::RtoMissed,
                "a restore takes 60 min, where 30 min are allowed",
                "backup drill app",
            ),
            (
                |facts| facts.objectives.rpo = Some(hours(24)),
                FindingKind::ScheduleTooRare,
                "the schedule of app loses 25 h at worst, 60 min more than may be",
                "run it more often, or allow more",
            ),
            (
                |facts| {
                    facts.drills.clear();
                    facts
                        .copies
                        .iter_mut()
                        .flat_map(|copy| &mut copy.history_mut().backups)
                        .for_each(|backup| backup.restored = None);
                },
                FindingKind::DrillOverdue,
                "no drill of it has ever passed",
                "backup drill app",
            ),
        ];
        for (change, kind, what, mend) in cases {
            let mut facts = sound();
            change(&mut facts);
            let found = standing(&facts).findings;
            let finding =
                found.iter().find(|finding| finding.kind == kind).unwrap_or_else(|| panic!("{kind:?}: {found:#?}"));
            assert_eq!((finding.what.as_str(), finding.mend.as_str()), (what, mend));
        }
    }

    #[test]
    fn without_a_drill_it_is_not_known_how_long_a_restore_takes() {
        let mut facts = sound();
        facts.drills.clear();
        assert_eq!(standing(&facts).rto_met, Some(Answer::Unknown));
        facts.objectives.rto = None;
        assert_eq!(standing(&facts).rto_met, None);
    }

    #[test]
    fn what_cannot_be_read_is_neither_met_nor_missed() {
        let mut facts = sound();
        facts.copies.iter_mut().for_each(|copy| copy.unreachable = Some("timed out".to_owned()));
        let standing = standing(&facts);
        assert_eq!(standing.rpo_met, Some(Answer::Unknown));
        assert!(!standing.misses_an_objective());
        assert_eq!(standing.findings.len(), 2);
    }
}
