//! Where a drill restores a database of MySQL or MariaDB: a server of its own (`instance.rs`), reached by a socket in its
//! folder and by nothing else.
//!
//! What is always true: the dump is loaded by an account that has the rights of a database's owner and no others: it can
//! read and write no files, load no plugins, replicate from nobody. Nor can what it defines in another's name: nobody whose
//! name it could know has more rights. No event of the dump runs. Behind walls the server
//! has no network besides.
//!
//! Killed, a drill leaves no process where `setpriv` is there, and a folder that the next drill removes.

mod instance;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Entrance, Expectation, Expected, Level, Newest, NotReady, Question, Sandbox, SandboxError,
    SandboxFacts, Stopper, Target, Tool,
};
use backup_core::observe::Amount;
use jiff::civil::DateTime;

use self::instance::{Instance, LOADER, READER, ServerProgram, WANTED};
use super::super::examined::{Reading, checks, folder_with_room};
use super::super::manifest::Manifest;
use super::super::url::Engine;
use super::client::{Client, named, quoted};
use super::defaults::Flavour;
use super::inventory::{DECLARATION, Inventory};
use super::source::{DEFINITION, observe};
use super::target::{Existing, MysqlTarget};
use crate::sandbox::SandboxPlace;

/// A database of MySQL or MariaDB in a server of its own.
#[derive(Debug)]
pub struct MysqlSandbox {
    manifest: Manifest,
    place: SandboxPlace,
    programs: Vec<PathBuf>,
    facts: SandboxFacts,
    warnings: Arc<Mutex<Vec<String>>>,
    instance: Option<Instance>,
}

impl MysqlSandbox {
    /// For the dump that `manifest` describes. Programs are looked for in the folders `programs`, in this order: the
    /// server's, which are in `/usr/sbin` on most systems, and the clients'; or all of them in the place's container.
    pub fn new(manifest: Manifest, place: SandboxPlace, programs: Vec<PathBuf>) -> Self {
        let facts = place.facts();
        Self { manifest, place, programs, facts, warnings: Arc::default(), instance: None }
    }

    fn instance(&self) -> Result<&Instance, SandboxError> {
        let instance = self.instance.as_ref();
        let instance = instance.ok_or_else(|| SandboxError::new("use the sandbox", "it was not started").ours())?;
        instance.check()?;
        Ok(instance)
    }

    fn database(&self) -> &str {
        &self.manifest.database
    }

    fn client(&self, user: &str) -> Result<Client, SandboxError> {
        let settings = self.instance()?.settings(user, self.database());
        Client::new(&settings).map_err(|error| SandboxError::new("ask the restored database", error).ours())
    }

    /// Who may do everything.
    fn admin(&self) -> Result<Client, SandboxError> {
        self.client(self.instance()?.admin())
    }

    /// The server's program of the flavour and the series that was dumped, in one of `folders`.
    fn program(&self, folders: &[PathBuf]) -> Result<ServerProgram, NotReady> {
        if self.manifest.engine != Engine::Mysql.name() {
            return Err(NotReady::cannot_run(format!("the snapshot holds a database of {}", self.manifest.engine)));
        }
        let server = self.manifest.report.tools.iter().find(|tool| tool.name.ends_with("-server"));
        let Some(server) = server else {
            return Err(NotReady::cannot_run("the manifest does not tell the server's version"));
        };
        let flavour = if server.name.starts_with("mariadb") { Flavour::Mariadb } else { Flavour::Mysql };
        ServerProgram::find(folders, flavour, &server.version, &self.place)
    }
}

impl Sandbox for MysqlSandbox {
    fn facts(&self) -> SandboxFacts {
        self.facts.clone()
    }

    fn start(&mut self, expected: Amount, cancel: &Cancel) -> Result<(), NotReady> {
        // Rows with their indexes, and the server's log of changes.
        let mut folder = folder_with_room(&self.place.parent, expected.bytes.saturating_mul(2))?;
        let stand_ins = self.place.enter(&mut folder, WANTED, &mut self.facts, cancel)?;
        let programs = stand_ins.map_or_else(|| self.programs.clone(), |folder| vec![folder.to_owned()]);
        let program = self.program(&programs)?;
        let instance = Instance::start(&program, folder, &self.place, &programs, self.database(), cancel)?;
        self.facts.isolation = instance.isolation().to_vec();
        self.facts.isolation.push("restored by an account without a superuser's rights".to_owned());
        let tuned = ["innodb_flush_log_at_trx_commit=0", "innodb_doublewrite=0", "innodb_flush_method=nosync"];
        let of_both = if program.flavour == Flavour::Mariadb { 3 } else { 2 };
        self.facts.tuned = tuned[..of_both].iter().map(|text| (*text).to_owned()).collect();
        let name = if program.flavour == Flavour::Mariadb { "mariadb-server" } else { "mysql-server" };
        self.facts.engine = Some(Tool { name: name.to_owned(), version: instance.version().to_owned() });
        self.instance = Some(instance);
        Ok(())
    }

    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError> {
        let settings = self.instance().map_err(SandboxError::ours)?.settings(LOADER, self.database());
        let target = MysqlTarget::connect(&settings, Existing::Refuse, Some(&self.manifest));
        Ok(Box::new(target.map_err(|error| SandboxError::new("prepare the restore", error).ours())?))
    }

    fn entrance(&self) -> Result<Entrance, String> {
        self.instance().map_err(|error| error.to_string())?.entrance(self.database())
    }

    fn stopper(&self) -> Option<Stopper> {
        Some(self.instance.as_ref()?.stopper())
    }

    fn shortage(&self) -> Option<String> {
        self.instance.as_ref()?.shortage()
    }

    /// Views and routines run as who defined them, and a server of its own has no such accounts: they are made, locked,
    /// with rights on this database alone.
    fn ready(&mut self) -> Result<(), SandboxError> {
        let failed = |why: String| SandboxError::new("ask the restored database", why);
        let root = self.admin()?;
        let (schema, database) = (quoted(self.database()), named(self.database()));
        let definers = root.ask(&DEFINERS.replace("{schema}", &schema)).map_err(failed)?;
        let mut made = 0;
        for definer in definers.iter().filter_map(|row| row.first()) {
            let Some((user, host)) = definer.rsplit_once('@') else { continue };
            let account = format!("{}@{}", quoted(user), quoted(host));
            if user == LOADER {
                continue;
            }
            root.ask(&format!(
                "CREATE USER IF NOT EXISTS {account} ACCOUNT LOCK; GRANT ALL ON {database}.* TO {account};"
            ))
            .map_err(failed)?;
            made += 1;
        }
        if made > 0 {
            let note =
                format!("{made} accounts that define views, routines, triggers or events were made for the drill");
            self.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(note);
        }
        let reader = self.client(READER)?;
        reader.ask(&format!("USE {database}; SELECT 1")).map(drop).map_err(failed)
    }

    fn examine(&mut self, expected: Expected<'_>, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        let expected = &expected.report.expectations;
        if expected.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |why: String| SandboxError::new("read the restored database", why);
        let instance = self.instance()?;
        let observed = observe(&instance.settings(instance.admin(), self.database()));
        let observed = observed.map_err(|error| failed(error.to_string()))?;
        let unknown = [INDEX, DEFINITION, DECLARATION]
            .into_iter()
            .filter(|kind| expected.iter().all(|expected| expected.kind != *kind));
        let mut found = checks(expected, &observed, &Words { unknown: unknown.collect() });
        cancel.check().map_err(|error| failed(error.to_string()).ours())?;
        let root = self.admin()?;
        let inventory = Inventory::of(&root, self.database()).map_err(failed)?;
        let tables: Vec<String> = inventory.tables().map(str::to_owned).collect();
        for table in tables {
            let question = format!("CHECK TABLE {}.{} EXTENDED", named(self.database()), named(&table));
            let rows = root.ask(&question).map_err(failed)?;
            found.push(checked(&table, &rows));
        }
        Ok(found)
    }

    fn ask(&mut self, question: &Question, cancel: &Cancel) -> Result<Answer, SandboxError> {
        if let Question::Program(words) = question {
            return self.instance()?.ask_program(words, self.database(), cancel);
        }
        let Question::Sql(sql) = question else {
            return Err(SandboxError::new("ask the restored database", "MySQL is asked in SQL").ours());
        };
        let failed = |why: String| SandboxError::new(format!("ask {sql:?}"), why);
        let database = named(self.database());
        let rows = self
            .client(READER)?
            .ask(&format!("USE {database}; SET time_zone = '+00:00'; START TRANSACTION READ ONLY;\n{sql}\n;"))
            .map_err(failed)?;
        match &rows[..] {
            [] => Ok(Answer(None)),
            [row] => Ok(Answer(row.first().filter(|value| !value.is_empty()).map(|value| plain(value)))),
            _ => Err(failed("it gives more than one row".to_owned())),
        }
    }

    fn newest(&mut self) -> Option<Newest> {
        None
    }

    fn caveats(&self) -> Caveats {
        let mut not_tested = vec![
            "accounts, passwords and grants".to_owned(),
            "what is no part of the database: configuration, other databases, replication".to_owned(),
        ];
        not_tested.extend(unnoted(&self.manifest.report.expectations));
        let warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Caveats { warnings, not_tested }
    }

    fn remove(mut self: Box<Self>) -> Result<(), SandboxError> {
        self.instance.take().map_or(Ok(()), Instance::remove)
    }
}

/// The kind of expectation that an index is.
const INDEX: &str = "index";

/// What the backup did not note of things that are more than rows, and nobody can compare.
fn unnoted(expected: &[Expectation]) -> Vec<String> {
    let with_text = ["view", "trigger", "procedure", "function", "event"];
    let are_declared = expected.iter().any(|expected| expected.kind == DECLARATION);
    let is_undeclared = |expected: &&Expectation| {
        !are_declared && (expected.kind == "sequence" || with_text.contains(&expected.kind.as_str()))
    };
    let hidden = |expected: &&Expectation| with_text.contains(&expected.kind.as_str()) && expected.hash.is_none();
    let told = |expected: &Expectation| format!("{} {}", expected.kind, expected.object);
    let named = |found: Vec<String>, what: &str| (!found.is_empty()).then(|| format!("{what}: {}", found.join(", ")));
    let hidden = expected.iter().filter(hidden).map(told).collect();
    let undeclared = expected.iter().filter(is_undeclared).map(told).collect();
    let hidden = named(hidden, "what the user of the backup was not shown, beyond that it is there");
    let undeclared = named(undeclared, "arguments, schedules and definers, which an earlier version did not note");
    hidden.into_iter().chain(undeclared).collect()
}

/// How expectations of MySQL are read.
struct Words {
    /// Earlier versions did not note indexes and definitions: what nobody looked for is no surprise.
    unknown: Vec<&'static str>,
}

impl Reading for Words {
    fn passes_over(&self, _expected: &Expectation) -> Option<String> {
        None
    }

    fn is_excused(&self, observed: &Expectation) -> bool {
        self.unknown.contains(&observed.kind.as_str())
    }

    fn may_differ(&self, _expected: &Expectation) -> Option<String> {
        None
    }
}

/// Who defined what can be run.
const DEFINERS: &str = "
SELECT definer FROM information_schema.views WHERE table_schema = {schema}
UNION SELECT definer FROM information_schema.routines WHERE routine_schema = {schema}
UNION SELECT definer FROM information_schema.triggers WHERE trigger_schema = {schema}
UNION SELECT definer FROM information_schema.events WHERE event_schema = {schema};
";

/// What `CHECK TABLE` says: table, operation, sort of message, message; the last row is the verdict.
fn checked(table: &str, rows: &[Vec<String>]) -> Check {
    let id = format!("check table {table}");
    let verdict = rows
        .last()
        .map_or(("", ""), |row| (row.get(2).map_or("", String::as_str), row.get(3).map_or("", String::as_str)));
    match verdict {
        ("status", "OK") => Check::passed(id, Level::Examined),
        ("note", why) => Check::not_tested(id, Level::Examined, why),
        (_, why) => Check::failed(id, Level::Examined, why),
    }
}

/// A value as answers are written: an instant as RFC 3339.
fn plain(value: &str) -> String {
    // 2026-01-02 03:04:05.678
    let is_instant = value.len() >= 19 && value.as_bytes()[10] == b' ' && value.as_bytes()[13] == b':';
    let instant = is_instant.then(|| value.parse::<DateTime>().ok()).flatten();
    let instant = instant.and_then(|time| time.to_zoned(jiff::tz::TimeZone::UTC).ok());
    instant.map_or_else(|| value.to_owned(), |time| time.timestamp().to_string())
}

#[cfg(test)]
mod tests {
    use backup_core::contracts::CheckResult;

    use super::*;

    #[test]
    fn only_the_verdict_ok_passes() {
        let row = |sort: &str, text: &str| vec!["app.t".into(), "check".into(), sort.into(), text.into()];
        let result = |rows: &[Vec<String>]| checked("t", rows).result;
        assert_eq!(result(&[row("status", "OK")]), CheckResult::Passed);
        assert_eq!(result(&[row("warning", "x"), row("status", "OK")]), CheckResult::Passed);
        assert_eq!(result(&[row("note", "The storage engine doesn't support check")]), CheckResult::NotTested);
        assert_eq!(result(&[row("error", "Corrupt")]), CheckResult::Failed);
        assert_eq!(result(&[]), CheckResult::Failed);
    }

    #[test]
    fn what_the_backup_did_not_note_is_said_to_be_untested() {
        let noted = |kind: &str, object: &str, is_seen: bool| Expectation {
            kind: kind.into(),
            object: object.into(),
            count: None,
            hash: is_seen.then(|| "definition-xxh3-128:0".into()),
        };
        let all = [noted("view", "v", true), noted("sequence", "s", false), noted(DECLARATION, "view v", true)];
        assert_eq!(unnoted(&all), Vec::<String>::new());
        assert_eq!(
            unnoted(&all[..2]),
            ["arguments, schedules and definers, which an earlier version did not note: view v, sequence s"]
        );
        let hidden = [noted("procedure", "p", false), noted(DECLARATION, "view v", true)];
        assert_eq!(
            unnoted(&hidden),
            ["what the user of the backup was not shown, beyond that it is there: procedure p"]
        );
    }

    #[test]
    fn an_instant_has_one_spelling() {
        assert_eq!(plain("2026-01-02 03:04:05.5"), "2026-01-02T03:04:05.5Z");
        assert_eq!((plain("2026-01-02"), plain("42")), ("2026-01-02".to_owned(), "42".to_owned()));
    }
}
