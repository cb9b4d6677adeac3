-- SPDX-License-Identifier: Apache-2.0

-- resty.kong.tls.ctypes: the C types that this and other libraries exchange.

local ffi = require "ffi"

-- Forward declarations only: other libraries may declare the same types.
ffi.cdef [[
    struct stack_st_X509;
    struct stack_st;
    struct evp_pkey_st;
    struct x509_store_st;
    struct x509_st;
    struct ssl_st;
]]

return {
    -- The type of ngx.ssl's chains and keys.
    VOID = ffi.typeof("void *"),
    STACK_OF_X509 = ffi.typeof("struct stack_st_X509 *"),
    -- OpenSSL's internal name for stacks.
    OPENSSL_STACK = ffi.typeof("struct stack_st *"),
    EVP_PKEY = ffi.typeof("struct evp_pkey_st *"),
    X509_STORE = ffi.typeof("struct x509_store_st *"),
    X509 = ffi.typeof("struct x509_st *"),
    SSL = ffi.typeof("struct ssl_st *"),
}
