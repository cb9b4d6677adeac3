# SPDX-License-Identifier: Apache-2.0

# kong.service.enable_recording_upstream_ssl: what ngx.ctx then says of the TLS connection to the service.

use strict;
use warnings;

use lib 't/support';
use TestPresented;
use TestService;
use TestHarness 'no_plan';

repeat_each(1);

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('http_config', ($block->http_config // '') . <<'_EOC_');
    lua_shared_dict recorded 1m;
    init_worker_by_lua_block {
        kept = {}
        local FIELDS = {
            "upstream_ssl_enabled", "upstream_tls_version", "upstream_ssl_state", "upstream_ssl_common_name",
            "upstream_ssl_organization_unit",
        }
        function record()
            assert(select("#", kong.service.enable_recording_upstream_ssl()) == 0)
        end
        function recorded()
            local values = {}
            for index, name in ipairs(FIELDS) do
                values[index] = tostring(ngx.ctx[name])
            end
            return table.concat(values, "|")
        end
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/plain.sock;
        return 200 "plain\n";
    }
_EOC_
    $block->set_value('config', <<'_EOC_' . ($block->config // ''));
    header_filter_by_lua_block { ngx.header["X-Recorded"] = recorded() }
    log_by_lua_block { ngx.shared.recorded:set("last", recorded()) }
    location /logged {
        header_filter_by_lua_block { ngx.header["X-Recorded"] = nil }
        log_by_lua_block { ngx.shared.recorded:get("last") }
        content_by_lua_block { ngx.say(ngx.shared.recorded:get("last")) }
    }
_EOC_
});

run_tests();

__DATA__

=== TEST 1: the fields describe the connection and the service's certificate, on new, resumed and kept connections
--- http_config
    services subject svid-spire;
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/of-subject.sock;
        kong_tls_keepalive 4;
    }
--- config
VERSIONS
    location /subject {
        access_by_lua_block {
            assert(recorded() == "nil|nil|nil|nil|nil")
            record()
            record()
            assert(recorded() == "nil|nil|nil|nil|nil")
        }
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-subject.sock:/;
    }
    location /kept {
        keeps_connections;
        rewrite_by_lua_block {
            record()
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_pass https://kept/;
    }
    # Its subject has neither.
    location /spire {
        access_by_lua_block { record() }
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-svid-spire.sock:/;
    }
    location /unasked {
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-subject.sock:/;
    }
--- exchanges
for $version (1.2 1.3)
    for $where (subject subject kept kept)
        GET /$version/$where => {X-Recorded: true|TLSv$version|Zurich|first.test|Unit A}
        GET /logged => true|TLSv$version|Zurich|first.test|Unit A
    GET /$version/spire => {X-Recorded: true|TLSv$version|nil|nil|nil}
    GET /$version/unasked => {X-Recorded: nil|nil|nil|nil|nil}
    GET /logged => nil|nil|nil|nil|nil
--- no_error_log
[error]



=== TEST 2: without a TLS connection, or without any, TLS is not enabled
--- http_config
    services subject;
    upstream dead { server unix:$TEST_NGINX_HTML_DIR/none.sock; }
--- config
    access_by_lua_block { record() }
    location /plain {
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/plain.sock:/;
    }
    location /own {
        content_by_lua_block { ngx.say("own") }
    }
    location /refused {
        access_by_lua_block {
            record()
            ngx.exit(403)
        }
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-subject.sock:/;
    }
    location /dead {
        proxy_pass https://dead;
    }
    # The handshake was made, and the service refused.
    location /untrusted {
        proxy_ssl_protocols TLSv1.2;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/other-ca.crt;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-subject.sock:/;
    }
--- exchanges
for $where (plain own)
    GET /$where => 200 {X-Recorded: false|nil|nil|nil|nil}
    GET /logged => false|nil|nil|nil|nil
GET /refused => 403 {X-Recorded: false|nil|nil|nil|nil}
GET /dead => 502 {X-Recorded: false|nil|nil|nil|nil}
GET /untrusted => 502 {X-Recorded: true|TLSv1.2|Zurich|first.test|Unit A}
--- error_log
none.sock failed (2: No such file or directory)
upstream SSL certificate verify error



=== TEST 3: what else is in ngx.ctx, and its metatable, stay
--- http_config
    services subject;
--- config
    location /t {
        access_by_lua_block {
            local ctx = ngx.ctx
            ctx.own, ctx.upstream_ssl_state = "own", "taken"
            local way = ngx.var.arg_way
            if way == "table" then
                setmetatable(ctx, { __index = { own_index = "table", upstream_tls_version = "hidden" } })
            elseif way == "function" then
                setmetatable(ctx, { __index = function(_, name) return name == "own_index" and "function" or nil end,
                                    __metatable = "closed", __newindex = function(t, k, v) rawset(t, k, v .. "!") end })
            elseif way == "empty" then
                setmetatable(ctx, {})
            end
            record()
            record()
            ctx.later = "later"
        }
        header_filter_by_lua_block {
            local ctx = ngx.ctx
            ngx.header["X-Own"] = table.concat({ ctx.own, tostring(ctx.own_index), ctx.later, tostring(ctx.none),
                ctx.upstream_ssl_state, ctx.upstream_tls_version }, " ")
        }
        proxy_ssl_protocols TLSv1.2;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-subject.sock:/;
    }
--- exchanges
GET /t                => {X-Own: own nil later nil taken TLSv1.2}
GET /t?way=empty      => {X-Own: own nil later nil taken TLSv1.2}
GET /t?way=table      => {X-Own: own table later nil taken TLSv1.2}
GET /t?way=function   => {X-Own: own function later! nil taken TLSv1.2}
--- no_error_log
[error]



=== TEST 4: other requests know nothing of it; one that begins anew has to say it again
--- http_config
    services subject;
--- config
    location /t {
        access_by_lua_block {
            record()
            local ctx = ngx.ctx
            -- Not of this request any more.
            kept.read = function() return tostring(ctx.upstream_tls_version) end
            if ngx.var.arg_then == "redirect" then
                ngx.exec("/redirected")
            end
        }
        proxy_ssl_protocols TLSv1.2;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-subject.sock:/;
    }
    location /redirected {
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-subject.sock:/;
    }
    location /elsewhere {
        content_by_lua_block {
            ngx.say(kept.read(), " ", recorded())
            local timer = require "ngx.semaphore".new(0)
            ngx.timer.at(0, function()
                kept.said = kept.read()
                timer:post()
            end)
            assert(timer:wait(10))
            ngx.say(kept.said)
        }
    }
--- exchanges
GET /t => {X-Recorded: true|TLSv1.2|Zurich|first.test|Unit A}
GET /elsewhere => 200 "nil nil|nil|nil|nil|nil\nnil\n"
GET /t?then=redirect => {X-Recorded: nil|nil|nil|nil|nil}
--- no_error_log
[error]



=== TEST 5: it may be called in the rewrite, access and balancer phases
--- http_config
    services subject;
    upstream balanced {
        server 0.0.0.1;
        balancer_by_lua_block {
            record()
            assert(require("ngx.balancer").set_current_peer("127.0.0.1", $TEST_NGINX_RAND_PORT_1))
        }
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        ssl_certificate $TEST_NGINX_PKI/subject.crt;
        ssl_certificate_key $TEST_NGINX_PKI/subject.key;
        return 200 "ok\n";
    }
--- config
    location /balancer {
        proxy_ssl_protocols TLSv1.2;
        proxy_pass https://balanced;
    }
    location /content {
        content_by_lua_block { ngx.say(select(2, pcall(kong.service.enable_recording_upstream_ssl))) }
    }
--- exchanges
GET /balancer => {X-Recorded: true|TLSv1.2|Zurich|first.test|Unit A}
GET /content => function cannot be called in content phase (only in: rewrite, access, balancer): kong.service.enable_recording_upstream_ssl
--- no_error_log
[error]
