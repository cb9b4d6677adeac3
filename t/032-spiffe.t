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
        svid-url svid-deep svid-authority svid-signer svid-expired svid-spire;
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
