# SPDX-License-Identifier: Apache-2.0

# Argument checks of settings: a wrong type throws, a wrong value returns nil and an error. Neither may crash the
# worker.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

repeat_each(2);
run_tests();

__DATA__

=== TEST 1: set_tls_cert_key throws for a chain or a key of the wrong type
--- config
    location /t {
        access_by_lua_block {
            local ffi = require "ffi"
            local c, k = cert.client1, key.client1
            local wrong = {
                { nil, k }, { "PEM", k }, { 1, k }, { true, k }, { {}, k }, { { ctx = c }, k },
                { print, k }, { ngx.null, k }, { ffi.new("int"), k }, { ffi.new("int[4]"), k },
                { ffi.new("char *"), k }, { ffi.new("void *[1]"), k }, { ffi.new("void *"), k },
                { ffi.new("uint64_t"), k }, { ffi.new("struct { void *p; }"), k },
                { pki.store("ca").ctx, k }, { ffi.cast("EVP_PKEY *", k), k },
                { c, nil }, { c, "PEM" }, { c, 1 }, { c, false }, { c, {} }, { c, ffi.new("int[4]") },
                { c, ffi.new("void *") }, { c, pki.store("ca").ctx },
                { c, ffi.cast("struct stack_st_X509 *", c) },
            }
            for i, pair in ipairs(wrong) do
                local ok, err = pcall(function()
                    return kong.service.set_tls_cert_key(pair[1], pair[2])
                end)
                local expected = i <= 17 and "chain" or "key"
                if ok or not tostring(err):find(expected .. " must be a parsed cdata object", 1, true) then
                    ngx.say(i, ": ", ok, " ", err)
                end
            end
            ngx.say("done")
        }
    }
--- http_config
    init_worker_by_lua_block {
        pcall(require("ffi").cdef, "typedef struct evp_pkey_st EVP_PKEY;")
    }
--- request
GET /t
--- response_body
done
--- no_error_log
[error]



=== TEST 2: set_tls_cert_key accepts the cdata types that other libraries use for a chain and a key
--- config
    location /t {
        access_by_lua_block {
            local ffi = require "ffi"
            local c, k = cert.client1, key.client1
            for _, chain in ipairs { c, ffi.cast("struct stack_st_X509 *", c),
                                     ffi.cast("struct stack_st *", c) } do
                for _, private in ipairs { k, ffi.cast("struct evp_pkey_st *", k) } do
                    ngx.say(kong.service.set_tls_cert_key(chain, private))
                end
            end
        }
    }
--- request
GET /t
--- response_body
true
true
true
true
true
true
--- no_error_log
[error]



=== TEST 3: set_tls_cert_key returns an error for a wrong chain or key
--- config
    location /t {
        access_by_lua_block {
            local ffi = require "ffi"
            pcall(ffi.cdef, "void *OPENSSL_sk_new_null(void);")
            pcall(ffi.cdef, "void OPENSSL_sk_free(void *);")
            local c, k = cert.client1, key.client1
            local empty = ffi.gc(ffi.C.OPENSSL_sk_new_null(), ffi.C.OPENSSL_sk_free)

            ngx.say(kong.service.set_tls_cert_key(empty, k))
            ngx.say(kong.service.set_tls_cert_key(c, key.client2))
            ngx.say(kong.service.set_tls_cert_key(c, key.rsa))
            ngx.say(kong.service.set_tls_cert_key(cert.rsa, k))
            -- Chain and key swapped: both are void pointers.
            ngx.say(kong.service.set_tls_cert_key(k, c))
            ngx.say(kong.service.set_tls_cert_key(k, k))
            ngx.say(kong.service.set_tls_cert_key(c, c))
            ngx.say(kong.service.set_tls_cert_key(ffi.cast("void *", 1), k))
            ngx.say(kong.service.set_tls_cert_key(c, ffi.cast("void *", 4097)))
            ngx.say(tls.set_upstream_cert_and_key(c, key.client2))

            pcall(ffi.cdef, "void *X509_get_pubkey(void *);")
            pcall(ffi.cdef, "void *OPENSSL_sk_value(const void *, int);")
            pcall(ffi.cdef, "void EVP_PKEY_free(void *);")
            local public = ffi.gc(ffi.C.X509_get_pubkey(ffi.C.OPENSSL_sk_value(c, 0)), ffi.C.EVP_PKEY_free)
            local ok, err = kong.service.set_tls_cert_key(c, public)
            ngx.say(ok, " ", (err:match("^key cannot sign: EVP_DigestSign%(%) failed")))
        }
    }
--- request
GET /t
--- response_body
nilchain must hold at least one certificate
nilkey does not belong to the first certificate of chain
nilkey does not belong to the first certificate of chain
nilkey does not belong to the first certificate of chain
nilchain is not a certificate chain
nilchain is not a certificate chain
nilkey is not a private key
nilchain is not a certificate chain
nilkey is not a private key
nilkey does not belong to the first certificate of chain
nil key cannot sign: EVP_DigestSign() failed
--- no_error_log
[error]
[alert]



=== TEST 4: set_tls_cert_key throws for the result of parsing an encrypted key without its passphrase
--- config
    location /t {
        access_by_lua_block {
            local ssl = require "ngx.ssl"
            local private = ssl.parse_pem_priv_key(pki.read("client-encrypted", ".key"))
            ngx.say(pcall(kong.service.set_tls_cert_key, cert.client1, private))
        }
    }
--- request
GET /t
--- response_body
falsekey must be a parsed cdata object
--- no_error_log
[error]



=== TEST 5: set_tls_verify takes only a boolean
--- config
    location /t {
        access_by_lua_block {
            for _, wrong in ipairs { "on", 1, 0, {}, print, ngx.null } do
                ngx.say(pcall(kong.service.set_tls_verify, wrong))
            end
            ngx.say(pcall(kong.service.set_tls_verify))
            ngx.say(pcall(tls.set_upstream_ssl_verify, "true"))
            ngx.say(kong.service.set_tls_verify(true))
            ngx.say(kong.service.set_tls_verify(false))
        }
    }
--- request
GET /t
--- response_body
falseargument must be a boolean
falseargument must be a boolean
falseargument must be a boolean
falseargument must be a boolean
falseargument must be a boolean
falseargument must be a boolean
falseargument must be a boolean
falseargument must be a boolean
true
true
--- no_error_log
[error]



=== TEST 6: set_tls_verify_depth takes only an integer between 0 and 100
--- config
    location /t {
        access_by_lua_block {
            for _, wrong in ipairs { "1", true, {}, 1LL } do
                ngx.say(pcall(kong.service.set_tls_verify_depth, wrong))
            end
            ngx.say(pcall(kong.service.set_tls_verify_depth))
            for _, depth in ipairs { -1, 0.5, 0/0, 101, 1/0, -1/0, 2^31, 2^53 } do
                ngx.say(kong.service.set_tls_verify_depth(depth))
            end
            for _, depth in ipairs { 0, 1, 100 } do
                ngx.say(kong.service.set_tls_verify_depth(depth))
            end
            ngx.say(tls.set_upstream_ssl_verify_depth(-1))
        }
    }
--- request
GET /t
--- response_body
falseargument must be a number
falseargument must be a number
falseargument must be a number
falseargument must be a number
falseargument must be a number
nildepth must be an integer between 0 and 100: given -1
nildepth must be an integer between 0 and 100: given 0.5
nildepth must be an integer between 0 and 100: given NaN
nildepth must be an integer between 0 and 100: given 101
nildepth must be an integer between 0 and 100: given inf
nildepth must be an integer between 0 and 100: given -inf
nildepth must be an integer between 0 and 100: given 2147483648
nildepth must be an integer between 0 and 100: given 9007199254740992
true
true
true
nildepth must be an integer between 0 and 100: given -1
--- no_error_log
[error]



=== TEST 7: set_tls_verify_store takes only a store object
--- config
    location /t {
        access_by_lua_block {
            local ffi = require "ffi"
            local store = pki.store("ca")
            local wrong = { 1, "store", true, {}, { ctx = 1 }, { ctx = {} }, { ctx = cert.client1 },
                            { ctx = ffi.new("int[2]") }, { ctx = ffi.new("X509_STORE *") },
                            { ctx = ffi.cast("void *", store.ctx) }, store.ctx, ngx.null }
            for i = 1, #wrong + 1 do
                local ok, err = pcall(kong.service.set_tls_verify_store, wrong[i])
                if ok or err ~= "argument must be a resty.openssl.x509.store object" then
                    ngx.say(i, ": ", ok, " ", err)
                end
            end
            ngx.say(kong.service.set_tls_verify_store(store))
            ngx.say(kong.service.set_tls_verify_store({ ctx = ffi.cast("X509_STORE *", 8) }))
            ngx.say(tls.set_upstream_ssl_trusted_store(store))
        }
    }
--- request
GET /t
--- response_body
true
nilstore is not a certificate store
true
--- no_error_log
[error]



=== TEST 8: set_upstream_ssl_sans_dnsnames and set_upstream_ssl_sans_uris take only lists of printable ASCII strings
--- config
    location /t {
        access_by_lua_block {
            for _, f in ipairs { "set_upstream_ssl_sans_dnsnames", "set_upstream_ssl_sans_uris" } do
                for _, wrong in ipairs { "a.test", 1, true, { 1 }, { "a", {} }, { "a", x = "b" },
                                         { "a", nil, "b" }, { nil, "b" },
                                         setmetatable({}, { __index = function() return "a" end,
                                                            __len = function() return 2 end }) } do
                    local ok, err, reason = pcall(tls[f], wrong)
                    err = err or reason
                    if ok and err == "names must hold at least one name" then
                        -- The table is empty; its metatable is ignored.
                    elseif ok or err ~= "argument must be a table of strings" then
                        ngx.say(f, ": ", ok, " ", err)
                    end
                end
                ngx.say(tls[f]({}))
                ngx.say(tls[f]({ "" }))
                ngx.say(tls[f]({ "a.test\0.b.test" }))
                ngx.say(tls[f]({ "a b" }))
                ngx.say(tls[f]({ "a.test", "b.test" }))
            end
        }
    }
--- request
GET /t
--- response_body
nilnames must hold at least one name
nilnames must not hold an empty name
nilnames must hold printable ASCII: given "a.test\x00.b.test"
nilnames must hold printable ASCII: given "a b"
true
nilnames must hold at least one name
nilnames must not hold an empty name
nilnames must hold printable ASCII: given "a.test\x00.b.test"
nilnames must hold printable ASCII: given "a b"
true
--- no_error_log
[error]



=== TEST 9: set_client_verify takes only SUCCESS, NONE or FAILED:<reason>
--- config
    location /t {
        content_by_lua_block {
            local function try(value)
                local ok, err = pcall(function() kong.client.tls.set_client_verify(value) end)
                ngx.say(ok, " ", (tostring(err):gsub("^.-:%d+: ", "")))
            end
            try("SUCCESS")
            try("NONE")
            try("FAILED:expired")
            try("FAILED:")
            try("success")
            try("SUCCESS\0")
            try("FAILED:a\r\nSet-Cookie: a=b")
            try(nil)
            try(1)
            try({})
            ngx.say(select("#", kong.client.tls.set_client_verify("NONE")))
        }
    }
--- request
GET /t
--- response_body
true nil
true nil
true nil
false unknown client verify value: "FAILED:", accepted values are: "SUCCESS", "NONE" or "FAILED:<reason>"
false unknown client verify value: "success", accepted values are: "SUCCESS", "NONE" or "FAILED:<reason>"
false unknown client verify value: "SUCCESS\x00", accepted values are: "SUCCESS", "NONE" or "FAILED:<reason>"
false the reason of client verify value "FAILED:a\r\nSet-Cookie: a=b" must not hold control characters
false client verify value must be a string
false client verify value must be a string
false client verify value must be a string
0
--- no_error_log
[error]



=== TEST 10: kong.client.tls functions return an error without TLS, and set_client_verify still works
--- config
    location /t {
        content_by_lua_block {
            ngx.say(kong.client.tls.get_full_client_certificate_chain())
            ngx.say(tls.get_request_ssl_pointer())
            ngx.say(ngx.var.kong_client_verify)
            kong.client.tls.set_client_verify("FAILED:no TLS")
            ngx.say(ngx.var.kong_client_verify)
        }
    }
--- request
GET /t
--- response_body
nilthe client connection does not use TLS
nilthe client connection does not use TLS
nil
FAILED:no TLS
--- no_error_log
[error]



=== TEST 11: an uncaught argument error is logged with its message
--- config
    location /t {
        access_by_lua_block {
            kong.service.set_tls_verify("on")
        }
    }
--- request
GET /t
--- error_code: 500
--- error_log eval
qr/\[error\] .*lua entry thread aborted: runtime error: access_by_lua\(nginx\.conf:\d+\):2: argument must be a boolean/
--- no_error_log
unknown reason



=== TEST 12: set_tls_verify_store refuses a store that was freed
# Skipped under valgrind, which rightly reports the access to freed memory. The check sees a reference count of zero,
# as long as nobody else uses that memory.
--- skip_eval
2: $ENV{TEST_NGINX_USE_VALGRIND}
--- config
    location /t {
        access_by_lua_block {
            local ffi = require "ffi"
            local freed = ffi.gc(pki.store("ca").ctx, nil)
            ffi.C.X509_STORE_free(freed)
            ngx.say(kong.service.set_tls_verify_store({ ctx = freed }))
        }
    }
--- request
GET /t
--- response_body
nilstore was freed: X509_STORE_up_ref() failed
--- no_error_log
[error]
