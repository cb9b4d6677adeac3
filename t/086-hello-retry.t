# SPDX-License-Identifier: Apache-2.0

# A client may send another server name in the ClientHello after a HelloRetryRequest (RFC 8446, section 4.1.4). What
# Lua code decided for the first name must not apply to another name, and must not get lost.
#
# nginx selects the server for both names, the Lua module runs its handlers for the first ClientHello only, and
# OpenSSL does not compare the names.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

use File::Temp ();

require_program('gcc', 'openssl');
repeat_each(1);

my $folder = File::Temp::tempdir('hello-retry-XXXXXXXX', TMPDIR => 1, CLEANUP => 1);
system('gcc', '-Wall', '-Wextra', '-Werror', '-o', "$folder/hello-retry", 't/support/hello-retry.c', '-lssl', '-lcrypto') == 0
    or die "t/support/hello-retry.c can't be compiled\n";
$ENV{TEST_NGINX_HELLO_RETRY} = "$folder/hello-retry";
env_to_nginx('TEST_NGINX_HELLO_RETRY');

# Adds the Lua function hello(first, second, options), which connects to retry.sock with these two server names.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{^( *)listens;}{$1listen unix:\$TEST_NGINX_HTML_DIR/retry.sock ssl;
        ssl_certificate \$TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/gateway.key;
        ssl_protocols TLSv1.3;
        # No curve for which clients send a key share at first.
        ssl_ecdh_curve secp384r1;}mg;
    $block->set_value('http_config', $config . <<'_EOC_');
    init_worker_by_lua_block {
        function hello(first, second, options)
            options = options or {}
            local pki = os.getenv("TEST_NGINX_PKI") .. "/"
            local words = { "env" }
            for name, value in pairs(options.environment or {}) do
                words[#words + 1] = name .. "=" .. value
            end
            for _, word in ipairs { os.getenv("TEST_NGINX_HELLO_RETRY"), "$TEST_NGINX_HTML_DIR/retry.sock",
                                    options.groups or "X25519:P-384", first, second, "/", pki .. "client1.crt",
                                    pki .. "client1.key" } do
                words[#words + 1] = word
            end
            local run = require("client").run(words)
            ngx.say(first, " ", second, ": ", run.code == 0 and run.out:gsub("\n", "") or run.err)
        end
    }
_EOC_
});

run_tests();

__DATA__

=== TEST 1: a second ClientHello with another server name is refused after a certificate request, within one server
--- http_config
    server {
        listens;
        ssl_certificate_by_lua_block {
            local authorities = ({ ["a.test"] = ca.root, ["b.test"] = ca.other })[require("ngx.ssl").server_name()]
            if authorities then
                assert(kong.client.tls.request_client_certificate(authorities))
            end
        }
        return 200 "[$ssl_server_name] $ssl_client_verify\n";
    }
--- config
    location /t {
        content_by_lua_block {
            hello("a.test", "a.test", { groups = "P-384" })
            hello("a.test", "a.test")
            hello("b.test", "b.test")
            hello("a.test", "b.test")
            hello("b.test", "a.test")
            hello("a.test", "c.test")
            hello("c.test", "c.test")
            hello("a.test", "-")
            hello("-", "-")
        }
    }
--- request
GET /t
--- response_body
a.test a.test: asked new [a.test] SUCCESS
a.test a.test: retried asked new [a.test] SUCCESS
b.test b.test: retried asked new [b.test] FAILED:unable to verify the first certificate
a.test b.test: retried refused
b.test a.test: retried refused
a.test c.test: retried refused
c.test c.test: retried new [c.test] NONE
a.test -: retried refused
- -: retried new [] NONE
--- grep_error_log: the handshake is refused: the client asks for another server name than before the HelloRetryRequest
--- grep_error_log_out
the handshake is refused: the client asks for another server name than before the HelloRetryRequest
the handshake is refused: the client asks for another server name than before the HelloRetryRequest
the handshake is refused: the client asks for another server name than before the HelloRetryRequest
the handshake is refused: the client asks for another server name than before the HelloRetryRequest
--- no_error_log
[alert]



=== TEST 2: a second ClientHello with the name of another server is refused after a certificate request
--- http_config
    server {
        listens;
        server_name other.test;
        return 200 "other $ssl_client_verify\n";
    }
    server {
        listens;
        server_name a.test;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.root))
        }
        return 200 "[$ssl_server_name] $ssl_client_verify\n";
    }
--- config
    location /t {
        content_by_lua_block {
            hello("a.test", "a.test", { groups = "P-384" })
            hello("a.test", "a.test")
            hello("a.test", "other.test")
            hello("other.test", "other.test")
        }
    }
--- request
GET /t
--- response_body
a.test a.test: asked new [a.test] SUCCESS
a.test a.test: retried asked new [a.test] SUCCESS
a.test other.test: retried refused
other.test other.test: retried new other NONE
--- no_error_log
[alert]



=== TEST 3: a session resumes after a HelloRetryRequest only if both ClientHellos have its server name
--- http_config
    server {
        listens;
        ssl_certificate_by_lua_block {
            local authorities = ({ ["a.test"] = ca.root, ["b.test"] = ca.other })[require("ngx.ssl").server_name()]
            assert(kong.client.tls.request_client_certificate(authorities))
        }
        return 200 "[$ssl_server_name] $ssl_client_verify\n";
    }
--- config
    location /t {
        content_by_lua_block {
            local file = "$TEST_NGINX_HTML_DIR/session"
            hello("a.test", "a.test", { environment = { SESSION_OUT = file } })
            local offer = { environment = { SESSION_IN = file } }
            hello("a.test", "a.test", offer)
            hello("b.test", "b.test", offer)
            hello("a.test", "b.test", offer)
            hello("b.test", "a.test", offer)
            hello("a.test", "-", offer)
        }
    }
--- request
GET /t
--- response_body
a.test a.test: retried asked new [a.test] SUCCESS
a.test a.test: retried reused [a.test] SUCCESS
b.test b.test: retried asked new [b.test] FAILED:unable to verify the first certificate
a.test b.test: retried refused
b.test a.test: retried refused
a.test -: retried refused
--- no_error_log
[alert]



=== TEST 4: a second ClientHello with another server name is refused after disable_http2_alpn
--- http_config
    server {
        listens;
        ssl_client_hello_by_lua_block {
            local name = require("ngx.ssl.clienthello").get_client_hello_server_name()
            if name == "old.test" then
                assert(kong.client.tls.disable_http2_alpn())
            end
        }
        return 200 "[$ssl_server_name]\n";
    }
--- config
    location /t {
        content_by_lua_block {
            hello("old.test", "old.test")
            hello("old.test", "new.test")
            hello("new.test", "new.test")
        }
    }
--- request
GET /t
--- response_body
old.test old.test: retried new [old.test]
old.test new.test: retried refused
new.test new.test: retried new [new.test]
--- no_error_log
[alert]
