//! Redis, and Valkey where it may differ: both ways in which a server sends its snapshot, every type of value, and each
//! way to fail.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use backup_core::clock::{Clock, SystemClock};
use backup_core::contracts::Consistency;
use backup_core::testing::free_port;
use backup_sources::databases::redis::{Address, Existing, RedisSettings, RedisSource, RedisTarget, Tls, observe};
use backup_sources::databases::url::Password;
use tempfile::{TempDir, tempdir};

use crate::proxy::{Fault, proxy};
use crate::repository::{Repo, words};

/// A value of every type, in every encoding that a server of version 7 makes.
pub(crate) const ZOO: &str = r##"
SET text "plain"
SET number 12345
SET negative -7
SET short 300
SET binary "\x00\xff\r\n"
SET "" "no name"
SET "k\xffy" "a name that is no text"
SET expires "later"
EXPIRE expires 100000
SETBIT bits 1000 1
PFADD loglog a b c
RPUSH packed_list 1 2 three
SADD integers 1 2 3
SADD packed_set a b 3
ZADD packed_zset 1.5 a -inf b +inf c
HSET packed_hash field value other 1
GEOADD places 13.361389 38.115556 Palermo
EVAL "redis.call('SET', 'repeated', string.rep('abc', 100000))" 0
EVAL "redis.call('SET', 'longest', string.rep('0123456789', 200000))" 0
EVAL "for i = 1, 1000 do redis.call('RPUSH', 'list', 'element ' .. i) end" 0
EVAL "redis.call('RPUSH', 'list', string.rep('x', 10000))" 0
EVAL "for i = 1, 1000 do redis.call('SADD', 'set', 'member ' .. i) end" 0
EVAL "for i = 1, 1000 do redis.call('ZADD', 'zset', i / 7, 'member ' .. i) end" 0
EVAL "for i = 1, 1000 do redis.call('HSET', 'hash', 'field ' .. i, i) end" 0
EVAL "for i = 1, 500 do redis.call('XADD', 'stream', i .. '-1', 'n', i) end" 0
XGROUP CREATE stream group 0
XREADGROUP GROUP group alice COUNT 10 STREAMS stream >
XREADGROUP GROUP group bob COUNT 5 STREAMS stream >
XACK stream group 3-1
XDEL stream 7-1
XGROUP CREATE empty_stream group $ MKSTREAM
EVAL "for i = 1, 3000 do redis.call('SET', 'many:' .. i, i) end" 0
SELECT 3
SET only "in three"
SETEX soon 100000 x
FUNCTION LOAD "#!lua name=library\nredis.register_function('answer', function() return 42 end)"
"##;

/// A kind of server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Redis,
    Valkey,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Redis, Self::Valkey];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        }
    }

    /// The first number of the version that the tests have.
    pub(crate) fn major(self) -> &'static str {
        match self {
            Self::Redis => "7.",
            Self::Valkey => "8.",
        }
    }

    fn program(self) -> PathBuf {
        let variable = format!("BACKUP_TEST_{}_SERVER", self.name().to_uppercase());
        std::env::var_os(&variable)
            .unwrap_or_else(|| panic!("scripts/tools {}-server says where it is", self.name()))
            .into()
    }
}

pub(crate) struct Server {
    folder: TempDir,
    kind: Kind,
    pub(crate) program: PathBuf,
    child: Child,
}

impl Server {
    pub(crate) fn new(options: &[&str]) -> Self {
        Self::of(Kind::Redis, options)
    }

    pub(crate) fn of(kind: Kind, options: &[&str]) -> Self {
        Self::over(kind, tempdir().unwrap(), options)
    }

    /// A server with what is in a folder.
    fn over(kind: Kind, folder: TempDir, options: &[&str]) -> Self {
        let program = kind.program();
        let child = Command::new(&program)
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", "", "--enable-debug-command", "yes"])
            .args(["--repl-diskless-sync-delay", "0", "--dir"])
            .arg(folder.path())
            .args(options)
            .current_dir(&folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { folder, kind, program, child };
        let began = Instant::now();
        while !server.cli("PING\n").contains(['P', 'N']) {
            assert!(began.elapsed() < Duration::from_secs(180), "the server does not start");
            thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn with_zoo(options: &[&str]) -> Self {
        Self::filled(Kind::Redis, options)
    }

    /// A server of that kind with the zoo.
    pub(crate) fn filled(kind: Kind, options: &[&str]) -> Self {
        let server = Self::of(kind, options);
        let told = server.cli(ZOO);
        assert!(!told.contains("ERR"), "{told}");
        server
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    fn client(&self) -> Command {
        let mut client = Command::new(self.program.with_file_name(format!("{}-cli", self.kind.name())));
        client.arg("-s").arg(self.socket());
        client
    }

    /// What the server's own client says to `commands`, one a line.
    pub(crate) fn cli(&self, commands: &str) -> String {
        let mut child =
            self.client().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
        String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
    }

    /// The server's own digest of all that it holds.
    fn digest(&self) -> String {
        self.cli("DEBUG DIGEST\n")
    }

    pub(crate) fn settings(&self) -> RedisSettings {
        at(self.socket())
    }

    fn source(&self) -> RedisSource {
        RedisSource::connect(&self.settings(), &clock()).unwrap()
    }

    /// Fills it from the newest snapshot.
    fn fill(&self, repo: &Repo) {
        let target = RedisTarget::connect(&self.settings(), Existing::Refuse).unwrap();
        let outcome = repo.restore("/redis/server", &target);
        assert_eq!(outcome.map_err(|error| words(&error)).unwrap().losses, 0);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn at(socket: PathBuf) -> RedisSettings {
    RedisSettings {
        address: Address::Socket(socket),
        user: None,
        password: None,
        tls: None,
        name: Some("server".into()),
        patience: Duration::from_secs(20),
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

#[test]
#[ignore = "needs redis-server, valkey-server"]
fn every_type_of_value_comes_back_into_a_live_server_and_as_a_file() {
    for (kind, options) in [
        (Kind::Redis, ["--repl-diskless-sync", "yes"]),
        (Kind::Redis, ["--repl-diskless-sync", "no"]),
        (Kind::Redis, ["--rdbcompression", "no"]),
        // Each key then says how often, or how long ago, it was used.
        (Kind::Redis, ["--maxmemory-policy", "allkeys-lfu"]),
        (Kind::Redis, ["--maxmemory-policy", "allkeys-lru"]),
        (Kind::Valkey, ["--repl-diskless-sync", "yes"]),
        (Kind::Valkey, ["--repl-diskless-sync", "no"]),
    ] {
        let server = Server::filled(kind, &options);
        let repo = Repo::new();
        let report = repo.back_up(&mut server.source()).unwrap().report;
        assert_eq!((report.consistency, report.warnings.len()), (Consistency::Transactional, 0));
        assert!(report.recovery_point.as_ref().unwrap().position.as_ref().unwrap().contains(':'));
        assert!(
            report.tools[0].name == kind.name() && report.tools[0].version.starts_with(kind.major()),
            "{:?}",
            report.tools
        );
        let count = |kind, object: &str| {
            report.expectations.iter().find(|e| e.kind == kind && e.object == object).unwrap().count
        };
        assert_eq!(server.cli("DBSIZE\n").trim().parse().ok(), count("database", "0"));
        assert_eq!(count("expiring", "0"), Some(1));
        assert_eq!((count("database", "3"), count("expiring", "3")), (Some(2), Some(1)));
        assert_eq!(report.rows(), Some(count("database", "0").unwrap() + 2));
        // Of every encoding the elements are known.
        assert_eq!(count("elements", "0"), None);
        assert!(report.expectations.iter().any(|expected| expected.object == "library"));
        assert_eq!(repo.manifest("/redis/server").report.expectations, report.expectations);

        let live = Server::of(kind, &[]);
        live.fill(&repo);
        assert_eq!(live.digest(), server.digest());
        assert_eq!(observe(&live.settings(), &SystemClock).unwrap(), report.expectations);
        assert_eq!(live.cli("FCALL answer 0\n").trim(), "42");

        // What a server loads at its start, without this program.
        let folder = tempdir().unwrap();
        fs::write(folder.path().join("dump.rdb"), repo.file("/redis/server/dump.rdb")).unwrap();
        assert_eq!(Server::over(kind, folder, &[]).digest(), server.digest());
    }
}

#[test]
#[ignore = "needs redis-server, valkey-server"]
fn what_is_written_meanwhile_is_in_it_wholly_or_not_at_all() {
    for kind in Kind::BOTH {
        let server = Server::filled(kind, &[]);
        let script = "local n = redis.call('INCR', 'a'); redis.call('SET', 'written:' .. n, string.rep('x', 100)); \
            redis.call('INCR', 'b'); return n";
        let mut writer = server.client().args(["-r", "-1", "EVAL", script, "0"]).stdout(Stdio::null()).spawn().unwrap();
        for _ in 0..2 {
            let repo = Repo::new();
            let report = repo.back_up(&mut server.source()).unwrap().report;
            let live = Server::of(kind, &[]);
            live.fill(&repo);
            let told = live.cli("MGET a b\nEVAL \"return #redis.call('KEYS', 'written:*')\" 0\n");
            let numbers: Vec<_> = told.split_whitespace().collect();
            assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]), "{told}");
            assert_eq!(observe(&live.settings(), &SystemClock).unwrap(), report.expectations);
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_snapshot_that_is_cut_off_or_damaged_on_the_way_is_none() {
    for diskless in ["yes", "no"] {
        let server = Server::with_zoo(&["--repl-diskless-sync", diskless]);
        let repo = Repo::new();
        repo.back_up(&mut server.source()).unwrap();
        let whole = repo.file("/redis/server/dump.rdb").len();
        // What comes before the file: a few replies, and what the server says of itself.
        for (fault, told) in [
            (Fault::CutAfter(20_000), "in the middle of its snapshot"),
            (Fault::CutAfter(whole), "in the middle of its snapshot"),
            (Fault::FlipAt(whole - 2_000), "checksum"),
        ] {
            let socket = proxy(server.folder.path(), server.socket(), fault);
            let mut source = RedisSource::connect(&at(socket), &clock()).unwrap();
            let error = repo.fail_to_back_up(&mut source);
            // A changed length is noticed before the checksum is.
            assert!(error.contains(told) || error.contains("in the middle"), "{diskless} {fault:?}: {error}");
        }
        assert_eq!(repo.snapshots(), 1);
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_that_goes_away_before_or_while_it_is_read_makes_no_snapshot() {
    let mut server = Server::with_zoo(&[]);
    let repo = Repo::new();
    let mut source = server.source();
    server.child.kill().unwrap();
    server.child.wait().unwrap();
    let told = repo.fail_to_back_up(&mut source);
    assert!(told.contains("while it was asked for a snapshot"), "{told}");
    let told = words(&RedisSource::connect(&server.settings(), &clock()).unwrap_err());
    assert!(told.contains("cannot be reached"), "{told}");
}

#[test]
#[ignore = "needs redis-server"]
fn who_asks_needs_the_right_password_and_the_rights() {
    let server = Server::with_zoo(&["--requirepass", "s cret"]);
    let connect = |user: Option<&str>, password: Option<&str>| {
        let (user, password) = (user.map(str::to_owned), password.map(Password::new));
        RedisSource::connect(&RedisSettings { user, password, ..server.settings() }, &clock())
    };
    let repo = Repo::new();
    assert!(words(&connect(None, None).unwrap_err()).contains("REDISCLI_AUTH"));
    let told = words(&connect(None, Some("wrong")).unwrap_err());
    assert!(told.contains("refuses the password") && !told.contains("wrong\""), "{told}");
    assert!(server.cli("AUTH \"s cret\"\nACL SETUSER backup on >pw +psync +replconf +ping +info\n").contains("OK"));
    assert!(server.cli("AUTH \"s cret\"\nACL SETUSER reader on >pw ~* +get +ping +info +replconf\n").contains("OK"));
    repo.back_up(&mut connect(None, Some("s cret")).unwrap()).unwrap();
    repo.back_up(&mut connect(Some("backup"), Some("pw")).unwrap()).unwrap();
    let told = repo.fail_to_back_up(&mut connect(Some("reader"), Some("pw")).unwrap());
    assert!(told.contains("+psync"), "{told}");
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_with_tls_is_asked_with_its_certificate_checked_and_ours_shown() {
    let folder = tempdir().unwrap();
    certificates(folder.path());
    let port = free_port();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_string_lossy().into_owned();
    let (port_text, ca, cert, key) = (port.to_string(), text("ca.pem"), text("server.pem"), text("server.key"));
    let tls = ["--tls-port", &port_text, "--tls-ca-cert-file", &ca, "--tls-cert-file", &cert, "--tls-key-file", &key];
    let server = Server::with_zoo(&tls);
    let identity = Some((path("client.pem"), path("client.key")));
    let over = |tls| RedisSettings { address: Address::Network("localhost".into(), port), tls, ..server.settings() };
    let good = over(Some(Tls { authority: Some(path("ca.pem")), identity: identity.clone() }));
    let repo = Repo::new();
    repo.back_up(&mut RedisSource::connect(&good, &clock()).unwrap()).unwrap();
    let distrusted = over(Some(Tls { authority: None, identity }));
    let told = words(&RedisSource::connect(&distrusted, &clock()).unwrap_err());
    assert!(told.contains("certificate"), "{told}");
    let unshown = over(Some(Tls { authority: Some(path("ca.pem")), identity: None }));
    assert!(RedisSource::connect(&unshown, &clock()).is_err());
    let plain = RedisSettings { patience: Duration::from_secs(2), ..over(None) };
    assert!(RedisSource::connect(&plain, &clock()).is_err());
}

/// An authority of our own, and what it signed.
pub(crate) fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let status = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "openssl {arguments}");
    };
    let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {new} -keyout ca.key -out ca.pem -subj /CN=ca -days 2"));
    fs::write(folder.join("names"), "subjectAltName=DNS:localhost").unwrap();
    for who in ["server", "client"] {
        openssl(&format!("req {new} -keyout {who}.key -out {who}.csr -subj /CN={who}"));
        let signed = "-CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names";
        openssl(&format!("x509 -req -in {who}.csr {signed} -out {who}.pem"));
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_that_is_not_empty_is_only_emptied_when_that_is_meant() {
    let server = Server::with_zoo(&[]);
    let repo = Repo::new();
    repo.back_up(&mut server.source()).unwrap();
    let other = Server::new(&[]);
    other.cli("SELECT 5\nSET mine 1\n");
    let target = RedisTarget::connect(&other.settings(), Existing::Refuse).unwrap();
    assert!(words(&repo.restore("/redis/server", &target).unwrap_err()).contains("not empty"));
    assert_eq!(other.cli("SELECT 5\nGET mine\nDBSIZE\n").split_whitespace().collect::<Vec<_>>(), ["OK", "1", "1"]);
    let target = RedisTarget::connect(&other.settings(), Existing::Replace).unwrap();
    repo.restore("/redis/server", &target).unwrap();
    assert_eq!(other.digest(), server.digest());
    // The functions are there already, and go as well.
    repo.restore("/redis/server", &RedisTarget::connect(&other.settings(), Existing::Replace).unwrap()).unwrap();
    assert_eq!(other.digest(), server.digest());
}

/// The commands of the manual that give rights to `user`.
fn rights_of(user: &str) -> Vec<&'static str> {
    let manual = include_str!("../../../docs/manual/redis.md");
    let commands = manual.lines().map(str::trim).filter_map(|line| line.split('#').next());
    commands.filter(|line| line.starts_with(&format!("ACL SETUSER {user} "))).map(str::trim).collect()
}

#[test]
#[ignore = "needs redis-server, valkey-server"]
fn the_rights_that_the_manual_names_are_enough_and_each_is_needed() {
    for kind in Kind::BOTH {
        let (server, other, repo) = (Server::filled(kind, &[]), Server::of(kind, &[]), Repo::new());
        let of = |server: &Server, user: &str| RedisSettings {
            user: Some(user.into()),
            password: Some(Password::new("password")),
            ..server.settings()
        };
        assert!(server.cli(&format!("{}\n", rights_of("backup")[0])).contains("OK"));
        let report = repo.back_up(&mut RedisSource::connect(&of(&server, "backup"), &clock()).unwrap()).unwrap().report;
        assert_eq!(report.warnings, Vec::<String>::new());

        let [first, for_clean, for_verify] = rights_of("restore")[..] else { panic!("the manual names other rights") };
        let restore = |existing| {
            let target = RedisTarget::connect(&of(&other, "restore"), existing).unwrap();
            repo.restore("/redis/server", &target).map(drop).map_err(|error| words(&error))
        };
        assert!(other.cli(&format!("{first}\n")).contains("OK"));
        restore(Existing::Refuse).unwrap();
        assert!(restore(Existing::Replace).unwrap_err().contains("flushall"));
        other.cli(&format!("{for_clean}\n"));
        restore(Existing::Replace).unwrap();
        let observed = || observe(&of(&other, "restore"), &SystemClock).map_err(|error| words(&error));
        assert!(observed().unwrap_err().contains("+psync"));
        other.cli(&format!("{for_verify}\n"));
        assert_eq!(observed().unwrap(), report.expectations);
    }
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_that_drops_keys_for_want_of_memory_is_not_taken_for_restored() {
    let (server, repo) = (Server::with_zoo(&[]), Repo::new());
    repo.back_up(&mut server.source()).unwrap();
    let small = Server::new(&["--maxmemory", "2mb", "--maxmemory-policy", "allkeys-lru"]);
    let target = RedisTarget::connect(&small.settings(), Existing::Refuse).unwrap();
    let told = words(&repo.restore("/redis/server", &target).unwrap_err());
    assert!(told.contains("keys were loaded") && told.contains("maxmemory"), "{told}");
}

#[test]
#[ignore = "needs redis-server"]
fn a_server_that_goes_away_in_the_middle_of_a_restore_is_told() {
    let server = Server::with_zoo(&[]);
    let repo = Repo::new();
    repo.back_up(&mut server.source()).unwrap();
    let other = Server::new(&[]);
    // Enough for the greeting, not for the answers to three thousand keys.
    let socket = proxy(other.folder.path(), other.socket(), Fault::CutAfter(10_000));
    let target = RedisTarget::connect(&at(socket), Existing::Refuse).unwrap();
    let told = words(&repo.restore("/redis/server", &target).unwrap_err());
    assert!(told.contains("lost"), "{told}");
}

#[test]
#[ignore = "needs redis-server"]
fn an_empty_server_and_one_without_checksums_are_backed_up_with_a_warning() {
    let server = Server::new(&["--rdbchecksum", "no"]);
    let repo = Repo::new();
    let warnings = repo.back_up(&mut server.source()).unwrap().report.warnings;
    assert!(warnings[0].contains("no checksum") && warnings[1] == "the server has no keys", "{warnings:?}");
    Server::new(&[]).fill(&repo);
}
