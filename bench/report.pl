# What scripts/bench has measured, as tables in Markdown; and the data of the chart.
#
#     perl report.pl RESULTS
#
# RESULTS is a folder of files of words. Those of parts that were not measured are not there:
#
#     runs      case rival round requests microseconds nanoseconds    the last of the gateway's processor
#     seen      case rival requests connections resumed
#     calls     JIT-mode function nanoseconds
#     memory    what gateway count KiB
#     settings  name value
#     versions  (a line of text)
#
# It writes chart-near and chart-far there, for chart.gp: label, median, quartiles, target.

use strict;
use warnings;
use utf8;
use open qw(:std :encoding(UTF-8));

use List::Util qw(max min);

my ($folder) = @ARGV;

# ---- what is shown -------------------------------------------------------------------------------

# The targets, by what they are for.
my $SAME = 0.95;         # of the rate of a static certificate
my $CLIENTS = 0.97;      # of the rate of a static list of authorities
my $RESUMED = 4.5;       # times the rate of full handshakes, with RSA keys
my %NANOSECONDS = (set_tls_verify => 100, set_tls_cert_key => 400);

# A part has cases, of which each is a column, and rivals and ratios, which are rows. Of a case there
# is also its name in the chart, where a line ends at a bar.
my @PARTS = (
    {
        title => 'New connections to the service a second',
        cases => [
            ['connections-rsa-1.2', 'RSA-2048, TLS 1.2', 'RSA|TLS 1.2'],
            ['connections-rsa-1.3', 'RSA-2048, TLS 1.3', 'RSA|TLS 1.3'],
            ['connections-ec-1.2', 'P-256, TLS 1.2', 'P-256|TLS 1.2'],
            ['connections-ec-1.3', 'P-256, TLS 1.3', 'P-256|TLS 1.3'],
        ],
        rivals => [
            [stock => 'nginx alone, static certificate'],
            [static => 'static certificate, a plugin in Lua that sets nothing'],
            [lua => 'certificate set by the plugin'],
            ['lua-full' => 'certificate set by the plugin, `proxy_ssl_session_reuse off`'],
        ],
        share => 'resumed',
        ratios => [
            {
                label => 'set by the plugin / static with a plugin',
                of => [qw(lua static)],
                target => sub { $SAME },
                chart => 'near',
            },
            { label => 'set by the plugin / nginx alone', of => [qw(lua stock)] },
            {
                label => 'resumed / full handshakes, both set by the plugin',
                of => [qw(lua lua-full)],
                target => sub { $_[0] =~ /rsa/ ? $RESUMED : undef },
                chart => 'far',
            },
            {
                label => 'the same of a static certificate: what nginx itself gains',
                of => [qw(static lua-full)],
            },
        ],
    },
    {
        title => 'Requests a second over kept connections',
        cases => [
            ['requests-1', '1 certificate', 'kept|1 client'],
            ['requests-100', '100 certificates', 'kept|100 clients'],
        ],
        rivals => [
            [stock => 'nginx alone, one static certificate, `keepalive`'],
            [static => 'the same, a plugin in Lua that sets nothing'],
            [lua => 'certificate set by the plugin, `kong_tls_keepalive`'],
        ],
        share => 'kept',
        ratios => [
            {
                label => 'set by the plugin / static with a plugin',
                of => [qw(lua static)],
                target => sub { $SAME },
                chart => 'near',
            },
            { label => 'set by the plugin / nginx alone', of => [qw(lua stock)] },
        ],
    },
    {
        title => "Handshakes with clients that present certificates a second",
        cases => [
            ['clients-1', '1 authority', 'clients|1 CA'],
            ['clients-100', '100 authorities', 'clients|100 CAs'],
            ['clients-300', '300 authorities', 'clients|300 CAs'],
        ],
        rivals => [
            [stock => 'nginx alone, `ssl_client_certificate`'],
            [static => 'the same, a plugin in Lua that sets nothing'],
            [lua => 'authorities set by the plugin'],
        ],
        share => 'resumed',
        ratios => [
            {
                label => 'set by the plugin / nginx alone',
                of => [qw(lua stock)],
                target => sub { $CLIENTS },
                chart => 'near',
            },
            { label => 'set by the plugin / static with a plugin', of => [qw(lua static)] },
        ],
    },
    {
        title => 'Requests a second that set nothing',
        cases => [
            ['unused-requests', 'kept connections', 'unused|kept'],
            ['unused-connections', 'new connections', 'unused|new'],
        ],
        rivals => [
            [without => 'without `load_module` of this module'],
            [with => 'with it'],
        ],
        share => 'either',
        ratios => [
            {
                label => 'with / without',
                of => [qw(with without)],
                chart => 'near',
            },
        ],
    },
);

my @CALLS = (
    ['set_tls_verify', '`set_tls_verify`'],
    ['set_tls_cert_key', '`set_tls_cert_key`'],
    ['set_tls_cert_key-100', '`set_tls_cert_key`, 100 certificates in turn'],
    ['set_tls_verify_store', '`set_tls_verify_store`'],
);

my @MEMORY = (
    ['held', 'request in flight: certificate set by the plugin / static', 'lua', 'static'],
    ['idle', 'idle connection: `kong_tls_keepalive` / `keepalive`', 'lua', 'static'],
    ['sessions', 'session of another identity: cache / no cache', 'on', 'off'],
);

# ---- reading -------------------------------------------------------------------------------------

# The words of each line of a file, if it is there.
sub lines_of {
    my ($name) = @_;
    open my $file, '<', "$folder/$name" or return;
    return map { [split] } <$file>;
}

my (%rate, %cost, %seen, %calls, %memory);
for (lines_of('runs')) {
    my ($case, $rival, undef, $requests, $microseconds, $nanoseconds) = @$_;
    push @{ $rate{$case}{$rival} }, $requests / $microseconds * 1e6;
    # Microseconds of the gateway's processor for one request.
    push @{ $cost{$case}{$rival} }, $nanoseconds / 1e3 / $requests;
}
for (lines_of('seen')) {
    my ($case, $rival, $requests, $connections, $resumed) = @$_;
    $seen{$case}{$rival} = {
        resumed => $resumed / $connections,
        kept => 1 - $connections / $requests,
    };
}
for (lines_of('calls')) {
    my ($mode, $name, $nanoseconds) = @$_;
    push @{ $calls{$mode}{$name} }, $nanoseconds;
}
for (lines_of('memory')) {
    my ($what, $name, $count, $kibibytes) = @$_;
    push @{ $memory{$what}{$name} }, $kibibytes * 1024 / $count;
}
my %setting = map { @$_ } lines_of('settings');

# ---- figures -------------------------------------------------------------------------------------

# The value at a share of the way from the least to the greatest.
sub quantile {
    my ($share, @values) = @_;
    my @sorted = sort { $a <=> $b } @values;
    my $place = $share * $#sorted;
    my $below = $sorted[int $place];
    return $below + ($place - int $place) * ($sorted[min(int $place + 1, $#sorted)] - $below);
}

sub median {
    return quantile(0.5, @_);
}

# The middle half.
sub quartiles {
    return quantile(0.25, @_), quantile(0.75, @_);
}

# The ratio of each round.
sub ratios_of {
    my ($by, $over) = @_;
    return map { $by->[$_] / $over->[$_] } 0 .. $#$by;
}

# "0.98 (0.97–1.01)"
sub with_spread {
    my ($format, @values) = @_;
    return sprintf "$format ($format–$format)", median(@values), quartiles(@values);
}

sub share_of {
    my ($which, $case, $rival) = @_;
    $which = $case =~ /-connections$/ ? 'resumed' : 'kept' if $which eq 'either';
    return sprintf '%.0f %% %s', $seen{$case}{$rival}{$which} * 100, $which;
}

# "target 0.95: reached"
sub verdict {
    my ($target, $reached) = @_;
    return '' unless defined $target;
    return "**$target** " . ($reached ? 'reached' : 'missed');
}

# ---- tables --------------------------------------------------------------------------------------

# Prints rows as a table, of which the first is the heading; the columns after the first are right
# aligned.
sub print_table {
    my (@rows) = @_;
    my @width = map { my $column = $_; max(map { length $_->[$column] } @rows) } 0 .. $#{ $rows[0] };
    my $line = sub {
        my ($first, @others) = @_;
        return '| ' . join(' | ', sprintf('%-*s', $width[0], $first),
            map { sprintf '%*s', $width[$_ + 1], $others[$_] } 0 .. $#others) . " |\n";
    };
    my ($heading, @body) = @rows;
    print $line->(@$heading);
    print '|', '-' x ($width[0] + 2), map({ '|' . '-' x ($_ + 1) . ':' } @width[1 .. $#width]), "|\n";
    print $line->(@$_) for @body;
    print "\n";
    return;
}

my %chart;

sub print_part {
    my ($part) = @_;
    my @cases = grep { $rate{ $_->[0] } } @{ $part->{cases} };
    return unless @cases;

    my @rows = ([$part->{title}, map { $_->[1] } @cases]);
    for (@{ $part->{rivals} }) {
        my ($rival, $label) = @$_;
        push @rows, [
            $label,
            map {
                sprintf '%.0f (%.0f µs, %s)', median(@{ $rate{$_->[0]}{$rival} }),
                    median(@{ $cost{$_->[0]}{$rival} }), share_of($part->{share}, $_->[0], $rival)
            } @cases
        ];
    }
    for my $ratio (@{ $part->{ratios} }) {
        my ($rival, $over) = @{ $ratio->{of} };
        my (@rates, @costs, @verdicts);
        for (@cases) {
            my ($case, undef, $bar) = @$_;
            my @values = ratios_of($rate{$case}{$rival}, $rate{$case}{$over});
            my $target = $ratio->{target} ? $ratio->{target}->($case) : undef;
            push @rates, with_spread('%.2f', @values);
            push @costs, sprintf '%.2f',
                median(ratios_of($cost{$case}{$over}, $cost{$case}{$rival}));
            push @verdicts, verdict($target, median(@values) >= ($target // 0));
            push @{ $chart{ $ratio->{chart} } },
                [$bar, median(@values), quartiles(@values), $target // 'NaN']
                if $ratio->{chart};
        }
        push @rows, ["**$ratio->{label}**", @rates];
        push @rows, ['… target', @verdicts] if grep { length } @verdicts;
        push @rows, ['… by processor time of the gateway', @costs];
    }
    print_table(@rows);
    return;
}

sub print_calls {
    return unless %calls;
    my @rows = (['One call from Lua', 'nanoseconds', 'with the JIT compiler off', 'target']);
    for (@CALLS) {
        my ($name, $label) = @$_;
        my ($on, $off) = map { $calls{$_}{$name} } qw(on off);
        my $target = $NANOSECONDS{$name};
        push @rows, [
            $label, with_spread('%.0f', @$on), with_spread('%.0f', @$off),
            verdict($target, median(@$on) <= ($target // 0))
        ];
    }
    print_table(@rows);
    return;
}

sub print_memory {
    return unless %memory;
    my @rows = (['Memory for one, bytes', 'with', 'without', 'more']);
    for (@MEMORY) {
        my ($what, $label, $with, $without) = @$_;
        my ($by, $over) = map { $memory{$what}{$_} } $with, $without;
        push @rows, [
            $label, map({ sprintf '%.0f', median(@$_) } $by, $over),
            with_spread('%.0f', map { $by->[$_] - $over->[$_] } 0 .. $#$by)
        ];
    }
    print_table(@rows);
    return;
}

# ---- all of it -----------------------------------------------------------------------------------

my ($versions) = map { join ' ', @$_ } lines_of('versions');
print "Measured with $versions. Medians of $setting{rounds} rounds of a second, of memory"
    . " $setting{memory_rounds}; in brackets after a ratio, the middle half of the rounds. In brackets"
    . " after a rate, the time that a request takes of the gateway's processor. Other programs took"
    . " $setting{others} % of the processors meanwhile.\n\n";
print_part($_) for @PARTS;
print_calls();
print_memory();

for my $name (keys %chart) {
    open my $file, '>', "$folder/chart-$name" or die "$folder/chart-$name: $!\n";
    for (@{ $chart{$name} }) {
        my ($bar, @values) = @$_;
        # gnuplot makes a line break of this.
        print {$file} '"', $bar =~ s/\|/\\n/r, "\" @values\n";
    }
    close $file or die "$folder/chart-$name: $!\n";
}
