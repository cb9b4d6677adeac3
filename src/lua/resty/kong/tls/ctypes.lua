-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.tls.ctypes: the C types of what other libraries and ours pass to each other, and what is behind our
-- objects.

local ffi = require "ffi"

-- Names alone, which other libraries may declare too.
ffi.cdef [[
    struct stack_st_X509;
    struct stack_st;
    struct evp_pkey_st;
    struct x509_store_st;
    struct x509_st;
    struct ssl_st;
    struct kong_tls_addresses;
]]

return {
    -- What ngx.ssl gives.
    VOID = ffi.typeof("void *"),
    STACK_OF_X509 = ffi.typeof("struct stack_st_X509 *"),
    -- What OpenSSL's safe stacks are called.
    OPENSSL_STACK = ffi.typeof("struct stack_st *"),
    EVP_PKEY = ffi.typeof("struct evp_pkey_st *"),
    X509_STORE = ffi.typeof("struct x509_store_st *"),
    X509 = ffi.typeof("struct x509_st *"),
    SSL = ffi.typeof("struct ssl_st *"),
    ADDRESSES = ffi.typeof("struct kong_tls_addresses *"),

    -- What is behind the objects of resty.kong.x509, by the object. It is not in them, where Lua code could put
    -- something else in its place.
    pointers = setmetatable({}, { __mode = "k" }),
}
