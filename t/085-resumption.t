# SPDX-License-Identifier: Apache-2.0

# Sessions of clients from which Lua code requested a certificate: each resumes only under its own server name, and
# with the whole chain of its first handshake.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# Adds a location that connects twice, with each version of TLS: "/t?first=a.test&second=b.test". The second
# connection offers the session of the first.
add_block_preprocessor(sub {
    my ($block) = @_;
    return if defined $block->config;
    $block->set_value('config', <<'_EOC_');
    location /t {
        content_by_lua_block {
            local client = require "client"
            local arg = ngx.req.get_uri_args()
            local function connect(version, servername, socket, direction)
                local seen = client.s_client {
                    unix = "$TEST_NGINX_HTML_DIR/" .. (socket or "gateway") .. ".sock",
                    servername = servername ~= "none" and servername or nil, tls = version,
                    cert = arg.cert ~= "none" and (arg.cert or "client-deep") or nil, args = arg.groups and { "-groups", arg.groups },
                    [direction] = "$TEST_NGINX_HTML_DIR/session" .. version,
                }
                ngx.print(seen.protocol, seen.reused and " reused " or " new ", seen.body)
            end
            for _, version in ipairs { "1.2", "1.3" } do
                os.remove("$TEST_NGINX_HTML_DIR/session" .. version)
                connect(version, arg.first or "a.test", arg.first_socket, "sess_out")
                connect(version, arg.second or "a.test", arg.socket, "sess_in")
            end
        }
    }
_EOC_
});

# Expands "asking;" to code that requests a certificate under all server names that begin with an "a".
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s/^( *)asking;/$1ssl_verify_depth 3;
        ssl_certificate_by_lua_block {
            local name = require("ngx.ssl").server_name()
            if not name or name:lower():find("^a") then
                assert(kong.client.tls.request_client_certificate(ca.root))
            end
        }/mg;
    $block->set_value('http_config', $config);
});

run_tests();

__DATA__

=== TEST 1: a session resumes under its server name, with the chain of its first handshake (tickets)
--- http_config
    gateway {
        asking;
    }
--- request
GET /t
--- response_body
TLSv1.2 new SUCCESS, 3 certificates
TLSv1.2 reused SUCCESS, 3 certificates
TLSv1.3 new SUCCESS, 3 certificates
TLSv1.3 reused SUCCESS, 3 certificates
--- no_error_log
[error]



=== TEST 2: a session resumes under its server name, with the chain of its first handshake (shared cache)
--- http_config
    gateway {
        ssl_session_tickets off;
        ssl_session_cache shared:sessions:1m;
        asking;
    }
--- request
GET /t
--- response_body
TLSv1.2 new SUCCESS, 3 certificates
TLSv1.2 reused SUCCESS, 3 certificates
TLSv1.3 new SUCCESS, 3 certificates
TLSv1.3 reused SUCCESS, 3 certificates
--- no_error_log
[error]



=== TEST 3: a session resumes under its server name, with the chain of its first handshake (builtin caches)
--- http_config
    gateway {
        ssl_session_tickets off;
        ssl_session_cache builtin:100;
        asking;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/two.sock ssl;
        certificate gateway;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_tickets off;
        ssl_session_cache builtin:100 shared:sessions:1m;
        ssl_verify_depth 3;
        ssl_certificate_by_lua_block { assert(kong.client.tls.request_client_certificate(ca.root)) }
        location / {
            content_by_lua_block {
                local pem = assert(kong.client.tls.get_full_client_certificate_chain())
                ngx.say(ngx.var.ssl_client_verify, ", ", select(2, pem:gsub("BEGIN CERTIFICATE", "")), " certificates")
            }
        }
    }
--- exchanges
for $more ("" ?first_socket=two&socket=two)
    GET /t$more =>
        TLSv1.2 new SUCCESS, 3 certificates
        TLSv1.2 reused SUCCESS, 3 certificates
        TLSv1.3 new SUCCESS, 3 certificates
        TLSv1.3 reused SUCCESS, 3 certificates
GET /t?second=ab.test =>
    TLSv1.2 new SUCCESS, 3 certificates
    TLSv1.2 new SUCCESS, 3 certificates
    TLSv1.3 new SUCCESS, 3 certificates
    TLSv1.3 new SUCCESS, 3 certificates
GET /t?second=b.test =>
    TLSv1.2 new SUCCESS, 3 certificates
    TLSv1.2 new NONE, no certificates
    TLSv1.3 new SUCCESS, 3 certificates
    TLSv1.3 new NONE, no certificates
--- no_error_log
[error]



=== TEST 4: a session does not resume under another server name
--- http_config
    gateway {
        ssl_session_cache shared:sessions:1m;
        asking;
    }
--- exchanges
for $names, $second (
    second=ab.test               "SUCCESS, 3 certificates"
    second=b.test                "NONE, no certificates"
    second=none                  "SUCCESS, 3 certificates"
    first=none                   "SUCCESS, 3 certificates"
    first=ab.test&second=b.test  "NONE, no certificates"
)
    GET /t?$names =>
        TLSv1.2 new SUCCESS, 3 certificates
        TLSv1.2 new $second
        TLSv1.3 new SUCCESS, 3 certificates
        TLSv1.3 new $second
--- no_error_log
[error]



=== TEST 5: server names of sessions are compared without case, and a session without SNI resumes without SNI
--- http_config
    gateway {
        asking;
    }
--- exchanges
for $names (second=A.Test first=none&second=none)
    GET /t?$names =>
        TLSv1.2 new SUCCESS, 3 certificates
        TLSv1.2 reused SUCCESS, 3 certificates
        TLSv1.3 new SUCCESS, 3 certificates
        TLSv1.3 reused SUCCESS, 3 certificates
--- no_error_log
[error]



=== TEST 6: a session resumes only under its server name after a HelloRetryRequest (RFC 8446, section 4.1.4)
--- http_config
    gateway {
        ssl_ecdh_curve secp384r1:prime256v1;
        asking;
    }
--- exchanges
for $names, $first, $second (
    ""                           "SUCCESS, 3 certificates"  "reused SUCCESS, 3 certificates"
    &second=ab.test              "SUCCESS, 3 certificates"  "new SUCCESS, 3 certificates"
    &second=b.test               "SUCCESS, 3 certificates"  "new NONE, no certificates"
    &first=b.test&second=b.test  "NONE, no certificates"    "reused NONE, no certificates"
)
    GET /t?groups=X25519:P-384:P-256$names =>
        TLSv1.2 new $first
        TLSv1.2 $second
        TLSv1.3 new $first
        TLSv1.3 $second
--- no_error_log
[error]



=== TEST 7: a session resumes without a client certificate, and with one that has no intermediates
--- http_config
    gateway {
        asking;
    }
--- exchanges
for $cert, $verified (none "NONE, no certificates"  client1 "SUCCESS, 1 certificates")
    GET /t?cert=$cert =>
        TLSv1.2 new $verified
        TLSv1.2 reused $verified
        TLSv1.3 new $verified
        TLSv1.3 reused $verified
--- no_error_log
[error]



=== TEST 8: a resumed session keeps the result of a failed verification
--- http_config
    gateway {
        asking;
    }
--- request
GET /t?cert=client-other
--- response_body
TLSv1.2 new FAILED:unable to verify the first certificate, 1 certificates
TLSv1.2 reused FAILED:unable to verify the first certificate, 1 certificates
TLSv1.3 new FAILED:unable to verify the first certificate, 1 certificates
TLSv1.3 reused FAILED:unable to verify the first certificate, 1 certificates
--- no_error_log
[error]



=== TEST 9: a session with a certificate does not resume at another address with the same cache and ticket keys
--- http_config
    ssl_session_cache shared:sessions:1m;
    ssl_session_ticket_key $TEST_NGINX_HTML_DIR/ticket.key;
    gateway {
        asking;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/other-gateway.sock ssl;
        server_name gateway.test;
        certificate gateway;
        ssl_protocols TLSv1.2 TLSv1.3;
        return 200 "$ssl_client_verify\n";
    }
--- user_files eval
[["ticket.key" => pack "C*", 0 .. 79]]
--- exchanges
GET /t?second=a.test&socket=other-gateway =>
    TLSv1.2 new SUCCESS, 3 certificates
    TLSv1.2 new NONE
    TLSv1.3 new SUCCESS, 3 certificates
    TLSv1.3 new NONE
GET /t?first=b.test&second=b.test&socket=other-gateway =>
    TLSv1.2 new NONE, no certificates
    TLSv1.2 reused NONE
    TLSv1.3 new NONE, no certificates
    TLSv1.3 reused NONE
--- no_error_log
[error]



=== TEST 10: a session of ssl_verify_client does not resume where Lua code requests a certificate (tickets)
--- http_config
    gateway {
        ssl_session_cache shared:sessions:1m;
        asking;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock ssl;
        server_name b.test;
        certificate gateway;
        ssl_verify_client optional;
        ssl_client_certificate $TEST_NGINX_PKI/other-ca.crt;
        return 200 "$ssl_client_verify\n";
    }
--- exchanges
for $second, $verified (
    a.test  "new FAILED:unable to verify the first certificate, 1 certificates"
    b.test  "reused SUCCESS"
    none    "new FAILED:unable to verify the first certificate, 1 certificates"
)
    GET /t?cert=client-other&first=b.test&second=$second =>
        TLSv1.2 new SUCCESS
        TLSv1.2 $verified
        TLSv1.3 new SUCCESS
        TLSv1.3 $verified
--- no_error_log
[error]



=== TEST 11: a session of ssl_verify_client does not resume where Lua code requests a certificate (shared cache)
--- http_config
    gateway {
        ssl_session_cache shared:sessions:1m;
        ssl_session_tickets off;
        asking;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock ssl;
        server_name b.test;
        certificate gateway;
        ssl_verify_client optional;
        ssl_session_cache shared:sessions:1m;
        ssl_session_tickets off;
        ssl_client_certificate $TEST_NGINX_PKI/other-ca.crt;
        return 200 "$ssl_client_verify\n";
    }
--- exchanges
for $second, $verified (
    a.test  "new FAILED:unable to verify the first certificate, 1 certificates"
    b.test  "reused SUCCESS"
    none    "new FAILED:unable to verify the first certificate, 1 certificates"
)
    GET /t?cert=client-other&first=b.test&second=$second =>
        TLSv1.2 new SUCCESS
        TLSv1.2 $verified
        TLSv1.3 new SUCCESS
        TLSv1.3 $verified
--- no_error_log
[error]



=== TEST 12: a session without a certificate request resumes under a name that has one, with the result NONE
--- http_config
    gateway {
        asking;
    }
--- request
GET /t?first=b.test&second=a.test
--- response_body
TLSv1.2 new NONE, no certificates
TLSv1.2 reused NONE, no certificates
TLSv1.3 new NONE, no certificates
TLSv1.3 reused NONE, no certificates
--- no_error_log
[error]



=== TEST 13: a session of another server name in the builtin cache leads to a full handshake
--- http_config
    gateway {
        ssl_session_cache builtin:100;
        ssl_session_tickets off;
        asking;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock ssl;
        server_name b.test;
        certificate gateway;
        ssl_verify_client optional_no_ca;
        ssl_session_tickets off;
        location / {
            content_by_lua_block {
                local pem, err = kong.client.tls.get_full_client_certificate_chain()
                ngx.say(select(2, pem:gsub("BEGIN CERTIFICATE", "")), " certificates", err or "")
            }
        }
    }
--- exchanges
for $names, $first, $second (
    first=b.test&second=b.test  "3 certificates"           "reused 3 certificates"
    first=b.test&second=a.test  "3 certificates"           "new SUCCESS, 3 certificates"
    first=b.test&second=none    "3 certificates"           "new SUCCESS, 3 certificates"
    first=a.test&second=b.test  "SUCCESS, 3 certificates"  "new 3 certificates"
)
    GET /t?$names =>
        TLSv1.2 new $first
        TLSv1.2 $second
        TLSv1.3 new $first
        TLSv1.3 $second
--- no_error_log
[error]
[crit]
[alert]
is refused



=== TEST 14: a session whose chain is too long to be kept is not resumed
--- http_config
    gateway {
        asking;
    }
--- config
    location /t {
        content_by_lua_block {
            local client, pki = require "client", require "pki"
            local chain = "$TEST_NGINX_SERVER_ROOT/long.crt"
            local function connect(version, direction)
                local seen = client.s_client {
                    unix = "$TEST_NGINX_HTML_DIR/gateway.sock", servername = "a.test", tls = version,
                    cert = "client-deep", chain = chain, [direction] = "$TEST_NGINX_HTML_DIR/session" .. version,
                }
                ngx.print(seen.protocol, seen.reused and " reused " or " new ", seen.body)
            end
            for _, more in ipairs { 10, 40 } do
                local file = io.open(chain, "w")
                file:write(pki.read("client-deep-chain"), pki.read("ca"):rep(more))
                file:close()
                for _, version in ipairs { "1.2", "1.3" } do
                    connect(version, "sess_out")
                    connect(version, "sess_in")
                end
            end
        }
    }
--- request
GET /t
--- response_body
TLSv1.2 new SUCCESS, 13 certificates
TLSv1.2 reused SUCCESS, 13 certificates
TLSv1.3 new SUCCESS, 13 certificates
TLSv1.3 reused SUCCESS, 13 certificates
TLSv1.2 new SUCCESS, 43 certificates
TLSv1.2 new SUCCESS, 43 certificates
TLSv1.3 new SUCCESS, 43 certificates
TLSv1.3 new SUCCESS, 43 certificates
--- no_error_log
[error]



=== TEST 15: a session does not resume at another address with the same default server
--- http_config
    gateway {
        listen unix:$TEST_NGINX_HTML_DIR/other-gateway.sock ssl;
        ssl_session_cache shared:sessions:1m;
        asking;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/other-gateway.sock ssl;
        server_name a.test;
        certificate gateway;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(ca.other))
        }
        return 200 "other: $ssl_client_verify\n";
    }
--- request
GET /t?socket=other-gateway&cert=client1
--- response_body
TLSv1.2 new SUCCESS, 1 certificates
TLSv1.2 new other: FAILED:unable to verify the first certificate
TLSv1.3 new SUCCESS, 1 certificates
TLSv1.3 new other: FAILED:unable to verify the first certificate
--- no_error_log
[error]



=== TEST 16: a session that was refused under another name still resumes under its own
--- http_config
    gateway {
        ssl_session_cache builtin:100;
        ssl_session_tickets off;
        asking;
    }
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            local function connect(version, servername, direction)
                local seen = client.s_client {
                    unix = "$TEST_NGINX_HTML_DIR/gateway.sock", servername = servername, tls = version,
                    cert = "client-deep", [direction] = "$TEST_NGINX_HTML_DIR/session" .. version,
                }
                ngx.print(seen.protocol, " ", servername, seen.reused and " reused " or " new ", seen.body)
            end
            for _, version in ipairs { "1.2", "1.3" } do
                connect(version, "a.test", "sess_out")
                connect(version, "ab.test", "sess_in")
                connect(version, "b.test", "sess_in")
                connect(version, "a.test", "sess_in")
            end
        }
    }
--- request
GET /t
--- response_body
TLSv1.2 a.test new SUCCESS, 3 certificates
TLSv1.2 ab.test new SUCCESS, 3 certificates
TLSv1.2 b.test new NONE, no certificates
TLSv1.2 a.test reused SUCCESS, 3 certificates
TLSv1.3 a.test new SUCCESS, 3 certificates
TLSv1.3 ab.test new SUCCESS, 3 certificates
TLSv1.3 b.test new NONE, no certificates
TLSv1.3 a.test reused SUCCESS, 3 certificates
--- no_error_log
[error]



=== TEST 17: a server without certificate requests of Lua code resumes sessions as nginx does, with each kind of cache
--- http_config eval
my $gateway = '    gateway {
        ssl_session_cache shared:tickets:1m;
        asking;
    }
';
my $servers = CORE::join '', map { my ($socket, $cache) = @$_; map {"
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/$socket.sock ssl;
        server_name $_;
        ssl_certificate \$TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/gateway.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        $cache
        @{[$_ eq 'b.test' && 'ssl_verify_client optional_no_ca;']}
        return 200 '\$ssl_client_s_dn\n';
    }
"} 'b.test', 'c.test'} ['gateway', 'ssl_session_cache shared:tickets:1m;'],
    ['builtin', 'ssl_session_cache builtin:100; ssl_session_tickets off;'],
    ['shared', 'ssl_session_cache shared:other:1m; ssl_session_tickets off;'], ['tickets', ''], ['elsewhere', ''];
$gateway . $servers
--- exchanges
GET /t?cert=client1&first=b.test&second=b.test&first_socket=tickets&socket=elsewhere =>
    TLSv1.2 new CN=client-1,O=Test
    TLSv1.2 new CN=client-1,O=Test
    TLSv1.3 new CN=client-1,O=Test
    TLSv1.3 new CN=client-1,O=Test
for $socket (gateway builtin shared tickets)
    GET /t?cert=client1&first=b.test&second=c.test&first_socket=$socket&socket=$socket =>
        TLSv1.2 new CN=client-1,O=Test
        TLSv1.2 reused CN=client-1,O=Test
        TLSv1.3 new CN=client-1,O=Test
        TLSv1.3 reused CN=client-1,O=Test
--- no_error_log
[error]
[crit]



=== TEST 18: early data of a client with a requested certificate is accepted
--- http_config
    gateway {
        ssl_session_cache builtin:100;
        ssl_session_tickets off;
        ssl_early_data on;
        log_by_lua_block { ngx.log(ngx.WARN, "seen: ", ngx.var.ssl_client_verify) }
        asking;
    }
--- config
    location /t {
        content_by_lua_block {
            local client, pki = require "client", require "pki"
            local session, early = "$TEST_NGINX_HTML_DIR/session", "$TEST_NGINX_SERVER_ROOT/early"
            local request = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"
            local function connect(stdin, ...)
                local run = client.run({ "openssl", "s_client", "-unix", "$TEST_NGINX_HTML_DIR/gateway.sock", "-tls1_3", "-ign_eof",
                                         "-servername", "a.test", "-cert", pki.path("client1"), "-key", pki.path("client1", ".key"), ... },
                                       { stdin = stdin })
                ngx.say("early data ", run.out:match("Early data was (%l+)"), ", ",
                        run.out:match("\n(New), TLS") or run.out:match("\n(Reused), TLS") or run.err)
            end
            local file = io.open(early, "w")
            file:write(request)
            file:close()
            connect(request, "-sess_out", session)
            connect("", "-sess_in", session, "-early_data", early)
        }
    }
--- request
GET /t
--- response_body
early data not, New
early data accepted, Reused
--- grep_error_log eval
qr/seen: \w+/
--- grep_error_log_out
seen: SUCCESS
seen: SUCCESS
--- no_error_log
[error]
[crit]
