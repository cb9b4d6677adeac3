-- SPDX-License-Identifier: Apache-2.0

-- The low-level interface, call-compatible with the Lua library of lua-kong-nginx-module.

local functions = require "resty.kong.tls.functions"

local interface, public = functions.interface, functions.public

local WRONG_PHASE = "API disabled in the current context"


return interface("resty.kong.tls", {
    request_client_certificate = public("request_client_certificate", WRONG_PHASE),
    disable_session_reuse = public("disable_session_reuse", WRONG_PHASE),
    get_full_client_certificate_chain = public("get_full_client_certificate_chain", WRONG_PHASE),
    disable_http2_alpn = public("disable_http2_alpn", WRONG_PHASE),
    get_request_ssl_pointer = public("get_request_ssl_pointer", WRONG_PHASE),
    set_upstream_cert_and_key = public("set_tls_cert_key", WRONG_PHASE),
    set_upstream_ssl_verify = public("set_tls_verify", WRONG_PHASE),
    set_upstream_ssl_verify_depth = public("set_tls_verify_depth", WRONG_PHASE),
    set_upstream_ssl_trusted_store = public("set_tls_verify_store", WRONG_PHASE),
    set_upstream_ssl_sans_dnsnames = public("set_sans_dnsnames", WRONG_PHASE),
    set_upstream_ssl_sans_uris = public("set_sans_uris", WRONG_PHASE),
})
