-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.x509: chains, keys and stores made from PEM, for plugins without another library for
-- that. Make them once, in init_by_lua*, and keep them: each call parses its text.

local natives = ...

local at_init = require "resty.kong.tls.at_init"
local functions = require "resty.kong.tls.functions"
local mistakes = require "resty.kong.tls.mistakes"
local objects = require "resty.kong.tls.objects"
local is_given = require("resty.kong.tls.values").is_given
local about, check_type, unknown = mistakes.about, mistakes.check_type, mistakes.unknown
local class, kind_of = objects.class, objects.kind_of

local type = type
local error = error
local next = next
local pairs = pairs
local rawequal = rawequal
local rawget = rawget

-- ---- certificates -------------------------------------------------------------------------------

local certificate_methods = {}


-- Returns the digest of the whole certificate in lower-case hexadecimal, by default SHA-256.
function certificate_methods:fingerprint(digest)
    digest = digest or "sha256"
    check_type("digest", digest, "string", 2, "certificate:fingerprint")
    return natives.fingerprint(self, digest)
end


-- Returns the thumbprint of the certificate as tokens have it that are bound to a certificate (RFC
-- 8705, section 3.1): SHA-256 in base64url.
certificate_methods.thumbprint = natives.thumbprint


-- Returns whether a token is bound to this certificate: `cnf` is its claim of this name, or the
-- thumbprint in it. A claim may be anything.
function certificate_methods:confirms(cnf)
    if type(cnf) == "table" then
        cnf = rawget(cnf, "x5t#S256")
    end
    return type(cnf) == "string" and cnf == natives.thumbprint(self)
end


certificate_methods.to_pem = natives.certificate_to_pem

local CERTIFICATE_FIELDS = {
    subject = natives.subject,
    issuer = natives.issuer,
    serial = natives.serial,
    common_name = natives.common_name,
    not_before = natives.not_before,
    not_after = natives.not_after,
    sans = natives.sans,
}

-- The fields that were read, by certificate.
local known = setmetatable({}, { __mode = "k" })

class("certificate", "resty.kong.x509", certificate_methods, function(self, name)
    local read = CERTIFICATE_FIELDS[name]
    if not read then
        return nil
    end
    local fields = known[self]
    if not fields then
        fields = {}
        known[self] = fields
    end
    if fields[name] == nil then
        -- A field that can't be read is nil, which is different from an empty list of names.
        fields[name] = (read(self))
    end
    return fields[name]
end)


-- ---- chains -------------------------------------------------------------------------------------

local chain_methods = { count = natives.chain_count, to_pem = natives.chain_to_pem }


-- Returns the certificate with this number; the leaf is 1.
function chain_methods:certificate(index)
    if not is_given(index) then
        index = 1
    end
    check_type("index", index, "number", 2, "chain:certificate")
    return natives.chain_certificate(self, index)
end


class("chain", "resty.kong.x509", chain_methods, function(self, index)
    if type(index) == "number" then
        return natives.chain_certificate(self, index)
    end
end)


-- Returns an object for a chain, which may be another library's; nil and an error if there is none
-- behind the pointer. Throws for other values, at the `level` of `error` seen from the caller, which
-- is the method `label`.
local function chain_of(value, expected, level, label)
    if kind_of(value) == "chain" then
        return value
    end
    if not functions.is_chain(value) then
        local remedy = mistakes.remedy("chain", value, functions.is_chain)
        error(about("chain must be a " .. expected, value, label, nil, remedy), level + 1)
    end
    return functions.adopt_chain(value)
end


-- ---- keys ---------------------------------------------------------------------------------------

local key_methods = {}


-- Returns whether the key belongs to a chain's first certificate.
function key_methods:belongs_to(chain)
    chain = chain_of(chain, "chain", 2, "key:belongs_to")
    return chain ~= nil and natives.key_belongs_to(self, chain)
end


class("key", "resty.kong.x509", key_methods)


-- ---- stores -------------------------------------------------------------------------------------

local store_methods = {}

local VERIFY = "store:verify"
local VERIFY_OPTIONS = { purpose = true, depth = true, at = true }


-- Implements `verify` and `verify_until`. Wrong arguments throw at `level`, as of `error`. Also
-- returns the date, in seconds, from which the result may change, and the chain that was verified.
local function verify(self, chain, options, level)
    local err
    local changes = -1 / 0
    if type(chain) == "string" then
        chain, err = natives.chain(chain)
        changes = 1 / 0
    else
        chain, err = chain_of(chain, "chain or a string", level, VERIFY)
    end
    local purpose, depth, at
    if is_given(options) then
        check_type("options", options, "table", level, VERIFY)
        for name in pairs(options) do
            if not VERIFY_OPTIONS[name] then
                error(unknown("option", name, VERIFY_OPTIONS) .. ": " .. VERIFY, level)
            end
        end
        purpose, depth, at = options.purpose, options.depth, options.at
        if is_given(purpose) then
            check_type("purpose", purpose, "string", level, VERIFY)
        end
        if is_given(depth) then
            check_type("depth", depth, "number", level, VERIFY)
            -- This also rejects NaN.
            if not (depth >= 0) then  -- luacheck: ignore 581
                error(about("depth must not be negative", depth, VERIFY), level)
            end
        end
        if is_given(at) then
            check_type("at", at, "number", level, VERIFY)
            if at ~= at then
                error("at must not be NaN: " .. VERIFY, level)
            end
        end
    end
    if not chain then
        return nil, err, changes
    end
    local store = objects.current(self)
    if not store then
        return nil, "internal error, see the error log", changes
    end
    return natives.store_verify(store, chain, purpose, depth, at)
end


-- Verifies a chain, which may be an object, a cdata or PEM, against the store.
function store_methods:verify(chain, options)
    local ok, err = verify(self, chain, options, 3)
    return ok, err
end


-- Like `verify`, but also returns the date from which the result may change, and the chain that was
-- verified, from the leaf to what is trusted. For this module's plugins, which cache the result.
function functions.verify_until(store, chain, options)
    local ok, err, changes, verified = verify(store, chain, options, 3)
    -- After an internal error, the result may change at once.
    return ok, err, changes or -1 / 0, verified
end


class("store", "resty.kong.x509", store_methods)


-- ---- the package --------------------------------------------------------------------------------

local M = { addresses = require("resty.kong.addresses").new }


-- Parses the certificates in a text, the leaf first.
function M.chain(pem)
    check_type("pem", pem, "string", 2, "resty.kong.x509.chain", M)
    return at_init.object(natives.chain(pem))
end


-- Makes a chain of a single certificate in DER.
function M.chain_from_der(der)
    check_type("der", der, "string", 2, "resty.kong.x509.chain_from_der", M)
    return at_init.object(natives.chain_from_der(der))
end


local KEY = "resty.kong.x509.key"

local KEY_OPTIONS = { uri = "string", pin = "string" }


-- Returns the URI and the pin of a key, or nil and what is wrong with them.
local function key_options(options)
    for name in pairs(options) do
        if not KEY_OPTIONS[name] then
            return nil, unknown("option", name, KEY_OPTIONS)
        end
    end
    -- Each is read only once: a metamethod could give another value the next time.
    local uri, pin = options.uri, options.pin
    if type(uri) ~= "string" then
        return nil, about("uri must be a string", uri)
    elseif is_given(pin) and type(pin) ~= "string" then
        return nil, "pin must be a string: given a " .. type(pin)
    end
    return uri, is_given(pin) and pin or nil
end

-- For this module's plugins, which have such options among theirs.
functions.key_options = key_options


-- Parses the first private key in a text; or opens the one in a token that `uri` names, in a table
-- in place of the text.
function M.key(pem, password)
    if type(pem) == "table" and next(pem) ~= nil and not rawequal(pem, M) then
        local uri, pin = key_options(pem)
        if not uri then
            error(pin .. ": " .. KEY, 2)
        elseif is_given(password) then
            error("password is for a key in PEM; that of a token is pin, beside uri: " .. KEY, 2)
        end
        return natives.stored_key(uri, pin)
    end
    check_type("pem", pem, "string", 2, KEY, M)
    if is_given(password) then
        check_type("password", password, "string", 2, KEY)
    end
    return natives.key(pem, password)
end


local STORE_OPTIONS = {
    pem = "string", file = "string", dir = "string", crl = "string", crl_file = "string", system = "boolean",
    partial_chain = "boolean", check_revocation = "boolean", leaf_only = "boolean", on_expired = "string",
    refresh = "number",
}


-- Returns what is wrong with the options of a store as a whole, or nil.
local function store_mistake(given)
    local refresh, on_expired = given.refresh, given.on_expired
    if refresh then
        -- This also rejects NaN.
        if not (refresh >= 1 and refresh < 1 / 0) then
            return about("refresh must be a number of seconds, and at least 1", refresh)
        elseif not (given.file or given.dir or given.crl_file) then
            return "refresh is for files: one of file, dir and crl_file is needed"
        end
    end
    if on_expired and on_expired ~= "refuse" and on_expired ~= "accept" then
        return about("on_expired must be \"refuse\" or \"accept\"", on_expired)
    end
    if (on_expired or given.leaf_only) and not (given.crl or given.crl_file or given.check_revocation) then
        return (on_expired and "on_expired" or "leaf_only")
            .. " says how revocation is checked: one of crl, crl_file and check_revocation is needed"
    end
end


-- Returns the given options of a store, or nil and what is wrong with them. Each is read only once:
-- a metamethod could give another value the next time.
local function store_options(options)
    for name in pairs(options) do
        if not STORE_OPTIONS[name] then
            return nil, unknown("option", name, STORE_OPTIONS)
        end
    end
    local given = {}
    for name, expected in pairs(STORE_OPTIONS) do
        local value = options[name]
        if is_given(value) then
            if type(value) ~= expected then
                return nil, about(name .. " must be a " .. expected, value)
            end
            given[name] = value
        end
    end
    local mistake = store_mistake(given)
    if mistake then
        return nil, mistake
    end
    return given
end

-- For this module's plugins, which have such options among theirs.
functions.store_options = store_options


-- Makes a store of options that `store_options` has returned.
local function store_of(given)
    return natives.store(given.pem, given.file, given.dir, given.crl, given.crl_file, given.system,
                         given.partial_chain, given.check_revocation, given.leaf_only,
                         given.on_expired == "accept", given.refresh)
end


local STORE = "resty.kong.x509.store"

-- Makes a store of trusted certificates: from one or more of pem, file, dir and system, and with
-- crl and crl_file also revocation lists. With refresh, its files are read again when they change.
function M.store(options)
    if type(options) ~= "table" or rawequal(options, M) then
        error(about("options must be a table", options, STORE, M), 2)
    end
    local given, mistake = store_options(options)
    if not given then
        error(mistake .. ": " .. STORE, 2)
    end
    return at_init.object(store_of(given))
end


-- For this module's plugins: make objects that have nothing to do with how clients are asked. A plugin
-- makes them in no certain order, which would count if they were noted.
functions.unnoted = { chain = natives.chain, key = natives.key, stored_key = natives.stored_key, store = store_of }

-- For this module's plugins: returns the type of a key if OpenSSL would present a chain with it, or
-- nil and why not.
functions.presents = natives.key_presents

-- For this module's plugins: returns the organizational units in the subject of a certificate, or nil
-- and an error.
functions.organizational_units = natives.organizational_units

-- For this module's plugins: makes a chain of the headers that a proxy sends; and returns the values
-- of those by which a gateway forwards a chain, or nil and an error. Their names are in
-- certificate_headers.
functions.chain_from_headers = natives.chain_from_headers
functions.headers_of_chain = natives.headers_of_chain
functions.certificate_headers = natives.certificate_headers

-- For this module's plugins: returns whether the names of authorities can be sent to clients, or
-- nil and why not.
functions.has_names = natives.chain_has_names


return M
