//! `backup alerts`: rules that wake somebody, for what is configured.
//!
//! What is always true: a rule asks for figures that `backup_core::metrics` tells, and takes its thresholds from them
//! (the objective, the interval of the schedule) wherever they are among them, so that a changed configuration needs no
//! new rules. No rule is written for what is not configured. A figure that is not there fires only where it must: when all
//! of them are gone, those of a repository or of a copy are, and when a job that is drilled never was.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::config::{Config, Job};
use crate::exit::{Exit, Failure};
use crate::session::Session;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print alerting rules for Prometheus; it has to keep the label `job` that figures have (`honor_labels: true`)
    Prometheus,
}

pub(crate) fn run(command: &Command, session: &Session) -> Result<Exit, Failure> {
    let Command::Prometheus = command;
    let config = session.config()?;
    let rules = rules(&config);
    session.console.either(&json!({"text": rules}), || rules.trim_end().to_owned())?;
    Ok(Exit::Done)
}

/// One rule.
struct Rule {
    alert: &'static str,
    expr: String,
    /// How long it has to be so.
    lasts: &'static str,
    severity: &'static str,
    summary: &'static str,
    description: String,
}

/// The rules as a file for Prometheus.
pub(crate) fn rules(config: &Config) -> String {
    let mut text = format!(
        "# Written by `backup alerts prometheus` from {}.\n\
        # The scrape needs `honor_labels: true`: the label `job` of these figures is the backup's.\n\
        groups:\n\
        \x20 - name: backup\n\
        \x20   rules:\n",
        config.path.display()
    );
    for rule in all(config) {
        let Rule { alert, expr, lasts, severity, summary, description } = rule;
        text += &format!(
            "      - alert: {alert}\n\
            \x20       expr: {}\n\
            \x20       for: {lasts}\n\
            \x20       labels:\n\
            \x20         severity: {severity}\n\
            \x20       annotations:\n\
            \x20         summary: {}\n\
            \x20         description: {}\n",
            quoted(&expr),
            quoted(summary),
            quoted(&description),
        );
    }
    text
}

fn all(config: &Config) -> Vec<Rule> {
    let mut rules = vec![Rule {
        alert: "BackupFiguresAbsent",
        expr: "absent(backup_facts_timestamp)".to_owned(),
        lasts: "15m",
        severity: "critical",
        summary: "Nothing is heard of backups",
        description:
            "No figures of any repository come in: see whether the daemon runs, whether it is asked, and whether it \
            can read them."
                .to_owned(),
    }];
    let of_repository = |name: &str| format!("{{repository=\"{name}\"}}");
    // One that was away since the daemon began has no figure that could grow old.
    let unread = config.repositories.iter().filter(|repository| {
        config.repositories.len() > 1 && config.jobs.iter().any(|job| job.repositories.contains(&repository.name))
    });
    let unread = unread.map(|repository| {
        let of = of_repository(&repository.name);
        format!("(absent(backup_facts_timestamp{of}) unless on () absent(backup_facts_timestamp))")
    });
    let unread = unread.collect::<Vec<_>>().join(" or ");
    if !unread.is_empty() {
        rules.push(Rule {
            alert: "BackupRepositoryUnread",
            expr: unread,
            lasts: "15m",
            severity: "warning",
            summary: "{{ $labels.repository }} was never read",
            description: "Nobody knows how the copies in {{ $labels.repository }} are: see whether it can be reached."
                .to_owned(),
        });
    }
    rules.push(Rule {
        alert: "BackupFactsOld",
        expr: format!("time() - backup_facts_timestamp > {}", facts_seconds(config)),
        lasts: "15m",
        severity: "warning",
        summary: "{{ $labels.repository }} was not read lately",
        description:
            "What is known of {{ $labels.repository }} is {{ $value | humanizeDuration }} old: nobody knows how \
            the copies in it are."
                .to_owned(),
    });
    let is_scheduled = |job: &Job| job.starts.schedule().is_some();
    if config.jobs.iter().any(is_scheduled) {
        rules.extend(of_schedules());
    }
    rules.extend(of_objectives(config));
    if config.jobs.iter().any(|job| job.repositories.len() > 1) {
        rules.push(Rule {
            alert: "BackupCopyBehind",
            expr: "max by (job) (backup_recovery_point_timestamp) - on (job) group_right () max by (job, repository) \
                (backup_recovery_point_timestamp) > on (job) group_left () max by (job) (backup_schedule_interval_seconds)"
                .to_owned(),
            lasts: "1h",
            severity: "warning",
            summary: "{{ $labels.repository }} lacks backups of {{ $labels.job }}",
            description: "The copy in {{ $labels.repository }} is {{ $value | humanizeDuration }} behind another.".to_owned(),
        });
        let copies = config.jobs.iter().filter(|job| job.repositories.len() > 1).flat_map(|job| {
            job.repositories.iter().map(|repository| {
                let job = &job.name;
                // Before the first run there is none anywhere.
                format!(
                    "(absent(backup_recovery_point_timestamp{{job=\"{job}\",repository=\"{repository}\"}}) and on (job) \
                    backup_recovery_point_timestamp{{job=\"{job}\"}})"
                )
            })
        });
        rules.push(Rule {
            alert: "BackupCopyMissing",
            expr: copies.collect::<Vec<_>>().join(" or "),
            lasts: "1h",
            severity: "warning",
            summary: "No backup of {{ $labels.job }} is seen in {{ $labels.repository }}",
            description:
                "Another repository has backups of {{ $labels.job }}; {{ $labels.repository }} has none, or cannot be \
                read."
                    .to_owned(),
        });
    }
    rules.push(Rule {
        alert: "BackupNotThreeTwoOne",
        expr: "min by (job) (backup_321_compliant) == 0".to_owned(),
        lasts: "1h",
        severity: "warning",
        summary: "{{ $labels.job }} has not three copies on two media with one elsewhere",
        description: "`backup status {{ $labels.job }}` says which copy is missing and how to mend it.".to_owned(),
    });
    rules.extend(of_readings(config));
    rules.extend(of_drills(config));
    rules.extend(of_sizes());
    rules
}

fn of_schedules() -> Vec<Rule> {
    let interval = "max by (job) (backup_schedule_interval_seconds)";
    vec![
        Rule {
            alert: "BackupStale",
            // A late run is no news: an hourly one may be an hour late, and any other six.
            expr: format!(
                "time() - max by (job) (backup_last_success_timestamp) > on (job) ({interval} + clamp_max({interval}, 21600))"
            ),
            lasts: "5m",
            severity: "critical",
            summary: "{{ $labels.job }} has no new backup",
            description:
                "The newest backup of {{ $labels.job }} is {{ $value | humanizeDuration }} old, and its schedule \
            has asked for one since."
                    .to_owned(),
        },
        Rule {
            alert: "BackupNever",
            expr: format!("{interval} unless on (job) max by (job) (backup_last_success_timestamp)"),
            lasts: "1d",
            severity: "critical",
            summary: "{{ $labels.job }} was never backed up",
            description: "{{ $labels.job }} has a schedule, and no repository has a backup of it.".to_owned(),
        },
    ]
}

fn of_objectives(config: &Config) -> Vec<Rule> {
    let mut rules = Vec::new();
    if config.jobs.iter().any(|job| job.objectives.rpo.is_some()) {
        rules.push(Rule {
            alert: "BackupObjectiveMissed",
            expr: "max by (job) (backup_rpo_exposure_seconds{proof=\"present\"}) > on (job) max by (job) \
                (backup_rpo_objective_seconds)"
                .to_owned(),
            lasts: "5m",
            severity: "critical",
            summary: "More of {{ $labels.job }} would be lost than may be",
            description: "If {{ $labels.job }} were lost now, {{ $value | humanizeDuration }} of it would be gone."
                .to_owned(),
        });
    }
    if config.jobs.iter().any(|job| job.objectives.rto.is_some()) {
        rules.push(Rule {
            alert: "BackupRestoreTooSlow",
            expr: "max by (job) (backup_rto_measured_seconds) > on (job) max by (job) (backup_rto_objective_seconds)"
                .to_owned(),
            lasts: "5m",
            severity: "warning",
            summary: "A restore of {{ $labels.job }} takes longer than it may",
            description: "The last drill of {{ $labels.job }} took {{ $value | humanizeDuration }}.".to_owned(),
        });
    }
    rules
}

/// Of repositories that are to be read back: one that was not for as long as its copies count. One that never was has a
/// first slot to come, and until then counts for no copy, which has a rule of its own.
fn of_readings(config: &Config) -> Option<Rule> {
    let overdue =
        config.repositories.iter().filter(|repository| repository.read_back.is_some()).filter_map(|repository| {
            let jobs = config.jobs.iter().filter(|job| job.repositories.contains(&repository.name));
            let within = jobs.map(|job| job.standards.verified_within.as_secs()).min()?;
            let of = format!("{{repository=\"{}\"}}", repository.name);
            Some(format!("time() - min by (repository) (backup_verified_timestamp{of}) > {within}"))
        });
    let expr = overdue.collect::<Vec<_>>().join(" or ");
    (!expr.is_empty()).then(|| Rule {
        alert: "BackupNotReadBack",
        expr,
        lasts: "1d",
        severity: "warning",
        summary: "{{ $labels.repository }} was not read back for too long",
        description: "What lies unread may have rotted: `backup -r {{ $labels.repository }} check --read-data`."
            .to_owned(),
    })
}

fn of_drills(config: &Config) -> Vec<Rule> {
    let mut by_limit = BTreeMap::<(i64, Option<&str>), Vec<&str>>::new();
    for job in &config.jobs {
        let Some(drill) = &job.drill else { continue };
        let limit = (job.standards.drilled_within.as_secs(), drill.repository.as_deref());
        by_limit.entry(limit).or_default().push(&job.name);
    }
    if by_limit.is_empty() {
        return Vec::new();
    }
    let overdue = |((seconds, repository), jobs): (&(i64, Option<&str>), &Vec<&str>)| {
        // Names have no more than letters, digits, `-`, `_` and `.`.
        let jobs = format!("job=~\"{}\"", jobs.join("|").replace('.', "[.]"));
        let only = repository.map(|name| format!(",repository=\"{name}\"")).unwrap_or_default();
        // A copy that has not had its turn yet is no reason to wake anybody; one that fails its turn is, by the other rule.
        format!(
            "time() - max by (job, repository) (backup_drill_last_success_timestamp{{{jobs}{only}}}) > {seconds} or \
            (max by (job) (backup_copies{{{jobs}}}) unless on (job) max by (job) (backup_drill_last_success_timestamp))"
        )
    };
    vec![
        Rule {
            alert: "BackupDrillFailed",
            expr: "max by (job, repository) (backup_drill_result{result=~\"failed|not_run\"}) == 1".to_owned(),
            lasts: "1m",
            severity: "critical",
            summary: "The last drill of {{ $labels.job }} from {{ $labels.repository }} did not bring the data back",
            description: "`backup -r {{ $labels.repository }} drill {{ $labels.job }}` says why.".to_owned(),
        },
        Rule {
            alert: "BackupDrillOverdue",
            expr: by_limit.iter().map(overdue).collect::<Vec<_>>().join(" or "),
            lasts: "1d",
            severity: "warning",
            summary: "{{ $labels.job }} was not restored by a drill for too long\
                {{ with $labels.repository }}, from {{ . }}{{ end }}",
            description: "A backup that was never restored is a hope: `backup drill {{ $labels.job }}`.".to_owned(),
        },
    ]
}

fn of_sizes() -> Vec<Rule> {
    let usual = |kind: &str| format!("quantile_over_time(0.5, backup_bytes{{kind=\"{kind}\"}}[14d])");
    vec![
        Rule {
            alert: "BackupShrunk",
            expr: format!("backup_bytes{{kind=\"logical\"}} < 0.5 * {}", usual("logical")),
            lasts: "5m",
            severity: "critical",
            summary: "The newest backup of {{ $labels.job }} holds a fraction of what it did",
            description:
                "It holds {{ $value | humanize1024 }}B, less than half of what is usual: look at it before old \
                backups go."
                    .to_owned(),
        },
        Rule {
            alert: "BackupGrowing",
            // A gigabyte more than usual, and five times as much: what fills a repository before anybody looks.
            expr: format!(
                "backup_bytes{{kind=\"stored\"}} > 1073741824 + {usual} and backup_bytes{{kind=\"stored\"}} > 5 * {usual}",
                usual = usual("stored")
            ),
            lasts: "5m",
            severity: "warning",
            summary: "{{ $labels.repository }} grows faster than it did",
            description: "The newest backup of {{ $labels.job }} stored {{ $value | humanize1024 }}B in \
                {{ $labels.repository }}, many times the usual."
                .to_owned(),
        },
    ]
}

/// How old facts may be: the daemon reads them every quarter of an hour or so; where runs alone tell them, as old as the
/// longest time between two runs.
fn facts_seconds(config: &Config) -> i64 {
    let is_told_by_runs = config.metrics.textfile.is_some() || config.metrics.pushgateway.is_some();
    let by_daemon = config.daemon.facts_every.saturating_mul(4).max(SignedDuration::from_hours(1));
    let gaps = config.jobs.iter().filter_map(|job| job.starts.schedule());
    let longest = gaps.map(|schedule| schedule.longest_gap(jiff::Timestamp::UNIX_EPOCH)).max();
    match longest.filter(|_| is_told_by_runs) {
        Some(longest) => longest.saturating_add(SignedDuration::from_hours(6)).max(by_daemon).as_secs(),
        None => by_daemon.as_secs(),
    }
}

/// A text as JSON spells it, which YAML reads as it is.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
