//! The program and containers: drills that restore in one, the image that the `Containerfile` makes, and the packaged unit
//! under a systemd of its own.
//!
//! `scripts/tools` installs podman and puts the images together; no registry is asked. Each test has a storage of its own.

#[cfg(test)]
mod drilled;
#[cfg(test)]
#[expect(dead_code, reason = "the other tests need more of the driver")]
#[path = "../program/driver.rs"]
mod driver;
#[cfg(test)]
mod image;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of the sandboxes need more of it")]
#[path = "../../../backup-sources/tests/engines/podman.rs"]
mod podman;
#[cfg(test)]
#[expect(dead_code, reason = "the tests of databases need more of it")]
#[path = "../postgres/server.rs"]
mod postgres;
#[cfg(test)]
mod unit;
