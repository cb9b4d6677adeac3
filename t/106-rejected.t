# SPDX-License-Identifier: Apache-2.0

# A request with settings may fail for reasons of its own: a service that rejects its certificate has not failed, and
# no other service is tried. What would have failed for any request is a failure of the service.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestPrograms;
use TestProcesses;
use TestRelay;

use Test::More;

require_program('curl', 'openssl', 'timeout');

my $folder = test_folder();
my $pki = $ENV{TEST_NGINX_PKI};

# ---- services ------------------------------------------------------------------------------------

my @VERSIONS = qw(1.2 1.3);
my %rejecting = map {
    my $version = $_;
    $version => [map { "unix:" . start_s_server("rejecting$_-$version", '-tls' . $version =~ tr/./_/r,
        '-Verify', 2, '-verify_return_error', '-CAfile', "$pki/ca.crt") } 1, 2]
} @VERSIONS;
start_nginx('services', http => join '', map {<<"_EOC_"} @VERSIONS);
    server {
        listen unix:$folder/service$_.sock ssl;
        ssl_protocols TLSv$_;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional_no_ca;
        # Only an answer may show that a certificate was accepted.
        ssl_session_tickets off;
        ssl_conf_command NumTickets 0;
        return 200 "\$ssl_client_s_dn\\n";
    }
_EOC_
my %relay = map { $_ => start_relay("$folder/service$_.sock") } @VERSIONS;
my ($nobody) = free_ports(1);

# ---- the gateway ---------------------------------------------------------------------------------

# An upstream of two servers for each case, so that failures of one case don't affect another.
my @cases = map {
    my $version = $_;
    map { +{ name => "$_->[0]-$version", version => $version, servers => $_->[1] } }
        ['rejected', $rejecting{$version}],
        ['rejected-body', $rejecting{$version}],
        ['rejected-first', $rejecting{$version}],
        map { [$_, ["127.0.0.1:$relay{$version}", "127.0.0.1:$relay{$version}"]] }
            qw(answered-by-reset answered-by-close reset-at-once reset-in-flight stalls),
} @VERSIONS;
push @cases, { name => 'refused', version => '1.2', servers => ["127.0.0.1:$nobody", "127.0.0.1:$nobody"] };
my $blocks = join '', map {
    my $servers = join ' ', map {"server $_ max_fails=1 fail_timeout=1h;"} @{ $_->{servers} };
    "    upstream $_->{name} { $servers }\n";
} @cases;
my $locations = join '', map {<<"_EOC_"} @cases;
        location /$_->{name} {
            proxy_ssl_protocols TLSv$_->{version};
            proxy_pass https://$_->{name};
        }
_EOC_

start_nginx('gateway', modules => 1, log => 'info', http => <<"_EOC_");
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local pki = require "pki"
        cert, key = {}, {}
        for _, name in ipairs { "client1", "client-other", "client-weak" } do
            cert[name], key[name] = pki.chain("$pki/" .. name), pki.key("$pki/" .. name)
        end
    }
$blocks
    upstream broken {
        server 127.0.0.1:$relay{'1.2'} max_fails=2 fail_timeout=1s;
        server 127.0.0.1:$relay{'1.3'} max_fails=1 fail_timeout=1h backup;
    }
    upstream broken-kept {
        least_conn;
        server 127.0.0.1:$relay{'1.2'} max_fails=2 fail_timeout=1s;
        server 127.0.0.1:$relay{'1.3'} max_fails=1 fail_timeout=1h backup;
        keepalive 4;
    }
    @{[join '', map {"upstream kept-$_ { server 127.0.0.1:$relay{$_}; server 127.0.0.1:$relay{$_}; kong_tls_keepalive 4; }\n"} @VERSIONS]}
    server {
        listen unix:$folder/gateway.sock;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        client_max_body_size 0;
        add_header X-Servers \$upstream_addr always;
        proxy_connect_timeout 500ms;
        proxy_read_timeout 500ms;
        proxy_ssl_protocols TLSv1.2 TLSv1.3;
        proxy_ssl_session_reuse off;
        access_by_lua_block {
            local name = ngx.var.arg_cert
            if name then
                assert(kong.service.set_tls_cert_key(cert[name], key[name]))
            else
                assert(kong.service.set_tls_verify(false))
            end
        }
$locations
        @{[join '', map {"location /kept-$_ { proxy_ssl_protocols TLSv$_; proxy_pass https://kept-$_; }\n"} @VERSIONS]}
        location /broken { proxy_pass https://broken; }
        location /broken-kept { proxy_pass https://broken-kept; }
    }
_EOC_

# Returns the status of a request, and the number of servers that it was sent to.
sub ask {
    my ($path, @options) = @_;
    my $said = `curl -s -o /dev/null -D - --unix-socket $folder/gateway.sock -H Expect: @options 'http://x/$path'`;
    my ($status, $servers) = $said =~ /\AHTTP\S+ (\d+).*^X-Servers: (\N*)\r$/ms or return "no answer: $said";
    return $status . ' ' . split ', ', $servers;
}

# Returns the number of servers that were taken out since the last call.
my $read = 0;
sub taken_out {
    my $log = substr slurp("$folder/gateway.log"), $read;
    $read += length $log;
    return scalar(() = $log =~ /upstream server temporarily disabled/g);
}

# ---- failures that a request causes itself -------------------------------------------------------

write_to("$folder/body", 'x' x 4_000_000);
for my $version (@VERSIONS) {
    is(ask("rejected-$version?cert=client1"), '200 1', "TLS $version: a good certificate is accepted");
    is(ask("rejected-$version?cert=client-other"), '502 1',
        "TLS $version: no other server is tried when one rejects the certificate");
    is(ask("rejected-$version?cert=client1"), '200 1', "TLS $version: other requests are still served") for 1 .. 2;
    is(taken_out(), 0, "TLS $version: no server was taken out");

    is(ask("rejected-body-$version?cert=client-other", "--data-binary \@$folder/body"), '502 1',
        "TLS $version: no other server is tried when one rejects the certificate while a body is sent");
    is(ask("rejected-body-$version?cert=client1"), '200 1', "TLS $version: other requests are still served") for 1 .. 2;
    is(taken_out(), 0, "TLS $version: no server was taken out");

    is(ask("rejected-body-$version", "--data-binary \@$folder/body"), '502 1',
        "TLS $version: no other server is tried for a request with settings and without a certificate") for 1 .. 3;
    is(ask("rejected-body-$version?cert=client1"), '200 1', "TLS $version: other requests are still served") for 1 .. 2;
    is(taken_out(), 0, "TLS $version: no server was taken out");

    is(ask("rejected-first-$version?cert=client-other"), '502 1',
        "TLS $version: no other server is tried, however often the certificate is rejected") for 1 .. 4;
    is(taken_out(), 0, "TLS $version: no server was taken out");

    # Lets the ClientHello pass, and the first record of the flight with the client's certificate.
    for my $how (qw(reset close)) {
        break_off($relay{$version}, from => 'client', records => 2, part => 'none', how => $how);
        is(ask("answered-by-$how-$version?cert=client1"), '502 1',
            "TLS $version: no other server is tried when one answers the certificate with a $how");
        let_pass($relay{$version});
        is(ask("answered-by-$how-$version?cert=client1"), '200 1', "TLS $version: other requests are still served");
        is(taken_out(), 0, "TLS $version: no server was taken out");
    }

    # ---- failures that any request would have
    break_off($relay{$version}, from => 'server', records => 0, part => 'none', how => 'reset');
    is(ask("reset-at-once-$version?cert=client1"), '502 2',
        "TLS $version: the other server is tried after a reset without the client's certificate");
    is(taken_out(), 2, "TLS $version: both servers were taken out");
    break_off($relay{$version}, from => 'server', records => 1, part => 'half', how => 'reset');
    is(ask("reset-in-flight-$version?cert=client1"), '502 2',
        "TLS $version: the other server is tried after a reset before the CertificateRequest");
    is(taken_out(), 2, "TLS $version: both servers were taken out");
    break_off($relay{$version}, from => 'server', records => 0, part => 'none', how => 'stall');
    is(ask("stalls-$version?cert=client1"), '504 2',
        "TLS $version: the other server is tried when one does not answer");
    is(taken_out(), 2, "TLS $version: both servers were taken out");
    let_pass($relay{$version});
}
is(ask('refused?cert=client1'), '502 2', 'the other server is tried when nobody listens');
is(taken_out(), 2, 'both servers were taken out');

# ---- a certificate that was accepted before ------------------------------------------------------

# The number of records that the client sends, up to and including its first request.
my %records = ('1.2' => 7, '1.3' => 6);
for my $version (@VERSIONS) {
    break_off($relay{$version}, from => 'client', records => $records{$version}, part => 'few', how => 'reset');
    is(ask("kept-$version?cert=client1"), '200 1',
        "TLS $version: the first request is answered, and its connection kept");
    let_pass($relay{$version});
    is(ask("kept-$version?cert=client1"), '200 2',
        "TLS $version: another server is tried when a kept connection breaks, which does not reject the certificate");
}

# ---- attempts that say nothing about a failed server ---------------------------------------------

taken_out();
for my $block (qw(broken broken-kept)) {
    break_off($relay{'1.2'}, from => 'server', records => 0, part => 'none', how => 'reset');
    is(ask("$block?cert=client1"), '200 2', "$block: the backup answers when the first server fails") for 1 .. 2;
    is(taken_out(), 1, "$block: the first server is taken out");
    is(ask("$block?cert=client1"), '200 1', "$block: a server that was taken out is not tried");
    # nginx tries the server again after its fail_timeout.
    my $over = time + 2;
    wait_until('the server to be tried again', sub { time > $over });
    is(ask("$block?cert=client-weak"), '502 1', "$block: a certificate that OpenSSL refuses fails the request");
    is(taken_out(), 0, "$block: the refused certificate is no failure of the server");
    is(ask("$block?cert=client1"), '200 2', "$block: the next request tries the first server again");
    is(taken_out(), 1, "$block: the first server still fails, and is taken out");
    is(ask("$block?cert=client1"), '200 1', "$block: a server that was taken out again is not tried");
    let_pass($relay{'1.2'});
}

# nginx logs the alert "certificate required" as [crit], since it does not know that alert.
unlike(slurp("$folder/gateway.log"), qr/\[(?:crit|alert|emerg)\](?!\N*alert certificate required)/,
    'no other entries of level crit, alert or emerg are logged');
done_testing();
