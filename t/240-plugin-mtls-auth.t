# SPDX-License-Identifier: Apache-2.0

# resty.kong.plugins.mtls_auth: clients that present certificates, by server name.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# nginx's own debug log has names without escapes.
log_level('info');
repeat_each(1);

# "mtls" is a server whose clients "plugin" authenticates. "visit" sends a request to it: the server name, the
# client's certificate, and further options of curl.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{init_by_lua_block \{\n}{<<'_EOC_'}e;
init_by_lua_block {
        new = require("resty.kong.plugins.mtls_auth").new
        function policy(names, changed)
            local one = {
                names = names, ca = { pem = require("pki").read("ca") },
                consumers = { { name = "alice", common_name = "client-1" },
                              { name = "carol", common_name = "client-intermediate" } },
            }
            for name, value in pairs(changed or {}) do
                one[name] = value
            end
            return one
        end
        function visit(name, certificate, ...)
            local client = require "client"
            local pki = os.getenv("TEST_NGINX_PKI")
            local args = { "-k", "--unix-socket", os.getenv("TEST_NGINX_HTML_DIR") .. "/mtls.sock", "-w", "%{http_code}",
                           "https://" .. name .. "/", ... }
            if certificate then
                for _, word in ipairs { "--cert", pki .. "/" .. certificate .. ".crt",
                                        "--key", pki .. "/" .. certificate .. ".key" } do
                    args[#args + 1] = word
                end
            end
            return (client.curl(args).out:gsub("<html>.*</html>%s*", ""))
        end
_EOC_
    $config =~ s{^    mtls;\n}{<<'_EOC_'}me;
    server {
        listen unix:$TEST_NGINX_HTML_DIR/mtls.sock ssl http2;
        ssl_certificate $TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key $TEST_NGINX_PKI/gateway.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:mtls:1m;
        ssl_certificate_by_lua_block { plugin:certificate() }
        location / {
            access_by_lua_block { plugin:access() }
            proxy_set_header X-Verify $kong_client_verify;
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/headers.sock;
        return 200 "$http_x_consumer_username|$http_x_anonymous_consumer|$http_x_client_cert_dn|$http_x_verify ";
    }
_EOC_
    $block->set_value('http_config', $config);
});

run_tests();

__DATA__

=== TEST 1: a policy requests certificates under its names, and lets its consumers in
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new { policy({ "A.test", "*.wild.test" }),
                              policy({ "b.test" }, { anonymous = "guest" }) })
    }
    mtls;
--- config
    location /t {
        content_by_lua_block {
            ngx.say(visit("a.test", "client1"))
            ngx.say(visit("a.test", "client1", "--http1.1", "--tls-max", "1.2"))
            ngx.say(visit("A.TEST", "client-intermediate"))
            ngx.say(visit("x.wild.test", "client1"))
            ngx.say(visit("a.test"))
            ngx.say(visit("a.test", "client2"))
            ngx.say(visit("a.test", "client-other"))
            ngx.say(visit("a.test", "client-expired"))
            ngx.say(visit("b.test"), " ", visit("b.test", "client-other"), " ", visit("b.test", "client1"))
            -- A name without a policy, and a name for which "*." stands for several labels.
            ngx.say(visit("c.test", "client1"), " ", visit("x.y.wild.test", "client1"))
            -- A client can't name its own consumer.
            ngx.say(visit("b.test", nil, "-H", "X-Consumer-Username: alice", "-H", "X-Client-Cert-DN: CN=alice"))
        }
    }
--- request
GET /t
--- response_body
alice||CN=client-1,O=Test|SUCCESS 200
alice||CN=client-1,O=Test|SUCCESS 200
carol||CN=client-intermediate,O=Test|SUCCESS 200
alice||CN=client-1,O=Test|SUCCESS 200
401
401
401
401
guest|true||NONE 200 guest|true||FAILED:unable to get local issuer certificate (certificate 1: CN=client-other,O=Test) 200 alice||CN=client-1,O=Test|SUCCESS 200
|||NONE 200 alice||CN=client-1,O=Test|SUCCESS 200
guest|true||NONE 200
--- grep_error_log eval
qr/\[info\].* mtls_auth: (?!anonymous)\K.*?(?=, client:)/
--- grep_error_log_out
there is no certificate
no consumer has this certificate: CN=client-2,O=Test
unable to get local issuer certificate (certificate 1: CN=client-other,O=Test)
certificate has expired (certificate 1: CN=client-expired,O=Test)



=== TEST 2: a request for a name with another policy than the connection's gets 421
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new { policy { "a.test", "b.test" }, policy({ "c.test" }, { anonymous = "guest" }) })
    }
    mtls;
--- config
    location /t {
        content_by_lua_block {
            local function by(sni, host, ...)
                ngx.say(sni, " ", host, ": ", visit(sni, "client1", "-H", "Host: " .. host, ...))
            end
            by("a.test", "a.test")
            by("a.test", "b.test")
            by("a.test", "B.TEST.")
            by("a.test", "c.test")
            by("c.test", "a.test")
            by("a.test", "none.test")
            by("none.test", "a.test")
            by("none.test", "A.test.:443", "--http1.1")
            by("none.test", "other.test")
        }
    }
--- request
GET /t
--- response_body
a.test a.test: alice||CN=client-1,O=Test|SUCCESS 200
a.test b.test: alice||CN=client-1,O=Test|SUCCESS 200
a.test B.TEST.: alice||CN=client-1,O=Test|SUCCESS 200
a.test c.test: 421
c.test a.test: 421
a.test none.test: 421
none.test a.test: 421
none.test A.test.:443: 421
none.test other.test: |||NONE 200
--- no_error_log
[alert]



=== TEST 3: a session that resumes under another name gives no access there
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new { policy { "a.test", "b.test" } })
    }
    mtls;
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            local pki, folder = os.getenv("TEST_NGINX_PKI"), "$TEST_NGINX_SERVER_ROOT"
            -- Makes a session under one name, and offers it under another.
            local function twice(version, first, second)
                local session = folder .. "/session"
                os.remove(session)
                local function connect(name, ...)
                    local run = client.run({ "openssl", "s_client", "-unix", "$TEST_NGINX_HTML_DIR/mtls.sock",
                                             "-servername", name, "-tls" .. version, "-ign_eof",
                                             "-cert", pki .. "/client1.crt", "-key", pki .. "/client1.key", ... },
                                           { stdin = "GET / HTTP/1.1\r\nHost: " .. name .. "\r\nConnection: close\r\n\r\n" })
                    return (run.out:match("\n(New), TLS") or run.out:match("\n(Reused), TLS") or run.err) .. " "
                           .. (run.out:match("HTTP/1.1 (%d+)") or "-")
                end
                ngx.say(connect(first, "-sess_out", session))
                local file = io.open(session)
                if file then
                    file:close()
                    ngx.say(connect(second, "-sess_in", session))
                else
                    ngx.say("no session")
                end
            end
            -- OpenSSL reports the name under which a session of TLS 1.2 was made.
            for _, version in ipairs { "1_2", "1_3" } do
                twice(version, "a.test", "a.test")
                twice(version, "c.test", "c.test")
                twice(version, "c.test", "a.test")
                twice(version, "a.test", "c.test")
                twice(version, "a.test", "b.test")
            end
        }
    }
--- request
GET /t
--- response_body
New 200
Reused 200
New 200
Reused 200
New 200
Reused 421
New 200
New 200
New 200
New 200
New 200
Reused 200
New 200
Reused 200
New 200
Reused 401
New 200
New 200
New 200
New 200
--- no_error_log
[alert]



=== TEST 4: the CRL, the depth and the CA file of a policy apply
--- http_config
    init_worker_by_lua_block {
        local pki = require "pki"
        plugin = assert(new {
            policy({ "a.test" }, { ca = { pem = pki.read("ca"), crl = pki.read("revoked", ".crl") } }),
            policy({ "b.test" }, { depth = 0 }),
            policy({ "default" }, { ca = { file = pki.path("ca") } }),
        })
    }
    mtls;
--- config
    location /t {
        content_by_lua_block {
            ngx.say(visit("a.test", "client1"))
            ngx.say(visit("b.test", "client1"))
            ngx.say(visit("b.test", "client-intermediate"))
            ngx.say(visit("other.test", "client-intermediate"))
        }
    }
--- request
GET /t
--- response_body
401
alice||CN=client-1,O=Test|SUCCESS 200
401
carol||CN=client-intermediate,O=Test|SUCCESS 200
--- error_log
mtls_auth: certificate revoked (certificate 1: CN=client-1,O=Test)
mtls_auth: certificate chain too long



=== TEST 5: wrong policies are refused
--- config
    location /t {
        content_by_lua_block {
            local function try(policies)
                local ok, result, err = pcall(function()
                    local made, err = new(policies)
                    return made, err
                end)
                ngx.say(ok and tostring(result) .. " " .. tostring(err) or (result:gsub("^.-%d: ", "")))
            end
            try()
            try {}
            -- Without the list around the policy.
            try(policy { "a.test" })
            try { policy() }
            try { policy {} }
            try { policy { 1 } }
            try { policy({ "a.test" }, { ca = { file = "/nowhere" } }) }
            try { policy({ "a.test" }, { consumers = { {} } }) }
            try { policy { "a.test" }, policy { "A.test." } }
            try { policy { "*.test", "*.TEST" } }
            try { policy { "default" }, policy { "default" } }
            for _, name in ipairs { "*", ".a.test", "a.test:443", "", "*.", "a b" } do
                try { policy { name } }
            end
            try { policy { "a.test" }, policy({ "b.test" }, { anonymus = "guest" }) }
            try { policy { "a.test" }, policy({ "b.test" }, { cas = { pem = "" } }) }
            try { policy { "a.test" }, policy({ "b.test" }, { ca = 1 }) }
            try { policy({ "a.test" }, { ca = pki.read("ca") }) }
            try { policy({ "a.test" }, { ca = { files = "ca.pem" } }) }
            try { policy({ "a.test" }, { ca = { pem = 1 } }) }
            try { policy({ "a.test" }, { depth = -1 }) }
            try { policy({ "a.test" }, { anonymous = "" }) }
            try { policy({ "a.test" }, { consumers = "alice" }) }
            try { policy({ "a.test" }, { consumers = { { name = "alice", cn = "x" } } }) }
            try { policy "a.test" }
            try { policy { "a.test" }, 1 }
            -- Called with the other of the colon and the dot.
            local plugin = require "resty.kong.plugins.mtls_auth"
            local made = plugin.new { policy { "a.test" } }
            for _, call in ipairs {
                function() local made = plugin:new { policy { "a.test" } } end,
                function() local ok = made.access() end, function() local ok = made.certificate(plugin) end,
                -- In a wrong phase.
                function() made:certificate() end, function() made:access() end,
            } do
                ngx.say((select(2, pcall(call)):gsub("^content_by_lua%(nginx.conf:%d+%):%d+: ", "here: ")))
            end
        }
    }
--- request
GET /t
--- response_body
policies must be a list: given nil: mtls_auth.new
policies must be a list: given an empty table: mtls_auth.new
policies must be a list: given a table (write { policy }): mtls_auth.new
policy 1: names must be a list of names: given nil: mtls_auth.new
policy 1: names must be a list of names: given an empty table: mtls_auth.new
policy 1: names must be a list of names: given a table that holds something else: mtls_auth.new
nil policy 1: ca: file "/nowhere": No such file or directory (os error 2)
nil policy 1: consumer 1: name must be a string
nil policy 2: "a.test" has a policy already
nil policy 1: "*.test" has a policy already
nil policy 2: "default" has a policy already
nil policy 1: "*" is not the name of a host
nil policy 1: ".a.test" is not the name of a host
nil policy 1: "a.test:443" is not the name of a host
nil policy 1: "" is not the name of a host
nil policy 1: "*." is not the name of a host
nil policy 1: "a b" is not the name of a host
policy 2: unknown option "anonymus"; options are anonymous, authenticated_group_by, ca, cache_ttl, consumer_by, consumers, default_consumer, depth, forward, http_proxy, http_timeout, lookup, name, names, negative_ttl, ocsp_responder, revocation_check_mode, revocation_dict, revocation_leaf_only, send_ca_dn, skip_consumer_lookup: mtls_auth.new
policy 2: unknown option "cas"; options are anonymous, authenticated_group_by, ca, cache_ttl, consumer_by, consumers, default_consumer, depth, forward, http_proxy, http_timeout, lookup, name, names, negative_ttl, ocsp_responder, revocation_check_mode, revocation_dict, revocation_leaf_only, send_ca_dn, skip_consumer_lookup: mtls_auth.new
policy 2: ca must be a table: given 1: mtls_auth.new
policy 1: ca must be a table: given a string with PEM text (write { pem = ... }): mtls_auth.new
policy 1: ca: unknown option "files"; options are check_revocation, crl, crl_file, dir, file, leaf_only, on_expired, partial_chain, pem, refresh, system: mtls_auth.new
policy 1: ca: pem must be a string: given 1: mtls_auth.new
policy 1: depth must be an integer, and not negative: given -1: mtls_auth.new
policy 1: anonymous must be a string: given the string "": mtls_auth.new
policy 1: consumers must be a list: given the string "alice": mtls_auth.new
nil policy 1: consumer 1: unknown field "cn"; fields are ca_certificate, common_name, custom_id, dns, email, fingerprint, groups, id, name, uri, username
policy 1: names must be a list of names: given the string "a.test": mtls_auth.new
policy 2: options must be a table: given 1: mtls_auth.new
here: policies must be a list: called with ":" in place of ".": use mtls_auth.new(...)
here: access must be called with a colon, as a method: mtls_auth:access(...)
here: certificate must be called with a colon, as a method: mtls_auth:certificate(...)
here: function cannot be called in content phase (only in: certificate): mtls_auth:certificate (call it in ssl_certificate_by_lua*)
here: function cannot be called in content phase (only in: rewrite, access): mtls_auth:access
--- no_error_log
[error]



=== TEST 6: forged consumer headers are removed without a policy, and after an error page
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new { policy { "a.test" } })
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/mtls.sock ssl http2;
        certificate gateway;
        ssl_certificate_by_lua_block { plugin:certificate() }
        error_page 401 421 = @fallback;
        location / {
            access_by_lua_block { plugin:access() }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
        location @fallback {
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/headers.sock;
        return 200 "$http_x_consumer_username|$http_x_client_cert_dn ";
    }
--- config
    location /t {
        content_by_lua_block {
            local function forged(name, ...)
                return visit(name, nil, "-H", "X-Consumer-Username: alice", "-H", "x_client-cert_DN: CN=alice",
                             "-H", "X-Client-Cert-DN: CN=alice", ...)
            end
            ngx.say(forged("none.test"))
            ngx.say(forged("none.test", "--http1.1"))
            ngx.say(forged("a.test"))
            ngx.say(forged("none.test", "-H", "Host: a.test"))
        }
    }
--- request
GET /t
--- response_body
| 200
| 200
| 200
| 200
--- no_error_log
[alert]



=== TEST 7: requests that name several hosts are refused, and names are escaped in the log
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new { policy { "a.test", "*.a.test" } })
    }
    mtls;
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            local function raw(sni, request)
                local run = client.run({ "openssl", "s_client", "-unix", "$TEST_NGINX_HTML_DIR/mtls.sock",
                                         "-servername", sni, "-ign_eof" },
                                       { stdin = request .. "\r\nConnection: close\r\n\r\n" })
                return run.out:match("HTTP/1.1 (%d+)") or "-"
            end
            ngx.say(raw("none.test", "GET https://none.test/ HTTP/1.1\r\nHost: a.test"))
            ngx.say(raw("none.test", "GET https://none.test/ HTTP/1.1\r\nHost: NONE.test:443"))
            ngx.say(raw("none.test", "GET / HTTP/1.1\r\nHost: x@a.test"))
            ngx.say(raw("none.test", "GET / HTTP/1.1\r\nHost: .a.test"))
            ngx.say(raw("none.test", "GET / HTTP/1.1\r\nHost: b.c.a.test"))
            ngx.say(raw("x\nforged", "GET / HTTP/1.1\r\nHost: a.test"))
        }
    }
--- request
GET /t
--- response_body
400
200
400
421
421
421
--- error_log
mtls_auth: the connection is for "x?forged", which has another policy
--- no_error_log eval
qr/^forged/m



=== TEST 8: the memory that clients occupy in a worker does not grow with the number of policies
--- config
    location /t {
        access_by_lua_block {
            local authentication = require "resty.kong.plugins.authentication"
            local policies = {}
            for number = 1, 8 do
                policies[number] = assert(authentication.new("test", { ca = { pem = pki.read("ca") }, consumers = {}, anonymous = "x" }, {}))
            end
            local function kept()
                collectgarbage()
                collectgarbage()
                return collectgarbage("count") / 1024
            end
            local before = kept()
            for number, one in ipairs(policies) do
                for chain = 1, 600 do
                    one:accept(("%d-%d "):format(number, chain):rep(2000), require("resty.kong.x509").chain)
                end
            end
            ngx.say(kept() - before < 16 and "bounded" or "not bounded")
        }
    }
--- request
GET /t
--- response_body
bounded
--- no_error_log
[error]



=== TEST 9: with ssl_verify_client, nginx refuses an untrusted certificate before the plugin runs
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new { policy({ "a.test" }, { anonymous = "guest" }) })
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/mtls.sock ssl;
        certificate gateway;
        ssl_verify_client optional;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        ssl_certificate_by_lua_block { plugin:certificate() }
        location / {
            access_by_lua_block { plugin:access() }
            content_by_lua_block { ngx.print(ngx.req.get_headers()["X-Consumer-Username"], " ") }
        }
    }
--- config
    location /t {
        content_by_lua_block {
            ngx.say(visit("a.test", "client1"))
            ngx.say(visit("a.test", "client2"))
            ngx.say(visit("a.test"))
            ngx.say(visit("a.test", "client-other"))
        }
    }
--- request
GET /t
--- response_body
alice 200
guest 200
guest 200
400
--- no_error_log
[alert]



=== TEST 10: with satisfy any, access_by_lua does not run for an allowed address
--- config
    location = /t {
        satisfy any;
        allow 127.0.0.1;
        deny all;
        access_by_lua_block { ngx.exit(403) }
        content_by_lua_block { ngx.say("not asked") }
    }
--- request
GET /t
--- response_body
not asked
--- no_error_log
[error]



=== TEST 11: the names of a policy count as one, but for "default" and wildcards with an exception
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new { policy { "a.test", "default", "*.wild.test", "*.open.test" },
                              policy { "b.wild.test" }, policy { "c.x.wild.test", "d.test" } })
    }
    mtls;
--- config
    location /t {
        content_by_lua_block {
            for _, name in ipairs { "a.test", "any.test", "y.wild.test", "y.open.test", "b.wild.test", "d.test" } do
                local answers = {}
                for _, host in ipairs { "a.test", "other.test", "z.wild.test", "z.z.open.test", "b.wild.test", "c.x.wild.test", name } do
                    table.insert(answers, (visit(name, "client1", "-H", "Host: " .. host):match("%d+$")))
                end
                ngx.say(name, ": ", table.concat(answers, " "))
            end
        }
    }
--- request
GET /t
--- response_body
a.test: 200 421 421 200 421 421 200
any.test: 200 421 421 200 421 421 200
y.wild.test: 200 421 421 200 421 421 200
y.open.test: 200 421 421 200 421 421 200
b.wild.test: 421 421 421 421 200 421 200
d.test: 421 421 421 421 421 200 200
--- no_error_log
[error]
[alert]



=== TEST 12: more CA names than a handshake can carry are refused, unless send_ca_dn is false
--- init
my $file = "$ENV{TEST_NGINX_PKI}/../cas-1500.pem";
-f $file or system("scripts/pki", "--cas", 1500, $file) == 0 or die;
--- http_config
    init_worker_by_lua_block {
        local pki = require "pki"
        local file = io.open("$TEST_NGINX_PKI/../cas-1500.pem")
        local many = file:read("*a") .. pki.read("ca")
        file:close()
        refused = select(2, new { policy({ "default" }, { ca = { pem = many } }) })
        plugin = assert(new { policy({ "default" }, { ca = { pem = many }, send_ca_dn = false }) })
    }
    mtls;
--- config
    location /t {
        content_by_lua_block {
            ngx.say((refused:gsub("%d%d+", "N")))
            for _, version in ipairs { "1.2", "1.3" } do
                ngx.say(visit("a.test", "client1", "--tls-max", version))
                ngx.say(visit("a.test", "client-other", "--tls-max", version))
                ngx.say(visit("a.test", nil, "--tls-max", version))
            end
            local ok, err = pcall(new, { policy({ "default" }, { send_ca_dn = 1 }) })
            ngx.say(ok, " ", err)
        }
    }
--- request
GET /t
--- response_body
policy 1: ca_certs: the names of N authorities take N bytes, and TLS allows for N: send_ca_dn = false sends none
alice||CN=client-1,O=Test|SUCCESS 200
401
401
alice||CN=client-1,O=Test|SUCCESS 200
401
401
false policy 1: send_ca_dn must be a boolean: given 1: mtls_auth.new
--- no_error_log
[error]



=== TEST 13: a chain is verified once, however long it is and however many others there are, up to 16384 bytes
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new { policy { "default" } })
        -- All policies share what is kept.
        others = assert(new { policy({ "default" }, { anonymous = "guest" }) }).default.common
        verified = 0
        local functions = require "resty.kong.tls.functions"
        local verify = functions.verify_until
        functions.verify_until = function(store, ...)
            verified = verified + 1
            return verify(store, ...)
        end
    }
    mtls;
--- config
    location /t {
        content_by_lua_block {
            local client, pki = require "client", require "pki"
            local folder = os.getenv("TEST_NGINX_HTML_DIR")
            -- Sends requests on one connection, with a chain of the client's certificate and this many others.
            local function visit(certificate, others, requests)
                local path = folder .. "/long.crt"
                local file = assert(io.open(path, "w"))
                file:write(pki.read(certificate), pki.read("ca"):rep(others))
                file:close()
                local args = { "-k", "--http1.1", "--unix-socket", folder .. "/mtls.sock", "-o", "/dev/null", "-w", "%{http_code} ",
                               "--cert", path, "--key", pki.path(certificate, ".key") }
                for _ = 1, requests do
                    table.insert(args, "https://a.test/")
                end
                -- Each URL needs its own output.
                for _ = 2, requests do
                    table.insert(args, "-o")
                    table.insert(args, "/dev/null")
                end
                local before = verified
                local answers = {}
                for answer in client.curl(args).out:gmatch("%d+") do
                    answers[answer] = (answers[answer] or 0) + 1
                end
                local all = {}
                for answer, count in pairs(answers) do
                    all[#all + 1] = count .. " x " .. answer
                end
                ngx.say(certificate, " and ", others, ": ", table.concat(all, ", "), ", ", verified - before, " verified")
            end
            visit("client1", 0, 5)
            visit("client1", 0, 5)
            visit("client1", 20, 5)
            visit("client-other", 0, 5)
            visit("client-other", 20, 5)
            visit("client1", 60, 5)
            visit("client-other", 60, 5)
            -- More strangers than there is room for.
            for number = 1, 3000 do
                others:accept("stranger " .. number, function() return nil, "nobody" end)
            end
            visit("client1", 0, 5)
        }
    }
--- request
GET /t
--- response_body
client1 and 0: 5 x 200, 1 verified
client1 and 0: 5 x 200, 0 verified
client1 and 20: 5 x 200, 1 verified
client-other and 0: 5 x 401, 1 verified
client-other and 20: 5 x 401, 1 verified
client1 and 60: 5 x 401, 0 verified
client-other and 60: 5 x 401, 0 verified
client1 and 0: 5 x 200, 0 verified
--- grep_error_log eval
qr/the certificate chain is longer than 16384 bytes/
--- grep_error_log_out eval
"the certificate chain is longer than 16384 bytes\n" x 10
--- no_error_log
[error]
