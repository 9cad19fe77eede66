//! Leaves the system's page cache as it was: what was not in memory before a file was read goes again behind the reading,
//! what was there stays.
//!
//! Whether something was there is asked by reads that may not wait for the disk (`RWF_NOWAIT`), at a few places of the
//! file and before anything else reads it. A file system that knows no such reads is taken for one that has everything
//! in memory: then nothing is dropped. A crash leaves a few pages in memory.

use std::fs::File;
use std::io::IoSliceMut;

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// A file is asked at so many places: one that is partly in use is found by that, and each costs microseconds.
const PLACES: u64 = 16;

/// So much is dropped at once. What a backup holds in memory beside its own buffers is no more than this for each file
/// that is being read, and what the system reads ahead.
const DROPPED_AT_ONCE: u64 = 8 * 1024 * 1024;

/// What becomes of the pages of a file that is read from its beginning to its end.
#[derive(Debug)]
pub(super) struct Pages {
    /// Whether none were in memory.
    were_absent: bool,
    dropped: u64,
}

impl Pages {
    /// Of a file of `size` bytes that nobody has read yet.
    pub(super) fn of(file: &File, size: u64) -> Self {
        Self { were_absent: size > 0 && are_absent(file, size), dropped: 0 }
    }

    /// The file was read up to `position`.
    pub(super) fn read_to(&mut self, file: &File, position: u64) {
        if position - self.dropped >= DROPPED_AT_ONCE {
            self.drop_to(file, position);
        }
    }

    /// The file was read up to `position`, and is not read any further.
    pub(super) fn end(&mut self, file: &File, position: u64) {
        if position > self.dropped {
            self.drop_to(file, position);
        }
    }

    fn drop_to(&mut self, file: &File, position: u64) {
        if self.were_absent {
            // Advice may be refused, and nothing depends on it.
            let _ = fadvise(file, self.dropped, std::num::NonZeroU64::new(position - self.dropped), Advice::DontNeed);
        }
        self.dropped = position;
    }
}

fn are_absent(file: &File, size: u64) -> bool {
    let mut places: Vec<u64> = (0..PLACES).map(|number| size / PLACES * number).collect();
    places.push(size - 1);
    places.dedup();
    places.into_iter().all(|place| {
        let mut byte = [0];
        preadv2(file, &mut [IoSliceMut::new(&mut byte)], place, ReadWriteFlags::NOWAIT) == Err(Errno::AGAIN)
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    const SIZE: u64 = 20 * 1024 * 1024;

    /// A file on a disk, none of which is in memory.
    fn on_disk() -> File {
        let mut file = tempfile::tempfile_in("/var/tmp").unwrap();
        file.write_all(&vec![7; usize::try_from(SIZE).unwrap()]).unwrap();
        file.sync_all().unwrap();
        fadvise(&file, 0, None, Advice::DontNeed).unwrap();
        assert!(are_absent(&file, SIZE), "/var/tmp is in memory, or its file system cannot be asked");
        file
    }

    fn read(file: &File) {
        let mut pages = Pages::of(file, SIZE);
        let (mut position, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            match std::os::unix::fs::FileExt::read_at(file, &mut buffer, position).unwrap() {
                0 => break,
                length => position += length as u64,
            }
            pages.read_to(file, position);
        }
        pages.end(file, position);
    }

    #[test]
    #[ignore = "needs a disk below /var/tmp"]
    fn what_was_not_in_memory_goes_again() {
        let file = on_disk();
        read(&file);
        assert!(are_absent(&file, SIZE));
    }

    #[test]
    #[ignore = "needs a disk below /var/tmp"]
    fn what_was_in_memory_stays() {
        let mut file = on_disk();
        file.rewind().unwrap();
        std::io::copy(&mut file, &mut std::io::sink()).unwrap();
        read(&file);
        assert!(!are_absent(&file, SIZE));
    }
}
