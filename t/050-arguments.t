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
                err = tostring(err):gsub("^.-:%d+: ", "")
                if ok or not err:find("^" .. expected .. " must be a parsed cdata object: given .*: kong.service.set_tls_cert_key$") then
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
nilerror while setting upstream client cert and key: key does not belong to the first certificate of chain
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
falsekey must be a parsed cdata object: given nil (does it come from a call that failed?): kong.service.set_tls_cert_key
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
falseargument must be a boolean: given the string "on": kong.service.set_tls_verify
falseargument must be a boolean: given 1: kong.service.set_tls_verify
falseargument must be a boolean: given 0: kong.service.set_tls_verify
falseargument must be a boolean: given an empty table: kong.service.set_tls_verify
falseargument must be a boolean: given a function: kong.service.set_tls_verify
falseargument must be a boolean: given ngx.null: kong.service.set_tls_verify
falseargument must be a boolean: given nil: kong.service.set_tls_verify
falseverify expects a boolean but found string
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
            for _, depth in ipairs { -1, -0.5, -1/0 } do
                ngx.say(pcall(kong.service.set_tls_verify_depth, depth))
                ngx.say(pcall(tls.set_upstream_ssl_verify_depth, depth))
            end
            for _, depth in ipairs { 0.5, 0/0, 101, 1/0, 2^31, 2^53 } do
                ngx.say(kong.service.set_tls_verify_depth(depth))
            end
            for _, depth in ipairs { 0, 1, 100 } do
                ngx.say(kong.service.set_tls_verify_depth(depth))
            end
            ngx.say(tls.set_upstream_ssl_verify_depth(101))
        }
    }
--- request
GET /t
--- response_body
falseargument must be a number: given the string "1": kong.service.set_tls_verify_depth
falseargument must be a number: given true: kong.service.set_tls_verify_depth
falseargument must be a number: given an empty table: kong.service.set_tls_verify_depth
falseargument must be a number: given a cdata of type "int64_t": kong.service.set_tls_verify_depth
falseargument must be a number: given nil: kong.service.set_tls_verify_depth
falsedepth expects a non-negative integer but found -1: kong.service.set_tls_verify_depth
falsedepth expects a non-negative integer but found -1
falsedepth expects a non-negative integer but found -0.5: kong.service.set_tls_verify_depth
falsedepth expects a non-negative integer but found -0.5
falsedepth expects a non-negative integer but found -inf: kong.service.set_tls_verify_depth
falsedepth expects a non-negative integer but found -inf
nildepth must be an integer between 0 and 100: given 0.5
nildepth must be an integer between 0 and 100: given NaN
nildepth must be an integer between 0 and 100: given 101
nildepth must be an integer between 0 and 100: given inf
nildepth must be an integer between 0 and 100: given 2147483648
nildepth must be an integer between 0 and 100: given 9007199254740992
true
true
true
nilerror while setting upstream ssl verify depth: depth must be an integer between 0 and 100: given 101
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
                local words = type(wrong[i]) == "table" and "store expects a resty.openssl.x509.store object but found table"
                    or "argument must be a resty.openssl.x509.store object"
                if ok or not err:find("^" .. words .. ": given .*: kong.service.set_tls_verify_store$") then
                    ngx.say(i, ": ", ok, " ", err)
                end
            end
            ngx.say(kong.service.set_tls_verify_store(store))
            ngx.say(kong.service.set_tls_verify_store({ ctx = ffi.cast("X509_STORE *", 8) }))
            ngx.say(tls.set_upstream_ssl_trusted_store(store))
            ngx.say(tls.set_upstream_ssl_trusted_store({ ctx = ffi.cast("X509_STORE *", 8) }))
        }
    }
--- request
GET /t
--- response_body
true
nilstore is not a certificate store
true
nilerror while setting upstream trusted store: store is not a certificate store
--- no_error_log
[error]



=== TEST 8: set_upstream_ssl_sans_dnsnames and set_upstream_ssl_sans_uris take only lists of printable ASCII strings
--- config
    location /t {
        access_by_lua_block {
            for _, f in ipairs { "set_upstream_ssl_sans_dnsnames", "set_upstream_ssl_sans_uris" } do
                for _, wrong in ipairs { { 1 }, { "a", {} }, { "a", x = "b" }, { "a", nil, "b" } } do
                    ngx.say(select(2, pcall(tls[f], wrong)))
                end
                for _, wrong in ipairs { "a.test", 1, true, ngx.null, {}, { x = "a" }, { nil, "b" },
                                         setmetatable({}, { __index = function() return "a" end,
                                                            __len = function() return 2 end }) } do
                    ngx.say(select(2, pcall(tls[f], wrong)))
                end
                ngx.say(tls[f]({ "" }))
                ngx.say(tls[f]({ "a.test\0.b.test" }))
                ngx.say(tls[f]({ "a b" }))
                ngx.say(tls[f]({ "a.test", "b.test" }))
            end
        }
    }
--- request
GET /t
--- response_body eval
CORE::join '', map {
    my ($function, $failed) = @$_;
    ("argument must be a table of strings: given a table that holds something else: resty.kong.tls.$function\n") x 4,
    (map {"incorrect argument, expects an array, got $_\n"} qw(string number boolean userdata)),
    ("incorrect argument, the value can not be an empty array\n") x 4,
    "nil$failed: names must not hold an empty name\n",
    qq{nil$failed: names must hold printable ASCII: given "a.test\\x00.b.test"\n},
    qq{nil$failed: names must hold printable ASCII: given "a b"\n},
    "true\n"
} ['set_upstream_ssl_sans_dnsnames', 'error while setting upstream SSL dnsnames SANs'],
  ['set_upstream_ssl_sans_uris', 'error while setting upstream SSL URIs SANs']
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
false unknown client verify value: FAILED: accepted values are: "SUCCESS", "NONE" or "FAILED:<reason>": kong.client.tls.set_client_verify
false unknown client verify value: success accepted values are: "SUCCESS", "NONE" or "FAILED:<reason>": kong.client.tls.set_client_verify
false unknown client verify value: SUCCESS\x00 accepted values are: "SUCCESS", "NONE" or "FAILED:<reason>": kong.client.tls.set_client_verify
false the reason of client verify value "FAILED:a\r\nSet-Cookie: a=b" must not hold control characters: kong.client.tls.set_client_verify
false client verify value must be a string: given nil: kong.client.tls.set_client_verify
false client verify value must be a string: given 1: kong.client.tls.set_client_verify
false client verify value must be a string: given an empty table: kong.client.tls.set_client_verify
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
nilconnection is not TLS or TLS support for Nginx not enabled
nilno ssl object
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
qr/\[error\] .*lua entry thread aborted: runtime error: access_by_lua\(nginx\.conf:\d+\):2: argument must be a boolean: given the string "on": kong\.service\.set_tls_verify/
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



=== TEST 13: an error says what was given, and how to make what is expected
--- http_config
    init_worker_by_lua_block {
        pcall(require("ffi").cdef, "typedef struct evp_pkey_st EVP_PKEY;")
    }
--- config
    location /t {
        access_by_lua_block {
            local ffi, x509 = require "ffi", require "resty.kong.x509"
            local pem, key_pem = pki.read("client1"), pki.read("client1", ".key")
            local chain, private, store = x509.chain(pem), x509.key(key_pem), x509.store { pem = pem }
            local s = kong.service
            local function try(f, ...)
                local ok, err = pcall(f, ...)
                ngx.say((tostring(err):gsub("%d%d%d+ bytes", "N bytes")))
            end
            try(s.set_tls_cert_key, pem, private)
            try(s.set_tls_cert_key, chain, key_pem)
            try(s.set_tls_cert_key, "client1.crt", private)
            try(s.set_tls_cert_key, ngx.decode_base64("MA=="):rep(1000), private)
            try(s.set_tls_cert_key, nil, private)
            try(s.set_tls_cert_key, private, chain)
            try(s.set_tls_cert_key, chain[1], private)
            try(s.set_tls_cert_key, { ctx = chain.ctx }, private)
            try(s.set_tls_cert_key, chain, { ctx = private.ctx })
            try(s.set_tls_cert_key, { ctx = "text" }, private)
            try(s.set_tls_cert_key, ffi.new("void *"), private)
            try(s.set_tls_cert_key, store.ctx, private)
            try(s.set_tls_cert_key, x509.addresses {}, private)
            try(s.set_tls_cert_key, io.stdout, private)
            try(s.set_tls_cert_key, coroutine.create(function() end), private)
            try(s.set_tls_verify_store, pem)
            try(s.set_tls_verify_store, store.ctx)
            try(s.set_tls_verify_store, { ctx = chain.ctx })
            try(s.set_tls_verify_store, chain)
            try(s.set_tls_verify_store)
            try(tls.set_upstream_ssl_sans_dnsnames, "a.test")
            try(require("resty.kong.sessions").drop, ffi.new("void *"))
            try(require("resty.kong.sessions").drop, ngx.null)
            try(s.set_tls_verify, "a \" quote")
            try(s.set_tls_verify, "a\nline")
            try(s.set_tls_verify, setmetatable({}, { __index = error, __tostring = error, __len = error }))
        }
    }
--- request
GET /t
--- response_body
chain must be a parsed cdata object: given a string with PEM text (parse it with resty.kong.x509's x509.chain): kong.service.set_tls_cert_key
key must be a parsed cdata object: given a string with PEM text (parse it with resty.kong.x509's x509.key): kong.service.set_tls_cert_key
chain must be a parsed cdata object: given the string "client1.crt" (parse PEM text with resty.kong.x509's x509.chain): kong.service.set_tls_cert_key
chain must be a parsed cdata object: given a string of N bytes (parse PEM text with resty.kong.x509's x509.chain): kong.service.set_tls_cert_key
chain must be a parsed cdata object: given nil (does it come from a call that failed?): kong.service.set_tls_cert_key
chain must be a parsed cdata object: given a key of resty.kong.x509 (make one with resty.kong.x509's x509.chain): kong.service.set_tls_cert_key
chain must be a parsed cdata object: given a certificate of resty.kong.x509 (pass the chain itself, or resty.kong.x509's x509.chain(certificate:to_pem())): kong.service.set_tls_cert_key
chain must be a parsed cdata object: given a table with .ctx of type "struct stack_st_X509 *" (pass its .ctx): kong.service.set_tls_cert_key
key must be a parsed cdata object: given a table with .ctx of type "struct evp_pkey_st *" (pass its .ctx): kong.service.set_tls_cert_key
chain must be a parsed cdata object: given a table: kong.service.set_tls_cert_key
chain must be a parsed cdata object: given a NULL pointer: kong.service.set_tls_cert_key
chain must be a parsed cdata object: given a cdata of type "struct x509_store_st *": kong.service.set_tls_cert_key
chain must be a parsed cdata object: given addresses of resty.kong.x509 (make one with resty.kong.x509's x509.chain): kong.service.set_tls_cert_key
chain must be a parsed cdata object: given a userdata: kong.service.set_tls_cert_key
chain must be a parsed cdata object: given a thread: kong.service.set_tls_cert_key
argument must be a resty.openssl.x509.store object: given a string with PEM text (make one with resty.kong.x509's x509.store { pem = ... }): kong.service.set_tls_verify_store
argument must be a resty.openssl.x509.store object: given a cdata of type "struct x509_store_st *" (pass the object that has it as .ctx): kong.service.set_tls_verify_store
store expects a resty.openssl.x509.store object but found table: given a table with .ctx of type "struct stack_st_X509 *": kong.service.set_tls_verify_store
argument must be a resty.openssl.x509.store object: given a chain of resty.kong.x509 (make one with resty.kong.x509's x509.store { pem = ... }): kong.service.set_tls_verify_store
argument must be a resty.openssl.x509.store object: given nil (does it come from a call that failed?): kong.service.set_tls_verify_store
incorrect argument, expects an array, got string
identity must be a value of $kong_upstream_ssl_identity: given a NULL pointer: resty.kong.sessions.drop
identity must be a value of $kong_upstream_ssl_identity: given ngx.null: resty.kong.sessions.drop
argument must be a boolean: given a string of 9 bytes: kong.service.set_tls_verify
argument must be a boolean: given a string of 6 bytes: kong.service.set_tls_verify
argument must be a boolean: given an empty table: kong.service.set_tls_verify
--- no_error_log
[error]



=== TEST 14: a call with a colon in place of a dot is recognized
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            local function try(f)
                local _, err = pcall(f)
                ngx.log(ngx.WARN, "try: ", (tostring(err):gsub("^.-%(.-%):%d+: ", "here: ")), ";")
            end
            -- Functions without arguments work.
            try(function() return kong.client.tls:disable_session_reuse() end)
            try(function() local ok = kong.client.tls:request_client_certificate() end)
            try(function() local ok = tls:request_client_certificate(ca.root, {}) end)
        }
    }
--- config
    location /t {
        access_by_lua_block {
            for _, call in ipairs {
                function() local ok = kong.service:set_upstream("service") end,
                function() local ok = kong.service:set_target("127.0.0.1", 443) end,
                function() local ok = kong.service:set_retries(1) end,
                function() local ok = kong.service:set_timeouts(1, 1, 1) end,
                function() local ok = kong.service:set_tls_cert_key(cert.client1, key.client1) end,
                function() local ok = kong.service:set_tls_verify(true) end,
                function() local ok = kong.service:set_tls_verify_depth(1) end,
                function() local ok = kong.service:set_tls_verify_store(pki.store("ca")) end,
                function() local ok = kong.service:set_tls_verify_names { dns = { "a.test" } } end,
                function() local ok = kong.service:set_tls_pins { spki = {} } end,
                function() local ok = kong.service:set_tls_verify_spiffe { trust_domains = {}, ids = {} } end,
                function() local ok = kong.service:set_tls_options { groups = "P-256" } end,
                function() local ok = kong.client.tls:set_client_verify("NONE") end,
                -- These take no argument, and work.
                function() return (kong.client.tls:get_full_client_certificate_chain()) end,
                function() return tls:get_request_ssl_pointer() and nil end,
                function() local ok = tls:set_upstream_ssl_sans_uris { "a:b" } end,
                -- In a wrong phase, that comes first.
                function() local ok = kong.client.tls:disable_session_reuse() end,
            } do
                local ok, err = pcall(call)
                ngx.say((tostring(err):gsub("^access_by_lua%(nginx.conf:%d+%):%d+: ", "here: ")))
            end
            require("client").s_client { unix = "$TEST_NGINX_HTML_DIR/gateway.sock" }
        }
    }
--- request
GET /t
--- response_body eval
my $colon = 'called with ":" in place of ".": use';
<<"_EOC_"
here: host must be a string: $colon kong.service.set_upstream(...)
here: host must be a string: $colon kong.service.set_target(...)
here: retries must be an integer: $colon kong.service.set_retries(...)
here: connect_timeout must be an integer: $colon kong.service.set_timeouts(...)
here: chain must be a parsed cdata object: $colon kong.service.set_tls_cert_key(...)
here: argument must be a boolean: $colon kong.service.set_tls_verify(...)
here: argument must be a number: $colon kong.service.set_tls_verify_depth(...)
here: store expects a resty.openssl.x509.store object but found table: $colon kong.service.set_tls_verify_store(...)
here: argument must be a table: $colon kong.service.set_tls_verify_names(...)
here: argument must be a table: $colon kong.service.set_tls_pins(...)
here: argument must be a table: $colon kong.service.set_tls_verify_spiffe(...)
here: argument must be a table: $colon kong.service.set_tls_options(...)
here: client verify value must be a string: $colon kong.client.tls.set_client_verify(...)
nil
nil
here: incorrect argument, the value can not be an empty array: $colon resty.kong.tls.set_upstream_ssl_sans_uris(...)
here: function cannot be called in access phase (only in: certificate): kong.client.tls.disable_session_reuse (call it in ssl_certificate_by_lua*)
_EOC_
--- grep_error_log eval
qr/try: [^;]*/
--- grep_error_log_out
try: true
try: here: ca_certs must be a parsed cdata object: called with ":" in place of ".": use kong.client.tls.request_client_certificate(...)
try: here: ca_certs must be a parsed cdata object: called with ":" in place of ".": use resty.kong.tls.request_client_certificate(...)
--- no_error_log
[error]



=== TEST 15: set_tls_verify_names, set_tls_pins and set_tls_server_name say what is wrong with which field
--- config
    location /t {
        access_by_lua_block {
            local s = kong.service
            local function try(f, ...)
                local ok, result, reason = pcall(f, ...)
                ngx.say(ok and "" or "throws ", tostring(result), reason and " " or "", reason or "")
            end
            for _, names in ipairs {
                {}, { host = true }, { host = "a.test" }, { host = "10.0.0.1", dns = {} }, { host = false, uris = { "a" } },
                { host = false, ips = { "::1", "[::1]", "10.0.0.1" } },
                -- What is wrong.
                { host = ngx.null }, { dns = ngx.null }, 1, { name = "a.test" }, { "a.test" }, { host = 1 }, { host = "" }, { host = "a b" },
                { host = false }, { host = false, dns = {} }, { dns = "a.test" }, { dns = { 1 } }, { uris = { "" } }, { uris = { "a\0b" } },
                { ips = { "10.0.0" } }, { ips = { "10.0.0.1/8" } }, { ips = { "" } }, { emails = { "a.test" } }, { emails = { "a b@c" } },
                { host = ".test" }, { uris = { "spiffe://*" } }, { uris = { "spiffe://a/b*" } },
            } do
                try(s.set_tls_verify_names, names)
            end
            try(s.set_tls_verify_names)
            local digest = ngx.encode_base64(("x"):rep(32))
            for _, pins in ipairs {
                { spki = { digest } }, 1, {}, { spki = digest }, { spki = {} }, { digest }, { spki = { digest, "" } },
                { spki = { digest:sub(1, -2) } }, { spki = { "sha256/" .. digest } }, { spki = { ngx.encode_base64("x") } },
            } do
                try(s.set_tls_pins, pins)
            end
            for _, name in ipairs { "a.test", "", "a.test.", "_a-b.test", 1, "10.0.0.1", "::1", "a b", "a\0", ".", ("a"):rep(256) } do
                try(s.set_tls_server_name, name)
            end
            try(s.set_tls_server_name)
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
throws host must be a boolean or a string: given ngx.null: kong.service.set_tls_verify_names
throws dns must be a table of strings: given ngx.null: kong.service.set_tls_verify_names
throws argument must be a table: given 1: kong.service.set_tls_verify_names
throws unknown field "name"; fields are dns, emails, host, ips, uris: kong.service.set_tls_verify_names
throws unknown field "1"; fields are dns, emails, host, ips, uris: kong.service.set_tls_verify_names
throws host must be a boolean or a string: given 1: kong.service.set_tls_verify_names
nil names must not hold an empty name
nil names must hold printable ASCII: given "a b"
nil names must hold at least one name if host is false
nil names must hold at least one name if host is false
throws dns must be a table of strings: given the string "a.test": kong.service.set_tls_verify_names
throws dns must be a table of strings: given a table that holds something else: kong.service.set_tls_verify_names
nil names must not hold an empty name
nil names must hold printable ASCII: given "a\x00b"
nil ips must hold IP addresses: given "10.0.0"
nil ips must hold IP addresses: given "10.0.0.1/8"
nil ips must hold IP addresses: given ""
nil emails must hold addresses with an @: given "a.test"
nil names must hold printable ASCII: given "a b@c"
nil host must be the name of a host, and not begin with a dot: given ".test"
nil uris must have a "*" after "spiffe://<trust domain>/" alone, as all of the last segment: given "spiffe://*"
nil uris must have a "*" after "spiffe://<trust domain>/" alone, as all of the last segment: given "spiffe://a/b*"
throws argument must be a table: given nil: kong.service.set_tls_verify_names
true
throws argument must be a table: given 1: kong.service.set_tls_pins
throws spki must be a table of strings: given nil: kong.service.set_tls_pins
throws spki must be a table of strings: given a string of 44 bytes: kong.service.set_tls_pins
nil spki must hold at least one digest
throws unknown field "1"; fields are spki: kong.service.set_tls_pins
nil spki must hold SHA-256 digests in Base64: given ""
nil spki must hold SHA-256 digests in Base64: given "eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg"
nil spki must hold SHA-256 digests in Base64: given "sha256/eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg="
nil spki must hold SHA-256 digests in Base64: given "eA=="
true
true
true
true
throws name must be a string: given 1: kong.service.set_tls_server_name
nil name must be a host name, and no IP address: given "10.0.0.1"
nil name must be a host name, and no IP address: given "::1"
nil name must be a host name, and no IP address: given "a b"
nil name must be a host name, and no IP address: given "a\x00"
nil name must be a host name, and no IP address: given "."
nil name must not be longer than 255 bytes: given 256
throws name must be a string: given nil: kong.service.set_tls_server_name
--- no_error_log
[error]



=== TEST 16: set_tls_verify_spiffe says what is wrong with which field
--- config
    location /t {
        access_by_lua_block {
            local ffi = require "ffi"
            local s, store = kong.service, pki.store("ca")
            local function try(f, ...)
                local ok, result, reason = pcall(f, ...)
                ngx.say(ok and "" or "throws ", tostring(result), reason and " " or "", reason or "")
            end
            local ids, domains = { "spiffe://a.test/b" }, { ["a.test"] = store }
            local long = "spiffe://" .. ("a"):rep(256) .. "/b"
            for _, spiffe in ipairs {
                { trust_domains = domains, ids = ids },
                { trust_domains = { ["a.test"] = store, ["b_1-c"] = store }, ids = { "spiffe://b_1-c/*", "spiffe://a.test/b/*" } },
                -- What is wrong.
                1, "spiffe://a.test/b", {}, { trust_domains = domains }, { ids = ids }, { "spiffe://a.test/b" }, { trust_domain = domains },
                { trust_domains = "a.test", ids = ids }, { trust_domains = { store }, ids = ids }, { trust_domains = store, ids = ids },
                { trust_domains = { ["a.test"] = "PEM" }, ids = ids }, { trust_domains = { ["a.test"] = store.ctx }, ids = ids },
                { trust_domains = { ["a.test"] = { ctx = cert.client1 } }, ids = ids },
                { trust_domains = domains, ids = "spiffe://a.test/b" }, { trust_domains = domains, ids = { 1 } },
                { trust_domains = domains, ids = { "spiffe://a.test/b", x = "spiffe://a.test/c" } },
                { trust_domains = {}, ids = ids }, { trust_domains = domains, ids = {} },
                { trust_domains = { [""] = store }, ids = ids }, { trust_domains = { ["A.test"] = store }, ids = ids },
                { trust_domains = { ["a.test\0"] = store }, ids = ids }, { trust_domains = { ["spiffe://a.test"] = store }, ids = ids },
                { trust_domains = domains, ids = { "" } }, { trust_domains = domains, ids = { "spiffe://a.test" } },
                { trust_domains = domains, ids = { "spiffe://a.test/b", "spiffe://a.test/b*" } },
                { trust_domains = domains, ids = { "spiffe://*" } }, { trust_domains = domains, ids = { "a.test/b" } },
                { trust_domains = domains, ids = { "spiffe://a.test/b\0" } }, { trust_domains = domains, ids = { "spiffe://a.test/b/" } },
                { trust_domains = domains, ids = { "spiffe://b.test/b" } },
                { trust_domains = { ["a.test"] = { ctx = ffi.cast("X509_STORE *", 8) } }, ids = ids },
            } do
                try(s.set_tls_verify_spiffe, spiffe)
            end
            try(s.set_tls_verify_spiffe)
            try(s.set_tls_verify_spiffe, { trust_domains = { [("a"):rep(256)] = store }, ids = { long } })
        }
    }
--- request
GET /t
--- response_body
true
true
throws argument must be a table: given 1: kong.service.set_tls_verify_spiffe
throws argument must be a table: given the string "spiffe://a.test/b": kong.service.set_tls_verify_spiffe
throws trust_domains must be a table of stores: given nil: kong.service.set_tls_verify_spiffe
throws ids must be a table of strings: given nil: kong.service.set_tls_verify_spiffe
throws trust_domains must be a table of stores: given nil: kong.service.set_tls_verify_spiffe
throws unknown field "1"; fields are ids, trust_domains: kong.service.set_tls_verify_spiffe
throws unknown field "trust_domain"; fields are ids, trust_domains: kong.service.set_tls_verify_spiffe
throws trust_domains must be a table of stores: given the string "a.test": kong.service.set_tls_verify_spiffe
throws trust_domains must have names of trust domains: given 1: kong.service.set_tls_verify_spiffe
throws trust_domains must be a table of stores: given a cdata of type "struct x509_store_st *" (pass the object that has it as .ctx): kong.service.set_tls_verify_spiffe
throws trust_domains must be a table of stores: given the string "PEM" (make one with resty.kong.x509's x509.store { pem = ... }): kong.service.set_tls_verify_spiffe
throws trust_domains must be a table of stores: given a cdata of type "struct x509_store_st *" (pass the object that has it as .ctx): kong.service.set_tls_verify_spiffe
throws trust_domains must be a table of stores: given a table with .ctx of type "void *": kong.service.set_tls_verify_spiffe
throws ids must be a table of strings: given the string "spiffe://a.test/b": kong.service.set_tls_verify_spiffe
throws ids must be a table of strings: given a table that holds something else: kong.service.set_tls_verify_spiffe
throws ids must be a table of strings: given a table that holds something else: kong.service.set_tls_verify_spiffe
nil trust_domains must hold at least one trust domain
nil ids must hold at least one SPIFFE ID; "spiffe://<trust domain>/*" stands for all
nil trust_domains must hold names of at most 255 lower-case letters, digits, dots, dashes and underscores: given ""
nil trust_domains must hold names of at most 255 lower-case letters, digits, dots, dashes and underscores: given "A.test"
nil trust_domains must hold names of at most 255 lower-case letters, digits, dots, dashes and underscores: given "a.test\x00"
nil trust_domains must hold names of at most 255 lower-case letters, digits, dots, dashes and underscores: given "spiffe://a.test"
nil ids must hold SPIFFE IDs with a path, of which the last segment may be a "*": given ""
nil ids must hold SPIFFE IDs with a path, of which the last segment may be a "*": given "spiffe://a.test"
nil ids must hold SPIFFE IDs with a path, of which the last segment may be a "*": given "spiffe://a.test/b*"
nil ids must hold SPIFFE IDs with a path, of which the last segment may be a "*": given "spiffe://*"
nil ids must hold SPIFFE IDs with a path, of which the last segment may be a "*": given "a.test/b"
nil ids must hold SPIFFE IDs with a path, of which the last segment may be a "*": given "spiffe://a.test/b\x00"
nil ids must hold SPIFFE IDs with a path, of which the last segment may be a "*": given "spiffe://a.test/b/"
nil ids must be of one of the trust domains: given "spiffe://b.test/b"
nil store is not a certificate store
throws argument must be a table: given nil: kong.service.set_tls_verify_spiffe
nil trust_domains must hold names of at most 255 lower-case letters, digits, dots, dashes and underscores: given "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
--- no_error_log
[error]



=== TEST 17: set_tls_verify_spiffe excludes a store for all, and verification that is off
--- config
    location /spiffe {
        access_by_lua_block {
            local s, store = kong.service, pki.store("ca")
            local spiffe = { trust_domains = { ["a.test"] = store }, ids = { "spiffe://a.test/b" } }
            ngx.say(s.set_tls_verify_spiffe(spiffe))
            ngx.say(s.set_tls_verify_store(store))
            ngx.say(tls.set_upstream_ssl_trusted_store(store))
            ngx.say(s.set_tls_verify(false))
            ngx.say(tls.set_upstream_ssl_verify(false))
            ngx.say(s.set_tls_verify(true))
            -- Other IDs take the place of these.
            ngx.say(s.set_tls_verify_spiffe(spiffe))
        }
    }
    location /store {
        access_by_lua_block {
            local s, store = kong.service, pki.store("ca")
            ngx.say(s.set_tls_verify_store(store))
            ngx.say(s.set_tls_verify_spiffe { trust_domains = { ["a.test"] = store }, ids = { "spiffe://a.test/b" } })
            ngx.say(s.set_tls_verify(false))
        }
    }
    # The service is verified, whatever was set before.
    location /off {
        access_by_lua_block {
            local s, store = kong.service, pki.store("ca")
            ngx.say(s.set_tls_verify(false))
            ngx.say(s.set_tls_verify_spiffe { trust_domains = { ["a.test"] = store }, ids = { "spiffe://a.test/b" } })
        }
    }
    location /enforced {
        access_by_lua_block {
            local s, store = kong.service, pki.store("ca")
            ngx.say(s.set_tls_verify_spiffe { trust_domains = { ["a.test"] = store }, ids = { "spiffe://a.test/b" } })
            ngx.say(s.set_tls_verify(false))
        }
        kong_tls_certificate_verify on;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://127.0.0.1:1;
    }
--- exchanges
GET /spiffe =>
    true
    nilset_tls_verify_spiffe was called: each trust domain has its own store
    nilerror while setting upstream trusted store: set_tls_verify_spiffe was called: each trust domain has its own store
    nilset_tls_verify_spiffe was called: a service is verified if it must have a SPIFFE ID
    nilerror while setting upstream ssl verify mode: set_tls_verify_spiffe was called: a service is verified if it must have a SPIFFE ID
    true
    true
GET /store =>
    true
    nilset_tls_verify_store was called: each trust domain must have its own store
    true
GET /off =>
    true
    true
GET /enforced =>
    true
    nilTLS certificate verification is enforced
--- no_error_log
[error]



=== TEST 18: set_tls_options says what is wrong with which option
--- config
    location /t {
        access_by_lua_block {
            local s = kong.service
            local function try(f, ...)
                local ok, result, reason = pcall(f, ...)
                ngx.say(ok and "" or "throws ", tostring(result), reason and " " or "", reason or "")
            end
            for _, options in ipairs {
                { min_version = "TLSv1.2", max_version = "TLSv1.3" }, { ciphers = "HIGH:!RC4" }, { groups = "P-256" },
                { ciphersuites = "TLS_AES_256_GCM_SHA384" }, { signature_algorithms = "ECDSA+SHA256" },
                -- What is wrong.
                1, "TLSv1.3", {}, { "TLSv1.3" }, { version = "TLSv1.3" }, { min_version = 1.3 }, { max_version = ngx.null },
                { ciphers = { "HIGH" } }, { ciphersuites = true }, { groups = 1 }, { signature_algorithms = {} },
                { min_version = "" }, { min_version = "1.3" }, { max_version = "TLSv1.3\0" }, { max_version = "tlsv1.2" },
                { min_version = "TLSv1.3", max_version = "TLSv1.2" },
                { ciphers = "" }, { ciphers = "NONE" }, { ciphers = "HIGH:!NONE" }, { ciphers = "HIGH\0" }, { ciphers = "!ALL" },
                { ciphersuites = "" }, { ciphersuites = "TLS_AES_256_GCM_SHA384:NONE" }, { ciphersuites = "ECDHE-RSA-AES128-GCM-SHA256" },
                { groups = "" }, { groups = "P-256:NONE" }, { groups = "P-256\0" },
                { signature_algorithms = "" }, { signature_algorithms = "ECDSA+SHA256:NONE" }, { signature_algorithms = "\xff" },
            } do
                try(s.set_tls_options, options)
            end
            try(s.set_tls_options)
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
throws argument must be a table: given 1: kong.service.set_tls_options
throws argument must be a table: given the string "TLSv1.3": kong.service.set_tls_options
nil at least one option must be set
throws unknown option "1"; options are ciphers, ciphersuites, groups, max_version, min_version, signature_algorithms: kong.service.set_tls_options
throws unknown option "version"; options are ciphers, ciphersuites, groups, max_version, min_version, signature_algorithms: kong.service.set_tls_options
throws min_version must be a string: given 1.3: kong.service.set_tls_options
throws max_version must be a string: given ngx.null: kong.service.set_tls_options
throws ciphers must be a string: given a table: kong.service.set_tls_options
throws ciphersuites must be a string: given true: kong.service.set_tls_options
throws groups must be a string: given 1: kong.service.set_tls_options
throws signature_algorithms must be a string: given an empty table: kong.service.set_tls_options
nil min_version must be one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3: given ""
nil min_version must be one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3: given "1.3"
nil max_version must be one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3: given "TLSv1.3\x00"
nil max_version must be one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3: given "tlsv1.2"
nil min_version must not be later than max_version
nil ciphers must hold names that OpenSSL knows: given ""
nil ciphers must hold names that OpenSSL knows: given "NONE"
nil ciphers must hold names that OpenSSL knows: given "!NONE"
nil ciphers must hold names that OpenSSL knows: given "HIGH\x00"
nil ciphers must hold names that OpenSSL knows: given "!ALL"
nil ciphersuites must hold names that OpenSSL knows: given ""
nil ciphersuites must hold names that OpenSSL knows: given "NONE"
nil ciphersuites must hold names that OpenSSL knows: given "ECDHE-RSA-AES128-GCM-SHA256"
nil groups must hold names that OpenSSL knows: given ""
nil groups must hold names that OpenSSL knows: given "P-256:NONE"
nil groups must hold names that OpenSSL knows: given "P-256\x00"
nil signature_algorithms must hold names that OpenSSL knows: given ""
nil signature_algorithms must hold names that OpenSSL knows: given "ECDSA+SHA256:NONE"
nil signature_algorithms must hold names that OpenSSL knows: given "\xff"
throws argument must be a table: given nil: kong.service.set_tls_options
--- no_error_log
[error]
