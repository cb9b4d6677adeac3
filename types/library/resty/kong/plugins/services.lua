-- SPDX-License-Identifier: Apache-2.0

---@meta resty.kong.plugins.services

---`require "resty.kong.plugins.services"`: for each service, its address, how it is verified, and which certificate
---it is shown.
---@class resty.kong.plugins.services
local M = {}

---A service. A field that is false removes its default.
---@class (exact) resty.kong.plugins.service
---@field upstream? string|false the name of an `upstream {}` block; without it and `host`, the location's address
---@field host? string|false a name or an address; needs `port`
---@field port? integer|false 1 to 65535
---@field certificate? string|false PEM, or the name of a file; needs `key`
---@field key? string|resty.kong.x509.key_options|false PEM, the name of a file, or a key in a token
---@field password? string|false of the key
---@field verify? boolean whether the service is verified; default: true
---@field depth? integer|false the maximum number of intermediates, 0 to 100
---@field ca? resty.kong.x509.store_options|false what is trusted; by default what the location trusts
---@field server_name? string|false the name that is sent to it (SNI)
---@field verify_names? kong.verify_names|false the certificate must have one of these names
---@field dns_names? string[]|false the certificate must have one of these, or of `uris`
---@field uris? string[]|false the certificate must have one of these, or of `dns_names`
---@field pins? kong.pins|false the certificate must have one of these keys
---@field verify_spiffe? resty.kong.plugins.services.spiffe|false the service must have one of these SPIFFE IDs
---@field options? kong.tls_options|false versions, ciphers and the like; by default those of the location

---@class (exact) resty.kong.plugins.services.spiffe
---@field trust_domains table<string, resty.kong.x509.store_options> what is trusted in each trust domain, by its name
---@field ids string[] SPIFFE IDs, or the beginning of some: `spiffe://trust.domain/path/*`

---@class (exact) resty.kong.plugins.services.options
---@field services? table<string, resty.kong.plugins.service> the services, by name
---@field file? string instead: the name of a Lua file that returns such a table
---@field defaults? resty.kong.plugins.service the fields for all services that do not set them
---@field check? "all"|"used" which services are checked now; default: `"used"` if there are more than 500

---Makes the table. To be called in `init_by_lua*`.
---@param options resty.kong.plugins.services.options
---@return resty.kong.plugins.services.plugin?
---@return string? err
function M.new(options) end

---@class resty.kong.plugins.services.plugin
local plugin = {}

---Applies the settings of a service to the current request. Requests for an unknown service get 503.
---
---Phase: access.
---@param name string?
function plugin:access(name) end

return M
