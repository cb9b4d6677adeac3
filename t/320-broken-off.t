# SPDX-License-Identifier: Apache-2.0

# Peers close, reset, stall, or send plain text at each place of a handshake, and after it. A request ends as it does
# with stock nginx, no socket stays open, and nothing alarming is logged.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;
use TestRelay;

use Test::More;

require_program('curl', 'nginx');

my $folder = test_folder();
my $pki = $ENV{TEST_NGINX_PKI};

# More records than there are in a handshake and an answer.
my $RECORDS = 12;
my @PARTS = qw(none few half);
# The number of idle connections that are kept for each version of TLS.
my $KEPT = 4;

start_nginx('services', http => join '', map {<<"_EOC_"} qw(1.2 1.3));
    server {
        listen unix:$folder/service$_.sock ssl;
        ssl_protocols TLSv$_;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional_no_ca;
        ssl_client_certificate $pki/ca.crt;
        return 200 "\$ssl_client_s_dn\\n";
    }
_EOC_
my %service = map { $_ => start_relay("$folder/service$_.sock") } qw(1.2 1.3);

my $LOCATIONS = join '', map {<<"_EOC_"} qw(1.2 1.3);
        location /new/$_ { proxy_ssl_session_reuse off; proxy_pass https://127.0.0.1:$service{$_}; }
        location /resumed/$_ { proxy_pass https://127.0.0.1:$service{$_}; }
        location /kept/$_ { proxy_pass https://kept$_; }
_EOC_
# Short timeouts for a service that stalls.
$LOCATIONS .= "        location /short/ {\n            proxy_connect_timeout 300ms;\n            proxy_read_timeout 300ms;\n"
    . $LOCATIONS =~ s{location /}{location /short/}gr . "        }\n";
my $COMMON = <<"_EOC_";
    proxy_connect_timeout 10s;
    proxy_read_timeout 10s;
    proxy_next_upstream off;
    proxy_ssl_protocols TLSv1.2 TLSv1.3;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_ssl_name service.test;
    proxy_ssl_trusted_certificate $pki/ca.crt;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate $pki/gateway.crt;
    ssl_certificate_key $pki/gateway.key;
    ssl_session_cache shared:sessions:1m;
_EOC_
my $wait = $ENV{TEST_NGINX_NO_WAIT_IN_HANDSHAKE} ? '' : 'ngx.sleep(0.002)';
start_nginx('gateway', modules => 1, log => 'info', http => $COMMON . <<"_EOC_");
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local pki = require "pki"
        chain, key = pki.chain("$pki/client1"), pki.key("$pki/client1")
        authorities = pki.chain("$pki/ca")
    }
    upstream kept1.2 { server 127.0.0.1:$service{'1.2'}; kong_tls_keepalive $KEPT; }
    upstream kept1.3 { server 127.0.0.1:$service{'1.3'}; kong_tls_keepalive $KEPT; }
    server {
        listen unix:$folder/gateway.sock;
        access_by_lua_block {
            assert(kong.service.set_tls_cert_key(chain, key))
            assert(kong.service.set_tls_verify(true))
        }
$LOCATIONS
    }
    server {
        listen unix:$folder/gateway-tls.sock ssl;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(authorities))
            $wait
            if require("ngx.ssl").server_name() == "once.test" then
                assert(kong.client.tls.disable_session_reuse())
            end
        }
        location / {
            content_by_lua_block {
                ngx.say(ngx.var.ssl_client_verify, " ", #(kong.client.tls.get_full_client_certificate_chain() or "") > 0)
            }
        }
    }
_EOC_
start_nginx('stock', log => 'info', http => $COMMON . <<"_EOC_");
    upstream kept1.2 { server 127.0.0.1:$service{'1.2'}; keepalive $KEPT; }
    upstream kept1.3 { server 127.0.0.1:$service{'1.3'}; keepalive $KEPT; }
    server {
        listen unix:$folder/stock.sock;
        proxy_ssl_certificate $pki/client1.crt;
        proxy_ssl_certificate_key $pki/client1.key;
        proxy_ssl_verify on;
$LOCATIONS
    }
_EOC_

sub ask {
    my ($name, $path) = @_;
    my ($status, undef, $body) = http_get("$folder/$name.sock", $path);
    return $status eq '200' ? "200 $body" : $status;
}

# Returns the number of sockets that a gateway has open.
sub sockets {
    my ($name) = @_;
    my ($worker) = workers($name);
    return scalar grep { (readlink // '') =~ /^socket:/ } glob "/proc/$worker/fd/*";
}

sub alarms {
    my ($name) = @_;
    # nginx logs [crit] when OpenSSL fails with an error that nginx does not know.
    return grep { /\[(?:alert|emerg)\]|panicked/ || /\[crit\]/ && !/SSL_(?:do_handshake|read|write)\(\) failed/ }
        split /^/, slurp("$folder/$name.log");
}

# The sockets before any request, and idle connections to services.
my $open = sockets('gateway') + 2 * $KEPT;

# ---- the service ---------------------------------------------------------------------------------

my $right = "200 CN=client-1,O=Test\n";

# A kept connection that ends while it is idle is closed: no request uses it.
for my $version (qw(1.2 1.3)) {
    my $before = sockets('gateway');
    for (1 .. 2 * $KEPT) {
        is ask('gateway', "/kept/$version"), $right, "TLS $version: a request is answered, and its connection kept";
        end_connections($service{$version});
        ok eval { wait_until('the connection to be closed', sub { sockets('gateway') <= $before }) },
            'a kept connection that ends while it is idle is closed';
    }
}

for my $version (qw(1.2 1.3)) {
    for my $how (qw(close reset plain stall)) {
        my $short = $how eq 'stall' ? '/short' : '';
        my (@differ, %seen);
        my $tried = 0;
        # Each stall takes long, so few places are tried.
        my @places = $how eq 'stall' ? map { [$_, 'half'] } 0, 1, 4, 7 : map { my $records = $_; map { [$records, $_] } @PARTS } 0 .. $RECORDS;
        for my $place (@places) {
            my ($records, $part) = @$place;
            break_off($service{$version}, from => 'server', records => $records, part => $part, how => $how);
            my ($ours, $theirs) = map { ask($_, "$short/new/$version") } qw(gateway stock);
            $tried++;
            $seen{$ours =~ s/ .*//sr}++;
            # A reset may overtake what was sent before it.
            push @differ, "after $records records and $part: $ours, and stock nginx: $theirs"
                if $ours ne $theirs && $how ne 'reset';

            # Resumed sessions and kept connections may break at other places: their answers are right, or refusals.
            my %answer = (new => $ours, map { $_ => ask('gateway', "$short/$_/$version") } qw(resumed kept));
            push @differ, map {"$_, after $records records and $part: $answer{$_}"}
                grep { $answer{$_} !~ /\A(?:\Q$right\E|50[24])\z/ } sort keys %answer;
        }
        is join("\n", @differ), '',
            "TLS $version: the service breaks off ($how) in $tried places, and answers are the same or refusals";
        note join ', ', map {"$_: $seen{$_}"} sort keys %seen;
        cmp_ok keys %seen, '>', 1, 'some requests are served, and some are not' unless $how eq 'stall';

        let_pass($service{$version});
        is ask('gateway', "/$_/$version"), $right, "$_: requests are answered again" for qw(new resumed);
        # The gateway may not know yet that an idle connection has ended.
        my $answer;
        for (0 .. $KEPT) {
            $answer = ask('gateway', "/kept/$version");
            last if $answer eq $right;
        }
        is $answer, $right, 'kept: requests are answered again';
    }
}

# A kept connection that breaks with its second request.
for my $version (qw(1.2 1.3)) {
    my @wrong;
    # After the handshake and its tickets.
    for my $records (4 .. $RECORDS) {
        for my $how (qw(close reset plain)) {
            break_off($service{$version}, from => 'server', records => $records, part => 'half', how => $how);
            for (1 .. 3) {
                my $answer = ask('gateway', "/kept/$version");
                push @wrong, "$how after $records records: $answer" if $answer !~ /\A(?:\Q$right\E|502)\z/;
            }
        }
    }
    is join("\n", @wrong), '', "TLS $version: a kept connection that breaks leads to the right answer, or to a 502";
    let_pass($service{$version});
}

# ---- the client ----------------------------------------------------------------------------------

my $relay = start_relay("$folder/gateway-tls.sock");
sub connects {
    my ($name, @options) = @_;
    my $said = `curl -s --max-time 60 --cacert $pki/ca.crt --insecure --cert $pki/client1.crt --key $pki/client1.key \\
        @options --connect-to ::127.0.0.1:$relay https://$name/`;
    return $? ? 'no answer' : $said;
}
is connects('again.test'), "SUCCESS true\n", 'a client is authenticated when nothing breaks';
for my $version (qw(1.2 1.3)) {
    for my $from (qw(client server)) {
        for my $how (qw(close reset plain)) {
            my @wrong;
            for my $records (0 .. 6) {
                for my $part (@PARTS) {
                    break_off($relay, from => $from, records => $records, part => $part, how => $how);
                    my $answer = connects($records % 2 ? 'once.test' : 'again.test', "--tls-max $version");
                    push @wrong, "after $records records and $part: $answer" if $answer !~ /\A(?:SUCCESS true\n|no answer)\z/;
                }
            }
            is join("\n", @wrong), '',
                "TLS $version: a handshake that ends with $how from the $from leads to the right answer, or to none";
        }
    }
}
let_pass($relay);
is connects('again.test'), "SUCCESS true\n", 'a client is authenticated again';

# ---- what is left --------------------------------------------------------------------------------

ok eval { wait_until('open sockets to be closed', sub { sockets('gateway') <= $open }) },
    'no sockets stay open'
    or diag "$open, and now ", sockets('gateway');
is_deeply [alarms('gateway')], [], 'nothing alarming is logged';
done_testing();
