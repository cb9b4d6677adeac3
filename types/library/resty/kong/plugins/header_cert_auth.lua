-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.plugins.header_cert_auth

---`require "resty.kong.plugins.header_cert_auth"`: authenticates clients by a certificate that a proxy in front sends
---in a header.
---@class resty.kong.plugins.header_cert_auth
local M = {}

---@class (exact) resty.kong.plugins.header_cert_auth.options: resty.kong.plugins.authentication
---@field header string the header with the certificate
---@field encoding "url"|"base64" URL-encoded PEM, or DER in base64
---@field trusted string[] the addresses and networks from which the header is accepted

---Makes the plugin. To be called in `init_by_lua*`.
---@param options resty.kong.plugins.header_cert_auth.options
---@return resty.kong.plugins.header_cert_auth.plugin?
---@return string? err
function M.new(options) end

---@class resty.kong.plugins.header_cert_auth.plugin
local plugin = {}

---Authenticates the client.
---
---Phase: access, of all requests of the server.
function plugin:access() end

return M
