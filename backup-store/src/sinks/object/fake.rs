//! A server of the tests' own, for those who hand out credentials.

#![expect(clippy::unwrap_used, reason = "a test fails where its server does")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A server on this machine that gives each request the same answer, and tells what it was asked, in small letters.
#[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "only those of one provider are so simple"))]
pub(crate) fn always(answer: &'static str) -> (SocketAddr, Receiver<String>) {
    fake(move |_| ("200 OK", answer.to_owned()))
}

/// One that answers as `answer` has it: with a status and a body.
pub(crate) fn fake(answer: impl Fn(&str) -> (&'static str, String) + Send + 'static) -> (SocketAddr, Receiver<String>) {
    served(move |request| {
        let (status, body) = answer(request);
        (status, Vec::new(), body)
    })
}

/// The same with headers. One of them may be the length of what a question by HEAD is not given.
pub(crate) fn served(
    answer: impl Fn(&str) -> (&'static str, Vec<(&'static str, String)>, String) + Send + 'static,
) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, heard) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut request, mut piece, mut whole) = (Vec::new(), [0; 1024], None);
            while whole.is_none_or(|whole| request.len() < whole) {
                let count = stream.read(&mut piece).unwrap();
                if count == 0 {
                    break;
                }
                request.extend_from_slice(&piece[..count]);
                whole = whole.or_else(|| whole_bytes(&request));
            }
            let request = String::from_utf8_lossy(&request).to_lowercase();
            let (status, mut headers, body) = answer(&request);
            let _ = asked.send(request);
            if !headers.iter().any(|(name, _)| *name == "Content-Length") {
                headers.push(("Content-Length", body.len().to_string()));
            }
            let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let answer = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, heard)
}

/// How long a request is, once its head is there.
fn whole_bytes(request: &[u8]) -> Option<usize> {
    let head = request.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
    let length = text.split_once("content-length: ").and_then(|(_, rest)| rest.lines().next()?.parse::<usize>().ok());
    Some(head + length.unwrap_or_default())
}
