-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.x509: chains, keys and stores made from PEM, for plugins without another library for
-- that. Make them once, in init_by_lua*, and keep them: each call parses its text.

local functions_of_module, declaration = ...

local ffi = require "ffi"
local functions = require "resty.kong.tls.functions"
local ctypes = require "resty.kong.tls.ctypes"
local is_given = require("resty.kong.tls.values").is_given
local is_chain, strings = functions.is_chain, functions.strings

local type = type
local error = error
local rawset = rawset
local getmetatable = getmetatable
local setmetatable = setmetatable
local ffi_cast = ffi.cast
local ffi_gc = ffi.gc
local ffi_string = ffi.string

local api = ffi_cast(declaration, functions_of_module)
local text = ffi.new("struct { const char *data; size_t length; }")
local pointer = ffi.new("void *[1]")
local number = ffi.new("double[1]")

local OK, NONE = 0, 1

local STACK_OF_X509, EVP_PKEY, X509_STORE = ctypes.STACK_OF_X509, ctypes.EVP_PKEY, ctypes.X509_STORE
local X509, ADDRESSES = ctypes.X509, ctypes.ADDRESSES
local pointers = ctypes.pointers


local function said()
    return ffi_string(text.data, text.length)
end


-- Casts the content of `pointer` to a C type that is freed with the Lua object.
local function owned(ctype, free)
    return ffi_gc(ffi_cast(ctype, pointer[0]), free)
end


local function check(name, value, expected, level)
    if type(value) ~= expected then
        error(name .. " must be a " .. expected, level + 1)
    end
end


-- ---- objects ----------------------------------------------------------------------------------------
--
-- The pointer of an object is not stored in the object, where Lua code could replace it, but in
-- `pointers` of resty.kong.tls.ctypes. The field `ctx` gives other libraries read access to it.

-- Makes an object of a class, with the pointer that it owns.
local function object(meta, ctx)
    local self = setmetatable({}, meta)
    pointers[self] = ctx
    return self
end


-- Returns whether a value is a genuine object of a class.
local function is_a(value, meta)
    return type(value) == "table" and getmetatable(value) == meta and type(pointers[value]) ~= "nil"
end


local function no_assignment(_, name)
    error("an object of resty.kong.x509 can't be changed: " .. tostring(name), 2)
end


-- Makes a class. Fields that are not methods are read by `otherwise`. An imitation of an object has
-- no such fields.
local function class(name, methods, otherwise)
    return {
        __name = name,
        __newindex = no_assignment,
        __index = function(self, field)
            local method = methods[field]
            if method then
                return method
            end
            local ctx = pointers[self]
            if field == "ctx" or type(ctx) == "nil" then
                return ctx
            end
            return otherwise and otherwise(self, field, ctx)
        end,
    }
end


-- ---- certificates -------------------------------------------------------------------------------

local certificate_methods = {}


-- Returns the digest of the whole certificate in lower-case hexadecimal, by default SHA-256.
function certificate_methods:fingerprint(digest)
    digest = digest or "sha256"
    check("digest", digest, "string", 2)
    if api.certificate_fingerprint(pointers[self], digest, #digest, text) == OK then
        return said()
    end
    return nil, said()
end


function certificate_methods:to_pem()
    if api.certificate_to_pem(pointers[self], text) == OK then
        return said()
    end
    return nil, said()
end


local function text_of(call)
    return function(ctx)
        if call(ctx, text) == OK then
            return said()
        end
    end
end


local function date_of(call)
    return function(ctx)
        if call(ctx, number, text) == OK then
            return number[0]
        end
    end
end


-- Returns the alternative names. They arrive in one text, each as kind, NUL, length, colon and
-- name. If they can't be read, returns nil, which is different from an empty list.
local function names_of(ctx)
    if api.certificate_alternative_names(ctx, text) ~= OK then
        return nil
    end
    local sans = { dns = {}, email = {}, uri = {}, ip = {} }
    local all, position = said(), 1
    while true do
        local _, last, kind, length = all:find("^(%a+)%z(%d+):", position)
        if not last then
            return position > #all and sans or nil
        end
        local list = sans[kind]
        list[#list + 1] = all:sub(last + 1, last + length)
        position = last + length + 1
    end
end


-- Fields are read from the certificate on first access.
local certificate_fields = {
    subject = text_of(api.certificate_subject),
    issuer = text_of(api.certificate_issuer),
    serial = text_of(api.certificate_serial),
    common_name = text_of(api.certificate_common_name),
    not_before = date_of(api.certificate_not_before),
    not_after = date_of(api.certificate_not_after),
    sans = names_of,
}

local certificate_meta = class("resty.kong.x509.certificate", certificate_methods, function(self, name, ctx)
    local field = certificate_fields[name]
    if field then
        local value = field(ctx)
        rawset(self, name, value)
        return value
    end
end)


-- ---- chains -------------------------------------------------------------------------------------

local chain_methods = {}


function chain_methods:count()
    return api.chain_count(pointers[self])
end


-- Returns the certificate with this number; the leaf is 1.
function chain_methods:certificate(index)
    if not is_given(index) then
        index = 1
    end
    check("index", index, "number", 2)
    local status = api.chain_certificate(pointers[self], index, pointer, text)
    if status == OK then
        return object(certificate_meta, owned(X509, api.certificate_free))
    elseif status ~= NONE then
        return nil, said()
    end
end


function chain_methods:to_pem()
    local pem = {}
    for index = 1, self:count() do
        local certificate, err = self:certificate(index)
        if certificate then
            pem[index], err = certificate:to_pem()
        end
        if not pem[index] then
            return nil, err
        end
    end
    return table.concat(pem)
end


local chain_meta = class("resty.kong.x509.chain", chain_methods, function(self, key)
    if type(key) == "number" then
        return chain_methods.certificate(self, key)
    end
end)


local function new_chain(make, bytes)
    if make(bytes, #bytes, pointer, text) ~= OK then
        return nil, said()
    end
    return object(chain_meta, owned(STACK_OF_X509, api.chain_free))
end


local function parse_chain(pem)
    return new_chain(api.chain_parse, pem)
end


-- ---- stores -------------------------------------------------------------------------------------

local OPTIONS = {
    pem = "string", file = "string", dir = "string", crl = "string", system = "boolean",
    partial_chain = "boolean", check_revocation = "boolean",
}

local store_methods = {}


-- Implements `verify` and `verify_until`. Wrong arguments throw at the line of the method's caller.
local function verify(self, chain, options)
    if type(chain) == "string" then
        local err
        chain, err = parse_chain(chain)
        if not chain then
            return nil, err, 1 / 0
        end
    end
    local ctx = is_a(chain, chain_meta) and pointers[chain] or chain
    if not is_chain(ctx) then
        error("chain must be a chain or a string", 3)
    end

    local purpose, depth, at = "", -1, 0 / 0
    if is_given(options) then
        check("options", options, "table", 3)
        for name in pairs(options) do
            if name ~= "purpose" and name ~= "depth" and name ~= "at" then
                error("unknown option \"" .. tostring(name) .. "\"", 3)
            end
        end
        if is_given(options.purpose) then
            check("purpose", options.purpose, "string", 3)
            purpose = options.purpose
        end
        if is_given(options.depth) then
            check("depth", options.depth, "number", 3)
            depth = options.depth
            -- This also rejects NaN.
            if not (depth >= 0) then  -- luacheck: ignore 581
                error("depth must not be negative", 3)
            end
        end
        if is_given(options.at) then
            check("at", options.at, "number", 3)
            at = options.at
        end
    end
    number[0] = -1 / 0
    if api.store_verify(pointers[self], ctx, purpose, #purpose, depth, at, number, text) == OK then
        return true, nil, number[0]
    end
    return nil, said(), number[0]
end


-- Verifies a chain, which may be an object, a cdata or PEM, against the store.
function store_methods:verify(chain, options)
    local ok, err = verify(self, chain, options)
    return ok, err
end


-- Like `verify`, but also returns the date, in seconds, from which the result may change. For this
-- module's plugins, which cache the result.
functions.verify_until = verify


local store_meta = class("resty.kong.x509.store", store_methods)


-- ---- the package --------------------------------------------------------------------------------

local M = {}


-- Parses the certificates in a text, the leaf first.
function M.chain(pem)
    check("pem", pem, "string", 2)
    return parse_chain(pem)
end


-- Makes a chain of a single certificate in DER.
function M.chain_from_der(der)
    check("der", der, "string", 2)
    return new_chain(api.chain_from_der, der)
end


local key_methods = {}


-- Returns whether the key belongs to a chain's first certificate.
function key_methods:belongs_to(chain)
    local ctx = is_a(chain, chain_meta) and pointers[chain] or chain
    if not is_chain(ctx) then
        error("chain must be a chain", 2)
    end
    return api.key_belongs_to(pointers[self], ctx) == OK
end


-- For this module's plugins: returns the type of a key if OpenSSL would present a chain with it, or
-- nil and why not.
function functions.presents(key, chain, as_server)
    if api.key_presents(pointers[key], pointers[chain], as_server and 1 or 0, text) == OK then
        return said()
    end
    return nil, said()
end


-- For this module's plugins: returns whether the names of authorities can be sent to clients, or
-- nil and why not.
function functions.has_names(chain)
    if api.chain_has_names(pointers[chain], text) == OK then
        return true
    end
    return nil, said()
end


local key_meta = class("resty.kong.x509.key", key_methods)


-- Parses the first private key in a text.
function M.key(pem, password)
    check("pem", pem, "string", 2)
    if is_given(password) then
        check("password", password, "string", 2)
    end
    if api.key_parse(pem, #pem, password, password and #password or 0, pointer, text) ~= OK then
        return nil, said()
    end
    return object(key_meta, owned(EVP_PKEY, api.key_free))
end


-- Makes a store of trusted certificates: from one or more of pem, file, dir and system, and with
-- crl also revocation lists.
function M.store(options)
    check("options", options, "table", 2)
    for name, value in pairs(options) do
        local expected = OPTIONS[name]
        if not expected then
            error("unknown option \"" .. tostring(name) .. "\"", 2)
        end
        check(name, value, expected, 2)
    end
    local pem, file, dir, crl = options.pem, options.file, options.dir, options.crl
    local flags = (options.system and 1 or 0) + (options.partial_chain and 2 or 0)
                  + (options.check_revocation and 4 or 0)

    if api.store_make(pem, pem and #pem or 0, file, file and #file or 0, dir, dir and #dir or 0,
                      crl, crl and #crl or 0, flags, pointer, text) ~= OK then
        return nil, said()
    end
    return object(store_meta, owned(X509_STORE, api.store_free))
end


local addresses_methods = {}


-- Returns whether an address, in the format of $remote_addr, is in the list.
function addresses_methods:contain(address)
    check("address", address, "string", 2)
    return api.addresses_contain(pointers[self], address, #address) == OK
end


local addresses_meta = class("resty.kong.x509.addresses", addresses_methods)


-- Makes a list of addresses and networks, such as "192.0.2.1", "10.0.0.0/8", "2001:db8::/32" and
-- "unix:".
function M.addresses(ranges)
    check("ranges", ranges, "table", 2)
    local count = #ranges
    for index = 1, count do
        check("each of ranges", rawget(ranges, index), "string", 2)
    end
    local data, lengths = strings(ranges, count)
    if api.addresses_make(data, lengths, count, pointer, text) ~= OK then
        return nil, said()
    end
    return object(addresses_meta, owned(ADDRESSES, api.addresses_free))
end


-- Wraps methods to check their object: called with a dot instead of a colon, a method would take
-- its first argument for the object.
local function guard(methods, meta)
    for name, method in pairs(methods) do
        methods[name] = function(self, ...)
            if not is_a(self, meta) then
                error(name .. " must be called with a colon, as a method", 2)
            end
            return method(self, ...)
        end
    end
end

guard(certificate_methods, certificate_meta)
guard(chain_methods, chain_meta)
guard(store_methods, store_meta)
guard(key_methods, key_meta)
guard(addresses_methods, addresses_meta)


return M
