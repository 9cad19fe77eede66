//! A server of its own, which listens on a socket in its folder alone: mongod, or FerretDB with SQLite behind it.
//!
//! Nothing of production's configuration is taken over. It replicates nothing, sends nothing home, and mongod deletes no
//! documents because their time has come, which would be missing when they are counted.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use backup_core::cancel::Cancel;
use backup_core::contracts::{
    Answer, Caveats, Check, Entrance, Expected, Newest, NotReady, Question, Sandbox, SandboxError, SandboxFacts,
    Stopper, Target,
};
use backup_core::observe::Amount;
use jiff::Timestamp;
use mongodb::bson::doc;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::product::Product;
use super::restored::{Expiry, MongodbDump, Restored};
use crate::databases::examined::folder_with_room;
use crate::databases::mongodb::connection::Connection;
use crate::databases::mongodb::settings::MongodbSettings;
use crate::databases::url::{DatabaseUrl, Engine};
use crate::sandbox::{Clients, SandboxFolder, SandboxPlace, Served, Walls, Wanted, ask_program};

/// The socket's name: the driver knows a path for one by its ending.
const SOCKET: &str = "mongodb.sock";

/// What is run in a container, where there is to be one.
const WANTED: Wanted = Wanted { programs: &["mongod", "ferretdb"], variables: &[] };

/// What mongod is told; see the head of this file.
const OF_MONGOD: [&str; 4] = [
    "--quiet",
    "--wiredTigerCacheSizeGB=0.25",
    "--setParameter=ttlMonitorEnabled=false",
    "--setParameter=diagnosticDataCollectionEnabled=false",
];

/// What FerretDB is told.
const OF_FERRETDB: [&str; 5] =
    ["--handler=sqlite", "--telemetry=disable", "--debug-addr=-", "--listen-addr=", "--log-level=error"];

/// A database of MongoDB in a server of its own.
#[derive(Debug)]
pub struct MongodbSandbox {
    dump: MongodbDump,
    place: SandboxPlace,
    programs: Vec<PathBuf>,
    facts: SandboxFacts,
    product: Option<Product>,
    /// See [`Expected::until`].
    until: Option<Timestamp>,
    running: Option<Running>,
}

/// A server that runs. It ends before its folder goes.
#[derive(Debug)]
struct Running {
    restored: Restored,
    socket: PathBuf,
    /// Where the user's programs find the socket, and what separates them.
    way: PathBuf,
    clients: Clients,
    served: Served,
    folder: SandboxFolder,
}

impl MongodbSandbox {
    /// For this dump. The server's program (`mongod`, or `ferretdb` for what FerretDB held) is looked for in the folders
    /// `programs`, in this order, or in the place's container.
    pub fn new(dump: MongodbDump, place: SandboxPlace, programs: Vec<PathBuf>) -> Self {
        let facts = place.facts();
        Self { dump, place, programs, facts, product: None, until: None, running: None }
    }

    fn running(&self) -> Result<&Running, SandboxError> {
        let running = self.running.as_ref();
        let running = running.ok_or_else(|| SandboxError::new("use the sandbox", "it was not started").ours())?;
        running.served.check()?;
        Ok(running)
    }
}

impl Sandbox for MongodbSandbox {
    fn facts(&self) -> SandboxFacts {
        self.facts.clone()
    }

    fn start(&mut self, expected: Amount, cancel: &Cancel) -> Result<(), NotReady> {
        let product = Product::of_manifest(&self.dump.manifest)?;
        // Documents with their indexes, and the server's log of changes.
        let mut folder = folder_with_room(&self.place.parent, expected.bytes.saturating_mul(2))?;
        let stand_ins = self.place.enter(&mut folder, WANTED, &mut self.facts, cancel)?;
        let only = stand_ins.map(|folder| vec![folder.to_owned()]);
        let program = product.find(only.as_ref().unwrap_or(&self.programs), &self.place)?;
        let mut shown = self.place.shown.clone();
        shown.extend(program.parent().map(Path::to_owned));
        let walls = Walls::raise(&folder, &self.place.run_as, self.place.namespaces, shown)?;
        self.facts.isolation = walls.isolation();
        let socket = walls.socket(SOCKET)?;
        let mut command = walls.command(&folder, &program);
        let name = tell(&mut command, product, walls.own(), &socket);
        let served = Served::start(name, command, &folder.path().join("server.log"))?;
        served.wait(cancel, || UnixStream::connect(&socket).map(drop).map_err(|error| error.to_string()))?;
        let settings = settings(&socket).map_err(|error| SandboxError::new("reach the server", error).ours())?;
        let connection = Connection::open(&settings);
        let connection = connection.map_err(|error| SandboxError::new("reach the server", error).ours())?;
        make_sure_that_it_is(&connection, product, walls.own())?;
        let (way, clients) = Clients::of_user(&walls, &folder, &socket, program.parent(), &self.place.shown)?;
        self.facts.isolation.push(clients.isolation().to_owned());
        self.facts.engine = connection.server().tools().pop();
        self.facts.tuned = match product {
            Product::Mongodb(..) => vec!["wiredTigerCacheSizeGB=0.25".to_owned(), "ttlMonitorEnabled=false".to_owned()],
            Product::Ferretdb(_) => vec!["handler=sqlite".to_owned()],
        };
        self.product = Some(product);
        let database = self.dump.manifest.database.clone();
        let restored = Restored::new(self.dump.clone(), settings, database, Expiry::Off);
        self.running = Some(Running { restored, socket, way, clients, served, folder });
        Ok(())
    }

    fn target(&mut self) -> Result<Box<dyn Target>, SandboxError> {
        self.running().map_err(SandboxError::ours)?.restored.target()
    }

    fn entrance(&self) -> Result<Entrance, String> {
        let running = self.running().map_err(|error| error.to_string())?;
        let url = DatabaseUrl::of_socket(Engine::Mongodb, None, &running.socket, running.restored.database());
        let url = url.ok_or_else(|| "the socket's path is not UTF-8".to_owned())?;
        Ok(running.folder.entrance(format!("{url}?directConnection=true")))
    }

    fn stopper(&self) -> Option<Stopper> {
        Some(self.running.as_ref()?.folder.stopper())
    }

    fn shortage(&self) -> Option<String> {
        self.running.as_ref()?.folder.shortage()
    }

    fn ready(&mut self) -> Result<(), SandboxError> {
        self.running()?.restored.ready()
    }

    fn examine(&mut self, expected: Expected<'_>, cancel: &Cancel) -> Result<Vec<Check>, SandboxError> {
        self.until = Some(expected.until);
        self.running()?.restored.examine(expected.report, cancel)
    }

    fn ask(&mut self, question: &Question, cancel: &Cancel) -> Result<Answer, SandboxError> {
        let Running { restored, way, clients, folder, .. } = self.running()?;
        let Question::Program(words) = question else { return restored.ask(question) };
        let variables =
            [("BACKUP_SOCKET", way.display().to_string()), ("BACKUP_DATABASE", restored.database().to_owned())];
        ask_program(clients.asked(folder), words, &variables, cancel)
    }

    fn newest(&mut self) -> Option<Newest> {
        self.running.as_ref()?.restored.newest(self.until?)
    }

    fn caveats(&self) -> Caveats {
        let is_ferretdb = matches!(self.product, Some(Product::Ferretdb(_)));
        let not_tested = self.running.as_ref().map(|running| running.restored.not_tested(is_ferretdb));
        Caveats { warnings: Vec::new(), not_tested: not_tested.unwrap_or_default() }
    }

    fn remove(mut self: Box<Self>) -> Result<(), SandboxError> {
        let Some(Running { served, folder, .. }) = self.running.take() else { return Ok(()) };
        drop(served);
        folder.clear_away()
    }
}

/// Tells a server's program what it is to do; its name for people.
fn tell(command: &mut Command, product: Product, own: &Path, socket: &Path) -> &'static str {
    match product {
        Product::Mongodb(..) => {
            // With a socket for an address it listens on nothing else.
            command.args(OF_MONGOD).arg("--dbpath").arg(own).arg("--bind_ip").arg(socket);
            "mongod"
        }
        Product::Ferretdb(_) => {
            let (own, socket) = (own.display(), socket.display());
            command.args(OF_FERRETDB).arg(format!("--sqlite-url=file:{own}/")).arg(format!("--state-dir={own}"));
            command.arg(format!("--listen-unix={socket}"));
            "ferretdb"
        }
    }
}

/// The server behind a socket. It is asked once it listens, so what it has to say comes soon.
fn settings(socket: &Path) -> backup_core::Result<MongodbSettings> {
    use std::os::unix::ffi::OsStrExt as _;
    let host = percent_encode(socket.as_os_str().as_bytes(), NON_ALPHANUMERIC);
    Ok(MongodbSettings::new(&DatabaseUrl::parse(format!("mongodb://{host}/?directConnection=true"))?))
}

/// FerretDB does not tell where its data lies; there the socket, in a folder that nobody else enters, has to do.
fn make_sure_that_it_is(connection: &Connection, product: Product, own: &Path) -> Result<(), SandboxError> {
    let failed = |why: String| SandboxError::new("prepare the server", why).ours();
    if Product::of_server(connection.server()) != Some(product) {
        return Err(failed(format!("it is no {product}")));
    }
    if let Product::Mongodb(..) = product {
        let said = connection.command("admin", "ask for its options", doc! {"getCmdLineOpts": 1});
        let said = said.map_err(|error| failed(error.to_string()))?;
        let storage = said.get_document("parsed").and_then(|parsed| parsed.get_document("storage"));
        let there = storage.and_then(|storage| storage.get_str("dbPath")).unwrap_or_default();
        if Path::new(there) != own {
            return Err(failed(format!("it is another server, with its data in {there:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_told_to_listen_on_its_socket_alone() {
        let told = |product| {
            let mut command = Command::new("x");
            tell(&mut command, product, Path::new("/drill/own"), Path::new("/drill/own/mongodb.sock"));
            let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
            words.collect::<Vec<_>>().join(" ")
        };
        let mongod = told(Product::Mongodb(7, 0));
        assert!(mongod.ends_with("--dbpath /drill/own --bind_ip /drill/own/mongodb.sock"), "{mongod}");
        assert!(mongod.contains("ttlMonitorEnabled=false"), "{mongod}");
        let ferretdb = told(Product::Ferretdb(1));
        assert!(ferretdb.contains("--listen-addr= ") && ferretdb.contains("--debug-addr=- "), "{ferretdb}");
    }
}
