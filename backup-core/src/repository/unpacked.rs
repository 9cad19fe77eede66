//! Objects that lie in the store on their own: config, index, snapshot, lock, record.
//!
//! Their plain text is JSON, in version 2 behind a byte 2 and zstd-compressed, then sealed; the object's name is the
//! SHA-256 of what is stored. Readers take uncompressed JSON too.

use std::borrow::Cow;
use std::cell::RefCell;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::layout::Named;
use crate::bridge::Store;
use crate::codec::MasterKey;
use crate::contracts::{ObjectKey, PutMode};
use crate::limits::{UNPACKED_BYTES_MAX, UNPACKED_PLAIN_BYTES_MAX};
use crate::model::Id;
use crate::{Error, ErrorKind, Result};

/// The first byte of compressed JSON.
const COMPRESSED: u8 = 2;
/// Unpacked objects are small; restic uses its default level for them too.
const LEVEL: i32 = 3;
/// What is longer than this is not worth a shorter way.
const AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// Whether new objects are compressed: in version 2 they are, in version 1 nobody could read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Version 1, and the config in every version.
    Plain,
    /// Version 2.
    Compressed,
}

/// The stored form of `value`.
pub(super) fn seal_unpacked(master: &MasterKey, form: Form, value: &impl Serialize) -> Result<Bytes> {
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(ErrorKind::Broken("an object could not be encoded"), "repository").caused_by(error)
    };
    let json = serde_json::to_vec(value).map_err(|error| broken(error.into()))?;
    let plain = match form {
        Form::Plain => json,
        Form::Compressed => {
            let mut plain = vec![COMPRESSED];
            plain.extend(zstd::bulk::compress(&json, LEVEL).map_err(|error| broken(error.into()))?);
            plain
        }
    };
    let sealed = master.seal(&plain).map_err(|error| broken(error.into()))?;
    // As with blobs: what does not open again must not be believed.
    let mut opened = Vec::new();
    master.open(&sealed, &mut opened).map_err(|error| broken(error.into()))?;
    if opened != plain {
        return Err(Error::new(
            ErrorKind::Broken("an object did not open again: check this machine's memory"),
            "repository",
        ));
    }
    Ok(sealed.into())
}

/// Opens the stored form of an object; `key` is only named in errors.
pub(super) fn open_unpacked<T: DeserializeOwned>(master: &MasterKey, key: &ObjectKey, stored: &[u8]) -> Result<T> {
    let mut plain = Vec::new();
    master.open(stored, &mut plain).map_err(|error| Error::damaged(key, error.to_string()))?;
    let json = decompress(&plain).map_err(|what| Error::damaged(key, what))?;
    serde_json::from_slice(&json).map_err(|error| Error::damaged(key, "not what it should be").caused_by(error))
}

fn decompress(plain: &[u8]) -> Result<Cow<'_, [u8]>, String> {
    match plain.split_first() {
        Some((b'{' | b'[', _)) => Ok(Cow::Borrowed(plain)),
        Some((&COMPRESSED, frames)) => {
            use std::io::Read;
            if let Some(json) = decompress_at_once(frames) {
                return Ok(Cow::Owned(json));
            }
            let mut json = Vec::new();
            let decoder = zstd::stream::read::Decoder::with_buffer(frames).map_err(|error| error.to_string())?;
            let limit = UNPACKED_PLAIN_BYTES_MAX as u64 + 1;
            decoder.take(limit).read_to_end(&mut json).map_err(|error| format!("cannot be decompressed: {error}"))?;
            if json.len() > UNPACKED_PLAIN_BYTES_MAX { Err("too large".to_owned()) } else { Ok(Cow::Owned(json)) }
        }
        Some((form, _)) => Err(format!("unknown form {form}")),
        None => Err("empty".to_owned()),
    }
}

/// A small text whose frame says how long it is, by a context that is kept for the next: to make one costs more than to
/// decompress five hundred bytes. `None` where the long way has to tell what it is.
fn decompress_at_once(frames: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        static KEPT: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    let plain_bytes = zstd::zstd_safe::get_frame_content_size(frames).ok()??;
    let plain_bytes = usize::try_from(plain_bytes).ok().filter(|bytes| *bytes <= AT_ONCE_BYTES_MAX)?;
    KEPT.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = zstd::bulk::Decompressor::new().ok();
        }
        kept.as_mut()?.decompress(frames, plain_bytes).ok()
    })
}

/// Stores an object under its own hash. It is not durable before the next [`Store::sync`].
pub(super) fn save<N: Named>(store: &Store, master: &MasterKey, form: Form, value: &impl Serialize) -> Result<N> {
    let sealed = seal_unpacked(master, form, value)?;
    let id = N::from(Id::of(&sealed));
    store.put(&id.key(), sealed, PutMode::Overwrite)?;
    Ok(id)
}

/// Loads an object and checks that it is what its name says.
pub(super) fn load<N: Named, T: DeserializeOwned>(store: &Store, master: &MasterKey, id: N) -> Result<T> {
    open_named(master, id, &store.get(&id.key(), None)?)
}

/// Opens a stored object after checking that it is what its name says.
pub(super) fn open_named<N: Named, T: DeserializeOwned>(master: &MasterKey, id: N, stored: &[u8]) -> Result<T> {
    let key = id.key();
    if stored.len() as u64 > UNPACKED_BYTES_MAX {
        return Err(Error::new(ErrorKind::Limit("the size of an object"), key.as_str()));
    }
    if Id::of(stored) != id.id() {
        return Err(Error::damaged(&key, "its content does not match its name"));
    }
    open_unpacked(master, &key, stored)
}

/// The ids of all objects of a kind, with their stored sizes. Names that are no ids are passed over.
pub(super) fn list<N: Named>(store: &Store) -> Result<Vec<(N, u64)>> {
    let listed = store.list(N::FOLDER)?;
    Ok(listed.iter().filter_map(|info| Some((N::from_key(&info.key)?, info.bytes))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_read_back_and_damage_does_not() {
        let master = MasterKey::generate().unwrap();
        let key = ObjectKey::new("index/x");
        for form in [Form::Plain, Form::Compressed] {
            let sealed = seal_unpacked(&master, form, &vec!["a", "b"]).unwrap();
            assert_eq!(open_unpacked::<Vec<String>>(&master, &key, &sealed).unwrap(), ["a", "b"]);
            assert!(open_unpacked::<Vec<String>>(&master, &key, &sealed[..sealed.len() - 1]).is_err());
            assert!(open_unpacked::<u64>(&master, &key, &sealed).is_err());
        }
        for plain in [b"".as_slice(), b"\x03{}", b"\x02garbage", b"x"] {
            let sealed = master.seal(plain).unwrap();
            assert!(open_unpacked::<Vec<String>>(&master, &key, &sealed).is_err());
        }
    }
}
