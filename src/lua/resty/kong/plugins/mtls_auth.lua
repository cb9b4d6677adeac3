-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.mtls_auth: authenticates clients by the certificates that they present, for
-- some of a server's names.
--
-- Each of these names has a policy: the trusted authorities, and the consumers. A client is only
-- asked for a certificate if its server name (SNI) has a policy. A session is only resumed under
-- the same name; the chain of its first handshake is verified again.

local at_init = require "resty.kong.tls.at_init"
local authentication = require "resty.kong.plugins.authentication"
local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local names = require "resty.kong.plugins.names"
local replaced = require "resty.kong.plugins.replaced"
local pdk = require "resty.kong.pdk"
local ssl = require "ngx.ssl"
local x509 = require "resty.kong.x509"

local type = type
local error = error
local ipairs = ipairs
local pairs = pairs
local setmetatable = setmetatable
local tls = pdk.client.tls
local values = require "resty.kong.tls.values"
local is_given, is_list, is_list_of_strings = values.is_given, values.is_list, values.is_list_of_strings
local check_object, check_type = mistakes.check_object, mistakes.check_type
local follow = replaced.follow
local check_method = functions.check_method

local CLASS = "mtls_auth"
local NEW = "mtls_auth.new"

local methods = {}


-- Returns the policy of a name: its own, else that of the longest matching "*." name, else the
-- default. As in nginx's server_name, "*." matches any number of labels.
local function policy_of(self, name)
    if not name then
        return self.default
    end
    name = names.normalize(name)
    local policy = self.exact[name]
    local dot = name:find(".", 1, true)
    while dot and not policy do
        policy = self.wildcard[name:sub(dot)]
        dot = name:find(".", dot + 1, true)
    end
    return policy or self.default
end


-- Returns whether the request names a single host. The service may use the header Host where this
-- module and nginx use the host of the URI (RFC 9112, section 3.2.2).
local function names_one_host(var)
    local host, header = var.host, var.http_host
    if host:find("@", 1, true) then
        return false
    end
    if not header then
        return true
    end
    header = header:gsub(":%d*$", "")
    return names.normalize(header) == names.normalize(host)
end


-- Asks the client for a certificate. To be called in ssl_certificate_by_lua*. An error ends the
-- handshake.
function methods:certificate()
    check_object(self, "exact", CLASS, "certificate")
    check_method("request_client_certificate", "mtls_auth:certificate")
    assert(functions.guard_headers())
    follow(self)
    local policy = policy_of(self, ssl.server_name())
    if policy then
        local common = policy.common
        assert(tls.request_client_certificate(policy.authorities, policy.options))
        -- So nginx's result includes the policy's, and the server's own checks: revocation lists
        -- and OCSP.
        assert(functions.verify_client_with(common.store, common.terms.depth))
    end
end


local function chain_of_client()
    local chain
    local pem, err = tls.get_full_client_certificate_chain()
    if pem then
        chain, err = x509.chain(pem)
    end
    if not chain then
        -- Unexpected: the chain was there when its digest was computed.
        ngx.log(ngx.ERR, "mtls_auth: ", err)
        return nil, err or "there is no certificate"
    end
    return chain
end


local ACCESS = "mtls_auth:access"
local ACCESS_OPTIONS = { policy = true, optional = true }


-- Authenticates the client. To be called in access_by_lua*, for all requests of the server. Options:
--
--     policy     the name of the policy that the client must have been asked by
--     optional   whether clients without a certificate are let in
function methods:access(options)
    check_object(self, "exact", CLASS, "access")
    check_method("set_retries", ACCESS)
    local stripped = self.stripped
    authentication.strip(stripped)
    follow(self)
    if self.stripped ~= stripped then
        authentication.strip(self.stripped)
    end
    options = authentication.access_options(options, ACCESS_OPTIONS, ACCESS)
    local demanded = options.policy
    if is_given(demanded) then
        check_type("policy", demanded, "string", 2, ACCESS)
        if not self.named[demanded] then
            error("there is no policy of the name \"" .. names.shown(demanded) .. "\": " .. ACCESS, 2)
        end
    end

    local var = ngx.var
    if not names_one_host(var) then
        ngx.log(ngx.INFO, "mtls_auth: the request names several hosts")
        return ngx.exit(400)
    end
    local policy = policy_of(self, var.ssl_server_name)
    -- A connection may serve requests for several names (RFC 9110, section 7.4).
    if policy ~= policy_of(self, var.host) then
        ngx.log(ngx.INFO, "mtls_auth: the connection is for \"", names.shown(var.ssl_server_name or ""),
                "\", which has another policy")
        return ngx.exit(421)
    end
    if demanded and policy ~= self.named[demanded] then
        ngx.log(ngx.INFO, "mtls_auth: the connection is for \"", names.shown(var.ssl_server_name or ""),
                "\", which has not the policy \"", names.shown(demanded), "\"")
        return ngx.exit(421)
    end
    if not policy then
        return
    end
    local common = policy.common

    local digest, err = functions.client_chain_digest()
    if err then
        return common:refuse(err)
    end
    if not digest then
        return common:without_certificate(options.optional)
    end
    return common:accept(digest, chain_of_client)
end


local meta = { __index = methods }

local M = {}


-- Returns the authorities whose names clients are sent; none for a folder or the system's, which
-- would be too many.
local function authorities_of(ca)
    local pem = ca.pem
    local err
    if not pem and type(ca.file) == "string" then
        local file
        file, err = io.open(ca.file)
        if not file then
            return nil, err
        end
        pem = file:read("*a")
        file:close()
    end
    if not pem then
        return nil
    end
    local chain, ok
    chain, err = x509.chain(pem)
    if not chain then
        return nil, err
    end
    ok, err = functions.has_names(chain)
    if not ok then
        return nil, err .. ": send_ca_dn = false sends none"
    end
    return chain
end


-- For each policy, lists the names that may share a connection: a client asked under one of them
-- may send requests for another. These are all names of the policy except "default", and except a
-- "*." name below which another policy has a name.
local function names_in_common(self)
    local divided = {}
    for _, names_of in ipairs { self.exact, self.wildcard } do
        for name, policy in pairs(names_of) do
            local dot = name:find(".", 1, true)
            while dot do
                local above = self.wildcard[name:sub(dot)]
                if above and above ~= policy then
                    divided[name:sub(dot)] = true
                end
                dot = name:find(".", dot + 1, true)
            end
        end
    end
    for name, policy in pairs(self.exact) do
        table.insert(policy.options.names, name)
    end
    for parent, policy in pairs(self.wildcard) do
        if not divided[parent] then
            table.insert(policy.options.names, "*" .. parent)
        end
    end
end


local OPTIONS = { names = true, name = true, send_ca_dn = true }


-- Returns what the plugin needs of a list of policies, by fields; or nil and an error.
local function built(policies)
    if not is_list(policies) or #policies == 0 then
        local remedy = type(policies) == "table" and policies.names and "write { policy }" or nil
        error(mistakes.about("policies must be a list", policies, NEW, M, remedy), 3)
    end
    local self = { exact = {}, wildcard = {}, named = {} }
    local made = {}
    for index, options in ipairs(policies) do
        local place = "policy " .. index .. ": "
        local common, err = authentication.new(CLASS, options, OPTIONS, M, place)
        if not common then
            return nil, place .. err
        end
        if common.forward then
            self.stripped = functions.header_names(functions.certificate_headers)
        end
        local policy = { common = common, options = { names = {} } }
        made[index] = policy
        if type(options.send_ca_dn) ~= "nil" and type(options.send_ca_dn) ~= "boolean" then
            error(place .. mistakes.about("send_ca_dn must be a boolean", options.send_ca_dn, NEW), 3)
        end
        if options.send_ca_dn ~= false then
            policy.authorities, err = authorities_of(options.ca)
            if err then
                return nil, place .. err
            end
        end
        if is_given(options.name) then
            if type(options.name) ~= "string" or options.name == "" then
                error(place .. mistakes.about("name must be a string", options.name, NEW), 3)
            elseif self.named[options.name] then
                return nil, place .. "name is that of another policy"
            end
            self.named[options.name] = policy
        end
        if not is_list_of_strings(options.names) or #options.names == 0 then
            error(place .. mistakes.about_strings("names must be a list of names", options.names, NEW), 3)
        end
        for _, name in ipairs(options.names) do
            local given = name
            name = names.check(given)
            if not name then
                return nil, place .. "\"" .. given .. "\" is not the name of a host"
            end
            local list, key = self.exact, name
            if name == "default" then
                list = self
            elseif name:find("^%*%.") then
                list, key = self.wildcard, name:sub(2)
            end
            if list[key] then
                return nil, place .. "\"" .. name .. "\" has a policy already"
            end
            list[key] = policy
            at_init.text(index .. " " .. name)
        end
    end
    names_in_common(self)
    for _, policy in ipairs(made) do
        -- Sorted, so that the list is the same in all workers.
        table.sort(policy.options.names)
    end
    return self
end


-- Puts other policies into effect.
local function use(self, policies)
    for _, field in ipairs { "exact", "wildcard", "named", "default", "stripped" } do
        self[field] = policies[field]
    end
end


-- Replaces all policies, in all workers: see resty.kong.plugins.replaced. Returns true; or nil and an
-- error, and nothing changes.
function methods:replace(policies)
    check_object(self, "exact", CLASS, "replace")
    return replaced.replace(self, policies)
end


methods.consumer = authentication.consumer

local NEW_OPTIONS = { dict = true }


-- Makes the plugin. Options: a list of policies, each with the options of
-- resty.kong.plugins.authentication, and
--
--     names       a list of host names, "*." and host names, and "default"
--     name        the name of the policy, for access
--     send_ca_dn  whether clients are sent the names of the authorities; true by default
--
-- and for all policies
--
--     dict        the name of a lua_shared_dict, for replace
--
-- Returns nil and an error if an option can't be used.
function M.new(policies, options)
    local self, err = built(policies)
    if not self then
        return nil, err
    end
    local ok
    ok, err = replaced.prepare(self, options, NEW_OPTIONS, {
        class = CLASS, given = policies, built = built, use = use, label = NEW,
    })
    if not ok then
        return nil, err
    end
    return setmetatable(self, meta)
end


-- Returns the consumer of the current request: see resty.kong.plugins.authentication.
M.consumer = authentication.consumer


return M
