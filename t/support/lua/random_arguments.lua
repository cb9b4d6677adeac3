-- SPDX-License-Identifier: Apache-2.0

-- Calls functions with values of all kinds, and complains about what no caller should see: an error that is no
-- string, or an error of Lua itself in place of one that names the argument.

local ffi = require "ffi"
local ssl = require "ngx.ssl"
local kong = require "resty.kong.pdk"
local tls = require "resty.kong.tls"
local x509 = require "resty.kong.x509"
local pki = require "pki"

local random = math.random

-- `done`: the names of the functions that have succeeded.
local M = { complaints = {}, done = {} }

local pem, key_pem, authority = pki.read("client1"), pki.read("client1", ".key"), pki.read("ca")
-- These can't be made in every phase.
local thread = coroutine.create(function() end)
local chain, key, der = pki.chain("client1"), pki.key("client1"), assert(ssl.cert_pem_to_der(pem))

-- ---- values --------------------------------------------------------------------------------------

-- Returns a text with some of its bytes changed.
local function mutated(text)
    for _ = 1, random(0, 3) do
        local at = random(#text)
        local kind = random(4)
        if kind == 1 then
            text = text:sub(1, at - 1) .. string.char(random(0, 255)) .. text:sub(at + 1)
        elseif kind == 2 then
            text = text:sub(1, at)
        elseif kind == 3 then
            text = text:sub(at) .. text:sub(1, at)
        else
            text = text .. text:sub(at)
        end
        if text == "" then
            return text
        end
    end
    return text
end

local function throw()
    error("from a metamethod")
end

local cyclic = {}
cyclic[1] = cyclic
cyclic.ctx = cyclic

local kinds = {
    function() return nil end,
    function() return random(2) == 1 end,
    function()
        local numbers = { 0, 1, -1, 0.5, 80, 443, 65536, 2 ^ 31, 2 ^ 53, -2 ^ 63, 1e308, 1 / 0, -1 / 0, 0 / 0, random(1000) }
        return numbers[random(#numbers)]
    end,
    function()
        local texts = { "", "\0", "SUCCESS", "NONE", "FAILED:x", "FAILED:\r\n", "service", "service.test", "a.test:80",
                        "unix:/x", "[::1]", "10.0.0.0/8", "clientAuth", "sha256", ("x"):rep(100000), "\255\254", "%n%s" }
        return texts[random(#texts)]
    end,
    function() return mutated(pem) end,
    function() return mutated(key_pem) end,
    function() return mutated(der) end,
    function() return chain end,
    function() return key end,
    function() return (x509.chain(mutated(pem))) end,
    function() return (x509.key(mutated(key_pem))) end,
    function() return (x509.store { pem = authority }) end,
    function() return x509.chain(pem)[1] end,
    function() return (x509.addresses { "10.0.0.0/8" }) end,
    function() return ffi.cast("void *", 0) end,
    function() return ffi.new("int64_t", random(1000)) end,
    function() return ffi.new("char[16]") end,
    function() return ngx.null end,
    function() return print end,
    function() return thread end,
    function() return io.stdout end,
    function() return {} end,
    function() return cyclic end,
    function() return { "a.test", "*.b.test" } end,
    function() return { "a.test", [3] = "b.test", x = "c" } end,
    function() return { 1, true, {} } end,
    function() return { ctx = ffi.cast("void *", 0) } end,
    function() return { ctx = "text" } end,
    function()
        return setmetatable({}, {
            __index = throw, __len = throw, __tostring = throw, __call = throw, __pairs = throw })
    end,
    function() return setmetatable({}, { __metatable = random(2) == 1 and 5 or "locked" }) end,
    function() return setmetatable({}, { __name = "resty.kong.x509.chain" }) end,
    function() return setmetatable({ ctx = 1 }, { __name = "resty.kong.x509.key" }) end,
    -- What a call with a colon in place of a dot gives.
    function() return kong.service end,
    function() return kong.client.tls end,
    function() return tls end,
    function() return x509 end,
}

local value

-- Returns a table of options with such values.
local names = { "pem", "file", "dir", "system", "crl", "crl_file", "refresh", "on_expired", "leaf_only",
                "check_revocation", "partial_chain", "purpose", "depth", "at", "names", "ca", "consumers", "common_name",
                "sans", "name", "header", "encoding", "trusted", "anonymous",
                "certificate", "key", "services", "verify", "store", "default", "trust_domains", "ids", "min_version",
                "ciphers", "groups", 1, 2 }
local function options()
    local made = {}
    for _ = 1, random(0, 4) do
        made[names[random(#names)]] = value()
    end
    return made
end
kinds[#kinds + 1] = options

function value()
    return kinds[random(#kinds)]()
end

-- Returns a header with a certificate in "url" or "base64" encoding, which may be damaged before or after it was
-- encoded.
function M.header(encoding)
    local text = random(2) == 1 and mutated(encoding == "url" and pem or der) or (encoding == "url" and pem or der)
    if encoding == "url" then
        text = text:gsub("[^%w%-_.~]", function(byte) return ("%%%02X"):format(byte:byte()) end)
    else
        text = ngx.encode_base64(text)
    end
    text = random(2) == 1 and mutated(text) or text
    -- Anything that is no header, or too large for one, would be a bad request.
    return (text:sub(1, 7000):gsub("[^\32-\126]", "~"))
end

-- ---- right arguments -----------------------------------------------------------------------------

local function one_of(values)
    return function() return values[random(#values)] end
end

local some_chain, some_key = one_of { chain, x509.chain(pem) }, one_of { key, x509.key(key_pem) }
local some_names = one_of { { "service.test" }, { "a.test", "*.b.test" } }
local some_store = one_of { x509.store { pem = authority }, x509.store { pem = pem } }
local some_boolean = one_of { true, false }

-- Arguments that the functions expect. With random ones alone, few calls would succeed.
local right = {
    request_client_certificate = { one_of { chain, x509.chain(authority) },
                                   one_of { {}, { names = { "a.test", "*.b.test" } } } },
    get_ssl_pointer = {},
    set_client_verify = { one_of { "SUCCESS", "NONE", "FAILED:x" } },
    set_upstream = { one_of { "kept" } },
    set_target = { one_of { "127.0.0.1", "::1", "service.test" }, one_of { 80, 443 } },
    set_target_retry_callback = {
        one_of { function() return "127.0.0.1", 1 end, function() return true end, function() return {} end, error },
    },
    enable_recording_upstream_ssl = {},
    set_scheme = { one_of { "http", "https" } },
    set_retries = { one_of { 0, 1, 5 } },
    set_timeouts = { one_of { 1000 }, one_of { 2000 }, one_of { 3000 } },
    set_tls_cert_key = { some_chain, some_key },
    set_upstream_cert_and_key = { some_chain, some_key },
    set_tls_verify = { some_boolean },
    set_upstream_ssl_verify = { some_boolean },
    set_tls_verify_depth = { one_of { 0, 1, 100 } },
    set_upstream_ssl_verify_depth = { one_of { 0, 1, 100 } },
    set_tls_verify_store = { some_store },
    set_upstream_ssl_trusted_store = { some_store },
    set_tls_server_name = { one_of { "a.test", "" } },
    set_tls_verify_names = {
        one_of { { dns = { "a.test" }, uris = { "spiffe://a.test/*" } }, { host = false, ips = { "::1" } } },
    },
    set_tls_pins = { one_of { { spki = { ngx.encode_base64(("x"):rep(32)) } } } },
    set_tls_verify_spiffe = {
        one_of {
            { trust_domains = { ["a.test"] = x509.store { pem = authority } }, ids = { "spiffe://a.test/*" } },
            { trust_domains = { a = x509.store { pem = pem }, b = x509.store { pem = authority } }, ids = { "spiffe://a/b" } },
        },
    },
    set_tls_options = {
        one_of { { min_version = "TLSv1.3" }, { max_version = "TLSv1.2", ciphers = "HIGH" }, { groups = "P-256:P-384" } },
    },
    set_upstream_ssl_sans_dnsnames = { some_names },
    set_upstream_ssl_sans_uris = { some_names },
    verify = { one_of { x509.chain(pem) }, one_of { {}, { purpose = "clientAuth" } } },
    belongs_to = { some_chain },
    contain = { one_of { "10.1.2.3", "192.0.2.1" } },
    chain = { one_of { pem } },
    key = { one_of { key_pem, { uri = "other:x" }, { uri = "pkcs11:token=no" }, { uri = "pkcs11:", pin = 1 }, { pin = "" } } },
    chain_from_der = { one_of { der } },
    store = { one_of { { pem = authority } } },
    addresses = { one_of { { "10.0.0.0/8" } } },
    certificate = { one_of { 1, 2 } },
    fingerprint = { one_of { "sha256" } },
    confirms = { one_of { "x", { ["x5t#S256"] = "x" }, { ["x5t#S256"] = 1 } } },
    set = { one_of { "rfc9440", "xfcc", "x-client-cert" }, some_chain },
    drop = { one_of { "0123456789abcdef" } },
}
-- Functions without arguments, and those of plugins, whose arguments are tables of options.
for name in ([[disable_session_reuse disable_http2_alpn get_full_client_certificate_chain get_request_ssl_pointer count
               choose_target to_pem thumbprint consumer new]]):gmatch("%S+") do
    right[name] = {}
end

-- Returns the argument `position` of a function: a right one half of the time, where one is known.
local function argument(called, position)
    local known = called.right[position]
    if known and random(2) == 1 then
        return known()
    end
    return value()
end

-- ---- functions -----------------------------------------------------------------------------------

local functions = {}

local function list(name, call)
    local known = right[name:match("[%w_%[%]]+$")]
    functions[#functions + 1] = { name = name, call = call, right = assert(known, name .. " has no right arguments") }
end

local function add(prefix, interface)
    for name, call in pairs(interface) do
        if type(call) == "function" then
            list(prefix .. name, call)
        end
    end
end

add("kong.client.tls.", kong.client.tls)
add("kong.service.", kong.service)
add("kong.service.request.", kong.service.request)
add("resty.kong.tls.", tls)
add("resty.kong.x509.", x509)
add("resty.kong.sessions.", require "resty.kong.sessions")
add("resty.kong.forwarded_certificate.", require "resty.kong.forwarded_certificate")
for _, plugin in ipairs { "mtls_auth", "header_cert_auth", "sni", "services" } do
    add(plugin .. ".", require("resty.kong.plugins." .. plugin))
end

local objects = {
    { "chain:", function() return x509.chain(pem) end, { "count", "certificate", "to_pem" } },
    { "certificate:", function() return x509.chain(pem)[1] end, { "fingerprint", "thumbprint", "confirms", "to_pem" } },
    { "store:", function() return x509.store { pem = authority } end, { "verify" } },
    { "key:", function() return x509.key(key_pem) end, { "belongs_to" } },
    { "addresses:", function() return x509.addresses { "10.0.0.0/8" } end, { "contain" } },
}
for _, object in ipairs(objects) do
    local prefix, make, methods = object[1], object[2], object[3]
    for _, method in ipairs(methods) do
        list(prefix .. method, function(...)
            local made = make()
            return made[method](made, ...)
        end)
        list(prefix:gsub(":", ".") .. method, function(...)
            return make()[method](...)
        end)
    end
    right["[]"] = {}
    list(prefix .. "[]", function(name)
        return make()[name]
    end)
end
table.sort(functions, function(one, other) return one.name < other.name end)

-- ---- calls ---------------------------------------------------------------------------------------

-- Texts of Lua's own errors.
local OWN = { "attempt to ", "bad argument", "cannot convert", "stack overflow", "expected, got" }

local function complain(called, what)
    if #M.complaints < 20 then
        M.complaints[#M.complaints + 1] = called.name .. ": " .. what
    end
end

local function judge(called, threw, first, second)
    if threw then
        if type(first) ~= "string" then
            return complain(called, "threw a " .. type(first))
        end
        if first:find("from a metamethod", 1, true) then
            return
        end
        for _, text in ipairs(OWN) do
            if first:find(text, 1, true) then
                return complain(called, first)
            end
        end
    elseif first == nil and second ~= nil and type(second) ~= "string" then
        complain(called, "nil and a " .. type(second))
    elseif first == true then
        M.done[called.name] = true
    end
end

-- Returns the functions of an interface that have succeeded.
function M.done_of(prefix)
    local done = {}
    for name in pairs(M.done) do
        if name:find(prefix, 1, true) == 1 then
            done[#done + 1] = name:sub(#prefix + 1)
        end
    end
    table.sort(done)
    return table.concat(done, " ")
end

function M.call(count)
    for _ = 1, count do
        local called = functions[random(#functions)]
        local ok, first, second = pcall(called.call, argument(called, 1), argument(called, 2), argument(called, 3))
        judge(called, not ok, first, second)
    end
end

return M
