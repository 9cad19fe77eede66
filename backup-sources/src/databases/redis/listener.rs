//! Whoever hears what is in an RDB file, and what there is to hear.

use super::elements::Digest;

/// Whoever hears what is in the file.
pub(super) trait Listener {
    /// Whether values are wanted, byte by byte as they are in the file.
    const WANTS_VALUES: bool;

    /// Whether elements of collections are wanted, as what they add up to.
    const WANTS_ELEMENTS: bool;

    /// The format's version.
    fn version(&mut self, _version: u16) {}

    /// A fact about the file: the server's version, when it was written.
    fn fact(&mut self, name: &[u8], value: &[u8]);

    /// A key and its value.
    fn key(&mut self, key: Key<'_>) -> Result<(), String>;

    /// The text of a library of functions.
    fn function(&mut self, library: &[u8]) -> Result<(), String>;

    /// Something that a module keeps beside the keys.
    fn module_data(&mut self);
}

/// A key and its value.
pub(super) struct Key<'a> {
    pub(super) database: u64,
    pub(super) name: &'a [u8],
    /// When it expires, in milliseconds since 1970.
    pub(super) expires: Option<u64>,
    /// The type as the file has it.
    pub(super) kind: u8,
    /// The text of a string that is not too long to be held.
    pub(super) string: Option<&'a [u8]>,
    /// What the elements of a collection add up to, where the listener wants them.
    pub(super) elements: Digest,
    /// The value as the file has it, where the listener wants values.
    pub(super) raw: &'a [u8],
}

/// How a file ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is whole, and its checksum is right.
    Checked,
    /// It is whole as far as can be said: it carries no checksum.
    Unchecked,
}
