# kong_tls_keepalive: idle connections, kept by address and TLS identity.

use lib 't/support';
use TestService;
use Test::Nginx::Socket 'no_plan';

# What a block expects depends on what came before.
repeat_each(1);
run_tests();

__DATA__

=== TEST 1: alone: each identity has its own connections, that without settings too
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8;
    }
--- config
    location /connection {
        access_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
        }
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass https://kept;
    }
--- request eval
["GET /connection?client=client1", "GET /connection?client=client1", "GET /connection",
 "GET /connection", "GET /connection?client=client2", "GET /connection?client=client1",
 "GET /connection?client=client2", "GET /connection"]
--- response_body eval
["client=CN=client-1,O=Test connection=1\n", "client=CN=client-1,O=Test connection=2\n",
 "client= connection=1\n", "client= connection=2\n", "client=CN=client-2,O=Test connection=1\n",
 "client=CN=client-1,O=Test connection=3\n", "client=CN=client-2,O=Test connection=2\n",
 "client= connection=3\n"]
--- error_code eval
[(200) x 8]
--- no_error_log
[error]
[alert]



=== TEST 2: beside keepalive, in either order, and with a zone
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
        access_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
        }
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass https://$arg_to;
    }
--- request eval
[map { my $to = $_; map { "GET /connection?to=$to$_" } '', '&client=client1', '', '&client=client1',
       '&client=client2', '&client=client1', '' } qw(before after)]
--- response_body eval
[("client= connection=1\n", "client=CN=client-1,O=Test connection=1\n", "client= connection=2\n",
  "client=CN=client-1,O=Test connection=2\n",
  "client=CN=client-2,O=Test connection=1\n", "client=CN=client-1,O=Test connection=3\n",
  "client= connection=3\n") x 2]
--- error_code eval
[(200) x 14]
--- no_error_log
[error]
[alert]



=== TEST 3: with balancer_by_lua, and with the settings made there
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
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass https://kept;
    }
--- request eval
["GET /connection", "GET /connection?client=client1", "GET /connection?to=deep",
 "GET /connection?client=client1&to=deep", "GET /connection", "GET /connection?client=client1",
 "GET /connection?to=deep", "GET /connection?client=client1&to=deep"]
--- response_body eval
["client= connection=1\n", "client=CN=client-1,O=Test connection=1\n",
 "client= connection=1\n", "client=CN=client-1,O=Test connection=1\n",
 "client= connection=2\n", "client=CN=client-1,O=Test connection=2\n",
 "client= connection=2\n", "client=CN=client-1,O=Test connection=2\n"]
--- error_code eval
[(200) x 8]
--- no_error_log
[error]
[alert]



=== TEST 4: gRPC
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/grpc.sock;
        kong_tls_keepalive 8;
    }
--- config
    location /connection {
        access_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
        }
        grpc_pass grpcs://kept;
    }
--- request eval
["GET /connection", "GET /connection?client=client1", "GET /connection",
 "GET /connection?client=client1", "GET /connection?client=client2", "GET /connection?client=client1"]
--- response_body eval
["client= connection=1\n", "client=CN=client-1,O=Test connection=1\n", "client= connection=2\n",
 "client=CN=client-1,O=Test connection=2\n", "client=CN=client-2,O=Test connection=1\n",
 "client=CN=client-1,O=Test connection=3\n"]
--- error_code eval
[(200) x 6]
--- no_error_log
[error]
[alert]



=== TEST 5: the number of requests that a connection may serve
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8 requests=2;
    }
--- config
    location /connection {
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass https://kept;
    }
--- request eval
["GET /connection", "GET /connection", "GET /connection", "GET /connection"]
--- response_body eval
["client= connection=1\n", "client= connection=2\n", "client= connection=1\n",
 "client= connection=2\n"]
--- error_code eval
[(200) x 4]
--- no_error_log
[error]



=== TEST 6: no time to be used for
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8 time=0;
    }
--- config
    location /connection {
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        # Longer than a turn of the event loop, so that the connection has an age.
        header_filter_by_lua_block {
            local before = ngx.now()
            repeat ngx.update_time() until ngx.now() > before + 0.005
        }
        proxy_pass https://kept;
    }
--- request eval
["GET /connection", "GET /connection"]
--- response_body eval
["client= connection=1\n", "client= connection=1\n"]
--- error_code eval
[(200) x 2]
--- no_error_log
[error]



=== TEST 7: the time to be idle
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8 timeout=50ms;
    }
--- config
    location /connection {
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_pass https://kept;
    }
    location /t {
        content_by_lua_block {
            local function idle()
                return ngx.location.capture("/connection").body:match("connection=(%d+)")
            end
            ngx.say(idle(), " ", idle())
            -- The connection is gone when the next request has the first place on another.
            local deadline = ngx.now() + 10
            local count
            repeat
                ngx.sleep(0.1)
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



=== TEST 8: a connection that is not good for another request
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
        proxy_pass https://kept;
    }
--- request eval
["GET /connection", "GET /connection", "GET /connection/close", "GET /connection/close"]
--- response_body eval
["client= connection=1\n", "client= connection=1\n", "client= connection=1\n",
 "client= connection=1\n"]
--- error_code eval
[(200) x 4]
--- no_error_log
[error]



=== TEST 9: another location has another TLS context
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8;
    }
--- config
    proxy_http_version 1.1;
    proxy_set_header Connection "";
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
--- request eval
["GET /connection/one", "GET /connection/two", "GET /connection/one", "GET /connection/two"]
--- response_body eval
["client=CN=client-1,O=Test connection=1\n", "client=CN=client-2,O=Test connection=1\n",
 "client=CN=client-1,O=Test connection=2\n", "client=CN=client-2,O=Test connection=2\n"]
--- error_code eval
[(200) x 4]
--- no_error_log
[error]



=== TEST 10: a certificate of the location that depends on the request: such connections are not kept
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
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_ssl_certificate $TEST_NGINX_PKI/$arg_client.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/$arg_client.key;
        proxy_pass https://kept;
    }
--- request eval
["GET /connection?client=client1", "GET /connection?client=client2",
 "GET /connection?client=client1&verify=1", "GET /connection?client=client2&verify=1",
 "GET /connection?client=client2&own=1", "GET /connection?client=client1&own=1"]
--- response_body eval
["client=CN=client-1,O=Test connection=1\n", "client=CN=client-2,O=Test connection=1\n",
 "client=CN=client-1,O=Test connection=1\n", "client=CN=client-2,O=Test connection=1\n",
 "client=CN=client-1,O=Test connection=1\n", "client=CN=client-1,O=Test connection=2\n"]
--- error_code eval
[(200) x 6]
--- no_error_log
[error]



=== TEST 11: a source address of the gateway is part of what the service sees
--- http_config
    upstream kept {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        kong_tls_keepalive 8;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        ssl_certificate $TEST_NGINX_PKI/service.crt;
        ssl_certificate_key $TEST_NGINX_PKI/service.key;
        return 200 "$remote_addr connection=$connection_requests\n";
    }
--- config
    location /t {
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_bind $arg_from;
        proxy_pass https://kept;
    }
--- request eval
["GET /t?from=127.0.0.2", "GET /t?from=127.0.0.3", "GET /t?from=127.0.0.2", "GET /t?from=127.0.0.3"]
--- response_body eval
["127.0.0.2 connection=1\n", "127.0.0.3 connection=1\n", "127.0.0.2 connection=2\n",
 "127.0.0.3 connection=2\n"]
--- error_code eval
[(200) x 4]
--- no_error_log
[error]
