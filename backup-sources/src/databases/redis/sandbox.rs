//! Where a drill restores a server of Redis or Valkey: one of its own, which listens on a socket in its folder alone.
//!
//! What is always true: it replicates nothing, writes nothing to disk by itself, and loads no module. What a dump can
//! bring along is libraries of functions, which are registered and never called.
//!
//! Killed, a drill leaves no process where `setpriv` is there, and a folder that the next drill removes.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::clock::Clock;
use backup_core::contracts::{
    Answer, Caveats, Check, Entrance, Expectation, Expected, Newest, NotReady, Question, Sandbox, SandboxError,
    SandboxFacts, Stopper, Target, Tool,
};
use backup_core::observe::Amount;

use super::super::examined::{Plainly, checks, folder_with_room};
use super::super::manifest::Manifest;
use super::super::url::{DatabaseUrl, Engine, Password};
use super::connection::{Connection, Reply};
use super::keys::{ELEMENTS, EXPIRING, EXPIRING_ELEMENTS, due};
use super::settings::{Address, RedisSettings};
use super::source::{facts_of, observe};
use super::target::{Existing, RedisTarget};
use crate::sandbox::{Clients, SandboxFolder, SandboxPlace, Served, Walls, Wanted, ask_program};

/// Who asks the user's questions: any password does, and reading is all it may.
const READER: &str = "backup-drill-reader";

/// The server's socket.
const SOCKET: &str = "redis.sock";

/// A server has so many databases when nothing is said.
const DATABASES: u64 = 16;

/// What is run in a container, where there is to be one.
const WANTED: Wanted = Wanted { programs: &["redis-server", "valkey-server"], variables: &[] };

/// A server of Redis or Valkey of its own.
#[derive(Debug)]
pub struct RedisSandbox {
    manifest: Manifest,
    place: SandboxPlace,
    programs: Vec<PathBuf>,
    clock: Arc<dyn Clock>,
    facts: SandboxFacts,
    warnings: Vec<String>,
    running: Option<Running>,
}

/// A server that runs. It ends before its folder goes.
#[derive(Debug)]
struct Running {
    settings: RedisSettings,
    /// Where the user's programs find the socket, and what separates them.
    way: PathBuf,
    clients: Clients,
    served: Served,
    folder: SandboxFolder,
}

impl RedisSandbox {
    /// For the dump that `manifest` describes. The server's program is looked for in the folders `programs`, in this
    /// order, or in the place's container.
    pub fn new(manifest: Manifest, place: SandboxPlace, programs: Vec<PathBuf>, clock: Arc<dyn Clock>) -> Self {
        let facts = place.facts();
        Self { manifest, place, programs, clock, facts, warnings: Vec::new(), running: None }
    }

    fn running(&self) -> Result<&Running, SandboxError> {
        let running = self.running.as_ref();
        let running = running.ok_or_else(|| SandboxError::new("use the sandbox", "it was not started").ours())?;
        running.served.check()?;
        Ok(running)
    }

    /// The program in one of `folders` for the server that was dumped: of the same name and major version, and not older.
    fn program(&self, folders: &[PathBuf]) -> Result<PathBuf, NotReady> {
        let manifest = &self.manifest;
        if manifest.engine != Engine::Redis.name() {
            return Err(NotReady::cannot_run(format!("the snapshot holds a database of {}", manifest.engine)));
        }
        let tool = manifest.report.tools.iter().find(|tool| tool.name == "redis" || tool.name == "valkey");
        let Some((tool, wanted)) = tool.and_then(|tool| Some((tool, numbers(&tool.version)?))) else {
            return Err(NotReady::cannot_run("the manifest does not tell the server's version"));
        };
        let name = format!("{}-server", tool.name);
        let mut other = None;
        for path in folders.iter().map(|folder| folder.join(&name)) {
            let Some(version) = version_of(&path) else { continue };
            if version.0 == wanted.0 && version >= wanted {
                return Ok(path);
            }
            other.get_or_insert(version);
        }
        let (major, minor) = wanted;
        let here = self.place.told();
        let reason = match other {
            None => format!("there is no {name} {here}"),
            Some((its, minors)) => {
                format!("the dump is of version {major}.{minor}, and {name} {here} has {its}.{minors}")
            }
        };
        let local = format!("install {name} {major}.{minor} or a later {major}");
        let hint = self.place.hint(&format!("{} {major}.{minor} or a later {major}", tool.name), local);
        Err(NotReady::CannotRun { reason, hint: Some(hint) })
    }
}

/// Makes sure that what answers at the socket is the server that was started: what is restored empties nothing else.
fn is_ours(settings: &RedisSettings, own: &Path) -> Result<(), String> {
    let mut connection = Connection::open(settings).map_err(|error| error.to_string())?;
    let there = match connection.command(&[b"CONFIG", b"GET", b"dir"]).map_err(|error| error.to_string())? {
        Reply::Several(replies) => replies.into_iter().nth(1),
        _ => None,
    };
    match there {
        Some(Reply::Text(folder)) if Path::new(std::ffi::OsStr::from_bytes(&folder)) == own => Ok(()),
        _ => Err("it is another server than the one that was started".to_owned()),
    }
}

impl Sandbox for RedisSandbox {
    fn facts(&self) -> SandboxFacts {
        self.facts.clone()
    }

    fn start(&mut self, expected: Amount, cancel: &Cancel) -> Result<(), NotReady> {
        // The keys are in memory; on disk there is at most what is sent when they are compared.
        let mut folder = folder_with_room(&self.place.parent, expected.bytes)?;
        let stand_ins = self.place.enter(&mut folder, WANTED, &mut self.facts, cancel)?;
        let only = stand_ins.map(|folder| vec![folder.to_owned()]);
        let program = self.program(only.as_ref().unwrap_or(&self.programs))?;
        let mut shown = self.place.shown.clone();
        shown.extend(program.parent().and_then(Path::parent).map(Path::to_owned));
        let walls = Walls::raise(&folder, &self.place.run_as, self.place.namespaces, shown)?;
        self.facts.isolation = walls.isolation();
        let socket = walls.socket(SOCKET)?;
        let mut command = walls.command(&folder, &program);
        command.args(["--port", "0", "--unixsocketperm", "700", "--save", "", "--appendonly", "no"]);
        command.args(["--daemonize", "no", "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"]);
        command.arg("--databases").arg(databases(&self.manifest.report.expectations).to_string());
        command.arg("--unixsocket").arg(&socket).arg("--dir").arg(walls.own());
        let served = Served::start("redis-server", command, &folder.path().join("server.log"))?;
        let settings = RedisSettings {
            address: Address::Socket(socket.clone()),
            user: None,
            password: None,
            tls: None,
            name: None,
            patience: Duration::from_secs(60),
        };
        let facts = served.wait(cancel, || {
            let mut connection = Connection::open(&settings).map_err(|error| error.to_string())?;
            let facts = facts_of(&mut connection).map_err(|error| error.to_string())?;
            // One that can be asked may still be busy with its beginning.
            if facts.get("loading").is_some_and(|loading| loading == "0") { Ok(facts) } else { Err("it loads".into()) }
        })?;
        is_ours(&settings, walls.own()).map_err(|why| SandboxError::new("prepare the server", why).ours())?;
        let (way, clients) = Clients::of_user(&walls, &folder, &socket, program.parent(), &self.place.shown)?;
        self.facts.isolation.push(clients.isolation().to_owned());
        let (name, version) = match facts.get("valkey_version") {
            Some(version) => ("valkey", version),
            None => ("redis", facts.get("redis_version").unwrap_or(&self.manifest.database)),
        };
        self.facts.engine = Some(Tool { name: name.to_owned(), version: version.clone() });
        self.facts.tuned = vec!["save off".to_owned(), "appendonly off".to_owned()];
        self.running = Some(Running { settings, way, clients, served, folder });
        Ok(())
    }

    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError> {
        let target = RedisTarget::connect(&self.running().map_err(SandboxError::ours)?.settings, Existing::Refuse);
        Ok(Box::new(target.map_err(|error| SandboxError::new("prepare the restore", error).ours())?))
    }

    fn entrance(&self) -> Result<Entrance, String> {
        let Running { settings, folder, .. } = self.running().map_err(|error| error.to_string())?;
        let Address::Socket(socket) = &settings.address else { return Err("it has no socket".to_owned()) };
        let url = DatabaseUrl::of_socket(Engine::Redis, None, socket, "");
        Ok(folder.entrance(url.ok_or_else(|| "the socket's path is not UTF-8".to_owned())?.to_string()))
    }

    fn stopper(&self) -> Option<Stopper> {
        Some(self.running.as_ref()?.folder.stopper())
    }

    fn shortage(&self) -> Option<String> {
        self.running.as_ref()?.folder.shortage()
    }

    fn ready(&mut self) -> Result<(), SandboxError> {
        let opened = Connection::open(&self.running()?.settings);
        opened.map(drop).map_err(|error| SandboxError::new("ask the restored server", error))
    }

    fn examine(&mut self, expected: Expected<'_>, _cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        let expected = &expected.report.expectations;
        if expected.is_empty() {
            return Ok(Vec::new());
        }
        let mut observed = observe(&self.running()?.settings, &*self.clock)
            .map_err(|error| SandboxError::new("read the restored server", error))?;
        let (due, notes) = due(expected, &observed);
        self.warnings.extend(notes);
        // What is told of keys in another way is no surprise where nobody expected it to be told.
        let wanted = |observed: &Expectation| {
            due.iter().find(|due| (&due.kind, &due.object) == (&observed.kind, &observed.object))
        };
        let others = [ELEMENTS, EXPIRING, EXPIRING_ELEMENTS];
        observed.retain(|observed| wanted(observed).is_some() || !others.contains(&observed.kind.as_str()));
        for observed in &mut observed {
            if wanted(observed).is_some_and(|wanted| wanted.hash.is_none()) {
                observed.hash = None;
            }
        }
        Ok(checks(&due, &observed, &Plainly))
    }

    fn ask(&mut self, question: &Question, cancel: &Cancel) -> Result<Answer, SandboxError> {
        let failed = |why: String| SandboxError::new("ask the restored server", why);
        if let Question::Program(words) = question {
            let Running { way, clients, folder, .. } = self.running()?;
            let socket = [("BACKUP_SOCKET", way.display().to_string())];
            return ask_program(clients.asked(folder), words, &socket, cancel);
        }
        let Question::Engine(words) = question else {
            return Err(failed("Redis is asked by a command, such as GET counter".to_owned()).ours());
        };
        let settings = &self.running()?.settings;
        let lost = |error: &dyn ToString| failed(error.to_string()).ours();
        let mut connection = Connection::open(settings).map_err(|error| lost(&error))?;
        let rights: [&[u8]; 8] =
            [b"ACL", b"SETUSER", READER.as_bytes(), b"on", b"nopass", b"~*", b"resetchannels", b"+@read"];
        if let Reply::Failed(why) = connection.command(&rights).map_err(|error| lost(&error))? {
            return Err(failed(format!("no user can be made who only reads: {why}")).ours());
        }
        drop(connection);
        let reader =
            RedisSettings { user: Some(READER.to_owned()), password: Some(Password::new("any")), ..settings.clone() };
        let mut connection = Connection::open(&reader).map_err(|error| lost(&error))?;
        let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        match connection.command(&words).map_err(|error| lost(&error))? {
            Reply::Status(text) => Ok(Answer(Some(text))),
            Reply::Number(number) => Ok(Answer(Some(number.to_string()))),
            Reply::Text(text) => Ok(Answer(Some(String::from_utf8_lossy(&text).into_owned()))),
            Reply::Nothing => Ok(Answer(None)),
            Reply::Failed(why) => Err(failed(why)),
            Reply::Several(_) => Err(failed("it gives more than one value".to_owned())),
        }
    }

    fn newest(&mut self) -> Option<Newest> {
        None
    }

    fn caveats(&self) -> Caveats {
        let mut not_tested =
            vec!["groups and consumers of streams".to_owned(), "users, passwords and configuration".to_owned()];
        let told = &self.manifest.report.expectations;
        let untold = told
            .iter()
            .filter(|of| of.kind == "database" && of.count > Some(0))
            .filter(|of| !told.iter().any(|other| other.object == of.object && other.kind.ends_with(ELEMENTS)));
        not_tested.extend(untold.map(|of| {
            format!("the elements of collections in database {}: of them the names, the sorts and the times to live are compared", of.object)
        }));
        Caveats { warnings: self.warnings.clone(), not_tested }
    }

    fn remove(mut self: Box<Self>) -> Result<(), SandboxError> {
        let Some(Running { served, folder, .. }) = self.running.take() else { return Ok(()) };
        drop(served);
        folder.clear_away()
    }
}

/// How many databases the server must have.
fn databases(expected: &[Expectation]) -> u64 {
    let numbers = expected.iter().filter(|expected| expected.kind == "database");
    let highest = numbers.filter_map(|expected| expected.object.parse::<u64>().ok()).max().unwrap_or(0);
    DATABASES.max(highest.saturating_add(1))
}

/// The version that a program says: `Redis server v=7.0.15 sha=…`.
fn version_of(program: &Path) -> Option<(u32, u32)> {
    let said = Command::new(program).arg("--version").env_clear().stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(said.stdout).ok().filter(|_| said.status.success())?;
    numbers(text.split_once("v=")?.1)
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_has_as_many_databases_as_it_needs() {
        let database =
            |number: &str| Expectation { kind: "database".into(), object: number.into(), count: Some(1), hash: None };
        assert_eq!((databases(&[]), databases(&[database("3")]), databases(&[database("40")])), (16, 16, 41));
    }

    #[test]
    fn a_version_is_two_numbers() {
        assert_eq!(numbers("7.0.15 sha=0"), Some((7, 0)));
        assert_eq!((numbers("7"), numbers("x.y")), (None, None));
    }
}
