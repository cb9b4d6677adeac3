# SPDX-License-Identifier: Apache-2.0

# Lua code that takes part in the handshake with a service (proxy_ssl_certificate_by_lua*, proxy_ssl_verify_by_lua*):
# what it selects or decides is part of no TLS identity. So such a location keeps connections and sessions only if the
# request sets its certificate, and OpenSSL alone verifies.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestPrograms;
use TestProcesses;

use Test::More;

require_program('curl', 'gcc', 'nginx');

my $folder = test_folder();
my $pki = $ENV{TEST_NGINX_PKI};

my ($build) = grep { defined && -f "$_/Makefile" }
    $ENV{NGINX_BUILD_DIR}, defined $ENV{NGINX_SOURCE_DIR} ? "$ENV{NGINX_SOURCE_DIR}/objs" : undef, glob 'target/nginx-src*/objs';
die "no configured sources of nginx\n" unless $build;
my $own = grep {/\bproxy_ssl_certificate_by_lua_block\b/} map { slurp($_) } grep {/lua/} split ' ', $ENV{TEST_NGINX_LOAD_MODULES};
plan skip_all => 'this Lua module has the directives itself, and needs no stand-ins' if $own;

my ($includes) = slurp("$build/Makefile") =~ /^ALL_INCS = ((?:\N*\\\n)*\N*)/m or die "$build/Makefile has no includes\n";
my @includes = map { m{\A/} ? $_ : "$build/../$_" } $includes =~ /-I (\S+)/g;
system('gcc', '-Wall', '-Werror', '-shared', '-fPIC', '-o', "$folder/lua-handshake.so", 't/support/lua-handshake.c',
    map { ('-I', $_) } @includes) == 0 or die "t/support/lua-handshake.c can't be compiled\n";
# Loads it after the Lua module, and before the module under test.
$ENV{TEST_NGINX_LOAD_MODULES} =~ s{(?=\S+/ngx_http_kong_tls_module\.so)}{$folder/lua-handshake.so };

# ---- nginx ---------------------------------------------------------------------------------------

my @VERSIONS = qw(1.2 1.3);
start_nginx('services', http => join '', "log_format seen '\$request_uri';\n", map {<<"_EOC_"} @VERSIONS);
    server {
        listen unix:$folder/service$_.sock ssl;
        ssl_protocols TLSv$_;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional_no_ca;
        access_log $folder/service.log seen;
        return 200 "\$ssl_client_s_dn \$ssl_session_reused \$connection_requests\\n";
    }
_EOC_
# s_server prints whose certificate it gets.
start_s_server("s_server-$_", '-tls' . tr/./_/r, '-verify', 2, '-CAfile', "$pki/ca.crt") for @VERSIONS;

my @BLOCKS = qw(ours nginx both none lua);
my $s_servers = join '', map {"upstream s_server-$_ { server unix:$folder/s_server-$_.sock; }\n"} @VERSIONS;
my %keepalive = (ours => 'kong_tls_keepalive 8;', nginx => 'keepalive 8;', both => 'keepalive 8; kong_tls_keepalive 8;');
my $blocks = join '', map {
    my $version = $_;
    map {
        my $server = $_ eq 'lua'
            ? "server 0.0.0.1; balancer_by_lua_block { assert(require('ngx.balancer').set_current_peer('unix:$folder/service$version.sock')) }"
            : "server unix:$folder/service$version.sock;";
        "    upstream $_-$version { $server @{[$keepalive{$_} // '']} }\n";
    } @BLOCKS
} @VERSIONS;
my $locations = join '', map {
    my $version = $_;
    map {<<"_EOC_"} @BLOCKS, 's_server'
            location /chosen/$_-$version {
                proxy_ssl_certificate_by_lua_file $pki;
                proxy_ssl_protocols TLSv$version;
                proxy_pass https://$_-$version;
            }
            location /judged/$_-$version {
                proxy_ssl_verify_by_lua_file x;
                proxy_ssl_verify on;
                proxy_ssl_protocols TLSv$version;
                proxy_pass https://$_-$version;
            }
            location /judged-later/$_-$version {
                proxy_ssl_verify_by_lua_file x;
                proxy_ssl_protocols TLSv$version;
                proxy_pass https://$_-$version;
            }
            location /plain/$_-$version {
                proxy_ssl_protocols TLSv$version;
                proxy_pass https://$_-$version;
            }
_EOC_
} @VERSIONS;
start_nginx('gateway', modules => 1, log => 'info', http => <<"_EOC_");
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local pki = require "pki"
        chain, key = pki.chain("$pki/client1"), pki.key("$pki/client1")
    }
$blocks
$s_servers
    server {
        listen unix:$folder/gateway.sock;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_ssl_name service.test;
        proxy_ssl_trusted_certificate $pki/ca.crt;
        proxy_next_upstream off;
        add_header X-Identity \$kong_upstream_ssl_identity;
        access_by_lua_block {
            if ngx.var.arg_set then
                assert(kong.service.set_tls_cert_key(chain, key))
            end
            if ngx.var.arg_verify then
                assert(kong.service.set_tls_verify(true))
            end
        }
$locations
    }
_EOC_

sub ask {
    my ($uri) = @_;
    my ($status, undef, $body) = http_get("$folder/gateway.sock", $uri);
    return $status eq '200' ? $body =~ s/\n\z//r : $status;
}

# ---- certificates selected by Lua code -----------------------------------------------------------

for my $version (@VERSIONS) {
    for my $block (map {"$_-$version"} @BLOCKS) {
        for my $turn (1 .. 2) {
            is(ask("/chosen/$block?t=client1"), 'CN=client-1,O=Test . 1',
                "$block: Lua code selects client1 for one request");
            is(ask("/chosen/$block?t=client2"), 'CN=client-2,O=Test . 1',
                "$block: Lua code selects client2 for another, in a full handshake");
            is(ask("/chosen/$block"), ' . 1',
                "$block: Lua code selects no certificate for another, in a full handshake");
        }
        is(ask("/chosen/$block?t=client2&verify=1"), 'CN=client-2,O=Test . 1',
            "$block: Lua code selects the certificate beside set_tls_verify") for 1 .. 2;
        # Only set_tls_cert_key decides, so the connection may be kept.
        like(ask("/chosen/$block?t=client2&set=1"), qr/^CN=client-1,O=Test /,
            "$block: set_tls_cert_key overrides the certificate that Lua code selects")
            for 1 .. 2;
        if ($block !~ /^nginx/) {
            like(ask("/chosen/$block?t=client2&set=1"), qr/^CN=client-1,O=Test (?:r 1|[.r] [2-9])$/,
                "$block: the session or connection of set_tls_cert_key is reused");
        }
        # Leaves a connection without a certificate idle, where connections are kept.
        ask("/plain/$block");
        is(ask("/chosen/$block?t=client2"), 'CN=client-2,O=Test . 1',
            "$block: no idle connection of another location is used");
    }

# ---- services verified by Lua code ---------------------------------------------------------------

    for my $block (map {"$_-$version"} @BLOCKS) {
        for my $path ("/judged/$block", "/judged-later/$block") {
            my $verify = $path =~ /later/ ? '&verify=1' : '';
            my @settings = ('', '&set=1', '&verify=1', '&set=1&verify=1');
            @settings = grep {/verify/} @settings if $verify;
            for my $settings (@settings) {
                my $who = $settings =~ /set/ ? 'CN=client-1,O=Test' : '';
                is(ask("$path?a=1$settings"), "$who . 1",
                    "$path$settings: a service that Lua code accepts gets the request");
                is(ask("$path?bad=1$settings"), '502', "$path$settings: a service that Lua code rejects is a 502");
                is(ask("$path?a=1$settings"), "$who . 1",
                    "$path$settings: the next request verifies the service again");
            }
        }
    }
}

# A service that Lua code rejects does not get the client's certificate.
for my $version (@VERSIONS) {
    my $shown = sub { slurp("$folder/s_server-$version.out") =~ /client-1/ };
    is(ask("/judged-later/s_server-$version?bad=1&set=1&verify=1"), '502',
        "TLS $version: the rejected service is a 502");
    ok(!$shown->(), "TLS $version: the rejected service gets no certificate");
    isnt(ask("/judged-later/s_server-$version?a=1&set=1&verify=1"), '502',
        "TLS $version: the accepted service is no 502");
    ok($shown->(), "TLS $version: the accepted service gets the certificate");
}

# ---- a reload ------------------------------------------------------------------------------------

# What Lua code does can't be told, so the next configuration has another context.
sub identity_in {
    my ($location) = @_;
    my (undef, $headers) = http_get("$folder/gateway.sock", "$location?set=1");
    return $headers =~ /^X-Identity: ([0-9a-f]{16})\r?$/m ? $1 : die "no identity: $headers\n";
}

my %before = map { $_ => identity_in($_) } '/chosen/none-1.3', '/plain/none-1.3';
my ($worker) = workers('gateway');
kill 'HUP', master('gateway');
wait_until('a new worker', sub { my @now = workers('gateway'); return @now == 1 && $now[0] != $worker });
isnt(identity_in('/chosen/none-1.3'), $before{'/chosen/none-1.3'}, 'a location with Lua code has another identity after a reload');
is(identity_in('/plain/none-1.3'), $before{'/plain/none-1.3'}, 'a location without Lua code has the same identity');

my $log = slurp("$folder/gateway.log");
like($log, qr/upstream SSL certificate verify error: \(50:application verification failure\)/,
    'a rejection is logged as a failed verification of nginx');
unlike($log, qr/\[(?:crit|alert|emerg)\]/, 'no entries of level crit, alert or emerg are logged');
unlike(slurp("$folder/service.log"), qr/bad=1/, 'no rejected service gets a request');
done_testing();
