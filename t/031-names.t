# SPDX-License-Identifier: Apache-2.0

# kong.service.set_tls_verify_names, set_tls_pins and set_tls_server_name: who a service may be, and the name that is
# sent to it.

use lib 't/support';
use TestPresented;
use TestService;
use TestHarness 'no_plan';

repeat_each(1);
run_tests();

__DATA__

=== TEST 1: a service needs one of the names, of whatever kind
--- http_config
    services service service-uri service-two-uris service-ip service-email service-cn service-other;
    init_worker_by_lua_block {
        NAMES = {
            host = {}, other_host = { host = "a.wild.test" }, dot = { host = "service.test." },
            dns = { host = false, dns = { "x.test", "b.wild.test" } },
            uri = { host = false, uris = { "spiffe://x", "spiffe://test/ns/one" } },
            below = { host = false, uris = { "spiffe://test/ns/*" } }, all = { host = false, uris = { "spiffe://test/*" } },
            near = {
                host = false,
                uris = { "spiffe://test/n/*", "spiffe://tes/*", "spiffe://test/ns/one/*" },
            },
            ip = { host = false, ips = { "10.0.0.1", "127.0.0.1" } }, ipv6 = { host = false, ips = { "2001:DB8:0::1" } },
            ip_as_host = { host = "127.0.0.1" }, ipv6_as_host = { host = "[2001:db8::1]" },
            email = { host = false, emails = { "Admin@MAIL.test" } }, other_email = { host = false, emails = { "admin@mail.test" } },
            cn_as_dns = { host = false, dns = { "service.test" } },
            any = { dns = { "x.test" }, uris = { "spiffe://test/ns/one" }, ips = { "127.0.0.1" }, emails = { "Admin@mail.test" } },
            none = { host = false, dns = { "x.test" }, uris = { "urn:x" }, ips = { "10.0.0.1" }, emails = { "x@y.test" } },
        }
    }
--- config
VERSIONS
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(true))
            if ngx.var.arg_names then
                assert(kong.service.set_tls_verify_names(NAMES[ngx.var.arg_names]))
            end
        }
        proxy_ssl_name $arg_host;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        add_header X-Verified $kong_upstream_ssl_verify always;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/;
    }
--- exchanges
for $version (1.2 1.3)
    for $to, $names (
        service           host
        service           other_host
        service           dot
        service           dns
        service           any
        service           ip
        service           ip_as_host
        service-uri       uri
        service-uri       below
        service-uri       all
        service-uri       any
        service-two-uris  uri
        service-ip        ip
        service-ip        ipv6
        service-ip        ip_as_host
        service-ip        ipv6_as_host
        service-ip        any
        service-email     email
        service-email     any
        service-cn        host
        service-cn        any
    )
        GET /$version/t?host=service.test&to=$to&names=$names => {X-Verified: SUCCESS} /client=CN=client-1,O=Test reused=[.]$/
        GET /$version/t?host=service.test&to=$to&names=$names => {X-Verified: SUCCESS} /client=CN=client-1,O=Test reused=r$/
    for $to, $names (
        service           none
        service-uri       host
        service-uri       near
        service-uri       dns
        service-uri       ip
        service-uri       none
        service-ip        host
        service-ip        dns
        service-ip        other_host
        service-email     host
        service-email     other_email
        service-cn        cn_as_dns
        service-cn        other_host
        service-cn        none
    )
        GET /$version/t?host=service.test&to=$to&names=$names => 502 {X-Verified: FAILED:none of the required names}
    # As the name of the request, an address counts as well.
    GET /$version/t?host=127.0.0.1&to=service-ip => {X-Verified: SUCCESS}
    GET /$version/t?host=[2001:db8::1]&to=service-ip => {X-Verified: SUCCESS}
    GET /$version/t?host=127.0.0.2&to=service-ip => 502 {X-Verified: FAILED:hostname mismatch}
    GET /$version/t?host=wrong.test&to=service => 502 {X-Verified: FAILED:hostname mismatch}
    # A name is no substitute for a chain.
    GET /$version/t?host=service.test&to=service-other&names=host => 502 {X-Verified: FAILED:unable to get local issuer certificate}
--- error_log
upstream SSL certificate carries none of the accepted names: DNS name "x.test", URI "urn:x", e-mail address "x@y.test", IP address 10.0.0.1 while SSL handshaking to upstream
upstream SSL certificate carries none of the accepted names: host "service.test" while SSL handshaking to upstream
--- no_error_log
[crit]
[alert]



=== TEST 2: a service is shown no certificate before its names were checked, whether its chain is verified or not
--- http_config
    services service service-uri service-two-uris service-ip service-email service-cn service-other;
--- config
VERSIONS
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(ngx.var.arg_verify == "on"))
            assert(kong.service.set_tls_verify_names { uris = { "spiffe://test/ns/one" } })
        }
        proxy_ssl_name $arg_host;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/;
    }
--- exchanges
for $version (1.2 1.3)
    GET /$version/t?verify=off&host=service.test&to=service       => /client=CN=client-1,O=Test reused=[.]$/
    GET /$version/t?verify=off&host=service.test&to=service       => /client=CN=client-1,O=Test reused=r$/
    GET /$version/t?verify=off&host=service.test&to=service-other => /client=CN=client-1,O=Test reused=[.]$/
    GET /$version/t?verify=off&host=other.test&to=service         => 502
    GET /$version/t?verify=off&host=other.test&to=service-other   => 502
    GET /$version/t?verify=off&host=other.test&to=service-uri     => /client=CN=client-1,O=Test reused=[.]$/
    GET /$version/t?verify=off&host=other.test&to=service-uri     => /client=CN=client-1,O=Test reused=r$/
    # Sessions of other names are other sessions.
    GET /$version/t?verify=off&host=others.test&to=service-uri    => /client=CN=client-1,O=Test reused=[.]$/
    GET /$version/t?verify=on&host=others.test&to=service-uri     => /client=CN=client-1,O=Test reused=[.]$/
--- grep_error_log eval
qr/upstream SSL certificate .*? while SSL handshaking/
--- grep_error_log_out eval
my $wrong = qq{upstream SSL certificate carries none of the accepted names: host "other.test", URI "spiffe://test/ns/one" while SSL handshaking\n};
$wrong x 4
--- no_error_log
[crit]



=== TEST 3: what a CA may not issue certificates for does not count, of whatever kind
--- http_config
    services constrained-good constrained-dns constrained-email constrained-uri constrained-ip;
--- config
VERSIONS
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_depth(2))
            assert(kong.service.set_tls_verify_names {
                host = false, dns = { "good.test", "bad.test" }, emails = { "a@bad.test" }, ips = { "127.0.0.1" },
                uris = { "spiffe://bad.test/a" },
            })
        }
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        add_header X-Verified $kong_upstream_ssl_verify always;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/;
    }
--- exchanges
for $version (1.2 1.3)
    GET /$version/t?to=constrained-good => {X-Verified: SUCCESS}
    for $kind (dns email uri ip)
        GET /$version/t?to=constrained-$kind => 502 {X-Verified: FAILED:permitted subtree violation}
--- no_error_log
[crit]



=== TEST 4: the server name is sent whatever the location says, and is not what is verified
--- http_config
    services service;
--- config
VERSIONS
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_server_name(ngx.var.arg_name))
        }
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        location /t/on {
            proxy_ssl_server_name on;
            proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-service.sock:/;
        }
        location /t/off {
            proxy_ssl_server_name off;
            proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-service.sock:/;
        }
    }
    location /plain {
        proxy_ssl_name service.test;
        proxy_ssl_server_name on;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-service.sock:/;
    }
--- exchanges
for $version (1.2 1.3)
    for $server_name (on off)
        GET /$version/t/$server_name?name=a.test => sni=a.test client= reused=.
        GET /$version/t/$server_name?name=b.test. => sni=b.test client= reused=.
        GET /$version/t/$server_name?name= => sni= client= reused=.
        GET /$version/t/$server_name?name=a.test => sni=a.test client= reused=r
        GET /$version/t/$server_name?name= => sni= client= reused=r
    GET /$version/plain => /^sni=service.test /
--- no_error_log
[error]



=== TEST 5: the key of a service must be pinned, whether its chain is verified or not
--- http_config
    services service service-uri service-two-uris service-ip service-email service-cn service-other;
    init_worker_by_lua_block {
        local function pin(name)
            local path = os.getenv("TEST_NGINX_PKI") .. "/" .. name .. ".crt"
            local command = "openssl x509 -noout -pubkey -in " .. path .. " | openssl pkey -pubin -outform DER"
                            .. " | openssl dgst -sha256 -binary | base64"
            local pipe = io.popen(command)
            local digest = pipe:read("*l")
            pipe:close()
            return digest
        end
        local one, other = pin("service"), pin("service-other")
        PINS = { one = { spki = { one } }, both = { spki = { other, one } }, issuer = { spki = { pin("ca") } } }
    }
--- config
VERSIONS
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(ngx.var.arg_verify == "on"))
            assert(kong.service.set_tls_pins(PINS[ngx.var.arg_pins]))
        }
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        add_header X-Verified $kong_upstream_ssl_verify always;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-$arg_to.sock:/;
    }
--- exchanges
for $version (1.2 1.3)
    for $verify, $verified (on SUCCESS off NONE)
        for $pins (one both)
            GET /$version/t?verify=$verify&to=service&pins=$pins => {X-Verified: $verified} /client=CN=client-1,O=Test reused=[.]$/
            GET /$version/t?verify=$verify&to=service&pins=$pins => {X-Verified: $verified} /client=CN=client-1,O=Test reused=r$/
        GET /$version/t?verify=$verify&to=service&pins=issuer => 502 {X-Verified: FAILED:none of the pinned keys}
        GET /$version/t?verify=$verify&to=service-uri&pins=both => 502 {X-Verified: FAILED:none of the pinned keys}
    GET /$version/t?verify=off&to=service-other&pins=both => /client=CN=client-1,O=Test reused=[.]$/
    GET /$version/t?verify=on&to=service-other&pins=both => 502 {X-Verified: FAILED:unable to get local issuer certificate}
    GET /$version/t?verify=off&to=service-other&pins=one => 502 {X-Verified: FAILED:none of the pinned keys}
--- error_log
upstream SSL certificate has none of the pinned keys: its key is "
--- no_error_log
[crit]



=== TEST 6: an address of set_target is verified as one, without another setting
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        listen 127.0.0.2:$TEST_NGINX_RAND_PORT_1 ssl;
        ssl_certificate $TEST_NGINX_PKI/service-ip.crt;
        ssl_certificate_key $TEST_NGINX_PKI/service-ip.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        return 200 "sni=$ssl_server_name reused=$ssl_session_reused\n";
    }
--- config
VERSIONS
    location /t {
        access_by_lua_block { kong.service.set_target(ngx.var.arg_host, $TEST_NGINX_RAND_PORT_1) }
        proxy_ssl_verify on;
        proxy_ssl_server_name on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        add_header X-Verified $kong_upstream_ssl_verify always;
        location /t/default {
            proxy_pass https://$kong_upstream_target/;
        }
        # Then that is the name, and no address.
        location /t/named {
            proxy_ssl_name service.test;
            proxy_pass https://$kong_upstream_target/;
        }
    }
--- exchanges
for $version (1.2 1.3)
    GET /$version/t/default?host=127.0.0.1 => {X-Verified: SUCCESS} sni= reused=.
    GET /$version/t/default?host=127.0.0.1 => {X-Verified: SUCCESS} sni= reused=r
    GET /$version/t/default?host=127.0.0.2 => 502 {X-Verified: FAILED:hostname mismatch}
    GET /$version/t/named?host=127.0.0.1 => 502 {X-Verified: FAILED:hostname mismatch}
--- error_log
upstream SSL certificate does not match "127.0.0.2" while SSL handshaking to upstream
--- no_error_log
[crit]
