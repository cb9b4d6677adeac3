# SPDX-License-Identifier: Apache-2.0

# Which certificate a service was shown: $kong_upstream_ssl_client_*, and what error lines say of it.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestPrograms;
use TestPresented;
use TestService;
use TestHarness 'no_plan';

require_program('openssl', 'timeout');
repeat_each(1);

# What is to be shown of a certificate: its values as OpenSSL prints them, in the formats of nginx's variables.
sub openssl_says {
    my ($name, @what) = @_;
    chomp(my $line = `openssl x509 -in '$ENV{TEST_NGINX_PKI}/$name.crt' -noout @what`);
    return $line;
}

my %subject = (client1 => 'CN=client-1,O=Test', client2 => 'CN=client-2,O=Test');
my %serial = map { $_ => openssl_says($_, '-serial') =~ s/^serial=//r } keys %subject;
our @SERIALS = @serial{qw(client1 client2)};
for my $name (keys %subject) {
    my $fingerprint = lc(openssl_says($name, '-fingerprint', '-sha1') =~ s/^.*=//r =~ s/://gr);
    my $end = openssl_says($name, '-enddate') =~ s/^notAfter=//r;
    $ENV{"TEST_NGINX_SHOWN_$name"} = "$subject{$name}|$serial{$name}|$fingerprint|$end";
}

# Services that reject every certificate of a client.
for my $version (qw(1.2 1.3)) {
    my $number = $version =~ tr/.//dr;
    $ENV{"TEST_NGINX_REJECTS_$number"} = start_s_server("rejects$number", '-tls' . $version =~ tr/./_/r,
        '-Verify', 2, '-verify_return_error', '-CAfile', "$ENV{TEST_NGINX_PKI}/other-ca.crt");
}

add_block_preprocessor(sub {
    my ($block) = @_;
    my $shown = join '|', map {"\$kong_upstream_ssl_client_$_"} qw(s_dn serial fingerprint v_end);
    $block->set_value('http_config', ($block->http_config // '') . <<"EOF_CONFIG");
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/never-asks.sock ssl;
        ssl_certificate \$TEST_NGINX_PKI/service.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/service.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        return 200 "reused=\$ssl_session_reused\\n";
    }
EOF_CONFIG
    $block->set_value('config', "add_header X-Shown \"$shown\" always;\n" . ($block->config // ''));
});

run_tests();

__DATA__

=== TEST 1: the certificate is that which the service was shown, on this connection or before its session
--- http_config
    services service;
    upstream kept {
        server unix:$TEST_NGINX_HTML_DIR/of-service.sock;
        kong_tls_keepalive 4;
    }
--- config
VERSIONS
    location /t {
        client_argument;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-service.sock:/;
    }
    location /never {
        client_argument;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/never-asks.sock:/;
    }
    location /kept {
        keeps_connections;
        client_argument;
        proxy_pass https://kept/;
    }
    # The location's own.
    location /own {
        proxy_ssl_certificate $TEST_NGINX_PKI/client2.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client2.key;
        location /own/kept {
            keeps_connections;
            proxy_pass https://kept/;
        }
        location /own/verified {
            access_by_lua_block { assert(kong.service.set_tls_verify(false)) }
            proxy_pass https://unix:$TEST_NGINX_HTML_DIR/of-service.sock:/;
        }
    }
--- exchanges
for $version (1.2 1.3)
    for $client (client1 client2)
        for $reused (. r)
            GET /$version/t?client=$client => {X-Shown: $TEST_NGINX_SHOWN_$client} /reused=[$reused]$/
        for $time (1 2)
            GET /$version/kept?client=$client => {X-Shown: $TEST_NGINX_SHOWN_$client}
    for $reused (. r)
        GET /$version/never?client=client1 => {X-Shown: |||} /reused=[$reused]$/
    GET /$version/t => {X-Shown: |||}
    for $where (kept verified)
        for $time (1 2)
            GET /$version/own/$where => {X-Shown: $TEST_NGINX_SHOWN_client2}
--- no_error_log
[error]



=== TEST 2: the lines of a 502 say which certificate the service was shown, and the TLS identity
--- http_config
    upstream rejects12 { server unix:$TEST_NGINX_REJECTS_12; }
    upstream rejects13 { server unix:$TEST_NGINX_REJECTS_13; }
--- config
    location /t {
        client_argument;
        proxy_ssl_protocols TLSv1.2 TLSv1.3;
        proxy_pass https://$arg_to;
    }
    location /verified {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_name wrong.test;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_pass https://service;
    }
    # Has no settings.
    location /none {
        proxy_ssl_certificate $TEST_NGINX_PKI/client2.crt;
        proxy_ssl_certificate_key $TEST_NGINX_PKI/client2.key;
        proxy_pass https://$arg_to;
    }
--- exchanges
GET /t?to=rejects12&client=client1   => 502
GET /t?to=rejects13&client=client2   => 502
GET /verified                        => 502
GET /none?to=rejects12               => 502
--- error_log eval
my ($one, $two) = @main::SERIALS;
[
    qr{SSL_do_handshake\(\) failed .*"GET /t\?to=rejects12.*, client certificate: "CN=client-1,O=Test", serial: $one, TLS identity: [0-9a-f]{16}$},
    qr{SSL_read\(\) failed .*"GET /t\?to=rejects13.*, client certificate: "CN=client-2,O=Test", serial: $two, TLS identity: [0-9a-f]{16}$},
    # It was shown none.
    qr{does not match "wrong.test" .*host: "localhost", TLS identity: [0-9a-f]{16}$},
    qr{SSL_do_handshake\(\) failed .*"GET /none\?to=rejects12.*host: "localhost"$},
]
--- no_error_log
[crit]
