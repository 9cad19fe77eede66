//! Three copies, two media, one other site: as a computation.
//!
//! Every answer is given twice, by a pessimist for whom nothing counts that is not known, and by an optimist for whom it
//! does. Where both agree, that is the answer; where they do not, it is not known.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::exposure::{is_readable, parts};
use super::facts::{Answer, Backup, CopyFacts, Finding, FindingKind, JobFacts, Offsite, Standards};
use super::in_words;
use crate::contracts::Proof;
use crate::retention::GroupKey;

/// Whether a job has three copies on two media with one at another site, and what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreeTwoOne {
    /// All of it together.
    pub answer: Answer,
    /// Whether there are three copies, the data itself among them.
    pub three_copies: Answer,
    /// Whether they are on two media.
    pub two_media: Answer,
    /// Whether one is at another site; yes, where the configuration says that none need be.
    pub one_offsite: Answer,
    /// How many copies are known to count, the data itself among them.
    pub copies: usize,
    /// Whether each repository counts.
    pub verdicts: Vec<CopyVerdict>,
    /// What is missing, and how to mend it.
    pub findings: Vec<Finding>,
}

/// Whether a repository is a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopyVerdict {
    /// The repository.
    pub repository: String,
    /// Whether it counts; where it does not, or that is not known, a finding says why.
    pub counts: Answer,
}

/// How many copies a job has that are worth the name, on what, and where.
///
/// A repository is a copy when it can be read, fails together with neither the data nor another copy, has a newest
/// snapshot of each part of the job that was seen complete, and was read back in full within
/// [`Standards::verified_within`]. What was read back may be an older snapshot: the newest of a nightly job is hours
/// old, and was not there when the last check ran.
pub fn three_two_one(facts: &JobFacts, standards: &Standards, now: Timestamp) -> ThreeTwoOne {
    let mut findings = Vec::new();
    let judge = |copy| {
        let (counts, found) = judge(copy, facts, standards, now);
        findings.extend(found);
        (copy, counts)
    };
    let mut verdicts: Vec<(&CopyFacts, Answer)> = facts.copies.iter().map(judge).collect();
    findings.extend(one_of_each_domain(&mut verdicts));
    let pessimist = Tally::of(facts, &verdicts, |counts| counts == Answer::Yes);
    let optimist = Tally::of(facts, &verdicts, |counts| counts != Answer::No);
    // What is there and would do, once it counts, is mended by its own finding; only what no repository could give is
    // one of the rule.
    let everybody = Tally::of(facts, &verdicts, |_| true);
    findings.extend(everybody.lacks(facts));
    let three_copies = Answer::between(pessimist.copies >= 3, optimist.copies >= 3);
    let two_media = Answer::between(pessimist.media.len() >= 2, optimist.media.len() + optimist.media_unknown >= 2);
    let one_offsite = match facts.offsite {
        Offsite::Waived(_) => Answer::Yes,
        Offsite::Required => Answer::between(pessimist.offsite > 0, optimist.offsite + optimist.site_unknown > 0),
    };
    ThreeTwoOne {
        answer: three_copies.min(two_media).min(one_offsite),
        three_copies,
        two_media,
        one_offsite,
        copies: pessimist.copies,
        verdicts: verdicts
            .into_iter()
            .map(|(copy, counts)| CopyVerdict { repository: copy.repository.clone(), counts })
            .collect(),
        findings,
    }
}

/// What a finding is about, what is missing, and what to do.
type Remark = (FindingKind, String, String);

/// Whether one repository counts, whatever the others are, and what is to say of it.
fn judge(copy: &CopyFacts, facts: &JobFacts, standards: &Standards, now: Timestamp) -> (Answer, Vec<Finding>) {
    let name = &copy.repository;
    let mut findings = Vec::new();
    let mut find = |kind, what: String, mend: String| {
        findings.push(Finding { kind, repository: Some(name.clone()), what, mend });
    };
    // Where it stands is known whether it can be reached or not.
    let mut counts = Answer::Yes;
    if let Some((answer, (kind, what, mend))) = stands_alone(copy, facts) {
        counts = answer;
        find(kind, what, mend);
    }
    let mut worse = |than: Answer| counts = counts.min(than);
    match (copy.read, &copy.unreachable) {
        (_, Some(why)) => {
            let last =
                copy.read.map_or("it was never read".to_owned(), |read| format!("last read {} ago", ago(read, now)));
            worse(Answer::Unknown);
            find(
                FindingKind::Unreachable,
                format!("{name} cannot be read: {why}; {last}"),
                format!("mend the way to {name}"),
            );
        }
        (None, None) => {
            worse(Answer::Unknown);
            find(FindingKind::FactsOld, format!("{name} was never read"), "backup status".to_owned());
        }
        (Some(read), None) if now.duration_since(read) > standards.facts_within => {
            worse(Answer::Unknown);
            let what = format!("what is known of {name} is {} old", ago(read, now));
            find(FindingKind::FactsOld, what, "backup status".to_owned());
        }
        _ => {}
    }
    if is_readable(copy) {
        for (kind, what, mend) in contents(copy, facts, standards, now) {
            if kind != FindingKind::CopyBehind {
                worse(Answer::No);
            }
            find(kind, what, mend);
        }
    }
    (counts, findings)
}

/// What speaks against a copy in where it stands, beside the data.
fn stands_alone(copy: &CopyFacts, facts: &JobFacts) -> Option<(Answer, Remark)> {
    let name = &copy.repository;
    let unknown = |what: String, mend: String| Some((Answer::Unknown, (FindingKind::DomainUnknown, what, mend)));
    match (&copy.place.failure_domain, &facts.home.failure_domain) {
        (None, _) => unknown(
            format!("it is not known what {name} fails together with"),
            format!("set `failure_domain` of {name}"),
        ),
        (Some(own), Some(home)) if own == home => {
            let what = format!("{name} lies on {own}, where the data itself is");
            Some((Answer::No, (FindingKind::SameDomain, what, "move it to another disk, host or account".to_owned())))
        }
        (Some(_), None) => unknown(
            format!("it is not known whether {name} fails together with the data"),
            "set `failure_domain` of the job".to_owned(),
        ),
        _ => None,
    }
}

/// Of several repositories that fail together one counts: the best.
fn one_of_each_domain(verdicts: &mut [(&CopyFacts, Answer)]) -> Vec<Finding> {
    let mut best = BTreeMap::<&str, usize>::new();
    for (at, (copy, counts)) in verdicts.iter().enumerate() {
        let Some(domain) = &copy.place.failure_domain else { continue };
        let best = best.entry(domain).or_insert(at);
        if *counts > verdicts[*best].1 {
            *best = at;
        }
    }
    let mut findings = Vec::new();
    for (domain, best) in best {
        let other = verdicts[best].0;
        let same = |copy: &CopyFacts| {
            copy.place.failure_domain.as_deref() == Some(domain) && copy.repository != other.repository
        };
        for (copy, counts) in verdicts.iter_mut().filter(|(copy, _)| same(copy)) {
            *counts = Answer::No;
            findings.push(Finding {
                kind: FindingKind::SameDomain,
                repository: Some(copy.repository.clone()),
                what: format!("{} fails together with {}: both are on {domain}", copy.repository, other.repository),
                mend: "move one of them to another disk, host or account".to_owned(),
            });
        }
    }
    findings
}

/// What speaks against a copy in what it holds.
fn contents(copy: &CopyFacts, facts: &JobFacts, standards: &Standards, now: Timestamp) -> Vec<Remark> {
    let (name, job) = (&copy.repository, &facts.job);
    let of_copy = |part: &GroupKey| {
        copy.history.backups.iter().filter(|backup: &&Backup| *backup.part == *part).collect::<Vec<_>>()
    };
    let mut remarks = Vec::new();
    let parts = parts(&facts.copies);
    if copy.history.backups.is_empty() {
        let what = format!("{name} holds nothing of {job}");
        remarks.push((FindingKind::CopyEmpty, what, format!("backup run {job}")));
        return remarks;
    }
    for part in parts {
        let Some(newest) = of_copy(part).into_iter().max_by_key(|backup| backup.recovery_point) else {
            let what = format!("{name} holds nothing of {part}");
            remarks.push((FindingKind::CopyEmpty, what, format!("backup run {job}")));
            continue;
        };
        if newest.proof < Proof::Present {
            let what = format!("the newest snapshot in {name}, {:.8}, was not seen complete", newest.snapshot);
            remarks.push((FindingKind::NotPresent, what, format!("backup check -r {name}")));
        } else {
            let verified = of_copy(part)
                .into_iter()
                .filter(|backup| backup.proof >= Proof::Verified)
                .filter_map(|backup| backup.verified)
                .max();
            let what = match verified {
                Some(when) if now.duration_since(when) <= standards.verified_within => None,
                Some(when) => Some(format!("{name} was last read back {} ago", ago(when, now))),
                None => Some(format!("{name} was never read back")),
            };
            let remark = |what| (FindingKind::NotVerified, what, format!("backup check --read-data -r {name}"));
            remarks.extend(what.map(remark));
        }
        let others = facts.copies.iter().filter(|other| is_readable(other)).flat_map(|other| &other.history.backups);
        let ahead = others.filter(|other| *other.part == *part).map(|other| other.recovery_point).max();
        if let Some(ahead) = ahead.filter(|ahead| *ahead > newest.recovery_point) {
            let behind = in_words(ahead.duration_since(newest.recovery_point));
            let what = format!("{name} is {behind} behind another copy of {part}");
            remarks.push((FindingKind::CopyBehind, what, format!("backup run {job}")));
        }
    }
    // One check mends all parts, and is said once.
    let mut said = BTreeSet::new();
    remarks.retain(|(kind, what, _)| said.insert((*kind, what.clone())));
    remarks
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    in_words(now.duration_since(then))
}

/// What the copies come to, of which some are taken to count.
struct Tally<'a> {
    copies: usize,
    media: BTreeSet<&'a str>,
    /// Copies on a medium that nobody has named.
    media_unknown: usize,
    /// Copies that are known to stand at another site.
    offsite: usize,
    /// Copies of which it is not known.
    site_unknown: usize,
}

impl<'a> Tally<'a> {
    fn of(facts: &'a JobFacts, verdicts: &[(&'a CopyFacts, Answer)], takes: impl Fn(Answer) -> bool) -> Self {
        let counted: Vec<_> =
            verdicts.iter().filter(|(_, counts)| takes(*counts)).map(|(copy, _)| &copy.place).collect();
        let all = || counted.iter().copied().chain([&facts.home]);
        let is_elsewhere =
            |site: &Option<String>| site.as_ref().zip(facts.home.site.as_ref()).map(|(one, home)| one != home);
        Self {
            copies: counted.len() + 1,
            media: all().filter_map(|place| place.media.as_deref()).collect(),
            media_unknown: all().filter(|place| place.media.is_none()).count(),
            offsite: counted.iter().filter(|place| is_elsewhere(&place.site) == Some(true)).count(),
            site_unknown: counted.iter().filter(|place| is_elsewhere(&place.site).is_none()).count(),
        }
    }

    /// What these copies could not give even if all of them counted.
    fn lacks(&self, facts: &JobFacts) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut find = |kind, what: String, mend: &str| {
            findings.push(Finding { kind, repository: None, what, mend: mend.to_owned() });
        };
        if self.copies < 3 {
            let copies = match self.copies {
                1 => "the data is the only copy".to_owned(),
                copies => format!("there are {copies} of 3 copies, the data among them"),
            };
            find(FindingKind::CopiesFew, copies, "add a repository on another disk, host or account to `repositories`");
        }
        if self.media.len() < 2 {
            match (self.media_unknown, self.media.first()) {
                (0, Some(medium)) => find(
                    FindingKind::MediaOne,
                    format!("all copies are on one kind of medium, {medium}"),
                    "add a repository on another, or set `media` where one differs",
                ),
                _ => find(
                    FindingKind::MediaUnknown,
                    "it is not said what the copies are on".to_owned(),
                    "set `media` of each repository",
                ),
            }
        }
        if self.offsite == 0 && facts.offsite == Offsite::Required {
            match (self.site_unknown, &facts.home.site) {
                (0, Some(site)) => find(
                    FindingKind::OffsiteNone,
                    format!("no copy stands at another site than {site}"),
                    "add a repository at another, or say `offsite = \"none: REASON\"`",
                ),
                (0, None) => find(
                    FindingKind::OffsiteNone,
                    "no copy stands anywhere else".to_owned(),
                    "add a repository at another site",
                ),
                _ => find(
                    FindingKind::SiteUnknown,
                    "it is not said where the copies stand".to_owned(),
                    "set `site` of each repository, and where the data stands",
                ),
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{at, backup, copy, job};
    use super::*;

    const NOW: &str = "2026-11-22T12:00:00Z";

    /// A copy that counts.
    fn good(name: &str) -> CopyFacts {
        copy(name, [backup("2026-11-15T02:00:00Z").proven(Proof::Verified), backup("2026-11-22T02:00:00Z")])
    }

    /// A NAS in the same house and a bucket far away.
    fn sound() -> JobFacts {
        job(vec![good("local").at("paris", "nas").on("disk"), good("offsite")])
    }

    fn rule(facts: &JobFacts) -> ThreeTwoOne {
        three_two_one(facts, &Standards::default(), at(NOW))
    }

    fn kinds(rule: &ThreeTwoOne) -> Vec<FindingKind> {
        rule.findings.iter().map(|finding| finding.kind).collect()
    }

    #[test]
    fn two_sound_repositories_on_two_media_with_one_elsewhere_are_enough() {
        let rule = rule(&sound());
        assert_eq!((rule.answer, rule.copies, rule.findings), (Answer::Yes, 3, vec![]));
    }

    /// What is done to a sound job, what becomes of the answer, and what is found.
    #[test]
    fn each_way_to_lose_it_is_found_and_said() {
        use FindingKind::{
            CopiesFew, CopyBehind, CopyEmpty, DomainUnknown, FactsOld, MediaOne, MediaUnknown, NotPresent, NotVerified,
            OffsiteNone, SameDomain, SiteUnknown, Unreachable,
        };
        type Change = fn(&mut JobFacts);
        let cases: [(&str, Change, Answer, &[FindingKind]); 18] = [
            (
                "no off-site repository",
                |facts| drop(facts.copies.pop()),
                Answer::No,
                &[CopiesFew, MediaOne, OffsiteNone],
            ),
            ("no repository", |facts| facts.copies.clear(), Answer::No, &[CopiesFew, MediaOne, OffsiteNone]),
            (
                "on the data's own disk",
                |facts| facts.copies[0] = good("local").at("paris", "host"),
                Answer::No,
                &[SameDomain],
            ),
            (
                "two prefixes of one account",
                |facts| facts.copies[0] = good("local").at("oslo", "offsite"),
                Answer::No,
                &[SameDomain],
            ),
            ("one medium", |facts| facts.copies[1].place.media = Some("disk".into()), Answer::No, &[MediaOne]),
            ("one site", |facts| facts.copies[1].place.site = Some("paris".into()), Answer::No, &[OffsiteNone]),
            ("a site nobody named", |facts| facts.copies[1].place.site = None, Answer::Unknown, &[SiteUnknown]),
            ("a home nobody named", |facts| facts.home.site = None, Answer::Unknown, &[SiteUnknown]),
            ("a medium nobody named", |facts| facts.copies[1].place.media = None, Answer::Unknown, &[MediaUnknown]),
            (
                "a domain nobody named",
                |facts| facts.copies[1].place.failure_domain = None,
                Answer::Unknown,
                &[DomainUnknown],
            ),
            (
                "a home without a domain",
                |facts| facts.home.failure_domain = None,
                Answer::Unknown,
                &[DomainUnknown, DomainUnknown],
            ),
            ("away", |facts| facts.copies[1].unreachable = Some("timed out".into()), Answer::Unknown, &[Unreachable]),
            ("never read", |facts| facts.copies[1].read = None, Answer::Unknown, &[FactsOld]),
            (
                "read long ago",
                |facts| facts.copies[1].read = Some(at("2026-11-20T12:00:00Z")),
                Answer::Unknown,
                &[FactsOld],
            ),
            ("empty", |facts| facts.copies[1].history_mut().backups.clear(), Answer::No, &[CopyEmpty]),
            (
                "newest not seen complete",
                |facts| facts.copies[1].history_mut().backups[1].proof = Proof::Uploaded,
                Answer::No,
                &[NotPresent],
            ),
            (
                "never read back",
                |facts| facts.copies[1] = copy("offsite", [backup("2026-11-22T02:00:00Z")]),
                Answer::No,
                &[NotVerified],
            ),
            ("behind", |facts| drop(facts.copies[1].history_mut().backups.pop()), Answer::Yes, &[CopyBehind]),
        ];
        for (name, change, answer, found) in cases {
            let mut facts = sound();
            change(&mut facts);
            let rule = rule(&facts);
            assert_eq!((rule.answer, &kinds(&rule)[..]), (answer, found), "{name}: {rule:#?}");
            assert!(rule.findings.iter().all(|finding| !finding.mend.is_empty() && !finding.what.is_empty()), "{name}");
        }
    }

    #[test]
    fn a_copy_that_was_read_back_too_long_ago_does_not_count() {
        let facts = sound();
        let standards = Standards { verified_within: jiff::SignedDuration::from_hours(24 * 7), ..Standards::default() };
        let rule = three_two_one(&facts, &standards, at(NOW));
        assert_eq!((rule.answer, rule.copies), (Answer::No, 1));
        assert_eq!(rule.findings[0].what, "local was last read back 7 d 8 h ago");
        assert_eq!(rule.findings[0].mend, "backup check --read-data -r local");
    }

    #[test]
    fn a_part_of_a_job_that_a_copy_lacks_makes_it_none() {
        let mut facts = sound();
        let dump = backup("2026-11-22T02:00:00Z").of_dump("/postgres/users").proven(Proof::Verified);
        facts.copies[0].history_mut().backups.push(dump);
        let rule = rule(&facts);
        assert_eq!((rule.answer, kinds(&rule)), (Answer::No, vec![FindingKind::CopyEmpty]));
        assert_eq!(rule.findings[0].what, "offsite holds nothing of job app, paths /postgres/users");
    }

    #[test]
    fn who_says_that_no_other_site_is_needed_is_not_asked_for_one() {
        let mut facts = sound();
        facts.copies[1].place.site = Some("paris".into());
        facts.offsite = Offsite::Waived("a laptop at home".to_owned());
        assert_eq!(rule(&facts).answer, Answer::Yes);
    }

    #[test]
    fn of_two_that_fail_together_the_one_that_is_there_counts() {
        let mut facts = sound();
        facts.copies.insert(0, good("away").at("oslo", "offsite"));
        facts.copies[0].unreachable = Some("timed out".into());
        let rule = rule(&facts);
        assert_eq!((rule.answer, rule.copies), (Answer::Yes, 3));
        assert_eq!(rule.findings.last().unwrap().what, "away fails together with offsite: both are on offsite");
    }

    #[test]
    fn a_copy_that_is_away_makes_nothing_unknown_that_others_give() {
        let mut facts = sound();
        facts.copies.push(good("third").at("bonn", "tapes").on("tape"));
        facts.copies[0].unreachable = Some("timed out".into());
        assert_eq!((rule(&facts).answer, rule(&facts).copies), (Answer::Yes, 3));
    }
}
