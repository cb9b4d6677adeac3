-- SPDX-License-Identifier: Apache-2.0

-- The part of Kong's PDK that this module implements: kong.client.tls and kong.service.

local functions = require "resty.kong.tls.functions"

local interface, public = functions.interface, functions.public


local pdk = {
    client = {
        tls = interface("kong.client.tls", {
            request_client_certificate = public("request_client_certificate"),
            disable_session_reuse = public("disable_session_reuse"),
            get_full_client_certificate_chain = public("get_full_client_certificate_chain"),
            set_client_verify = public("set_client_verify"),
            disable_http2_alpn = public("disable_http2_alpn"),
        }),
    },
    service = interface("kong.service", {
        set_upstream = public("set_upstream"),
        set_target = public("set_target"),
        set_target_retry_callback = public("set_target_retry_callback"),
        choose_target = public("choose_target"),
        enable_recording_upstream_ssl = public("enable_recording_upstream_ssl"),
        set_retries = public("set_retries"),
        set_timeouts = public("set_timeouts"),
        set_tls_cert_key = public("set_tls_cert_key"),
        set_tls_verify = public("set_tls_verify"),
        set_tls_verify_depth = public("set_tls_verify_depth"),
        set_tls_verify_store = public("set_tls_verify_store"),
        set_tls_server_name = public("set_tls_server_name"),
        set_tls_verify_names = public("set_tls_verify_names"),
        set_tls_pins = public("set_tls_pins"),
        set_tls_verify_spiffe = public("set_tls_verify_spiffe"),
        set_tls_options = public("set_tls_options"),
    }),
}

pdk.service.request = interface("kong.service.request", {
    set_scheme = public("set_scheme"),
})


return pdk
