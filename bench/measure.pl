# SPDX-License-Identifier: Apache-2.0

# Measures the workloads of Workloads.pm, for scripts/bench.
#
#     perl measure.pl [--quick | --long] RESULTS PART...
#
# Gateways that differ in one thing get the same load in turn, in each of many rounds. RESULTS is a JSON file for
# report.pl, which has these fields for the parts that were measured:
#
#     runs      column, row: for each round, the number of requests, the microseconds that they
#               took, and the processor time of the measured process in nanoseconds
#     seen      column, row: the number of requests and connections that the service has seen, and
#               of connections that resumed a session
#     calls     JIT compiler on or off, function: a list of nanoseconds
#     memory    row, gateway: a list of bytes for each object
#     instructions
#               column, row: those of the gateway for a request
#     zone_hits column: of the sessions that were found, the share that was read from shared memory
#     resumed, many, lock
#               what the functions of Sharing.pm return
#     rounds, memory_rounds, others (per cent), versions (a text)

use strict;
use warnings;

use FindBin;
use lib $FindBin::RealBin;
use Servers;
use Sharing;
use Workloads;

use File::Spec;
use JSON::PP;
use List::Util qw(shuffle sum0);

my %amount = %THOROUGH;
if (@ARGV && $ARGV[0] =~ /^--(quick|long)$/) {
    shift @ARGV;
    %amount = $1 eq 'quick' ? %QUICK : %LONG;
}
@ARGV > 1 or die "usage: measure.pl [--quick | --long] RESULTS PART...\n";
my ($results_file, @parts) = (File::Spec->rel2abs(shift @ARGV), @ARGV);

my %results = map { $_ => $amount{$_} } qw(rounds memory_rounds);

# ---- load ----------------------------------------------------------------------------------------

# Returns the nanoseconds of processor time that a process has used.
sub spent {
    my ($pid) = @_;
    return (split ' ', slurp("/proc/$pid/schedstat"))[0];
}

# Sends requests for one second, or some, as fast as they are answered.
sub load {
    my ($rival, $seconds) = @_;
    $seconds //= 1;
    my $worker = worker($rival->{front} ? "front-$rival->{name}" : $rival->{name});
    my $before = spent($worker);
    my $said = output_of(qw(wrk -t 1), -c => $rival->{at_once}, -d => "${seconds}s", qw(-s load.lua),
        url_of($rival->{name}), '--', @$rival{qw(certificates depths)},
        $rival->{sent} // 0);
    write_to('logs/wrk.log', $said);
    my ($requests, $microseconds, $failures) = $said =~ /^measured\s+(\d+)\s+(\d+)\s+(\d+)$/m
        or fail('wrk has measured nothing');
    fail("$failures of $requests requests failed (gateway $rival->{name})") if $failures || !$requests;
    $rival->{sent} += $requests;
    return {
        requests => 0 + $requests,
        microseconds => 0 + $microseconds,
        nanoseconds => spent($worker) - $before,
    };
}

# ---- what the service has seen -------------------------------------------------------------------

sub forget_what_was_seen {
    unlink 'logs/service.log', glob '*.sock';
    return;
}

# Returns for each gateway a list of requests that were alike: the certificate that they asked for, the one that they
# came with, whether the session was resumed, the number of requests, and the number of their connections.
sub what_was_seen {
    my %lines;
    open my $log, '<', 'logs/service.log' or fail("the service has no log: $!");
    while (my $line = <$log>) {
        chomp $line;
        # There are millions of lines. The field that differs most is last: the number of the request on its
        # connection.
        my $last = rindex $line, ' ';
        $lines{ substr $line, 0, $last }[substr($line, $last + 1) eq '1' ? 1 : 0]++;
    }
    my %seen;
    for my $alike (keys %lines) {
        my ($name, $asked, $serial, $reused) = split / /, $alike;
        my ($later, $first) = map { $_ // 0 } @{ $lines{$alike} }[0, 1];
        push @{ $seen{$name} }, {
            asked => $asked,
            serial => $serial,
            resumed => $reused eq 'r',
            requests => $later + $first,
            connections => $first,
        };
    }
    return %seen;
}

# Each certificate needs a connection at first, and kept connections have a maximum age. And OpenSSL resumes a session of TLS 1.3 only once: a connection between that
# handshake and the ticket that follows finds no session, which happens more often on a busy machine. So half of the
# connections are enough.
my %AS_MEANT = (
    kept => sub {
        my ($seen, $rival) = @_;
        $seen->{requests} - $seen->{connections} >= 0.95 * ($seen->{requests} - $rival->{certificates});
    },
    resumed => sub {
        my ($seen) = @_;
        $seen->{connections} == $seen->{requests} && $seen->{resumed} * 2 >= $seen->{connections};
    },
    full => sub { my ($seen) = @_; $seen->{connections} == $seen->{requests} && $seen->{resumed} == 0 },
);

# Returns what was seen of a rival. Fails unless its connections are as they should be, without which a rate means
# nothing.
sub seen_of {
    my ($rival, $lines) = @_;
    my $name = $rival->{name};
    fail("$name: the service has seen nothing of it") if !$lines;

    my %seen = (
        requests => sum0(map { $_->{requests} } @$lines),
        connections => sum0(map { $_->{connections} } @$lines),
        resumed => sum0(map { $_->{connections} } grep { $_->{resumed} } @$lines),
    );
    # A gateway that sets no certificate has the one of its configuration.
    my $sets = $rival->{plugin} =~ /^(?:set|depth)$/;
    my $wrong = sum0(map { $_->{requests} }
        grep { $_->{serial} ne ($sets ? $_->{asked} : '1001') } @$lines);
    fail("$name: $wrong of $seen{requests} requests came with a wrong certificate") if $wrong;

    my $meant = connections_of(%$rival);
    fail("$name was meant to have $meant connections: of $seen{requests} requests, $seen{connections} came"
        . " over new ones, and $seen{resumed} of these had resumed a session")
        if !$AS_MEANT{$meant}->(\%seen, $rival);
    return \%seen;
}

# ---- rates ---------------------------------------------------------------------------------------

# Starts the servers that the rows of a column are measured with.
sub start_rivals {
    my (@rivals) = @_;
    forget_what_was_seen();
    start_service() if !grep { $_->{front} } @rivals;
    for my $rival (@rivals) {
        my $name = $rival->{name};
        if ($rival->{front}) {
            start_front($name, %$rival);
            $rival->{service} = "front-$name";
        }
        start_gateway($name, %$rival);
    }
    return;
}

# Asks for each identity at least once.
sub warm_up {
    my ($rival) = @_;
    my $identities = $rival->{certificates} * $rival->{depths};
    my $seconds = 1;
    while (load($rival, $seconds)->{requests} < $identities) {
        $seconds *= 2;
    }
    return;
}

# Returns the share of the sessions found that were read from shared memory. Fails if there are other sessions than the
# row is meant to measure.
sub zone_hits_of {
    my ($rival) = @_;
    my $status = ask($rival->{name}, '/status?format=prometheus');
    my %hits = $status =~ /^kong_tls_session_cache_hits_total\{from="(\w+)"\} (\d+)$/mg;
    my $share = $hits{shared} / ($hits{shared} + $hits{worker});
    fail(sprintf 'of the sessions that the gateway has found, %.0f %% were in shared memory', 100 * $share)
        if $share < 0.9;
    return $share;
}

# Other load on the machine comes and goes. So there are many short rounds, each of which measures all rivals in a new
# random order: whoever always came after a rival that is hard on the machine would be at a disadvantage.
sub compare {
    my ($table, $column) = @_;
    my @rivals = map { { name => $_->{name}, settings_of($table, $column, $_) } } @{ $table->{rows} };
    start_rivals(@rivals);

    # The first requests do what is needed only once.
    warm_up($_) for @rivals;
    for my $round (1 .. $amount{rounds}) {
        my @rates;
        for my $rival (shuffle(@rivals)) {
            my $run = load($rival);
            push @{ $results{runs}{ $column->{name} }{ $rival->{name} } }, $run;
            push @rates, sprintf '%s %d/s', $rival->{name}, $run->{requests} / $run->{microseconds} * 1e6;
        }
        progress("$table->{title}, $column->{title}: round $round of $amount{rounds}: "
            . join(', ', @rates));
    }
    for my $rival (grep { $_->{status} && $_->{sessions} =~ /^shared:/ } @rivals) {
        $results{zone_hits}{ $column->{name} } = zone_hits_of($rival);
    }
    # The service is stopped last: its log is complete when nobody sends requests any more.
    stop($_->{name}) for @rivals;
    stop($_) for running();

    my %seen = what_was_seen();
    $results{seen}{ $column->{name} }{ $_->{name} } = seen_of($_, $seen{ $_->{name} }) for @rivals;
    return;
}

# ---- instructions --------------------------------------------------------------------------------

# Makes callgrind write down what the gateway has executed since the last time, and returns the number of instructions.
sub instructions_since {
    my ($name) = @_;
    my @before = glob "logs/$name.callgrind*";
    ask($name, '/mark');
    my %is_old = map { $_ => 1 } @before;
    my ($dump) = grep { !$is_old{$_} } glob "logs/$name.callgrind*" or fail("callgrind has counted nothing of $name");
    return slurp($dump) =~ /^totals: (\d+)$/m ? $1 : fail("$dump has no total");
}

# Sends this many requests, one after the other, for each certificate in turn.
sub send_one_by_one {
    my ($rival, $count) = @_;
    my $last = 1000 + $rival->{certificates};
    my $rounds = $count / $rival->{certificates};
    ask($rival->{name}, "/?i=[1-$rounds]&n=[1001-$last]");
    return;
}

# LuaJIT compiles a function of a plugin when it has been called about 112 times.
my $WARM = 150;

# Returns the instructions of a gateway for a request.
sub instructions_of {
    my ($rival) = @_;
    my $name = $rival->{name};
    my $count = $amount{ $rival->{keepalive} eq 'none' ? 'new' : 'kept' };
    $count = $rival->{certificates} if $count < $rival->{certificates};
    send_one_by_one($rival, 2 * $rival->{certificates} > $WARM ? 2 * $rival->{certificates} : $WARM);
    instructions_since($name);
    my $mark = instructions_since($name);
    send_one_by_one($rival, $count);
    return (instructions_since($name) - $mark) / $count;
}

sub count_instructions {
    my ($table, $column) = @_;
    my @rivals = map { { name => $_->{name}, settings_of($table, $column, $_) } }
        grep { $_->{instructions} } @{ $table->{rows} };
    return if !@rivals;
    forget_what_was_seen();
    start_service();
    my %counted;
    for my $rival (@rivals) {
        my $name = $rival->{name};
        start_gateway($name, %$rival, callgrind => 1);
        $counted{$name} = instructions_of($rival);
        stop($name);
    }
    stop('service');
    my %seen = what_was_seen();
    seen_of($_, $seen{ $_->{name} }) for @rivals;
    $results{instructions}{ $column->{name} } = \%counted;
    progress("$table->{title}, $column->{title}: "
        . join(', ', map { sprintf '%s %.0f instructions', $_->{name}, $counted{ $_->{name} } } @rivals));
    return;
}

sub measure_instructions {
    for my $table (@RATES) {
        count_instructions($table, $_) for @{ $table->{columns} };
    }
    return;
}

# ---- what workers share --------------------------------------------------------------------------

sub measure_workers {
    $results{resumed} = measure_resumption();
    $results{many} = measure_many(\%amount);
    $results{lock} = measure_lock(\%amount);
    return;
}

# ---- calls ---------------------------------------------------------------------------------------

sub measure_calls {
    progress('calls from Lua');
    start_gateway('calls', settings_of({ with => { plugin => 'set' } }));
    for (split /\n/, ask('calls', "/calls?calls=$amount{calls}&rounds=$amount{call_rounds}")) {
        my ($mode, $name, $nanoseconds) = split / /;
        push @{ $results{calls}{$mode}{$name} }, 0 + $nanoseconds;
    }
    stop('calls');
    return;
}

# ---- memory --------------------------------------------------------------------------------------

# Returns the KiB that a gateway's worker shares with no other process, without what it could give back.
sub private_memory {
    my ($name) = @_;
    ask($name, '/trim');
    return sum0(slurp('/proc/' . worker($name) . '/smaps_rollup') =~ /^Private_\w+:\s+(\d+) kB$/mg);
}

# Sends this many requests, which the service does not answer yet.
sub hold {
    my ($name, $count) = @_;
    my $each = 100;
    for my $number (1 .. $count / $each) {
        start("curl-$number", "logs/curl-$number.log",
            qw(curl -q -sS -f --noproxy * --max-time 60 -Z --parallel-immediate), '--parallel-max' => $each,
            url_of($name) . "/hold?n=1001&i=[1-$each]");
    }
    wait_for(60, sub { control('/held') == $count })
        or fail("the service has @{[control('/held')]} of $count requests");
    return;
}

# Makes the service answer all of them.
sub release {
    control('/release');
    for my $name (grep {/^curl-/} running()) {
        end_of($name) == 0 or fail('requests failed: ' . slurp("logs/$name.log"));
    }
    return;
}

# Leaves this many idle connections.
sub keep {
    my ($name, $count) = @_;
    hold($name, $count);
    release();
    wait_for(20, sub { control('/connections') == $count })
        or fail("$name: of $count idle connections, @{[control('/connections')]} were kept");
    return;
}

# Makes new connections with 100 certificates, each with several depths.
sub use_identities {
    my ($name) = @_;
    ask($name, "/?n=[1001-1100]&d=[10-@{[9 + $amount{depths}]}]");
    return;
}

# For each row of Workloads.pm: the number of objects, what makes them, and what is done when they have been measured.
my %MANY = (
    held => { count => $amount{held}, make => \&hold, afterwards => \&release },
    idle => { count => $amount{idle}, make => \&keep, afterwards => sub { } },
    sessions => {
        count => $amount{depths} * 100,
        make => \&use_identities,
        # Uses all of them again: the sessions must have been kept.
        afterwards => sub { my ($name) = @_; use_identities($name) if $name eq 'on' },
    },
);

# Returns the bytes that a gateway's worker needs for one of many objects.
sub memory_for_one {
    my ($name, $many) = @_;
    # The first request does what is needed only once.
    ask($name, '/?n=1001&d=9');
    my $before = private_memory($name);
    $many->{make}->($name, $many->{count});
    return (private_memory($name) - $before) * 1024 / $many->{count};
}

sub check_sessions {
    my ($name, $count) = @_;
    my %seen = what_was_seen();
    my $resumed = sum0(map { $_->{requests} }
        grep { $_->{resumed} && $_->{serial} eq $_->{asked} } @{ $seen{$name} });
    fail("of $count sessions that were saved, $resumed were resumed") if $resumed < $count;
    return;
}

sub measure_memory_of {
    my ($row) = @_;
    my $many = $MANY{ $row->{name} };
    my @gateways = @$row{qw(without with)};
    forget_what_was_seen();
    start_service();
    start_gateway($_->{name}, settings_of($_)) for @gateways;
    for my $gateway (@gateways) {
        my $name = $gateway->{name};
        push @{ $results{memory}{ $row->{name} }{$name} }, memory_for_one($name, $many);
        $many->{afterwards}->($name);
        stop($name);
    }
    stop('service');
    check_sessions($row->{with}{name}, $many->{count}) if $row->{name} eq 'sessions';
    return;
}

sub measure_memory {
    for my $round (1 .. $amount{memory_rounds}) {
        progress("memory: round $round of $amount{memory_rounds}");
        for my $row (@MEMORY) {
            measure_memory_of($row);
        }
    }
    return;
}

# ---- the machine ---------------------------------------------------------------------------------

chomp(my $processors = output_of('nproc'));

# Returns the versions of what is measured.
sub find_versions {
    my $said = `nginx -V 2>&1`;
    my ($nginx) = $said =~ m{^nginx version: .*/([0-9.]+)}m;

    start_gateway('versions', settings_of({ with => { keepalive => 'none' } }));
    my ($lua, $luajit) = ask('versions', '/versions') =~ /^(\d+) (.*)$/m;
    stop('versions');
    return sprintf 'nginx %s, Lua module %d.%d.%d with %s, %s, on %s processors', $nginx,
        $lua / 1_000_000, $lua / 1000 % 1000, $lua % 1000, $luajit, openssl_of_nginx(), $processors;
}

# Returns in seconds: the time, how long all processors have been busy or withheld by their host, and how long this
# script was busy, with all processes that it has started and waited for.
sub look_at_clocks {
    my ($time) = split ' ', slurp('/proc/uptime');
    my (undef, $user, $nice, $system, undef, undef, undef, undef, $stolen) =
        split ' ', slurp('/proc/stat');
    return ($time, ($user + $nice + $system + $stolen) / 100, sum0(times));
}

# Returns the share of the processors that other programs have taken since the clocks were read. They do not take it
# evenly: the figures of a busy machine mean little.
sub share_of_others {
    my ($time, $busy, $own) = @_;
    my @now = look_at_clocks();
    my $others = int((($now[1] - $busy) - ($now[2] - $own)) * 100 / ($now[0] - $time) / $processors);
    $others = 0 if $others < 0;
    progress("other programs took $others % of the processors: measure again on a quiet machine")
        if $others > 5;
    return $others;
}

# ---- all of it -----------------------------------------------------------------------------------

sub measure_part {
    my ($part) = @_;
    my %others = (
        calls => \&measure_calls,
        instructions => \&measure_instructions,
        memory => \&measure_memory,
        workers => \&measure_workers,
    );
    return $others{$part}->() if $others{$part};
    my ($table) = grep { $_->{part} eq $part } @RATES or fail("there is no part $part");
    for my $column (@{ $table->{columns} }) {
        compare($table, $column);
    }
    return;
}

progress('making certificates');
make_folder();
make_certificates($amount{certificates});
$results{versions} = find_versions();
my @clocks = look_at_clocks();
measure_part($_) for @parts;
$results{others} = share_of_others(@clocks);
write_to($results_file, JSON::PP->new->canonical->pretty->encode(\%results));
