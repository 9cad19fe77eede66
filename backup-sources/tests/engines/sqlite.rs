//! SQLite: any journal mode, with and without writers, into an empty place and over what is there.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock, SystemClock};
use backup_core::contracts::{Consistency, Content, ContentReader, Entry, Expectation, Source as _, SourceEvent};
use backup_core::model::{Metadata, Node, NodeKind};
use backup_core::testing::source_suite;
use backup_sources::databases::sqlite::{Check, Existing, SqliteOptions, SqliteSource, SqliteTarget, Users, observe};
use rusqlite::{Connection, params};
use tempfile::{TempDir, tempdir};

use crate::repository::{Repo, words};

/// What each write keeps true: the two tables always have equally many rows, and equal sums.
const ZOO: &str = "
    PRAGMA user_version = -7; PRAGMA application_id = 252006673;
    CREATE TABLE left_side(id INTEGER PRIMARY KEY, amount INTEGER, filler BLOB);
    CREATE TABLE right_side(id INTEGER PRIMARY KEY, amount INTEGER, filler BLOB);
    CREATE TABLE \"odd \"\"name\"\" of a table\"(\"a column\" TEXT COLLATE NOCASE UNIQUE) STRICT;
    CREATE TABLE without_rowid(key TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE generated(a INTEGER, b INTEGER GENERATED ALWAYS AS (a * 2) STORED, CHECK (a > 0));
    CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, what REFERENCES without_rowid(key));
    CREATE INDEX partial ON left_side(amount) WHERE amount > 10;
    CREATE VIEW both_sides AS SELECT * FROM left_side UNION ALL SELECT * FROM right_side;
    CREATE TRIGGER keeps AFTER INSERT ON generated BEGIN INSERT INTO counted(what) VALUES (NULL); END;
    CREATE VIRTUAL TABLE words USING fts5(text);
    INSERT INTO words VALUES ('the quick brown fox'), ('jumps');
    INSERT INTO \"odd \"\"name\"\" of a table\" VALUES ('ä'), (NULL), ('');
    INSERT INTO without_rowid VALUES ('k', 1.5), ('l', x'00ff');
    INSERT INTO generated(a) VALUES (1), (2), (3);";

pub(crate) struct Database {
    folder: TempDir,
    path: PathBuf,
}

impl Database {
    pub(crate) fn new(journal: &str, rows: u32) -> Self {
        let folder = tempdir().unwrap();
        let path = folder.path().join("app.db");
        let database = Self { folder, path };
        let connection = database.connect();
        connection.pragma_update(None, "journal_mode", journal).unwrap();
        connection.execute_batch(ZOO).unwrap();
        write(&connection, rows);
        database
    }

    pub(crate) fn connect(&self) -> Connection {
        let connection = Connection::open(&self.path).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection
    }

    pub(crate) fn source(&self) -> SqliteSource {
        self.source_with(Check::Full)
    }

    /// Copied into `spool` first.
    pub(crate) fn source_by(&self, spool: &Path) -> SqliteSource {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        SqliteSource::open(&self.path, &SqliteOptions::new(spool), &clock).unwrap()
    }

    fn source_with(&self, check: Check) -> SqliteSource {
        let options = SqliteOptions { check, ..SqliteOptions::new(self.folder.path()) };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        SqliteSource::open(&self.path, &options, &clock).unwrap()
    }
}

/// One transaction that adds `rows` rows to each side.
fn write(connection: &Connection, rows: u32) {
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    for row in 0..rows {
        for side in ["left_side", "right_side"] {
            let sql = format!("INSERT INTO {side}(amount, filler) VALUES (?1, randomblob(200))");
            connection.prepare_cached(&sql).unwrap().execute(params![row]).unwrap();
        }
    }
    connection.execute_batch("COMMIT").unwrap();
}

/// Writes small transactions until it is dropped, and remembers how long one had to wait.
struct Writer {
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<Duration>>,
}

impl Writer {
    fn new(database: &Database, pause: Duration) -> Self {
        let (stop, commits) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (connection, stopped, committed) = (database.connect(), Arc::clone(&stop), Arc::clone(&commits));
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                write(&connection, 3);
                longest = longest.max(began.elapsed());
                committed.fetch_add(1, Ordering::Relaxed);
                thread::sleep(pause);
            }
            longest
        });
        Self { stop, commits, thread: Some(thread) }
    }

    fn stop(mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Restores the newest snapshot of `app.db` to a new file.
fn restored(repo: &Repo, folder: &Path) -> PathBuf {
    let path = folder.join("restored.db");
    let target = SqliteTarget::new(path.clone(), Existing::Refuse, Users::Refuse);
    let outcome = repo.restore("/sqlite/app.db", &target).unwrap();
    assert_eq!(outcome.losses, 0);
    path
}

fn without_image(expectations: &[Expectation]) -> Vec<Expectation> {
    expectations.iter().filter(|expected| expected.kind != "image").cloned().collect()
}

fn assert_sides_agree(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT (SELECT count(*) || '/' || sum(amount) FROM left_side),
        (SELECT count(*) || '/' || sum(amount) FROM right_side)";
    let (left, right): (String, String) = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(left, right, "half a transaction came back");
}

#[test]
fn a_quiet_database_comes_back_page_by_page_in_every_journal_mode() {
    for journal in ["wal", "delete", "truncate", "persist", "memory", "off"] {
        let database = Database::new(journal, 2_000);
        let open = database.connect();
        if journal == "wal" {
            write(&open, 10);
            assert!(fs::metadata(database.path.with_extension("db-wal")).unwrap().len() > 0, "the log is in use");
        }
        let repo = Repo::new();
        let report = repo.back_up(&mut database.source()).unwrap().report;
        assert_eq!(report.warnings, Vec::<String>::new());
        assert_eq!(report.consistency, Consistency::Transactional);
        let path = restored(&repo, database.folder.path());
        assert_eq!(
            observe(&path, Check::Full).unwrap(),
            (without_image(&report.expectations), Vec::new()),
            "{journal}"
        );
        assert_sides_agree(&path);
        let (left, right) = (Connection::open(&path).unwrap(), database.connect());
        for pragma in ["user_version", "application_id", "page_size", "encoding", "auto_vacuum"] {
            let ask = |connection: &Connection| -> String {
                connection
                    .query_row(&format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}"), [], |row| row.get(0))
                    .unwrap()
            };
            assert_eq!(ask(&left), ask(&right), "{journal}: {pragma}");
        }
        let manifest = repo.manifest("/sqlite/app.db");
        assert_eq!(manifest.details["user_version"], -7);
        let kept = if journal == "wal" { "wal" } else { "rollback" };
        assert_eq!(manifest.details["journal_mode"], kept);
        assert_eq!(manifest.report, report);
        assert_eq!(
            left.query_row("SELECT count(*) FROM words WHERE words MATCH 'fox'", [], |row| row.get::<_, u32>(0)),
            Ok(1)
        );
    }
}

/// The one file of a source, opened, and the rest of the walk.
fn open_image(source: &mut SqliteSource) -> (Box<dyn ContentReader>, Box<dyn Content>) {
    let (mut image, mut manifest) = (None, None);
    while let Some(step) = source.next().unwrap() {
        let SourceEvent::Entry(Entry { mut node, content: Some(content) }) = step else { continue };
        match &*node.name {
            b"manifest.json" => manifest = Some(content),
            _ => image = Some(content.open(&mut node).unwrap()),
        }
    }
    (image.unwrap(), manifest.unwrap())
}

fn read_to_end(reader: &mut dyn ContentReader, bytes: &mut Vec<u8>) {
    let mut buffer = vec![0; 100_000];
    loop {
        match reader.read(&mut buffer).unwrap() {
            0 => return,
            length => bytes.extend_from_slice(&buffer[..length]),
        }
    }
}

#[test]
fn what_is_written_and_checkpointed_while_the_image_is_read_is_not_in_it_and_waits_for_nothing() {
    let database = Database::new("wal", 2_000);
    let connection = database.connect();
    write(&connection, 5);
    let before = observe(&database.path, Check::Off).unwrap().0;

    let mut source = database.source();
    let (mut reader, manifest) = open_image(&mut source);
    let mut bytes = vec![0; 50_000];
    let length = reader.read(&mut bytes).unwrap();
    bytes.truncate(length);
    // Nobody waits: the first would fail at once if it had to.
    connection.busy_timeout(Duration::ZERO).unwrap();
    for _ in 0..20 {
        write(&connection, 50);
        connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
    }
    connection.execute_batch("DELETE FROM left_side; DELETE FROM right_side").unwrap();
    read_to_end(&mut *reader, &mut bytes);
    reader.finish(&mut Node { name: Vec::new(), kind: NodeKind::Fifo, metadata: Metadata::default() }).unwrap();
    let mut node = Node { name: Vec::new(), kind: NodeKind::Fifo, metadata: Metadata::default() };
    let mut text = Vec::new();
    let mut manifest = manifest.open(&mut node).unwrap();
    read_to_end(&mut *manifest, &mut text);
    manifest.finish(&mut node).unwrap();

    let path = database.folder.path().join("image.db");
    fs::write(&path, bytes).unwrap();
    assert_eq!(observe(&path, Check::Full).unwrap(), (before.clone(), Vec::new()));
    assert_eq!(without_image(&source.finish().unwrap().expectations), before, "it was counted in what was read");
}

#[test]
fn a_database_that_is_written_to_all_the_time_comes_back_between_two_transactions() {
    for (journal, pause) in [("wal", 0), ("delete", 3)] {
        let database = Database::new(journal, 10_000);
        let writer = Writer::new(&database, Duration::from_millis(pause));
        let repo = Repo::new();
        for round in 0..3 {
            let commits = writer.commits.load(Ordering::Relaxed);
            let report = repo.back_up(&mut database.source_with(Check::Off)).unwrap().report;
            let folder = tempdir().unwrap();
            let path = restored(&repo, folder.path());
            assert_eq!(observe(&path, Check::Full).unwrap(), (without_image(&report.expectations), Vec::new()));
            assert_sides_agree(&path);
            while round < 2 && writer.commits.load(Ordering::Relaxed) == commits {
                thread::yield_now();
            }
        }
        writer.stop();
    }
}

#[test]
fn a_small_change_stores_little() {
    for journal in ["wal", "delete"] {
        let database = Database::new(journal, 40_000);
        let repo = Repo::new();
        let first = repo.back_up(&mut database.source()).unwrap().summary;
        assert!(first.data_added > 16_000_000);
        database
            .connect()
            .execute_batch("UPDATE left_side SET amount = amount + 1 WHERE id BETWEEN 20000 AND 20010")
            .unwrap();
        let second = repo.back_up(&mut database.source()).unwrap().summary;
        // The first page, the row's, and those of the two indexes; the manifest and the folders.
        assert!(second.data_added < 6 * 256 * 1024, "{journal}: {} bytes are new", second.data_added);
    }
}

#[test]
fn what_is_not_there_is_not_created_and_what_is_no_database_is_told() {
    let folder = tempdir().unwrap();
    let open = |name: &str| {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let options = SqliteOptions { patience: Duration::from_millis(50), ..SqliteOptions::new(folder.path()) };
        SqliteSource::open(&folder.path().join(name), &options, &clock).map_err(|error| words(&error))
    };
    assert!(open("missing.db").unwrap_err().contains("nothing was created"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    fs::write(folder.path().join("text"), "x".repeat(10_000)).unwrap();
    assert!(open("text").unwrap_err().contains("not a database"));
    fs::create_dir(folder.path().join("folder")).unwrap();
    assert!(open("folder").unwrap_err().contains("not a file"));
    let exclusive = Connection::open(folder.path().join("held.db")).unwrap();
    exclusive.execute_batch("CREATE TABLE t(a); PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let told = open("held.db").unwrap_err();
    assert!(told.contains("locked") && told.contains("another program holds it"), "{told}");
}

#[test]
fn a_database_that_is_locked_when_its_turn_comes_makes_no_snapshot() {
    let database = Database::new("delete", 10);
    let repo = Repo::new();
    repo.back_up(&mut database.source()).unwrap();
    let options = SqliteOptions { patience: Duration::from_millis(50), ..SqliteOptions::new(database.folder.path()) };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mut source = SqliteSource::open(&database.path, &options, &clock).unwrap();
    let holder = database.connect();
    holder.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(repo.fail_to_back_up(&mut source).contains("locked"));
    let mut source = SqliteSource::open(&database.path, &options, &clock);
    assert!(source.is_err());
    holder.execute_batch("COMMIT").unwrap();
    source = SqliteSource::open(&database.path, &options, &clock);
    repo.back_up(&mut source.unwrap()).unwrap();
}

#[test]
fn a_full_disk_for_the_copy_makes_no_snapshot() {
    let database = Database::new("delete", 10);
    // A place where nothing can be made.
    let options = SqliteOptions::new("/proc");
    let mut source = SqliteSource::open(&database.path, &options, &(Arc::new(SystemClock) as Arc<dyn Clock>)).unwrap();
    assert!(Repo::new().fail_to_back_up(&mut source).contains("no copy can be made in /proc"));
}

#[test]
fn an_empty_database_is_backed_up_with_a_warning() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("app.db");
    fs::write(&path, "").unwrap();
    let database = Database { path, folder };
    let repo = Repo::new();
    let report = repo.back_up(&mut database.source()).unwrap().report;
    assert_eq!(report.warnings, ["the database app.db has no tables"]);
    assert_eq!(observe(&restored(&repo, database.folder.path()), Check::Full).unwrap(), (Vec::new(), Vec::new()));
}

#[test]
fn damage_is_told_by_the_backup_and_refused_by_the_restore() {
    let database = Database::new("delete", 2_000);
    let mut bytes = fs::read(&database.path).unwrap();
    bytes[40 * 4096..50 * 4096].fill(0xA5);
    fs::write(&database.path, &bytes).unwrap();
    let repo = Repo::new();
    let report = match repo.back_up(&mut database.source_with(Check::Quick)) {
        Ok(outcome) => outcome.report,
        Err(error) => panic!("{}", words(&error)),
    };
    assert!(report.warnings.iter().any(|warning| warning.contains("is damaged")), "{:?}", report.warnings);
    let path = database.folder.path().join("restored.db");
    fs::write(&path, "what was there").unwrap();
    let target = SqliteTarget::new(path.clone(), Existing::Replace, Users::Refuse);
    assert!(words(&repo.restore("/sqlite/app.db", &target).unwrap_err()).contains("damaged"));
    drop(target);
    assert_eq!(fs::read(&path).unwrap(), b"what was there");
    assert_eq!(fs::read_dir(database.folder.path()).unwrap().count(), 2, "nothing is left behind");
}

#[test]
fn a_restore_takes_the_place_of_a_database_with_its_rights_and_without_its_old_log() {
    let database = Database::new("wal", 500);
    fs::set_permissions(&database.path, fs::Permissions::from_mode(0o640)).unwrap();
    let repo = Repo::new();
    let report = repo.back_up(&mut database.source()).unwrap().report;
    // A log that was left by a crash: its frames would be played into whatever has the name.
    let connection = database.connect();
    write(&connection, 100);
    let log = database.path.with_extension("db-wal");
    let left = fs::read(&log).unwrap();
    drop(connection);
    fs::write(&log, left).unwrap();

    let refusing = SqliteTarget::new(database.path.clone(), Existing::Refuse, Users::Refuse);
    assert!(words(&repo.restore("/sqlite/app.db", &refusing).unwrap_err()).contains("there is a file already"));
    let replacing = SqliteTarget::new(database.path.clone(), Existing::Replace, Users::Refuse);
    repo.restore("/sqlite/app.db", &replacing).unwrap();
    assert!(!log.exists());
    assert_eq!(fs::metadata(&database.path).unwrap().mode() & 0o777, 0o640);
    assert_eq!(observe(&database.path, Check::Full).unwrap().0, without_image(&report.expectations));
}

/// A program that has the file open and holds no lock.
struct Reader(Child);

impl Reader {
    fn new(path: &Path) -> Self {
        Self(
            Command::new("sleep").arg("60").stdin(fs::File::open(path).unwrap()).stdout(Stdio::null()).spawn().unwrap(),
        )
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_database_that_is_open_is_not_replaced_unless_that_is_meant() {
    let database = Database::new("wal", 10);
    let repo = Repo::new();
    repo.back_up(&mut database.source()).unwrap();
    let restore = |users| {
        let target = SqliteTarget::new(database.path.clone(), Existing::Replace, users);
        repo.restore("/sqlite/app.db", &target).map_err(|error| words(&error))
    };
    let reader = Reader::new(&database.path);
    let told = restore(Users::Refuse).unwrap_err();
    assert!(told.contains(&format!("process {} (sleep)", reader.0.id())), "{told}");
    drop(reader);
    // One in this process, whose files are not looked at, but who holds a lock.
    let connection = database.connect();
    connection.query_row("SELECT count(*) FROM left_side", [], |_| Ok(())).unwrap();
    assert!(restore(Users::Refuse).unwrap_err().contains("holds a lock"));
    restore(Users::Ignore).unwrap();
    drop(connection);
    restore(Users::Refuse).unwrap();
}

#[test]
fn a_database_keeps_the_contract_of_a_source() {
    for journal in ["wal", "delete"] {
        let database = Database::new(journal, 3_000);
        source_suite(|| Box::new(database.source()));
    }
}
