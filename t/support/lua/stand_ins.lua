-- SPDX-License-Identifier: Apache-2.0

-- Compares the stand-ins of resty.kong.testing with the module: calls each function of both with the same arguments,
-- and complains about answers and errors that differ.

local kong = require "resty.kong.pdk"
local tls = require "resty.kong.tls"
local x509 = require "resty.kong.x509"
local pki = require "pki"

-- Of all packages in this folder, those that the module has itself are not taken from it.
package.path = assert(os.getenv("TEST_NGINX_SUPPORT")) .. "/../../../src/lua/?.lua;" .. package.path
local testing = require "resty.kong.testing"

-- The functions that have succeeded.
local done = {}

-- The names of phases, by those that ngx.get_phase() returns.
local PHASES = { ssl_cert = "certificate", ssl_client_hello = "client_hello" }

-- The numbers of some values.
local NIL, A_NAME, A_NUMBER, A_CHAIN, A_KEY = 1, 2, 3, 4, 5

local M = {}


-- Makes a list that may have holes.
local function list(...)
    return { n = select("#", ...), ... }
end


-- Returns what the functions are called with: values that both have, and objects of their own.
local function world_of(packages, read)
    local new = packages.x509
    local chain = assert(new.chain(read("client1", ".crt")))
    local world = {
        ["kong.client.tls"] = packages.kong.client.tls,
        ["kong.service"] = packages.kong.service,
        ["kong.service.request"] = packages.kong.service.request,
        ["resty.kong.tls"] = packages.tls,
        ["resty.kong.x509"] = packages.x509,
        chain = chain,
        certificate = chain[1],
        key = assert(new.key(read("client1", ".key"))),
        store = assert(new.store { pem = read("ca", ".crt") }),
    }
    local other = assert(new.key(read("client2", ".key")))
    local function wrong() end
    world.values = list(
        -- The first ones have names: see above.
        nil, "service", 443, chain, world.key,
        true, false, 0, 1, -1, 2, 1.5, 100, 101, 65535, 65536, 2 ^ 31, 0 / 0, 1 / 0, -1 / 0,
        "http", "https",
        "", "SUCCESS", "FAILED:", "FAILED:why", "FAILED:a\nb", "a b", "a..", "a\0b\"", "\xc3\xa4", "unix", "unix:/a",
        "service.", "SERVICE", "service:443", "1.2.3.4", "1.2.3.04", "127.1", "0x7f.1", "a.0x", "[1.2.3.4]",
        "::1", "[::1]", "::ffff:1.2.3.4", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8:9", "1::2::3", "fe80::1%lo", "::", ":",
        ("a"):rep(255), ("a"):rep(256), ("a"):rep(4097), read("client1", ".crt"), read("client1", ".key"),
        {}, { "a.test" }, { 1 }, { "" }, { "a b" }, { n = 1 }, { ctx = chain.ctx }, { ctx = world.store.ctx },
        { partial_chain = true }, { partial_chain = 1 }, { names = { "*.a.test" } }, { names = { "*" } },
        { names = "a.test" }, { names = { "a..b" } }, { partial = true },
        { pem = read("ca", ".crt") }, { pem = 1 }, { pem = "none" }, { system = true }, { file = "/nowhere" },
        { pem = read("ca", ".crt"), partial_chain = "yes" },
        { depth = 1 }, { depth = -1 }, { purpose = "none" }, { purpose = "clientAuth", depth = 2 }, { purpose = 1 },
        { at = 0 / 0 }, { when = 1 },
        { host = false }, { host = "a.test.", dns = { "b." }, uris = { "spiffe://a/*" } }, { host = 1 }, { ips = "::1" },
        { ips = { "::1", "[::1]", "1.2.3.4" } }, { ips = { "1.2.3.4/8" } }, { emails = { "a@b" } }, { emails = { "a.b" } },
        { spki = { ("A"):rep(42) .. "E=" } }, { spki = { ("A"):rep(43) .. "=" } }, { spki = { ("A"):rep(42) .. "B=" } },
        { spki = { ("A"):rep(44) } }, { spki = {} }, { spki = 1 },
        { trust_domains = { ["a.test"] = world.store }, ids = { "spiffe://a.test/b" } },
        { trust_domains = { ["a.test"] = world.store, b = world.store }, ids = { "spiffe://b/*", "spiffe://a.test/.b/c" } },
        { trust_domains = { ["A.test"] = world.store }, ids = { "spiffe://A.test/b" } }, { trust_domains = {}, ids = {} },
        { trust_domains = { b = world.store }, ids = {} }, { trust_domains = { b = world.store }, ids = { 1 } },
        { trust_domains = { b = world.store }, ids = { "spiffe://c/d" } }, { trust_domains = { b = chain }, ids = { "c" } },
        { trust_domains = { b = world.store }, ids = { "spiffe://b" } }, { trust_domains = { world.store }, ids = {} },
        { trust_domains = { b = world.store }, ids = { "spiffe://b/c*" } },
        { trust_domains = { b = world.store }, ids = { "spiffe://b/../c" } }, { trust_domain = {} }, { trust_domains = 1 },
        { trust_domains = { b = world.store }, ids = { "spiffe://b/" .. ("c"):rep(2037), "spiffe://b/" .. ("c"):rep(2038) } },
        { trust_domains = { [("b"):rep(256)] = world.store }, ids = { "spiffe://b/c" } },
        { min_version = "TLSv1.3" }, { max_version = "TLSv1.2", ciphers = "HIGH" }, { groups = "P-256" }, { groups = "" },
        { min_version = "TLSv1.3", max_version = "TLSv1.1" }, { min_version = "1.3" }, { max_version = 1.3 },
        { ciphersuites = "TLS_AES_128_GCM_SHA256", signature_algorithms = "\0", groups = "" }, { version = "TLSv1.3" },
        wrong, ngx.null, world, other, world.store, world.certificate, chain.ctx, world.key.ctx, world.store.ctx
    )
    return world
end


local ISSUED = { client1 = "CN=ca", client2 = "CN=ca" }

local real = world_of({ kong = kong, tls = tls, x509 = x509 }, pki.read)
local stand_in = world_of(testing, function(name, suffix)
    local text = suffix == ".key" and testing.key(name) or testing.certificate(name, { issuer = ISSUED[name] })
    -- As long as the real one, since errors tell the length of a text.
    return ("#"):rep(#pki.read(name, suffix) - #text - 1) .. "\n" .. text
end)

local real_values, stand_in_values = real.values, stand_in.values


-- Returns a text for what a call has returned or thrown, without what is different in both: objects, and PEM.
local function answer(ok, ...)
    local texts = { ok and "returns" or "throws" }
    for index = 1, select("#", ...) do
        local value = select(index, ...)
        local kind = type(value)
        local is_plain = kind == "nil" or kind == "boolean" or kind == "string" or kind == "number"
        texts[#texts + 1] = is_plain and tostring(value) or "an object"
    end
    return (table.concat(texts, " "):gsub("[#\n\\]*n?%-%-%-%-%-BEGIN.-%-%-%-%-%-END.-%-%-%-%-%-\\?n?", "PEM"))
end


local function call(called, ...)
    -- Not a tail call, which would leave no line for an error to name.
    local one, two, three = called(...)
    return one, two, three
end


local calls, complaints, complained


local function compare(label, one, other, first, second)
    local left = answer(pcall(call, one, real_values[first], real_values[second], real_values[second]))
    local right = answer(pcall(call, other, stand_in_values[first], stand_in_values[second], stand_in_values[second]))
    calls = calls + 1
    done[label] = done[label] or not (left:find("^throws") or left:find("^returns nil [^n]"))
    if left ~= right then
        complained[label] = (complained[label] or 0) + 1
        if complained[label] <= 3 and #complaints < 20 then
            complaints[#complaints + 1] = ("%s(%s, %s): the module %s, the stand-in %s"):format(
                label, tostring(stand_in_values[first]), tostring(stand_in_values[second]), left, right)
        end
    end
end


-- Calls a function with each value as the first argument, and with each as the second and third.
local function compare_calls(label, one, other)
    for value = 1, real_values.n do
        for _, with in ipairs { NIL, A_NUMBER, A_KEY } do
            compare(label, one, other, value, with)
        end
        for _, with in ipairs { A_NAME, A_NUMBER, A_CHAIN } do
            compare(label, one, other, with, value)
        end
    end
end


local METHODS = {
    certificate = { "fingerprint", "thumbprint", "confirms", "to_pem" },
    chain = { "count", "certificate" },
    key = { "belongs_to" },
    store = { "verify" },
}


-- Makes a function that calls a method of an object. Of texts, it returns only that they are some.
local function caller(method, object)
    return function(a, b)
        local one, two = method(object, a, b)
        return type(one) == "string" and "a text" or one, two
    end
end


local function compare_methods()
    for kind, names in pairs(METHODS) do
        for _, name in ipairs(names) do
            local one, other = real[kind][name], stand_in[kind][name]
            compare_calls(kind .. ":" .. name, caller(one, real[kind]), caller(other, stand_in[kind]))
            -- With a dot in place of the colon.
            compare(kind .. "." .. name, one, other, A_CHAIN, NIL)
            compare(kind .. "." .. name, one, other, NIL, NIL)
        end
    end
end


-- Phases in which a request can begin anew: later, its target is in use.
local SETS = { rewrite = true, access = true }


-- Forgets what was set for the service, since some calls exclude others.
local function forget(options)
    if SETS[options.phase] then
        assert(require("resty.kong.tls.functions").forget_service())
        testing.request(options)
    end
end


-- Calls functions that exclude others, in both orders.
local function compare_exclusions(options)
    local function step(name, argument)
        local function said(world)
            return answer(pcall(call, world["kong.service"][name], argument(world)))
        end
        local left, right = said(real), said(stand_in)
        if left ~= right then
            complaints[#complaints + 1] = ("%s after others: the module %s, the stand-in %s"):format(name, left, right)
        end
    end
    local function store() step("set_tls_verify_store", function(world) return world.store end) end
    local function off() step("set_tls_verify", function() return false end) end
    local function spiffe()
        step("set_tls_verify_spiffe", function(world)
            return { trust_domains = { ["a.test"] = world.store }, ids = { "spiffe://a.test/b" } }
        end)
    end
    for _, steps in ipairs { { store, spiffe, off }, { spiffe, store, off }, { off, spiffe, off, spiffe } } do
        forget(options)
        for _, one in ipairs(steps) do
            one()
        end
    end
    forget(options)
end


-- Compares all functions in the current phase, and returns what differs. `options` are those of testing.request.
function M.compare(options)
    calls, complaints, complained = 0, {}, {}
    options = options or {}
    options.phase = PHASES[ngx.get_phase()] or ngx.get_phase()
    testing.request(options)
    if options.phase == "balancer" then
        -- As the module has it in this phase.
        testing.phase("access")
        testing.kong.service.set_target("127.0.0.1", 443)
        testing.phase("balancer")
    end
    for _, package_name in ipairs { "kong.client.tls", "kong.service", "kong.service.request", "resty.kong.tls" } do
        local one, other = real[package_name], stand_in[package_name]
        for name in pairs(one) do
            -- Not every version of ngx.balancer can do it.
            local is_possible = name ~= "set_scheme" or options.phase ~= "balancer"
            if type(one[name]) == "function" and is_possible then
                forget(options)
                compare_calls(package_name .. "." .. name, one[name], other[name])
                -- With a colon in place of the dot.
                real_values.n, stand_in_values.n = real_values.n + 1, stand_in_values.n + 1
                real_values[real_values.n], stand_in_values[real_values.n] = one, other
                compare(package_name .. ":" .. name, one[name], other[name], real_values.n, 2)
                real_values.n, stand_in_values.n = real_values.n - 1, stand_in_values.n - 1
            end
        end
        for name in pairs(other) do
            if not one[name] then
                complaints[#complaints + 1] = package_name .. "." .. name .. ": only the stand-in has it"
            end
        end
    end
    compare_exclusions(options)
    if options.phase == "content" then
        compare_methods()
        for _, name in ipairs { "chain", "key", "store" } do
            compare_calls("resty.kong.x509." .. name, x509[name], testing.x509[name])
        end
    end
    assert(calls > 1000)
    return options.phase .. ": " .. #complaints .. " differ\n" .. table.concat(complaints, "\n") .. (complaints[1] and "\n" or "")
end


-- Returns the functions of both that have not succeeded in any phase.
function M.without_success()
    local names = {}
    for label, ok in pairs(done) do
        -- Calls with a colon, and methods that are called with a dot, fail; and there is no socket here.
        if not ok and label ~= "resty.kong.tls.get_ssl_pointer" and not label:find(":", 1, true)
           and not METHODS[label:match("^[^.]*")] then
            names[#names + 1] = label
        end
    end
    table.sort(names)
    return table.concat(names, "\n")
end


return M
