# SPDX-License-Identifier: Apache-2.0

# Many requests, handshakes and reloads: no request gets the answer of another, and memory does not grow.
#
# This is the short form. TEST_NGINX_TORTURE=1 is the long form: 200,000 requests, 100,000 handshakes and 1,000
# reloads.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestLoad;
use TestProcesses;

use Test::More;

require_program('nginx', 'wrk');

my ($REQUESTS, $HANDSHAKES, $RELOADS) = $ENV{TEST_NGINX_TORTURE} ? (200_000, 100_000, 1_000) : (10_000, 3_000, 30);
# The number of samples of memory.
my $SAMPLES = 10;

my $folder = test_folder();
my $pki = $ENV{TEST_NGINX_PKI};
my ($port, $tls_port) = free_ports(2);

issue_identities(3);
start_nginx('services', http => load_services());
start_nginx('gateway', modules => 1, log => 'crit', main => 'worker_shutdown_timeout 5s;',
    http => load_gateway(port => $port, pass => '$arg_to', sessions => 200, more => <<"_EOC_"));
    server {
        listen 127.0.0.1:$tls_port ssl;
        ssl_protocols TLSv1.3;
        ssl_session_cache builtin:1000 shared:sessions:1m;
        ssl_certificate_by_lua_block {
            assert(kong.client.tls.request_client_certificate(authorities))
            assert(kong.client.tls.disable_session_reuse())
        }
        return 204;
    }
_EOC_

# Some are refused: OpenSSL does not accept the certificate, or the service fails verification.
my @paths;
for my $client ('none', 1 .. 3) {
    for my $to (qw(kept kept kept beside beside anew)) {
        push @paths, map {"/load/$client?to=$to" . ($_ ? "&depth=$_" : '')} 0 .. 40;
    }
}
push @paths, ("/load/weak?to=anew", "/load/1?to=wrong&depth=5") x (@paths / 100);

# Returns the growth from one sample to the next, and the mean distance of the samples from that line.
sub slope {
    my @samples = @_;
    my ($x, $y) = map { my $sum = 0; $sum += $_ for @$_; $sum / @$_ } [0 .. $#samples], \@samples;
    my ($over, $under) = (0, 0);
    for (0 .. $#samples) { $over += ($_ - $x) * ($samples[$_] - $y); $under += ($_ - $x)**2 }
    my $slope = $over / $under;
    my $noise = 0;
    $noise += ($samples[$_] - $y - $slope * ($_ - $x))**2 for 0 .. $#samples;
    return ($slope, sqrt($noise / @samples));
}

# Takes samples of memory during "work", which is done in parts. The first three are left out, since some memory is
# taken only once.
sub is_flat {
    my ($what, $count, $limit, $factor, $measure, $work) = @_;
    my @samples;
    for (1 .. $SAMPLES) {
        $work->(int $count / $SAMPLES);
        push @samples, $measure->();
    }
    splice @samples, 0, 3;
    my ($slope, $noise) = slope(@samples);
    my $bytes = $slope * 1024 / ($count / $SAMPLES);
    note sprintf '%s: %.1f bytes each, noise %.0f KB, %d KB at the end', $what, $bytes, $noise, $samples[-1];
    # Memory grows if it grows by more than its samples differ anyway. In the short form, caches still fill: it finds
    # a leak of the size of a session or a certificate.
    $limit *= $factor unless $ENV{TEST_NGINX_TORTURE};
    ok $bytes < $limit || $slope < $noise, "$what: memory does not grow" or diag "@samples";
    return;
}

# ---- requests ------------------------------------------------------------------------------------

# wrk runs for a time, not for a number of requests: repeats it until there were enough.
my %statuses;
my $rate = 500;
sub load {
    my ($count) = @_;
    my $done = 0;
    while ($done < $count) {
        my $seconds = int(($count - $done) / $rate) || 1;
        $seconds = 20 if $seconds > 20;
        my %seen = wrk(seconds => $seconds, url => "http://127.0.0.1:$port", paths => \@paths);
        fail("socket errors: $seen{errors_are}") if $seen{errors};
        $statuses{$_} += $seen{$_} for grep {/^\d+$/} keys %seen;
        $done += $seen{requests};
        $rate = $seen{requests} / $seconds || 1;
    }
    return;
}
my ($worker) = workers('gateway');
is_flat('requests of mixed identities', $REQUESTS, 8, 50, sub { resident($worker) }, \&load);
note 'answers: ', join ' ', map {"$_: $statuses{$_}"} sort keys %statuses;
is_deeply [grep { !/^(?:200|502)$/ } keys %statuses], [], 'no request gets the answer of another';
my $all = 0;
$all += $_ for values %statuses;
my $refused = ($statuses{502} // 0) / $all;
ok $refused > 0.01 && $refused < 0.04, 'as many requests are refused as should be' or diag $refused;
is_deeply [workers('gateway')], [$worker], 'the worker has not crashed';

# ---- handshakes ----------------------------------------------------------------------------------

sub handshakes {
    my ($count) = @_;
    my $done = 0;
    while ($done < $count) {
        my %seen = wrk(seconds => 2, url => "https://127.0.0.1:$tls_port", paths => ['/'], connections => 8, close => 1);
        $done += $seen{requests} or die "no handshakes\n";
    }
    return;
}
is_flat('handshakes that leave no session (CVE-2024-2511)', $HANDSHAKES, 16, 50, sub { resident($worker) }, \&handshakes);

# ---- reloads -------------------------------------------------------------------------------------

sub reloads {
    my ($count) = @_;
    reload('gateway') for 1 .. $count;
    return;
}
# nginx itself takes some 100 bytes for each, and more for the first.
is_flat('reloads', $RELOADS, 1_000, 10, sub { resident(master('gateway')) }, \&reloads);

is slurp("$folder/gateway.log") =~ s/^.*no protocols available.*\n//mgr, '',
    'no entries of level crit or above are logged';
done_testing();
