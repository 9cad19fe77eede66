//! pg_dump's directory format: a table of contents, a file with the rows of each table, a file for each large object, and
//! lists of those.
//!
//! What is read here may come out of a repository, and is then read again by pg_restore, which opens whatever file the
//! table of contents or such a list names. So each must name files of its own folder, and the files must be files: a dump
//! of which [`read`] approves leads pg_restore nowhere else.
//!
//! Source: `pg_backup_directory.c` of PostgreSQL.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;

use backup_core::limits::READ_BUFFER_BYTES;

use super::archive::{ArchiveError, Data, Found, Inspector, Layout};
use super::contents::Contents;
use super::rows::{LargeObjects, Rows};

/// The file with the table of contents.
pub(super) const CONTENTS: &str = "toc.dat";

/// A line of a list of large objects is a number and the name of a file with that number in it.
const LIST_LINE_BYTES_MAX: u64 = 64;

/// The file that has a large object.
pub(super) fn object_file(number: u32) -> String {
    format!("blob_{number}.dat")
}

/// What the format has for the number of a large object.
pub(super) fn object_number(number: u32) -> i32 {
    i32::from_le_bytes(number.to_le_bytes())
}

/// Reads a table of contents to its end; `None` when its format is not known here.
pub(super) fn contents(mut file: impl Read) -> io::Result<Option<Contents>> {
    let mut inspector = Inspector::new(Layout::Directory);
    each_piece(&mut file, |bytes| inspector.look(bytes))?;
    inspector.into_contents().map_err(io::Error::other)
}

/// Reads all of a dump in `folder`, and tells what is in it.
///
/// # Errors
///
/// When it is no dump, damaged, not whole, or names files that are none of its own: of kind [`io::ErrorKind::Other`]; or
/// what reading it gave.
pub(super) fn read(folder: &Path) -> io::Result<Found> {
    let Some(contents) = contents(open(folder, CONTENTS)?)? else { return Ok(Found::default()) };
    let mut data = Data::default();
    for entry in contents.entries() {
        let Some(file) = entry.file() else { continue };
        if entry.is_table_data() {
            let mut of_file = Rows::new(contents.sorted_columns(entry.number));
            rows(folder, file, &mut of_file)?;
            data.rows.insert(entry.number, of_file);
        } else if entry.is_large_objects() {
            objects(folder, file, data.large_objects.get_or_insert_default())?;
        }
    }
    Found::of(&contents, data).map_err(io::Error::other)
}

/// Reads the rows of a file.
pub(super) fn rows(folder: &Path, file: &str, rows: &mut Rows) -> io::Result<()> {
    each_piece(&mut open(folder, file)?, |bytes| {
        rows.add(bytes);
        Ok(())
    })
}

/// Reads the large objects of a list.
pub(super) fn objects(folder: &Path, list: &str, objects: &mut LargeObjects) -> io::Result<()> {
    let strange = || io::Error::other(ArchiveError::Damaged("a list of large objects names something else"));
    let mut list = BufReader::new(open(folder, list)?);
    let mut line = String::new();
    loop {
        line.clear();
        // A line that is longer is none.
        list.by_ref().take(LIST_LINE_BYTES_MAX).read_line(&mut line)?;
        let Some(text) = line.strip_suffix('\n') else {
            return if line.is_empty() { Ok(()) } else { Err(strange()) };
        };
        let number = text.split(' ').next().and_then(|number| number.parse::<u32>().ok()).ok_or_else(strange)?;
        let file = object_file(number);
        if text != format!("{number} {file}") {
            return Err(strange());
        }
        objects.begin(object_number(number));
        each_piece(&mut open(folder, &file)?, |bytes| {
            objects.add(bytes);
            Ok(())
        })?;
        objects.end();
    }
}

/// Opens a file of the dump, which must be there and be one.
pub(super) fn open(folder: &Path, name: &str) -> io::Result<File> {
    let path = folder.join(name);
    let missing = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other(ArchiveError::Missing(format!("the file {name}"))),
        _ => error,
    };
    if !fs::symlink_metadata(&path).map_err(missing)?.is_file() {
        return Err(io::Error::other(ArchiveError::Damaged("what should be a file of it is something else")));
    }
    File::open(path)
}

fn each_piece(file: &mut impl Read, mut look: impl FnMut(&[u8]) -> Result<(), ArchiveError>) -> io::Result<()> {
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => look(&buffer[..length]).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::databases::postgres::archive::tests::toc;

    /// A dump of a table with two rows and of a large object.
    fn dump(table_file: &str, list: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let entries = [
            (3, "TABLE DATA", "public", "t", "COPY public.t (a) FROM stdin;\n", table_file),
            (4, "BLOBS", "", "BLOBS", "", "blobs.toc"),
        ];
        fs::write(folder.path().join(CONTENTS), toc(&entries)).unwrap();
        write("3.dat", "1\n2\n\\.\n\n\n");
        write("blobs.toc", list);
        write("blob_16396.dat", "hello");
        folder
    }

    fn why(folder: &TempDir) -> String {
        read(folder.path()).unwrap_err().to_string()
    }

    #[test]
    fn rows_and_large_objects_are_counted_in_their_files() {
        let found = read(dump("3.dat", "16396 blob_16396.dat\n").path()).unwrap();
        assert!(found.is_understood && found.tables == 1);
        let counts: Vec<_> = found.expectations.iter().map(|it| (it.kind.as_str(), it.count)).collect();
        assert_eq!(counts, [("large objects", Some(1)), ("table data", Some(2))]);
    }

    #[test]
    fn a_file_that_is_elsewhere_is_never_opened() {
        for name in ["../3.dat", "/etc/passwd", "a/3.dat", "3.dat\0.dat", ".dat", "passwd"] {
            assert!(why(&dump(name, "")).contains("names a file elsewhere"), "{name}");
        }
        for list in
            ["1 ../../etc/passwd\n", "1 blob_2.dat\n", "x blob_x.dat\n", "16396 blob_16396.dat", &"1".repeat(200)]
        {
            assert!(why(&dump("3.dat", list)).contains("names something else"), "{list}");
        }
        let linked = dump("3.dat", "16396 blob_16396.dat\n");
        fs::remove_file(linked.path().join("3.dat")).unwrap();
        symlink("/etc/passwd", linked.path().join("3.dat")).unwrap();
        assert!(why(&linked).contains("something else"));
    }

    #[test]
    fn what_is_cut_off_or_missing_is_not_whole() {
        let cut = dump("3.dat", "16396 blob_16396.dat\n");
        fs::write(cut.path().join("3.dat"), "1\n2\n").unwrap();
        assert!(why(&cut).contains("public.t"));
        let gone = dump("3.dat", "16396 blob_16396.dat\n");
        fs::remove_file(gone.path().join("blob_16396.dat")).unwrap();
        assert!(why(&gone).contains("blob_16396.dat"));
        let whole = fs::read(gone.path().join(CONTENTS)).unwrap();
        for bytes in [0, 20, whole.len() - 1] {
            fs::write(gone.path().join(CONTENTS), &whole[..bytes]).unwrap();
            assert!(why(&gone).contains("ends in the middle"), "{bytes}");
        }
        fs::write(gone.path().join(CONTENTS), [&whole[..], b"x"].concat()).unwrap();
        assert!(why(&gone).contains("something follows"));
    }
}
