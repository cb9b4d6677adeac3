# SPDX-License-Identifier: Apache-2.0

# kong_tls_keepalive: idle connections, kept by address and TLS identity.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# What a block expects depends on its earlier requests.
repeat_each(1);
run_tests();

__DATA__

=== TEST 1: each identity, also the one without settings, reuses its own idle connections
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8;
    }
--- config
    location /connection {
        client_argument;
        keeps_connections;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection?client=client1 => client=CN=client-1,O=Test connection=1
GET /connection?client=client1 => client=CN=client-1,O=Test connection=2
GET /connection                => client= connection=1
GET /connection                => client= connection=2
GET /connection?client=client2 => client=CN=client-2,O=Test connection=1
GET /connection?client=client1 => client=CN=client-1,O=Test connection=3
GET /connection?client=client2 => client=CN=client-2,O=Test connection=2
GET /connection                => client= connection=3
--- no_error_log
[error]
[alert]



=== TEST 2: kong_tls_keepalive works with keepalive in either order, and with a zone
--- http_config
    upstream before {
        zone before 64k;
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 4;
        keepalive 4;
    }
    upstream after {
        zone after 64k;
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        keepalive 4;
        kong_tls_keepalive 4;
    }
--- config
    location /connection {
        client_argument;
        keeps_connections;
        proxy_pass https://$arg_to;
    }
--- exchanges
for $to (before after)
    GET /connection?to=$to                => client= connection=1
    GET /connection?to=$to&client=client1 => client=CN=client-1,O=Test connection=1
    GET /connection?to=$to                => client= connection=2
    GET /connection?to=$to&client=client1 => client=CN=client-1,O=Test connection=2
    GET /connection?to=$to&client=client2 => client=CN=client-2,O=Test connection=1
    GET /connection?to=$to&client=client1 => client=CN=client-1,O=Test connection=3
    GET /connection?to=$to                => client= connection=3
--- no_error_log
[error]
[alert]



=== TEST 3: kong_tls_keepalive works with balancer_by_lua, and with settings of the balancer phase
--- http_config
    upstream kept {
        server 0.0.0.1;
        balancer_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
            local to = ngx.var.arg_to or "service"
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/" .. to .. ".sock"))
        }
        kong_tls_keepalive 8;
    }
--- config
    location /connection {
        keeps_connections;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection                        => client= connection=1
GET /connection?client=client1         => client=CN=client-1,O=Test connection=1
GET /connection?to=deep                => client= connection=1
GET /connection?client=client1&to=deep => client=CN=client-1,O=Test connection=1
GET /connection                        => client= connection=2
GET /connection?client=client1         => client=CN=client-1,O=Test connection=2
GET /connection?to=deep                => client= connection=2
GET /connection?client=client1&to=deep => client=CN=client-1,O=Test connection=2
--- no_error_log
[error]
[alert]



=== TEST 4: kong_tls_keepalive works with gRPC
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/grpc.sock;
        kong_tls_keepalive 8;
    }
--- config
    location /connection {
        client_argument;
        grpc_pass grpcs://kept;
    }
--- exchanges
GET /connection                => client= connection=1
GET /connection?client=client1 => client=CN=client-1,O=Test connection=1
GET /connection                => client= connection=2
GET /connection?client=client1 => client=CN=client-1,O=Test connection=2
GET /connection?client=client2 => client=CN=client-2,O=Test connection=1
GET /connection?client=client1 => client=CN=client-1,O=Test connection=3
--- no_error_log
[error]
[alert]



=== TEST 5: requests= limits the requests on a connection
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8 requests=2;
    }
--- config
    location /connection {
        keeps_connections;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection => client= connection=1
GET /connection => client= connection=2
GET /connection => client= connection=1
GET /connection => client= connection=2
--- no_error_log
[error]



=== TEST 6: time=0 keeps no connection
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8 time=0;
    }
--- config
    location /connection {
        keeps_connections;
        # Takes longer than a turn of the event loop, so that the connection has an age.
        header_filter_by_lua_block {
            local before = ngx.now()
            repeat ngx.update_time() until ngx.now() > before + 0.005
        }
        proxy_pass https://kept;
    }
--- exchanges
GET /connection x 2 => client= connection=1
--- no_error_log
[error]



=== TEST 7: timeout= closes an idle connection
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8 timeout=1s;
    }
--- config
    location /connection {
        keeps_connections;
        proxy_pass https://kept;
    }
    location /t {
        content_by_lua_block {
            local function idle()
                return ngx.location.capture("/connection").body:match("connection=(%d+)")
            end
            ngx.say(idle(), " ", idle())
            -- The connection was closed when a request is the first on its connection again.
            local deadline = ngx.now() + 10
            local count
            repeat
                ngx.sleep(1.2)
                count = idle()
            until count == "1" or ngx.now() > deadline
            ngx.say(count)
        }
    }
--- request
GET /t
--- response_body
1 2
1
--- no_error_log
[error]
[alert]



=== TEST 8: a connection with HTTP/1.0 or with Connection: close is not kept
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8;
    }
--- config
    location /connection {
        proxy_http_version 1.0;
        proxy_pass https://kept;
    }
    location = /connection/close {
        proxy_http_version 1.1;
        proxy_set_header Connection close;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection x 2       => client= connection=1
GET /connection/close x 2 => client= connection=1
--- no_error_log
[error]



=== TEST 9: locations with different certificates share no connections
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8;
    }
--- config
    keeps_connections;
    location /connection/one {
        proxy_ssl_certificate $TEST_NGINX_PKI/client1.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client1.key;
        proxy_pass https://kept;
    }
    location /connection/two {
        proxy_ssl_certificate $TEST_NGINX_PKI/client2.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client2.key;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection/one => client=CN=client-1,O=Test connection=1
GET /connection/two => client=CN=client-2,O=Test connection=1
GET /connection/one => client=CN=client-1,O=Test connection=2
GET /connection/two => client=CN=client-2,O=Test connection=2
--- no_error_log
[error]



=== TEST 10: connections with a variable proxy_ssl_certificate are not kept, unless the request sets its certificate
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8;
    }
--- config
    location /connection {
        access_by_lua_block {
            if ngx.var.arg_verify then
                assert(kong.service.set_tls_verify(false))
            end
            if ngx.var.arg_own then
                assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            end
        }
        keeps_connections;
        proxy_ssl_certificate $TEST_NGINX_PKI/$arg_client.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/$arg_client.key;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection?client=client1          => client=CN=client-1,O=Test connection=1
GET /connection?client=client2          => client=CN=client-2,O=Test connection=1
GET /connection?client=client1&verify=1 => client=CN=client-1,O=Test connection=1
GET /connection?client=client2&verify=1 => client=CN=client-2,O=Test connection=1
GET /connection?client=client2&own=1    => client=CN=client-1,O=Test connection=1
GET /connection?client=client1&own=1    => client=CN=client-1,O=Test connection=2
--- no_error_log
[error]



=== TEST 11: a connection is reused only with its source address (proxy_bind)
--- http_config
    upstream kept {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        kong_tls_keepalive 8;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        certificate service;
        return 200 "$remote_addr connection=$connection_requests\n";
    }
--- config
    location /t {
        keeps_connections;
        proxy_bind $arg_from;
        proxy_pass https://kept;
    }
--- exchanges
GET /t?from=127.0.0.2 => 127.0.0.2 connection=1
GET /t?from=127.0.0.3 => 127.0.0.3 connection=1
GET /t?from=127.0.0.2 => 127.0.0.2 connection=2
GET /t?from=127.0.0.3 => 127.0.0.3 connection=2
--- no_error_log
[error]



=== TEST 12: an idle connection that the service has closed is not reused
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/short.sock;
        kong_tls_keepalive 8;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/short.sock ssl;
        certificate service;
        ssl_protocols TLSv1.2 TLSv1.3;
        keepalive_timeout 1s;
        return 200 "connection=$connection_requests\n";
    }
--- config
    location /service {
        rewrite_by_lua_block { assert(kong.service.set_tls_verify(false)) }
        proxy_ssl_protocols TLSv1.3;
        keeps_connections;
        proxy_pass https://kept;
    }
    location /t {
        content_by_lua_block {
            local function used()
                return ngx.location.capture("/service").body:match("connection=(%d+)")
            end
            ngx.say(used(), " ", used())
            local deadline = ngx.now() + 10
            local count
            repeat
                ngx.sleep(1.2)
                count = used()
            until count == "1" or ngx.now() > deadline
            ngx.say(count)
        }
    }
--- request
GET /t
--- response_body
1 2
1
--- no_error_log
[error]
[alert]
[warn]



=== TEST 13: a request is sent again when the service closes its reused connection
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/fragile.sock;
        kong_tls_keepalive 8;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/fragile.sock ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        location / {
            if ($connection_requests = 2) {
                return 444;
            }
            return 200 "client=$ssl_client_s_dn connection=$connection_requests\n";
        }
    }
--- config
    location /t {
        access_by_lua_block {
            local name = ngx.var.arg_client
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
        }
        keeps_connections;
        proxy_pass https://kept;
    }
--- exchanges
GET /t?client=client1 => client=CN=client-1,O=Test connection=1
GET /t?client=client2 => client=CN=client-2,O=Test connection=1
GET /t?client=client1 => client=CN=client-1,O=Test connection=1
GET /t?client=client2 => client=CN=client-2,O=Test connection=1
--- error_log
upstream prematurely closed connection while reading response header from upstream
--- no_error_log
[alert]



=== TEST 14: a connection with an unsolicited response is not reused
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/talkative.sock;
        kong_tls_keepalive 8;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/talkative.sock ssl;
        certificate service;
        ssl_protocols TLSv1.2 TLSv1.3;
        location / {
            content_by_lua_block {
                ngx.header["Content-Length"] = 3
                ngx.print("yes")
            }
            log_by_lua_block {
                -- The response was sent, and the connection waits for another request.
                local ffi = require "ffi"
                pcall(ffi.cdef, "int SSL_write(void *, const void *, int);")
                local answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"
                assert(ffi.C.SSL_write(tls.get_request_ssl_pointer(), answer, #answer) == #answer)
            }
        }
    }
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(false))
        }
        proxy_ssl_protocols TLSv1.2;
        keeps_connections;
        proxy_pass https://kept;
    }
    location /t13 {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(false))
        }
        proxy_ssl_protocols TLSv1.3;
        keeps_connections;
        proxy_pass https://kept;
    }
--- exchanges
GET /t x 3   => "yes"
GET /t13 x 3 => "yes"
--- no_error_log
[error]
[alert]



=== TEST 15: a request that verifies does not use a connection that was not verified
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/other.sock;
        kong_tls_keepalive 8;
    }
--- config
    location /connection {
        access_by_lua_block {
            if ngx.var.arg_verify then
                assert(kong.service.set_tls_verify(true))
            end
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        keeps_connections;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://kept;
    }
--- exchanges
GET /connection          => /connection=1$/
GET /connection?verify=1 => 502 /502/
GET /connection          => /connection=2$/
GET /connection?verify=1 => 502 /502/
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream



=== TEST 16: each peer of a block has its own connections
--- http_config
    upstream two {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        server unix:$TEST_NGINX_HTML_DIR/deep.sock;
        kong_tls_keepalive 8;
    }
--- config
    location /connection {
        access_by_lua_block {
            local name = ngx.var.arg_client
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
        }
        keeps_connections;
        proxy_pass https://two;
        add_header X-Peer $upstream_addr;
    }
--- exchanges
GET /connection?client=client1 => {X-Peer: unix:$TEST_NGINX_HTML_DIR/service.sock} /connection=1$/
GET /connection?client=client1 => {X-Peer: unix:$TEST_NGINX_HTML_DIR/deep.sock} /connection=1$/
GET /connection?client=client1 => {X-Peer: unix:$TEST_NGINX_HTML_DIR/service.sock} /connection=2$/
GET /connection?client=client1 => {X-Peer: unix:$TEST_NGINX_HTML_DIR/deep.sock} /connection=2$/
GET /connection?client=client2 => {X-Peer: unix:$TEST_NGINX_HTML_DIR/service.sock} /connection=1$/
--- no_error_log
[error]



=== TEST 17: a TLS error on a reused connection is logged as an error
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/confused.sock;
        kong_tls_keepalive 8;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/confused.sock ssl;
        certificate service;
        location / {
            content_by_lua_block {
                if ngx.var.connection_requests == "1" then
                    return ngx.say("connection=1")
                end
                local ffi = require "ffi"
                pcall(ffi.cdef, "int SSL_get_fd(void *);")
                pcall(ffi.cdef, "long write(int, const void *, size_t);")
                local fd = ffi.C.SSL_get_fd(tls.get_request_ssl_pointer())
                assert(ffi.C.write(fd, "no TLS\r\n", 8) == 8)
                ngx.exit(444)
            }
        }
    }
--- config
    location /t {
        keeps_connections;
        proxy_pass https://kept;
    }
--- exchanges
GET /t x 2 => connection=1
--- error_log eval
# nginx 1.26 does not know this error of OpenSSL 3.2, and logs it as crit.
qr/\[(?:error|crit)\] .*SSL_read\(\) failed .* while reading response header from upstream/



=== TEST 18: data that is not TLS closes an idle connection without an error
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/confused.sock;
        kong_tls_keepalive 8;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/confused.sock ssl;
        certificate service;
        location / {
            content_by_lua_block {
                local ffi = require "ffi"
                pcall(ffi.cdef, "int SSL_get_fd(void *);")
                fd = ffi.C.SSL_get_fd(tls.get_request_ssl_pointer())
                ngx.say("connection=", ngx.var.connection_requests)
            }
        }
    }
--- config
    location /service {
        keeps_connections;
        proxy_pass https://kept;
    }
    location /t {
        content_by_lua_block {
            local ffi = require "ffi"
            pcall(ffi.cdef, "long write(int, const void *, size_t);")
            local function used()
                return ngx.location.capture("/service").body:match("connection=(%d+)")
            end
            ngx.print(used(), " ", used(), " ")
            assert(ffi.C.write(fd, "no TLS\r\n", 8) == 8)
            -- Repeats until the gateway has closed the connection.
            local deadline, count = ngx.now() + 10
            repeat
                ngx.sleep(0.01)
                count = used()
            until count == "1" or ngx.now() > deadline
            ngx.say(count)
        }
    }
--- request
GET /t
--- response_body
1 2 1
--- no_error_log eval
qr/\[(?:error|crit|alert|emerg)\]/



=== TEST 19: a connection that nginx's keepalive kept is not reused with another source address
--- http_config
    upstream kept {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        keepalive 8;
        kong_tls_keepalive 8;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        return 200 "$remote_addr client=$ssl_client_s_dn connection=$connection_requests\n";
    }
--- config
    location /t {
        client_argument;
        keeps_connections;
        proxy_bind $arg_from;
        proxy_pass https://kept;
    }
--- exchanges
GET /t?from=127.0.0.2                => 127.0.0.2 client= connection=1
GET /t?from=127.0.0.3&client=client1 => 127.0.0.3 client=CN=client-1,O=Test connection=1
GET /t?from=127.0.0.3                => 127.0.0.3 client= connection=1
--- no_error_log
[error]



=== TEST 20: HTTP/2 and HTTP/1.1 share neither connections nor sessions
--- skip_nginx: 25: < 1.29.4
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/grpc.sock;
        kong_tls_keepalive 8;
    }
    upstream anew {
        server unix:$TEST_NGINX_HTML_DIR/grpc.sock;
    }
--- config
    proxy_set_header Connection "";
    location ~ ^/set/(?<to>[a-z]+)/1$ {
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client1, key.client1)) }
        proxy_http_version 1.1;
        proxy_pass https://$to/connection;
    }
    location ~ ^/set/(?<to>[a-z]+)/2$ {
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client1, key.client1)) }
        proxy_http_version 2;
        proxy_pass https://$to/connection;
    }
    location /nothing/1 {
        proxy_http_version 1.1;
        proxy_pass https://kept/connection;
    }
    location /nothing/2 {
        proxy_http_version 2;
        proxy_pass https://kept/connection;
    }
    location /resumed/1 {
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client2, key.client2)) }
        proxy_http_version 1.1;
        proxy_pass https://anew/;
    }
    location /resumed/2 {
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client2, key.client2)) }
        proxy_http_version 2;
        proxy_pass https://anew/;
    }
--- exchanges
GET /set/kept/1 => /client-1,O=Test connection=1$/
GET /set/kept/2 => /client-1,O=Test connection=1$/
GET /set/kept/1 => /client-1,O=Test connection=2$/
GET /set/kept/2 => /client-1,O=Test connection=2$/
GET /nothing/1  => /client= connection=1$/
GET /nothing/2  => /client= connection=1$/
GET /nothing/1  => /client= connection=2$/
GET /nothing/2  => /client= connection=2$/
GET /resumed/1  => /client-2,O=Test reused=[.] /
GET /resumed/2  => /client-2,O=Test reused=[.] /
GET /resumed/1  => /client-2,O=Test reused=r /
GET /resumed/2  => /client-2,O=Test reused=r /
--- no_error_log
[error]
