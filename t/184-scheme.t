# SPDX-License-Identifier: Apache-2.0

# kong.service.request.set_scheme and $kong_upstream_scheme decide whether a request goes to its service with TLS.

use strict;
use warnings;

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# Whether ngx.balancer can turn TLS on and off.
my $has_upstream_tls = grep {
    open my $file, '<', $_ or die "$_: $!\n";
    local $/;
    <$file> =~ /function _M\.set_upstream_tls\b/;
} grep {-e} glob '/usr/share/lua/*/ngx/balancer.lua';

add_block_preprocessor(sub {
    my ($block) = @_;
    $block->set_value('skip_eval', "1: " . ($has_upstream_tls ? 0 : 1)) if $block->name =~ /with set_upstream_tls/;
    $block->set_value('skip_eval', "1: " . ($has_upstream_tls ? 1 : 0)) if $block->name =~ /without set_upstream_tls/;
    $block->set_value('http_config', <<'_EOC_' . ($block->http_config // ''));
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2 ssl;
        ssl_certificate $TEST_NGINX_PKI/service.crt;
        ssl_certificate_key $TEST_NGINX_PKI/service.key;
        ssl_verify_client optional_no_ca;
        return 200 "$scheme client=$ssl_client_s_dn\n";
    }
    upstream http { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    upstream https { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
_EOC_
});

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: set_scheme decides about the scheme of $kong_upstream_scheme, which is https without it
--- config
    rewrite_by_lua_block {
        local scheme, way = ngx.var.arg_scheme, ngx.var.arg_way
        if scheme then
            assert(select("#", kong.service.request.set_scheme(scheme)) == 0)
        end
        local port = (scheme == "http" and $TEST_NGINX_RAND_PORT_1 or $TEST_NGINX_RAND_PORT_2)
        kong.service.set_target("127.0.0.1", port)
        if way == "redirect" then
            ngx.exec("/target", { scheme = scheme })
        end
    }
    location /target {
        add_header X-Scheme $kong_upstream_scheme;
        proxy_pass $kong_upstream_scheme://$kong_upstream_target;
    }
    location /block {
        access_by_lua_block {
            assert(kong.service.set_upstream(ngx.var.arg_scheme or "https"))
        }
        add_header X-Scheme $kong_upstream_scheme;
        proxy_pass $kong_upstream_scheme://$kong_upstream_target;
    }
--- request eval
[map { my $way = $_; map {"GET /$way$_"} '?scheme=http', '?scheme=https', '' } qw(target block)]
--- response_body eval
[("http client=\n", "https client=\n", "https client=\n") x 2]
--- response_headers eval
[('X-Scheme: http', 'X-Scheme: https', 'X-Scheme: https') x 2]
--- no_error_log
[error]



=== TEST 2: a scheme that the location does not use is refused
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("127.0.0.1", $TEST_NGINX_RAND_PORT_2))
        }
    }
--- config
    set $secure https;
    set $plain http;
    set $address 127.0.0.1;
    access_by_lua_block {
        if ngx.var.arg_scheme then
            kong.service.request.set_scheme(ngx.var.arg_scheme)
        end
    }
    location /https/block { proxy_pass https://https; }
    location /https/address { proxy_pass https://$address:$TEST_NGINX_RAND_PORT_2; }
    location /https/variable { proxy_pass $secure://$address:$TEST_NGINX_RAND_PORT_2; }
    location /https/lua { proxy_pass https://lua; }
    location /http/block { proxy_pass http://http; }
    location /http/address { proxy_pass http://$address:$TEST_NGINX_RAND_PORT_1; }
    location /http/variable { proxy_pass $plain://$address:$TEST_NGINX_RAND_PORT_1; }
--- exchanges
for $way (block address variable lua)
    GET /https/$way?scheme=http  => 500
    GET /https/$way?scheme=https => https client=
    GET /https/$way              => https client=
for $way (block address variable)
    GET /http/$way?scheme=https  => 500
    GET /http/$way?scheme=http   => http client=
    GET /http/$way               => http client=
--- grep_error_log eval
qr/\[error\]|kong.service.request.set_scheme was called, and the location sends the request without that scheme/
--- grep_error_log_out eval
"[error]\nkong.service.request.set_scheme was called, and the location sends the request without that scheme\n" x 7
--- no_error_log
[alert]



=== TEST 3: TLS settings with the scheme http are refused, where plaintext is not allowed
--- config
    access_by_lua_block {
        kong.service.request.set_scheme("http")
        kong.service.set_target("127.0.0.1", $TEST_NGINX_RAND_PORT_1)
        assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
    }
    location /refused { proxy_pass $kong_upstream_scheme://$kong_upstream_target; }
    location /required {
        kong_tls_required on;
        proxy_pass $kong_upstream_scheme://$kong_upstream_target;
    }
    location /allowed {
        kong_tls_allow_plaintext on;
        proxy_pass $kong_upstream_scheme://$kong_upstream_target;
    }
--- exchanges
GET /refused  => 500
GET /required => 500
GET /allowed  => http client=
--- error_log
the request has TLS settings, and its service is spoken to without TLS
--- no_error_log
[alert]



=== TEST 4: set_scheme takes http and https only
--- config
    location /t {
        access_by_lua_block {
            for _, wrong in ipairs { "ftp", "HTTP", "", "https:", "http\0", 1, {} } do
                ngx.say(select(2, pcall(kong.service.request.set_scheme, wrong)))
            end
            ngx.say(select(2, pcall(kong.service.request.set_scheme)))
            ngx.say(select(2, pcall(function() local x = kong.service.request:set_scheme("http") end)):match("scheme.*"))
            ngx.say(ngx.var.kong_upstream_scheme)
        }
    }
--- request
GET /t
--- response_body
invalid scheme: ftp: kong.service.request.set_scheme
invalid scheme: HTTP: kong.service.request.set_scheme
invalid scheme: : kong.service.request.set_scheme
invalid scheme: https:: kong.service.request.set_scheme
invalid scheme: http\x00: kong.service.request.set_scheme
scheme must be a string: given 1: kong.service.request.set_scheme
scheme must be a string: given an empty table: kong.service.request.set_scheme
scheme must be a string: given nil: kong.service.request.set_scheme
scheme must be a string: called with ":" in place of ".": use kong.service.request.set_scheme(...)
https
--- no_error_log
[error]



=== TEST 5: set_scheme stays with the request through redirects, and goes to clones but to no other subrequest
--- config
    location /exec {
        access_by_lua_block {
            kong.service.request.set_scheme("http")
            kong.service.set_target("127.0.0.1", $TEST_NGINX_RAND_PORT_1)
            ngx.exec("/named")
        }
    }
    location /named { proxy_pass $kong_upstream_scheme://$kong_upstream_target; }
    location /sub {
        access_by_lua_block {
            kong.service.request.set_scheme("http")
            local answer = ngx.location.capture("/scheme")
            ngx.print(answer.body)
            ngx.exit(200)
        }
    }
    location /scheme { return 200 "$kong_upstream_scheme\n"; }
--- exchanges
GET /exec => http client=
GET /sub  => https
--- no_error_log
[error]



=== TEST 6: in the balancer phase, with set_upstream_tls, set_scheme turns TLS on and off
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            local scheme = ngx.var.arg_scheme
            kong.service.request.set_scheme(scheme)
            kong.service.set_target("127.0.0.1", scheme == "http" and $TEST_NGINX_RAND_PORT_1 or $TEST_NGINX_RAND_PORT_2)
        }
    }
--- config
    set $plain http;
    location /https { proxy_pass https://lua; }
    location /http { proxy_pass $plain://lua; }
--- exchanges
for $way (https http)
    GET /$way?scheme=http  => http client=
    GET /$way?scheme=https => https client=
--- no_error_log
[error]



=== TEST 7: in the balancer phase, without set_upstream_tls, set_scheme throws, and the request is refused
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            ngx.log(ngx.WARN, "said: ", select(2, pcall(kong.service.request.set_scheme, "http")), ";")
            kong.service.set_target("127.0.0.1", $TEST_NGINX_RAND_PORT_2)
        }
    }
--- config
    location /t { proxy_pass https://lua; }
--- exchanges
GET /t => 500
--- error_log
said: ngx.balancer has no set_upstream_tls, which this needs in the balancer phase: kong.service.request.set_scheme;
kong.service.request.set_scheme was called, and the location sends the request without that scheme
--- no_error_log
[alert]



=== TEST 8: in the balancer phase, TLS is not turned on where nginx has prepared nothing for it
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            local set_upstream_tls = require("ngx.balancer").set_upstream_tls
            if set_upstream_tls and ngx.var.arg_scheme == "https" then
                kong.service.request.set_scheme("https")
            end
            kong.service.set_target("127.0.0.1", $TEST_NGINX_RAND_PORT_1)
            if not set_upstream_tls and ngx.var.arg_scheme == "https" then
                ngx.log(ngx.ERR, "TLS was turned on for the request: not here")
                ngx.exit(500)
            end
        }
    }
--- config
    location /never { proxy_pass http://lua; }
--- exchanges
GET /never?scheme=http  => http client=
GET /never?scheme=https => 500
--- error_log
TLS was turned on for the request
--- no_error_log
[alert]
