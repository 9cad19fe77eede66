//! How the C library's allocator treats large buffers. The bounds are set once, before any thread is started.
//!
//! Packs and pieces of files are buffers of megabytes that one thread fills and another lets go. Left to itself glibc
//! learns from the first of them to keep such memory for later, in as many arenas as there are threads, and a check
//! that holds 50 MB then weighs 190. With fixed bounds a large buffer is a mapping of its own, which goes back to the
//! system when it is dropped. Measured: docs/decisions/memory.md.

/// Gives back what was let go of and lies between what is still held: after something large was read, of which little is
/// kept. It takes milliseconds.
#[expect(unsafe_code, reason = "glibc offers this by this call alone")]
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` takes a number, works under the allocator's own locks, and touches no memory that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Sets the bounds; other C libraries than glibc have none.
#[expect(unsafe_code, reason = "glibc offers its bounds by this call and by the environment, which is not ours to set")]
pub(crate) fn set_bounds() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` takes two numbers and sets a parameter of the allocator, under the allocator's own lock. It is
    // unsafe only for being foreign. A value that is refused changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 4 << 20);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
