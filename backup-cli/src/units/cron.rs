//! Lines for cron.

use std::fmt::Write as _;

use super::{Program, Timed};

/// A file for `/etc/cron.d` when there is a `user`, otherwise lines for `crontab -e`.
///
/// cron knows no zones but the machine's: the head says whose hours these are. What it cannot say of days is told where
/// the line would stand.
pub(crate) fn text(program: &Program, timed: &[Timed], notes: &[String], user: Option<&str>) -> String {
    let mut text = format!("# Written by `backup schedule cron` from {}.\n", program.config.display());
    let zone = timed.iter().find_map(|timed| timed.schedule.zone().iana_name());
    if let Some(zone) = zone {
        put(
            &mut text,
            &format!("# These hours are of {zone}; cron takes those of the machine. They must be the same."),
        );
    }
    for note in notes {
        put(&mut text, &format!("# {note}."));
    }
    for timed in timed {
        let plain = match timed.schedule.plain() {
            Ok(plain) => plain,
            Err(error) => {
                put(&mut text, &format!("# {}: {error}; use `backup daemon` for it.", timed.name));
                continue;
            }
        };
        let user = user.map(|user| format!("{user} ")).unwrap_or_default();
        let wait = match timed.delay.as_secs() {
            0 => String::new(),
            seconds => format!("sleep {seconds}; "),
        };
        let command = program.command(timed).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        put(&mut text, &format!("{} {user}{wait}{command} --quiet", plain.cron()));
    }
    text
}

fn put(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{line}");
}

/// A word for the shell that cron starts; cron itself takes `%` for the end of the line.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-=:,+@".contains(character);
    let quoted = match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    quoted.replace('%', r"\%")
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::sample::{program, timed};
    use super::*;

    #[test]
    fn each_job_is_a_line() {
        let mut later = timed("uploads", "@daily");
        later.delay = SignedDuration::from_secs(90);
        let jobs = [timed("app-db", "30 2 * * 1-5"), later];
        let text = text(&program(), &jobs, &["secrets runs on change".to_owned()], None);
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "30 2 * * 1,2,3,4,5 /usr/bin/backup --config /etc/backup/backup.toml run app-db --slot --quiet",
                "0 0 * * * sleep 90; /usr/bin/backup --config /etc/backup/backup.toml run uploads --slot --quiet",
            ]
        );
        assert!(text.contains("# secrets runs on change.\n"));
        assert!(text.contains("of Europe/Paris"));
    }

    #[test]
    fn a_file_for_the_system_names_the_user() {
        let text = text(&program(), &[timed("app", "0 2 * * *")], &[], Some("backup"));
        assert!(text.contains("\n0 2 * * * backup /usr/bin/backup --config"), "{text}");
    }

    #[test]
    fn what_cron_cannot_say_is_told_and_not_said_wrongly() {
        let text = text(&program(), &[timed("app", "0 2 L * *")], &[], None);
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
        assert!(text.contains("# app: `0 2 L * *` has a day that only this program's own scheduler knows"), "{text}");
    }

    #[test]
    fn a_path_that_the_shell_or_cron_would_read_otherwise_is_quoted() {
        for (word, as_written) in [
            ("/etc/backup.toml", "/etc/backup.toml"),
            ("/srv/my files/b.toml", "'/srv/my files/b.toml'"),
            ("/srv/100%/b", r"'/srv/100\%/b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), as_written);
        }
    }
}
