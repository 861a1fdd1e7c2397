//! How the C library's allocator gives memory back.
#![allow(unsafe_code)]

/// Larger blocks are mapped each on its own, and given back when they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED: i32 = 1 << 20;
/// So much may stay unused at the end of a heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 4 << 20;

/// Keeps the memory of a job near what it uses. Caches grow and are emptied for as long as it runs; by itself glibc learns from
/// that to serve ever larger blocks from its heaps, which are then full of holes (mallopt(3), `M_MMAP_THRESHOLD`: the
/// threshold is dynamic until it is set). Whoever has set it in the environment keeps that.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_memory_back() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        if ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"]
            .iter()
            .all(|name| std::env::var_os(name).is_none())
        {
            // SAFETY: the call takes two numbers and sets parameters under the lock of the main heap; other threads read them
            // without one, as plain words, and go by the old or the new value.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED);
                libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
            }
        }
    });
}

/// Other allocators do so by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_memory_back() {}
