// SPDX-License-Identifier: Apache-2.0

//! Shared memory zones (`ngx_shm_zone_t`) whose memory one process at a time uses.
//!
//! The lock is that of nginx's slab pool, at the beginning of the zone: nginx's master process
//! unlocks it if the process that holds it has died. What that process has left behind is then
//! "torn": whoever takes the lock next is told so.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence};
use std::thread;

use ngx::ffi::{
    ngx_int_t, ngx_pagesize, ngx_shared_memory_add, ngx_shm_zone_t, ngx_shmtx_lock,
    ngx_shmtx_unlock, ngx_slab_alloc, ngx_slab_pool_t, ngx_str_t,
};

use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::{bytes, list_elements};
use crate::nginx::shared_zone::{ZoneError, take_over};

/// Marks the zones as of this kind: others of this module have another layout.
static TAG: u8 = 0;

/// nginx's own minimum for zones of this kind (`ssl_session_cache`), in pages.
const LEAST_PAGES: usize = 8;

/// The beginning of the memory, which is used without the lock too.
#[repr(C)]
struct Control {
    /// Whether a process is changing the memory, or has died while it did.
    is_torn: AtomicU32,
    unused: u32,
    /// See [`LockedZone::generation`].
    generation: AtomicU64,
    /// The number of words that follow.
    words: usize,
}

/// A zone. It lives as long as its configuration, of which only the module's main configuration
/// holds it.
#[derive(Clone, Copy)]
pub struct LockedZone(NonNull<ngx_shm_zone_t>);

impl LockedZone {
    /// Adds a zone to the configuration that is being read. After a reload, the memory is that of
    /// the previous configuration's zone, if that had the same name and size.
    pub fn add(parser: ConfParser<'_>, name: &[u8], size: usize) -> Result<Self, ZoneError> {
        let name = parser.pool().keep(name.to_vec()).map_err(|_| ZoneError)?;
        let mut name = ngx_str_t { len: name.len(), data: name.as_ptr().cast_mut() };
        let tag = ptr::from_ref(&TAG).cast_mut().cast();
        // SAFETY: the parser is valid. nginx only reads the name, which lives as long as the
        // configuration, and only compares the tag.
        let zone = unsafe { ngx_shared_memory_add(parser.as_ptr(), &raw mut name, size, tag) };
        let zone = NonNull::new(zone).ok_or(ZoneError)?;
        // SAFETY: nginx has returned a valid zone, of this kind.
        unsafe { (*zone.as_ptr()).init = Some(initialize) };
        Ok(Self(zone))
    }

    /// Returns whether the configuration that is being read has a zone of this name already.
    pub fn is_taken(parser: ConfParser<'_>, name: &[u8]) -> bool {
        // SAFETY: the parser is valid, and its cycle has a list of zones, whose names live as long.
        unsafe {
            let zones = &raw const (*(*parser.as_ptr()).cycle).shared_memory;
            list_elements::<ngx_shm_zone_t>(&*zones).any(|zone| bytes(zone.shm.name) == name)
        }
    }

    /// Returns the size of the smallest zone.
    pub fn least_size() -> usize {
        // SAFETY: nginx sets it when it starts.
        LEAST_PAGES * unsafe { ngx_pagesize }
    }

    /// Returns the size in bytes, as it was configured.
    pub fn size(self) -> usize {
        // SAFETY: the zone lives as long as its configuration.
        unsafe { self.0.as_ref().shm.size }
    }

    /// Returns a number that every process can change: see [`Locked::next_generation`]. `None`
    /// before nginx has made the zone.
    pub fn generation(self) -> Option<u64> {
        self.control().map(|control| control.generation.load(Ordering::Relaxed))
    }

    /// Waits until no other process uses the memory. `None` before nginx has made the zone.
    pub fn lock(&self) -> Option<Locked<'_>> {
        let control = self.control()?;
        // SAFETY: the zone has been made, and its memory begins with a slab pool.
        let pool = unsafe { self.0.as_ref().shm.addr }.cast::<ngx_slab_pool_t>();
        // SAFETY: the pool is valid, and this process does not hold the lock: `Locked` releases it.
        unsafe { ngx_shmtx_lock(&raw mut (*pool).mutex) };
        let was_torn = control.is_torn.swap(1, Ordering::Relaxed) != 0;
        // What follows must not be written before that.
        compiler_fence(Ordering::SeqCst);
        let first = ptr::from_ref(control).wrapping_add(1).cast::<u64>().cast_mut();
        // SAFETY: `initialize` has allocated these words behind the control, with its alignment.
        // They are integers, which only the holder of the lock reads or writes.
        let memory = unsafe { slice::from_raw_parts_mut(first, control.words) };
        Some(Locked { pool, control, memory, was_torn })
    }

    fn control(&self) -> Option<&Control> {
        // SAFETY: the zone lives as long as its configuration, and nothing but `initialize` sets
        // its data: to the control in its memory.
        unsafe { self.0.as_ref().data.cast::<Control>().as_ref() }
    }
}

/// The memory of a zone while this process holds its lock.
pub struct Locked<'a> {
    pool: *mut ngx_slab_pool_t,
    control: &'a Control,
    memory: &'a mut [u64],
    was_torn: bool,
}

impl Locked<'_> {
    /// Returns the memory. It was zeros at first.
    pub fn memory(&mut self) -> &mut [u64] {
        self.memory
    }

    /// Returns whether a process has died or panicked while it changed the memory.
    pub fn was_torn(&self) -> bool {
        self.was_torn
    }

    /// Changes the number that [`LockedZone::generation`] returns.
    pub fn next_generation(&self) {
        self.control.generation.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // What was written must not be written after that.
        compiler_fence(Ordering::SeqCst);
        self.control.is_torn.store(thread::panicking().into(), Ordering::Relaxed);
        // SAFETY: the pool is valid, and this process holds the lock.
        unsafe { ngx_shmtx_unlock(&raw mut (*self.pool).mutex) }
    }
}

unsafe extern "C" fn initialize(zone: *mut ngx_shm_zone_t, before: *mut c_void) -> ngx_int_t {
    // SAFETY: nginx calls this for a zone of this kind, and passes it and its former data. Nothing
    // has been allocated from the pool, so that all of its pages are one piece: of zeros, because
    // nginx maps fresh memory. The control is the beginning of it.
    unsafe {
        take_over("shared memory zone", zone, before, |pool| {
            let size = (*pool).pfree * ngx_pagesize;
            let rest = size.checked_sub(size_of::<Control>())?;
            let place = NonNull::new(ngx_slab_alloc(pool, size).cast::<Control>())?;
            place.write(Control {
                is_torn: AtomicU32::new(0),
                unused: 0,
                generation: AtomicU64::new(0),
                words: rest / size_of::<u64>(),
            });
            Some(place.cast())
        })
    }
}
