# SPDX-License-Identifier: Apache-2.0

# A service that does not accept the session that it is offered, and answers with an alert, a reset or a close: the
# request succeeds with a full handshake, the service has not failed, and soon gets no more sessions.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestProcesses;
use TestRelay;

use Test::More;

require_program('curl');

my $folder = test_folder();
my $pki = $ENV{TEST_NGINX_PKI};
my @VERSIONS = qw(1.2 1.3);
my @WAYS = qw(settings balancer kept target);
my @HOW = qw(alert reset close);

start_nginx('services', http => join '', map {<<"_EOC_"} @VERSIONS);
    server {
        listen unix:$folder/service$_.sock ssl;
        ssl_protocols TLSv$_;
        ssl_certificate $pki/service.crt;
        ssl_certificate_key $pki/service.key;
        ssl_verify_client optional_no_ca;
        add_header X-Reused \$ssl_session_reused;
        return 200 "\$ssl_client_s_dn\\n";
    }
_EOC_

# One relay for each case, since the module remembers who refused a session.
my @cases = map {
    my $version = $_;
    map {
        my $how = $_;
        map { +{ version => $version, how => $how, way => $_, name => "$_-$how-$version" } } @WAYS
    } @HOW, 'stall', 'always', 'late'
} @VERSIONS;
$_->{port} = start_relay("$folder/service$_->{version}.sock") for @cases;

# If connections were kept by default, there would be no further handshakes.
my $not_kept = keeps_by_default() ? 'keepalive 0;' : '';
my $blocks = join '', map {
    my %body = (
        settings => "server 127.0.0.1:$_->{port} max_fails=1 fail_timeout=1h; server 127.0.0.1:1 backup; $not_kept",
        balancer => "server 0.0.0.1; $not_kept balancer_by_lua_block {"
            . " assert(require('ngx.balancer').set_current_peer('127.0.0.1', $_->{port})) }",
        # Keeps no connection, and so uses sessions only.
        kept => "server 127.0.0.1:$_->{port} max_fails=1 fail_timeout=1h; server 127.0.0.1:1 backup;"
            . " kong_tls_keepalive 1 requests=1;",
    );
    "    upstream $_->{name} { $body{$_->{way}} }\n"
} grep { $_->{way} ne 'target' } @cases;
my $locations = join '', map {
    my $settings = $_->{way} =~ /settings|target/ ? 'assert(kong.service.set_tls_cert_key(chain, key))' : '';
    my $pass = $_->{name};
    if ($_->{way} eq 'target') {
        # A peer outside of any upstream block.
        $settings .= " kong.service.set_target('127.0.0.1', $_->{port})";
        $pass = '$kong_upstream_target';
    }
    my %more = (stall => 'proxy_connect_timeout 300ms;', late => 'proxy_next_upstream error;');
    my $more = $more{ $_->{how} } // '';
    <<"_EOC_"
        location /$_->{name} {
            access_by_lua_block { $settings }
            proxy_ssl_protocols TLSv$_->{version};
            $more
            proxy_pass https://$pass;
        }
_EOC_
} @cases;

start_nginx('gateway', modules => 1, log => 'info', http => <<"_EOC_");
    init_by_lua_block {
        kong = require "resty.kong.pdk"
        local pki = require "pki"
        chain, key = pki.chain("$pki/client1"), pki.key("$pki/client1")
    }
$blocks
    server {
        listen unix:$folder/gateway.sock;
        add_header X-Attempts "\$upstream_addr \$upstream_status" always;
        proxy_next_upstream off;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
$locations
    }
_EOC_

# Returns the status, and whether the service resumed the session.
sub ask {
    my ($case, @options) = @_;
    my $said = `curl -s -o /dev/null -D - --unix-socket $folder/gateway.sock @options http://x/$case->{name}`;
    my ($status) = $said =~ /\AHTTP\S+ (\d+)/ or return "no answer: $said";
    my ($attempts) = $said =~ /^X-Attempts: (\N*)\r$/m;
    return "$status in several attempts: $attempts" if $attempts =~ /,/;
    return $said =~ /^X-Reused: (\N*)\r$/m ? "$status $1" : $status;
}

my $read = 0;
sub logged {
    my ($what) = @_;
    my $log = substr slurp("$folder/gateway.log"), $read;
    $read += length $log;
    my %count = (refused => 0, error => 0, disabled => 0);
    $count{refused}++ while $log =~ /has not taken the TLS session/g;
    $count{error}++ while $log =~ /\[error\]/g;
    $count{disabled}++ while $log =~ /temporarily disabled/g;
    return "@count{qw(refused error disabled)}";
}

for my $case (@cases) {
    my ($name, $port, $how) = @$case{qw(name port how)};
    my $refuse = sub {
        break_off($port, from => 'client', records => 0, part => 'none', how => $_[0], offers => $_[1] // 'session');
    };
    is(ask($case), '200 .', "$name: the first request makes a full handshake");
    is(ask($case), '200 r', "$name: the second request resumes the session");
    logged();

    if ($how eq 'stall') {
        $refuse->('stall');
        is(ask($case), '504', "$name: a service that does not answer is a timeout");
        let_pass($port);
        next;
    }
    if ($how eq 'late') {
        # The service accepts the session, and resets the connection when the gateway has finished the handshake.
        break_off($port, from => 'client', records => 3, part => 'none', how => 'reset', offers => 'session');
        is(ask($case), '200 .', "$name: a request that can be sent again is sent again");
        is(logged(), '1 1 0', "$name: the reset is one error of nginx, and no failure of the service");
        # A request that is not idempotent is lost, unless the reset comes before the request is sent; but only once.
        like(ask($case, '-d', 'a=b'), qr/^(?:502|200 \.)$/, "$name: a POST fails, or is sent again");
        is(ask($case), '200 .', "$name: no session is offered afterwards") for 1 .. 3;
        unlike(logged(), qr/ [1-9]$/, "$name: the service has not failed");
        let_pass($port);
        next;
    }
    if ($how eq 'always') {
        # Resets every handshake, with a session or without.
        $refuse->('reset', 'anything');
        is(ask($case), '502', "$name: a service that resets a full handshake, too, is a 502");
        is(logged(), $case->{way} =~ /balancer|target/ ? '1 1 0' : '1 1 1',
            "$name: the resets are one error, and a failure of the service where nginx counts failures");
        next;
    }

    $refuse->($how);
    is(ask($case), '200 .', "$name: a full handshake follows the refused session");
    is(logged(), '1 0 0', "$name: the refused session is no error, and no failure of the service");
    # The body was not sent yet, and is sent now.
    is(ask($case, '-d', 'a=b'), '200 .', "$name: the next request succeeds as well");
    is(logged(), '1 0 0', "$name: the next session is refused as well");
    is(ask($case), '200 .', "$name: further requests make full handshakes") for 1 .. 3;
    is(logged(), '0 0 0', "$name: no session is offered after two refusals");
    let_pass($port);
    is(ask($case), '200 .', "$name: no session is offered for a while");
}

unlike(slurp("$folder/gateway.log"), qr/\[(?:crit|alert|emerg)\]/,
    'no entries of level crit, alert or emerg are logged');
done_testing();
