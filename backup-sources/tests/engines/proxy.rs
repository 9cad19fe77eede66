//! A network that fails: it passes bytes on between a client and a server's socket until it is told otherwise.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

/// What happens to what a server sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The connection ends after so many bytes.
    CutAfter(usize),
    /// The byte at this place is another.
    FlipAt(usize),
}

/// Listens at the path that it gives, for one connection.
pub(crate) fn proxy(folder: &Path, server: PathBuf, fault: Fault) -> PathBuf {
    let path = folder.join(format!("proxy-{fault:?}"));
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let Ok((client, _)) = listener.accept() else { return };
        let server = UnixStream::connect(server).unwrap();
        let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut &from_client, &mut &to_server));
        pass(&server, &client, fault);
        let _ = client.shutdown(std::net::Shutdown::Both);
        let _ = server.shutdown(std::net::Shutdown::Both);
    });
    path
}

fn pass(mut from: &UnixStream, mut to: &UnixStream, fault: Fault) {
    let (mut passed, mut buffer) = (0, vec![0; 64 * 1024]);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..length];
        let mut kept = length;
        match fault {
            Fault::CutAfter(limit) => kept = length.min(limit - passed),
            Fault::FlipAt(at) if (passed..passed + length).contains(&at) => bytes[at - passed] ^= 1,
            Fault::FlipAt(_) => {}
        }
        if to.write_all(&bytes[..kept]).is_err() || kept < length {
            return;
        }
        passed += length;
    }
}
