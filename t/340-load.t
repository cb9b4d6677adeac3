# SPDX-License-Identifier: Apache-2.0

# Full speed: 1,000 identities over HTTP/1.1 and HTTP/2, on kept connections and on new ones. No request fails that
# stock nginx would have served. Latencies are printed next to those of stock nginx, which has a location for each
# identity.
#
# This is the short form. TEST_NGINX_TORTURE=1 is the long form: half a minute for each kind.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestLoad;
use TestProcesses;

use List::Util qw(shuffle);
use Test::More;

require_program('h2load', 'nginx', 'wrk');

# Both take turns, so that other load on the machine affects both.
my ($IDENTITIES, $SECONDS, $TURNS) = $ENV{TEST_NGINX_TORTURE} ? (1_000, 5, 6) : (50, 1, 1);
my $WORKERS = 2;
# The number of connections that are kept for each identity, if all have as many.
my $KEPT = 8;
my %process = $ENV{TEST_NGINX_TORTURE}
    ? (connections => 16_384, main => 'worker_rlimit_nofile 20000;') : ();

my $folder = test_folder();
issue_identities($IDENTITIES);
start_nginx('services', %process, http => load_services());
my %port;
for my $kept (0, 1) {
    my %with = map { ("$_-port" => free_ports(1), "$_-tls" => free_ports(1)) } qw(ours stock);
    start_nginx("ours-$kept", %process, modules => 1, workers => $WORKERS, http => load_gateway(
        port => $with{'ours-port'}, tls_port => $with{'ours-tls'}, pass => $kept ? 'kept' : 'anew',
        sessions => 2 * $IDENTITIES, kept => $KEPT * $IDENTITIES));
    start_nginx("stock-$kept", %process, workers => $WORKERS, http => load_stock_gateway(
        port => $with{'stock-port'}, tls_port => $with{'stock-tls'}, kept => $kept ? $KEPT : 0));
    $port{"ours-$kept"}  = { http => $with{'ours-port'},  tls => $with{'ours-tls'} };
    $port{"stock-$kept"} = { http => $with{'stock-port'}, tls => $with{'stock-tls'} };
}

my @paths = map {"/load/$_"} 1 .. $IDENTITIES;

# Like wrk(), with HTTP/2. All connections of one h2load send requests in the same order, almost at the same time;
# each h2load here has its own order.
sub h2load {
    my ($port) = @_;
    my (@pipes, %seen);
    for my $number (1 .. 4) {
        my $uris = write_to("$folder/h2load-$number.uris", join '', map {"https://127.0.0.1:$port$_\n"} shuffle(@paths));
        my $log = "$folder/h2load-$number.log";
        unlink $log;
        open my $pipe, '-|', "h2load -t1 -c4 -m4 -D $SECONDS -i $uris --log-file=$log 2>&1" or die "h2load: $!\n";
        push @pipes, [$pipe, $log];
    }
    my @took;
    for (@pipes) {
        my ($pipe, $log) = @$_;
        my $said = do { local $/; <$pipe> };
        $seen{errors} += $said =~ /requests: .* (\d+) failed,/ ? $1 : die $said;
        # The time, status and microseconds of each request.
        for (split /^/, slurp($log)) {
            my (undef, $status, $took) = split ' ';
            $seen{$status}++;
            push @took, $took / 1000;
        }
    }
    die "h2load has had no answer\n" if !@took;
    @took = sort { $a <=> $b } @took;
    ($seen{p50}, $seen{p99}) = map { $took[@took * $_] } 0.5, 0.99;
    $seen{per_second} = @took / $SECONDS;
    return %seen;
}

sub median { my @sorted = sort { $a <=> $b } @_; return $sorted[@sorted / 2] }

my @kinds = (
    ['HTTP/1.1, all connections kept', 1, sub {
        my ($at, $paths) = @_;
        wrk(seconds => $SECONDS, url => "http://127.0.0.1:$at->{http}", paths => $paths);
    }],
    ['HTTP/1.1, no connections kept', 0, sub {
        my ($at, $paths) = @_;
        wrk(seconds => $SECONDS, url => "http://127.0.0.1:$at->{http}", paths => $paths, close => 1);
    }],
    ['HTTP/1.1, TLS, none kept, client certificates', 0, sub {
        my ($at, $paths) = @_;
        wrk(seconds => $SECONDS, url => "https://127.0.0.1:$at->{tls}", paths => $paths, close => 1);
    }],
    ['HTTP/2, all connections kept', 1, sub { h2load($_[0]{tls}) }],
    ['HTTP/2, none kept with the service', 0, sub { h2load($_[0]{tls}) }],
);

note sprintf '%-45s %10s %10s %10s %10s %10s %10s', '', 'ours/s', 'stock/s', 'ours p50', 'stock p50', 'ours p99', 'stock p99';
for my $kind (@kinds) {
    my ($what, $kept, $load) = @$kind;
    my %all;
    # In both orders. The first turn fills the caches.
    for my $turn (0 .. $TURNS) {
        for my $who ($turn % 2 ? qw(ours stock) : qw(stock ours)) {
            my %seen = $load->($port{"$who-$kept"}, \@paths);
            my @bad = grep { /^\d+$/ && !/^200$/ } keys %seen;
            $all{$who}{bad}{$_} += $seen{$_} for @bad;
            $all{$who}{errors} += $seen{errors};
            $all{$who}{right} += $seen{200} // 0;
            next if !$turn && $TURNS > 1;
            push @{ $all{$who}{$_} }, $seen{$_} for qw(per_second p50 p99);
        }
    }
    for my $who (qw(ours stock)) {
        is_deeply $all{$who}{bad} // {}, {}, "$what: every answer of $who is right";
        cmp_ok $all{$who}{right}, '>', 100, "$what: $who gives more than 100 right answers";
        is $all{$who}{errors}, 0, "$what: $who answers each request";
    }
    note sprintf '%-45s %10.0f %10.0f %10.2f %10.2f %10.2f %10.2f', $what,
        map { my $figure = $_; map { median(@{ $all{$_}{$figure} }) } qw(ours stock) } qw(per_second p50 p99);
}

is slurp("$folder/ours-$_.log"), '', 'nothing is logged' for 0, 1;
done_testing();
