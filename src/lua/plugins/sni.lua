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

local functions = require "resty.kong.tls.functions"
local ssl = require "ngx.ssl"
local names = require "resty.kong.plugins.names"
local x509 = require "resty.kong.x509"

local type = type
local error = error
local pairs = pairs
local ipairs = ipairs
local setmetatable = setmetatable

-- The name of the certificates for clients that ask for none, or for one that nobody knows.
local DEFAULT = "default"

-- In the shared dict, between the texts of one name.
local SEPARATOR = "\0"

-- In the shared dict, a number that is another one after a name was removed: no name has such a key.
local REMOVALS = "\0removals"

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
    local kind
    kind, err = functions.presents(key, chain, true)
    if not kind then
        return nil, err
    end
    return { chain = chain, key = key, kind = kind }
end


-- No number comes twice, whoever empties the dict: of the numbers of a millisecond there are more than there
-- could be removals in it.
local function begin_removals(dict)
    ngx.update_time()
    return dict:safe_add(REMOVALS, math.floor(ngx.now() * 1000) * 4096 + math.random(0, 2047))
end


-- Drops the keys of names that were removed since this was last called, in whatever worker.
local function forget_removed(self)
    local removals = self.dict:get(REMOVALS)
    if removals ~= self.removals then
        self.removals = removals
        for name in pairs(self.parsed) do
            -- What is there has a time to live; of what was flushed it is over.
            local left = self.dict:ttl(name)
            if not left or left < 0 then
                self.parsed[name] = nil
            end
        end
    end
end


-- The certificates of a name that is in the dict, where another worker may have put them.
local function parsed(self, name)
    local texts = self.dict:get(name)
    if not texts then
        self.parsed[name] = nil
        return nil
    end
    local known = self.parsed[name]
    if known and known.texts == texts then
        return known
    end
    local list = { texts = texts }
    for pem in (texts .. SEPARATOR):gmatch("(.-)%z") do
        local one, err = parse(pem)
        if not one then
            return nil, err
        end
        list[#list + 1] = one
    end
    self.parsed[name] = list
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
        -- OpenSSL has one of each.
        if kinds[one.kind] then
            return nil, name .. ", " .. index .. ": " .. kinds[one.kind] .. " has a key of the same type, "
                        .. one.kind
        end
        kinds[one.kind] = index
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


-- Forgets the certificates of a name: this worker now, the others when they are next asked for any.
function methods:remove(name)
    self.dict:delete(check_name(name))
    -- It is there, unless somebody has emptied the dict.
    if not self.dict:incr(REMOVALS, 1) then
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
    return setmetatable({ dict = dict, parsed = {} }, meta)
end


return M
