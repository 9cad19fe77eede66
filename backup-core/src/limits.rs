//! Every bound on memory, size, count and time that the engine promises, in one place.
//!
//! A number that bounds something stands here and nowhere else, with the reason for its size. What comes from the
//! format is marked so: it cannot be changed without leaving restic's format.

use std::num::NonZeroUsize;
use std::time::Duration;

/// Bytes that sealing adds to a blob: a 16-byte initialisation vector and a 16-byte tag (format).
pub const SEAL_OVERHEAD_BYTES: usize = 32;

/// The longest encrypted pack header that restic reads (format).
pub const PACK_HEADER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A pack is closed at this size. Restic's default: few enough objects for a bucket, small enough to hold in memory
/// once per open pack.
pub const PACK_BYTES_TARGET: usize = 16 * 1024 * 1024;

/// A pack is closed at this many blobs, whatever its size, so that the header of a pack of tiny blobs stays a small
/// part of it and a range read of a header stays one request.
pub const PACK_BLOBS_MAX: usize = 50_000;

/// The largest object that is read as a pack: offsets are 32-bit numbers (format).
pub const PACK_BYTES_MAX: u64 = u32::MAX as u64;

/// The largest blob, sealed or open, that is read. Restic writes none over 8 MiB except trees of huge folders; a
/// tree of a folder with a few million entries is about this large.
pub const BLOB_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024 - 1;

/// The longest chunk that a repository may ask for: each thread of a backup holds a few of them. Restic's are 8 MiB at
/// most; sixteen times as much is left for repositories of rustic that were given other sizes.
pub const CHUNK_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The largest unpacked object (config, key, lock, index, snapshot, record) that is read.
pub const UNPACKED_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// The largest plain text that an unpacked object may decompress to.
pub const UNPACKED_PLAIN_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// The largest config or key file that is read: both are a few hundred bytes.
pub const SMALL_OBJECT_BYTES_MAX: u64 = 64 * 1024;

/// An index object is written when it lists this many blobs (restic's number: about 5 MB of JSON).
pub const INDEX_BLOBS_MAX: usize = 50_000;

/// An index object is written when its oldest pack has waited this long, so that a run that is killed has lost no more
/// than this much of its deduplication.
pub const INDEX_AGE_SECONDS_MAX: u64 = 5 * 60;

/// How long a run that was ended waits for the packs that are under way, so that the next need not store them again:
/// whoever has pressed Ctrl-C is there and waits too.
pub const LAST_PACKS_PATIENCE: Duration = Duration::from_secs(10);

/// At most this many key files are tried with a passphrase, as restic does: each costs half a second.
pub const KEYS_TRIED_MAX: usize = 20;

/// The largest scrypt memory that a key file may ask for, 128·N·r bytes, which each core takes once. Restic's keys take
/// 32 MiB, rustic's 128.
pub const SCRYPT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The largest scrypt work that a key file may ask for: N·r·p. Calibration ends near 2²¹; a hostile key file must not
/// hold the machine for hours.
pub const SCRYPT_WORK_MAX: u64 = 1 << 28;

/// How many levels of folders are walked. Deeper ones are reported and left out: restic and the tools that would have
/// to restore them stop earlier, and Linux's own path limit allows no more than 2,047.
pub const TREE_DEPTH_MAX: usize = 2_047;

/// How many bytes of the files being read a pipeline holds that are not yet in a pack, per worker.
pub const READ_BUFFER_BYTES: usize = 1024 * 1024;

/// A buffer that has grown beyond this is not kept for its next use: three pieces of files in a hundred are longer.
pub const BUFFER_KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Entries that the walk may be ahead of the readers.
pub const ENTRIES_AHEAD_MAX: usize = 1_024;

/// Entries of folders that were read ahead of the walk and wait for it: about 6 MB, enough that the threads that read
/// ahead never wait for a folder's turn.
pub const WALK_ENTRIES_AHEAD_MAX: usize = 16_384;

/// Entries of one folder that are looked at in one go. A folder with a million entries then costs the memory of its
/// names and of a few such batches, not of a million nodes.
pub const WALK_BATCH_ENTRIES: usize = 512;

/// Folders that wait to be read ahead. The oldest are forgotten beyond that; the walk reads them itself.
pub const WALK_FOLDERS_WAITING_MAX: usize = 16_384;

/// The largest `.gitignore` that is read.
pub const IGNORE_FILE_BYTES_MAX: usize = 1024 * 1024;

/// The end of a command's error output that is kept for the message when it fails.
pub const STDERR_TAIL_BYTES: usize = 4 * 1024;

/// What a program may be ahead of us with its output: the most that Linux gives everybody, which is less to wait for.
pub const PIPE_BYTES: usize = 1024 * 1024;

/// A table with this many bytes or more is not laid down before it is loaded, but loaded as it comes out of the repository. One
/// with less shares its pieces with others, and each of them would be read once for every table in it.
pub const PIPED_BYTES_MIN: u64 = 1024 * 1024;

/// Folders that a restore keeps open, a quarter of the 1,024 files that a process may have open by default.
pub const RESTORE_FOLDERS_OPEN_MAX: usize = 256;

/// Locks are refreshed this often (restic's number).
pub const LOCK_REFRESH_SECONDS: u64 = 5 * 60;

/// A lock older than this is stale, whoever wrote it (restic's number).
pub const LOCK_STALE_SECONDS: i64 = 30 * 60;

/// A holder that could not refresh its lock for this long must stop writing (restic's number).
pub const LOCK_LOST_SECONDS: u64 = 22 * 60 + 30;

/// Two prune observations are at least this far apart before a pack is deleted.
pub const PRUNE_DELAY_SECONDS: i64 = 24 * 60 * 60;

/// Bytes of packs that a check, prune or repair has asked for and not yet done with. A pack larger than this is read
/// alone. About three packs of the usual size: two at work while the next arrives.
pub const CARE_BYTES_IN_FLIGHT_MAX: u64 = 48 * 1024 * 1024;

/// Parts of a pack that lie closer together than this are read in one request: fetching the gap costs less than asking
/// twice.
pub const READ_GAP_BYTES_MAX: u32 = 64 * 1024;

/// One request reads no more of a pack than this, unless a single blob is larger.
pub const READ_SPAN_BYTES_MAX: u32 = 4 * 1024 * 1024;

/// A copy makes snapshots visible where it copies to when this much was to be read for them: what a run that is cut off
/// leaves unfinished is bounded, and the two packs that stay part-filled at each such end are one in thirty.
pub const COPY_BATCH_BYTES: u64 = 1024 * 1024 * 1024;

/// Snapshots whose trees a copy walks together: enough that round trips are shared, few enough that a batch stays near
/// its size.
pub const COPY_SNAPSHOTS_AT_ONCE_MAX: usize = 64;

/// The largest pack that a copy reads as a whole, to pass it on unopened; of larger ones it reads stretches.
pub const COPY_WHOLE_PACK_BYTES_MAX: u64 = 2 * PACK_BYTES_TARGET as u64;

/// A finding names at most this many snapshots and this many files; the others are counted.
pub const FINDING_NAMES_MAX: usize = 20;

/// Requests to the store that one thread has under way at once.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 8;

/// So many small objects (snapshots, records) are asked for together, …
pub const PORTION_OBJECTS: usize = 64;

/// … unless they are larger together than this: a record of a check names every snapshot.
pub const PORTION_BYTES: u64 = 1024 * 1024;

/// Requests for small objects under way at once, of all threads together: what they take is the way, and not the line.
pub const SMALL_REQUESTS_IN_FLIGHT_MAX: usize = 32;

/// Bytes of snapshots or records that are read while the passphrase is turned into a key: a thousand snapshots or more.
pub const FORESEEN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Objects in an archive that are asked about at once: a thousand packs are looked at in a few seconds.
pub const THAW_LOOKS_MAX: usize = 16;

/// How long a store may not answer while somebody waits for its archive: a wait of hours must bear a restart.
pub const THAW_SILENCE_MAX: Duration = Duration::from_secs(10 * 60);

/// Threads on which a sink may block.
pub const RUNTIME_BLOCKING_THREADS_MAX: usize = 16;

/// Finished packs on their way to the store, where it says that it takes as many
/// ([`crate::contracts::Sink::parallelism`]) and that is found to help; a folder gets two. Together with the open ones they
/// are most of a backup's memory.
pub const PACKS_IN_FLIGHT_MAX: usize = 8;

/// Repositories that one backup goes to at once: each takes the memory of a backup of its own.
pub const DESTINATIONS_MAX: usize = 8;

/// Chunks cut from large files that wait for a thread, per thread; beyond it the reader does the work itself.
pub const CHUNKS_WAITING_PER_WORKER: usize = 1;

/// Pieces of files that one batch of a restore knows the places of.
pub const RESTORE_BLOBS_MAX: usize = 65_536;

/// Files of several pieces that one batch of a restore may have open at once; a process may open 1,024 by default.
pub const RESTORE_FILES_OPEN_MAX: usize = 256;

/// Bytes that a restore reads from a pack in one go, and what it reads in vain to join two ranges.
pub const RESTORE_RANGE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// See [`RESTORE_RANGE_BYTES_MAX`].
pub const RESTORE_GAP_BYTES_MAX: u64 = 64 * 1024;

/// Bytes of one file that are read ahead of who reads it from its beginning to its end: at first, and at most.
pub const READ_AHEAD_BYTES_MIN: u64 = 1024 * 1024;
/// See [`READ_AHEAD_BYTES_MIN`].
pub const READ_AHEAD_BYTES_MAX: u64 = RESTORE_RANGE_BYTES_MAX;

/// Pieces of one such range that are written together; those of one file each are open at once.
pub const RESTORE_RANGE_BLOBS_MAX: usize = 128;

/// Trees lie beside their neighbours: what is read of a pack for one of them, in stretches of this size.
pub const TREE_WINDOW_BYTES: u64 = 256 * 1024;

/// The longest such stretch, for a walk that goes on where the one before ended: at 50 ms and 100 MB/s it fills a third of
/// the line.
pub const TREE_WINDOW_BYTES_MAX: u64 = 2 * 1024 * 1024;

/// Bytes of such stretches that a reader keeps.
pub const TREE_WINDOWS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// The largest pack that is brought near whole, because of one more stretch of it: twice what this program and restic
/// write.
pub const TREE_PACK_NEAR_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Folders of the parent snapshot that are read ahead of the walk.
pub const PARENT_FOLDERS_AHEAD_MAX: usize = 64;

/// The largest `manifest.json` of a database that is written or read: two hundred bytes an object, so about a million
/// tables and indexes.
pub const MANIFEST_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The longest entry in the table of contents of pg_dump's archive that is looked at: the body of a function may be
/// long, but no person writes one like this.
pub const ARCHIVE_ENTRY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The longest text of roles and tablespaces of a database server that is kept: a few hundred bytes a role.
pub const GLOBALS_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long a database server may take to answer a first connection, when nobody says otherwise.
pub const DATABASE_CONNECT_SECONDS: u64 = 30;

/// How long a database server may say nothing when it was asked for the next documents. A busy one takes seconds for
/// them; one that was lost without a word would be waited for for ever.
pub const DATABASE_SILENCE_SECONDS_MAX: u64 = 10 * 60;

/// The longest description of a collection of MongoDB that is read: options are a document, which has 16 MiB at most,
/// and are longer as text.
pub const MONGODB_METADATA_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A batch of documents that is restored into MongoDB is sent when it has these bytes, or so many documents. A message
/// has 48 MB at most, and one more document of 16 MiB still fits into it.
pub const MONGODB_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// See [`MONGODB_BATCH_BYTES`].
pub const MONGODB_BATCH_DOCUMENTS_MAX: usize = 10_000;

/// Pieces that a database of SQLite is cut into: a multiple of every page size there is (64 KiB at most), so that a page
/// that changed costs one piece, and large enough that the index stays small.
pub const SQLITE_CHUNK_BYTES: NonZeroUsize = NonZeroUsize::new(256 * 1024).unwrap();

/// Bytes of a database of SQLite that are copied while its writers wait, where it is not in WAL mode: a few
/// milliseconds.
pub const SQLITE_SLICE_BYTES: u64 = 8 * 1024 * 1024;

/// How often such a copy begins, because somebody wrote meanwhile, before it is made in one go.
pub const SQLITE_COPY_ATTEMPTS_MAX: u32 = 4;

/// How long writers may wait for a copy in one go: less than the five seconds after which programs commonly give up.
pub const SQLITE_WRITERS_WAIT_MAX: Duration = Duration::from_secs(3);

/// The longest text in an RDB file that is held, and the longest value that is sent to a server: Redis takes no longer
/// one by default (`proto-max-bulk-len`).
pub const RDB_TEXT_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Packed collections of Redis up to this size are unpacked for the content hash; a server makes none of over 64 KB unless
/// it is told to.
pub const REDIS_PACKED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Strings and elements of Redis up to this length are part of the content hash; longer ones are not held for it.
pub const REDIS_STRING_HASHED_BYTES_MAX: u64 = 1024 * 1024;

/// How long a server in a sandbox may take to answer its first question: a slow disk, and nothing to recover.
pub const SANDBOX_START_MAX: Duration = Duration::from_secs(120);

/// How long a server for drills may take to answer what is asked of it as a server: what databases it has, whether it is
/// the one that was backed up. One that hangs must not hold a drill.
pub const SANDBOX_SERVER_SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long a drill may take where its job sets no limit: longer than any restore that somebody would wait for, so that one
/// which hangs for a reason that nobody thought of ends all the same.
pub const DRILL_LIMIT_DEFAULT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How long a runbook's command, asked to stop with its drill, may take to give its lock back before it is ended.
pub const DRILL_STOP_GRACE: Duration = Duration::from_secs(10);

/// Space in bytes that a server takes in a sandbox before anything is restored: its own tables, its logs of changes.
pub const SANDBOX_SERVER_BYTES: u64 = 256 * 1024 * 1024;

/// What a drill leaves of a disk to everybody else: of a large one, this.
pub const SANDBOX_KEPT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Of a smaller one, a part in so many.
pub const SANDBOX_KEPT_PART: u64 = 32;

/// A sandbox with less than this left has no space: an engine that then fails has failed for want of it, whatever it says.
/// Servers take space in such pieces (a segment of PostgreSQL's log is 16 MiB), so they fail before the last byte is gone.
pub const SANDBOX_LEFT_BYTES_MIN: u64 = 32 * 1024 * 1024;

/// The longest path of a socket that the kernel takes (unix(7): 108 with the end).
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The longest cron expression that is read: a list of every minute is shorter.
pub const SCHEDULE_BYTES_MAX: usize = 256;

/// Missed slots that are counted: who missed ten thousand has missed more than a number says.
pub const SCHEDULE_MISSED_COUNTED_MAX: usize = 10_000;

/// Days with slots among which the longest gap of a schedule is looked for: thirteen months, so that each month's length
/// and both nights in which clocks change are among them.
pub const SCHEDULE_GAP_DAYS: u32 = 400;

/// How far ahead it is looked for where days with slots are rare: two leap years.
pub const SCHEDULE_GAP_YEARS: i64 = 10;

/// Runs whose length says how long the next will take: a month of daily ones.
pub const POLICY_DURATIONS_MAX: usize = 30;

/// Runs before it that a run is compared with: a week of daily ones, so that what is usual follows within days.
pub const SUSPICION_RUNS: usize = 7;

/// Below this many bytes a run may shrink as it likes: one file more or less is half of it.
pub const SUSPICION_BYTES_MIN: u64 = 1024 * 1024;

/// Below this many files likewise.
pub const SUSPICION_FILES_MIN: u64 = 10;

/// How long a lease on a job's slot holds when its holder cannot be seen to be gone: longer than nearly every run takes,
/// shorter than a day, so that a machine that died in the night costs one nightly backup no more than its morning.
pub const LEASE_SECONDS: i64 = 6 * 60 * 60;

/// Leases on slots that lie further back are deleted.
pub const LEASE_KEPT_SECONDS: i64 = 14 * 24 * 60 * 60;

/// How often a slot changes hands because its holder is gone. A job that kills its machine is not tried for ever.
pub const LEASE_HOLDERS_MAX: u32 = 5;

/// Configurations of one machine that a repository keeps: what was changed lately, for whoever asks why.
pub const CONFIGURATIONS_KEPT_MAX: usize = 10;

/// Entries of a snapshot that a drill reads ahead of the comparison; each knows the places of its pieces.
pub const DRILL_ENTRIES_AHEAD_MAX: usize = 64;

/// Of what a drill could not restore, so many entries are named in its result.
pub const DRILL_PROBLEMS_NAMED_MAX: usize = 10;

/// Checks that a record of evidence lists one by one, those that failed first; a digest covers the others.
pub const EVIDENCE_CHECKS_LISTED_MAX: usize = 200;

/// The largest record of evidence that is read: two hundred checks of a few hundred bytes, many times over.
pub const EVIDENCE_BYTES_MAX: u64 = 1024 * 1024;
