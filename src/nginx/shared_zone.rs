// SPDX-License-Identifier: Apache-2.0

//! Values in memory that all processes of a configuration share (`ngx_shm_zone_t`).

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;

use ngx::ffi::{
    NGX_ERROR, NGX_OK, ngx_int_t, ngx_pagesize, ngx_shared_memory_add, ngx_shm_zone_t,
    ngx_slab_alloc, ngx_slab_pool_t,
};

use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::string;
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::this_module;

/// A type whose only value is in a zone.
///
/// # Safety
/// No other type may have the same `NAME`, and other processes must be able to use a value that one
/// has made: it has no pointers.
pub unsafe trait Shared: Sync + 'static {
    /// The name of the zone.
    const NAME: &'static str;
    /// The size of the zone, most of which nginx needs for itself.
    const PAGES: usize;

    fn new() -> Self;
}

/// The zone could not be added.
#[derive(Debug, thiserror::Error)]
#[error("there is no memory, or another module has a zone of its name")]
pub struct ZoneError;

/// The zone of a `T`. It lives as long as its configuration, of which only the module's main
/// configuration holds it.
pub struct Zone<T>(NonNull<ngx_shm_zone_t>, PhantomData<fn() -> T>);

impl<T: Shared> Zone<T> {
    /// Adds the zone to the configuration that is being read. After a reload, the value is that of
    /// the previous configuration.
    pub fn add(parser: ConfParser<'_>) -> Result<Self, ZoneError> {
        let mut name = string(T::NAME);
        // SAFETY: the parser is valid. nginx only reads the name, which is static, and only
        // compares the tag.
        let zone = unsafe {
            let size = T::PAGES * ngx_pagesize;
            ngx_shared_memory_add(parser.as_ptr(), &raw mut name, size, this_module::tag())
        };
        let zone = NonNull::new(zone).ok_or(ZoneError)?;
        // SAFETY: nginx has returned a valid zone, which is the module's own.
        unsafe { (*zone.as_ptr()).init = Some(initialize::<T>) };
        Ok(Self(zone, PhantomData))
    }

    /// Returns the value; `None` before nginx has made the zone.
    pub fn value(&self) -> Option<&T> {
        // SAFETY: the zone lives as long as its configuration, and nothing but `initialize` sets
        // its data: to a `T` in its memory.
        unsafe { self.0.as_ref().data.cast::<T>().as_ref() }
    }
}

unsafe extern "C" fn initialize<T: Shared>(
    zone: *mut ngx_shm_zone_t,
    before: *mut c_void,
) -> ngx_int_t {
    // SAFETY: nginx calls this for a zone of this type, and passes it and its former data.
    unsafe {
        take_over(T::NAME, zone, before, |pool| {
            let place = NonNull::new(ngx_slab_alloc(pool, size_of::<T>()).cast::<T>())?;
            place.write(T::new());
            Some(place.cast())
        })
    }
}

/// Sets the data of a zone that nginx has made or taken over from the previous configuration:
/// those of that configuration if there are any, or else what `make` puts into the zone's memory.
///
/// # Safety
/// nginx must have called the zone's `init` with these arguments. `make` gets the zone's slab pool,
/// from which nothing has been allocated.
pub unsafe fn take_over(
    name: &str,
    zone: *mut ngx_shm_zone_t,
    before: *mut c_void,
    make: impl FnOnce(*mut ngx_slab_pool_t) -> Option<NonNull<c_void>>,
) -> ngx_int_t {
    guard(name, process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx passes a valid zone, which no process of its configuration uses yet.
        let zone = unsafe { &mut *zone };
        let pool = zone.shm.addr.cast::<ngx_slab_pool_t>();
        if !before.is_null() {
            // The data of this zone in the previous configuration.
            zone.data = before;
        } else if zone.shm.exists != 0 {
            // SAFETY: the memory of a zone begins with a slab pool.
            zone.data = unsafe { (*pool).data };
        } else {
            let Some(made) = make(pool) else {
                return NGX_ERROR as ngx_int_t;
            };
            zone.data = made.as_ptr();
            // SAFETY: the memory of a zone begins with a slab pool, which nobody else uses yet.
            unsafe { (*pool).data = made.as_ptr() };
        }
        NGX_OK as ngx_int_t
    })
}
