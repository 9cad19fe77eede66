//! The runbook: how to get the data back, for this very configuration, written for whoever has to do it at night.
//!
//! A document is made of facts and nothing else: what the configuration says, what the repositories hold, what drills
//! measured. It is rendered as Markdown and as one page of HTML.
//!
//! What is always true:
//!
//! * It holds no secret. It says where each secret is.
//! * It says how old its facts are, and of each figure whether it was measured, estimated or never measured.
//! * Its commands work on a machine that has nothing but this program, or restic, and the passphrase: they name places,
//!   not names of a configuration. [`restore_command`] is the one that a drill can execute.
//! * Every text of the configuration is escaped in what is rendered: a job may be called `<script>`.
//!
//! `backup runbook`, `backup advise` and drills of the runbook's own commands call it. It only thinks: `now` is a fact.

mod document;
mod facts;
mod html;
mod markdown;
mod matrix;
mod plain_tools;
mod prerequisites;
mod procedure;
#[cfg(test)]
mod sample;
mod scenarios;

pub use document::{Block, Document, Section, Span, Words};
pub use facts::{
    JobUnderRunbook, KnownFrom, Part, PartKind, ResticPlace, RunbookFacts, StoreFacts, Variable, recovery_order,
};
pub use html::{escaped, html};
pub use markdown::markdown;
pub use prerequisites::estimated;
pub use procedure::{RestoreCommand, Trouble, restore_command, stores_left};

/// Writes the runbook.
pub fn runbook(facts: &RunbookFacts) -> Document {
    let mut sections =
        vec![prerequisites::about(facts), prerequisites::prerequisites(facts), prerequisites::order(facts)];
    sections.extend(Trouble::ALL.map(|trouble| scenarios::section(trouble, facts)));
    sections.push(plain_tools::section(facts));
    sections.extend([matrix::section(facts), prerequisites::contacts(facts)]);
    Document { title: format!("Getting the data of {} back", facts.host), sections }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_for_each_scenario_what_to_type_and_how_long_it_took() {
        let page = markdown(&[runbook(&sample::facts())]);
        for words in [
            "# Getting the data of web-1 back",
            "the file /etc/backup/passphrase",
            "read -rs AWS\\_SECRET",
            "backup -r s3://acme/prod restore latest --job app-db --to postgres://backup@db.internal/app\n",
            "backup -r s3://acme/prod restore latest --job app-db --at '2026-01-31 14:00' --to postgres://backup@db.internal/app_restored\n",
            "--clean --to postgres://backup@db.internal/app\n",
            "Measured on 2026-11-22 05:00 UTC: data ready after 12 min, compared after 13 min (level 4)",
            "**Never measured**: no drill from this copy has passed.",
            "5. Room for what comes back, and servers that take it:",
            "MB, and as much again for a database's copy of its dump and for its indexes; a login that is a superuser, \
             because roles and their grants are made; on the server the packages of `pg_trgm`",
            "restic -r s3:s3.amazonaws.com/acme/prod restore latest --tag job:app-db --target /srv/restored/app-db",
            "pg_restore --jobs 4 --dbname app /srv/restored/app-db/postgres/app/dump",
            "| `app-db` | The host is lost | 26 h | 10 h | 60 min | 12 min | `offsite` |",
            "| `uploads` | The site or region is lost | 26 h | 10 h | 4 h | **never measured**",
            "**dba**: dba@example.org",
            "pg\\_dump 16.4",
        ] {
            let words = words.replace("AWS\\_SECRET", "AWS_SECRET");
            assert!(page.contains(&words), "{words}\n{page}");
        }
        let order = page.find("| 1 | `app-db`").unwrap();
        assert!(page[order..].contains("| 2 | `uploads`"), "the shorter objective comes first");
    }

    #[test]
    fn a_job_without_a_copy_elsewhere_is_lost_with_its_region_and_that_is_said() {
        let mut facts = sample::facts();
        facts.jobs[0].facts.copies.pop();
        let page = markdown(&[runbook(&facts)]);
        let region = &page[page.find("## The site or region is lost").unwrap()..];
        assert!(region.contains("**Mind:** No copy is left"), "{region}");
        assert!(
            page.contains(
                "| `app-db` | The site or region is lost | 26 h | **everything** | 60 min | **no copy** | - |"
            )
        );
    }

    #[test]
    fn nothing_that_a_configuration_says_is_markup() {
        let mut facts = sample::facts();
        let evil = "<script>alert(1)</script>\"'`|*x*".to_owned();
        facts.host.clone_from(&evil);
        facts.jobs[0].facts.job.clone_from(&evil);
        facts.repositories[0].place.clone_from(&evil);
        facts.repositories[0].name.clone_from(&evil);
        facts.contacts.push((evil.clone(), evil.clone()));
        facts.caveats.push(evil.clone());
        let page = html(&[runbook(&facts)]);
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
        assert!(
            !page.contains("http://") && !page.contains("https://") && !page.contains("src="),
            "nothing from elsewhere"
        );
    }
}
