# SPDX-License-Identifier: Apache-2.0

# A service may ask for another handshake on the same connection (TLS 1.2), and present another certificate there. What
# a request demands of its service counts again. nginx itself checks nothing after the first handshake.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;
use TestPrograms;
use TestService;
use TestHarness 'no_plan';

use Digest::SHA qw(sha256);
use MIME::Base64 qw(encode_base64);

require_program('gcc', 'openssl', 'timeout');
repeat_each(1);

my $program = test_folder() . '/renegotiates';
system('gcc', '-Wall', '-Wextra', '-Werror', '-o', $program, 't/support/renegotiates.c', '-lssl', '-lcrypto') == 0
    or die "t/support/renegotiates.c can't be compiled\n";

# For each certificate, a service that presents service.crt first, and then that.
my %second = (same => 'service', other_name => 'service-uri', other_ca => 'service-other');
for my $name (sort keys %second) {
    my $socket = test_folder() . "/$name.sock";
    start_program($name, sub { IO::Socket::UNIX->new($socket) }, $program, $socket, 'service', $second{$name});
    $ENV{"TEST_NGINX_\U$name"} = $socket;
}

my $public = `openssl x509 -in '$ENV{TEST_NGINX_PKI}/service.crt' -noout -pubkey | openssl pkey -pubin -outform DER`;
$ENV{TEST_NGINX_PIN} = encode_base64(sha256($public), '');

add_block_preprocessor(sub {
    my ($block) = @_;
    my $locations = '';
    for my $name (sort keys %second) {
        $locations .= <<"EOF_LOCATION";
    location /$name {
        sets;
        proxy_pass https://unix:\$TEST_NGINX_\U$name\E:/;
    }
    location /kept/$name {
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        sets;
        proxy_pass https://$name/;
    }
EOF_LOCATION
    }
    my $config = $locations . $block->config;
    $config =~ s{^( *)sets;\n}{<<'EOF_SETS'}gme;
        access_by_lua_block {
            local service, way = kong.service, ngx.var.arg_set
            if way == "verify" then
                assert(service.set_tls_verify(true))
                assert(service.set_tls_verify_store(store))
            elseif way == "certificate" then
                assert(service.set_tls_cert_key(cert.client1, key.client1))
            elseif way == "names" then
                assert(service.set_tls_verify(false))
                assert(service.set_tls_verify_names { host = false, dns = { "service.test" } })
            elseif way == "pins" then
                assert(service.set_tls_verify(false))
                assert(service.set_tls_pins { spki = { pin } })
            elseif way == "spiffe" then
                assert(service.set_tls_verify_spiffe {
                    trust_domains = { test = store }, ids = { "spiffe://test/service" },
                })
            end
        }
EOF_SETS
    $block->set_value('config', $config);
    my $upstreams = join '', map { "    upstream $_ { server unix:\$TEST_NGINX_\U$_\E; kong_tls_keepalive 4; }\n" } sort keys %second;
    $block->set_value('http_config', $block->http_config . $upstreams . <<'EOF_CONFIG');
    proxy_ssl_name service.test;
    proxy_ssl_protocols TLSv1.2;
    init_worker_by_lua_block {
        local x509 = require "resty.kong.x509"
        store = assert(x509.store { pem = pki.read("ca") })
        pin = "$TEST_NGINX_PIN"
    }
EOF_CONFIG
});

run_tests();

__DATA__

=== TEST 1: what a request demands counts in each handshake of the connection
--- config
--- exchanges
for $way (verify names pins spiffe certificate none)
    for $time (1 2)
        GET /same?set=$way      => again
        GET /kept/same?set=$way => again
for $way (verify pins spiffe)
    for $second (other_name other_ca)
        for $time (1 2)
            GET /$second?set=$way      => 502
            GET /kept/$second?set=$way => 502
for $time (1 2)
    GET /other_name?set=names      => 502
    GET /kept/other_name?set=names => 502
    # Without verification, only the names count.
    GET /other_ca?set=names        => again
    GET /kept/other_ca?set=names   => again
# Nothing is demanded.
for $way (certificate none)
    for $second (other_name other_ca)
        GET /$second?set=$way      => again
        GET /kept/$second?set=$way => again
--- error_log
upstream SSL certificate does not match "service.test"
upstream SSL certificate verify error: (20:unable to get local issuer certificate)
upstream SSL certificate has none of the pinned keys
upstream SSL certificate carries none of the accepted names
--- no_error_log
[alert]



=== TEST 2: where the location verifies, the certificate counts again for requests with settings
--- http_config
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
--- config
--- exchanges
for $time (1 2)
    GET /same?set=certificate      => again
    GET /kept/same?set=certificate => again
    for $second (other_name other_ca)
        GET /$second?set=certificate      => 502
        GET /kept/$second?set=certificate => 502
        # nginx's own behaviour.
        GET /$second?set=none             => again
--- no_error_log
[alert]
