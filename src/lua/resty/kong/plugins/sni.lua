-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.plugins.sni: the server's certificates by the name that the client asks for (SNI).
--
--     init_by_lua_block {
--         certificates = assert(require("resty.kong.plugins.sni").new {
--             dict = "certificates",
--         })
--         assert(certificates:set("a.test", pem))
--     }
--     ssl_certificate_by_lua_block { certificates:select() }
--
-- Certificates are kept as PEM in a lua_shared_dict: what one worker changes holds for all of them, from
-- the next handshake on. Each worker parses a text once.

local bounded = require "resty.kong.plugins.bounded"
local functions = require "resty.kong.tls.functions"
local ssl = require "ngx.ssl"
local names = require "resty.kong.plugins.names"
local x509 = require "resty.kong.x509"

local type = type
local error = error
local pairs = pairs
local ipairs = ipairs
local setmetatable = setmetatable
local count_cache = functions.count_cache

-- The name of the certificates for clients that ask for none, or for one that nobody knows.
local DEFAULT = "default"

-- In the shared dict, between the texts of one name.
local SEPARATOR = "\0"

-- In the shared dict, how many names were removed, from some number on, and the last of them: no name has such keys.
local REMOVALS = "\0removals"
local REMOVED = "\0removed"
local LAST = 512

-- What a worker keeps parsed: so many bytes of texts. What is made of a text takes about four times as much.
local BYTES = 8 * 1024 * 1024
local NAMES = 16384
-- What that is called in the status.
local CACHE = "server_certificates"

-- After so many names, others get to run.
local TURN = 32
local MAY_YIELD = { rewrite = true, access = true, content = true, timer = true }

local methods = {}


-- What a text holds: certificates, and the key of the first.
local function parse(pem)
    local chain, key, err
    chain, err = x509.chain(pem)
    if not chain then
        return nil, err
    end
    key, err = x509.key(pem)
    if not key then
        return nil, err
    end
    if not key:belongs_to(chain) then
        return nil, "the key does not belong to the first certificate"
    end
    return { chain = chain, key = key }
end


-- No number comes twice, whoever empties the dict: of the numbers of a millisecond there are more than there
-- could be removals in it.
local function begin_removals(dict)
    ngx.update_time()
    return dict:safe_add(REMOVALS, math.floor(ngx.now() * 1000) * 4096 + math.random(0, 2047))
end


-- Drops the keys of names that were removed since this was last called, in whatever worker.
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


-- The certificates of a name that is in the dict, where another worker may have put them.
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


local function check_name(name)
    if type(name) ~= "string" then
        error("name must be a string", 3)
    end
    local normalized = names.check(name)
    if not normalized then
        error("name must be a host name, \"*.\" and a host name, or \"default\": given \"" .. name .. "\"", 3)
    end
    return normalized
end


-- Sets the certificates of a name: PEM of a certificate, its intermediates and its key, or a list of
-- such texts with keys of different types. Returns true, or nil and what is wrong; then nothing changes.
function methods:set(name, pem)
    name = check_name(name)
    local list = type(pem) == "table" and pem or { pem }
    if #list == 0 then
        error("pem must be a string, or a list of strings", 2)
    end
    local kinds = {}
    for index, text in ipairs(list) do
        if type(text) ~= "string" then
            error("pem must be a string, or a list of strings", 2)
        end
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
        -- OpenSSL has one of each.
        if kinds[kind] then
            return nil, name .. ", " .. index .. ": " .. kinds[kind] .. " has a key of the same type, " .. kind
        end
        kinds[kind] = index
    end
    local before = self.dict:get(name)
    local ok, err = self.dict:safe_set(name, table.concat(list, SEPARATOR))
    if not ok then
        -- The dict has made room by what was there.
        if before then
            self.dict:safe_set(name, before)
        end
        return nil, name .. ": lua_shared_dict: " .. err
    end
    return true
end


-- Sets the certificates of many names, by a table of what `set` takes. Handshakes and other requests go on
-- meanwhile, where the phase allows it (rewrite, access, content, timers). Returns true, or nil and what is wrong
-- with the first for which something is; others may be set.
function methods:set_all(certificates)
    if type(certificates) ~= "table" then
        error("certificates must be a table, by names", 2)
    end
    local all = {}
    for name in pairs(certificates) do
        all[#all + 1] = check_name(name) and name
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


-- Forgets the certificates of a name: this worker now, the others when they are next asked for any.
function methods:remove(name)
    name = check_name(name)
    self.dict:delete(name)
    local number = self.dict:incr(REMOVALS, 1)
    if number then
        -- Who does not find it there forgets all names.
        self.dict:safe_set(REMOVED .. number % LAST, number .. ":" .. name)
    else
        -- Somebody has emptied the dict.
        begin_removals(self.dict)
    end
    forget_removed(self)
end


-- The certificates for a name: its own, else those of "*." and what is behind one of its dots, the longest first,
-- else the default. As nginx has it for server_name, "*." stands for any number of labels.
function methods:find(name)
    if type(name) ~= "string" and type(name) ~= "nil" then
        error("name must be a string", 2)
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


-- To be called in ssl_certificate_by_lua*: presents the certificates for the name that the client asks
-- for. Where there are none, and no default, those of the configuration stay. An error ends the
-- handshake.
function methods:select()
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

local M = {}


-- Options: dict, the name of a lua_shared_dict that has room for all of the certificates.
function M.new(options)
    if type(options) ~= "table" or type(options.dict) ~= "string" then
        error("options.dict must be the name of a lua_shared_dict", 2)
    end
    local dict = ngx.shared[options.dict]
    if not dict then
        return nil, "there is no lua_shared_dict \"" .. options.dict .. "\""
    end
    -- Made while there is room: to count on takes none.
    local ok, err = begin_removals(dict)
    if not ok and err ~= "exists" then
        return nil, "lua_shared_dict \"" .. options.dict .. "\": " .. err
    end
    return setmetatable({ dict = dict, parsed = bounded.new(CACHE, NAMES, BYTES) }, meta)
end


return M
