// SPDX-License-Identifier: Apache-2.0

//! The shared memory zone in which all workers count.

#![allow(unsafe_code, reason = "nginx calls it")]

use std::ffi::c_void;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_ERROR, NGX_OK, ngx_int_t, ngx_pagesize, ngx_shared_memory_add, ngx_shm_zone_t,
    ngx_slab_alloc, ngx_slab_pool_t,
};

use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::string;
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::this_module;
use crate::status::counters::{self, Counters};

/// nginx needs most of the zone for itself; the counters fit into one page.
const PAGES: usize = 8;

/// The zone could not be added.
#[derive(Debug, thiserror::Error)]
#[error("there is no memory, or another module has a zone of its name")]
pub struct ZoneError;

/// The zone of one configuration.
#[derive(Clone, Copy)]
pub struct Zone(NonNull<ngx_shm_zone_t>);

impl Zone {
    /// Adds the zone to the configuration that is being read. After a reload, the counters
    /// continue.
    pub fn add(parser: ConfParser<'_>) -> Result<Self, ZoneError> {
        // SAFETY: the parser is valid. nginx only reads the name, which is static, and only
        // compares the tag.
        unsafe {
            let mut name = string("kong_tls_status");
            let size = PAGES * ngx_pagesize;
            let zone =
                ngx_shared_memory_add(parser.as_ptr(), &raw mut name, size, this_module::tag());
            let zone = NonNull::new(zone).ok_or(ZoneError)?;
            (*zone.as_ptr()).init = Some(initialize);
            Ok(Self(zone))
        }
    }

    /// Makes this process count in the zone.
    pub fn count_there(self) {
        // SAFETY: `initialize` has set `data` to counters inside the zone, which stays mapped until
        // the worker ends.
        unsafe { counters::set_current(self.0.as_ref().data.cast::<Counters>().as_ref()) }
    }
}

unsafe extern "C" fn initialize(zone: *mut ngx_shm_zone_t, before: *mut c_void) -> ngx_int_t {
    guard("kong_tls_status zone", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx passes a valid zone with a slab pool at the beginning of its memory, and as
        // `before` NULL or the data of the same zone in the previous configuration.
        unsafe {
            let pool = (*zone).shm.addr.cast::<ngx_slab_pool_t>();
            if !before.is_null() {
                (*zone).data = before;
            } else if (*zone).shm.exists != 0 {
                (*zone).data = (*pool).data;
            } else {
                let memory = ngx_slab_alloc(pool, size_of::<Counters>()).cast::<Counters>();
                if memory.is_null() {
                    return NGX_ERROR as ngx_int_t;
                }
                ptr::write(memory, Counters::new());
                (*pool).data = memory.cast();
                (*zone).data = memory.cast();
            }
        }
        NGX_OK as ngx_int_t
    })
}
