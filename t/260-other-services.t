# SPDX-License-Identifier: Apache-2.0

# Services other than nginx: Apache httpd, HAProxy and openssl s_server, which require a client certificate.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;
use TestPrograms;
use TestService;
use TestHarness 'no_plan';

use IO::Socket::INET;
use IO::Socket::UNIX;
use NginxTest::Port ();

require_program('apache2', 'haproxy', 'openssl', 'timeout');
repeat_each(1);

# ---- services ------------------------------------------------------------------------------------

my $folder = test_folder();
my $pki = $ENV{TEST_NGINX_PKI};
$ENV{TEST_NGINX_SERVICES} = $folder;
$ENV{TEST_NGINX_APACHE} = NginxTest::Port::free_port();
$ENV{TEST_NGINX_RENEGOTIATING} = NginxTest::Port::free_port();
$ENV{TEST_NGINX_RSA} = NginxTest::Port::free_port();

write_to("$folder/$_", "$_ from Apache\n") for qw(hello secret);
start_program(
    'apache', sub { IO::Socket::INET->new("127.0.0.1:$ENV{TEST_NGINX_APACHE}") },
    'apache2', '-D', 'FOREGROUND', '-f', write_to("$folder/apache.conf", join "\n",
        "ServerRoot $folder", "PidFile $folder/apache.pid", 'ServerName service.test',
        "ErrorLog $folder/apache.log", "Listen 127.0.0.1:$ENV{TEST_NGINX_APACHE}",
        (map {"LoadModule ${_}_module /usr/lib/apache2/modules/mod_$_.so"}
            qw(mpm_event authz_core headers socache_shmcb ssl)),
        $> ? () : ('User www-data', 'Group www-data'),
        'StartServers 1', "DocumentRoot $folder", "DefaultRuntimeDir $folder",
        'SSLEngine on', "SSLSessionCache shmcb:$folder/apache-sessions(512000)",
        "SSLCertificateFile $pki/service.crt", "SSLCertificateKeyFile $pki/service.key",
        "SSLCACertificateFile $pki/ca.crt", 'SSLVerifyClient require', 'SSLVerifyDepth 3',
        'KeepAliveTimeout 60',
        'Header always set X-Seen "%{SSL_CLIENT_S_DN_CN}s %{SSL_PROTOCOL}s %{SSL_SESSION_RESUMED}s"',
        # Requests a certificate when the path of the request is known.
        asks_later($ENV{TEST_NGINX_RENEGOTIATING}),
        asks_later($ENV{TEST_NGINX_RSA}, 'SSLOpenSSLConfCmd ClientSignatureAlgorithms RSA-PSS+SHA256:RSA+SHA256'),
        '')
);

# Returns a virtual host of Apache that requests a certificate for some paths only.
sub asks_later {
    my ($port, @more) = @_;
    return (
        "Listen 127.0.0.1:$port", "<VirtualHost 127.0.0.1:$port>", 'SSLEngine on', 'SSLVerifyClient none', @more,
        '<Location /secret>', 'SSLVerifyClient require', '</Location>', '</VirtualHost>'
    );
}

# HAProxy needs the certificate and the key in one file.
my $pem = join '', map { open my $file, '<', "$pki/service.$_" or die $!; local $/; <$file> } qw(crt key);
start_program(
    'haproxy', sub { IO::Socket::UNIX->new("$folder/haproxy.sock") },
    'haproxy', '-db', '-f', write_to("$folder/haproxy.conf", join "\n",
        'global', 'defaults', ' mode http', map({" timeout $_ 30s"} qw(connect client server)),
        'frontend service',
        " bind unix\@$folder/haproxy.sock mode 777 ssl crt " . write_to("$folder/haproxy.pem", $pem)
            . " ca-file $pki/ca.crt verify required",
        ' http-request return status 200 hdr X-Seen "%[ssl_c_s_dn(CN)] %[ssl_fc_protocol]'
            . ' %[ssl_fc_is_resumed,iif(Resumed,Initial)]"',
        '')
);

start_s_server('s_server', '-Verify', 2, '-verify_return_error', '-CAfile', "$pki/ca.crt");

# ---- the gateway ---------------------------------------------------------------------------------

# "/t" requests each service twice with each certificate, in turn; "/<service>?cert=<name>" requests it once. The name
# of a block has the version of TLS, and says whether connections are kept.
add_block_preprocessor(sub {
    my ($block) = @_;
    my ($tls) = $block->name =~ /TLS 1\.([23])/ or return;
    my $keepalive = $block->name =~ /kept/ ? 'kong_tls_keepalive 8;' : '';
    my $connection = $keepalive ? '' : 'close';

    $block->set_value('http_config', $block->http_config . <<"_EOC_");
    upstream apache {
        server 127.0.0.1:\$TEST_NGINX_APACHE;
        $keepalive
    }
    upstream haproxy {
        server unix:\$TEST_NGINX_SERVICES/haproxy.sock;
        $keepalive
    }
    upstream s_server {
        server unix:\$TEST_NGINX_SERVICES/s_server.sock;
    }
    init_worker_by_lua_block {
        other = require("resty.kong.x509").store { pem = require("pki").read("other-ca") }
    }
_EOC_
    $block->set_value('config', (join '', map { <<"_EOC_" } qw(apache haproxy s_server)) . <<'_EOC_');
    location /$_ {
        access_by_lua_block {
            local name = ngx.var.arg_cert
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
            assert(kong.service.set_tls_verify(true))
            if ngx.var.arg_trust then
                assert(kong.service.set_tls_verify_store(other))
            end
        }
        proxy_ssl_trusted_certificate \$TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_ssl_protocols TLSv1.$tls;
        proxy_http_version 1.1;
        proxy_set_header Connection "$connection";
        proxy_pass https://$_/hello;
        # The page of s_server says what it has seen.
        header_filter_by_lua_block { ngx.header.content_length = nil }
        body_filter_by_lua_block {
            ngx.ctx.page = (ngx.ctx.page or "") .. ngx.arg[1]
            ngx.arg[1] = nil
            if ngx.arg[2] then
                local page = ngx.ctx.page
                local kind, version = page:match("(%a+), (TLSv[%d.]+), Cipher is")
                local seen = ngx.var.upstream_http_x_seen
                if kind then
                    seen = page:match("Subject: [^\\n]*CN ?= ?([^\\n]*)") .. " "
                           .. page:match("Protocol  : (%S+)") .. " " .. (kind == "Reused" and "Resumed" or "Initial")
                end
                ngx.arg[1] = ngx.status .. " " .. (seen or "-")
            end
        }
    }
_EOC_
    location /t {
        content_by_lua_block {
            local client = require "client"
            for _, service in ipairs { "apache", "haproxy", "s_server" } do
                local function try(arguments)
                    local url = "http://127.0.0.1:$TEST_NGINX_SERVER_PORT/" .. service .. "?" .. arguments
                    ngx.say(service, " ", arguments, ": ", client.curl({ url }).out)
                end
                for turn = 1, 2 do
                    try "cert=client1"
                    try "cert=rsa"
                    try "cert=intermediate"
                end
                try ""
                try "cert=client1&trust=other"
                try "cert=client1"
            end
        }
    }
_EOC_
});

# Returns what "/t" prints, with the kind of the second handshake that each service should see for a certificate.
sub expected {
    my ($version, %second) = @_;
    my $text = '';
    for my $service (qw(apache haproxy s_server)) {
        my @lines = map {"cert=$_->[0]: 200 $_->[1] $version "}
            (['client1', 'client-1'], ['rsa', 'client-rsa'], ['intermediate', 'client-intermediate']);
        $text .= "$service $_\n" for
            (map {"${_}Initial"} @lines), (map {"$_$second{$service}"} @lines),
            ': 502 -', 'cert=client1&trust=other: 502 -', "$lines[0]$second{$service}";
    }
    return $text;
}

run_tests();

__DATA__

=== TEST 1: each certificate resumes its own session over TLS 1.3
--- config
--- request
GET /t
--- response_body eval
main::expected('TLSv1.3', apache => 'Resumed', haproxy => 'Resumed', s_server => 'Resumed')
--- error_log
upstream SSL certificate verify error
--- no_error_log
[alert]



=== TEST 2: each certificate resumes its own session over TLS 1.2
--- config
--- request
GET /t
--- response_body eval
main::expected('TLSv1.2', apache => 'Resumed', haproxy => 'Resumed', s_server => 'Resumed')
--- error_log
upstream SSL certificate verify error
--- no_error_log
[alert]



=== TEST 3: each certificate has its own kept connection over TLS 1.3 (s_server keeps none)
--- config
--- request
GET /t
--- response_body eval
main::expected('TLSv1.3', apache => 'Initial', haproxy => 'Initial', s_server => 'Resumed')
--- error_log
upstream SSL certificate verify error
--- no_error_log
[alert]



=== TEST 4: each certificate has its own kept connection over TLS 1.2 (s_server keeps none)
--- config
--- request
GET /t
--- response_body eval
main::expected('TLSv1.2', apache => 'Initial', haproxy => 'Initial', s_server => 'Resumed')
--- error_log
upstream SSL certificate verify error
--- no_error_log
[alert]



=== TEST 5: a service may renegotiate on a kept connection
--- http_config
    upstream apache {
        server 127.0.0.1:$TEST_NGINX_RENEGOTIATING;
        kong_tls_keepalive 8;
    }
--- config
    location /apache/ {
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(cert.client1, key.client1))
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_protocols TLSv1.2;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_http_version 1.1;
        proxy_set_header Connection keep-alive;
        proxy_pass https://apache/;
        header_filter_by_lua_block {
            ngx.header.content_length = nil
            -- The number of requests that the service still accepts on this connection.
            local left = (ngx.var.upstream_http_keep_alive or ""):match("max=%d+")
            ngx.ctx.line = table.concat({ ngx.status, ngx.var.upstream_http_x_seen or "-", left or "-" }, " ") .. "\n"
        }
        body_filter_by_lua_block { ngx.arg[1] = ngx.arg[2] and ngx.ctx.line or nil }
    }
--- exchanges
# nginx does not repeat a request that is not idempotent.
GET /apache/hello        => 200 200 (null) TLSv1.2 Initial max=100
POST /apache/secret\na=b => 200 200 client-1 TLSv1.2 Initial max=99
POST /apache/secret\na=b => 200 200 client-1 TLSv1.2 Initial max=98
--- no_error_log
[crit]
does not match



=== TEST 6: a service may request a certificate after the handshake, on a new connection and on a kept one
--- http_config
    upstream apache {
        server 127.0.0.1:$TEST_NGINX_RENEGOTIATING;
        kong_tls_keepalive 8;
    }
--- config
    location /apache/ {
        access_by_lua_block {
            local name = ngx.var.arg_cert
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            end
            assert(kong.service.set_tls_verify(true))
        }
        proxy_ssl_protocols TLSv1.3;
        proxy_ssl_trusted_certificate $TEST_NGINX_PKI/ca.crt;
        proxy_ssl_name service.test;
        proxy_http_version 1.1;
        proxy_set_header Connection keep-alive;
        proxy_pass https://apache/;
        header_filter_by_lua_block {
            ngx.header.content_length = nil
            ngx.ctx.line = ngx.status .. " " .. (ngx.var.upstream_http_x_seen or "-") .. "\n"
        }
        body_filter_by_lua_block { ngx.arg[1] = ngx.arg[2] and ngx.ctx.line or nil }
    }
--- exchanges
GET /apache/secret?cert=client1 => /^200 client-1 TLSv1\.3 /
GET /apache/hello?cert=client2  => /^200 \(null\) TLSv1\.3 /
GET /apache/secret?cert=client2 => /^200 client-2 TLSv1\.3 /
GET /apache/secret?cert=client1 => /^200 client-1 TLSv1\.3 /
GET /apache/secret              => 403 /^403 /
--- no_error_log
[error]
[crit]



=== TEST 7: a request is refused if the service requests a certificate later, and accepts no signature of the key
--- config
    location /apache/ {
        access_by_lua_block {
            local name = ngx.var.arg_cert
            assert(kong.service.set_tls_cert_key(cert[name], key[name]))
        }
        location /apache/12/ {
            proxy_ssl_protocols TLSv1.2;
            proxy_pass https://127.0.0.1:$TEST_NGINX_RSA/;
        }
        location /apache/13/ {
            proxy_ssl_protocols TLSv1.3;
            proxy_pass https://127.0.0.1:$TEST_NGINX_RSA/;
        }
    }
--- exchanges
for $version (12 13)
    GET /apache/$version/secret?cert=rsa     => 200
    GET /apache/$version/hello?cert=client1  => 200
    GET /apache/$version/secret?cert=client1 => 502
--- grep_error_log eval
qr/\[error\]|could not apply client certificate and key: [^()]+ \(TLSv1..\)/
--- grep_error_log_out eval
CORE::join "", map {"[error]\ncould not apply client certificate and key: the key is EC P-256, and the service takes RSA-PSS+SHA256, RSA+SHA256 (TLSv1.$_)\n"} 2, 3
--- no_error_log
[crit]
[alert]
