//! Writes what is needed of some packs into new ones.
//!
//! Sealed blobs are copied as they are, after each was opened and hashed: a blob that has rotted must not get a new
//! pack in which it looks sound. What is damaged is left where it is, and its pack with it.

use std::collections::HashMap;

use bytes::Bytes;

use super::new_packs::NewPacks;
use super::prune_facts::PruneFacts;
use super::prune_plan::{Action, PrunePlan, UncompressedData};
use super::read_each::{Wanted, read_each};
use super::read_packs::open_blob;
use crate::cancel::Cancel;
use crate::codec::{BlobCodec, Compression, Proof};
use crate::model::{BlobKind, PackId};
use crate::observe::{Amount, Event, Observer, Phase};
use crate::pack::PackedBlob;
use crate::repository::Repository;
use crate::{Error, ErrorKind, Result};

/// What of one pack is to be copied.
pub(super) struct Part {
    pub(super) pack: PackId,
    pub(super) blobs: Vec<PackedBlob>,
}

/// A blob that is proven to open, in the form in which it is written.
struct Proven {
    blob: PackedBlob,
    form: Form,
}

enum Form {
    AsItIs,
    Anew { sealed: Vec<u8>, plain_bytes: Option<u32> },
}

/// How many blobs of a pack could not be copied, and why the first could not.
pub(super) struct NotCopied {
    pub(super) pack: PackId,
    pub(super) what: String,
}

/// Copies what the plan says is to be written anew. Returns the packs of which something could not be copied. When it
/// returns, what was copied is durable and listed.
pub(super) fn repack(
    repository: &Repository,
    facts: &PruneFacts,
    plan: &PrunePlan,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Vec<NotCopied>> {
    let numbers: HashMap<u32, usize> = (0_u32..)
        .zip(&plan.packs)
        .filter(|(_, pack)| pack.action == Action::Repack)
        .enumerate()
        .map(|(at, (number, _))| (number, at))
        .collect();
    let mut parts: Vec<_> = plan
        .packs
        .iter()
        .filter(|pack| pack.action == Action::Repack)
        .map(|pack| Part { pack: pack.id, blobs: Vec::new() })
        .collect();
    for place in facts.needed.places(&facts.index) {
        if let Some(at) = numbers.get(&place.pack_number) {
            parts[*at].blobs.push(place.blob);
        }
    }
    let compress = (facts.version > 1).then_some(plan.options.uncompressed_data);
    copy(repository, parts, compress, cancel, observer)
}

/// Copies parts of packs into new packs. `compress` says what happens to blobs that are plain; trees are compressed
/// unless it is `None`.
pub(super) fn copy(
    repository: &Repository,
    mut parts: Vec<Part>,
    compress: Option<UncompressedData>,
    cancel: &Cancel,
    observer: &dyn Observer,
) -> Result<Vec<NotCopied>> {
    parts.retain(|part| !part.blobs.is_empty());
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    for part in &mut parts {
        part.blobs.sort_unstable_by_key(|blob| blob.offset);
    }
    let wanted: Vec<_> = parts.iter().map(wanted).collect();
    let total = Amount { items: wanted.len() as u64, bytes: wanted.iter().map(|part| part.bytes).sum() };
    observer.event(Event::Phase { phase: Phase::Repack, total: Some(total) });
    let codecs =
        [BlobKind::Data, BlobKind::Tree].map(|kind| repository.codec(kind, Compression::DEFAULT_LEVEL, Proof::Each));
    let codec_for = |blob: &PackedBlob| match (blob.plain_bytes, blob.kind, compress) {
        (None, BlobKind::Tree, Some(_)) => Some(&codecs[1]),
        (None, BlobKind::Data, Some(UncompressedData::Compress)) => Some(&codecs[0]),
        _ => None,
    };
    let work = |at: usize, read: Result<Bytes>| {
        let start = wanted[at].range.as_ref().map_or(0, |range| range.start);
        read.map(|bytes| (prove(repository, &parts[at], start, &bytes, &codec_for), bytes))
    };
    let mut new_packs = NewPacks::new(repository, observer);
    let mut not_copied = Vec::new();
    read_each(repository.store(), &wanted, cancel, work, |at, proven: Result<(Result<_>, Bytes)>| {
        let pack = parts[at].pack;
        let mut fail = |error: &Error| not_copied.push(NotCopied { pack, what: error.to_string() });
        match proven {
            Ok((outcome, bytes)) => {
                let (proven, failure): (Vec<Proven>, Option<Error>) = outcome?;
                failure.iter().for_each(&mut fail);
                for Proven { blob, form } in proven {
                    match form {
                        Form::AsItIs => {
                            let start = slice_start(&blob, &wanted[at]);
                            let sealed = &bytes[start..start + blob.length as usize];
                            new_packs.add(blob.kind, blob.id, sealed, blob.plain_bytes)?;
                        }
                        Form::Anew { sealed, plain_bytes } => {
                            new_packs.add(blob.kind, blob.id, &sealed, plain_bytes)?;
                        }
                    }
                }
            }
            Err(error) if is_of_object(&error) => fail(&error),
            Err(error) => return Err(error),
        }
        observer.event(Event::Progress(Amount { items: 1, bytes: wanted[at].bytes }));
        Ok(())
    })?;
    new_packs.finish()?;
    Ok(not_copied)
}

/// Whether a failure says something of the object, and not of the store or of this run.
pub(super) fn is_of_object(error: &Error) -> bool {
    use crate::contracts::SinkErrorKind::Truncated;
    matches!(
        error.kind(),
        ErrorKind::Damaged(_) | ErrorKind::Missing | ErrorKind::Limit(_) | ErrorKind::Sink(Truncated)
    )
}

fn slice_start(blob: &PackedBlob, wanted: &Wanted) -> usize {
    let start = wanted.range.as_ref().map_or(0, |range| range.start);
    usize::try_from(u64::from(blob.offset) - start).unwrap_or(usize::MAX)
}

fn wanted(part: &Part) -> Wanted {
    let start = part.blobs.first().map_or(0, |blob| u64::from(blob.offset));
    let end = part.blobs.last().map_or(0, |blob| u64::from(blob.offset) + u64::from(blob.length));
    Wanted { pack: part.pack, range: Some(start..end), bytes: end - start }
}

/// Opens every blob of a part. Returns those that are sound, and why the first of the others is not.
fn prove<'c>(
    repository: &Repository,
    part: &Part,
    start: u64,
    bytes: &[u8],
    codec_for: &impl Fn(&PackedBlob) -> Option<&'c BlobCodec>,
) -> Result<(Vec<Proven>, Option<Error>)> {
    let start = u32::try_from(start).unwrap_or(u32::MAX);
    let (mut proven, mut failure) = (Vec::with_capacity(part.blobs.len()), None);
    let mut plain = Vec::new();
    for blob in &part.blobs {
        let within = PackedBlob { offset: blob.offset - start, ..*blob };
        if let Err(error) = open_blob(repository, part.pack, 0, within, bytes, &mut plain) {
            failure.get_or_insert(error);
            continue;
        }
        let form = match codec_for(blob) {
            None => Form::AsItIs,
            Some(codec) => {
                let mut sealed = Vec::new();
                let outcome = codec.seal_and_prove(&plain, &mut sealed).map_err(|error| {
                    Error::new(ErrorKind::Broken("a blob could not be sealed"), format!("blob {}", blob.id))
                        .caused_by(error)
                })?;
                let plain_bytes = outcome.is_compressed.then(|| u32::try_from(plain.len()).unwrap_or(u32::MAX));
                Form::Anew { sealed, plain_bytes }
            }
        };
        proven.push(Proven { blob: *blob, form });
    }
    Ok((proven, failure))
}
