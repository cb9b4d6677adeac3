//! The variables of the module.

use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_OK, ngx_conf_t, ngx_http_add_variable,
    ngx_http_get_indexed_variable, ngx_http_get_variable_index, ngx_http_request_t,
    ngx_http_variable_value_t, ngx_int_t, ngx_str_t, ngx_uint_t,
};

use crate::nginx::connection::process_log;
use crate::nginx::panic::guard;
use crate::nginx::request::Request;
use crate::request::RequestState;

/// nginx could not register a variable; it has logged why.
#[derive(Debug)]
pub struct RegistrationFailed;

/// Registers the variables. To be called in *preconfiguration*.
///
/// # Safety
/// `cf` must be valid, and inside `http {}`.
pub unsafe fn preconfiguration(cf: *mut ngx_conf_t) -> Result<(), RegistrationFailed> {
    // SAFETY: nginx copies the name, and what it returns is a variable of the configuration.
    unsafe {
        let mut name = string(b"kong_client_verify");
        let variable =
            ngx_http_add_variable(cf, &raw mut name, NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t);
        let mut variable = NonNull::new(variable).ok_or(RegistrationFailed)?;

        let mut original = string(b"ssl_client_verify");
        let index = ngx_http_get_variable_index(cf, &raw mut original);
        let index = usize::try_from(index).map_err(|_| RegistrationFailed)?;

        variable.as_mut().get_handler = Some(client_verify);
        variable.as_mut().data = index;
    }
    Ok(())
}

fn string(bytes: &'static [u8]) -> ngx_str_t {
    ngx_str_t { len: bytes.len(), data: bytes.as_ptr().cast_mut() }
}

/// `$kong_client_verify`: what `set_client_verify` was given, else `$ssl_client_verify`, whose index
/// is `data`.
unsafe extern "C" fn client_verify(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    guard("$kong_client_verify", process_log(), NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls with a valid request and a place for the value.
        unsafe {
            let request = Request::from_ptr(NonNull::new_unchecked(r));
            match RequestState::client_verify_of(request) {
                Some(overridden) => {
                    (*value).set_len(overridden.len() as u32);
                    (*value).set_valid(1);
                    (*value).set_no_cacheable(0);
                    (*value).set_not_found(0);
                    (*value).data = overridden.as_ptr().cast();
                }
                None => {
                    let original = ngx_http_get_indexed_variable(r, data as ngx_uint_t);
                    if original.is_null() {
                        return NGX_ERROR as ngx_int_t;
                    }
                    ptr::copy_nonoverlapping(original, value, 1);
                    (*value).set_no_cacheable(0);
                }
            }
        }
        NGX_OK as ngx_int_t
    })
}
