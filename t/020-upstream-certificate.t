# SPDX-License-Identifier: Apache-2.0

# kong.service.set_tls_cert_key: the service sees the certificate that the request set, with every form of proxy_pass.

use lib 't/support';
use TestCertificates;
use TestService;
use TestHarness 'no_plan';

repeat_each(2);

# Keys that don't sign with SHA-256: they need another digest, or none. ML-DSA needs OpenSSL 3.5.
our %OTHER_KEYS = (
    pss => [qw(-algorithm RSA-PSS), map { ('-pkeyopt', "rsa_$_") } qw(keygen_bits:2048 pss_keygen_md:sha384
        pss_keygen_mgf1_md:sha384 pss_keygen_saltlen:48)],
    ed25519 => [qw(-algorithm ED25519)],
    'ml-dsa' => [qw(-algorithm ML-DSA-44)],
);
delete $OTHER_KEYS{'ml-dsa'} if `openssl list -signature-algorithms` !~ /ML-DSA-44/;
issue($_, subject => "/CN=$_", algorithm => $OTHER_KEYS{$_}, extensions => ['extendedKeyUsage=clientAuth'])
    for sort keys %OTHER_KEYS;

# Repeats each location with and without session reuse, for both versions of TLS.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $ways = $block->config;
    return unless $ways =~ m{\$version};
    my ($config, @requests, @expected) = ('');
    for my $version (qw(TLSv1.2 TLSv1.3)) {
        for my $reuse (qw(on off)) {
            my $prefix = "/$version/$reuse";
            (my $locations = $ways) =~ s{location /}{location $prefix/}g;
            $locations =~ s{\$version}{$version}g;
            $locations =~ s{\$reuse}{$reuse}g;
            $config .= $locations;
            while ($locations =~ m{location (/\S+)}g) {
                push @requests, "GET $1", "GET $1?client=1", "GET $1?client=2", "GET $1";
                # A request without settings may use a kept connection of either version.
                my $none = qr/\Aclient= reused=. TLSv1\.[23]\n\z/;
                push @expected, $none, qr/\Aclient=CN=client-1,O=Test reused=[r.] \Q$version\E\n\z/,
                    qr/\Aclient=CN=client-2,O=Test reused=[r.] \Q$version\E\n\z/, $none;
            }
        }
    }
    $block->set_value('config', $config);
    $block->set_value('request', \@requests);
    $block->set_value('response_body_like', \@expected);
    $block->set_value('error_code', [(200) x @requests]);
});

run_tests();

__DATA__

=== TEST 1: a certificate set in the access phase reaches the service, with every form of proxy_pass
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            assert(require("ngx.balancer").set_current_peer("unix:$TEST_NGINX_HTML_DIR/service.sock"))
        }
    }
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/service.sock;
        keepalive 4;
    }
--- config
    location /block {
        access_by_lua_file $TEST_NGINX_HTML_DIR/set.lua;
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        proxy_pass https://service;
    }
    location /keepalive {
        access_by_lua_file $TEST_NGINX_HTML_DIR/set.lua;
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        keeps_connections;
        proxy_pass https://kept;
    }
    location /implicit {
        access_by_lua_file $TEST_NGINX_HTML_DIR/set.lua;
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/service.sock:;
    }
    location /variable {
        access_by_lua_file $TEST_NGINX_HTML_DIR/set.lua;
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        set $name service;
        proxy_pass https://$name;
    }
    location /variable_address {
        access_by_lua_file $TEST_NGINX_HTML_DIR/set.lua;
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        set $name unix:$TEST_NGINX_HTML_DIR/service.sock:;
        proxy_pass https://$name;
    }
    location /variable_scheme {
        access_by_lua_file $TEST_NGINX_HTML_DIR/set.lua;
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        set $service_scheme https;
        proxy_pass $service_scheme://service;
    }
    location /if {
        access_by_lua_file $TEST_NGINX_HTML_DIR/set.lua;
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        if ($request_method = GET) {
            proxy_pass https://service;
        }
    }
    location /lua_balancer {
        access_by_lua_file $TEST_NGINX_HTML_DIR/set.lua;
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        proxy_pass https://lua;
    }
    location /grpc {
        access_by_lua_file $TEST_NGINX_HTML_DIR/set.lua;
        grpc_ssl_protocols $version;
        grpc_ssl_session_reuse $reuse;
        grpc_pass grpcs://grpc;
    }
--- user_files
>>> set.lua
local name = ngx.var.arg_client
if name then
    name = "client" .. name
    assert(kong.service.set_tls_cert_key(cert[name], key[name]))
end
--- no_error_log
[error]



=== TEST 2: a certificate set in the rewrite phase reaches the service
--- config
    location /block {
        rewrite_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                name = "client" .. name
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
        }
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        proxy_pass https://service;
    }
--- no_error_log
[error]



=== TEST 3: a certificate set in the balancer phase reaches the service, with and without keepalive
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_file $TEST_NGINX_HTML_DIR/balance.lua;
    }
    upstream kept {
        server 0.0.0.1;
        balancer_by_lua_file $TEST_NGINX_HTML_DIR/balance.lua;
        keepalive 4;
    }
--- config
    location /lua_balancer {
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        proxy_pass https://lua;
    }
    location /keepalive {
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        keeps_connections;
        proxy_pass https://kept;
    }
--- user_files
>>> balance.lua
local name = ngx.var.arg_client
if name then
    name = "client" .. name
    assert(kong.service.set_tls_cert_key(cert[name], key[name]))
end
assert(require("ngx.balancer").set_current_peer("unix:" .. os.getenv("TEST_NGINX_HTML_DIR")
                                                .. "/service.sock"))
--- no_error_log
[error]



=== TEST 4: set_upstream_cert_and_key sets the certificate
--- config
    location /block {
        access_by_lua_block {
            local name = ngx.var.arg_client
            if name then
                name = "client" .. name
                assert(tls.set_upstream_cert_and_key(cert[name], key[name]))
            end
        }
        proxy_ssl_protocols $version;
        proxy_ssl_session_reuse $reuse;
        proxy_pass https://service;
    }
--- no_error_log
[error]



=== TEST 5: a request's certificate replaces proxy_ssl_certificate, even one with another type of key
--- config
    proxy_ssl_protocols TLSv1.2;
    location /tls13 {
        client_argument;
        proxy_ssl_protocols TLSv1.3;
        proxy_ssl_certificate $TEST_NGINX_PKI/client-rsa.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client-rsa.key;
        proxy_pass https://rsa_first;
    }
    location /t {
        client_argument;
        proxy_ssl_certificate $TEST_NGINX_PKI/client-rsa.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client-rsa.key;
        proxy_pass https://rsa_first;
    }
    location /variable {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        set $name client-rsa;
        proxy_ssl_certificate $TEST_NGINX_PKI/$name.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/$name.key;
        proxy_pass https://rsa_first;
    }
--- http_config
    upstream rsa_first {
        server unix:$TEST_NGINX_HTML_DIR/rsa_first.sock;
    }
    # This service prefers RSA certificates.
    server {
        listen unix:$TEST_NGINX_HTML_DIR/rsa_first.sock ssl;
        certificate service;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_verify_client on;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        ssl_conf_command ClientSignatureAlgorithms RSA-PSS+SHA256:RSA+SHA256:ECDSA+SHA256;
        location / {
            return 200 "client=$ssl_client_s_dn\n";
        }
    }
--- exchanges
GET /t                    => client=CN=client-rsa,O=Test
GET /t?client=client1     => client=CN=client-1,O=Test
GET /t?client=rsa         => client=CN=client-rsa,O=Test
GET /variable             => client=CN=client-1,O=Test
GET /t                    => client=CN=client-rsa,O=Test
GET /tls13                => client=CN=client-rsa,O=Test
GET /tls13?client=client1 => client=CN=client-1,O=Test
GET /tls13                => client=CN=client-rsa,O=Test
--- no_error_log
[error]



=== TEST 6: intermediates of the chain are sent to the service
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.intermediate, key.intermediate))
        }
        proxy_pass https://strict;
    }
--- http_config
    upstream strict {
        server unix:$TEST_NGINX_HTML_DIR/strict.sock;
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/strict.sock ssl;
        certificate service;
        ssl_verify_client on;
        ssl_verify_depth 2;
        ssl_client_certificate $TEST_NGINX_PKI/ca.crt;
        location / {
            return 200 "$ssl_client_s_dn $ssl_client_verify\n";
        }
    }
--- request
GET /t
--- response_body
CN=client-intermediate,O=Test SUCCESS
--- no_error_log
[error]



=== TEST 7: a later call of set_tls_cert_key overrides an earlier one
--- config
    location /t {
        rewrite_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client2, key.client2))
        }
        proxy_pass https://service;
    }
--- request
GET /t
--- response_body_like
^client=CN=client-2,
--- no_error_log
[error]



=== TEST 8: a refused call of set_tls_cert_key keeps the earlier certificate
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(not kong.service.set_tls_cert_key(cert.client2, key.client1))
        }
        proxy_pass https://service;
    }
--- request
GET /t
--- response_body_like
^client=CN=client-1,
--- no_error_log
[error]



=== TEST 9: chain, key and store may be garbage-collected right after the call
--- config
    location /t {
        access_by_lua_block {
            local ffi = require "ffi"
            local ssl = require "ngx.ssl"
            for i = 1, 20 do
                local name = i % 2 == 0 and "client1" or "client2"
                assert(kong.service.set_tls_cert_key(pki.chain(name), pki.key(name)))
                collectgarbage()
            end
            -- Other objects take the memory of those that were freed.
            for i = 1, 20 do
                pki.chain("client-rsa")
                pki.key("client-rsa")
            end
            collectgarbage()
            local store = pki.store("ca")
            assert(kong.service.set_tls_verify_store(store))
            store.ctx = nil
            collectgarbage()
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name service.test;
        proxy_pass https://service;
    }
--- request
GET /t
--- response_body_like
^client=CN=client-1,
--- no_error_log
[error]



=== TEST 10: a retry sends the certificate that the balancer phase set for it
--- http_config
    upstream lua {
        server 0.0.0.1;
        balancer_by_lua_block {
            local balancer = require "ngx.balancer"
            local try = (ngx.ctx.try or 0) + 1
            ngx.ctx.try = try
            local name = "client" .. try
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            balancer.set_more_tries(1)
            assert(balancer.set_current_peer("unix:" .. os.getenv("TEST_NGINX_HTML_DIR")
                .. (try == 1 and "/refuses.sock" or "/service.sock")))
        }
    }
    server {
        listen unix:$TEST_NGINX_HTML_DIR/refuses.sock ssl;
        certificate service;
        ssl_verify_client optional_no_ca;
        add_header X-Seen $ssl_client_s_dn always;
        return 503;
    }
--- config
    location /t {
        proxy_next_upstream http_503;
        proxy_pass https://lua;
    }
--- request
GET /t
--- response_body_like
^client=CN=client-2,
--- no_error_log
[error]



=== TEST 11: set_tls_cert_key has no effect on plain HTTP with kong_tls_allow_plaintext on
--- config
    location /plain {
        return 200 "plain\n";
    }
    location /t {
        kong_tls_allow_plaintext on;
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
        }
        proxy_pass http://127.0.0.1:$TEST_NGINX_SERVER_PORT/plain;
    }
--- request
GET /t
--- response_body
plain
--- no_error_log
[error]



=== TEST 12: keys that sign with another digest than SHA-256, or without one, are accepted
--- config
    location /t {
        access_by_lua_block {
            local name = "$TEST_NGINX_CERTIFICATES/" .. ngx.var.arg_name
            assert(kong.service.set_tls_cert_key(pki.chain(name), pki.key(name)))
        }
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://service;
    }
--- request eval
[map {"GET /t?name=$_"} sort keys %::OTHER_KEYS]
--- response_body_like eval
[map {qr/\Aclient=CN=$_ reused=[r.] TLSv1[.]3\n\z/} sort keys %::OTHER_KEYS]
--- error_code eval
[(200) x keys %::OTHER_KEYS]
--- no_error_log
[error]
