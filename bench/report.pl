# SPDX-License-Identifier: Apache-2.0

# Prints what measure.pl has measured.
#
#     perl report.pl RESULTS [OTHERS...]  tables in Markdown; beside them, the ratios of other hosts
#     perl report.pl --headlines RESULTS  the most important figures, as a list in Markdown
#     perl report.pl --chart RESULTS      a chart in SVG of the ratios that say what the module costs

use strict;
use warnings;
use utf8;
use open qw(:std :encoding(UTF-8));

use FindBin;
use lib $FindBin::RealBin;
use Workloads;

use JSON::PP;
use List::Util qw(max min);
use POSIX qw(ceil);

my $form = @ARGV && $ARGV[0] =~ /^--(chart|headlines)$/ && shift @ARGV ? $1 : 'tables';
@ARGV == 1 || @ARGV && $form eq 'tables'
    or die "usage: report.pl RESULTS [OTHERS...] | --chart RESULTS | --headlines RESULTS\n";

sub results_in {
    my ($name) = @_;
    open my $file, '<:raw', $name or die "$name: $!\n";
    return decode_json(do { local $/; <$file> });
}

my ($results, @others) = map { results_in($_) } @ARGV;

# ---- figures -------------------------------------------------------------------------------------

# Returns the value at a share of the way from the least to the greatest.
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

# Returns the ends of the middle half.
sub quartiles {
    return quantile(0.25, @_), quantile(0.75, @_);
}

sub runs_of {
    my ($column, $row) = @_;
    my $runs = $results->{runs}{$column} // {};
    return @{ $runs->{$row} // [] };
}

# For each round: requests a second, and microseconds of the processor for a request.
sub rates_of {
    my ($column, $row) = @_;
    return map { $_->{requests} / $_->{microseconds} * 1e6 } runs_of($column, $row);
}

sub costs_of {
    my ($column, $row) = @_;
    return map { $_->{nanoseconds} / 1e3 / $_->{requests} } runs_of($column, $row);
}

# Returns the ratio of each round.
sub ratios_of {
    my ($by, $over) = @_;
    return map { $by->[$_] / $over->[$_] } 0 .. $#$by;
}

# Returns the columns of a table that were measured: by `runs`, by `instructions`, or by either.
sub columns_of {
    my ($table, @by) = @_;
    @by = 'runs' if !@by;
    return grep {
        my $name = $_->{name};
        grep { $results->{$_}{$name} } @by
    } @{ $table->{columns} };
}

# Returns the instructions for a request of the two rows of a ratio, if they were counted.
sub instructions_of {
    my ($ratio, $column) = @_;
    my @counted = grep { defined } @{ $results->{instructions}{$column} // {} }{ @{ $ratio->{of} } };
    return @counted == 2 ? @counted : ();
}

# Returns one ratio in one column: its rates and costs in each round, its instructions, and its targets, as far as it
# has them.
sub compared {
    my ($ratio, $column) = @_;
    my $name = $column->{name};
    my ($row, $over) = @{ $ratio->{of} };
    my ($instructions, $instructions_over) = instructions_of($ratio, $name);
    return {
        rates => [ratios_of([rates_of($name, $row)], [rates_of($name, $over)])],
        costs => [ratios_of([costs_of($name, $over)], [costs_of($name, $row)])],
        instructions => $instructions ? $instructions_over / $instructions : undef,
        more => $instructions ? $instructions - $instructions_over : undef,
        target => $ratio->{target} // ($ratio->{target_of} // {})->{$name},
    };
}

# Returns what is compared by a ratio of a table, for each column that was measured.
sub comparisons {
    my ($table, $ratio, @by) = @_;
    return map { { column => $_, %{ compared($ratio, $_) } } } columns_of($table, @by);
}

# Returns what a comparison misses, in words, if a person should act: by the instructions, or if there are none, where
# three of four rounds miss the target.
sub missed_by {
    my ($ratio, $it) = @_;
    if (defined $it->{instructions}) {
        my ($least, $most) = @$ratio{qw(instructions_target most_more)};
        return sprintf '%.3f by instructions in place of %s', $it->{instructions}, $least
            if defined $least && $it->{instructions} < $least;
        return sprintf '%.0f more instructions in place of at most %d', $it->{more}, $most
            if defined $most && $it->{more} > $most;
        return;
    }
    return if !defined $it->{target} || !@{ $it->{rates} } || quantile(0.75, @{ $it->{rates} }) >= $it->{target};
    return sprintf '%.2f in place of %s', median(@{ $it->{rates} }), $it->{target};
}

# ---- headlines -----------------------------------------------------------------------------------

# Returns the medians of a ratio, which compares two rows of a part, from the least to the greatest.
sub medians_of {
    my ($part, $row, $over) = @_;
    my ($table) = grep { $_->{part} eq $part } @RATES;
    my ($ratio) = grep { "@{ $_->{of} }" eq "$row $over" } @{ $table->{ratios} };
    return sort { $a <=> $b } map { median(@{ $_->{rates} }) } comparisons($table, $ratio);
}

# "0.93 to 0.98"
sub from_to {
    my ($format, @values) = @_;
    my ($from, $to) = map { sprintf $format, $_ } min(@values), max(@values);
    return $from eq $to ? $from : "$from to $to";
}

sub print_headlines {
    my @near = medians_of(qw(connections lua static));
    my @far = medians_of(qw(connections lua lua-full));
    my @kept = medians_of(qw(requests lua static));
    my @unused = medians_of(qw(unused with without));
    my $workers = $SHARING{workers}[-1];
    my ($resumed, $many) = ($results->{resumed}{rounds}, $results->{many});
    my $worst = sub {
        my ($cache, $round) = @_;
        return min(map { $_->{$workers}{$round} } values %{ $resumed->{$cache} });
    };
    my %call = map { $_ => median(@{ $results->{calls}{on}{$_} }) } qw(set_tls_verify set_tls_cert_key);
    print
        "* **A certificate for each tenant costs about what one for all costs**: new connections at ", from_to('%.2f', @near), " of the rate.\n",
        '* **', from_to('%.1f', @far), " times as many new connections** as with full handshakes, all that a patched nginx can do safely.\n",
        "* **Each tenant keeps connections of its own**: requests at ", from_to('%.2f', @kept),
        " of the rate over shared ones.\n",
        "* **$workers workers resume sessions as one does**: ",
        sprintf("%.2f of a second round of connections, and %.2f after a reload.\n"
            . "  With sessions of each worker's own, it is %.2f and %.2f.\n",
            map { my $cache = $_; map { $worst->($cache, $_) } qw(second reload) } qw(shared own)),
        sprintf("* **%s identities in %d workers** take %.0f MB; with sessions of each worker's own, %.0f MB.\n",
            thousands($many->{identities}), $many->{workers}, $many->{shared} / 1e6,
            $many->{own} * $many->{workers} / 1e6),
        '* **Requests that set nothing** run at ', from_to('%.2f', @unused), " of the rate without the module.\n",
        sprintf("* **A call that sets something** takes %.0f to %.0f ns.\n", min(values %call), max(values %call));
    return;
}

# ---- tables --------------------------------------------------------------------------------------

# Prints rows as a table. The first is the heading; the columns after the first are right aligned.
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

# The share of the connections that were resumed, or of the requests whose connection was kept.
sub share_of {
    my ($table, $column, $row) = @_;
    my $seen = $results->{seen}{ $column->{name} }{ $row->{name} };
    my %settings = settings_of($table, $column, $row);
    my $kind = connections_of(%settings);
    return 1 - $seen->{connections} / $seen->{requests} if $kind eq 'kept';
    # The first connection of each identity has nothing to resume.
    my $first = $kind eq 'resumed' ? $settings{certificates} * $settings{depths} : 0;
    return $seen->{resumed} / ($seen->{connections} - $first);
}

# Prints a table with a row for each row of a table of rates, and one number a cell.
sub print_rows {
    my ($table, $title, $number) = @_;
    my @columns = columns_of($table);
    print_table([$title, map { $_->{title} } @columns], map {
        my $row = $_;
        [$row->{title}, map { sprintf '%.0f', $number->($_, $row) } @columns]
    } @{ $table->{rows} });
    return;
}

# Prints a table with the instructions of the rows that have them, and how many more some of them need.
sub print_instructions {
    my ($table) = @_;
    my @columns = columns_of($table, 'instructions') or return;
    my @rows = (['Instructions of the gateway', map { $_->{title} } @columns]);
    for my $row (grep { $_->{instructions} } @{ $table->{rows} }) {
        push @rows, [$row->{title},
            map { sprintf '%.0f', $results->{instructions}{ $_->{name} }{ $row->{name} } } @columns];
    }
    for my $ratio (grep { $_->{most_more} } @{ $table->{ratios} }) {
        push @rows, ['more for what is set',
            map { sprintf '%.0f', $_->{more} } comparisons($table, $ratio, 'instructions')];
        push @rows, ['its target: at most', ($ratio->{most_more}) x @columns];
    }
    print_table(@rows);
    return;
}

# Prints which connections were what they should be.
sub print_shares {
    my ($table) = @_;
    my %words = (
        kept => 'Of the requests, %s %% found a kept connection.',
        resumed => 'Of the connections that may be resumed, %s %% were.',
        full => 'Of those with full handshakes, %s %% were resumed.',
    );
    my %shares;
    for my $column (columns_of($table)) {
        push @{ $shares{ connections_of(settings_of($table, $column, $_)) } }, 100 * share_of($table, $column, $_)
            for @{ $table->{rows} };
    }
    my @kinds = sort { $b cmp $a } keys %shares;
    print join(' ', map { sprintf $words{$_}, from_to('%.0f', @{ $shares{$_} }) } @kinds), "\n\n";
    return;
}

sub print_ratios {
    my ($table) = @_;
    my @rows = (['Ratio', map { $_->{title} } columns_of($table)]);
    for my $ratio (@{ $table->{ratios} }) {
        my @compared = comparisons($table, $ratio);
        push @rows, ["**$ratio->{title}**", map { sprintf '%.2f', median(@{ $_->{rates} }) } @compared];
        push @rows, ['its target', map { $_->{target} // '' } @compared] if grep { defined $_->{target} } @compared;
        push @rows, ['the same by processor time', map { sprintf '%.2f', median(@{ $_->{costs} }) } @compared];
        next if !grep { defined $_->{instructions} } @compared;
        push @rows, ['the same by instructions',
            map { defined $_->{instructions} ? sprintf '%.3f', $_->{instructions} : '' } @compared];
        push @rows, ['its target', ($ratio->{instructions_target}) x @compared] if $ratio->{instructions_target};
    }
    print_table(@rows);
    return;
}

sub print_rates {
    my ($table) = @_;
    return if !columns_of($table) && !columns_of($table, 'instructions');
    print "## $table->{title}\n\n";
    if (columns_of($table)) {
        print_ratios($table);
        print_rows($table, 'A second', sub { median(rates_of(map { $_->{name} } @_)) });
        print_rows($table, 'Processor time of the gateway, µs', sub { median(costs_of(map { $_->{name} } @_)) });
    }
    print_instructions($table);
    print_shares($table) if columns_of($table);
    my @hits = grep { defined } map { $results->{zone_hits}{ $_->{name} } } columns_of($table);
    printf "Of the sessions found, %s %% were read from shared memory.\n\n", from_to('%.0f', map { 100 * $_ } @hits)
        if @hits;
    return;
}

# ---- other hosts ---------------------------------------------------------------------------------

# Returns the cells of a ratio in one column of a table, for each host, as `number` makes them of what is compared.
sub cells_of_hosts {
    my ($ratio, $column, $number) = @_;
    my $mine = $results;
    my @cells;
    for my $host ($mine, @others) {
        $results = $host;
        push @cells, $number->(compared($ratio, $column)) // '';
    }
    $results = $mine;
    return @cells;
}

# Prints the ratios of a table that have targets, with a column for each host.
sub print_hosts_of {
    my ($table) = @_;
    my @columns = columns_of($table);
    my @rows;
    for my $ratio (grep { $_->{target} || $_->{target_of} } @{ $table->{ratios} }) {
        for my $column (@columns) {
            push @rows, ["$column->{title}: $ratio->{title}", cells_of_hosts($ratio, $column,
                sub { my ($it) = @_; @{ $it->{rates} } ? sprintf '%.2f', median(@{ $it->{rates} }) : undef })];
            my @counted = cells_of_hosts($ratio, $column,
                sub { my ($it) = @_; defined $it->{instructions} ? sprintf '%.3f', $it->{instructions} : undef });
            push @rows, ['the same by instructions', @counted] if grep { $_ ne '' } @counted;
        }
    }
    my @hosts = map { $_->{versions} =~ /(OpenSSL \S+),/ ? $1 : die "a host without OpenSSL\n" } $results, @others;
    print_table([$table->{title} =~ s/,? a second//r, @hosts], @rows) if @rows;
    return;
}

sub print_hosts {
    my @tables = grep { my $table = $_; grep { $_->{runs}{ $table->{columns}[0]{name} } } @others } @RATES;
    return if !@tables || !$results->{runs};
    print "## Other versions of OpenSSL\n\n";
    print "* $_->{versions}\n" for @others;
    print "\n";
    print_hosts_of($_) for @tables;
    return;
}

# ---- what workers share --------------------------------------------------------------------------

sub thousands {
    my ($number) = @_;
    return scalar reverse join ',', unpack '(A3)*', reverse sprintf '%.0f', $number;
}

sub print_resumption {
    my $resumed = $results->{resumed} or return;
    my @versions = sort keys %{ $resumed->{clients} };
    my $most = $SHARING{workers}[-1];
    print "## Sessions over workers and a reload\n\n",
        "100 identities are asked for $SHARING{times} times each, in random order, over new connections that all workers"
        . " serve.\nThe first connection of each needs a full handshake: of the first round, 0.88 can resume at best.\n\n";
    my @rows = (['Share that resumed',
        (map { my $tls = $_; map {"TLS $tls, $_->{title}"} @{ $SHARING{caches} } } @versions), 'target']);
    for my $workers (@{ $SHARING{workers} }) {
        for my $round (@{ $SHARING{rounds} }) {
            my $title = ($workers == 1 ? '1 worker' : "$workers workers") . ", $round->{title}";
            push @rows, [$title, (map {
                my $tls = $_;
                map { sprintf '%.2f', $resumed->{rounds}{ $_->{name} }{$tls}{$workers}{ $round->{name} } }
                    @{ $SHARING{caches} }
            } @versions), $workers == $most ? $round->{target} : ''];
        }
    }
    print_table(@rows);
    my $row = sub {
        my ($title, $when) = @_;
        return [$title, (map { $resumed->{clients}{$_}{$when} } @versions), $SHARING{clients}];
    };
    print_table(
        ["Of $SHARING{clients} clients that $most workers have asked, resumed", (map {"TLS $_"} @versions), 'target'],
        $row->('by another connection', 'before'),
        $row->('after a reload', 'reload'),
    );
    return;
}

sub print_many {
    my $many = $results->{many} or return;
    my ($count, $workers) = @$many{qw(identities workers)};
    my $megabytes = sub { sprintf '%.0f', $_[0] / 1e6 };
    print "## Memory of ${\ thousands($count)} identities\n\n",
        "Each with two tickets of TLS 1.3. Of a worker's own sessions, one worker is measured; the others are like it.\n\n";
    print_table(
        ['', 'shared', "a worker's own"],
        ["$workers workers, MB in all", map { $megabytes->($_) } $many->{shared}, $many->{own} * $workers],
        ['... in each worker', map { $megabytes->($_) } ($many->{shared} - $many->{zone}) / $workers, $many->{own}],
        ['... in shared memory', $megabytes->($many->{zone}), ''],
        ['bytes for an identity', map { sprintf '%.0f', $_ / $count } $many->{shared}, $many->{own} * $workers],
        ['bytes for a session in shared memory', sprintf('%.0f', $many->{zone} / $many->{sessions}), ''],
        ['its target: at most', $SHARING{most_bytes}, ''],
    );
    return;
}

sub print_lock {
    my $lock = $results->{lock} or return;
    my @versions = sort keys %$lock;
    my $row = sub {
        my ($title, $format, $number) = @_;
        return [$title, map { sprintf $format, $number->($lock->{$_}) } @versions];
    };
    print "## The lock of shared memory\n\n",
        "With $SHARING{workers}[-1] workers under load, found by looking at it many times.\n\n";
    print_table(
        ['', map {"TLS $_"} @versions],
        $row->('new connections a second', '%.0f', sub { $_[0]{rate} }),
        $row->('held, % of the time', '%.2f', sub { 100 * $_[0]{share} }),
        $row->('held for a connection, µs', '%.1f', sub { $_[0]{held} }),
        $row->('slept for it, for a connection, µs', '%.1f', sub { $_[0]{waited} }),
    );
    return;
}

# Returns what misses its target of what workers share, in words.
sub sharing_missed {
    my @missed;
    if (my $resumed = $results->{resumed}) {
        my $most = $SHARING{workers}[-1];
        for my $tls (sort keys %{ $resumed->{clients} }) {
            my $shares = $resumed->{rounds}{shared}{$tls}{$most};
            for my $round (grep { $shares->{ $_->{name} } < $_->{target} } @{ $SHARING{rounds} }) {
                push @missed, sprintf "TLS %s, $most workers, %s: %.2f in place of %s", $tls, $round->{title},
                    $shares->{ $round->{name} }, $round->{target};
            }
            my $clients = $resumed->{clients}{$tls}{reload};
            push @missed, "TLS $tls: $clients of $SHARING{clients} clients resume after a reload"
                if $clients < $SHARING{clients};
        }
    }
    if (my $many = $results->{many}) {
        my $bytes = $many->{zone} / $many->{sessions};
        push @missed, sprintf '%.0f bytes for a session in shared memory in place of at most %d', $bytes,
            $SHARING{most_bytes} if $bytes > $SHARING{most_bytes};
    }
    return @missed;
}

sub print_calls {
    return if !$results->{calls};
    print "## Calls from Lua\n\n";
    my $median = sub { my ($jit, $call) = @_; sprintf '%.0f', median(@{ $results->{calls}{$jit}{ $call->{name} } }) };
    print_table(
        ['Nanoseconds', 'compiled', 'JIT compiler off', 'target'],
        map { [$_->{title}, $median->('on', $_), $median->('off', $_), $_->{target} // ''] } @CALLS
    );
    return;
}

sub print_memory {
    return if !$results->{memory};
    my @rows = (['Bytes for one', 'with', 'without', 'more']);
    for my $row (@MEMORY) {
        my ($with, $without) = map { $results->{memory}{ $row->{name} }{ $row->{$_}{name} } } qw(with without);
        push @rows, [$row->{title}, map { sprintf '%.0f', median(@$_) } $with, $without,
            [map { $with->[$_] - $without->[$_] } 0 .. $#$with]];
    }
    print "## Memory\n\n";
    print_table(@rows);
    return;
}

# Prints what is below its target: once, and in words.
sub print_misses {
    my $misses = '';
    for my $table (@RATES) {
        my @missed;
        for my $ratio (@{ $table->{ratios} }) {
            for my $it (comparisons($table, $ratio, 'runs', 'instructions')) {
                my $words = missed_by($ratio, $it) or next;
                push @missed, "* $it->{column}{title}: $words ($ratio->{title})\n";
            }
        }
        $misses .= join '', $table->{title} =~ s/,? a second//r, ":\n\n", @missed, "\n" if @missed;
    }
    my @sharing = sharing_missed();
    $misses .= join '', "Sessions over workers and a reload:\n\n", map({"* $_\n"} @sharing), "\n" if @sharing;
    my @slow = grep { $_->{target} && median(@{ $results->{calls}{on}{ $_->{name} } }) > $_->{target} }
        $results->{calls} ? @CALLS : ();
    $misses .= join '', "Calls from Lua:\n\n", map {"* $_->{title}\n"} @slow if @slow;
    print "## Targets\n\n", $misses ? "These miss their targets.\n\n$misses" : "All targets are reached.\n";
    return;
}

sub print_tables {
    print "Measured with $results->{versions}.\n",
        "All figures are medians of $results->{rounds} rounds of a second; those of memory, of",
        " $results->{memory_rounds} rounds.\nInstructions, and what workers share, are measured once. Other programs took"
        . " $results->{others} % of the processors meanwhile.\n\n";
    print_rates($_) for @RATES;
    print_hosts();
    print_resumption();
    print_many();
    print_lock();
    print_calls();
    print_memory();
    print_misses();
    return;
}

# ---- chart ---------------------------------------------------------------------------------------

# Bars lie, one below the other, so that a narrow screen can show them.
my ($WIDTH, $LEFT, $RIGHT, $LINE) = (540, 168, 500, 24);
my %COLOUR = (axis => '#444444', bar => '#4a7fb5', grid => '#dddddd', spread => '#222222', target => '#c0392b');

sub svg_line {
    my ($colour, $width, @points) = @_;
    return sprintf qq(<path d="M%.1f,%.1f L%.1f,%.1f" stroke="%s" stroke-width="%s"/>\n), @points,
        $COLOUR{$colour}, $width;
}

sub svg_text {
    my ($x, $y, $colour, $anchor, $text, @more) = @_;
    return sprintf qq(<text x="%.1f" y="%.1f" fill="%s" text-anchor="%s"%s>%s</text>\n), $x, $y, $colour,
        $anchor, join('', map {" $_"} @more), $text;
}

# Draws what lies between two values, with an end at each.
sub svg_spread {
    my ($y, $from, $to) = @_;
    return join '', svg_line('spread', 1.3, $from, $y, $to, $y),
        map { svg_line('spread', 1.3, $_, $y - 4.5, $_, $y + 4.5) } $from, $to;
}

# Draws one bar below `top`. `x_of` returns where a ratio is.
sub svg_bar {
    my ($bar, $top, $format, $x_of) = @_;
    my $middle = $top + $LINE / 2;
    my ($median, $target) = (median(@{ $bar->{rates} }), $bar->{target});
    my $svg = sprintf qq(<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>\n),
        $LEFT, $top + 3, $x_of->($median) - $LEFT, $LINE - 6, $COLOUR{bar};
    $svg .= svg_text($LEFT - 8, $middle + 4, $COLOUR{axis}, 'end', $bar->{column}{title});
    $svg .= svg_text($LEFT + 8, $middle + 4, 'white', 'start', sprintf $format, $median);
    $svg .= svg_spread($middle, map { $x_of->($_) } quartiles(@{ $bar->{rates} }));
    $svg .= svg_line('target', 2.5, $x_of->($target), $top + 1, $x_of->($target), $top + $LINE - 1)
        if defined $target;
    return $svg;
}

# Draws the ratios of one half of the chart, below `top`; returns where it ends, and the drawing.
sub svg_half {
    my ($half, $top, %with) = @_;
    my @groups = grep { @{ $_->{bars} } } map {
        my $table = $_;
        map { { title => $table->{title} =~ s/,? a second//r, bars => [comparisons($table, $_)] } }
            grep { ($_->{chart} // '') eq $half } @{ $table->{ratios} };
    } @RATES;
    return $top, '' if !@groups;

    my $most = max(map { my $bar = $_; median(@{ $bar->{rates} }), quartiles(@{ $bar->{rates} }), $bar->{target} // 0 }
        map { @{ $_->{bars} } } @groups);
    my $scale = max($with{least}, ceil($most / $with{step}) * $with{step});
    my $x_of = sub { my ($value) = @_; $LEFT + $value / $scale * ($RIGHT - $LEFT) };

    my $y = $top + 40;
    my $bars = '';
    for my $group (@groups) {
        $bars .= svg_text(8, $y + 16, 'black', 'start', $group->{title}, 'font-weight="bold"') if @groups > 1;
        $y += $LINE if @groups > 1;
        for my $bar (@{ $group->{bars} }) {
            $bars .= svg_bar($bar, $y, $with{format}, $x_of);
            $y += $LINE;
        }
    }
    my $svg = svg_text(8, $top + 14, 'black', 'start', $with{title}, 'font-size="15"');
    for my $number (0 .. $scale / $with{step} + 1e-6) {
        my $x = $x_of->($number * $with{step});
        $svg .= svg_line('grid', 1, $x, $top + 36, $x, $y);
        $svg .= svg_text($x, $top + 31, $COLOUR{axis}, 'middle', $number * $with{step});
    }
    return $y + 16, $svg . $bars . svg_line('axis', 1.3, $LEFT, $top + 36, $LEFT, $y);
}

sub svg_legend {
    my ($y) = @_;
    return svg_line('target', 2.5, 12, $y - 10, 12, $y + 4) . svg_text(24, $y + 1, 'black', 'start', 'target')
        . svg_spread($y - 3, 90, 114)
        . svg_text(122, $y + 1, 'black', 'start', 'the middle half of the rounds');
}

sub print_chart {
    my ($middle, $near) = svg_half('near', 8, least => 1.2, step => 0.2, format => '%.2f',
        title => 'Rate with the module, relative to the same without it');
    my ($bottom, $far) = svg_half('far', $middle, least => 1, step => 1, format => '%.1f',
        title => 'Resumed, relative to full handshakes');
    my $height = $bottom + 20;
    # Has a background of its own, because a page may be dark.
    print qq(<svg xmlns="http://www.w3.org/2000/svg" width="$WIDTH" height="$height" viewBox="0 0 $WIDTH $height"),
        qq( font-family="sans-serif" font-size="13" fill="none">\n),
        qq(<rect width="$WIDTH" height="$height" fill="white"/>\n), $near, $far, svg_legend($bottom + 8), "</svg>\n";
    return;
}

my %print = (chart => \&print_chart, headlines => \&print_headlines, tables => \&print_tables);
$print{$form}->();
