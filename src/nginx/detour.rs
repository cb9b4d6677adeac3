// SPDX-License-Identifier: Apache-2.0

//! A place in which a module takes part in requests to peers that are in no `upstream {}` block:
//! those of a URL with variables.
//!
//! nginx connects to such a peer without a call of any other function. Right before
//! (`ngx_http_upstream_init_request`), it evaluates the local address of the connection
//! (`proxy_bind`), which may be made of code. Code put there sends the request to a block of the
//! module's own (`ngx_http_upstream_srv_conf_t`), which chooses the same peer, and lets others take
//! part as every block does. This is so in all versions of nginx since 1.11.4.

use std::cell::Cell;
use std::ffi::c_int;
use std::mem::zeroed;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_ERROR, NGX_OK, ngx_http_complex_value_t, ngx_http_request_t, ngx_http_script_code_pt,
    ngx_http_script_engine_t, ngx_http_script_len_code_pt, ngx_http_upstream_conf_t,
    ngx_http_upstream_create_round_robin_peer, ngx_http_upstream_local_t,
    ngx_http_upstream_resolved_t, ngx_http_upstream_srv_conf_t, ngx_int_t, ngx_resolver_addr_t,
    socklen_t,
};

use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::bytes;
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::request::Request;
use crate::nginx::sockaddr::Address;
use crate::nginx::upstream::Upstream;

/// Takes part in requests to peers that are in no block.
pub trait Detour {
    /// Says where a request goes that is about to be sent to `target`. `None` leaves it to nginx.
    fn way<'a>(request: Request<'a>, upstream: Upstream<'a>, target: Target<'a>) -> Option<Way>;

    /// Runs when nginx has begun to choose among the peers.
    fn begin(request: Request<'_>, upstream: Upstream<'_>) -> Result<(), OutOfMemory>;
}

/// Where a request goes.
pub enum Way {
    /// To the address that is the target.
    Address,
    /// To one of the addresses of the name that is the target.
    Known(Vec<Address>),
}

/// What a URL with variables says about its peer (`ngx_http_upstream_resolved_t`).
#[derive(Clone, Copy)]
pub struct Target<'a>(&'a Cell<ngx_http_upstream_resolved_t>);

impl<'a> Target<'a> {
    /// Returns the target of `upstream`, unless its peers are those of a block.
    pub fn of(upstream: Upstream<'a>) -> Option<Self> {
        // SAFETY: the field is NULL, or in the request's pool, and valid as long as the upstream.
        unsafe { (*upstream.as_ptr()).resolved.cast::<Cell<_>>().as_ref() }.map(Self)
    }

    /// Returns the host.
    pub fn host(self) -> &'a [u8] {
        // SAFETY: the text is in the request's pool.
        unsafe { bytes(self.0.get().host) }
    }

    /// Returns the port; 0 if there is none.
    pub fn port(self) -> u16 {
        self.0.get().port
    }

    /// Returns whether the URL has no port.
    pub fn has_no_port(self) -> bool {
        self.0.get().no_port != 0
    }

    /// Returns whether the target is an address, and no name that has to be resolved.
    pub fn is_address(self) -> bool {
        !self.0.get().sockaddr.is_null()
    }

    /// Returns whether the target is a socket of the file system, which has no port.
    pub fn is_unix(self) -> bool {
        // SAFETY: the address is NULL, or in the request's pool.
        unsafe { self.0.get().sockaddr.as_ref() }
            .is_some_and(|address| c_int::from(address.sa_family) == libc::AF_UNIX)
    }

    /// Returns whether nginx has resolved the name.
    pub fn is_resolved(self) -> bool {
        !self.is_address() && self.0.get().naddrs > 0
    }

    /// Returns a copy with these addresses, as nginx's resolver would have made it.
    fn with(self, pool: Pool<'a>, addresses: &[Address]) -> Result<Self, OutOfMemory> {
        // SAFETY: nginx expects zeroed structures, in which all fields have a value.
        let empty = unsafe { zeroed::<ngx_resolver_addr_t>() };
        let resolved = pool.copy_slice(&vec![empty; addresses.len()])?;
        for (place, address) in resolved.iter_mut().zip(addresses) {
            let address = pool.copy_bytes(address.as_bytes())?;
            place.sockaddr = address.as_ptr().cast_mut().cast();
            place.socklen = address.len() as socklen_t;
        }
        let mut target = self.0.get();
        target.naddrs = resolved.len();
        target.addrs = resolved.as_mut_ptr();
        Ok(Self(Cell::from_mut(pool.copy(&target)?)))
    }
}

/// Sends the requests of the location with the configuration `conf` by the way of `T`, if its URL
/// has variables.
///
/// # Safety
/// `conf` must be that of a location which is being read, and valid as long as its configuration.
pub unsafe fn install<T: Detour>(
    parser: ConfParser<'_>,
    conf: NonNull<ngx_http_upstream_conf_t>,
) -> Result<(), OutOfMemory> {
    // SAFETY: the caller ensures that `conf` is valid, and nothing else uses it while the
    // configuration is read.
    let conf = unsafe { &mut *conf.as_ptr() };
    if !conf.upstream.is_null() {
        // The URL has no variables, and so a block.
        return Ok(());
    }
    type Empty =
        (ngx_http_upstream_local_t, ngx_http_complex_value_t, ngx_http_upstream_srv_conf_t);
    // SAFETY: nginx expects zeroed structures, in which all fields have a value.
    let (mut local, mut value, mut block): Empty = unsafe { zeroed() };
    // SAFETY: the field is NULL, or lives as long as the configuration.
    if let Some(own) = unsafe { conf.local.as_ref() } {
        local = *own;
    }
    // SAFETY: the field is NULL, or lives as long as the configuration.
    if let Some(own) = unsafe { local.value.as_ref() } {
        value.flushes = own.flushes;
    }
    let pool = parser.pool();
    let code = |function| Code { function, local, end: 0 };
    value.lengths = ptr::from_mut(pool.copy(&code(Function { length: Some(length::<T>) }))?).cast();
    value.values = ptr::from_mut(pool.copy(&code(Function { value: Some(fixed) }))?).cast();
    local.addr = ptr::null_mut();
    local.value = pool.copy(&value)?;
    block.peer.init = Some(init_peer::<T>);
    conf.local = pool.copy(&local)?;
    conf.upstream = pool.copy(&block)?;
    Ok(())
}

/// The beginning of code that nginx runs (`ngx_http_script_engine_t`): it calls the function at
/// `ip`, which moves `ip` on to the next, until there is none.
#[derive(Clone, Copy)]
#[repr(C)]
struct Code {
    function: Function,
    /// What the location itself has for its local address.
    local: ngx_http_upstream_local_t,
    /// Where the code ends.
    end: usize,
}

impl Code {
    /// Returns the text of the local address, if it has no variables; otherwise nothing.
    fn fixed_address(&self) -> &[u8] {
        // SAFETY: the address is NULL, or lives as long as the configuration, as does its text.
        unsafe { self.local.addr.as_ref().map_or(&[], |address| bytes(address.name)) }
    }
}

#[derive(Clone, Copy)]
#[repr(C)]
union Function {
    length: ngx_http_script_len_code_pt,
    value: ngx_http_script_code_pt,
}

thread_local! {
    /// The request that is on its way, its target, and the target with addresses. nginx calls
    /// `init_peer` in the same function as `length`, for the same request.
    static ON_ITS_WAY: Cell<Option<OnItsWay>> = const { Cell::new(None) };
}

#[derive(Clone, Copy)]
struct OnItsWay {
    request: *mut ngx_http_request_t,
    target: *mut ngx_http_upstream_resolved_t,
    with_addresses: *mut ngx_http_upstream_resolved_t,
}

/// Returns the length of the location's local address, if it is fixed: nginx reads the address of a
/// value from its text. nginx calls this once for a request, right before it looks for the peers.
unsafe extern "C" fn length<T: Detour>(engine: *mut ngx_http_script_engine_t) -> usize {
    // SAFETY: nginx calls this with its engine, whose `ip` is the beginning of the code.
    let (engine, code) = unsafe { (&mut *engine, &*(*engine).ip.cast::<Code>()) };
    // First of all: until `ip` has moved, nginx would call this again.
    engine.ip = ptr::from_ref(&code.end).cast_mut().cast();
    // SAFETY: the field is NULL, or lives as long as the configuration.
    if let Some(value) = unsafe { code.local.value.as_ref() } {
        engine.ip = value.lengths.cast();
    }
    guard("upstream target", process_log(), (), || {
        // SAFETY: nginx evaluates the value for a request, which is valid.
        let request = unsafe { Request::from_ptr(NonNull::new_unchecked(engine.request)) };
        let Some(upstream) = request.upstream() else {
            return;
        };
        if send::<T>(request, upstream).is_err() {
            request.log().error(format_args!("upstream target: {OutOfMemory}"));
        }
    });
    code.fixed_address().len()
}

/// Writes the location's local address, if it is fixed. The code of a variable one follows.
unsafe extern "C" fn fixed(engine: *mut ngx_http_script_engine_t) {
    // SAFETY: nginx calls this with its engine, whose `ip` is the beginning of the code.
    let (engine, code) = unsafe { (&mut *engine, &*(*engine).ip.cast::<Code>()) };
    let address = code.fixed_address();
    // SAFETY: nginx has made room for as many bytes as `length` has returned, which are as many.
    unsafe {
        ptr::copy_nonoverlapping(address.as_ptr(), engine.pos, address.len());
        engine.pos = engine.pos.add(address.len());
    }
    // SAFETY: the field is NULL, or lives as long as the configuration.
    engine.ip = match unsafe { code.local.value.as_ref() } {
        Some(value) => value.values.cast(),
        None => ptr::from_ref(&code.end).cast_mut().cast(),
    };
}

/// Makes nginx call `init_peer` for the request, if `T` has a way for it.
fn send<'a, T: Detour>(request: Request<'a>, upstream: Upstream<'a>) -> Result<(), OutOfMemory> {
    let Some(target) = Target::of(upstream) else {
        return Ok(());
    };
    // Some derivatives of nginx can evaluate the local address again, for each attempt.
    if upstream.peer().get().get.is_some() {
        return Ok(());
    }
    let with_addresses = match T::way(request, upstream, target) {
        None => return Ok(()),
        Some(Way::Address) => target,
        Some(Way::Known(addresses)) => target.with(request.pool(), &addresses)?,
    };
    ON_ITS_WAY.set(Some(OnItsWay {
        request: request.as_ptr(),
        target: target.0.as_ptr(),
        with_addresses: with_addresses.0.as_ptr(),
    }));
    // SAFETY: without this, nginx takes the block of the location's configuration.
    unsafe { (*upstream.as_ptr()).resolved = ptr::null_mut() };
    Ok(())
}

/// Does what nginx does for a peer that is in no block.
unsafe extern "C" fn init_peer<T: Detour>(
    r: *mut ngx_http_request_t,
    _block: *mut ngx_http_upstream_srv_conf_t,
) -> ngx_int_t {
    guard("upstream target", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls `peer.init` with a valid request.
        let request = unsafe { Request::from_ptr(NonNull::new_unchecked(r)) };
        let way = ON_ITS_WAY.take().filter(|way| ptr::eq(way.request, r));
        let (Some(way), Some(upstream)) = (way, request.upstream()) else {
            request.log().error(format_args!("upstream target: it is not known"));
            return NGX_ERROR as ngx_int_t;
        };
        // SAFETY: both targets are in the pool of the request, which has not ended since. For a
        // peer that is in no block, nginx sets `ssl_name` so, and `upstream` to NULL.
        let status = unsafe {
            let place = &mut *upstream.as_ptr();
            place.resolved = way.target;
            place.upstream = ptr::null_mut();
            place.ssl_name = (*way.target).host;
            ngx_http_upstream_create_round_robin_peer(r, way.with_addresses)
        };
        if status != NGX_OK as ngx_int_t {
            // The only reason: the addresses are there.
            request.log().error(format_args!("upstream target: {OutOfMemory}"));
            return status;
        }
        match T::begin(request, upstream) {
            Ok(()) => NGX_OK as ngx_int_t,
            Err(error) => {
                request.log().error(format_args!("upstream target: {error}"));
                NGX_ERROR as ngx_int_t
            }
        }
    })
}
