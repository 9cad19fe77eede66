//! A line of a given round-trip time and bandwidth between clients and one server, on loopback: the kernel's own
//! emulation (netem) is not in every kernel. `benches/network` compiles and starts it.
//!
//!     line SERVER:PORT ROUND_TRIP_MS MEGABYTES_PER_SECOND
//!
//! The first line that it prints is the address that it listens on. Then, for every line that it reads, it prints what
//! passed since the one before: requests, bytes to the server, bytes from it.
//!
//! Both directions have the bandwidth each, shared by all connections; a byte arrives half a round trip after it left.
//! A new connection costs one round trip more, as the handshake does. At most [`WINDOW_PIECES`] pieces of a connection are
//! on their way in one direction, as a receive window allows. Slow start, losses and TLS are left out: they would cost
//! those most who open most connections.

use std::env;
use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const PIECE_BYTES: usize = 64 * 1024;
/// 6 MiB, Linux's default limit for a receive buffer (`net.ipv4.tcp_rmem`).
const WINDOW_PIECES: usize = 96;
const METHODS: [&[u8]; 5] = [b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE "];

struct Line {
    one_way: Duration,
    bytes_per_second: f64,
}

/// One direction of the line, shared by all connections.
struct Direction {
    free_at: Mutex<Instant>,
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl Direction {
    fn new() -> Arc<Self> {
        Arc::new(Self { free_at: Mutex::new(Instant::now()), bytes: AtomicU64::new(0), requests: AtomicU64::new(0) })
    }

    /// When a piece that leaves now has wholly left.
    fn send(&self, bytes: usize, line: &Line) -> Instant {
        let mut free_at = self.free_at.lock().unwrap();
        let took = Duration::from_secs_f64(bytes as f64 / line.bytes_per_second);
        *free_at = Instant::now().max(*free_at) + took;
        *free_at
    }
}

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let [_, server, round_trip, bandwidth] = arguments.as_slice() else {
        eprintln!("usage: line SERVER:PORT ROUND_TRIP_MS MEGABYTES_PER_SECOND");
        std::process::exit(2);
    };
    let round_trip = Duration::from_secs_f64(round_trip.parse::<f64>().unwrap() / 1000.0);
    let bytes_per_second = bandwidth.parse::<f64>().unwrap() * 1e6;
    let line = Arc::new(Line { one_way: round_trip / 2, bytes_per_second });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let (up, down) = (Direction::new(), Direction::new());
    {
        let (up, down, server) = (Arc::clone(&up), Arc::clone(&down), server.clone());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (up, down, line, server) = (Arc::clone(&up), Arc::clone(&down), Arc::clone(&line), server.clone());
                thread::spawn(move || {
                    thread::sleep(line.one_way * 2);
                    if let Ok(upstream) = TcpStream::connect(&server) {
                        let _ = connect(&client, &upstream, &line, &up, &down);
                    }
                });
            }
        });
    }
    for _ in io::stdin().lock().lines() {
        let taken = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        println!("{} {} {}", taken(&up.requests), taken(&up.bytes), taken(&down.bytes));
    }
}

fn connect(
    client: &TcpStream,
    server: &TcpStream,
    line: &Arc<Line>,
    up: &Arc<Direction>,
    down: &Arc<Direction>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    for (from, to, direction) in [(client, server, up), (server, client, down)] {
        let (mut from, to, direction, line) = (from.try_clone()?, to.try_clone()?, Arc::clone(direction), Arc::clone(line));
        let (sender, receiver) = sync_channel(WINDOW_PIECES);
        thread::spawn(move || deliver(&receiver, to));
        thread::spawn(move || take(&mut from, &sender, &line, &direction));
    }
    Ok(())
}

fn take(from: &mut TcpStream, sender: &SyncSender<(Instant, Vec<u8>)>, line: &Line, direction: &Direction) {
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let Ok(count @ 1..) = from.read(&mut piece) else { return };
        piece.truncate(count);
        // A client sends a request only after the answer to the last one, so it begins a piece.
        if METHODS.iter().any(|method| piece.starts_with(method)) {
            direction.requests.fetch_add(1, Ordering::Relaxed);
        }
        direction.bytes.fetch_add(count as u64, Ordering::Relaxed);
        let arrives = direction.send(count, line) + line.one_way;
        if sender.send((arrives, piece)).is_err() {
            return;
        }
    }
}

fn deliver(receiver: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    for (arrives, piece) in receiver {
        thread::sleep(arrives.saturating_duration_since(Instant::now()));
        if to.write_all(&piece).is_err() {
            return;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
