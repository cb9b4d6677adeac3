# SPDX-License-Identifier: Apache-2.0

package TestPresented;

# Services with one certificate each, for tests of who a service may be. In a file that uses this module, a block can
# have these lines:
#
#     services NAME ...;    in http_config: for each certificate of the PKI, a service at of-NAME.sock, which asks for a
#                           client's certificate and answers with what it saw, as TestService's do
#     VERSIONS              in config: the locations that follow are there as /1.2/... and /1.3/..., which speak these
#                           versions of TLS

use strict;
use warnings;

use TestHarness ();

sub _service {
    my ($name) = @_;
    return <<"EOF_SERVICE";
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/of-$name.sock ssl;
        ssl_certificate \$TEST_NGINX_PKI/$name.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/$name.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_verify_client optional_no_ca;
        return 200 "sni=\$ssl_server_name client=\$ssl_client_s_dn reused=\$ssl_session_reused\\n";
    }
EOF_SERVICE
}

sub _with_versions {
    my ($locations) = @_;
    return $locations unless $locations =~ s/^VERSIONS\n//m;
    my $all = '';
    for my $version (qw(1.2 1.3)) {
        my $copy = $locations =~ s{location /}{location /$version/}gr;
        $all .= "    location /$version/ {\n        proxy_ssl_protocols TLSv$version;\n$copy    }\n";
    }
    return $all;
}

TestHarness::add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config // '';
    $config =~ s{^ *services ([^;]+);\n}{join '', map { _service($_) } split ' ', $1}me;
    $block->set_value('http_config', $config);
    $block->set_value('config',      _with_versions($block->config // ''));
});

1;
