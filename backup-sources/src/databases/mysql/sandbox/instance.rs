//! A server of MySQL or MariaDB made for one drill: its program, its folder, its accounts.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backup_core::cancel::Cancel;
use backup_core::contracts::{Answer, Entrance, NotReady, SandboxError, Stopper};
use zeroize::Zeroizing;

use crate::databases::mysql::client::{Client, quoted, version_in};
use crate::databases::mysql::defaults::{Flavour, write_options};
use crate::databases::mysql::settings::{Encryption, Environment, MysqlSettings, Server};
use crate::databases::url::{DatabaseUrl, Engine, Password};
use crate::sandbox::{Clients, SandboxFolder, SandboxPlace, Served, Walls, Wanted, ask_program, run};

/// The server's socket.
const SOCKET: &str = "socket";

/// Who loads the dump.
pub(super) const LOADER: &str = "backup_drill";

/// Who asks the user's questions.
pub(super) const READER: &str = "backup_drill_reader";

/// Where servers are on most systems, beside the folders that were named.
const SERVERS: [&str; 2] = ["/usr/sbin", "/usr/libexec"];

/// The right to define views and routines in the name of others, as it is called by MariaDB, by MySQL until 8.1 and
/// by MySQL since. A server knows at least one.
const DEFINE: [&str; 3] = ["SET USER", "SET_USER_ID", "SET_ANY_DEFINER, ALLOW_NONEXISTENT_DEFINER"];

/// What is run in a container, where there is to be one. The clients are told everything by their arguments.
pub(super) const WANTED: Wanted = Wanted {
    programs: &["mariadbd", "mysqld", "mariadb-install-db", "mariadb", "mysql", "mariadb-dump", "mysqldump"],
    variables: &[],
};

/// Of these the clients.
const CLIENTS: [&str; 4] = ["mariadb", "mysql", "mariadb-dump", "mysqldump"];

/// What every server is told.
const OPTIONS: [&str; 8] = [
    "--skip-networking",
    "--event-scheduler=OFF",
    "--local-infile=0",
    "--skip-slave-start",
    "--max-allowed-packet=1G",
    "--innodb-flush-log-at-trx-commit=0",
    "--skip-innodb-doublewrite",
    "--innodb-buffer-pool-size=64M",
];

/// What MariaDB is told besides: what it holds is thrown away, so it need not survive a power failure. Making its own
/// tables takes a tenth of the time so.
const OF_MARIADB: [&str; 2] = ["--debug-no-sync", "--innodb-flush-method=nosync"];

/// A server's program.
#[derive(Debug)]
pub(super) struct ServerProgram {
    path: PathBuf,
    pub(super) flavour: Flavour,
}

/// A server that runs. It ends before its folder goes.
#[derive(Debug)]
pub(super) struct Instance {
    /// Where the server's socket is, for those who look at it.
    socket: PathBuf,
    /// Where the client programs are, or the scripts that stand for them.
    programs: Vec<PathBuf>,
    clients: Clients,
    /// Option files for client programs behind walls: the loader's, and everybody else's.
    options: Option<[PathBuf; 2]>,
    isolation: Vec<String>,
    version: String,
    /// Who rules it. A name that nobody knows: a dump may define a routine in anybody's name, and call it.
    admin: String,
    /// What lets the loader in. One of its own, so that no client program looks for one in production's option files.
    password: Password,
    served: Served,
    folder: SandboxFolder,
}

impl ServerProgram {
    /// That of the flavour, and of the same series as `version`: the first two numbers. `folders` are those of `place`.
    pub(super) fn find(
        folders: &[PathBuf],
        flavour: Flavour,
        version: &str,
        place: &SandboxPlace,
    ) -> Result<Self, NotReady> {
        let (names, product) = match flavour {
            Flavour::Mariadb => (["mariadbd", "mysqld"], "MariaDB"),
            Flavour::Mysql => (["mysqld", "mysqld"], "MySQL"),
        };
        let wanted = series(version)
            .ok_or_else(|| NotReady::cannot_run(format!("the manifest tells the version {version:?}")))?;
        let usual = SERVERS.iter().map(PathBuf::from).filter(|_| place.container.is_none());
        let places = folders.iter().cloned().chain(usual);
        let mut other = None;
        for path in places.flat_map(|folder| names.map(|name| folder.join(name))) {
            let Some((its_flavour, its_version)) = look(&path) else { continue };
            if its_flavour == flavour && series(&its_version).as_ref() == Some(&wanted) {
                return Ok(Self { path, flavour });
            }
            other.get_or_insert(its_version);
        }
        let but = other.map(|version| format!(", but {version}")).unwrap_or_default();
        let local = format!("install the server of {product} {wanted}, or name the folder of its programs");
        Err(NotReady::CannotRun {
            reason: format!("{product} {wanted} is not installed {}{but}", place.told()),
            hint: Some(place.hint(&format!("{product} {wanted}"), local)),
        })
    }

    /// The folder above those of the programs.
    fn top(&self) -> &Path {
        self.path.ancestors().nth(2).unwrap_or(Path::new("/"))
    }

    /// Where its messages and character sets are, when it is not where it was built for.
    fn share(&self) -> Vec<String> {
        let share = self.top().join("share/mysql");
        if self.flavour == Flavour::Mysql || !share.is_dir() {
            return Vec::new();
        }
        let charsets = share.join("charsets");
        vec![format!("--lc-messages-dir={}", share.display()), format!("--character-sets-dir={}", charsets.display())]
    }
}

impl Instance {
    /// Makes the folder's server, and accounts that may use `database`.
    pub(super) fn start(
        program: &ServerProgram,
        folder: SandboxFolder,
        place: &SandboxPlace,
        programs: &[PathBuf],
        database: &str,
        cancel: &Cancel,
    ) -> Result<Self, NotReady> {
        let mut shown = place.shown.clone();
        shown.push(program.top().to_owned());
        let walls = Walls::raise(&folder, &place.run_as, place.namespaces, shown)?;
        let socket = walls.socket(SOCKET)?;
        let data = walls.own().join("data");
        initialize(program, &walls, &folder, &data)
            .map_err(|why| SandboxError::new("make the server's own tables", why).ours())?;

        let mut command = walls.command(&folder, &program.path);
        command.arg("--no-defaults").args(OPTIONS).args(program.share());
        command.arg(format!("--datadir={}", data.display())).arg(format!("--tmpdir={}", walls.own().display()));
        command.arg(format!("--socket={}", socket.display()));
        command.arg(format!("--pid-file={}", walls.own().join("pid").display()));
        // Only from there could it read files into tables, and nobody may.
        command.arg(format!("--secure-file-priv={}", data.display()));
        match program.flavour {
            Flavour::Mariadb => command.args(OF_MARIADB),
            Flavour::Mysql => command.args(["--skip-log-bin", "--mysqlx=OFF"]),
        };
        let served = Served::start("mysqld", command, &folder.path().join("server.log"))?;
        // In a container nobody else comes to the socket, and all that is to see it sees it where it is.
        let is_inside = folder.container().is_some();
        let password = if is_inside { Password::new("") } else { password()? };
        let of_io =
            |error: io::Error| NotReady::cannot_run(format!("its client programs cannot be told of it: {error}"));
        let (way, socket) = if is_inside {
            (walls.own().to_owned(), socket)
        } else {
            let way = served.wait(cancel, || match socket.exists() {
                true => folder.way_to(&socket).map_err(|error| error.to_string()),
                false => Err(format!("there is no {}", socket.display())),
            })?;
            let socket = way.join(SOCKET);
            (way, socket)
        };
        let has_client = |folder: &&PathBuf| CLIENTS.iter().any(|name| folder.join(name).is_file());
        let of_clients: Vec<PathBuf> = programs.iter().filter(has_client).cloned().collect();
        let clients = Clients::beside(&walls, &folder, &way, &of_clients, &place.shown)?;
        let options = clients.walls().map(|walls| option_files(walls, &way, &password)).transpose().map_err(of_io)?;
        let programs = clients.stand_ins(&folder, &of_clients, &CLIENTS, WANTED.variables).map_err(of_io)?;
        let mut isolation = walls.isolation();
        isolation.push(clients.isolation().to_owned());
        let (version, admin) = (String::new(), format!("drill_{:.16}", random()?));
        let mut instance =
            Self { socket, programs, clients, options, isolation, version, admin, password, served, folder };
        let client = |instance: &Self, user: &str| {
            Client::new(&instance.settings(user, "")).map_err(|error| NotReady::CannotRun {
                reason: error.to_string(),
                hint: error.hint().map(str::to_owned),
            })
        };
        let root = client(&instance, "root")?;
        let facts = instance.served.wait(cancel, || root.ask("SELECT @@version, @@datadir"))?;
        let of_server = |why: String| SandboxError::new("prepare the server", why).ours();
        let (version, there) = match facts.first().map(|row| &row[..]) {
            Some([version, there]) => (version.clone(), PathBuf::from(there)),
            _ => return Err(of_server("it does not say what it is".to_owned()).into()),
        };
        if there != data {
            return Err(of_server(format!("it is another server, with its data in {}", there.display())).into());
        }
        instance.version = version;
        abdicate(&root, &instance.admin).map_err(of_server)?;
        accounts(&client(&instance, &instance.admin)?, database, &instance.password).map_err(of_server)?;
        Ok(instance)
    }

    /// How `user` comes to `database`.
    pub(super) fn settings(&self, user: &str, database: &str) -> MysqlSettings {
        MysqlSettings {
            server: Server::Socket(self.socket.clone()),
            user: Some(user.to_owned()),
            // With one, even an empty one, the programs do not look into option files, which are production's. Those of
            // an image are its own, and could not read what is in this process's memory.
            password: match (self.folder.container(), user) {
                (Some(_), _) => None,
                (None, LOADER) => Some(self.password.clone()),
                (None, _) => Some(Password::new("")),
            },
            options: self.options.as_ref().map(|[loader, other]| if user == LOADER { loader } else { other }.clone()),
            database: database.to_owned(),
            encryption: Encryption::Off,
            programs: self.programs.clone(),
            environment: Environment::Empty,
        }
    }

    /// Who may do everything.
    pub(super) fn admin(&self) -> &str {
        &self.admin
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn isolation(&self) -> &[String] {
        &self.isolation
    }

    /// Asks a program of the user's, which finds the server in the variables that the clients know, and two of ours.
    pub(super) fn ask_program(
        &self,
        words: &[String],
        database: &str,
        cancel: &Cancel,
    ) -> Result<Answer, SandboxError> {
        let variables = [
            ("MYSQL_UNIX_PORT", self.socket.display().to_string()),
            ("BACKUP_USER", READER.to_owned()),
            ("BACKUP_DATABASE", database.to_owned()),
        ];
        ask_program(self.clients.asked(&self.folder), words, &variables, cancel)
    }

    /// How another program comes to `database` as the loader.
    pub(super) fn entrance(&self, database: &str) -> Result<Entrance, String> {
        self.folder.has_own_programs()?;
        let url = DatabaseUrl::of_socket(Engine::Mysql, Some(LOADER), &self.socket, database);
        let url = url.ok_or_else(|| "the socket's path is not UTF-8".to_owned())?;
        let mut entrance = self.folder.entrance(url.to_string());
        entrance.variables.push(("MYSQL_PWD".to_owned(), Zeroizing::new(self.password.reveal().to_owned())));
        Ok(entrance)
    }

    pub(super) fn stopper(&self) -> Stopper {
        self.folder.stopper()
    }

    pub(super) fn shortage(&self) -> Option<String> {
        self.folder.shortage()
    }

    /// An error when the server has ended.
    pub(super) fn check(&self) -> Result<(), SandboxError> {
        self.served.check()
    }

    /// Ends it and removes its folder.
    pub(super) fn remove(self) -> Result<(), SandboxError> {
        let Self { served, folder, .. } = self;
        drop(served);
        folder.clear_away()
    }
}

fn initialize(program: &ServerProgram, walls: &Walls, folder: &SandboxFolder, data: &Path) -> Result<(), String> {
    let mut command = match program.flavour {
        Flavour::Mariadb => {
            let scripts = [program.top().join("bin"), program.top().join("scripts")];
            let script = scripts.iter().map(|folder| folder.join("mariadb-install-db")).find(|path| path.is_file());
            let script = script.ok_or_else(|| "there is no mariadb-install-db beside the server".to_owned())?;
            let mut command = walls.command(folder, &script);
            command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
            // By force, because no name can be looked up where there is no network.
            command.args([
                "--force",
                "--skip-name-resolve",
                "--innodb-log-file-size=8M",
                "--innodb-flush-log-at-trx-commit=0",
            ]);
            command.args(OF_MARIADB);
            // In a container it finds itself: what is known of it there is a script that stands for it.
            if folder.container().is_none() {
                command.arg(format!("--basedir={}", program.top().display()));
            }
            command
        }
        Flavour::Mysql => {
            let mut command = walls.command(folder, &program.path);
            command.args(["--no-defaults", "--initialize-insecure"]);
            command
        }
    };
    command.arg(format!("--tmpdir={}", walls.own().display())).arg(format!("--datadir={}", data.display()));
    run(command)?;
    if data.is_dir() { Ok(()) } else { Err(format!("there is no {}", data.display())) }
}

/// Gives all of root's rights to `admin`, so that what a dump defines in root's name can do no more than what it defines
/// in another's.
fn abdicate(root: &Client, admin: &str) -> Result<(), String> {
    let others = root.ask("SELECT host FROM mysql.user WHERE user = 'root' AND host <> 'localhost'")?;
    for host in others.iter().filter_map(|row| row.first()) {
        root.ask(&format!("DROP USER root@{}", quoted(host)))?;
    }
    root.ask(&format!("RENAME USER root@localhost TO {}@localhost", quoted(admin))).map(drop)
}

/// Makes who loads and who reads.
fn accounts(root: &Client, database: &str, password: &Password) -> Result<(), String> {
    // In a grant a name is a pattern.
    let pattern = database.replace('`', "``").replace('_', "\\_").replace('%', "\\%");
    let (loader, reader) = (quoted(LOADER), quoted(READER));
    root.ask(&format!("CREATE USER {loader}@'localhost' IDENTIFIED BY {}", quoted(password.reveal())))?;
    root.ask(&format!("CREATE USER {reader}@'localhost'"))?;
    root.ask(&format!("GRANT ALL ON `{pattern}`.* TO {loader}@'localhost'"))?;
    root.ask(&format!("GRANT SELECT, SHOW VIEW ON `{pattern}`.* TO {reader}@'localhost'"))?;
    let mut refused = String::new();
    for right in DEFINE {
        match root.ask(&format!("GRANT {right} ON *.* TO {loader}@'localhost'")) {
            Ok(_) => return Ok(()),
            Err(why) => refused = why,
        }
    }
    Err(format!("nobody can be given the right to define in the name of others: {refused}"))
}

/// The option files in `way`, for who is behind `walls` and nobody else: to be written before anything runs there.
fn option_files(walls: &Walls, way: &Path, password: &Password) -> io::Result<[PathBuf; 2]> {
    let write = |name: &str, password: &str| {
        let path = way.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        write_options(&mut file, password)?;
        walls.let_in(&path)?;
        io::Result::Ok(path)
    };
    Ok([write("loader.cnf", password.reveal())?, write("other.cnf", "")?])
}

/// A password that nobody knows.
fn password() -> Result<Password, NotReady> {
    random().map(Password::new)
}

/// 32 digits that nobody can guess.
fn random() -> Result<String, NotReady> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| NotReady::cannot_run(format!("no random number: {error}")))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(random)))
}

/// What a program says that it is.
fn look(path: &Path) -> Option<(Flavour, String)> {
    let said = Command::new(path).arg("--version").env_clear().stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(said.stdout).ok().filter(|_| said.status.success())?;
    let flavour = if text.contains("MariaDB") { Flavour::Mariadb } else { Flavour::Mysql };
    Some((flavour, version_in(&text)?))
}

/// The first two numbers of a version.
fn series(version: &str) -> Option<String> {
    let mut numbers = version.split(['.', '-']);
    let (first, second) = (numbers.next()?, numbers.next()?);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(first) && is_number(second)).then(|| format!("{first}.{second}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_series_is_two_numbers() {
        assert_eq!(series("10.11.19-MariaDB-0+deb12u1").as_deref(), Some("10.11"));
        assert_eq!(series("8.0.36").as_deref(), Some("8.0"));
        assert_eq!((series("devel"), series("8")), (None, None));
    }

    #[test]
    fn a_server_that_is_not_here_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mariadbd"), "").unwrap();
        let error = ServerProgram::find(
            &[folder.path().to_owned()],
            Flavour::Mariadb,
            "3.1.4",
            &SandboxPlace::new(folder.path()),
        )
        .unwrap_err();
        assert!(error.to_string().starts_with("MariaDB 3.1 is not installed here"), "{error}");
    }
}
