//! Which servers take each other's dumps: those of the same product and the same series of versions.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use backup_core::contracts::{NotReady, Tool};

use crate::databases::manifest::Manifest;
use crate::databases::mongodb::connection::Server;
use crate::databases::url::Engine;
use crate::sandbox::SandboxPlace;

/// A product, in a series of versions whose dumps fit into each other's servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Product {
    /// MongoDB: the first two numbers of its version (7.0, 8.0).
    Mongodb(u32, u32),
    /// FerretDB: the first number.
    Ferretdb(u32),
}

impl Product {
    /// That of the server which was dumped.
    pub(super) fn of_manifest(manifest: &Manifest) -> Result<Self, NotReady> {
        if manifest.engine != Engine::Mongodb.name() {
            return Err(NotReady::cannot_run(format!("the snapshot holds a database of {}", manifest.engine)));
        }
        Self::of_tools(&manifest.report.tools)
            .ok_or_else(|| NotReady::cannot_run("the manifest does not tell the server's version"))
    }

    /// That of a server that answers.
    pub(super) fn of_server(server: &Server) -> Option<Self> {
        Self::of_tools(&server.tools())
    }

    /// FerretDB says besides which version of MongoDB it speaks like.
    fn of_tools(tools: &[Tool]) -> Option<Self> {
        let version = |name: &str| tools.iter().find(|tool| tool.name == name).map(|tool| tool.version.as_str());
        match version("ferretdb") {
            Some(version) => Some(Self::Ferretdb(numbers(version)?.0)),
            None => numbers(version("mongodb")?).map(|(major, minor)| Self::Mongodb(major, minor)),
        }
    }

    /// The name of its server's program.
    fn program(self) -> &'static str {
        match self {
            Self::Mongodb(..) => "mongod",
            Self::Ferretdb(_) => "ferretdb",
        }
    }

    /// The server's program in the first of `folders` that has it in this series; they are the folders of `place`.
    pub(super) fn find(self, folders: &[PathBuf], place: &SandboxPlace) -> Result<PathBuf, NotReady> {
        // From the second version on it keeps everything in a PostgreSQL with an extension of its own.
        if let Self::Ferretdb(major @ 2..) = self {
            return Err(NotReady::CannotRun {
                reason: format!("FerretDB {major} has no server that could be started for a drill"),
                hint: Some("name one that is there for drills: sandbox.server".to_owned()),
            });
        }
        let mut other = None;
        for path in folders.iter().map(|folder| folder.join(self.program())) {
            match self.said_by(&path) {
                Some(found) if found == self => return Ok(path),
                Some(found) => other = other.or(Some(found)),
                None => {}
            }
        }
        let but = other.map(|found| format!(", but {found}")).unwrap_or_default();
        let local = format!("install it, name the folder of its {}, or a server for drills", self.program());
        Err(NotReady::CannotRun {
            reason: format!("{self} is not installed {}{but}", place.told()),
            hint: Some(place.hint(&self.to_string(), local)),
        })
    }

    /// What a program says that it is: `db version v7.0.5`, `version: v1.24.2`.
    fn said_by(self, program: &Path) -> Option<Self> {
        let said = Command::new(program).arg("--version").env_clear().stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(said.stdout).ok().filter(|_| said.status.success())?;
        let word = text.split_whitespace().find_map(|word| word.strip_prefix('v').and_then(numbers))?;
        Some(match self {
            Self::Mongodb(..) => Self::Mongodb(word.0, word.1),
            Self::Ferretdb(_) => Self::Ferretdb(word.0),
        })
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mongodb(major, minor) => write!(f, "MongoDB {major}.{minor}"),
            Self::Ferretdb(major) => write!(f, "FerretDB {major}"),
        }
    }
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use backup_core::testing::write_program;

    use super::*;

    fn tools(of: &[(&str, &str)]) -> Vec<Tool> {
        of.iter().map(|(name, version)| Tool { name: (*name).into(), version: (*version).into() }).collect()
    }

    #[test]
    fn a_product_is_known_by_what_the_server_said() {
        let of = |of: &[(&str, &str)]| Product::of_tools(&tools(of));
        assert_eq!(of(&[("mongodb", "7.0.5")]), Some(Product::Mongodb(7, 0)));
        assert_eq!(of(&[("mongodb", "8.2.0-rc1")]), Some(Product::Mongodb(8, 2)));
        assert_eq!(of(&[("mongodb", "7.0.42"), ("ferretdb", "1.24.2")]), Some(Product::Ferretdb(1)));
        assert_eq!(
            (of(&[]), of(&[("mongodb", "new")]), of(&[("mongodb", "7.0.42"), ("ferretdb", "?")])),
            (None, None, None)
        );
    }

    #[test]
    fn a_program_of_the_same_series_is_found_and_another_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mongod");
        write_program(&path, "#!/bin/sh\necho 'db version v7.0.5'\necho 'Build Info: {'\n");
        let folders = [folder.path().join("nothing"), folder.path().to_owned()];
        let place = SandboxPlace::new("/tmp");
        assert_eq!(Product::Mongodb(7, 0).find(&folders, &place).unwrap(), path);
        let reason = |product: Product| product.find(&folders, &place).unwrap_err().to_string();
        assert_eq!(reason(Product::Mongodb(8, 0)), "MongoDB 8.0 is not installed here, but MongoDB 7.0");
        assert_eq!(reason(Product::Ferretdb(1)), "FerretDB 1 is not installed here");
        assert_eq!(reason(Product::Ferretdb(2)), "FerretDB 2 has no server that could be started for a drill");
    }
}
