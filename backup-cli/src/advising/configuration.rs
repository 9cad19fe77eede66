//! The `backup.toml` of a strategy, with the reason of each choice beside it.

use std::path::Path;

use backup_core::advice::{JobPlan, StorePlan, Strategy, TERMS};
use backup_core::policy::{Answer, in_words};
use backup_core::retention::Rules;
use backup_store::Place;
use jiff::SignedDuration;
use toml::Value;

use super::answers::Destination;
use super::found::{Found, What};
use super::notified::Notified;
use crate::console::amounts;

/// What a configuration is written of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// The strategy.
    pub(crate) strategy: &'a Strategy,
    /// What its jobs back up.
    pub(crate) found: &'a [Found],
    /// What its stores are.
    pub(crate) destinations: &'a [Destination],
    /// The name of the zone.
    pub(crate) zone: &'a str,
    /// Where the data stands.
    pub(crate) site: &'a str,
    /// Where the passphrase is.
    pub(crate) password_file: &'a Path,
    /// What the costs are in.
    pub(crate) currency: Option<&'a str>,
    /// Who is told.
    pub(crate) notified: &'a [Notified],
    /// This machine's name.
    pub(crate) host: &'a str,
}

/// Comments are broken here.
const COLUMNS: usize = 100;

impl Plan<'_> {
    /// The text.
    pub(crate) fn text(&self) -> String {
        let mut text = self.head();
        text += &format!("timezone = {}\n", quoted(self.zone));
        for (plan, destination) in self.strategy.stores.iter().zip(self.destinations) {
            text += &self.repository(plan, destination);
        }
        text += &self.defaults();
        for job in &self.strategy.jobs {
            if let Some(found) = self.found.iter().find(|found| found.name == job.name) {
                text += &self.job(job, found);
            }
        }
        text += &self.notify();
        text += "\n# What no machine can measure; with the day on which it was so, because it ages.\n\
                 # [checklist]\n\
                 # passphrase_copy = { place = \"an envelope in the safe\", on = \"2026-01-31\" }\n\
                 # rehearsed = { by = \"who followed the restore procedure\", on = \"2026-01-31\" }\n\
                 \n# [contacts]\n\
                 # dba = \"dba@example.org\"\n";
        text
    }

    fn notify(&self) -> String {
        if self.notified.is_empty() {
            let text = "\n# Who is told when something goes wrong: without one of these nobody is (--notify). Then `backup alerts \
                        prometheus` too.\n\
                        # [notify.ops]\n\
                        # webhook = { url = { file = \"/etc/backup/hook\" } }\n";
            return text.to_owned();
        }
        let mut text = "\n# Who is told when a run fails or is good again, an objective is missed, or a drill fails. What watches this\n\
                        # machine from outside tells when all of it is gone: `backup alerts prometheus`, or preset = \"healthchecks\".\n"
            .to_owned();
        for (at, notified) in self.notified.iter().enumerate() {
            text += &notified.table(at, self.host);
        }
        text
    }

    /// Whether a copy stands elsewhere.
    pub(crate) fn has_offsite(&self) -> bool {
        self.destinations.iter().any(|one| one.stands.site.as_deref().is_some_and(|site| site != self.site))
    }

    fn head(&self) -> String {
        let mut text = comment(
            "Proposed by `backup advise`. Each choice has its reason beside it: change what does not fit. `backup config \
             check` says whether it is right and reaches everything, and what would run when.",
        );
        text += "#\n# The words of other programs, and what is done here:\n";
        for term in TERMS {
            text += &comment(&format!("  {}: {}.", term.word, term.means));
        }
        text += "#\n# What the figures rest on:\n";
        for assumption in &self.strategy.assumptions {
            text += &comment(&format!("  {assumption}."));
        }
        text.push('\n');
        text
    }

    fn repository(&self, plan: &StorePlan, destination: &Destination) -> String {
        let mut text = "\n".to_owned();
        let has_classes = matches!(destination.place, Place::Bucket(_));
        for why in plan.class.because.iter().filter(|_| has_classes) {
            text += &comment(&format!("Class: {why}."));
        }
        match &plan.volume {
            Some(volume) => {
                text += &comment(&format!(
                    "Holds about {} after a year: {} at first, {} new in a month.",
                    amounts::size(volume.bytes_kept),
                    amounts::size(volume.bytes_first),
                    amounts::size(volume.bytes_month)
                ));
            }
            None => text += &comment("What it will hold is not estimated: not all sizes are known (--size NAME=SIZE)."),
        }
        if let (Some(cost), Some(currency)) = (plan.cost, self.currency) {
            text += &comment(&format!(
                "Costs about {:.2} {currency} a month (storage {:.2}, requests {:.2}, reading back {:.2}, early removal \
                 {:.2}), and a restore of everything {:.2}.",
                cost.month(),
                cost.storage,
                cost.requests,
                cost.reading,
                cost.early,
                cost.restore
            ));
        }
        text += &format!("[repositories.{}]\nurl = {}\n", plan.name, quoted(&destination.place.to_string()));
        text += "# A copy counts while it was read back in full within 35 days.\n";
        text += &format!("read_back = {}\n", quoted(&plan.read_back));
        if let Some(class) = &plan.class.class {
            text += &format!("storage_class = {}\n", quoted(class));
        }
        let stands = &destination.stands;
        for (key, value) in [("media", &stands.media), ("site", &stands.site)] {
            text.extend(value.iter().map(|value| format!("{key} = {}\n", quoted(value))));
        }
        if has_classes {
            text += "# Credentials come from the provider's usual chain, or from files, as access_key_id = { file = \"…\" }.\n";
        }
        text
    }

    fn defaults(&self) -> String {
        let names: Vec<_> = self.destinations.iter().map(|one| quoted(&one.name)).collect();
        let mut text = format!("\n[defaults]\nsite = {}\n", quoted(self.site));
        text +=
            "# Keep a second copy of the passphrase away from here: without it nobody reads anything, you included.\n";
        text += &format!("password_file = {}\n", quoted(&self.password_file.to_string_lossy()));
        text += &format!("repositories = [{}]\n", names.join(", "));
        if !self.has_offsite() {
            text += "# What happens to this site happens to all copies: name a place elsewhere (--offsite) and remove this.\n";
            text += "offsite = \"none: no place elsewhere was named to backup advise\"\n";
        }
        text += "# Once a month everything is read, whatever the backup before says: a file that changed without a trace is \
                 found then.\nread_again = \"0 0 1 * *\"\n";
        text
    }

    fn job(&self, job: &JobPlan, found: &Found) -> String {
        let mut text = "\n".to_owned();
        let size = job.bytes.map(|bytes| format!(", {}", amounts::size(bytes))).unwrap_or_default();
        text += &comment(&format!("{} ({}{size}).", capital(&found.named()), found.how));
        text += &comment(&format!("{}: {}.", capital(job.criticality.word()), job.because));
        text += &comment(&format!("How: {}.", job.kind.how()));
        text += &format!("[jobs.{}]\nsource = {}\n", job.name, source(found));
        if matches!(&found.what, What::Database { .. }) && found.bytes.is_none() {
            text += "# Its password: source = { url = \"…\", password = { file = \"…\" } }, or the engine's own file of passwords.\n";
        }
        let frequency = &job.frequency;
        if job.on_change {
            text += "# At every change, because it changes seldom and the last change matters most; watching takes `backup \
                     daemon`.\n# The schedule finds what watching has missed, and is all there is without the daemon.\n";
            text += "trigger = \"on-change\"\n";
        }
        text += &comment(&format!("{}.", capital(&frequency.because)));
        text += &comment(&format!(
            "If one run fails for good and the next does not: {}.",
            in_words(frequency.lost_with_one_failure)
        ));
        text += &format!("schedule = {}\n", quoted(&frequency.schedule));
        for (name, keeping) in &job.retention {
            text += &comment(&format!("In {name}: {}.", keeping.because));
        }
        let retention: Vec<_> =
            job.retention.iter().map(|(name, keeping)| format!("{name} = {}", rules(&keeping.rules))).collect();
        text += &format!("retention = {{ {} }}\n", retention.join(", "));
        let (loss, outage) = (length(job.bearable.loss), length(job.bearable.outage));
        text += &format!("objectives = {{ rpo = {}, rto = {} }}\n", quoted(&loss), quoted(&outage));
        text += &comment(&format!("{}.", capital(&job.drill_because)));
        text += &format!("drill = {{ schedule = {} }}\n", quoted(&job.drill));
        let rule = &job.three_two_one;
        if rule.answer != Answer::Yes {
            for finding in &rule.findings {
                text += &comment(&format!("3-2-1 lacks: {}; {}.", finding.what, finding.mend));
            }
        }
        text
    }
}

fn source(found: &Found) -> String {
    match &found.what {
        What::Database { text, .. } => quoted(text),
        What::Files { paths, exclude } => {
            let list = |texts: Vec<String>| format!("[{}]", texts.join(", "));
            let paths: Vec<_> = paths.iter().map(|path| quoted(&path.to_string_lossy())).collect();
            match (paths.as_slice(), exclude.is_empty()) {
                ([path], true) => path.clone(),
                (_, true) => format!("{{ files = {} }}", list(paths)),
                (_, false) => {
                    let exclude = exclude.iter().map(|pattern| quoted(pattern)).collect();
                    format!("{{ files = {}, exclude = {} }}", list(paths), list(exclude))
                }
            }
        }
    }
}

/// Rules as one line.
fn rules(rules: &Rules) -> String {
    let mut value = Value::try_from(rules).unwrap_or(Value::Table(toml::Table::new()));
    if let Value::Table(table) = &mut value
        && table.get("require").and_then(Value::as_str) == Some("present")
    {
        // What nobody has to say.
        table.remove("require");
    }
    value.to_string()
}

/// A length of time as a configuration reads it.
pub(crate) fn length(length: SignedDuration) -> String {
    let seconds = length.as_secs();
    match seconds {
        seconds if seconds % 86_400 == 0 && seconds >= 2 * 86_400 => format!("{}d", seconds / 86_400),
        seconds if seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        seconds if seconds % 60 == 0 => format!("{}min", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

/// A text as TOML spells it, in which no variable is put in.
pub(crate) fn quoted(text: &str) -> String {
    Value::String(text.replace("${", "$${")).to_string()
}

/// A comment, broken into lines. What is one line in it stays in one, so that nothing leaves the comment.
fn comment(text: &str) -> String {
    let text: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    let indent = text.len() - text.trim_start().len();
    let mut lines = String::new();
    let mut line = format!("# {}", " ".repeat(indent));
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.chars().count() + word.chars().count() + 1 > COLUMNS {
            lines += line.trim_end();
            lines.push('\n');
            line = format!("# {}", " ".repeat(indent));
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line += word;
        is_empty = false;
    }
    lines += line.trim_end();
    lines.push('\n');
    lines
}

/// The same with a capital letter before it, but for what is a path or a URL.
fn capital(text: &str) -> String {
    let is_word = text.split_whitespace().next().is_some_and(|word| word.chars().all(char::is_alphabetic));
    match text.chars().next().filter(|_| is_word) {
        Some(first) => first.to_uppercase().chain(text.chars().skip(1)).collect(),
        None => text.to_owned(),
    }
}
