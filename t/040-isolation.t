# SPDX-License-Identifier: Apache-2.0

# A request with settings shares neither sessions nor connections with requests that have other settings, or none.
# With nginx's own `keepalive`, it shares no connection at all.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# What a block expects depends on its earlier requests.
repeat_each(1);
run_tests();

__DATA__

=== TEST 1: each TLS identity resumes only its own sessions (TLS 1.2)
--- http_config
    upstream plain {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
    }
--- config
    location /t {
        access_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
            if ngx.var.arg_verify then
                assert(kong.service.set_tls_verify(false))
            end
            if ngx.var.arg_depth then
                assert(kong.service.set_tls_verify_depth(1))
            end
        }
        proxy_ssl_protocols TLSv1.2;
        proxy_pass https://plain;
    }
--- exchanges
GET /t                        => /^client= reused=\./
GET /t                        => /^client= reused=r/
GET /t?client=client1         => /^client=CN=client-1,O=Test reused=\./
GET /t?client=client1         => /^client=CN=client-1,O=Test reused=r/
GET /t?client=client2         => /^client=CN=client-2,O=Test reused=\./
GET /t                        => /^client= reused=r/
GET /t?verify=1               => /^client= reused=\./
GET /t?depth=1                => /^client= reused=\./
GET /t                        => /^client= reused=r/
GET /t?verify=1               => /^client= reused=r/
GET /t?depth=1                => /^client= reused=r/
GET /t?client=client2         => /^client=CN=client-2,O=Test reused=r/
GET /t?client=client1&depth=1 => /^client=CN=client-1,O=Test reused=\./
GET /t?client=client1         => /^client=CN=client-1,O=Test reused=r/
--- no_error_log
[error]



=== TEST 2: each TLS identity resumes only its own sessions (TLS 1.3, with tickets after the handshake)
--- http_config
    upstream plain {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
    }
--- config
    location /t {
        client_argument;
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://plain;
    }
--- exchanges
GET /t?client=client1 => /^client=CN=client-1,O=Test reused=\./
GET /t                => /^client= reused=\./
GET /t?client=client1 => /^client=CN=client-1,O=Test reused=r/
GET /t?client=client2 => /^client=CN=client-2,O=Test reused=\./
GET /t x 2            => /^client= reused=r/
--- no_error_log
[error]



=== TEST 3: requests without settings share a keepalive connection, requests with settings never do
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        keepalive 1;
    }
--- config
    location /connection {
        client_argument;
        keeps_connections;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection?client=client1 x 2 => /^client=CN=client-1,O=Test connection=1$/
GET /connection                    => /^client= connection=1$/
GET /connection                    => /^client= connection=2$/
GET /connection?client=client1     => /^client=CN=client-1,O=Test connection=1$/
GET /connection?client=client2     => /^client=CN=client-2,O=Test connection=1$/
GET /connection                    => /^client= connection=1$/
GET /connection                    => /^client= connection=2$/
--- no_error_log
[error]



=== TEST 4: a certificate set in the balancer phase keeps a request from using keepalive connections
--- http_config
    upstream kept {
        server 0.0.0.1;
        balancer_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
        keepalive 4;
    }
--- config
    location /connection {
        keeps_connections;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection                    => /^client= connection=1$/
GET /connection                    => /^client= connection=2$/
GET /connection?client=client1 x 2 => /^client=CN=client-1,O=Test connection=1$/
GET /connection                    => /^client= connection=1$/
GET /connection?client=client2     => /^client=CN=client-2,O=Test connection=1$/
GET /connection                    => /^client= connection=1$/
--- no_error_log
[error]
[alert]



=== TEST 5: gRPC requests without settings share a keepalive connection, requests with settings never do
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/grpc.sock;
        keepalive 4;
    }
--- config
    location /connection {
        client_argument;
        grpc_pass grpcs://kept;
    }
--- exchanges
GET /connection                    => /^client= connection=1$/
GET /connection                    => /^client= connection=2$/
GET /connection?client=client1     => /^client=CN=client-1,O=Test connection=1$/
GET /connection?client=client2 x 2 => /^client=CN=client-2,O=Test connection=1$/
GET /connection                    => /^client= connection=1$/
--- no_error_log
[error]



=== TEST 6: set_tls_verify(true) does not use a connection that was not verified
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/other.sock;
        keepalive 4;
    }
--- config
    location /connection {
        access_by_lua_block {
            if ngx.var.arg_verify then
                assert(kong.service.set_tls_verify(true))
            end
        }
        keeps_connections;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection x 2      => 200
GET /connection?verify=1 => 502
GET /connection          => 200
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream
--- no_error_log
[crit]



=== TEST 7: a request that verifies does not use a connection opened with set_tls_verify(false)
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/other.sock;
        keepalive 4;
    }
--- config
    location /connection {
        access_by_lua_block {
            if ngx.var.arg_no_verify then
                assert(kong.service.set_tls_verify(false))
            end
        }
        keeps_connections;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection?no_verify=1 => 200
GET /connection             => 502
GET /connection?no_verify=1 => 200
GET /connection             => 502
--- error_log
upstream SSL certificate verify error: (
--- no_error_log
[crit]



=== TEST 8: requests with settings use no keepalive connection, with every load-balancing method
--- http_config
    upstream zone { zone a 64k; server unix:$TEST_NGINX_HTML_DIR/service.sock; keepalive 2; }
    upstream least { least_conn; server unix:$TEST_NGINX_HTML_DIR/service.sock; keepalive 2; }
    upstream iphash { ip_hash; server unix:$TEST_NGINX_HTML_DIR/service.sock; keepalive 2; }
    upstream hash { hash $uri consistent; server unix:$TEST_NGINX_HTML_DIR/service.sock; keepalive 2; }
    upstream random { random; server unix:$TEST_NGINX_HTML_DIR/service.sock; keepalive 2; }
    upstream random_two {
        zone b 64k; random two least_conn;
        server unix:$TEST_NGINX_HTML_DIR/service.sock; server unix:$TEST_NGINX_HTML_DIR/service.sock;
        keepalive 2;
    }
--- config
    location ~ ^/(\w+)/ {
        client_argument;
        keeps_connections;
        proxy_pass https://$1/connection;
    }
--- exchanges
for $method (zone least iphash hash random random_two)
    GET /$method/                => /^client= /
    GET /$method/?client=client1 => /^client=CN=client-1,O=Test connection=1$/
    GET /$method/?client=client2 => /^client=CN=client-2,O=Test connection=1$/
    GET /$method/                => /^client= /
--- no_error_log
[error]



=== TEST 9: the next peer gets the certificate after the first peer failed
--- http_config
    upstream two {
        server unix:$TEST_NGINX_HTML_DIR/fails.sock;
        server unix:$TEST_NGINX_HTML_DIR/service.sock backup;
        keepalive 4;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/fails.sock ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        log_by_lua_block { ngx.log(ngx.WARN, "first peer saw ", ngx.var.ssl_client_s_dn) }
        location / { return 503; }
    }
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        keeps_connections;
        proxy_next_upstream http_503;
        proxy_pass https://two/;
    }
--- request
GET /t
--- response_body_like
^client=CN=client-1,O=Test reused=\.
--- error_log
first peer saw CN=client-1,O=Test
--- no_error_log
[error]
