-- A plugin: presents each tenant's certificate to the service, and verifies the service.
-- docs/guides/writing-a-plugin.md explains it, plugin.conf runs it, and tenant_spec.lua tests it.

local pdk = require "resty.kong.pdk"
local x509 = require "resty.kong.x509"

-- The plugin, for editors.
---@class tenant
---@field store resty.kong.x509.store
---@field tenants table<string, { chain: resty.kong.x509.chain, key: resty.kong.x509.key }?>
local methods = {}


-- Returns the name of the consumer that mtls_auth has found; nil for an anonymous request.
local function consumer()
    if ngx.var.http_x_anonymous_consumer then
        return nil
    end
    return ngx.var.http_x_consumer_username
end


-- Chooses the certificate for the current request. To be called in access_by_lua*, after
-- mtls_auth:access().
function methods:access()
    local tenant = self.tenants[consumer()]
    if not tenant then
        ngx.log(ngx.INFO, "tenant: the consumer is not a tenant")
        return ngx.exit(403)
    end
    assert(pdk.service.set_tls_cert_key(tenant.chain, tenant.key))
    assert(pdk.service.set_tls_verify(true))
    assert(pdk.service.set_tls_verify_store(self.store))
end


local OPTIONS = { ca = "string", tenants = "table" }

local M = {}


-- Throws at the line that has called `new`, if an option is unknown, missing or of a wrong type.
local function check(options)
    for name in pairs(options) do
        if not OPTIONS[name] then
            error("tenant.new: unknown option \"" .. tostring(name) .. "\"", 3)
        end
    end
    for name, expected in pairs(OPTIONS) do
        if type(options[name]) ~= expected then
            error("tenant.new: " .. name .. " must be a " .. expected, 3)
        end
    end
end


-- Parses the certificate and the key of a tenant.
local function parse(pem)
    local chain, err = x509.chain(pem.certificate)
    if not chain then
        return nil, "certificate: " .. err
    end
    local key
    key, err = x509.key(pem.key)
    if not key then
        return nil, "key: " .. err
    end
    if not key:belongs_to(chain) then
        return nil, "key: it does not belong to the certificate"
    end
    return { chain = chain, key = key }
end


-- Makes the plugin. To be called in init_by_lua*. Options:
--
--     ca        the authorities of the service, in PEM
--     tenants   for each consumer, the certificate and key that the service sees, in PEM
--
-- Returns nil and an error if an option can't be used.
function M.new(options)
    check(options)
    local store, err = x509.store { pem = options.ca }
    if not store then
        return nil, "ca: " .. err
    end
    local tenants = {}
    for name, pem in pairs(options.tenants) do
        tenants[name], err = parse(pem)
        if not tenants[name] then
            return nil, "tenant \"" .. name .. "\": " .. err
        end
    end
    return setmetatable({ store = store, tenants = tenants }, { __index = methods })
end


return M
