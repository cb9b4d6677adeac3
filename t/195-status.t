# SPDX-License-Identifier: Apache-2.0

# kong_tls_status: the counters, in each format.

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

repeat_each(1);
require_program('promtool');
($ENV{TEST_NGINX_MODULE_VERSION}) = slurp('Cargo.toml') =~ /^version = "(.*)"$/m;

# "status" adds the location /status with all counters, and /numbers with those that are not 0, one in a line.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->config;
    $config =~ s{^    status;\n}{<<'_EOC_'}me;
    location = /status {
        kong_tls_status;
    }
    location = /numbers {
        content_by_lua_block {
            local text = ngx.location.capture("/status", { args = "format=prometheus" }).body
            for line in text:gmatch("[^\n]+") do
                local name, value = line:match("^kong_tls_(.*)_total(.* [1-9]%d*)$")
                if name then
                    ngx.say(name, value)
                end
            end
        }
    }
_EOC_
    $block->set_value('config', $config);
});

run_tests();

__DATA__

=== TEST 1: handshakes, sessions and idle connections with services are counted
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 2;
    }
    kong_tls_session_cache 2;
--- config
    status;
    location /t {
        access_by_lua_block {
            local name = ngx.var.arg_client
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
        }
        proxy_ssl_protocols TLSv1.2;
        proxy_http_version 1.1;
        proxy_set_header Connection $arg_connection;
        proxy_pass https://kept;
    }
--- exchanges
GET /numbers => ""
# Two connections. The second request can't use the connection of the first, which has another identity; the third
# can.
GET /t?client=client1 => client=CN=client-1,O=Test reused=. TLSv1.2
GET /t?client=client2 => client=CN=client-2,O=Test reused=. TLSv1.2
GET /t?client=client1 => client=CN=client-1,O=Test reused=. TLSv1.2
GET /numbers =>
    upstream_handshakes{type="full"} 2
    upstream_session_cache_lookups{result="miss"} 2
    upstream_idle_connections{event="reused"} 1
    upstream_idle_connections{event="other_identity"} 1
# The first connection is used and closed; a new connection resumes its session.
GET /t?client=client1&connection=close => client=CN=client-1,O=Test reused=. TLSv1.2
GET /t?client=client1&connection=close => client=CN=client-1,O=Test reused=r TLSv1.2
GET /numbers =>
    upstream_handshakes{type="full"} 2
    upstream_handshakes{type="resumed"} 1
    upstream_session_cache_lookups{result="hit"} 1
    upstream_session_cache_lookups{result="miss"} 2
    session_cache_hits{from="worker"} 1
    upstream_idle_connections{event="reused"} 2
    upstream_idle_connections{event="other_identity"} 2
# A third identity: its session evicts the least recently used one, its connection evicts none.
GET /t?client=rsa => client=CN=client-rsa,O=Test reused=. TLSv1.2
GET /numbers =>
    upstream_handshakes{type="full"} 3
    upstream_handshakes{type="resumed"} 1
    upstream_session_cache_lookups{result="hit"} 1
    upstream_session_cache_lookups{result="miss"} 3
    session_cache_hits{from="worker"} 1
    upstream_session_cache_evictions 1
    upstream_idle_connections{event="reused"} 2
    upstream_idle_connections{event="other_identity"} 3
# A fourth identity: its connection evicts the oldest one.
GET /t?client=intermediate => client=CN=client-intermediate,O=Test reused=. TLSv1.2
GET /numbers =>
    upstream_handshakes{type="full"} 4
    upstream_handshakes{type="resumed"} 1
    upstream_session_cache_lookups{result="hit"} 1
    upstream_session_cache_lookups{result="miss"} 4
    session_cache_hits{from="worker"} 1
    upstream_session_cache_evictions 2
    upstream_idle_connections{event="reused"} 2
    upstream_idle_connections{event="other_identity"} 4
    upstream_idle_connections{event="closed"} 1
--- no_error_log
[error]



=== TEST 2: a connection of keepalive that a request with settings does not use is counted as of another identity
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        keepalive 2;
    }
--- config
    status;
    keeps_connections;
    location /plain {
        proxy_pass https://kept/;
    }
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_pass https://kept/;
    }
--- exchanges
GET /plain => /^client= /
GET /t     => /^client=CN=client-1,/
GET /numbers =>
    upstream_handshakes{type="full"} 2
    upstream_session_cache_lookups{result="miss"} 1
    upstream_idle_connections{event="other_identity"} 1
    upstream_idle_connections{event="closed"} 1
--- no_error_log
[error]



=== TEST 3: with kong_tls_keepalive beside keepalive, a request that reuses a connection is not counted as of another identity
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        keepalive 2;
        kong_tls_keepalive 2;
    }
--- config
    status;
    keeps_connections;
    location /plain {
        proxy_pass https://kept/;
    }
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_pass https://kept/;
    }
--- exchanges
GET /plain   => /^client= /
GET /t       => /^client=CN=client-1,/
GET /plain   => /^client= /
GET /t       => /^client=CN=client-1,/
GET /numbers => /idle_connections\{event="reused"\} 2\nupstream_idle_connections\{event="other_identity"\} 1\n\z/
--- no_error_log
[error]



=== TEST 4: failed verifications are counted by reason, for requests with settings and without
--- config
    status;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name $arg_name;
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            if ngx.var.arg_names then
                assert(kong.service.set_tls_verify_names { host = false, dns = { "required.test" } })
            end
        }
        proxy_pass https://$arg_to;
    }
    location /static {
        proxy_ssl_verify on;
        proxy_pass https://$arg_to;
    }
    # A refused certificate and an unset target are no failed verifications.
    location /refused {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.weak, key.weak))
        }
        proxy_pass https://service;
    }
    location /target {
        proxy_pass https://$kong_upstream_target;
    }
--- exchanges
GET /t?to=service&name=service.test         => /^client/
GET /t?to=other&name=service.test           => 502 /502 Bad/
GET /t?to=service&name=a.test               => 502 /502 Bad/
GET /t?to=service&name=service.test&names=1 => 502 /502 Bad/
GET /static?to=other&name=service.test      => 502 /502 Bad/
GET /static?to=service&name=a.test          => 502 /502 Bad/
GET /static?to=service&name=service.test    => /^client/
GET /refused                                => 502 /502 Bad/
GET /target                                 => 503 /503 Service/
GET /numbers => /
    upstream_verification_failures\{reason="hostname mismatch"\} 2
    upstream_verification_failures\{reason="none of the required names"\} 1
    upstream_verification_failures\{reason="unable to get local issuer certificate"\} 1
    upstream_verification_failures\{reason="unable to verify the first certificate"\} 1
    refusals\{setting="client_certificate"\} 1
    refusals\{setting="target"\} 1
\z/



=== TEST 5: requested, presented and absent client certificates are counted
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            if require("ngx.ssl").server_name() ~= "unasked.test" then
                assert(kong.client.tls.request_client_certificate())
                assert(kong.client.tls.request_client_certificate(ca.root))
            end
        }
    }
--- config
    status;
    location /t {
        content_by_lua_block {
            local client = require "client"
            local pki = os.getenv("TEST_NGINX_PKI")
            local function visit(name, ...)
                local result = client.curl({ "-k", "--unix-socket", "$TEST_NGINX_HTML_DIR/gateway.sock",
                                             "https://" .. name .. "/", ... })
                ngx.print(result.out)
            end
            local certificate = { "--cert", pki .. "/client1.crt", "--key", pki .. "/client1.key" }
            visit("gateway.test")
            visit("gateway.test", unpack(certificate))
            visit("gateway.test", "--tls-max", "1.2", unpack(certificate))
            visit("unasked.test", unpack(certificate))
        }
    }
--- exchanges
GET /t =>
    NONE, no certificates
    SUCCESS, 1 certificates
    SUCCESS, 1 certificates
    NONE, no certificates
GET /numbers =>
    client_certificates{event="requested"} 3
    client_certificates{event="presented"} 2
    client_certificates{event="absent"} 1
    cache_hits{cache="authorities"} 2
    cache_misses{cache="authorities"} 1
--- no_error_log
[error]
[alert]



=== TEST 6: the default format is JSON
--- config
    status;
    location /masked {
        content_by_lua_block {
            local text = ngx.location.capture("/status").body
            local function mask(name, value, is_right)
                text = text:gsub('"' .. name .. '": ("?)' .. value .. '"?', '"' .. name .. '": %1' .. is_right .. '%1')
            end
            local nginx = ngx.config.nginx_version
            nginx = ("%d.%d.%d"):format(nginx / 1000000, nginx / 1000 % 1000, nginx % 1000)
            mask("nginx_version", nginx, "as it is")
            local ffi = require "ffi"
            ffi.cdef "const char *OpenSSL_version(int)"
            mask("openssl_version", ffi.string(ffi.C.OpenSSL_version(0)):match("OpenSSL (%S+)"), "as it is")
            local started = tonumber(text:match('"start_time_seconds": (%d+)'))
            mask("start_time_seconds", "%d+", math.abs(ngx.time() - started) < 60 and "now" or "wrong")
            ngx.print(text)
        }
    }
--- exchanges
for $request (/status  "/status?format=json {Accept: text/html}")
    GET $request => {Content-Type: application/json} {Cache-Control: no-store} /\A\{.*\}\n\z/s
GET /masked =>
    {
      "build_info": {
        "nginx_version": "as it is",
        "openssl_version": "as it is",
        "version": "$TEST_NGINX_MODULE_VERSION"
      },
      "cache_evictions": {
        "authorities": 0,
        "client_chains": 0,
        "client_names": 0,
        "consumers": 0,
        "forwarded_certificates": 0,
        "revocation": 0,
        "revocation_lists": 0,
        "server_certificates": 0,
        "stores": 0,
        "verdicts": 0
      },
      "cache_hits": {
        "authorities": 0,
        "client_chains": 0,
        "client_names": 0,
        "consumers": 0,
        "forwarded_certificates": 0,
        "revocation": 0,
        "revocation_lists": 0,
        "server_certificates": 0,
        "stores": 0,
        "verdicts": 0
      },
      "cache_misses": {
        "authorities": 0,
        "client_chains": 0,
        "client_names": 0,
        "consumers": 0,
        "forwarded_certificates": 0,
        "revocation": 0,
        "revocation_lists": 0,
        "server_certificates": 0,
        "stores": 0,
        "verdicts": 0
      },
      "client_certificates": {
        "absent": 0,
        "presented": 0,
        "requested": 0
      },
      "refusals": {
        "client_certificate": 0,
        "identity": 0,
        "memory": 0,
        "module": 0,
        "options": 0,
        "plaintext": 0,
        "required": 0,
        "session": 0,
        "target": 0,
        "trusted_store": 0,
        "verification": 0
      },
      "revocation_fetch_failures": {
        "crl": 0,
        "ocsp": 0
      },
      "revocation_fetches": {
        "crl": 0,
        "ocsp": 0
      },
      "session_cache_bytes": {
        "client_chain": 0,
        "client_names": 0,
        "client_terms": 0,
        "peer": 0,
        "service_certificate": 0,
        "session": 0,
        "verdict": 0
      },
      "session_cache_entries": {
        "client_chain": 0,
        "client_names": 0,
        "client_terms": 0,
        "peer": 0,
        "service_certificate": 0,
        "session": 0,
        "verdict": 0
      },
      "session_cache_evictions": {
        "client_chain": 0,
        "client_names": 0,
        "client_terms": 0,
        "peer": 0,
        "service_certificate": 0,
        "session": 0,
        "verdict": 0
      },
      "session_cache_hits": {
        "shared": 0,
        "worker": 0
      },
      "session_cache_size_bytes": 8388608,
      "start_time_seconds": now,
      "store_refresh_failures": 0,
      "store_replacements": 0,
      "upstream_handshakes": {
        "full": 0,
        "resumed": 0
      },
      "upstream_idle_connections": {
        "closed": 0,
        "other_identity": 0,
        "reused": 0
      },
      "upstream_session_cache_evictions": 0,
      "upstream_session_cache_lookups": {
        "hit": 0,
        "miss": 0
      },
      "upstream_verification_failures": {}
    }
HEAD /status => {Content-Type: application/json} {Cache-Control: no-store} ""
--- no_error_log
[error]



=== TEST 7: the Prometheus format passes promtool
--- config
    status;
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name service.test;
        proxy_pass https://service;
    }
    location /check {
        content_by_lua_block {
            local client = require "client"
            -- The Accept header of Prometheus 2.42.
            local accept = "Accept: application/openmetrics-text;version=1.0.0,"
                .. "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
            local text = client.curl({ "-H", accept, "http://127.0.0.1:$TEST_NGINX_SERVER_PORT/status" }).out
            ngx.say(text == ngx.location.capture("/status?format=prometheus").body)
            local check = client.run({ "promtool", "check", "metrics" }, { stdin = text })
            ngx.say(check.code, check.out, check.err)
            local help, counters, gauges = 0, 0, 0
            for line in text:gmatch("[^\n]+") do
                help = help + (line:find("^# HELP kong_tls_[a-z_]+ %u.+%.$") and 1 or 0)
                counters = counters + (line:find("^# TYPE kong_tls_[a-z_]+_total counter$") and 1 or 0)
                gauges = gauges + (line:find("^# TYPE kong_tls_[a-z_]+ gauge$") and 1 or 0)
            end
            ngx.say(help, " ", counters, " ", gauges)
            ngx.say((text:match('kong_tls_build_info{version="(.-)",nginx_version="%d+%.%d+%.%d+",openssl_version="[^" ]+"} 1\n')))
            ngx.say(math.abs(ngx.time() - text:match("\nkong_tls_start_time_seconds (%d+)\n")) < 60)
        }
    }
--- exchanges
GET /t                        => 502 {Content-Type: text/html} /502 Bad/
GET /check                    => /^true\n0\n21 16 5\n\d+\.\d+\.\d+\ntrue\n$/
GET /status?format=prometheus => {Content-Type: text/plain; version=0.0.4; charset=utf-8} /reason="unable to get local issuer certificate"/



=== TEST 8: a browser gets an HTML page, which marks failures and has rates
--- config
    status;
    location /t {
        proxy_pass https://service/;
    }
    location /target {
        proxy_pass https://$kong_upstream_target;
    }
    # Rates are over a second at least.
    location /later {
        content_by_lua_block {
            local before = ngx.now()
            repeat
                ngx.sleep(0.05)
            until ngx.now() > before + 1.1
        }
    }
--- exchanges
GET /t => /^client=/
for $request ("/status {Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8}"  /status?format=html)
    GET $request => {Content-Type: text/html; charset=utf-8} /\A<!doctype html>.*<p>No failures\.<\/p>.*Rates appear when.*<h2>upstream handshakes<\/h2>.*<th scope="row">full<\/th><td>1<\/td><td>&ndash;<.*<\/html>\n\z/s
GET /target  => 503 /503 Service/
GET /later   => ""
GET /status?format=html => /<p class="failed"><b[^>]*>!<\/b> refusals: 1<.*Rates are over the last [1-9]\d* s\..*>full<\/th><td>1<\/td><td>0<.*<tr class="failed".*!<\/b> target<\/th><td>1<\/td><td>[\d.]+\/(?:s|min)</s
--- no_error_log
[alert]



=== TEST 9: other methods are a 405, other formats a 400
--- config
    status;
--- exchanges
POST /status\n\nbody   => 405
GET /status?format=xml => 400
DELETE /status         => 405
GET /status?format=    => 400



=== TEST 10: kong_tls_status works in server {}
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/status.sock;
        kong_tls_status;
    }
--- config
    location /t {
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/status.sock:/;
    }
--- exchanges
GET /t                   => /"upstream_handshakes"/
GET /t?format=prometheus => /^kong_tls_upstream_handshakes_total\{/m
--- no_error_log
[error]



=== TEST 11: kong_tls_status takes no arguments
--- http_config
    server {
        location / {
            kong_tls_status on;
        }
    }
--- config
--- must_die
--- error_log
invalid number of arguments in "kong_tls_status" directive



=== TEST 12: kong_tls_status refuses to start when its shared memory zone has a name that is taken
--- http_config
    limit_req_zone $arg_x zone=kong_tls_status:64k rate=1r/s;
--- config
    location /t {
        kong_tls_status;
    }
--- must_die
--- error_log
"kong_tls_status" directive could not make its shared memory zone: there is no memory, or another module has a zone of its name



=== TEST 13: hits, misses and evictions of caches are counted
--- http_config
    lua_shared_dict certificates 1m;
    init_worker_by_lua_block {
        x509 = require "resty.kong.x509"
        local function read(name)
            local file = assert(io.open("$TEST_NGINX_PKI/" .. name))
            local text = file:read("*a")
            file:close()
            return text
        end
        root = read("ca.crt")
        policy = assert(require("resty.kong.plugins.mtls_auth").new {
            { names = { "mtls.test" }, ca = { pem = root }, consumers = { { name = "alice", common_name = "client-1" } } } })
        sni = assert(require("resty.kong.plugins.sni").new { dict = "certificates" })
        assert(sni:set("a.test", read("gateway.crt") .. read("gateway.key")))
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/mtls.sock ssl;
        certificate gateway;
        ssl_certificate_by_lua_block { policy:certificate() }
        location / {
            access_by_lua_block { policy:access() }
            content_by_lua_block { ngx.say("served") }
        }
    }
    gateway {
        ssl_certificate_by_lua_block {
            local names = {}
            for n = 1, tonumber(require("ngx.ssl").server_name():match("^n(%d+)")) do
                names[n] = n .. ".test"
            end
            assert(kong.client.tls.request_client_certificate(ca.root, { names = names }))
        }
    }
--- config
    status;
    location /stores {
        content_by_lua_block {
            for n = 1, tonumber(ngx.var.arg_n) do
                assert(x509.store { pem = root .. (" "):rep(n % 2) })
            end
        }
    }
    location /large {
        content_by_lua_block {
            for n = 1, 5 do
                assert(x509.store { pem = root .. (n .. " "):rep(1024 * 1024) })
            end
        }
    }
    location /sni {
        content_by_lua_block {
            for n = 1, 3 do
                assert(sni:find("a.test"))
            end
        }
    }
    location /mtls {
        content_by_lua_block {
            local pki = "$TEST_NGINX_PKI"
            for n = 1, 3 do
                ngx.print(require("client").curl({ "-k", "--resolve", "mtls.test:443:127.0.0.1", "--unix-socket",
                    "$TEST_NGINX_HTML_DIR/mtls.sock", "--cert", pki .. "/client1.crt", "--key", pki .. "/client1.key",
                    "https://mtls.test/" }).out)
            end
        }
    }
    location /names {
        content_by_lua_block {
            for _, n in ipairs { 1, 1, 2 } do
                local name = "n" .. n .. ".test"
                require("client").curl { "-k", "--unix-socket", "$TEST_NGINX_HTML_DIR/gateway.sock", "https://" .. name .. "/" }
            end
        }
    }
    # A client that presents an intermediate, and resumes its session.
    location /chains {
        content_by_lua_block {
            local session, reused = "$TEST_NGINX_HTML_DIR/session", {}
            for n = 1, 2 do
                reused[n] = require("client").s_client({
                    unix = "$TEST_NGINX_HTML_DIR/gateway.sock", servername = "n1.test", cert = "client-intermediate", tls = "1.2",
                    sess_in = n == 2 and session or nil, sess_out = session }).reused and "r" or "."
            end
            ngx.print(table.concat(reused, " "))
        }
    }
    location /caches {
        content_by_lua_block {
            local text = ngx.location.capture("/status", { args = "format=prometheus" }).body
            local function total(of)
                return text:match("\nkong_tls_cache_" .. of .. '_total{cache="' .. ngx.var.arg_of .. '"} (%d+)\n')
            end
            ngx.say(total("hits"), " ", total("misses"), " ", total("evictions"))
        }
    }
--- exchanges
# The policy uses the store of the text without a space, and requests names at each handshake, too.
GET /stores?n=5                    => ""
GET /caches?of=stores              => 4 1 0
GET /large                         => ""
GET /caches?of=stores              => /\A4 6 [2-4]\n\z/
GET /sni                           => ""
GET /caches?of=server_certificates => 2 1 0
GET /mtls                          => served\nserved\nserved
GET /caches?of=verdicts            => 2 1 0
GET /names                         => ""
GET /caches?of=client_names        => 3 3 0
GET /caches?of=authorities         => 4 2 0
GET /chains                        => ". r"
GET /caches?of=client_chains       => 1 1 0
--- no_error_log
[error]
