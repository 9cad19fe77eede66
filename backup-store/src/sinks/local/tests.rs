//! What a local folder keeps of its promises, on a real file system.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use backup_core::testing::sink_suite;
use tempfile::TempDir;

use super::unsynced::{OBJECTS_MAX, Written};
use super::*;

/// Set for a test that runs once more as its own child process, to the folder that it works in.
const CHILD_FOLDER: &str = "BACKUP_STORE_TEST_CHILD_FOLDER";

fn sink() -> (TempDir, LocalSink) {
    let scratch = tempfile::tempdir().unwrap();
    let sink = LocalSink::create(scratch.path().join("my repository")).unwrap();
    (scratch, sink)
}

fn path(scratch: &TempDir) -> PathBuf {
    scratch.path().join("my repository")
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name.to_owned())
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn put(sink: &LocalSink, name: &str, content: impl Into<Bytes>) {
    block_on(sink.put(&key(name), content.into(), PutMode::Create)).unwrap();
}

fn try_put(sink: &LocalSink, name: &str, content: impl Into<Bytes>) -> Result<(), SinkErrorKind> {
    block_on(sink.put(&key(name), content.into(), PutMode::Create)).map_err(|error| error.kind)
}

fn names(sink: &LocalSink, prefix: &str) -> Vec<String> {
    let infos: Vec<_> = block_on(sink.list(prefix).try_collect()).unwrap();
    let mut names: Vec<_> = infos.into_iter().map(|info: ObjectInfo| info.key.as_str().to_owned()).collect();
    names.sort();
    names
}

/// Every file below the folder, unfinished ones too.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() { found.extend(files(&entry.path())) } else { found.push(entry.path()) }
    }
    found
}

fn mode(path: impl AsRef<Path>) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_local_sink_keeps_the_contract() {
    let scratch = tempfile::tempdir().unwrap();
    let stores = std::cell::Cell::new(0);
    sink_suite(|| {
        stores.set(stores.get() + 1);
        Arc::new(LocalSink::create(scratch.path().join(stores.get().to_string())).unwrap())
    });
    let leftover = files(scratch.path()).into_iter().find(|file| file.to_string_lossy().contains(".tmp~"));
    assert_eq!(leftover, None, "a temporary file was left");
}

#[test]
fn objects_are_read_only_files_for_their_owner_alone() {
    let (scratch, sink) = sink();
    put(&sink, "data/ab/abcd", "x");
    assert_eq!(mode(path(&scratch)), 0o700);
    assert_eq!(mode(path(&scratch).join("data/ab")), 0o700);
    assert_eq!(mode(path(&scratch).join("data/ab/abcd")), 0o400);
    assert_eq!(fs::read(path(&scratch).join("data/ab/abcd")).unwrap(), b"x");
}

#[test]
fn a_repository_whose_config_a_group_reads_is_shared_with_the_group() {
    let (scratch, sink) = sink();
    put(&sink, "config", "x");
    fs::set_permissions(path(&scratch).join("config"), fs::Permissions::from_mode(0o440)).unwrap();
    let sink = LocalSink::open(path(&scratch)).unwrap();
    put(&sink, "data/ab/abcd", "x");
    assert_eq!(mode(path(&scratch).join("data/ab/abcd")), 0o440);
    assert_eq!(mode(path(&scratch).join("data/ab")) & 0o750, 0o750);
}

#[test]
fn unfinished_and_foreign_files_are_not_listed() {
    let (scratch, sink) = sink();
    put(&sink, "data/ab/abcd", "x");
    let folder = path(&scratch).join("data/ab");
    for name in [".abcd.tmp~0123456789abcdef", "with space", "lost+found", "ä"] {
        fs::write(folder.join(name), "y").unwrap();
    }
    fs::write(folder.join(OsStr::from_bytes(b"\xff")), "y").unwrap();
    symlink("abcd", folder.join("link")).unwrap();
    symlink("..", folder.join("ring")).unwrap();
    symlink("nowhere", path(&scratch).join("broken")).unwrap();
    assert_eq!(names(&sink, ""), ["data/ab/abcd"]);
    for impossible in ["../my repository", "data/", "/", "data//ab", "data/./ab"] {
        assert!(names(&sink, impossible).is_empty(), "{impossible}");
    }
    let error = block_on(sink.get(&key("data/ab/link"), None)).unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::NotFound, "what is not listed is not read");
}

#[test]
fn a_repository_may_be_reached_through_symlinks() {
    let (scratch, _) = sink();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), path(&scratch).join("data")).unwrap();
    symlink(path(&scratch), scratch.path().join("link")).unwrap();
    let sink = LocalSink::open(scratch.path().join("link")).unwrap();
    put(&sink, "data/ab/abcd", "x");
    block_on(sink.sync()).unwrap();
    assert_eq!(names(&sink, ""), ["data/ab/abcd"]);
    assert_eq!(names(&sink, "data"), ["data/ab/abcd"]);
    assert!(elsewhere.path().join("ab/abcd").exists());
    assert!(sink.location().ends_with("/link"));
}

#[test]
fn what_cannot_be_opened_says_why() {
    let (scratch, sink) = sink();
    let open = |path: &Path| LocalSink::open(path).unwrap_err().kind;
    assert_eq!(open(&scratch.path().join("nowhere")), SinkErrorKind::NotFound);
    put(&sink, "config", "x");
    assert_eq!(open(&path(&scratch).join("config")), SinkErrorKind::Other);
    let create = LocalSink::create(path(&scratch).join("config")).unwrap_err();
    assert_eq!(create.kind, SinkErrorKind::AlreadyExists);
    assert!(create.subject.ends_with("my repository/config"));
}

#[test]
fn a_folder_that_was_deleted_is_not_an_empty_repository() {
    let (scratch, sink) = sink();
    fs::remove_dir_all(path(&scratch)).unwrap();
    let error = block_on(sink.list("snapshots").try_collect::<Vec<_>>()).unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::NotFound);
    assert_eq!(try_put(&sink, "data/ab/abcd", "x"), Err(SinkErrorKind::NotFound));
}

#[test]
fn a_put_that_was_given_up_changes_nothing_afterwards() {
    let (scratch, sink) = sink();
    let content = Bytes::from(vec![7; 4 << 20]);
    let mut given_up = 0;
    block_on(async {
        for number in 0..60_u64 {
            let wanted = key(&format!("data/ab/{number}"));
            let putting = sink.put(&wanted, content.clone(), PutMode::Create);
            given_up += u32::from(tokio::time::timeout(Duration::from_micros(number * 50), putting).await.is_err());
            let is_there = sink.stat(&wanted).await.is_ok();
            tokio::time::sleep(Duration::from_millis(8)).await;
            assert_eq!(sink.stat(&wanted).await.is_ok(), is_there, "an abandoned put was carried out later");
        }
    });
    assert!(given_up > 0, "no put was slow enough to be given up");
    assert!(files(&path(&scratch)).iter().all(|file| !file.to_string_lossy().contains(".tmp~")));
}

#[test]
fn puts_leave_no_more_than_so_many_objects_unsynced() {
    let (_scratch, sink) = sink();
    for number in 0..3 * OBJECTS_MAX {
        put(&sink, &format!("data/ab/{number}"), "x");
        assert!(sink.folder.unsynced().count() <= OBJECTS_MAX);
    }
    assert!(sink.folder.unsynced().count() > 0);
    block_on(sink.sync()).unwrap();
    assert_eq!(sink.folder.unsynced().count(), 0);
}

#[test]
fn an_object_that_cannot_be_made_durable_is_taken_away_and_the_sink_promises_nothing_more() {
    let (scratch, sink) = sink();
    put(&sink, "data/ab/kept", "x");
    // A pipe stands for a file on a disk that fails: neither can be synced.
    let add_pipe = |name: &str| {
        let pipe = path(&scratch).join(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let file = fs::File::options().read(true).write(true).open(&pipe).unwrap();
        sink.folder.unsynced().add(&sink.folder, Written { file, key: key(name) });
        pipe
    };
    let lost = add_pipe("lost");
    let replaced = add_pipe("replaced");
    fs::remove_file(&replaced).unwrap();
    fs::write(&replaced, "by somebody else").unwrap();
    for _ in 0..2 {
        let error = block_on(sink.sync()).unwrap_err();
        assert!(error.subject.ends_with("my repository/lost"), "{error}");
    }
    assert!(try_put(&sink, "data/ab/more", "x").is_err());
    assert!(!lost.exists());
    assert!(replaced.exists(), "what is not the file that was written was taken away");
    assert_eq!(names(&sink, "data"), ["data/ab/kept"]);
}

#[test]
fn old_leftovers_go_when_a_writer_has_come_by_them() {
    let (scratch, sink) = sink();
    put(&sink, "data/ab/abcd", "x");
    block_on(sink.sync()).unwrap();
    let leave = |name: &str, age_hours: u64| {
        let file = fs::File::create(path(&scratch).join("data/ab").join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age_hours * 3_600)).unwrap();
    };
    leave(".old.tmp~0123456789abcdef", 25);
    leave(".young.tmp~0123456789abcdef", 23);
    leave("foreign.tmp", 1_000);
    let present = || files(&path(&scratch)).len();
    assert_eq!(names(&sink, "data"), ["data/ab/abcd", "data/ab/foreign.tmp"]);
    block_on(sink.sync()).unwrap();
    assert_eq!(present(), 4, "a reader removes nothing");
    names(&sink, "data");
    put(&sink, "data/ab/abce", "x");
    block_on(sink.sync()).unwrap();
    assert!(!path(&scratch).join("data/ab/.old.tmp~0123456789abcdef").exists());
    assert_eq!(present(), 4);
}

#[test]
fn hard_links_stand_in_for_renames_that_do_not_replace() {
    let (scratch, sink) = sink();
    let place = |content: &str, mode| {
        let config = key("config");
        let (mut file, temporary) = sink.folder.create_temporary(&config).unwrap();
        std::io::Write::write_all(&mut file, content.as_bytes()).unwrap();
        temporary.place_by_link(&file, mode, &Gate::default()).map_err(|error| error.kind)
    };
    let content = || fs::read_to_string(path(&scratch).join("config")).unwrap();
    assert_eq!(place("one", PutMode::Create), Ok(()));
    assert_eq!(place("two", PutMode::Create), Err(SinkErrorKind::AlreadyExists));
    assert_eq!(content(), "one");
    assert_eq!(place("three", PutMode::Overwrite), Ok(()));
    assert_eq!(content(), "three");
    assert_eq!(files(&path(&scratch)).len(), 1);
}

/// Runs a test of this file once more in a process of its own, as an ordinary user, whom permissions bind.
fn child(name: &str, folder: &Path) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let program = std::env::current_exe().unwrap();
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.args(["--exact", &format!("sinks::local::tests::{name}")]);
    command.env(CHILD_FOLDER, folder).stdout(Stdio::null()).stderr(Stdio::inherit());
    command
}

#[test]
fn a_killed_writer_leaves_whole_objects_only() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        let sink = LocalSink::open(folder).unwrap();
        for number in 0.. {
            put(&sink, &format!("data/ab/{}-{number}", std::process::id()), vec![7; 1 << 20]);
        }
    }
    let (scratch, sink) = sink();
    put(&sink, "data/ab/first", vec![7; 1 << 20]);
    for folder in ["..", "", "data/ab"] {
        fs::set_permissions(path(&scratch).join(folder), fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::set_permissions(path(&scratch).join("data"), fs::Permissions::from_mode(0o755)).unwrap();
    for round in 0..8_u32 {
        let before = names(&sink, "data").len();
        let mut child = child("a_killed_writer_leaves_whole_objects_only", &path(&scratch)).spawn().unwrap();
        let began = std::time::Instant::now();
        while names(&sink, "data").len() == before {
            assert!(began.elapsed() < Duration::from_secs(120), "the child never came to put anything");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(u64::from(round) * 3));
        child.kill().unwrap();
        child.wait().unwrap();
        let infos: Vec<ObjectInfo> = block_on(sink.list("").try_collect()).unwrap();
        for info in infos {
            assert_eq!(info.bytes, 1 << 20, "{info:?} is a part");
        }
    }
}

#[test]
fn a_folder_that_may_not_be_written_says_so() {
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        let sink = LocalSink::open(folder).unwrap();
        assert_eq!(names(&sink, ""), ["data/ab/abcd"]);
        assert_eq!(try_put(&sink, "data/ab/abce", "x"), Err(SinkErrorKind::PermissionDenied));
        assert_eq!(try_put(&sink, "keys/a", "x"), Err(SinkErrorKind::PermissionDenied));
        let error = block_on(sink.delete(&key("data/ab/abcd"))).unwrap_err();
        assert_eq!(error.kind, SinkErrorKind::PermissionDenied);
        return;
    }
    let (scratch, sink) = sink();
    put(&sink, "data/ab/abcd", "x");
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for folder in ["", "data", "data/ab"] {
        fs::set_permissions(path(&scratch).join(folder), fs::Permissions::from_mode(0o555)).unwrap();
    }
    let output =
        child("a_folder_that_may_not_be_written_says_so", &path(&scratch)).stdout(Stdio::piped()).output().unwrap();
    for folder in ["", "data", "data/ab"] {
        fs::set_permissions(path(&scratch).join(folder), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

#[test]
#[ignore = "needs root and mount"]
fn a_full_and_a_read_only_file_system_say_so() {
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            Command::new("umount").arg(&self.0).status().unwrap();
        }
    }
    let mount = |arguments: &[&str], at: &Path| {
        assert!(Command::new("mount").args(arguments).arg(at).status().unwrap().success(), "mount {arguments:?}");
    };
    let scratch = tempfile::tempdir().unwrap();
    mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs"], scratch.path());
    let unmount = Unmount(scratch.path().to_owned());
    let sink = LocalSink::open(scratch.path()).unwrap();
    put(&sink, "data/ab/small", vec![1; 100_000]);
    assert_eq!(try_put(&sink, "data/ab/large", vec![1; 2 << 20]), Err(SinkErrorKind::NoSpace));
    assert_eq!(files(scratch.path()).len(), 1, "what did not fit left something");
    put(&sink, "data/ab/other", vec![1; 100_000]);
    block_on(sink.sync()).unwrap();
    mount(&["-o", "remount,ro"], scratch.path());
    assert_eq!(try_put(&sink, "data/ab/more", "x"), Err(SinkErrorKind::ReadOnly));
    let error = block_on(sink.delete(&key("data/ab/small"))).unwrap_err();
    assert_eq!(error.kind, SinkErrorKind::ReadOnly);
    assert_eq!(names(&sink, ""), ["data/ab/other", "data/ab/small"]);
    drop((sink, unmount));
}
