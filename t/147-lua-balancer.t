# SPDX-License-Identifier: Apache-2.0

# What newer versions of the Lua module allow a balancer: to turn TLS on, to keep connections, and to create the
# request again. And what a balancer reads from the module's variables.

use strict;
use warnings;

use lib 't/support';
use TestService ':default_keepalive';
use TestHarness 'no_plan';

# Returns whether ngx.balancer has a function.
sub has {
    my ($function) = @_;
    return grep {
        open my $file, '<', $_ or die "$_: $!\n";
        local $/;
        <$file> =~ /function _M\.$function\b/;
    } grep {-e} glob '/usr/share/lua/*/ngx/balancer.lua';
}

add_block_preprocessor(sub {
    my ($block) = @_;
    my ($needed) = $block->name =~ /: (\w+),/;
    $block->set_value('skip_eval', "1: !main::has('$needed')") if $needed;
    (my $config = $block->config) =~ s{^( *)plugin;}{$1access_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
            if ngx.var.arg_verify then
                assert(kong.service.set_tls_verify(true))
            end
            if ngx.var.arg_timeout then
                kong.service.set_timeouts(5000, 5000, 5000)
            end
        }}mg;
    $block->set_value('config', $config);
});

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: set_upstream_tls, with keepalive: requests with settings use no idle connection
--- http_config
    upstream flip {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
            assert(balancer.set_upstream_tls(true))
        }
        keepalive 8;
    }
--- config
    plugin;
    set $scheme_of_service http;
    keeps_connections;
    location /connection {
        # The service has another name, which fails the verification.
        proxy_ssl_name nobody.test;
        proxy_pass $scheme_of_service://flip;
    }
--- exchanges
GET /connection                => /^client= connection=1/
GET /connection                => /^client= connection=2/
GET /connection?client=client1 => /^client=CN=client-1,O=Test connection=1/
GET /connection?verify=1       => 502 /502 Bad Gateway/
GET /connection?client=client2 => /^client=CN=client-2,O=Test connection=1/
GET /connection                => /^client= connection=1/
--- no_error_log
[alert]



=== TEST 2: set_upstream_tls, with connections kept by default: each location uses its own certificate
--- http_config
    upstream flip {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
            assert(balancer.set_upstream_tls(true))
            assert(balancer.set_timeouts(5, 5, 5))
        }
    }
--- config
    plugin;
    set $scheme_of_service http;
    keeps_connections;
    location /a {
        proxy_ssl_certificate $TEST_NGINX_PKI/client1.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client1.key;
        proxy_pass $scheme_of_service://flip/connection?;
    }
    location /b {
        proxy_ssl_certificate $TEST_NGINX_PKI/client2.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client2.key;
        proxy_pass $scheme_of_service://flip/connection?;
    }
--- exchanges
for $more ("" timeout=)
    for $n (1 2 3 4 5 6 7 8)
        GET /a?$more$n => /^client=CN=client-1,O=Test /
        GET /b?$more$n => /^client=CN=client-2,O=Test /
--- no_error_log
[alert]



=== TEST 3: enable_keepalive, of the Lua module: requests with settings use no idle connection
--- http_config
    upstream kept {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock", nil, "service.test"))
            assert(balancer.enable_keepalive(60, 100))
            -- The variable is read while nginx has the peer data of the Lua module.
            assert(not ngx.var.kong_upstream_ssl_protocol)
        }
        keepalive 8;
    }
--- config
    plugin;
    keeps_connections;
    location /connection {
        proxy_pass https://kept;
    }
--- exchanges
GET /connection                => /^client= connection=1/
GET /connection                => /^client= connection=\d/
GET /connection?client=client1 => /^client=CN=client-1,O=Test connection=1/
GET /connection?client=client2 => /^client=CN=client-2,O=Test connection=1/
GET /connection?client=client1 => /^client=CN=client-1,O=Test connection=1/
GET /connection                => /^client= connection=\d/
--- no_error_log
[alert]



=== TEST 4: recreate_request, with a variable in the request that is created: the certificate is sent
--- http_config
    upstream anew {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            assert(balancer.recreate_request())
            assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
    }
--- config
    plugin;
    location /connection {
        proxy_set_header X-Was "$kong_upstream_ssl_protocol $kong_upstream_ssl_verify";
        proxy_pass https://anew;
    }
--- exchanges
GET /connection                => /^client= connection=/
GET /connection?client=client1 => /^client=CN=client-1,O=Test connection=1/
--- no_error_log
[alert]



=== TEST 5: $kong_upstream_ssl_* are empty in a Lua balancer, with and without TLS
--- http_config
    upstream one {
        server 0.0.0.1;
        balancer_by_lua_block {
            for _, name in ipairs { "protocol", "cipher", "session_reused", "verify", "server_raw_cert" } do
                assert(not ngx.var["kong_upstream_ssl_" .. name], name)
            end
            assert(require("ngx.balancer").set_current_peer(
                "unix:$TEST_NGINX_HTML_DIR/" .. (ngx.var.scheme_of_service == "http" and "plain" or "service") .. ".sock"))
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/plain.sock;
        return 200 plain;
    }
--- config
    plugin;
    location /connection {
        set $scheme_of_service https;
        proxy_pass https://one;
    }
    location /plain {
        set $scheme_of_service http;
        kong_tls_allow_plaintext on;
        proxy_pass http://one;
    }
--- exchanges
GET /connection                          => /^client= connection=/
GET /connection?client=client1&timeout=1 => /^client=CN=client-1,O=Test connection=1/
GET /plain                               => /^plain/
GET /plain?timeout=1                     => /^plain/
GET /plain?client=client1                => /^plain/
--- no_error_log
[alert]
