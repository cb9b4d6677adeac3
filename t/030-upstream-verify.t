# SPDX-License-Identifier: Apache-2.0

# kong.service.set_tls_verify, set_tls_verify_depth and set_tls_verify_store override the settings of the location.

use lib 't/support';
use TestService;
use TestHarness 'no_plan';

repeat_each(2);

# Repeats the locations for each version of TLS, with and without session reuse.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->config;
    return unless $config =~ m{\$version};
    my ($all, @requests, @expected) = ('');
    my @names = $config =~ m{location /(\w+)}g;
    for my $version (qw(TLSv1.2 TLSv1.3)) {
        for my $reuse (qw(on off)) {
            (my $copy = $config) =~ s{location /}{location /$version/$reuse/}g;
            $copy =~ s{\$version}{$version}g;
            $copy =~ s{\$reuse}{$reuse}g;
            $all .= "location /$version/$reuse/ {\n$copy}\n";
            # The name of a location says which status to expect.
            for my $name (@names) {
                push @requests, "GET /$version/$reuse/$name";
                push @expected, $name =~ /^refused/ ? 502 : 200;
            }
        }
    }
    $block->set_value('config', $all);
    $block->set_value('request', \@requests);
    $block->set_value('error_code', \@expected);
});

run_tests();

__DATA__

=== TEST 1: set_tls_verify(true) overrides proxy_ssl_verify off: untrusted chain
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_session_reuse $reuse;
    location /accepted {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://service;
    }
    location /refused_issuer {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://other;
    }
    location /refused_no_store {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_name service.test;
        proxy_pass https://service;
    }
    location /accepted_without {
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_pass https://other;
    }
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream
--- no_error_log
[crit]



=== TEST 2: set_tls_verify(true) overrides proxy_ssl_verify off: name mismatch
--- http_config
    upstream service.test {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
    }
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_session_reuse $reuse;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    location /refused_name_of_the_block {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass https://service;
    }
    location /refused_configured {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_name wrong.test;
        proxy_pass https://service;
    }
    location /accepted_configured_with_port {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_name service.test:443;
        proxy_pass https://service;
    }
    location /accepted_variable {
        set $name a.wild.test;
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_name $name;
        proxy_pass https://service;
    }
    location /refused_empty {
        set $name "";
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_name $name;
        proxy_pass https://service;
    }
    location /accepted_name_of_the_block {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass https://service.test;
    }
    location /accepted_with_sni {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_server_name on;
        proxy_ssl_name service.test;
        proxy_pass https://service;
    }
--- error_log
upstream SSL certificate does not match "service" while SSL handshaking to upstream
upstream SSL certificate does not match "wrong.test" while SSL handshaking to upstream
upstream SSL certificate does not match "" while SSL handshaking to upstream
--- no_error_log
[crit]



=== TEST 3: set_tls_verify(false) overrides proxy_ssl_verify on
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_session_reuse $reuse;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    proxy_ssl_verify on;
    location /accepted {
        access_by_lua_block { assert(kong.service.set_tls_verify(false)) }
        proxy_pass https://other;
    }
    location /refused_without {
        proxy_pass https://other;
    }
    location /accepted_name {
        access_by_lua_block { assert(kong.service.set_tls_verify(false)) }
        proxy_ssl_name wrong.test;
        proxy_pass https://service;
    }
    location /accepted_later_call {
        rewrite_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        access_by_lua_block { assert(kong.service.set_tls_verify(false)) }
        proxy_pass https://other;
    }
    location /refused_later_call {
        rewrite_by_lua_block { assert(kong.service.set_tls_verify(false)) }
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass https://other;
    }
    location /accepted_on_again {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass https://service;
    }
--- error_log
upstream SSL certificate verify error: (21:unable to verify the first certificate) while SSL handshaking to upstream
--- no_error_log
[crit]



=== TEST 4: set_tls_verify_store replaces proxy_ssl_trusted_certificate
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_session_reuse $reuse;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    location /accepted {
        access_by_lua_block {
            assert(kong.service.set_tls_verify_store(pki.store("other-ca")))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://other;
    }
    location /refused_in_place_of_the_locations {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_store(pki.store("other-ca")))
        }
        proxy_pass https://service;
    }
    location /accepted_rewrite {
        rewrite_by_lua_block {
            assert(kong.service.set_tls_verify_store(pki.store("other-ca")))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://other;
    }
    location /accepted_two {
        access_by_lua_block {
            assert(kong.service.set_tls_verify_store(pki.store("other-ca", "ca")))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_pass https://service;
    }
    location /refused_over_on {
        access_by_lua_block {
            assert(kong.service.set_tls_verify_store(pki.store("other-ca")))
        }
        proxy_ssl_verify on;
        proxy_pass https://service;
    }
    location /accepted_not_verified {
        access_by_lua_block {
            assert(kong.service.set_tls_verify_store(pki.store("other-ca")))
        }
        proxy_pass https://service;
    }
    location /refused_low_level {
        access_by_lua_block {
            local tls = require "resty.kong.tls"
            assert(tls.set_upstream_ssl_trusted_store(pki.store("other-ca")))
            assert(tls.set_upstream_ssl_verify(true))
        }
        proxy_pass https://service;
    }
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream
--- no_error_log
[crit]



=== TEST 5: set_tls_verify_depth overrides proxy_ssl_verify_depth and the depth of the store
--- http_config
    init_worker_by_lua_block {
        local ffi = require "ffi"
        pcall(ffi.cdef, "typedef struct x509_store_st X509_STORE;")
        ffi.cdef "int X509_STORE_set_depth(X509_STORE *store, int depth);"
        function with_depth(depth)
            local store = assert(require("resty.kong.x509").store { file = "$TEST_NGINX_PKI/ca.crt" })
            ffi.C.X509_STORE_set_depth(store.ctx, depth)
            return store
        end
    }
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_session_reuse $reuse;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    proxy_ssl_verify on;
    location /refused_by_default {
        proxy_pass https://deep;
    }
    location /accepted {
        access_by_lua_block { assert(kong.service.set_tls_verify_depth(2)) }
        proxy_pass https://deep;
    }
    location /refused {
        access_by_lua_block { assert(kong.service.set_tls_verify_depth(1)) }
        proxy_ssl_verify_depth 5;
        proxy_pass https://deep;
    }
    location /refused_low_level {
        access_by_lua_block { assert(tls.set_upstream_ssl_verify_depth(0)) }
        proxy_ssl_verify_depth 5;
        proxy_pass https://deep;
    }
    location /refused_by_default_over_off {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_verify off;
        proxy_pass https://deep;
    }
    location /accepted_configured_over_off {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_verify off;
        proxy_ssl_verify_depth 2;
        proxy_pass https://deep;
    }
    location /accepted_over_off {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_depth(2))
        }
        proxy_ssl_verify off;
        proxy_pass https://deep;
    }
    location /accepted_rewrite {
        rewrite_by_lua_block { assert(kong.service.set_tls_verify_depth(2)) }
        proxy_pass https://deep;
    }
    location /accepted_zero {
        access_by_lua_block { assert(kong.service.set_tls_verify_depth(0)) }
        proxy_pass https://service;
    }
    # Stores that have a depth of their own.
    location /accepted_of_store {
        access_by_lua_block { assert(kong.service.set_tls_verify_store(with_depth(2))) }
        proxy_pass https://deep;
    }
    location /accepted_of_store_over_off {
        access_by_lua_block {
            assert(kong.service.set_tls_verify_store(with_depth(2)))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_verify off;
        proxy_pass https://deep;
    }
    location /refused_store_has_less {
        access_by_lua_block { assert(kong.service.set_tls_verify_store(with_depth(1))) }
        proxy_pass https://deep;
    }
    location /refused_over_store {
        access_by_lua_block {
            assert(kong.service.set_tls_verify_store(with_depth(5)))
            assert(kong.service.set_tls_verify_depth(1))
        }
        proxy_pass https://deep;
    }
    location /accepted_location_over_store {
        access_by_lua_block { assert(kong.service.set_tls_verify_store(with_depth(0))) }
        proxy_ssl_verify_depth 2;
        proxy_pass https://deep;
    }
    location /accepted_hundred {
        access_by_lua_block { assert(kong.service.set_tls_verify_depth(100)) }
        proxy_pass https://deep;
    }
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream
--- no_error_log
[crit]



=== TEST 6: set_tls_verify(true) verifies the service, with every form of proxy_pass and with grpc_pass
--- http_config
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/other.sock;
        keepalive 4;
    }
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_store(pki.store("ca")))
            assert(kong.service.set_tls_verify_depth(3))
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/other.sock"))
        }
    }
    upstream lua_right {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_store(pki.store("other-ca")))
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/other.sock"))
        }
    }
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_session_reuse $reuse;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    proxy_ssl_name service.test;
    keeps_connections;
    location /accepted_keepalive_without {
        proxy_pass https://kept;
    }
    location /refused_keepalive {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass https://kept;
    }
    location /accepted_keepalive_again {
        proxy_pass https://kept;
    }
    location /refused_implicit {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/other.sock:;
    }
    location /refused_variable {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        set $name other;
        proxy_pass https://$name;
    }
    location /refused_variable_address {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        set $name unix:$TEST_NGINX_HTML_DIR/other.sock:;
        proxy_pass https://$name;
    }
    location /refused_if {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        if ($request_method = GET) {
            proxy_pass https://other;
        }
    }
    location /refused_if_around {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        if ($request_method = GET) {
            set $nothing 1;
        }
        proxy_pass https://other;
    }
    location /refused_limit_except {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        limit_except POST {
            proxy_pass https://other;
        }
        proxy_pass https://service;
    }
    location /refused_lua_balancer {
        proxy_pass https://lua;
    }
    location /accepted_lua_balancer {
        proxy_pass https://lua_right;
    }
    location /accepted_grpc_without {
        grpc_ssl_protocols $version;
        grpc_ssl_session_reuse $reuse;
        grpc_pass grpcs://grpc;
    }
    location /refused_grpc {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        grpc_ssl_protocols $version;
        grpc_ssl_session_reuse $reuse;
        grpc_ssl_trusted_certificate $TEST_NGINX_PKI/other-ca.crt;
        grpc_ssl_name service.test;
        grpc_pass grpcs://grpc;
    }
    location /accepted_grpc {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        grpc_ssl_protocols $version;
        grpc_ssl_session_reuse $reuse;
        grpc_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        grpc_ssl_name service.test;
        grpc_pass grpcs://grpc;
    }
    location /refused_grpc_name {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        grpc_ssl_protocols $version;
        grpc_ssl_session_reuse $reuse;
        grpc_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        grpc_ssl_name wrong.test;
        grpc_pass grpcs://grpc;
    }
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream
upstream SSL certificate does not match "wrong.test" while SSL handshaking to upstream
--- no_error_log
[crit]



=== TEST 7: set_tls_verify(true) verifies the service of uwsgi_pass
--- http_config
    upstream uwsgi {
        server unix:$TEST_NGINX_HTML_DIR/other.sock;
    }
--- config
    location /t {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        uwsgi_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        uwsgi_ssl_name service.test;
        uwsgi_pass suwsgi://uwsgi;
    }
--- request
GET /t
--- error_code: 502
--- error_log
upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream



=== TEST 8: the service's certificate must carry the name of the request, or one of the other names of the low-level functions
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_session_reuse $reuse;
    location /accepted_dns {
        access_by_lua_block { assert(tls.set_upstream_ssl_sans_dnsnames { "x.test", "service.test." }) }
        proxy_pass https://service;
    }
    location /accepted_wildcard {
        access_by_lua_block { assert(tls.set_upstream_ssl_sans_dnsnames { "A.wild.test" }) }
        proxy_pass https://service;
    }
    location /refused_dns {
        access_by_lua_block { assert(tls.set_upstream_ssl_sans_dnsnames { "x.test", "a.b.wild.test" }) }
        proxy_pass https://service;
    }
    location /accepted_uri {
        access_by_lua_block { assert(tls.set_upstream_ssl_sans_uris { "spiffe://test/service" }) }
        proxy_pass https://service;
    }
    location /refused_uri {
        access_by_lua_block { assert(tls.set_upstream_ssl_sans_uris { "spiffe://test/Service" }) }
        proxy_pass https://service;
    }
    location /accepted_one_of_both {
        access_by_lua_block {
            assert(tls.set_upstream_ssl_sans_dnsnames { "service.test" })
            assert(tls.set_upstream_ssl_sans_uris { "spiffe://test/other" })
        }
        proxy_ssl_verify on;
        proxy_ssl_name other.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://service;
    }
    location /refused_both {
        access_by_lua_block {
            assert(tls.set_upstream_ssl_sans_dnsnames { "a.test", "b.test" })
            assert(tls.set_upstream_ssl_sans_uris { "spiffe://test/other" })
            assert(tls.set_upstream_ssl_sans_dnsnames { "x.test" })
        }
        proxy_ssl_verify on;
        proxy_ssl_name other.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://service;
    }
    location /accepted_host {
        access_by_lua_block {
            assert(tls.set_upstream_ssl_sans_dnsnames { "x.test" })
            assert(tls.set_upstream_ssl_sans_uris { "spiffe://test/other" })
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://service;
    }
--- error_log
upstream SSL certificate carries none of the accepted names: host "service", DNS name "x.test", DNS name "a.b.wild.test" while SSL handshaking to upstream
upstream SSL certificate carries none of the accepted names: host "service", URI "spiffe://test/Service" while SSL handshaking to upstream
upstream SSL certificate carries none of the accepted names: host "other.test", DNS name "x.test", URI "spiffe://test/other" while SSL handshaking to upstream
--- no_error_log
[crit]



=== TEST 9: an unreadable trusted certificate or CRL is logged as a warning, and fails the requests that need it
--- config
    access_by_lua_block {
        if ngx.var.arg_verify then
            assert(kong.service.set_tls_verify(ngx.var.arg_verify == "on"))
        end
        if ngx.var.arg_store then
            assert(kong.service.set_tls_verify_store(pki.store("ca")))
        end
    }
    proxy_ssl_name service.test;
    location /missing { proxy_ssl_trusted_certificate $TEST_NGINX_PKI/missing.crt; proxy_pass https://service; }
    location /empty { proxy_ssl_trusted_certificate /dev/null; proxy_pass https://service; }
    location /garbage { proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.key; proxy_pass https://service; }
    location /lists { proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt; proxy_ssl_crl $TEST_NGINX_PKI/missing.crl; proxy_pass https://service; }
    location /lists/alone { proxy_ssl_crl $TEST_NGINX_PKI/missing.crl; proxy_pass https://service; }
    location /grpc { grpc_ssl_name service.test; grpc_ssl_trusted_certificate $TEST_NGINX_PKI/missing.crt; grpc_pass grpcs://grpc; }
--- exchanges
for $file (missing empty garbage lists lists/alone)
    GET /$file            => 200
    GET /$file?verify=off => 200
    GET /$file?verify=on  => 502
GET /grpc?verify=on => 502
# The store of a request replaces the trusted certificates, but not the CRLs.
for $file (missing empty garbage)
    GET /$file?verify=on&store=1 => 200
for $file (lists lists/alone)
    GET /$file?verify=on&store=1 => 502
--- grep_error_log eval
qr/could not apply trusted store of the location: cannot load "\w+"/
--- grep_error_log_out eval
my ($certificates, $lists) = map {"could not apply trusted store of the location: cannot load \"$_\"\n"} qw(proxy_ssl_trusted_certificate proxy_ssl_crl);
$certificates x 3 . $lists x 2 . $certificates =~ s/proxy/grpc/r . $lists x 2
--- no_error_log
[emerg]
[crit]



=== TEST 10: proxy_ssl_crl applies to set_tls_verify(true) and to the store of a request
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_session_reuse $reuse;
    proxy_ssl_name service.test;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
    location /refused_over_off {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_crl $TEST_NGINX_PKI/revoked.crl;
        proxy_pass https://service;
    }
    location /accepted_over_off {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_crl $TEST_NGINX_PKI/empty.crl;
        proxy_pass https://service;
    }
    location /accepted_without {
        proxy_ssl_crl $TEST_NGINX_PKI/revoked.crl;
        proxy_pass https://service;
    }
    location /refused_store_without_lists {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_store(pki.store("ca")))
        }
        proxy_ssl_crl $TEST_NGINX_PKI/empty.crl;
        proxy_pass https://service;
    }
    location /refused_store_over_on {
        access_by_lua_block { assert(kong.service.set_tls_verify_store(pki.store("ca"))) }
        proxy_ssl_verify on;
        proxy_ssl_crl $TEST_NGINX_PKI/revoked.crl;
        proxy_pass https://service;
    }
    location /accepted_store_with_list {
        access_by_lua_block {
            local ffi = require "ffi"
            for _, declaration in ipairs {
                "typedef struct x509_lookup_st X509_LOOKUP", "const void *X509_LOOKUP_file(void)",
                "X509_LOOKUP *X509_STORE_add_lookup(X509_STORE *, const void *)",
                "int X509_load_crl_file(X509_LOOKUP *, const char *, int)",
            } do
                pcall(ffi.cdef, declaration .. ";")
            end
            local store = pki.store("ca")
            local lookup = ffi.C.X509_STORE_add_lookup(store.ctx, ffi.C.X509_LOOKUP_file())
            assert(ffi.C.X509_load_crl_file(lookup, "$TEST_NGINX_PKI/empty.crl", 1) == 1)
            assert(kong.service.set_tls_verify_store(store))
        }
        proxy_ssl_verify on;
        proxy_ssl_crl $TEST_NGINX_PKI/revoked.crl;
        proxy_pass https://service;
    }
--- error_log
upstream SSL certificate verify error: (23:certificate revoked)
upstream SSL certificate verify error: (3:unable to get certificate CRL)



=== TEST 11: proxy_ssl_crl without trusted certificates applies to the store of a request
--- config
    proxy_ssl_protocols $version;
    proxy_ssl_session_reuse $reuse;
    proxy_ssl_name service.test;
    location /refused_store_without_lists {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_store(pki.store("ca")))
        }
        proxy_ssl_crl $TEST_NGINX_PKI/empty.crl;
        proxy_pass https://service;
    }
    location /refused_without_authorities {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_crl $TEST_NGINX_PKI/empty.crl;
        proxy_pass https://service;
    }
    location /accepted_store_with_list {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
            assert(kong.service.set_tls_verify_store(require("resty.kong.x509").store {
                pem = pki.read("ca"), crl = pki.read("empty", ".crl"),
            }))
        }
        proxy_ssl_crl $TEST_NGINX_PKI/empty.crl;
        proxy_pass https://service;
    }
    location /accepted_without {
        proxy_ssl_crl $TEST_NGINX_PKI/revoked.crl;
        proxy_pass https://service;
    }
--- error_log
upstream SSL certificate verify error: (3:unable to get certificate CRL)



=== TEST 12: an unreadable proxy_ssl_crl next to a trusted certificate is fatal with kong_tls_certificate_verify on
--- config
    location /t {
        kong_tls_certificate_verify on;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_crl $TEST_NGINX_PKI/missing.crl;
        proxy_pass $scheme://service;
    }
--- must_die
--- error_log eval
qr{\[emerg\].* cannot load "proxy_ssl_crl" "[^"]*/missing\.crl": X509_load_crl_file\(\) failed \(No such file or directory}



=== TEST 13: an unreadable proxy_ssl_crl alone is fatal with kong_tls_certificate_verify on
--- config
    location /t {
        kong_tls_certificate_verify on;
        proxy_ssl_crl $TEST_NGINX_PKI/missing.crl;
        proxy_pass $scheme://service;
    }
--- must_die
--- error_log eval
qr{\[emerg\].* cannot load "proxy_ssl_crl" "[^"]*/missing\.crl": X509_load_crl_file\(\) failed \(No such file or directory}



=== TEST 14: a Lua balancer can change proxy_ssl_name and verification between attempts
--- http_config
    upstream balanced {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            if not ngx.ctx.tried then
                ngx.ctx.tried = true
                ngx.var.name = "service.test"
                assert(kong.service.set_tls_verify(false))
                balancer.set_more_tries(1)
            else
                ngx.var.name = ngx.var.arg_name
                assert(kong.service.set_tls_verify(true))
            end
            assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
    }
--- config
    location /t {
        set $name "";
        proxy_ssl_name $name;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_verify on;
        proxy_next_upstream http_503;
        proxy_pass https://balanced/fail;
    }
--- exchanges
GET /t?name=service.test => 503
GET /t?name=wrong.test   => 502
--- error_log
upstream SSL certificate does not match "wrong.test" while SSL handshaking to upstream



=== TEST 15: an empty proxy_ssl_name matches no certificate
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name $arg_name;
        proxy_pass https://service;
    }
--- exchanges
GET /t                    => 502
GET /t?name=service.test  => 200
GET /t?name=:service.test => 502
--- error_log
upstream SSL certificate does not match "" while SSL handshaking to upstream



=== TEST 16: get_last_failure returns "next" and 502 in a Lua balancer after the service failed verification
--- http_config
    upstream balanced {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            ngx.ctx.attempts = (ngx.ctx.attempts or 0) + 1
            -- There is no last failure before the first attempt.
            local state, code = balancer.get_last_failure()
            ngx.log(ngx.WARN, "attempt ", ngx.ctx.attempts, ": ", state, " ", code)
            if not state and ngx.ctx.attempts < 5 then
                balancer.set_more_tries(1)
            end
            assert(balancer.set_current_peer("unix:$TEST_NGINX_HTML_DIR/other.sock"))
        }
    }
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://balanced;
    }
--- request
GET /t
--- error_code: 502
--- error_log
attempt 1: nil nil
attempt 2: next 502
--- no_error_log
attempt 3
