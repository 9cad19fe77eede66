//! An RDB file without a server: what it holds, and what a restore of it would send. For those who look at a file of a
//! repository, which somebody else may have written.

use std::io;

use backup_core::contracts::Expectation;
use backup_core::limits::READ_BUFFER_BYTES;

use super::keys::Keys;
use super::listener::{Key, Listener};
use super::rdb::RdbReader;
use super::target::payload;

/// What the file holds, in the form of a report's expectations; `None` when something in it is not known here.
///
/// # Errors
///
/// When it is no RDB file, damaged, or not whole: of kind [`io::ErrorKind::InvalidData`], or what reading it gave.
pub fn inspect(file: impl io::Read) -> io::Result<Option<Vec<Expectation>>> {
    let reader = read(file, Keys::default())?;
    let is_understood = reader.unread().is_none();
    Ok(is_understood.then(|| reader.into_listener().expectations()))
}

/// Gives each key of the file with what `RESTORE` is given of it, until something in it is not known here.
///
/// # Errors
///
/// As [`inspect`], and when a value is longer than a server takes.
pub fn payloads(file: impl io::Read, each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
    read(file, Payloads { version: 0, each }).map(drop)
}

fn read<L: Listener>(mut file: impl io::Read, listener: L) -> io::Result<RdbReader<L>> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    let mut reader = RdbReader::new(listener);
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => reader.feed(&buffer[..length]).map_err(invalid)?,
        }
    }
    reader.finish().map_err(invalid)?;
    Ok(reader)
}

struct Payloads<F> {
    version: u16,
    each: F,
}

impl<F: FnMut(&[u8], &[u8])> Listener for Payloads<F> {
    const WANTS_VALUES: bool = true;
    const WANTS_ELEMENTS: bool = false;

    fn version(&mut self, version: u16) {
        self.version = version;
    }

    fn fact(&mut self, _name: &[u8], _value: &[u8]) {}

    fn key(&mut self, key: Key<'_>) -> Result<(), String> {
        (self.each)(key.name, &payload(&key, self.version));
        Ok(())
    }

    fn function(&mut self, _library: &[u8]) -> Result<(), String> {
        Ok(())
    }

    fn module_data(&mut self) {}
}
