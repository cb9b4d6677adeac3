-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.testing

---`require "resty.kong.testing"`: stand-ins for unit tests of plugins outside nginx.
---@class resty.kong.testing
---@field kong kong
---@field ngx table
---@field tls resty.kong.tls
---@field x509 resty.kong.x509
---@field ssl table
local testing = {}

---@alias resty.kong.testing.phase
---| "init"
---| "init_worker"
---| "exit_worker"
---| "timer"
---| "ssl_session_fetch"
---| "ssl_session_store"
---| "client_hello"
---| "certificate"
---| "set"
---| "server_rewrite"
---| "rewrite"
---| "access"
---| "content"
---| "balancer"
---| "header_filter"
---| "body_filter"
---| "log"

---A connection with a request.
---@class (exact) resty.kong.testing.request_options
---@field phase? resty.kong.testing.phase default: `"access"`
---@field method? string default: `"GET"`
---@field uri? string the path; default: `"/"`
---@field headers? table<string, string>
---@field consumer? string whom `mtls_auth` or `header_cert_auth` has found: `X-Consumer-Username`
---@field args? table<string, string>
---@field var? table<string, any> values of `ngx.var`
---@field server_name? string what the client asks for (SNI)
---@field client_certificate? string the chain of the client, in texts of `testing.certificate`
---@field client_certificate_error? string why the chain is not known
---@field client_verify? string `$ssl_client_verify`; default: `"SUCCESS"` with a chain, else `"NONE"`
---@field upstreams? string[] the names of the `upstream {}` blocks; by default, each name has one
---@field enforce_verification? boolean whether the location has `kong_tls_certificate_verify on`

---What was set; what was not set is nil.
---@class resty.kong.testing.settings
---@field certificate resty.kong.x509.chain?
---@field key resty.kong.x509.key?
---@field verify boolean?
---@field depth integer?
---@field store resty.kong.x509.store?
---@field server_name string?
---@field verify_names kong.verify_names?
---@field pins kong.pins?
---@field verify_spiffe kong.verify_spiffe?
---@field options kong.tls_options?
---@field target string? the value of `$kong_upstream_target`
---@field retries integer?
---@field timeouts { connect: integer, write: integer, read: integer }?
---@field client_verify string?
---@field client_certificate { ca_certs: resty.kong.x509.chain?, partial_chain: boolean, names: string[] }?
---@field session_reuse false?
---@field http2 false?

---The fields of a certificate that `testing.certificate` makes.
---@class (exact) resty.kong.testing.fields
---@field subject? string default: `"CN="` and the name
---@field common_name? string default: the name
---@field issuer? string default: the subject
---@field serial? string
---@field not_before? number
---@field not_after? number
---@field sans? { dns?: string[], email?: string[], uri?: string[], ip?: string[] }
---@field fingerprint? string of SHA-256

---Makes the stand-ins what plugins get: the globals `kong` and `ngx`, and the packages of the module.
function testing.install() end

---Begins a connection with a request, for which nothing is set.
---@param options? resty.kong.testing.request_options
function testing.request(options) end

---Sets the phase of the functions that are called next.
---@param name resty.kong.testing.phase
function testing.phase(name) end

---Calls a function in a phase. Throws what the function throws.
---@param phase resty.kong.testing.phase
---@param call function
---@param ... any
---@return integer? status that the function gave to `ngx.exit`
function testing.run(phase, call, ...) end

---@return resty.kong.testing.settings
function testing.settings() end

---Returns what was logged for the request.
---@return { level: integer, message: string }[]
function testing.log() end

---Makes a text that `x509.chain` and `x509.store` take for a certificate in PEM.
---@param name string letters, digits, spaces, `.`, `_` and `-`
---@param fields? resty.kong.testing.fields
---@return string
function testing.certificate(name, fields) end

---Makes a text that `x509.key` takes for the private key of the certificate with this name.
---@param name string
---@return string
function testing.key(name) end

return testing
