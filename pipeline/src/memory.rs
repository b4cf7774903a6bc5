//! How the program keeps memory.
//!
//! glibc gives every large block back to the system as soon as it is freed. A network frees and takes blocks of many
//! megabytes in every layer, so that a seventh of its time went into pages being mapped and cleared again.
//!
//! What is kept must fit again. With an arena for each thread, what one thread freed was not there for the next, and the
//! program grew by 16 kB a forecast; so there is one. And small blocks that live for a day, such as the frames of a horizon,
//! would lie in the holes of large ones that live for a second, 200 kB a forecast; so what is Squall's own comes from an
//! allocator that keeps blocks of each size together (mimalloc, in `main.rs`), and this is about what the libraries take:
//! tensors above all.

/// Has the allocator keep up to 1 GiB that is free for the next time, unless the environment says how it shall be.
///
/// Called once, before other threads start. Does nothing where the C library is not glibc.
pub fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const KEPT: libc::c_int = 1 << 30;
        let chosen = ["MALLOC_MMAP_MAX_", "MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"];
        if chosen.iter().any(|name| std::env::var_os(name).is_some()) {
            return;
        }
        // SAFETY: these are documented parameters of the allocator, and no other thread runs yet. One that it does not
        // take leaves things as they are.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}
