# SPDX-License-Identifier: Apache-2.0

# Clients that speak HTTP/3 over QUIC get the same functions and the same answers.

use strict;
use warnings;

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('skip_eval', $block->skip_eval || '3: !TestService::speaks_quic()');
    my $config = $block->http_config;
    # Expands gateway_quic { ... } to a server for QUIC and TLS, which answers with a description of the request.
    $config =~ s{^    gateway_quic \{\n(.*?)^    \}\n}{
        my $settings = $1;
        <<"_EOC_" }mse;
    server {
        listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_1 quic;
        listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_1 ssl;
        server_name gateway.test;
        ssl_certificate \$TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/gateway.key;
        http2 on;
        keepalive_requests 1;
$settings
        location / {
            content_by_lua_block {
                local pem, err = kong.client.tls.get_full_client_certificate_chain()
                local count = pem and select(2, pem:gsub("BEGIN CERTIFICATE", "")) or "no"
                ngx.say("HTTP/", ngx.req.http_version(), " ", ngx.var.kong_client_verify, ", ", count,
                        " certificates", err and ", " .. err or "", ", reused=", ngx.var.ssl_session_reused)
            }
        }
    }
_EOC_
    $block->set_value('http_config', $config);
    # With OpenSSL's QUIC, curl resumes no sessions.
    $block->set_value('response_body', $block->response_body =~ s{^(HTTP/3 .*reused=)r}{$1.}mgr)
        unless `curl --version` =~ /\bngtcp2\b/;
    $block->set_value('timeout', 60);
    return if $block->config =~ /\S/;
    $block->set_value('config', <<'_EOC_');
    location /t {
        content_by_lua_block {
            local client = require "client"
            -- Each URL has its own connection, and curl offers it the session of the one before. curl repeats
            -- requests that it sent on a connection which nginx was about to close, so only the first and the last
            -- answer count.
            local function curl(name, ...)
                local url = "https://" .. name .. ":$TEST_NGINX_RAND_PORT_1/"
                local result = client.curl { "--retry", "5", "--retry-all-errors",
                    "--cacert", pki.path("ca"), "--resolve", name .. ":$TEST_NGINX_RAND_PORT_1:127.0.0.1", url, url, ... }
                local first, last = result.out:match("^([^\n]+\n).-([^\n]+\n)$")
                ngx.print(first or "no answer\n", last or "no other\n", result.code == 0 and "" or "failed: " .. result.err)
            end
            local mine = { "--cert", pki.path("client1"), "--key", pki.path("client1", ".key") }
            for _, version in ipairs { "--http3-only", "--http2" } do
                curl("gateway.test", version)
                curl("gateway.test", version, unpack(mine))
            end
        }
    }
_EOC_
});

log_level('info');
repeat_each(1);
run_tests();

__DATA__

=== TEST 1: request_client_certificate works over QUIC, and sessions resume with the certificate
--- http_config
    gateway_quic {
        ssl_certificate_by_lua_block { assert(kong.client.tls.request_client_certificate(ca.root)) }
    }
--- config
--- request
GET /t
--- response_body
HTTP/3 NONE, no certificates, reused=.
HTTP/3 NONE, no certificates, reused=r
HTTP/3 SUCCESS, 2 certificates, reused=.
HTTP/3 SUCCESS, 2 certificates, reused=r
HTTP/2 NONE, no certificates, reused=.
HTTP/2 NONE, no certificates, reused=r
HTTP/2 SUCCESS, 2 certificates, reused=.
HTTP/2 SUCCESS, 2 certificates, reused=r
--- no_error_log
[error]
[alert]
SSL_do_handshake() failed



=== TEST 2: disable_session_reuse works over QUIC
--- http_config
    gateway_quic {
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
            assert(kong.client.tls.disable_session_reuse())
        }
    }
--- config
--- request
GET /t
--- response_body
HTTP/3 NONE, no certificates, reused=.
HTTP/3 NONE, no certificates, reused=.
HTTP/3 SUCCESS, 2 certificates, reused=.
HTTP/3 SUCCESS, 2 certificates, reused=.
HTTP/2 NONE, no certificates, reused=.
HTTP/2 NONE, no certificates, reused=.
HTTP/2 SUCCESS, 2 certificates, reused=.
HTTP/2 SUCCESS, 2 certificates, reused=.
--- no_error_log
[error]
[alert]
SSL_do_handshake() failed



=== TEST 3: disable_http2_alpn does not affect HTTP/3
--- http_config
    gateway_quic {
        ssl_client_hello_by_lua_block { assert(kong.client.tls.disable_http2_alpn()) }
    }
--- config
--- request
GET /t
--- response_body
HTTP/3 NONE, no certificates, reused=.
HTTP/3 NONE, no certificates, reused=r
HTTP/3 NONE, no certificates, reused=.
HTTP/3 NONE, no certificates, reused=r
HTTP/1.1 NONE, no certificates, reused=.
HTTP/1.1 NONE, no certificates, reused=r
HTTP/1.1 NONE, no certificates, reused=.
HTTP/1.1 NONE, no certificates, reused=r
--- no_error_log
[error]
[alert]
SSL_do_handshake() failed



=== TEST 4: sessions of the builtin cache resume over QUIC with ssl_early_data on
--- http_config
    gateway_quic {
        ssl_session_cache builtin:1000;
        ssl_session_tickets off;
        ssl_early_data on;
        ssl_certificate_by_lua_block { assert(kong.client.tls.request_client_certificate(ca.root)) }
    }
--- config
--- request
GET /t
--- response_body
HTTP/3 NONE, no certificates, reused=.
HTTP/3 NONE, no certificates, reused=r
HTTP/3 SUCCESS, 2 certificates, reused=.
HTTP/3 SUCCESS, 2 certificates, reused=r
HTTP/2 NONE, no certificates, reused=.
HTTP/2 NONE, no certificates, reused=r
HTTP/2 SUCCESS, 2 certificates, reused=.
HTTP/2 SUCCESS, 2 certificates, reused=r
--- no_error_log
[error]
[crit]
[alert]
SSL_do_handshake() failed



=== TEST 5: a request over QUIC for a server name that the certificate does not count for gets 421
--- http_config
    gateway_quic {
        ssl_certificate_by_lua_block { assert(kong.client.tls.request_client_certificate(ca.root, { names = { "also.test" } })) }
    }
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            for _, version in ipairs { "--http3-only", "--http2" } do
                for _, host in ipairs { "gateway.test", "also.test", "other.test" } do
                    local result = client.curl {
                        version, "--retry", "5", "--retry-all-errors", "-o", "/dev/null", "-w", "%{http_code}",
                        "--cert", pki.path("client1"), "--key", pki.path("client1", ".key"), "--cacert", pki.path("ca"),
                        "--resolve", "gateway.test:$TEST_NGINX_RAND_PORT_1:127.0.0.1", "-H", "Host: " .. host,
                        "https://gateway.test:$TEST_NGINX_RAND_PORT_1/",
                    }
                    ngx.say(version, " ", host, " ", result.out)
                end
            end
        }
    }
--- request
GET /t
--- response_body
--http3-only gateway.test 200
--http3-only also.test 200
--http3-only other.test 421
--http2 gateway.test 200
--http2 also.test 200
--http2 other.test 421
--- no_error_log
[error]
[alert]



=== TEST 6: a session over QUIC resumes only under its own server name
--- skip_eval: 3: !TestService::speaks_quic() || `openssl s_client -help 2>&1` !~ /-quic/
--- http_config
    gateway_quic {
        ssl_session_cache builtin:1000;
        ssl_session_tickets off;
        ssl_early_data on;
        ssl_certificate_by_lua_block { assert(kong.client.tls.request_client_certificate(ca.root)) }
    }
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            local session = "$TEST_NGINX_SERVER_ROOT/logs/session"
            local function connect(name, option)
                local result = client.run({ "sh", "-c", [[
                    rm -f "$4"
                    mkfifo "$4" && exec 3<>"$4"
                    openssl s_client -quic -alpn h3 -connect 127.0.0.1:$TEST_NGINX_RAND_PORT_1 \
                        -servername "$1" "$2" "$3" -cert "$5" -key "$6" <&3 2>&1 &
                    i=0
                    until [ -s "$3" ] || [ $((i += 1)) -gt 100 ]; do sleep 0.1; done
                    echo Q >&3
                    wait
                ]], "sh", name, option, session, session .. ".input", pki.path("client1"), pki.path("client1", ".key") })
                ngx.say(name, " ", result.out:match("\n(%a+), [^\n]*Cipher is ") or result.out)
            end
            connect("gateway.test", "-sess_out")
            connect("gateway.test", "-sess_in")
            connect("other.test", "-sess_in")
        }
    }
--- request
GET /t
--- response_body
gateway.test New
gateway.test Reused
other.test New
--- no_error_log
[error]
[crit]
[alert]
