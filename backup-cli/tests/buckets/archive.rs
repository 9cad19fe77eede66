//! A proxy before an S3 server that makes an archive of it, since no server that can be had here has one: what was put
//! with a storage class cannot be read once it is frozen, until it was asked for and some looks have passed.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// Looks after which what was asked for can be read.
const LOOKS: u32 = 3;

/// A running proxy. Its threads end with the program.
pub(crate) struct Archive {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// The paths of what was put with a storage class.
    cold: HashSet<String>,
    is_frozen: bool,
    /// What was asked for, and how often somebody has looked since.
    asked: HashMap<String, u32>,
    /// What was said when it was asked for.
    requests: Vec<String>,
}

struct Request {
    head: String,
    body: Vec<u8>,
}

impl Archive {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || drop(serve(client, server, &shared)));
            }
        });
        Self { address, state }
    }

    /// Moves what has a storage class into the archive, and forgets what was asked for.
    pub(crate) fn freeze(&self) {
        let mut state = self.state();
        state.is_frozen = true;
        state.asked.clear();
        state.requests.clear();
    }

    /// The bodies of the requests by which something was asked for.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// How many objects lie there.
    pub(crate) fn objects(&self) -> usize {
        self.state().cold.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Request {
    fn read(client: &mut TcpStream) -> io::Result<Self> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            client.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut request = Self { head, body: Vec::new() };
        let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
        request.body.resize(length, 0);
        client.read_exact(&mut request.body)?;
        Ok(request)
    }

    fn method(&self) -> &str {
        self.head.split(' ').next().unwrap()
    }

    fn path_and_query(&self) -> (&str, &str) {
        let target = self.head.split(' ').nth(1).unwrap();
        target.split_once('?').unwrap_or((target, ""))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    /// The whole answer of the server, which closes when it has given it.
    fn forward(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        let kept = self.head.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let head = kept.chain(["Connection: close", "", ""]).collect::<Vec<_>>().join("\r\n");
        let mut stream = TcpStream::connect(server)?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(&self.body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

fn serve(mut client: TcpStream, server: SocketAddr, state: &Mutex<State>) -> io::Result<()> {
    let request = Request::read(&mut client)?;
    let (path, query) = request.path_and_query();
    if request.method() == "PUT" && request.header("x-amz-storage-class").is_some() {
        state.lock().unwrap().cold.insert(path.to_owned());
    }
    let is_archived = {
        let state = state.lock().unwrap();
        state.is_frozen && state.cold.contains(path)
    };
    if !is_archived {
        return client.write_all(&request.forward(server)?);
    }
    let looks = state.lock().unwrap().asked.get(path).copied();
    match (request.method(), query) {
        ("POST", "restore") if looks.is_some() => client.write_all(&refusal(409, "RestoreAlreadyInProgress")),
        ("POST", "restore") => {
            let mut state = state.lock().unwrap();
            state.asked.insert(path.to_owned(), 0);
            state.requests.push(String::from_utf8_lossy(&request.body).into_owned());
            client.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        ("GET", _) if looks.is_none_or(|looks| looks < LOOKS) => client.write_all(&refusal(403, "InvalidObjectState")),
        ("HEAD", _) => {
            let answer = String::from_utf8_lossy(&request.forward(server)?).into_owned();
            let restore = match looks {
                None => None,
                Some(looks) if looks < LOOKS => Some("x-amz-restore: ongoing-request=\"true\""),
                Some(_) => {
                    Some("x-amz-restore: ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2035 00:00:00 GMT\"")
                }
            };
            state.lock().unwrap().asked.entry(path.to_owned()).and_modify(|looks| *looks += 1);
            let kept =
                answer.trim_end().lines().filter(|line| !line.to_ascii_lowercase().starts_with("x-amz-storage-class"));
            let lines: Vec<_> = kept.chain(["x-amz-storage-class: GLACIER"]).chain(restore).chain(["", ""]).collect();
            client.write_all(lines.join("\r\n").as_bytes())
        }
        _ => client.write_all(&request.forward(server)?),
    }
}

fn refusal(status: u16, code: &str) -> Vec<u8> {
    let body =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>told by the archive</Message></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status} Refused\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").into_bytes()
}
