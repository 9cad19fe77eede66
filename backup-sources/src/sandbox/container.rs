//! A container around an engine's programs, for a machine that has not got the version which was dumped.
//!
//! One container serves a drill: its first process is `cat`, which waits for the end of what this process holds open,
//! and everything else is run beside it: `initdb`, the server, and the client programs too, for which scripts stand in
//! ([`super::stand_ins`]). The drill's own folder has the same path inside, so a socket in it is reached from outside.
//!
//! What is always true: there is no network but its own loopback, the root is the image's and read only, no capability
//! and no way to a new one, and nothing of the caller's environment. Nothing is fetched: an image that is not here is a
//! drill that cannot run. What runs is the image that was looked at, by its id and not by its name.
//!
//! When this process ends, however it ends, `cat` reads the end of its input, and a container whose first process ends
//! is removed. Should a container outlive its folder all the same, [`Container::start`] of the next drill in the same
//! place removes it, by its label.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use backup_core::cancel::Cancel;
use backup_core::contracts::{NotReady, Tool};

use super::folder::{MARK, PREFIX};
use super::run_as::{RunAs, own_uid};
use super::stand_ins::{self, StandIn};
use super::walls::run;
use super::{SandboxFolder, Served};

/// What the containers of drills bear; its value is the folder in which the drill's folder lies.
const LABEL: &str = "backup.drill";

/// How long a container may take to go once it was killed.
const END_MAX: Duration = Duration::from_secs(20);

/// Prints where each of its arguments is found, for those that are.
const LOOK: &str = "for name; do command -v \"$name\" || :; done";

/// The container that a drill's server gets.
#[derive(Clone, Debug)]
pub struct ContainerSettings {
    /// The image, by tag or digest, as the program for containers takes it. It has to be here.
    pub image: String,
    /// The program for containers: podman's or docker's.
    pub program: PathBuf,
    /// The environment of that program, by which it finds its own configuration. Nothing of it gets inside.
    pub environment: Vec<(String, OsString)>,
    /// The folder of the engine's programs in the image, where its own `PATH` does not lead to them.
    pub bin: Option<PathBuf>,
    /// The memory in bytes that it may take.
    pub memory_bytes: Option<u64>,
    /// The processes that it may have at once.
    pub processes_max: Option<u64>,
}

/// What an engine wants of a container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The programs that it may run, by name.
    pub(crate) programs: &'static [&'static str],
    /// The variables by which its client programs are told where to go.
    pub(crate) variables: &'static [&'static str],
}

/// A container that runs. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Container {
    inside: Inside,
    image: Tool,
    isolation: Vec<String>,
    /// Where the copy of a dump is laid for its programs, which can only read it there.
    spool: PathBuf,
    stand_ins: PathBuf,
    served: Option<Served>,
}

/// How a program is run in a container that runs.
#[derive(Clone, Debug)]
pub(crate) struct Inside {
    client: Client,
    name: String,
    own: PathBuf,
    /// Where programs are in it, by their names.
    programs: BTreeMap<String, String>,
}

/// The program for containers.
#[derive(Clone, Debug)]
struct Client {
    program: PathBuf,
    environment: Vec<(String, OsString)>,
}

impl Container {
    /// Starts one for the drill of `folder`, which is then its own.
    ///
    /// # Errors
    ///
    /// When there is no program for containers, when it does not work, and when the image is not here.
    pub(super) fn start(
        folder: &SandboxFolder,
        settings: &ContainerSettings,
        run_as: &RunAs,
        wanted: Wanted,
        cancel: &Cancel,
    ) -> Result<Self, NotReady> {
        let client = Client { program: settings.program.clone(), environment: settings.environment.clone() };
        let product = client.product()?;
        let image = client.find(&settings.image)?;
        let parent = folder.path().parent().unwrap_or(Path::new("/"));
        if parent.as_os_str().as_encoded_bytes().contains(&b':') {
            return Err(NotReady::cannot_run(format!(
                "a container cannot be shown {}: its path has a colon",
                parent.display()
            )));
        }
        client.sweep(parent);

        let of_io = |error: io::Error| NotReady::cannot_run(format!("no folder can be made for it: {error}"));
        let ids = ids(run_as)?;
        let (own, spool) = (folder.path().join("own"), folder.path().join("spool"));
        fs::DirBuilder::new().mode(0o700).create(&own).map_err(of_io)?;
        fs::DirBuilder::new().mode(0o755).create(&spool).map_err(of_io)?;
        if is_root() {
            chown(&own, Some(ids.0), Some(ids.1)).map_err(of_io)?;
        }
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut inside = Inside { client, name, own, programs: BTreeMap::new() };
        let mut command = inside.client.command();
        command.args(words(&inside, &product, ids)).arg(format!("--label={LABEL}={}", parent.display()));
        for (path, how) in [(&inside.own, "rw"), (&spool, "ro")] {
            command.arg(format!("--volume={0}:{0}:{how},Z", path.display()));
        }
        for (path, text) in accounts(&inside.own, ids) {
            let file = folder.path().join(path);
            fs::write(&file, text).map_err(of_io)?;
            command.arg(format!("--volume={}:/etc/{path}:ro,Z", file.display()));
        }
        let mut isolation = vec![format!("own uid {}", ids.0), format!("a container of {product}")];
        isolation.extend(ALWAYS.map(str::to_owned));
        if let Some(bytes) = settings.memory_bytes {
            command.arg(format!("--memory={bytes}"));
            isolation.push(format!("at most {bytes} bytes of memory"));
        }
        if let Some(count) = settings.processes_max {
            command.arg(format!("--pids-limit={count}"));
            isolation.push(format!("at most {count} processes"));
        }
        command.args(["--entrypoint=cat", &image]).stdin(Stdio::piped());
        let served = Served::start("the container", command, &folder.path().join("container.log"))?;
        let mut container = Self {
            inside: inside.clone(),
            image: Tool { name: settings.image.clone(), version: image },
            isolation,
            spool,
            stand_ins: folder.path().join("container/bin"),
            served: None,
        };
        let served = container.served.insert(served);
        inside.programs = served.wait(cancel, || inside.look(settings.bin.as_deref(), wanted.programs))?;
        container.inside = inside;
        container.write_stand_ins(wanted).map_err(of_io)?;
        Ok(container)
    }

    /// The folder with a script for each of the wanted programs that is in the image.
    pub(crate) fn stand_ins(&self) -> &Path {
        &self.stand_ins
    }

    /// Where the copy of a dump is laid, for its programs to read.
    pub(crate) fn spool(&self) -> &Path {
        &self.spool
    }

    /// The image, with its id in place of a version.
    pub(crate) fn image(&self) -> &Tool {
        &self.image
    }

    pub(super) fn inside(&self) -> &Inside {
        &self.inside
    }

    pub(super) fn isolation(&self) -> &[String] {
        &self.isolation
    }

    /// What ends it, with all that runs in it, from another thread.
    pub(super) fn killer(&self) -> Box<dyn Fn() + Send> {
        let inside = self.inside.clone();
        Box::new(move || {
            let mut command = inside.client.command();
            command.arg("kill").arg(&inside.name);
            // One that is not there any more is as it should be.
            let _ = run(command);
        })
    }

    /// Ends and removes it, with all that runs in it.
    pub(super) fn remove(&mut self) -> io::Result<()> {
        let Some(served) = self.served.take() else { return Ok(()) };
        let ask = |words: &[&str]| {
            let mut command = self.inside.client.command();
            command.args(words).arg(&self.inside.name);
            run(command)
        };
        // One that is killed is removed by what started it, which ends then. `rm` would first ask it to stop, and wait.
        let _ = ask(&["kill"]);
        if served.has_ended_within(END_MAX) {
            return Ok(());
        }
        let removed = ask(&["rm", "--force"]);
        removed.map(drop).map_err(|why| io::Error::other(format!("the container {} stays: {why}", self.inside.name)))
    }

    fn write_stand_ins(&self, wanted: Wanted) -> io::Result<()> {
        let script = |program| {
            stand_ins::script(&StandIn {
                client: &self.inside.client.program,
                environment: &self.inside.client.environment,
                container: &self.inside.name,
                within: &self.inside.own,
                variables: wanted.variables,
                program,
            })
        };
        let programs = self.inside.programs.iter();
        let scripts: Vec<_> = programs.map(|(name, path)| (name.as_str(), script(path))).collect();
        stand_ins::write(&self.stand_ins, &scripts)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // What stays is found by its label.
        let _ = self.remove();
    }
}

/// What separates every container.
const ALWAYS: [&str; 7] = [
    "no network",
    "own root",
    "read-only root",
    "own processes",
    "no capabilities",
    "no new privileges",
    "ends with the drill",
];

impl Inside {
    /// The folder that belongs to what runs in it; its path is the same on both sides.
    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    /// A program, about to be run in it. It is known by its name: where it lies is the image's affair.
    pub(super) fn command(&self, program: &Path) -> Command {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path = self.programs.get(&name).unwrap_or(&name);
        let mut command = self.client.command();
        command.arg("exec").arg("--workdir").arg(&self.own);
        command.args(["--env=LC_ALL=C.UTF-8", "--env=TZ=UTC"]).arg(format!("--env=HOME={}", self.own.display()));
        command.arg(format!("--env={MARK}={}", self.name)).arg(&self.name).arg(path);
        command
    }

    /// Where programs are in it; an error as long as it does not run.
    fn look(&self, bin: Option<&Path>, names: &[&str]) -> Result<BTreeMap<String, String>, String> {
        let mut command = self.command(Path::new("sh"));
        let within = |name: &&str| bin.map_or_else(|| PathBuf::from(name), |bin| bin.join(name));
        command.args(["-c", LOOK, "sh"]).args(names.iter().map(within));
        let said = String::from_utf8_lossy(&run(command)?).into_owned();
        let found = said.lines().filter(|line| line.starts_with('/'));
        Ok(found.filter_map(|path| Some((path.rsplit_once('/')?.1.to_owned(), path.to_owned()))).collect())
    }
}

impl Client {
    /// The program with its own environment and nothing else. What it leaves running must not look like the drill's
    /// (no [`MARK`]): it removes the container once that has ended.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").stdin(Stdio::null()).process_group(0);
        command
    }

    /// Its name and version: `podman 4.3.1`.
    fn product(&self) -> Result<String, NotReady> {
        let mut command = self.command();
        command.arg("--version");
        let said = run(command).map_err(|why| NotReady::CannotRun {
            reason: format!("{} cannot be started: {why}", self.program.display()),
            hint: Some("install podman or docker, or name its program".to_owned()),
        })?;
        let said = String::from_utf8_lossy(&said).into_owned();
        product(&said)
            .ok_or_else(|| NotReady::cannot_run(format!("{} is neither podman nor docker", self.program.display())))
    }

    /// The id of an image that is here.
    fn find(&self, image: &str) -> Result<String, NotReady> {
        let mut command = self.command();
        command.args(["image", "inspect", "--format", "{{.Id}}", "--", image]);
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        let id = run(command).map_err(|why| match is_missing(&why) {
            true => NotReady::CannotRun {
                reason: format!("the image {image} is not here"),
                hint: Some(format!("a drill fetches nothing; fetch it once: {name} pull {image}")),
            },
            false => NotReady::cannot_run(format!("{name} does not work here: {why}")),
        })?;
        let id = String::from_utf8_lossy(&id).trim().to_owned();
        Ok(if id.contains(':') { id } else { format!("sha256:{id}") })
    }

    /// Removes the containers of drills in `parent` whose folder is gone: while a drill lives, its folder is there.
    fn sweep(&self, parent: &Path) {
        let mut command = self.command();
        command.args(["ps", "--all", "--format", "{{.Names}}", "--filter"]);
        command.arg(format!("label={LABEL}={}", parent.display()));
        let names = run(command).unwrap_or_default();
        let names = String::from_utf8_lossy(&names).into_owned();
        for name in names.lines().filter(|name| name.starts_with(PREFIX) && !parent.join(name).exists()) {
            let mut command = self.command();
            command.args(["rm", "--force", name]);
            // One that stays is nobody's harm: it has nothing and reaches nothing. The next drill tries again.
            let _ = run(command);
        }
    }
}

/// What the container is told whatever it holds.
fn words(inside: &Inside, product: &str, (uid, gid): (u32, u32)) -> Vec<String> {
    let fixed = [
        "run",
        "--rm",
        "--interactive",
        "--pull=never",
        "--network=none",
        "--read-only",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        // Where parallel work of a server meets; 64 MB, as it is usually, is not enough for an index.
        "--shm-size=1g",
        "--tmpfs=/tmp:rw,size=64m,mode=1777",
    ];
    let mut words: Vec<String> = fixed.map(str::to_owned).to_vec();
    words.push(format!("--name={}", inside.name));
    words.push(format!("--user={uid}:{gid}"));
    words.push(format!("--env={MARK}={}", inside.name));
    if !is_root() && product.starts_with("podman") {
        // What it writes then belongs to the caller, on both sides.
        words.push("--userns=keep-id".to_owned());
    }
    words
}

/// Who is known inside: an engine wants to find its own name.
fn accounts(own: &Path, (uid, gid): (u32, u32)) -> [(&'static str, String); 2] {
    let own = own.display();
    [
        ("passwd", format!("root:x:0:0::/:/bin/false\ndrill:x:{uid}:{gid}::{own}:/bin/false\n")),
        ("group", format!("root:x:0:\ndrill:x:{gid}:\n")),
    ]
}

/// Who runs in it: somebody of their own when root drills, else the caller.
fn ids(run_as: &RunAs) -> Result<(u32, u32), NotReady> {
    if is_root() {
        return own_uid(run_as);
    }
    Ok((nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()))
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// `podman version 4.3.1`, `Docker version 24.0.5, build ced0996`.
fn product(said: &str) -> Option<String> {
    let mut words = said.split_whitespace();
    let name = words.next()?.to_lowercase();
    let version = words.find(|word| word.starts_with(|first: char| first.is_ascii_digit()))?;
    matches!(name.as_str(), "podman" | "docker").then(|| format!("{name} {}", version.trim_end_matches(',')))
}

/// Whether it was said that there is no such image, and nothing else is wrong.
fn is_missing(why: &str) -> bool {
    let why = why.to_lowercase();
    ["image not known", "no such image", "no such object"].iter().any(|words| why.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_for_containers_says_what_it_is() {
        assert_eq!(product("podman version 4.3.1\n").as_deref(), Some("podman 4.3.1"));
        assert_eq!(product("Docker version 24.0.5, build ced0996").as_deref(), Some("docker 24.0.5"));
        assert_eq!((product("nerdctl version 1.0"), product("podman"), product("")), (None, None, None));
    }

    #[test]
    fn an_image_that_is_missing_is_told_from_a_program_that_does_not_work() {
        assert!(is_missing("Error: inspecting object: postgres:16: image not known"));
        assert!(is_missing("Error response from daemon: No such image: postgres:16"));
        assert!(!is_missing("Cannot connect to the Docker daemon at unix:///var/run/docker.sock."));
    }

    #[test]
    fn a_machine_without_the_program_cannot_run_the_drill() {
        let parent = tempfile::tempdir().unwrap();
        let folder = SandboxFolder::create(parent.path()).unwrap();
        let settings = ContainerSettings {
            image: "postgres:16".into(),
            program: parent.path().join("podman"),
            environment: Vec::new(),
            bin: None,
            memory_bytes: None,
            processes_max: None,
        };
        let wanted = Wanted { programs: &["postgres"], variables: &[] };
        let outcome = Container::start(&folder, &settings, &RunAs::OwnUid, wanted, &Cancel::new());
        assert!(matches!(outcome, Err(NotReady::CannotRun { reason, .. }) if reason.contains("cannot be started")));
    }
}
