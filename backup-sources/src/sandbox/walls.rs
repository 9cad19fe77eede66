//! What separates the programs of a sandbox from everything else: as much as the kernel and the caller's rights allow.
//!
//! With namespaces ([`Walls::are_up`]) a program has a uid of its own (the caller's when the caller is not root), no
//! network device at all, a process table in which it is the first, and a root that holds the system's programs and one
//! folder of its own: no socket of production, no home, no secret has a path there. It takes util-linux (`unshare`,
//! `setpriv`, `pivot_root`), root or user namespaces, and no container that forbids them. Without, there is the uid of
//! its own when the caller is root, and nothing else; whoever restores what could hold code must then take other care.
//!
//! What is always true: a program cannot gain rights (`no_new_privs`), gives way to whatever else wants the processors and
//! the disks, and a server ends when the thread that started it ends, however it ends, wherever `setpriv` is there; see
//! [`super::Served`] for programs that outlive the call.
//!
//! Beside a server's walls stand those of whoever looks at it ([`Walls::beside`]), and those of a program of the user's that
//! reads restored files ([`Walls::of_reader`]).
//!
//! In a container ([`super::Container`]) all this is the container's, and what is started here is started in it.
//!
//! The script [`SCRIPT`] does inside of the namespaces what no safe call can do between fork and exec.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use backup_core::contracts::NotReady;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
use backup_core::limits::SOCKET_PATH_BYTES_MAX;

use super::SandboxFolder;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
use super::container::{Container, Inside};
use super::gives_way::{GivesWay, tool};
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
use super::run_as::nobody;
use super::run_as::{RunAs, own_uid};

/// What runs first inside of the namespaces.
const SCRIPT: &str = include_str!("walls.sh");

/// What is first of all, with walls and without: nothing of what whoever started the drill had open is handed on (the lock of a
/// job, a secret; bash knows the larger numbers, Debian's `sh` does not), no memory of what is restored is left to the machine
/// as a core, and where memory runs out this ends before anything else does.
const BARE: &str = r#"ulimit -c 0
{ echo 1000 >/proc/self/oom_score_adj; } 2>/dev/null
exec 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-
for fd in /proc/self/fd/[1-9][0-9]*; do
    [ -L "$fd" ] && [ -x /bin/bash ] || break
    exec /bin/bash -c 'for fd in /proc/self/fd/*; do fd=${fd##*/}; [ "$fd" -lt 3 ] || eval "exec $fd<&-"; done; exec "$@"'         bare "$@"
done
exec "$@""#;

/// The right to read whatever is in its root, as `setpriv` calls it.
const READS_ALL: &str = "+dac_read_search";

/// Whether namespaces are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Namespaces {
    /// Where the system allows it.
    #[default]
    WherePossible,
    /// Not, although they could be: for systems on which they do harm.
    Never,
}

/// How programs of a sandbox are started.
#[derive(Clone, Debug)]
pub(crate) struct Walls {
    kind: Kind,
    /// uid and gid; `None` when they are the caller's.
    ids: Option<(u32, u32)>,
    /// The root that the programs will see.
    root: PathBuf,
    /// The folder that is theirs.
    own: PathBuf,
    /// Paths that they see besides.
    shown: Vec<PathBuf>,
    setpriv: Option<PathBuf>,
    gives_way: Option<GivesWay>,
    inhabitant: Inhabitant,
}

/// Who is behind the walls.
#[cfg_attr(
    not(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis")),
    expect(dead_code, reason = "without servers there are none of their programs")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inhabitant {
    /// An engine's programs.
    Engine,
    /// Client programs, which may be started by one thread and fed by another.
    Client,
    /// A program that reads what root has restored.
    Reader,
}

#[derive(Clone, Debug)]
enum Kind {
    Namespaces {
        unshare: PathBuf,
    },
    #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
    Container {
        inside: Inside,
        isolation: Vec<String>,
    },
    None {
        why: String,
    },
}

#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
impl Walls {
    /// Makes the folder that will belong to the programs, and looks how they can be separated. `shown` are paths outside
    /// of the system's own folders that they need, such as those of an engine that was installed elsewhere. A folder that
    /// has a container has its walls already.
    ///
    /// # Errors
    ///
    /// When nobody is there who could run them, or when they could not enter their folder.
    pub(crate) fn raise(
        folder: &SandboxFolder,
        run_as: &RunAs,
        namespaces: Namespaces,
        shown: Vec<PathBuf>,
    ) -> Result<Self, NotReady> {
        if let Some(container) = folder.container() {
            return Ok(Self::of(container));
        }
        let is_root = nix::unistd::geteuid().is_root();
        let of_io = |error: std::io::Error| NotReady::cannot_run(format!("no folder can be made for it: {error}"));
        let (root, own) = (folder.path().join("root"), folder.path().join("own"));
        for path in [&root, &own] {
            fs::DirBuilder::new().mode(0o700).create(path).map_err(of_io)?;
        }
        let shown = shown.into_iter().filter(|path| is_to_be_shown(path)).collect();
        let ids = if is_root { Some(own_uid(run_as)?) } else { None };
        let mut walls = Self {
            kind: Kind::None { why: String::new() },
            ids,
            root,
            own,
            shown,
            setpriv: tool("setpriv"),
            gives_way: GivesWay::find(),
            inhabitant: Inhabitant::Engine,
        };
        let tried = match namespaces {
            Namespaces::Never => Err("it was asked for".to_owned()),
            Namespaces::WherePossible => walls.in_namespaces(folder),
        };
        if let Err(why) = tried {
            walls.kind = Kind::None { why };
            if is_root && *run_as == RunAs::OwnUid {
                walls.ids = Some(nobody()?);
            }
            walls.give_own()?;
            folder.let_pass().map_err(of_io)?;
            let mut test = walls.command(folder, Path::new("/bin/sh"));
            let entered = test.args(["-c", "cd \"$0\" && touch .test && rm .test"]).arg(&walls.own).output();
            if !entered.is_ok_and(|ended| ended.status.success()) {
                let (uid, _) = walls.ids.unwrap_or_default();
                return Err(NotReady::CannotRun {
                    reason: format!("uid {uid} cannot enter {}", walls.own.display()),
                    hint: Some("name a folder for drills whose parents everybody may pass through".to_owned()),
                });
            }
        }
        Ok(walls)
    }

    fn of(container: &Container) -> Self {
        let inside = container.inside().clone();
        let own = inside.own().to_owned();
        let kind = Kind::Container { inside, isolation: container.isolation().to_vec() };
        Self {
            kind,
            ids: None,
            root: own.clone(),
            own,
            shown: Vec::new(),
            setpriv: None,
            gives_way: None,
            inhabitant: Inhabitant::Engine,
        }
    }

    /// The same walls around another folder, `name`, for those who look at what runs behind these: their uid is the same,
    /// because the socket is that uid's alone. They see `shown` besides, to read. `None` in a container, where they are
    /// inside already, and where a script could not become another user.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made.
    pub(crate) fn beside(
        &self,
        folder: &SandboxFolder,
        name: &str,
        shown: impl IntoIterator<Item = PathBuf>,
    ) -> Result<Option<Self>, NotReady> {
        let is_possible = match &self.kind {
            Kind::Container { .. } => false,
            Kind::Namespaces { .. } => true,
            Kind::None { .. } => self.setpriv.is_some(),
        };
        if !is_possible {
            return Ok(None);
        }
        let mut walls = Self { own: folder.path().join(name), inhabitant: Inhabitant::Client, ..self.clone() };
        walls.shown.extend(shown.into_iter().filter(|path| is_to_be_shown(path)));
        walls.make_own()?;
        Ok(Some(walls))
    }

    /// What separates client programs and the user's commands, for the record, when `walls` are those beside these.
    pub(crate) fn isolation_of_clients(&self, walls: Option<&Self>) -> String {
        let told = match (&self.kind, walls) {
            (Kind::Namespaces { .. }, Some(_)) => "client programs and commands behind the same walls",
            (Kind::None { .. }, Some(walls)) if walls.ids.is_some() => "client programs and commands as the same uid",
            (Kind::Container { .. }, _) => "client programs in the container, commands as whoever drills",
            _ => "client programs and commands as whoever drills",
        };
        told.to_owned()
    }

    /// Whether there are namespaces around the programs: only then may what runs in them be anything.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn are_up(&self) -> bool {
        matches!(self.kind, Kind::Namespaces { .. } | Kind::Container { .. })
    }

    /// The text of a small file as the programs see it.
    #[cfg(feature = "postgres")]
    pub(crate) fn read(&self, path: &Path) -> Option<String> {
        match &self.kind {
            Kind::Container { inside, .. } => {
                let mut command = inside.command(Path::new("cat"));
                command.arg(path);
                String::from_utf8(run(command).ok()?).ok()
            }
            _ => fs::read_to_string(path).ok(),
        }
    }

    /// Where a server gets its socket, in the folder that belongs to it.
    ///
    /// # Errors
    ///
    /// When the kernel takes no path that long.
    pub(crate) fn socket(&self, name: &str) -> Result<PathBuf, NotReady> {
        let socket = self.own.join(name);
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(NotReady::cannot_run(format!("the path of a socket in {} is too long", self.own.display())));
        }
        Ok(socket)
    }
}

impl Walls {
    /// Walls for a program that reads what is in the folder: it sees `shown`, and writes to a folder of its own. When root
    /// drills, it has a uid of its own and the right to read all that it sees, whoever that
    /// belongs to. It has no network where there are namespaces.
    ///
    /// # Errors
    ///
    /// When its folder cannot be made.
    pub(crate) fn of_reader(folder: &SandboxFolder, shown: Vec<PathBuf>) -> Result<Self, NotReady> {
        let root = folder.path().join("root");
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&root)
            .map_err(|error| NotReady::cannot_run(format!("no folder can be made for it: {error}")))?;
        let is_root = nix::unistd::geteuid().is_root();
        let mut walls = Self {
            kind: Kind::None { why: String::new() },
            ids: if is_root { Some(own_uid(&RunAs::OwnUid)?) } else { None },
            root,
            own: folder.path().join("own"),
            shown: shown.into_iter().filter(|path| is_to_be_shown(path)).collect(),
            setpriv: tool("setpriv"),
            gives_way: GivesWay::find(),
            inhabitant: Inhabitant::Reader,
        };
        walls.make_own()?;
        if let Err(why) = walls.in_namespaces(folder) {
            walls.kind = Kind::None { why };
            if walls.setpriv.is_none() {
                // Nobody could give it the right to read.
                walls.ids = None;
            }
        }
        Ok(walls)
    }

    /// What separates a program of the user's where nothing else runs, for the record.
    pub(crate) fn isolation_of_reader(&self) -> String {
        format!("commands: {}", self.isolation().join(", "))
    }

    /// The folder that belongs to the programs. Once one of them ran, nothing in it can be trusted.
    #[cfg(any(
        test,
        feature = "mongodb",
        feature = "mysql",
        feature = "postgres",
        feature = "redis",
        feature = "sqlite"
    ))]
    pub(crate) fn own(&self) -> &Path {
        &self.own
    }

    /// A program, about to be run behind the walls. Only arguments may be added, and where its output goes.
    pub(crate) fn command(&self, folder: &SandboxFolder, program: &Path) -> Command {
        #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
        if let Kind::Container { inside, .. } = &self.kind {
            return inside.command(program);
        }
        let words = |text: &[&str]| text.iter().map(OsString::from).collect::<Vec<_>>();
        let mut line: Vec<OsString> = Vec::new();
        line.extend(words(&["/bin/sh", "-c", BARE, "bare"]));
        line.extend(self.gives_way.iter().flat_map(GivesWay::words));
        let ends_with_thread = self.inhabitant != Inhabitant::Client;
        match (&self.kind, self.ids, &self.setpriv) {
            (Kind::Namespaces { unshare }, ids, setpriv) => {
                if let Some(setpriv) = setpriv.as_ref().filter(|_| ends_with_thread) {
                    line.push(setpriv.into());
                    line.extend(words(&["--pdeathsig=KILL", "--"]));
                }
                line.push(unshare.into());
                if ids.is_none() {
                    line.extend(words(&["--user", "--map-root-user"]));
                }
                line.extend(words(&["--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child=KILL"]));
                line.extend(words(&["--", "/bin/sh", "-c", SCRIPT, "walls"]));
                line.extend([self.root.clone().into_os_string(), self.own.clone().into_os_string()]);
                let who = match (ids, self.inhabitant) {
                    (None, _) => "user",
                    (Some(_), Inhabitant::Reader) => "reader",
                    (Some(_), _) => "root",
                };
                let (uid, gid) = ids.unwrap_or_else(own_ids);
                line.extend(words(&[&uid.to_string(), &gid.to_string(), who]));
                line.extend(self.shown.iter().map(|path| path.clone().into_os_string()));
                line.push("--".into());
            }
            (Kind::None { .. }, ids, Some(setpriv)) => {
                line.push(setpriv.into());
                if ends_with_thread {
                    line.push("--pdeathsig=KILL".into());
                }
                if let Some((uid, gid)) = ids {
                    line.extend(words(&[&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]));
                    if self.inhabitant == Inhabitant::Reader {
                        for set in ["inh", "ambient", "bounding"] {
                            let option =
                                if set == "bounding" { "bounding-set".to_owned() } else { format!("{set}-caps") };
                            line.push(format!("--{option}=-all,{READS_ALL}").into());
                        }
                    }
                }
                line.extend(words(&["--no-new-privs", "--"]));
            }
            _ => {}
        }
        line.push(program.into());
        let mut command = folder.command(&line[0]);
        command.args(&line[1..]).env("HOME", &self.own);
        if let (Kind::None { .. }, None, Some((uid, gid))) = (&self.kind, &self.setpriv, self.ids) {
            command.uid(uid).gid(gid);
        }
        if matches!(self.kind, Kind::None { .. }) {
            command.current_dir(&self.own);
        }
        command
    }

    /// What separates the programs, for the record.
    pub(crate) fn isolation(&self) -> Vec<String> {
        let mut reached = Vec::new();
        if let Some((uid, _)) = self.ids {
            reached.push(format!("own uid {uid}"));
        }
        match &self.kind {
            Kind::Namespaces { .. } => {
                reached.extend(["no network", "own root", "own processes"].map(str::to_owned));
            }
            #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
            Kind::Container { isolation, .. } => reached.extend(isolation.iter().cloned()),
            Kind::None { why } => reached.push(format!("no namespaces: {why}")),
        }
        if self.setpriv.is_some() {
            reached.extend(["no new privileges", "ends with the drill"].map(str::to_owned));
        }
        reached.extend(self.gives_way.is_some().then(|| GivesWay::TOLD.to_owned()));
        reached
    }

    /// Tries namespaces out; otherwise why there are none.
    fn in_namespaces(&mut self, folder: &SandboxFolder) -> Result<(), String> {
        let missing = |name: &str| format!("there is no {name} here");
        let unshare = tool("unshare").ok_or_else(|| missing("unshare"))?;
        for name in ["setpriv", "pivot_root", "mount", "umount"] {
            tool(name).ok_or_else(|| missing(name))?;
        }
        self.kind = Kind::Namespaces { unshare };
        self.give_own().map_err(|error| error.to_string())?;
        let tried = self.command(folder, Path::new("/bin/sh")).args(["-c", "touch .test && rm .test"]).output();
        match tried {
            Ok(ended) if ended.status.success() => Ok(()),
            Ok(ended) => Err(last_line(&ended)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Gives them a folder or a file of the drill's to read. Nobody else of this machine gets it by that.
    #[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis", feature = "sqlite"))]
    pub(crate) fn let_in(&self, path: &Path) -> std::io::Result<()> {
        match self.ids {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    fn make_own(&self) -> Result<(), NotReady> {
        let made = fs::DirBuilder::new().mode(0o700).create(&self.own);
        made.map_err(|error| NotReady::cannot_run(format!("no folder can be made for it: {error}")))?;
        self.give_own()
    }

    fn give_own(&self) -> Result<(), NotReady> {
        let Some((uid, gid)) = self.ids else { return Ok(()) };
        chown(&self.own, Some(uid), Some(gid))
            .map_err(|error| NotReady::cannot_run(format!("no folder can be given to uid {uid}: {error}")))
    }
}

#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
/// Runs a program to its end; what it printed, or why it failed.
pub(crate) fn run(mut command: Command) -> Result<Vec<u8>, String> {
    // `output` takes what it prints.
    let ended = command.output();
    let ended = ended.map_err(|error| error.to_string())?;
    if ended.status.success() { Ok(ended.stdout) } else { Err(last_line(&ended)) }
}

fn last_line(ended: &Output) -> String {
    let said = if ended.stderr.is_empty() { &ended.stdout } else { &ended.stderr };
    let said = String::from_utf8_lossy(said);
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("dmesg(1)"));
    lines.next_back().map_or_else(|| ended.status.to_string(), str::to_owned)
}

fn own_ids() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

/// Whether a path is not there anyway. All of a machine is never shown.
fn is_to_be_shown(path: &Path) -> bool {
    path.parent().is_some() && !path.starts_with("/usr")
}

#[cfg(test)]
#[path = "walls_tests.rs"]
mod tests;
