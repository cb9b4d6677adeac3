# SPDX-License-Identifier: Apache-2.0

# Reloads, new binaries and kills while there are requests. A reload and a new binary lose no request, a killed worker
# loses the requests in progress, and no request gets the answer of another.
#
# Each request uses a new connection: a reload makes nginx close idle connections of clients, also just when they are
# used.

use strict;
use warnings;

use lib 't/support';
use TestKong;
use TestLoad;
use TestProcesses;

use Test::More;
use Time::HiRes ();

require_program('nginx', 'wrk');

my $SECONDS = $ENV{TEST_NGINX_TORTURE} ? 30 : 2;
my $CONNECTIONS = 16;

my $folder = test_folder();
my ($port) = free_ports(1);
issue_identities(10);
start_nginx('services', workers => 1, http => load_services());
start_nginx('gateway', modules => 1, workers => 2, log => 'warn', http => load_gateway(port => $port, sessions => 'shared:kong_tls:8m'));

my @paths = map {"/load/$_"} 'none', 1 .. 10;

# Returns the time that the workers have been busy, in ticks.
sub ticks {
    my $ticks = 0;
    for my $pid (map { workers($_) } @_) {
        my @fields = split ' ', may_be_gone("/proc/$pid/stat") =~ s/\A.*\) //r;
        $ticks += $fields[11] + $fields[12] if @fields > 12;
    }
    return $ticks;
}

# Waits until the current workers have had something to do.
sub serve {
    my @of = @_;
    my $before = ticks(@of);
    wait_until('requests', sub { ticks(@of) >= $before + 3 });
    return;
}

# Calls "disturb" again and again under load, and returns how often, and what came of the requests.
sub disturbed {
    my ($disturb) = @_;
    my $times = 0;
    my %seen = wrk(
        url         => "http://127.0.0.1:$port",
        paths       => \@paths,
        connections => $CONNECTIONS,
        close       => 1,
        meanwhile   => sub {
            my $until = Time::HiRes::time() + $SECONDS;
            for (; $times < 2 || Time::HiRes::time() < $until; $times++) { $disturb->() }
        },
    );
    note "$times times, ", join ', ', map {"$_: $seen{$_}"} grep {/^(?:\d+|requests|errors.*)$/} sort keys %seen;
    return ($times, %seen);
}

# Checks that each request was answered, with its own answer.
sub is_lossless {
    my ($what, %seen) = @_;
    is_deeply [grep { !/^200$/ } grep {/^\d+$/} keys %seen], [], "$what: every answer is right";
    is $seen{errors}, 0, "$what: every request is answered" or diag $seen{errors_are};
    cmp_ok $seen{requests}, '>', 100, "$what: more than 100 requests were sent";
    return;
}

# ---- reload --------------------------------------------------------------------------------------

{
    my (undef, %seen) = disturbed(sub { reload('gateway'); serve('gateway') });
    is_lossless('reloads of the gateway', %seen);
}
{
    my (undef, %seen) = disturbed(sub { reload('services'); serve('gateway') });
    # Old workers of the service close connections that the gateway keeps.
    is_lossless('reloads of the service', %seen);
}

# ---- a new binary --------------------------------------------------------------------------------

# Follows https://nginx.org/en/docs/control.html#upgrade.
sub upgrade {
    my $old = master('gateway');
    kill 'USR2', $old;
    wait_until('another master', sub {
        -e "$folder/gateway.pid.oldbin" && -s "$folder/gateway.pid" && workers('gateway') == 2;
    });
    serve('gateway', $old);
    kill 'WINCH', $old;
    wait_until('the end of the old workers', sub { !workers($old) });
    serve('gateway');
    return $old;
}

{
    my (undef, %seen) = disturbed(sub {
        my $old = upgrade();
        kill 'QUIT', $old;
        wait_until('the end of the old master', sub { has_ended($old) });
    });
    is_lossless('new binaries', %seen);
}
{
    my (undef, %seen) = disturbed(sub {
        my $old = upgrade();
        # Goes back to the old binary.
        my $new = master('gateway');
        kill 'HUP', $old;
        wait_until('workers of the old master', sub { workers($old) == 2 });
        kill 'QUIT', $new;
        wait_until('the end of the new master', sub { has_ended($new) && !-e "$folder/gateway.pid.oldbin" });
    });
    is_lossless('new binaries that are rolled back', %seen);
}

# ---- kills ---------------------------------------------------------------------------------------

{
    my ($times, %seen) = disturbed(sub {
        my ($victim) = workers('gateway');
        kill 'KILL', $victim;
        wait_until('another worker', sub { my @now = workers('gateway'); @now == 2 && !grep { $_ == $victim } @now });
        serve('gateway');
    });
    is_deeply [grep { !/^200$/ } grep {/^\d+$/} keys %seen], [], 'kills: every answer is right';
    cmp_ok $seen{errors}, '<=', $times * $CONNECTIONS, 'kills: only requests in progress are lost';
    my %after = wrk(seconds => 1, url => "http://127.0.0.1:$port", paths => \@paths, close => 1);
    is_lossless('after the kills', %after);
}
{
    my ($times, %seen) = disturbed(sub {
        my ($victim) = workers('services');
        kill 'KILL', $victim;
        wait_until('another worker', sub { my @now = workers('services'); @now == 1 && $now[0] != $victim });
        serve('gateway');
    });
    is_deeply [grep { !/^(?:200|502)$/ } grep {/^\d+$/} keys %seen], [],
        'kills of the service: no request gets the answer of another';
    cmp_ok $seen{502} // 0, '<=', $times * $CONNECTIONS, 'kills of the service: only requests in progress are lost';
    is $seen{errors}, 0, 'kills of the service: each client gets an answer';
}

# The master logs an alert for each kill, and one if the worker was killed while it had locked the sessions that all
# share: it unlocks them.
my @alerts = grep { /\[(?:alert|emerg|crit)\]/ && !/exited on signal 9|zone "kong_tls" was locked by \d+$/ } split /^/,
    slurp("$folder/gateway.log");
is join('', @alerts), '', 'no other entries of level alert, emerg or crit are logged';
is_deeply [slurp("$folder/gateway.log") =~ /panicked|internal error/g], [], 'nothing has panicked';
done_testing();
