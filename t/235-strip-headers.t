# SPDX-License-Identifier: Apache-2.0

# Headers that only the gateway may set: what clients send under these names is removed before any phase of the
# request reads it.

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

my ($http2, $http2_server) = http2_server();

# A gateway with the plugin mtls_auth on gateway.sock, and one without TLS on plain.sock, both with the directive in
# "gateway_and_plain { ... }", if any. Each answers with what a phase before those of Lua has seen, and what the
# service gets.
my $LOCATIONS = <<'_EOC_';
        location = /seen {
            internal;
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/inner.sock:/seen;
        }
        location / {
            auth_request /seen;
            auth_request_set $seen $upstream_http_x_seen;
            set $early "$http_x_consumer_username|$http_x_client_cert_dn|$http_x_tenant";
            add_header X-Early "early=$early seen=$seen" always;
            access_by_lua_block { plugin:access() }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/inner.sock:/;
        }
        location = /error {
            error_page 418 = @error;
            return 418;
        }
        location @error {
            add_header X-Early "early=$http_x_consumer_username|$http_x_client_cert_dn|$http_x_tenant" always;
            return 200 "";
        }
_EOC_

add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{init_by_lua_block \{\n}{<<'_EOC_'}e;
init_by_lua_block {
        plugin = assert(require("resty.kong.plugins.mtls_auth").new { {
            names = { "a.test" }, ca = { pem = require("pki").read("ca") },
            consumers = { { name = "alice", common_name = "client-1" } },
        } })
        other = assert(require("resty.kong.plugins.header_cert_auth").new {
            ca = { pem = require("pki").read("ca") }, header = "X-Client-Cert", encoding = "url", anonymous = "guest",
            trusted = { "unix:" }, consumers = {},
        })
        FORGED = { "X-Consumer-Username: admin", "x_consumer.USERNAME: admin", "X-Client-Cert-DN: CN=admin",
                   "X-Other: other", "X-Tenant: t1", "X-Consumer-Username: root" }
_EOC_
    $config =~ s{^    gateway_and_plain \{(.*?)\}\n}{<<"_EOC_"}mse;
    underscores_in_headers on;
    ignore_invalid_headers off;
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/gateway.sock ssl$http2;
        $http2_server
        ssl_certificate \$TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/gateway.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate_by_lua_block { plugin:certificate() }
        $1
$LOCATIONS
    }
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/plain.sock;
        $1
@{[$LOCATIONS =~ s/plugin:/other:/r]}
    }
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/inner.sock;
        location = /seen {
            add_header X-Seen "\$http_x_consumer_username|\$http_x_client_cert_dn|\$http_x_tenant" always;
            return 200;
        }
        location / {
            content_by_lua_block {
                local all = {}
                for name, value in pairs(ngx.req.get_headers(0, true)) do
                    if name:lower():find("^x") then
                        all[#all + 1] = name .. "=" .. (type(value) == "table" and table.concat(value, ",") or value)
                    end
                end
                table.sort(all)
                ngx.say((table.concat(all, " "):gsub(("%x"):rep(64), "SHA-256")))
            }
        }
    }
_EOC_
    $block->set_value('http_config', $config);
    my $visits = $block->config;
    $block->set_value('timeout', 30);
    $block->set_value('config', <<'_EOC_' . $visits . <<'_EOC_');
    location /t {
        content_by_lua_block {
            local client, pki = require "client", require "pki"
            local folder = "$TEST_NGINX_HTML_DIR/"
            local session = folder .. "session"
            -- Returns what the headers and the body of an answer say.
            local function said(out)
                local code = out:match("HTTP/%d%S* (%d+)")
                return (code or "no answer") .. " " .. (out:match("[Xx]%-[Ee]arly: ([^\r\n]*)") or "") .. "; "
                       .. (out:match("\r\n\r\n([^<].*)") or ""):gsub("%s+$", "")
            end
            local function curl(url, ...)
                local words = { "-k", "-i", url, ... }
                for _, header in ipairs(FORGED) do
                    words[#words + 1] = "-H"
                    words[#words + 1] = header
                end
                local run = client.curl(words)
                ngx.say(run.code == 0 and said(run.out) or run.err)
            end
            local CERT = { "--cert", pki.path("client1"), "--key", pki.path("client1", ".key"), "--unix-socket", folder .. "gateway.sock" }
            local function get(name, ...)
                local words = { "https://" .. name, ... }
                for _, word in ipairs(CERT) do
                    words[#words + 1] = word
                end
                curl(unpack(words))
            end
            local function s_client(version, name, ...)
                local run = client.run({ "openssl", "s_client", "-unix", folder .. "gateway.sock", "-ign_eof", "-tls" .. version,
                                         "-servername", name, ... },
                                       { stdin = "GET / HTTP/1.1\r\nHost: " .. name .. "\r\nX-Other: 1\r\nConnection: close\r\n"
                                                 .. table.concat(FORGED, "\r\n") .. "\r\n\r\n" })
                ngx.say(run.out:match("\n(New), TLS") or run.out:match("\n(Reused), TLS") or run.err, " ",
                        run.out:match("X%-Early: ([^\r\n]*)"))
            end
_EOC_
        }
    }
_EOC_
});

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: with the plugin in the handshake, headers are removed before auth_request and "set"
--- http_config
    gateway_and_plain {}
--- config
            for _, version in ipairs { "--http1.1", "--http2" } do
                get("a.test/", version)
                get("none.test/", version)
                get("none.test/error", version)
            end
--- request
GET /t
--- response_body
200 early=||t1 seen=||t1; X-Client-Cert-DN=CN=client-1,O=Test X-Consumer-Username=alice X-Credential-Identifier=SHA-256 X-Other=other X-Tenant=t1
200 early=||t1 seen=||t1; X-Other=other X-Tenant=t1
200 early=||t1; 
200 early=||t1 seen=||t1; X-Client-Cert-DN=CN=client-1,O=Test X-Consumer-Username=alice X-Credential-Identifier=SHA-256 x-other=other x-tenant=t1
200 early=||t1 seen=||t1; x-other=other x-tenant=t1
200 early=||t1; 
--- no_error_log
[error]
[alert]



=== TEST 2: headers are removed on a connection that resumes a session, without a plugin in the handshake
--- http_config
    gateway_and_plain {}
    server {
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock ssl;
        server_name elsewhere.test;
        certificate gateway;
        ssl_protocols TLSv1.2 TLSv1.3;
        add_header X-Early "early=$http_x_consumer_username" always;
        return 200;
    }
--- config
            -- The other server has no plugin: only the session makes the module remove headers there.
            for _, version in ipairs { "1_2", "1_3" } do
                s_client(version, "elsewhere.test")
                s_client(version, "none.test", "-sess_out", session)
                s_client(version, "elsewhere.test", "-sess_in", session)
                s_client(version, "none.test", "-sess_in", session)
            end
--- request
GET /t
--- response_body_like eval
"^" . "New early=admin.*\nNew early=\\|\\|t1 seen=\\|\\|t1\nReused early=\nReused early=\\|\\|t1 seen=\\|\\|t1\n" x 2 . "\$"
--- no_error_log
[error]
[alert]



=== TEST 3: kong_tls_strip_headers removes headers without a plugin in the handshake
--- http_config
    gateway_and_plain { kong_tls_strip_headers on X-Tenant; }
--- config
            curl("http://g.test/", "--unix-socket", folder .. "plain.sock")
            curl("http://g.test/error", "--unix-socket", folder .. "plain.sock")
            get("a.test/", "--http1.1")
--- request
GET /t
--- response_body
200 early=|| seen=||; X-Anonymous-Consumer=true X-Consumer-Username=guest X-Other=other
200 early=||; 
200 early=|| seen=||; X-Client-Cert-DN=CN=client-1,O=Test X-Consumer-Username=alice X-Credential-Identifier=SHA-256 X-Other=other
--- no_error_log
[error]
[alert]



=== TEST 4: kong_tls_strip_headers applies to all servers but those that turn it off
--- http_config
    kong_tls_strip_headers on;
    server {
        listen unix:$TEST_NGINX_HTML_DIR/off.sock;
        kong_tls_strip_headers off;
        add_header X-Early "early=$http_x_consumer_username" always;
        return 200;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/inherited.sock;
        add_header X-Early "early=$http_x_consumer_username" always;
        return 200;
    }
--- config
            curl("http://g.test/", "--unix-socket", folder .. "off.sock")
            curl("http://g.test/", "--unix-socket", folder .. "inherited.sock")
--- request
GET /t
--- response_body_like
^200 early=admin.*
200 early=; $
--- no_error_log
[error]



=== TEST 5: without kong_tls_strip_headers, a server without TLS removes headers once the plugin has run
--- http_config
    gateway_and_plain {}
--- config
            curl("http://g.test/", "--unix-socket", folder .. "plain.sock")
            curl("http://g.test/", "--unix-socket", folder .. "plain.sock")
--- request
GET /t
--- response_body_like
^200 early=admin.*; X-Anonymous-Consumer=true X-Consumer-Username=guest X-Other=other X-Tenant=t1
200 early=\|\|t1 seen=\|\|t1; X-Anonymous-Consumer=true X-Consumer-Username=guest X-Other=other X-Tenant=t1
--- no_error_log
[error]



=== TEST 6: headers are removed at any place in a long list, and headers that Lua code adds stay
--- http_config
    kong_tls_strip_headers on;
    server {
        listen unix:$TEST_NGINX_HTML_DIR/many.sock;
        location / {
            rewrite_by_lua_block {
                for i = 1, 30 do
                    ngx.req.set_header("Y-" .. i, i)
                end
                ngx.req.set_header("X-Consumer-Username", "alice")
            }
            content_by_lua_block {
                local count = 0
                for name, value in pairs(ngx.req.get_headers(0)) do
                    count = count + 1
                    assert(name ~= "x-consumer-username" or value == "alice")
                    local number = name:match("^[xy]%-(%d+)$")
                    assert(not number or value == number)
                end
                ngx.say(count, " ", ngx.var.http_host, " ", ngx.var.http_x_consumer_username)
            }
        }
    }
--- config
            -- nginx keeps 20 headers in each part of its list.
            for _, case in ipairs { { 0, 1 }, { 1, 0 }, { 0, 60 }, { 19, 3 }, { 17, 2 }, { 18, 1 }, { 40, 1 }, { 39, 20 }, { 50, 25 } } do
                local kept, ours = unpack(case)
                for _, order in ipairs { "before", "after", "between" } do
                    local headers, guarded = {}, {}
                    for i = 1, kept do
                        headers[#headers + 1] = "X-" .. i .. ": " .. i
                    end
                    for i = 1, ours do
                        guarded[#guarded + 1] = "X-Consumer-Username: " .. i
                    end
                    local all = { order == "after" and "Host: many.test" }
                    if order == "before" then
                        all = { unpack(guarded) }
                        for _, header in ipairs(headers) do all[#all + 1] = header end
                    elseif order == "after" then
                        for _, header in ipairs(headers) do all[#all + 1] = header end
                        for _, header in ipairs(guarded) do all[#all + 1] = header end
                    else
                        all = {}
                        for i = 1, math.max(kept, ours) do
                            all[#all + 1] = headers[i]
                            all[#all + 1] = guarded[i]
                        end
                    end
                    if order ~= "after" then
                        all[#all + 1] = "Host: many.test"
                    end
                    local sock = ngx.socket.tcp()
                    assert(sock:connect("unix:" .. folder .. "many.sock"))
                    assert(sock:send("GET / HTTP/1.0\r\n" .. table.concat(all, "\r\n") .. "\r\n\r\n"))
                    local answer = sock:receive("*a")
                    local expected = kept + 30 + 1 + 1
                    if not answer:find("\r\n\r\n" .. expected .. " many.test alice\n", 1, true) then
                        ngx.say(kept, " ", ours, " ", order, ": ", answer)
                    end
                end
            end
            -- A request that has no other headers.
            local sock = ngx.socket.tcp()
            assert(sock:connect("unix:" .. folder .. "many.sock"))
            assert(sock:send("GET / HTTP/1.0\r\nX-Consumer-Username: 1\r\n\r\n"))
            ngx.say(sock:receive("*a"):match("\r\n\r\n(.*)\n"))
--- request
GET /t
--- response_body
31 nil alice
--- no_error_log
[error]
[alert]
