//! The directives by which an `upstream {}` block gets one of nginx's own balancers, other than the
//! default.

use std::ffi::{c_char, c_void};

use ngx::ffi::{ngx_command_t, ngx_conf_t};

use crate::directives::{NGX_CONF_ERROR, NGX_CONF_OK};
use crate::module;
use crate::nginx::connection::process_log;
use crate::nginx::directive::ForeignDirective;
use crate::nginx::panic::guard;
use crate::nginx::round_robin;

/// `keepalive`, which is one too, is in `keepalive.rs`.
static DIRECTIVES: [ForeignDirective; 6] = [
    ForeignDirective::new(c"ngx_http_upstream_hash_module", "hash"),
    ForeignDirective::new(c"ngx_http_upstream_ip_hash_module", "ip_hash"),
    ForeignDirective::new(c"ngx_http_upstream_least_conn_module", "least_conn"),
    ForeignDirective::new(c"ngx_http_upstream_least_time_module", "least_time"),
    ForeignDirective::new(c"ngx_http_upstream_random_module", "random"),
    ForeignDirective::new(c"ngx_http_upstream_sticky_module", "sticky"),
];

/// Puts ours before the directives. To be called in *preconfiguration*.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn preconfiguration(cf: *mut ngx_conf_t) {
    for directive in &DIRECTIVES {
        // SAFETY: `cf` is valid, and `read` answers for all of these.
        unsafe { directive.wrap(cf, read) };
    }
}

/// Leaves the directives as they were. To be called in *postconfiguration*.
///
/// # Safety
/// `cf` must be valid.
pub unsafe fn postconfiguration(cf: *mut ngx_conf_t) {
    for directive in &DIRECTIVES {
        // SAFETY: `cf` is valid.
        unsafe { directive.restore(cf) };
    }
}

/// nginx calls where it reads one of the directives.
unsafe extern "C" fn read(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    guard("balancer directive", process_log(), NGX_CONF_ERROR, || {
        // SAFETY: nginx calls with a valid `cf` at a directive whose `set` is ours.
        unsafe {
            let Some(directive) = DIRECTIVES.iter().find(|directive| directive.is(command)) else {
                return NGX_CONF_ERROR;
            };
            noting(cf, || directive.read(cf, command, conf).unwrap_or(NGX_CONF_ERROR))
        }
    })
}

/// Keeps what a directive of nginx's, which `read` reads, makes of the balancer of its block.
///
/// # Safety
/// `cf` must be valid, and inside `upstream {}`.
pub unsafe fn noting(cf: *mut ngx_conf_t, read: impl FnOnce() -> *mut c_char) -> *mut c_char {
    // SAFETY: `cf` is valid, and inside `upstream {}`, by contract.
    unsafe {
        let before = round_robin::current(cf);
        let status = read();
        // See `pass::read`.
        if status == NGX_CONF_OK && module::is_loaded(cf) {
            if let Some(conf) = module::server_conf(cf) {
                let balancer = conf.balancer.get();
                conf.balancer.set(balancer.after_directive(before, round_robin::current(cf)));
            }
        }
        status
    }
}
