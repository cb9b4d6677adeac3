// SPDX-License-Identifier: Apache-2.0

//! Variables of this module.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_OK, ngx_http_add_variable,
    ngx_http_get_indexed_variable, ngx_http_get_variable_index, ngx_http_request_t,
    ngx_http_variable_value_t, ngx_int_t, ngx_uint_t,
};

use crate::nginx::bitfields;
use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::string;
use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::request::Request;

/// nginx could not register a variable, and has logged why.
#[derive(Debug, thiserror::Error)]
#[error("could not register a variable")]
pub struct RegistrationFailed;

/// A variable could not be evaluated, and the request fails.
pub struct VariableFailed;

/// Sets the value of a variable for a request.
pub type Evaluate = for<'a> fn(Request<'a>, Value<'a>) -> Result<(), VariableFailed>;

/// The variables of this module.
pub trait Variables {
    /// The names of the variables, and the functions that evaluate them.
    const ALL: &'static [(&'static str, Evaluate)];

    /// Registers the variables. To be called in *preconfiguration*.
    fn register(parser: ConfParser<'_>) -> Result<(), RegistrationFailed>
    where
        Self: Sized,
    {
        for (number, (name, _)) in Self::ALL.iter().enumerate() {
            let mut name = string(name);
            // The values change in the course of a request.
            let flags = NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
            // SAFETY: nginx copies the name.
            let variable = unsafe { ngx_http_add_variable(parser.as_ptr(), &raw mut name, flags) };
            // SAFETY: the variable is NULL, or lives as long as the configuration.
            let variable = unsafe { variable.as_mut() }.ok_or(RegistrationFailed)?;
            variable.get_handler = Some(evaluate::<Self>);
            variable.data = number;
        }
        Ok(())
    }
}

unsafe extern "C" fn evaluate<T: Variables>(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    number: usize,
) -> ngx_int_t {
    let Some((name, evaluate)) = T::ALL.get(number) else {
        return NGX_ERROR as ngx_int_t;
    };
    guard(name, process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls variable handlers with a valid request and a valid place for the
        // value.
        let (request, place) =
            unsafe { (Request::from_ptr(NonNull::new_unchecked(r)), &*value.cast()) };
        match evaluate(request, Value { place, request: PhantomData }) {
            Ok(()) => NGX_OK as ngx_int_t,
            Err(VariableFailed) => NGX_ERROR as ngx_int_t,
        }
    })
}

/// The place for a variable's value, for a request that lives for `'a`.
pub struct Value<'a> {
    place: &'a Cell<ngx_http_variable_value_t>,
    request: PhantomData<fn(&'a [u8])>,
}

impl<'a> Value<'a> {
    /// Sets the value to `text`, which lives as long as the request.
    pub fn set(self, text: &'a [u8]) {
        bitfields::set_variable_no_cacheable(self.place, false);
        // SAFETY: the text has this length, and lives as long as the request.
        unsafe {
            bitfields::set_variable_len(self.place, text.len() as u32);
            bitfields::set_variable_valid(self.place, true);
            bitfields::set_variable_not_found(self.place, false);
            (*self.place.as_ptr()).data = text.as_ptr().cast_mut();
        }
    }

    /// Sets the value to a copy of `text` in the request's pool.
    pub fn set_text(self, request: Request<'a>, text: &str) -> Result<(), VariableFailed> {
        self.set(request.pool().copy_bytes(text.as_bytes()).map_err(|_| VariableFailed)?);
        Ok(())
    }

    /// Marks the variable as having no value.
    pub fn set_not_found(self) {
        // SAFETY: nginx does not look at the text of a variable that is not found.
        unsafe { bitfields::set_variable_not_found(self.place, true) }
    }

    /// Sets the value to that of another variable.
    pub fn set_other(
        self,
        request: Request<'a>,
        other: VariableIndex,
    ) -> Result<(), VariableFailed> {
        // SAFETY: `VariableIndex::of` got the index from nginx, and the value that nginx returns
        // is NULL, or in the request's pool.
        let value = unsafe { ngx_http_get_indexed_variable(request.as_ptr(), other.0).as_ref() };
        self.place.set(*value.ok_or(VariableFailed)?);
        bitfields::set_variable_no_cacheable(self.place, false);
        Ok(())
    }
}

/// The index of a variable in nginx's array of them.
#[derive(Clone, Copy)]
pub struct VariableIndex(ngx_uint_t);

impl VariableIndex {
    /// Returns the index of the variable `name`. To be called while the configuration is read.
    pub fn of(parser: ConfParser<'_>, name: &'static str) -> Result<Self, RegistrationFailed> {
        let mut name = string(name);
        // SAFETY: the parser is valid, and the name is static.
        let index = unsafe { ngx_http_get_variable_index(parser.as_ptr(), &raw mut name) };
        usize::try_from(index).map(Self).map_err(|_| RegistrationFailed)
    }
}
