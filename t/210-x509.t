# SPDX-License-Identifier: Apache-2.0

# resty.kong.x509: chains, keys and stores from PEM, for all functions that take a cdata.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

# "x509" is the package. "said" returns the results of one of its functions in one line.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config;
    $config =~ s{init_by_lua_block \{\n}{<<'_EOC_'}e;
init_by_lua_block {
        x509 = require "resty.kong.x509"
        function said(ok, err)
            return ok and "ok" or tostring(ok) .. ": " .. tostring(err)
        end
_EOC_
    $block->set_value('http_config', $config);
});

run_tests();

__DATA__

=== TEST 1: a certificate object has the fields of its certificate
--- config
    location /t {
        content_by_lua_block {
            local chain = assert(x509.chain(pki.read("client-intermediate")))
            local leaf = chain[1]
            ngx.say(chain:count(), " ", chain[2].subject, " ", tostring(chain[3]))
            ngx.say(leaf.subject, "; ", leaf.issuer)
            ngx.say(leaf.serial:find("^%x+$") == 1, " ", #leaf:fingerprint(), " ", #leaf:fingerprint("sha1"))
            ngx.say(leaf.not_before <= ngx.time() and leaf.not_after > ngx.time())
            ngx.say(leaf:to_pem() == chain:certificate():to_pem(), " ", leaf:fingerprint("sha256"):find("^[0-9a-f]+$") == 1)
            ngx.say(x509.chain(chain:to_pem()):count())
            ngx.say(tostring(leaf.nothing), " ", leaf.subject == leaf.subject)
            ngx.say(said(leaf:fingerprint("md0")))

            local service = x509.chain(pki.read("service"))[1]
            ngx.say(table.concat(service.sans.dns, ","), " ", table.concat(service.sans.uri, ","), " ",
                    #service.sans.email, " ", table.concat(service.sans.ip, ","))
            collectgarbage()
            collectgarbage()
            ngx.say(leaf.subject)
        }
    }
--- request
GET /t
--- response_body
2 CN=Test Intermediate CA,O=Test nil
CN=client-intermediate,O=Test; CN=Test Intermediate CA,O=Test
true 64 40
true
true true
2
nil true
nil: there is no digest "md0"
service.test,*.wild.test spiffe://test/service 0 127.0.0.1
CN=client-intermediate,O=Test
--- no_error_log
[error]
[alert]



=== TEST 2: an error in a PEM text names its place
--- config
    location /t {
        content_by_lua_block {
            local one = pki.read("client1")
            local key = pki.read("client1", ".key")
            local encrypted = pki.read("client-encrypted", ".key")
            local _, lines = one:gsub("\n", "")
            ngx.say(said(x509.chain("")))
            ngx.say(said(x509.chain(key)))
            ngx.say(said(x509.chain(pki.path("client1"))))
            ngx.say(said(x509.key("client1.key")))
            ngx.say(said(x509.store { pem = "ca.pem" }))
            ngx.say(said(x509.store { pem = one, crl = "/a/b" }))
            local _, err = x509.chain(one .. "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
            ngx.say(err:gsub("line " .. lines + 1, "line n"):match("^.-%)"))
            ngx.say((select(2, x509.chain(one:sub(1, 200)))))
            ngx.say(said(x509.key(one)))
            ngx.say(said(x509.key(key)))
            ngx.say(said(x509.key(encrypted)))
            ngx.say((said(x509.key(encrypted, "wrong")):gsub("%(%) failed.*", "")))
            ngx.say(said(x509.key(encrypted, "secret")))
            ngx.say(said(x509.key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")):match("^nil: key 1 %(line 1%): "))
            ngx.say(said(x509.store {}))
            ngx.say(said(x509.store { pem = key }))
            ngx.say(said(x509.store { file = "/nowhere/ca.pem" }))
            ngx.say(said(x509.store { file = pki.path("client1", ".key") }):gsub('".*"', '"..."'))
            ngx.say(said(x509.store { dir = "/nowhere" }))
            ngx.say(said(x509.store { dir = "/nowhere:/" }))
            ngx.say(said(x509.store { dir = "/\xff" }))
            ngx.say(said(x509.store { pem = one, crl = one }))
        }
    }
--- request
GET /t
--- response_body
nil: no certificate in PEM format found
nil: no certificate in PEM format found
nil: no certificate in PEM format found: give the text of the file, not its name
nil: no key in PEM format found: give the text of the file, not its name
nil: pem: no certificate in PEM format found: give the text of the file, not its name
nil: crl: no revocation list in PEM format found: give the text of the file, not its name
certificate 2 (line n)
line 1: "-----END CERTIFICATE-----" is missing for what begins here
nil: no key in PEM format found
ok
nil: key (line 1): it is encrypted, and there is no password for it
nil: key (line 1): it is encrypted, and could not be read with this password: PEM_read_bio_PrivateKey
ok
nil: key 1 (line 1): 
nil: nothing to trust: one of pem, file, dir and system is needed
nil: pem: no certificate in PEM format found
nil: file "/nowhere/ca.pem": No such file or directory (os error 2)
nil: file "...": no certificate in PEM format found1
nil: dir "/nowhere": No such file or directory (os error 2)
nil: dir "/nowhere:/": No such file or directory (os error 2)
nil: dir "/�": No such file or directory (os error 2)
nil: crl: no revocation list in PEM format found
--- no_error_log
[error]



=== TEST 3: arguments of wrong types and unknown options throw at the caller's line
--- config
    location /t {
        content_by_lua_block {
            local store = x509.store { pem = pki.read("ca") }
            local chain = x509.chain(pki.read("client1"))
            for _, call in ipairs {
                function() x509.chain() end, function() x509.chain(1) end, function() x509.key({}) end,
                function() x509.key("", 1) end, function() x509.store() end,
                function() x509.store { pem = 1 } end, function() x509.store { system = "yes" } end,
                function() x509.store { path = "/" } end, function() store:verify() end,
                function() store:verify({}) end, function() store:verify(store) end,
                function() store:verify(chain, 1) end, function() store:verify(chain, { purpose = 1 }) end,
                function() store:verify(chain, { depth = "1" }) end, function() store:verify(chain, { depth = -1 }) end,
                function() store:verify(chain, { depth = 0 / 0 }) end, function() store:verify(chain, { when = 1 }) end,
                function() chain[1].fingerprint("sha1") end, function() chain.count(chain[1]) end,
                function() chain.count() end, function() store:verify(chain[1]) end,
                function() chain:certificate("1") end, function() chain[1]:fingerprint(1) end,
                function() store:verify(chain, { at = 0 / 0 }) end, function() store:verify(nil) end,
                function() x509.key(pki.read("client1", ".key")):belongs_to(pki.read("client1")) end,
                function() x509:chain("") end, function() x509:key("") end, function() x509:chain_from_der("") end,
                function() x509:store { pem = "" } end, function() x509:addresses { "10.0.0.0/8" } end,
            } do
                local ok, err = pcall(call)
                ngx.say(ok, " ", type(err), " ", (tostring(err):gsub("^content_by_lua%(nginx.conf:%d+%):%d+: ", "here: ")))
            end
        }
    }
--- request
GET /t
--- response_body eval
my $options = 'options are check_revocation, crl, crl_file, dir, file, leaf_only, on_expired, partial_chain, pem, refresh, system';
my $colon = 'called with ":" in place of ".": use resty.kong.x509';
CORE::join '', map { "false string here: $_\n" }
    'pem must be a string: given nil: resty.kong.x509.chain', 'pem must be a string: given 1: resty.kong.x509.chain',
    'pem must be a string: given an empty table: resty.kong.x509.key', 'password must be a string: given 1: resty.kong.x509.key',
    'options must be a table: given nil: resty.kong.x509.store', 'pem must be a string: given 1: resty.kong.x509.store',
    'system must be a boolean: given the string "yes": resty.kong.x509.store',
    qq{unknown option "path"; $options: resty.kong.x509.store},
    'chain must be a chain or a string: given nil (does it come from a call that failed?): store:verify',
    'chain must be a chain or a string: given an empty table: store:verify',
    q{chain must be a chain or a string: given a store of resty.kong.x509 (make one with resty.kong.x509's x509.chain): store:verify},
    'options must be a table: given 1: store:verify', 'purpose must be a string: given 1: store:verify',
    'depth must be a number: given the string "1": store:verify', 'depth must not be negative: given -1: store:verify',
    'depth must not be negative: given NaN: store:verify',
    'unknown option "when"; options are at, depth, purpose: store:verify',
    'fingerprint must be called with a colon, as a method: certificate:fingerprint(...)',
    ('count must be called with a colon, as a method: chain:count(...)') x 2,
    q{chain must be a chain or a string: given a certificate of resty.kong.x509 (pass the chain itself, or resty.kong.x509's x509.chain(certificate:to_pem())): store:verify},
    'index must be a number: given the string "1": chain:certificate', 'digest must be a string: given 1: certificate:fingerprint',
    'at must not be NaN: store:verify',
    'chain must be a chain or a string: given nil (does it come from a call that failed?): store:verify',
    q{chain must be a chain: given a string with PEM text (parse it with resty.kong.x509's x509.chain): key:belongs_to},
    "pem must be a string: $colon.chain(...)", "pem must be a string: $colon.key(...)",
    "der must be a string: $colon.chain_from_der(...)", "options must be a table: $colon.store(...)",
    "ranges must be a list: $colon.addresses(...)"
--- no_error_log
[error]



=== TEST 4: store:verify checks the issuer, purpose, time, depth and revocation of a chain
--- config
    location /t {
        content_by_lua_block {
            local ca = pki.read("ca")
            local store = x509.store { pem = ca }
            local function verify(name, options, with)
                ngx.say(name, ": ", said((with or store):verify(pki.read(name), options)))
            end
            verify("client1")
            verify("client1", { purpose = "clientAuth" })
            verify("client1", { purpose = "serverAuth" })
            verify("client1", { purpose = "client" })
            verify("service", { purpose = "serverAuth" })
            verify("client-other")
            verify("client-expired")
            verify("client-expired", { at = ngx.time() - 3 * 24 * 3600 })
            verify("client1", { at = ngx.time() + 100 * 365 * 24 * 3600 })
            verify("client-intermediate")
            verify("client-intermediate", { depth = 1 })
            verify("client-intermediate", { depth = 0 })
            verify("client-deep", { depth = 1 })
            verify("client-deep", { depth = 2 })
            local alone = x509.chain(pki.read("client-intermediate"))[1]:to_pem()
            ngx.say("alone: ", said(store:verify(alone)))

            local intermediate = pki.read("intermediate")
            verify("client-intermediate", nil, x509.store { pem = intermediate })
            verify("client-intermediate", nil, x509.store { pem = intermediate, partial_chain = true })
            verify("client1", nil, x509.store { file = pki.path("ca") })
            verify("client1", nil, x509.store { pem = ca, crl = pki.read("revoked", ".crl") })
            verify("client2", nil, x509.store { pem = ca, crl = pki.read("revoked", ".crl") })
            verify("client1", nil, x509.store { pem = ca, crl = pki.read("empty", ".crl") })
            verify("client1", nil, x509.store { system = true })
            -- Chains as objects.
            ngx.say(said(store:verify(x509.chain(pki.read("client1")))), " ", said(store:verify(cert.client1)))
            ngx.say(said(store:verify("nothing")))
        }
    }
--- request
GET /t
--- response_body_like eval
my @lines = map { quotemeta } split /\n/, <<'_EOC_';
client1: ok
client1: ok
client1: nil: WORDS purpose (certificate 1: CN=client-1,O=Test)
client1: nil: purpose must be "clientAuth", "serverAuth" or "any"
service: ok
client-other: nil: unable to get local issuer certificate (certificate 1: CN=client-other,O=Test)
client-expired: nil: certificate has expired (certificate 1: CN=client-expired,O=Test)
client-expired: WORDS
client1: nil: certificate has expired (certificate WORDS)
client-intermediate: ok
client-intermediate: ok
client-intermediate: nil: certificate chain too long (certificate WORDS)
client-deep: nil: certificate chain too long (certificate WORDS)
client-deep: ok
alone: nil: unable to get local issuer certificate (certificate 1: CN=client-intermediate,O=Test)
client-intermediate: nil: unable to get issuer certificate (certificate WORDS)
client-intermediate: ok
client1: ok
client1: nil: certificate revoked (certificate 1: CN=client-1,O=Test)
client2: ok
client1: ok
client1: nil: unable to get local issuer certificate (certificate 1: CN=client-1,O=Test)
ok ok
nil: no certificate in PEM format found
_EOC_
my $text = CORE::join("\n", @lines);
$text =~ s/WORDS/.*/g;
qr/\A$text\n\z/
--- no_error_log
[error]



=== TEST 5: dir: a CA file is trusted for its own purposes, and CRLs apply with check_revocation
--- config
    location /t {
        content_by_lua_block {
            local client = require "client"
            local folder = "$TEST_NGINX_SERVER_ROOT/trusted"
            local function run(...)
                local result = client.run { ... }
                assert(result.code == 0, result.err)
            end
            local function verify(options, purpose)
                options.dir = folder
                local store = assert(x509.store(options))
                ngx.say(said(store:verify(pki.read("client1"), { purpose = purpose })))
            end
            run("mkdir", folder)
            run("cp", pki.path("revoked", ".crl"), folder .. "/revoked.pem")
            for _, reject in ipairs { "serverAuth", "clientAuth" } do
                run("openssl", "x509", "-in", pki.path("ca"), "-out", folder .. "/ca.pem", "-addreject", reject)
                run("openssl", "rehash", folder)
                verify({}, "clientAuth")
            end
            verify({}, "any")
            run("cp", pki.path("ca"), folder .. "/ca.pem")
            verify({}, "clientAuth")
            verify({ check_revocation = true }, "clientAuth")
            verify({ crl = pki.read("empty", ".crl") }, "clientAuth")
            ngx.say(said(assert(x509.store { pem = pki.read("ca"), check_revocation = true }):verify(pki.read("client1"))))
            -- A relative name is resolved when the store is created, not when it is used.
            local ffi = require "ffi"
            pcall(ffi.cdef, "int chdir(const char *path);")
            assert(ffi.C.chdir("$TEST_NGINX_SERVER_ROOT") == 0)
            local store = assert(x509.store { dir = "trusted" })
            assert(ffi.C.chdir("/") == 0)
            ngx.say(said(store:verify(pki.read("client1"))))
        }
    }
--- request
GET /t
--- response_body
ok
nil: certificate rejected (certificate 2: CN=Test Root CA,O=Test)
ok
ok
nil: certificate revoked (certificate 1: CN=client-1,O=Test)
ok
nil: unable to get certificate CRL (certificate 1: CN=client-1,O=Test)
ok
--- no_error_log
[error]



=== TEST 6: refresh: a store is another when its file has changed, and a pointer to it stays what it was
--- config
    proxy_ssl_name service.test;
    location /t {
        content_by_lua_block {
            local name = "$TEST_NGINX_SERVER_ROOT/list.crl"
            local function put(list)
                local file = assert(io.open(name .. ".new", "w"))
                file:write(list)
                file:close()
                assert(os.rename(name .. ".new", name))
            end
            local lists = { [true] = pki.read("empty", ".crl"), [false] = pki.read("revoked", ".crl") }
            -- Of the two lists, that one is the older.
            put(lists[false])
            local store = assert(x509.store { pem = pki.read("ca"), crl_file = name, refresh = 1 })
            local chain = assert(x509.chain(pki.read("client1")))
            local pointers = {}
            for round = 1, 2 do
                local is_good = round == 2
                put(lists[is_good])
                while (store:verify(chain) or false) ~= is_good do
                    ngx.sleep(0.05)
                end
                ngx.say(said(store:verify(chain)))
                pointers[round] = store.ctx
                collectgarbage()
            end
            ngx.say(pointers[1] ~= pointers[2], " ", pointers[2] == store.ctx)
            -- The first is of a store that the object is not any more.
            local ffi = require "ffi"
            pcall(ffi.cdef, "typedef struct x509_store_st X509_STORE; int X509_STORE_up_ref(X509_STORE *); "
                .. "void X509_STORE_free(X509_STORE *);")
            store = nil
            collectgarbage()
            for round = 1, 2 do
                assert(ffi.C.X509_STORE_up_ref(pointers[round]) == 1)
                ffi.C.X509_STORE_free(pointers[round])
            end
            ngx.say("done")
        }
    }
--- request
GET /t
--- response_body
nil: certificate revoked (certificate 1: CN=client-1,O=Test)
ok
true true
done
--- no_error_log
[error]



=== TEST 7: objects are accepted wherever a cdata is, and equal contents have one identity
--- http_config
    gateway {
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(x509.chain(pki.read("ca"))))
        }
    }
--- config
    proxy_ssl_name service.test;
    location /t {
        access_by_lua_block {
            -- New objects for each request: only their contents count.
            local chain = assert(x509.chain(pki.read("client1")))
            local key = assert(x509.key(pki.read("client1", ".key")))
            assert(kong.service.set_tls_cert_key(chain, key))
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_store(x509.store { pem = pki.read(ngx.var.arg_ca) }))
            chain, key = nil, nil
            collectgarbage()
        }
        proxy_pass https://service;
    }
    location /wrong {
        access_by_lua_block {
            local chain, key = x509.chain(pki.read("client1")), x509.key(pki.read("client1", ".key"))
            for _, pair in ipairs { { key, key }, { chain, chain }, { chain[1], key }, { { ctx = chain.ctx }, key } } do
                ngx.say(select(2, pcall(kong.service.set_tls_cert_key, pair[1], pair[2])))
            end
            ngx.exit(200)
        }
    }
    location /client {
        content_by_lua_block {
            local client = require "client"
            local pki = os.getenv("TEST_NGINX_PKI")
            ngx.print(client.curl({ "-k", "--unix-socket", "$TEST_NGINX_HTML_DIR/gateway.sock",
                                    "--cert", pki .. "/client1.crt", "--key", pki .. "/client1.key",
                                    "https://gateway.test/" }).out)
        }
    }
--- exchanges
GET /t?ca=ca       => /^client=CN=client-1,O=Test reused=\./
GET /t?ca=ca       => /^client=CN=client-1,O=Test reused=r/
GET /t?ca=other-ca => 502 /502 Bad/
GET /wrong =>
    chain must be a parsed cdata object: given a key of resty.kong.x509 (make one with resty.kong.x509's x509.chain): kong.service.set_tls_cert_key
    key must be a parsed cdata object: given a chain of resty.kong.x509 (make one with resty.kong.x509's x509.key): kong.service.set_tls_cert_key
    chain must be a parsed cdata object: given a certificate of resty.kong.x509 (pass the chain itself, or resty.kong.x509's x509.chain(certificate:to_pem())): kong.service.set_tls_cert_key
    chain must be a parsed cdata object: given a table with .ctx of type "struct stack_st_X509 *" (pass its .ctx): kong.service.set_tls_cert_key
GET /client => SUCCESS, 1 certificates
--- no_error_log
[alert]



=== TEST 8: chain_from_der takes exactly one certificate
--- config
    location /t {
        content_by_lua_block {
            local der = ngx.decode_base64((pki.read("client1"):match("BEGIN CERTIFICATE%-%-%-%-%-\n(.-)\n%-%-%-%-%-END"):gsub("\n", "")))
            ngx.say(said(x509.chain_from_der(der)))
            ngx.say(said(x509.chain_from_der(der .. "\0")))
            ngx.say(said(x509.chain_from_der(der .. der)))
            ngx.say((said(x509.chain_from_der(der:sub(1, -2))):gsub(" %(.*", "")))
        }
    }
--- request
GET /t
--- response_body
ok
nil: it is not one certificate in DER, and nothing else
nil: it is not one certificate in DER, and nothing else
nil: d2i_X509() failed
--- no_error_log
[error]



=== TEST 9: objects can't be changed, and can't be forged
--- config
    location /t {
        content_by_lua_block {
            local chain = assert(x509.chain(pki.read("client1")))
            local key = assert(x509.key(pki.read("client1", ".key")))
            local store = assert(x509.store { pem = pki.read("ca") })
            local addresses = assert(x509.addresses { "10.0.0.0/8" })
            local objects = { chain = chain, key = key, store = store, addresses = addresses, certificate = chain[1] }
            local calls = {
                chain = function(self) return chain.count(self) end,
                key = function(self) return key.belongs_to(self, chain) end,
                store = function(self) return store.verify(self, chain) end,
                addresses = function(self) return addresses.contain(self, "10.0.0.1") end,
                certificate = function(self) return chain[1].fingerprint(self) end,
            }
            local function try(f, ...)
                local ok, err = pcall(f, ...)
                return ok and "ok" or (tostring(err):gsub("^.-:%d+: ", ""))
            end
            for _, name in ipairs { "chain", "key", "store", "addresses", "certificate" } do
                local object, call = objects[name], calls[name]
                local seen = { try(function() object.ctx = nil end), try(call, object) }
                for _, set in ipairs { rawset, setmetatable, debug.setfenv } do
                    pcall(set, object, { ctx = objects.chain.ctx })
                    pcall(set, object, "ctx", objects.chain.ctx)
                end
                table.insert(seen, try(call, object))
                -- Objects of other classes.
                for other in pairs(objects) do
                    if other ~= name then
                        table.insert(seen, (try(call, objects[other]):match("must be called with a colon")))
                    end
                end
                local forged = setmetatable({ ctx = object.ctx }, debug.getmetatable(object))
                table.insert(seen, (try(call, forged):match("must be called with a colon")))
                ngx.say(name, ": ", table.concat(seen, ", "))
            end
            local forged = setmetatable({}, debug.getmetatable(chain[1]))
            ngx.say(tostring(forged.subject), " ", tostring(forged.ctx), " ", tostring(forged.sans))
        }
    }
    location /forged {
        access_by_lua_block {
            local store = assert(x509.store { pem = pki.read("ca") })
            local addresses = assert(x509.addresses { "10.0.0.0/8" })
            local chain = assert(x509.chain(pki.read("client1")))
            for _, call in ipairs {
                function() return kong.service.set_tls_verify_store(setmetatable({}, debug.getmetatable(store))) end,
                function() return kong.service.set_tls_verify_store(addresses) end,
                function() return kong.service.set_tls_cert_key(addresses, addresses) end,
                function() return kong.service.set_tls_cert_key(chain, chain) end,
                function() return kong.service.set_tls_cert_key(chain[1], chain) end,
            } do
                ngx.say((tostring(select(2, pcall(call))):gsub("^.-:%d+: ", "")))
            end
        }
    }
--- request eval
["GET /t", "GET /forged"]
--- response_body eval
my $wrong = CORE::join ', ', ('must be called with a colon') x 5;
[CORE::join('', map { my $package = $_ eq 'addresses' ? 'resty.kong.addresses' : 'resty.kong.x509';
    "$_: an object of $package can't be changed: ctx, ok, ok, $wrong\n" } qw(chain key store addresses certificate)) . "nil nil nil\n",
 <<'_EOC_']
store expects a resty.openssl.x509.store object but found table: given an empty table: kong.service.set_tls_verify_store
argument must be a resty.openssl.x509.store object: given addresses of resty.kong.x509 (make one with resty.kong.x509's x509.store { pem = ... }): kong.service.set_tls_verify_store
chain must be a parsed cdata object: given addresses of resty.kong.x509 (make one with resty.kong.x509's x509.chain): kong.service.set_tls_cert_key
key must be a parsed cdata object: given a chain of resty.kong.x509 (make one with resty.kong.x509's x509.key): kong.service.set_tls_cert_key
chain must be a parsed cdata object: given a certificate of resty.kong.x509 (pass the chain itself, or resty.kong.x509's x509.chain(certificate:to_pem())): kong.service.set_tls_cert_key
_EOC_
--- no_error_log
[error]
[alert]



=== TEST 10: a field of an argument may yield when it is read
--- config
    # A table that sleeps when its store is read.
    location /t {
        access_by_lua_block {
            local store = assert(x509.store { pem = pki.read("ca") })
            local lazy = setmetatable({}, { __index = function(_, name)
                if name == "ctx" then
                    ngx.sleep(0.001)
                    return store.ctx
                end
            end })
            assert(kong.service.set_tls_verify_store(lazy))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name service.test;
        proxy_pass https://service;
    }
--- exchanges
GET /t x 20 => 200
--- no_error_log
[error]



=== TEST 11: an object lives as long as its pointer, and is collected after that
--- config
    location /t {
        access_by_lua_block {
            local function left(objects)
                -- Overwrites what other functions have left on the stack.
                assert(select("#", unpack({}, 1, 100)) == 100)
                for _ = 1, 4 do
                    collectgarbage()
                end
                local count = 0
                for _ in pairs(objects) do
                    count = count + 1
                end
                return count
            end
            local objects = setmetatable({}, { __mode = "k" })
            local function pointers()
                local of, to = assert(x509.chain(pki.read("client1"))), assert(x509.key(pki.read("client1", ".key")))
                objects[of], objects[to] = true, true
                assert(of.ctx == of.ctx)
                for _ = 1, 100 do
                    objects[assert(x509.store { pem = pki.read("ca") })] = true
                    objects[assert(x509.addresses { "10.0.0.0/8" })] = true
                    objects[of[1]] = true
                end
                return of.ctx, to.ctx
            end
            local function use()
                local chain, key = pointers()
                local count = left(objects)
                assert(kong.service.set_tls_cert_key(chain, key))
                return count
            end
            ngx.log(ngx.WARN, "left: ", use(), " ", left(objects))
        }
        proxy_ssl_protocols TLSv1.2;
        proxy_pass https://service;
    }
--- exchanges
GET /t => client=CN=client-1,O=Test reused=. TLSv1.2
--- error_log
left: 2 0
--- no_error_log
[error]
[alert]



=== TEST 12: packages that are loaded in a request work after its coroutine is collected
--- config
    location /load {
        content_by_lua_block {
            for _, name in ipairs { "resty.kong.x509", "resty.kong.addresses", "resty.kong.tls.objects" } do
                package.loaded[name] = nil
            end
            local before = { x509.chain(pki.read("client1")), x509.addresses { "10.0.0.0/8" } }
            anew, older = require "resty.kong.x509", before
            ngx.say(anew ~= x509)
        }
    }
    location /use {
        content_by_lua_block {
            collectgarbage()
            collectgarbage()
            local chain = assert(anew.chain(pki.read("client1")))
            ngx.say(chain:count(), " ", chain[1].subject, " ", anew.addresses { "10.0.0.0/8" }:contain("10.1.2.3"))
            ngx.say(older[1]:count(), " ", older[1][1].subject, " ", older[2]:contain("10.1.2.3"))
            -- The older package creates what the newer one takes, and the reverse.
            local key = anew.key(pki.read("client1", ".key"))
            ngx.say(key:belongs_to(x509.chain(pki.read("client1"))), " ", x509.key(pki.read("client1", ".key")):belongs_to(chain))
        }
    }
--- request eval
["GET /load", "GET /use"]
--- response_body eval
["true\n", "1 CN=client-1,O=Test true\n1 CN=client-1,O=Test true\ntrue true\n"]
--- no_error_log
[error]
[emerg]



=== TEST 13: resty.kong.addresses.new checks its arguments, and is also x509.addresses
--- config
    location /t {
        content_by_lua_block {
            local addresses = require "resty.kong.addresses"
            local list = assert(addresses.new { "10.0.0.0/8", "unix:" })
            ngx.say(list:contain("10.1.2.3"), " ", list:contain("unix:"), " ", list:contain("11.0.0.1"), " ",
                    x509.addresses == addresses.new, " ", tostring(list.ctx))
            ngx.say(said(addresses.new { "10.0.0.0/33" }))
            for _, call in ipairs {
                function() local r = addresses.new("10.0.0.0/8") return r end,
                function() local r = addresses.new { {} } return r end,
                function() local r = addresses.new { allow = "10.0.0.0/8" } return r end,
                function() local r = addresses:new { "10.0.0.0/8" } return r end,
                function() return addresses.new(setmetatable({}, { __index = function() return "::/0" end })):contain("::1") end,
                function() local r = list:contain(5) return r end,
                function() local r = list.contain("10.1.2.3") return r end,
            } do
                local ok, err = pcall(call)
                ngx.say(ok, " ", (tostring(err):gsub("^content_by_lua%(nginx.conf:%d+%):%d+: ", "here: ")))
            end
        }
    }
--- request
GET /t
--- response_body
true true false true nil
nil: "10.0.0.0/33" is no address, and no network
false here: ranges must be a table: given the string "10.0.0.0/8": resty.kong.addresses.new
false here: each of ranges must be a string: given an empty table: resty.kong.addresses.new
false here: ranges must be a list: given a table: resty.kong.addresses.new
false here: ranges must be a list: called with ":" in place of ".": use resty.kong.addresses.new(...)
true false
false here: address must be a string: given 5: addresses:contain
false here: contain must be called with a colon, as a method: addresses:contain(...)
--- no_error_log
[error]
