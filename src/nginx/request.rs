// SPDX-License-Identifier: Apache-2.0

//! Requests.

use std::cell::Cell;
use std::iter;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_LOCK, NGX_HTTP_MODULE, NGX_HTTP_PATCH, NGX_HTTP_POST,
    NGX_OK, ngx_array_t, ngx_http_arg, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_core_module, ngx_http_err_page_t, ngx_http_request_t, ngx_int_t, ngx_list_part_t,
    ngx_resolver_t, ngx_str_t, ngx_table_elt_t,
};

use crate::nginx::bitfields;
use crate::nginx::configuration::{ModuleIndex, bytes, elements, slice};
use crate::nginx::connection::Connection;
use crate::nginx::log::Log;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::upstream::Upstream;

/// A client's request or a subrequest.
#[derive(Clone, Copy)]
pub struct Request<'a>(&'a Cell<ngx_http_request_t>);

impl<'a> Request<'a> {
    /// # Safety
    /// `request` must be valid for `'a`.
    pub unsafe fn from_ptr(request: NonNull<ngx_http_request_t>) -> Self {
        // SAFETY: the caller ensures that `request` is valid for `'a`.
        Self(unsafe { request.cast().as_ref() })
    }

    /// Returns the request that an upstream connection serves; `None` for other connections.
    pub fn from_upstream_connection(connection: Connection<'a>) -> Option<Self> {
        let data = connection.data()?.cast::<ngx_http_request_t>();

        // SAFETY: the owner of a connection is larger than the `u32` signature that every HTTP
        // request begins with, and that nothing else begins with.
        if unsafe { data.cast::<u32>().read() } != NGX_HTTP_MODULE {
            return None;
        }
        // SAFETY: the owner is a request, which outlives its connections to services.
        let request = unsafe { Self::from_ptr(data) };
        let upstream = request.upstream()?;
        (upstream.connection() == connection.as_ptr()).then_some(request)
    }

    pub fn as_non_null(self) -> NonNull<ngx_http_request_t> {
        NonNull::from(self.0).cast()
    }

    pub fn as_ptr(self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    pub fn connection(self) -> Connection<'a> {
        // SAFETY: a request has a connection for its whole life.
        unsafe { Connection::from_ptr(NonNull::new_unchecked(self.0.get().connection)) }
    }

    pub fn log(self) -> Log<'a> {
        self.connection().log()
    }

    pub fn pool(self) -> Pool<'a> {
        // SAFETY: a request has a pool for its whole life.
        unsafe { Pool::from_ptr(NonNull::new_unchecked(self.0.get().pool)) }
    }

    /// Returns the request's upstream, once it has a configuration.
    pub fn upstream(self) -> Option<Upstream<'a>> {
        let upstream = NonNull::new(self.0.get().upstream)?;
        // SAFETY: the upstream of a request lives in its pool.
        unsafe { Upstream::new(upstream) }
    }

    /// Returns whether the upstream has no configuration yet: nginx is evaluating the address to
    /// pass the request to, or has failed to.
    pub fn has_incomplete_upstream(self) -> bool {
        !self.0.get().upstream.is_null() && self.upstream().is_none()
    }

    /// Returns a module's configuration for `http {}` of this request.
    ///
    /// # Safety
    /// `T` must be the type of the main configuration of `module`.
    pub unsafe fn main_configuration<T>(self, module: ModuleIndex) -> Option<NonNull<T>> {
        // SAFETY: a request has this array; the caller ensures the type `T`.
        unsafe { module.of(self.0.get().main_conf) }
    }

    /// Returns a module's configuration for the location of this request.
    ///
    /// # Safety
    /// `T` must be the type of the location configuration of `module`.
    pub unsafe fn location_configuration<T>(self, module: ModuleIndex) -> Option<NonNull<T>> {
        // SAFETY: a request has this array; the caller ensures the type `T`.
        unsafe { module.of(self.0.get().loc_conf) }
    }

    /// Returns a module's context for this request.
    ///
    /// # Safety
    /// `T` must be the type of the request context of `module`.
    pub unsafe fn module_context<T>(self, module: ModuleIndex) -> Option<NonNull<T>> {
        // SAFETY: a request has this array; the caller ensures the type `T`.
        unsafe { module.of(self.0.get().ctx) }
    }

    /// Sets a module's context for this request.
    ///
    /// # Safety
    /// `T` must be the type of the request context of `module`, and `context` must outlive the
    /// request.
    pub unsafe fn set_module_context<T>(self, module: ModuleIndex, context: NonNull<T>) {
        // SAFETY: a request has this array; the caller ensures the type `T`, and that `context`
        // outlives the request.
        unsafe { module.set(self.0.get().ctx, context) }
    }

    /// Returns whether nginx may have cleared the contexts of the request, as it does for an
    /// internal redirect, or for an error after the header was sent.
    pub fn may_have_lost_contexts(self) -> bool {
        bitfields::request_internal(self.0) || bitfields::request_filter_finalize(self.0)
    }

    /// Returns nginx's own configuration of the location.
    fn core_location(self) -> Option<&'a ngx_http_core_loc_conf_t> {
        // SAFETY: nginx sets the index of its own module at the start, and this is the type of that
        // module's location configuration. It outlives its requests, and does not change.
        unsafe {
            let module = ModuleIndex::new(ngx_http_core_module.ctx_index);
            self.location_configuration(module).map(|core: NonNull<_>| core.as_ref())
        }
    }

    /// Returns the resolver of the location, or NULL.
    pub fn resolver(self) -> *const ngx_resolver_t {
        self.core_location().map_or(ptr::null(), |core| core.resolver)
    }

    /// Returns whether the location has an `error_page` for a status.
    pub fn has_error_page(self, status: u16) -> bool {
        let Some(core) = self.core_location() else {
            return false;
        };
        // SAFETY: the array is NULL or of the configuration, and has elements of this type.
        let pages: &[ngx_http_err_page_t] =
            unsafe { core.error_pages.as_ref().map_or(&[], |pages| elements(pages)) };
        pages.iter().any(|page| page.status == status as ngx_int_t)
    }

    /// Returns the client's request that this is, or is a subrequest of.
    pub fn main(self) -> Self {
        // SAFETY: nginx sets the field for each request, and the main request outlives the others.
        unsafe { Self::from_ptr(NonNull::new_unchecked(self.0.get().main)) }
    }

    /// Returns whether this is the client's own request, not a subrequest.
    pub fn is_main(self) -> bool {
        self.0.get().main == self.as_ptr()
    }

    /// Returns whether the response has no body, as for the method HEAD.
    pub fn is_header_only(self) -> bool {
        bitfields::request_header_only(self.0)
    }

    /// Returns whether nginx could send the request again: its method is idempotent (RFC 9110,
    /// section 9.2.2), and its body is buffered.
    pub fn may_be_sent_again(self) -> bool {
        const NOT_IDEMPOTENT: u32 = NGX_HTTP_POST | NGX_HTTP_LOCK | NGX_HTTP_PATCH;
        self.0.get().method & NOT_IDEMPOTENT as usize == 0
            && !bitfields::request_request_body_no_buffering(self.0)
    }

    pub fn is_get_or_head(self) -> bool {
        self.0.get().method & (NGX_HTTP_GET | NGX_HTTP_HEAD) as usize != 0
    }

    /// Returns the value of the argument `name` in the URL, undecoded.
    pub fn argument(self, name: &str) -> Option<&'a [u8]> {
        let mut value = ngx_str_t { len: 0, data: ptr::null_mut() };
        // SAFETY: nginx only reads the name. The value is part of the request line, which lives as
        // long as the request.
        unsafe {
            let name_pointer = name.as_ptr().cast_mut();
            let status = ngx_http_arg(self.as_ptr(), name_pointer, name.len(), &raw mut value);
            (status == NGX_OK as ngx_int_t).then(|| bytes(value))
        }
    }

    /// Returns the values of the request headers `name`, compared case-insensitively.
    pub fn headers(self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let all = self.header_parts().flatten().map(Cell::get);
        // SAFETY: the strings of a header live as long as the request.
        all.filter(move |header| unsafe { bytes(header.key) }.eq_ignore_ascii_case(name))
            .map(|header| unsafe { bytes(header.value) })
    }

    /// Returns the request headers, by the parts of their list.
    fn header_parts(self) -> impl Iterator<Item = &'a [Cell<ngx_table_elt_t>]> + use<'a> {
        let first = self.0.get().headers_in.headers.part;
        // SAFETY: the next part of a list is NULL, or in the request's pool.
        let parts = iter::successors(Some(first), |part| unsafe { part.next.as_ref() }.copied());
        // SAFETY: a request has its headers in a list of this type, which lives as long as the
        // request.
        parts.map(|part| unsafe { slice(part.elts.cast(), part.nelts) })
    }

    /// Removes the request headers whose names `is_unwanted` accepts. None of them may be a header
    /// that nginx itself keeps a pointer to.
    ///
    /// Subrequests have copies of the list that share its elements. So the elements stay in place,
    /// and each run of wanted elements becomes a part of the list.
    pub fn remove_headers(self, is_unwanted: impl Fn(&[u8]) -> bool) -> Result<(), OutOfMemory> {
        // SAFETY: the strings of a header live as long as the request.
        let is_unwanted =
            |header: &Cell<ngx_table_elt_t>| is_unwanted(unsafe { bytes(header.get().key) });
        let mut runs = Vec::new();
        let mut spare = None;
        for part in self.header_parts() {
            let before = runs.len();
            runs.extend(part.split(is_unwanted).filter(|run| !run.is_empty()));
            if runs[before..].iter().map(|run| run.len()).sum::<usize>() < part.len() {
                spare = Some(part);
            }
        }
        let Some(spare) = spare else {
            return Ok(());
        };
        // The parts are made from last to first; the first is in the list itself. `nalloc` is set
        // so that nginx allocates a new part for the next header.
        let mut runs = runs.into_iter().rev();
        let last_run = runs.next();
        let nalloc = last_run.unwrap_or(spare).len();
        let mut first = ngx_list_part_t {
            elts: last_run.unwrap_or(spare).as_ptr().cast_mut().cast(),
            nelts: last_run.map_or(0, <[_]>::len),
            next: ptr::null_mut(),
        };
        let mut last = None;
        for run in runs {
            let next = ptr::from_mut(self.pool().copy(&first)?);
            last.get_or_insert(next);
            let elts = run.as_ptr().cast_mut().cast();
            first = ngx_list_part_t { elts, nelts: run.len(), next };
        }
        // SAFETY: the list is part of the request, and its parts are in the request's pool.
        unsafe {
            let list = &raw mut (*self.as_ptr()).headers_in.headers;
            (*list).part = first;
            (*list).last = last.unwrap_or(&raw mut (*list).part);
            (*list).nalloc = nalloc;
        }
        Ok(())
    }

    /// Returns the host of the request as nginx compares it: in lower case, without port and
    /// trailing dot. Empty if the request has none.
    pub fn host(self) -> &'a [u8] {
        // SAFETY: the string lives as long as the request.
        unsafe { bytes(self.0.get().headers_in.server) }
    }

    /// Returns whether the request's server is still that of its connection, which nginx chose by
    /// the name in the handshake.
    pub fn is_for_server_of_connection(self) -> bool {
        let server = self.0.get().srv_conf;
        self.server_of_connection().is_some_and(|of_connection| of_connection.srv_conf == server)
    }

    /// Makes the connection's server that of the request, as it was before nginx read the host.
    pub fn go_to_server_of_connection(self) {
        if let Some(server) = self.server_of_connection() {
            // SAFETY: these arrays are of a server, whose configurations outlive the request.
            unsafe {
                (*self.as_ptr()).srv_conf = server.srv_conf;
                (*self.as_ptr()).loc_conf = server.loc_conf;
            }
        }
    }

    fn server_of_connection(self) -> Option<&'a ngx_http_conf_ctx_t> {
        // SAFETY: `http_connection` and its `conf_ctx` are NULL, or live as long as the request.
        unsafe { self.0.get().http_connection.as_ref()?.conf_ctx.as_ref() }
    }

    /// Returns a module's configuration for the server of this request.
    ///
    /// # Safety
    /// `T` must be the type of the server configuration of `module`.
    pub unsafe fn server_configuration<T>(self, module: ModuleIndex) -> Option<NonNull<T>> {
        // SAFETY: a request has this array; the caller ensures the type `T`.
        unsafe { module.of(self.0.get().srv_conf) }
    }

    /// Returns the request that this one is a subrequest of.
    pub fn parent(self) -> Option<Self> {
        // SAFETY: a parent outlives its subrequests.
        NonNull::new(self.0.get().parent).map(|parent| unsafe { Self::from_ptr(parent) })
    }

    /// Returns the address and length of the URI in memory. Equal results mean that two requests
    /// share one URI, and do not just have equal ones.
    pub fn uri_location(self) -> (*const u8, usize) {
        let uri = self.0.get().uri;
        (uri.data, uri.len)
    }

    /// Returns nginx's array of the attempts at peers, if there is one.
    pub(super) fn upstream_states(self) -> Option<&'a Cell<ngx_array_t>> {
        // SAFETY: the array is in the request's pool.
        unsafe { self.0.get().upstream_states.cast::<Cell<_>>().as_ref() }
    }
}

impl PartialEq for Request<'_> {
    fn eq(&self, other: &Self) -> bool {
        ptr::eq(self.0, other.0)
    }
}
