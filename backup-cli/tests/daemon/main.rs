//! What lives on the configuration beside single runs: the daemon and what it shows, the units of other schedulers, the
//! rules for Prometheus.
//!
//! `BACKUP_TEST_PROMTOOL`, `BACKUP_TEST_SYSTEMD_ANALYZE` and `BACKUP_TEST_KUBERNETES_VALIDATE` name the programs that judge;
//! `scripts/tools` installs them. A missing one fails its tests.

#[cfg(test)]
mod alerts;
#[cfg(test)]
#[expect(dead_code, reason = "the other tests need more of the driver")]
#[path = "../program/driver.rs"]
mod driver;
#[cfg(test)]
mod judge;
#[cfg(test)]
#[expect(dead_code, reason = "the other tests need more of it")]
mod running;
#[cfg(test)]
mod serves;
#[cfg(test)]
mod units;
