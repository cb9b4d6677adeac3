-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.plugins.mtls_auth

---A consumer, and what its certificate is known by: one or more of the other fields.
---@class (exact) resty.kong.plugins.consumer
---@field name string
---@field fingerprint? string SHA-256 of the whole certificate, in hexadecimal
---@field uri? string a subject alternative name
---@field dns? string a subject alternative name
---@field email? string a subject alternative name
---@field common_name? string of the subject; counts if the certificate has no subject alternative names

---The options that `mtls_auth` and `header_cert_auth` have in common.
---@class (exact) resty.kong.plugins.authentication
---@field ca resty.kong.x509.store_options what is trusted
---@field depth? integer the maximum number of intermediates
---@field consumers resty.kong.plugins.consumer[]
---@field anonymous? string the consumer for all other clients; without it, they get 401

---Whom to accept under some names.
---@class (exact) resty.kong.plugins.mtls_auth.policy: resty.kong.plugins.authentication
---@field names string[] host names, `"*."` and a host name, and `"default"`
---@field send_ca_dn? boolean whether clients are sent the names of the authorities; default: true

---`require "resty.kong.plugins.mtls_auth"`: authenticates clients by the certificates that they present, for some of
---a server's names.
---@class resty.kong.plugins.mtls_auth
local M = {}

---Makes the plugin. To be called in `init_by_lua*`.
---@param policies resty.kong.plugins.mtls_auth.policy[]
---@return resty.kong.plugins.mtls_auth.plugin?
---@return string? err
function M.new(policies) end

---@class resty.kong.plugins.mtls_auth.plugin
local plugin = {}

---Asks the client for a certificate, if its server name has a policy. An error ends the handshake.
---
---Phase: certificate.
function plugin:certificate() end

---Authenticates the client.
---
---Phase: access, of all requests of the server.
function plugin:access() end

return M
