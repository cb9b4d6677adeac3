// SPDX-License-Identifier: Apache-2.0

//! What this module keeps for a request (`r->ctx`), and how it is found again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::NonNull;

use foldhash::fast::RandomState;
use ngx::ffi::ngx_http_request_t;

use crate::nginx::pool::OutOfMemory;
use crate::nginx::request::Request;
use crate::nginx::this_module;

thread_local! {
    /// The contexts of all requests that have one. Searching the cleanup handlers of the request's
    /// pool instead would also search those of all its subrequests, which share the pool.
    static KNOWN: RefCell<HashMap<*const ngx_http_request_t, NonNull<c_void>, RandomState>> =
        RefCell::default();
}

/// What this module keeps for a request, in the request's pool.
///
/// # Safety
/// No other type may implement this trait.
pub unsafe trait RequestContext: Sized + 'static {
    /// Returns the context of `request`, if it has any.
    ///
    /// An internal redirect zeroes the contexts of a request: the context is then found by the
    /// address of the request.
    #[inline]
    fn of(request: Request<'_>) -> Option<&Self> {
        // SAFETY: only `remember` sets this module's context, to a `Self` in the request's pool.
        let context: Option<&Self> =
            unsafe { request.module_context(this_module::index()).map(|found| found.as_ref()) };
        if context.is_some() || !request.may_have_lost_contexts() {
            return context;
        }
        find_again(request)
    }

    /// Keeps the context for `request`.
    fn keep_for(self, request: Request<'_>) -> Result<&Self, OutOfMemory> {
        let key = request.as_ptr().cast_const();
        let kept = request.pool().keep(Kept { request: key, context: self })?;
        let context = &kept.context;
        KNOWN.with_borrow_mut(|known| known.insert(key, NonNull::from(context).cast()));
        remember(request, context);
        Ok(context)
    }
}

#[cold]
fn find_again<T: RequestContext>(request: Request<'_>) -> Option<&T> {
    let known = KNOWN.with_borrow(|known| known.get(&request.as_ptr().cast_const()).copied())?;
    // SAFETY: an entry points at a `T` in the request's pool; dropping that with the pool removes
    // the entry.
    let context = unsafe { known.cast::<T>().as_ref() };
    remember(request, context);
    Some(context)
}

fn remember<'a, T: RequestContext>(request: Request<'a>, context: &'a T) {
    // SAFETY: `T` is the only type of a context, and `context` is in the request's pool.
    unsafe { request.set_module_context(this_module::index(), NonNull::from(context)) }
}

/// A context, and the request that it is for: subrequests share the pool of their parent, but not
/// its context.
struct Kept<T> {
    request: *const ngx_http_request_t,
    context: T,
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        KNOWN.with_borrow_mut(|known| known.remove(&self.request));
    }
}
