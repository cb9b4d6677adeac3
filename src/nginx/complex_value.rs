// SPDX-License-Identifier: Apache-2.0

//! Values with variables (`ngx_http_complex_value_t`).

use std::mem::zeroed;
use std::ptr::NonNull;

use ngx::ffi::{
    NGX_OK, ngx_http_compile_complex_value, ngx_http_compile_complex_value_t,
    ngx_http_complex_value, ngx_http_complex_value_t, ngx_int_t, ngx_str_t,
};

use crate::nginx::conf_parser::ConfParser;
use crate::nginx::configuration::bytes;
use crate::nginx::request::Request;

/// A value with variables, in the pool of its configuration.
#[derive(Clone, Copy)]
pub struct ComplexValue(NonNull<ngx_http_complex_value_t>);

/// A value could not be compiled; nginx has logged why.
#[derive(Debug)]
pub struct CompilationFailed;

/// A value with variables could not be evaluated; nginx has logged why.
#[derive(Debug, thiserror::Error)]
#[error("its value could not be evaluated")]
pub struct EvaluationFailed;

impl ComplexValue {
    /// Compiles `text`, which lives as long as the configuration.
    pub fn compile<'a>(parser: ConfParser<'a>, text: &'a [u8]) -> Result<Self, CompilationFailed> {
        // SAFETY: nginx expects zeroed structures, in which all fields have a value.
        let (empty, mut compile): (ngx_http_complex_value_t, ngx_http_compile_complex_value_t) =
            unsafe { zeroed() };
        let value = parser.pool().copy(&empty).map_err(|_| CompilationFailed)?;
        let mut text = ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() };
        compile.cf = parser.as_ptr();
        compile.value = &raw mut text;
        compile.complex_value = value;
        // SAFETY: nginx only reads the text, and the value is in the pool of the configuration.
        let status = unsafe { ngx_http_compile_complex_value(&raw mut compile) };
        if status == NGX_OK as ngx_int_t { Ok(Self(value.into())) } else { Err(CompilationFailed) }
    }

    /// Wraps a value that nginx has compiled.
    ///
    /// # Safety
    /// `value` must be valid as long as its configuration.
    pub unsafe fn from_ptr(value: NonNull<ngx_http_complex_value_t>) -> Self {
        Self(value)
    }

    /// Returns the value for `request`, allocated in its pool.
    pub fn evaluate<'a>(&self, request: Request<'a>) -> Result<&'a [u8], EvaluationFailed> {
        let mut value = ngx_str_t { len: 0, data: std::ptr::null_mut() };
        let place = &raw mut value;
        // SAFETY: the value lives as long as the configuration, which outlives the request.
        let status = unsafe { ngx_http_complex_value(request.as_ptr(), self.0.as_ptr(), place) };
        if status != NGX_OK as ngx_int_t {
            return Err(EvaluationFailed);
        }
        // SAFETY: nginx allocates values in the request's pool, or refers to the configuration.
        Ok(unsafe { bytes(value) })
    }
}
