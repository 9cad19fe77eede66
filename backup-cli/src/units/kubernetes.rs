//! CronJobs for Kubernetes.
//!
//! One document in YAML for each, with every text spelled as JSON spells it, which YAML reads as it is: no name or path
//! can become a number, a truth or a comment.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Program, Timed};
use crate::exit::Failure;

/// What of a cluster the manifests name.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// The image that holds the program.
    pub(crate) image: String,
    /// The secret that holds the configuration and what it names; it is seen in the folder of the configuration.
    pub(crate) secret: String,
}

/// A CronJob for each.
///
/// # Errors
///
/// A day that Kubernetes has no words for, or a name that is too long for it.
pub(crate) fn text(cluster: &Cluster, program: &Program, timed: &[Timed], notes: &[String]) -> Result<String, Failure> {
    let mut text =
        "# Written by `backup schedule kubernetes`. What is to be backed up has to be mounted beside the secret.\n"
            .to_owned();
    for note in notes {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# {note}.");
    }
    let mut taken = Vec::new();
    for timed in timed {
        let plain = timed.schedule.plain().map_err(|error| {
            Failure::usage(format!("{}: {error}", timed.name), "let `backup daemon` run it, or name other days")
        })?;
        let name = name(&timed.name);
        if name.len() > NAME_BYTES_MAX || taken.contains(&name) {
            let what = format!("{}: {name} is no name for Kubernetes, being too long or there twice", timed.name);
            return Err(Failure::usage(
                what,
                format!("rename the job: small letters, digits and -, up to {NAME_BYTES_MAX}"),
            ));
        }
        text += &cron_job(cluster, program, timed, &name, &plain.cron(), plain.zone());
        taken.push(name);
    }
    Ok(text)
}

/// The controller adds eleven characters for each run, and a name has 63.
const NAME_BYTES_MAX: usize = 52;

fn name(job: &str) -> String {
    let letter = |character: char| match character.is_ascii_alphanumeric() {
        true => character.to_ascii_lowercase(),
        false => '-',
    };
    format!("backup-{}", job.chars().map(letter).collect::<String>().trim_matches('-'))
}

fn cron_job(cluster: &Cluster, program: &Program, timed: &Timed, name: &str, cron: &str, zone: Option<&str>) -> String {
    let zone = zone.map(|zone| format!("  timeZone: {}\n", quoted(zone))).unwrap_or_default();
    let mut words = vec![Value::from(program.path.to_string_lossy())];
    words.extend(program.command(timed).into_iter().skip(1).map(Value::from));
    // The delay of a job is its own and the same each time.
    let command = match timed.delay.as_secs() {
        0 => Value::from(words),
        seconds => {
            let script = format!("sleep {seconds}; exec \"$0\" \"$@\"");
            let shell = ["/bin/sh", "-c", &script].map(Value::from);
            Value::from(shell.into_iter().chain(words).collect::<Vec<_>>())
        }
    };
    let folder = program.config.parent().unwrap_or(&program.config).to_string_lossy().into_owned();
    let (image, secret) = (quoted(&cluster.image), quoted(&cluster.secret));
    // A run tries again by itself, and one that was missed by an hour is made up for by the next.
    format!(
        "---\n\
        apiVersion: batch/v1\n\
        kind: CronJob\n\
        metadata:\n\
        \x20 name: {name}\n\
        \x20 labels:\n\
        \x20   app.kubernetes.io/name: backup\n\
        spec:\n\
        \x20 schedule: {}\n\
        {zone}\
        \x20 concurrencyPolicy: Forbid\n\
        \x20 startingDeadlineSeconds: 3600\n\
        \x20 successfulJobsHistoryLimit: 3\n\
        \x20 failedJobsHistoryLimit: 7\n\
        \x20 jobTemplate:\n\
        \x20   spec:\n\
        \x20     backoffLimit: 0\n\
        \x20     template:\n\
        \x20       spec:\n\
        \x20         restartPolicy: Never\n\
        \x20         containers:\n\
        \x20           - name: backup\n\
        \x20             image: {image}\n\
        \x20             command: {command}\n\
        \x20             volumeMounts:\n\
        \x20               - name: config\n\
        \x20                 mountPath: {}\n\
        \x20                 readOnly: true\n\
        \x20         volumes:\n\
        \x20           - name: config\n\
        \x20             secret:\n\
        \x20               secretName: {secret}\n",
        quoted(cron),
        quoted(&folder),
    )
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::sample::{program, timed};
    use super::*;

    fn cluster() -> Cluster {
        Cluster { image: "registry.example.org/backup:1".to_owned(), secret: "backup-config".to_owned() }
    }

    fn written(timed: &[Timed]) -> Result<String, Failure> {
        text(&cluster(), &program(), timed, &[])
    }

    #[test]
    fn each_job_is_a_cron_job_in_its_zone() {
        let text = written(&[timed("app_DB", "0 2 * * *"), timed("uploads", "@hourly")]).unwrap();
        for line in [
            "  name: backup-app-db",
            "  schedule: \"0 2 * * *\"",
            "  timeZone: \"Europe/Paris\"",
            "              command: [\"/usr/bin/backup\",\"--config\",\"/etc/backup/backup.toml\",\"run\",\"app_DB\",\"--slot\"]",
            "                  mountPath: \"/etc/backup\"",
            "  name: backup-uploads",
            "  schedule: \"0 * * * *\"",
        ] {
            assert!(text.lines().any(|written| written == line), "{line}\n{text}");
        }
        assert_eq!(text.matches("---\n").count(), 2);
    }

    #[test]
    fn a_delay_is_slept_and_the_job_keeps_its_words() {
        let mut late = timed("app", "0 2 * * *");
        late.delay = SignedDuration::from_secs(90);
        let text = written(&[late]).unwrap();
        assert!(
            text.contains(r#"command: ["/bin/sh","-c","sleep 90; exec \"$0\" \"$@\"","/usr/bin/backup","--config","#),
            "{text}"
        );
    }

    #[test]
    fn names_that_kubernetes_would_refuse_are_refused_here() {
        let refused = |timed: &[Timed]| written(timed).unwrap_err().what;
        assert!(refused(&[timed(&"a".repeat(60), "0 2 * * *")]).contains("is no name for Kubernetes"));
        assert!(
            refused(&[timed("app.db", "0 2 * * *"), timed("app-db", "0 2 * * *")])
                .starts_with("app-db: backup-app-db is no name")
        );
        assert!(refused(&[timed("app", "0 2 L * *")]).starts_with("app: `0 2 L * *` has a day"));
    }
}
