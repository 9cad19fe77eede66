//! pg_dump's output as a stream: looked into as it passes, and judged at its end.

use std::io::{self, Read};
use std::process::Command;

use backup_core::contracts::SourceError;
use backup_core::model::SnapshotPath;

use super::archive::{Found, HEAD_BYTES, Inspector, Layout, forget_instant};
use super::contents::Contents;
use super::failure;
use crate::program::{Ended, Program};

/// A dump that is being made.
pub(super) struct Dump {
    running: Program,
    inspector: Inspector,
    /// What was read ahead.
    head: io::Cursor<Vec<u8>>,
}

impl Dump {
    /// Starts the program that makes it.
    pub(super) fn start(command: Command) -> Result<Self, String> {
        let mut running = Program::start(command).map_err(|error| error.to_string())?;
        let mut head = vec![0; HEAD_BYTES];
        let mut length = 0;
        while length < HEAD_BYTES {
            match running.read(&mut head[length..]) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        head.truncate(length);
        forget_instant(&mut head, Layout::OneFile);
        Ok(Self { running, inspector: Inspector::new(Layout::OneFile), head: io::Cursor::new(head) })
    }

    /// Reads on; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = match self.head.read(buffer)? {
            0 => self.running.read(buffer)?,
            length => length,
        };
        self.inspector.look(&buffer[..length]).map_err(io::Error::other)?;
        Ok(length)
    }

    /// The table of contents, when it has passed.
    pub(super) fn contents(&self) -> Option<&Contents> {
        self.inspector.contents()
    }

    /// What was in it, and how the program ended; or why it is not whole. `failed` tells what a program that failed
    /// means.
    pub(super) fn finish(
        self,
        path: &SnapshotPath,
        failed: impl FnOnce(&Ended) -> SourceError,
    ) -> Result<(Found, Ended), SourceError> {
        let ended = self.running.finish().map_err(|why| SourceError::new("dump", path.clone(), why))?;
        if !ended.status.success() {
            return Err(failed(&ended));
        }
        let found = self.inspector.finish().map_err(|error| failure::not_whole(path.clone(), &error))?;
        Ok((found, ended))
    }
}
