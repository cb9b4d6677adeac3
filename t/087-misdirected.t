# SPDX-License-Identifier: Apache-2.0

# The result of a client's verification counts for the server name under which the certificate was requested: a
# request for another server on that connection is answered with 421.

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

my ($http2, $http2_server) = http2_server();

# "asks NAMES { code }" is a server on gateway.sock with these names, in which the code requests the certificate. "/t"
# runs the Lua code of a config section, which may call get(sni, host, curl options...) and raw(sni, request).
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    my $braces = qr/\{((?:[^{}]++|\{(?-1)\})*)\}/;
    $config =~ s{^    (asks|plain) ([^\{\n]*) $braces(?: $braces)?\n}{
        my ($kind, $names, $code, $more) = ($1, $2, $3, $4 // '');
        my $asks = $kind eq 'asks' ? "ssl_certificate_by_lua_block {$code}" : $code;
        <<"_EOC_" }gmse;
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/gateway.sock ssl$http2;
        $http2_server
        server_name $names;
        ssl_certificate \$TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/gateway.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        $asks
        $more
        location / {
            return 200 "$names: \$ssl_client_verify\\n";
        }
    }
_EOC_
    $block->set_value('http_config', $config);
    my $visits = $block->config;
    $block->set_value('timeout', 30);
    return if $visits =~ /^    location/;
    $block->set_value('request', 'GET /t');
    $block->set_value('config', <<'_EOC_' . $visits . <<'_EOC_');
    location /t {
        content_by_lua_block {
            local client, pki = require "client", require "pki"
            local SOCKET = "$TEST_NGINX_HTML_DIR/gateway.sock"
            local function short(answer)
                return (answer:gsub("<html>.*</html>%s*", ""):gsub("%s+$", ""))
            end
            local function get(sni, host, ...)
                local run = client.curl { "-k", "--unix-socket", SOCKET, "-w", "%{http_code}", "--cert", pki.path("client1"),
                                          "--key", pki.path("client1", ".key"), "-H", "Host: " .. host, "https://" .. sni .. "/", ... }
                ngx.say(sni, " ", host, " -> ", run.code == 0 and short(run.out) or run.err)
            end
            local function raw(sni, request, ...)
                local words = { "openssl", "s_client", "-unix", SOCKET, "-quiet", "-ign_eof", "-cert", pki.path("client1"),
                                "-key", pki.path("client1", ".key"), ... }
                for _, word in ipairs(sni and { "-servername", sni } or { "-noservername" }) do
                    words[#words + 1] = word
                end
                local run = client.run(words, { stdin = request .. "\r\nConnection: close\r\n\r\n" })
                ngx.say(sni or "-", " ", (request:gsub("\r\n", " ")), " -> ", run.out:match("HTTP/1.1 (%d+)") or run.err,
                        " ", run.out:match("\r\n\r\n([^<].-)\n") or "")
            end
_EOC_
        }
    }
_EOC_
});

log_level('info');
repeat_each(1);
run_tests();

__DATA__

=== TEST 1: a request for another server name gets 421, by Host and by absolute URI, over HTTP/1.1 and HTTP/2
--- http_config
    asks a.test { assert(kong.client.tls.request_client_certificate(ca.root)) }
    asks b.test { assert(kong.client.tls.request_client_certificate(ca.other)) }
    plain c.test {}
--- config
            for _, version in ipairs { "--http1.1", "--http2" } do
                get("a.test", "a.test", version)
                get("a.test", "A.Test.:8443", version)
                get("a.test", "b.test", version)
                get("a.test", "c.test", version)
                get("a.test", "10.0.0.1", version)
                get("c.test", "a.test", version)
            end
            raw("a.test", "GET https://a.test/ HTTP/1.1\r\nHost: a.test")
            raw("a.test", "GET https://b.test/ HTTP/1.1\r\nHost: a.test")
            raw("a.test", "GET https://b.test/ HTTP/1.1\r\nHost: b.test")
            raw("A.TEST", "GET / HTTP/1.1\r\nHost: a.test")
            raw("a.test", "GET / HTTP/1.0")
--- response_body
a.test a.test -> a.test: SUCCESS
200
a.test A.Test.:8443 -> a.test: SUCCESS
200
a.test b.test -> 421
a.test c.test -> 421
a.test 10.0.0.1 -> 421
c.test a.test -> a.test: NONE
200
a.test a.test -> a.test: SUCCESS
200
a.test A.Test.:8443 -> a.test: SUCCESS
200
a.test b.test -> 421
a.test c.test -> 421
a.test 10.0.0.1 -> 421
c.test a.test -> a.test: NONE
200
a.test GET https://a.test/ HTTP/1.1 Host: a.test -> 200 a.test: SUCCESS
a.test GET https://b.test/ HTTP/1.1 Host: a.test -> 421 
a.test GET https://b.test/ HTTP/1.1 Host: b.test -> 421 
A.TEST GET / HTTP/1.1 Host: a.test -> 200 a.test: SUCCESS
a.test GET / HTTP/1.0 -> 200 a.test: SUCCESS
--- error_log eval
qr/\[info\] .* misdirected request: Lua code asked the client for its certificate under "a.test", and it requests "b.test", for which the answer does not count/
--- no_error_log
[error]



=== TEST 2: a 421 is logged once, and uses the error_page of the server that the connection is for
--- http_config
    asks a.test { assert(kong.client.tls.request_client_certificate(ca.root)) } { error_page 421 = /a; }
    asks b.test { assert(kong.client.tls.request_client_certificate(ca.other)) } { error_page 421 = /b; }
--- config
            get("a.test", "b.test")
--- response_body
a.test b.test -> a.test: SUCCESS
200
--- grep_error_log eval
qr/misdirected request/
--- grep_error_log_out
misdirected request
--- no_error_log
[error]



=== TEST 3: without SNI, or with an unknown name, a certificate counts for the default server
--- http_config
    asks a.test { assert(kong.client.tls.request_client_certificate(ca.root)) }
    asks b.test { assert(kong.client.tls.request_client_certificate(ca.other)) }
--- config
            raw(nil, "GET / HTTP/1.1\r\nHost: a.test")
            raw(nil, "GET / HTTP/1.1\r\nHost: any.test")
            raw(nil, "GET / HTTP/1.0")
            raw(nil, "GET / HTTP/1.1\r\nHost: b.test")
            -- No server has this name.
            raw("x.test", "GET / HTTP/1.1\r\nHost: x.test")
            raw("x.test", "GET / HTTP/1.1\r\nHost: a.test")
            raw("x.test", "GET / HTTP/1.1\r\nHost: b.test")
--- response_body
- GET / HTTP/1.1 Host: a.test -> 200 a.test: SUCCESS
- GET / HTTP/1.1 Host: any.test -> 200 a.test: SUCCESS
- GET / HTTP/1.0 -> 200 a.test: SUCCESS
- GET / HTTP/1.1 Host: b.test -> 421 
x.test GET / HTTP/1.1 Host: x.test -> 200 a.test: SUCCESS
x.test GET / HTTP/1.1 Host: a.test -> 421 
x.test GET / HTTP/1.1 Host: b.test -> 421 
--- no_error_log
[error]



=== TEST 4: the certificate also counts for the server names in the option "names", with both interfaces
--- http_config
    asks a.test { assert(kong.client.tls.request_client_certificate(ca.root, { names = { "B.test.", "*.c.test" } })) }
    asks d.test { assert(tls.request_client_certificate(ca.root, { names = { "b.test" } })) }
    asks e.test { assert(tls.request_client_certificate(nil, { names = {} })) }
    asks b.test { assert(kong.client.tls.request_client_certificate(ca.root)) }
    plain *.c.test {}
--- config
            get("a.test", "b.test")
            get("a.test", "x.y.c.test", "--http1.1")
            get("a.test", "c.test")
            get("a.test", "d.test")
            get("d.test", "b.test")
            get("d.test", "x.c.test")
            get("e.test", "b.test")
            get("b.test", "a.test")
            -- Without SNI, the list of the default server applies.
            raw(nil, "GET / HTTP/1.1\r\nHost: b.test")
            raw(nil, "GET / HTTP/1.1\r\nHost: d.test")
--- response_body
a.test b.test -> b.test: SUCCESS
200
a.test x.y.c.test -> *.c.test: SUCCESS
200
a.test c.test -> 421
a.test d.test -> 421
d.test b.test -> b.test: SUCCESS
200
d.test x.c.test -> 421
e.test b.test -> 421
b.test a.test -> 421
- GET / HTTP/1.1 Host: b.test -> 200 b.test: SUCCESS
- GET / HTTP/1.1 Host: d.test -> 421 
--- no_error_log
[error]



=== TEST 5: the last successful call of request_client_certificate sets the names that the certificate counts for
--- http_config
    asks a.test {
            assert(kong.client.tls.request_client_certificate(ca.root, { names = { "c.test", "b.test" } }))
            assert(kong.client.tls.request_client_certificate(ca.root, { names = { "b.test" } }))
        }
    asks d.test {
            assert(kong.client.tls.request_client_certificate(ca.root, { names = { "b.test" } }))
            assert(not kong.client.tls.request_client_certificate(ca.root, { names = { "*" } }))
        }
    asks e.test {
            assert(kong.client.tls.request_client_certificate(ca.root, { names = { "b.test" } }))
            assert(kong.client.tls.request_client_certificate(ca.root))
        }
    plain b.test c.test {}
--- config
            get("a.test", "b.test")
            get("a.test", "c.test")
            get("d.test", "b.test")
            get("e.test", "b.test")
--- response_body
a.test b.test -> b.test c.test: SUCCESS
200
a.test c.test -> 421
d.test b.test -> b.test c.test: SUCCESS
200
e.test b.test -> 421
--- no_error_log
[error]



=== TEST 6: a resumed session counts for the names of its first handshake
--- http_config eval
my @kept = (['tickets', ''], ['shared', 'ssl_session_cache shared:s:1m; ssl_session_tickets off;'],
            ['builtin', 'ssl_session_cache builtin:100; ssl_session_tickets off;']);
CORE::join '', map { my ($socket, $cache) = @$_; <<"_EOC_" } @kept;
        server {
            listen unix:\$TEST_NGINX_HTML_DIR/$socket.sock ssl;
            ssl_certificate \$TEST_NGINX_PKI/gateway.crt;
            ssl_certificate_key \$TEST_NGINX_PKI/gateway.key;
            ssl_protocols TLSv1.2 TLSv1.3;
            $cache
            ssl_certificate_by_lua_block {
                turn = (turn or 0) + 1
                assert(kong.client.tls.request_client_certificate(ca.root, { names = { turn % 2 == 1 and "b.test" or "c.test" } }))
            }
            return 200 "\$host \$ssl_client_verify \$ssl_session_reused\\n";
        }
_EOC_
--- config
    location /t {
        content_by_lua_block {
            local client, pki = require "client", require "pki"
            local session = "$TEST_NGINX_HTML_DIR/session"
            local function connect(version, host, ...)
                local run = client.run({ "openssl", "s_client", "-unix", "$TEST_NGINX_HTML_DIR/" .. ngx.var.arg_by .. ".sock", "-quiet",
                                         "-ign_eof", "-servername", "a.test", "-tls" .. version, "-cert", pki.path("client1"),
                                         "-key", pki.path("client1", ".key"), ... },
                                       { stdin = "GET / HTTP/1.1\r\nHost: " .. host .. "\r\nConnection: close\r\n\r\n" })
                ngx.say(host, ": ", run.out:match("HTTP/1.1 (%d+)") or run.err, " ", run.out:match("\r\n\r\n([^<].-)\n") or "")
            end
            for _, version in ipairs { "1_2", "1_3" } do
                turn = 0
                connect(version, "a.test", "-sess_out", session)
                turn = 1
                connect(version, "b.test", "-sess_in", session)
                connect(version, "c.test", "-sess_in", session)
            end
        }
    }
--- request eval
[map {"GET /t?by=$_"} qw(tickets shared builtin)]
--- response_body eval
[("a.test: 200 a.test SUCCESS .\nb.test: 200 b.test SUCCESS r\nc.test: 421 \n" x 2) x 3]
--- no_error_log
[error]



=== TEST 7: a certificate requested by ssl_verify_client does not count for servers where Lua code requests one
--- http_config
    asks a.test { assert(kong.client.tls.request_client_certificate(ca.root)) }
    plain n.test { ssl_verify_client optional; ssl_client_certificate $TEST_NGINX_PKI/ca.crt; }
    plain c.test {}
--- config
            for _, version in ipairs { "--http1.1", "--http2" } do
                get("n.test", "n.test", version)
                get("n.test", "a.test", version)
                get("n.test", "c.test", version)
                get("c.test", "n.test", version)
            end
            -- Without a Host header, nginx uses the default server.
            raw("n.test", "GET / HTTP/1.0")
--- response_body
n.test n.test -> n.test: SUCCESS
200
n.test a.test -> 421
n.test c.test -> c.test: SUCCESS
200
c.test n.test -> 421
n.test n.test -> n.test: SUCCESS
200
n.test a.test -> 421
n.test c.test -> c.test: SUCCESS
200
c.test n.test -> 421
n.test GET / HTTP/1.0 -> 421 
--- error_log
misdirected request: nginx asked the client for its certificate under "n.test", and it requests "a.test"
--- no_error_log
[error]



=== TEST 8: a TLS 1.2 session of ssl_verify_client does not count for servers where Lua code requests a certificate
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock ssl;
        server_name n.test;
        certificate gateway;
        ssl_session_cache builtin:100;
        ssl_session_tickets off;
        ssl_verify_client optional;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        return 200 "n.test: $ssl_client_verify\n";
    }
    asks a.test { assert(kong.client.tls.request_client_certificate(ca.other)) }
--- config
            local session = "$TEST_NGINX_HTML_DIR/session"
            raw("n.test", "GET / HTTP/1.1\r\nHost: n.test", "-tls1_2", "-sess_out", session)
            raw("n.test", "GET / HTTP/1.1\r\nHost: a.test", "-tls1_2", "-sess_in", session)
            raw("a.test", "GET / HTTP/1.1\r\nHost: a.test", "-tls1_2", "-sess_in", session)
            raw("a.test", "GET / HTTP/1.1\r\nHost: n.test", "-tls1_2", "-sess_in", session)
--- response_body
n.test GET / HTTP/1.1 Host: n.test -> 200 n.test: SUCCESS
n.test GET / HTTP/1.1 Host: a.test -> 421 
a.test GET / HTTP/1.1 Host: a.test -> 200 a.test: FAILED:unable to verify the first certificate
a.test GET / HTTP/1.1 Host: n.test -> 421 
--- no_error_log
[error]



=== TEST 9: request_client_certificate refuses wrong options and names
--- http_config
    asks a.test {
            local function try(...)
                local arguments, count = { ... }, select("#", ...)
                for _, ask in ipairs { kong.client.tls.request_client_certificate, tls.request_client_certificate } do
                    local ok, result, err = pcall(function()
                        local result, err = ask(unpack(arguments, 1, count))
                        return result, err
                    end)
                    ngx.log(ngx.WARN, "try: ", tostring(ok), ", ", (tostring(result):gsub("^.-%d: ", "")), ", ", tostring(err), ";")
                end
            end
            try(nil, "b.test")
            try(nil, false)
            try(nil, { name = "b.test" })
            try(nil, { "b.test" })
            try(nil, { names = "b.test" })
            try(nil, { names = { b = "b.test" } })
            try(nil, { names = { "b.test", 1 } })
            try(nil, { names = { "b.test", nil, "c.test" } })
            try(nil, { names = { "b.test", "*" } })
            try(nil, { names = { "https://b.test" } })
            try(nil, { names = { "b.test:443" } })
            try(nil, { names = { "" } })
            try(nil, { names = { "b.test\0" } })
        }
--- config
            local seen = client.s_client { unix = SOCKET, servername = "a.test" }
            ngx.say(seen.cert_requested)
--- response_body
false
--- grep_error_log eval
qr/try: [^;]*(?:; options[^;]*)?/
--- grep_error_log_out eval
my @thrown = ('options must be a table: given the string "b.test"', 'options must be a table: given false',
    'unknown option "name"; options are names, partial_chain', 'unknown option "1"; options are names, partial_chain',
    'names must be a table of strings: given the string "b.test"',
    ('names must be a table of strings: given a table that holds something else') x 3);
CORE::join '',
    map({ ("try: false, $_: kong.client.tls.request_client_certificate, nil\n",
           "try: false, $_: resty.kong.tls.request_client_certificate, nil\n") } @thrown),
    map {qq(try: true, nil, names: "$_" is not the name of a host\n) x 2} '*', 'https://b.test', 'b.test:443', '', 'b.test\x00'
--- no_error_log
[error]



=== TEST 10: a request for another server name gets 421 with ssl_certificate_by_lua_file
--- http_config
    plain a.test { ssl_certificate_by_lua_file $TEST_NGINX_HTML_DIR/ask.lua; }
    plain n.test { ssl_verify_client optional; ssl_client_certificate $TEST_NGINX_PKI/ca.crt; }
--- user_files
>>> ask.lua
if require("ngx.ssl").server_name() == "a.test" then
    assert(kong.client.tls.request_client_certificate(ca.root))
end
--- config
            get("n.test", "a.test")
            get("a.test", "n.test")
            get("a.test", "a.test")
--- response_body
n.test a.test -> 421
a.test n.test -> 421
a.test a.test -> a.test: SUCCESS
200
--- no_error_log
[error]
