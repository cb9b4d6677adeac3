# SPDX-License-Identifier: Apache-2.0

# kong.service.set_tls_options: versions, ciphers, groups and signature algorithms of one request.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestService;
use TestHarness 'no_plan';

repeat_each(1);

# Expands "speaks NAME { DIRECTIVES }" to a service at NAME.sock, which says how it is spoken to.
add_block_preprocessor(sub {
    my ($block) = @_;
    my $config = $block->http_config // '';
    $config =~ s/^ *speaks (\w+) \{([^}]*)\}\n/service($1, $2)/gme;
    $block->set_value('http_config', $config);
});

sub service {
    my ($name, $directives) = @_;
    return <<"EOF_SERVICE";
    server {
        listen unix:\$TEST_NGINX_HTML_DIR/$name.sock ssl;
        ssl_certificate \$TEST_NGINX_PKI/service.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/service.key;
        ssl_verify_client optional_no_ca;
        $directives
        return 200 "\$ssl_protocol \$ssl_cipher \$ssl_curve client=\$ssl_client_s_dn reused=\$ssl_session_reused\\n";
    }
EOF_SERVICE
}

run_tests();

__DATA__

=== TEST 1: options take the place of the location's, for this request alone
--- http_config
    speaks all { ssl_protocols TLSv1.2 TLSv1.3; ssl_ecdh_curve prime256v1:secp384r1:X25519; }
    init_worker_by_lua_block {
        OPTIONS = {
            low = { max_version = "TLSv1.2" }, high = { min_version = "TLSv1.3" },
            cipher = { max_version = "TLSv1.2", ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384" },
            suite = { min_version = "TLSv1.3", ciphersuites = "TLS_CHACHA20_POLY1305_SHA256" },
            group = { groups = "P-384:P-256" }, x25519 = { groups = "X25519:P-256" },
            signature = { signature_algorithms = "ECDSA+SHA256" },
        }
    }
--- config
    location /t {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            local options = OPTIONS[ngx.var.arg_options]
            if options then
                assert(kong.service.set_tls_options(options))
            end
        }
        proxy_ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;
        location /t/both {
            proxy_ssl_protocols TLSv1.2 TLSv1.3;
            proxy_pass https://unix:$TEST_NGINX_HTML_DIR/all.sock:/;
        }
        location /t/old {
            proxy_ssl_protocols TLSv1.2;
            proxy_pass https://unix:$TEST_NGINX_HTML_DIR/all.sock:/;
        }
        location /t/new {
            proxy_ssl_protocols TLSv1.3;
            proxy_pass https://unix:$TEST_NGINX_HTML_DIR/all.sock:/;
        }
    }
--- exchanges
for $where (both old new)
    GET /t/$where?options=high   => /^TLSv1.3 .* client=CN=client-1,O=Test reused=[.]$/
    GET /t/$where?options=high   => /^TLSv1.3 .* client=CN=client-1,O=Test reused=r$/
    GET /t/$where?options=suite  => /^TLSv1.3 TLS_CHACHA20_POLY1305_SHA256 .* reused=[.]$/
    GET /t/$where?options=suite  => /^TLSv1.3 TLS_CHACHA20_POLY1305_SHA256 .* reused=r$/
for $where (both old)
    GET /t/$where?options=low    => /^TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 .* reused=[.]$/
    GET /t/$where?options=low    => /^TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 .* reused=r$/
    GET /t/$where?options=cipher => /^TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 .* reused=[.]$/
GET /t/old?options=none          => /^TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256 .* reused=[.]$/
GET /t/new?options=none          => /^TLSv1.3 .* reused=[.]$/
for $where (both old new)
    GET /t/$where?options=group      => /^TLSv1.[23] \S+ secp384r1 .* reused=[.]$/
    GET /t/$where?options=x25519     => /^TLSv1.[23] \S+ X25519 .* reused=[.]$/
    GET /t/$where?options=signature  => /^TLSv1.[23] .* reused=[.]$/
# Only the location's versions are left of what is below the highest.
GET /t/new?options=low  => 502
GET /t/new?options=cipher => 502
--- grep_error_log eval
qr/could not apply TLS options: .*? while/
--- grep_error_log_out eval
my $line = 'could not apply TLS options: max_version is "TLSv1.2", and the location allows no version before "TLSv1.3": '
    . "set min_version too while\n";
$line x 2
--- no_error_log
[crit]



=== TEST 2: a service that can't is not spoken to otherwise, and sees no certificate
--- http_config
    speaks old { ssl_protocols TLSv1.2; ssl_ecdh_curve prime256v1; ssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256; }
    speaks new { ssl_protocols TLSv1.3; ssl_ecdh_curve prime256v1; }
--- config
    location /t {
        access_by_lua_block {
            local option = ngx.var.arg_option
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_options { [option] = ngx.var.arg_value })
        }
        proxy_ssl_protocols TLSv1.2 TLSv1.3;
        location /t/old { proxy_pass https://unix:$TEST_NGINX_HTML_DIR/old.sock:/; }
        location /t/new { proxy_pass https://unix:$TEST_NGINX_HTML_DIR/new.sock:/; }
    }
--- exchanges
GET /t/old?option=min_version&value=TLSv1.2    => /^TLSv1.2 .* client=CN=client-1,O=Test/
GET /t/new?option=min_version&value=TLSv1.2    => /^TLSv1.3 .* client=CN=client-1,O=Test/
GET /t/old?option=min_version&value=TLSv1.3    => 502
GET /t/new?option=max_version&value=TLSv1.2    => 502
for $service (old new)
    GET /t/$service?option=groups&value=P-384  => 502
    # The key of the service's certificate is of another kind.
    GET /t/$service?option=signature_algorithms&value=RSA-PSS+SHA256 => 502
--- no_error_log
[alert]



=== TEST 3: what OpenSSL does not know is an error when it is set
--- config
    location /set {
        access_by_lua_block {
            local function try(options)
                ngx.say((select(2, kong.service.set_tls_options(options))))
            end
            try { ciphers = "ECDHE-RSA-AES128-GCM-SHA256:NONE-SUCH" }
            try { ciphers = "HIGH:!aNUL" }
            try { ciphers = "" }
            try { ciphersuites = "TLS_AES_128_GCM_SHA256:TLS_NONE" }
            try { groups = "X25519:none" }
            try { signature_algorithms = "none" }
            try { min_version = "TLSv1.4" }
            try { max_version = "SSLv3" }
            try { min_version = "TLSv1.3", max_version = "TLSv1.2" }
            try {}
            ngx.exit(200)
        }
    }
--- exchanges
GET /set =>
    ciphers must hold names that OpenSSL knows: given "NONE-SUCH"
    ciphers must hold names that OpenSSL knows: given "!aNUL"
    ciphers must hold names that OpenSSL knows: given ""
    ciphersuites must hold names that OpenSSL knows: given "TLS_NONE"
    groups must hold names that OpenSSL knows: given "X25519:none"
    signature_algorithms must hold names that OpenSSL knows: given "none"
    min_version must be one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3: given "TLSv1.4"
    max_version must be one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3: given "SSLv3"
    min_version must not be later than max_version
    at least one option must be set
--- no_error_log
[alert]



=== TEST 4: a group of OpenSSL 3.5 for TLS 1.3, where it is there
--- skip_eval
2: TestKong::about_nginx() !~ /(?:built|running) with OpenSSL (?:3\.[5-9]|[4-9])/
--- http_config
    speaks both { ssl_protocols TLSv1.3; ssl_ecdh_curve X25519MLKEM768:X25519; }
    speaks old { ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; }
--- config
    location /t {
        access_by_lua_block { assert(kong.service.set_tls_options { groups = ngx.var.arg_groups }) }
        proxy_ssl_protocols TLSv1.3;
        proxy_pass https://unix:$TEST_NGINX_HTML_DIR/$arg_to.sock:/;
    }
--- exchanges
# Some versions of nginx say a group's number.
GET /t?to=both&groups=X25519MLKEM768         => /^TLSv1.3 \S+ (?:X25519MLKEM768|0x11ec) /
GET /t?to=both&groups=X25519MLKEM768:X25519  => /^TLSv1.3 \S+ (?:X25519MLKEM768|0x11ec) /
GET /t?to=old&groups=X25519MLKEM768:X25519   => /^TLSv1.3 \S+ X25519 /
GET /t?to=old&groups=X25519MLKEM768          => 502
GET /t?to=both&groups=?X25519NONE:X25519     => /^TLSv1.3 \S+ X25519 /
--- no_error_log
[crit]
[alert]
