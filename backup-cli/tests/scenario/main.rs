//! Everything together, with real servers: the file under `examples/` from `init` to a daemon that has run each of its jobs,
//! a Prometheus and an Alertmanager that watch it, a browser that shows its page, catchers for its messages, and what
//! happens when something is killed, doubled, or away.
//!
//! `scripts/tools` installs the programs; a missing one fails its tests. Each test starts its own servers and stops them.
//! Schedules are of minutes, so each test waits for one at most; they wait side by side.

#[cfg(test)]
mod alerted;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod catcher;
#[cfg(test)]
#[expect(dead_code, reason = "the other tests need more of the driver")]
#[path = "../program/driver.rs"]
mod driver;
#[cfg(test)]
mod ferretdb;
#[cfg(test)]
mod package;
#[cfg(test)]
mod page;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of databases need more of it")]
#[path = "../postgres/server.rs"]
mod postgres;
#[cfg(test)]
#[path = "../daemon/running.rs"]
mod running;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of the store need more of it")]
#[path = "../../../backup-store/tests/servers/mod.rs"]
mod servers;
#[cfg(test)]
mod stopped;
#[cfg(test)]
mod told;
#[cfg(test)]
mod whole;

/// The path of a program that `scripts/tools` installs.
#[cfg(test)]
#[track_caller]
fn tool(variable: &str) -> std::path::PathBuf {
    std::env::var_os(variable).unwrap_or_else(|| panic!("{variable} names no program")).into()
}

/// A server that is killed when the test ends, however it ends.
#[cfg(test)]
struct Running(std::process::Child);

#[cfg(test)]
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
