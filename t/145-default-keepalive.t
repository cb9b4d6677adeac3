# SPDX-License-Identifier: Apache-2.0

# The idle connections that nginx keeps by default since 1.29.7, unless a block turns that off: by address, and by
# location.

use lib 't/support';
use TestService ':default_keepalive';
use TestHarness 'no_plan';

# Answers about a connection are "client=<name> connection=<number of the request on the connection>".
add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('skip_nginx', '3: < 1.29.7');
    (my $config = $block->config) =~ s{^( *)plugin;}{$1access_by_lua_block {
            local name, timeout = ngx.var.arg_client, tonumber(ngx.var.arg_timeout)
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
            if timeout then
                kong.service.set_timeouts(timeout, timeout, timeout)
            end
        }}mg;
    $block->set_value('config', $config);
    $block->set_value('no_error_log', "[error]\n[alert]") unless defined $block->no_error_log;
});

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: a request with settings neither uses nor leaves a connection that nginx keeps by default
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
    }
--- config
    plugin;
    location /a { proxy_pass https://kept/connection; }
    location /b { proxy_pass https://kept/connection; }
--- exchanges
GET /a                => client= connection=1
GET /a                => client= connection=2
GET /a?client=client1 => client=CN=client-1,O=Test connection=1
GET /a?client=client2 => client=CN=client-2,O=Test connection=1
GET /a?client=client1 => client=CN=client-1,O=Test connection=1
GET /b                => client= connection=1
GET /a                => client= connection=3
GET /b                => client= connection=2



=== TEST 2: kong_tls_keepalive alone keeps all connections, by identity
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 8;
    }
--- config
    plugin;
    location /sni {
        proxy_ssl_server_name on;
        proxy_ssl_name $arg_name;
        proxy_pass https://kept/number;
    }
--- exchanges
GET /sni?name=service.test                => sni=service.test client= connection=1
GET /sni?name=other.test                  => sni=other.test client= connection=1
GET /sni?name=service.test                => sni=service.test client= connection=2
GET /sni?name=other.test                  => sni=other.test client= connection=2
GET /sni?name=service.test&client=client1 => sni=service.test client=CN=client-1,O=Test connection=1
GET /sni?name=other.test                  => sni=other.test client= connection=3
GET /sni?name=service.test&client=client1 => sni=service.test client=CN=client-1,O=Test connection=2
GET /sni?name=service.test                => sni=service.test client= connection=3



=== TEST 3: a request with set_timeouts uses the connections of its location
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
    }
--- config
    plugin;
    location /a { proxy_pass https://kept/connection; }
    location /b { proxy_pass https://kept/connection; }
--- exchanges
GET /a?timeout=5000 => client= connection=1
GET /a?timeout=5000 => client= connection=2
GET /b?timeout=5000 => client= connection=1
GET /a              => client= connection=3
GET /b              => client= connection=2
GET /a?timeout=5000 => client= connection=4
GET /b?timeout=5000 => client= connection=3



=== TEST 4: a request with set_timeouts and without TLS uses the connections of its location, also with a late body
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/plain.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/plain.sock;
        return 200 "connection=$connection_requests\n";
    }
--- config
    plugin;
    location /a { proxy_pass http://kept; }
    location /b { proxy_pass http://kept; }
    location /later {
        content_by_lua_block {
            local socket = assert(ngx.socket.tcp())
            assert(socket:connect("127.0.0.1", ngx.var.server_port))
            assert(socket:send("POST /a?timeout=5000 HTTP/1.0\r\nContent-Length: 4\r\n\r\n"))
            ngx.sleep(0.1)
            assert(socket:send("body"))
            ngx.print(assert(socket:receive("*a")):match("connection=%d+"), "\n")
        }
    }
--- exchanges
GET /a?timeout=5000 => connection=1
GET /a?timeout=5000 => connection=2
GET /b?timeout=5000 => connection=1
GET /a              => connection=3
GET /later          => connection=4
GET /b              => connection=2
GET /a?timeout=5000 => connection=5
GET /later          => connection=6



=== TEST 5: connections stay with their location when a Lua balancer sets timeouts, also over set_timeouts
The Lua module copies the configuration for its timeouts, and the copy is gone after the request.
--- http_config
    upstream kept {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            if ngx.var.arg_balancer then
                assert(balancer.set_timeouts(5, 5, 5))
            end
            assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
    }
--- config
    plugin;
    location /a { proxy_pass https://kept/connection; }
    location /b { proxy_pass https://kept/connection; }
--- exchanges
GET /a?balancer=1              => client= connection=1
GET /b?balancer=1              => client= connection=1
GET /a                         => client= connection=2
GET /b                         => client= connection=2
GET /a?balancer=1&timeout=5000 => client= connection=1
GET /a?timeout=5000            => client= connection=2
GET /b?balancer=1&timeout=5000 => client= connection=1
GET /b?timeout=5000            => client= connection=2



=== TEST 6: connections stay with their location and settings when a request is retried
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/nobody.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=0;
    }
--- config
    plugin;
    location /a { proxy_pass https://kept/connection; }
    location /b { proxy_pass https://kept/connection; }
--- exchanges
GET /a?timeout=5000                => client= connection=1
GET /a?timeout=5000                => client= connection=2
GET /b?timeout=5000                => client= connection=1
GET /b?timeout=5000&client=client1 => client=CN=client-1,O=Test connection=1
GET /a?timeout=5000                => client= connection=3
--- no_error_log
[alert]
