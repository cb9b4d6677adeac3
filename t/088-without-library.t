# SPDX-License-Identifier: Apache-2.0

# With the module loaded, but not used in handshakes, nginx behaves as without the module.

use lib 't/support';
use TestKong;
use TestHarness 'no_plan';

add_block_preprocessor(sub {
    my ($block) = @_;
    my $library = $block->http_config;
    my $server = <<'_EOC_';
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock ssl;
        ssl_certificate $TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key $TEST_NGINX_PKI/gateway.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache builtin:100;
        ssl_session_tickets off;
_EOC_
    $block->set_value('http_config', <<"_EOC_");
    lua_package_path "\$TEST_NGINX_SUPPORT/?.lua;;";
    $library
    server {
$server
        server_name n.test;
        ssl_verify_client optional;
        ssl_client_certificate \$TEST_NGINX_PKI/ca.crt;
        return 200 "n.test \$ssl_client_verify \$ssl_session_reused\\n";
    }
    server {
$server
        server_name lua.test;
        ssl_certificate_by_lua_block { counted = (counted or 0) + 1 }
        return 200 "lua.test \$ssl_client_verify \$ssl_session_reused\\n";
    }
_EOC_
    $block->set_value('config', <<'_EOC_');
    location /t {
        content_by_lua_block {
            local client, pki = require "client", require "pki"
            local session = "$TEST_NGINX_HTML_DIR/session"
            local function connect(version, sni, host, ...)
                local run = client.run({ "openssl", "s_client", "-unix", "$TEST_NGINX_HTML_DIR/gateway.sock", "-quiet", "-ign_eof",
                                         "-tls" .. version, "-servername", sni, "-cert", pki.path("client1"),
                                         "-key", pki.path("client1", ".key"), ... },
                                       { stdin = "GET / HTTP/1.1\r\nHost: " .. host .. "\r\nConnection: close\r\n\r\n" })
                ngx.say(run.out:match("HTTP/1.1 (%d+)") or run.err, " ", run.out:match("\r\n\r\n([^<].-)\n") or "")
            end
            for _, version in ipairs { "1_2", "1_3" } do
                connect(version, "n.test", "n.test", "-sess_out", session)
                connect(version, "n.test", "lua.test")
                connect(version, "lua.test", "lua.test", "-sess_in", session)
            end
        }
    }
_EOC_
});

# Returns what nginx alone answers. Before 1.29.2, OpenSSL looks for a session in the context of the default server;
# since then, nginx selects the server in the ClientHello callback, and finds no session of another server.
sub as_nginx {
    my $resumed = nginx_version() < 1_029_002 ? 'SUCCESS r' : 'NONE .';
    return "200 n.test SUCCESS .\n200 lua.test SUCCESS .\n200 lua.test $resumed\n" x 2;
}

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: without resty.kong.tls, sessions and requests for other servers work as in nginx
--- http_config
--- request
GET /t
--- response_body eval
main::as_nginx()
--- no_error_log
[error]
[crit]



=== TEST 2: with resty.kong.tls loaded, a request for another server gets 421, and its session is not resumed
--- http_config
    init_by_lua_block { require "resty.kong.tls" }
--- request
GET /t
--- response_body
200 n.test SUCCESS .
421 
200 lua.test NONE .
200 n.test SUCCESS .
421 
200 lua.test NONE .
--- no_error_log
[error]
[crit]



=== TEST 3: with resty.kong.tls loaded, the same applies when a lua_shared_dict delays init_by_lua
--- http_config
    lua_shared_dict some 1m;
    init_by_lua_block { require "resty.kong.tls" }
--- request
GET /t
--- response_body
200 n.test SUCCESS .
421 
200 lua.test NONE .
200 n.test SUCCESS .
421 
200 lua.test NONE .
--- no_error_log
[error]
[crit]



=== TEST 4: with resty.kong.x509 alone loaded, sessions and requests for other servers work as in nginx
--- http_config
    init_by_lua_block { require "resty.kong.x509" }
--- request
GET /t
--- response_body eval
main::as_nginx()
--- no_error_log
[error]
[crit]
