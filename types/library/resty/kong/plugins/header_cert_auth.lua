-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.plugins.header_cert_auth

---`require "resty.kong.plugins.header_cert_auth"`: authenticates clients by a certificate that a proxy in front sends
---in a header.
---@class resty.kong.plugins.header_cert_auth
local M = {}

---@class (exact) resty.kong.plugins.header_cert_auth.options: resty.kong.plugins.authentication
---@field format? "rfc9440"|"xfcc"|"haproxy"|"aws-alb"|"traefik"|"apache"|"azure"|"nginx" how the proxy writes it
---@field header? string the header with the certificate; default: that of `format`
---@field chain_header? string the header with the rest of the chain; default: that of `format`
---@field element? "only"|"first"|"last" for `"xfcc"`: which element is the client's; default: `"only"`
---@field encoding? "url"|"base64" without `format`: URL-encoded PEM, or DER in base64
---@field trusted string[] the addresses and networks from which the header is accepted
---@field dict? string the name of a `lua_shared_dict`, for `replace`

---What a location demands.
---@class (exact) resty.kong.plugins.header_cert_auth.access_options
---@field optional? boolean whether clients without a certificate are let in

---Makes the plugin. To be called in `init_by_lua*`.
---@param options resty.kong.plugins.header_cert_auth.options
---@return resty.kong.plugins.header_cert_auth.plugin?
---@return string? err
function M.new(options) end

---Returns who the client of the current request is; nil if no plugin has let it in.
---@return resty.kong.plugins.client?
function M.consumer() end

---@class resty.kong.plugins.header_cert_auth.plugin
local plugin = {}

---Authenticates the client.
---
---Phase: access, of all requests of the server.
---@param options? resty.kong.plugins.header_cert_auth.access_options
function plugin:access(options) end

---Replaces all options, in all workers.
---@param options resty.kong.plugins.header_cert_auth.options
---@return true?
---@return string? err
function plugin:replace(options) end

---Returns who the client of the current request is; nil if no plugin has let it in.
---@return resty.kong.plugins.client?
function plugin:consumer() end

return M
