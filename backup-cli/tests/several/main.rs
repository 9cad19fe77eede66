//! Several processes use one repository at once, and nothing is lost.

#[cfg(test)]
mod at_once;
#[cfg(test)]
#[expect(dead_code, reason = "the other tests need more of the driver")]
#[path = "../program/driver.rs"]
mod driver;
#[cfg(test)]
#[path = "../tree/mod.rs"]
mod tree;
