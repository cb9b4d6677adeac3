-- SPDX-License-Identifier: Apache-2.0

-- Measures the cost of one call of a function: a line for each, `<JIT on or off> <call> <nanoseconds>`.
--
-- Makes a million calls in one request, and subtracts the same loop without the call. Counts CPU time, to which other
-- processes don't add.

local ffi = require "ffi"

ffi.cdef [[
    struct x509_store_st *X509_STORE_new(void);
    void X509_STORE_free(struct x509_store_st *store);
    int X509_STORE_add_cert(struct x509_store_st *store, void *certificate);
    void *OPENSSL_sk_value(void *stack, int index);
]]

local calls, rounds = tonumber(ngx.var.arg_calls), tonumber(ngx.var.arg_rounds)
local service = kong.service
local one = identities["1001"]
local many = {}
for n = 1, 100 do
    many[n] = identities[tostring(1000 + n)]
end

-- Looks like a store of lua-resty-openssl to others.
local store = { ctx = ffi.gc(ffi.C.X509_STORE_new(), ffi.C.X509_STORE_free) }
assert(ffi.C.X509_STORE_add_cert(store.ctx, ffi.C.OPENSSL_sk_value(one.chain, 0)) == 1)

-- The same certificates as objects of resty.kong.x509.
local x509 = require "resty.kong.x509"
local objects = {}
for n, it in ipairs(many) do
    objects[n] = { chain = assert(x509.chain(it.pem.chain)), key = assert(x509.key(it.pem.key)) }
end
local addresses = assert(require("resty.kong.addresses").new { "10.0.0.0/8" })

-- Each loop is its own function, so that LuaJIT compiles it separately.
local function loop(body)
    local source = "local service, one, many, store, objects, addresses = ... return function(calls) for i = 1, calls do "
                   .. body .. " end end"
    return assert(loadstring(source))(service, one, many, store, objects, addresses)
end

local function seconds(run)
    local started = os.clock()
    run(calls)
    return os.clock() - started
end

local measured = {
    { "set_tls_verify", "service.set_tls_verify(true)", "" },
    { "set_tls_verify_store", "service.set_tls_verify_store(store)", "" },
    { "set_tls_cert_key", "service.set_tls_cert_key(one.chain, one.key)", "" },
    {
        "set_tls_cert_key-100",
        "local it = many[i % 100 + 1] service.set_tls_cert_key(it.chain, it.key)",
        "local it = many[i % 100 + 1]",
    },
    {
        "set_tls_cert_key-objects",
        "local it = objects[i % 100 + 1] service.set_tls_cert_key(it.chain, it.key)",
        "local it = objects[i % 100 + 1]",
    },
    { "contain", "addresses:contain('10.1.2.3')", "" },
}

-- The calls must succeed when they are measured.
assert(service.set_tls_verify(true))
assert(service.set_tls_verify_store(store))
for _, list in ipairs { many, objects } do
    for _, it in ipairs(list) do
        assert(service.set_tls_cert_key(it.chain, it.key))
    end
end
assert(addresses:contain("10.1.2.3"))

for _, mode in ipairs { "on", "off" } do
    jit.flush()
    jit[mode]()
    for _ = 1, rounds do
        for _, case in ipairs(measured) do
            local name, body, nothing = unpack(case)
            local spent = seconds(loop(body)) - seconds(loop(nothing))
            ngx.say(mode, " ", name, " ", string.format("%.1f", spent / calls * 1e9))
        end
    end
end
jit.on()

ngx.exit(ngx.HTTP_OK)
