//! The files of a database as one stream that `mongorestore --archive` reads: mongodump's archive, version 0.1
//! (mongo-tools, `common/archive/spec.md`).
//!
//! ```text
//! magic · header · description of each collection · FFFFFFFF
//! then for each with a file: [ its name · documents · FFFFFFFF ] · its name, the end, a checksum · FFFFFFFF
//! ```
//!
//! One collection follows the other, so nothing is held but a piece of one. What was written before a failure is no
//! archive: mongorestore misses the ends of the collections that were described.

use std::io::{self, Write};

use crc_fast::{CrcAlgorithm, Digest};
use mongodb::bson::{Document, doc, serialize_to_vec};

use super::catalog::Sort;
use super::documents::Splitter;
use super::{metadata, names, users};
use crate::databases::manifest::Manifest;

const MAGIC: [u8; 4] = [0x6d, 0xe2, 0x99, 0x81];
const TERMINATOR: [u8; 4] = [0xff; 4];
const VERSION: &str = "0.1";

/// What goes into an archive, in its order: learnt from the names of a snapshot's files and the texts of those that
/// [`super::is_needed_beforehand`] names.
#[derive(Clone, Debug)]
pub struct Contents {
    database: String,
    header: Document,
    described: Vec<Document>,
    /// The files of documents: their names, and the namespaces that they go by.
    files: Vec<(String, String)>,
    /// Those that are described and have no file: views.
    empty: Vec<String>,
}

impl Contents {
    /// Of the dump that `manifest` describes. `sizes` are the names and sizes in bytes of all files, `beforehand` the
    /// names and texts of those that are needed beforehand.
    ///
    /// # Errors
    ///
    /// What is wrong with a file, for people.
    pub fn of(manifest: &Manifest, sizes: &[(String, u64)], beforehand: &[(String, Vec<u8>)]) -> Result<Self, String> {
        let mut collections = Vec::new();
        for (name, text) in beforehand {
            let (collection, file) = metadata::read_file(name, text).map_err(|why| format!("{name}: {why}"))?;
            collections.push((collection, file, String::from_utf8_lossy(text)));
        }
        let version =
            manifest.report.tools.iter().find(|tool| tool.name == "mongodb").map(|tool| tool.version.as_str());
        let mut contents = Self {
            database: manifest.database.clone(),
            header: doc! {
                "concurrent_collections": 1, "version": VERSION,
                // It has to be one, whoever made the dump.
                "server_version": version.unwrap_or("0.0.0"), "tool_version": concat!("backup-", env!("CARGO_PKG_VERSION")),
            },
            described: Vec::new(),
            files: Vec::new(),
            empty: Vec::new(),
        };
        let size_of = |name: &str| sizes.iter().find(|(file, _)| file == name).map(|(_, size)| *size);
        for (collection, file, text) in collections {
            let size = file.as_ref().and_then(|file| size_of(file));
            contents.describe(&collection.name, &text, size.unwrap_or_default(), collection.sort);
            match (file.zip(collection.namespace()), size) {
                (Some(file), Some(_)) => contents.files.push(file),
                (Some((file, _)), None) => return Err(format!("{file} is missing")),
                (None, _) => contents.empty.push(collection.name),
            }
        }
        for (name, size) in sizes.iter().filter(|(name, _)| name.starts_with(users::PREFIX)) {
            let namespace = name.strip_suffix(names::DOCUMENTS).unwrap_or(name).to_owned();
            contents.describe(&namespace, "", *size, Sort::Collection);
            contents.files.push((name.clone(), namespace));
        }
        Ok(contents)
    }

    fn describe(&mut self, name: &str, text: &str, size: u64, sort: Sort) {
        let sort = if sort == Sort::Collection { "" } else { metadata::word(sort) };
        let size = i32::try_from(size).unwrap_or(i32::MAX);
        let (database, name) = (self.database.as_str(), name);
        self.described.push(doc! {"db": database, "collection": name, "metadata": text, "size": size, "type": sort});
    }

    /// The files whose bytes an archive takes, in their order.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|(file, _)| file.as_str())
    }
}

/// An archive that is being written.
#[derive(Debug)]
pub struct ArchiveWriter<W> {
    out: W,
    contents: Contents,
    next: usize,
    current: Option<Segment>,
}

/// The collection whose documents are being written.
#[derive(Debug)]
struct Segment {
    namespace: String,
    splitter: Splitter,
    sum: Digest,
    has_begun: bool,
}

impl<W: Write> ArchiveWriter<W> {
    /// Begins an archive: writes what it will hold.
    ///
    /// # Errors
    ///
    /// As `out` has them.
    pub fn begin(mut out: W, contents: Contents) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        for document in std::iter::once(&contents.header).chain(&contents.described) {
            out.write_all(&encoded(document)?)?;
        }
        out.write_all(&TERMINATOR)?;
        Ok(Self { out, contents, next: 0, current: None })
    }

    /// The next bytes of the current file of [`Contents::files`]; it ends with [`Self::end_file`].
    ///
    /// # Errors
    ///
    /// When they are no documents, or as `out` has them.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { out, contents, next, current } = self;
        let segment = match current {
            Some(segment) => segment,
            None => current.insert(Segment::of(contents, *next)?),
        };
        segment.splitter.feed(bytes, |_| Ok(())).map_err(|why| wrong(&segment.namespace, &why))?;
        if !segment.has_begun && !bytes.is_empty() {
            out.write_all(&encoded(&heading(&contents.database, &segment.namespace, None))?)?;
            segment.has_begun = true;
        }
        segment.sum.update(bytes);
        out.write_all(bytes)
    }

    /// The current file has come to its end.
    ///
    /// # Errors
    ///
    /// When it ended in the middle of a document, or as `out` has them.
    pub fn end_file(&mut self) -> io::Result<()> {
        let segment = match self.current.take() {
            Some(segment) => segment,
            None => Segment::of(&self.contents, self.next)?,
        };
        if !segment.splitter.is_between() {
            return Err(wrong(&segment.namespace, "it ends in the middle of a document"));
        }
        self.next += 1;
        if segment.has_begun {
            self.out.write_all(&TERMINATOR)?;
        }
        self.end_of(&segment.namespace, segment.sum.finalize())
    }

    /// All files were written.
    ///
    /// # Errors
    ///
    /// When they were not, or as `out` has them.
    pub fn finish(mut self) -> io::Result<W> {
        if self.current.is_some() || self.next < self.contents.files.len() {
            return Err(io::Error::other("not all files were written into the archive"));
        }
        for view in std::mem::take(&mut self.contents.empty) {
            self.end_of(&view, Digest::new(CrcAlgorithm::Crc64Xz).finalize())?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn end_of(&mut self, namespace: &str, sum: u64) -> io::Result<()> {
        self.out.write_all(&encoded(&heading(&self.contents.database, namespace, Some(sum)))?)?;
        self.out.write_all(&TERMINATOR)
    }
}

impl Segment {
    fn of(contents: &Contents, index: usize) -> io::Result<Self> {
        let (_, namespace) =
            contents.files.get(index).ok_or_else(|| io::Error::other("no more files were announced"))?;
        let sum = Digest::new(CrcAlgorithm::Crc64Xz);
        Ok(Self { namespace: namespace.clone(), splitter: Splitter::default(), sum, has_begun: false })
    }
}

/// What stands before documents, or, with their checksum, behind all of a collection's.
fn heading(database: &str, namespace: &str, sum: Option<u64>) -> Document {
    let bits = i64::from_le_bytes(sum.unwrap_or_default().to_le_bytes());
    doc! {"db": database, "collection": namespace, "EOF": sum.is_some(), "CRC": bits}
}

fn encoded(document: &Document) -> io::Result<Vec<u8>> {
    serialize_to_vec(document).map_err(io::Error::other)
}

fn wrong(namespace: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the documents of {namespace}: {why}"))
}

#[cfg(test)]
mod tests {
    use backup_core::contracts::Report;

    use super::*;
    use crate::databases::url::Engine;

    fn contents() -> Contents {
        let manifest = Manifest::new(Engine::Mongodb, "app", Report::default());
        let text = |name: &str, sort: &str| {
            let text = format!(r#"{{"indexes":[],"collectionName":"{name}","type":"{sort}"}}"#);
            (format!("{name}.metadata.json"), text.into_bytes())
        };
        let sizes = [("a.bson".to_owned(), 10), ("b.bson".to_owned(), 0)];
        Contents::of(&manifest, &sizes, &[text("a", "collection"), text("b", "collection"), text("v", "view")]).unwrap()
    }

    #[test]
    fn an_archive_has_an_end_for_whatever_it_announces() {
        let document = serialize_to_vec(&doc! {"_id": 1}).unwrap();
        let mut writer = ArchiveWriter::begin(Vec::new(), contents()).unwrap();
        assert_eq!(contents().files().collect::<Vec<_>>(), ["a.bson", "b.bson"]);
        writer.write(&document[..3]).unwrap();
        writer.write(&document[3..]).unwrap();
        writer.end_file().unwrap();
        writer.end_file().unwrap();
        let archive = writer.finish().unwrap();

        let mut expected = MAGIC.to_vec();
        expected.extend(encoded(&contents().header).unwrap());
        contents().described.iter().for_each(|it| expected.extend(encoded(it).unwrap()));
        expected.extend(TERMINATOR);
        let sum = crc_fast::checksum(CrcAlgorithm::Crc64Xz, &document);
        expected.extend(encoded(&heading("app", "a", None)).unwrap());
        expected.extend(&document);
        expected.extend(TERMINATOR);
        for (name, sum) in [("a", sum), ("b", 0), ("v", 0)] {
            expected.extend(encoded(&heading("app", name, Some(sum))).unwrap());
            expected.extend(TERMINATOR);
        }
        assert_eq!(archive, expected);
    }

    #[test]
    fn what_is_not_whole_makes_no_archive() {
        let begun = || ArchiveWriter::begin(Vec::new(), contents()).unwrap();
        assert!(begun().write(&[1, 2, 3, 4, 5]).is_err(), "no document");
        let mut cut = begun();
        cut.write(&[9, 0, 0, 0, 1]).unwrap();
        assert!(cut.end_file().is_err(), "half a document");
        assert!(begun().finish().is_err(), "no file");
        let manifest = Manifest::new(Engine::Mongodb, "app", Report::default());
        let lonely = [("a.metadata.json".to_owned(), br#"{"indexes":[]}"#.to_vec())];
        assert!(Contents::of(&manifest, &[], &lonely).unwrap_err().contains("a.bson is missing"));
    }
}
