//! The sandboxes of databases: which one an engine gets, and where its programs are.

use std::env;
use std::path::PathBuf;

use backup_core::contracts::Sandbox;
#[cfg(feature = "postgres")]
use backup_sources::databases::manifest::Manifest;
#[cfg(feature = "mongodb")]
use backup_sources::databases::mongodb::MongodbDump;
use backup_sources::databases::url::Engine;
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
use backup_sources::sandbox::{ContainerSettings, RunAs, SandboxPlace};

use super::Sandboxes;
use crate::databases::Known;
#[cfg(feature = "postgres")]
use crate::databases::postgres;
use crate::exit::Failure;
use crate::session::Session;

/// Where servers' programs are and `PATH` often does not lead.
const ALSO: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// Programs for containers, in the order in which they are looked for.
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
const FOR_CONTAINERS: [&str; 2] = ["podman", "docker"];

/// What a program for containers finds its configuration, its daemon and its own programs by.
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
const OF_CONTAINERS: [&str; 17] = [
    "PATH",
    "HOME",
    "USER",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF",
    "CONTAINER_HOST",
    "STORAGE_DRIVER",
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_CERT_PATH",
    "DOCKER_TLS_VERIFY",
];

/// The sandbox for a dump. Nothing is made yet.
pub(super) fn sandbox(
    engine: Engine,
    known: Known,
    sandboxes: &Sandboxes,
    session: &Session,
) -> Result<Box<dyn Sandbox>, Failure> {
    if sandboxes.place.server.is_some() && !matches!(engine, Engine::Postgres | Engine::Mongodb) {
        let what = format!("sandbox.server is for PostgreSQL and MongoDB, and the snapshot is of {}", engine.name());
        return Err(Failure::usage(what, "leave it away: a server is started for the drill"));
    }
    if sandboxes.place.container.is_some() && engine == Engine::Sqlite {
        let what = "sandbox.container is for servers, and the snapshot is of SQLite, which is built in";
        return Err(Failure::usage(what, "leave it away"));
    }
    let Known { manifest, files } = known;
    let _ = &files;
    match engine {
        #[cfg(feature = "mongodb")]
        Engine::Mongodb => mongodb_sandbox(MongodbDump { manifest, beforehand: files }, sandboxes, session),
        #[cfg(feature = "postgres")]
        Engine::Postgres => postgres_sandbox(manifest, sandboxes, session),
        #[cfg(feature = "mysql")]
        Engine::Mysql => {
            let programs = programs(sandboxes, Some("BACKUP_MYSQL_BIN"));
            Ok(Box::new(backup_sources::databases::mysql::MysqlSandbox::new(manifest, place(sandboxes), programs)))
        }
        #[cfg(feature = "redis")]
        Engine::Redis => {
            let clock = std::sync::Arc::new(backup_core::clock::SystemClock);
            let programs = programs(sandboxes, None);
            Ok(Box::new(backup_sources::databases::redis::RedisSandbox::new(
                manifest,
                place(sandboxes),
                programs,
                clock,
            )))
        }
        #[cfg(feature = "sqlite")]
        Engine::Sqlite => {
            let sandbox = backup_sources::databases::sqlite::SqliteSandbox::new(sandboxes.parent.clone());
            Ok(Box::new(sandbox.with_shown(sandboxes.shown())))
        }
        other => {
            let _ = (manifest, session);
            Err(Failure::new(format!("this program has no sandbox for {}", other.name())))
        }
    }
}

#[cfg(feature = "mongodb")]
fn mongodb_sandbox(dump: MongodbDump, sandboxes: &Sandboxes, session: &Session) -> Result<Box<dyn Sandbox>, Failure> {
    use backup_sources::databases::mongodb::{MongodbSandbox, MongodbScratch, MongodbSettings};
    use backup_sources::databases::url::DatabaseUrl;

    let Some(origin) = &sandboxes.place.server else {
        return Ok(Box::new(MongodbSandbox::new(dump, place(sandboxes), programs(sandboxes, None))));
    };
    let url = DatabaseUrl::parse(origin.read("sandbox.server", &session.console)?.as_str())?;
    if url.engine() != Engine::Mongodb {
        let what = format!("sandbox.server is of {}, and the snapshot of MongoDB", url.engine().name());
        return Err(Failure::usage(what, "name one of MongoDB: mongodb://drill@scratch/"));
    }
    Ok(Box::new(MongodbScratch::new(dump, MongodbSettings::new(&url))))
}

#[cfg(feature = "postgres")]
fn postgres_sandbox(manifest: Manifest, sandboxes: &Sandboxes, session: &Session) -> Result<Box<dyn Sandbox>, Failure> {
    use backup_sources::databases::postgres::{PostgresSandbox, PostgresScratch, Server};
    use backup_sources::databases::url::DatabaseUrl;

    let bin =
        sandboxes.place.bin.clone().map(PathBuf::from).or_else(|| env::var_os("BACKUP_PG_BIN").map(PathBuf::from));
    let settings = postgres::settings(bin.as_deref(), &session.console);
    let Some(origin) = &sandboxes.place.server else {
        return Ok(Box::new(PostgresSandbox::new(manifest, place(sandboxes), settings.folders)));
    };
    let url = origin.read("sandbox.server", &session.console)?;
    let server = Server::new(&DatabaseUrl::parse(url.as_str())?, &settings)?;
    Ok(Box::new(PostgresScratch::new(manifest, server, sandboxes.parent.clone())))
}

#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
fn place(sandboxes: &Sandboxes) -> SandboxPlace {
    let container = sandboxes.place.container.as_ref().map(|container| ContainerSettings {
        image: container.image.clone(),
        program: for_containers(container.program.as_deref()),
        environment: OF_CONTAINERS.iter().filter_map(|name| Some(((*name).to_owned(), env::var_os(name)?))).collect(),
        bin: sandboxes.place.bin.clone().map(PathBuf::from),
        memory_bytes: container.memory,
        processes_max: container.processes,
    });
    let place = SandboxPlace { container, shown: sandboxes.shown(), ..SandboxPlace::new(sandboxes.parent.clone()) };
    match &sandboxes.place.user {
        Some(user) => SandboxPlace { run_as: RunAs::Named(user.clone()), ..place },
        None => place,
    }
}

/// The program that was named, found as a shell would, or the first that is here. One that is not here keeps its name: the
/// drill then says that it cannot run.
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "postgres", feature = "redis"))]
fn for_containers(named: Option<&str>) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = env::split_paths(&path).chain(ALSO.map(PathBuf::from)).collect();
    let names = named.map_or_else(|| FOR_CONTAINERS.to_vec(), |name| vec![name]);
    let found = |name: &&str| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    names.iter().find_map(found).unwrap_or_else(|| PathBuf::from(names[0]))
}

/// The only folder when one is named, else those of `PATH` and where servers are.
#[cfg(any(feature = "mongodb", feature = "mysql", feature = "redis"))]
fn programs(sandboxes: &Sandboxes, variable: Option<&str>) -> Vec<PathBuf> {
    if let Some(bin) = &sandboxes.place.bin {
        return vec![PathBuf::from(bin)];
    }
    let named = variable.and_then(env::var_os).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    named.into_iter().chain(path).chain(ALSO.map(PathBuf::from)).collect()
}
