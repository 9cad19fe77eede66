//! Which databases run on this machine, by what the kernel lists: nobody is spoken to.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::found::Found;

/// What runs here.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Servers {
    /// Those of which all is known that a job needs, but a password.
    pub(crate) found: Vec<Found>,
    /// Those of which the name of a database is missing: the URL without it.
    pub(crate) unnamed: Vec<String>,
}

/// Ports that everybody knows.
const POSTGRES: u16 = 5432;
const MYSQL: u16 = 3306;
const MONGODB: u16 = 27017;
const REDIS: u16 = 6379;

/// Looks which databases listen here.
pub(crate) fn servers() -> Servers {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut ports = ports(&read("/proc/net/tcp"));
    ports.extend(self::ports(&read("/proc/net/tcp6")));
    of(&ports, &sockets(&read("/proc/net/unix")))
}

fn of(ports: &BTreeSet<u16>, sockets: &BTreeSet<PathBuf>) -> Servers {
    let mut servers = Servers::default();
    let mut add = |text: &str, how: String| {
        servers.found.extend(Found::database(text, how));
    };
    let at_port = |port: u16| format!("listens on port {port} of this machine");
    if ports.contains(&POSTGRES) {
        add("postgres://backup@localhost:5432/", at_port(POSTGRES));
    }
    // A server that has no port for others has a socket, and one on another port tells it by its socket's name.
    for (folder, port) in sockets.iter().filter_map(|socket| postgres_socket(socket)) {
        if port == POSTGRES && ports.contains(&POSTGRES) {
            continue;
        }
        let how = format!("listens on the socket {}/.s.PGSQL.{port}", folder.display());
        match ports.contains(&port) {
            true => add(&format!("postgres://backup@localhost:{port}/"), how),
            false => add(&format!("postgres://backup@/?host={}&port={port}", folder.display()), how),
        }
    }
    if ports.contains(&MONGODB) {
        add("mongodb://localhost:27017/", at_port(MONGODB));
    }
    if ports.contains(&REDIS) {
        add("redis://localhost:6379/", at_port(REDIS));
    }
    let has_mysql_socket = sockets
        .iter()
        .any(|socket| socket.file_name().is_some_and(|name| name == "mysqld.sock" || name == "mysql.sock"));
    if ports.contains(&MYSQL) || has_mysql_socket {
        servers.unnamed.push("mysql://backup@localhost:3306/".to_owned());
    }
    servers
}

/// The ports that something listens on, from the kernel's table: the fourth word is 0A, and the second ends in the port.
fn ports(table: &str) -> BTreeSet<u16> {
    let port = |line: &str| {
        let mut words = line.split_whitespace();
        let (local, state) = (words.nth(1)?, words.nth(1)?);
        let (_, port) = local.rsplit_once(':')?;
        (state == "0A").then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().filter_map(port).collect()
}

/// The paths of sockets that something listens on: their flags say so.
fn sockets(table: &str) -> BTreeSet<PathBuf> {
    let path = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let path = words.get(7)?;
        (*words.get(3)? == "00010000" && path.starts_with('/')).then(|| PathBuf::from(path))
    };
    table.lines().filter_map(path).collect()
}

fn postgres_socket(path: &Path) -> Option<(&Path, u16)> {
    let port = path.file_name()?.to_str()?.strip_prefix(".s.PGSQL.")?.parse().ok()?;
    Some((path.parent()?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 1 1
   1: 0100007F:18EB 0100007F:1538 01 00000000:00000000 00:00000000 00000000   104        0 2 1
   2: 00000000:6989 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 3 1
   3: 00000000:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   104        0 3 1
";
    const UNIX: &str = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 20 /run/postgresql/.s.PGSQL.5432
0000000000000000: 00000002 00000000 00010000 0001 01 21 /srv/pg/.s.PGSQL.5433
0000000000000000: 00000003 00000000 00000000 0001 03 22 /srv/other/.s.PGSQL.5434
0000000000000000: 00000002 00000000 00010000 0001 01 23 @/abstract
";

    #[test]
    fn what_listens_is_found_and_what_is_connected_is_not() {
        assert_eq!(ports(TCP), BTreeSet::from([5432, 27017, 3306]));
        let servers = of(&ports(TCP), &sockets(UNIX));
        let urls: Vec<_> = servers.found.iter().map(Found::named).collect();
        assert_eq!(urls.len(), 3, "{urls:?}");
        assert_eq!(urls[0], "postgres://backup@localhost:5432/");
        assert!(urls[1].contains("5433") && urls[1].contains("pg"), "{urls:?}");
        assert_eq!(urls[2], "mongodb://localhost:27017/");
        assert_eq!(servers.unnamed, ["mysql://backup@localhost:3306/"]);
        assert_eq!(of(&BTreeSet::new(), &BTreeSet::new()), Servers::default());
    }

    #[test]
    fn a_table_that_is_cut_off_is_no_reason_to_fail() {
        for cut in 0..TCP.len() {
            let _ = (ports(&TCP[..cut]), sockets(&UNIX[..cut.min(UNIX.len())]));
        }
    }
}
