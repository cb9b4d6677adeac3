# SPDX-License-Identifier: Apache-2.0

# A request whose settings can't be applied fails, with one line that says why.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

repeat_each(2);
run_tests();

__DATA__

=== TEST 1: a certificate that OpenSSL refuses fails the request, with every form of proxy_pass
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        keepalive 4;
    }
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.weak, key.weak))
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
    }
--- config
    location /any {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.weak, key.weak))
        }
        location /any/block { proxy_pass https://service; }
        location /any/keepalive { proxy_pass https://kept; }
        location /any/implicit { proxy_pass https://unix:$TEST_NGINX_HTML_DIR/service.sock:; }
        location /any/static_certificate {
            proxy_ssl_certificate $TEST_NGINX_PKI/client1.crt;
            proxy_ssl_certificate_key $TEST_NGINX_PKI/client1.key;
            proxy_pass https://service;
        }
        location /any/tls13 {
            proxy_ssl_protocols TLSv1.3;
            proxy_pass https://service;
        }
        location /any/grpc { grpc_pass grpcs://grpc; }
    }
    location /lua {
        proxy_pass https://lua;
    }
--- exchanges
for $way (block keepalive implicit static_certificate tls13 grpc)
    GET /any/$way => 502
GET /lua => 502
--- error_log
upstream TLS handshake refused, could not apply client certificate and key: SSL_use_certificate() failed (ee key too small) while SSL handshaking to upstream
--- no_error_log
[crit]
[alert]



=== TEST 2: a refused certificate is logged once, at level error
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.weak, key.weak))
        }
        proxy_pass https://service;
    }
--- request
GET /t
--- error_code: 502
--- grep_error_log eval
qr/\[(?:error|crit|alert|emerg)\]/
--- grep_error_log_out
[error]



=== TEST 3: a refused certificate is no failure of the peer: no other peer is tried, and none is taken out
--- http_config
    upstream two {
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=1 fail_timeout=60s;
        server unix:$TEST_NGINX_HTML_DIR/spare.sock max_fails=1 fail_timeout=60s backup;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/spare.sock ssl;
        certificate service;
        return 200 "spare\n";
    }
--- config
    location /weak {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.weak, key.weak))
        }
        proxy_pass https://two;
    }
    location /t {
        proxy_pass https://two;
    }
--- exchanges
GET /weak x 2 => 502 /502/
GET /t x 2    => /^client=/
--- grep_error_log eval
qr/handshake refused/
--- grep_error_log_out
handshake refused
handshake refused
--- no_error_log
temporarily disabled
[crit]



=== TEST 4: a refused certificate does not affect the next request on the client's connection
--- config
    location /t {
        access_by_lua_block {
            if ngx.var.arg_weak then
                assert(kong.service.set_tls_cert_key(cert.weak, key.weak))
            end
        }
        proxy_pass https://service;
    }
    location /curl {
        content_by_lua_block {
            local url = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT/t"
            ngx.print(require("client").curl {
                "-w", "%{http_code} %{num_connects}\n", "-o", "/dev/null", url .. "?weak=1",
                "-o", "/dev/null", url, "-o", "/dev/null", url .. "?weak=1",
            }.out)
        }
    }
--- request
GET /curl
--- response_body
502 1
200 0
502 0
--- no_error_log
[crit]



=== TEST 5: a service that does not speak TLS, rejects the handshake, or does not listen is a 502
--- http_config
    upstream plain {
        server unix:$TEST_NGINX_HTML_DIR/plain.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/plain.sock;
        return 200 "plain\n";
    }
    upstream rejects {
        server unix:$TEST_NGINX_HTML_DIR/rejects.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/rejects.sock ssl;
        ssl_reject_handshake on;
    }
--- config
    location /any {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(true))
            assert(tls.set_upstream_ssl_sans_dnsnames { "service.test" })
        }
        location /any/plain { proxy_pass https://plain; }
        location /any/rejects { proxy_pass https://rejects; }
        location /any/nobody { proxy_pass https://unix:$TEST_NGINX_HTML_DIR/nobody.sock:; }
    }
--- exchanges
GET /any/plain   => 502
GET /any/rejects => 502
GET /any/nobody  => 502
--- error_log
SSL_do_handshake() failed



=== TEST 6: an empty proxy_ssl_name from a variable fails the verification
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name $lua_name;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        set_by_lua_block $lua_name { return "" }
        proxy_pass https://service;
    }
--- request
GET /t
--- error_code: 502
--- error_log
upstream SSL certificate does not match ""
--- no_error_log
[crit]



=== TEST 7: a failed verification does not take the peer out for other requests
--- http_config
    upstream two {
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=1 fail_timeout=60s;
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=1 fail_timeout=60s;
    }
--- config
    location /strict {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://two;
    }
    location /name {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name wrong.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://two;
    }
    location /names {
        access_by_lua_block {
            assert(tls.set_upstream_ssl_sans_dnsnames { "wrong.test" })
        }
        proxy_pass https://two;
    }
    location /t {
        proxy_pass https://two;
    }
--- exchanges
GET /strict x 2 => 502
GET /name x 2   => 502
GET /names x 2  => 502
GET /t x 2      => 200
--- no_error_log
temporarily disabled
no live upstreams
[crit]



=== TEST 8: a peer that refuses connections is taken out, by requests with settings too
--- http_config
    upstream two {
        server unix:$TEST_NGINX_HTML_DIR/nobody.sock max_fails=1 fail_timeout=60s;
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=1 fail_timeout=60s;
    }
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_pass https://two;
    }
--- exchanges
GET /t x 3 => /^client=CN=client-1,/
--- grep_error_log eval
qr/temporarily disabled/
--- grep_error_log_out eval
["temporarily disabled\n", ""]



=== TEST 9: a Lua balancer may set timeouts and required names for each attempt
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            local try = (ngx.ctx.try or 0) + 1
            ngx.ctx.try = try
            assert(tls.set_upstream_ssl_sans_dnsnames { try == 1 and "wrong.test" or "service.test" })
            balancer.set_more_tries(1)
            assert(balancer.set_timeouts(5, 5, 5))
            assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
    }
--- config
    location /t {
        proxy_pass https://lua;
    }
--- request
GET /t
--- response_body_like
^client= 
--- error_log
upstream SSL certificate carries none of the accepted names: host "lua", DNS name "wrong.test"
--- no_error_log
[crit]
