# SPDX-License-Identifier: Apache-2.0

package Sharing;

# What scripts/bench measures of the sessions that workers share: who resumes, how much memory it takes, and how long
# the lock of the shared memory is held. `%SHARING` of Workloads.pm describes the gateways.

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Servers;
use Workloads;

use Exporter 'import';
use List::Util qw(shuffle sum0);
use Time::HiRes qw(sleep time);

our @EXPORT = qw(measure_lock measure_many measure_resumption);

my $MOST_WORKERS = $SHARING{workers}[-1];
my @VERSIONS = qw(1.2 1.3);

# ---- who resumes ---------------------------------------------------------------------------------

# Asks for all identities, in random order, over one new connection after the other. Returns the share that resumed.
sub share_of_round {
    my ($name, $workers) = @_;
    my @order = shuffle((1001 .. 1100) x $SHARING{times});
    my ($resumed, %served) = (0);
    for my $identity (@order) {
        my ($head) = ask_anew($name, "/?n=$identity");
        $head =~ /^X-Reused: ([r.])/m or fail("the gateway does not say whether it resumed a session: $head");
        $resumed++ if $1 eq 'r';
        $head =~ /^X-Worker: (\d+)/m or fail("the gateway does not say which worker served: $head");
        $served{$1}++;
    }
    # Otherwise there were fewer workers than are claimed.
    keys %served == $workers or fail("of $workers workers, @{[scalar keys %served]} have served");
    return $resumed / @order;
}

# Returns the share of each round.
sub shares_of_rounds {
    my ($cache, $tls, $workers) = @_;
    start_service();
    start_gateway('gateway', settings_of($cache, { with => { tls => $tls, workers => $workers } }));
    # Always the same order.
    srand 1;
    my %shares;
    for my $round (map { $_->{name} } @{ $SHARING{rounds} }) {
        reload('gateway') if $round eq 'reload';
        $shares{$round} = share_of_round('gateway', $workers);
    }
    srand;
    stop($_) for qw(gateway service);
    progress("$workers workers, TLS $tls, $cache->{name}: resumed "
        . join(', ', map { sprintf '%.3f', $shares{ $_->{name} } } @{ $SHARING{rounds} }));
    return \%shares;
}

# Makes one connection for each client, and returns how many resumed the session of the one before it.
sub count_resumed {
    my @clients = @_;
    my $resumed = 0;
    for my $client (@clients) {
        my $session = "tmp/session-$client.pem";
        my $before = -e $session ? "-sess_in $session" : '';
        my $said = output_of('sh', '-c', 'printf "GET /resumed HTTP/1.0\r\n\r\n" |'
            . " openssl s_client -quiet -connect 127.0.0.1:@{[port_of('front-clients')]} -servername service.test"
            . " -cert pki/ec/$client.crt -key pki/ec/$client.key $before -sess_out $session 2>&1");
        my ($how) = $said =~ /^resumed=([r.]) client=SUCCESS worker=\d+$/m or fail("client $client: $said");
        $resumed++ if $how eq 'r';
    }
    return $resumed;
}

# Returns how many clients whose certificate a plugin has asked for resume: before a reload, and after it.
sub resumed_clients {
    my ($tls) = @_;
    unlink glob 'tmp/session-*';
    start_front('clients', settings_of({ with => { front => 'ask', tls => $tls, workers => $MOST_WORKERS } }));
    my @clients = map { 1000 + $_ } 1 .. $SHARING{clients};
    count_resumed(@clients) == 0 or fail('a client has resumed a session before it had one');
    my %resumed = (before => count_resumed(@clients));
    reload('front-clients');
    $resumed{reload} = count_resumed(@clients);
    stop('front-clients');
    progress("clients, TLS $tls: resumed $resumed{before}, after a reload $resumed{reload} of $SHARING{clients}");
    return \%resumed;
}

# Returns who has resumed: `rounds`, by cache, version and number of workers; and `clients`, by version.
sub measure_resumption {
    my %resumed;
    for my $tls (@VERSIONS) {
        for my $cache (@{ $SHARING{caches} }) {
            for my $workers (@{ $SHARING{workers} }) {
                $resumed{rounds}{ $cache->{name} }{$tls}{$workers} = shares_of_rounds($cache, $tls, $workers);
            }
        }
        $resumed{clients}{$tls} = resumed_clients($tls);
    }
    return \%resumed;
}

# ---- memory --------------------------------------------------------------------------------------

# Makes every worker free what it could give back.
sub trim_all {
    my ($name) = @_;
    my (undef, @workers) = processes_of($name);
    my %untouched = map { $_ => 1 } @workers;
    wait_for(20, sub {
        my ($head) = ask_anew($name, '/trim');
        delete $untouched{$1} if $head =~ /^X-Worker: (\d+)/m;
        return !%untouched;
    }) or fail("of @{[scalar @workers]} workers, @{[scalar keys %untouched]} do not answer");
    return;
}

# Returns the bytes that all processes of an nginx have: what several share counts once.
sub memory_of_all {
    my ($name) = @_;
    trim_all($name);
    return 1024 * sum0(map { slurp("/proc/$_/smaps_rollup") =~ /^Pss:\s+(\d+) kB$/m } processes_of($name));
}

# Asks for all identities, each with a certificate and a depth of its own.
sub use_all {
    my ($name, $amount) = @_;
    my $depths = $amount->{identities} / $amount->{certificates};
    my $last = 1000 + $amount->{certificates};
    # A new connection for each request, so that all workers serve.
    start('curl', 'logs/curl.log', qw(curl -q -sS -f --noproxy * --max-time 600 -Z --parallel-immediate),
        -H => 'Connection: close', '--parallel-max' => $SHARING{many}{at_once}, -o => '/dev/null',
        url_of($name) . "/?d=[1-$depths]&n=[1001-$last]");
    end_of('curl') == 0 or fail('requests failed: ' . slurp('logs/curl.log'));
    return;
}

# Returns the sum of a metric over its labels.
sub metric {
    my ($name, $metric) = @_;
    return sum0(ask($name, '/status?format=prometheus') =~ /^kong_tls_$metric(?:\{[^}]*\})? (\d+)$/mg);
}

sub grown {
    my ($name, $passes, $amount) = @_;
    # The first request does what is needed only once.
    ask($name, '/?n=1001&d=1');
    my $before = memory_of_all($name);
    use_all($name, $amount) for 1 .. $passes;
    return memory_of_all($name) - $before;
}

# Returns the bytes that many identities take: in all processes, with shared memory (`shared`) and the memory of one
# worker that has the sessions of all (`own`); and what of it is in shared memory (`zone`).
sub measure_many {
    my ($amount) = @_;
    my $count = $amount->{identities};
    progress("memory of $count identities");
    start_service();
    # So large that there is room for all of them.
    my $megabytes = 16 + int $count / 100;
    start_gateway('shared', settings_of({ with => $SHARING{many} },
        { with => { workers => $MOST_WORKERS, sessions => "shared:bench:${megabytes}m timeout=1h" } }));
    # In the end, each worker has copies of as many sessions as it keeps.
    my $shared = grown('shared', $amount->{passes}, $amount);
    my %many = (
        identities => $count,
        workers => $MOST_WORKERS,
        shared => $shared,
        zone => metric('shared', 'session_cache_bytes'),
        sessions => metric('shared', 'session_cache_entries\{kind="session"\}'),
        peers => metric('shared', 'session_cache_entries\{kind="peer"\}'),
    );
    $many{peers} == $count or fail("of $count identities, $many{peers} are in shared memory");
    stop('shared');

    my $entries = 2 * $count;
    start_gateway('own', settings_of({ with => $SHARING{many} }, { with => { sessions => "$entries timeout=1h" } }));
    $many{own} = grown('own', 1, $amount);
    stop($_) for qw(own service);
    return \%many;
}

# ---- the lock ------------------------------------------------------------------------------------

# Returns where the memory of this many bytes that an nginx shares with its workers is.
sub place_of_zone {
    my ($name, $bytes) = @_;
    my ($master) = processes_of($name);
    my @places;
    for (slurp("/proc/$master/maps") =~ m{^([0-9a-f]+-[0-9a-f]+) rw-s .*/dev/zero}mg) {
        # hex() warns of what is longer than 32 bits.
        my ($from, $to) = map { unpack 'Q>', pack 'H16', '0' x (16 - length) . $_ } split /-/;
        push @places, $from if $to - $from == $bytes;
    }
    @places == 1 or fail("the $name has @{[scalar @places]} zones of $bytes bytes");
    return $places[0];
}

# Looks at the lock of a zone for some seconds. Returns how often, how often it was held, and how many processes slept
# for it, in sum.
#
# The zone begins with nginx's ngx_shmtx_sh_t: the process that holds the lock, and the number of those that sleep.
sub look_at_lock {
    my ($name, $seconds) = @_;
    my ($master, @workers) = processes_of($name);
    my %may_hold = map { $_ => 1 } 0, @workers;
    my $place = place_of_zone($name, 64 * 1024 * 1024);
    open my $memory, '<:raw', "/proc/$master/mem" or fail("/proc/$master/mem: $!");
    my ($looks, $held, $asleep) = (0, 0, 0);
    my $end = time + $seconds;
    while (time < $end) {
        sysseek $memory, $place, 0 or fail("the lock of the $name: $!");
        sysread($memory, my $words, 16) == 16 or fail("the lock of the $name: $!");
        my ($holder, $sleeping) = unpack 'QQ', $words;
        $may_hold{$holder} && $sleeping <= @workers or fail("the lock of the $name is not at the beginning of the zone");
        $looks++;
        $held++ if $holder;
        $asleep += $sleeping;
        sleep 0.0001;
    }
    return ($looks, $held, $asleep);
}

# Returns for each version of TLS how long the lock is held and waited for, under load: in microseconds for each new
# connection, and the share of the time that it is held.
sub measure_lock {
    my ($amount) = @_;
    my %lock;
    for my $tls (@VERSIONS) {
        start_service();
        start_gateway('gateway', settings_of({ with => $SHARING{lock} },
            { with => { tls => $tls, workers => $MOST_WORKERS } }));
        my $seconds = $amount->{lock_seconds};
        start('wrk', 'logs/wrk.log', qw(wrk -t 1 -s load.lua), -c => $SHARING{lock}{at_once}, -d => ($seconds + 1) . 's',
            url_of('gateway'), '--', $SHARING{lock}{certificates}, 1, 0);
        my ($looks, $held, $asleep) = look_at_lock('gateway', $seconds);
        end_of('wrk') == 0 or fail('wrk: ' . slurp('logs/wrk.log'));
        my ($requests, $microseconds, $failures) = slurp('logs/wrk.log') =~ /^measured\s+(\d+)\s+(\d+)\s+(\d+)$/m
            or fail('wrk has measured nothing');
        $failures == 0 or fail("$failures of $requests requests failed");
        stop($_) for qw(gateway service);
        my $each = $microseconds / $requests;
        $lock{$tls} = {
            looks => $looks,
            rate => $requests / $microseconds * 1e6,
            share => $held / $looks,
            held => $held / $looks * $each,
            waited => $asleep / $looks * $each,
        };
        progress(sprintf 'lock, TLS %s: held %.2f %% of the time; for a connection, held %.1f µs and waited %.1f µs',
            $tls, 100 * $lock{$tls}{share}, @{ $lock{$tls} }{qw(held waited)});
    }
    return \%lock;
}

1;
