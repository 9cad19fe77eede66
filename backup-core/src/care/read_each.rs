//! Parts of many packs, read ahead and worked on by all cores, in bounded memory.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::thread;

use bytes::Bytes;

use crate::Result;
use crate::bridge::Store;
use crate::cancel::Cancel;
use crate::limits::{CARE_BYTES_IN_FLIGHT_MAX, REQUESTS_IN_FLIGHT_MAX};
use crate::model::PackId;
use crate::repository::layout::Named;

/// A part of a pack that is to be read.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The pack.
    pub(super) pack: PackId,
    /// The part; the whole pack when not given.
    pub(super) range: Option<Range<u64>>,
    /// How much that is, as far as is known.
    pub(super) bytes: u64,
}

/// Reads every `wanted` part, lets threads `work` on them, and hands over the results on the calling thread, in any
/// order. What is asked for and not yet handed over stays within [`CARE_BYTES_IN_FLIGHT_MAX`].
///
/// Ends early when `each` fails or a stop was asked for.
pub(super) fn read_each<T: Send>(
    store: &Store,
    wanted: &[Wanted],
    cancel: &Cancel,
    work: impl Fn(usize, Result<Bytes>) -> T + Sync,
    mut each: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    thread::scope(|scope| {
        // Neither queue needs a bound of its own: the bytes in flight bound both.
        let (job_in, job_out) = crossbeam_channel::unbounded::<(usize, Result<Bytes>)>();
        let (done_in, done_out) = crossbeam_channel::unbounded::<(usize, T)>();
        for _ in 0..cores.min(wanted.len()) {
            let (jobs, done, work) = (job_out.clone(), done_in.clone(), &work);
            scope.spawn(move || {
                for (number, read) in jobs {
                    if done.send((number, work(number, read))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done_in);
        let mut waiting = wanted.iter().enumerate().peekable();
        let mut asked = VecDeque::with_capacity(REQUESTS_IN_FLIGHT_MAX);
        let (mut in_flight, mut bytes) = (0_usize, 0_u64);
        loop {
            cancel.check()?;
            while asked.len() < REQUESTS_IN_FLIGHT_MAX
                && let Some((number, part)) =
                    waiting.next_if(|(_, part)| in_flight == 0 || bytes + part.bytes <= CARE_BYTES_IN_FLIGHT_MAX)
            {
                asked.push_back((number, store.start_get(&part.pack.key(), part.range.clone())));
                in_flight += 1;
                bytes += part.bytes;
            }
            let finished = if let Some((number, pending)) = asked.pop_front() {
                // The workers listen for as long as this thread holds the sending end.
                let _ = job_in.send((number, pending.wait()));
                done_out.try_recv().ok()
            } else if in_flight > 0 {
                done_out.recv().ok()
            } else {
                return Ok(());
            };
            for (number, result) in finished.into_iter().chain(done_out.try_iter()) {
                in_flight -= 1;
                bytes -= wanted[number].bytes;
                each(number, result)?;
            }
        }
    })
}
