# SPDX-License-Identifier: Apache-2.0

# resty.kong.testing: its stand-ins have the functions of the module, and answer as these do.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: the stand-ins answer as the module does in each phase
--- http_config
    lua_shared_dict compared 1m;
    init_worker_by_lua_block {
        function compare(options)
            local said = require("stand_ins").compare(options)
            ngx.shared.compared:set(said:match("^[^:]*"), said)
        end
        compare()
        ngx.timer.at(0, function() compare() end)
    }
    upstream balanced {
        server 0.0.0.1;
        balancer_by_lua_block {
            compare()
            -- There is no attempt after this one.
            ngx.exit(ngx.ERROR)
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock ssl;
        certificate gateway;
        ssl_client_hello_by_lua_block { compare() }
        ssl_certificate_by_lua_block { compare() }
        set_by_lua_block $set {
            compare()
            return ""
        }
        rewrite_by_lua_block { compare({ upstreams = { "service" } }) }
        header_filter_by_lua_block { compare() }
        body_filter_by_lua_block { compare() }
        log_by_lua_block { compare() }
        location / {
            access_by_lua_block {
                compare({ upstreams = { "service" } })
                kong.service.set_target("127.0.0.1", 443)
            }
            proxy_pass https://balanced;
        }
        location /content {
            content_by_lua_block {
                compare()
                ngx.say("compared")
            }
        }
    }
--- config
    location = /t {
        content_by_lua_block {
            local client = require "client"
            for _, path in ipairs { "/", "/content" } do
                client.s_client {
                    unix = "$TEST_NGINX_HTML_DIR/gateway.sock",
                    request = "GET " .. path .. " HTTP/1.0\r\n\r\n",
                }
            end
            for _, phase in ipairs {
                "init_worker", "timer", "client_hello", "certificate", "set", "rewrite", "access", "content", "balancer",
                "header_filter", "body_filter", "log",
            } do
                ngx.print(ngx.shared.compared:get(phase) or phase .. ": not compared\n")
            end
            ngx.print(require("stand_ins").without_success())
        }
    }
--- request
GET /t
--- response_body
init_worker: 0 differ
timer: 0 differ
client_hello: 0 differ
certificate: 0 differ
set: 0 differ
rewrite: 0 differ
access: 0 differ
content: 0 differ
balancer: 0 differ
header_filter: 0 differ
body_filter: 0 differ
log: 0 differ
--- no_error_log
[alert]



=== TEST 2: the stand-ins answer as the module does for a client with a certificate, and where verification is enforced
--- http_config
    init_worker_by_lua_block {
        compare = require("stand_ins").compare
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock ssl;
        certificate gateway;
        ssl_verify_client optional_no_ca;
        location / {
            access_by_lua_block {
                ngx.print(compare({
                    enforce_verification = true, upstreams = { "service" }, client_certificate = pki.read("client1"),
                }))
                return ngx.exit(200)
            }
            kong_tls_certificate_verify on;
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
            proxy_pass https://other;
        }
    }
    upstream unused {
        server 0.0.0.1;
    }
--- config
    location = /t {
        content_by_lua_block {
            local client = require "client"
            local seen = client.s_client { unix = "$TEST_NGINX_HTML_DIR/gateway.sock", cert = "client1" }
            ngx.print(seen.body)
        }
    }
--- request
GET /t
--- response_body
access: 0 differ
--- no_error_log
[error]
