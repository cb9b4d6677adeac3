# SPDX-License-Identifier: Apache-2.0

package TestService;

# The services of the tests: TLS servers on unix sockets, and Lua objects to call them with. Each block of a file that
# uses this module gets them before its own http_config:
#
#     upstream service      a server with a certificate for service.test, signed by "ca", that
#                           requests a client's certificate, and answers with what it saw
#     upstream other        the same with a certificate of "other-ca"
#     upstream deep         the same with a certificate two intermediates below "ca"
#     upstream grpc         as service, with HTTP/2 for clients that offer it
#     upstream grpc-deep    as deep, likewise
#
# and in Lua: kong, tls (resty.kong.tls), pki, and the certificates and keys of client1, client2, client-rsa,
# client-weak, client-intermediate as cert.client1, key.client1, ..., and lists of CAs as ca.root, ca.other, ca.both,
# ca.intermediate. A service answers with a line such as "client=CN=client-1,O=Test reused=. TLSv1.3". /seen answers
# with all that the service knows of the connection, and /seen/last then closes it (but for HTTP/2).
#
# A line of config or http_config may be one of these, which many blocks need:
#
#     certificate service;  ssl_certificate and its key, by their name in the PKI
#     keeps_connections;    what proxy_pass needs for connections that are kept
#     client_argument;      an access phase that sets the certificate which the argument "client" names

use strict;
use warnings;

use TestHarness ();
use TestKong;

my $SAID = 'client=$ssl_client_s_dn reused=$ssl_session_reused $ssl_protocol';
my $SEEN = join ' ', 'client=$ssl_client_s_dn', 'serial=$ssl_client_serial',
    'chain=$ssl_client_verify', 'sni=$ssl_server_name', 'reused=$ssl_session_reused',
    'requests=$connection_requests';

# Returns whether both sides speak HTTP/3. With OpenSSL's QUIC, curl sometimes treats it as an error that nginx has
# closed a connection.
sub speaks_quic {
    return TestKong::about_nginx() =~ /--with-http_v3_module/ && `curl --version` =~ /\bngtcp2\b/;
}

# Turns off keepalive in blocks that don't mention it. t/145-default-keepalive.t tests blocks that keep connections by
# default.
sub _as_said {
    my ($config) = @_;
    return $config unless keeps_by_default();
    my $braces = qr/(\{(?:[^{}]++|(?-1))*\})/;
    $config =~ s/^( *upstream [^\s{]+ )$braces/
        my ($name, $block) = ($1, $2);
        $block =~ m![\s;{](?:kong_tls_)?keepalive ! || $block =~ s!^\{!{\n        keepalive 0;!;
        "$name$block"
    /gme;
    return $config;
}

my %SNIPPETS = (
    keeps_connections => [
        'proxy_http_version 1.1;',
        'proxy_set_header Connection "";',
    ],
    client_argument => [
        'access_by_lua_block {',
        '    local name = ngx.var.arg_client',
        '    if name then',
        '        assert(kong.service.set_tls_cert_key(cert[name], key[name]))',
        '    end',
        '}',
    ],
);

sub _expand_snippets {
    my ($config) = @_;
    my $names = join '|', sort keys %SNIPPETS;
    $config =~ s{^( *)($names);\n}{join '', map {"$1$_\n"} @{ $SNIPPETS{$2} }}mge;
    $config =~ s{^( *)certificate ([\w-]+);\n}{join '', map {"$1$_\n"}
        "ssl_certificate \$TEST_NGINX_PKI/$2.crt;", "ssl_certificate_key \$TEST_NGINX_PKI/$2.key;"}mge;
    return $config;
}

sub _server {
    my ($socket, $certificate, $http2) = @_;
    my ($listen, $directive) = $http2 ? http2_server() : ('', '');
    return <<"_EOC_";
    upstream $socket {
        server unix:\$TEST_NGINX_HTML_DIR/$socket.sock;
    }

    server {
        listen unix:\$TEST_NGINX_HTML_DIR/$socket.sock ssl$listen;
        $directive
        server_name service.test;
        ssl_certificate \$TEST_NGINX_PKI/$certificate.crt;
        ssl_certificate_key \$TEST_NGINX_PKI/$certificate.key;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate \$TEST_NGINX_PKI/ca.crt;

        location / {
            return 200 "$SAID\\n";
        }
        location /sni {
            return 200 "sni=\$ssl_server_name\\n";
        }
        location /number {
            return 200 "sni=\$ssl_server_name client=\$ssl_client_s_dn connection=\$connection_requests\n";
        }
        location /connection {
            return 200 "client=\$ssl_client_s_dn connection=\$connection_requests\\n";
        }
        location /seen {
            return 200 "$SEEN\\n";
        }
        location /seen/last {
            keepalive_timeout 0;
            return 200 "$SEEN\\n";
        }
        location /fail {
            return 503;
        }
    }
_EOC_
}

my $CONFIG = <<'_EOC_';
    lua_package_path "$TEST_NGINX_SUPPORT/?.lua;;";

    init_by_lua_block {
        -- Different in each configuration that is loaded.
        loaded = tostring({}) .. ngx.now()
        kong = require "resty.kong.pdk"
        tls = require "resty.kong.tls"
        pki = require "pki"
        cert, key = {}, {}
        for name, field in pairs {
            client1 = "client1", client2 = "client2", ["client-rsa"] = "rsa",
            ["client-weak"] = "weak", ["client-intermediate"] = "intermediate",
        } do
            cert[field], key[field] = pki.chain(name), pki.key(name)
        end
        ca = { root = pki.chain("ca"), other = pki.chain("other-ca"), both = pki.chain("bundle"),
               intermediate = pki.chain("intermediate") }
    }
_EOC_

# Socket, certificate, and whether it speaks HTTP/2.
my @SERVERS = (
    ['service',   'service',       0],
    ['other',     'service-other', 0],
    ['deep',      'service-deep',  0],
    ['grpc',      'service',       1],
    ['grpc-deep', 'service-deep',  1],
);

# In http_config, "gateway { ... }" is a TLS server on gateway.sock with these settings. It answers with the result of
# the client's verification, and the number of certificates that the client presented.
my $GATEWAY = <<'_EOC_';
    server {
        listen unix:$TEST_NGINX_HTML_DIR/gateway.sock ssl;
        server_name gateway.test;
        ssl_certificate $TEST_NGINX_PKI/gateway.crt;
        ssl_certificate_key $TEST_NGINX_PKI/gateway.key;
        ssl_protocols TLSv1.2 TLSv1.3;
SETTINGS
        location / {
            content_by_lua_block {
                local pem, err = kong.client.tls.get_full_client_certificate_chain()
                local count = pem and select(2, pem:gsub("BEGIN CERTIFICATE", "")) or "no"
                ngx.say(ngx.var.kong_client_verify, ", ", count, " certificates",
                        err and ", " .. err or "")
            }
        }
    }
_EOC_

sub _expand_gateway {
    my ($config) = @_;
    $config =~ s{^    gateway \{\n(.*?)^    \}\n}{
        my $settings = $1;
        (my $server = $GATEWAY) =~ s/SETTINGS\n/$settings/;
        $server
    }mse;
    return $config;
}

# `use TestService ':default_keepalive'` leaves blocks that don't mention keepalive as they are.
sub import {
    my (undef, $default_keepalive) = @_;
    my $config = $CONFIG . join '', map { _server(@$_) } @SERVERS;
    TestHarness::add_block_preprocessor(sub {
        my ($block) = @_;
        my $all = $config . _expand_snippets(_expand_gateway($block->http_config // ''));
        $block->set_value('http_config', $default_keepalive ? $all : _as_said($all));
        $block->set_value('config', _expand_snippets($block->config)) if defined $block->config;
    });
    return;
}

1;
