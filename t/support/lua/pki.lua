-- SPDX-License-Identifier: Apache-2.0

-- Certificates and keys of the tests' PKI, as objects for Lua APIs.

local ffi = require "ffi"
local ssl = require "ngx.ssl"
local C = ffi.C


local _M = {}


local PKI = os.getenv("TEST_NGINX_PKI")


-- Another library may have declared any of these, and a declaration can't be repeated: so each is declared by itself.
for _, declaration in ipairs({
    "typedef struct bio_st BIO",
    "typedef struct x509_st X509",
    "typedef struct X509_crl_st X509_CRL",
    "typedef struct x509_store_st X509_STORE",
    "X509_STORE *X509_STORE_new(void)",
    "void X509_STORE_free(X509_STORE *)",
    "int X509_STORE_add_cert(X509_STORE *, X509 *)",
    "int X509_STORE_add_crl(X509_STORE *, X509_CRL *)",
    "int X509_STORE_set_flags(X509_STORE *, unsigned long)",
    "int X509_STORE_set_purpose(X509_STORE *, int)",
    "int X509_STORE_load_locations(X509_STORE *, const char *, const char *)",
    "BIO *BIO_new_mem_buf(const void *, int)",
    "int BIO_free(BIO *)",
    "X509 *PEM_read_bio_X509(BIO *, X509 **, void *, void *)",
    "X509_CRL *PEM_read_bio_X509_CRL(BIO *, X509_CRL **, void *, void *)",
    "void X509_free(X509 *)",
    "void X509_CRL_free(X509_CRL *)",
    "void ERR_clear_error(void)",
    "typedef struct evp_pkey_st EVP_PKEY",
    "typedef struct evp_md_st EVP_MD",
    "typedef struct asn1_string_st ASN1_TIME",
    "typedef struct stack_st OPENSSL_STACK",
    "ASN1_TIME *X509_getm_notAfter(const X509 *)",
    "ASN1_TIME *X509_gmtime_adj(ASN1_TIME *, long)",
    "int X509_sign(X509 *, EVP_PKEY *, const EVP_MD *)",
    "const EVP_MD *EVP_sha256(void)",
    "void *OPENSSL_sk_value(const OPENSSL_STACK *, int)",
}) do
    pcall(ffi.cdef, declaration .. ";")
end


-- Returns a path, given with its suffix or without, or by the name of a file in the PKI.
function _M.path(name, suffix)
    if name:find("/", 1, true) then
        return name:find("%.%w+$") and name or name .. (suffix or ".crt")
    end

    assert(PKI, "TEST_NGINX_PKI is not set, use TestKong")
    return string.format("%s/%s%s", PKI, name, suffix or ".crt")
end


function _M.read(name, suffix)
    local file = assert(io.open(_M.path(name, suffix), "rb"))
    local text = file:read("*a")
    file:close()
    return text
end


-- Returns the certificates of a file, leaf first, as cdata for ssl.set_cert and others.
function _M.chain(name)
    return assert(ssl.parse_pem_cert(_M.read(name, ".crt")))
end


function _M.key(name)
    return assert(ssl.parse_pem_priv_key(_M.read(name, ".key")))
end


-- Returns the certificate `name`, signed anew by the CA `issuer`, and expiring `seconds` from now.
function _M.ending(name, issuer, seconds)
    local chain = _M.chain(name)
    local cert = C.OPENSSL_sk_value(ffi.cast("OPENSSL_STACK *", chain), 0)
    assert(C.X509_gmtime_adj(C.X509_getm_notAfter(cert), seconds) ~= nil)
    assert(C.X509_sign(cert, ffi.cast("EVP_PKEY *", _M.key(issuer)), C.EVP_sha256()) > 0)
    return chain
end


-- X509_V_FLAG_...
_M.CRL_CHECK = 0x4
_M.PARTIAL_CHAIN = 0x80000


-- Sets verification flags of a store.
function _M.set_flags(store, flags)
    assert(C.X509_STORE_set_flags(store.ctx, flags) == 1, "can't set flags")
    return store
end


-- Adds a CRL to a store. That alone does not make the store check it.
function _M.revoke(store, name)
    local pem = _M.read(name, ".crl")
    local bio = C.BIO_new_mem_buf(pem, #pem)
    assert(bio ~= nil, "out of memory")

    local crl = C.PEM_read_bio_X509_CRL(bio, nil, nil, nil)
    C.BIO_free(bio)
    assert(crl ~= nil, "no revocation list in " .. name)

    -- the store has its own reference
    local ok = C.X509_STORE_add_crl(store.ctx, crl)
    C.X509_CRL_free(crl)
    assert(ok == 1, "can't add the revocation list of " .. name)
    return store
end


-- Adds every certificate of a file to a store.
function _M.grow(store, name)
    local pem = _M.read(name, ".crt")
    local bio = C.BIO_new_mem_buf(pem, #pem)
    assert(bio ~= nil, "out of memory")

    local added = 0
    while true do
        local cert = C.PEM_read_bio_X509(bio, nil, nil, nil)
        if cert == nil then
            break
        end

        -- the store has its own reference
        local ok = C.X509_STORE_add_cert(store.ctx, cert)
        C.X509_free(cert)
        assert(ok == 1, "can't add a certificate of " .. name)
        added = added + 1
    end

    -- the end of the file is an error too, and nginx warns about errors left over
    C.BIO_free(bio)
    C.ERR_clear_error()
    assert(added > 0, "no certificates in " .. name)
    return store
end


-- Returns a new store with the certificates of these files, and with the fields of a resty.openssl.x509.store that
-- others use.
function _M.store(...)
    local ctx = C.X509_STORE_new()
    assert(ctx ~= nil, "out of memory")

    local store = { ctx = ffi.gc(ctx, C.X509_STORE_free) }
    for i = 1, select("#", ...) do
        _M.grow(store, (select(i, ...)))
    end
    return store
end


return _M
