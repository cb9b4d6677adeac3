# SPDX-License-Identifier: Apache-2.0

# resty.kong.plugins.header_cert_auth: clients whose certificate a proxy in front of nginx sends in a header.

use lib 't/support';
use TestService;
use TestCertificates;
use TestHarness 'no_plan';

repeat_each(1);

# Certificates with alternative names, all with the common name of a consumer.
my %names = (
    print   => 'URI:spiffe://test/uri',
    all     => 'email:email@test,DNS:dns.test,URI:spiffe://test/uri',
    dns     => 'DNS:other.test,DNS:DNS.test',
    email   => 'email:email@test',
    unknown => 'URI:spiffe://test/unknown',
);
issue($_, subject => '/CN=client-1', extensions => ["subjectAltName=$names{$_}"]) for sort keys %names;

# The plugins of this file, and a service that answers with the headers that it gets.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{init_by_lua_block \{\n}{<<'_EOC_'}e;
init_by_lua_block {
        new = require("resty.kong.plugins.header_cert_auth").new
        function options(changed)
            local all = {
                ca = { pem = require("pki").read("ca") }, header = "X-Client-Cert", encoding = "url",
                trusted = { "127.0.0.1", "::1" },
                consumers = { { name = "alice", common_name = "client-1" },
                              { name = "bob", common_name = "client-2" } },
            }
            for name, value in pairs(changed or {}) do
                all[name] = value
            end
            return all
        end
        function url(text)
            return (text:gsub("[^%w%-_.~]", function(byte) return ("%%%02X"):format(byte:byte()) end))
        end
        function base64(pem)
            return (pem:match("BEGIN CERTIFICATE%-%-%-%-%-\n(.-)\n%-%-%-%-%-END"):gsub("\n", ""))
        end
        -- Sends a request with these headers to this path; several values of one header are a list.
        function ask(path, headers)
            local client = require "client"
            local args = { "-w", "%{http_code}\n", "http://127.0.0.1:" .. port .. path }
            for name, value in pairs(headers or {}) do
                for _, one in ipairs(type(value) == "table" and value or { value }) do
                    args[#args + 1] = "-H"
                    args[#args + 1] = name .. ": " .. one
                end
            end
            local out = client.curl(args).out
            return (out:gsub("<html>.*</html>%s*", ""):gsub("\n$", ""))
        end
        port = "$TEST_NGINX_SERVER_PORT"
_EOC_
    $block->set_value('http_config', $config . <<'_EOC_');

    server {
        listen unix:$TEST_NGINX_HTML_DIR/headers.sock;
        location /404 {
            return 404;
        }
        location / {
            return 200 "consumer=$http_x_consumer_username anonymous=$http_x_anonymous_consumer dn=$http_x_client_cert_dn cert=$http_x_client_cert ";
        }
    }
_EOC_
});

run_tests();

__DATA__

=== TEST 1: certificates in URL and base64 encoding authenticate their consumers
--- http_config
    init_worker_by_lua_block {
        by_url = assert(new(options()))
        by_base64 = assert(new(options { encoding = "base64" }))
    }
--- config
    location /url {
        access_by_lua_block { by_url:access() }
        proxy_set_header X-Verify $kong_client_verify;
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        add_header X-Verify $kong_client_verify always;
    }
    location /base64 {
        access_by_lua_block { by_base64:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /t {
        content_by_lua_block {
            local pki = require "pki"
            local one, two = pki.read("client1"), pki.read("client2")
            ngx.say(ask("/url", { ["X-Client-Cert"] = url(one) }))
            ngx.say(ask("/url", { ["x-client-CERT"] = url(two) }))
            -- Encodes as nginx's $ssl_client_escaped_cert and others do.
            ngx.say(ask("/url", { ["X-Client-Cert"] = (one:gsub("\n", "%%0a"):gsub(" ", "%%20")) }))
            ngx.say(ask("/base64", { ["X-Client-Cert"] = base64(one) }))
            ngx.say(ask("/base64", { ["X-Client-Cert"] = ":" .. base64(two) .. ":" }))
        }
    }
--- request
GET /t
--- response_body
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200
consumer=bob anonymous= dn=CN=client-2,O=Test cert= 200
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200
consumer=bob anonymous= dn=CN=client-2,O=Test cert= 200
--- no_error_log
[error]
[warn]



=== TEST 2: each refusal is a 401, and its reason is logged
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new(options { consumers = { { name = "alice", common_name = "client-1" } } }))
        revoked = assert(new(options {
            ca = { pem = require("pki").read("ca"), crl = require("pki").read("revoked", ".crl") } }))
    }
--- config
    location /url {
        access_by_lua_block { plugin:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /revoked {
        access_by_lua_block { revoked:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /t {
        content_by_lua_block {
            local pki = require "pki"
            local one = url(pki.read("client1"))
            for _, value in ipairs { "nothing", url(pki.read("client-other")), url(pki.read("client-expired")),
                                     url(pki.read("service")), url(pki.read("client2")),
                                     base64(pki.read("client1")) } do
                ngx.say(ask("/url", { ["X-Client-Cert"] = value }))
            end
            ngx.say(ask("/url"))
            ngx.say(ask("/url", { ["X-Client-Cert"] = { one, one } }))
            ngx.say(ask("/url", { ["X-Client-Cert"] = one .. ", " .. one }))
            ngx.say(ask("/revoked", { ["X-Client-Cert"] = one }))
        }
    }
--- request
GET /t
--- response_body eval
"401\n" x 10
--- grep_error_log eval
qr/header_cert_auth: .*?(?=, client:| at \d+ should be)/
--- grep_error_log_out
header_cert_auth: header X-Client-Cert: it is not one certificate in PEM format, and nothing else
header_cert_auth: unable to get local issuer certificate (certificate 1: CN=client-other,O=Test)
header_cert_auth: certificate has expired (certificate 1: CN=client-expired,O=Test)
header_cert_auth: unsuitable certificate purpose (certificate 1: CN=service.test,O=Test)
header_cert_auth: no consumer has this certificate: CN=client-2,O=Test
header_cert_auth: header X-Client-Cert: it is not one certificate in PEM format, and nothing else
header_cert_auth: there is no certificate
header_cert_auth: there are several headers X-Client-Cert
header_cert_auth: header X-Client-Cert: it is not URL-encoded: ","
header_cert_auth: certificate revoked (certificate 1: CN=client-1,O=Test)



=== TEST 3: only trusted addresses may send certificates, whatever X-Forwarded-For says
--- http_config
    init_worker_by_lua_block {
        others = assert(new(options { trusted = { "10.0.0.0/8" } }))
        socket = assert(new(options { trusted = { "unix:" } }))
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock;
        location / {
            access_by_lua_block { socket:access() }
            proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
        }
    }
--- config
    set_real_ip_from 127.0.0.1;
    real_ip_header X-Forwarded-For;
    location /url {
        access_by_lua_block { others:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /socket {
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/gateway.sock;
    }
    location /t {
        content_by_lua_block {
            local one = url(require("pki").read("client1"))
            ngx.say(ask("/url", { ["X-Client-Cert"] = one }))
            ngx.say(ask("/url", { ["X-Client-Cert"] = one, ["X-Forwarded-For"] = "10.1.1.1" }))
            ngx.say(ask("/socket", { ["X-Client-Cert"] = one }))
        }
    }
--- request
GET /t
--- response_body
401
401
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200
--- grep_error_log eval
qr/header_cert_auth: .*?(?=, client:)/
--- grep_error_log_out
header_cert_auth: 127.0.0.1 is not trusted to send certificates
header_cert_auth: 127.0.0.1 is not trusted to send certificates



=== TEST 4: anonymous clients are let in, and headers that only the gateway may set are removed
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new(options { anonymous = "guest" }))
        others = assert(new(options { anonymous = "guest", trusted = {} }))
    }
--- config
    # Services may confuse underscores and hyphens.
    underscores_in_headers on;
    location /names {
        access_by_lua_block { plugin:access() }
        content_by_lua_block {
            for name in pairs(ngx.req.get_headers(0, true)) do
                if name:lower():find("consumer") then
                    ngx.say(name)
                end
            end
        }
    }
    location /url {
        access_by_lua_block { plugin:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /others {
        access_by_lua_block { others:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /t {
        content_by_lua_block {
            local one = url(require("pki").read("client1"))
            local forged = { ["X-Consumer-Username"] = "root", ["X-Anonymous-Consumer"] = "false",
                             ["X-Client-Cert-DN"] = "CN=root", ["x_Consumer_username"] = "root" }
            ngx.say(ask("/url", forged))
            forged["X-Client-Cert"] = "nothing"
            ngx.say(ask("/url", forged))
            forged["X-Client-Cert"] = one
            ngx.say(ask("/others", forged))
            ngx.say(ask("/url", forged))
            ngx.say(ask("/names", forged))
        }
    }
--- request
GET /t
--- response_body
consumer=guest anonymous=true dn= cert= 200
consumer=guest anonymous=true dn= cert= 200
consumer=guest anonymous=true dn= cert= 200
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200
X-Consumer-Username
200
--- no_error_log
[error]
[warn]



=== TEST 5: a fingerprint has precedence over alternative names, and any of these over the common name
--- http_config
    init_worker_by_lua_block {
        local x509 = require "resty.kong.x509"
        function issued(name)
            local file = assert(io.open("$TEST_NGINX_CERTIFICATES/" .. name .. ".crt"))
            local text = file:read("*a")
            file:close()
            return text
        end
        local fingerprint = x509.chain(issued("print"))[1]:fingerprint()
        plugin = assert(new(options { consumers = {
            { name = "print", fingerprint = fingerprint:upper():gsub("..", "%0:"):sub(1, -2) },
            { name = "uri", uri = "spiffe://test/uri" },
            { name = "dns", dns = "dns.test" },
            { name = "email", email = "email@test" },
            { name = "name", common_name = "client-1", uri = "spiffe://test/of-another" },
        } }))
    }
--- config
    location /url {
        access_by_lua_block { plugin:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /t {
        content_by_lua_block {
            local pki = require "pki"
            for _, name in ipairs { "print", "all", "dns", "email", "unknown" } do
                ngx.say(name, ": ", (ask("/url", { ["X-Client-Cert"] = url(issued(name)) }):gsub("dn=.*cert= ", "")))
            end
            ngx.say("client1: ", (ask("/url", { ["X-Client-Cert"] = url(pki.read("client1")) }):gsub("dn=.*cert= ", "")))
        }
    }
--- request
GET /t
--- response_body
print: consumer=print anonymous= 200
all: consumer=uri anonymous= 200
dns: consumer=dns anonymous= 200
email: consumer=email anonymous= 200
unknown: 401
client1: consumer=name anonymous= 200
--- no_error_log
[error]



=== TEST 6: after an internal redirect, the certificate is still known, and still not sent to the service
--- http_config
    init_worker_by_lua_block {
        plugin = assert(new(options()))
        other = assert(new(options { header = "X-Other" }))
    }
--- config
    location /one {
        access_by_lua_block { plugin:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /exec {
        access_by_lua_block { plugin:access() }
        content_by_lua_block { return ngx.exec("/twice") }
    }
    location /twice {
        access_by_lua_block { plugin:access() }
        error_page 404 = /one;
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock:/404;
        proxy_intercept_errors on;
    }
    location /other {
        access_by_lua_block { plugin:access() }
        content_by_lua_block { return ngx.exec("@other") }
    }
    location @other {
        access_by_lua_block { other:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /t {
        content_by_lua_block {
            local headers = { ["X-Client-Cert"] = url(require("pki").read("client1")) }
            for _, path in ipairs { "/exec", "/twice", "/other" } do
                ngx.say(ask(path, headers))
                ngx.say(ask(path))
            end
        }
    }
--- request
GET /t
--- response_body
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200
401
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200
401
401
401
--- no_error_log
[error]



=== TEST 7: the result for a chain is kept for a while
--- http_config
    large_client_header_buffers 4 64k;
    init_worker_by_lua_block {
        plugin = assert(new(options()))
        verified = 0
        local functions = require "resty.kong.tls.functions"
        local verify = functions.verify_until
        functions.verify_until = function(store, ...)
            verified = verified + (store == plugin.common.store and 1 or 0)
            return verify(store, ...)
        end
        other = assert(new(options { ca = { pem = require("pki").read("other-ca") } }))
    }
--- config
    location /one {
        access_by_lua_block { plugin:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /other {
        access_by_lua_block { other:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /t {
        content_by_lua_block {
            local pki = require "pki"
            local function try(path, pem)
                ngx.say(ask(path, { ["X-Client-Cert"] = url(pem) }), ", ", verified, " verified")
            end
            for turn = 1, 3 do
                try("/one", pki.read("client1"))
                try("/one", pki.read("client2"))
                try("/one", pki.read("client-other"))
                try("/other", pki.read("client1"))
            end
            -- A long header, and one that is too long.
            for turn = 1, 2 do
                try("/one", pki.read("client1") .. ("\n"):rep(6000))
                try("/one", pki.read("client1") .. ("\n"):rep(12000))
            end
        }
    }
--- request
GET /t
--- response_body
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200, 1 verified
consumer=bob anonymous= dn=CN=client-2,O=Test cert= 200, 2 verified
401, 3 verified
401, 3 verified
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200, 3 verified
consumer=bob anonymous= dn=CN=client-2,O=Test cert= 200, 3 verified
401, 3 verified
401, 3 verified
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200, 3 verified
consumer=bob anonymous= dn=CN=client-2,O=Test cert= 200, 3 verified
401, 3 verified
401, 3 verified
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200, 4 verified
401, 4 verified
consumer=alice anonymous= dn=CN=client-1,O=Test cert= 200, 4 verified
401, 4 verified
--- no_error_log
[error]



=== TEST 8: wrong options are refused
--- config
    location /t {
        content_by_lua_block {
            local function try(changed)
                local ok, result, err = pcall(function()
                    local made, err = new(options(changed))
                    return made, err
                end)
                ngx.say(ok and tostring(result) .. " " .. tostring(err)
                        or (result:gsub("^content_by_lua%(nginx.conf:%d+%):%d+: ", "here: ")))
            end
            try { ca = 1 }
            try { ca = {} }
            try { ca = { pem = "nothing" } }
            try { consumers = "alice" }
            try { consumers = { {} } }
            try { consumers = { { name = "a", cn = "b" } } }
            try { consumers = { { name = "a", dns = 1 } } }
            try { consumers = { { name = "a", dns = "a.test" }, { name = "b", dns = "A.test" } } }
            try { header = "a b" }
            try { encoding = "pem" }
            try { trusted = "127.0.0.1" }
            try { trusted = { "localhost" } }
            try { anonymous = 1 }
            try { anonymous = "" }
            try { consumers = { alice = {} } }
            try { consumers = { { name = "a" } } }
            try { consumers = { { name = "a", fingerprint = "zz" } } }
            local digits = ("AB"):rep(32)
            try { consumers = { { name = "a", fingerprint = digits:sub(1, 63) .. ":B" } } }
            try { consumers = { { name = "a", fingerprint = "A:" .. digits:sub(2) } } }
            try { consumers = { { name = "a", fingerprint = digits .. ":" } } }
            try { consumers = { { name = "a", fingerprint = digits .. " " } } }
            try { trusted = { "010.0.0.0/8" } }
            try { consumers = { { name = "a", dns = "" } } }
            try { crl = "x" }
            try { depth = "1" }
            try { depth = 0.5 }
            ngx.say((select(2, pcall(new))))
            try { trusted = { 1 } }
            try { ca = { files = "x" } }
            local plugin = require "resty.kong.plugins.header_cert_auth"
            local made = plugin.new(options())
            for _, call in ipairs {
                function() local made = plugin:new(options()) end, function() local ok = made.access() end,
                -- In a wrong phase.
                function() made:access() end,
            } do
                ngx.say((select(2, pcall(call)):gsub("^content_by_lua%(nginx.conf:%d+%):%d+: ", "here: ")))
            end
        }
    }
--- request
GET /t
--- response_body
here: ca must be a table: given 1: header_cert_auth.new
nil ca: nothing to trust: one of pem, file, dir and system is needed
nil ca: pem: no certificate in PEM format found
here: consumers must be a list: given the string "alice": header_cert_auth.new
nil consumer 1: name must be a string
nil consumer 1: unknown field "cn"; fields are ca_certificate, common_name, custom_id, dns, email, fingerprint, groups, id, name, uri, username
nil consumer 1: dns must be a string
nil consumer 2: dns is that of another consumer
here: header must be the name of a header: given the string "a b": header_cert_auth.new
here: encoding must be "url" or "base64": given the string "pem": header_cert_auth.new
here: trusted must be a list of strings: given the string "127.0.0.1": header_cert_auth.new
nil trusted: "localhost" is no address, and no network
here: anonymous must be a string: given 1: header_cert_auth.new
here: anonymous must be a string: given the string "": header_cert_auth.new
here: consumers must be a list: given a table: header_cert_auth.new
nil consumer 1: it has nothing to be known by
nil consumer 1: fingerprint must be that of SHA-256, in hexadecimal
nil consumer 1: fingerprint must be that of SHA-256, in hexadecimal
nil consumer 1: fingerprint must be that of SHA-256, in hexadecimal
nil consumer 1: fingerprint must be that of SHA-256, in hexadecimal
nil consumer 1: fingerprint must be that of SHA-256, in hexadecimal
nil trusted: "010.0.0.0/8" is no address, and no network
nil consumer 1: dns must be a string
here: unknown option "crl"; options are anonymous, authenticated_group_by, ca, cache_ttl, chain_header, consumer_by, consumers, default_consumer, depth, dict, element, encoding, format, forward, header, http_proxy, http_timeout, lookup, negative_ttl, ocsp_responder, revocation_check_mode, revocation_dict, revocation_leaf_only, skip_consumer_lookup, trusted: header_cert_auth.new
here: depth must be an integer, and not negative: given the string "1": header_cert_auth.new
here: depth must be an integer, and not negative: given 0.5: header_cert_auth.new
options must be a table: given nil: header_cert_auth.new
here: trusted must be a list of strings: given a table that holds something else: header_cert_auth.new
here: ca: unknown option "files"; options are check_revocation, crl, crl_file, dir, file, leaf_only, on_expired, partial_chain, pem, refresh, system: header_cert_auth.new
here: options must be a table: called with ":" in place of ".": use header_cert_auth.new(...)
here: access must be called with a colon, as a method: header_cert_auth:access(...)
here: function cannot be called in content phase (only in: rewrite, access): header_cert_auth:access
--- no_error_log
[error]



=== TEST 9: a header must hold exactly one certificate, in both encodings
--- http_config
    large_client_header_buffers 4 64k;
    init_worker_by_lua_block {
        by_url = assert(new(options()))
        by_base64 = assert(new(options { encoding = "base64" }))
    }
--- config
    location /url {
        access_by_lua_block { by_url:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /base64 {
        access_by_lua_block { by_base64:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /t {
        content_by_lua_block {
            local pki = require "pki"
            local alice, bob = pki.read("client1"), pki.read("client2")
            local function try(path, value)
                local said = ask(path, { ["X-Client-Cert"] = value })
                return said:match("consumer=(%S+)") or said
            end
            local function all(path, values)
                for number, value in ipairs(values) do
                    local said = try(path, value)
                    ngx.say(path, " ", number, ": ", said)
                end
            end
            local a, b = base64(alice), base64(bob)
            local der = ngx.decode_base64(a)
            ngx.say("base64: ", try("/base64", a), " ", try("/base64", ":" .. b .. ":"))
            all("/base64", {
                a .. ", " .. b, a .. "," .. b, a .. b, ":" .. a .. ":, :" .. b .. ":", ":" .. a, a .. ":", a .. "!!!junk",
                a .. "=", a:sub(1, 40) .. " " .. a:sub(41), ngx.encode_base64(der .. "\0"), ngx.encode_base64(der .. "AB"),
                ngx.encode_base64(der .. ngx.decode_base64(b)), (a:gsub("[+]", "-"):gsub("/", "_")) .. ".", '"' .. a .. '"',
                ngx.encode_base64(alice),
            })
            a, b = url(alice), url(bob)
            ngx.say("url: ", try("/url", a), " ", try("/url", "%0A" .. b .. "%0D%0A"), " ",
                    -- Leaves "+", "/" and "=" unescaped.
                    try("/url", (a:gsub("%%2B", "+"):gsub("%%2F", "/"):gsub("%%3D", "="))))
            all("/url", {
                a .. "; " .. b, a .. ";" .. b, a .. "," .. b, a .. b, a .. " " .. b, a .. "%0A" .. b, a .. "%2C" .. b, a .. "junk",
                "junk%0A" .. a, a .. "%", a .. "%2", a .. "%zz", (a:gsub("%%20", " ")), (a:gsub("%%20", "+")), '"' .. a .. '"',
                a .. "%00", (a:gsub("%%0A%-%-%-%-%-END", "%%0AAAAA-----END")), url(pki.read("client-intermediate")),
                "Hash=1%3BCert=" .. a,
            })
        }
    }
--- request
GET /t
--- response_body eval
CORE::join '', "base64: alice bob\n", (map { "/base64 $_: 401\n" } 1 .. 15), "url: alice bob alice\n",
    (map { "/url $_: 401\n" } 1 .. 19)
--- no_error_log
[error]



=== TEST 10: a certificate without its intermediate is accepted when ca has the intermediate
--- http_config
    init_worker_by_lua_block {
        local pki = require "pki"
        plugin = assert(new(options { ca = { pem = pki.read("ca") .. pki.read("intermediate") },
                                      consumers = { { name = "carol", common_name = "client-intermediate" } } }))
    }
--- config
    location /url {
        access_by_lua_block { plugin:access() }
        proxy_pass http://unix:$TEST_NGINX_HTML_DIR/headers.sock;
    }
    location /t {
        content_by_lua_block {
            local leaf = require("resty.kong.x509").chain(require("pki").read("client-intermediate"))[1]
            ngx.say(ask("/url", { ["X-Client-Cert"] = url(leaf:to_pem()) }))
        }
    }
--- request
GET /t
--- response_body
consumer=carol anonymous= dn=CN=client-intermediate,O=Test cert= 200
--- no_error_log
[error]



=== TEST 11: what is known of the chains that many policies refuse takes no more memory than that of one
--- http_config
    init_worker_by_lua_block {
        policies = {}
        for number = 1, 100 do
            policies[number] = assert(new(options { anonymous = "guest" .. number }))
        end
    }
--- config
    location /all {
        access_by_lua_block {
            collectgarbage()
            local before = collectgarbage("count")
            for text = 1, 500 do
                ngx.req.set_header("X-Client-Cert", "text" .. text)
                for _, policy in ipairs(policies) do
                    policy:access()
                end
            end
            collectgarbage()
            ngx.ctx.more = collectgarbage("count") - before
        }
        content_by_lua_block {
            -- In KB: the limit is 4 MB, by an estimate.
            ngx.say(ngx.ctx.more < 6 * 1024 and "little" or ngx.ctx.more)
        }
    }
    location /t {
        content_by_lua_block { ngx.print(ask("/all"), "\n") }
    }
--- request
GET /t
--- timeout: 60
--- response_body
little
200
--- no_error_log
[error]
