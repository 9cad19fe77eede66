//! The status page: what is wrong now, and how each job stands.
//!
//! What is always true: one document without a script and without anything from elsewhere; every text in it is escaped;
//! what a colour says is said in words as well; it can be read on a phone, in the dark, and used by keyboard alone.

use std::fmt::Write as _;

use backup_core::contracts::Proof;
use backup_core::policy::{Answer, Backup, CopyFacts, DrillVerdict, Exposure, Finding, Outcome, in_words};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::plot::{BARS_MAX, Bar, plot};
use super::view::{JobView, View};
use crate::console::amounts;
use backup_core::runbook::escaped;

const STYLE: &str = include_str!("page.css");

/// What a browser may do with the page: show it, its style, and the empty icon that it says it has.
pub(super) const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page at `now`.
pub(super) fn html(view: &View, now: Timestamp) -> String {
    let host = escaped(&view.host);
    let mut out = String::with_capacity(8_192 + view.jobs.len() * 8_192);
    put(
        &mut out,
        format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
            <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
            <meta http-equiv=\"refresh\" content=\"300\"><link rel=\"icon\" href=\"data:,\">\
            <title>{} · backups of {host}</title><style>{STYLE}</style></head><body><header><h1>Backups of {host}</h1>",
            headline(view)
        ),
    );
    let (class, words) = match (view.is_ready, wrong_count(view)) {
        (false, _) => ("unknown", "The repositories were not read yet.".to_owned()),
        (true, 0) => ("good", "Nothing is wrong.".to_owned()),
        (true, 1) => ("bad", "One thing is wrong.".to_owned()),
        (true, count) => ("bad", format!("{count} things are wrong.")),
    };
    let time = at(now, &view.zone);
    put(
        &mut out,
        format_args!("<p class=\"state {class}\">{words}</p><p class=\"faint\">As of {time}.</p></header><main>"),
    );
    wrong(&mut out, view);
    out.push_str("<ul class=\"jobs\">");
    for job in &view.jobs {
        card(&mut out, job, &view.zone, now);
    }
    out.push_str("</ul>");
    if view.jobs.is_empty() {
        out.push_str("<p>There are no jobs in the configuration.</p>");
    }
    put(
        &mut out,
        format_args!(
            "</main><footer><p>backup {} · <a href=\"/metrics\">figures for Prometheus</a></p></footer></body></html>",
            env!("CARGO_PKG_VERSION")
        ),
    );
    out
}

/// Writing to a string cannot fail.
fn put(out: &mut String, words: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(words);
}

fn headline(view: &View) -> &'static str {
    match (view.is_ready, wrong_count(view)) {
        (false, _) => "not read yet",
        (true, 0) => "well",
        (true, _) => "wrong",
    }
}

fn wrong_count(view: &View) -> usize {
    view.troubles.len() + view.jobs.iter().map(|job| job.standing.findings.len()).sum::<usize>()
}

fn wrong(out: &mut String, view: &View) {
    if !view.is_ready || wrong_count(view) == 0 {
        return;
    }
    out.push_str("<section class=\"wrong\" aria-labelledby=\"wrong\"><h2 id=\"wrong\">What is wrong now</h2><ul>");
    for trouble in &view.troubles {
        put(out, format_args!("<li>{}</li>", escaped(trouble)));
    }
    for job in &view.jobs {
        for Finding { what, mend, .. } in &job.standing.findings {
            let (name, what) = (escaped(&job.facts.job), escaped(what));
            put(out, format_args!("<li><strong>{name}</strong>: {what}. {}</li>", mended(mend)));
        }
    }
    out.push_str("</ul></section>");
}

/// What to do: a command as one, advice as words.
fn mended(mend: &str) -> String {
    match mend.starts_with("backup ") {
        true => format!("Try <code>{}</code>", escaped(mend)),
        false => format!("To mend it: {}.", prose(mend)),
    }
}

/// Words in which commands stand between backticks.
fn prose(words: &str) -> String {
    let words = escaped(words);
    let parts: Vec<_> = words.split('`').collect();
    if parts.len() % 2 == 0 {
        return words;
    }
    let shown = |(place, part): (usize, &&str)| match place % 2 {
        0 => (*part).to_owned(),
        _ => format!("<code>{part}</code>"),
    };
    parts.iter().enumerate().map(shown).collect()
}

fn card(out: &mut String, job: &JobView, zone: &TimeZone, now: Timestamp) {
    let (class, state) = state(job);
    let name = escaped(&job.facts.job);
    put(
        out,
        format_args!(
            "<li class=\"job\"><header><h2>{name}</h2><span class=\"state {class}\">{state}</span></header><dl>"
        ),
    );
    let mut row = |name: &str, words: String| put(out, format_args!("<dt>{name}</dt><dd>{words}</dd>"));
    if let Some(since) = job.running {
        row("running", format!("since {}", at(since, zone)));
    }
    row("backup", last_success(job, zone, now));
    row("would be lost", exposed(job, Proof::Present, now));
    if let Some(worst) = &job.standing.worst {
        let moment = at(worst.moment, zone);
        row("at worst in 30 days", format!("{} <span class=\"faint\">at {moment}</span>", in_words(worst.lost)));
    }
    row("read back", exposed(job, Proof::Verified, now));
    row("drill", drill(job, zone, now));
    let rule = &job.standing.three_two_one;
    let (class, met) = match rule.answer {
        Answer::Yes => ("good", "yes"),
        Answer::No => ("bad", "no"),
        Answer::Unknown => ("unknown", "not known"),
    };
    let counting =
        if rule.copies == 1 { "the data is the only copy".to_owned() } else { format!("{} copies count", rule.copies) };
    row("3-2-1", format!("<span class=\"{class}\">{met}</span>, {counting}"));
    if let Some(next) = job.next {
        row("next run", at(next, zone));
    }
    out.push_str("</dl>");
    plots(out, job, zone);
    copies(out, job, zone, now);
    out.push_str("</li>");
}

fn state(job: &JobView) -> (&'static str, &'static str) {
    let standing = &job.standing;
    let is_unknown =
        standing.rpo_met == Some(Answer::Unknown) || *standing.exposure(Proof::Present) == Exposure::Unknown;
    match (standing.findings.is_empty(), is_unknown) {
        (true, false) => ("good", "well"),
        (_, true) => ("unknown", "not known"),
        (false, false) => ("bad", "wrong"),
    }
}

fn last_success(job: &JobView, zone: &TimeZone, now: Timestamp) -> String {
    let newest = job.facts.copies.iter().flat_map(|copy| &copy.history.backups).max_by_key(|backup| backup.durable);
    match newest {
        Some(newest) => {
            format!("{} <span class=\"faint\">({} ago)</span>", at(newest.durable, zone), ago(newest.durable, now))
        }
        None if job.facts.copies.iter().any(|copy| copy.read.is_none()) => {
            "<span class=\"unknown\">not known</span>".to_owned()
        }
        None => "<span class=\"bad\">none</span>".to_owned(),
    }
}

/// What would be lost, with what may be.
fn exposed(job: &JobView, step: Proof, now: Timestamp) -> String {
    let allowed = job.standing.rpo.filter(|_| step == Proof::Present);
    let may_be =
        allowed.map(|rpo| format!(" <span class=\"faint\">of {} allowed</span>", in_words(rpo))).unwrap_or_default();
    match job.standing.exposure(step) {
        Exposure::Since { recovery_point, .. } => {
            let age = now.duration_since(*recovery_point).max(SignedDuration::ZERO);
            let class = if allowed.is_some_and(|allowed| age > allowed) { " class=\"bad\"" } else { "" };
            match step {
                Proof::Present => format!("<span{class}>{}</span>{may_be}", in_words(age)),
                _ => format!("the data of {} ago", in_words(age)),
            }
        }
        Exposure::Everything if step == Proof::Present => "<span class=\"bad\">everything</span>".to_owned(),
        Exposure::Everything => "<span class=\"bad\">never</span>".to_owned(),
        Exposure::Unknown => "<span class=\"unknown\">not known</span>".to_owned(),
    }
}

fn drill(job: &JobView, zone: &TimeZone, now: Timestamp) -> String {
    match (job.facts.drills.last(), job.standing.restored) {
        (Some(drill), _) => {
            let (class, words) = match &drill.verdict {
                DrillVerdict::Passed => ("good", "passed".to_owned()),
                DrillVerdict::Failed(why) => ("bad", format!("failed: {}", escaped(why))),
                DrillVerdict::NotRun(why) => ("bad", format!("could not run: {}", escaped(why))),
            };
            let took = drill.took.map(|took| format!(", took {}", in_words(took))).unwrap_or_default();
            format!(
                "<span class=\"{class}\">{words}</span> {} <span class=\"faint\">({} ago{took})</span>",
                at(drill.ended, zone),
                ago(drill.ended, now)
            )
        }
        (None, Some(restored)) => format!("restored {} ago", ago(restored, now)),
        (None, None) => "<span class=\"bad\">never</span>".to_owned(),
    }
}

fn plots(out: &mut String, job: &JobView, zone: &TimeZone) {
    // Of several repositories the first that has a history: sizes and lengths are much the same in each.
    let Some(copy) = job.facts.copies.iter().find(|copy| !copy.history.backups.is_empty()) else { return };
    let newest = &copy.history.backups[copy.history.backups.len().saturating_sub(BARS_MAX)..];
    let size = |backup: &Backup| {
        let size = backup.size?;
        let words = format!("{}, {}", amounts::size(size.logical), local(backup.recovery_point, zone));
        Some(Bar { value: size.logical as f64, words, is_odd: false })
    };
    out.push_str(&plot("size", &newest.iter().filter_map(size).collect::<Vec<_>>()));
    let runs = &copy.history.runs[copy.history.runs.len().saturating_sub(BARS_MAX)..];
    let length = |run: &backup_core::policy::Run| {
        let took = run.took?;
        let ended = match run.outcome {
            Outcome::Failed => ", failed",
            Outcome::Suspicious => ", looks wrong",
            Outcome::Done | Outcome::Losses => "",
        };
        let words = format!("{}{ended}, {}", in_words(took), local(run.ended, zone));
        Some(Bar { value: took.as_secs_f64(), words, is_odd: !ended.is_empty() })
    };
    out.push_str(&plot("duration", &runs.iter().filter_map(length).collect::<Vec<_>>()));
}

fn copies(out: &mut String, job: &JobView, zone: &TimeZone, now: Timestamp) {
    if job.facts.copies.is_empty() {
        return;
    }
    let name = escaped(&job.facts.job);
    put(
        out,
        format_args!(
            "<details><summary>Copies of {name}</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"copies of {name}\">\
            <table><thead><tr><th scope=\"col\">repository</th><th scope=\"col\">counts</th><th scope=\"col\">newest</th>\
            <th scope=\"col\">proof</th><th scope=\"col\">last drill that passed</th>\
            <th scope=\"col\">read</th></tr></thead><tbody>"
        ),
    );
    for copy in &job.facts.copies {
        let verdicts = &job.standing.three_two_one.verdicts;
        let counts = verdicts.iter().find(|verdict| verdict.repository == copy.repository);
        let counts = counts.map_or(Answer::Unknown, |verdict| verdict.counts);
        let class = match counts {
            Answer::Yes => "good",
            Answer::No => "bad",
            Answer::Unknown => "unknown",
        };
        let newest = copy.history.backups.last();
        let restored = job.facts.restored_from(&copy.repository);
        put(
            out,
            format_args!(
                "<tr><th scope=\"row\">{}</th><td class=\"{class}\">{counts}</td><td>{}</td><td>{}</td><td>{}</td>\
                 <td>{}</td></tr>",
                escaped(&copy.repository),
                newest.map_or("none".to_owned(), |newest| at(newest.recovery_point, zone)),
                newest.map_or(String::new(), |newest| newest.proof.to_string()),
                restored.map_or("none".to_owned(), |restored| at(restored, zone)),
                read(copy, now),
            ),
        );
    }
    out.push_str("</tbody></table></div></details>");
}

fn read(copy: &CopyFacts, now: Timestamp) -> String {
    let when = copy.read.map_or("never".to_owned(), |read| format!("{} ago", ago(read, now)));
    match &copy.unreachable {
        Some(why) => format!("<span class=\"bad\">{}</span>; {when}", escaped(why)),
        None => when,
    }
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    // A number and its unit stay on one line.
    in_words(now.duration_since(then)).replace(' ', "\u{a0}")
}

/// An instant in the zone's hours, with its name, for browsers too.
fn at(instant: Timestamp, zone: &TimeZone) -> String {
    format!("<time datetime=\"{instant:.0}\">{}</time>", escaped(&local(instant, zone)))
}

/// The same as bare words.
fn local(instant: Timestamp, zone: &TimeZone) -> String {
    instant.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string()
}

#[cfg(test)]
mod tests {
    use super::super::view::sample::{job, now, view};
    use super::*;

    #[test]
    fn what_is_wrong_is_said_in_words_before_anything_else() {
        let html = html(&view(), now());
        assert!(html.contains("<title>wrong · backups of db1</title>"));
        let (wrong, jobs) = (html.find("What is wrong now").unwrap(), html.find("class=\"jobs\"").unwrap());
        assert!(wrong < jobs);
        for words in [
            "<strong>uploads</strong>: the newest backup of uploads is 40 h old, where 26 h are allowed. Try <code>backup run uploads</code>",
            "<strong>uploads</strong>: the last drill from local, 3 h ago, failed: rows of users differ. Try <code>backup -r local drill uploads</code>",
            "<span class=\"state good\">well</span>",
            "<span class=\"state bad\">wrong</span>",
            "2026-11-22 02:07 UTC",
        ] {
            assert!(html.contains(words), "{words}\n{html}");
        }
    }

    #[test]
    fn where_nothing_is_wrong_it_says_so_and_before_anything_was_read_it_says_that() {
        let mut view = view();
        view.jobs.pop();
        assert!(html(&view, now()).contains("Nothing is wrong."));
        view.is_ready = false;
        let html = html(&view, now());
        assert!(html.contains("The repositories were not read yet.") && !html.contains("Nothing is wrong."));
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_nothing_runs() {
        let html = html(&view(), now()).to_lowercase();
        for never in ["<script", "src=", "http:", "https:", "@import", "url(", "onclick", "javascript:"] {
            assert!(!html.contains(never), "{never}");
        }
    }

    #[test]
    fn a_name_is_a_name_and_no_part_of_the_page() {
        let mut view = view();
        view.host = "<b>".to_owned();
        view.troubles = vec!["</li><script>".to_owned()];
        view.jobs = vec![job("\"><img>", 40, DrillVerdict::NotRun("<i>".to_owned()))];
        let html = html(&view, now());
        for never in ["<b>", "<img>", "<i>", "<script"] {
            assert!(!html.contains(never), "{never}");
        }
    }

    #[test]
    fn commands_within_words_are_shown_as_commands_and_a_lone_mark_is_left() {
        assert_eq!(mended("run `a <b>`, then `c`"), "To mend it: run <code>a &lt;b&gt;</code>, then <code>c</code>.");
        assert_eq!(mended("a ` b"), "To mend it: a ` b.");
    }

    #[test]
    fn no_tag_is_shown_as_words() {
        assert!(!html(&view(), now()).contains("&lt;"));
    }

    #[test]
    fn every_tag_that_is_opened_is_closed_in_order() {
        let html = html(&view(), now());
        let mut open = Vec::new();
        for tag in html.split('<').skip(1).map(|rest| rest.split(['>', ' ']).next().unwrap()) {
            match tag.strip_prefix('/') {
                Some(name) => assert_eq!(open.pop(), Some(name), "{open:?}"),
                None if ["!doctype", "meta", "link"].contains(&tag) || tag.ends_with('/') || tag == "line" => {}
                None => open.push(tag),
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }
}
