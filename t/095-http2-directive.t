# SPDX-License-Identifier: Apache-2.0

# HTTP/2 by the http2 directive, which nginx has since 1.25.1, instead of the parameter of listen.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('skip_nginx', '3: < 1.25.1');
    $block->set_value('config', <<'_EOC_');
    location /t {
        content_by_lua_block {
            local client = require "client"
            for _, name in ipairs { "on.test", "off.test", "withheld.test" } do
                for _, offered in ipairs { "h2,http/1.1", "http/1.1", "h2" } do
                    local seen = client.s_client {
                        unix = "$TEST_NGINX_HTML_DIR/h2.sock", servername = name, alpn = offered, request = false,
                    }
                    ngx.say(name, " ", offered, ": ", seen.alpn or seen.alert or "none")
                end
            end
        }
    }
_EOC_
    my $config = $block->http_config;
    $config =~ s{^( *)listens;}{$1listen unix:\$TEST_NGINX_HTML_DIR/h2.sock ssl;
        ssl_certificate \$TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/gateway.key;
        # Since nginx 1.29.2, the handler of the server that the client names runs, so each server needs it.
        ssl_client_hello_by_lua_block {
            if require("ngx.ssl.clienthello").get_client_hello_server_name() == "withheld.test" then
                assert(kong.client.tls.disable_http2_alpn())
            end
        }
        return 204;}mg;
    $block->set_value('http_config', $config);
});

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: disable_http2_alpn works with http2 on for some servers of an address
--- http_config
    server {
        listens;
        server_name off.test;
    }
    server {
        listens;
        http2 on;
        server_name on.test;
    }
    server {
        listens;
        http2 on;
        server_name withheld.test;
    }
--- config
--- request
GET /t
--- response_body
on.test h2,http/1.1: h2
on.test http/1.1: http/1.1
on.test h2: h2
off.test h2,http/1.1: http/1.1
off.test http/1.1: http/1.1
off.test h2: 120
withheld.test h2,http/1.1: http/1.1
withheld.test http/1.1: http/1.1
withheld.test h2: 120
--- no_error_log
[alert]



=== TEST 2: disable_http2_alpn works with http2 on in http {} and off for one server
--- http_config
    http2 on;
    server {
        listens;
        server_name off.test;
        http2 off;
    }
    server {
        listens;
        server_name on.test;
    }
    server {
        listens;
        server_name withheld.test;
    }
--- config
--- request
GET /t
--- response_body
on.test h2,http/1.1: h2
on.test http/1.1: http/1.1
on.test h2: h2
off.test h2,http/1.1: http/1.1
off.test http/1.1: http/1.1
off.test h2: 120
withheld.test h2,http/1.1: http/1.1
withheld.test http/1.1: http/1.1
withheld.test h2: 120
--- no_error_log
[alert]
