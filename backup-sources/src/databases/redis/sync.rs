//! The first half of replication: a server sends one state of all that it has, as to a new replica.

use std::fmt;
use std::io::{self, Read};

use super::connection::{Connection, Reply};

/// The length of the mark that ends a stream whose length nobody knew.
const MARK_BYTES: usize = 40;

/// A snapshot on its way from a server.
pub(super) struct Snapshot {
    connection: Connection,
    /// The replication's name and offset, when the server says them.
    pub(super) position: Option<String>,
    form: Form,
    received: u64,
}

/// How its end is known.
enum Form {
    /// So many bytes are still to come.
    Length(u64),
    /// It ends with a mark.
    Mark { mark: [u8; MARK_BYTES], held: Vec<u8>, given: usize, has_ended: bool },
}

impl Snapshot {
    /// Asks for one, and waits until it begins.
    ///
    /// # Errors
    ///
    /// In words, when the server does not send one.
    pub(super) fn ask(mut connection: Connection) -> Result<Self, String> {
        let lost = |error: io::Error| format!("while it was asked for a snapshot: {error}");
        // So that a server of version 7 does not keep for us what is written from now on; older ones do not know it.
        connection.command(&[b"REPLCONF", b"rdb-only", b"1"]).map_err(lost)?;
        let capable = connection.command(&[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]).map_err(lost)?;
        if let Reply::Failed(why) = capable
            && why.starts_with("NOPERM")
        {
            return Err(no_rights(&why));
        }
        connection.send(&[b"PSYNC", b"?", b"-1"]).and_then(|()| connection.flush()).map_err(lost)?;
        let mut position = None;
        loop {
            let line = connection.line().map_err(lost)?;
            let form = match line.split_at_checked(1) {
                // Empty lines say that it is still at work.
                None => continue,
                Some(("+", answer)) => {
                    let mut words = answer.split(' ');
                    if words.next() == Some("FULLRESYNC") {
                        position = Some(words.collect::<Vec<_>>().join(":"));
                    }
                    continue;
                }
                Some(("-", why)) if why.starts_with("NOPERM") => return Err(no_rights(why)),
                Some(("-", why)) if why.contains("unknown command") && position.is_none() => {
                    // It was renamed, or the server is from before 2.8.
                    position = Some(String::new());
                    connection.send(&[b"SYNC"]).and_then(|()| connection.flush()).map_err(lost)?;
                    continue;
                }
                Some(("-", why)) => return Err(format!("the server gives no snapshot: {why}")),
                Some(("$", length)) => match length.strip_prefix("EOF:") {
                    Some(mark) => {
                        let mark = mark.as_bytes().try_into().map_err(|_| "the server's mark has a strange length")?;
                        Form::Mark { mark, held: Vec::new(), given: 0, has_ended: false }
                    }
                    None => Form::Length(length.parse().map_err(|_| "the server says no length")?),
                },
                Some(_) => return Err(format!("the server gives no snapshot, but {line:?}")),
            };
            let position = position.filter(|position| !position.is_empty());
            return Ok(Self { connection, position, form, received: 0 });
        }
    }

    /// Whether everything came that the server promised.
    pub(super) fn is_whole(&self) -> bool {
        match &self.form {
            Form::Length(left) => *left == 0,
            Form::Mark { has_ended, .. } => *has_ended,
        }
    }

    fn cut_off(&self) -> io::Error {
        let received = self.received;
        io::Error::new(
            io::ErrorKind::UnexpectedEof,
            format!("the server closed the connection in the middle of its snapshot, after {received} bytes"),
        )
    }
}

impl Read for Snapshot {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let length = match &mut self.form {
            Form::Length(0) => return Ok(0),
            Form::Length(left) => {
                let wanted = buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                let length = self.connection.read(&mut buffer[..wanted])?;
                if length == 0 {
                    return Err(self.cut_off());
                }
                *left -= length as u64;
                length
            }
            Form::Mark { mark, held, given, has_ended } => {
                // The last bytes may be the mark: they are given out when more has come.
                while !*has_ended && held.len() - *given <= MARK_BYTES {
                    held.drain(..*given);
                    *given = 0;
                    let before = held.len();
                    held.resize(before + 256 * 1024, 0);
                    let length = self.connection.read(&mut held[before..])?;
                    held.truncate(before + length);
                    if length == 0 {
                        return Err(self.cut_off());
                    }
                    // Nothing follows the mark before a replica confirms.
                    if held.ends_with(&mark[..]) {
                        *has_ended = true;
                        held.truncate(held.len() - MARK_BYTES);
                    }
                }
                let kept_back = if *has_ended { 0 } else { MARK_BYTES };
                let length = buffer.len().min(held.len() - *given - kept_back);
                buffer[..length].copy_from_slice(&held[*given..*given + length]);
                *given += length;
                length
            }
        };
        self.received += length as u64;
        Ok(length)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("received", &self.received).finish_non_exhaustive()
    }
}

fn no_rights(why: &str) -> String {
    format!("the server gives this user no snapshot: {why}; it takes the rights +psync +replconf +ping +info")
}
