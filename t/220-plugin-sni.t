# SPDX-License-Identifier: Apache-2.0

# resty.kong.plugins.sni: the server's certificates by the name in the SNI.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

repeat_each(1);

# "sni" is a server whose certificates the plugin selects, and "certificates" is the plugin's object. "presented"
# returns the subject of the certificate that a client with these options of s_client gets for a name.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{init_by_lua_block \{\n}{<<'_EOC_'}e;
lua_shared_dict certificates 1m;
    init_by_lua_block {
        certificates = assert(require("resty.kong.plugins.sni").new { dict = "certificates" })
        function pem(name)
            return pki.read(name) .. pki.read(name, ".key")
        end
        function presented(name, ...)
            local client = require "client"
            local options = { "openssl", "s_client", "-connect", "unix", "-unix",
                              os.getenv("TEST_NGINX_HTML_DIR") .. "/sni.sock", ... }
            table.remove(options, 3)
            table.remove(options, 3)
            options[#options + 1] = name and "-servername" or "-noservername"
            options[#options + 1] = name
            local result = client.run(options)
            local subject = result.out:match("\nsubject=([^\n]*)")
            -- OpenSSL before 3.2 prints spaces there.
            return subject and subject:gsub(" = ", "=") or result.err:match("alert %a+ ?%a*") or "nothing"
        end
_EOC_
    $config =~ s{^    sni;\n}{<<'_EOC_'}me;
    server {
        listen unix:$TEST_NGINX_HTML_DIR/sni.sock ssl;
        server_name static.test;
        ssl_certificate $TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key $TEST_NGINX_PKI/gateway.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate_by_lua_block {
            certificates:select()
        }
    }
_EOC_
    $block->set_value('http_config', $config);
});

run_tests();

__DATA__

=== TEST 1: certificates are selected by exact name, wildcard, default, and last from the configuration
--- http_config
    sni;
--- config
    location /t {
        content_by_lua_block {
            ngx.say("static: ", presented("a.test"))
            assert(certificates:set("a.test", pem("client1")))
            assert(certificates:set("*.Wild.test", pem("client2")))
            assert(certificates:set("b.wild.test", pem("service-other")))
            assert(certificates:set("*.b.wild.test", pem("service-deep")))
            for _, name in ipairs { "a.test", "A.TEST", "a.test.", "b.a.test", "a.wild.test", "A.Wild.Test", "b.wild.test",
                                    "a.c.wild.test", "x.y.b.wild.test", "wild.test", "none.test" } do
                ngx.say(name, ": ", presented(name))
            end
            ngx.say("no name: ", presented())
            assert(certificates:set("default", pem("service-deep")))
            ngx.say("no name: ", presented())
            ngx.say("none.test: ", presented("none.test"))
            ngx.say("a.test: ", presented("a.test"))
        }
    }
--- request
GET /t
--- response_body
static: O=Test, CN=gateway.test
a.test: O=Test, CN=client-1
A.TEST: O=Test, CN=client-1
a.test.: O=Test, CN=client-1
b.a.test: O=Test, CN=gateway.test
a.wild.test: O=Test, CN=client-2
A.Wild.Test: O=Test, CN=client-2
b.wild.test: O=Test, CN=service.test
a.c.wild.test: O=Test, CN=client-2
x.y.b.wild.test: O=Test, CN=service.test
wild.test: O=Test, CN=gateway.test
none.test: O=Test, CN=gateway.test
no name: O=Test, CN=gateway.test
no name: O=Test, CN=service.test
none.test: O=Test, CN=service.test
a.test: O=Test, CN=client-1
--- no_error_log
[error]
[alert]



=== TEST 2: a name may have keys of several types, and intermediates are sent
--- http_config
    sni;
--- config
    location /t {
        content_by_lua_block {
            assert(certificates:set("a.test", { pem("client1"), pem("client-rsa") }))
            ngx.say(presented("a.test", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"))
            ngx.say(presented("a.test", "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"))
            ngx.say(presented("a.test", "-tls1_3", "-sigalgs", "rsa_pss_rsae_sha256"))
            ngx.say(presented("a.test", "-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"))

            -- The certificate of the configuration would match, and is not used.
            assert(certificates:set("rsa.test", pem("client-rsa")))
            ngx.say(presented("rsa.test", "-tls1_3", "-sigalgs", "ecdsa_secp256r1_sha256"))

            assert(certificates:set("a.test", pem("client-deep")))
            local client = require "client"
            local shown = client.run({ "openssl", "s_client", "-showcerts", "-servername", "a.test", "-unix",
                                       "$TEST_NGINX_HTML_DIR/sni.sock" }).out
            ngx.say(select(2, shown:gsub("BEGIN CERTIFICATE", "")))
        }
    }
--- request
GET /t
--- response_body
O=Test, CN=client-1
O=Test, CN=client-rsa
O=Test, CN=client-rsa
O=Test, CN=client-1
alert handshake failure
3
--- no_error_log
[error]



=== TEST 3: a change applies from the next handshake on, each text is parsed once, and a wrong text changes nothing
--- http_config
    sni;
--- config
    location /t {
        content_by_lua_block {
            assert(certificates:set("a.test", pem("client1")))
            ngx.say(presented("a.test"))
            local first = certificates:find("a.test")
            ngx.say(first == certificates:find("A.test."))
            collectgarbage()
            collectgarbage()
            ngx.say(first == certificates:find("a.test"))
            -- Sets the text as another worker would.
            ngx.shared.certificates:set("a.test", pem("client2"))
            ngx.say(presented("a.test"), " ", first == certificates:find("a.test"))
            certificates:remove("A.TEST")
            ngx.say(presented("a.test"))
            -- A wrong text changes nothing.
            assert(certificates:set("a.test", pem("client1")))
            ngx.say((select(2, certificates:set("a.test", "nothing"))))
            ngx.say((select(2, certificates:set("a.test", pem("client1") .. "\0"))))
            ngx.say((select(2, certificates:set("A.test", { pem("client2"), pki.read("client2") }))))
            ngx.say((select(2, certificates:set("a.test", pki.read("client2") .. pki.read("client1", ".key")))))
            local _, err = certificates:set("a.test", pki.read("client1") .. pki.read("client-encrypted", ".key"))
            ngx.say((err:gsub("line %d+", "line n")))
            -- OpenSSL would present none of these.
            ngx.say((select(2, certificates:set("a.test", pem("client-weak")))))
            ngx.say((select(2, certificates:set("a.test", { pem("client-rsa"), pem("client1"), pem("client2") }))))
            -- A full dict changes nothing either: small pieces take all that is left of it.
            for size = 16, 8, -1 do
                local number = 0
                repeat
                    number = number + 1
                until not ngx.shared.certificates:safe_add(size .. "." .. number, ("x"):rep(2 ^ size))
            end
            ngx.say((select(2, certificates:set("a.test", { pem("client2"), pem("client-rsa") }))))
            ngx.say(presented("a.test"))
        }
    }
--- request
GET /t
--- response_body
O=Test, CN=client-1
true
true
O=Test, CN=client-2 false
O=Test, CN=gateway.test
a.test, 1: no certificate in PEM format found
a.test, 1: there is a NUL in it
a.test, 2: no key in PEM format found
a.test, 1: the key does not belong to the first certificate
a.test, 1: key (line n): it is encrypted, and there is no password for it
a.test, 1: SSL_use_certificate() failed (ee key too small)
a.test, 3: 2 has a key of the same type, EC
a.test: lua_shared_dict: no memory
O=Test, CN=client-1
--- no_error_log
[error]



=== TEST 4: an entry of the dict that is no certificate aborts the handshake
--- http_config
    sni;
--- config
    location /t {
        content_by_lua_block {
            ngx.shared.certificates:set("a.test", "nothing")
            ngx.say(presented("a.test"))
            ngx.say(presented("b.test"))
        }
    }
--- request
GET /t
--- response_body
alert internal error
O=Test, CN=gateway.test
--- error_log
a.test: no certificate in PEM format found



=== TEST 5: new, set, remove and find refuse wrong arguments
--- config
    location /t {
        content_by_lua_block {
            local new = require("resty.kong.plugins.sni").new
            ngx.say((select(2, new { dict = "none" })))
            for _, call in ipairs {
                function() new() end, function() new {} end, function() certificates:set() end,
                function() certificates:set("a b", "") end, function() certificates:set("*", "") end,
                function() certificates:set("a.*.test", "") end, function() certificates:set("a..test", "") end,
                function() certificates:set("", "") end, function() certificates:set("a\0", "") end,
                function() certificates:set("a.test") end, function() certificates:set("a.test", {}) end,
                function() certificates:set("a.test", { 1 }) end, function() certificates:remove(1) end,
                function() certificates:find(1) end,
                function() local r = certificates.set("a.test", "") end, function() local r = certificates.select() end,
                function() local r = certificates.remove("a.test") end, function() local r = certificates.find("a.test") end,
                function() local r = certificates.set_all {} end,
                function() local plugin = require "resty.kong.plugins.sni"; local r = plugin:new { dict = "certificates" } end,
                function() new { dict = "certificates", name = "a.test" } end,
                function() certificates:select() end,
            } do
                local ok, err = pcall(call)
                ngx.say(ok, " ", (tostring(err):gsub("^content_by_lua%(nginx.conf:%d+%):%d+: ", "here: "):gsub("%z", "\\0")))
            end
        }
    }
--- request
GET /t
--- response_body eval
my $name = 'here: name must be a host name, "*." and a host name, or "default": given ';
CORE::join '', "there is no lua_shared_dict \"none\"\n", map { "false $_\n" }
    map({"here: options.dict must be the name of a lua_shared_dict: given $_: sni.new"} 'nil', 'an empty table'),
    'here: name must be a string: given nil: sni:set',
    map({ qq{$name"$_": sni:set} } 'a b', '*', 'a.*.test', 'a..test', '', 'a\0'),
    map({"here: pem must be a string, or a list of strings: given $_: sni:set"} 'nil', 'an empty table',
        'a table that holds something else'),
    'here: name must be a string: given 1: sni:remove', 'here: name must be a string: given 1: sni:find',
    map({"here: $_ must be called with a colon, as a method: sni:$_(...)"} qw(set select remove find set_all)),
    'here: options.dict must be the name of a lua_shared_dict: called with ":" in place of ".": use sni.new(...)',
    'here: unknown option "name"; options are dict: sni.new',
    'here: function cannot be called in content phase (only in: certificate): sni:select '
        . '(call it in ssl_certificate_by_lua*)'
--- no_error_log
[error]



=== TEST 6: a certificate that was removed is forgotten, by other workers too
--- config
    location /t {
        content_by_lua_block {
            -- Each worker has such an object.
            local other = assert(require("resty.kong.plugins.sni").new { dict = "certificates" })
            local function kept(plugin)
                return plugin.parsed.count
            end
            local function add(from, to)
                for number = from, to do
                    local name = "n" .. number .. ".test"
                    assert(certificates:set(name, pem("client1")))
                    assert(certificates:find(name) and other:find(name))
                end
            end
            add(1, 100)
            ngx.say(kept(certificates), " ", kept(other))
            for number = 2, 100 do
                certificates:remove("n" .. number .. ".test")
            end
            ngx.say(kept(certificates), " ", kept(other))
            ngx.say(other:find("n2.test"))
            ngx.say(kept(certificates), " ", kept(other))
            ngx.shared.certificates:flush_all()
            certificates:remove("n1.test")
            ngx.say(kept(certificates), " ", other:find("other.test"), " ", kept(other))
            add(1, 2)
            certificates:remove("n1.test")
            ngx.say(kept(certificates), " ", other:find("other.test"), " ", kept(other))
            -- Empties the dict, and starts anew with as many removals as before.
            ngx.shared.certificates:flush_all()
            ngx.shared.certificates:flush_expired()
            assert(require("resty.kong.plugins.sni").new { dict = "certificates" })
            certificates:remove("n3.test")
            ngx.say(kept(certificates), " ", other:find("other.test"), " ", kept(other))
        }
    }
--- request
GET /t
--- response_body
100 100
1 100
nil
1 1
0 nil 0
1 nil 1
0 nil 0
--- no_error_log
[error]



=== TEST 7: set_all lets others run, parsed certificates are limited, and remove does not visit all names
--- http_config
    lua_shared_dict many 64m;
--- config
    location /t {
        content_by_lua_block {
            local new = require("resty.kong.plugins.sni").new
            local many, other = assert(new { dict = "many" }), assert(new { dict = "many" })
            local text = pem("client1")
            local all = {}
            for number = 1, 3000 do
                -- Makes each text different.
                all["n" .. number .. ".test"] = number .. "\n" .. text
            end
            local turns, is_over = 0, false
            local others = ngx.thread.spawn(function()
                while not is_over do
                    turns = turns + 1
                    ngx.sleep(0)
                end
            end)
            assert(many:set_all(all))
            is_over = true
            ngx.thread.wait(others)
            ngx.say(turns > 20 and "others went on" or turns)

            for number = 1, 3000 do
                assert(other:find("n" .. number .. ".test"))
            end
            local parsed = other.parsed
            ngx.say(parsed.bytes <= 8 * 1024 * 1024 and parsed.count <= 16384 and "bounded" or parsed.bytes)

            local before = parsed.count
            many:remove("n3000.test")
            ngx.say(tostring(other:find("n3000.test")), " ", before - parsed.count)
            -- More removals than are recorded: all names are forgotten, and found again.
            for number = 1, 600 do
                many:remove("n" .. number .. ".test")
            end
            ngx.say(tostring(other:find("n1.test")), " ", other:find("n601.test") and parsed.count)
            ngx.say((select(2, many:set_all { ["a.test"] = text, ["b.test"] = "nothing" })))
            ngx.say((select(2, pcall(many.set_all, many, "x"))))
        }
    }
--- request
GET /t
--- response_body
others went on
bounded
nil 1
nil 1
b.test, 1: no certificate in PEM format found
certificates must be a table, by names: given the string "x": sni:set_all
--- no_error_log
[error]



=== TEST 8: one entry more than a bounded cache has room for causes few misses
--- config
    location /t {
        content_by_lua_block {
            local bounded = require "resty.kong.plugins.bounded"
            for _, limits in ipairs { { 100, 1e9 }, { 1e9, 1000 } } do
                local cache = bounded.new("verdicts", limits[1], limits[2])
                local missed = 0
                for turn = 1, 20 do
                    for key = 1, 101 do
                        if not cache:get(key) then
                            missed = missed + (turn > 1 and 1 or 0)
                            cache:set(key, key, 10)
                        end
                        assert(cache.count <= 100 and cache.bytes == 10 * cache.count)
                    end
                end
                -- Of 1,919 lookups.
                ngx.say(missed < 200 and "few" or missed)
                cache:set("large", 1, 1e10)
                ngx.say(cache:get("large"), " ", cache.count > 90)
                cache:remove("none")
                for key = 1, 101 do
                    cache:remove(key)
                end
                ngx.say(cache.count, " ", cache.bytes, " ", next(cache.places), " ", next(cache.values))
            end
        }
    }
--- request
GET /t
--- response_body
few
nil true
0 0 nil nil
few
nil true
0 0 nil nil
--- no_error_log
[error]
