//! A stored dump as pg_restore can load it by several connections, without a copy of it: a folder in pg_dump's directory
//! format, in which large tables are pipes that they come out of when it is their turn (`pipes.rs`). Small tables and large
//! objects are files; the table of contents is written anew.
//!
//! What is always true: nothing is asked of the folder's file system but for the bytes of what is laid down, and that is
//! looked at beforehand; every name in the folder is made here, or was looked at (`directory.rs`).

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;

use backup_core::contracts::Stored;
use backup_core::limits::PIPED_BYTES_MIN;
use backup_core::model::SnapshotPath;
use rustix::fs::{CWD, FileType, Mode, mknodat, statvfs};

use super::archive::{ArchiveError, Data, Layout};
use super::block::{Blocks, Joined, Part};
use super::contents::{Contents, Entry};
use super::directory::{self, CONTENTS, object_file};
use super::observe;
use super::pipes::{Origin, Pipe};
use super::places::{Place, Places};
use super::rows::{LargeObjects, Rows};
use super::toc::{Changes, rewrite};
use crate::files::SpaceCheck;

/// The first version in which large objects come in groups. Before, their list has one name, whatever its entry says.
const SEVERAL_LISTS: (u8, u8) = (1, 16);

/// A dump in the repository.
pub(super) struct StoredDump<'a> {
    pub(super) stored: &'a dyn Stored,
    /// Where it lies there: a file, or a folder.
    pub(super) path: SnapshotPath,
    /// Where its data is; `None` of a folder.
    pub(super) places: Option<Places>,
    /// The folder for pg_restore. Of a dump that is a folder, its other files are there already.
    pub(super) folder: &'a Path,
}

/// The data of an entry, before it is known what becomes of it.
struct Located<'a> {
    entry: &'a Entry,
    bytes: u64,
    /// Where it is; `None` for a file that is in the folder already.
    origin: Option<Origin>,
}

/// What is in the folder.
#[derive(Default)]
pub(super) struct LaidOut {
    /// What the data of the files in it comes to.
    pub(super) data: Data,
    /// In the order in which pg_restore will likely ask for them.
    pub(super) pipes: Vec<Pipe>,
}

/// Whether a file of a dump that is a folder is left in the repository until it is read.
pub(super) fn is_piped(name: &[u8], size: u64) -> bool {
    let is_table = name.ends_with(b".dat") && !name.starts_with(b"blob_") && name != CONTENTS.as_bytes();
    is_table && size >= PIPED_BYTES_MIN
}

impl StoredDump<'_> {
    fn layout(&self) -> Layout {
        if self.places.is_some() { Layout::OneFile } else { Layout::Directory }
    }

    /// The table of contents.
    pub(super) fn contents(&self) -> io::Result<Contents> {
        let contents = match self.layout() {
            Layout::Directory => {
                if !fs::symlink_metadata(self.folder)?.is_dir() {
                    return Err(damaged("it is no folder"));
                }
                directory::contents(directory::open(self.folder, CONTENTS)?)?
            }
            Layout::OneFile => observe::contents(Joined::new(self.stored.open(&self.path, 0)?))?,
        };
        contents.ok_or_else(|| io::Error::other(ArchiveError::Damaged("its format is another than its manifest says")))
    }

    /// Makes the folder: for all entries, or for those with these numbers; for one connection, which loads them in the
    /// dump's order, or for several.
    ///
    /// # Errors
    ///
    /// When the dump is damaged or does not come out of the repository: of kind [`io::ErrorKind::Other`]; or what writing
    /// gave.
    pub(super) fn lay_out(
        &self,
        contents: &Contents,
        wanted: Option<&HashSet<i32>>,
        is_in_order: bool,
        space: SpaceCheck,
    ) -> io::Result<LaidOut> {
        let with_data = contents.entries().filter(|entry| entry.has_data);
        let entries: Vec<&Entry> =
            with_data.filter(|entry| wanted.is_none_or(|wanted| wanted.contains(&entry.number))).collect();
        let located = match &self.places {
            Some(places) => self.in_one_file(places, &entries)?,
            None => self.in_files(&entries)?,
        };
        let mut changes = Changes::default();
        for Located { entry, origin, .. } in &located {
            let name = match origin {
                Some(Origin::Block(..)) if entry.is_large_objects() => match contents.version() < SEVERAL_LISTS {
                    true => "blobs.toc".to_owned(),
                    false => format!("blobs_{}.toc", entry.number),
                },
                Some(Origin::Block(..)) => format!("{}.dat", entry.number),
                Some(Origin::File(_)) | None => entry.file().unwrap_or_default().to_owned(),
            };
            changes.files.insert(entry.number, name);
        }
        if !is_in_order {
            changes.numbers = by_size(&located);
        }
        let (piped, laid): (Vec<_>, Vec<_>) = located.into_iter().partition(|located| match located.origin {
            Some(Origin::Block(..)) => !located.entry.is_large_objects() && located.bytes >= PIPED_BYTES_MIN,
            Some(Origin::File(_)) => true,
            None => false,
        });
        let data = self.lay_down(contents, &laid, &changes, space)?;
        let mut pipes = Vec::with_capacity(piped.len());
        for Located { entry, origin, .. } in piped {
            let Some(origin) = origin else { continue };
            let path = self.folder.join(&changes.files[&entry.number]);
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).map_err(|error| {
                io::Error::new(io::ErrorKind::Unsupported, format!("no named pipe can be made for it there: {error}"))
            })?;
            let rows = Rows::new(contents.sorted_columns(entry.number));
            pipes.push(Pipe { number: entry.number, table: entry.object(), path, origin, rows });
        }
        if !is_in_order {
            pipes.sort_by_key(|pipe| changes.numbers.get(&pipe.number).copied().unwrap_or(pipe.number));
        }
        self.write_contents(&changes)?;
        Ok(LaidOut { data, pipes })
    }

    fn in_one_file<'a>(&self, places: &Places, entries: &[&'a Entry]) -> io::Result<Vec<Located<'a>>> {
        let places = places.each(&self.path, self.stored);
        let places = places.ok_or_else(|| damaged("it ends before the data that its manifest speaks of"))?;
        let places: HashMap<i32, Place> = places.into_iter().map(|place| (place.number, place)).collect();
        let located = entries.iter().map(|entry| {
            let Place { begins, bytes, .. } = places.get(&entry.number)?;
            Some(Located { entry, bytes: *bytes, origin: Some(Origin::Block(*begins, *bytes)) })
        });
        let located: Option<Vec<_>> = located.collect();
        located.ok_or_else(|| damaged("its manifest does not say where all of its data is"))
    }

    fn in_files<'a>(&self, entries: &[&'a Entry]) -> io::Result<Vec<Located<'a>>> {
        let located = entries.iter().map(|entry| {
            let name = entry.file().ok_or_else(|| damaged("its table of contents does not name all of its files"))?;
            let path = self.path.join(name.as_bytes());
            Ok(match self.stored.size(&path) {
                // pg_restore opens what a list of large objects names: one that nobody has looked at is not for it.
                Some(_) if !entry.is_table_data() => return Err(damaged("a list of large objects is none")),
                Some(bytes) => Located { entry, bytes, origin: Some(Origin::File(path)) },
                None => {
                    let bytes = directory::open(self.folder, name)?.metadata()?.len();
                    Located { entry, bytes, origin: None }
                }
            })
        });
        located.collect()
    }

    /// Writes what is not piped, where it is not there already; what it comes to.
    fn lay_down(
        &self,
        contents: &Contents,
        laid: &[Located<'_>],
        changes: &Changes,
        space: SpaceCheck,
    ) -> io::Result<Data> {
        let mut data = Data::default();
        if self.places.is_some() {
            // What is there already is not ours.
            fs::create_dir(self.folder)?;
            refuse_if_full(self.folder, space, laid.iter().map(|located| located.bytes).fold(0, u64::saturating_add))?;
        }
        let mut in_order: Vec<&Located<'_>> = laid.iter().collect();
        in_order.sort_by_key(|located| match located.origin {
            Some(Origin::Block(begins, _)) => begins,
            _ => 0,
        });
        let mut blocks: Option<Blocks<'_>> = None;
        for Located { entry, origin, .. } in in_order {
            let name = &changes.files[&entry.number];
            let mut rows = Rows::new(contents.sorted_columns(entry.number));
            match origin {
                Some(Origin::Block(begins, _)) => {
                    let blocks = match &mut blocks {
                        Some(blocks) if blocks.position() == *begins => blocks,
                        blocks => {
                            let pieces = self.stored.open(&self.path, *begins)?;
                            blocks.insert(Blocks::new(pieces, *begins))
                        }
                    };
                    if entry.is_large_objects() {
                        self.lay_objects(blocks, entry.number, name, data.large_objects.get_or_insert_default())?;
                        continue;
                    }
                    let mut file = File::create_new(self.folder.join(name))?;
                    blocks.table(entry.number, |bytes| {
                        rows.add(bytes);
                        file.write_all(bytes)
                    })?;
                }
                _ if entry.is_large_objects() => {
                    directory::objects(self.folder, name, data.large_objects.get_or_insert_default())?;
                    continue;
                }
                _ => directory::rows(self.folder, name, &mut rows)?,
            }
            data.rows.insert(entry.number, rows);
        }
        Ok(data)
    }

    /// Writes a file for each large object of a block, and a list of them.
    fn lay_objects(
        &self,
        blocks: &mut Blocks<'_>,
        number: i32,
        list: &str,
        objects: &mut LargeObjects,
    ) -> io::Result<()> {
        let mut list = BufWriter::new(File::create_new(self.folder.join(list))?);
        let mut file: Option<BufWriter<File>> = None;
        blocks.objects(number, |object, part| {
            match part {
                Part::Begin => {
                    let number = u32::from_le_bytes(object.to_le_bytes());
                    let name = object_file(number);
                    writeln!(list, "{number} {name}")?;
                    file = Some(BufWriter::new(File::create_new(self.folder.join(name))?));
                    objects.begin(object);
                }
                Part::Bytes(bytes) => {
                    objects.add(bytes);
                    file.as_mut().map_or(Ok(()), |file| file.write_all(bytes))?;
                }
                Part::End => {
                    objects.end();
                    file.take().map_or(Ok(()), |mut file| file.flush())?;
                }
            }
            Ok(())
        })?;
        list.flush()
    }

    /// The table of contents with what has changed.
    fn write_contents(&self, changes: &Changes) -> io::Result<()> {
        let path = self.folder.join(CONTENTS);
        let old: Box<dyn Read> = match self.layout() {
            Layout::OneFile => Box::new(Joined::new(self.stored.open(&self.path, 0)?)),
            Layout::Directory => {
                let old = directory::open(self.folder, CONTENTS)?;
                fs::remove_file(&path)?;
                Box::new(old)
            }
        };
        let mut new = BufWriter::new(File::create_new(&path)?);
        rewrite(old, self.layout(), changes, &mut new)?;
        new.flush()
    }
}

/// New numbers for the entries with data: the more it has, the less is its number.
fn by_size(located: &[Located<'_>]) -> HashMap<i32, i32> {
    let mut numbers: Vec<i32> = located.iter().map(|located| located.entry.number).collect();
    numbers.sort_unstable();
    let mut in_order: Vec<&Located<'_>> = located.iter().collect();
    in_order.sort_by_key(|located| (std::cmp::Reverse(located.bytes), located.entry.number));
    in_order.iter().map(|located| located.entry.number).zip(numbers).collect()
}

fn refuse_if_full(folder: &Path, space: SpaceCheck, bytes: u64) -> io::Result<()> {
    let there = statvfs(folder)?;
    let left = there.f_bavail.saturating_mul(there.f_frsize);
    if space == SpaceCheck::Refuse && left < bytes {
        let text = format!("no space for its small tables and large objects: {bytes} bytes here, {left} are left");
        return Err(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    Ok(())
}

fn damaged(why: &'static str) -> io::Error {
    io::Error::other(ArchiveError::Damaged(why))
}
