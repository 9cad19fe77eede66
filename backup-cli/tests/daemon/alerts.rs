//! Rules for Prometheus, judged by its own tool: that they can be read, and when they fire.

use std::fs;
use std::path::PathBuf;

use crate::driver::World;
use crate::judge::agrees;

/// A world with a configuration in which everything that can be alerted on is there, and the rules for it in a file.
fn rules(metrics: &str) -> (World, PathBuf) {
    let world = World::new();
    let source = world.source().display().to_string();
    let (local, offsite) = (world.repository(), world.path().join("offsite"));
    let text = format!(
        "[repositories.local]\nurl = \"{}\"\nread_back = \"0 5 1 * *\"\n[repositories.offsite]\nurl = \"{}\"\n\
        [jobs.app]\nsource = \"{source}\"\nschedule = \"0 2 * * *\"\nrepositories = [\"local\", \"offsite\"]\n\
        offsite = \"none: a test\"\nobjectives = {{ rpo = \"26h\", rto = \"2h\" }}\ndrill = {{ schedule = \"0 5 * * 0\" }}\n{metrics}",
        local.display(),
        offsite.display(),
    );
    fs::write(world.path().join("backup.toml"), text).unwrap();
    let ran = world.run(["-c", "backup.toml", "alerts", "prometheus"]).succeeds();
    let path = world.path().join("backup.rules.yml");
    fs::write(&path, ran.out).unwrap();
    (world, path)
}

#[test]
fn no_rule_is_written_for_what_is_not_configured() {
    let world = World::new();
    let text = format!(
        "[repositories.local]\nurl = \"{}\"\n[jobs.app]\nsource = \"{}\"\noffsite = \"none: a test\"\n",
        world.repository().display(),
        world.source().display()
    );
    fs::write(world.path().join("backup.toml"), text).unwrap();
    let out = world.run(["-c", "backup.toml", "alerts", "prometheus"]).succeeds().out;
    for absent in [
        "BackupStale",
        "BackupObjectiveMissed",
        "BackupRestoreTooSlow",
        "BackupDrill",
        "BackupCopyBehind",
        "BackupCopyMissing",
        "BackupRepositoryUnread",
        "BackupNotReadBack",
    ] {
        assert!(!out.contains(absent), "{absent}");
    }
    assert!(out.contains("BackupFiguresAbsent") && out.contains("BackupNotThreeTwoOne"), "{out}");
}

#[test]
#[ignore = "needs promtool"]
fn prometheus_takes_the_rules() {
    let (_world, path) = rules("");
    let said = agrees("BACKUP_TEST_PROMTOOL", &["check", "rules", path.to_str().unwrap()]);
    assert!(said.contains("15 rules found"), "{said}");
}

#[test]
#[ignore = "needs promtool"]
fn each_rule_fires_when_it_should_and_is_still_when_all_is_well() {
    let (world, _rules) = rules("");
    let path = world.path().join("when.yml");
    fs::write(&path, WHEN).unwrap();
    agrees("BACKUP_TEST_PROMTOOL", &["test", "rules", path.to_str().unwrap()]);
}

#[test]
fn where_runs_alone_tell_facts_may_be_as_old_as_the_time_between_two() {
    let (_world, path) = rules("[metrics]\ntextfile = \"/var/lib/node/backup.prom\"\n");
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("time() - backup_facts_timestamp > 108000"), "{text}");
}

/// Hours of a job of every night: what Prometheus would have fetched, and what must fire then.
const WHEN: &str = r#"
rule_files: [backup.rules.yml]
evaluation_interval: 5m
tests:
  # All is well: the newest backup is of two hours before the end.
  - interval: 5m
    input_series:
      - series: 'backup_facts_timestamp{repository="local"}'
        values: '0+300x600'
      - series: 'backup_facts_timestamp{repository="offsite"}'
        values: '0+300x600'
      - series: 'backup_schedule_interval_seconds{job="app"}'
        values: '86400x600'
      - series: 'backup_last_success_timestamp{job="app",repository="local"}'
        values: '0x287 86400x288 172800x300'
      - series: 'backup_last_success_timestamp{job="app",repository="offsite"}'
        values: '0x287 86400x288 172800x300'
      - series: 'backup_recovery_point_timestamp{job="app",repository="local"}'
        values: '0x287 86400x288 172800x300'
      - series: 'backup_recovery_point_timestamp{job="app",repository="offsite"}'
        values: '0x287 86400x288 172800x300'
      - series: 'backup_rpo_objective_seconds{job="app"}'
        values: '93600x600'
      - series: 'backup_rpo_exposure_seconds{job="app",proof="present"}'
        values: '7200x600'
      - series: 'backup_rpo_exposure_seconds{job="app",proof="restored"}'
        values: '900000x600'
      - series: 'backup_rto_objective_seconds{job="app"}'
        values: '7200x600'
      - series: 'backup_rto_measured_seconds{job="app"}'
        values: '600x600'
      - series: 'backup_copies{job="app"}'
        values: '3x600'
      - series: 'backup_321_compliant{job="app"}'
        values: '1x600'
      - series: 'backup_drill_result{job="app",repository="local",result="passed"}'
        values: '1x600'
      - series: 'backup_drill_result{job="app",repository="local",result="failed"}'
        values: '0x600'
      - series: 'backup_drill_result{job="app",repository="local",result="not_run"}'
        values: '0x600'
      - series: 'backup_drill_last_success_timestamp{job="app",repository="local"}'
        values: '100000x600'
      - series: 'backup_verified_timestamp{job="app",repository="local"}'
        values: '100000x600'
      - series: 'backup_bytes{job="app",repository="local",kind="logical"}'
        values: '1000000x600'
      - series: 'backup_bytes{job="app",repository="local",kind="stored"}'
        values: '5000x600'
    alert_rule_test:
      - {eval_time: 50h, alertname: BackupFiguresAbsent}
      - {eval_time: 50h, alertname: BackupFactsOld}
      - {eval_time: 50h, alertname: BackupRepositoryUnread}
      - {eval_time: 50h, alertname: BackupCopyMissing}
      - {eval_time: 50h, alertname: BackupStale}
      - {eval_time: 50h, alertname: BackupNever}
      - {eval_time: 50h, alertname: BackupObjectiveMissed}
      - {eval_time: 50h, alertname: BackupRestoreTooSlow}
      - {eval_time: 50h, alertname: BackupCopyBehind}
      - {eval_time: 50h, alertname: BackupNotThreeTwoOne}
      - {eval_time: 50h, alertname: BackupNotReadBack}
      - {eval_time: 50h, alertname: BackupDrillFailed}
      - {eval_time: 50h, alertname: BackupDrillOverdue}
      - {eval_time: 50h, alertname: BackupShrunk}
      - {eval_time: 50h, alertname: BackupGrowing}
  # It stopped after its first night, and all else with it.
  - interval: 5m
    input_series:
      - series: 'backup_facts_timestamp{repository="local"}'
        values: '0x600'
      - series: 'backup_schedule_interval_seconds{job="app"}'
        values: '86400x600'
      - series: 'backup_schedule_interval_seconds{job="new"}'
        values: '86400x600'
      - series: 'backup_last_success_timestamp{job="app",repository="local"}'
        values: '0x600'
      - series: 'backup_recovery_point_timestamp{job="app",repository="local"}'
        values: '172800x600'
      - series: 'backup_recovery_point_timestamp{job="app",repository="offsite"}'
        values: '0x600'
      - series: 'backup_rpo_objective_seconds{job="app"}'
        values: '93600x600'
      - series: 'backup_rpo_exposure_seconds{job="app",proof="present"}'
        values: '900001x600'
      - series: 'backup_rto_objective_seconds{job="app"}'
        values: '7200x600'
      - series: 'backup_rto_measured_seconds{job="app"}'
        values: '7201x600'
      - series: 'backup_copies{job="app"}'
        values: '1x600'
      - series: 'backup_321_compliant{job="app"}'
        values: '0x600'
      - series: 'backup_drill_result{job="app",repository="local",result="failed"}'
        values: '1x600'
      - series: 'backup_verified_timestamp{job="app",repository="local"}'
        values: '-3000000x600'
      - series: 'backup_bytes{job="app",repository="local",kind="logical"}'
        values: '1000000x500 400000x100'
      - series: 'backup_bytes{job="app",repository="local",kind="stored"}'
        values: '5000x500 2000000000x100'
    promql_expr_test:
      - expr: count by (alertname) (ALERTS{alertstate="firing"})
        eval_time: 49h
        exp_samples:
          - {labels: '{alertname="BackupFactsOld"}', value: 1}
          - {labels: '{alertname="BackupRepositoryUnread"}', value: 1}
          - {labels: '{alertname="BackupStale"}', value: 1}
          - {labels: '{alertname="BackupNever"}', value: 1}
          - {labels: '{alertname="BackupObjectiveMissed"}', value: 1}
          - {labels: '{alertname="BackupRestoreTooSlow"}', value: 1}
          - {labels: '{alertname="BackupCopyBehind"}', value: 1}
          - {labels: '{alertname="BackupNotThreeTwoOne"}', value: 1}
          - {labels: '{alertname="BackupNotReadBack"}', value: 1}
          - {labels: '{alertname="BackupDrillFailed"}', value: 1}
          - {labels: '{alertname="BackupDrillOverdue"}', value: 1}
          - {labels: '{alertname="BackupShrunk"}', value: 1}
          - {labels: '{alertname="BackupGrowing"}', value: 1}
  # One repository was away ever since the daemon began.
  - interval: 5m
    input_series:
      - series: 'backup_facts_timestamp{repository="local"}'
        values: '0+300x600'
      - series: 'backup_recovery_point_timestamp{job="app",repository="local"}'
        values: '0+300x600'
    promql_expr_test:
      - expr: count by (alertname, job, repository) (ALERTS{alertstate="firing"})
        eval_time: 49h
        exp_samples:
          - {labels: '{alertname="BackupRepositoryUnread",repository="offsite"}', value: 1}
          - {labels: '{alertname="BackupCopyMissing",job="app",repository="offsite"}', value: 1}
  # Nothing comes in.
  - interval: 5m
    input_series: []
    alert_rule_test:
      - eval_time: 1h
        alertname: BackupFiguresAbsent
        exp_alerts:
          - exp_labels: {severity: critical}
            exp_annotations:
              summary: Nothing is heard of backups
              description: 'No figures of any repository come in: see whether the daemon runs, whether it is asked, and whether it can read them.'
"#;
