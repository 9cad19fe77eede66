//! Databases as users meet them: from the command line into a repository and back. What the engines themselves do is
//! tested where they are.

#[cfg(test)]
#[path = "../program/driver.rs"]
#[expect(dead_code, reason = "other tests need the rest")]
mod driver;
#[cfg(test)]
mod mongodb;
#[cfg(test)]
mod mysql;
#[cfg(test)]
mod redis;
#[cfg(test)]
mod runbook;
#[cfg(test)]
mod sqlite;
