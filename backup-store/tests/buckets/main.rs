//! Object stores keep what a sink promises, and say what is wrong when they do not: against real servers, which
//! `servers` starts.

#![cfg(test)]

mod faults;
mod patient;
mod promises;
#[path = "../rest/proxy.rs"]
mod proxy;
mod refusals;
#[expect(dead_code, reason = "the tests of other crates need more of it")]
#[path = "../servers/mod.rs"]
mod servers;
#[path = "../rest/work.rs"]
mod work;

use std::sync::Arc;

use backup_core::contracts::Sink;
use backup_store::{Access, Environment, Place};

/// The sink of a place, opened with these variables.
fn open(place: &str, variables: Vec<(String, String)>) -> Arc<dyn Sink> {
    let access = Access { credentials: None, environment: Environment::new(variables) };
    Place::parse(place).unwrap().open(&access).unwrap()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}
