//! What a repository may hold of a database of MongoDB: the extended JSON that describes a collection, and its documents, as
//! a restore and `cat --archive` read them.

#![no_main]

use backup_core::contracts::Report;
use backup_fuzz::{bounded, of_json};
use backup_sources::databases::manifest::Manifest;
use backup_sources::databases::mongodb::archive::{ArchiveWriter, Contents};
use backup_sources::databases::url::Engine;
use libfuzzer_sys::fuzz_target;

// The first byte says how much of the rest describes the collection.
fuzz_target!(|bytes: &[u8]| bounded(of_json(bytes), || {
    let Some((share, bytes)) = bytes.split_first() else { return };
    let (text, documents) = bytes.split_at(bytes.len() * usize::from(*share) / 255);
    let manifest = Manifest::new(Engine::Mongodb, "app", Report::default());
    let beforehand = [("c.metadata.json".to_owned(), text.to_vec())];
    let sizes = ["c.bson", "system.buckets.c.bson"].map(|name| (name.to_owned(), documents.len() as u64));
    let Ok(contents) = Contents::of(&manifest, &sizes, &beforehand) else { return };
    let files = contents.files().count();
    let Ok(mut archive) = ArchiveWriter::begin(Vec::new(), contents) else { return };
    for _ in 0..files {
        for piece in documents.chunks(7) {
            if archive.write(piece).is_err() {
                return;
            }
        }
        if archive.end_file().is_err() {
            return;
        }
    }
    // An archive of whole documents is longer than they are.
    let archive = archive.finish().expect("all files were written");
    assert!(archive.len() >= documents.len() * files);
}));
