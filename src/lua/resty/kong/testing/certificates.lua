-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.testing.certificates: stand-ins for what resty.kong.x509 has in Rust (src/lua/x509.rs,
-- src/lua/objects.rs). Certificates and keys have names, and no content.

local error, io, ipairs, pairs, table, tonumber, tostring, type = error, io, ipairs, pairs, table, tonumber, tostring, type
local state = require "resty.kong.testing.state"
local values = require "resty.kong.testing.values"

local new_value, objects = values.new_value, values.objects

local M = {}

-- The certificates that `certificate` has made, by name.
local certificates = {}

local FIELDS = {
    subject = true, common_name = true, issuer = true, serial = true, not_before = true, not_after = true,
    sans = true, fingerprint = true,
}


local function pem_of(label, name)
    return "-----BEGIN " .. label .. "-----\n" .. name .. "\n-----END " .. label .. "-----\n"
end


-- Makes a text that resty.kong.x509's `chain` and `store` take for a certificate in PEM. Its fields
-- are those in `fields`, and `fingerprint`; by default it is issued by itself.
function M.certificate(name, fields)
    if type(name) ~= "string" or not name:find("^[%w][%w ._-]*$") then
        error("name must be of letters, digits, \" \", \".\", \"_\" and \"-\"", 2)
    end
    local subject = fields and fields.subject or "CN=" .. name
    local sans = fields and fields.sans or {}
    local all = {
        subject = subject, common_name = name, issuer = subject, serial = "01", not_before = 0,
        not_after = 4102444800,
    }
    for field, value in pairs(fields or {}) do
        if not FIELDS[field] then
            error("unknown field \"" .. tostring(field) .. "\"", 2)
        end
        all[field] = value
    end
    all.sans = { dns = sans.dns or {}, email = sans.email or {}, uri = sans.uri or {}, ip = sans.ip or {} }
    certificates[name] = all
    return pem_of("CERTIFICATE", name)
end


-- Makes a text that resty.kong.x509's `key` takes for the private key of the certificate with this
-- name.
function M.key(name)
    return pem_of("PRIVATE KEY", name)
end


-- The metatables of objects, by kind.
local classes = {}


local function new_object(kind, known)
    known.kind = kind
    local object = new_value(classes[kind])
    objects[object] = known
    return object
end


-- Returns the names in the blocks of a text with this label, with the line of each.
local function blocks_of(pem, label)
    local found = {}
    for position, name in pem:gmatch("()%-%-%-%-%-BEGIN " .. label .. "%-%-%-%-%-\n(.-)\n%-%-%-%-%-END") do
        local _, lines = pem:sub(1, position):gsub("\n", "")
        found[#found + 1] = { name = name, line = lines + 1 }
    end
    return found
end


-- Returns the error about a text that has no block of a kind (src/openssl/pem.rs).
local function nothing(what, text)
    local is_file_name = #text <= 255 and text:find("[/.]") and not text:find("%c")
    return "no " .. what .. " in PEM format found" .. (is_file_name and ": give the text of the file, not its name" or "")
end


local function chain_of(pem)
    local chain = {}
    for number, block in ipairs(blocks_of(pem, "CERTIFICATE")) do
        if not certificates[block.name] then
            return nil, ("certificate %d (line %d): resty.kong.testing did not make it"):format(number, block.line)
        end
        chain[number] = new_object("certificate", { name = block.name, fields = certificates[block.name] })
    end
    if not chain[1] then
        return nil, nothing("certificate", pem)
    end
    return new_object("chain", chain)
end


-- Returns a number of hexadecimal digits that depend on a text.
local function digits_of(text, count)
    local hash, digits = 5381, ""
    repeat
        for index = 1, #text do
            hash = (hash * 33 + text:byte(index)) % 4294967296
        end
        digits = digits .. ("%08x"):format(hash)
    until #digits >= count
    return digits:sub(1, count)
end


local DIGITS = { md5 = 32, sha1 = 40, sha224 = 56, sha256 = 64, sha384 = 96, sha512 = 128 }


-- Adds the certificates in a text to what a store trusts.
local function trust(store, setting, pem)
    local chain, err = chain_of(pem)
    if not chain then
        return nil, setting .. ": " .. err
    end
    for _, certificate in ipairs(objects[chain]) do
        store.subjects[objects[certificate].fields.subject] = true
        store.names[objects[certificate].name] = true
    end
    return true
end


-- The natives of resty.kong.x509 (src/lua/x509.rs).
local x509 = { chain = chain_of }

for field in pairs(FIELDS) do
    x509[field] = function(certificate)
        return objects[certificate].fields[field]
    end
end


function x509.fingerprint(certificate, digest)
    local known = objects[certificate]
    if not DIGITS[digest] then
        return nil, "there is no digest \"" .. digest .. "\""
    end
    return digest == "sha256" and known.fields.fingerprint or digits_of(digest .. known.name, DIGITS[digest])
end


local BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


-- In base64url, each three hexadecimal digits are two characters; the last one of 64 is followed by bits of 0.
function x509.thumbprint(certificate)
    local digits = x509.fingerprint(certificate, "sha256") .. "00"
    local text = digits:gsub("%x%x%x", function(three)
        local number = tonumber(three, 16)
        local low = number % 64
        local high = (number - low) / 64
        return BASE64URL:sub(high + 1, high + 1) .. BASE64URL:sub(low + 1, low + 1)
    end)
    return text:sub(1, 43)
end


function x509.certificate_to_pem(certificate)
    return pem_of("CERTIFICATE", objects[certificate].name)
end


function x509.chain_from_der()
    error("resty.kong.testing has no certificates in DER", 0)
end


function x509.chain_count(chain)
    return #objects[chain]
end


function x509.chain_certificate(chain, index)
    return objects[chain][index]
end


function x509.chain_to_pem(chain)
    local texts = {}
    for number, certificate in ipairs(objects[chain]) do
        texts[number] = x509.certificate_to_pem(certificate)
    end
    return table.concat(texts)
end


function x509.key(pem)
    local block = blocks_of(pem, "PRIVATE KEY")[1]
    if not block then
        return nil, nothing("key", pem)
    end
    return new_object("key", { name = block.name })
end


-- The key of the certificate whose name is the URI's object.
function x509.stored_key(uri)
    local token, name = uri:match("^pkcs11:.*token="), uri:match("[:;]object=([^;?&]+)")
    if not token or not name then
        return nil, "uri must name the token (token or serial) and the key (object or id)"
    end
    return new_object("key", { name = name })
end


function x509.key_belongs_to(key, chain)
    return objects[key].name == objects[objects[chain][1]].name
end


-- Returns the content of the file that a setting names.
local function content(setting, name)
    local file, reason, number = io.open(name)
    if not file then
        return nil, ("%s \"%s\": %s (os error %d)"):format(setting, name, reason:sub(#name + 3), number)
    end
    local text = file:read("*a")
    file:close()
    return text
end


-- Nothing is revoked, and nothing is read again.
function x509.store(pem, file, dir, _, crl_file, system)
    if not (pem or file or dir or system) then
        return nil, "nothing to trust: one of pem, file, dir and system is needed"
    end
    local store = { subjects = {}, names = {} }
    local ok, err = true, nil
    if pem then
        ok, err = trust(store, "pem", pem)
    end
    if ok and file then
        ok, err = content("file", file)
        if ok then
            ok, err = trust(store, "file \"" .. file .. "\"", ok)
        end
    end
    if ok and crl_file then
        ok, err = content("crl_file", crl_file)
    end
    if not ok then
        return nil, err
    end
    return new_object("store", store)
end


-- A chain is good if its last certificate, or the issuer of that, is trusted.
function x509.store_verify(store, chain, purpose)
    if purpose and purpose ~= "clientAuth" and purpose ~= "serverAuth" and purpose ~= "any" then
        return nil, "purpose must be \"clientAuth\", \"serverAuth\" or \"any\"", -1 / 0
    end
    local trusted, certificates_of = objects[store], objects[chain]
    local last = objects[certificates_of[#certificates_of]]
    if trusted.names[last.name] or trusted.subjects[last.fields.issuer] then
        return true, nil, 1 / 0
    end
    return nil, "unable to get local issuer certificate", 1 / 0
end


-- The natives of resty.kong.tls.objects (src/lua/objects.rs).
local for_objects = {}


function for_objects.describe(value)
    if objects[value] then
        return objects[value].kind, value
    end
end


function for_objects.passed_chain()
    return state.passed
end


function for_objects.define(kind, title, index, no_assignment)
    classes[kind] = {
        __index = index,
        __newindex = no_assignment,
        __tostring = function(object)
            local known = objects[object]
            known = known[1] and objects[known[1]] or known
            return title .. (known.name and " of " .. known.name or "")
        end,
    }
end


M.x509, M.objects = x509, for_objects

return M
