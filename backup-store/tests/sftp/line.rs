//! A line on loopback between `ssh` and its server that breaks, stands still or is slow.
//!
//! It knows nothing of what passes: a connection is two streams of bytes, and what happens to the one of a number is
//! decided before it begins.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use backup_core::contracts::Sink;
use backup_store::{Access, Place};

use crate::server::Server;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is cut after so many bytes of this way.
    Cut(Way, usize),
    /// After so many bytes of this way nothing moves on it any more, and it stays open.
    Stall(Way, usize),
    /// Whatever passes comes so much later, both ways.
    Latency(Duration),
}

/// A running line. It takes no more connections once it is dropped.
pub(crate) struct Line {
    port: u16,
    troubles: Arc<AtomicU64>,
}

impl Line {
    /// A line to `server`, where `plan` says what happens to the connection of a number.
    pub(crate) fn start(server: &Server, plan: impl Fn(u64) -> Option<Trouble> + Send + 'static) -> Self {
        Self::harming(server, u64::MAX, plan)
    }

    /// A line on which this happens to one connection: the first of which so much has passed.
    pub(crate) fn once(server: &Server, trouble: Trouble) -> Self {
        Self::harming(server, 1, move |_| Some(trouble))
    }

    fn harming(server: &Server, most: u64, plan: impl Fn(u64) -> Option<Trouble> + Send + 'static) -> Self {
        let server = (Ipv4Addr::LOCALHOST, port_of(server));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let troubles = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&troubles);
        thread::spawn(move || {
            for (number, client) in (0..).zip(listener.incoming()) {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { continue };
                let trouble = plan(number);
                for way in [Way::ToServer, Way::ToClient] {
                    let (from, to) = match way {
                        Way::ToServer => (&client, &server),
                        Way::ToClient => (&server, &client),
                    };
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let counted = Arc::clone(&counted);
                    thread::spawn(move || pass(from, to, way, trouble, (&counted, most)));
                }
            }
        });
        Self { port, troubles }
    }

    /// The sink over a folder of the server, reached by this line.
    pub(crate) fn sink(&self, server: &Server, name: &str) -> Arc<dyn Sink> {
        let folder = server.path(name);
        fs::create_dir_all(&folder).unwrap();
        let port = port_of(server);
        let settings = fs::read_to_string(server.path("ssh_config")).unwrap();
        let settings = settings.replace(&format!("Port {port}"), &format!("Port {}", self.port));
        let file = server.path(&format!("ssh_config_{}", self.port));
        fs::write(&file, format!("{settings}HostKeyAlias [127.0.0.1]:{port}\n")).unwrap();
        let place = format!("sftp://store{}?ssh_config={}", folder.display(), file.display());
        Place::parse(place).unwrap().open(&Access::default()).unwrap()
    }

    /// How many connections came to harm.
    pub(crate) fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::Relaxed)
    }
}

fn port_of(server: &Server) -> u16 {
    let settings = fs::read_to_string(server.path("ssh_config")).unwrap();
    settings.lines().find_map(|line| line.strip_prefix("Port ")?.parse().ok()).unwrap()
}

fn pass(mut from: TcpStream, mut to: TcpStream, way: Way, trouble: Option<Trouble>, counted: (&AtomicU64, u64)) {
    let (troubles, most) = counted;
    let comes_to_harm = || {
        let one_more = |count| (count < most).then_some(count + 1);
        troubles.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    };
    let (mut piece, mut passed) = (vec![0; 16 * 1024], 0);
    while let Ok(count @ 1..) = from.read(&mut piece) {
        passed += count;
        match trouble {
            Some(Trouble::Cut(of, after)) if of == way && passed >= after && comes_to_harm() => break,
            Some(Trouble::Stall(of, after)) if of == way && passed >= after && comes_to_harm() => {
                // Swallowed for as long as the other side sends.
                while matches!(from.read(&mut piece), Ok(1..)) {}
                break;
            }
            Some(Trouble::Latency(time)) => thread::sleep(time),
            _ => {}
        }
        if to.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
