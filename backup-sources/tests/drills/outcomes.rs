//! Each way in which a drill of files can end.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use backup_core::cancel::Cancel;
use backup_core::contracts::{CheckResult, Level, NotReady, Question, Report, Sandbox, Trace};
use backup_core::drill::{
    DrillOutcome, DrillTask, Must, Restored, Restorer, StageName, Stopwatch, UserCheck, Verdict, drill_by,
};
use backup_core::observe::{Amount, Silent};
use backup_core::pipeline::RestoreOutcome;
use backup_core::repository::LockMode;
use backup_sources::sandbox::{FilesSandbox, Live, Meaning};
use jiff::{SignedDuration, Timestamp};

use super::meddler::Meddler;
use super::trial::{Trial, failed, reason};

#[test]
fn a_good_backup_passes_and_is_proven() {
    let trial = Trial::new();
    let outcome = trial.drill();
    assert_eq!(outcome.verdict, Verdict::Passed, "{outcome:?}");
    assert_eq!(outcome.level, Some(Level::Examined));
    assert!(outcome.is_proven());
    assert!(!outcome.not_tested.is_empty(), "an honest drill says what it did not look at");
    let restored = outcome.restored.as_ref().unwrap();
    assert_eq!((restored.files, restored.losses), (5, 0));
    assert!(outcome.technical().is_some() && outcome.technical() <= outcome.verified());
    let names: Vec<_> = outcome.stages.iter().map(|stage| stage.name).collect();
    assert!(names.contains(&StageName::Restore) && names.last() == Some(&StageName::Remove), "{names:?}");
    assert!(outcome.checks.iter().all(|check| check.result == CheckResult::Passed), "{:?}", outcome.checks);
}

#[test]
fn the_newest_trace_of_a_change_is_a_files_time_or_an_answer_and_none_of_what_is_not_as_it_was() {
    let trial = Trial::new();
    for (name, time) in [
        ("a folder/large", "2020-01-01T00:00:00Z"),
        ("a folder/small", "2021-01-01T00:00:00Z"),
        ("a folder/empty", "2199-01-01T00:00:00Z"),
        ("shut/inside", "2019-01-01T00:00:00Z"),
    ] {
        let time: Timestamp = time.parse().unwrap();
        File::open(trial.source.path().join(name)).unwrap().set_modified(time.into()).unwrap();
    }
    trial.back_up();
    let newest = |sandbox: Box<dyn Sandbox>, questions: &[UserCheck]| {
        let newest = trial.drill_in(sandbox, questions).newest;
        newest.map(|newest| (newest.time.to_string(), newest.from))
    };
    let of_files = Some(("2021-01-01T00:00:00Z".to_owned(), Trace::File));
    assert_eq!(newest(Box::new(trial.sandbox()), &[]), of_files, "one of the future is no witness");
    let asked = |answer: &str| {
        let question = Question::Program(["/bin/echo", answer].map(str::to_owned).to_vec());
        vec![UserCheck { name: None, question, must: Must::NotOlderThan(SignedDuration::MAX) }]
    };
    let newer = Some(("2022-01-01T00:00:00Z".to_owned(), Trace::Answer));
    assert_eq!(newest(Box::new(trial.sandbox()), &asked("2022-01-01 00:00:00")), newer);
    assert_eq!(newest(Box::new(trial.sandbox()), &asked("2018-01-01T00:00:00Z")), of_files);
    let altered = |folder: &Path| fs::write(folder.join("a folder/large"), "other").unwrap();
    let altered = Meddler::new(trial.sandbox(), trial.parent.path(), trial.source.path(), altered);
    assert_eq!(newest(Box::new(altered), &[]), None);
    let output = FilesSandbox::new(trial.parent.path().to_owned(), Meaning::Output);
    assert_eq!(newest(Box::new(output), &[]), None, "a command's output is as old as its backup");
}

#[test]
fn a_flipped_bit_in_a_pack_fails_the_drill_while_it_is_read() {
    let trial = Trial::new();
    let key = trial.packs().remove(0);
    let mut bytes = trial.sink.content(&key).unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    trial.sink.replace(key, bytes);
    let outcome = trial.drill();
    assert_eq!((outcome.verdict.word(), outcome.level), ("failed", Some(Level::Present)));
    assert_eq!(failed(&outcome), ["entries not restored"]);
    assert!(reason(&outcome).contains("large"), "it names the file: {}", reason(&outcome));
}

#[test]
fn a_flipped_bit_in_a_pack_of_folders_fails_the_drill_by_the_folder() {
    let trial = Trial::new();
    let key = trial.packs().pop().unwrap();
    let mut bytes = trial.sink.content(&key).unwrap().to_vec();
    // The first tree of it, whichever that is.
    bytes[20] ^= 1;
    trial.sink.replace(key, bytes);
    let outcome = trial.drill();
    assert_eq!((outcome.verdict.word(), outcome.level), ("failed", Some(Level::Present)), "{outcome:?}");
    assert_eq!(failed(&outcome), ["folders can be read"]);
}

#[test]
fn a_missing_or_cut_pack_fails_the_drill_before_anything_is_restored() {
    for cut in [false, true] {
        let trial = Trial::new();
        let key = trial.packs().remove(0);
        let bytes = trial.sink.remove(&key).unwrap();
        if cut {
            trial.sink.replace(key.clone(), bytes.slice(..bytes.len() - 1));
        }
        let outcome = trial.drill();
        assert_eq!((outcome.verdict.word(), outcome.level), ("failed", None));
        assert_eq!(failed(&outcome), ["blobs not in the store"]);
        assert!(reason(&outcome).contains(key.as_str()), "it names the pack: {}", reason(&outcome));
        assert!(outcome.restored.is_none() && outcome.sandbox.is_none());
    }
}

/// What a drill finds when somebody has meddled with what it restored.
fn meddled(meddling: impl FnOnce(&Path) + Send + 'static) -> DrillOutcome {
    let trial = Trial::new();
    let sandbox = Meddler::new(trial.sandbox(), trial.parent.path(), trial.source.path(), meddling);
    trial.drill_in(Box::new(sandbox), &[])
}

#[test]
fn whatever_is_not_as_it_was_backed_up_is_found_by_reading_it_again() {
    let keep_time = |path: &Path, change: &dyn Fn()| {
        let time = fs::metadata(path).unwrap().modified().unwrap();
        change();
        File::open(path).unwrap().set_modified(time).unwrap();
    };
    let outcome = meddled(move |folder| {
        let path = folder.join("a folder/large");
        keep_time(&path, &|| {
            let mut bytes = fs::read(&path).unwrap();
            bytes[2_000_000] ^= 1;
            fs::write(&path, bytes).unwrap();
        });
    });
    assert_eq!((outcome.verdict.word(), outcome.level), ("failed", Some(Level::Restored)));
    assert_eq!(failed(&outcome), ["contents of files"], "{outcome:?}");
    assert!(reason(&outcome).contains("a folder/large"), "{}", reason(&outcome));

    let outcome = meddled(|folder| fs::remove_file(folder.join("link")).unwrap());
    assert!(failed(&outcome).contains(&"entries with their metadata"), "{outcome:?}");
    let outcome = meddled(|folder| fs::write(folder.join("more"), "").unwrap());
    assert!(failed(&outcome).contains(&"entries that the snapshot does not have"), "{outcome:?}");
    let outcome = meddled(|folder| {
        fs::set_permissions(folder.join("a folder/empty"), fs::Permissions::from_mode(0o777)).unwrap();
    });
    assert_eq!(failed(&outcome), ["entries with their metadata"]);
    let outcome = meddled(|folder| {
        fs::remove_file(folder.join("link")).unwrap();
        symlink("elsewhere", folder.join("link")).unwrap();
    });
    assert!(reason(&outcome).contains("points elsewhere"), "{}", reason(&outcome));
    let outcome = meddled(|folder| {
        fs::remove_file(folder.join("other name")).unwrap();
        fs::copy(folder.join("a folder/small"), folder.join("other name")).unwrap();
    });
    assert_eq!(failed(&outcome), ["entries with their metadata"], "a hard link that became a copy: {outcome:?}");
}

#[test]
fn too_little_space_is_known_before_anything_is_made() {
    let parent = tempfile::tempdir().unwrap();
    let mut sandbox = FilesSandbox::new(parent.path().to_owned(), Meaning::Data);
    let ended = sandbox.start(Amount { items: 1, bytes: u64::MAX / 2 }, &Cancel::new());
    assert!(matches!(&ended, Err(NotReady::CannotRun { reason, .. }) if reason.starts_with("disk: ")), "{ended:?}");
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

/// A drill whose restore is done, or not, by others.
fn by_others(restorer: &mut Restorer<'_>) -> DrillOutcome {
    let trial = Trial::new();
    let (id, snapshot) = trial.latest();
    let task = DrillTask {
        repository: &trial.repository,
        id,
        snapshot: &snapshot,
        part: None,
        report: &Report::default(),
        questions: &[],
        lock: LockMode::None,
    };
    let sandbox = Box::new(trial.sandbox());
    drill_by(&task, sandbox, Some(restorer), Stopwatch::begin(), &Cancel::new(), &Silent)
}

#[test]
fn a_command_without_space_has_not_run_and_one_that_fails_otherwise_has_failed() {
    const FULL: &str = "write /a: No space left on device (os error 28)";
    let ended = |reason: &str| by_others(&mut |_, _| Err(Verdict::Failed { reason: reason.to_owned() }));
    let outcome = ended(FULL);
    assert_eq!((outcome.verdict.word(), failed(&outcome)), ("not_run", vec![]), "{outcome:?}");
    assert!(reason(&outcome).starts_with("disk: "), "{outcome:?}");
    let outcome = ended("the runbook's command ended with 2: --too is not known");
    assert_eq!((outcome.verdict.word(), failed(&outcome)), ("failed", vec!["runbook's command restores"]));

    let lost = |problem: &str| {
        let restored = Restored {
            outcome: RestoreOutcome { losses: 1, ..RestoreOutcome::default() },
            command: "backup restore".to_owned(),
            problems: vec![problem.to_owned()],
            warnings: vec!["a role was there".to_owned()],
        };
        by_others(&mut |_, _| Ok(restored.clone()))
    };
    let outcome = lost(FULL);
    assert_eq!((outcome.verdict.word(), failed(&outcome)), ("not_run", vec![]), "{outcome:?}");
    let outcome = lost("read /a: a blob is damaged");
    assert_eq!((outcome.verdict.word(), failed(&outcome)), ("failed", vec!["entries not restored"]));
    assert!(reason(&outcome).contains("a blob is damaged"), "{outcome:?}");
    assert_eq!(outcome.warnings, ["a role was there"]);
}

#[test]
fn a_folder_that_is_not_there_means_that_the_drill_has_not_run() {
    let trial = Trial::new();
    let sandbox = FilesSandbox::new(trial.parent.path().join("nowhere"), Meaning::Data);
    let outcome = trial.drill_in(Box::new(sandbox), &[]);
    assert_eq!((outcome.verdict.word(), outcome.level), ("not_run", Some(Level::Present)));
}

fn question(program: &str, must: Must) -> UserCheck {
    let words = ["/bin/sh", "-c", program].map(str::to_owned).to_vec();
    UserCheck { name: None, question: Question::Program(words), must }
}

#[test]
fn programs_of_the_user_are_asked_beside_the_restored_files() {
    let trial = Trial::new();
    let inside = trial.source.path().strip_prefix("/").unwrap().join("a folder/small");
    let cat = format!("cat '{}'", inside.display());
    let right = question(&cat, Must::Equal("small".to_owned()));
    let outcome = trial.drill_in(Box::new(trial.sandbox()), std::slice::from_ref(&right));
    assert_eq!((outcome.verdict.word(), outcome.level), ("passed", Some(Level::Asked)), "{outcome:?}");
    let silent = question("true", Must::Hold);
    assert_eq!(trial.drill_in(Box::new(trial.sandbox()), &[silent]).level, Some(Level::Asked));
    for wrong in [question(&cat, Must::Equal("large".to_owned())), question("exit 3", Must::Hold)] {
        let outcome = trial.drill_in(Box::new(trial.sandbox()), &[right.clone(), wrong]);
        assert_eq!((outcome.verdict.word(), outcome.level), ("failed", Some(Level::Examined)), "{outcome:?}");
        assert!(!outcome.is_proven() && !outcome.told.is_empty());
    }
    let sql = UserCheck { name: None, question: Question::Sql("select 1".to_owned()), must: Must::Hold };
    assert_eq!(trial.drill_in(Box::new(trial.sandbox()), &[sql]).verdict.word(), "failed");
}

#[test]
fn a_program_sees_nothing_of_the_callers_environment() {
    let trial = Trial::new();
    let script = "env | grep -vE '^(PATH|LC_ALL|TZ|HOME|PWD|_|SHLVL|OLDPWD|BACKUP_DRILL|BACKUP_RESTORED)=' | wc -l";
    let outcome = trial.drill_in(Box::new(trial.sandbox()), &[question(script, Must::Equal("0".to_owned()))]);
    assert_eq!(outcome.verdict, Verdict::Passed, "{:?}", outcome.told);
}

#[test]
fn a_program_reads_all_that_was_restored_as_a_uid_of_its_own_and_reaches_nothing_else() {
    let (trial, elsewhere) = (Trial::new(), tempfile::tempdir().unwrap());
    let (small, prey) = (trial.source.path().join("a folder/small"), elsewhere.path().join("prey"));
    fs::write(&prey, "x").unwrap();
    fs::set_permissions(&small, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    trial.back_up();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let script = format!(
        "cat '{}' && id -u && ionice && touch \"$HOME/x\" && echo home; \
         bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}' 2>&- && echo network; [ -r '{}' ] && echo file; touch x 2>&- && echo x; true",
        small.strip_prefix("/").unwrap().display(),
        listener.local_addr().unwrap().port(),
        prey.display()
    );
    // An answer that is not what it must be is told to a person.
    let outcome = trial.drill_in(Box::new(trial.sandbox()), &[question(&script, Must::Equal("told".to_owned()))]);
    let told = outcome.told.join("\n");
    assert!(told.contains("small") && told.contains("\\nidle\\nhome"), "{told}");
    let is_root = rustix::process::geteuid().is_root();
    assert!(!told.contains("small0\\n"), "{told}");
    let isolation = outcome.sandbox.unwrap().isolation.join("\n");
    assert!(isolation.contains("\ncommands: ") && isolation.contains("own uid ") == is_root, "{isolation}");
    let has_walls = isolation.contains("no network");
    assert_eq!(["network", "file"].map(|reached| told.contains(reached)), [!has_walls; 2], "{told}");
    assert_eq!(told.contains("\\nx"), !is_root && !has_walls, "{told}");
    // That a program is not to be seen there says nothing of the backup.
    let unseen = trial.drill_in(Box::new(trial.sandbox()), &[question("/nowhere/check", Must::Hold)]);
    let (verdict, told) = (unseen.verdict.word(), unseen.told.join("\n"));
    assert_eq!(verdict, if has_walls { "not_run" } else { "failed" }, "{told}");
    assert_eq!(told.contains("sandbox.shown") || format!("{:?}", unseen.verdict).contains("sandbox.shown"), has_walls);
}

#[test]
fn the_output_of_a_command_is_proven_by_a_question_only() {
    let trial = Trial::new();
    let sandbox = || Box::new(FilesSandbox::new(trial.parent.path().to_owned(), Meaning::Output));
    let unasked = trial.drill_in(sandbox(), &[]);
    assert_eq!((unasked.verdict.word(), unasked.level), ("not_run", Some(Level::Restored)));
    let asked = trial.drill_in(sandbox(), &[question("true", Must::Hold)]);
    assert!(asked.is_proven(), "{asked:?}");
}

#[test]
fn a_sample_is_compared_with_the_live_source_and_a_change_since_is_no_failure() {
    let trial = Trial::new();
    let outcome = |began: Timestamp| {
        let sandbox = trial.sandbox().with_live(Live::new("/".into(), began));
        let outcome = trial.drill_in(Box::new(sandbox), &[]);
        let check = outcome.checks.iter().find(|check| check.id == "sample of the live source").unwrap().clone();
        (outcome.verdict.word(), check.result, check.detail.unwrap_or_default())
    };
    // As if the backup had begun much later than the files were written.
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let (verdict, result, told) = outcome(later);
    assert_eq!((verdict, result), ("passed", CheckResult::Passed), "{told}");
    // The files were touched after the backup began: nothing can be said of them.
    let (verdict, result, _) = outcome(Timestamp::UNIX_EPOCH);
    assert_eq!((verdict, result), ("passed", CheckResult::NotTested));
    // Nobody has touched it since, and it is not what was backed up: the backup has read it wrongly.
    fs::write(trial.source.path().join("a folder/large"), "something else").unwrap();
    let (verdict, result, told) = outcome(later);
    assert_eq!((verdict, result), ("failed", CheckResult::Failed), "{told}");
    assert!(told.contains("a folder/large"), "{told}");
}
