# SPDX-License-Identifier: Apache-2.0

# Functions are called with random arguments, in each phase in which they may be called: a wrong argument is an error
# that says so, the worker survives, and a request without settings is served as always.
#
# TEST_NGINX_SEED is a number that repeats the same calls. TEST_NGINX_TORTURE makes more calls, and different ones
# each time. Without it, the calls are always the same, so that a failure shows what has changed.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

$ENV{TEST_NGINX_SEED} //= $ENV{TEST_NGINX_TORTURE} ? int rand 1_000_000 : 1;
$ENV{TEST_NGINX_REQUESTS} = $ENV{TEST_NGINX_TORTURE} ? 5_000 : 300;
repeat_each(1);
log_level('error');
run_tests();
diag("TEST_NGINX_SEED=$ENV{TEST_NGINX_SEED} makes the same calls again") if !Test::More->builder->is_passing;

__DATA__

=== TEST 1: random arguments of functions for services break nothing
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/shown.sock;
        kong_tls_keepalive 4;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/shown.sock ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        # nginx itself logs an alert for a certificate with the signature of another one.
        error_log $TEST_NGINX_HTML_DIR/shown.log;
        return 200 "client=$ssl_client_s_dn reused=$ssl_session_reused\n";
    }
--- config
    location /random {
        rewrite_by_lua_block { require("random_arguments").call(5) }
        access_by_lua_block { require("random_arguments").call(15) }
        header_filter_by_lua_block { require("random_arguments").call(2) }
        log_by_lua_block { require("random_arguments").call(2) }
        proxy_pass https://kept;
    }
    location /nothing {
        proxy_pass https://kept;
    }
    location /t {
        content_by_lua_block {
            local random_arguments = require "random_arguments"
            math.randomseed($TEST_NGINX_SEED)
            local function ask(path)
                local socket = ngx.socket.tcp()
                socket:settimeouts(60000, 60000, 60000)
                assert(socket:connect("127.0.0.1", $TEST_NGINX_SERVER_PORT))
                assert(socket:send("GET " .. path .. " HTTP/1.0\r\n\r\n"))
                local answer = socket:receive("*a") or "nothing"
                socket:close()
                return tonumber(answer:match("^HTTP/%S+ (%d+)")), answer
            end
            local seen, wrong = {}, {}
            for n = 1, $TEST_NGINX_REQUESTS do
                local status = ask("/random")
                seen[status or "none"] = true
                local _, answer = ask("/nothing")
                if not answer:find("client= reused=", 1, true) then
                    wrong[#wrong + 1] = answer
                end
            end
            ngx.say(#wrong, " requests with settings of others", wrong[1] or "")
            ngx.say(seen.none and "requests without an answer" or "all have an answer")
            ngx.say(seen[200] and "some are served" or "none is served")
            ngx.say(random_arguments.done_of "kong.service.")
            ngx.say(random_arguments.done_of "resty.kong.tls.")
            ngx.say(#random_arguments.complaints == 0 and "no complaints" or table.concat(random_arguments.complaints, "\n"))
        }
    }
--- request
GET /t
--- timeout: 300
--- response_body
0 requests with settings of others
all have an answer
some are served
set_tls_cert_key set_tls_options set_tls_pins set_tls_server_name set_tls_verify set_tls_verify_depth set_tls_verify_names set_tls_verify_spiffe set_tls_verify_store set_upstream
set_upstream_cert_and_key set_upstream_ssl_sans_dnsnames set_upstream_ssl_sans_uris set_upstream_ssl_trusted_store set_upstream_ssl_verify set_upstream_ssl_verify_depth
no complaints
--- no_error_log
[alert]
panicked
exited on signal



=== TEST 2: random arguments of functions for clients break nothing in handshakes
--- http_config
    gateway {
        ssl_client_hello_by_lua_block {
            if require("ngx.ssl.clienthello").get_client_hello_server_name() == "random.test" then
                require("random_arguments").call(40)
            end
        }
        ssl_certificate_by_lua_block {
            if require("ngx.ssl").server_name() == "random.test" then
                require("random_arguments").call(40)
            end
        }
    }
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            -- Loads it here, since a handshake can't.
            local random_arguments = require "random_arguments"
            math.randomseed($TEST_NGINX_SEED)
            local wrong = {}
            for n = 1, $TEST_NGINX_REQUESTS / 10 do
                for _, name in ipairs { "random.test", "nothing.test" } do
                    local seen = client.s_client { unix = "$TEST_NGINX_HTML_DIR/gateway.sock", servername = name, cert = "client1" }
                    if name == "nothing.test" and seen.body ~= "NONE, no certificates\n" then
                        wrong[#wrong + 1] = seen.body
                    end
                end
            end
            ngx.say(#wrong, " handshakes with settings of others", wrong[1] or "")
            ngx.say(random_arguments.done_of "kong.client.tls.")
            ngx.say(random_arguments.done_of "resty.kong.tls.")
            ngx.say(#random_arguments.complaints == 0 and "no complaints" or table.concat(random_arguments.complaints, "\n"))
        }
    }
--- request
GET /t
--- timeout: 300
--- response_body
0 handshakes with settings of others
disable_http2_alpn disable_session_reuse request_client_certificate
disable_http2_alpn disable_session_reuse request_client_certificate
no complaints
--- no_error_log
[alert]
panicked
exited on signal



=== TEST 3: random headers of header_cert_auth are refused, or authenticate the right consumer
--- config
    location /header {
        access_by_lua_block {
            local random_arguments = require "random_arguments"
            local encoding = ngx.var.arg_encoding
            local plugin = random_arguments[encoding]
            if not plugin then
                plugin = assert(require("resty.kong.plugins.header_cert_auth").new {
                    ca = { pem = require("pki").read("ca") }, header = "X-Client-Cert", encoding = encoding,
                    trusted = { "127.0.0.1" }, consumers = { { name = "alice", common_name = "client-1" } },
                })
                random_arguments[encoding] = plugin
            end
            plugin:access()
        }
        content_by_lua_block {
            ngx.say(ngx.req.get_headers()["X-Consumer-Username"], " ", ngx.req.get_headers()["X-Client-Cert"])
        }
    }
    location /t {
        content_by_lua_block {
            local random_arguments = require "random_arguments"
            math.randomseed($TEST_NGINX_SEED)
            local seen, wrong = {}, {}
            for n = 1, 4 * $TEST_NGINX_REQUESTS do
                local encoding = n % 2 == 0 and "url" or "base64"
                local header = random_arguments.header(encoding)
                local socket = ngx.socket.tcp()
                socket:settimeouts(60000, 60000, 60000)
                assert(socket:connect("127.0.0.1", $TEST_NGINX_SERVER_PORT))
                assert(socket:send("GET /header?encoding=" .. encoding .. " HTTP/1.0\r\nX-Client-Cert: " .. header .. "\r\n\r\n"))
                local answer = socket:receive("*a") or "nothing"
                socket:close()
                local status = answer:match("^HTTP/%S+ (%d+)") or "none"
                seen[status] = (seen[status] or 0) + 1
                if status ~= "401" and not (status == "200" and answer:find("\nalice nil\n", 1, true)) then
                    wrong[#wrong + 1] = header .. ": " .. answer
                end
            end
            ngx.say(#wrong, " wrong answers", wrong[1] and ": " .. wrong[1] or "")
            ngx.say((seen["200"] or 0) > 20 and (seen["401"] or 0) > 20 and "some are taken, and some are not")
        }
    }
--- request
GET /t
--- timeout: 300
--- response_body
0 wrong answers
some are taken, and some are not
--- no_error_log
[alert]
panicked
exited on signal
