# SPDX-License-Identifier: Apache-2.0

# kong.service.set_tls_verify_spiffe: services that are known by their SPIFFE ID, each trust domain by its own store.

use lib 't/support';
use TestPresented;
use TestService;
use TestHarness 'no_plan';

repeat_each(1);

run_tests();

__DATA__

=== TEST 1: the trust domain decides which store counts, and the SPIFFE ID who the service is
--- http_config
    services service-uri service-two-uris service service-ip svid-other svid-forged svid-foreign svid-without-path
        svid-url svid-no-text svid-deep svid-authority svid-signer svid-expired svid-spire;
    init_worker_by_lua_block {
        local one, other, spire = pki.store("ca"), pki.store("other-ca"), pki.store("spire-ca")
        IDS = {
            one = { trust_domains = { test = one }, ids = { "spiffe://test/ns/one" } },
            all = {
                trust_domains = { test = one, ["other.test"] = other, ["spire.test"] = spire },
                ids = { "spiffe://test/*", "spiffe://other.test/*", "spiffe://spire.test/*" },
            },
            below = { trust_domains = { test = one }, ids = { "spiffe://test/x", "spiffe://test/ns/*" } },
            two = { trust_domains = { test = one }, ids = { "spiffe://test/ns/two" } },
            near = { trust_domains = { test = one }, ids = { "spiffe://test/ns/one/*", "spiffe://test/n/*" } },
            turned = { trust_domains = { test = other, ["other.test"] = one }, ids = { "spiffe://test/*", "spiffe://other.test/*" } },
            spire = { trust_domains = { ["spire.test"] = spire }, ids = { "spiffe://spire.test/ns/default/sa/web" } },
        }
    }
--- config
VERSIONS
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            if ngx.var.arg_off then
                assert(kong.service.set_tls_verify(false))
            end
            assert(kong.service.set_tls_verify_spiffe(IDS[ngx.var.arg_ids]))
        }
        # Neither the location's store nor its name counts.
        proxy_ssl_name wrong.test;
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/bundle.crt;
        add_header X-Verified $kong_upstream_ssl_verify always;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/;
    }
--- exchanges
for $version (1.2 1.3)
    for $to, $ids (
        service-uri  one
        service-uri  all
        service-uri  below
        svid-other   all
        svid-deep    one
        svid-spire   spire
        svid-spire   all
    )
        GET /$version/t?to=$to&ids=$ids => {X-Verified: SUCCESS} /client=CN=client-1,O=Test reused=[.]$/
        GET /$version/t?to=$to&ids=$ids => {X-Verified: SUCCESS} /client=CN=client-1,O=Test reused=r$/
    # Verification can't be turned off before either.
    GET /$version/t?to=service-uri&ids=one&off=1 => {X-Verified: SUCCESS}
    GET /$version/t?to=svid-forged&ids=one&off=1 => 502 {X-Verified: FAILED:unable to get local issuer certificate}
    for $to, $ids, $why (
        service-uri        two     "no accepted SPIFFE ID"
        service-uri        near    "no accepted SPIFFE ID"
        service-uri        turned  "unable to get local issuer certificate"
        svid-other         one     "no accepted SPIFFE ID"
        svid-other         turned  "unable to get local issuer certificate"
        svid-forged        all     "unable to get local issuer certificate"
        svid-foreign       all     "unable to get local issuer certificate"
        svid-without-path  all     "no accepted SPIFFE ID"
        svid-url           all     "no accepted SPIFFE ID"
        service-two-uris   all     "no accepted SPIFFE ID"
        svid-no-text       all     "no accepted SPIFFE ID"
        service-ip         all     "no accepted SPIFFE ID"
        svid-authority     all     "no accepted SPIFFE ID"
        svid-signer        all     "no accepted SPIFFE ID"
        svid-expired       all     "certificate has expired"
    )
        GET /$version/t?to=$to&ids=$ids => 502 {X-Verified: FAILED:$why}
--- error_log
upstream SSL certificate is no X.509-SVID: it carries 2 URIs, and not one while SSL handshaking to upstream
upstream SSL certificate is no X.509-SVID: it carries 0 URIs, and not one while SSL handshaking to upstream
upstream SSL certificate is no X.509-SVID: its URI "spiffe://test" is no SPIFFE ID with a path while SSL
upstream SSL certificate is no X.509-SVID: its URI "https://test/ns/one" is no SPIFFE ID with a path while SSL
upstream SSL certificate is no X.509-SVID of a service: it may sign others ("spiffe://test/ns/one") while SSL
upstream SSL certificate is of a trust domain that is not accepted: "spiffe://other.test/ns/one" while SSL
upstream SSL certificate has a SPIFFE ID that is not accepted: "spiffe://test/ns/one" while SSL
--- no_error_log
[crit]



=== TEST 2: names, depth and pins count besides
--- http_config
    services service service-uri service-deep svid-deep;
    init_worker_by_lua_block {
        IDS = { trust_domains = { test = pki.store("ca") }, ids = { "spiffe://test/*" } }
        PINS = { spki = { ngx.encode_base64(("x"):rep(32)) } }
    }
--- config
VERSIONS
    location /t {
        access_by_lua_block {
            local args, service = ngx.req.get_uri_args(), kong.service
            assert(service.set_tls_cert_key(cert.client1, key.client1))
            assert(service.set_tls_verify_spiffe(IDS))
            if args.dns then
                assert(service.set_tls_verify_names { host = args.host ~= nil, dns = { args.dns } })
            end
            if args.depth then
                assert(service.set_tls_verify_depth(tonumber(args.depth)))
            end
            if args.pins then
                assert(service.set_tls_pins(PINS))
            end
        }
        proxy_ssl_name service.test;
        add_header X-Verified $kong_upstream_ssl_verify always;
        location /t/off { proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/; }
        location /t/on {
            proxy_ssl_verify on;
            proxy_ssl_trusted_certificate $TEST_NGINX_PKI/other-ca.crt;
            proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/;
        }
        # Nothing is trusted here but by the request.
        location /t/enforced {
            kong_tls_certificate_verify on;
            set $scheme_of_service https;
            proxy_pass $scheme_of_service://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/;
        }
    }
--- exchanges
for $version (1.2 1.3)
    for $where (off on enforced)
        for $what (
            to=service
            to=service-uri
            to=svid-deep
            to=service&dns=service.test
            to=service&dns=other.test&host=1
            to=svid-deep&depth=1
            to=service-deep&depth=2
        )
            # "off" and "enforced" verify alike, and share sessions.
            GET /$version/t/$where?$what => {X-Verified: SUCCESS} /client=CN=client-1,O=Test/
            GET /$version/t/$where?$what => {X-Verified: SUCCESS} /client=CN=client-1,O=Test reused=r$/
        for $what, $why (
            to=service-uri&dns=service.test          "none of the required names"
            to=service&dns=other.test                "none of the required names"
            to=service-uri&dns=other.test&host=1     "none of the required names"
            to=svid-deep&depth=0                     "certificate chain too long"
            to=service-deep                          "certificate chain too long"
            to=service&pins=1                        "none of the pinned keys"
        )
            GET /$version/t/$where?$what => 502 {X-Verified: FAILED:$why}
--- error_log
upstream SSL certificate carries none of the accepted names: DNS name "other.test" while SSL handshaking to upstream
upstream SSL certificate verify error: (22:certificate chain too long) while SSL handshaking to upstream
--- no_error_log
[crit]



=== TEST 3: revocation lists of the trust domain's store count, and must be there where the location has some
--- http_config
    services service service-uri;
    init_worker_by_lua_block {
        local x509 = require "resty.kong.x509"
        local function store(list)
            return assert(x509.store { pem = pki.read("ca"), crl = list and pki.read(list, ".crl") })
        end
        local function ids_by(trusted)
            return { trust_domains = { test = trusted }, ids = { "spiffe://test/*" } }
        end
        IDS = { none = ids_by(store()), empty = ids_by(store("empty")), revoked = ids_by(store("revoked")),
                unchecked = ids_by(pki.revoke(pki.store("ca"), "revoked")) }
    }
--- config
VERSIONS
    location /t {
        access_by_lua_block { assert(kong.service.set_tls_verify_spiffe(IDS[ngx.var.arg_ids])) }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        add_header X-Verified $kong_upstream_ssl_verify always;
        location /t/with {
            proxy_ssl_crl $TEST_NGINX_PKI/empty.crl;
            proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/;
        }
        location /t/without {
            proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/;
        }
        # The lists of the location do not count.
        location /t/revoked {
            proxy_ssl_crl $TEST_NGINX_PKI/revoked.crl;
            proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/;
        }
    }
--- exchanges
for $version (1.2 1.3)
    for $where (with revoked)
        GET /$version/t/$where?to=service&ids=empty => {X-Verified: SUCCESS}
        GET /$version/t/$where?to=service-uri&ids=revoked => {X-Verified: SUCCESS}
        for $ids (revoked unchecked)
            GET /$version/t/$where?to=service&ids=$ids => 502 {X-Verified: FAILED:certificate revoked}
        GET /$version/t/$where?to=service&ids=none => 502 {X-Verified: FAILED:unable to get certificate CRL}
    for $ids (none empty unchecked)
        GET /$version/t/without?to=service&ids=$ids => {X-Verified: SUCCESS}
    GET /$version/t/without?to=service&ids=revoked => 502 {X-Verified: FAILED:certificate revoked}
--- no_error_log
[crit]



=== TEST 4: a kept connection serves requests with the same IDs, and no others
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        kong_tls_keepalive 16;
    }
    init_worker_by_lua_block {
        local ca, other_ca = pki.store("ca"), pki.store("other-ca")
        local function ids_by(store, ...)
            return { trust_domains = { test = store }, ids = { ... } }
        end
        IDS = { one = ids_by(ca, "spiffe://test/service"), again = ids_by(ca, "spiffe://test/service"),
                below = ids_by(ca, "spiffe://test/*"), more = ids_by(ca, "spiffe://test/service", "spiffe://test/a"),
                domains = ids_by(ca, "spiffe://test/service"), wrong = ids_by(ca, "spiffe://test/a"),
                other = ids_by(other_ca, "spiffe://test/service") }
        IDS.domains.trust_domains["other.test"] = other_ca
        OPTIONS = { one = { groups = "P-256" }, again = { groups = "P-256" }, other = { groups = "P-256:P-384" } }
    }
--- config
    keeps_connections;
    access_by_lua_block {
        local ids, options = IDS[ngx.var.arg_ids], OPTIONS[ngx.var.arg_options]
        if ids then
            assert(kong.service.set_tls_verify_spiffe(ids))
        end
        if options then
            assert(kong.service.set_tls_options(options))
        end
    }
    location /t { proxy_pass https://kept/seen; }
--- exchanges
GET /t => /requests=1$/
GET /t => /requests=2$/
GET /t?ids=one => /reused=[.] requests=1$/
GET /t?ids=one => /requests=2$/
GET /t?ids=again => /requests=3$/
for $ids (below more domains)
    GET /t?ids=$ids => /reused=[.] requests=1$/
    GET /t?ids=$ids => /requests=2$/
for $ids (wrong other)
    GET /t?ids=$ids x 2 => 502
GET /t?options=one => /reused=[.] requests=1$/
GET /t?options=again => /requests=2$/
GET /t?options=other => /reused=[.] requests=1$/
GET /t?options=one&ids=one => /reused=[.] requests=1$/
GET /t?options=one&ids=one => /requests=2$/
GET /t?options=one => /requests=3$/
GET /t?ids=one => /requests=4$/
GET /t => /requests=3$/
--- no_error_log
[crit]



=== TEST 5: IDs and options may be set in the balancer phase
--- http_config
    services service svid-forged;
    init_worker_by_lua_block {
        STORE = pki.store("ca")
    }
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            local function set(name, value)
                assert(kong.service[name](value))
            end
            set("set_tls_verify_spiffe", { trust_domains = { test = STORE }, ids = { "spiffe://test/" .. ngx.var.arg_id } })
            set("set_tls_options", { groups = "P-256", min_version = ngx.var.arg_min })
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/of-" .. ngx.var.arg_to .. ".sock"))
        }
    }
--- config
    location /t {
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client1, key.client1)) }
        proxy_ssl_protocols TLSv1.2;
        add_header X-Verified $kong_upstream_ssl_verify always;
        add_header X-Version $kong_upstream_ssl_protocol always;
        proxy_pass https://lua/;
    }
--- exchanges
for $version (TLSv1.2 TLSv1.3)
    GET /t?to=service&id=service&min=$version => {X-Verified: SUCCESS} {X-Version: TLSv1.3} /client=CN=client-1,O=Test reused=[.]$/
    GET /t?to=service&id=service&min=$version => {X-Verified: SUCCESS} {X-Version: TLSv1.3} /client=CN=client-1,O=Test reused=r$/
    GET /t?to=service&id=other&min=$version => 502 {X-Verified: FAILED:no accepted SPIFFE ID}
    GET /t?to=svid-forged&id=ns/one&min=$version => 502 {X-Verified: FAILED:unable to get local issuer certificate}
--- no_error_log
[crit]



=== TEST 6: IDs and options stay with a request that is redirected, and are not those of its subrequests
--- http_config
    services service;
    init_worker_by_lua_block {
        STORE = pki.store("ca")
    }
--- config
    access_by_lua_block {
        if ngx.req.is_internal() then
            return
        end
        assert(kong.service.set_tls_verify_spiffe { trust_domains = { test = STORE }, ids = { "spiffe://test/" .. ngx.var.arg_id } })
        assert(kong.service.set_tls_options { min_version = "TLSv1.3" })
    }
    proxy_ssl_protocols TLSv1.2;
    add_header X-Verified $kong_upstream_ssl_verify always;
    add_header X-Version $kong_upstream_ssl_protocol always;
    location /exec { content_by_lua_block { ngx.exec("/service", ngx.var.args) } }
    location /page {
        error_page 418 = @service;
        return 418;
    }
    location /named { content_by_lua_block { ngx.exec("@service") } }
    location /service { proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-service.sock:/; }
    location @service { proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-service.sock; }
    location /sub {
        content_by_lua_block {
            local answer = ngx.location.capture("/service")
            ngx.say(answer.status, " ", answer.body)
        }
    }
--- exchanges
for $from (exec named)
    GET /$from?id=service => {X-Verified: SUCCESS} {X-Version: TLSv1.3}
    GET /$from?id=other => 502 {X-Verified: FAILED:no accepted SPIFFE ID}
# Rewriting comes before the access phase.
GET /page?id=other => {X-Verified: NONE} {X-Version: TLSv1.2}
GET /sub?id=other => /^200 sni= client=/
--- no_error_log
[crit]



=== TEST 7: stores that foreign code takes out of the table, while it is read, stay until they are set
--- http_config
    services service-uri;
--- config
    location /t {
        access_by_lua_block {
            local x509 = require "resty.kong.x509"
            local function from_file(name)
                return assert(x509.store { file = "$TEST_NGINX_PKI/" .. name .. ".crt" })
            end
            local domains, others = {}, {}
            for i = 1, 40 do
                domains["d" .. i] = from_file("other-ca")
            end
            domains.test = from_file("ca")
            local trap = setmetatable({}, { __index = function()
                for name in pairs(domains) do
                    if name:find("^d") or name == "test" then
                        domains[name] = nil
                    end
                end
                collectgarbage()
                collectgarbage()
                for i = 1, 60 do
                    others[i] = from_file("other-ca")
                end
                return others[1].ctx
            end })
            for i = 1, 12 do
                domains["t" .. i] = trap
            end
            -- Whichever is left.
            assert(kong.service.set_tls_verify_spiffe { trust_domains = domains, ids = { "spiffe://t1/*" } })
        }
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-service-uri.sock:/;
    }
--- exchanges
for $time (1 2 3)
    GET /t => 502
--- error_log
upstream SSL certificate
--- no_error_log
[alert]
[crit]
