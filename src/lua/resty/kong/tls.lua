-- SPDX-License-Identifier: Apache-2.0

-- The low-level interface, call-compatible with the Lua library of lua-kong-nginx-module: what it
-- throws has the words of that library, and what it returns begins with them.

local functions = require "resty.kong.tls.functions"

local type = type
local rawget = rawget

local WRONG_PHASE = "API disabled in the current context"


-- Returns a function of the module under the errors of that library; see `functions.public`.
local function public(name, failed, wrong_type)
    return functions.public(name, { wrong_phase = WRONG_PHASE, failed = failed, wrong_type = wrong_type })
end


local function expects(words)
    return function(value)
        return words .. " but found " .. type(value)
    end
end


local function wrong_chain_or_key(value)
    return not value and "chain and key must not be nil" or nil
end


local function wrong_names(value)
    if type(value) ~= "table" then
        return "incorrect argument, expects an array, got " .. type(value)
    end
    return rawget(value, 1) == nil and "incorrect argument, the value can not be an empty array" or nil
end


return functions.interface("resty.kong.tls", {
    request_client_certificate = public("request_client_certificate"),
    disable_session_reuse = public("disable_session_reuse"),
    get_full_client_certificate_chain = public("get_full_client_certificate_chain"),
    disable_http2_alpn = public("disable_http2_alpn"),
    get_request_ssl_pointer = public("get_request_ssl_pointer"),
    get_ssl_pointer = public("get_ssl_pointer"),
    set_upstream_cert_and_key = public("set_tls_cert_key",
        "error while setting upstream client cert and key", wrong_chain_or_key),
    set_upstream_ssl_verify = public("set_tls_verify",
        "error while setting upstream ssl verify mode", expects "verify expects a boolean"),
    set_upstream_ssl_verify_depth = public("set_tls_verify_depth",
        "error while setting upstream ssl verify depth", expects "depth expects a number"),
    set_upstream_ssl_trusted_store = public("set_tls_verify_store",
        "error while setting upstream trusted store", expects "store expects a resty.openssl.x509.store object"),
    set_upstream_ssl_sans_dnsnames = public("set_sans_dnsnames",
        "error while setting upstream SSL dnsnames SANs", wrong_names),
    set_upstream_ssl_sans_uris = public("set_sans_uris", "error while setting upstream SSL URIs SANs", wrong_names),
})
