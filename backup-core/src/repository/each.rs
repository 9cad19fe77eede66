//! Many small objects of one kind, read and opened by all cores: the snapshots and records of years.
//!
//! What is always true: objects come back in the order in which they were asked for; no more requests are under way at once
//! than [`SMALL_REQUESTS_IN_FLIGHT_MAX`]; no thread holds more than two portions. They are asked for in portions, because for an
//! object of five hundred bytes the way from thread to thread costs more than reading it.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::layout::Named;
use super::unpacked;
use crate::Result;
use crate::bridge::Store;
use crate::codec::MasterKey;
use crate::limits::{PORTION_BYTES, PORTION_OBJECTS, SMALL_REQUESTS_IN_FLIGHT_MAX};

/// Reads and opens the objects that were `listed`, which is their names and sizes.
pub(super) fn open_each<N, T>(store: &Store, master: &MasterKey, listed: &[(N, u64)]) -> Vec<(N, Result<T>)>
where
    N: Named + Send + Sync,
    T: DeserializeOwned + Send,
{
    let portions = portions(listed);
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = cores.min(portions.len()).min(SMALL_REQUESTS_IN_FLIGHT_MAX);
    let next = AtomicUsize::new(0);
    let worker = || work(store, master, &portions, &next, (SMALL_REQUESTS_IN_FLIGHT_MAX / workers.max(1)).max(1));
    if workers <= 1 {
        return worker().into_iter().flat_map(|(_, opened)| opened).collect();
    }
    let mut opened: Vec<_> = thread::scope(|scope| {
        let working: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let joined =
            working.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    });
    opened.sort_unstable_by_key(|(number, _)| *number);
    opened.into_iter().flat_map(|(_, opened)| opened).collect()
}

/// A portion's number, and what its objects are.
type Opened<N, T> = (usize, Vec<(N, Result<T>)>);

/// Takes one portion after the other until none is left, and opens each while the next is under way.
fn work<N: Named, T: DeserializeOwned>(
    store: &Store,
    master: &MasterKey,
    portions: &[&[(N, u64)]],
    next: &AtomicUsize,
    at_once: usize,
) -> Vec<Opened<N, T>> {
    let ask = || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let portion = *portions.get(number)?;
        Some((number, portion, store.start_get_many(portion.iter().map(|(id, _)| id.key()).collect(), at_once)))
    };
    let mut opened = Vec::new();
    let mut asked = ask();
    while let Some((number, portion, pending)) = asked {
        let read = pending.wait();
        asked = ask();
        let open = |((id, _), read): (&(N, u64), Result<Bytes>)| {
            (*id, read.and_then(|stored| unpacked::open_named(master, *id, &stored)))
        };
        opened.push((number, portion.iter().zip(read).map(open).collect()));
    }
    opened
}

/// Neighbours, so many and of so many bytes that it is worth it.
fn portions<N>(listed: &[(N, u64)]) -> Vec<&[(N, u64)]> {
    let mut portions = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, (_, size)) in listed.iter().enumerate() {
        if at > start && (at - start == PORTION_OBJECTS || bytes + size > PORTION_BYTES) {
            portions.push(&listed[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size;
    }
    if start < listed.len() {
        portions.push(&listed[start..]);
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_ends_where_it_has_enough_objects_or_bytes_and_none_is_left_out() {
        let many: Vec<_> = (0..3 * PORTION_OBJECTS + 1).map(|number| (number, 1)).collect();
        assert_eq!(
            portions(&many).iter().map(|portion| portion.len()).collect::<Vec<_>>(),
            [PORTION_OBJECTS, PORTION_OBJECTS, PORTION_OBJECTS, 1]
        );
        let large = [(0, PORTION_BYTES), (1, 1), (2, PORTION_BYTES * 2), (3, 1), (4, 1)];
        assert_eq!(portions(&large).iter().map(|portion| portion.len()).collect::<Vec<_>>(), [1, 1, 1, 2]);
        assert_eq!(portions::<u8>(&[]), Vec::<&[(u8, u64)]>::new());
    }
}
