-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.tls

---`require "resty.kong.tls"`: the low-level interface. In a wrong phase, its functions throw
---`API disabled in the current context`.
---@class resty.kong.tls
local tls = {}

---See `kong.client.tls.request_client_certificate`.
---@param ca_certs? kong.chain
---@param options? kong.client_certificate_options
---@return true?
---@return string? err
function tls.request_client_certificate(ca_certs, options) end

---See `kong.client.tls.disable_session_reuse`.
---@return true?
---@return string? err
function tls.disable_session_reuse() end

---See `kong.client.tls.disable_http2_alpn`.
---@return true?
---@return string? err
function tls.disable_http2_alpn() end

---See `kong.client.tls.get_full_client_certificate_chain`.
---@return string? pem
---@return string? err
function tls.get_full_client_certificate_chain() end

---Returns the `SSL *` of the client's connection. It is valid as long as the connection.
---
---Phases: client_hello, certificate, and all phases of a request.
---@return ffi.cdata*? ssl
---@return string? err
function tls.get_request_ssl_pointer() end

---Returns the `SSL *` of a connection that Lua code has made by `ngx.socket`. It is valid until the socket is closed.
---
---Phases: client_hello, certificate, all phases of a request, and timer.
---@param sock table
---@return ffi.cdata*? ssl
---@return string? err
function tls.get_ssl_pointer(sock) end

---See `kong.service.set_tls_cert_key`.
---@param chain kong.chain
---@param key kong.key
---@return true?
---@return string? err
function tls.set_upstream_cert_and_key(chain, key) end

---See `kong.service.set_tls_verify`.
---@param on boolean
---@return true?
---@return string? err
function tls.set_upstream_ssl_verify(on) end

---See `kong.service.set_tls_verify_depth`.
---@param depth integer
---@return true?
---@return string? err
function tls.set_upstream_ssl_verify_depth(depth) end

---See `kong.service.set_tls_verify_store`.
---@param store kong.store
---@return true?
---@return string? err
function tls.set_upstream_ssl_trusted_store(store) end

---Allows the service other DNS names: its certificate must carry the name of the request, or one of these.
---
---Phases: rewrite, access, balancer.
---@param names string[]
---@return true?
---@return string? err
function tls.set_upstream_ssl_sans_dnsnames(names) end

---Allows the service URIs as names: its certificate must carry the name of the request, or one of these.
---
---Phases: rewrite, access, balancer.
---@param uris string[]
---@return true?
---@return string? err
function tls.set_upstream_ssl_sans_uris(uris) end

return tls
