-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.plugins.sni

---`require "resty.kong.plugins.sni"`: selects the server's certificates by the server name (SNI) of the client.
---@class resty.kong.plugins.sni
local M = {}

---@class (exact) resty.kong.plugins.sni.options
---@field dict string the name of a `lua_shared_dict` with room for all certificates, as PEM

---Makes the plugin. To be called in `init_by_lua*`.
---@param options resty.kong.plugins.sni.options
---@return resty.kong.plugins.sni.plugin?
---@return string? err
function M.new(options) end

---A certificate with its chain and key.
---@class resty.kong.plugins.sni.certificate
---@field chain resty.kong.x509.chain
---@field key resty.kong.x509.key

---@class resty.kong.plugins.sni.plugin
local plugin = {}

---Sets the certificates of a name. If it fails, nothing changes.
---@param name string a host name, `"*."` and a host name, or `"default"`
---@param pem string|string[] certificate, intermediates and key; a list of such texts has keys of different types
---@return true?
---@return string? err
function plugin:set(name, pem) end

---Sets the certificates of many names. If it fails, some of them may have been set.
---@param certificates table<string, string|string[]>
---@return true?
---@return string? err
function plugin:set_all(certificates) end

---Removes the certificates of a name.
---@param name string
function plugin:remove(name) end

---Returns the certificates for a name: its own, else those of the longest matching `"*."` name, else the default.
---@param name string?
---@return resty.kong.plugins.sni.certificate[]?
---@return string? err
function plugin:find(name) end

---Presents the certificates for the client's server name. If there are none, those of the configuration are used. An
---error ends the handshake.
---
---Phase: certificate.
function plugin:select() end

return M
