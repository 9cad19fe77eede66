//! The table of contents of a dump: what is in it, one entry an object, and one for the data of each table.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use backup_core::contracts::Expectation;
use xxhash_rust::xxh3::xxh3_128;

use super::archive::{ArchiveError, Input, Layout, Stop};
use super::{copy, properties};

/// The first version whose entries tell the access method, and the kind of the relation.
const RELATION_KIND: (u8, u8) = (1, 16);

/// Entries that say how to read the others, what belongs to a cluster and not to a database, and the large objects, of
/// which there may be millions, and which are counted and hashed together.
const NOT_OF_THE_DATA: [&str; 7] =
    ["ENCODING", "STDSTRINGS", "SEARCHPATH", "DATABASE", "STATISTICS DATA", "BLOB", "BLOB METADATA"];

/// What the name of an entry begins with that tells of the database as a whole: its comment, its grants.
const OF_DATABASE: &[u8] = b"DATABASE ";

/// Kinds of objects whose entry is called by their name alone.
const ONE_NAME: [&str; 9] =
    ["TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE", "SEQUENCE SET", "INDEX", "TYPE", "DOMAIN"];

/// A table, by schema and name.
type Table = (Vec<u8>, Vec<u8>);

/// All entries so far.
#[derive(Debug, Default)]
pub(super) struct Contents {
    version: (u8, u8),
    /// In which all names and statements are.
    encoding: Option<String>,
    entries: Vec<Entry>,
    /// Where the entries that have data say where it is, by their numbers.
    places: HashMap<i32, u64>,
    /// The columns of each table's data, by the number of its entry.
    columns: HashMap<i32, Vec<u8>>,
    /// Tables that have columns of a parent.
    heirs: HashSet<Table>,
    /// Tables that get the rows of their partitions: the columns of the first partition that came, if
    /// those of all others are the same.
    roots: HashMap<Table, Option<Vec<Vec<u8>>>>,
}

/// One entry.
#[derive(Debug)]
pub(super) struct Entry {
    /// How other entries, and blocks of data, name it.
    pub(super) number: i32,
    /// Whether a block of data belongs to it.
    pub(super) has_data: bool,
    /// What it is, in pg_dump's words.
    pub(super) kind: String,
    pub(super) schema: Option<Vec<u8>>,
    pub(super) name: Vec<u8>,
    /// The entries that it depends on. Some may not be in the dump.
    pub(super) needs: Vec<i32>,
    /// The statements, of what belongs to the database as a whole.
    pub(super) of_database: Option<String>,
    /// Of the database.
    pub(super) owner: Option<String>,
    /// Of the dump, from the entry that tells it.
    encoding: Option<String>,
    /// A hash of the statement that makes it.
    definition: u128,
    is_heir: bool,
    /// The table itself, by its number in the server's catalogue.
    pub(super) table: Option<u32>,
    /// Of a partition whose rows are given to the whole table: that, by schema and name.
    root: Option<(Vec<u8>, Vec<u8>)>,
    /// Where it lies, when that is not where its database does.
    pub(super) tablespace: Option<String>,
    copy: Vec<u8>,
    /// The file that has its data, in the directory format.
    file: Option<String>,
}

impl Contents {
    /// Of an archive of this version.
    pub(super) fn new(version: (u8, u8)) -> Self {
        Self { version, ..Self::default() }
    }

    pub(super) fn version(&self) -> (u8, u8) {
        self.version
    }

    /// The next entry, and where in the archive it says where its data is.
    pub(super) fn push(&mut self, mut entry: Entry, place: u64) {
        if entry.has_data {
            self.places.insert(entry.number, place);
        }
        let name = (entry.schema.clone().unwrap_or_default(), entry.name.clone());
        let copy = std::mem::take(&mut entry.copy);
        self.encoding = self.encoding.take().or_else(|| entry.encoding.take());
        if let Some(root) = entry.root.clone() {
            let columns = copy::columns(&copy);
            let first = self.roots.entry(root).or_insert_with(|| columns.clone());
            if *first != columns {
                *first = None;
            }
            self.columns.insert(entry.number, copy);
        } else if entry.has_data && self.heirs.contains(&name) {
            self.columns.insert(entry.number, copy);
        } else if entry.is_heir {
            self.heirs.insert(name);
        }
        self.entries.push(entry);
    }

    /// The encoding of all names and statements, in PostgreSQL's word for it, when the dump tells it.
    pub(super) fn encoding(&self) -> Option<&str> {
        self.encoding.as_deref()
    }

    pub(super) fn place_of(&self, number: i32) -> Option<u64> {
        self.places.get(&number).copied()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// In which order the fields of a table's rows are hashed, when it is not that of the columns: a table that inherits
    /// columns may have them in another order once it was restored, so its fields are taken in the order of their names. So
    /// are those of partitions that have them in several orders, and whose rows may move.
    pub(super) fn sorted_columns(&self, number: i32) -> Option<Vec<usize>> {
        let names = copy::columns(self.columns.get(&number)?)?;
        let entry = self.entries.iter().rev().find(|entry| entry.number == number && entry.root.is_some());
        if entry.and_then(|entry| self.roots.get(entry.root.as_ref()?)).is_some_and(Option::is_some) {
            return None;
        }
        let mut order: Vec<usize> = (0..names.len()).collect();
        order.sort_by(|&a, &b| names[a].cmp(&names[b]));
        Some(order)
    }
}

impl Entry {
    /// Reads one, and where in it the entries begin that it needs.
    pub(super) fn read(input: &mut Input<'_>, version: (u8, u8), layout: Layout) -> Result<(Self, usize), Stop> {
        let begins = input.taken();
        let number = input.integer()?;
        let has_data = input.integer()? != 0;
        input.text()?; // The catalogue's table that the object is in, and its number there.
        let object = input.text()?.unwrap_or_default();
        let name = input.text()?.unwrap_or_default();
        let kind = input.text()?.unwrap_or_default();
        input.integer()?; // Section.
        let definition = input.text()?.unwrap_or_default();
        input.text()?; // How to drop it.
        let copy = input.text()?.unwrap_or_default();
        let schema = input.text()?.filter(|schema| !schema.is_empty());
        let tablespace = input.text()?.unwrap_or_default();
        input.text()?; // Access method.
        if version >= RELATION_KIND {
            input.integer()?;
        }
        let owner = input.text()?.unwrap_or_default();
        input.text()?; // Whether it has oids: never since version 12.
        let needs_at = input.taken() - begins;
        let mut needs = Vec::new();
        while let Some(text) = input.text()? {
            needs.extend(str::from_utf8(text).ok().and_then(|text| text.parse::<i32>().ok()));
        }
        let file = match layout {
            Layout::OneFile => {
                input.byte()?; // Where its data is: not known when the dump was streamed.
                input.exact(8)?;
                None
            }
            Layout::Directory => file_name(input.text()?.unwrap_or_default())?,
        };
        let kind = String::from_utf8_lossy(kind).into_owned();
        let is_of_database = kind == "DATABASE PROPERTIES" || (schema.is_none() && name.starts_with(OF_DATABASE));
        let table = if has_data && kind == "TABLE DATA" { copy::table(copy) } else { None };
        let of_database = is_of_database.then(|| String::from_utf8(definition.to_vec()).ok()).flatten();
        let entry = Self {
            number,
            has_data,
            needs,
            owner: (kind == "DATABASE").then(|| String::from_utf8(owner.to_vec()).ok()).flatten(),
            encoding: (kind == "ENCODING").then(|| encoding(definition)).flatten(),
            table: table.as_ref().and_then(|_| str::from_utf8(object).ok()?.parse().ok()),
            root: table.filter(|(of, called)| (Some(&**of), &**called) != (schema, name)),
            tablespace: (!tablespace.is_empty()).then(|| String::from_utf8_lossy(tablespace).into_owned()),
            is_heir: kind == "TABLE" && memchr::memmem::find(definition, b"\nINHERITS (").is_some(),
            definition: match &of_database {
                // The same for whatever name it is restored under.
                Some(text) => xxh3_128(properties::without_name(text).as_bytes()),
                None => xxh3_128(definition),
            },
            of_database,
            schema: schema.map(<[u8]>::to_vec),
            name: name.to_vec(),
            copy: if has_data { copy.to_vec() } else { Vec::new() },
            file,
            kind,
        };
        Ok((entry, needs_at))
    }

    /// One that is put together for a test.
    #[cfg(test)]
    pub(super) fn made(number: i32, kind: &str, schema: &str, name: &str, needs: &[i32]) -> Self {
        Self {
            number,
            has_data: kind.ends_with("DATA"),
            kind: kind.to_owned(),
            schema: Some(schema.as_bytes().to_vec()).filter(|schema| !schema.is_empty()),
            name: name.as_bytes().to_vec(),
            needs: needs.to_vec(),
            of_database: None,
            owner: None,
            encoding: None,
            definition: 0,
            is_heir: false,
            table: None,
            root: None,
            tablespace: None,
            copy: Vec::new(),
            file: None,
        }
    }

    /// Whether it stands for the rows of a table.
    pub(super) fn is_table_data(&self) -> bool {
        self.kind == "TABLE DATA"
    }

    /// Whether it stands for the data of large objects: `BLOBS` until 16, in groups since.
    pub(super) fn is_large_objects(&self) -> bool {
        self.kind == "BLOBS"
    }

    /// The file that has its data, when it has data and the dump is a directory.
    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_deref().filter(|_| self.has_data)
    }

    /// Its name with its schema, as the engine writes it.
    pub(super) fn object(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quoted(schema), quoted(&self.name)),
            None => text(&self.name).into_owned(),
        }
    }

    /// Of a partition whose rows are given to the whole table: that, as the engine writes it.
    pub(super) fn root(&self) -> Option<String> {
        self.root.as_ref().map(|(schema, name)| format!("{}.{}", quoted(schema), quoted(name)))
    }

    /// What a restore must show of it: that it is there, made by the same words. `None` for what is no object.
    pub(super) fn expectation(&self) -> Option<Expectation> {
        if NOT_OF_THE_DATA.contains(&self.kind.as_str()) {
            return None;
        }
        let object = match &self.schema {
            None if self.kind == "DATABASE PROPERTIES" => format!("DATABASE {}", self.object()),
            // The name of a function, a trigger or a comment is several words, not one to be quoted.
            Some(schema) if !ONE_NAME.contains(&self.kind.as_str()) => {
                format!("{}.{}", quoted(schema), text(&self.name))
            }
            _ => self.object(),
        };
        // The value of a sequence is data, although a statement sets it.
        let method = match () {
            () if self.kind == "SEQUENCE SET" => "value",
            () if self.of_database.is_some() => "definition-of-any-name",
            () => "definition",
        };
        Some(Expectation {
            kind: self.kind.to_lowercase(),
            object,
            count: None,
            hash: Some(format!("{method}-xxh3-128:{:032x}", self.definition)),
        })
    }
}

/// The encoding that a dump tells: `SET client_encoding = 'UTF8';`.
fn encoding(statement: &[u8]) -> Option<String> {
    let name = str::from_utf8(statement).ok()?.split('\'').nth(1)?;
    Some(name.to_owned())
}

/// The name of a file beside the table of contents; `None` where there is none. pg_restore opens whatever is named here,
/// so that anything but a plain name could lead it to another file of this machine.
fn file_name(name: &[u8]) -> Result<Option<String>, Stop> {
    let is_plain = name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    match str::from_utf8(name) {
        Ok("") => Ok(None),
        Ok(text) if is_plain && (text.ends_with(".dat") || text.ends_with(".toc")) && !text.starts_with('.') => {
            Ok(Some(text.to_owned()))
        }
        _ => Err(Stop::Failed(ArchiveError::Damaged("its table of contents names a file elsewhere"))),
    }
}

/// A name as SQL writes it, in quotes where it needs them.
fn quoted(name: &[u8]) -> String {
    let is_plain = name.first().is_some_and(|first| first.is_ascii_lowercase() || *first == b'_')
        && name.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'$'));
    let text = text(name);
    if is_plain { text.into_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// Bytes as text: those that are none are escaped, so that two names stay two. A database may have any encoding.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = str::from_utf8(bytes) {
        return text.into();
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.into()
}
