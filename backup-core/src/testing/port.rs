//! Ports for servers that tests start.
//!
//! A server that is told to take any free port does not tell which one it took, so the test chooses. What the system
//! gives to whoever asks for any port, it may give to somebody else before the server has it; so these are ports that it
//! gives to nobody, and a test claims each one until its process ends. Two tests never have the same, in whichever
//! processes they run.

#![expect(clippy::expect_used, reason = "a machine without a free port has no place for the test")]

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// The lowest port that is given away: well above those that services have by habit.
const FIRST: u16 = 10_000;

/// What claims the ports of this process: names in the kernel, which go with the process, however it ends.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port of this machine that nobody else has and nobody else will be given. Panics where there is none left.
pub fn free_port() -> u16 {
    let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
    let ports = FIRST..first_given_away().max(FIRST + 1);
    // Processes begin in places of their own, so that they seldom try the same.
    let begin = std::process::id().wrapping_mul(997) as usize % ports.len();
    let mut turn = ports.clone().skip(begin).chain(ports.take(begin));
    let found = turn.find_map(|port| Some((port, claimed(port)?)));
    let (port, claim) = found.expect("some port between those of services and those given away is free");
    claims.push(claim);
    port
}

/// The first port that the system gives to whoever asks for any (ip(7)).
fn first_given_away() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768)
}

/// Claims a port, unless another test has it or somebody listens there.
fn claimed(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("backup-test-port-{port}")).ok()?;
    let claim = UnixListener::bind_addr(&name).ok()?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|_| claim)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nobody_gets_a_port_that_somebody_has_or_that_the_system_gives_away() {
        let ports: BTreeSet<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..20).map(|_| free_port()).collect::<Vec<_>>())).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(ports.len(), 80, "each once");
        assert!(ports.iter().all(|port| (FIRST..first_given_away()).contains(port)), "{ports:?}");
        assert!(ports.iter().all(|port| claimed(*port).is_none()), "no other process may claim one");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
        assert_ne!(free_port(), listener.local_addr().unwrap().port());
    }
}
