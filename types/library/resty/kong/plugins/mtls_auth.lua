-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.plugins.mtls_auth

---Who a client is.
---@class resty.kong.plugins.identity
---@field name? string
---@field username? string the same as `name`
---@field id? string
---@field custom_id? string
---@field groups? string[]

---What a function that looks up consumers returns. It may have other fields, too.
---@class resty.kong.plugins.found: resty.kong.plugins.identity
---@field ca_certificate? string what its chain must have: a fingerprint, or PEM

---Returns the consumer of a certificate, or nil if it is nobody's, or nil and an error.
---@alias resty.kong.plugins.lookup fun(certificate: resty.kong.x509.certificate): resty.kong.plugins.found?, err: any

---A consumer, and what its certificate is known by.
---@class (exact) resty.kong.plugins.consumer: resty.kong.plugins.identity
---@field ca_certificate? string what its chain must have: a fingerprint, or PEM
---@field fingerprint? string SHA-256 of the whole certificate, in hexadecimal
---@field uri? string a subject alternative name
---@field dns? string a subject alternative name
---@field email? string a subject alternative name
---@field common_name? string of the subject; counts if the certificate has no subject alternative names

---The options that `mtls_auth` and `header_cert_auth` have in common.
---@class (exact) resty.kong.plugins.authentication
---@field ca resty.kong.x509.store_options what is trusted
---@field depth? integer the maximum number of intermediates
---@field consumers? resty.kong.plugins.consumer[]
---@field consumer_by? ("username"|"custom_id")[] what the names of a certificate are compared with too
---@field lookup? resty.kong.plugins.lookup a function, in place of `consumers`
---@field cache_ttl? number how long its answers count, in seconds; default: 60
---@field negative_ttl? number the same for certificates that are nobody's; default: 10
---@field default_consumer? string|resty.kong.plugins.identity of certificates that are valid, and nobody's
---@field skip_consumer_lookup? boolean whether valid certificates are accepted, whose ever they are
---@field authenticated_group_by? "CN"|"DN"|"OU"|"DNS"|"URI"|"EMAIL" what in a certificate names groups
---@field anonymous? string the consumer for all other clients; without it, they get 401
---@field forward? resty.kong.forwarded_certificate.format how the service gets the certificate
---@field revocation_check_mode? "SKIP"|"IGNORE_CA_ERROR"|"STRICT" whether OCSP and lists are asked; default: `"SKIP"`
---@field revocation_dict? string the name of a lua_shared_dict for what was answered
---@field revocation_leaf_only? boolean whether only the client's own certificate is checked; default: false
---@field ocsp_responder? string the URL of a responder, in place of those that certificates name
---@field http_timeout? number the time to ask, in milliseconds; default: 30000
---@field http_proxy? string the URL of a proxy to fetch through

---Whom to accept under some names.
---@class (exact) resty.kong.plugins.mtls_auth.policy: resty.kong.plugins.authentication
---@field names string[] host names, `"*."` and a host name, and `"default"`
---@field name? string for `policy` of `access`
---@field send_ca_dn? boolean whether clients are sent the names of the authorities; default: true

---Who the client of a request is, as other plugins are told.
---@class resty.kong.plugins.client
---@field username string?
---@field id string?
---@field custom_id string?
---@field groups string[]
---@field fingerprint string? of the certificate
---@field anonymous true? for the anonymous consumer

---Options for all policies.
---@class (exact) resty.kong.plugins.mtls_auth.options
---@field dict? string the name of a `lua_shared_dict`, for `replace`

---What a location demands.
---@class (exact) resty.kong.plugins.mtls_auth.access_options
---@field policy? string the name of the policy that the client must have been asked by
---@field optional? boolean whether clients without a certificate are let in

---`require "resty.kong.plugins.mtls_auth"`: authenticates clients by the certificates that they present, for some of
---a server's names.
---@class resty.kong.plugins.mtls_auth
local M = {}

---Makes the plugin. To be called in `init_by_lua*`.
---@param policies resty.kong.plugins.mtls_auth.policy[]
---@param options? resty.kong.plugins.mtls_auth.options
---@return resty.kong.plugins.mtls_auth.plugin?
---@return string? err
function M.new(policies, options) end

---Returns who the client of the current request is; nil if no plugin has let it in.
---@return resty.kong.plugins.client?
function M.consumer() end

---@class resty.kong.plugins.mtls_auth.plugin
local plugin = {}

---Asks the client for a certificate, if its server name has a policy. An error ends the handshake.
---
---Phase: certificate.
function plugin:certificate() end

---Authenticates the client.
---
---Phase: access, of all requests of the server.
---@param options? resty.kong.plugins.mtls_auth.access_options
function plugin:access(options) end

---Replaces all policies, in all workers.
---@param policies resty.kong.plugins.mtls_auth.policy[]
---@return true?
---@return string? err
function plugin:replace(policies) end

---Returns who the client of the current request is; nil if no plugin has let it in.
---@return resty.kong.plugins.client?
function plugin:consumer() end

return M
