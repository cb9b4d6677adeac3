# SPDX-License-Identifier: Apache-2.0

# kong.client.tls.request_client_certificate and get_full_client_certificate_chain, tested with `openssl s_client`.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('config', <<'_EOC_' . ($block->config // ''));
    location /version {
        content_by_lua_block {
            local client = require "client"
            for _, name in ipairs { "none", "client1", "client-intermediate", "client-deep",
                                    "client-other", "client-expired" } do
                local seen = client.s_client {
                    unix = "$TEST_NGINX_HTML_DIR/gateway.sock", servername = "gateway.test",
                    tls = ngx.var.arg_tls, cert = name ~= "none" and name or nil,
                }
                ngx.print(name, ": ", seen.protocol, " ",
                          seen.cert_requested and "asked [" or "not asked [",
                          table.concat(seen.acceptable_cas, "; "), "] ", seen.body)
            end
        }
    }
_EOC_
});

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: request_client_certificate without authorities requests a certificate and sends no CA names
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate())
        }
    }
--- config
--- exchanges
for $v (1.2 1.3)
    GET /version?tls=$v =>
        none: TLSv$v asked [] NONE, no certificates
        client1: TLSv$v asked [] FAILED:unable to verify the first certificate, 1 certificates
        client-intermediate: TLSv$v asked [] FAILED:unable to get local issuer certificate, 2 certificates
        client-deep: TLSv$v asked [] FAILED:unable to get local issuer certificate, 3 certificates
        client-other: TLSv$v asked [] FAILED:unable to verify the first certificate, 1 certificates
        client-expired: TLSv$v asked [] FAILED:certificate has expired, 1 certificates
--- no_error_log
[error]



=== TEST 2: request_client_certificate sends the names of its authorities and verifies the chain up to one of them
--- http_config
    gateway {
        ssl_verify_depth 1;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
        }
    }
--- config
--- exchanges
for $v (1.2 1.3)
    GET /version?tls=$v =>
        none: TLSv$v asked [O=Test, CN=Test Root CA] NONE, no certificates
        client1: TLSv$v asked [O=Test, CN=Test Root CA] SUCCESS, 1 certificates
        client-intermediate: TLSv$v asked [O=Test, CN=Test Root CA] SUCCESS, 2 certificates
        client-deep: TLSv$v asked [O=Test, CN=Test Root CA] FAILED:unable to get local issuer certificate, 3 certificates
        client-other: TLSv$v asked [O=Test, CN=Test Root CA] FAILED:unable to verify the first certificate, 1 certificates
        client-expired: TLSv$v asked [O=Test, CN=Test Root CA] FAILED:certificate has expired, 1 certificates
--- no_error_log
[error]



=== TEST 3: tls.request_client_certificate takes several authorities, and ssl_verify_depth applies
--- http_config
    gateway {
        ssl_verify_depth 2;
        ssl_certificate_by_lua_block {
            assert(tls.request_client_certificate(ca.both))
        }
    }
--- config
--- exchanges
for $v (1.2 1.3)
    GET /version?tls=$v =>
        none: TLSv$v asked [O=Test, CN=Test Root CA; O=Test, CN=Other Root CA] NONE, no certificates
        client1: TLSv$v asked [O=Test, CN=Test Root CA; O=Test, CN=Other Root CA] SUCCESS, 1 certificates
        client-intermediate: TLSv$v asked [O=Test, CN=Test Root CA; O=Test, CN=Other Root CA] SUCCESS, 2 certificates
        client-deep: TLSv$v asked [O=Test, CN=Test Root CA; O=Test, CN=Other Root CA] SUCCESS, 3 certificates
        client-other: TLSv$v asked [O=Test, CN=Test Root CA; O=Test, CN=Other Root CA] SUCCESS, 1 certificates
        client-expired: TLSv$v asked [O=Test, CN=Test Root CA; O=Test, CN=Other Root CA] FAILED:certificate has expired, 1 certificates
--- no_error_log
[error]



=== TEST 4: partial_chain accepts an intermediate as authority
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.intermediate, { partial_chain = true }))
        }
    }
--- config
--- exchanges
for $v (1.2 1.3)
    GET /version?tls=$v => /
        client1: \S+ asked \[O=Test, CN=[^;\]]*\] FAILED:unable to get local issuer certificate, .*
        client-intermediate: \S+ asked \[.*\] SUCCESS, 2 certificates
        client-deep: \S+ asked \[.*\] SUCCESS, 3 certificates
    /
--- no_error_log
[error]



=== TEST 5: request_client_certificate overrides ssl_client_certificate
--- http_config
    gateway {
        ssl_verify_client on;
        ssl_client_certificate $TEST_NGINX_PKI/other-ca.crt;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
        }
    }
--- config
--- exchanges
for $v (1.2 1.3)
    GET /version?tls=$v => /
        none: \S+ asked \[O=Test, CN=Test Root CA\] .*400.*
        client1: \S+ asked \[O=Test, CN=Test Root CA\] SUCCESS, 1 certificates
    /s
--- no_error_log
[error]



=== TEST 6: request_client_certificate without authorities sends no CA names, and ssl_client_certificate verifies
--- http_config
    gateway {
        ssl_verify_client optional;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate())
        }
    }
--- config
--- exchanges
for $v (1.2 1.3)
    GET /version?tls=$v => /client1: \S+ asked \[\] SUCCESS, 1 certificates\n/
--- no_error_log
[error]



=== TEST 7: the last of several calls of request_client_certificate applies
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
            assert(kong.client.tls.request_client_certificate())
            assert(kong.client.tls.request_client_certificate(ca.root))
            assert(kong.client.tls.request_client_certificate(ca.other))
        }
    }
--- config
--- exchanges
for $v (1.2 1.3)
    GET /version?tls=$v => /
        client1: \S+ asked \[O=Test, CN=Other Root CA\] FAILED:unable to verify the first certificate, 1 certificates
        (?s:.*)client-other: \S+ asked \[O=Test, CN=Other Root CA\] SUCCESS, 1 certificates
    /
--- no_error_log
[error]



=== TEST 8: request_client_certificate without authorities removes those of an earlier call
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
            assert(kong.client.tls.request_client_certificate())
        }
    }
--- config
--- exchanges
for $v (1.2 1.3)
    GET /version?tls=$v => /client1: \S+ asked \[\] FAILED:unable to verify the first certificate, 1 certificates\n/
--- no_error_log
[error]



=== TEST 9: request_client_certificate overrides an earlier ssl.verify_client of the Lua module
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            local ssl = require "ngx.ssl"
            assert(ssl.verify_client(ca.other, 1))
            assert(kong.client.tls.request_client_certificate(ca.root))
        }
    }
--- config
--- exchanges
for $v (1.2 1.3)
    GET /version?tls=$v => /client1: \S+ asked \[O=Test, CN=Test Root CA\] SUCCESS, 1 certificates\n/
--- no_error_log
[error]



=== TEST 10: ssl.verify_client of the Lua module overrides an earlier request_client_certificate
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            local ssl = require "ngx.ssl"
            assert(kong.client.tls.request_client_certificate(ca.root))
            assert(ssl.verify_client(ca.other, 1))
        }
    }
--- config
--- exchanges
for $v (1.2 1.3)
    GET /version?tls=$v => /client1: \S+ asked \[O=Test, CN=Other Root CA\] /
--- no_error_log
[error]



=== TEST 11: lists of authorities may be garbage-collected right after the call
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            turn = (turn or 0) + 1
            local name = turn % 2 == 1 and "ca" or "other-ca"
            for i = 1, 50 do
                assert(kong.client.tls.request_client_certificate(pki.chain(i % 2 == 1 and "ca" or "other-ca")))
                collectgarbage()
            end
            assert(kong.client.tls.request_client_certificate(pki.chain(name)))
            collectgarbage()
        }
    }
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            for i = 1, 6 do
                local seen = client.s_client {
                    unix = "$TEST_NGINX_HTML_DIR/gateway.sock", cert = "client1", tls = i > 3 and "1.3" or "1.2",
                }
                ngx.print(seen.acceptable_cas[1], " ", seen.body)
            end
        }
    }
--- request
GET /t
--- response_body
O=Test, CN=Test Root CA SUCCESS, 1 certificates
O=Test, CN=Other Root CA FAILED:unable to verify the first certificate, 1 certificates
O=Test, CN=Test Root CA SUCCESS, 1 certificates
O=Test, CN=Other Root CA FAILED:unable to verify the first certificate, 1 certificates
O=Test, CN=Test Root CA SUCCESS, 1 certificates
O=Test, CN=Other Root CA FAILED:unable to verify the first certificate, 1 certificates
--- no_error_log
[error]



=== TEST 12: request_client_certificate refuses wrong lists and options
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            local ffi = require "ffi"
            local function try(...)
                local arguments = { ... }
                local ok, result, err = pcall(function()
                    return kong.client.tls.request_client_certificate(unpack(arguments, 1, 2))
                end)
                ngx.log(ngx.WARN, "try: ", tostring(ok), ", ", tostring(result), ", ", tostring(err), ";")
            end
            try("PEM")
            try({})
            try(ffi.new("int[2]"))
            try(ffi.new("void *"))
            try(key.client1)
            try(false)
            try(ca.root, 1)
            try(ca.root, { partial_chain = 1 })
            try(ca.root, { partial = true })
            try(ca.root, { true })
        }
    }
--- config
    location /t {
        content_by_lua_block {
            local seen = require("client").s_client { unix = "$TEST_NGINX_HTML_DIR/gateway.sock", cert = "client1" }
            ngx.print(seen.cert_requested, " ", seen.body)
        }
    }
--- request
GET /t
--- response_body
false NONE, no certificates
--- grep_error_log eval
qr/try: [^;]*(?:; options[^;]*)?/
--- grep_error_log_out
try: false, ca_certs must be a parsed cdata object: given the string "PEM" (parse PEM text with resty.kong.x509's x509.chain): kong.client.tls.request_client_certificate, nil
try: false, ca_certs must be a parsed cdata object: given an empty table: kong.client.tls.request_client_certificate, nil
try: false, ca_certs must be a parsed cdata object: given a cdata of type "int [2]": kong.client.tls.request_client_certificate, nil
try: false, ca_certs must be a parsed cdata object: given a NULL pointer: kong.client.tls.request_client_certificate, nil
try: true, nil, ca_certs: chain is not a certificate chain
try: false, ca_certs must be a parsed cdata object: given false: kong.client.tls.request_client_certificate, nil
try: false, options must be a table: given 1: kong.client.tls.request_client_certificate, nil
try: false, partial_chain must be a boolean: given 1: kong.client.tls.request_client_certificate, nil
try: false, unknown option "partial"; options are names, partial_chain: kong.client.tls.request_client_certificate, nil
try: false, unknown option "1"; options are names, partial_chain: kong.client.tls.request_client_certificate, nil
--- no_error_log
[error]
[alert]



=== TEST 13: request_client_certificate refuses more CA names than TLS can carry
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            local ssl = require "ngx.ssl"
            local many = io.open("$TEST_NGINX_PKI/../cas-1500.pem"):read("*a")
            ngx.log(ngx.WARN, "many: ", tostring(select(2, kong.client.tls.request_client_certificate(
                assert(ssl.parse_pem_cert(many))))))
        }
    }
--- init
my $file = "$ENV{TEST_NGINX_PKI}/../cas-1500.pem";
-f $file or system("scripts/pki", "--cas", 1500, $file) == 0 or die;
--- config
    location /t {
        content_by_lua_block {
            local seen = require("client").s_client { unix = "$TEST_NGINX_HTML_DIR/gateway.sock", cert = "client1" }
            ngx.print(seen.cert_requested, " ", seen.body)
        }
    }
--- request
GET /t
--- response_body
false NONE, no certificates
--- error_log eval
qr/many: ca_certs: the names of 1500 authorities take \d+ bytes, and TLS allows for \d+/
--- no_error_log
[error]



=== TEST 14: all CA names arrive, for up to 380 authorities
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            local pki = require "pki"
            local count = tonumber((require("ngx.ssl").server_name():match("^n(%d+)%.")))
            many = many or {}
            if not many[count] then
                local list = { pki.read("ca") }
                for pem in io.open("$TEST_NGINX_PKI/../cas-1500.pem"):read("*a"):gmatch("%-+BEGIN.-%-END[^\n]+\n") do
                    if #list == count then
                        break
                    end
                    list[#list + 1] = pem
                end
                many[count] = assert(require("ngx.ssl").parse_pem_cert(table.concat(list)))
            end
            assert(kong.client.tls.request_client_certificate(many[count]))
        }
    }
--- init
my $file = "$ENV{TEST_NGINX_PKI}/../cas-1500.pem";
-f $file or system("scripts/pki", "--cas", 1500, $file) == 0 or die;
--- config
    location /t {
        content_by_lua_block {
            for _, count in ipairs { 1, 100, 380 } do
                for _, version in ipairs { "1.2", "1.3" } do
                    local seen = require("client").s_client {
                        unix = "$TEST_NGINX_HTML_DIR/gateway.sock", cert = "client1", tls = version,
                        servername = "n" .. count .. ".test", timeout = 20,
                    }
                    ngx.print(seen.protocol, " ", #seen.acceptable_cas, " names, from ", seen.acceptable_cas[1], " to ",
                              seen.acceptable_cas[#seen.acceptable_cas], ": ", seen.body)
                end
            end
        }
    }
--- request
GET /t
--- response_body
TLSv1.2 1 names, from O=Test, CN=Test Root CA to O=Test, CN=Test Root CA: SUCCESS, 1 certificates
TLSv1.3 1 names, from O=Test, CN=Test Root CA to O=Test, CN=Test Root CA: SUCCESS, 1 certificates
TLSv1.2 100 names, from O=Test, CN=Test Root CA to O=Test, CN=Extra CA 00099: SUCCESS, 1 certificates
TLSv1.3 100 names, from O=Test, CN=Test Root CA to O=Test, CN=Extra CA 00099: SUCCESS, 1 certificates
TLSv1.2 380 names, from O=Test, CN=Test Root CA to O=Test, CN=Extra CA 00379: SUCCESS, 1 certificates
TLSv1.3 380 names, from O=Test, CN=Test Root CA to O=Test, CN=Extra CA 00379: SUCCESS, 1 certificates
--- no_error_log
[error]



=== TEST 15: a resumed session has the client's whole chain (see 085-resumption.t for more)
--- http_config
    gateway {
        ssl_session_cache shared:sessions:1m;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
        }
    }
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            for _, version in ipairs { "1.2", "1.3" } do
                for _, direction in ipairs { "sess_out", "sess_in" } do
                    local seen = client.s_client {
                        unix = "$TEST_NGINX_HTML_DIR/gateway.sock", cert = "client-intermediate", tls = version,
                        [direction] = "$TEST_NGINX_HTML_DIR/session" .. version,
                    }
                    ngx.print(seen.protocol, " ", seen.reused, " ", seen.body)
                end
            end
        }
    }
--- request
GET /t
--- response_body
TLSv1.2 false SUCCESS, 2 certificates
TLSv1.2 true SUCCESS, 2 certificates
TLSv1.3 false SUCCESS, 2 certificates
TLSv1.3 true SUCCESS, 2 certificates
--- no_error_log
[error]



=== TEST 16: get_full_client_certificate_chain returns the chain, leaf first, in each of its phases
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/phases.sock ssl;
        certificate gateway;
        ssl_verify_client optional_no_ca;
        location / {
            rewrite_by_lua_block { seen = { kong.client.tls.get_full_client_certificate_chain() } }
            access_by_lua_block { table.insert(seen, (kong.client.tls.get_full_client_certificate_chain())) }
            content_by_lua_block {
                table.insert(seen, (tls.get_full_client_certificate_chain()))
                ngx.say(seen[1] == pki.read("client-deep", ".crt"))
            }
            header_filter_by_lua_block { table.insert(seen, (kong.client.tls.get_full_client_certificate_chain())) }
            body_filter_by_lua_block {
                if ngx.arg[2] then
                    table.insert(seen, (kong.client.tls.get_full_client_certificate_chain()))
                end
            }
            log_by_lua_block {
                table.insert(seen, (kong.client.tls.get_full_client_certificate_chain()))
                for i = 2, #seen do
                    assert(seen[i] == seen[1])
                end
                ngx.log(ngx.WARN, "the same in ", #seen, " phases")
            }
        }
    }
--- config
    location /t {
        content_by_lua_block {
            local seen = require("client").s_client {
                unix = "$TEST_NGINX_HTML_DIR/phases.sock", cert = "client-deep",
            }
            ngx.print(seen.body)
        }
    }
--- request
GET /t
--- response_body
true
--- error_log
the same in 6 phases
--- no_error_log
[error]



=== TEST 17: set_client_verify replaces the result of the verification
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate())
        }
        rewrite_by_lua_block {
            if ngx.var.ssl_client_verify ~= "NONE" then
                kong.client.tls.set_client_verify("SUCCESS")
            end
        }
    }
--- config
--- request
GET /version?tls=1.3
--- response_body_like
none: .* NONE, no certificates
client1: .* SUCCESS, 1 certificates
--- no_error_log
[error]



=== TEST 18: get_request_ssl_pointer returns the SSL of the client connection
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            local ffi = require "ffi"
            pcall(ffi.cdef, "const char *SSL_get_servername(const void *, int);")
            ngx.log(ngx.WARN, "name: ", ffi.string(ffi.C.SSL_get_servername(tls.get_request_ssl_pointer(), 0)))
        }
    }
--- config
    location /t {
        content_by_lua_block {
            local seen = require("client").s_client {
                unix = "$TEST_NGINX_HTML_DIR/gateway.sock", servername = "gateway.test",
            }
            ngx.print(seen.body)
        }
    }
--- request
GET /t
--- response_body
NONE, no certificates
--- error_log
name: gateway.test
--- no_error_log
[error]



=== TEST 19: a client may disconnect while Lua code waits in the certificate phase
# nginx needs a patch to wait there, which Debian's and OpenResty's nginx have.
--- skip_eval: 3: $ENV{TEST_NGINX_NO_WAIT_IN_HANDSHAKE}
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
            ngx.sleep(0.2)
        }
    }
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            for i = 1, 3 do
                client.s_client { unix = "$TEST_NGINX_HTML_DIR/gateway.sock", timeout = 0.1 }
            end
            ngx.print(client.s_client { unix = "$TEST_NGINX_HTML_DIR/gateway.sock", cert = "client1" }.body)
        }
    }
--- request
GET /t
--- response_body
SUCCESS, 1 certificates
--- no_error_log
[error]
[alert]



=== TEST 20: ssl_crl applies to the authorities of request_client_certificate
--- http_config
    gateway {
        ssl_crl $TEST_NGINX_PKI/revoked.crl;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
        }
    }
--- config
--- request
GET /version?tls=1.3
--- response_body_like
client1: TLSv1.3 asked \[.*\] FAILED:certificate revoked, 1 certificates
--- no_error_log
[error]



=== TEST 21: the balancer phase can read the client's chain and call set_client_verify
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            local pem = assert(kong.client.tls.get_full_client_certificate_chain())
            kong.client.tls.set_client_verify("FAILED:by the balancer")
            ngx.log(ngx.WARN, "the balancer saw it: ", pem == pki.read("client1"))
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/balanced.sock ssl;
        certificate gateway;
        ssl_verify_client optional_no_ca;
        location / {
            proxy_pass https://lua;
            log_by_lua_block {
                ngx.log(ngx.WARN, "logged: ", ngx.var.kong_client_verify)
            }
        }
    }
--- config
    location /t {
        content_by_lua_block {
            ngx.print(require("client").s_client {
                unix = "$TEST_NGINX_HTML_DIR/balanced.sock", cert = "client1",
            }.body)
        }
    }
--- request
GET /t
--- response_body_like
^client= reused
--- error_log
the balancer saw it: true
logged: FAILED:by the balancer
--- no_error_log
[error]
