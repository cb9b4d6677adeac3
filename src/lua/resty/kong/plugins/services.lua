-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.services: for each service, its address, how it is verified, and which
-- certificate it is shown.
--
--     init_by_lua_block {
--         services = assert(require("resty.kong.plugins.services").new { file = "services.lua" })
--     }
--     access_by_lua_block { services:access("billing") }
--
-- Files are read once, when the table is made. Their content is parsed and checked then too, or, if
-- there are many services, when each is first used.

local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local names = require "resty.kong.plugins.names"
local pdk = require "resty.kong.pdk"
local values = require "resty.kong.tls.values"
require "resty.kong.x509"

local type = type
local error = error
local pairs = pairs
local setmetatable = setmetatable
local is_given, is_list_of_strings = values.is_given, values.is_list_of_strings
local service = pdk.service
local unnoted = functions.unnoted

local methods = {}

-- The greatest number of services that are parsed and checked at once: each takes about a
-- millisecond.
local AT_ONCE = 500


-- Applies the settings of a service to the current request. If it returns nil and an error, some of
-- them may have been applied.
local function apply(settings)
    local ok, err = true, nil
    if settings.upstream then
        ok, err = service.set_upstream(settings.upstream)
    elseif settings.host then
        service.set_target(settings.host, settings.port)
    end
    if ok and settings.certificate then
        ok, err = service.set_tls_cert_key(settings.certificate, settings.key)
    end
    -- Set in any case: the service's setting must override that of the location, on or off.
    if ok then
        ok, err = service.set_tls_verify(settings.verify)
    end
    if ok and settings.depth then
        ok, err = service.set_tls_verify_depth(settings.depth)
    end
    if ok and settings.store then
        ok, err = service.set_tls_verify_store(settings.store)
    end
    if ok and settings.server_name then
        ok, err = service.set_tls_server_name(settings.server_name)
    end
    if ok and settings.verify_names then
        ok, err = service.set_tls_verify_names(settings.verify_names)
    end
    if ok and settings.pins then
        ok, err = service.set_tls_pins(settings.pins)
    end
    if ok and settings.spiffe then
        ok, err = service.set_tls_verify_spiffe(settings.spiffe)
    end
    if ok and settings.options then
        ok, err = service.set_tls_options(settings.options)
    end
    return ok, err
end


local function integer(lowest, highest)
    return function(value)
        return type(value) == "number" and value % 1 == 0 and value >= lowest and value <= highest
    end
end


local function of_type(expected)
    return function(value)
        return type(value) == expected
    end
end


local function text_or_table(value)
    return type(value) == "string" or type(value) == "table"
end


local function list_of_strings(value)
    return is_list_of_strings(value) and #value > 0
end


-- The fields of a service: a check of each value, and its description.
local FIELDS = {
    upstream = { of_type("string"), "a string" },
    host = { of_type("string"), "a string" },
    port = { integer(1, 65535), "an integer between 1 and 65535" },
    certificate = { of_type("string"), "PEM, or the name of a file" },
    key = { text_or_table, "PEM, the name of a file, or a table with a uri" },
    password = { of_type("string"), "a string" },
    verify = { of_type("boolean"), "a boolean" },
    depth = { integer(0, 100), "an integer between 0 and 100" },
    ca = { of_type("table"), "a table" },
    server_name = { of_type("string"), "a string" },
    verify_names = { of_type("table"), "a table" },
    dns_names = { list_of_strings, "a list of strings" },
    uris = { list_of_strings, "a list of strings" },
    pins = { of_type("table"), "a table" },
    verify_spiffe = { of_type("table"), "a table" },
    options = { of_type("table"), "a table" },
}


-- The fields about verification.
local VERIFICATION = {
    depth = true, ca = true, verify_names = true, dns_names = true, uris = true, verify_spiffe = true,
}


-- Fields of which a service can have one or the other.
local ALTERNATIVES = { ca = "verify_spiffe", verify_spiffe = "ca" }


-- Checks of values that Rust makes.
local CHECKS = {
    server_name = functions.check_server_name,
    verify_names = functions.check_verify_names,
    dns_names = function(list) return functions.check_verify_names { host = false, dns = list } end,
    uris = function(list) return functions.check_verify_names { host = false, uris = list } end,
    pins = functions.check_pins,
    verify_spiffe = functions.check_verify_spiffe,
    options = functions.check_options,
}


-- Returns what is wrong with the fields of a service, or nil.
local function mistake(fields)
    if type(fields) ~= "table" then
        return "it must be a table"
    end
    for field, value in pairs(fields) do
        local expected = FIELDS[field]
        if not expected then
            return mistakes.unknown("field", field, FIELDS)
        end
        if value ~= false and not expected[1](value) then
            return field .. " must be " .. expected[2]
        end
    end
end


-- Returns the text of a setting: the value itself if it is PEM, or the content of the file that it
-- names.
local function read(value)
    if value:find("-----BEGIN ", 1, true) then
        return value
    end
    local file, err = io.open(value)
    if not file then
        return nil, err
    end
    local text
    text, err = file:read("*a")
    file:close()
    return text, err
end


-- Returns the object made from a text; services with the same text share it.
local function made(known, text, make, password)
    local key = (password or "") .. "\0" .. text
    local err
    if not known[key] then
        known[key], err = make(text, password)
    end
    return known[key], err
end


-- Returns the key that a URI names, with its pin; services with the same share it.
local function opened(known, uri, pin)
    local key = uri .. "\0" .. (pin or "")
    local err
    if not known[key] then
        known[key], err = unnoted.stored_key(uri, pin)
    end
    return known[key], err
end


-- Returns whether options of x509.store refer to no files.
local function is_text(options)
    return not (options.file or options.dir or options.crl_file or options.system)
end


-- Returns the store for options of x509.store; services with the same options share it.
local function store_of(options, known)
    local list = {}
    for name, value in pairs(options) do
        list[#list + 1] = tostring(name) .. "\0" .. tostring(value)
    end
    table.sort(list)
    local key = table.concat(list, "\0")
    if not known[key] then
        local given, err = functions.store_options(options)
        if not given then
            return nil, err
        end
        known[key], err = unnoted.store(given)
        return known[key], err
    end
    return known[key]
end


-- Returns the trust domains, with stores in place of options of x509.store, and the IDs.
local function spiffe_of(fields, known)
    local domains = {}
    for name, options in pairs(fields.trust_domains) do
        if type(options) ~= "table" then
            return nil, "the store of \"" .. name .. "\" must be a table: see x509.store"
        end
        local err
        domains[name], err = store_of(options, known)
        if not domains[name] then
            return nil, "the store of \"" .. name .. "\": " .. err
        end
    end
    return { trust_domains = domains, ids = fields.ids }
end


-- Returns the names that a service may have, if they are not that of the request alone.
local function names_of(fields)
    if fields.dns_names or fields.uris then
        return { host = false, dns = fields.dns_names or nil, uris = fields.uris or nil }
    end
    return fields.verify_names or nil
end


-- Returns the settings of a service, or nil and an error. `own` are the fields set for this
-- service; `fields` also include the defaults.
local function settings_of(own, fields, known)
    local settings = {
        verify = fields.verify ~= false,
        upstream = fields.upstream or nil,
        host = fields.host or nil,
        port = fields.port or nil,
        depth = fields.depth or nil,
        server_name = fields.server_name or nil,
        verify_names = names_of(fields),
        pins = fields.pins or nil,
        options = fields.options or nil,
    }
    for field in pairs(VERIFICATION) do
        if own[field] and not settings.verify then
            return nil, field .. " says how to verify it, and verify is false"
        end
    end
    if fields.upstream and fields.host then
        return nil, "it has both upstream and host"
    end
    if fields.verify_names and (fields.dns_names or fields.uris) then
        return nil, "dns_names and uris belong into verify_names"
    end
    if fields.verify_spiffe and fields.ca then
        return nil, "verify_spiffe has a store for each trust domain, beside which ca would not count"
    end
    if (not fields.host) ~= (not fields.port) then
        return nil, "host and port need each other"
    end
    if (not fields.certificate) ~= (not fields.key) then
        return nil, "certificate and key need each other"
    end
    local ok, err = true, nil
    if fields.upstream then
        ok, err = functions.check_upstream(fields.upstream)
    elseif fields.host then
        ok, err = functions.check_target(fields.host, fields.port)
    end
    if not ok then
        return nil, err
    end
    for field, check in pairs(CHECKS) do
        if fields[field] then
            ok, err = check(fields[field])
            if not ok then
                return nil, field .. ": " .. err
            end
        end
    end
    local texts = {}
    if fields.certificate then
        texts.certificate, err = read(fields.certificate)
        if not texts.certificate then
            return nil, "certificate: " .. err
        end
        local key = fields.key
        if type(key) == "table" then
            texts.uri, texts.pin = functions.key_options(key)
            if not texts.uri then
                return nil, "key: " .. texts.pin
            elseif fields.password then
                return nil, "password is for a key in PEM; that of a token is pin, beside uri"
            end
        else
            texts.key, err = read(key)
            if not texts.key then
                return nil, "key: " .. err
            end
            texts.password = fields.password or nil
        end
    end
    local ca = fields.ca or nil
    -- Read files now: perhaps only the process that reads the configuration may.
    if ca and not is_text(ca) then
        settings.store, err = store_of(ca, known.stores)
        if not settings.store then
            return nil, "ca: " .. err
        end
        ca = nil
    end
    local spiffe = fields.verify_spiffe or nil
    for _, options in pairs(spiffe and spiffe.trust_domains or {}) do
        if type(options) ~= "table" or not is_text(options) then
            settings.spiffe, err = spiffe_of(spiffe, known.stores)
            if not settings.spiffe then
                return nil, "verify_spiffe: " .. err
            end
            spiffe = nil
            break
        end
    end
    if next(texts) or ca or spiffe then
        texts.ca, texts.spiffe = ca, spiffe
        settings.texts = texts
    end
    return settings
end


-- Parses the texts of a service's settings, and checks its certificate. Returns true, or nil and an
-- error.
local function parse(settings, known)
    local texts = settings.texts
    local ok, err
    if texts.certificate then
        settings.certificate, err = made(known.chains, texts.certificate, unnoted.chain)
        if not settings.certificate then
            return nil, "certificate: " .. err
        end
        if texts.uri then
            settings.key, err = opened(known.opened, texts.uri, texts.pin)
        else
            settings.key, err = made(known.keys, texts.key, unnoted.key, texts.password)
        end
        if not settings.key then
            return nil, "key: " .. err
        end
        if not settings.key:belongs_to(settings.certificate) then
            return nil, "key: it does not belong to the certificate"
        end
        ok, err = functions.presents(settings.key, settings.certificate)
        if not ok then
            return nil, "certificate: " .. err
        end
    end
    if texts.ca then
        settings.store, err = store_of(texts.ca, known.stores)
        if not settings.store then
            return nil, "ca: " .. err
        end
    end
    if texts.spiffe then
        settings.spiffe, err = spiffe_of(texts.spiffe, known.stores)
        if not settings.spiffe then
            return nil, "verify_spiffe: " .. err
        end
    end
    return true
end


-- Parses the texts once. An error is kept and returned again, unless a token may have caused it.
local function complete(settings, known)
    if settings.texts then
        local ok, err = parse(settings, known)
        if not ok and settings.texts.uri then
            -- A token may come back.
            return nil, err
        end
        settings.texts, settings.mistake = nil, not ok and err or nil
    end
    if settings.mistake then
        return nil, settings.mistake
    end
    return true
end


-- Applies the settings of the service `name`, after it has removed all earlier ones, which may be
-- for another service. To be called in access_by_lua*. Requests for an unknown service, or for one
-- whose settings can't be applied, get 503.
function methods:access(name)
    mistakes.check_object(self, "settings", "services", "access")
    functions.check_method("set_retries", "services:access")
    assert(functions.forget_service())
    local settings = self.settings[name]
    local ok, err
    if settings then
        ok, err = complete(settings, self.known)
        if ok then
            ok, err = apply(settings)
        end
    else
        err = "it is not known"
    end
    if not ok then
        functions.forget_service()
        ngx.log(ngx.ERR, "services: \"", names.shown(tostring(name)), "\": ", err)
        return ngx.exit(503)
    end
end


local meta = { __index = methods }


-- Adds the defaults to the fields of a service. A field that is false removes its default, and so
-- does one of which the service can't have both; `verify = false` also removes the defaults about
-- verification.
local function with_defaults(fields, defaults)
    local all = {}
    for field, value in pairs(defaults) do
        if not (fields.verify == false and VERIFICATION[field] or fields[ALTERNATIVES[field] or field]) then
            all[field] = value
        end
    end
    for field, value in pairs(fields) do
        all[field] = value
    end
    return all
end


-- Returns the table that a Lua file returns. The file has no access to any function.
local function load_table(name)
    local chunk, err = loadfile(name, "t", {})
    if not chunk then
        return nil, "file: " .. err
    end
    local ok, services = pcall(chunk)
    if not ok then
        return nil, "file: " .. services
    end
    if type(services) ~= "table" then
        return nil, "file: " .. name .. ": it must return a table"
    end
    return services
end


local NEW = "services.new"
local OPTIONS = { services = true, file = true, defaults = true, check = true }

local M = {}


-- Makes the table. Options: services, a table of services by name; or file, the name of a Lua file
-- that returns such a table; defaults, the fields for all services that do not set them; and check,
-- which services are checked when the table is made: "all" or "used", which checks each when it is
-- first used. The default is "used" with more than 500 services, and "all" otherwise. The fields of
-- a service:
--
--     upstream, or host and port    its address; by default that of the location
--     certificate, key, password    the certificate it is shown: PEM, or names of files; key may also
--                                   be a table with the uri of a key in a token, and its pin
--     verify                        whether it is verified; true by default
--     depth                         the maximum number of intermediates
--     ca                            trusted certificates: see x509.store; by default the location's
--     server_name                   the name that is sent to it (SNI)
--     verify_names                  the names of which its certificate must have one
--     dns_names, uris               the same, as verify_names = { host = false, dns = ..., uris = ... }
--     pins                          the keys of which its certificate must have one
--     verify_spiffe                 the SPIFFE IDs of which it must have one, and the trusted
--                                   certificates of each trust domain, as in ca
--     options                       versions, ciphers and the like
--
-- A field that is false removes its default.
--
-- Returns nil and an error if the options can't be used.
function M.new(options)
    if type(options) ~= "table" or options == M then
        error(mistakes.about("options must be a table", options, NEW, M), 2)
    end
    mistakes.check_options(options, OPTIONS, 2, NEW)
    local services = options.services
    local err
    if type(options.file) == "string" and not is_given(services) then
        services, err = load_table(options.file)
        if not services then
            return nil, err
        end
    elseif type(services) ~= "table" or is_given(options.file) then
        error("either services must be a table, or file the name of one: " .. NEW, 2)
    end

    local check = options.check
    if is_given(check) and check ~= "all" and check ~= "used" then
        error(mistakes.about("check must be \"all\" or \"used\"", check, NEW), 2)
    end

    local defaults = options.defaults or {}
    err = mistake(defaults)
    if err then
        return nil, "defaults: " .. err
    end
    local known = { chains = {}, keys = {}, opened = {}, stores = {} }
    local settings, count = {}, 0
    for name, fields in pairs(services) do
        local place = "service \"" .. tostring(name) .. "\": "
        err = type(name) ~= "string" and "its name must be a string" or mistake(fields)
        if err then
            return nil, place .. err
        end
        settings[name], err = settings_of(fields, with_defaults(fields, defaults), known)
        if not settings[name] then
            return nil, place .. err
        end
        count = count + 1
    end
    if not is_given(check) then
        check = count > AT_ONCE and "used" or "all"
    end
    if check == "all" then
        for name, of_service in pairs(settings) do
            local ok
            ok, err = complete(of_service, known)
            if not ok then
                return nil, "service \"" .. name .. "\": " .. err
            end
        end
        -- Everything is parsed; do not keep texts of keys.
        known = nil
    end
    return setmetatable({ settings = settings, known = known }, meta)
end


return M
