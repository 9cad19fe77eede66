//! A cluster of its own: made by initdb of the right version, reached by a socket in its folder and by nothing else.
//!
//! Nothing of production's configuration is taken over, because a dump has none: no archive command, no preloaded
//! libraries, no host-based authentication. The server does not write to be safe from a power failure (what it holds is
//! thrown away), starts no workers for subscriptions, and fires no event triggers where it can be told so.

use std::fs;
use std::path::{Path, PathBuf};

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Entrance, Expected, Newest, NotReady, Question, Sandbox, SandboxError, SandboxFacts,
    Stopper, Target, Tool,
};
use backup_core::observe::Amount;

use super::needs::{IsSuperuser, has_extensions, look_for_extensions, of_superusers, unrestrained, version_of};
use super::restored::{Endpoint, Restored, Rights, Spool};
use crate::databases::examined::folder_with_room;
use crate::databases::manifest::Manifest;
use crate::databases::postgres::connection::Connection;
use crate::databases::postgres::places::laid_bytes;
use crate::databases::postgres::programs::{Folders, Programs};
use crate::databases::postgres::server::Server;
use crate::databases::postgres::view::Version;
use crate::sandbox::{Clients, SandboxFolder, SandboxPlace, Served, Walls, Wanted, ask_program, run};

/// Who the cluster belongs to. Dumps name it more often than any other.
const SUPERUSER: &str = "postgres";

/// Who restores where there are no walls.
const RESTORER: &str = "backup_drill";

/// Who asks the user's questions.
const READER: &str = "backup_drill_reader";

/// What the server is told; see the head of this file.
const SETTINGS: [&str; 16] = [
    "archive_mode=off",
    "autovacuum=off",
    "fsync=off",
    "full_page_writes=off",
    "huge_pages=off",
    "jit=off",
    "listen_addresses=",
    "logging_collector=off",
    "max_locks_per_transaction=256",
    "max_logical_replication_workers=0",
    "max_wal_senders=0",
    "ssl=off",
    "synchronous_commit=off",
    "unix_socket_permissions=0700",
    "update_process_title=off",
    "wal_level=minimal",
];

/// Of these, what makes a restore faster than production's would be.
const TUNED: [&str; 5] =
    ["autovacuum=off", "fsync=off", "full_page_writes=off", "synchronous_commit=off", "wal_level=minimal"];

/// What is run, and by what variables the client programs are told where to go.
const WANTED: Wanted = Wanted {
    programs: &["initdb", "postgres", "pg_dump", "pg_restore", "pg_amcheck"],
    variables: &[
        "PGHOST",
        "PGPORT",
        "PGUSER",
        "PGDATABASE",
        "PGSSLMODE",
        "PGGSSENCMODE",
        "PGAPPNAME",
        "PGCONNECT_TIMEOUT",
        "PGTZ",
    ],
};

/// A database of PostgreSQL in a cluster of its own.
#[derive(Debug)]
pub struct PostgresSandbox {
    manifest: Manifest,
    place: SandboxPlace,
    folders: Folders,
    facts: SandboxFacts,
    cluster: Option<Cluster>,
}

/// A cluster that runs. Its server ends before its folder goes.
#[derive(Debug)]
struct Cluster {
    restored: Restored,
    clients: Clients,
    served: Served,
    folder: SandboxFolder,
}

impl PostgresSandbox {
    /// For the dump that `manifest` describes, with the programs in `folders`, or with those of the place's container.
    pub fn new(manifest: Manifest, place: SandboxPlace, folders: Folders) -> Self {
        let facts = place.facts();
        Self { manifest, place, folders, facts, cluster: None }
    }

    fn cluster(&mut self) -> Result<&mut Cluster, SandboxError> {
        let cluster = self.cluster.as_mut();
        let cluster = cluster.ok_or_else(|| SandboxError::new("use the sandbox", "it was not started").ours())?;
        cluster.served.check()?;
        Ok(cluster)
    }
}

impl Sandbox for PostgresSandbox {
    fn facts(&self) -> SandboxFacts {
        self.facts.clone()
    }

    fn start(&mut self, expected: Amount, cancel: &Cancel) -> Result<(), NotReady> {
        let major = version_of(&self.manifest)?;
        // What is laid down of the dump, and what becomes of it, which has indexes.
        let bytes = self.manifest.details.get("bytes").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let laid = laid_bytes(&self.manifest, expected.bytes);
        let bytes = laid.saturating_add(bytes.max(expected.bytes));
        let mut folder = folder_with_room(&self.place.parent, bytes)?;
        let stand_ins = self.place.enter(&mut folder, WANTED, &mut self.facts, cancel)?;
        let only = stand_ins.map(|folder| Folders { only: Some(folder.to_owned()), also: Vec::new() });
        let programs = Programs::of_server(only.as_ref().unwrap_or(&self.folders), major).map_err(|but| {
            let local = format!("install postgresql-{major}, or name the folder of its programs");
            NotReady::CannotRun {
                reason: format!("PostgreSQL {major} is not installed {}{but}", self.place.told()),
                hint: Some(self.place.hint(&format!("PostgreSQL {major}"), local)),
            }
        })?;
        let mut shown = self.place.shown.clone();
        shown.extend(programs.folder().parent().map(Path::to_owned));
        let walls = Walls::raise(&folder, &self.place.run_as, self.place.namespaces, shown)?;
        self.facts.isolation = walls.isolation();
        let socket = walls.socket(".s.PGSQL.5432")?;
        let who = if walls.are_up() { IsSuperuser::Yes } else { IsSuperuser::No };
        // It takes a program to find out where they are, which a small drill notices.
        if has_extensions(&self.manifest) {
            look_for_extensions(&self.manifest, &share(&programs, &walls, &folder)?, who, &|path| walls.read(path))?;
        }
        if who == IsSuperuser::No {
            if let Some(what) = of_superusers(&self.manifest) {
                return Err(unrestrained(&what));
            }
            self.facts.isolation.push("restored by a role without superuser's rights".to_owned());
        }

        let data = initialize(&programs, &walls, &folder)?;
        let mut command = walls.command(&folder, &programs.folder().join("postgres"));
        command.arg("-D").arg(&data).arg("-k").arg(walls.own());
        for setting in SETTINGS.iter().copied().chain((major >= 17).then_some("event_triggers=off")) {
            command.args(["-c", setting]);
        }
        let served = Served::start("postgres", command, &folder.path().join("server.log"))?;
        let server = Server::alone(walls.own(), SUPERUSER, &programs)
            .map_err(|error| SandboxError::new("reach postgres", error).ours())?;
        let (connection, version) = served.wait(cancel, || {
            let (connection, _) = Connection::open(&server, "template1").map_err(|error| error.to_string())?;
            let version = Version::of(&connection).map_err(|error| error.to_string())?;
            Ok((connection, version))
        })?;
        self.facts.engine = Some(Tool { name: "postgresql".to_owned(), version: version.text });
        let way = folder.way_to(&socket).map_err(|error| SandboxError::new("link the socket", error).ours())?;
        let clients = Clients::beside(&walls, &folder, &way, &[programs.folder().to_owned()], &self.place.shown)?;
        self.facts.isolation.push(clients.isolation().to_owned());
        let programs = behind(&clients, programs, &folder)?;
        let server = Server::alone(&way, SUPERUSER, &programs)
            .map_err(|error| SandboxError::new("reach postgres", error).ours())?;
        self.facts.tuned = TUNED.map(str::to_owned).to_vec();
        let endpoint = prepare(&connection, &server, &data, who, version.major)
            .map_err(|error| SandboxError::new("prepare postgres", error).ours())?;
        let shown = folder.container().map(|container| container.spool().to_owned());
        let spool = shown.or_else(|| clients.spool(&folder)).map(Spool::Shown);
        let spool = spool.unwrap_or_else(|| Spool::Own(folder.path().to_owned()));
        let restored = Restored::new(self.manifest.clone(), endpoint, programs, spool);
        self.cluster = Some(Cluster { restored, clients, served, folder });
        Ok(())
    }

    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError> {
        // A server that has ended before anything was restored says nothing of the backup.
        self.cluster().map_err(SandboxError::ours)?.restored.target()
    }

    /// The socket lies in a folder that only the drill's user enters, who is also whoever starts the program: a runbook's
    /// command is tried as it will be given, not behind walls.
    fn entrance(&self) -> Result<Entrance, String> {
        let cluster = self.cluster.as_ref().ok_or_else(|| "it was not started".to_owned())?;
        cluster.folder.has_own_programs()?;
        Ok(cluster.folder.entrance(cluster.restored.target_address()?))
    }

    fn stopper(&self) -> Option<Stopper> {
        Some(self.cluster.as_ref()?.folder.stopper())
    }

    fn shortage(&self) -> Option<String> {
        self.cluster.as_ref()?.folder.shortage()
    }

    fn ready(&mut self) -> Result<(), SandboxError> {
        self.cluster()?.restored.ready()
    }

    fn examine(&mut self, expected: Expected<'_>, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        self.cluster()?.restored.examine(expected.report, cancel)
    }

    fn ask(&mut self, question: &Question, cancel: &Cancel) -> Result<Answer, SandboxError> {
        let cluster = self.cluster()?;
        match question {
            Question::Program(words) => {
                let reader = cluster.restored.reader();
                ask_program(cluster.clients.asked(&cluster.folder), words, &reader, cancel)
            }
            question => cluster.restored.ask(question),
        }
    }

    fn newest(&mut self) -> Option<Newest> {
        None
    }

    fn caveats(&self) -> Caveats {
        self.cluster.as_ref().map(|cluster| cluster.restored.caveats()).unwrap_or_default()
    }

    fn remove(mut self: Box<Self>) -> Result<(), SandboxError> {
        let Some(Cluster { served, folder, .. }) = self.cluster.take() else { return Ok(()) };
        drop(served);
        folder.clear_away()
    }
}

/// The client programs, as they are run behind their walls.
fn behind(clients: &Clients, programs: Programs, folder: &SandboxFolder) -> Result<Programs, NotReady> {
    let server = ["initdb", "postgres"];
    let names: Vec<&str> = WANTED.programs.iter().copied().filter(|name| !server.contains(name)).collect();
    let stand_ins = clients
        .stand_ins(folder, &[programs.folder().to_owned()], &names, WANTED.variables)
        .map_err(|error| NotReady::cannot_run(format!("no scripts can be made for it: {error}")))?;
    Ok(match stand_ins.into_iter().next() {
        Some(folder) => programs.in_folder(folder),
        None => programs,
    })
}

/// Where the extensions of a server lie, as its own initdb says it.
fn share(programs: &Programs, walls: &Walls, folder: &SandboxFolder) -> Result<PathBuf, NotReady> {
    let mut command = walls.command(folder, &programs.folder().join("initdb"));
    command.arg("--show").arg("-D").arg(walls.own().join("data"));
    // It prints what it knows on the error output.
    let said = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).output();
    let said = said.map_err(|error| NotReady::cannot_run(format!("initdb cannot be started: {error}")))?;
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    let path = text.lines().find_map(|line| line.strip_prefix("share_path="));
    path.map(PathBuf::from).ok_or_else(|| {
        let last = text.lines().last().unwrap_or_default().to_owned();
        NotReady::cannot_run(format!("initdb of PostgreSQL {} does not run here: {last}", programs.version))
    })
}

/// Makes the cluster; its folder.
fn initialize(programs: &Programs, walls: &Walls, folder: &SandboxFolder) -> Result<PathBuf, SandboxError> {
    let data = walls.own().join("data");
    let mut command = walls.command(folder, &programs.folder().join("initdb"));
    command.args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]);
    command.arg(format!("--username={SUPERUSER}")).arg("-D").arg(&data);
    run(command).map_err(|why| SandboxError::new("run initdb", why).ours())?;
    // No connection but through the socket. No program but initdb has run in the folder yet, so it is as it was left.
    fs::write(data.join("pg_hba.conf"), "local all all trust\n")
        .map_err(|error| SandboxError::new("write pg_hba.conf", error).ours())?;
    Ok(data)
}

/// Makes sure that it is the sandbox, makes the roles, and the room for the database.
fn prepare(
    connection: &Connection,
    server: &Server,
    data: &Path,
    who: IsSuperuser,
    major: u32,
) -> backup_core::Result<Endpoint> {
    let there = connection.value("SHOW data_directory")?.unwrap_or_default();
    if Path::new(&there) != data {
        return Err(backup_core::Error::invalid(there, "the server is another than the one that was started"));
    }
    let restorer = match who {
        IsSuperuser::Yes => server.clone(),
        IsSuperuser::No => {
            connection.ask(&format!("CREATE ROLE {RESTORER} LOGIN CREATEDB"))?;
            server.for_user(RESTORER)
        }
    };
    // Until version 13 there is no role that reads everything and does nothing else.
    let reader = if major >= 14 {
        connection.ask(&format!("CREATE ROLE {READER} LOGIN BYPASSRLS IN ROLE pg_read_all_data"))?;
        server.for_user(READER)
    } else {
        restorer.clone()
    };
    // The one that was dumped may have this name; it is made like all others, by what its manifest says.
    connection.ask("DROP DATABASE postgres")?;
    let rights = if who == IsSuperuser::Yes { Rights::All } else { Rights::OfAnOwner };
    Ok(Endpoint { restorer, reader, checker: Some(server.clone()), rights, database: None })
}
