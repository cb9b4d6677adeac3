# SPDX-License-Identifier: Apache-2.0

# kong.client.tls.disable_http2_alpn: HTTP/2 is not offered on that connection, and still is on others.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('config', <<'_EOC_' . ($block->config // ''));
    location /t {
        content_by_lua_block {
            local client = require "client"
            for _, version in ipairs { "1.2", "1.3" } do
                for _, name in ipairs { "a.test", "b.test" } do
                    for _, offered in ipairs { "h2,http/1.1", "http/1.1,h2", "http/1.1", "h2", "other" } do
                        local seen = client.s_client {
                            unix = "$TEST_NGINX_HTML_DIR/h2.sock", servername = name, tls = version,
                            alpn = offered, request = false,
                        }
                        ngx.say(version, " ", name, " ", offered, ": ",
                                seen.alpn or seen.alert or "none")
                    end
                end
            end
        }
    }
_EOC_
});

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: without disable_http2_alpn, nginx selects the protocol
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/h2.sock ssl http2;
        certificate gateway;
        ssl_protocols TLSv1.2 TLSv1.3;
        return 204;
    }
--- config
--- request
GET /t
--- response_body eval
CORE::join '', map { my $version = $_; map { <<"_EOC_" } qw(a.test b.test) } qw(1.2 1.3)
$version $_ h2,http/1.1: h2
$version $_ http/1.1,h2: h2
$version $_ http/1.1: http/1.1
$version $_ h2: h2
$version $_ other: 120
_EOC_



=== TEST 2: disable_http2_alpn withholds HTTP/2 for one of two server names
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/h2.sock ssl http2;
        certificate gateway;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_client_hello_by_lua_block {
            local name = require("ngx.ssl.clienthello").get_client_hello_server_name()
            if name == "a.test" then
                assert(kong.client.tls.disable_http2_alpn())
            end
        }
        return 204;
    }
--- config
--- request
GET /t
--- response_body eval
CORE::join '', map { <<"_EOC_" } qw(1.2 1.3)
$_ a.test h2,http/1.1: http/1.1
$_ a.test http/1.1,h2: http/1.1
$_ a.test http/1.1: http/1.1
$_ a.test h2: 120
$_ a.test other: 120
$_ b.test h2,http/1.1: h2
$_ b.test http/1.1,h2: h2
$_ b.test http/1.1: http/1.1
$_ b.test h2: h2
$_ b.test other: 120
_EOC_



=== TEST 3: tls.disable_http2_alpn withholds HTTP/2 for a virtual server with its own SSL context
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/h2.sock ssl http2;
        server_name a.test;
        certificate gateway;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_client_hello_by_lua_block {
            local name = require("ngx.ssl.clienthello").get_client_hello_server_name()
            if name == "b.test" then
                assert(tls.disable_http2_alpn())
            end
        }
        return 204;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/h2.sock ssl;
        server_name b.test;
        certificate gateway;
        ssl_protocols TLSv1.2 TLSv1.3;
        # Since nginx 1.29.2, the handler of the server that the client names runs.
        ssl_client_hello_by_lua_block {
            local name = require("ngx.ssl.clienthello").get_client_hello_server_name()
            if name == "b.test" then
                assert(tls.disable_http2_alpn())
            end
        }
        return 204;
    }
--- config
--- request
GET /t
--- response_body eval
CORE::join '', map { <<"_EOC_" } qw(1.2 1.3)
$_ a.test h2,http/1.1: h2
$_ a.test http/1.1,h2: h2
$_ a.test http/1.1: http/1.1
$_ a.test h2: h2
$_ a.test other: 120
$_ b.test h2,http/1.1: http/1.1
$_ b.test http/1.1,h2: http/1.1
$_ b.test http/1.1: http/1.1
$_ b.test h2: 120
$_ b.test other: 120
_EOC_



=== TEST 4: HTTP/2 is not offered on an address without it, when the server has it on another address
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/h2.sock ssl;
        listen unix:$TEST_NGINX_HTML_DIR/other_h2.sock ssl http2;
        certificate gateway;
        ssl_protocols TLSv1.2 TLSv1.3;
        return 204;
    }
--- config
--- request
GET /t
--- response_body eval
CORE::join '', map { my $version = $_; map { <<"_EOC_" } qw(a.test b.test) } qw(1.2 1.3)
$version $_ h2,http/1.1: http/1.1
$version $_ http/1.1,h2: http/1.1
$version $_ http/1.1: http/1.1
$version $_ h2: 120
$version $_ other: 120
_EOC_



=== TEST 5: curl gets HTTP/1.1 or HTTP/2, and the client's chain is available with both
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl http2;
        certificate gateway;
        ssl_client_hello_by_lua_block {
            local name = require("ngx.ssl.clienthello").get_client_hello_server_name()
            if name == "a.test" then
                assert(kong.client.tls.disable_http2_alpn())
            end
        }
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
        }
        location / {
            content_by_lua_block {
                local pem = kong.client.tls.get_full_client_certificate_chain()
                kong.client.tls.set_client_verify("FAILED:override")
                ngx.say(ngx.req.http_version(), " ", ngx.var.ssl_client_verify, " ",
                        ngx.var.kong_client_verify, " ", (pem:find(pki.read("client1"), 1, true)))
            }
        }
    }
--- config
    location /curl {
        content_by_lua_block {
            local client = require "client"
            for _, name in ipairs { "a.test", "b.test" } do
                ngx.print(client.curl {
                    "--http2", "--cacert", pki.path("ca"), "--cert", pki.path("client1"),
                    "--key", pki.path("client1", ".key"),
                    "--resolve", name .. ":$TEST_NGINX_RAND_PORT_1:127.0.0.1",
                    "https://" .. name .. ":$TEST_NGINX_RAND_PORT_1/",
                }.out)
            end
        }
    }
--- request
GET /curl
--- response_body
1.1 SUCCESS FAILED:override 1
2 SUCCESS FAILED:override 1
--- no_error_log
[error]
