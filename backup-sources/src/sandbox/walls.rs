//! What separates the programs of a sandbox from everything else: as much as the kernel and the caller's rights allow.
//!
//! With namespaces ([`Walls::are_up`]) a program has a uid of its own (the caller's when the caller is not root), no
//! network device at all, a process table in which it is the first, and a root that holds the system's programs and one
//! folder of its own: no socket of production, no home, no secret has a path there. It takes util-linux (`unshare`,
//! `setpriv`, `pivot_root`), root or user namespaces, and no container that forbids them. Without, there is the uid of
//! its own when the caller is root, and nothing else; whoever restores what could hold code must then take other care.
//!
//! What is always true: a program cannot gain rights (`no_new_privs`), and ends when the thread that started it ends,
//! however it ends, wherever `setpriv` is there; see [`super::Served`] for programs that outlive the call.
//!
//! In a container ([`super::Container`]) all this is the container's, and what is started here is started in it.
//!
//! The script [`SCRIPT`] does inside of the namespaces what no safe call can do between fork and exec.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use backup_core::contracts::NotReady;
use backup_core::limits::SOCKET_PATH_BYTES_MAX;
use nix::unistd::{Uid, User};

use super::SandboxFolder;
use super::container::{Container, Inside};

/// What runs first inside of the namespaces.
const SCRIPT: &str = include_str!("walls.sh");

/// Where the tools are looked for; never on the caller's own path.
const TOOLS: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// The uids that systemd gives to services that have none: nobody's files belong to them.
const OWN_UIDS: std::ops::RangeInclusive<u32> = 61_184..=65_519;

/// The user that owns nothing, where a program wants to find its own name and there are no namespaces to tell it one.
const NOBODY: &str = "nobody";

/// Who runs the engine, when root runs the drill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RunAs {
    /// A uid that nobody else has; `nobody` where there are no namespaces.
    #[default]
    OwnUid,
    /// The user of this name.
    Named(String),
}

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
}

#[derive(Clone, Debug)]
enum Kind {
    Namespaces { unshare: PathBuf },
    Container { inside: Inside, isolation: Vec<String> },
    None { why: String },
}

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
        let shown = shown.into_iter().filter(|path| !path.starts_with("/usr")).collect();
        let ids = if is_root { Some(ids_of(run_as, OWN_UIDS)?) } else { None };
        let mut walls =
            Self { kind: Kind::None { why: String::new() }, ids, root, own, shown, setpriv: tool("setpriv") };
        let tried = match namespaces {
            Namespaces::Never => Err("it was asked for".to_owned()),
            Namespaces::WherePossible => walls.in_namespaces(folder),
        };
        if let Err(why) = tried {
            walls.kind = Kind::None { why };
            if is_root && *run_as == RunAs::OwnUid {
                walls.ids = Some(ids_of(&RunAs::Named(NOBODY.to_owned()), OWN_UIDS)?);
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
        Self { kind, ids: None, root: own.clone(), own, shown: Vec::new(), setpriv: None }
    }

    /// Whether there are namespaces around the programs: only then may what runs in them be anything.
    pub(crate) fn are_up(&self) -> bool {
        matches!(self.kind, Kind::Namespaces { .. } | Kind::Container { .. })
    }

    /// The text of a small file as the programs see it.
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

    /// The folder that belongs to the programs. Once one of them ran, nothing in it can be trusted.
    pub(crate) fn own(&self) -> &Path {
        &self.own
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

    /// A program, about to be run behind the walls. Only arguments may be added, and where its output goes.
    pub(crate) fn command(&self, folder: &SandboxFolder, program: &Path) -> Command {
        if let Kind::Container { inside, .. } = &self.kind {
            return inside.command(program);
        }
        let words = |text: &[&str]| text.iter().map(OsString::from).collect::<Vec<_>>();
        let mut line: Vec<OsString> = Vec::new();
        if let Some(setpriv) = &self.setpriv {
            line.push(setpriv.into());
            line.extend(words(&["--pdeathsig=KILL"]));
        }
        match (&self.kind, self.ids) {
            (Kind::Namespaces { unshare }, ids) => {
                line.push("--".into());
                line.push(unshare.into());
                if ids.is_none() {
                    line.extend(words(&["--user", "--map-root-user"]));
                }
                line.extend(words(&["--mount", "--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child=KILL"]));
                line.extend(words(&["--", "/bin/sh", "-c", SCRIPT, "walls"]));
                line.extend([self.root.clone().into_os_string(), self.own.clone().into_os_string()]);
                let who = if ids.is_some() { "root" } else { "user" };
                let (uid, gid) = ids.unwrap_or_else(own_ids);
                line.extend(words(&[&uid.to_string(), &gid.to_string(), who]));
                line.extend(self.shown.iter().map(|path| path.clone().into_os_string()));
                line.push("--".into());
            }
            (Kind::None { .. }, ids) if self.setpriv.is_some() => {
                if let Some((uid, gid)) = ids {
                    line.extend(words(&[&format!("--reuid={uid}"), &format!("--regid={gid}"), "--clear-groups"]));
                }
                line.extend(words(&["--no-new-privs", "--"]));
            }
            (Kind::None { .. } | Kind::Container { .. }, _) => {}
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
            Kind::Container { isolation, .. } => reached.extend(isolation.iter().cloned()),
            Kind::None { why } => reached.push(format!("no namespaces: {why}")),
        }
        if self.setpriv.is_some() {
            reached.extend(["no new privileges", "ends with the drill"].map(str::to_owned));
        }
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

    fn give_own(&self) -> Result<(), NotReady> {
        let Some((uid, gid)) = self.ids else { return Ok(()) };
        chown(&self.own, Some(uid), Some(gid))
            .map_err(|error| NotReady::cannot_run(format!("no folder can be given to uid {uid}: {error}")))
    }
}

/// Runs a program to its end; what it printed, or why it failed.
pub(crate) fn run(mut command: Command) -> Result<Vec<u8>, String> {
    let ended = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    let ended = ended.map_err(|error| error.to_string())?;
    if ended.status.success() { Ok(ended.stdout) } else { Err(last_line(&ended)) }
}

fn last_line(ended: &Output) -> String {
    let said = if ended.stderr.is_empty() { &ended.stdout } else { &ended.stderr };
    let said = String::from_utf8_lossy(said);
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("dmesg(1)"));
    lines.next_back().map_or_else(|| ended.status.to_string(), str::to_owned)
}

fn ids_of(run_as: &RunAs, own: std::ops::RangeInclusive<u32>) -> Result<(u32, u32), NotReady> {
    let cannot = |reason: String| NotReady::CannotRun {
        reason,
        hint: Some("name a user that the engine may run as, or run the drill as another user than root".to_owned()),
    };
    match run_as {
        RunAs::Named(name) => match User::from_name(name) {
            Ok(Some(user)) if !user.uid.is_root() => Ok((user.uid.as_raw(), user.gid.as_raw())),
            Ok(Some(_)) => Err(cannot("an engine does not run as root".to_owned())),
            _ => Err(cannot(format!("there is no user {name}"))),
        },
        RunAs::OwnUid => {
            let mut random = [0; 4];
            getrandom::fill(&mut random).map_err(|error| cannot(format!("no random number: {error}")))?;
            let count = own.end() - own.start() + 1;
            let first = u32::from_ne_bytes(random) % count;
            // From a random place on, so that two drills at once are two users.
            let free = (0..count)
                .map(|step| own.start() + (first + step) % count)
                .find(|uid| matches!(User::from_uid(Uid::from_raw(*uid)), Ok(None)));
            free.map(|uid| (uid, uid)).ok_or_else(|| cannot("every uid is taken".to_owned()))
        }
    }
}

/// The uid and gid of whoever runs the engine, when root runs the drill.
pub(super) fn own_uid(run_as: &RunAs) -> Result<(u32, u32), NotReady> {
    ids_of(run_as, OWN_UIDS)
}

fn own_ids() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

fn tool(name: &str) -> Option<PathBuf> {
    TOOLS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(walls: &Walls, folder: &SandboxFolder, script: &str) -> String {
        let mut command = walls.command(folder, Path::new("/bin/sh"));
        String::from_utf8(
            run({
                command.args(["-c", script]);
                command
            })
            .unwrap(),
        )
        .unwrap()
        .trim()
        .to_owned()
    }

    #[test]
    fn a_program_can_write_to_its_folder_and_has_nothing_of_the_callers_environment() {
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        for namespaces in [Namespaces::WherePossible, Namespaces::Never] {
            let folder = SandboxFolder::create(parent.path()).unwrap();
            let walls = Walls::raise(&folder, &RunAs::OwnUid, namespaces, Vec::new()).unwrap();
            assert_eq!(said(&walls, &folder, "echo here >file; cat file; echo \"[$CARGO_MANIFEST_DIR]\""), "here\n[]");
            assert_eq!(said(&walls, &folder, "pwd"), walls.own().to_str().unwrap());
            assert_ne!(said(&walls, &folder, "id -u"), "0");
        }
    }

    #[test]
    fn behind_namespaces_there_is_no_network_no_socket_and_no_secret() {
        let parent = tempfile::tempdir().unwrap();
        let secret = parent.path().join("secret");
        fs::write(&secret, "x").unwrap();
        fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let folder = SandboxFolder::create(parent.path()).unwrap();
        let walls = Walls::raise(&folder, &RunAs::OwnUid, Namespaces::WherePossible, Vec::new()).unwrap();
        if !walls.are_up() {
            // Told to whoever reads the record; what holds then is tested with the engines.
            assert!(walls.isolation().iter().any(|text| text.starts_with("no namespaces: ")));
            return;
        }
        assert_eq!(
            said(&walls, &folder, &format!("cat {} 2>&1 | tail -c 26", secret.display())),
            "No such file or directory"
        );
        assert_eq!(said(&walls, &folder, "ls -d /run /root /home /etc/shadow 2>/dev/null | wc -l"), "0");
        // Two lines of heading, and the loopback device, which is down.
        assert_eq!(said(&walls, &folder, "wc -l </proc/net/dev"), "3");
        assert_eq!(said(&walls, &folder, "touch /usr/x /etc/x 2>/dev/null || echo refused"), "refused");
        assert_eq!(said(&walls, &folder, "grep NoNewPrivs /proc/self/status | tr -d '\\t'"), "NoNewPrivs:1");
    }

    #[test]
    fn root_does_not_run_an_engine_as_root() {
        assert!(matches!(ids_of(&RunAs::Named("root".into()), OWN_UIDS), Err(NotReady::CannotRun { .. })));
        assert!(matches!(ids_of(&RunAs::Named("no such user".into()), OWN_UIDS), Err(NotReady::CannotRun { .. })));
        let (uid, gid) = ids_of(&RunAs::OwnUid, OWN_UIDS).unwrap();
        assert!(OWN_UIDS.contains(&uid) && uid == gid);
    }
}
