//! What differs between versions of nginx: the only place that says so, beside the values that `build.rs`
//! sets for it.
//!
//! Directives that not every version has are found by their names when the configuration is read, and
//! need nothing here.

use ngx::ffi::ngx_http_addr_conf_t;

/// Whether an address is for QUIC. nginx 1.25.0 is the first that has it.
pub fn is_quic(address: &ngx_http_addr_conf_t) -> bool {
    #[cfg(nginx_has_quic)]
    return address.quic() != 0;
    #[cfg(not(nginx_has_quic))]
    {
        let _ = address;
        false
    }
}
