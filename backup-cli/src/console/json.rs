//! The spelling of things that several JSON shapes share (`docs/json/README.md`).

use backup_core::model::{Node, NodeKind, Snapshot, SnapshotId, SnapshotPath, format_timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};

/// Puts a path into an object: as text, and as `path_base64` when the text is not the whole truth.
pub(crate) fn put_path(object: &mut Map<String, Value>, path: &SnapshotPath) {
    put_bytes(object, "path", path.as_bytes());
}

/// A path alone.
pub(crate) fn path(path: &SnapshotPath) -> Map<String, Value> {
    let mut object = Map::new();
    put_path(&mut object, path);
    object
}

/// Puts bytes that are nearly always text into an object.
fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    object.insert(name.to_owned(), String::from_utf8_lossy(bytes).into());
    if str::from_utf8(bytes).is_err() {
        object.insert(format!("{name}_base64"), BASE64.encode(bytes).into());
    }
}

/// An entry of a snapshot.
pub(crate) fn entry(path: &SnapshotPath, node: &Node) -> Map<String, Value> {
    let metadata = &node.metadata;
    let mut object = Map::new();
    put_path(&mut object, path);
    object.insert("type".to_owned(), node.kind.word().into());
    object.insert("mode".to_owned(), format!("{:04o}", metadata.mode).into());
    object.insert("uid".to_owned(), metadata.uid.into());
    object.insert("gid".to_owned(), metadata.gid.into());
    object.insert("user".to_owned(), metadata.user.as_str().into());
    object.insert("group".to_owned(), metadata.group.as_str().into());
    object.insert("mtime".to_owned(), metadata.mtime.map(format_timestamp).into());
    match &node.kind {
        NodeKind::File { size, .. } => {
            object.insert("bytes".to_owned(), (*size).into());
        }
        NodeKind::Symlink { target } => put_bytes(&mut object, "target", target),
        NodeKind::BlockDevice { device } | NodeKind::CharDevice { device } => {
            object.insert("device".to_owned(), (*device).into());
        }
        _ => {}
    }
    object
}

/// A snapshot, without what it holds.
pub(crate) fn snapshot(id: SnapshotId, snapshot: &Snapshot) -> Map<String, Value> {
    let summary = snapshot.summary.as_ref();
    let Value::Object(object) = json!({
        "id": id,
        "short_id": format!("{id:.8}"),
        "time": format_timestamp(snapshot.time),
        "hostname": snapshot.hostname,
        "username": snapshot.username,
        "tags": snapshot.tags,
        "paths": snapshot.paths,
        "parent": snapshot.parent,
        "original": snapshot.original,
        "program": snapshot.program_version,
        "files": summary.map(|summary| summary.total_files_processed),
        "bytes_new": summary.map(|summary| summary.data_added),
        "bytes_stored": summary.map(|summary| summary.data_added_packed),
        "bytes_restored": summary.map(|summary| summary.total_bytes_processed),
    }) else {
        return Map::new();
    };
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_text_is_given_in_full_beside_it() {
        let mut object = Map::new();
        put_path(&mut object, &SnapshotPath::parse(b"/a\nb"));
        assert_eq!(Value::Object(object), json!({"path": "/a\nb"}));
        let mut object = Map::new();
        put_path(&mut object, &SnapshotPath::parse(b"/\xff"));
        assert_eq!(Value::Object(object), json!({"path": "/\u{fffd}", "path_base64": "L/8="}));
    }
}
