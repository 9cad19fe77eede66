//! Repositories in buckets, from beginning to end, against servers that the tests start (`servers` names the programs);
//! restic (`BACKUP_TEST_RESTIC`) reads what lies there. A missing program fails its tests.

#[cfg(test)]
mod archive;
#[cfg(test)]
mod copies;
#[cfg(test)]
#[path = "../program/driver.rs"]
mod driver;
#[cfg(test)]
mod google;
#[cfg(test)]
mod immutable;
#[cfg(test)]
mod life;
#[cfg(test)]
mod midrun;
#[cfg(test)]
mod pair;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of the store need more of it")]
#[path = "../../../backup-store/tests/rest/proxy.rs"]
mod proxy;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of the store need more of it")]
#[path = "../../../backup-store/tests/rest/server.rs"]
mod rest;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of the store need more of it")]
#[path = "../../../backup-store/tests/servers/mod.rs"]
mod servers;
#[cfg(test)]
#[path = "../program/silent.rs"]
mod silent;
#[cfg(test)]
mod thaw;
#[cfg(test)]
#[path = "../tree/mod.rs"]
mod tree;
#[cfg(test)]
mod wrong;

#[cfg(test)]
use std::process::Command;

#[cfg(test)]
use driver::{Ran, World};

/// The program, about to work on the repository at `place` with these variables.
#[cfg(test)]
fn command(world: &World, place: &str, variables: Vec<(String, String)>) -> Command {
    let mut command = world.command();
    command.env("HOME", world.path()).env("BACKUP_REPO", place).envs(variables);
    command
}

/// The same, run.
#[cfg(test)]
fn run(world: &World, place: &str, variables: Vec<(String, String)>, arguments: &[&str]) -> Ran {
    Ran::of(&command(world, place, variables).args(arguments).output().unwrap())
}
