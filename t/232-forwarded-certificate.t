# SPDX-License-Identifier: Apache-2.0

# The client's certificate in headers for the service: the option forward of mtls_auth and header_cert_auth, and
# resty.kong.forwarded_certificate.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestCertificates;
use TestService;
use TestHarness 'no_plan';

repeat_each(1);

# A certificate that is long, and one with names that mean something in a header.
issue('large', subject => '/CN=client-1', extensions =>
    ['subjectAltName=' . join(',', map { 'DNS:' . 'a' x 60 . "$_.test" } 1 .. 200), 'extendedKeyUsage=clientAuth']);
issue('odd', subject => '/CN=odd "1"', extensions =>
    [names(uri => 'urn:a;Hash=0,Cert="x\\', dns => 'odd.test', uri => 'urn:b'), 'extendedKeyUsage=clientAuth']);
issue('line', subject => '/CN=client-1', extensions =>
    [names(uri => "urn:a\r\nX-Consumer-Username: root"), 'extendedKeyUsage=clientAuth']);

# "gateway.sock" is a gateway with the plugin "plugin", whose service answers with what it sees. "plain.sock" is one
# behind a proxy, with "by_header". "visit" sends a request to the gateway.
my ($listen, $directive) = http2_server();
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{init_by_lua_block \{\n}{<<'_EOC_'}e;
init_by_lua_block {
        forwarded = require "resty.kong.forwarded_certificate"
        local consumers = { { name = "alice", common_name = "client-1" }, { name = "odd", uri = "urn:b" },
                            { name = "alice", dns = ("a"):rep(60) .. "1.test" }, { name = "line", dns = "line.test" },
                            { name = "carol", common_name = "client-intermediate" } }
        local function policy(name, forward, anonymous)
            return { names = { name }, ca = { pem = require("pki").read("ca") }, consumers = consumers,
                     forward = forward, anonymous = anonymous }
        end
        plugin = assert(require("resty.kong.plugins.mtls_auth").new {
            policy("rfc9440.test", "rfc9440"), policy("xfcc.test", "xfcc"),
            policy("url.test", "x-client-cert"), policy("anonymous.test", "rfc9440", "guest"), policy("none.test"),
        })
        local function by_header_in(format, forward)
            return assert(require("resty.kong.plugins.header_cert_auth").new {
                format = format, trusted = { "unix:" }, ca = { pem = require("pki").read("ca") }, consumers = consumers,
                forward = forward, anonymous = "guest",
            })
        end
        services = { rfc9440 = by_header_in("rfc9440"), xfcc = by_header_in("xfcc"), url = by_header_in("nginx") }
        by_header = by_header_in("xfcc", "rfc9440")
        -- What a hostile client sends.
        function forged(...)
            local args = { ... }
            for _, name in ipairs { "Client-Cert", "Client-Cert-Chain", "X-Forwarded-Client-Cert", "X-Client-Cert" } do
                for _, spelling in ipairs { name, name:lower(), name:gsub("-", "_"), name:upper(), name:gsub("-", ".", 1),
                                            name:gsub("%-(%w+)$", "_%1"), name } do
                    args[#args + 1] = "-H"
                    args[#args + 1] = spelling .. ": forged"
                end
            end
            return unpack(args)
        end
        -- Sends a request, with a certificate of the PKI, or one that this test has made.
        function visit(name, certificate, ...)
            local args = { "-k", "--unix-socket", "$TEST_NGINX_HTML_DIR/gateway.sock", "-w", "%{http_code}\n",
                           (name:find("/") and "https://" .. name or "https://" .. name .. "/"), ... }
            if certificate then
                local file = pki.path(certificate)
                if not io.open(file) then
                    file = "$TEST_NGINX_CERTIFICATES/" .. certificate .. ".crt"
                end
                for _, word in ipairs { "--cert", file, "--key", (file:gsub("%.crt$", ".key")) } do
                    args[#args + 1] = word
                end
            end
            local run = require("client").curl(args)
            local out = run.out:gsub("<html>.*</html>%s*", ""):gsub("\n$", "")
            return run.code == 0 and out or run.err
        end
_EOC_
    my $servers = <<"_EOC_" . <<'_EOC_';
    underscores_in_headers on;
    ignore_invalid_headers off;
    large_client_header_buffers 8 64k;
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/gateway.sock ssl$listen;
        $directive
_EOC_
        server_name _;
        ssl_certificate $TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key $TEST_NGINX_PKI/gateway.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate_by_lua_block { plugin:certificate() }
        location / {
            access_by_lua_block { plugin:access() }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
        location /exec {
            access_by_lua_block { plugin:access() }
            content_by_lua_block { ngx.exec("/again") }
        }
        location /only-exec {
            access_by_lua_block { plugin:access() }
            content_by_lua_block { ngx.exec("@pass") }
        }
        location @pass {
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
        location /set/ {
            access_by_lua_block {
                local ok, err = forwarded.set(ngx.var.uri:match("([^/]*)$"))
                ngx.req.set_header("X-Said", tostring(ok) .. " " .. tostring(err))
            }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
        location /rewrite {
            rewrite_by_lua_block { assert(forwarded.set("rfc9440", pki_chain)) }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/plain.sock;
        location / {
            access_by_lua_block { by_header:access() }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/headers.sock;
        location / {
            content_by_lua_block {
                local headers = ngx.req.get_headers(0)
                local found = {}
                for name, value in pairs(headers) do
                    local is_ours = name == "x-client-cert-dn" or name == "x-client-cert-san"
                    if not is_ours and name:gsub("[-_.]", ""):find("clientcert") then
                        found[#found + 1] = name .. (type(value) == "table" and "*" .. #value or "")
                    end
                end
                table.sort(found)
                ngx.print(headers["X-Said"] or headers["X-Consumer-Username"], " [", table.concat(found, " "), "] ")
                -- Whom another gateway recognizes by the headers.
                local seen = {}
                for name, one in pairs(services) do
                    local text = headers[one.header]
                    if type(text) == "string" then
                        local of_chain = one.chain_header and headers[one.chain_header] or ""
                        local chain = assert(one.decode(one.chain_key and #text .. ":" .. text .. of_chain or text))
                        seen[#seen + 1] = name .. " " .. chain:count() .. " " .. chain[1].subject
                    end
                end
                ngx.print(table.concat(seen, ";"), " ")
            }
        }
    }
_EOC_
    $block->set_value('http_config', $config . $servers);
    $block->set_value('timeout', 60);
    my $body = $block->config;
    $block->set_value('config', "    location /t {\n        content_by_lua_block {\n$body        }\n    }\n");
});

run_tests();

__DATA__

=== TEST 1: mtls_auth sends the certificate to the service in each format
--- config
            for _, version in ipairs { "--http1.1", "--http2" } do
                for _, name in ipairs { "rfc9440", "xfcc", "url", "none" } do
                    ngx.say(visit(name .. ".test", "client1", version))
                    ngx.say(visit(name .. ".test", "client-intermediate", version))
                end
            end
--- request
GET /t
--- response_body eval
<<'_EOC_' x 2
alice [client-cert] rfc9440 1 CN=client-1,O=Test 200
carol [client-cert client-cert-chain] rfc9440 2 CN=client-intermediate,O=Test 200
alice [x-forwarded-client-cert] xfcc 1 CN=client-1,O=Test 200
carol [x-forwarded-client-cert] xfcc 2 CN=client-intermediate,O=Test 200
alice [x-client-cert] url 1 CN=client-1,O=Test 200
carol [x-client-cert] url 1 CN=client-intermediate,O=Test 200
alice []  200
carol []  200
_EOC_
--- no_error_log
[error]



=== TEST 2: what a client sends under these names never reaches the service
--- config
            for _, version in ipairs { "--http1.1", "--http2" } do
                for _, name in ipairs { "rfc9440.test", "xfcc.test", "url.test", "anonymous.test", "none.test", "unknown.test",
                                        "anonymous.test/exec", "rfc9440.test/exec", "rfc9440.test/only-exec",
                                        "rfc9440.test/set/rfc9440", "rfc9440.test/set/xfcc" } do
                    ngx.say(name, ": ", visit(name, "client1", forged(version)))
                    ngx.say(name, ": ", visit(name, nil, forged(version)))
                end
                ngx.say(visit("anonymous.test", "client-other", forged(version)))
            end
--- request
GET /t
--- response_body eval
<<'_EOC_' x 2
rfc9440.test: alice [client-cert] rfc9440 1 CN=client-1,O=Test 200
rfc9440.test: 401
xfcc.test: alice [x-forwarded-client-cert] xfcc 1 CN=client-1,O=Test 200
xfcc.test: 401
url.test: alice [x-client-cert] url 1 CN=client-1,O=Test 200
url.test: 401
anonymous.test: alice [client-cert] rfc9440 1 CN=client-1,O=Test 200
anonymous.test: guest []  200
none.test: alice []  200
none.test: 401
unknown.test: nil []  200
unknown.test: nil []  200
anonymous.test/exec: alice [client-cert] rfc9440 1 CN=client-1,O=Test 200
anonymous.test/exec: guest []  200
rfc9440.test/exec: alice [client-cert] rfc9440 1 CN=client-1,O=Test 200
rfc9440.test/exec: 401
rfc9440.test/only-exec: alice [client-cert] rfc9440 1 CN=client-1,O=Test 200
rfc9440.test/only-exec: 401
rfc9440.test/set/rfc9440: true nil [client-cert] rfc9440 1 CN=client-1,O=Test 200
rfc9440.test/set/rfc9440: nil nil []  200
rfc9440.test/set/xfcc: true nil [x-forwarded-client-cert] xfcc 1 CN=client-1,O=Test 200
rfc9440.test/set/xfcc: nil nil []  200
guest []  200
_EOC_
--- no_error_log
[error]



=== TEST 3: a resumed session has the chain of its first handshake
--- config
            local client = require "client"
            for _, version in ipairs { "1.2", "1.3" } do
                local file = "$TEST_NGINX_HTML_DIR/session" .. version
                for _, direction in ipairs { "sess_out", "sess_in", "sess_in" } do
                    local seen = client.s_client {
                        unix = "$TEST_NGINX_HTML_DIR/gateway.sock", servername = "xfcc.test", tls = version,
                        cert = direction == "sess_out" and "client-intermediate" or nil, [direction] = file,
                        request = "GET / HTTP/1.0\r\nHost: xfcc.test\r\nClient-Cert: forged\r\n\r\n",
                    }
                    ngx.say(seen.reused and "reused " or "new ", seen.body)
                end
            end
--- request
GET /t
--- response_body eval
<<'_EOC_' x 2
new carol [x-forwarded-client-cert] xfcc 2 CN=client-intermediate,O=Test 
reused carol [x-forwarded-client-cert] xfcc 2 CN=client-intermediate,O=Test 
reused carol [x-forwarded-client-cert] xfcc 2 CN=client-intermediate,O=Test 
_EOC_
--- no_error_log
[error]



=== TEST 4: what is written is kept, by format, chain, and policy if there is one
--- http_config
    init_worker_by_lua_block {
        written = 0
        local functions = require "resty.kong.tls.functions"
        local write = functions.headers_of_chain
        functions.headers_of_chain = function(...)
            written = written + 1
            return write(...)
        end
        pki_chain = assert(require("resty.kong.x509").chain(pki.read("client-deep")))
    }
--- config
            for _ = 1, 2 do
                for _, name in ipairs { "rfc9440.test", "xfcc.test", "rfc9440.test/set/rfc9440", "rfc9440.test/set/xfcc" } do
                    visit(name, "client1")
                    visit(name, "client-intermediate")
                end
                ngx.say(written, " ", visit("unknown.test/rewrite", nil, forged()))
            end
--- request
GET /t
--- response_body
8 nil [client-cert client-cert-chain] rfc9440 3 CN=client-deep,O=Test 200
9 nil [client-cert client-cert-chain] rfc9440 3 CN=client-deep,O=Test 200
--- no_error_log
[error]



=== TEST 5: what does not fit, or can't be in a header, ends the request
--- config
            ngx.say(visit("rfc9440.test", "large"))
            ngx.say(visit("xfcc.test", "large"))
            ngx.say(visit("rfc9440.test", "odd"))
            ngx.say(visit("xfcc.test", "odd"))
            ngx.say(visit("xfcc.test/set/xfcc", "large", forged()))
            ngx.say(visit("xfcc.test/set/xfcc", "line", forged()))
            ngx.say(visit("xfcc.test/set/rfc9440", "line", forged()))
--- request
GET /t
--- response_body
alice [client-cert] rfc9440 1 CN=client-1 200
400
odd [client-cert] rfc9440 1 CN=odd \"1\" 200
odd [x-forwarded-client-cert] xfcc 1 CN=odd \"1\" 200
nil its headers would be longer than 32768 bytes []  200
nil its alternative name has a byte that can't be in a header []  200
true nil [client-cert] rfc9440 1 CN=client-1 200
--- error_log
mtls_auth: the certificate can't be forwarded: its headers would be longer than 32768 bytes
--- no_error_log
[alert]



=== TEST 6: set sends the client's certificate if it is verified, and says what is wrong
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/optional.sock ssl;
        server_name _;
        ssl_certificate $TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key $TEST_NGINX_PKI/gateway.key;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        location / {
            access_by_lua_block {
                local ok, err = forwarded.set("rfc9440")
                ngx.req.set_header("X-Said", tostring(ok) .. " " .. tostring(err))
            }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
        location /by-header {
            access_by_lua_block {
                services.url:access()
                local ok, err = forwarded.set("rfc9440")
                ngx.req.set_header("X-Said", ngx.var.kong_client_verify .. " " .. tostring(ok) .. " " .. tostring(err))
            }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/without-tls.sock;
        location / {
            access_by_lua_block {
                local ok, err = forwarded.set("rfc9440")
                ngx.req.set_header("X-Said", tostring(ok) .. " " .. tostring(err))
            }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
        location /wrong {
            access_by_lua_block {
                for _, case in ipairs { { "xml" }, { nil }, { "xfcc", "pem" }, { "xfcc", {} }, { forwarded, "xfcc" },
                                        { "xfcc", cert.client1 }, { "rfc9440", (require("resty.kong.x509").chain(pki.read("ca"))) } } do
                    local ok, first, second = pcall(forwarded.set, case[1], case[2])
                    ngx.say(ok, " ", (tostring(first):gsub("^access_by_lua[^ ]* ", "")), " ", tostring(second))
                end
                ngx.exit(200)
            }
        }
        location /content {
            content_by_lua_block { ngx.say((select(2, pcall(forwarded.set, "xfcc")))) }
        }
    }
--- config
            local function get(socket, path, name)
                local args = { "-k", "--unix-socket", "$TEST_NGINX_HTML_DIR/" .. socket .. ".sock", path, forged() }
                if name then
                    for _, word in ipairs { "--cert", pki.path(name), "--key", pki.path(name, ".key") } do
                        args[#args + 1] = word
                    end
                end
                ngx.say((require("client").curl(args).out:gsub("\n$", ""):gsub("FAILED:[%w ]+", "FAILED")))
            end
            get("optional", "https://a.test/", "client1")
            get("optional", "https://a.test/", "client-other")
            get("optional", "https://a.test/")
            get("without-tls", "http://a.test/")
            get("without-tls", "http://a.test/wrong")
            get("without-tls", "http://a.test/content")
            -- A proxy whose own certificate is not verified, and that sends its client's.
            local of_client = pki.read("client1"):gsub("[^%w]", function(byte) return ("%%%02X"):format(byte:byte()) end)
            ngx.say((require("client").curl { "-k", "--unix-socket", "$TEST_NGINX_HTML_DIR/optional.sock", "https://a.test/by-header",
                                              "--cert", pki.path("client-other"), "--key", pki.path("client-other", ".key"),
                                              "-H", "X-Client-Cert: " .. of_client }.out:gsub("\n$", "")))
--- request
GET /t
--- response_body
true nil [client-cert] rfc9440 1 CN=client-1,O=Test 
nil the client's certificate is not verified: FAILED[]  
nil nil []  
nil the client's connection has no TLS []  
false format must be "rfc9440", "xfcc" or "x-client-cert": given the string "xml": resty.kong.forwarded_certificate.set nil
false format must be "rfc9440", "xfcc" or "x-client-cert": given nil: resty.kong.forwarded_certificate.set nil
false chain must be a chain: given the string "pem" (parse PEM text with resty.kong.x509's x509.chain): resty.kong.forwarded_certificate.set nil
false chain must be a chain: given an empty table: resty.kong.forwarded_certificate.set nil
false format must be "rfc9440", "xfcc" or "x-client-cert": called with ":" in place of ".": use resty.kong.forwarded_certificate.set(...) nil
true true nil
true true nil
function cannot be called in content phase (only in: rewrite, access): resty.kong.forwarded_certificate.set
SUCCESS nil the verified certificate is not that of the connection: the client's is in a header []  
--- no_error_log
[error]



=== TEST 7: header_cert_auth sends what it has read in another format
--- config
            local function url(text)
                return (text:gsub("[^%w%-_.~]", function(byte) return ("%%%02X"):format(byte:byte()) end))
            end
            local chain = require("resty.kong.x509").chain(pki.read("client-intermediate"))
            local text = "Hash=" .. chain[1]:fingerprint() .. ";Chain=\"" .. url(pki.read("client-intermediate")) .. "\""
            local function get(...)
                local args = { "--unix-socket", "$TEST_NGINX_HTML_DIR/plain.sock", "http://a.test/", ... }
                ngx.say((require("client").curl(args).out))
            end
            for _ = 1, 2 do
                get("-H", "X-Forwarded-Client-Cert: " .. text)
                get("-H", "X-Forwarded-Client-Cert: " .. text, "-H", "Client-Cert: forged", "-H", "client_cert_chain: forged")
                get(forged())
            end
--- request
GET /t
--- response_body eval
<<'_EOC_' x 2
carol [client-cert client-cert-chain] rfc9440 2 CN=client-intermediate,O=Test 
carol [client-cert client-cert-chain] rfc9440 2 CN=client-intermediate,O=Test 
guest []  
_EOC_
--- no_error_log
[error]



=== TEST 8: policies that read different certificates from one text send different ones
--- http_config
    init_worker_by_lua_block {
        by = {}
        for _, element in ipairs { "first", "last" } do
            by[element] = assert(require("resty.kong.plugins.header_cert_auth").new {
                format = "xfcc", element = element, trusted = { "unix:" }, ca = { pem = pki.read("ca") }, forward = "rfc9440",
                consumers = { { name = "one", common_name = "client-1" }, { name = "two", common_name = "client-2" } },
            })
        end
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/elements.sock;
        location / {
            access_by_lua_block { by[ngx.var.uri:sub(2)]:access() }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock:/;
        }
    }
--- config
            local function element(name)
                local pem = pki.read(name)
                local chain = require("resty.kong.x509").chain(pem)
                return "Hash=" .. chain[1]:fingerprint() .. ";Cert=\"" .. pem:gsub("[^%w%-_.~]", function(byte)
                    return ("%%%02X"):format(byte:byte())
                end) .. "\""
            end
            for _ = 1, 2 do
                for _, path in ipairs { "first", "last" } do
                    ngx.say((require("client").curl({
                        "--unix-socket", "$TEST_NGINX_HTML_DIR/elements.sock", "http://a.test/" .. path,
                        "-H", "X-Forwarded-Client-Cert: " .. element("client1") .. "," .. element("client2"),
                    }).out))
                end
            end
--- request
GET /t
--- response_body eval
<<'_EOC_' x 2
one [client-cert] rfc9440 1 CN=client-1,O=Test 
two [client-cert] rfc9440 1 CN=client-2,O=Test 
_EOC_
--- no_error_log
[error]



=== TEST 9: replaced policies: what the old or the new ones forward is removed, also if these can't be used
--- http_config
    lua_shared_dict policies 1m;
    init_worker_by_lua_block {
        local function policies(forward)
            return { { names = { "default" }, ca = { pem = pki.read("ca") }, forward = forward, anonymous = "guest",
                       consumers = { { name = "alice", common_name = "client-1" } } } }
        end
        local function options(format, forward)
            return { format = format, trusted = { "unix:" }, ca = { pem = pki.read("ca") }, consumers = {}, dict = "policies",
                     anonymous = "guest", forward = forward }
        end
        changing = assert(require("resty.kong.plugins.mtls_auth").new(policies(), { dict = "policies" }))
        by_changing = assert(require("resty.kong.plugins.header_cert_auth").new(options("apache")))
        -- Objects of the same options, as in another worker.
        local replacing = assert(require("resty.kong.plugins.mtls_auth").new(policies(), { dict = "policies" }))
        local by_replacing = assert(require("resty.kong.plugins.header_cert_auth").new(options("apache")))
        function change(forward, format)
            assert(replacing:replace(policies(forward)))
            assert(by_replacing:replace(options(format, forward)))
        end
        function break_them()
            for _, key in ipairs(ngx.shared.policies:get_keys(0)) do
                if key:find("^number ") then
                    ngx.shared.policies:incr(key, 1)
                end
            end
        end
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/changing.sock;
        error_page 500 = @pass;
        location /mtls {
            access_by_lua_block { changing:access() }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock:/;
        }
        location /header {
            access_by_lua_block { by_changing:access() }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock:/;
        }
        location @pass {
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
    }
--- config
            local function get(path, ...)
                ngx.say(path, ": ", (require("client").curl({
                    "--unix-socket", "$TEST_NGINX_HTML_DIR/changing.sock", "http://a.test" .. path, ... }).out))
            end
            get("/mtls", "-H", "Client-Cert-Chain: forged")
            get("/header", "-H", "SSL-Client-Cert: forged", "-H", "SSL-Client-Cert-Chain-0: forged")
            change("rfc9440", "nginx")
            get("/mtls", forged())
            get("/header", forged())
            change("xfcc", "rfc9440")
            get("/mtls", forged())
            get("/header", forged())
            break_them()
            get("/mtls", forged())
            get("/header", forged())
--- request
GET /t
--- response_body
/mtls: guest [client-cert-chain]  
/header: guest []  
/mtls: guest []  
/header: guest []  
/mtls: guest []  
/header: guest []  
/mtls: nil []  
/header: nil []  
--- error_log
options that were replaced
--- no_error_log
[alert]
