//! Units for systemd.

use super::{Program, Timed};
use crate::exit::Failure;

/// A unit file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its name: `backup-app-db.timer`.
    pub(crate) name: String,
    /// What it says.
    pub(crate) text: String,
}

/// A service and a timer for each.
///
/// # Errors
///
/// A day that systemd has no words for.
pub(crate) fn units(program: &Program, timed: &[Timed]) -> Result<Vec<Unit>, Failure> {
    let mut units = Vec::new();
    for timed in timed {
        let plain = timed.schedule.plain().map_err(|error| {
            Failure::usage(format!("{}: {error}", timed.name), "let `backup daemon` run it, or name other days")
        })?;
        let calendar: String = plain.on_calendar().iter().map(|slot| format!("OnCalendar={slot}\n")).collect();
        units.push(Unit { name: format!("backup-{}.service", timed.name), text: service(program, timed) });
        units.push(Unit { name: format!("backup-{}.timer", timed.name), text: timer(timed, &calendar) });
    }
    Ok(units)
}

/// A run has as long as it takes, lets others go first, and keeps its cache and its state where systemd keeps them: a
/// service has no home folder.
fn service(program: &Program, timed: &Timed) -> String {
    let command = program.command(timed).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    // The delay of a job is its own and the same each time, which a timer has no word for.
    let wait = match timed.delay.as_secs() {
        0 => String::new(),
        seconds => format!("ExecStartPre=/bin/sleep {seconds}\n"),
    };
    format!(
        "[Unit]\n\
        Description={}\n\
        Documentation=man:backup(1)\n\
        Wants=network-online.target\n\
        After=network-online.target\n\
        \n\
        [Service]\n\
        Type=oneshot\n\
        {wait}\
        ExecStart={command}\n\
        Nice=10\n\
        TimeoutStartSec=infinity\n\
        NoNewPrivileges=true\n\
        CacheDirectory=backup\n\
        StateDirectory=backup\n\
        Environment=XDG_CACHE_HOME=%C XDG_STATE_HOME=%S\n",
        escaped(&timed.description),
    )
}

/// `Persistent`: what was missed while the machine was off is made up for once.
fn timer(timed: &Timed, calendar: &str) -> String {
    format!(
        "[Unit]\n\
        Description={}, when it is due\n\
        \n\
        [Timer]\n\
        {calendar}\
        Persistent=true\n\
        AccuracySec=1s\n\
        \n\
        [Install]\n\
        WantedBy=timers.target\n",
        escaped(&timed.description),
    )
}

/// A word of a command line, as systemd reads it.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/._-=:,+@".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let inside = word.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{inside}\"")
}

/// A text in which `%` begins nothing.
fn escaped(text: &str) -> String {
    text.replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::sample::{program, timed};
    use super::*;

    #[test]
    fn each_job_is_a_service_and_a_timer_in_its_zone() {
        let mut job = timed("app-db", "0 3 13 * FRI");
        job.delay = SignedDuration::from_secs(90);
        let units = units(&program(), &[job]).unwrap();
        assert_eq!(units[0].name, "backup-app-db.service");
        assert!(units[0].text.contains(
            "\nExecStartPre=/bin/sleep 90\nExecStart=/usr/bin/backup --config /etc/backup/backup.toml run app-db --slot\n"
        ));
        assert_eq!(units[1].name, "backup-app-db.timer");
        // Cron takes either sort of day.
        assert!(units[1].text.contains(
            "\nOnCalendar=Fri *-*-* 03:00:00 Europe/Paris\nOnCalendar=*-*-13 03:00:00 Europe/Paris\nPersistent=true\n"
        ));
    }

    #[test]
    fn what_systemd_cannot_say_is_an_error_that_names_the_job() {
        let failure = units(&program(), &[timed("app", "0 2 * * FRI#L")]).unwrap_err();
        assert_eq!(failure.exit as u8, 2);
        assert!(failure.what.starts_with("app: `0 2 * * FRI#L` has a day"), "{}", failure.what);
    }

    #[test]
    fn what_systemd_would_read_otherwise_is_quoted() {
        for (word, as_written) in [
            ("/etc/backup.toml", "/etc/backup.toml"),
            ("/srv/my files", "\"/srv/my files\""),
            (r#"a"b\c"#, r#""a\"b\\c""#),
            ("100%", "\"100%%\""),
            ("$HOME", "\"$$HOME\""),
        ] {
            assert_eq!(quoted(word), as_written);
        }
    }
}
