//! The entries of one folder as a tree blob, to the byte as restic writes it.
//!
//! Equal folders must give equal bytes, or nothing deduplicates: the order of fields, which of them are left out, the
//! escapes, the final newline are restic's (`docs/format.md`, *Trees*). Times are in UTC.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::id::BlobId;
use super::name::{quote, unquote};
use super::node::{Metadata, Node, NodeKind, Xattr};
use super::text::push_json_string;
use super::time::push_timestamp;

/// The tree of an empty folder.
pub const EMPTY_TREE: &[u8] = b"{\"nodes\":[]}\n";

/// Bytes that are not what the format says they must be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormatError(pub String);

/// Puts the nodes of one folder together.
#[derive(Debug)]
pub struct TreeWriter {
    bytes: Vec<u8>,
    last_name: Option<Vec<u8>>,
}

impl Default for TreeWriter {
    fn default() -> Self {
        Self { bytes: b"{\"nodes\":[".to_vec(), last_name: None }
    }
}

impl TreeWriter {
    /// Appends a node. Names must come in strictly increasing order of their raw bytes.
    pub fn push(&mut self, node: &Node) -> Result<(), FormatError> {
        let mut encoded = Vec::with_capacity(512);
        encode_node(node, &mut encoded);
        self.push_encoded(&node.name, &encoded)
    }

    /// Appends a node that [`encode_node`] encoded.
    pub fn push_encoded(&mut self, name: &[u8], encoded: &[u8]) -> Result<(), FormatError> {
        match &mut self.last_name {
            Some(last) if last.as_slice() >= name => {
                return Err(FormatError(format!("entry {} is out of order", quote(name))));
            }
            Some(last) => {
                self.bytes.push(b',');
                last.clear();
                last.extend_from_slice(name);
            }
            None => self.last_name = Some(name.to_vec()),
        }
        self.bytes.extend_from_slice(encoded);
        Ok(())
    }

    /// Appends a node that [`encode_node`] encoded, of a caller who has made sure of the order.
    pub(crate) fn append(&mut self, encoded: &[u8]) {
        if self.bytes.last() == Some(&b'}') {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(encoded);
    }

    /// The finished blob.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.extend_from_slice(b"]}\n");
        self.bytes
    }
}

/// Go's `os.FileMode` bits beside the permissions.
mod go_mode {
    pub(super) const DIR: u32 = 0x8000_0000;
    pub(super) const SYMLINK: u32 = 0x0800_0000;
    pub(super) const DEVICE: u32 = 0x0400_0000;
    pub(super) const FIFO: u32 = 0x0200_0000;
    pub(super) const SOCKET: u32 = 0x0100_0000;
    pub(super) const SETUID: u32 = 0x0080_0000;
    pub(super) const SETGID: u32 = 0x0040_0000;
    pub(super) const CHAR_DEVICE: u32 = 0x0020_0000;
    pub(super) const STICKY: u32 = 0x0010_0000;
    pub(super) const IRREGULAR: u32 = 0x0008_0000;
}

fn mode_to_go(kind: &NodeKind, mode: u32) -> u32 {
    let kind_bits = match kind {
        NodeKind::File { .. } => 0,
        NodeKind::Dir { .. } => go_mode::DIR,
        NodeKind::Symlink { .. } => go_mode::SYMLINK,
        NodeKind::BlockDevice { .. } => go_mode::DEVICE,
        NodeKind::CharDevice { .. } => go_mode::DEVICE | go_mode::CHAR_DEVICE,
        NodeKind::Fifo => go_mode::FIFO,
        NodeKind::Socket => go_mode::SOCKET,
        NodeKind::Other(_) => go_mode::IRREGULAR,
    };
    let special = [(0o4000, go_mode::SETUID), (0o2000, go_mode::SETGID), (0o1000, go_mode::STICKY)];
    special.iter().fold(kind_bits | mode & 0o777, |bits, (unix, go)| if mode & unix != 0 { bits | go } else { bits })
}

fn mode_from_go(mode: u32) -> u32 {
    let special = [(0o4000, go_mode::SETUID), (0o2000, go_mode::SETGID), (0o1000, go_mode::STICKY)];
    special.iter().fold(mode & 0o777, |bits, (unix, go)| if mode & go != 0 { bits | unix } else { bits })
}

/// Appends the JSON of one node.
pub fn encode_node(node: &Node, out: &mut Vec<u8>) {
    let metadata = &node.metadata;
    out.extend_from_slice(b"{\"name\":");
    push_json_string(out, &quote(&node.name));
    push_key(out, "type");
    push_json_string(out, node.kind.word());
    push_number(out, "mode", mode_to_go(&node.kind, metadata.mode).into());
    for (key, time) in [("mtime", metadata.mtime), ("atime", metadata.atime), ("ctime", Some(metadata.ctime))] {
        let Some(time) = time else { continue };
        push_key(out, key);
        out.push(b'"');
        push_timestamp(out, time);
        out.push(b'"');
    }
    push_key(out, "uid");
    push_decimal(out, metadata.uid.into());
    push_key(out, "gid");
    push_decimal(out, metadata.gid.into());
    push_text(out, "user", &metadata.user);
    push_text(out, "group", &metadata.group);
    push_number(out, "inode", metadata.inode);
    push_number(out, "device_id", metadata.device_id);
    push_number(out, "size", node.size());
    push_number(out, "links", metadata.links);
    if let NodeKind::Symlink { target } = &node.kind
        && !target.is_empty()
    {
        push_key(out, "linktarget");
        push_lossy(out, target);
        if str::from_utf8(target).is_err() {
            push_key(out, "linktarget_raw");
            push_base64(out, target);
        }
    }
    for (count, xattr) in metadata.xattrs.iter().enumerate() {
        if count == 0 {
            push_key(out, "extended_attributes");
            out.push(b'[');
        } else {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        push_lossy(out, &xattr.name);
        push_key(out, "value");
        push_base64(out, &xattr.value);
        out.push(b'}');
    }
    if !metadata.xattrs.is_empty() {
        out.push(b']');
    }
    if let Some(attributes) = &metadata.generic_attributes {
        push_key(out, "generic_attributes");
        out.extend_from_slice(attributes.as_bytes());
    }
    if let NodeKind::BlockDevice { device } | NodeKind::CharDevice { device } = node.kind {
        push_number(out, "device", device);
    }
    push_key(out, "content");
    if let NodeKind::File { content, .. } = &node.kind {
        out.push(b'[');
        for (count, blob) in content.iter().enumerate() {
            out.extend_from_slice(if count == 0 { b"\"" } else { b",\"" });
            out.extend_from_slice(&blob.id().hex());
            out.push(b'"');
        }
        out.push(b']');
    } else {
        out.extend_from_slice(b"null");
    }
    if let Some(subtree) = node.subtree() {
        push_key(out, "subtree");
        out.push(b'"');
        out.extend_from_slice(&subtree.id().hex());
        out.push(b'"');
    }
    push_text(out, "error", &metadata.error);
    out.push(b'}');
}

fn push_key(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn push_text(out: &mut Vec<u8>, key: &str, text: &str) {
    if !text.is_empty() {
        push_key(out, key);
        push_json_string(out, text);
    }
}

fn push_number(out: &mut Vec<u8>, key: &str, number: u64) {
    if number != 0 {
        push_key(out, key);
        push_decimal(out, number);
    }
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let start = out.len();
    loop {
        // A remainder by ten is a digit.
        out.push(b'0' + u8::try_from(number % 10).unwrap_or_default());
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out[start..].reverse();
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(BASE64.encode(bytes).as_bytes());
    out.push(b'"');
}

/// Go replaces every invalid byte by one U+FFFD, spelled as an escape.
fn push_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        return push_json_string(out, text);
    }
    out.push(b'"');
    for piece in bytes.utf8_chunks() {
        let mut quoted = Vec::new();
        push_json_string(&mut quoted, piece.valid());
        out.extend_from_slice(&quoted[1..quoted.len() - 1]);
        for _ in piece.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

/// Reads a tree blob and hands over its nodes in their order. `each` may stop the reading with an error of its own.
///
/// Unknown fields are passed over. The order of names is not enforced: older programs wrote unsorted trees.
pub fn decode_tree(bytes: &[u8], mut each: impl FnMut(Node) -> Result<(), FormatError>) -> Result<(), FormatError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut failure = None;
    let outcome = TreeSeed { each: &mut each, failure: &mut failure }.deserialize(&mut deserializer);
    if let Some(failure) = failure {
        return Err(failure);
    }
    outcome.and_then(|()| deserializer.end()).map_err(|error| FormatError(format!("not a tree: {error}")))
}

struct TreeSeed<'a, F> {
    each: &'a mut F,
    failure: &'a mut Option<FormatError>,
}

impl<'de, F: FnMut(Node) -> Result<(), FormatError>> DeserializeSeed<'de> for TreeSeed<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Node) -> Result<(), FormatError>> Visitor<'de> for TreeSeed<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field `nodes`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            if key != "nodes" {
                map.next_value::<IgnoredAny>()?;
            } else if std::mem::replace(&mut found, true) {
                return Err(de::Error::duplicate_field("nodes"));
            } else {
                map.next_value_seed(NodesSeed { each: &mut *self.each, failure: &mut *self.failure })?;
            }
        }
        if found { Ok(()) } else { Err(de::Error::missing_field("nodes")) }
    }
}

struct NodesSeed<'a, F> {
    each: &'a mut F,
    failure: &'a mut Option<FormatError>,
}

impl<'de, F: FnMut(Node) -> Result<(), FormatError>> DeserializeSeed<'de> for NodesSeed<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // Go writes `null` for an empty list that was never made.
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Node) -> Result<(), FormatError>> Visitor<'de> for NodesSeed<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of entries")
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut nodes: A) -> Result<(), A::Error> {
        while let Some(spelled) = nodes.next_element::<SpelledNode<'_>>()? {
            let handed_over = spelled.into_node().and_then(|node| (self.each)(node));
            if let Err(failure) = handed_over {
                *self.failure = Some(failure);
                return Err(de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// A node as JSON spells it.
#[derive(Deserialize)]
struct SpelledNode<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(default)]
    mode: u32,
    #[serde(default)]
    mtime: Option<Timestamp>,
    #[serde(default)]
    atime: Option<Timestamp>,
    #[serde(default)]
    ctime: Option<Timestamp>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    inode: u64,
    #[serde(default)]
    device_id: u64,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    links: u64,
    #[serde(default)]
    linktarget: Option<String>,
    #[serde(default, borrow)]
    linktarget_raw: Option<Cow<'a, str>>,
    #[serde(default)]
    extended_attributes: Option<Vec<SpelledXattr>>,
    #[serde(default, borrow)]
    generic_attributes: Option<&'a RawValue>,
    #[serde(default)]
    device: u64,
    #[serde(default)]
    content: Option<Vec<BlobId>>,
    #[serde(default)]
    subtree: Option<BlobId>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct SpelledXattr {
    name: String,
    #[serde(default)]
    value: Option<String>,
}

impl SpelledNode<'_> {
    fn into_node(self) -> Result<Node, FormatError> {
        let damaged = |what: &str| FormatError(format!("entry {}: {what}", self.name.escape_debug()));
        let name = unquote(&self.name).ok_or_else(|| damaged("not a name"))?;
        let kind = match &*self.kind {
            "file" => NodeKind::File { size: self.size, content: self.content.unwrap_or_default() },
            "dir" => NodeKind::Dir { subtree: self.subtree },
            "symlink" => NodeKind::Symlink {
                target: match &self.linktarget_raw {
                    Some(raw) => BASE64.decode(raw.as_bytes()).map_err(|_| damaged("link target is not base64"))?,
                    None => self.linktarget.unwrap_or_default().into_bytes(),
                },
            },
            "dev" => NodeKind::BlockDevice { device: self.device },
            "chardev" => NodeKind::CharDevice { device: self.device },
            "fifo" => NodeKind::Fifo,
            "socket" => NodeKind::Socket,
            other => NodeKind::Other(other.to_owned()),
        };
        let xattrs = self.extended_attributes.unwrap_or_default().into_iter().map(|xattr| {
            let value = BASE64.decode(xattr.value.unwrap_or_default());
            Ok(Xattr { name: xattr.name.into_bytes(), value: value.map_err(|_| damaged("attribute is not base64"))? })
        });
        let metadata = Metadata {
            mode: mode_from_go(self.mode),
            mtime: self.mtime,
            atime: self.atime,
            ctime: self.ctime.unwrap_or_default(),
            uid: self.uid,
            gid: self.gid,
            user: self.user.unwrap_or_default(),
            group: self.group.unwrap_or_default(),
            inode: self.inode,
            device_id: self.device_id,
            links: self.links,
            xattrs: xattrs.collect::<Result<_, FormatError>>()?,
            generic_attributes: self.generic_attributes.map(|raw| raw.get().to_owned()),
            error: self.error.unwrap_or_default(),
        };
        Ok(Node { name, kind, metadata })
    }
}

#[cfg(test)]
mod tests;
