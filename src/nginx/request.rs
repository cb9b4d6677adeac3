// SPDX-License-Identifier: Apache-2.0

//! Requests.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_LOCK, NGX_HTTP_MODULE, NGX_HTTP_PATCH, NGX_HTTP_POST,
    NGX_OK, ngx_http_arg, ngx_http_conf_ctx_t, ngx_http_request_t, ngx_int_t, ngx_list_part_t,
    ngx_str_t, ngx_table_elt_t,
};

use crate::nginx::bitfields;
use crate::nginx::configuration::{ModuleIndex, bytes};
use crate::nginx::connection::Connection;
use crate::nginx::log::Log;
use crate::nginx::pool::{OutOfMemory, Pool};
use crate::nginx::upstream::Upstream;

/// A client's request or a subrequest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a>(NonNull<ngx_http_request_t>, PhantomData<&'a ngx_http_request_t>);

impl<'a> Request<'a> {
    /// # Safety
    /// `request` must be valid for `'a`.
    pub unsafe fn from_ptr(request: NonNull<ngx_http_request_t>) -> Self {
        Self(request, PhantomData)
    }

    /// Returns the request that an upstream connection serves; `None` for other connections.
    pub fn from_upstream_connection(connection: Connection<'a>) -> Option<Self> {
        let data = connection.data()?.cast::<ngx_http_request_t>();

        // SAFETY: the owner of a connection is larger than the `u32` signature that every HTTP
        // request begins with, and that tells a request. Its upstream must also point back to the
        // connection.
        unsafe {
            if *data.cast::<u32>().as_ptr() != NGX_HTTP_MODULE {
                return None;
            }
            let request = Self::from_ptr(data);
            let upstream = request.upstream()?;
            (upstream.connection() == connection.as_ptr()).then_some(request)
        }
    }

    pub fn as_non_null(self) -> NonNull<ngx_http_request_t> {
        self.0
    }

    pub fn as_ptr(self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    pub fn connection(self) -> Connection<'a> {
        // SAFETY: a request has a connection for its whole life.
        unsafe { Connection::from_ptr(NonNull::new_unchecked(self.0.as_ref().connection)) }
    }

    pub fn log(self) -> Log<'a> {
        self.connection().log()
    }

    pub fn pool(self) -> Pool<'a> {
        // SAFETY: a request has a pool for its whole life.
        unsafe { Pool::from_ptr(NonNull::new_unchecked(self.0.as_ref().pool)) }
    }

    /// Returns the request's upstream, once it has a configuration.
    pub fn upstream(self) -> Option<Upstream<'a>> {
        // SAFETY: the upstream of a request lives in its pool, and here it has a configuration.
        unsafe {
            let upstream = NonNull::new(self.0.as_ref().upstream)?;
            (!upstream.as_ref().conf.is_null()).then(|| Upstream::from_ptr(upstream))
        }
    }

    /// Returns whether the upstream has no configuration yet: nginx is evaluating the address to
    /// pass the request to, or has failed to.
    pub fn has_incomplete_upstream(self) -> bool {
        // SAFETY: the upstream of a request lives in its pool.
        let upstream = unsafe { self.0.as_ref().upstream.as_ref() };
        upstream.is_some_and(|upstream| upstream.conf.is_null())
    }

    /// Returns a module's configuration for `http {}` of this request.
    ///
    /// # Safety
    /// `T` must be the type of the main configuration of `module`.
    pub unsafe fn main_configuration<T>(self, module: ModuleIndex) -> Option<NonNull<T>> {
        // SAFETY: the request is valid; the caller ensures the type `T`.
        unsafe { module.of(self.0.as_ref().main_conf) }
    }

    /// Returns a module's configuration for the location of this request.
    ///
    /// # Safety
    /// `T` must be the type of the location configuration of `module`.
    pub unsafe fn location_configuration<T>(self, module: ModuleIndex) -> Option<NonNull<T>> {
        // SAFETY: the request is valid; the caller ensures the type `T`.
        unsafe { module.of(self.0.as_ref().loc_conf) }
    }

    /// Returns a module's context for this request.
    ///
    /// # Safety
    /// `T` must be the type of the request context of `module`.
    pub unsafe fn module_context<T>(self, module: ModuleIndex) -> Option<NonNull<T>> {
        // SAFETY: the request is valid; the caller ensures the type `T`.
        unsafe { module.of(self.0.as_ref().ctx) }
    }

    /// Sets a module's context for this request.
    ///
    /// # Safety
    /// `T` must be the type of the request context of `module`, and `context` must outlive the
    /// request.
    pub unsafe fn set_module_context<T>(self, module: ModuleIndex, context: NonNull<T>) {
        // SAFETY: the request is valid; the caller ensures the type `T`, and that `context`
        // outlives it.
        unsafe { module.set(self.0.as_ref().ctx, context) }
    }

    /// Returns whether nginx may have cleared the contexts of the request, as it does for an
    /// internal redirect, or for an error after the header was sent.
    pub fn may_have_lost_contexts(self) -> bool {
        // SAFETY: the request is valid for `'a`: see `from_ptr`.
        unsafe {
            bitfields::request_internal(self.as_ptr()) != 0
                || bitfields::request_filter_finalize(self.as_ptr()) != 0
        }
    }

    /// Returns whether this is the client's own request, not a subrequest.
    pub fn is_main(self) -> bool {
        // SAFETY: the request is valid for `'a`: see `from_ptr`.
        unsafe { ptr::eq(self.0.as_ref().main, self.0.as_ptr()) }
    }

    /// Returns whether nginx could send the request again: its method is idempotent (RFC 9110,
    /// section 9.2.2), and its body is buffered.
    pub fn may_be_sent_again(self) -> bool {
        const NOT_IDEMPOTENT: u32 = NGX_HTTP_POST | NGX_HTTP_LOCK | NGX_HTTP_PATCH;
        // SAFETY: the request is valid for `'a`: see `from_ptr`.
        unsafe {
            self.0.as_ref().method & NOT_IDEMPOTENT as usize == 0
                && bitfields::request_request_body_no_buffering(self.as_ptr()) == 0
        }
    }

    pub fn is_get_or_head(self) -> bool {
        // SAFETY: the request is valid for `'a`: see `from_ptr`.
        unsafe { self.0.as_ref().method & (NGX_HTTP_GET | NGX_HTTP_HEAD) as usize != 0 }
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
        // SAFETY: the request is valid for `'a`: see `from_ptr`.
        let mut part = unsafe { NonNull::from(&self.0.as_ref().headers_in.headers.part) };
        let mut index = 0;
        let all = std::iter::from_fn(move || {
            // SAFETY: a request has its headers in a list of this type, which lives as long as the
            // request.
            unsafe {
                let part: &mut NonNull<ngx_list_part_t> = &mut part;
                while index == part.as_ref().nelts {
                    *part = NonNull::new(part.as_ref().next)?;
                    index = 0;
                }
                index += 1;
                Some(&*part.as_ref().elts.cast::<ngx_table_elt_t>().add(index - 1))
            }
        });
        // SAFETY: the strings of a header live as long as the request.
        all.filter(move |header| unsafe { bytes(header.key).eq_ignore_ascii_case(name) })
            .map(|header| unsafe { bytes(header.value) })
    }

    /// Removes the request headers whose names `is_unwanted` accepts. None of them may be a header
    /// that nginx itself keeps a pointer to.
    ///
    /// Subrequests have copies of the list that share its elements. So the elements stay in place,
    /// and each run of wanted elements becomes a part of the list.
    pub fn remove_headers(self, is_unwanted: impl Fn(&[u8]) -> bool) -> Result<(), OutOfMemory> {
        // SAFETY: the request is valid, and its headers are in a list of this type, whose parts
        // have `nelts` elements. The new parts are in the request's pool.
        unsafe {
            let list = &raw mut (*self.as_ptr()).headers_in.headers;
            let mut runs = Vec::new();
            let mut spare = None;
            let mut part = &raw mut (*list).part;
            while !part.is_null() {
                let elements = (*part).elts.cast::<ngx_table_elt_t>();
                let count = (*part).nelts;
                let unwanted =
                    (0..count).filter(|index| is_unwanted(bytes((*elements.add(*index)).key)));
                let mut start = 0;
                for index in unwanted.chain([count]) {
                    if index > start {
                        runs.push((elements.add(start), index - start));
                    }
                    if index < count {
                        spare = Some((elements, count));
                    }
                    start = index + 1;
                }
                part = (*part).next;
            }
            let Some(spare) = spare else {
                return Ok(());
            };
            // The parts are made from last to first; the first is in the list itself. `nalloc` is
            // set so that nginx allocates a new part for the next header.
            let mut runs = runs.into_iter().rev();
            let last_run = runs.next();
            let (mut elements, mut count) = last_run.unwrap_or((spare.0, 0));
            let nalloc = last_run.map_or(spare.1, |(_, count)| count);
            let mut next = ptr::null_mut();
            let mut last = None;
            let new_part = |elements: *mut ngx_table_elt_t, nelts, next| ngx_list_part_t {
                elts: elements.cast(),
                nelts,
                next,
            };
            for before in runs {
                let made = self.pool().copy(&new_part(elements, count, next))?;
                last.get_or_insert(made);
                next = made.as_ptr();
                (elements, count) = before;
            }
            (*list).part = new_part(elements, count, next);
            (*list).last = last.map_or(&raw mut (*list).part, NonNull::as_ptr);
            (*list).nalloc = nalloc;
        }
        Ok(())
    }

    /// Returns the host of the request as nginx compares it: in lower case, without port and
    /// trailing dot. Empty if the request has none.
    pub fn host(self) -> &'a [u8] {
        // SAFETY: the request is valid, and the string lives as long as the request.
        unsafe { bytes(self.0.as_ref().headers_in.server) }
    }

    /// Returns whether the request's server is still that of its connection, which nginx chose by
    /// the name in the handshake.
    pub fn is_for_server_of_connection(self) -> bool {
        // SAFETY: the request is valid for `'a`: see `from_ptr`.
        let server = unsafe { self.0.as_ref() }.srv_conf;
        self.server_of_connection().is_some_and(|of_connection| of_connection.srv_conf == server)
    }

    /// Makes the connection's server that of the request, as it was before nginx read the host.
    pub fn go_to_server_of_connection(self) {
        if let Some(server) = self.server_of_connection() {
            // SAFETY: the request is valid, and the configurations of a server outlive it.
            unsafe {
                (*self.as_ptr()).srv_conf = server.srv_conf;
                (*self.as_ptr()).loc_conf = server.loc_conf;
            }
        }
    }

    fn server_of_connection(self) -> Option<&'a ngx_http_conf_ctx_t> {
        // SAFETY: the request is valid. `http_connection` and its `conf_ctx` are NULL, or live as
        // long as the request.
        unsafe { self.0.as_ref().http_connection.as_ref()?.conf_ctx.as_ref() }
    }

    /// Returns a module's configuration for the server of this request.
    ///
    /// # Safety
    /// `T` must be the type of the server configuration of `module`.
    pub unsafe fn server_configuration<T>(self, module: ModuleIndex) -> Option<NonNull<T>> {
        // SAFETY: the request is valid; the caller ensures the type `T`.
        unsafe { module.of(self.0.as_ref().srv_conf) }
    }

    /// Returns the request that this one is a subrequest of.
    pub fn parent(self) -> Option<Self> {
        // SAFETY: a parent outlives its subrequests.
        unsafe { Some(Self::from_ptr(NonNull::new(self.0.as_ref().parent)?)) }
    }

    /// Returns the address and length of the URI in memory. Equal results mean that two requests
    /// share one URI, and do not just have equal ones.
    pub fn uri_location(self) -> (*const u8, usize) {
        // SAFETY: the request is valid for `'a`: see `from_ptr`.
        let uri = unsafe { self.0.as_ref() }.uri;
        (uri.data, uri.len)
    }
}
