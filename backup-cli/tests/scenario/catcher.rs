//! A server that takes whatever is sent to it, and shows it to the test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// A catcher of webhooks; its thread ends with the process.
pub(crate) struct Catcher {
    address: SocketAddr,
    caught: Arc<Mutex<Vec<Value>>>,
}

impl Catcher {
    /// One on a free port.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let caught = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&caught);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One that says nothing sensible is nobody's test.
                if let Some(body) = take(stream) {
                    heard.lock().unwrap().push(body);
                }
            }
        });
        Self { address, caught }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// What it has got, oldest first.
    pub(crate) fn caught(&self) -> Vec<Value> {
        self.caught.lock().unwrap().clone()
    }
}

fn take(stream: TcpStream) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let mut bytes = 0;
    let mut line = String::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let head = line.trim_end().to_ascii_lowercase();
        if head.is_empty() {
            break;
        }
        if let Some(length) = head.strip_prefix("content-length:") {
            bytes = length.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; bytes];
    reader.read_exact(&mut body).ok()?;
    let mut stream = reader.into_inner();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").ok()?;
    serde_json::from_slice(&body).ok()
}
