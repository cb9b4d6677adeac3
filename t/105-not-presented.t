# SPDX-License-Identifier: Apache-2.0

# The service requests a certificate, and the request's key can't sign for it: OpenSSL would go on without a
# certificate, the module refuses the request.

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

repeat_each(2);

# Services that accept other signatures than those of the tests' keys.
add_block_preprocessor(sub {
    my ($block) = @_;
    my %takes = (rsa => 'RSA-PSS+SHA256:RSA+SHA256', ecdsa => 'ECDSA+SHA256', p384 => "ECDSA+SHA384");
    my $servers = join '', map { <<"_EOC_" } sort keys %takes;
    upstream $_ {
        server unix:\$TEST_NGINX_HTML_DIR/$_.sock;
        kong_tls_keepalive 4;
    }
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/$_.sock ssl;
        ssl_certificate \$TEST_NGINX_PKI/service.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/service.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_verify_client optional_no_ca;
        ssl_conf_command ClientSignatureAlgorithms $takes{$_};
        return 200 "\$ssl_protocol client=\$ssl_client_s_dn\\n";
    }
_EOC_
    $block->set_value('http_config', $servers . ($block->http_config // ''));
});

run_tests();

__DATA__

=== TEST 1: a request whose key does not match the service's signature algorithms is refused
--- config
    access_by_lua_block {
        assert(kong.service.set_tls_cert_key(cert[ngx.var.arg_cert], key[ngx.var.arg_cert]))
    }
    location /12 { proxy_ssl_protocols TLSv1.2; proxy_pass https://$arg_to; }
    location /13 { proxy_ssl_protocols TLSv1.3; proxy_pass https://$arg_to; }
    location /grpc { proxy_ssl_protocols TLSv1.3; grpc_pass grpcs://$arg_to; }
--- exchanges
for $path, $minor (12 2  13 3)
    GET /$path?to=rsa&cert=client1   => 502 /./
    GET /$path?to=rsa&cert=rsa       => /^TLSv1\.$minor client=CN=client-rsa,/
    GET /$path?to=ecdsa&cert=rsa     => 502 /./
    GET /$path?to=ecdsa&cert=client1 => /^TLSv1\.$minor client=CN=client-1,/
--- grep_error_log eval
qr/\[error\]|upstream TLS handshake refused[^()]*\(TLSv1..\)/
--- grep_error_log_out eval
CORE::join "", map {(
    "[error]\nupstream TLS handshake refused, could not apply client certificate and key: the key is EC P-256, and the service takes RSA-PSS+SHA256, RSA+SHA256 ($_)\n",
    "[error]\nupstream TLS handshake refused, could not apply client certificate and key: the key is RSA of 2048 bits, and the service takes ECDSA+SHA256 ($_)\n",
)} 'TLSv1.2', 'TLSv1.3'
--- no_error_log
[crit]
[alert]



=== TEST 2: a P-256 key for ECDSA+SHA384 is refused with TLS 1.3, and accepted with TLS 1.2
--- config
    access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client1, key.client1)) }
    location /12 { proxy_ssl_protocols TLSv1.2; proxy_pass https://p384; }
    location /13 { proxy_ssl_protocols TLSv1.3; proxy_pass https://p384; }
--- exchanges
GET /12 => /client=CN=client-1,/
GET /13 => 502 /./
--- error_log
the key is EC P-256, and the service takes ECDSA+SHA384 (TLSv1.3)



=== TEST 3: the module logs no error if proxy_ssl_certificate does not fit or no certificate is requested
--- config
    location /static {
        proxy_ssl_certificate $TEST_NGINX_PKI/client1.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client1.key;
        proxy_pass https://rsa;
    }
    location /static/verified {
        access_by_lua_block { assert(kong.service.set_tls_verify(true)) }
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_ssl_certificate $TEST_NGINX_PKI/client1.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client1.key;
        proxy_pass https://rsa;
    }
    location /nobody { proxy_pass https://rsa; }
    location /unasked {
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client1, key.client1)) }
        proxy_pass https://127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 ssl;
        certificate service;
        return 200 "client=\n";
    }
--- exchanges
GET /static          => /client=\s/
GET /static/verified => /client=\s/
GET /nobody          => /client=\s/
GET /unasked         => /client=\s/
--- no_error_log
[error]



=== TEST 4: a certificate that can't be presented is not replaced by proxy_ssl_certificate
--- config
    location /t {
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert.client1, key.client1)) }
        proxy_ssl_certificate $TEST_NGINX_PKI/client-rsa.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client-rsa.key;
        proxy_pass https://rsa;
    }
--- request
GET /t
--- error_code: 502
--- error_log
the key is EC P-256, and the service takes RSA-PSS+SHA256, RSA+SHA256



=== TEST 5: a certificate that can't be presented is counted, not tried with another peer, and takes no peer out
--- http_config
    upstream two {
        server unix:$TEST_NGINX_HTML_DIR/rsa.sock max_fails=1 fail_timeout=60s;
        server unix:$TEST_NGINX_HTML_DIR/rsa.sock max_fails=1 fail_timeout=60s;
    }
--- config
    location /t {
        access_by_lua_block { assert(kong.service.set_tls_cert_key(cert[ngx.var.arg_cert], key[ngx.var.arg_cert])) }
        add_header X-Peers $upstream_addr;
        proxy_pass https://two;
    }
    location /status { kong_tls_status; }
--- exchanges
GET /t?cert=client1 x 3       => 502 /./
GET /t?cert=rsa x 2           => /client=CN=client-rsa/
GET /status?format=prometheus => /refusals_total\{setting="client_certificate"\} [36]\n/
--- no_error_log
no live upstreams
temporarily disabled
