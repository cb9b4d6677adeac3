-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.sni: selects the server's certificates by the server name (SNI) of the client.
--
--     init_by_lua_block {
--         certificates = assert(require("resty.kong.plugins.sni").new {
--             dict = "certificates",
--         })
--         assert(certificates:set("a.test", pem))
--     }
--     ssl_certificate_by_lua_block { certificates:select() }
--
-- Certificates are kept as PEM in a lua_shared_dict: a change in one worker takes effect in all of
-- them, from the next handshake on. Each worker parses a text once.

local bounded = require "resty.kong.plugins.bounded"
local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local ssl = require "ngx.ssl"
local names = require "resty.kong.plugins.names"
require "resty.kong.x509"

local type = type
local error = error
local pairs = pairs
local ipairs = ipairs
local setmetatable = setmetatable
local count_cache, unnoted = functions.count_cache, functions.unnoted
local check_object = mistakes.check_object
local is_list_of_strings = require("resty.kong.tls.values").is_list_of_strings

-- The name of the certificates for clients that send no server name, or an unknown one.
local DEFAULT = "default"

-- Separates the texts of one name in the dict.
local SEPARATOR = "\0"

-- Keys in the dict for the count of removals, and for each of the last removed names. No name looks
-- like them.
local REMOVALS = "\0removals"
local REMOVED = "\0removed"
local LAST = 512

-- The limits of a worker's parsed certificates; BYTES limits the size of their texts. Parsed, a
-- text takes about four times as much.
local BYTES = 8 * 1024 * 1024
local NAMES = 16384
-- The name of this cache in the status.
local CACHE = "server_certificates"

-- The number of names after which `set_all` yields.
local TURN = 32
local MAY_YIELD = { rewrite = true, access = true, content = true, timer = true }

local methods = {}


-- Parses certificates and the key of the first one.
local function parse(pem)
    local chain, key, err
    chain, err = unnoted.chain(pem)
    if not chain then
        return nil, err
    end
    key, err = unnoted.key(pem)
    if not key then
        return nil, err
    end
    if not key:belongs_to(chain) then
        return nil, "the key does not belong to the first certificate"
    end
    return { chain = chain, key = key }
end


-- Starts the count of removals at a number that was not used before, even if the dict was emptied:
-- it advances by 4096 per millisecond, faster than names could be removed.
local function begin_removals(dict)
    ngx.update_time()
    return dict:safe_add(REMOVALS, math.floor(ngx.now() * 1000) * 4096 + math.random(0, 2047))
end


-- Drops parsed names that any worker has removed since the last call.
local function forget_removed(self)
    local removals, known = self.dict:get(REMOVALS), self.removals
    if removals == known then
        return
    end
    self.removals = removals
    if not removals or not known or removals < known or removals - known > LAST then
        return self.parsed:clear()
    end
    for number = known + 1, removals do
        local entry = self.dict:get(REMOVED .. number % LAST)
        local prefix = number .. ":"
        if not entry or entry:sub(1, #prefix) ~= prefix then
            return self.parsed:clear()
        end
        self.parsed:remove(entry:sub(#prefix + 1))
    end
end


-- Returns the parsed certificates of a name in the dict; any worker may have put them there.
local function parsed(self, name)
    local texts = self.dict:get(name)
    if not texts then
        self.parsed:remove(name)
        return nil
    end
    local known = self.parsed:get(name)
    if known and known.texts == texts then
        count_cache(CACHE, functions.HIT)
        return known
    end
    count_cache(CACHE, functions.MISS)
    local list = { texts = texts }
    for pem in (texts .. SEPARATOR):gmatch("(.-)%z") do
        local one, err = parse(pem)
        if not one then
            return nil, err
        end
        list[#list + 1] = one
    end
    self.parsed:set(name, list, #texts)
    return list
end


local function check_name(name, label)
    mistakes.check_type("name", name, "string", 3, label)
    local normalized = names.check(name)
    if not normalized then
        error("name must be a host name, \"*.\" and a host name, or \"default\": given \"" .. name .. "\": " .. label, 3)
    end
    return normalized
end


-- Sets the certificates of a name: the PEM of a certificate, its intermediates and its key, or a
-- list of such texts with keys of different types. Returns true, or nil and an error; in that case
-- nothing changes.
function methods:set(name, pem)
    check_object(self, "dict", "sni", "set")
    name = check_name(name, "sni:set")
    local list = type(pem) == "table" and pem or { pem }
    if not is_list_of_strings(list) or #list == 0 then
        error(mistakes.about_strings("pem must be a string, or a list of strings", pem, "sni:set"), 2)
    end
    local kinds = {}
    for index, text in ipairs(list) do
        if text:find(SEPARATOR, 1, true) then
            return nil, name .. ", " .. index .. ": there is a NUL in it"
        end
        local one, err = parse(text)
        if not one then
            return nil, name .. ", " .. index .. ": " .. err
        end
        local kind
        kind, err = functions.presents(one.key, one.chain, true)
        if not kind then
            return nil, name .. ", " .. index .. ": " .. err
        end
        -- OpenSSL keeps one certificate per type of key.
        if kinds[kind] then
            return nil, name .. ", " .. index .. ": " .. kinds[kind] .. " has a key of the same type, " .. kind
        end
        kinds[kind] = index
    end
    local before = self.dict:get(name)
    local ok, err = self.dict:safe_set(name, table.concat(list, SEPARATOR))
    if not ok then
        -- The failed call may have removed the previous value.
        if before then
            self.dict:safe_set(name, before)
        end
        return nil, name .. ": lua_shared_dict: " .. err
    end
    return true
end


-- Sets the certificates of many names; each value is an argument of `set`. Yields to other requests
-- if the phase allows it (rewrite, access, content, timers). Returns true, or nil and the first
-- error; other names may have been set.
function methods:set_all(certificates)
    check_object(self, "dict", "sni", "set_all")
    if type(certificates) ~= "table" then
        error(mistakes.about("certificates must be a table, by names", certificates, "sni:set_all"), 2)
    end
    local all = {}
    for name in pairs(certificates) do
        all[#all + 1] = check_name(name, "sni:set_all") and name
    end
    local may_yield = MAY_YIELD[ngx.get_phase()]
    for number, name in ipairs(all) do
        local ok, err = self:set(name, certificates[name])
        if not ok then
            return nil, err
        end
        if may_yield and number % TURN == 0 then
            ngx.sleep(0)
        end
    end
    return true
end


-- Removes the certificates of a name. This worker forgets them now, others when they next look up
-- any name.
function methods:remove(name)
    check_object(self, "dict", "sni", "remove")
    name = check_name(name, "sni:remove")
    self.dict:delete(name)
    local number = self.dict:incr(REMOVALS, 1)
    if number then
        -- A worker that does not find this entry forgets all names.
        self.dict:safe_set(REMOVED .. number % LAST, number .. ":" .. name)
    else
        -- The count is gone: the dict was emptied.
        begin_removals(self.dict)
    end
    forget_removed(self)
end


-- Returns the certificates for a name: its own, else those of the longest matching "*." name, else
-- the default. As in nginx's server_name, "*." matches any number of labels.
function methods:find(name)
    check_object(self, "dict", "sni", "find")
    if type(name) ~= "nil" then
        mistakes.check_type("name", name, "string", 2, "sni:find")
    end
    forget_removed(self)
    name = name and names.check(name)
    if name then
        local found, err = parsed(self, name)
        if found or err then
            return found, err
        end
        local dot = name:find(".", 1, true)
        while dot do
            found, err = parsed(self, "*" .. name:sub(dot))
            if found or err then
                return found, err
            end
            dot = name:find(".", dot + 1, true)
        end
    end
    return parsed(self, DEFAULT)
end


-- Presents the certificates for the client's server name. To be called in ssl_certificate_by_lua*.
-- If there are none, and no default, those of the configuration are used. An error ends the
-- handshake.
function methods:select()
    check_object(self, "dict", "sni", "select")
    functions.check_method("request_client_certificate", "sni:select")
    local name, err = ssl.server_name()
    if err then
        error("server name: " .. err)
    end
    local certificates
    certificates, err = self:find(name)
    if err then
        error(names.shown(name or DEFAULT) .. ": " .. err)
    end
    if not certificates then
        return
    end
    assert(ssl.clear_certs())
    for _, one in ipairs(certificates) do
        assert(ssl.set_cert(one.chain.ctx))
        assert(ssl.set_priv_key(one.key.ctx))
    end
end


local meta = { __index = methods }

local NEW = "sni.new"
local OPTIONS = { dict = true }

local M = {}


-- Makes the plugin. Options: dict, the name of a lua_shared_dict with room for all certificates.
function M.new(options)
    local is_table = type(options) == "table" and options ~= M
    if is_table then
        mistakes.check_options(options, OPTIONS, 2, NEW)
    end
    if not is_table or type(options.dict) ~= "string" then
        local given = is_table and options.dict or options
        error(mistakes.about("options.dict must be the name of a lua_shared_dict", given, NEW, M), 2)
    end
    local dict = ngx.shared[options.dict]
    if not dict then
        return nil, "there is no lua_shared_dict \"" .. options.dict .. "\""
    end
    -- Added now, while there is room: incrementing it later needs no memory.
    local ok, err = begin_removals(dict)
    if not ok and err ~= "exists" then
        return nil, "lua_shared_dict \"" .. options.dict .. "\": " .. err
    end
    return setmetatable({ dict = dict, parsed = bounded.new(CACHE, NAMES, BYTES) }, meta)
end


return M
