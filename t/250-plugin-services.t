# SPDX-License-Identifier: Apache-2.0

# resty.kong.plugins.services: the certificate, the verification and the address of each service.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

repeat_each(1);

# Expands "services { ... }" to a plugin with these services, and to an upstream block that they may use.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s/^    services \{\n(.*?)^    \}\n/    init_worker_by_lua_block {
        P = os.getenv("TEST_NGINX_PKI") .. "\/"
        services = assert(require("resty.kong.plugins.services").new {
$1        })
    }
    upstream deep-service {
        server unix:\$TEST_NGINX_HTML_DIR\/deep.sock;
        kong_tls_keepalive 8;
    }
/ms;
    $block->set_value('http_config', $config);
});

run_tests();

__DATA__

=== TEST 1: each service has its own upstream, certificate and verification
--- http_config
    services {
        services = {
            one = { upstream = "service", certificate = P .. "client1.crt", key = P .. "client1.key",
                    ca = { file = P .. "ca.crt" }, verify_names = { host = false, dns = { "service.test" } } },
            two = { upstream = "service", certificate = P .. "client2.crt", key = P .. "client2.key",
                    ca = { file = P .. "ca.crt" }, dns_names = { "x.test" }, uris = { "spiffe://test/service" } },
            none = { upstream = "service", ca = { file = P .. "ca.crt" } },
            ["other CA"] = { upstream = "other", ca = { file = P .. "other-ca.crt" } },
            ["wrong CA"] = { upstream = "other", ca = { file = P .. "ca.crt" } },
            ["no CA"] = { upstream = "service" },
            unverified = { upstream = "other", verify = false },
            deep = { upstream = "deep-service", ca = { file = P .. "ca.crt" }, depth = 2 },
            ["too deep"] = { upstream = "deep-service", ca = { file = P .. "ca.crt" }, depth = 1 },
            ["wrong name"] = { upstream = "service", ca = { file = P .. "ca.crt" }, verify_names = { host = false, dns = { "other.test" } } },
            ["wrong URI"] = { upstream = "service", ca = { file = P .. "ca.crt" }, uris = { "spiffe://test/other" } },
            nowhere = { upstream = "nowhere" },
        },
    }
--- config
    location /call {
        access_by_lua_block { services:access(ngx.var.arg_name and ngx.unescape_uri(ngx.var.arg_name)) }
        proxy_ssl_name service.test;
        proxy_pass https://$kong_upstream_target/;
    }
    location /t {
        content_by_lua_block {
            local client = require "client"
            for turn = 1, 2 do
                for _, name in ipairs { "one", "two", "none", "other CA", "wrong CA", "no CA", "unverified", "deep",
                                        "too deep", "wrong name", "wrong URI", "nowhere", "unknown" } do
                    local url = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT/call?name=" .. ngx.escape_uri(name)
                    local out = client.curl({ url, "-w", "%{http_code}" }).out
                    ngx.say(name, ": ", (out:gsub("<html>.*</html>%s*", ""):gsub(" reused=.*\n", " ")))
                end
            end
        }
    }
--- request
GET /t
--- response_body eval
<<'_EOC_' x 2
one: client=CN=client-1,O=Test 200
two: client=CN=client-2,O=Test 200
none: client= 200
other CA: client= 200
wrong CA: 502
no CA: 502
unverified: client= 200
deep: client= 200
too deep: 502
wrong name: 502
wrong URI: 502
nowhere: 503
unknown: 503
_EOC_
--- error_log
services: "nowhere": could not find an Upstream named 'nowhere'
services: "unknown": it is not known
--- no_error_log
[alert]



=== TEST 2: defaults apply to all services, and false takes them away
--- http_config
    services {
        defaults = { upstream = "service", certificate = P .. "client1.crt", key = P .. "client1.key",
                     ca = { file = P .. "ca.crt" }, depth = 0 },
        services = {
            plain = {},
            own = { certificate = P .. "client2.crt", key = P .. "client2.key" },
            none = { certificate = false, key = false },
            other = { upstream = "other", ca = { file = P .. "other-ca.crt" } },
            unverified = { upstream = "other", verify = false },
            deep = { upstream = "deep-service", depth = 2 },
            shallow = { upstream = "deep-service" },
            ["location"] = { upstream = false },
        },
    }
--- config
    location /call {
        access_by_lua_block { services:access(ngx.var.arg_name) }
        proxy_ssl_name service.test;
        proxy_pass https://$kong_upstream_target/;
    }
    location /location {
        access_by_lua_block { services:access("location") }
        proxy_ssl_name service.test;
        proxy_pass https://service/;
    }
    location /t {
        content_by_lua_block {
            local client = require "client"
            local base = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT"
            for _, name in ipairs { "plain", "own", "none", "other", "unverified", "deep", "shallow" } do
                local out = client.curl({ base .. "/call?name=" .. name, "-w", "%{http_code}" }).out
                ngx.say(name, ": ", (out:gsub("<html>.*</html>%s*", ""):gsub(" reused=.*\n", " ")))
            end
            ngx.say((client.curl({ base .. "/location" }).out:gsub(" reused=.*\n", "")))
        }
    }
--- request
GET /t
--- response_body
plain: client=CN=client-1,O=Test 200
own: client=CN=client-2,O=Test 200
none: client= 200
other: client=CN=client-1,O=Test 200
unverified: client=CN=client-1,O=Test 200
deep: client=CN=client-1,O=Test 200
shallow: 502
client=CN=client-1,O=Test
--- no_error_log
[alert]



=== TEST 3: a service may have host and port, PEM texts for file names, and a password
--- http_config
    server {
        listen 127.0.0.2:$TEST_NGINX_SERVER_PORT ssl;
        certificate service;
        ssl_verify_client optional;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        return 200 "$ssl_client_s_dn\n";
    }
    services {
        services = {
            pem = { host = "127.0.0.2", port = tonumber("$TEST_NGINX_SERVER_PORT"), certificate = require("pki").read("client1"),
                    key = require("pki").read("client1", ".key"), ca = { pem = require("pki").read("ca") } },
            password = { host = "127.0.0.2", port = tonumber("$TEST_NGINX_SERVER_PORT"), certificate = P .. "client1.crt",
                         key = P .. "client-encrypted.key", password = "secret", ca = { pem = require("pki").read("ca") } },
        },
    }
--- config
    location /call {
        access_by_lua_block { services:access(ngx.var.arg_name) }
        proxy_ssl_name service.test;
        proxy_pass https://$kong_upstream_target/;
    }
--- exchanges
GET /call?name=pem      => CN=client-1,O=Test
GET /call?name=password => CN=client-1,O=Test
--- no_error_log
[error]



=== TEST 4: a file of services may contain data only
--- config
    location /t {
        content_by_lua_block {
            local new = require("resty.kong.plugins.services").new
            local name = "$TEST_NGINX_SERVER_ROOT/services.lua"
            local function try(text)
                local file = io.open(name, "w")
                file:write(text)
                file:close()
                local made, err = new { file = name }
                ngx.say(made and "good" or (err:gsub("^.*/", "")))
            end
            try "return { one = { upstream = 'service', verify = false } } -- a comment"
            try "return { one = { upstream = 'service', depth = -1 } }"
            try "return"
            try "return {"
            try "return os.getenv('HOME')"
            try(string.dump(function() return {} end))
            ngx.say(select(2, new { file = "/nowhere/services.lua" }))
        }
    }
--- request
GET /t
--- response_body_like eval
qr/\Agood
service "one": depth must be an integer between 0 and 100
services.lua: it must return a table
services.lua:1: .*near.*
services.lua:1: attempt to index global 'os' \(a nil value\)
file: attempt to load.* chunk .*
file: cannot open.*No such file or directory
\z/
--- no_error_log
[error]



=== TEST 5: wrong services are refused, with their names and fields
--- config
    location /t {
        content_by_lua_block {
            local new = require("resty.kong.plugins.services").new
            local P = os.getenv("TEST_NGINX_PKI") .. "/"
            local function try(fields, defaults)
                local made, err = new { services = { one = fields }, defaults = defaults }
                ngx.say(made and "good" or (err:gsub(P:gsub("%p", "%%%0"), "")))
            end
            try(1)
            try { cert = "x" }
            try { host = "a.test" }
            try { port = 443 }
            try { host = "a.test", port = "443" }
            try { host = "a.test", port = 65536 }
            try { host = "a.test", port = 443, upstream = "b" }
            try { host = "a b", port = 443 }
            try { host = "", port = 443 }
            try { upstream = "a/b" }
            try { upstream = "" }
            try { upstream = "a:80" }
            try { verify_names = { dns = { "a.test", "" } } }
            try { verify_names = { uris = { "a\0b" } } }
            try { verify_names = { host = false } }
            try { verify_names = { names = {} } }
            try { server_name = "127.0.0.1" }
            try { dns_names = { "a.test", "" } }
            try { uris = { "a\0b" } }
            try({ verify_names = {} }, { uris = { "a:b" } })
            try { certificate = P .. "client1.crt" }
            try { key = P .. "client1.key" }
            try { certificate = P .. "none.crt", key = P .. "client1.key" }
            try { certificate = P .. "client1.key", key = P .. "client1.key" }
            try { certificate = P .. "client1.crt", key = P .. "client1.crt" }
            try { certificate = P .. "client1.crt", key = P .. "client2.key" }
            try { certificate = P .. "client1.crt", key = P .. "client-encrypted.key", password = "no" }
            try { certificate = P .. "client-weak.crt", key = P .. "client-weak.key" }
            try { ca = "x" }
            try { ca = {} }
            try { ca = { file = P .. "none.crt" } }
            try { ca = { files = "x" } }
            try { verify = "on" }
            try { verify = false, ca = { pem = "x" } }
            try({ depth = 1 }, { verify = false })
            try { dns_names = {} }
            try { uris = "spiffe://x" }
            try { verify_names = { dns = { 1 } } }
            try { verify_names = "spiffe://x" }
            try { server_name = 1 }
            try { verify = false, verify_names = {} }
            local ids, ca = { "spiffe://test/a" }, { file = P .. "ca.crt" }
            try { verify_spiffe = { trust_domains = { test = ca, other = { pem = require("pki").read("ca") } }, ids = ids } }
            try { verify_spiffe = "spiffe://test/a" }
            try { verify_spiffe = {} }
            try { verify_spiffe = { trust_domains = { test = ca } } }
            try { verify_spiffe = { trust_domains = { test = ca }, ids = {} } }
            try { verify_spiffe = { trust_domains = { test = ca }, ids = { "spiffe://test" } } }
            try { verify_spiffe = { trust_domains = { test = ca }, ids = { "spiffe://other/a" } } }
            try { verify_spiffe = { trust_domains = { TEST = ca }, ids = { "spiffe://TEST/a" } } }
            try { verify_spiffe = { trust_domains = { ca }, ids = ids } }
            try { verify_spiffe = { trust_domain = {}, ids = ids } }
            try { verify_spiffe = { trust_domains = { test = P .. "ca.crt" }, ids = ids } }
            try { verify_spiffe = { trust_domains = { test = {} }, ids = ids } }
            try { verify_spiffe = { trust_domains = { test = { file = P .. "none.crt" } }, ids = ids } }
            try { verify_spiffe = { trust_domains = { test = { pem = "none" } }, ids = ids } }
            try { verify_spiffe = { trust_domains = { test = { files = "x" } }, ids = ids } }
            try { verify_spiffe = { trust_domains = { test = ca }, ids = ids }, ca = ca }
            try({}, { verify_spiffe = { trust_domains = { test = ca }, ids = ids }, ca = ca })
            try { verify_spiffe = { trust_domains = { test = ca }, ids = ids }, verify = false }
            try({ verify_spiffe = { trust_domains = { test = ca }, ids = ids } }, { verify = false })
            -- Either removes the other's default.
            try({ verify_spiffe = { trust_domains = { test = ca }, ids = ids } }, { ca = ca })
            try({ ca = ca }, { verify_spiffe = { trust_domains = { test = ca }, ids = ids } })
            try { options = { min_version = "TLSv1.2", groups = "X25519" } }
            try { options = "TLSv1.3" }
            try { options = {} }
            try { options = { version = "TLSv1.3" } }
            try { options = { min_version = 1.3 } }
            try { options = { min_version = "1.3" } }
            try { options = { min_version = "TLSv1.3", max_version = "TLSv1.2" } }
            try { options = { ciphers = "none" } }
            try({}, { depth = 0.5 })
            try({}, 1)
            ngx.say(select(2, new { services = { {} } }))
            for _, options in ipairs { {}, { services = {}, file = "x" }, { file = 1 }, { service = {} } } do
                ngx.say((select(2, pcall(new, options))))
            end
            ngx.say((select(2, pcall(new))))
            ngx.say(select(2, new { services = { one = { ca = { pem = 1 } } } }))
            local plugin = require "resty.kong.plugins.services"
            local made = plugin.new { services = {} }
            for _, call in ipairs {
                function() local made = plugin:new { services = {} } end, function() local ok = made.access("one") end,
                -- In a wrong phase.
                function() made:access("one") end,
            } do
                ngx.say((select(2, pcall(call)):gsub("^content_by_lua%(nginx.conf:%d+%):%d+: ", "here: ")))
            end
        }
    }
--- request
GET /t
--- response_body_like eval
my $text = quotemeta <<'_EOC_';
service "one": it must be a table
service "one": unknown field "cert"; fields are ca, certificate, depth, dns_names, host, key, options, password, pins, port, server_name, upstream, uris, verify, verify_names, verify_spiffe
service "one": host and port need each other
service "one": host and port need each other
service "one": port must be an integer between 1 and 65535
service "one": port must be an integer between 1 and 65535
service "one": it has both upstream and host
service "one": host must be a host name or an IP address: given "a b"
service "one": host must be a host name or an IP address: given ""
service "one": upstream must be the name of an upstream {} block: given "a/b"
service "one": upstream must be the name of an upstream {} block: given ""
service "one": upstream must be the name of an upstream {} block: given "a:80"
service "one": verify_names: WORDS
service "one": verify_names: WORDS
service "one": verify_names: names must hold at least one name if host is false
service "one": verify_names: unknown field "names"; fields are dns, emails, host, ips, uris
service "one": server_name: name must be a host name, and no IP address: given "127.0.0.1"
service "one": dns_names: WORDS
service "one": uris: WORDS
service "one": dns_names and uris belong into verify_names
service "one": certificate and key need each other
service "one": certificate and key need each other
service "one": certificate: none.crt: No such file or directory
service "one": certificate: no certificate in PEM format found
service "one": key: no key in PEM format found
service "one": key: it does not belong to the certificate
service "one": key: WORDS
service "one": certificate: SSL_use_certificate() failed (ee key too small)
service "one": ca must be a table
service "one": ca: nothing to trust: one of pem, file, dir and system is needed
service "one": ca: file "none.crt": No such file or directory (os error 2)
service "one": ca: unknown option "files"; options are check_revocation, crl, crl_file, dir, file, leaf_only, on_expired, partial_chain, pem, refresh, system
service "one": verify must be a boolean
service "one": ca says how to verify it, and verify is false
service "one": depth says how to verify it, and verify is false
service "one": dns_names must be a list of strings
service "one": uris must be a list of strings
service "one": verify_names: dns must be a table of strings
service "one": verify_names must be a table
service "one": server_name must be a string
service "one": verify_names says how to verify it, and verify is false
good
service "one": verify_spiffe must be a table
service "one": verify_spiffe: trust_domains must be a table of stores
service "one": verify_spiffe: ids must be a table of strings
service "one": verify_spiffe: ids must hold at least one SPIFFE ID; "spiffe://<trust domain>/*" stands for all
service "one": verify_spiffe: ids must hold SPIFFE IDs with a path, of which the last segment may be a "*": given "spiffe://test"
service "one": verify_spiffe: ids must be of one of the trust domains: given "spiffe://other/a"
service "one": verify_spiffe: trust_domains must hold names of at most 255 lower-case letters, digits, dots, dashes and underscores: given "TEST"
service "one": verify_spiffe: trust_domains must have names of trust domains
service "one": verify_spiffe: unknown field "trust_domain"; fields are ids, trust_domains
service "one": verify_spiffe: the store of "test" must be a table: see x509.store
service "one": verify_spiffe: the store of "test": nothing to trust: one of pem, file, dir and system is needed
service "one": verify_spiffe: the store of "test": file "none.crt": No such file or directory (os error 2)
service "one": verify_spiffe: the store of "test": pem: no certificate in PEM format found
service "one": verify_spiffe: the store of "test": unknown option "files"; options are check_revocation, crl, crl_file, dir, file, leaf_only, on_expired, partial_chain, pem, refresh, system
service "one": verify_spiffe has a store for each trust domain, beside which ca would not count
service "one": verify_spiffe has a store for each trust domain, beside which ca would not count
service "one": verify_spiffe says how to verify it, and verify is false
service "one": verify_spiffe says how to verify it, and verify is false
good
good
good
service "one": options must be a table
service "one": options: at least one option must be set
service "one": options: unknown option "version"; options are ciphers, ciphersuites, groups, max_version, min_version, signature_algorithms
service "one": options: min_version must be a string
service "one": options: min_version must be one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3: given "1.3"
service "one": options: min_version must not be later than max_version
service "one": options: ciphers must hold names that OpenSSL knows: given "none"
defaults: depth must be an integer between 0 and 100
defaults: it must be a table
service "1": its name must be a string
either services must be a table, or file the name of one: services.new
either services must be a table, or file the name of one: services.new
either services must be a table, or file the name of one: services.new
unknown option "service"; options are check, defaults, file, services: services.new
options must be a table: given nil: services.new
service "one": ca: pem must be a string: given 1
here: options must be a table: called with ":" in place of ".": use services.new(...)
here: access must be called with a colon, as a method: services:access(...)
here: function cannot be called in content phase (only in: rewrite, access): services:access
_EOC_
$text =~ s/WORDS/.*/g;
qr/\A$text\z/
--- no_error_log
[error]



=== TEST 6: after a redirect, a service has no settings of another
--- http_config
    services {
        services = {
            first = { upstream = "other", certificate = P .. "client1.crt", key = P .. "client1.key",
                      ca = { file = P .. "ca.crt" }, depth = 0, verify_names = { host = false, uris = { "spiffe://test/other" } },
                      server_name = "other.test", pins = { spki = { ngx.encode_base64(("x"):rep(32)) } },
                      options = { ciphers = "ECDHE-RSA-AES128-GCM-SHA256", max_version = "TLSv1.2" } },
            spiffe = { upstream = "other", verify_spiffe = { trust_domains = { test = { file = P .. "ca.crt" } }, ids = { "spiffe://test/x" } } },
            second = { verify = false },
            third = { ca = { file = P .. "ca.crt" } },
            forbidden = { upstream = "service", certificate = P .. "client1.crt", key = P .. "client1.key", verify = false },
        },
    }
--- config
    proxy_ssl_name service.test;
    location /error {
        access_by_lua_block { services:access("first") }
        error_page 502 = /second;
        proxy_pass https://$kong_upstream_target/;
    }
    location /exec {
        access_by_lua_block { services:access(ngx.var.arg_first or "first") }
        content_by_lua_block { return ngx.exec(ngx.var.arg_to) }
    }
    location /second {
        access_by_lua_block { services:access("second") }
        proxy_pass https://service/;
    }
    location /third {
        access_by_lua_block { services:access("third") }
        proxy_pass https://service/;
    }
    location /nowhere {
        access_by_lua_block { services:access("third") }
        proxy_pass https://$kong_upstream_target/;
    }
    # The settings of this service are refused, and none of them stays.
    location /forbidden {
        access_by_lua_block { services:access("forbidden") }
        kong_tls_certificate_verify on;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        error_page 503 = @after;
        proxy_pass https://service/;
    }
    location @after {
        proxy_pass https://service;
    }
    location /t {
        content_by_lua_block {
            local client = require "client"
            for _, path in ipairs { "/error", "/exec?to=/second", "/exec?to=/third", "/exec?first=spiffe&to=/second",
                                    "/exec?first=spiffe&to=/third", "/exec?to=/nowhere", "/forbidden" } do
                local out = client.curl({ "http://127.0.0.1:$TEST_NGINX_SERVER_PORT" .. path, "-w", "%{http_code}" }).out
                ngx.say(path, ": ", (out:gsub("<html>.*</html>%s*", ""):gsub(" reused=.*\n", " ")))
            end
        }
    }
--- request
GET /t
--- response_body
/error: client= 200
/exec?to=/second: client= 200
/exec?to=/third: client= 200
/exec?first=spiffe&to=/second: client= 200
/exec?first=spiffe&to=/third: client= 200
/exec?to=/nowhere: 503
/forbidden: client= 200
--- error_log
services: "forbidden": TLS certificate verification is enforced
--- no_error_log
[alert]



=== TEST 7: services share what they have in common, and a key is read with the password of its service
--- config
    location /t {
        content_by_lua_block {
            local P = os.getenv("TEST_NGINX_PKI") .. "/"
            local new = require("resty.kong.plugins.services").new
            local function of(password)
                return { certificate = P .. "client1.crt", key = P .. "client-encrypted.key", password = password }
            end
            -- In either order.
            ngx.say((new { services = { a = of "secret", b = of "secret" } }) ~= nil)
            ngx.say((select(2, new { services = { a = of "secret", b = of "wrong" } }):match('"b": key')))
            ngx.say((select(2, new { services = { a = of "wrong", b = of "secret" } }):match('"a": key')))

            local without = new { services = { one = { verify = false } }, defaults = { verify_names = {} } }
            ngx.say(without.settings.one.verify_names)

            local services = {}
            for n = 1, 5 do
                services["one" .. n] = {}
                services["two" .. n] = { ca = { file = P .. "other-ca.crt" } }
            end
            local made = assert(new {
                defaults = { ca = { file = P .. "ca.crt" } }, services = services })
            local stores, count = {}, 0
            for _, settings in pairs(made.settings) do
                if not stores[settings.store] then
                    stores[settings.store] = true
                    count = count + 1
                end
            end
            ngx.say(count)
        }
    }
--- request
GET /t
--- response_body
true
"b": key
"a": key
nil
2
--- no_error_log
[error]



=== TEST 8: after a redirect, a service has no retries and timeouts of another
--- http_config
    services {
        services = { first = { upstream = "two", verify = false }, second = { upstream = "two", verify = false } },
    }
    upstream two {
        server unix:$TEST_NGINX_HTML_DIR/nobody.sock max_fails=0;
        server unix:$TEST_NGINX_HTML_DIR/service.sock max_fails=0;
    }
--- config
    location /first {
        access_by_lua_block {
            services:access("first")
            kong.service.set_retries(0)
            kong.service.set_timeouts(1, 1, 1)
            ngx.exec("/second")
        }
    }
    location /second {
        access_by_lua_block { services:access("second") }
        log_by_lua_block { ngx.log(ngx.WARN, ngx.var.upstream_status) }
        proxy_pass https://$kong_upstream_target/;
    }
--- exchanges
GET /first x 4 => 200
--- error_log
502, 200



=== TEST 9: many services are checked when they are used, few when the table is made, unless "check" says otherwise
--- http_config
    init_worker_by_lua_block {
        local P = "$TEST_NGINX_PKI/"
        local function read(name)
            local file = assert(io.open(P .. name))
            local text = file:read("*a")
            file:close()
            return text
        end
        new = require("resty.kong.plugins.services").new
        bad = {
            garbled = { certificate = read("client1.crt"):sub(1, 200), key = read("client1.key") },
            other = { certificate = P .. "client1.crt", key = P .. "client2.key" },
            weak = { certificate = P .. "client-weak.crt", key = P .. "client-weak.key" },
            authority = { ca = { pem = "nothing" } },
            bundle = { verify_spiffe = { trust_domains = { a = { pem = "nothing" } }, ids = { "spiffe://a/b" } } },
        }
        function table_of(count, more)
            local all = { good = { certificate = P .. "client1.crt", key = P .. "client1.key", ca = { pem = read("ca.crt") } },
                          same = { certificate = P .. "client1.crt", key = P .. "client1.key", ca = { pem = read("ca.crt") } } }
            for name, fields in pairs(more or {}) do
                all[name] = fields
            end
            for n = 1, count do
                all["service" .. n] = { verify = false }
            end
            return all
        end
        services = assert(new { services = table_of(500, bad) })
        key_file = P .. "client1.key"
    }
--- config
    location /call {
        access_by_lua_block { services:access(ngx.var.arg_name) }
        proxy_ssl_name service.test;
        proxy_pass https://service/;
    }
    location /made {
        content_by_lua_block {
            for name, fields in pairs(bad) do
                local few, first = new { services = table_of(490, { [name] = fields }) }
                local many = assert(new { services = table_of(500, { [name] = fields }) })
                local all, second = new { services = table_of(500, { [name] = fields }), check = "all" }
                local one = assert(new { services = { [name] = fields }, check = "used" })
                assert(not few and not all and first == second, first)
                assert(first:find('service "' .. name .. '": ', 1, true), first)
            end
            -- What needs no parsing, and what can't be read, is always reported at once.
            local function spiffe(options)
                return { verify_spiffe = { trust_domains = { a = options, b = { pem = "nothing" } }, ids = { "spiffe://a/b" } } }
            end
            for _, fields in ipairs { { host = "a" }, { certificate = "none.crt", key = "none.key" }, { ca = { file = "none" } },
                                      spiffe(1), spiffe { file = "none" }, { options = { ciphers = "none" } } } do
                assert(not new { services = { wrong = fields }, check = "used" })
            end
            ngx.say(pcall(new, { services = {}, check = "none" }))
            ngx.say(pcall(new, { services = {}, check = ngx.null }))
            local good, same = services.settings.good, services.settings.same
            ngx.say(good.certificate ~= nil, " ", good.certificate == same.certificate, " ", good.store == same.store)
            ngx.say(services.settings.other.texts, " ", new({ services = table_of(1) }).known)
        }
    }
--- exchanges
for $name (good same)
    GET /call?name=$name x 2 => /client=CN=client-1,O=Test/
for $name (garbled other weak authority bundle)
    GET /call?name=$name x 2 => 503 /503/
GET /made =>
    falsecheck must be "all" or "used": given the string "none": services.new
    falsecheck must be "all" or "used": given ngx.null: services.new
    true true true
    nil nil
--- error_log
services: "garbled": certificate: line 1: "-----END CERTIFICATE-----" is missing for what begins here
services: "other": key: it does not belong to the certificate
services: "weak": certificate: 
services: "authority": ca: 
services: "bundle": verify_spiffe: the store of "a": 
--- no_error_log
[alert]



=== TEST 10: services with SPIFFE IDs, and options of TLS
--- http_config
    server {
        listen unix:$TEST_NGINX_HTML_DIR/svid.sock ssl;
        certificate service-uri;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_verify_client optional_no_ca;
        return 200 "$ssl_protocol $ssl_cipher $ssl_client_s_dn\n";
    }
    upstream svid {
        server unix:$TEST_NGINX_HTML_DIR/svid.sock;
    }
    services {
        services = {
            right = {},
            pem = { verify_spiffe = { trust_domains = { test = { pem = require("pki").read("ca") } }, ids = { "spiffe://test/ns/one" } } },
            wrong = { verify_spiffe = { trust_domains = { test = { file = P .. "ca.crt" } }, ids = { "spiffe://test/ns/two" } } },
            ["other store"] = { verify_spiffe = { trust_domains = { test = { file = P .. "other-ca.crt" } }, ids = { "spiffe://test/*" } } },
            names = { verify_names = { host = false, dns = { "service.test" } } },
            named = { verify_spiffe = false, ca = { file = P .. "ca.crt" }, uris = { "spiffe://test/ns/one" } },
            -- Takes the place of the default verify_spiffe.
            ca = { ca = { file = P .. "ca.crt" }, uris = { "spiffe://test/ns/one" } },
            unverified = { verify = false },
            old = { options = { max_version = "TLSv1.2", ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384" } },
            new = { options = { min_version = "TLSv1.3", ciphersuites = "TLS_CHACHA20_POLY1305_SHA256" } },
            ["location's"] = { options = false },
        },
        defaults = { upstream = "svid", certificate = P .. "client1.crt", key = P .. "client1.key",
                     verify_spiffe = { trust_domains = { test = { file = P .. "ca.crt" } }, ids = { "spiffe://test/*" } },
                     options = { min_version = "TLSv1.3", ciphersuites = "TLS_AES_128_GCM_SHA256" } },
    }
--- config
    location /call {
        access_by_lua_block { services:access(ngx.unescape_uri(ngx.var.arg_name)) }
        proxy_ssl_protocols TLSv1.2;
        proxy_ssl_name service.test;
        proxy_pass https://$kong_upstream_target/;
    }
--- exchanges
for $name (right pem unverified named ca)
    GET /call?name=$name => TLSv1.3 TLS_AES_128_GCM_SHA256 CN=client-1,O=Test
GET /call?name=old => TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 CN=client-1,O=Test
GET /call?name=new => TLSv1.3 TLS_CHACHA20_POLY1305_SHA256 CN=client-1,O=Test
GET /call?name=location's => /^TLSv1.2 \S+ CN=client-1,O=Test$/
for $name (wrong "other%20store" names)
    GET /call?name=$name => 502
--- no_error_log
[alert]
